//! The attempt loop: the order in which a request is let out, sent, judged, and sent again.

use crate::observe::metrics::Outcome;
use crate::observe::recording::Note;
use crate::policy::Record;
use crate::proxy::attempt::{Attempt, Attempted};
use crate::proxy::body::Body;
use crate::proxy::call::Call;
use crate::proxy::hedge;
use crate::proxy::hold::Held;
use crate::proxy::permits::{Charges, Permits};
use crate::proxy::refusal::{Kind, Owner, Refusal};
use crate::proxy::served::Served;
use crate::proxy::settle::{self, Pacing, Recorded, is_answer};
use crate::proxy::trace::Story;
use crate::proxy::unserved::{Blocked, Failed, Unserved, circuit_open, named, refusal_for};
use crate::proxy::worker::Worker;
use crate::runtime::clock::{Clock, random};
use crate::upstream::Upstream;
use crate::upstream::circuit::Refused;
use crate::upstream::gate::{Door, Entered};
use crate::upstream::lanes::Lane;
use crate::upstream::patience::{self, Patience};
use crate::upstream::scope::Protects;
use http::Response;
use spillway_resilience::{
    Demand, Exceeded, Full, Obstacle, Rejected, Saturated, Settlement, Spend, Step, Ticket, Timestamp, TurnedAway,
    next_step,
};
use spillway_sdk::{Advice, AttemptFacts, Class, Phase, RetryDecision, Verdict};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A wait at a limit that is shorter is no wait: nothing was in the way.
const WAIT_WORTH_TELLING: Duration = Duration::from_millis(1);
/// A run of failing attempts whose chance is below this is no chance any more, so that retries are of no use. A caller
/// that repeats by itself is left to do so sooner: then a provider that fails every time gets one call more than it would
/// without us, and a hiccup is survived by the caller's own, longer waits.
const REPEAT_CHANCE_MIN: f64 = 1e-7;
const REPEAT_CHANCE_MIN_BESIDE_THE_CALLERS: f64 = 3e-5;

