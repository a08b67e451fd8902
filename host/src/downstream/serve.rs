//! A request from its head to its answer, or to the place where its answer will be.

use crate::dialect::Dialect;
use crate::dialect::library::Library;
use crate::dialect::preference::Preference;
use crate::downstream::cors;
use crate::jobs::keep::serve_or_keep;
use crate::jobs::questions;
use crate::observe::metrics::RequestOutcome;
use crate::proxy::app::App;
use crate::proxy::attempts::attempts;
use crate::proxy::body::Body;
use crate::proxy::refusal::advice::Audience;
use crate::proxy::refusal::{Refusal, RefusalKind};
use crate::proxy::request::InboundRequest;
use crate::proxy::route::Route;
use crate::proxy::runaway;
use crate::proxy::target::Targets;
use crate::proxy::trace::RequestTrace;
use crate::proxy::worker::Worker;
use crate::runtime::clock::{random, wall_unix_ms};
use crate::runtime::shortage::Shortage;
use crate::runtime::upload::Upload;
use crate::tenants::access::{Shown, Turned};
use crate::tenants::callers::Rights;
use crate::tenants::failures::Slowed;
use crate::tenants::guard::Entrance;
use crate::tenants::origin::Origin;
use crate::upstream::patience::Patience;
use http::{HeaderValue, Method, Request, Response, header};
use http_body::Body as _;
use spillway_resilience::{ShedDecision, ShedSettings};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

/// What is passed on. Nobody is connected through us to somewhere else, and nobody is told what others would be sent.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

pub(crate) async fn serve(
    worker: Rc<Worker>,
    request: Request<Upload>,
    request_id: String,
    origin: Origin,
) -> Response<Body> {
    let mut trace = RequestTrace::begin(&request_id);
    let share = worker.app.take_on();
    let (mut head, body) = request.into_parts();
    let entrance = origin.entrance;
    let address = worker.app.proxies.address(origin, &head.headers);
    // Where this machine alone calls, it tells nobody apart.
    let told = address.as_ref().ok().copied().flatten().filter(|_| entrance == Entrance::Network);
    trace.comes_from(told);

    // Accept.
    let library = Library::of(&head.headers);
    let refused = |refusal: Refusal, dialect: Dialect, upstream: &str| {
        let mut response = refuse(&worker.app, refusal, dialect, upstream, (&request_id, told), library);
        trace.insert_headers(response.headers_mut());
        response
    };
    let guess = Dialect::recognise(head.uri.path(), &head.headers).unwrap_or(Dialect::OpenAi);
    let welcome = worker.app.guard.check(&head.uri, &head.headers, entrance);
    let address = match welcome.and(address) {
        Ok(address) => address,
        Err(unwelcome) => return refused(unwelcome.into(), guess, ""),
    };
    worker.app.proxies.take(&mut head.headers);
    if let Some(answer) = cors::preflight(&head, METHODS) {
        return answer;
    }
    let query = head.uri.query().unwrap_or_default();
    let look = worker.app.access.look(&head.headers, query, wall_unix_ms);
    if let Err(turned) = worker.app.access.admit(&look.shown, entrance) {
        // Whoever only waits is nothing that is in hand.
        drop(share);
        tell_of_key(&request_id, &look.shown, address);
        let has_failed = turned == Turned::KeyRefused || matches!(look.shown, Shown::Nothing { has_credential: true });
        let slowed = match address.filter(|_| has_failed) {
            Some(address) => worker.app.failures.slow(address).await,
            None => Slowed::Answer,
        };
        let mut response = refused(turned.into(), guess, "");
        if slowed == Slowed::AnswerAndClose {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        return response;
    }
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return refused(RefusalKind::WrongMethod { allowed: METHODS }.into(), guess, "");
    }
    if questions::owns(head.uri.path()) {
        return questions::answer_in_time(&worker.app, &head)
            .await
            .unwrap_or_else(|refusal| refused(refusal, guess, ""));
    }

    // Identify.
    let route = match Route::find(&worker.app.upstreams, &head) {
        Ok(route) => route,
        Err(refusal) => return refused(refusal, guess, ""),
    };
    let Route { upstream, mut line } = route;
    let dialect = line.dialect;
    worker.app.access.take(&look, &mut head.headers, &mut line.path_and_query);
    let rights = Rights::of(look.shown, entrance);
    let key = rights.key.clone();
    let query = line.path_and_query.split_once('?').map_or("", |(_, query)| query);
    let caller = worker.app.callers.identify(&head.headers, query, rights);

    // Shed what matters least while there is too much in hand.
    let load = worker.app.load(body.size_hint().lower());
    if let ShedDecision::Shed { retry_after } = worker.app.shed.decide(load, caller.priority) {
        upstream.metrics.refused_unread(RequestOutcome::Shed);
        let refusal = Refusal::after(RefusalKind::Overloaded { priority: caller.priority }, retry_after);
        return refused(refusal, dialect, &upstream.name);
    }

    let preference = Preference::read(&head.headers);
    let server = &worker.app.config.server;
    let bounds = (server.max_body, server.request_timeout);
    let received = InboundRequest::receive(line, head, body, request_id.clone(), caller, bounds, share).await;
    let found = match received {
        Ok(request) => Targets::find(&worker.app, request, Arc::clone(&upstream)).await,
        Err(refusal) => Err(refusal),
    };
    let targets = match found.and_then(|targets| runaway::guard(&worker.app, targets.first()).map(|()| targets)) {
        Ok(targets) => targets,
        Err(refusal) => {
            let shed = matches!(refusal.kind, RefusalKind::Overloaded { .. });
            let outcome = if shed { RequestOutcome::Shed } else { RequestOutcome::Refused };
            upstream.metrics.refused_unread(outcome);
            return refused(refusal, dialect, &upstream.name);
        }
    };
    let target = targets.first();
    trace.goes_to(target);
    trace.is_for(worker.app.callers.labels.text(target.request.caller.label));
    trace.is_recorded(worker.app.recorder.as_ref(), target);

    // Serve it now, or keep it if the caller likes that better than an error; for as long as its key counts.
    let served = pin!(serve_now_or_later(&worker, &targets, preference, trace));
    let Some(key) = key else { return served.await };
    tokio::select! {
        biased;
        () = key.revoked() => {
            let dialect = targets.first().request.dialect;
            refuse(&worker.app, RefusalKind::KeyRefused.into(), dialect, &upstream.name, (&request_id, told), library)
        }
        response = served => response,
    }
}

