//! The shell: sockets, hyper and the sending of a plan step by step.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::control;
use super::dialects::Answer;
use super::lock;
use super::observe::{Exchange, MAX_RECORDED_BYTES, Observer, Outcome, RecordedRequest};
use super::plan::{Break, Plan, Step};
use super::reply::respond;
use super::script::Script;
use super::sockets;

/// What the test's side and the server's side share.
pub(super) struct Shared {
    pub(super) script: Mutex<Script>,
    pub(super) observer: Arc<Observer>,
}

/// Accepts until dropped; dropping the runtime it runs on drops its connections.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve_connection(stream, shared.clone()));
            }
            // Out of descriptors, most likely. Without a pause this loop would keep others from closing theirs.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>) {
    let open = shared.observer.connection_opened();
    // An event must leave when it is sent. Should the option be refused, it leaves a little later.
    let _ = stream.set_nodelay(true);
    let wire = Arc::new(Wire::default());
    let io = WatchedIo { io: TokioIo::new(stream), wire: wire.clone() };
    let service = service_fn(|request| answer(request, open.number, &shared, &wire));
    // Errors are broken connections: scripted, or the client's doing and then counted as such.
    let _ = http1::Builder::new().serve_connection(io, service).with_upgrades().await;
}

async fn answer(
    mut request: Request<Incoming>,
    connection: u64,
    shared: &Shared,
    wire: &Arc<Wire>,
) -> io::Result<Response<ScriptedBody>> {
    let connection_to_be = hyper::upgrade::on(&mut request);
    let (request, too_large) = receive(request, connection).await?;
    let controlled = control::answer(&request, shared);
    let (request, mut exchange) = match controlled {
        Some(_) => (Arc::new(request), Exchange::uncounted(&shared.observer)),
        None => shared.observer.request_started(request),
    };
    let mut reply = if let Some(reply) = controlled {
        reply
    } else if too_large {
        respond(413).body("The mock provider takes no body of this size.")
    } else {
        lock(&shared.script).reply_to(&request)
    };
    reply.gzipped &= accepts_gzip(&request);
    for pause in std::mem::take(&mut reply.before_head) {
        pause.wait().await;
    }
    if let Some(kind) = reply.instead_of_head {
        exchange.settle(Outcome::Broken);
        return Err(wire.break_off(kind));
    }
    if let Some((status, headers)) = sockets::agree(&request, &reply) {
        let wire = wire.clone();
        tokio::spawn(sockets::speak(connection_to_be, request, reply, exchange, move |kind| wire.break_off(kind)));
        let nothing = Exchange::uncounted(&shared.observer);
        let mut response = Response::new(ScriptedBody::new(Vec::new(), Some(0), nothing, Arc::default()));
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        return Ok(response);
    }
    let answer = Answer::to(&reply, &request);
    let Plan { status, headers, steps, length } = Plan::new(reply, answer);
    let body = ScriptedBody::new(steps, length, exchange, wire.clone());
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

fn accepts_gzip(request: &RecordedRequest) -> bool {
    let accepted = request.header("accept-encoding").unwrap_or_default();
    accepted.split(',').any(|coding| coding.split(';').next().is_some_and(|name| name.trim() == "gzip"))
}

/// Reads a request whole; of a body beyond the bound only the beginning is kept, and the rest read and dropped.
async fn receive(request: Request<Incoming>, connection: u64) -> io::Result<(RecordedRequest, bool)> {
    let (head, mut incoming) = request.into_parts();
    let mut body = BytesMut::new();
    let mut too_large = false;
    while let Some(frame) = incoming.frame().await {
        if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
            too_large |= body.len() + data.len() > MAX_RECORDED_BYTES;
            if !too_large {
                body.extend_from_slice(&data);
            }
        }
    }
    let headers = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let recorded = RecordedRequest {
        number: 0,
        connection,
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        headers: headers.collect(),
        json: serde_json::from_slice(&body).unwrap_or(Value::Null),
        body: body.freeze(),
        at: Instant::now(),
    };
    Ok((recorded, too_large))
}

/// A body that plays its steps.
struct ScriptedBody {
    steps: std::vec::IntoIter<Step>,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    breaking: Option<Break>,
    /// Bytes not yet handed out, if their number was announced.
    remaining: Option<u64>,
    exchange: Exchange,
    wire: Arc<Wire>,
}

impl ScriptedBody {
    fn new(steps: Vec<Step>, length: Option<u64>, exchange: Exchange, wire: Arc<Wire>) -> Self {
        let steps = steps.into_iter();
        let mut body = Self { steps, waiting: None, breaking: None, remaining: length, exchange, wire };
        body.settle_if_whole();
        body
    }

    /// hyper drops a body without another look once the announced length is reached.
    fn settle_if_whole(&mut self) {
        if self.remaining == Some(0) {
            self.exchange.settle(Outcome::Completed);
        }
    }
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        loop {
            if let Some(waiting) = &mut this.waiting {
                ready!(waiting.as_mut().poll(cx));
                this.waiting = None;
            }
            if let Some(kind) = this.breaking {
                this.exchange.settle(Outcome::Broken);
                return Poll::Ready(Some(Err(this.wire.break_off(kind))));
            }
            match this.steps.next() {
                Some(Step::Send(data)) => {
                    this.remaining = this.remaining.map(|bytes| bytes.saturating_sub(data.len() as u64));
                    this.settle_if_whole();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Step::Hold(pause)) => this.waiting = Some(Box::pin(pause.wait())),
                Some(Step::Break(kind)) => {
                    this.breaking = Some(kind);
                    this.waiting = Some(Box::pin(this.wire.flushed.clone().notified_owned()));
                }
                // Done when the plan was made.
                Some(Step::ErrorEvent | Step::End) => {}
                None => {
                    this.exchange.settle(Outcome::Completed);
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// What a body and its connection tell one another.
#[derive(Default)]
struct Wire {
    /// Told each time all that hyper had buffered is with the kernel. hyper forgets its buffer when a body fails, so a
    /// body that wants to break off waits for this first.
    flushed: Arc<Notify>,
    reset_on_close: AtomicBool,
}

impl Wire {
    /// The error that makes hyper drop the connection, which then ends as wished.
    fn break_off(&self, kind: Break) -> io::Error {
        match kind {
            Break::Close => {}
            Break::Reset => self.reset_on_close.store(true, Ordering::Release),
        }
        io::Error::other("broken off as scripted")
    }
}

/// A connection that reports its flushes and resets itself on demand when dropped.
struct WatchedIo {
    io: TokioIo<TcpStream>,
    wire: Arc<Wire>,
}

impl Drop for WatchedIo {
    fn drop(&mut self) {
        if self.wire.reset_on_close.load(Ordering::Acquire) {
            // Closing with a linger time of zero sends RST instead of FIN. This fails only on a socket already dead.
            let _ = socket2::SockRef::from(self.io.inner()).set_linger(Some(Duration::ZERO));
        }
    }
}

impl Read for WatchedIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl Write for WatchedIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.wire.flushed.notify_waiters();
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