/// The attempt loop: everything between a request that is understood and an answer that is committed.
///
/// As long as there is patience it waits for limits and circuits; after that it gives up at once.
///
/// # Errors
/// When nobody served the request.
pub async fn attempts(
    worker: &Rc<Worker>,
    call: &Rc<Call>,
    patience: Patience,
    mut story: Story,
) -> Result<Response<Body>, Unserved> {
    let upstream = &call.upstream;
    let client = worker.client(upstream);
    let clock = worker.shared.clock;
    let circuit_patience = patience.circuits.min(call.deadline);
    let limit_patience = patience.limits.min(call.deadline);
    let subject = call.subject();
    let came = clock.now();
    let mut last: Option<Failed> = None;
    let mut number = 0;
    // A request counts one failure at most: its retries are no independent evidence.
    let mut has_failed = false;
    // Where it has waited before, so that a call that is refused keeps its place.
    let mut places = Places::default();

    // What a caller repeats is a retry like ours.
    if call.has_come_back() {
        let wait = held_back(call, clock);
        if !wait.is_zero() {
            clock.sleep(wait).await;
            story.waited("a retry", wait);
        }
    }

    // The tenant's own limits are charged once, however many attempts the request takes; the dearest of them counts.
    let mut charge: Option<Entered> = None;
    let mut was_counted = false;
    // A retry that was decided on, and not sent yet.
    let mut retry: Option<RetryToken<'_>> = None;
    loop {
        // A look at the circuits: behind an open one there is no use in waiting for limits.
        if let Err(refused) = upstream.circuits.peek(subject) {
            match refused_by_circuit(call, &refused, circuit_patience, clock, &mut story).await {
                None => continue,
                Some(blocked) => return Err(Unserved::new(last, blocked, story)),
            }
        }

        // The tenant's own limits.
        if let (None, Some(door)) = (&charge, &call.caller.door) {
            match wait_at(door, call, limit_patience, clock, &mut story, "its tenant's limit").await {
                Ok(entered) => charge = Some(entered),
                Err(away) => return Err(Unserved::new(None, limited(tenant_of(call), &away), story)),
            }
        }

        // The lanes of what has said "too much": whoever has the patience goes out at the rate that is served.
        for lane in upstream.lanes.of(subject) {
            if let Err(away) = places.wait_in(&lane, call, limit_patience, clock, &mut story).await {
                return Err(Unserved::new(last, paced(call, &lane, &away), story));
            }
        }

        // The limits: a quota that is overrun is refused by the provider anyway, and costs a call.
        let entered = match wait_at(&upstream.door, call, limit_patience, clock, &mut story, "the limit").await {
            Ok(entered) => entered,
            Err(away) => {
                let owner = Owner::Upstream(upstream.name.to_string());
                return Err(Unserved::new(last, limited(owner, &away), story));
            }
        };

        // The breaker, last, after all waits: what waits must not hold a probe.
        let admission = match upstream.circuits.admit(subject) {
            Ok(admission) => admission,
            Err(refused) => {
                drop(entered);
                match refused_by_circuit(call, &refused, circuit_patience, clock, &mut story).await {
                    None => continue,
                    Some(blocked) => return Err(Unserved::new(last, blocked, story)),
                }
            }
        };

        // Send, hold until first content, classify.
        let permits = Permits { entered, admission };
        if let Some(charge) = &mut charge {
            charge.sent();
        }
        if let Some(retry) = retry.take() {
            retry.sent();
        }
        number += 1;
        let connection = client.reuse(call.is_repeatable());
        let attempt = Attempt { worker, client: &client, call, number };
        let ended = match hedge::Plan::of(call, connection.as_ref()) {
            None => story.attempted(attempt.make(connection, permits, &Cell::default()).await),
            Some(plan) => hedge::race(attempt, plan, connection, permits, &mut story).await,
        };
        let mut attempted = match ended {
            Ok(attempted) => attempted,
            Err(ended) => {
                let body_timeout = worker.shared.config.server.body_timeout;
                return Err(Unserved::elsewhere(call, ended, body_timeout, story));
            }
        };

        // A request that is taken without the question for usage tells that the question was the mistake.
        if call.body_demanding_usage.is_some()
            && !call.demands_usage.get()
            && attempted.judged.verdict.class == Class::Success
        {
            upstream.stop_asking_for_usage();
        }

        // Commit.
        if attempted.judged.verdict.class == Class::Success
            && let Some(held) = attempted.held.take()
        {
            return Ok(served(held, attempted, charge, has_failed).forward(worker, call, story));
        }

        // Record.
        let is_probe = attempted.permits.admission.is_probe();
        let Recorded { record, held, verdict, note, settlement, paces } =
            settle::record(worker, call, attempted, has_failed);
        has_failed |= verdict.class == Class::Failure;
        was_counted |= settlement != Settlement::Refund;
        if let (false, Some(charge)) = (was_counted, &mut charge) {
            charge.not_counted();
        }

        // What we have added ourselves must not be its caller's mistake.
        if verdict.class == Class::Rejected && refuses_what_we_ask_for(call, &record) {
            call.demands_usage.set(false);
            story.tell("again without asking for usage, which this upstream seems not to know");
            continue;
        }

        // What is the caller's own affair is answered as it is.
        if is_answer(&verdict)
            && let Some(held) = held
        {
            let served = Served::settled(held, record, verdict, Outcome::Answered);
            return Ok(served.forward(worker, call, story));
        }

        // Again, or out.
        // What makes something that stays is sent again only if it has certainly not been done.
        let untouched =
            record.phase == Phase::Connecting || matches!(verdict.class, Class::Throttled | Class::Overloaded);
        // Where nobody is served and nobody else waits, a turn in a lane is an attempt like others.
        let paces =
            paces.filter(|_| number < upstream.config.retry.max_attempts || upstream.lanes.is_of_use(subject, came));
        let may_repeat = call.is_repeatable() || call.asked.creates && untouched;
        // Where part of an answer has come, another one would be made and paid for that its caller has not asked for.
        let step = if may_repeat && !held.as_ref().is_some_and(Held::is_part) {
            next(worker, call, &record, &verdict, number, paces, note)
        } else {
            Next::GiveUp(None)
        };
        let refusal = refusal_for(call, &record, &verdict);
        let may_be_its_own = !is_probe && upstream.circuits.are_trusted(subject);
        let failed = last.insert(Failed { held, record, verdict, may_be_its_own, refusal });
        let give_up = match step {
            Next::Paced => {
                story.tell("waits for its turn");
                continue;
            }
            Next::RetryAfter(wait) => match may_retry(call, number, wait, circuit_patience, clock) {
                Ok((token, wait)) => {
                    retry = Some(token);
                    if !wait.is_zero() {
                        story.waited("a retry", wait);
                        clock.sleep(wait).await;
                    }
                    continue;
                }
                Err(NoRetry { why, wait }) => {
                    story.tell(&format!("no retry: {why}"));
                    wait
                }
            },
            Next::GiveUp(wait) => wait,
        };
        // What is told to the caller is never less than what it would wait here.
        let own = Some(upstream.lanes.wait(subject)).filter(|wait| !wait.is_zero());
        failed.refusal.retry_after = give_up.or(failed.refusal.retry_after).max(own);
        let blocked = Blocked { refusal: failed.refusal.clone(), outcome: Outcome::Failed };
        return Err(Unserved::new(last, blocked, story));
    }
}

