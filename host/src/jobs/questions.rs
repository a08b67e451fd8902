//! What callers ask about their jobs, and the answers.

use crate::jobs::convert::headers_of;
use crate::proxy::app::App;
use crate::proxy::body::Body;
use crate::proxy::refusal::{Refusal, RefusalKind};
use crate::proxy::respond;
use crate::runtime::clock::Clock;
use crate::spool::{CancelOutcome, ENQUEUE_DEADLINE, JobId, JobState, JobView, Spool, StoreError, StoredResponse};
use http::{HeaderValue, Method, Response, StatusCode, header, request};
use serde_json::{Value, json};
use std::time::Duration;

/// Where jobs are.
pub(crate) const PATH: &str = "/spillway/jobs";
/// How long a caller should wait before it looks at an unfinished job again.
pub(crate) const POLL_AFTER: Duration = Duration::from_secs(2);

/// Whether a path belongs to Spillway itself.
pub(crate) fn owns(path: &str) -> bool {
    path == "/spillway" || path.starts_with("/spillway/")
}

/// Answers questions about jobs. Whoever knows a job's id may ask: ids cannot be guessed.
///
/// # Errors
/// When there is no such job, or nothing of the kind to do with it, or when the spool cannot tell.
pub(crate) async fn answer_in_time(app: &App, head: &request::Parts) -> Result<Response<Body>, Refusal> {
    tokio::time::timeout(ENQUEUE_DEADLINE, answer(app, head)).await.unwrap_or_else(|_| {
        let reason = format!("its disk did not answer within {ENQUEUE_DEADLINE:?}");
        Err(Refusal::after(RefusalKind::SpoolUnavailable { reason }, POLL_AFTER))
    })
}

async fn answer(app: &App, head: &request::Parts) -> Result<Response<Body>, Refusal> {
    let path = head.uri.path();
    let no_route = || Refusal::from(RefusalKind::NoSuchRoute { path: path.to_owned() });
    let rest = path.strip_prefix(PATH).and_then(|rest| rest.strip_prefix('/')).ok_or_else(no_route)?;
    let spool = app.spool.as_ref().ok_or(RefusalKind::SpoolOff)?;
    let (id, tail) = rest.split_once('/').unwrap_or((rest, ""));
    let id: JobId = id.parse().map_err(|_| RefusalKind::NoSuchJob { lost: None })?;
    match (tail, &head.method) {
        ("", &Method::GET) => show(spool, id, app.clock).await,
        ("", &Method::DELETE) => cancel(spool, id, app.clock).await,
        ("", _) => Err(RefusalKind::WrongMethod { allowed: "GET, DELETE" }.into()),
        ("result", &Method::GET) => result(spool, id).await,
        ("result", _) => Err(RefusalKind::WrongMethod { allowed: "GET" }.into()),
        _ => Err(no_route()),
    }
}

/// That there is no such job, and what may have become of it.
fn unknown(spool: &Spool) -> Refusal {
    RefusalKind::NoSuchJob { lost: spool.loss() }.into()
}

async fn show(spool: &Spool, id: JobId, clock: Clock) -> Result<Response<Body>, Refusal> {
    let view = spool.get(id).await.map_err(store_error)?.ok_or_else(|| unknown(spool))?;
    let response = match view.has_response {
        true => spool.response(id).await.map_err(store_error)?,
        false => None,
    };
    let mut answer = json_response(StatusCode::OK, &describe(&view, response.as_ref(), clock));
    if !view.state.is_terminal() {
        respond::insert_wait(answer.headers_mut(), POLL_AFTER);
    }
    Ok(answer)
}

/// The provider's answer, as the provider gave it.
async fn result(spool: &Spool, id: JobId) -> Result<Response<Body>, Refusal> {
    let view = spool.get(id).await.map_err(store_error)?.ok_or_else(|| unknown(spool))?;
    let Some(stored) = spool.response(id).await.map_err(store_error)? else {
        let reason = format!("The job is {} and has no answer", word(view.state));
        let wait = (!view.state.is_terminal()).then_some(POLL_AFTER);
        return Err(Refusal::after(RefusalKind::Conflict { reason }, wait));
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
            Err(RefusalKind::Conflict { reason: "The job is being served and can no longer be cancelled".into() }
                .into())
        }
        CancelOutcome::Finished(state) => {
            Err(RefusalKind::Conflict { reason: format!("The job is {} already", word(state)) }.into())
        }
        CancelOutcome::NotFound => Err(unknown(spool)),
    }
}

/// The state in the caller's words.
pub(crate) fn word(state: JobState) -> &'static str {
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
        // Who has served is told in headers, as of any answer.
        let headers = headers_of(&response.headers);
        let told = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        json!({
            "status": response.status,
            "target": told("x-spillway-target"),
            "fallback_from": told("x-spillway-fallback-from"),
            "degraded": told("x-spillway-degraded"),
            "body": body,
        })
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

pub(super) fn json_response(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn store_error(error: StoreError) -> Refusal {
    let reason = match error {
        StoreError::Shut(reason) | StoreError::Unavailable(reason) => reason,
        error => error.to_string(),
    };
    Refusal::after(RefusalKind::SpoolUnavailable { reason }, POLL_AFTER)
}
