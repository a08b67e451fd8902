//! The proxy's layers around one upstream, in the order in which a request passes them.
//!
//! A look at the circuit, before anything is waited for; the limiter; the waiting room in front of
//! it, first come, first served; and the circuit's admission last, after all waits. Every part is
//! the real one of `spillway-resilience` with its default settings. A further layer is one field of
//! [`Stack`] and one line in [`Stack::admit`] and [`Stack::settle`]; a fair queue takes the place
//! of [`WaitingRoom`].

use std::collections::VecDeque;
use std::time::Duration;

use spillway_resilience::{
    Admitted, Advice, Breaker, BreakerSettings, CircuitState, Limiter, Outcome, Permit, Reservation, RetryBudget,
    RetryBudgetSettings, RetrySettings, Settlement, Step, Timestamp, TokenBucket, Transition, next_step,
};

use crate::provider::Answer;
use crate::scenario;

/// What one call holds and must give back.
#[derive(Debug)]
pub struct Held {
    reservation: Option<Reservation>,
    permit: Option<Permit>,
}

/// Why a call may not be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The tokens are not there before this time.
    Limit(Timestamp),
    /// The circuit refuses; asking again makes sense at this time.
    Circuit(Timestamp),
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another attempt by the proxy after this wait.
    Retry(Duration),
    /// The failure goes to the client, with the wait that the provider named.
    GiveUp(Option<Duration>),
}

/// The layers, or nothing at all: an unprotected client calls the provider directly.
#[derive(Debug)]
pub struct Stack {
    protected: Option<Protected>,
}

#[derive(Debug)]
struct Protected {
    limiter: Limiter,
    breaker: Breaker,
    budget: RetryBudget,
    retry: RetrySettings,
}

impl Stack {
    /// No layers.
    #[must_use]
    pub const fn none() -> Self {
        Self { protected: None }
    }

    /// All layers with their default settings; the limiter knows the provider's quota.
    #[must_use]
    pub fn new(provider: &scenario::Provider) -> Self {
        let now = Timestamp::ORIGIN;
        let tokens = provider
            .tokens_per_minute
            .map(|rate| TokenBucket::new(u64::from(provider.burst_tokens), u64::from(rate), now));
        Self {
            protected: Some(Protected {
                limiter: Limiter::new(None, tokens),
                breaker: Breaker::new(BreakerSettings::default(), now),
                budget: RetryBudget::new(RetryBudgetSettings::default()),
                retry: RetrySettings::default(),
            }),
        }
    }

    /// Whether there are layers at all.
    #[must_use]
    pub const fn protects(&self) -> bool {
        self.protected.is_some()
    }

    /// Whether calls pass as on a good day.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.protected.as_ref().is_none_or(|layers| layers.breaker.state() == CircuitState::Closed)
    }

    /// Calls that hold a permit.
    #[must_use]
    pub fn in_flight(&self, now: Timestamp) -> u32 {
        self.protected.as_ref().map_or(0, |layers| layers.breaker.statistics(now).in_flight)
    }

    /// Notes a request that a client sent, whatever becomes of it.
    pub fn arrived(&mut self) {
        if let Some(layers) = &mut self.protected {
            layers.budget.deposit();
        }
    }

    /// Takes all that a call of `estimate` tokens needs, or nothing.
    ///
    /// # Errors
    ///
    /// Which layer is in the way, and until when.
    pub fn admit(&mut self, estimate: u64, now: Timestamp) -> Result<Held, Blocked> {
        let Some(layers) = &mut self.protected else {
            return Ok(Held { reservation: None, permit: None });
        };
        layers.breaker.peek(now).map_err(|rejected| Blocked::Circuit(rejected.retry_at()))?;
        let reservation = layers
            .limiter
            .reserve(estimate, now)
            .map_err(|exceeded| Blocked::Limit(now.saturating_add(exceeded.retry_after)))?;
        match layers.breaker.admit(now) {
            Ok(Admitted { permit, .. }) => Ok(Held { reservation: Some(reservation), permit: Some(permit) }),
            Err(rejected) => {
                layers.limiter.settle(reservation, Settlement::Refund, now);
                Err(Blocked::Circuit(rejected.retry_at()))
            }
        }
    }

    /// Gives back what a call held, which was sent at `sent` and used `tokens` if it succeeded. A
    /// circuit that opens or closes says so.
    pub fn settle(
        &mut self,
        held: Held,
        answer: &Answer,
        timed_out: bool,
        tokens: u64,
        sent: Timestamp,
        random: u64,
    ) -> Option<Transition> {
        let layers = self.protected.as_mut()?;
        let now = answer.at;
        if let Some(reservation) = held.reservation {
            let settlement = match answer.outcome {
                Outcome::Success => Settlement::Used(tokens),
                // The provider may still bill what nobody waits for any more.
                Outcome::Failure if timed_out => Settlement::AsEstimated,
                Outcome::Failure | Outcome::Overloaded | Outcome::Throttled | Outcome::Ignored => Settlement::Refund,
            };
            layers.limiter.settle(reservation, settlement, now);
        }
        let open_until = answer.retry_after.map(|wait| now.saturating_add(wait));
        let took = now.saturating_since(sent);
        let recorded = layers.breaker.record(held.permit?, answer.outcome, took, open_until, now, random);
        // The random number is used by one of the two at most.
        let judged = recorded.judgement.and_then(|pending| layers.breaker.judge(pending, None, now, random));
        recorded.transition.or(judged)
    }

    /// What follows attempt number `attempt` of a request, which failed as `answer` says.
    pub fn next(&mut self, attempt: u32, answer: &Answer, remaining: Duration, random: u64) -> Next {
        let Some(layers) = &mut self.protected else {
            return Next::GiveUp(answer.retry_after);
        };
        let step = next_step(&layers.retry, attempt, answer.retry_after, Some(remaining), Advice::Retry, random);
        match step {
            Step::RetryAfter(wait) if layers.budget.try_withdraw() => Next::Retry(wait),
            Step::RetryAfter(_) | Step::GiveUp(_) => Next::GiveUp(answer.retry_after),
        }
    }
}

