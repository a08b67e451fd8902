//! A breaker that counts failures in a row.

use std::time::Duration;

use spillway_resilience::Timestamp;

use crate::contender::is_good;
use crate::protection::{Answer, Call, Order, Orders, Protection, Told};

/// Five failures in a row, then five seconds of rest, then one call that decides: LiteLLM's cooldown
/// (`cooldown_time = 5`, its router's default) and pybreaker (`fail_max = 5`, its default; one trial
/// call when half-open).
#[derive(Clone, Debug, Default)]
pub struct Cooldown {
    in_a_row: u32,
    until: Option<Timestamp>,
    trial: bool,
}

impl Cooldown {
    /// Failures in a row that open it.
    pub const FAILURES_IN_A_ROW: u32 = 5;
    /// How long it rests.
    pub const REST: Duration = Duration::from_secs(5);
}

impl Protection for Cooldown {
    fn asked(&mut self, call: &Call, orders: &mut Orders) {
        match self.until {
            Some(until) if self.trial || orders.now() < until => return orders.refuse(call, Told::NOTHING),
            Some(_) => self.trial = true,
            None => {}
        }
        orders.send(call);
    }

    fn again(&mut self, call: &Call, orders: &mut Orders) {
        self.asked(call, orders);
    }

    fn answered(&mut self, call: &Call, answer: &Answer, orders: &mut Orders) {
        self.trial = false;
        if is_good(answer) {
            self.in_a_row = 0;
            self.until = None;
        } else {
            self.in_a_row += 1;
            if self.in_a_row >= Self::FAILURES_IN_A_ROW {
                if self.until.is_none() {
                    orders.push(Order::Opened(answer.sent));
                }
                self.until = Some(orders.now().saturating_add(Self::REST));
            }
        }
        orders.deliver(call, answer);
    }

    fn is_closed(&self) -> bool {
        self.until.is_none()
    }
}
