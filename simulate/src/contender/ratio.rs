//! A breaker that looks at the failure rate of the last hundred calls.

use std::collections::VecDeque;
use std::time::Duration;

use spillway_resilience::Timestamp;

use crate::contender::is_good;
use crate::protection::{Answer, Call, Order, Orders, Protection, Told};

/// A circuit breaker with the defaults of resilience4j (`CircuitBreakerConfig`; "Create and configure
/// a CircuitBreaker" in its guide): over a window of the last 100 calls, once they are that many, a
/// failure rate of 50 % opens it; 60 s later, ten calls are permitted, whose failure rate decides by
/// the same threshold when all are over.
#[derive(Clone, Debug)]
pub struct RatioBreaker {
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Closed(VecDeque<bool>),
    Open { until: Timestamp },
    HalfOpen { permitted: usize, ended: usize, failed: usize },
}

impl Default for RatioBreaker {
    fn default() -> Self {
        Self { state: State::Closed(VecDeque::new()) }
    }
}

impl RatioBreaker {
    /// `slidingWindowSize` and `minimumNumberOfCalls`.
    pub const WINDOW_CALLS: usize = 100;
    /// `failureRateThreshold`.
    pub const FAILURE_RATE_PERCENT: usize = 50;
    /// `waitDurationInOpenState`.
    pub const REST: Duration = Duration::from_secs(60);
    /// `permittedNumberOfCallsInHalfOpenState`.
    pub const PROBES: usize = 10;

    fn is_too_much(failed: usize, calls: usize) -> bool {
        failed * 100 >= Self::FAILURE_RATE_PERCENT * calls
    }
}

impl Protection for RatioBreaker {
    fn asked(&mut self, call: &Call, orders: &mut Orders) {
        if let State::Open { until } = self.state
            && orders.now() >= until
        {
            self.state = State::HalfOpen { permitted: 0, ended: 0, failed: 0 };
        }
        let may = match &mut self.state {
            State::Closed(_) => true,
            State::Open { .. } => false,
            State::HalfOpen { permitted, .. } => {
                *permitted += 1;
                *permitted <= Self::PROBES
            }
        };
        if may {
            orders.send(call);
        } else {
            orders.refuse(call, Told::NOTHING);
        }
    }

    fn again(&mut self, call: &Call, orders: &mut Orders) {
        self.asked(call, orders);
    }

    fn answered(&mut self, call: &Call, answer: &Answer, orders: &mut Orders) {
        let good = is_good(answer);
        let open = State::Open { until: orders.now().saturating_add(Self::REST) };
        match &mut self.state {
            State::Closed(window) => {
                window.push_back(good);
                if window.len() > Self::WINDOW_CALLS {
                    window.pop_front();
                }
                let failed = window.iter().filter(|good| !**good).count();
                if window.len() >= Self::WINDOW_CALLS && Self::is_too_much(failed, window.len()) {
                    orders.push(Order::Opened(answer.sent));
                    self.state = open;
                }
            }
            State::Open { .. } => {}
            State::HalfOpen { ended, failed, .. } => {
                *ended += 1;
                *failed += usize::from(!good);
                if *ended >= Self::PROBES {
                    let bad = Self::is_too_much(*failed, *ended);
                    self.state = if bad { open } else { Self::default().state };
                }
            }
        }
        orders.deliver(call, answer);
    }

    fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }
}
