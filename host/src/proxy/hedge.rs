//! One attempt at an upstream, and where that is switched on, a second one beside it when the first is late.

use crate::observe::recording::Note;
use crate::policy::Judged;
use crate::proxy::attempt::{self, Elsewhere, Ended, Held, Record};
use crate::proxy::attempts::{is_answer, record};
use crate::proxy::call::Call;
use crate::proxy::trace::Story;
use crate::proxy::worker::Worker;
use crate::upstream::circuit::Admission;
use crate::upstream::client::{Client, Connection};
use crate::upstream::gate::{Asked, Entered};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use spillway_resilience::{Hedge, HedgeSettings, Priority, Race, Spend, when_to_hedge};
use spillway_sdk::{AttemptFacts, Class};
use std::cell::Cell;
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

/// How long the head of an answer may take on a connection that may be dead, while nobody knows what is usual. Where that is
/// known, it is five times as much.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Makes an attempt, and hedges it as far as settings, budget, limits and circuits allow. Hedges are part of the attempt
/// and share its `number`.
///
/// Where the attempt goes out over a connection that was unused for a while, and nothing is heard of it for suspiciously
/// long, a second one goes out over a new connection, whatever the settings say: the first may be speaking to nobody.
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
    let connection = client.reuse(call.is_repeatable());
    let may_be_dead = connection.as_ref().is_some_and(Connection::may_be_dead);
    let heard = Cell::new(false);
    let run = run(worker, client, connection, call, number, first, &heard);
    // Nobody waits for what is of low priority, so nobody should pay for it twice.
    let hedges_late_ones =
        call.upstream.config.hedge.enabled && call.is_repeatable() && call.caller.priority != Priority::Low;
    let silence_max =
        (may_be_dead && call.is_repeatable()).then(|| call.upstream.circuits.overdue_after().unwrap_or(SILENCE_MAX));
    let settings = match (hedges_late_ones, silence_max) {
        (true, _) => call.upstream.config.hedge,
        (false, Some(delay_min)) => HedgeSettings { enabled: true, max_hedges: 1, delay_min },
        (false, None) => return finished(run.await, story),
    };
    let mut running = FuturesUnordered::new();
    running.push(run);
    let (mut hedges, mut latest) = (0, Instant::now());
    loop {
        let race = Race {
            elapsed: latest.elapsed(),
            usual: match hedges_late_ones {
                true => call.upstream.circuits.usual_first_content().or(silence_max),
                false => silence_max,
            },
            in_flight: u32::try_from(running.len()).unwrap_or(u32::MAX),
            hedges,
            // What follows a failure of all is for the retries to decide: they wait, as a hedge would not.
            failed: false,
            committed: false,
        };
        let is_alive = !hedges_late_ones && heard.get();
        let decide =
            || when_to_hedge(&settings, race, &mut call.upstream.experience().hedge_budget, worker.shared.clock.now());
        let alarm = match (!is_alive).then(decide) {
            Some(Hedge::Send) => {
                hedges += 1;
                match permits_at_once(worker, call) {
                    Some(permits) => {
                        latest = Instant::now();
                        let after_ms = race.elapsed.as_millis();
                        let connection = if silence_max.is_some() && !heard.get() {
                            story.tell(&format!(
                                "a second connection after {after_ms} ms: nothing was heard on an old one"
                            ));
                            client.forget_unused();
                            None
                        } else {
                            story.tell(&format!("hedged after {after_ms} ms"));
                            client.reuse(true)
                        };
                        call.upstream.metrics.hedge();
                        running.push(self::run(worker, client, connection, call, number, permits, &heard));
                    }
                    None => {
                        call.upstream.experience().hedge_budget.refund(Spend::Hedge);
                        story.tell("no hedge: no room for it");
                    }
                }
                continue;
            }
            Some(Hedge::After(wait)) => Some(wait),
            Some(Hedge::Await(_) | Hedge::Fail(_)) | None => None,
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
    connection: Option<Connection>,
    call: &Rc<Call>,
    number: u32,
    mut permits: Permits,
    heard: &Cell<bool>,
) -> Result<Attempted, EndedElsewhere> {
    permits.entered.sent();
    permits.admission.sent();
    let Ended { record, held, elsewhere } = attempt::make(client, connection, call, number, heard).await;
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
