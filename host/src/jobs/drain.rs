//! Serves what the spool keeps: the same attempt loop, behind the same breakers and limits as live traffic.

use crate::dialect::headers::{KEY_ID_HEADER, MAY_SPEND_HEADER};
use crate::dialect::{Operation, compression};
use crate::jobs::convert::{dialect_of, headers_of, stored};
use crate::keys::table::Key;
use crate::proxy::app::App;
use crate::proxy::attempts::attempts;
use crate::proxy::body::Body;
use crate::proxy::load_share::LoadShare;
use crate::proxy::refusal::advice::Audience;
use crate::proxy::request::{InboundBody, InboundRequest};
use crate::proxy::route::RequestLine;
use crate::proxy::runaway;
use crate::proxy::target::{Target, Targets};
use crate::proxy::trace::RequestTrace;
use crate::proxy::unserved::Unserved;
use crate::proxy::worker::Worker;
use crate::runtime::clock::{Clock, milliseconds, random, wall_unix_ms};
use crate::spool::{ClaimedJob, Lease, Spool, StoreError, StoredResponse};
use crate::tenants::callers::Rights;
use crate::upstream::patience::Patience;
use bytes::Bytes;
use http::{Method, Response};
use http_body_util::BodyExt;
use spillway_resilience::{Backoff, CircuitState, Jitter, Priority};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The longest sleep between two looks at the spool, in case a bell was missed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How often old jobs are purged and counts are shown.
const UPKEEP: Duration = Duration::from_secs(2);
/// Largest answer kept.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Between two calls of the same job. The growth keeps one job that always fails from being the only one tried.
const JOB_BACKOFF: Backoff =
    Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(30), jitter: Jitter::Equal };

/// Serves jobs until the process drains. Runs on a thread of its own, like a worker without a listener.
pub(crate) async fn run(worker: Rc<Worker>, spool: Spool) {
    let app = Arc::clone(&worker.app);
    let concurrency = app.config.spool().map_or(1, |spool| spool.concurrency);
    let running = Rc::new(Cell::new(0));
    let mut upkeep = tokio::time::interval(UPKEEP);
    while !app.is_draining() {
        // Listening begins before looking, so that nothing that happens in between is missed.
        let changed = app.circuit_changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let sleep = claim_what_may_run(&worker, &spool, &running, concurrency).await;
        tokio::select! {
            () = app.clock.sleep(sleep) => {}
            () = app.spool_bell.notified() => {}
            () = &mut changed => {}
            _ = upkeep.tick() => keep_up(&app, &spool).await,
            () = worker.pulse.replaced() => break,
        }
    }
    if app.is_draining() {
        app.idle().await;
    }
    worker.pulse.at_rest().await;
}

/// One of the places for jobs that are being served. It is given back however the job ends.
struct Place {
    running: Rc<Cell<u32>>,
    app: Arc<App>,
}

