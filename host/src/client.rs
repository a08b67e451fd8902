//! Calls to upstreams: one pool of connections per worker and upstream, and what can go wrong on the way.

use crate::config::UpstreamConfig;
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiAddrs, GaiFuture, GaiResolver, Name};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use spillway_sdk::{Fault, Phase};
use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tower_service::Service;

/// How long an unused connection is kept. Shorter than what providers and load balancers keep it for, so that it is
/// seldom closed under a request.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// Unused connections kept per worker and upstream.
const POOL_IDLE_MAX: usize = 64;

type BoxError = Box<dyn Error + Send + Sync>;

/// A client of one upstream.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Pool<Connector, RequestBody>,
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
        Client { pool }
    }

    /// Sends a request and waits for the head of its answer. Dropping the future ends the call.
    ///
    /// # Errors
    /// What failed, and how far the call had come.
    pub async fn send(&self, request: Request<RequestBody>) -> Result<Response<Incoming>, (Fault, Phase)> {
        self.pool.request(request).await.map_err(|error| {
            let phase = if error.is_connect() { Phase::Connecting } else { Phase::Waiting };
            (fault_of(&error, error.is_connect()), phase)
        })
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
