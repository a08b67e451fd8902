//! What an attempt means for what it held: the limits, the circuits, the lanes and what is learnt of its upstream.

use crate::observe::recording::Note;
use crate::policy::Record;
use crate::proxy::attempt::Attempted;
use crate::proxy::hold::Held;
use crate::proxy::permits::Permits;
use crate::proxy::target::Target;
use crate::proxy::worker::Worker;
use crate::runtime::clock::Clock;
use crate::upstream::circuit::Admission;
use crate::upstream::said::Said;
use crate::upstream::verdict;
use spillway_resilience::{Circumstances, Consequence, FirstContent, Outcome, Progress, Teaches};
use spillway_sdk::{AttemptFacts, Class, Fault, Phase, Verdict};
use std::rc::Rc;
use std::sync::Arc;

/// What remains of an attempt when it has given back what it held.
#[derive(Debug)]
pub struct Recorded {
    /// What policies may see of it.
    pub record: Rc<Record>,
    /// Its response, when one came.
    pub held: Option<Held>,
    /// What it was judged to be.
    pub verdict: Verdict,
    /// What is recorded of it.
    pub note: Option<Note>,
    /// What that means.
    pub consequence: Consequence,
}

/// How an attempt has ended, as far as it matters for what that means.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
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
    /// What it means.
    pub fn consequence(&self, clock: Clock) -> Consequence {
        let &Ending { target, record, verdict, fault, used_tokens, has_failed } = self;
        let (upstream, began) = (&target.upstream, clock.at(record.began));
        let circumstances = Circumstances {
            breaker: upstream.config.breaker_kind,
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

/// Records an attempt that is no answer: in the circuits, the lanes and the limits. `has_failed` says that a failure of
/// its request is counted already.
pub fn record(worker: &Worker, target: &Target, attempted: Attempted, has_failed: bool) -> Recorded {
    let Attempted { record, held, judged, permits: Permits { entered, admission }, note } = attempted;
    let verdict = judged.verdict;
    let clock = worker.shared.clock;
    let teaches = verdict::class(verdict.class).teaches(was_slept_through(&record, record.fault, clock));
    if teaches == Teaches::Failed && target.request.is_first(record.number) {
        target.upstream.first_failed(target.subject(), clock.at(record.began));
    }
    let (fault, used_tokens) = (record.fault, None);
    let ending = Ending { target, record: &record, verdict: &verdict, fault, used_tokens, has_failed };
    let consequence = ending.consequence(clock);
    entered.settle(consequence.settlement, consequence.feedback);
    let consequence = conclude(worker, target, admission, &record, consequence);
    Recorded { record, held, verdict, note, consequence }
}

/// Draws a consequence for circuits and lanes. Answers what is left of it when the lane has heard of it.
pub fn conclude(
    worker: &Worker,
    target: &Target,
    admission: Admission,
    record: &Record,
    mut consequence: Consequence,
) -> Consequence {
    let (upstream, subject) = (&target.upstream, target.subject());
    let said = match consequence.counts {
        Outcome::Success => None,
        _ => Said::of(record, consequence.hears).map(Arc::new),
    };
    if let Some(pause) = consequence.pause {
        let (reached, sent) = (subject.reached(consequence.reach), worker.shared.clock.at(record.began));
        let log = || upstream.experience().served.clone();
        consequence = consequence.heard_by_lane(upstream.lanes.told(&reached, pause, sent, said.clone(), log));
    }
    let duration = record.first_content.get().unwrap_or(record.elapsed);
    let policy = (&mut *worker.judge.borrow_mut(), &*upstream.policy);
    upstream.circuits.settle(admission, subject, &consequence, said, duration, policy);
    consequence
}

/// Whether an attempt was cut off though its provider had nothing to do with it: the machine slept while it was under way,
/// and connections do not outlive that.
fn was_slept_through(record: &Record, fault: Option<Fault>, clock: Clock) -> bool {
    fault.is_some() && clock.has_slept_since(clock.at(record.began))
}
