//! Refusing a share that grows with the share refused.

use std::collections::VecDeque;

use crate::contender::is_good;
use crate::protection::{Answer, Call, Orders, Protection, Told};

/// Client-side throttling of "Site Reliability Engineering" (Beyer, Jones, Petoff, Murphy, 2016),
/// chapter 21, "Handling Overload", which Envoy's admission control filter follows: over the last two
/// minutes, a request is refused with probability max(0, (requests - K accepts) / (requests + 1)).
/// What is refused here counts as a request and not as an accept. K is 2, as the book recommends.
#[derive(Clone, Debug, Default)]
pub struct Throttle {
    /// (second, requests, accepts), the latest last.
    seconds: VecDeque<(u64, u32, u32)>,
    pub(super) requests: u32,
    pub(super) accepts: u32,
}

impl Throttle {
    /// K: how many requests may be sent for one that is accepted.
    pub const MULTIPLIER: f64 = 2.0;
    /// How long is looked back.
    pub const WINDOW_SECONDS: u64 = 120;

    /// The probability of a refusal after so many requests and accepts.
    #[must_use]
    pub fn probability(requests: u32, accepts: u32) -> f64 {
        let (requests, accepts) = (f64::from(requests), f64::from(accepts));
        ((requests - Self::MULTIPLIER * accepts) / (requests + 1.0)).max(0.0)
    }

    fn count(&mut self, second: u64, requests: u32, accepts: u32) {
        while let Some((first, old_requests, old_accepts)) = self.seconds.front().copied()
            && first + Self::WINDOW_SECONDS <= second
        {
            self.requests -= old_requests;
            self.accepts -= old_accepts;
            self.seconds.pop_front();
        }
        match self.seconds.back_mut() {
            Some(last) if last.0 == second => {
                last.1 += requests;
                last.2 += accepts;
            }
            Some(_) | None => self.seconds.push_back((second, requests, accepts)),
        }
        self.requests += requests;
        self.accepts += accepts;
    }
}

fn second(orders: &Orders) -> u64 {
    orders.now().as_micros() / 1_000_000
}

impl Protection for Throttle {
    fn asked(&mut self, call: &Call, orders: &mut Orders) {
        self.count(second(orders), 0, 0);
        let probability = Self::probability(self.requests, self.accepts);
        self.count(second(orders), 1, 0);
        if orders.unit() < probability {
            orders.refuse(call, Told::NOTHING);
        } else {
            orders.send(call);
        }
    }

    fn again(&mut self, call: &Call, orders: &mut Orders) {
        self.asked(call, orders);
    }

    fn answered(&mut self, call: &Call, answer: &Answer, orders: &mut Orders) {
        self.count(second(orders), 0, u32::from(is_good(answer)));
        orders.deliver(call, answer);
    }

    fn has_circuit(&self) -> bool {
        false
    }
}
