//! Jobs as callers meet them: the 202 that promises an answer, and the place where it will be.

use crate::dialect::Dialect;
use crate::dialect::headers::strip_hop_by_hop;
use crate::jobs::drain;
use crate::observe::metrics::Outcome;
use crate::proxy::attempts::attempts;
use crate::proxy::body::Body;
use crate::proxy::call::{Call, CallBody, Preference};
use crate::proxy::refusal::{Kind, Refusal};
use crate::proxy::trace::Story;
use crate::proxy::unserved::Unserved;
use crate::proxy::worker::{Shared, Worker};
use crate::runtime::clock::{Clock, milliseconds};
use crate::spool::{
    CancelOutcome, ENQUEUE_DEADLINE, EnqueueError, JobId, JobState, JobView, NewJob, Spool, StoreError, StoredResponse,
};
use crate::upstream::patience::Patience;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request};
use serde_json::{Value, json};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Where jobs are.
const PATH: &str = "/spillway/jobs";
/// How long a caller should wait before it looks at an unfinished job again.
const POLL_AFTER: Duration = Duration::from_secs(2);

/// Whether a path belongs to Spillway itself.
pub fn owns(path: &str) -> bool {
    path == "/spillway" || path.starts_with("/spillway/")
}

/// Answers questions about jobs. Whoever knows a job's id may ask: ids cannot be guessed.
///
/// # Errors
/// When there is no such job, or nothing of the kind to do with it, or when the spool cannot tell.
pub async fn serve(shared: &Shared, head: &request::Parts) -> Result<Response<Body>, Refusal> {
    tokio::time::timeout(ENQUEUE_DEADLINE, answer(shared, head)).await.unwrap_or_else(|_| {
        let reason = format!("its disk did not answer within {ENQUEUE_DEADLINE:?}");
        Err(Refusal::after(Kind::SpoolUnavailable { reason }, POLL_AFTER))
    })
}

async fn answer(shared: &Shared, head: &request::Parts) -> Result<Response<Body>, Refusal> {
    let path = head.uri.path();
    let no_route = || Refusal::from(Kind::NoSuchRoute { path: path.to_owned() });
    let rest = path.strip_prefix(PATH).and_then(|rest| rest.strip_prefix('/')).ok_or_else(no_route)?;
    let spool = shared.spool.as_ref().ok_or(Kind::NoSuchJob { lost: None })?;
    let (id, tail) = rest.split_once('/').unwrap_or((rest, ""));
    let id: JobId = id.parse().map_err(|_| Kind::NoSuchJob { lost: None })?;
    match (tail, &head.method) {
        ("", &Method::GET) => show(spool, id, shared.clock).await,
        ("", &Method::DELETE) => cancel(spool, id, shared.clock).await,
        ("", _) => Err(Kind::WrongMethod { allowed: "GET, DELETE" }.into()),
        ("result", &Method::GET) => result(spool, id).await,
        ("result", _) => Err(Kind::WrongMethod { allowed: "GET" }.into()),
        _ => Err(no_route()),
    }
}

/// That there is no such job, and what may have become of it.
fn unknown(spool: &Spool) -> Refusal {
    Kind::NoSuchJob { lost: spool.loss() }.into()
}

async fn show(spool: &Spool, id: JobId, clock: Clock) -> Result<Response<Body>, Refusal> {
    let view = spool.get(id).await.map_err(store_error)?.ok_or_else(|| unknown(spool))?;
    let response = match view.has_response {
        true => spool.response(id).await.map_err(store_error)?,
        false => None,
    };
    let mut answer = json_response(StatusCode::OK, &describe(&view, response.as_ref(), clock));
    if !view.state.is_terminal() {
        crate::proxy::refusal::insert_wait(answer.headers_mut(), POLL_AFTER);
    }
    Ok(answer)
}

/// The provider's answer, as the provider gave it.
async fn result(spool: &Spool, id: JobId) -> Result<Response<Body>, Refusal> {
    let view = spool.get(id).await.map_err(store_error)?.ok_or_else(|| unknown(spool))?;
    let Some(stored) = spool.response(id).await.map_err(store_error)? else {
        let reason = format!("The job is {} and has no answer", word(view.state));
        let wait = (!view.state.is_terminal()).then_some(POLL_AFTER);
        return Err(Refusal::after(Kind::Conflict { reason }, wait));
    };
    let mut response = Response::new(Body::from(bytes::Bytes::from(stored.body)));
    *response.status_mut() = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::BAD_GATEWAY);
    *response.headers_mut() = headers_of(&stored.headers);
    response.headers_mut().remove(header::CONTENT_LENGTH);
    Ok(response)
}

