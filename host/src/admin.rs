//! The control plane's own address: probes, metrics and status.

use crate::downstream::accept::{ACCEPT_PAUSE, Complaint};
use crate::proxy::refusal::Refusal;
use crate::proxy::worker::Shared;
use crate::spool::Spool;
use crate::tenants::guard::Guard;
use crate::upstream::Upstream;
use crate::upstream::circuit::CircuitLook;
use crate::upstream::client::Way;
use crate::upstream::gate::Door;
use crate::upstream::lanes::LaneLook;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use spillway_resilience::{Dimension, Mode};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::net::TcpListener;

/// What there is to see, for whoever comes without knowing.
const INDEX: &str = "Spillway's control plane\n\n\
    /livez    the process lives\n\
    /readyz   it can serve, and what is wrong all the same\n\
    /status   circuits, policies, limits and queue, as JSON\n\
    /metrics  the same as figures, for Prometheus\n";

/// How long the status waits for the spool's counts, on a disk that hangs.
const COUNT_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves until the task is aborted.
pub async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let mut complaint = Complaint::default();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if let Some(unsaid) = complaint.is_due(Instant::now()) {
                    tracing::error!(%error, unsaid, "the admin port could not accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(answer(&shared, &request).await) }
            });
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an admin connection ended early");
            }
        });
    }
}

async fn answer(shared: &Shared, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    // Pages have no business here either, and there is no setting that would let them in.
    if let Err(refusal) = Guard::default().check(request.headers()) {
        let refusal = Refusal::from(refusal);
        return problem(refusal.status(), &refusal.message());
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return problem(StatusCode::METHOD_NOT_ALLOWED, "This path has only GET.");
    }
    match request.uri().path() {
        "/" => text(StatusCode::OK, "text/plain; charset=utf-8", INDEX.to_owned()),
        "/livez" => text(StatusCode::OK, "text/plain; charset=utf-8", "alive\n".to_owned()),
        "/readyz" | "/healthz" => ready(shared),
        "/status" => text(StatusCode::OK, "application/json", format!("{:#}\n", status(shared).await)),
        "/metrics" => {
            let metrics = shared.metrics.text(shared.requests_in_flight());
            text(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", metrics)
        }
        path => problem(StatusCode::NOT_FOUND, &format!("There is no {path} here; / lists what there is.")),
    }
}

/// Ready is who can serve live traffic: whoever is told otherwise sends it elsewhere. What does not keep it from that is
/// told below, a line each.
fn ready(shared: &Shared) -> Response<Full<Bytes>> {
    if shared.is_draining() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", "draining\n".into());
    }
    let troubles = shared.spool.iter().flat_map(Spool::troubles).map(|trouble| format!("spool: {trouble}\n"));
    let body = ["ready\n".to_owned()].into_iter().chain(troubles).collect();
    text(StatusCode::OK, "text/plain; charset=utf-8", body)
}

async fn status(shared: &Shared) -> Value {
    let queue = match &shared.spool {
        None => Value::Null,
        Some(spool) => match tokio::time::timeout(COUNT_TIMEOUT, spool.counts()).await {
            Err(_) => json!({"error": "its disk does not answer", "troubles": spool.troubles()}),
            Ok(Err(error)) => json!({"error": error.to_string(), "troubles": spool.troubles()}),
            Ok(Ok(counts)) => json!({
                "troubles": spool.troubles(),
                "queued": counts.queued,
                "running": counts.leased,
                "done": counts.done,
                "dead": counts.dead,
                "cancelled": counts.cancelled,
                "expired": counts.expired,
                "stored_bytes": counts.stored_bytes,
                "oldest_queued_age_ms": counts.oldest_queued_age_ms(shared.clock.unix_ms()),
            }),
        },
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_ms": shared.clock.now().as_micros() / 1_000,
        "draining": shared.is_draining(),
        "in_flight": shared.requests_in_flight(),
        "held_bytes": shared.bytes_held(),
        "upstreams": shared.upstreams.values().map(|upstream| describe(upstream)).collect::<Vec<_>>(),
        "tenants": shared.callers.doors().map(|(name, door)| json!({"name": name, "limits": limits(door)})).collect::<Vec<_>>(),
        "policies": shared.policies.status(),
        "queue": queue,
    })
}

fn describe(upstream: &Upstream) -> Value {
    json!({
        "name": &*upstream.name,
        "url": upstream.config.url.to_string(),
        "proxy": match upstream.way() {
            Way::Straight => None,
            Way::Through(proxy) => Some(proxy.to_string()),
        },
        "dialect": upstream.config.dialect.as_str(),
        "policy": upstream.policy.name(),
        "limits": limits(&upstream.door),
        "pacing": upstream.lanes.look().iter().map(lane).collect::<Vec<_>>(),
        "breakers": upstream.circuits.look().iter().map(breaker).collect::<Vec<_>>(),
    })
}

fn limits(door: &Door) -> Value {
    door.look(|queue, now| {
        let available = |dimension| queue.limiter().available(dimension, now);
        json!({
            "requests_available": available(Dimension::Requests),
            "tokens_available": available(Dimension::Tokens),
            "in_flight": queue.concurrency().in_flight(),
            "max_in_flight": queue.concurrency().limit(),
            "waiting": queue.waiting(),
        })
    })
}

fn lane(look: &LaneLook) -> Value {
    json!({
        "scope": look.protects,
        "calls_per_second": look.per_second.map(|rate| (rate * 100.0).round() / 100.0),
        "paused_for_ms": look.paused_for.map(|wait| wait.as_millis()),
        "waiting": look.waiting,
    })
}

fn breaker(look: &CircuitLook) -> Value {
    let statistics = &look.statistics;
    let ms = |quantile| statistics.latency(quantile).map(|latency| latency.as_millis());
    json!({
        "scope": look.protects,
        "state": look.state.to_string(),
        "mode": match look.mode {
            Mode::Normal => "normal",
            Mode::ForcedOpen => "forced open",
            Mode::Disabled => "disabled",
            Mode::WatchOnly => "watch only",
        },
        "cause": look.cause,
        "probe_possible_in_ms": look.reopens_in.map(|wait| wait.as_millis()),
        "consecutive_openings": statistics.consecutive_openings,
        "window": {
            "length_ms": statistics.length.as_millis(),
            "requests": statistics.requests,
            "failures": statistics.failures,
            "overloads": statistics.overloads,
            "throttles": statistics.throttles,
            "slow_calls": statistics.slow_calls,
            "consecutive_failures": statistics.consecutive_failures,
            "in_flight": statistics.in_flight,
            "first_content_p50_ms": ms(0.5),
            "first_content_p95_ms": ms(0.95),
        },
    })
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn problem(status: StatusCode, detail: &str) -> Response<Full<Bytes>> {
    let title = status.canonical_reason().unwrap_or("error");
    let body = json!({"title": title, "status": status.as_u16(), "detail": detail});
    text(status, "application/problem+json", body.to_string())
}
