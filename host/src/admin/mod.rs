//! The control plane's own address: probes, metrics and status.

pub(crate) mod status;
pub(crate) mod tokens;

use crate::downstream::accept::ACCEPT_PAUSE;
use crate::proxy::app::App;
use crate::proxy::refusal::Refusal;
use crate::runtime::complaint::Complaint;
use crate::spool::Spool;
use crate::tenants::guard::{Entrance, Guard};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use status::Status;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokens::Tokens;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// What there is to see, for whoever comes without knowing.
const INDEX: &str = "Spillway's control plane\n\n\
    /livez    the process lives\n\
    /readyz   it can serve, and what is wrong all the same\n\
    /status   circuits, policies, limits and queue, as JSON\n\
    /metrics  the same as figures, for Prometheus\n";

/// Most connections of operators on other machines. More are closed: those that ask are few, and ask often.
const CONNECTIONS_MAX: usize = 128;
/// How long a handshake may take there.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until the task is aborted.
pub(crate) async fn serve(app: Arc<App>, listener: TcpListener) {
    let admin = &app.config.admin;
    let tokens = Arc::new(Tokens::of(admin));
    let tls =
        app.means.tls.as_ref().filter(|_| admin.speaks_tls()).map(|tls| TlsAcceptor::from(Arc::clone(&tls.operators)));
    let places = admin.is_beyond_this_machine().then(|| Arc::new(Semaphore::new(CONNECTIONS_MAX)));
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
        let place = places.as_ref().map(|places| Arc::clone(places).try_acquire_owned());
        let Ok(place) = place.transpose() else { continue };
        let (app, tokens, tls) = (Arc::clone(&app), Arc::clone(&tokens), tls.clone());
        tokio::spawn(async move {
            let _place = place;
            match tls {
                None => connected(app, tokens, stream).await,
                Some(tls) => match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                    Ok(Ok(stream)) => connected(app, tokens, stream).await,
                    Ok(Err(error)) => tracing::debug!(%error, "an operator could not agree on TLS"),
                    Err(_) => tracing::debug!("an operator did not agree on TLS in time"),
                },
            }
        });
    }
}

/// Serves a connection until its end.
async fn connected<S: AsyncRead + AsyncWrite + Unpin>(app: Arc<App>, tokens: Arc<Tokens>, stream: S) {
    let service = service_fn(move |request| {
        let (app, tokens) = (Arc::clone(&app), Arc::clone(&tokens));
        async move { Ok::<_, Infallible>(answer(&app, &tokens, &request).await) }
    });
    let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "an admin connection ended early");
    }
}

async fn answer(app: &App, tokens: &Tokens, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    // Pages have no business here either, and there is no setting that would let them in.
    let entrance = if app.config.admin.is_beyond_this_machine() { Entrance::Network } else { Entrance::Port };
    if let Err(refusal) = Guard::default().check(request.uri(), request.headers(), entrance) {
        let refusal = Refusal::from(refusal);
        return problem(refusal.status(), &refusal.reason());
    }
    // Whoever sends traffic elsewhere when this one cannot serve is no operator, and learns nothing else.
    let is_probe = matches!(request.uri().path(), "/livez" | "/readyz" | "/healthz");
    if !is_probe && let Err(denied) = tokens.check(request.method(), request.headers()) {
        let mut response = problem(denied.status(), denied.reason());
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return problem(StatusCode::METHOD_NOT_ALLOWED, "This path has only GET.");
    }
    match request.uri().path() {
        "/" => text(StatusCode::OK, "text/plain; charset=utf-8", INDEX.to_owned()),
        "/livez" => text(StatusCode::OK, "text/plain; charset=utf-8", "alive\n".to_owned()),
        "/readyz" | "/healthz" => ready(app, tokens.check(request.method(), request.headers()).is_ok()),
        "/status" => match serde_json::to_string_pretty(&Status::of(app).await) {
            Ok(status) => text(StatusCode::OK, "application/json", status + "\n"),
            Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        },
        "/metrics" => {
            let in_flight = app.requests_in_flight();
            match wants_older_text(request.headers()) {
                true => {
                    let older = "text/plain; version=0.0.4; charset=utf-8";
                    text(StatusCode::OK, older, app.metrics.older_text(in_flight))
                }
                false => {
                    let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                    text(StatusCode::OK, open_metrics, app.metrics.text(in_flight))
                }
            }
        }
        path => problem(StatusCode::NOT_FOUND, &format!("There is no {path} here; / lists what there is.")),
    }
}

/// Whether who asks for metrics takes the text from before OpenMetrics, and says nothing of the latter.
fn wants_older_text(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.contains("text/plain") && !accepted.contains("openmetrics")
}

/// Ready is who can serve live traffic: whoever is told otherwise sends it elsewhere. What does not keep it from that
/// is told below, a line each, to whoever may see how things stand.
fn ready(app: &App, may_see: bool) -> Response<Full<Bytes>> {
    if app.is_draining() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", "draining\n".into());
    }
    let of_spool = app.spool.iter().flat_map(Spool::troubles).map(|trouble| format!("spool: {trouble}\n"));
    let of_ledger = app.ledger.iter().filter_map(|ledger| Some(format!("ledger: {}\n", ledger.trouble()?)));
    let troubles = of_spool.chain(of_ledger).filter(|_| may_see);
    let body = ["ready\n".to_owned()].into_iter().chain(troubles).collect();
    text(StatusCode::OK, "text/plain; charset=utf-8", body)
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The only way in which this address refuses anything: as RFC 9457 has it.
fn problem(status: StatusCode, detail: &str) -> Response<Full<Bytes>> {
    let title = status.canonical_reason().unwrap_or("error");
    let body = json!({"title": title, "status": status.as_u16(), "detail": detail});
    text(status, "application/problem+json", body.to_string())
}
