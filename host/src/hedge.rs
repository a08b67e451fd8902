//! One attempt at an upstream, and where that is switched on, a second one beside it when the first is late.

use crate::attempt::{self, Elsewhere, Ended, Held, Record};
use crate::call::Call;
use crate::circuit::Admission;
use crate::client::Client;
use crate::door::{Asked, Entered};
use crate::explain::Story;
use crate::policy::Judged;
use crate::recording::Note;
use crate::request::{is_answer, record};
use crate::worker::Worker;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use spillway_resilience::{Hedge, Priority, Race, Spend, when_to_hedge};
use spillway_sdk::{AttemptFacts, Class};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// What a call holds while it is under way. Dropped with it, it counts nowhere but in the limits, since the provider
/// may bill what nobody waits for any more.
#[derive(Debug)]
pub struct Permits {
    /// Its quota and its place in flight.
    pub entered: Entered,
    /// Its way through the circuits.
    pub admission: Admission,
}

/// An attempt that has come as far as its first content, or failed before.
#[derive(Debug)]
pub struct Attempted {
    /// What policies may see of it.
    pub record: Rc<Record>,
    /// Its response, when one came.
    pub held: Option<Held>,
    /// What it was judged to be.
    pub judged: Judged,
    /// What it still holds.
    pub permits: Permits,
    /// What is recorded of it, where that is switched on.
    pub note: Option<Note>,
}

/// An attempt that ended without any doing of the upstream's.
#[derive(Debug)]
pub struct EndedElsewhere {
    /// What ended it.
    pub what: Elsewhere,
    /// How long it took.
    pub elapsed: Duration,
}

/// Makes an attempt, and hedges it as far as settings, budget, limits and circuits allow. Hedges are part of the attempt
/// and share its `number`.
///
/// The first call that brings an answer wins; the others are cancelled by being dropped. Of several that fail, the last
/// to fail is returned, and the others are recorded here.
///
/// # Errors
/// When it ended without any doing of the upstream's.
pub async fn attempt(
    worker: &Rc<Worker>,
    client: &Client,
    call: &Rc<Call>,
    number: u32,
    first: Permits,
    story: &mut Story,
) -> Result<Attempted, EndedElsewhere> {
    let run = run(worker, client, call, number, first);
    let settings = &call.upstream.config.hedge;
    // Nobody waits for what is of low priority, so nobody should pay for it twice.
    if !settings.enabled || !call.is_repeatable() || call.caller.priority == Priority::Low {
        return finished(run.await, story);
    }
    let mut running = FuturesUnordered::new();
    running.push(run);
    let (mut hedges, mut latest) = (0, Instant::now());
    loop {
        let race = Race {
            elapsed: latest.elapsed(),
            usual: call.upstream.circuits.usual_first_content(),
            in_flight: u32::try_from(running.len()).unwrap_or(u32::MAX),
            hedges,
            // What follows a failure of all is for the retries to decide: they wait, as a hedge would not.
            failed: false,
            committed: false,
        };
        let alarm = match when_to_hedge(
            settings,
            race,
            &mut call.upstream.experience().hedge_budget,
            worker.shared.clock.now(),
        ) {
            Hedge::Send => {
                hedges += 1;
                match permits_at_once(worker, call) {
                    Some(permits) => {
                        latest = Instant::now();
                        story.tell(&format!("hedged after {} ms", race.elapsed.as_millis()));
                        call.upstream.metrics.hedge();
                        running.push(self::run(worker, client, call, number, permits));
                    }
                    None => {
                        call.upstream.experience().hedge_budget.refund(Spend::Hedge);
                        story.tell("no hedge: no room for it");
                    }
                }
                continue;
            }
            Hedge::After(wait) => Some(wait),
            Hedge::Await(_) | Hedge::Fail(_) => None,
        };
        let ended = tokio::select! {
            Some(ended) = running.next() => ended,
            () = tokio::time::sleep(alarm.unwrap_or_default()), if alarm.is_some() => continue,
        };
        let attempted = finished(ended, story)?;
        let verdict = &attempted.judged.verdict;
        let answers = (verdict.class == Class::Success || is_answer(verdict)) && attempted.held.is_some();
        if answers || running.is_empty() {
            return Ok(attempted);
        }
        // The attempt that is returned counts for its request.
        record(worker, call, attempted, true);
    }
}

/// What a further call needs, if all of it can be had this moment.
fn permits_at_once(worker: &Worker, call: &Call) -> Option<Permits> {
    // Where calls wait for their turn, a second one beside the first would be somebody else's.
    if !call.upstream.lanes.of(call.subject()).is_empty() {
        return None;
    }
    let now = worker.shared.clock.now();
    let Ok(Asked::Entered(entered)) = call.upstream.door.ask(call.demand(), now) else { return None };
    let admission = call.upstream.circuits.admit(call.subject()).ok()?;
    Some(Permits { entered, admission })
}

async fn run(
    worker: &Rc<Worker>,
    client: &Client,
    call: &Rc<Call>,
    number: u32,
    mut permits: Permits,
) -> Result<Attempted, EndedElsewhere> {
    permits.entered.sent();
    permits.admission.sent();
    let Ended { record, held, elsewhere } = attempt::make(client, call, number).await;
    if let Some(what) = elsewhere {
        // The permits are dropped here, which counts nowhere: the upstream had no part in it.
        return Err(EndedElsewhere { what, elapsed: record.elapsed });
    }
    let record = Rc::new(record);
    let judged = worker.judge.borrow_mut().classify(&call.upstream.policy, Rc::clone(&record) as Rc<dyn AttemptFacts>);
    call.upstream.metrics.attempt(judged.verdict.class);
    call.upstream.learn(&record, &judged.verdict);
    let note = worker.shared.recorder.as_ref().map(|recorder| recorder.note(call, &record, &judged));
    Ok(Attempted { record, held, judged, permits, note })
}

fn finished(ended: Result<Attempted, EndedElsewhere>, story: &mut Story) -> Result<Attempted, EndedElsewhere> {
    match &ended {
        Ok(attempted) => story.attempt(&attempted.record, &attempted.judged),
        Err(ended) => story.attempt_ended(ended.what, ended.elapsed),
    }
    ended
}
