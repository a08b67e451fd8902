//! Calls to upstreams: one pool of connections per worker and upstream, and what can go wrong on the way.

mod dial;
mod issuer;
mod pool;
mod stream;
mod switched;
mod through;
mod trouble;
mod trust;
mod way;

pub(crate) use self::dial::keepalive;
pub(crate) use self::issuer::UnknownAuthority;
pub(crate) use self::stream::AbruptEnd;
pub(crate) use self::switched::Switched;
pub(crate) use self::trouble::{Trouble, fault_of};
pub(crate) use self::trust::{Trust, mistakes_of_system};
pub(crate) use self::way::{Way, is_of_this_machine, mistakes_of_environment, proxy_of_environment};

use self::dial::Addresses;
use self::pool::{Connected, Pool, UNUSED_MAX};
use self::stream::{Bottom, Stream, encrypted};
use self::through::{refused, through_socks, to_proxy, tunnelled};
use crate::config::{Proxy, ProxyKind, UpstreamConfig};
use crate::observe::metrics::{OpenConnection, PoolMetrics};
use crate::runtime::causes::ErrorChain;
use crate::runtime::clock::Clock;
use crate::runtime::shortage::Shortage;
use crate::runtime::upload::Upload;
use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use spillway_resilience::Timestamp;
use spillway_sdk::Fault;
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A connection that was unused for at least so long is not known to be alive. One that is lost so soon after it was
/// used again was closed by its provider as unused in the same moment: no server known closes them sooner.
const UNUSED_FOR: Duration = Duration::from_secs(1);
const CLOSED_AS_UNUSED: Duration = Duration::from_secs(1);

type BoxError = Box<dyn Error + Send + Sync>;

/// A client of one upstream. Its clones share their connections.
#[derive(Clone, Debug)]
pub(crate) struct Client(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    destination: Destination,
    pool: RefCell<Pool<Sender>>,
    metrics: Arc<PoolMetrics>,
    /// Whether somebody closes what nobody uses.
    is_swept: Cell<bool>,
}

/// What sends over a connection, decides how it ends, and counts it as open.
type Sender = (SendRequest<RequestBody>, AbruptEnd, OpenConnection);

impl Connected for Sender {
    fn is_closed(&self) -> bool {
        SendRequest::is_closed(&self.0)
    }
}

/// Why there is no head of an answer.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub fault: Fault,
    /// As it was told.
    pub cause: ErrorChain,
    /// What this machine lacked for it: then the provider has had no part in it.
    pub shortage: Option<Shortage>,
    /// Its connection had been unused, and was closed as such just when it was used again. That is no failure of the
    /// provider's, and nothing was answered: on a fresh connection it is still the same call.
    pub was_closed_as_unused: bool,
    /// The request, if nothing of it has left.
    pub unsent: Option<Box<Request<RequestBody>>>,
}

impl Client {
    /// A client without connections yet.
    pub(crate) fn of(config: &UpstreamConfig, trust: Trust, clock: Clock, metrics: Arc<PoolMetrics>) -> Self {
        let destination = Destination::of(config, trust, clock);
        let pool = RefCell::new(Pool::counted_by(Arc::clone(&metrics)));
        Client(Rc::new(Inner { clock, destination, pool, metrics, is_swept: Cell::new(false) }))
    }

    /// A connection that was used before. Whoever can send only once gets none that may be dead.
    pub(crate) fn reuse(&self, may_repeat: bool) -> Option<Connection> {
        let unused_max = if may_repeat { UNUSED_MAX } else { UNUSED_FOR };
        let now = self.0.clock.now();
        let kept = self.0.pool.borrow_mut().take(unused_max, now)?;
        let unused = now.saturating_since(kept.since);
        let (sender, end, counted) = kept.connection;
        Some(Connection { sender, end, counted, made: kept.made, unused, client: self.clone() })
    }

