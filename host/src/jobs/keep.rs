//! Keeping a request that is not served now: the 202 that promises an answer, and what it promises.

use crate::dialect::headers::{KEY_ID_HEADER, MAY_SPEND_HEADER, strip_hop_by_hop};
use crate::dialect::library::Library;
use crate::dialect::preference::Preference;
use crate::jobs::convert::stored;
use crate::jobs::drain;
use crate::jobs::questions::{PATH, POLL_AFTER, json_response, word};
use crate::observe::metrics::RequestOutcome;
use crate::proxy::app::App;
use crate::proxy::attempts::attempts;
use crate::proxy::body::Body;
use crate::proxy::refusal::advice::Audience;
use crate::proxy::refusal::{Refusal, RefusalKind};
use crate::proxy::request::InboundBody;
use crate::proxy::respond;
use crate::proxy::target::{Target, Targets};
use crate::proxy::trace::RequestTrace;
use crate::proxy::unserved::Unserved;
use crate::proxy::worker::Worker;
use crate::runtime::clock::milliseconds;
use crate::runtime::size::size;
use crate::spool::{Bound, EnqueueError, JobId, JobState, NewJob, Spool};
use crate::upstream::patience::Patience;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::json;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// What helps whose request takes more than one job may.
const TOO_LARGE_TO_KEEP: &str = "That is more than is kept of one request, and nobody can serve it now. Send it again \
                                 later, or raise spool.max_size.";

/// Serves a request whose caller welcomes a 202: now if possible, within its wait if it named one, else later.
pub(crate) async fn serve_or_keep(
    worker: &Rc<Worker>,
    spool: &Spool,
    targets: &Targets,
    preference: Preference,
    trace: RequestTrace,
) -> Response<Body> {
    let Some(wait) = preference.wait else {
        // Whoever will not be promised anything is served as patiently as if it had not asked for that.
        let config = &targets.first().upstream.config;
        let patience = match spool.promises() {
            true => Patience::none(),
            false => Patience::of(config.limits.patience, config.circuit_patience()),
        };
        return match attempts(worker, targets, patience, trace).await {
            Ok(response) => response,
            Err(unserved) => keep(worker, spool, targets, preference, unserved).await,
        };
    };
    let patience = Instant::now() + wait;
    let (task_worker, task_targets) = (Rc::clone(worker), targets.clone());
    let (pulse, id) = (Arc::clone(&worker.pulse), targets.first().request.id.clone());
    let task = tokio::task::spawn_local(
        pulse.during(id, async move { attempts(&task_worker, &task_targets, Patience::until(patience), trace).await }),
    );
    let mut task = AbortOnDrop(Some(task));
    let finished = tokio::select! {
        finished = task.join() => Some(finished),
        () = sleep_until(patience) => None,
    };
    match finished {
        Some(Some(Ok(response))) => response,
        Some(Some(Err(unserved))) => keep(worker, spool, targets, preference, unserved).await,
        Some(None) => failed(&worker.app, targets),
        // The call may be under way, and cancelling it may cost twice: the job is kept together with it.
        None => adopt(worker, spool, targets, preference, task).await,
    }
}

/// A task that ends with whoever waits for it, so that a caller who leaves cancels the upstream call.
struct AbortOnDrop(Option<JoinHandle<Result<Response<Body>, Unserved>>>);

