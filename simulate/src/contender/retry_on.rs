//! Retries at once, and nothing else.

use crate::protection::{Answer, Call, Orders, Protection};

/// HAProxy's `retry-on` with 5xx statuses and its default of `retries 3` (Configuration Manual,
/// "retries" and "retry-on"): a request that fails is sent again up to three times, without a pause.
/// A 429 is left out, because it would be repeated at once too; so is a time-out, because the caller
/// that waited for it is gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetryOn;

impl RetryOn {
    /// `retries`, as by default.
    pub const RETRIES_MAX: u32 = 3;
}

impl Protection for RetryOn {
    fn asked(&mut self, call: &Call, orders: &mut Orders) {
        orders.send(call);
    }

    fn again(&mut self, call: &Call, orders: &mut Orders) {
        self.asked(call, orders);
    }

    fn answered(&mut self, call: &Call, answer: &Answer, orders: &mut Orders) {
        if answer.is_error() && call.attempt <= Self::RETRIES_MAX {
            orders.send(call);
        } else {
            orders.deliver(call, answer);
        }
    }

    fn has_circuit(&self) -> bool {
        false
    }
}
