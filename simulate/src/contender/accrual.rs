//! Marking a provider dead after failures, and repeating what failed within a budget.

use std::collections::VecDeque;
use std::time::Duration;

use spillway_resilience::Timestamp;

use crate::contender::{RetryBudget, is_good};
use crate::protection::{Answer, Call, Order, Orders, Protection, Told};

/// Failure accrual with a retry budget as in Finagle (`FailureAccrualFactory` and
/// `FailureAccrualPolicy.hybrid`; the user guide's "Circuit Breaking" and "Retries") and, after it,
/// linkerd, with their defaults: the provider is dead after five failures in a row, or when less
/// than 0.8 of the calls of the last 30 s succeeded, five calls at least. It rests 5 s, then twice as
/// long each time up to 300 s, half of that fixed and half of it random; then one call is let
/// through, whose outcome decides. An error is repeated at once as long as the budget lasts.
///
/// Where there is one provider only, as here, linkerd refuses while it is dead.
#[derive(Clone, Debug, Default)]
pub struct Accrual {
    in_a_row: u32,
    /// Calls of the last 30 s: when they ended, and whether they were good.
    window: VecDeque<(Timestamp, bool)>,
    good: usize,
    /// Dead until this time, and then probing.
    dead_until: Option<Timestamp>,
    probe_under_way: bool,
    /// How often it was marked dead in a row.
    rests: u32,
    pub(super) budget: RetryBudget,
}

impl Accrual {
    /// Failures in a row that mark it dead.
    pub const FAILURES_IN_A_ROW: u32 = 5;
    /// Success rate below which it is dead.
    pub const SUCCESS_RATE: f64 = 0.8;
    /// How long the success rate looks back.
    pub const WINDOW: Duration = Duration::from_secs(30);
    /// Calls without which there is no success rate.
    pub const CALLS_MIN: usize = 5;
    /// First rest, before jitter.
    pub const REST: Duration = Duration::from_secs(5);
    /// Longest rest, before jitter.
    pub const REST_MAX: Duration = Duration::from_secs(300);

    fn count(&mut self, good: bool, now: Timestamp) {
        while let Some((at, old)) = self.window.front().copied()
            && now.saturating_since(at) >= Self::WINDOW
        {
            self.good -= usize::from(old);
            self.window.pop_front();
        }
        self.window.push_back((now, good));
        self.good += usize::from(good);
        self.in_a_row = if good { 0 } else { self.in_a_row + 1 };
    }

    fn has_failed(&self) -> bool {
        let calls = self.window.len();
        let rate_is_low = calls >= Self::CALLS_MIN && (self.good as f64) < Self::SUCCESS_RATE * calls as f64;
        self.in_a_row >= Self::FAILURES_IN_A_ROW || rate_is_low
    }

    fn rest(&mut self, orders: &mut Orders) {
        let full = Self::REST.saturating_mul(1 << self.rests.min(16)).min(Self::REST_MAX);
        self.rests += 1;
        let wait = full.mul_f64(0.5 + 0.5 * orders.unit());
        self.dead_until = Some(orders.now().saturating_add(wait));
    }

    fn revive(&mut self) {
        *self = Self { budget: std::mem::take(&mut self.budget), ..Self::default() };
    }

    /// Whether a call may be sent now. If it is dead, that call is the probe.
    fn admits(&mut self, now: Timestamp) -> bool {
        match self.dead_until {
            None => true,
            Some(until) if now >= until && !self.probe_under_way => {
                self.probe_under_way = true;
                true
            }
            Some(_) => false,
        }
    }
}

impl Protection for Accrual {
    fn asked(&mut self, call: &Call, orders: &mut Orders) {
        self.budget.deposit(orders.now());
        self.again(call, orders);
    }

    fn again(&mut self, call: &Call, orders: &mut Orders) {
        if self.admits(orders.now()) {
            orders.send(call);
        } else {
            orders.refuse(call, Told::NOTHING);
        }
    }

    fn answered(&mut self, call: &Call, answer: &Answer, orders: &mut Orders) {
        let good = is_good(answer);
        if self.dead_until.is_none() {
            self.count(good, answer.at);
            if !good && self.has_failed() {
                orders.push(Order::Opened(answer.sent));
                self.rest(orders);
            }
        } else if self.probe_under_way {
            // Calls that were sent before it died may end in the meantime; which one is the probe does
            // not matter to the outcome of a total outage, and Finagle does not tell them apart either.
            self.probe_under_way = false;
            if good {
                self.revive();
            } else {
                self.rest(orders);
            }
        }
        if answer.is_error() && self.dead_until.is_none() && self.budget.withdraw(answer.at) {
            orders.send(call);
        } else {
            orders.deliver(call, answer);
        }
    }

    fn is_closed(&self) -> bool {
        self.dead_until.is_none()
    }
}