impl AbortOnDrop {
    async fn join(&mut self) -> Option<Result<Response<Body>, Unserved>> {
        let result = self.0.as_mut()?.await.ok();
        self.0 = None;
        result
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

async fn keep(
    worker: &Rc<Worker>,
    spool: &Spool,
    targets: &Targets,
    preference: Preference,
    unserved: Unserved,
) -> Response<Body> {
    match spool.enqueue(new_job(&worker.app, targets)).await {
        Ok(id) => {
            let mut trace = unserved.trace;
            trace.tell(unserved.refusal.code());
            trace.tell(&format!("kept as {id}"));
            let response = accepted(preference, id, JobState::Queued, unserved.refusal.retry_after, &trace);
            trace.end(RequestOutcome::Spooled, StatusCode::ACCEPTED.as_u16());
            worker.app.spool_bell.notify_one();
            response
        }
        Err(error) => {
            let mut trace = unserved.trace;
            trace.tell(unserved.refusal.code());
            refuse(&worker.app, targets, enqueue_error(error), trace)
        }
    }
}

/// Keeps a request whose call goes on: the job begins as running, and ends with that call.
async fn adopt(
    worker: &Rc<Worker>,
    spool: &Spool,
    targets: &Targets,
    preference: Preference,
    mut task: AbortOnDrop,
) -> Response<Body> {
    let (adopter, spool, job) = (Rc::clone(worker), spool.clone(), targets.clone());
    let (promise, promised) = oneshot::channel();
    // A task of its own: a caller who leaves in between must not leave a job behind that nobody serves. For as long as
    // the request lives it is in flight, so that the process does not end before its new state is stored.
    let (pulse, id) = (Arc::clone(&worker.pulse), targets.first().request.id.clone());
    tokio::task::spawn_local(pulse.during(id, async move {
        match spool.adopt(new_job(&adopter.app, &job)).await {
            // Not kept, but still under way and paid for: the caller may wait for it after all.
            Err(error) => drop(promise.send(Err((error, task)))),
            Ok(lease) => {
                // Whether or not somebody still listens, the job is on disk and will be answered.
                let _ = promise.send(Ok(lease.id()));
                let work = async {
                    if let Some(result) = task.join().await {
                        drain::settle(&adopter, &spool, job.first(), &lease, 1, result).await;
                    }
                };
                let key = job.first().request.caller.key.as_deref();
                drain::until_the_end(&adopter.app, &spool, &lease, key, work).await;
            }
        }
    }));
    match promised.await {
        Ok(Ok(id)) => {
            let mut trace = begin(targets);
            trace.tell(&format!("kept as {id} while its call goes on"));
            let response = accepted(preference, id, JobState::Leased, None, &trace);
            trace.end(RequestOutcome::Spooled, StatusCode::ACCEPTED.as_u16());
            response
        }
        Ok(Err((error, mut task))) => {
            tracing::warn!(request_id = targets.first().request.id, %error, "not kept; its caller waits for the call under way");
            match task.join().await {
                Some(Ok(response)) => response,
                Some(Err(unserved)) => unserved.into_response(worker),
                None => failed(&worker.app, targets),
            }
        }
        Err(_) => failed(&worker.app, targets),
    }
}

fn new_job(app: &App, targets: &Targets) -> NewJob {
    let Target { request, .. } = &**targets.first();
    let mut headers = request.headers.clone();
    strip_hop_by_hop(&mut headers);
    headers.remove("prefer");
    // Only this says it: a caller's own word for it is none.
    headers.remove(MAY_SPEND_HEADER);
    headers.remove(KEY_ID_HEADER);
    if let Some(id) = request.caller.key.as_ref().and_then(|key| HeaderValue::from_str(key.id()).ok()) {
        headers.insert(KEY_ID_HEADER, id);
    }
    if request.caller.may_spend {
        headers.insert(MAY_SPEND_HEADER, HeaderValue::from_static("yes"));
    }
    let now_ms = app.clock.unix_ms();
    let expiry = app.config.spool().map_or(Duration::ZERO, |spool| spool.expiry);
    NewJob {
        // Who serves it then is found as it was now.
        upstream: targets.asked().name.to_string(),
        dialect: request.dialect.as_str().to_owned(),
        model: request.parameters.model.clone(),
        method: request.method.to_string(),
        path_and_query: request.path_and_query.clone(),
        headers: stored(&headers),
        body: match &request.body {
            InboundBody::Whole(bytes) => bytes.to_vec(),
            // Only repeatable calls are kept, and those are whole.
            InboundBody::Streaming(_) => Vec::new(),
        },
        priority: 0,
        created_ms: now_ms,
        expires_at_ms: now_ms.saturating_add(milliseconds(expiry)),
        request_id: request.id.clone(),
    }
}

/// The promise. It leaves only when the job is on disk.
fn accepted(
    preference: Preference,
    id: JobId,
    state: JobState,
    wait: Option<Duration>,
    trace: &RequestTrace,
) -> Response<Body> {
    let location = format!("{PATH}/{id}");
    let mut response = json_response(
        StatusCode::ACCEPTED,
        &json!({"id": id.to_string(), "object": "spillway.job", "status": word(state), "status_url": location}),
    );
    let headers = response.headers_mut();
    let applied = match preference.wait {
        Some(wait) => format!("respond-async, wait={}", wait.as_secs()),
        None => "respond-async".to_owned(),
    };
    for (name, value) in [(header::LOCATION, location), (HeaderName::from_static("preference-applied"), applied)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    respond::insert_wait(headers, wait.unwrap_or_default().max(POLL_AFTER).min(respond::RETRY_AFTER_MAX));
    trace.insert_headers(headers);
    response
}

fn refuse(app: &App, targets: &Targets, refusal: Refusal, mut trace: RequestTrace) -> Response<Body> {
    let (code, reason, target) = (refusal.code(), refusal.reason(), targets.first());
    trace.tell(&format!("not kept: {code}"));
    let audience = Audience::of(Library::of(&target.request.headers));
    let mut response = refusal.into_response(target.request.dialect, &target.request.id, audience);
    app.note_refusal((code, response.status().as_u16()), target.names(), &reason);
    trace.insert_headers(response.headers_mut());
    trace.end(RequestOutcome::Failed, response.status().as_u16());
    response
}

/// Begins to tell of a request whose trace went on with its call.
fn begin(targets: &Targets) -> RequestTrace {
    let target = targets.first();
    let mut trace = RequestTrace::begin(&target.request.id);
    trace.goes_to(target);
    trace
}

/// The task that served the request is ours alone and was not aborted: it has panicked, which is logged where it did.
fn failed(app: &App, targets: &Targets) -> Response<Body> {
    let trace = begin(targets);
    refuse(app, targets, RefusalKind::Defect.into(), trace)
}

fn enqueue_error(error: EnqueueError) -> Refusal {
    match error {
        EnqueueError::Full { bound, depth, .. } => {
            let kept = match bound {
                Bound::Jobs => format!("{depth} that wait, as many as there may be (spool.max_jobs)"),
                Bound::Bytes => format!("{} of requests and answers, and no room for it (spool.max_size)", size(depth)),
            };
            Refusal::after(RefusalKind::SpoolFull { kept }, respond::RETRY_AFTER_MAX)
        }
        EnqueueError::TooLarge { limit_bytes, .. } => {
            let limit = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
            RefusalKind::BodyTooLarge { limit, remedy: TOO_LARGE_TO_KEEP }.into()
        }
        EnqueueError::Unavailable(reason) => Refusal::after(RefusalKind::SpoolUnavailable { reason }, POLL_AFTER),
    }
}