async fn cancel(spool: &Spool, id: JobId, clock: Clock) -> Result<Response<Body>, Refusal> {
    match spool.cancel(id, clock.unix_ms()).await.map_err(store_error)? {
        CancelOutcome::Cancelled => show(spool, id, clock).await,
        CancelOutcome::Running => {
            Err(Kind::Conflict { reason: "The job is being served and can no longer be cancelled".into() }.into())
        }
        CancelOutcome::Finished(state) => {
            Err(Kind::Conflict { reason: format!("The job is {} already", word(state)) }.into())
        }
        CancelOutcome::NotFound => Err(unknown(spool)),
    }
}

/// The state in the caller's words.
pub fn word(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "queued",
        JobState::Leased => "running",
        JobState::Done => "done",
        JobState::Dead => "dead",
        JobState::Cancelled => "cancelled",
        JobState::Expired => "expired",
    }
}

fn describe(view: &JobView, response: Option<&StoredResponse>, clock: Clock) -> Value {
    let answer = response.map(|response| {
        let body = serde_json::from_slice::<Value>(&response.body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&response.body).into_owned()));
        json!({"status": response.status, "body": body})
    });
    json!({
        "id": view.id.to_string(),
        "object": "spillway.job",
        "status": word(view.state),
        "upstream": view.upstream,
        "model": view.model,
        "request_id": view.request_id,
        "created_at_ms": clock.shown_unix_ms(view.created_ms),
        "updated_at_ms": clock.shown_unix_ms(view.updated_ms),
        // 0 is at once, and no moment.
        "not_before_ms": if view.not_before_ms == 0 { 0 } else { clock.shown_unix_ms(view.not_before_ms) },
        "attempts": view.attempts,
        "reason": view.last_reason,
        "result_url": view.has_response.then(|| format!("{PATH}/{}/result", view.id)),
        "response": answer,
    })
}