impl Place {
    fn take(running: &Rc<Cell<u32>>, app: &Arc<App>) -> Place {
        running.set(running.get() + 1);
        Place { running: Rc::clone(running), app: Arc::clone(app) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.running.set(self.running.get() - 1);
        self.app.spool_bell.notify_one();
    }
}

/// Claims and starts jobs, and returns for how long there is nothing more to do.
async fn claim_what_may_run(worker: &Rc<Worker>, spool: &Spool, running: &Rc<Cell<u32>>, concurrency: u32) -> Duration {
    let app = &worker.app;
    let mut sleep = LOOK_AGAIN;
    let upstreams = match spool.runnable_upstreams().await {
        Ok(upstreams) => upstreams,
        Err(error) => {
            tell_unless_shut(&error, "the spool cannot be read");
            return sleep;
        }
    };
    for (name, next_ms) in upstreams {
        loop {
            if running.get() >= concurrency {
                return sleep;
            }
            let now_ms = app.clock.unix_ms();
            if next_ms > now_ms {
                sleep = sleep.min(Duration::from_millis(next_ms - now_ms));
                break;
            }
            let upstream = app.upstreams.get(&name);
            if let Some(until) = upstream.and_then(|upstream| app.chains.blocked_until(upstream)) {
                sleep = sleep.min(app.clock.until(until));
                break;
            }
            match spool.claim(&name, now_ms).await {
                Ok(Some(job)) => {
                    // The process does not end before the job's new state is stored.
                    let (place, share) = (Place::take(running, app), app.take_on());
                    let (worker, spool) = (Rc::clone(worker), spool.clone());
                    let (pulse, id) = (Arc::clone(&worker.pulse), job.job.request_id.clone());
                    tokio::task::spawn_local(pulse.during(id, async move {
                        let _place = place;
                        serve(&worker, &spool, job, share).await;
                    }));
                }
                Ok(None) => break,
                Err(error) => {
                    tell_unless_shut(&error, "no job can be claimed");
                    return sleep;
                }
            }
            // One probe at a time: the others would only be turned away.
            if upstream.is_some_and(|upstream| upstream.circuits.state() != CircuitState::Closed) {
                break;
            }
        }
    }
    sleep
}

async fn serve(worker: &Rc<Worker>, spool: &Spool, claimed: ClaimedJob, share: LoadShare) {
    let ClaimedJob { lease, job, attempts: counted } = claimed;
    let app = &worker.app;
    let Some(upstream) = app.upstreams.get(&job.upstream) else {
        let reason = format!("the configuration has no upstream {} any more", job.upstream);
        return bury(spool, &lease, reason, None, app.clock).await;
    };
    let mut trace = RequestTrace::begin(&job.request_id);
    trace.serves(lease.id(), &job.upstream, job.model.as_deref());
    let line = RequestLine {
        dialect: dialect_of(&job.dialect),
        // Of what is sent, only this is kept; the rest asks for what is there.
        operation: if job.method == "POST" { Operation::Generate } else { Operation::PassThrough },
        path_and_query: job.path_and_query.clone(),
    };
    let mut headers = headers_of(&job.headers);
    // It was seen when the job was kept; what shows it is not kept with it.
    let may_spend = headers.remove(MAY_SPEND_HEADER).is_some();
    let key = match headers.remove(KEY_ID_HEADER) {
        None => None,
        Some(id) => match app.access.keys.of_id(id.to_str().unwrap_or_default(), wall_unix_ms()) {
            Ok(key) => Some(key),
            Err(void) => {
                let reason = format!("the key with which it was sent counts no more: it is {}", void.as_str());
                return bury(spool, &lease, reason, None, app.clock).await;
            }
        },
    };
    // Whoever fetches the answer may not take it as the request would have.
    compression::ask_for_none(&mut headers);
    let query = job.path_and_query.split_once('?').map_or("", |(_, query)| query);
    let mut caller = app.callers.identify(&headers, query, Rights { may_spend, key: key.clone() });
    trace.is_for(app.callers.labels.text(caller.label));
    // Whoever waits for an answer now comes before whoever fetches it later.
    caller.priority = Priority::Low;
    let request = InboundRequest::new(
        line,
        (Method::from_bytes(job.method.as_bytes()).unwrap_or(Method::POST), headers),
        InboundBody::Whole(Bytes::from(job.body)),
        job.request_id,
        caller,
        Instant::now() + app.config.server.request_timeout,
        share,
    );
    let targets = match Targets::find(app, request, Arc::clone(upstream)).await {
        Ok(targets) => targets,
        Err(refusal) => return bury(spool, &lease, refusal.reason(), None, app.clock).await,
    };
    runaway::follow(app, targets.first());
    let work = async {
        let patience = Patience::of(targets.first().upstream.config.limits.patience, Duration::ZERO);
        let result = attempts(worker, &targets, patience, trace).await;
        settle(worker, spool, targets.first(), &lease, counted, result).await;
    };
    until_the_end(app, spool, &lease, key.as_deref(), work).await;
}

/// Serves a leased job, but when the process ends in order, gives it back: that is no failure of the job's. When the key
/// is revoked with which it was sent, it is given up.
pub(crate) async fn until_the_end(
    app: &App,
    spool: &Spool,
    lease: &Lease,
    key: Option<&Key>,
    work: impl Future<Output = ()>,
) {
    let _held = app.begin_lease();
    let revoked = async {
        match key {
            Some(key) => key.revoked().await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        () = work => {}
        () = revoked => {
            let reason = "the key with which it was sent was revoked while it was being served".to_owned();
            bury(spool, lease, reason, None, app.clock).await;
        }
        () = app.leases_end() => {
            let reason = "Spillway ended while it was being served".to_owned();
            let now_ms = app.clock.unix_ms();
            match spool.release(lease, now_ms, reason, false, now_ms).await {
                // What had become of it was being stored.
                Ok(()) | Err(StoreError::StaleLease) => {}
                Err(error) => report(lease, &error),
            }
        }
    }
}

/// Ends a job's lease with what came of its call. `counted` is how many calls count so far, this one included.
pub(crate) async fn settle(
    worker: &Rc<Worker>,
    spool: &Spool,
    target: &Target,
    lease: &Lease,
    counted: u32,
    result: Result<Response<Body>, Unserved>,
) {
    let clock = worker.app.clock;
    match result {
        Ok(response) => match whole(response).await {
            Ok(answer) => complete(spool, lease, answer, clock).await,
            Err(Incomplete::TooLarge) => {
                let reason =
                    format!("the answer is larger than {ANSWER_BYTES_MAX} bytes, the most that is kept of one");
                bury(spool, lease, reason, None, clock).await;
            }
            Err(Incomplete::Broken(reason)) => {
                // In an outage it is the outage's fault; otherwise each further call may cost as much as this one.
                let counts = target.upstream.circuits.are_trusted(target.subject());
                if counts && is_last(worker, counted) {
                    bury(spool, lease, reason, None, clock).await;
                } else {
                    release(spool, lease, reason, JOB_BACKOFF.delay(lease.attempt(), random()), counts, clock).await;
                }
            }
        },
        Err(unserved) => {
            let reason = unserved.refusal.reason();
            // Of a route, whoever may serve first has been asked for how long that takes.
            let alone = target.standing.is_none().then_some(&target.upstream.circuits);
            let blocked = alone.and_then(|circuits| circuits.call_blocked_until(target.subject()));
            let blocked = blocked.map(|until| clock.until(until));
            let delay = unserved.delay(blocked, JOB_BACKOFF.delay(lease.attempt(), random()));
            if unserved.is_suspect() && is_last(worker, counted) {
                // The last answer is kept with a job that dies of it.
                let answer = whole(unserved.into_what_was_said(worker, Audience::Records)).await.ok();
                bury(spool, lease, reason, answer, clock).await;
            } else {
                let counts = unserved.is_suspect();
                unserved.close();
                release(spool, lease, reason, delay, counts, clock).await;
            }
        }
    }
}

fn is_last(worker: &Worker, counted: u32) -> bool {
    counted >= worker.app.config.spool().map_or(u32::MAX, |spool| spool.max_attempts)
}

/// Stores an answer. It was paid for.
async fn complete(spool: &Spool, lease: &Lease, answer: StoredResponse, clock: Clock) {
    let answer = Arc::new(answer);
    let stored = persist(lease, || spool.complete(lease, Arc::clone(&answer), clock.unix_ms())).await;
    match stored {
        Ok(()) => tracing::info!(job = %lease.id(), status = answer.status, "job finished"),
        Err(error @ StoreError::TooLarge { .. }) => bury(spool, lease, error.to_string(), None, clock).await,
        Err(error) => report(lease, &error),
    }
}

/// Puts a job back, to be tried again after `delay`.
async fn release(spool: &Spool, lease: &Lease, reason: String, delay: Duration, counts: bool, clock: Clock) {
    let not_before_ms = clock.unix_ms().saturating_add(milliseconds(delay));
    let stored = persist(lease, || spool.release(lease, not_before_ms, reason.clone(), counts, clock.unix_ms())).await;
    stored.unwrap_or_else(|error| report(lease, &error));
}

/// Gives a job up.
async fn bury(spool: &Spool, lease: &Lease, reason: String, answer: Option<StoredResponse>, clock: Clock) {
    tracing::warn!(job = %lease.id(), reason, "job is dead");
    let stored = persist(lease, || spool.bury(lease, reason.clone(), answer.clone(), clock.unix_ms())).await;
    stored.unwrap_or_else(|error| report(lease, &error));
}

/// Stores a job's new state for as long as it takes: a lease that is forgotten would keep its job from being served
/// until the process ends.
async fn persist<F>(lease: &Lease, mut store: impl FnMut() -> F) -> Result<(), StoreError>
where
    F: Future<Output = Result<(), StoreError>>,
{
    let mut attempt = 0;
    loop {
        match store().await {
            Err(StoreError::Unavailable(reason) | StoreError::Shut(reason)) => {
                attempt += 1;
                tracing::error!(job = %lease.id(), reason, "the job's state could not be stored yet");
                tokio::time::sleep(JOB_BACKOFF.delay(attempt, random())).await;
            }
            // An earlier try may have been stored although its answer was lost.
            Err(StoreError::StaleLease) if attempt > 0 => return Ok(()),
            result => return result,
        }
    }
}

/// Whoever shut the spool has said why.
fn tell_unless_shut(error: &StoreError, what: &'static str) {
    if !matches!(error, StoreError::Shut(_)) {
        tracing::error!(%error, "{what}");
    }
}

fn report(lease: &Lease, error: &StoreError) {
    tracing::error!(job = %lease.id(), %error, "the job's state could not be stored");
}

/// Why an answer cannot be kept.
enum Incomplete {
    Broken(String),
    TooLarge,
}

/// Reads an answer to its end, through the same path that live answers take.
async fn whole(response: Response<Body>) -> Result<StoredResponse, Incomplete> {
    let (head, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Incomplete::Broken(error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > ANSWER_BYTES_MAX {
                return Err(Incomplete::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(StoredResponse { status: head.status.as_u16(), headers: stored(&head.headers), body: bytes })
}

/// Purges what is over, and shows what is there. It is also what opens a spool that is shut, and finds out that its
/// folder has gone, while nobody else asks for it.
async fn keep_up(app: &App, spool: &Spool) {
    if let Err(error) = spool.purge_expired(app.clock.unix_ms()).await {
        tell_unless_shut(&error, "the spool cannot be tidied");
    }
    if let Ok(counts) = spool.counts().await {
        let by_state = BTreeMap::from([
            ("queued", counts.queued),
            ("running", counts.leased),
            ("done", counts.done),
            ("dead", counts.dead),
            ("cancelled", counts.cancelled),
            ("expired", counts.expired),
        ]);
        let oldest = Duration::from_millis(counts.oldest_queued_age_ms(app.clock.unix_ms()).unwrap_or(0));
        app.metrics.show_jobs(&by_state, oldest);
    }
}
