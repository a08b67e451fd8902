//! No protection.

use crate::protection::{Answer, Call, Orders, Protection};

/// The client calls the provider itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

impl Protection for Direct {
    fn asked(&mut self, call: &Call, orders: &mut Orders) {
        orders.send(call);
    }

    fn again(&mut self, call: &Call, orders: &mut Orders) {
        self.asked(call, orders);
    }

    fn answered(&mut self, call: &Call, answer: &Answer, orders: &mut Orders) {
        orders.deliver(call, answer);
    }

    fn has_circuit(&self) -> bool {
        false
    }
}