    /// A new connection.
    ///
    /// # Errors
    /// When none can be had in time.
    pub(crate) async fn connect(&self) -> Result<Connection, Trouble> {
        let made = self.0.clock.now();
        let end = AbruptEnd::default();
        let stream = self.0.destination.connect(&end).await?;
        let begun = http1::handshake(TokioIo::new(stream)).await;
        // Nothing is exchanged for that, so it cannot fail; if it does, the connection is of no use.
        let (sender, connection) =
            begun.map_err(|error| Trouble::told_by(fault_of(&error), error.to_string(), error))?;
        // What has switched to another protocol is handed over, and never comes back to the pool.
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to an upstream ended early");
            }
        });
        let counted = self.0.metrics.opened();
        Ok(Connection { sender, end, counted, made, unused: Duration::ZERO, client: self.clone() })
    }

    /// What a proxy that is asked by whole URLs says of itself rather than of the upstream.
    pub(crate) fn refused_by_proxy(&self, status: StatusCode) -> Option<Trouble> {
        let destination = &self.0.destination;
        let proxy = destination.asked_by_url().filter(|_| status == StatusCode::PROXY_AUTHENTICATION_REQUIRED)?;
        Some(refused(proxy, &destination.target, status))
    }

    /// A connection turned out to be closed just when it was used again. Those beside it have been unused for longer.
    pub(crate) fn was_closed_under_call(&self) {
        self.0.metrics.closed_under_call();
        self.forget_unused();
    }

    /// What was unused is not to be trusted: one of them has turned out to be dead.
    pub(crate) fn forget_unused(&self) {
        self.0.pool.borrow_mut().clear();
    }

    fn put(&self, sender: Sender, made: Timestamp) {
        self.0.pool.borrow_mut().put(sender, made, self.0.clock.now());
        if !self.0.is_swept.replace(true) {
            tokio::task::spawn_local(sweep(Rc::downgrade(&self.0)));
        }
    }
}

/// Closes connections that nobody uses, for as long as there are any.
async fn sweep(client: Weak<Inner>) {
    loop {
        tokio::time::sleep(UNUSED_MAX / 2).await;
        let Some(client) = client.upgrade() else { return };
        if !client.pool.borrow_mut().prune(client.clock.now()) {
            client.is_swept.set(false);
            return;
        }
    }
}

/// A connection to an upstream, for one call at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<RequestBody>,
    end: AbruptEnd,
    counted: OpenConnection,
    made: Timestamp,
    unused: Duration,
    client: Client,
}

impl Connection {
    /// Whether nothing is known of it that is recent: it may have died since.
    pub(crate) fn may_be_dead(&self) -> bool {
        self.unused >= UNUSED_FOR
    }

    /// Sends a request and waits for the head of its answer. Dropping the future ends the call and the connection; else
    /// that is used again when the answer has ended.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn send(mut self, mut request: Request<RequestBody>) -> Result<Response<Incoming>, Unanswered> {
        let may_be_dead = self.may_be_dead();
        let sent = self.client.0.clock.now();
        self.client.0.destination.address(&mut request);
        match self.sender.try_send_request(request).await {
            Ok(mut response) => {
                let Connection { mut sender, end, counted, made, client, .. } = self;
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    response.extensions_mut().insert(end);
                } else if sender.is_ready() {
                    // A short answer has come as a whole, with its head.
                    client.put((sender, end, counted), made);
                } else {
                    tokio::task::spawn_local(async move {
                        if sender.ready().await.is_ok() {
                            client.put((sender, end, counted), made);
                        }
                    });
                }
                Ok(response)
            }
            Err(mut failed) => {
                let unsent = failed.take_message().map(Box::new);
                let error = failed.into_error();
                let fault = fault_of(&error);
                let elapsed = self.client.0.clock.now().saturating_since(sent);
                let was_closed_as_unused = may_be_dead && fault == Fault::Reset && elapsed < CLOSED_AS_UNUSED;
                let shortage = Shortage::of(&error);
                let cause = ErrorChain::of(error);
                Err(Unanswered { fault, cause, shortage, was_closed_as_unused, unsent })
            }
        }
    }
}

/// Where an upstream is, and how it is reached.
struct Destination {
    /// Host and port, as they are asked of a proxy and named in messages.
    target: String,
    host: String,
    is_encrypted: bool,
    trust: Trust,
    way: Way,
    /// What is connected to: the upstream, or the proxy before it.
    addresses: Addresses,
    /// Only for a proxy that wants addresses instead of names.
    own_addresses: Option<Addresses>,
    timeout: Duration,
}

/// How far a connection has come, for the message when it takes too long.
#[derive(Clone, Copy)]
enum Stage {
    Connecting,
    Proxy,
    Tls,
}

