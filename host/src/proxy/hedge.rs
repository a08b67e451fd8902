//! One attempt at an upstream, and where that is switched on, a second one beside it when the first is late.

use crate::proxy::attempt::{Attempt, Attempted, EndedElsewhere};
use crate::proxy::permits::Permits;
use crate::proxy::settle::settle;
use crate::proxy::spending::Expense;
use crate::proxy::target::Target;
use crate::proxy::trace::RequestTrace;
use crate::proxy::worker::Worker;
use crate::upstream::client::Connection;
use crate::upstream::gate::Admission;
use crate::upstream::verdict::is_answer;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use spillway_resilience::{Hedge, HedgeSettings, Priority, Race, Spend, when_to_hedge};
use std::cell::Cell;
use std::time::Duration;
use tokio::time::Instant;

/// How long the head of an answer may take on a connection that may be dead, while nobody knows what is usual. Where
/// that is known, it is five times as much.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Why a second call may go out beside one that is under way, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    settings: HedgeSettings,
    /// Whether one goes out beside a call that is late.
    of_late_ones: bool,
    /// How long nothing may be heard on a connection that may be dead.
    silence_max: Option<Duration>,
}

impl Plan {
    /// What is planned for a call that goes out over this connection; for most, nothing.
    ///
    /// Late ones get a second call where that is switched on. One whose connection was unused for a while, and of which
    /// nothing is heard for suspiciously long, gets one over a new connection, whatever the settings say: the first may
    /// be speaking to nobody.
    pub(crate) fn of(target: &Target, connection: Option<&Connection>) -> Option<Plan> {
        if !target.is_repeatable() {
            return None;
        }
        // Nobody waits for what is of low priority, so nobody should pay for it twice.
        let of_late_ones = target.upstream.config.hedge.enabled && target.request.caller.priority != Priority::Low;
        let may_be_dead = connection.is_some_and(Connection::may_be_dead);
        let silence_max = may_be_dead.then(|| target.upstream.circuits.overdue_after().unwrap_or(SILENCE_MAX));
        let settings = match (of_late_ones, silence_max) {
            (true, _) => target.upstream.config.hedge.settings(),
            (false, Some(delay_min)) => HedgeSettings { enabled: true, max_hedges: 1, delay_min },
            (false, None) => return None,
        };
        Some(Plan { settings, of_late_ones, silence_max })
    }
}

/// Makes an attempt as [`Attempt::make`] does, and races it against others as far as plan, budget, limits and circuits
/// allow. They are part of the attempt and share its number.
///
/// The first call that brings an answer wins; the others are cancelled by being dropped. Of several that fail, the last
/// to fail is returned, and the others are recorded here.
///
/// # Errors
/// When it ended without any doing of the upstream's.
pub(crate) async fn race(
    attempt: Attempt<'_>,
    plan: Plan,
    connection: Option<Connection>,
    first: Permits,
    trace: &mut RequestTrace,
) -> Result<(Attempted, Permits), EndedElsewhere> {
    let Attempt { worker, client, target, .. } = attempt;
    let Plan { settings, of_late_ones, silence_max } = plan;
    let heard = Cell::new(false);
    let mut running = FuturesUnordered::new();
    running.push(attempt.make(connection, first, &heard));
    let (mut hedges, mut latest) = (0, Instant::now());
    loop {
        let race = Race {
            elapsed: latest.elapsed(),
            usual: match of_late_ones {
                true => target.upstream.circuits.usual_first_content().or(silence_max),
                false => silence_max,
            },
            in_flight: u32::try_from(running.len()).unwrap_or(u32::MAX),
            hedges,
            // What follows a failure of all is for the retries to decide: they wait, as a hedge would not.
            failed: false,
            committed: false,
        };
        let is_alive = !of_late_ones && heard.get();
        let decide =
            || when_to_hedge(&settings, race, &mut target.upstream.experience().hedge_budget, worker.app.clock.now());
        let alarm = match (!is_alive).then(decide) {
            Some(Hedge::Send) => {
                hedges += 1;
                match permits_at_once(worker, target) {
                    Some(permits) => {
                        latest = Instant::now();
                        let after_ms = race.elapsed.as_millis();
                        let connection = if silence_max.is_some() && !heard.get() {
                            trace.tell(&format!(
                                "a second connection after {after_ms} ms: nothing was heard on an old one"
                            ));
                            client.forget_unused();
                            None
                        } else {
                            trace.tell(&format!("hedged after {after_ms} ms"));
                            client.reuse(true)
                        };
                        target.upstream.metrics.hedge();
                        running.push(attempt.make(connection, permits, &heard));
                    }
                    None => {
                        target.upstream.experience().hedge_budget.refund(Spend::Hedge);
                        trace.tell("no hedge: no room for it");
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
        let (attempted, permits) = trace.attempted(ended)?;
        let answers = is_answer(&attempted.judged.verdict) && attempted.response.is_some();
        if answers || running.is_empty() {
            return Ok((attempted, permits));
        }
        // The attempt that is returned counts for its request.
        settle(worker, target, &attempted, permits, true);
    }
}

/// What a further call needs, if all of it can be had this moment.
fn permits_at_once(worker: &Worker, target: &Target) -> Option<Permits> {
    // Where calls wait for their turn, a second one beside the first would be somebody else's.
    if !target.upstream.lanes.of(target.subject()).is_empty() {
        return None;
    }
    let now = worker.app.clock.now();
    let Ok(Admission::Admitted(limits)) = target.upstream.gate.ask(target.demand(), now) else { return None };
    // It is no request of its own, and what it costs is.
    let expense = Expense::reserve(worker, target, false).ok()?;
    let circuits = target.upstream.circuits.admit(target.subject()).ok()?;
    Some(Permits { limits, circuits, expense, turns: Vec::new() })
}
