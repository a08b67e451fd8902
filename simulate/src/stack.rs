//! The proxy's layers around one upstream, in the order in which a request passes them.
//!
//! A look at the circuit, before anything is waited for; the admission queue, which holds the limits
//! on tokens and on calls in flight and those who wait for them, in fair order; and the circuit's
//! admission last, after all waits. Every part is the real one of `spillway-resilience` with its
//! default settings. A further layer is one field of [`Stack`] and one line in [`Stack::enter`],
//! [`Stack::next_in_turn`] and [`Stack::settle`].

use std::time::Duration;

use spillway_resilience::{
    AdaptiveLimit, AdaptiveLimitSettings, AdmissionQueue, Admitted, Advice, Breaker, BreakerSettings, CircuitState,
    Concurrency, Demand, Entry, FairQueueSettings, Feedback, Leaving, Limiter, Outcome, Pass, Permit, RetryBudget,
    RetryBudgetSettings, RetrySettings, Settlement, Spend, Step, Ticket, Timestamp, TokenBucket, Transition, next_step,
};

use crate::provider::Answer;
use crate::scenario;

/// What one call holds and must give back; nothing without layers.
#[derive(Debug)]
pub struct Held {
    taken: Option<(Pass, Permit)>,
    /// Whether it had to wait, and so was charged to its tenant's share.
    waited: bool,
}

/// What becomes of a call that asks to be let in.
#[derive(Debug)]
pub enum Entered {
    /// It may be sent.
    Passed(Held),
    /// It waits; [`Stack::next_in_turn`] will name this ticket.
    Waiting(Ticket),
}

/// Why a call may not be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The limits do not let it in while it has patience; it is told to come again after this wait.
    Limit(Duration),
    /// The circuit refuses; asking again makes sense at this time.
    Circuit(Timestamp),
}

/// How a call leaves the queue.
#[derive(Debug)]
pub enum Left {
    /// It may be sent.
    Passed(Held),
    /// The circuit refused it when its turn had come; asking again makes sense at this time.
    Circuit(Timestamp),
    /// Its patience is over.
    Expired,
}