impl Destination {
    fn of(config: &UpstreamConfig, trust: Trust, clock: Clock) -> Destination {
        let base = &config.url;
        let (host, port) = (base.host().to_owned(), base.port());
        let way = Way::to(base, &config.proxy);
        let own = || Addresses::of(&host, port, clock);
        let (addresses, own_addresses) = match &way {
            Way::Straight => (own(), None),
            Way::Through(proxy) => {
                let resolves_here = proxy.kind() == ProxyKind::Socks { resolves_here: true };
                (Addresses::of(proxy.host(), proxy.port(), clock), resolves_here.then(own))
            }
        };
        Destination {
            target: format!("{host}:{port}"),
            host,
            is_encrypted: base.is_encrypted(),
            trust,
            way,
            addresses,
            own_addresses,
            timeout: config.connect_timeout,
        }
    }

    /// Connects within a timeout that covers name, proxy and TLS as well.
    async fn connect(&self, end: &AbruptEnd) -> Result<Stream, Trouble> {
        let stage = Cell::new(Stage::Connecting);
        let connected = tokio::time::timeout(self.timeout, self.connect_in_stages(&stage, end)).await;
        connected.unwrap_or_else(|_| {
            let within = format!("within {} ms", self.timeout.as_millis());
            Err(Trouble::new(
                Fault::ConnectTimeout,
                match (stage.get(), &self.way) {
                    (Stage::Connecting, Way::Straight) => {
                        format!("connect timeout: {} did not answer {within}", self.target)
                    }
                    (Stage::Connecting, Way::Through(proxy)) => {
                        format!("connect timeout: the proxy {proxy} did not answer {within}")
                    }
                    (Stage::Proxy, _) => {
                        format!("connect timeout: the proxy did not connect to {} {within}", self.target)
                    }
                    (Stage::Tls, _) => {
                        format!("connect timeout: TLS with {} was not agreed upon {within}", self.target)
                    }
                },
            ))
        })
    }

    async fn connect_in_stages(&self, stage: &Cell<Stage>, end: &AbruptEnd) -> Result<Stream, Trouble> {
        let stream: Stream = match &self.way {
            Way::Straight => Box::new(Bottom::new(self.addresses.connect().await?, end.clone())),
            Way::Through(proxy) => {
                let stream = to_proxy(proxy, &self.addresses, &self.trust, end).await?;
                stage.set(Stage::Proxy);
                match proxy.kind() {
                    ProxyKind::Http { .. } if self.is_encrypted => tunnelled(stream, proxy, &self.target).await?,
                    // It is asked for each request by its whole URL.
                    ProxyKind::Http { .. } => stream,
                    ProxyKind::Socks { .. } => through_socks(stream, proxy, &self.as_socks_target().await?).await?,
                }
            }
        };
        if !self.is_encrypted {
            return Ok(stream);
        }
        stage.set(Stage::Tls);
        encrypted(stream, &self.host, &self.target, &self.trust).await
    }

    async fn as_socks_target(&self) -> Result<Uri, Trouble> {
        let target = match &self.own_addresses {
            Some(addresses) => addresses.first().await?.to_string(),
            None => self.target.clone(),
        };
        let uri = Uri::builder().scheme("socks").authority(target).path_and_query("/").build();
        uri.map_err(|error| Trouble::told_by(Fault::Protocol, format!("no proxy can be asked: {error}"), error))
    }

    /// The proxy that gets requests with whole URLs, since they are not encrypted.
    fn asked_by_url(&self) -> Option<&Proxy> {
        match &self.way {
            Way::Through(proxy) if !self.is_encrypted && matches!(proxy.kind(), ProxyKind::Http { .. }) => Some(proxy),
            Way::Through(_) | Way::Straight => None,
        }
    }

    /// Puts a request's URL into the form in which this way wants it (RFC 9112, section 3.2).
    fn address(&self, request: &mut Request<RequestBody>) {
        match self.asked_by_url() {
            Some(proxy) => {
                if let Some(authorization) = proxy.authorization() {
                    request.headers_mut().insert(header::PROXY_AUTHORIZATION, authorization.clone());
                }
            }
            None => {
                let path_and_query = request.uri().path_and_query().cloned();
                *request.uri_mut() = path_and_query.map_or_else(|| Uri::from_static("/"), Uri::from);
            }
        }
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Destination").field("target", &self.target).field("way", &self.way).finish_non_exhaustive()
    }
}

/// What is sent: a whole body that can be sent again, or one that streams through once.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// Held.
    Whole(Full<Bytes>),
    /// Passing through.
    Streaming(Upload),
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            RequestBody::Whole(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            RequestBody::Streaming(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Whole(body) => body.is_end_stream(),
            RequestBody::Streaming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Whole(body) => body.size_hint(),
            RequestBody::Streaming(body) => body.size_hint(),
        }
    }
}