/// Requests that wait for tokens, in the order in which they came.
#[derive(Debug, Default)]
pub struct WaitingRoom {
    queue: VecDeque<usize>,
}

impl WaitingRoom {
    /// Most requests that wait; a further one is refused at once. Some seconds' worth of work for a
    /// quota of ten requests a second, so that hardly anyone waits in vain.
    pub const CAPACITY: usize = 200;

    /// Lets a request wait behind all others; `false` when there is no room.
    pub fn push(&mut self, slot: usize) -> bool {
        let room = self.queue.len() < Self::CAPACITY;
        if room {
            self.queue.push_back(slot);
        }
        room
    }

    /// Whose turn it is.
    #[must_use]
    pub fn head(&self) -> Option<usize> {
        self.queue.front().copied()
    }

    /// Lets the head go.
    pub fn pop(&mut self) {
        self.queue.pop_front();
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack() -> Stack {
        Stack::new(&scenario::Provider { tokens_per_minute: Some(60), burst_tokens: 100, ..Default::default() })
    }

    fn answer(outcome: Outcome, now: Timestamp) -> Answer {
        Answer { at: now, outcome, retry_after: None }
    }

    #[test]
    fn a_call_that_the_circuit_refuses_costs_no_tokens() {
        let (mut stack, now) = (stack(), Timestamp::ORIGIN);
        for _ in 0..BreakerSettings::DEFAULT_CONSECUTIVE_FAILURES {
            let held = stack.admit(1, now).unwrap();
            let _ = stack.settle(held, &answer(Outcome::Failure, now), false, 0, now, 0);
        }
        assert!(!stack.is_closed());
        assert!(matches!(stack.admit(100, now), Err(Blocked::Circuit(_))));
        let probe = stack.admit(100, now.saturating_add(Duration::from_secs(1))).unwrap();
        assert!(probe.permit.is_some_and(|permit| permit.is_probe()));
    }

    #[test]
    fn a_success_gives_back_what_it_did_not_use() {
        let (mut stack, now) = (stack(), Timestamp::ORIGIN);
        let held = stack.admit(100, now).unwrap();
        assert_eq!(stack.admit(30, now).unwrap_err(), Blocked::Limit(now.saturating_add(Duration::from_secs(30))));
        assert_eq!(stack.settle(held, &answer(Outcome::Success, now), false, 70, now, 0), None);
        assert!(stack.admit(30, now).is_ok());
    }

    #[test]
    fn retries_end_with_the_budget() {
        let mut stack = stack();
        let failed = answer(Outcome::Failure, Timestamp::ORIGIN);
        let granted = (0..100).filter(|_| stack.next(1, &failed, Duration::from_secs(9), 0) != Next::GiveUp(None));
        assert_eq!(granted.count(), RetryBudgetSettings::DEFAULT_RESERVE as usize);
    }
}