async fn serve_now_or_later(
    worker: &Rc<Worker>,
    targets: &Targets,
    preference: Preference,
    trace: RequestTrace,
) -> Response<Body> {
    let target = targets.first();
    match worker.app.spool.as_ref().filter(|_| preference.respond_async && target.may_be_kept()) {
        Some(spool) => serve_or_keep(worker, spool, targets, preference, trace).await,
        None => {
            let config = &target.upstream.config;
            let patience = Patience::of(config.limits.patience, config.circuit_patience());
            match attempts(worker, targets, patience, trace).await {
                Ok(response) => response,
                Err(unserved) => unserved.into_response(worker),
            }
        }
    }
}

/// Answers one for whose connection there is no room. The connection is closed behind it.
pub(crate) fn turn_away<B>(app: &App, request: &Request<B>) -> Response<Body> {
    let dialect = Dialect::recognise(request.uri().path(), request.headers()).unwrap_or(Dialect::OpenAi);
    let refusal =
        Refusal::after(RefusalKind::Short { shortage: Shortage::Descriptors }, ShedSettings::DEFAULT_RETRY_AFTER_MIN);
    let (code, why) = (refusal.code(), refusal.reason());
    tracing::warn!(code, why, "refused");
    let audience = Audience::of(Library::of(request.headers()));
    let mut response = refusal.into_response(dialect, &request_id(request), audience);
    app.note_refusal((code, response.status().as_u16()), ("", None), &why);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The id under which the log knows a request: the caller's own, if it is fit for that.
pub(crate) fn request_id<B>(request: &Request<B>) -> String {
    let plain = |id: &&str| {
        (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let given = request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).filter(plain);
    given.map_or_else(|| format!("req_{:016x}", random()), str::to_owned)
}

/// Says in the log what callers are not told: which key it was that they have shown, and why it counts for nothing.
fn tell_of_key(request_id: &str, shown: &Shown, address: Option<IpAddr>) {
    let (key, why) = match shown {
        Shown::Void(key, void) => (key.as_ref().map(|key| key.id()), void.as_str()),
        Shown::Nothing { has_credential: true } => (None, "unknown"),
        Shown::Nothing { has_credential: false } | Shown::AccessKey | Shown::Key(_) => (None, "none is shown"),
    };
    let address = address.map_or_else(|| "the Unix socket".to_owned(), |address| address.to_string());
    tracing::warn!(request_id, key = key.unwrap_or("-"), why, from = address, "a key is not taken");
}

/// Refuses, and tells of it. The upstream is empty where nobody knows yet where the request goes.
fn refuse(
    app: &App,
    refusal: Refusal,
    dialect: Dialect,
    upstream: &str,
    (request_id, caller): (&str, Option<IpAddr>),
    library: Library,
) -> Response<Body> {
    let (code, why) = (refusal.code(), refusal.reason());
    tracing::info!(request_id, caller = caller.map(tracing::field::display), code, why, "refused");
    let response = refusal.into_response(dialect, request_id, Audience::of(library));
    app.note_refusal((code, response.status().as_u16()), (upstream, None), &why);
    response
}
