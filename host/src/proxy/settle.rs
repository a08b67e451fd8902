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
use crate::upstream::consequence::{Circumstances, Consequence};
use crate::upstream::said::Said;
use spillway_resilience::{Feedback, Outcome as Counted, Pause, Settlement};
use spillway_sdk::{Advice, AttemptFacts, Class, Fault, Phase, Verdict};
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
    /// What it cost.
    pub settlement: Settlement,
    /// How the next attempt waits in a lane, if it does.
    pub paces: Option<Pacing>,
}

/// How the next attempt waits in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// For its turn, as long as there is patience and others are served: the upstream has said "too much", or is taken to
    /// have said so.
    Turn,
    /// For a pause that a failure has named. It is a retry like any other.
    Pause,
}

/// Records an attempt that is no answer: in the circuits, the lanes and the limits. `has_failed` says that a failure of
/// its request is counted already.
pub fn record(worker: &Worker, target: &Target, attempted: Attempted, has_failed: bool) -> Recorded {
    let Attempted { record, held, judged, permits: Permits { entered, admission }, note } = attempted;
    let verdict = judged.verdict;
    let settlement = settlement(&record, &verdict);
    let clock = worker.shared.clock;
    entered.settle(settlement, feedback(target, &record, &verdict, clock));
    if verdict.class == Class::Failure && target.request.is_first(record.number) {
        target.upstream.first_failed(target.subject(), clock.at(record.began));
    }
    let paces = conclude(worker, target, admission, &record, &verdict, has_failed);
    Recorded { record, held, verdict, note, settlement, paces }
}

/// Draws the consequence of a verdict for circuits and lanes. Answers whether callers wait in a lane from here on.
pub fn conclude(
    worker: &Worker,
    target: &Target,
    admission: Admission,
    record: &Record,
    verdict: &Verdict,
    has_failed: bool,
) -> Option<Pacing> {
    let (upstream, clock) = (&target.upstream, worker.shared.clock);
    let config = &upstream.config;
    let circumstances = Circumstances {
        kind: config.breaker_kind,
        named: if verdict.cool_off.is_some() { record.retry_after() } else { None },
        named_pause_max: config.pacing.named_pause_max,
        has_failed_before: has_failed,
        has_come_back: target.request.has_come_back(),
        was_slept_through: was_slept_through(record, clock),
        suspects_overload: verdict.class == Class::Failure
            && record.status.is_some()
            && record.elapsed <= config.retry.quick_attempt_max
            && upstream.experience().trial.suspects_overload(target.subject().model_key()),
    };
    let mut consequence = Consequence::of(verdict, target.subject(), circumstances);
    let said = if verdict.class == Class::Success { None } else { Said::of(record, verdict).map(Arc::new) };
    let fruitless = consequence.too_much.and_then(|pause| {
        let (reach, sent) = (&consequence.reach, clock.at(record.began));
        upstream.lanes.told(reach, pause, sent, said.clone(), || upstream.experience().served.clone())
    });
    // What a lane deals with does not count against a circuit.
    if fruitless == Some(false) && consequence.counts_for_upstream == Counted::Overloaded {
        consequence.counts_for_upstream = Counted::Throttled;
    }
    let duration = record.first_content.get().unwrap_or(record.elapsed);
    let mut judge = worker.judge.borrow_mut();
    upstream.circuits.settle(admission, &consequence, said, duration, &mut judge, &upstream.policy);
    fruitless?;
    Some(match (verdict.class, consequence.too_much) {
        (Class::Failure, Some(Pause::Named(_) | Pause::Ordered(_))) => Pacing::Pause,
        _ => Pacing::Turn,
    })
}

/// What an attempt says about the upstream's room for calls.
pub fn feedback(target: &Target, record: &Record, verdict: &Verdict, clock: Clock) -> Feedback {
    match verdict.class {
        Class::Success => match record.first_content.get() {
            Some(first_token) => Feedback::Answered { first_token, input_tokens: target.estimate.input },
            // A preamble was passed on, and no content has followed.
            None => Feedback::Neutral,
        },
        Class::Failure if record.fault == Some(Fault::FirstContentTimeout) => overdue(target, record, clock),
        // What asks for less load is paced.
        Class::Overloaded
        | Class::Throttled
        | Class::Ignored
        | Class::Failure
        | Class::Rejected
        | Class::Unauthorized
        | Class::Exhausted => Feedback::Neutral,
    }
}

/// Whether an attempt was cut off though its provider had nothing to do with it: the machine slept while it was under way,
/// and connections do not outlive that.
fn was_slept_through(record: &Record, clock: Clock) -> bool {
    record.fault.is_some() && clock.has_slept_since(clock.at(record.began))
}

/// What an attempt says about room whose first content did not come in time.
pub fn overdue(target: &Target, record: &Record, clock: Clock) -> Feedback {
    let hangs_alone = target.upstream.experience().promptness.hangs_alone(clock.at(record.began), clock.now());
    if hangs_alone || was_slept_through(record, clock) { Feedback::Neutral } else { Feedback::TimedOut }
}

/// What a failed call cost. A provider that refuses does not count; one that fails may have.
fn settlement(record: &Record, verdict: &Verdict) -> Settlement {
    if record.phase == Phase::Connecting {
        return Settlement::Refund;
    }
    match verdict.class {
        Class::Rejected | Class::Unauthorized | Class::Throttled | Class::Exhausted | Class::Overloaded => {
            Settlement::Refund
        }
        Class::Success | Class::Ignored | Class::Failure => Settlement::AsEstimated,
    }
}

/// Whether a verdict makes the provider's response the caller's answer, rather than a failure to serve it.
pub fn is_answer(verdict: &Verdict) -> bool {
    match verdict.class {
        Class::Success | Class::Rejected | Class::Unauthorized => true,
        Class::Ignored => verdict.advice == Advice::GiveUp,
        Class::Failure | Class::Overloaded | Class::Throttled | Class::Exhausted => false,
    }
}
