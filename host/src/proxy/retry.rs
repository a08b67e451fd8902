//! What follows an attempt that was no answer: another one, and when; another target; or none.

use crate::proxy::attempt::Attempted;
use crate::proxy::target::Target;
use crate::proxy::worker::Worker;
use crate::runtime::clock::{Clock, random};
use crate::upstream::Upstream;
use crate::upstream::verdict;
use spillway_resilience::{
    FailedAttempt, NoRetry, Pacing, Reason, Retry, RetrySettings, Spend, Step, may_retry, next_step,
};
use spillway_sdk::AttemptFacts;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A token of the retry budget, which goes back to it unless what it was taken for is sent.
pub(super) struct BudgetToken {
    upstream: Arc<Upstream>,
    spend: Spend,
    sent: bool,
}

impl BudgetToken {
    /// One that was taken from the budget of this upstream.
    pub(super) fn of(upstream: &Arc<Upstream>, spend: Spend) -> BudgetToken {
        BudgetToken { upstream: Arc::clone(upstream), spend, sent: false }
    }

    /// Whether it is of the budget of this upstream.
    pub(super) fn is_of(&self, upstream: &Upstream) -> bool {
        self.upstream.name == upstream.name
    }

    pub(super) fn sent(mut self) {
        self.sent = true;
        if self.spend == Spend::Retry {
            self.upstream.metrics.retry();
        }
    }
}

impl Drop for BudgetToken {
    fn drop(&mut self) {
        if !self.sent {
            self.upstream.experience().budget.refund(self.spend);
        }
    }
}

/// What follows a failed attempt: what the policy decides, if it does, else the lane or the configured backoff.
pub(super) fn next(worker: &Worker, target: &Target, attempted: &mut Attempted, failed: &FailedAttempt) -> Step {
    let settings = &target.upstream.config.retry.settings();
    // It is recorded when this is dropped, whether or not there was something to decide.
    let mut note = attempted.note.take();
    let mut decided = None;
    if failed.may_be_decided(settings) {
        let Attempted { record, judged, .. } = &*attempted;
        let (policy, facts) = (&target.upstream.policy, Rc::clone(record) as Rc<dyn AttemptFacts>);
        decided = worker.judge.borrow_mut().backoff(policy, facts, &judged.verdict);
        if let Some(note) = &mut note {
            note.backed_off(decided);
        }
    }
    let step = next_step(settings, failed, decided.map(verdict::decision), random());
    if let (Step::GiveUp { reason: Reason::LeftToCaller, .. }, Some(likeness)) = (step, target.likeness()) {
        target.upstream.lanes.left(target.subject(), likeness);
    }
    step
}

/// Whether a request that was refused in a lane, as its pacing says, has been sent before: its caller says so, or one
/// like it was left to a caller there.
pub(super) fn has_come_back(target: &Target, pacing: Option<Pacing>) -> bool {
    let request = &target.request;
    let may_not_say_so = pacing == Some(Pacing::Turn) && request.is_repeated_by_its_caller();
    let is_known = |likeness| target.upstream.lanes.has_come_back(target.subject(), likeness);
    request.has_come_back() || may_not_say_so && target.likeness().is_some_and(is_known)
}

/// The right to a retry after `wait`, or after a longer wait where retries are held back for a moment.
pub(super) fn grant(
    target: &Target,
    attempts: u32,
    wait: Duration,
    circuit_patience: Instant,
    clock: Clock,
) -> Result<(BudgetToken, Duration), NoRetry> {
    let (upstream, subject) = (&target.upstream, target.subject());
    let chance_min = RetrySettings::repeat_chance_min(target.request.is_repeated_by_its_caller());
    let retry = Retry {
        attempts,
        wait,
        blocked_for: upstream.circuits.call_blocked_until(subject).map(|until| clock.until(until)),
        circuit_patience: circuit_patience.saturating_duration_since(Instant::now()),
        may_be_chance: upstream.circuits.may_repeat(subject, chance_min),
        served_share: upstream.circuits.served_share(subject),
        has_come_back: target.request.has_come_back(),
    };
    may_retry(&upstream.config.retry.settings(), &retry, &mut upstream.experience().budget, clock.now())?;
    Ok((BudgetToken::of(upstream, Spend::Retry), wait.max(held_back(target, clock))))
}

/// How long a repetition is held back, so as to see whether the load of repetitions does harm.
pub(super) fn held_back(target: &Target, clock: Clock) -> Duration {
    let remaining = target.request.deadline.saturating_duration_since(Instant::now());
    target.upstream.experience().trial.held_back(target.subject().model_key(), remaining, clock.now())
}
