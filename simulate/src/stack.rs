//! The proxy's layers around one upstream, in the order in which a request passes them.
//!
//! A look at the circuit, before anything is waited for; the limiter; the adaptive limit on calls in
//! flight; the waiting room in front of both, first come, first served; and the circuit's admission
//! last, after all waits. Every part is the real one of `spillway-resilience` with its default
//! settings. A further layer is one field of [`Stack`] and one line in [`Stack::admit`] and
//! [`Stack::settle`]; a fair queue takes the place of [`WaitingRoom`].

use std::collections::VecDeque;
use std::time::Duration;

use spillway_resilience::{
    AdaptiveLimit, AdaptiveLimitSettings, Admitted, Advice, Breaker, BreakerSettings, CircuitState, Feedback, Limiter,
    Outcome, Permit, Reservation, RetryBudget, RetryBudgetSettings, RetrySettings, Settlement, Slot, Spend, Step,
    Timestamp, TokenBucket, Transition, next_step,
};

use crate::provider::Answer;
use crate::scenario;

/// What one call holds and must give back.
#[derive(Debug)]
pub struct Held {
    reservation: Option<Reservation>,
    slot: Option<Slot>,
    permit: Option<Permit>,
}

/// Why a call may not be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The tokens are not there before this time.
    Limit(Timestamp),
    /// As many calls as may be are in flight; asking again makes sense when one of them has ended.
    Saturated,
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
    concurrency: AdaptiveLimit,
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
                concurrency: AdaptiveLimit::new(AdaptiveLimitSettings::default()),
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
            return Ok(Held { reservation: None, slot: None, permit: None });
        };
        layers.breaker.peek(now).map_err(|rejected| Blocked::Circuit(rejected.retry_at()))?;
        let reservation = layers
            .limiter
            .reserve(estimate, now)
            .map_err(|exceeded| Blocked::Limit(now.saturating_add(exceeded.retry_after)))?;
        let Ok(slot) = layers.concurrency.acquire(now) else {
            layers.limiter.settle(reservation, Settlement::Refund, now);
            return Err(Blocked::Saturated);
        };
        match layers.breaker.admit(now) {
            Ok(Admitted { permit, .. }) => {
                Ok(Held { reservation: Some(reservation), slot: Some(slot), permit: Some(permit) })
            }
            Err(rejected) => {
                layers.concurrency.release(slot, Feedback::Neutral, now);
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
        let took = now.saturating_since(sent);
        let feedback = feedback(answer, timed_out, took);
        let excused = held.slot.is_some_and(|slot| layers.concurrency.release(slot, feedback, now));
        // What the limit deals with must not open the circuit too.
        let outcome = if excused { Outcome::Throttled } else { answer.outcome };
        let open_until = answer.retry_after.map(|wait| now.saturating_add(wait));
        let recorded = layers.breaker.record(held.permit?, outcome, took, open_until, now, random);
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
            Step::RetryAfter(wait) if layers.budget.try_spend(Spend::Retry) => Next::Retry(wait),
            Step::RetryAfter(_) | Step::GiveUp(_) => Next::GiveUp(answer.retry_after),
        }
    }
}

/// What a call told about the provider's room.
fn feedback(answer: &Answer, timed_out: bool, took: Duration) -> Feedback {
    match answer.outcome {
        // How long an answer takes does not depend on the request's tokens here.
        Outcome::Success => Feedback::Answered { first_token: took, input_tokens: 0 },
        Outcome::Failure if timed_out => Feedback::TimedOut,
        Outcome::Overloaded => Feedback::Overloaded,
        // A wait that is named is that of a spent quota, which fewer calls at once would not fill.
        Outcome::Throttled if answer.retry_after.is_none() => Feedback::Overloaded,
        Outcome::Throttled | Outcome::Failure | Outcome::Ignored => Feedback::Neutral,
    }
}

/// Requests that wait for tokens or for a slot, in the order in which they came.
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

    /// Calls sent at once, which all end the same way a second later.
    fn round(stack: &mut Stack, calls: usize, outcome: Outcome, timed_out: bool, now: Timestamp) -> usize {
        let held: Vec<Held> = (0..calls).map_while(|_| stack.admit(0, now).ok()).collect();
        let (sent, end) = (held.len(), now.saturating_add(Duration::from_secs(1)));
        for held in held {
            let _ = stack.settle(held, &answer(outcome, end), timed_out, 0, now, 0);
        }
        sent
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn an_overload_saturates_the_limit_and_leaves_the_circuit_closed_until_nothing_helps() {
        let mut stack = stack();
        assert_eq!(round(&mut stack, 80, Outcome::Overloaded, false, at(0)), 80);
        assert!(stack.is_closed());
        let held: Vec<Held> = (0..40).map(|_| stack.admit(0, at(2)).unwrap()).collect();
        assert_eq!(stack.admit(0, at(2)).unwrap_err(), Blocked::Saturated);
        for held in held {
            let _ = stack.settle(held, &answer(Outcome::Ignored, at(3)), false, 0, at(2), 0);
        }
        let sent: Vec<usize> =
            (2..5).map(|number| round(&mut stack, 80, Outcome::Overloaded, false, at(2 * number))).collect();
        assert_eq!(sent, [40, 20, 10]);
        assert!(!stack.is_closed(), "the fourth decrease in a row was one too many");
    }

    #[test]
    fn time_outs_shrink_the_limit_and_open_the_circuit_as_ever() {
        let mut stack = stack();
        let held: Vec<Held> = (0..80).map(|_| stack.admit(0, at(0)).unwrap()).collect();
        for held in held.into_iter().take(4) {
            let _ = stack.settle(held, &answer(Outcome::Failure, at(1)), true, 0, at(0), 0);
        }
        assert_eq!(stack.admit(0, at(1)).unwrap_err(), Blocked::Saturated);
        let mut stack = self::stack();
        round(&mut stack, 80, Outcome::Failure, true, at(0));
        assert!(!stack.is_closed());
        let mut stack = self::stack();
        assert_eq!(round(&mut stack, 4, Outcome::Failure, false, at(0)), 4);
        assert_eq!(round(&mut stack, 80, Outcome::Success, false, at(2)), 80, "other failures ask for no less");
    }

    #[test]
    fn a_call_that_the_circuit_refuses_keeps_no_slot() {
        let mut stack = stack();
        round(&mut stack, 80, Outcome::Failure, false, at(0));
        assert!(matches!(stack.admit(0, at(1)), Err(Blocked::Circuit(_))));
        assert_eq!(stack.protected.map(|layers| layers.concurrency.in_flight()), Some(0));
    }
}