/// The places in lanes that a request has had.
#[derive(Default)]
struct Places(Vec<(Protects, Ticket)>);

impl Places {
    /// Goes through a lane. Whoever had a turn that was refused comes before those who came later.
    async fn wait_in(
        &mut self,
        lane: &Lane,
        call: &Call,
        patience: Instant,
        clock: Clock,
        story: &mut Story,
    ) -> Result<(), TurnedAway> {
        let began = Instant::now();
        let former = self.0.iter().find(|(protects, _)| *protects == lane.protects).map(|(_, ticket)| *ticket);
        // A lane counts turns: what a call costs is for the limits.
        let demand = Demand { tokens: 0, ..call.demand() };
        let entered = patience::enter_again(&lane.door, demand, former, patience, clock).await;
        if began.elapsed() >= WAIT_WORTH_TELLING {
            story.waited("its turn", began.elapsed());
        }
        // The turn is all that it takes; there is nothing to give back.
        if let (None, Some(ticket)) = (former, entered?.ticket()) {
            self.0.push((lane.protects.clone(), ticket));
        }
        Ok(())
    }
}

/// What a caller hears who has not the patience for a lane.
fn paced(call: &Call, lane: &Lane, away: &TurnedAway) -> Blocked {
    let upstream = named(call, &lane.protects);
    let refusal = Refusal::after(Kind::Paced { upstream, said: lane.said() }, away.retry_after);
    Blocked { refusal, outcome: Outcome::Limited }
}

/// Goes through a door, waiting as long as there is patience.
async fn wait_at(
    door: &Arc<Door>,
    call: &Call,
    patience: Instant,
    clock: Clock,
    story: &mut Story,
    what: &str,
) -> Result<Entered, TurnedAway> {
    let began = Instant::now();
    let result = patience::enter(door, call.demand(), patience, clock).await;
    if began.elapsed() >= WAIT_WORTH_TELLING {
        story.waited(what, began.elapsed());
    }
    result
}