fn json_response(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Serves a request whose caller welcomes a 202: now if possible, within its wait if it named one, else later.
pub async fn serve_or_keep(
    worker: &Rc<Worker>,
    spool: &Spool,
    call: &Rc<Call>,
    preference: Preference,
    story: Story,
) -> Response<Body> {
    let Some(wait) = preference.wait else {
        // Whoever will not be promised anything is served as patiently as if it had not asked for that.
        let config = &call.upstream.config;
        let patience = match spool.promises() {
            true => Patience::none(),
            false => Patience::of(config.limits.patience, config.circuit_patience()),
        };
        return match attempts(worker, call, patience, story).await {
            Ok(response) => response,
            Err(unserved) => keep(worker, spool, call, preference, unserved).await,
        };
    };
    let patience = Instant::now() + wait;
    let (task_worker, task_call) = (Rc::clone(worker), Rc::clone(call));
    let (pulse, id) = (Arc::clone(&worker.pulse), call.request_id.clone());
    let task = tokio::task::spawn_local(
        pulse.during(id, async move { attempts(&task_worker, &task_call, Patience::until(patience), story).await }),
    );
    let mut task = AbortOnDrop(Some(task));
    let finished = tokio::select! {
        finished = task.join() => Some(finished),
        () = sleep_until(patience) => None,
    };
    match finished {
        Some(Some(Ok(response))) => response,
        Some(Some(Err(unserved))) => keep(worker, spool, call, preference, unserved).await,
        Some(None) => failed(worker, call),
        // The call may be under way, and cancelling it may cost twice: the job is kept together with it.
        None => adopt(worker, spool, call, preference, task).await,
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
    call: &Rc<Call>,
    preference: Preference,
    unserved: Unserved,
) -> Response<Body> {
    match spool.enqueue(new_job(&worker.shared, call)).await {
        Ok(id) => {
            let mut story = unserved.story;
            story.tell(unserved.refusal.code());
            story.tell(&format!("kept as {id}"));
            let response = accepted(preference, id, JobState::Queued, unserved.refusal.retry_after, &story);
            story.end(Outcome::Spooled, StatusCode::ACCEPTED.as_u16());
            worker.shared.spool_bell.notify_one();
            response
        }
        Err(error) => {
            let mut story = unserved.story;
            story.tell(unserved.refusal.code());
            refuse(call, enqueue_error(error), story)
        }
    }
}

/// Keeps a request whose call goes on: the job begins as running, and ends with that call.
async fn adopt(
    worker: &Rc<Worker>,
    spool: &Spool,
    call: &Rc<Call>,
    preference: Preference,
    mut task: AbortOnDrop,
) -> Response<Body> {
    let (adopter, spool, job) = (Rc::clone(worker), spool.clone(), Rc::clone(call));
    let (promise, promised) = oneshot::channel();
    // A task of its own: a caller who leaves in between must not leave a job behind that nobody serves.
    let (pulse, id) = (Arc::clone(&worker.pulse), call.request_id.clone());
    tokio::task::spawn_local(pulse.during(id, async move {
        let _in_flight = adopter.shared.begin_request();
        match spool.adopt(new_job(&adopter.shared, &job)).await {
            // Not kept, but still under way and paid for: the caller may wait for it after all.
            Err(error) => drop(promise.send(Err((error, task)))),
            Ok(lease) => {
                // Whether or not somebody still listens, the job is on disk and will be answered.
                let _ = promise.send(Ok(lease.id()));
                let work = async {
                    if let Some(result) = task.join().await {
                        drain::settle(&adopter, &spool, &job, &lease, 1, result).await;
                    }
                };
                drain::until_the_end(&adopter.shared, &spool, &lease, work).await;
            }
        }
    }));
    match promised.await {
        Ok(Ok(id)) => {
            let mut story = Story::begin(&call.request_id, worker.shared.begin_request());
            story.goes_to(&call.upstream, call.asked.model.as_deref());
            story.tell(&format!("kept as {id} while its call goes on"));
            let response = accepted(preference, id, JobState::Leased, None, &story);
            story.end(Outcome::Spooled, StatusCode::ACCEPTED.as_u16());
            response
        }
        Ok(Err((error, mut task))) => {
            tracing::warn!(request_id = call.request_id, %error, "not kept; its caller waits for the call under way");
            match task.join().await {
                Some(Ok(response)) => response,
                Some(Err(unserved)) => unserved.into_response(worker, call),
                None => failed(worker, call),
            }
        }
        Err(_) => failed(worker, call),
    }
}

fn new_job(shared: &Shared, call: &Call) -> NewJob {
    let mut headers = call.headers.clone();
    strip_hop_by_hop(&mut headers);
    headers.remove("prefer");
    let now_ms = shared.clock.unix_ms();
    let expiry = shared.config.spool.as_ref().map_or(Duration::ZERO, |spool| spool.expiry);
    NewJob {
        upstream: call.upstream.name.to_string(),
        dialect: call.dialect.as_str().to_owned(),
        model: call.asked.model.clone(),
        method: call.method.to_string(),
        path_and_query: call.path_and_query.clone(),
        headers: stored(&headers),
        body: match &call.body {
            CallBody::Whole(bytes) => bytes.to_vec(),
            // Only repeatable calls are kept, and those are whole.
            CallBody::Streaming(_) => Vec::new(),
        },
        priority: 0,
        created_ms: now_ms,
        expires_at_ms: now_ms.saturating_add(milliseconds(expiry)),
        request_id: call.request_id.clone(),
    }
}

/// The promise. It leaves only when the job is on disk.
fn accepted(
    preference: Preference,
    id: JobId,
    state: JobState,
    wait: Option<Duration>,
    story: &Story,
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
    crate::proxy::refusal::insert_wait(
        headers,
        wait.unwrap_or_default().max(POLL_AFTER).min(crate::proxy::refusal::RETRY_AFTER_MAX),
    );
    story.insert_headers(headers);
    response
}

fn refuse(call: &Call, refusal: Refusal, mut story: Story) -> Response<Body> {
    story.tell(&format!("not kept: {}", refusal.code()));
    let mut response = refusal.into_response(call.dialect, &call.request_id);
    story.insert_headers(response.headers_mut());
    story.end(Outcome::Failed, response.status().as_u16());
    response
}

/// The task that served the request is ours alone and was not aborted: it has panicked, which is logged where it did.
fn failed(worker: &Worker, call: &Call) -> Response<Body> {
    let mut story = Story::begin(&call.request_id, worker.shared.begin_request());
    story.goes_to(&call.upstream, call.asked.model.as_deref());
    refuse(
        call,
        Kind::SpoolUnavailable { reason: "serving the request failed inside of Spillway".into() }.into(),
        story,
    )
}

fn enqueue_error(error: EnqueueError) -> Refusal {
    match error {
        EnqueueError::Full { depth, .. } => {
            Refusal::after(Kind::SpoolFull { depth }, crate::proxy::refusal::RETRY_AFTER_MAX)
        }
        EnqueueError::TooLarge { limit_bytes, .. } => {
            Kind::BodyTooLarge { limit: usize::try_from(limit_bytes).unwrap_or(usize::MAX) }.into()
        }
        EnqueueError::Unavailable(reason) => Refusal::after(Kind::SpoolUnavailable { reason }, POLL_AFTER),
    }
}

fn store_error(error: StoreError) -> Refusal {
    let reason = match error {
        StoreError::Shut(reason) | StoreError::Unavailable(reason) => reason,
        error => error.to_string(),
    };
    Refusal::after(Kind::SpoolUnavailable { reason }, POLL_AFTER)
}

/// Headers as the spool keeps them.
pub fn stored(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

/// Headers as they were before the spool kept them.
pub fn headers_of(stored: &[(String, Vec<u8>)]) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(stored.len());
    for (name, value) in stored {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value.as_slice())) {
            headers.append(name, value);
        }
    }
    headers
}

/// The dialect of a job, by the word it was stored with.
pub fn dialect_of(word: &str) -> Dialect {
    Dialect::from_word(word).unwrap_or(Dialect::Other)
}
