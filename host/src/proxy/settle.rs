//! What an attempt means for what it held: the limits, the circuits, the lanes and what is learnt of its upstream.

use crate::policy::Record;
use crate::proxy::attempt::Attempted;
use crate::proxy::permits::Permits;
use crate::proxy::spending::Ended;
use crate::proxy::target::Target;
use crate::proxy::worker::Worker;
use crate::runtime::clock::Clock;
use crate::upstream::circuit::CircuitPermits;
use crate::upstream::lanes::Telling;
use crate::upstream::said::Said;
use crate::upstream::verdict;
use spillway_resilience::{Circumstances, Consequence, FirstContent, Outcome, Progress, Settlement, Teaches};
use spillway_sdk::{AttemptFacts, Class, Fault, Phase, Verdict};
use std::sync::Arc;

/// How an attempt has ended, as far as it matters for what that means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending<'a> {
    /// Who was asked, and for what.
    pub target: &'a Target,
    /// What policies may see of it.
    pub record: &'a Record,
    /// What it was judged to be.
    pub verdict: &'a Verdict,
    /// What ended it, if it did not end well.
    pub fault: Option<Fault>,
    /// Tokens that it cost, by the provider's report.
    pub used_tokens: Option<u64>,
    /// Whether a failure of its request is counted already.
    pub has_failed: bool,
}

impl Ending<'_> {
    pub(crate) fn consequence(&self, clock: Clock) -> Consequence {
        let &Ending { target, record, verdict, fault, used_tokens, has_failed } = self;
        let (upstream, began) = (&target.upstream, clock.at(record.began));
        let circumstances = Circumstances {
            breaker: upstream.config.breaker.kind,
            named: if verdict.cool_off.is_some() { record.retry_after() } else { None },
            named_pause_max: upstream.config.pacing.named_pause_max,
            progress: match (record.phase, record.status) {
                (Phase::Connecting, _) => Progress::Unsent,
                (_, None) => Progress::Unanswered,
                (_, Some(_)) => Progress::Answered,
            },
            took: record.elapsed,
            quick_attempt_max: upstream.config.retry.quick_attempt_max,
            first_content: match (fault, record.first_content.get()) {
                (Some(Fault::FirstContentTimeout), _) => {
                    let hangs_alone = upstream.experience().promptness.hangs_alone(began, clock.now());
                    FirstContent::Late { hangs_alone }
                }
                (_, Some(after)) => FirstContent::After(after),
                // Nothing has come, or a preamble was passed on and no content has followed.
                (_, None) => FirstContent::Missing,
            },
            input_tokens: target.estimate.input,
            used_tokens,
            has_failed_before: has_failed,
            has_come_back: target.request.has_come_back(),
            was_slept_through: was_slept_through(record, fault, clock),
            suspects_overload: verdict.class == Class::Failure
                && upstream.experience().trial.suspects_overload(target.subject().model_key()),
        };
        Consequence::of(verdict::verdict(verdict), &circumstances)
    }
}

/// Settles an attempt that is no answer: in the circuits, the lanes and the limits. `has_failed` says that a failure of
/// its request is counted already. Answers what it means.
pub(crate) fn settle(
    worker: &Worker,
    target: &Target,
    attempted: &Attempted,
    permits: Permits,
    has_failed: bool,
) -> Consequence {
    let (record, verdict, clock) = (&*attempted.record, &attempted.judged.verdict, worker.app.clock);
    let teaches = verdict::class(verdict.class).teaches(was_slept_through(record, record.fault, clock));
    if teaches == Teaches::Failed && target.request.is_first(record.number) {
        target.upstream.first_failed(target.subject(), clock.at(record.began));
    }
    let ending = Ending { target, record, verdict, fault: record.fault, used_tokens: None, has_failed };
    let consequence = ending.consequence(clock);
    let Permits { limits, circuits, expense, turns } = permits;
    limits.settle(consequence.settlement, consequence.feedback);
    if let Some(expense) = expense {
        expense.settle(&Ended { settlement: billed(record, &consequence), usage: None, is_whole: false });
    }
    let consequence = conclude(worker, target, circuits, record, consequence);
    // Only when its lanes have heard of it: until then it is under way.
    drop(turns);
    consequence
}

/// What an attempt that is no answer has cost in money: an error that was answered is billed by nobody, though it may
/// count in a provider's limits.
pub(super) fn billed(record: &Record, consequence: &Consequence) -> Settlement {
    let is_error = record.status.is_some_and(|status| !(200..300).contains(&status));
    if is_error { Settlement::Refund } else { consequence.settlement }
}

/// Draws a consequence for circuits and lanes. Answers what is left of it when the lane has heard of it.
pub(crate) fn conclude(
    worker: &Worker,
    target: &Target,
    circuits: CircuitPermits,
    record: &Record,
    mut consequence: Consequence,
) -> Consequence {
    let (upstream, subject) = (&target.upstream, target.subject());
    let said = match consequence.counts {
        Outcome::Success => None,
        _ => Said::of(record, consequence.hears).map(Arc::new),
    };
    if let Some(pause) = consequence.pause {
        let (reached, sent) = (subject.reached(consequence.reach), worker.app.clock.at(record.began));
        let log = || upstream.experience().served.clone();
        let was_alone = upstream.gate.look(|queue, _| queue.concurrency().working() == 0);
        let telling = Telling { pause, sent, was_alone };
        consequence = consequence.heard_by_lane(upstream.lanes.told(&reached, telling, said.clone(), log));
    }
    let duration = record.first_content.get().unwrap_or(record.elapsed);
    let policy = (&mut *worker.judge.borrow_mut(), &*upstream.policy);
    upstream.circuits.settle(circuits, subject, &consequence, said, duration, policy);
    consequence
}

/// Whether an attempt was cut off though its provider had nothing to do with it: the machine slept while it was under
/// way, and connections do not outlive that.
fn was_slept_through(record: &Record, fault: Option<Fault>, clock: Clock) -> bool {
    fault.is_some() && clock.has_slept_since(clock.at(record.began))
}