/// What a caller hears whom a limit does not let in.
fn limited(owner: Owner, away: &TurnedAway) -> Blocked {
    let kind = match away.obstacle {
        Obstacle::Limit(Exceeded { dimension, limit, .. }) => Kind::LimitExceeded { owner, dimension, limit },
        Obstacle::Saturated(Saturated { limit }) => {
            Kind::Saturated { owner, what: format!("{limit} are in flight, as many as there may be") }
        }
        Obstacle::Paced { .. } | Obstacle::Queue(_) => Kind::Saturated { owner, what: "others came first".into() },
        Obstacle::Full(Full::Queue) => Kind::Saturated { owner, what: "the queue of those who wait is full".into() },
        Obstacle::Full(Full::Tenant) => Kind::Saturated { owner, what: "as many of this tenant's wait as may".into() },
    };
    Blocked { refusal: Refusal::after(kind, away.retry_after), outcome: Outcome::Limited }
}

fn tenant_of(call: &Call) -> Owner {
    // Only a configured tenant has a door, and it has a name.
    Owner::Tenant(call.caller.name.as_deref().unwrap_or_default().to_owned())
}

/// An answer that becomes the caller's, with all that is settled when it ends.
fn served(held: Held, attempted: Attempted, charge: Option<Entered>, has_failed: bool) -> Served {
    let Attempted { record, held: _, judged, permits: Permits { entered, admission }, note: _ } = attempted;
    let charges = Charges { upstream: Some(entered), tenant: charge };
    let (verdict, admission) = (judged.verdict, Some(admission));
    Served { held, record, verdict, outcome: Outcome::Answered, admission, charges, has_failed }
}

/// A token of the retry budget, which goes back to it unless its retry is sent.
struct RetryToken<'a> {
    upstream: &'a Upstream,
    sent: bool,
}

impl<'a> RetryToken<'a> {
    /// Takes one, if there is one.
    fn spend(upstream: &'a Upstream, now: Timestamp) -> Option<Self> {
        let granted = upstream.experience().budget.try_spend(Spend::Retry, now);
        granted.then(|| RetryToken { upstream, sent: false })
    }

