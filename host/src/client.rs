//! Calls to upstreams: one pool of connections per worker and upstream, and what can go wrong on the way.

use crate::config::UpstreamConfig;
use crate::shortage::Shortage;
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::dns::{GaiAddrs, GaiFuture, GaiResolver, Name};
use hyper_util::client::legacy::connect::{HttpConnector, HttpInfo};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use spillway_sdk::{Fault, Phase};
use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tower_service::Service;

/// How long an unused connection is kept. Shorter than what providers and load balancers keep it for, so that it is
/// seldom closed under a request.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// Unused connections kept per worker and upstream.
const POOL_IDLE_MAX: usize = 64;

/// A connection that has answered before, was unused for at least so long, and is lost so soon after it was used again,
/// was closed by its provider as unused in the same moment. No server known closes them sooner.
const UNUSED_FOR: Duration = Duration::from_secs(1);
const CLOSED_AS_UNUSED: Duration = Duration::from_secs(1);
/// Connections of which it is known that they have answered. Beyond that it is forgotten of all, and a loss counts as any
/// other until they have answered again.
const ANSWERED_MAX: usize = 1_024;

type BoxError = Box<dyn Error + Send + Sync>;

/// A client of one upstream.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Pool<Connector, RequestBody>,
    /// When connections have last answered, by their own address.
    answered: Rc<RefCell<HashMap<SocketAddr, Instant>>>,
}

/// Why there is no head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// What failed.
    pub fault: Fault,
    /// How far the call had come.
    pub phase: Phase,
    /// What this machine lacked for it: then the provider has had no part in it.
    pub shortage: Option<Shortage>,
    /// Its connection had answered before, and was closed as unused just when it was used again. That is no failure of the
    /// provider's, and nothing was answered: on a fresh connection it is still the same call.
    pub was_closed_as_unused: bool,
}

impl Client {
    /// A client without connections yet.
    pub fn new(upstream: &UpstreamConfig) -> Self {
        let mut http = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
        http.enforce_http(false);
        http.set_nodelay(true);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls().clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let connector = Connector { inner: https, timeout: upstream.connect_timeout };
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(POOL_IDLE_MAX)
            .build(connector);
        Client { pool, answered: Rc::default() }
    }

    /// Sends a request and waits for the head of its answer. Dropping the future ends the call.
    ///
    /// # Errors
    /// When there is none.
    pub async fn send(&self, request: Request<RequestBody>) -> Result<Response<Incoming>, Unanswered> {
        let sent = Instant::now();
        match self.pool.request(request).await {
            Ok(response) => {
                if let Some(connection) = response.extensions().get::<HttpInfo>() {
                    self.has_answered(connection.local_addr());
                }
                Ok(response)
            }
            Err(error) => {
                let fault = fault_of(&error, error.is_connect());
                let mut known = http::Extensions::new();
                if let Some(connection) = error.connect_info() {
                    connection.get_extras(&mut known);
                }
                let connection = known.get::<HttpInfo>().map(HttpInfo::local_addr);
                let answered = connection.and_then(|connection| self.answered.borrow_mut().remove(&connection));
                let was_unused =
                    answered.is_some_and(|answered| sent.saturating_duration_since(answered) >= UNUSED_FOR);
                let phase = if error.is_connect() { Phase::Connecting } else { Phase::Waiting };
                let is_loss = fault == Fault::Reset && phase == Phase::Waiting;
                let was_closed_as_unused = was_unused && is_loss && sent.elapsed() < CLOSED_AS_UNUSED;
                Err(Unanswered { fault, phase, shortage: Shortage::of(&error), was_closed_as_unused })
            }
        }
    }

    fn has_answered(&self, connection: SocketAddr) {
        let mut answered = self.answered.borrow_mut();
        if answered.len() >= ANSWERED_MAX && !answered.contains_key(&connection) {
            answered.clear();
        }
        answered.insert(connection, Instant::now());
    }
}

/// The operating system's trust store, read once; Mozilla's where there is none, as in an empty container. Clones
/// share its sessions, so that every worker can resume what one has begun.
fn tls() -> &'static rustls::ClientConfig {
    static CONFIG: OnceLock<rustls::ClientConfig> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
    })
}

/// What happened, from an error and everything it was caused by.
pub fn fault_of(error: &(dyn Error + 'static), connecting: bool) -> Fault {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<ConnectTimeout>() {
            return Fault::ConnectTimeout;
        }
        if error.is::<NoSuchName>() {
            return Fault::Dns;
        }
        if error.is::<rustls::Error>() {
            return Fault::Tls;
        }
        if let Some(hyper) = error.downcast_ref::<hyper::Error>()
            && hyper.is_parse()
        {
            return Fault::Protocol;
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            if io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
                return Fault::Tls;
            }
            match io.kind() {
                io::ErrorKind::ConnectionRefused => return Fault::ConnectRefused,
                io::ErrorKind::TimedOut if connecting => return Fault::ConnectTimeout,
                _ => {}
            }
        }
        cause = error.source();
    }
    if connecting { Fault::ConnectRefused } else { Fault::Reset }
}

/// What is sent: a whole body that can be sent again, or one that streams through once.
#[derive(Debug)]
pub enum RequestBody {
    /// Held.
    Whole(Full<Bytes>),
    /// Passing through.
    Streaming {
        /// What arrives from the caller.
        body: Incoming,
        /// Set when the caller has not finished it. The client's own error says only that the connection ended.
        broken: Arc<AtomicBool>,
    },
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            RequestBody::Whole(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            RequestBody::Streaming { body, broken } => Pin::new(body).poll_frame(context).map_err(|error| {
                broken.store(true, Ordering::Relaxed);
                error.into()
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Whole(body) => body.is_end_stream(),
            RequestBody::Streaming { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Whole(body) => body.size_hint(),
            RequestBody::Streaming { body, .. } => body.size_hint(),
        }
    }
}

/// Connecting, name resolution and TLS included, took too long.
#[derive(Debug, thiserror::Error)]
#[error("no connection in time")]
struct ConnectTimeout;

/// The upstream's name did not resolve.
#[derive(Debug, thiserror::Error)]
#[error("the name did not resolve")]
struct NoSuchName(#[source] io::Error);

/// Resolves names as the system does, and marks its failures.
#[derive(Clone, Debug)]
struct Resolver(GaiResolver);

impl Service<Name> for Resolver {
    type Response = GaiAddrs;
    type Error = NoSuchName;
    type Future = Resolving;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), NoSuchName>> {
        self.0.poll_ready(context).map_err(NoSuchName)
    }

    fn call(&mut self, name: Name) -> Resolving {
        Resolving(self.0.call(name))
    }
}

struct Resolving(GaiFuture);

impl Future for Resolving {
    type Output = Result<GaiAddrs, NoSuchName>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll(context)).map_err(NoSuchName))
    }
}

/// Connects within a timeout that covers TLS as well.
#[derive(Clone, Debug)]
struct Connector {
    inner: HttpsConnector<HttpConnector<Resolver>>,
    timeout: Duration,
}

impl Service<Uri> for Connector {
    type Response = <HttpsConnector<HttpConnector<Resolver>> as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(self.timeout, self.inner.call(uri));
        Box::pin(async move { connecting.await.unwrap_or_else(|_| Err(Box::new(ConnectTimeout))) })
    }
}