/// What came of giving back what a call held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The circuit opened or closed.
    pub transition: Option<Transition>,
    /// Tokens that its tenant's share gets back.
    pub given_back: u64,
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
    queue: AdmissionQueue,
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
        let concurrency = Concurrency::Adaptive(AdaptiveLimit::new(AdaptiveLimitSettings::default()));
        Self {
            protected: Some(Protected {
                queue: AdmissionQueue::new(Limiter::new(None, tokens), concurrency, FairQueueSettings::default()),
                breaker: Breaker::new(BreakerSettings::default(), now),
                budget: RetryBudget::new(RetryBudgetSettings::default()),
                retry: RetrySettings::default(),
            }),
        }
    }

    /// Whether calls pass as on a good day.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.protected.as_ref().is_none_or(|layers| layers.breaker.state() == CircuitState::Closed)
    }

    /// Everything that somebody holds: places in the queue and in flight, reservations and permits.
    #[must_use]
    pub fn held(&self, now: Timestamp) -> usize {
        self.protected.as_ref().map_or(0, |layers| {
            let permits = layers.breaker.statistics(now).in_flight + layers.queue.concurrency().in_flight();
            permits as usize + layers.queue.waiting() + layers.queue.limiter().outstanding()
        })
    }

    /// Notes a request that a client sent, whatever becomes of it.
    pub fn arrived(&mut self) {
        if let Some(layers) = &mut self.protected {
            layers.budget.deposit();
        }
    }

    /// Lets a call in, or lets it wait for its turn until `deadline`.
    ///
    /// Afterwards, and after [`settle`](Self::settle), [`next_in_turn`](Self::next_in_turn) may have
    /// somebody to name.
    ///
    /// # Errors
    ///
    /// Which layer is in the way. Nothing is taken then.
    pub fn enter(&mut self, demand: Demand, deadline: Timestamp, now: Timestamp) -> Result<Entered, Blocked> {
        let Some(layers) = &mut self.protected else {
            return Ok(Entered::Passed(Held { taken: None, waited: false }));
        };
        // Whom the circuit would refuse in the end has nothing to wait for here.
        layers.breaker.peek(now).map_err(|rejected| Blocked::Circuit(rejected.retry_at()))?;
        match layers.queue.enter(demand, deadline, now) {
            Ok(Entry::Passed(pass)) => {
                layers.ask_circuit(pass, false, now).map(Entered::Passed).map_err(Blocked::Circuit)
            }
            Ok(Entry::Waiting(ticket)) => Ok(Entered::Waiting(ticket)),
            Err(away) => Err(Blocked::Limit(away.retry_after)),
        }
    }

    /// Who leaves the queue next, and how. Call it until it answers `None`.
    pub fn next_in_turn(&mut self, now: Timestamp) -> Option<(Ticket, Left)> {
        let layers = self.protected.as_mut()?;
        Some(match layers.queue.next(now)? {
            Leaving::Passed { ticket, pass, .. } => {
                (ticket, layers.ask_circuit(pass, true, now).map_or_else(Left::Circuit, Left::Passed))
            }
            Leaving::Expired { ticket, .. } => (ticket, Left::Expired),
        })
    }

    /// When [`next_in_turn`](Self::next_in_turn) should be called though nothing happens until then.
    pub fn wake_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.protected.as_mut()?.queue.wake_at(now).map(|(_, wake_at)| wake_at)
    }

    /// The wait that a client is told which has waited for so many tokens in vain.
    #[must_use]
    pub fn told_in_vain(&self, tokens: u64, now: Timestamp) -> Option<Duration> {
        self.protected.as_ref().map(|layers| layers.queue.in_vain(tokens, now).retry_after)
    }

    /// Gives back what a call held, which was sent at `sent` and used `tokens` if it succeeded.
    pub fn settle(
        &mut self,
        held: Held,
        answer: &Answer,
        timed_out: bool,
        tokens: u64,
        sent: Timestamp,
        random: u64,
    ) -> Settled {
        let (Some(layers), Some((pass, permit))) = (&mut self.protected, held.taken) else {
            return Settled::default();
        };
        let now = answer.at;
        let took = now.saturating_since(sent);
        let settlement = settlement(answer, tokens);
        let given_back = match settlement {
            Settlement::Used(used) if held.waited => pass.tokens().saturating_sub(used),
            Settlement::Refund if held.waited => pass.tokens(),
            Settlement::Used(_) | Settlement::Refund | Settlement::AsEstimated => 0,
        };
        let excused = layers.queue.settle(pass, settlement, feedback(answer, timed_out, took), now);
        // What the limit deals with must not open the circuit too.
        let outcome = if excused { Outcome::Throttled } else { answer.outcome };
        let open_until = answer.retry_after.map(|wait| now.saturating_add(wait));
        let recorded = layers.breaker.record(permit, outcome, took, open_until, now, random);
        // The random number is used by one of the two at most.
        let judged = recorded.judgement.and_then(|pending| layers.breaker.judge(pending, None, now, random));
        Settled { transition: recorded.transition.or(judged), given_back }
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

impl Protected {
    /// The circuit's admission, last. What it refuses gives its pass back, and costs nothing.
    fn ask_circuit(&mut self, pass: Pass, waited: bool, now: Timestamp) -> Result<Held, Timestamp> {
        match self.breaker.admit(now) {
            Ok(Admitted { permit, .. }) => Ok(Held { taken: Some((pass, permit)), waited }),
            Err(rejected) => {
                self.queue.settle(pass, Settlement::Refund, Feedback::Neutral, now);
                Err(rejected.retry_at())
            }
        }
    }
}

/// What a call cost. A provider that refuses does not count it; one that fails may have.
const fn settlement(answer: &Answer, tokens: u64) -> Settlement {
    match answer.outcome {
        Outcome::Success => Settlement::Used(tokens),
        Outcome::Overloaded | Outcome::Throttled => Settlement::Refund,
        Outcome::Failure | Outcome::Ignored => Settlement::AsEstimated,
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

#[cfg(test)]
mod tests;
