//! What follows an attempt that was no answer: another one, and when; another target; or none.

use crate::observe::recording::Note;
use crate::policy::Record;
use crate::proxy::settle::Pacing;
use crate::proxy::target::Target;
use crate::proxy::worker::Worker;
use crate::runtime::clock::{Clock, random};
use crate::upstream::Upstream;
use spillway_resilience::{Reason, Spend, Step, Timestamp, next_step};
use spillway_sdk::{Advice, AttemptFacts, RetryDecision, Verdict};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// A run of failing attempts whose chance is below this is no chance any more, so that retries are of no use. A caller
/// that repeats by itself is left to do so sooner: then a provider that fails every time gets one call more than it would
/// without us, and a hiccup is survived by the caller's own, longer waits.
const REPEAT_CHANCE_MIN: f64 = 1e-7;
const REPEAT_CHANCE_MIN_BESIDE_THE_CALLERS: f64 = 3e-5;

/// A token of the retry budget, which goes back to it unless its retry is sent.
pub(super) struct RetryToken<'a> {
    upstream: &'a Upstream,
    sent: bool,
}

impl<'a> RetryToken<'a> {
    /// Takes one, if there is one.
    fn spend(upstream: &'a Upstream, now: Timestamp) -> Option<Self> {
        let granted = upstream.experience().budget.try_spend(Spend::Retry, now);
        granted.then(|| RetryToken { upstream, sent: false })
    }

    pub(super) fn sent(mut self) {
        self.sent = true;
        self.upstream.metrics.retry();
    }
}

impl Drop for RetryToken<'_> {
    fn drop(&mut self) {
        if !self.sent {
            self.upstream.experience().budget.refund(Spend::Retry);
        }
    }
}

/// What follows a failed attempt.
pub(super) enum AfterFailure {
    /// Another one, as soon as its lane lets it out.
    Paced,
    RetryAfter(Duration),
    /// None here, but perhaps one elsewhere; here it may make sense after this wait.
    NextTarget(Option<Duration>),
    /// Nothing here; perhaps later, after this wait.
    GiveUp(Option<Duration>),
}

/// Asks the policy, then the lane or the configured backoff. Attempts and deadline bound them all, but for a lane in
/// which somebody is served: there patience does.
pub(super) fn next(
    worker: &Worker,
    target: &Target,
    record: &Rc<Record>,
    verdict: &Verdict,
    number: u32,
    paces: Option<Pacing>,
    note: Option<Note>,
) -> AfterFailure {
    let settings = &target.upstream.config.retry;
    let remaining = record.remaining();
    let requested = verdict.cool_off.or_else(|| record.retry_after());
    let advice = match verdict.advice {
        Advice::Retry => spillway_resilience::Advice::Retry,
        Advice::NextUpstream => spillway_resilience::Advice::NextUpstream,
        Advice::GiveUp => spillway_resilience::Advice::GiveUp,
    };
    if verdict.advice == Advice::Retry && number < settings.max_attempts {
        let decision = worker.judge.borrow_mut().backoff(&target.upstream.policy, record.clone(), verdict);
        if let Some(mut note) = note {
            note.backed_off(decision);
        }
        match decision {
            Some(RetryDecision::After(wait)) if remaining.is_none_or(|remaining| wait < remaining) => {
                return AfterFailure::RetryAfter(wait);
            }
            Some(RetryDecision::After(wait) | RetryDecision::SpoolFor(wait)) => {
                return AfterFailure::GiveUp(Some(wait));
            }
            Some(RetryDecision::NextUpstream) => return AfterFailure::NextTarget(None),
            Some(RetryDecision::GiveUp) => return AfterFailure::GiveUp(None),
            None => {}
        }
    }
    if paces == Some(Pacing::Turn) && verdict.advice == Advice::Retry {
        return AfterFailure::Paced;
    }
    // A lane keeps the pause that the provider has named.
    let wait = if paces.is_some() { None } else { requested };
    match next_step(settings, number, record.elapsed, wait, remaining, advice, random()) {
        Step::RetryAfter(wait) => AfterFailure::RetryAfter(wait),
        Step::GiveUp(Reason::NextUpstreamAdvised) => AfterFailure::NextTarget(requested),
        Step::GiveUp(_) => AfterFailure::GiveUp(requested),
    }
}

/// Why there is no retry, and the wait that is worth telling.
pub(super) struct NoRetry {
    pub(super) why: &'static str,
    pub(super) wait: Option<Duration>,
}

/// The right to a retry after `wait`, or a longer wait where retries are held back for a moment.
pub(super) fn may_retry<'a>(
    target: &'a Target,
    attempts: u32,
    wait: Duration,
    circuit_patience: Instant,
    clock: Clock,
) -> Result<(RetryToken<'a>, Duration), NoRetry> {
    let upstream = &*target.upstream;
    // Waiting for a circuit that will still be open is waiting for nothing.
    let blocked = upstream.circuits.call_blocked_until(target.subject()).map(|until| clock.until(until));
    if let Some(blocked) = blocked.filter(|blocked| *blocked > wait && Instant::now() + *blocked > circuit_patience) {
        return Err(NoRetry { why: "the circuit is open", wait: Some(blocked) });
    }
    let chance_min = if target.request.is_repeated_by_its_caller() {
        REPEAT_CHANCE_MIN_BESIDE_THE_CALLERS
    } else {
        REPEAT_CHANCE_MIN
    };
    if !upstream.circuits.may_repeat(target.subject(), chance_min) {
        return Err(NoRetry { why: "so many failures in a row are no chance", wait: None });
    }
    // Who has come back would go away unserved.
    let is_worth_it = || upstream.config.retry.allows(attempts, upstream.circuits.served_share(target.subject()));
    if !target.request.has_come_back() && !is_worth_it() {
        return Err(NoRetry { why: "too few are served for another attempt", wait: None });
    }
    let now = clock.now();
    let Some(token) = RetryToken::spend(upstream, now) else {
        return Err(NoRetry { why: "the retry budget is spent", wait: None });
    };
    Ok((token, wait.max(held_back(target, clock))))
}

/// How long a repetition is held back, so as to see whether the load of repetitions does harm. Whoever has not the time
/// for that takes no part in it.
pub(super) fn held_back(target: &Target, clock: Clock) -> Duration {
    let wait = target.upstream.experience().trial.retries_wait(target.subject().model_key(), clock.now());
    if wait > target.request.deadline.saturating_duration_since(Instant::now()) / 2 { Duration::ZERO } else { wait }
}