    fn sent(mut self) {
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
enum Next {
    /// Another one, as soon as its lane lets it out.
    Paced,
    RetryAfter(Duration),
    /// Nothing here; perhaps later, after this wait.
    GiveUp(Option<Duration>),
}

/// Asks the policy, then the lane or the configured backoff. Attempts and deadline bound them all, but for a lane in
/// which somebody is served: there patience does.
fn next(
    worker: &Worker,
    call: &Call,
    record: &Rc<Record>,
    verdict: &Verdict,
    number: u32,
    paces: Option<Pacing>,
    note: Option<Note>,
) -> Next {
    let settings = &call.upstream.config.retry;
    let remaining = record.remaining();
    let requested = verdict.cool_off.or_else(|| record.retry_after());
    let advice = match verdict.advice {
        Advice::Retry => spillway_resilience::Advice::Retry,
        Advice::NextUpstream => spillway_resilience::Advice::NextUpstream,
        Advice::GiveUp => spillway_resilience::Advice::GiveUp,
    };
    if verdict.advice == Advice::Retry && number < settings.max_attempts {
        let decision = worker.judge.borrow_mut().backoff(&call.upstream.policy, record.clone(), verdict);
        if let Some(mut note) = note {
            note.backed_off(decision);
        }
        match decision {
            Some(RetryDecision::After(wait)) if remaining.is_none_or(|remaining| wait < remaining) => {
                return Next::RetryAfter(wait);
            }
            Some(RetryDecision::After(wait) | RetryDecision::SpoolFor(wait)) => return Next::GiveUp(Some(wait)),
            Some(RetryDecision::NextUpstream | RetryDecision::GiveUp) => return Next::GiveUp(None),
            None => {}
        }
    }
    if paces == Some(Pacing::Turn) && verdict.advice == Advice::Retry {
        return Next::Paced;
    }
    // A lane keeps the pause that the provider has named.
    let wait = if paces.is_some() { None } else { requested };
    match next_step(settings, number, record.elapsed, wait, remaining, advice, random()) {
        Step::RetryAfter(wait) => Next::RetryAfter(wait),
        Step::GiveUp(_) => Next::GiveUp(requested),
    }
}

/// Whether a strict server refuses a request for a field that we have put into it.
fn refuses_what_we_ask_for(call: &Call, record: &Record) -> bool {
    call.demands_usage.get() && memchr::memmem::find(&record.prefix, b"stream_options").is_some()
}

/// Why there is no retry, and the wait that is worth telling.
struct NoRetry {
    why: &'static str,
    wait: Option<Duration>,
}

/// The right to a retry after `wait`, or a longer wait where retries are held back for a moment.
fn may_retry<'a>(
    call: &'a Call,
    attempts: u32,
    wait: Duration,
    circuit_patience: Instant,
    clock: Clock,
) -> Result<(RetryToken<'a>, Duration), NoRetry> {
    let upstream = &*call.upstream;
    // Waiting for a circuit that will still be open is waiting for nothing.
    let blocked = upstream.circuits.call_blocked_until(call.subject()).map(|until| clock.until(until));
    if let Some(blocked) = blocked.filter(|blocked| *blocked > wait && Instant::now() + *blocked > circuit_patience) {
        return Err(NoRetry { why: "the circuit is open", wait: Some(blocked) });
    }
    let chance_min =
        if call.is_repeated_by_its_caller() { REPEAT_CHANCE_MIN_BESIDE_THE_CALLERS } else { REPEAT_CHANCE_MIN };
    if !upstream.circuits.may_repeat(call.subject(), chance_min) {
        return Err(NoRetry { why: "so many failures in a row are no chance", wait: None });
    }
    // Who has come back would go away unserved.
    let is_worth_it = || upstream.config.retry.allows(attempts, upstream.circuits.served_share(call.subject()));
    if !call.has_come_back() && !is_worth_it() {
        return Err(NoRetry { why: "too few are served for another attempt", wait: None });
    }
    let now = clock.now();
    let Some(token) = RetryToken::spend(upstream, now) else {
        return Err(NoRetry { why: "the retry budget is spent", wait: None });
    };
    Ok((token, wait.max(held_back(call, clock))))
}

/// How long a repetition is held back, so as to see whether the load of repetitions does harm. Whoever has not the time
/// for that takes no part in it.
fn held_back(call: &Call, clock: Clock) -> Duration {
    let wait = call.upstream.experience().trial.retries_wait(call.subject().model_key(), clock.now());
    if wait > call.deadline.saturating_duration_since(Instant::now()) / 2 { Duration::ZERO } else { wait }
}

/// Waits for a circuit that refuses, for its cooldown or for somebody else's probe to close it; without the patience for
/// that, says what the caller hears.
async fn refused_by_circuit(
    call: &Call,
    refused: &Refused,
    patience: Instant,
    clock: Clock,
    story: &mut Story,
) -> Option<Blocked> {
    let (began, wait) = (Instant::now(), clock.until(refused.rejected.retry_at()));
    // While a probe is under way its verdict is worth waiting for, however far off the next one is.
    // Who fails slowly may have too much to do, and those who wait would be a herd.
    let patience = if refused.is_slow { began } else { patience };
    let (probed, over) = (matches!(refused.rejected, Rejected::ProbesInFlight { .. }), began >= patience);
    if over || began + wait > patience && !probed {
        let refusal = Refusal::after(circuit_open(call, refused), wait);
        return Some(Blocked { refusal, outcome: Outcome::CircuitOpen });
    }
    let wait = wait.min(patience.saturating_duration_since(began));
    tokio::select! {
        () = clock.sleep(wait) => {}
        () = call.upstream.circuits.changed() => {}
    }
    story.waited("the circuit", began.elapsed());
    None
}
