//! A connection on which requests come side by side: HTTP/2.
//!
//! What holds for a connection over HTTP/1.1 holds for each stream here. A caller that takes its request back, or is
//! gone, ends what was done for it. One that takes nothing of an answer ends that answer, and the others go on. An
//! answer that breaks off is reset, and never ends as if it were whole.

use crate::dialect::headers::strip_hop_by_hop;
use crate::downstream::connection::socket::{Line, Socket};
use crate::downstream::connection::switched::Place;
use crate::downstream::connection::watch::{End, Timeouts, Watch};
use crate::downstream::connection::{Answer, HEAD_BYTES_MAX, answer, drain_begun};
use crate::proxy::body::Aborted;
use crate::proxy::unserved::BreakOff;
use crate::proxy::worker::Worker;
use crate::runtime::upload::UnderWay;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::task::spawn_local;
use tokio::time::{Instant, Sleep, sleep_until};

/// Most requests side by side on a connection, as callers are told: one with more sends them over another connection,
/// or has them wait.
const STREAMS_MAX: u32 = 250;
/// How much a caller may send of a body ahead of what is read of it: what fits on a line of a hundred milliseconds at
/// some megabytes a second.
const STREAM_WINDOW_BYTES: u32 = 512 << 10;
/// The same for all bodies of a connection together, which is what a connection can make Spillway hold of what nobody
/// reads.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Most of an answer that waits for its caller to take it, besides the piece that was handed over last: from there on
/// nothing more is read of the provider.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// How much of an answer is handed over at once: a frame, as large as every caller takes one.
const PIECE_BYTES: usize = 16 << 10;

/// How many requests a caller may take back at once, before its connection is closed: several times as many as it can
/// have side by side, so that whoever gives all of them up may do so.
const RESETS_MAX: u32 = 1_000;
/// How many more with each second.
const RESETS_PER_SECOND: u32 = 100;

/// Serves a connection until its end.
pub(super) async fn serve(worker: &Rc<Worker>, line: &Rc<Line>, is_one_too_many: bool) -> End {
    let (app, pulse) = (Arc::clone(&worker.app), Arc::clone(&worker.pulse));
    let timeouts = Timeouts::of(&app.config.server);
    let streams = Streams {
        line: Rc::clone(line),
        begun: Rc::default(),
        resets: Rc::new(RefCell::new(Resets::new(Instant::now()))),
        write_timeout: timeouts.write,
    };
    let service = {
        let (worker, streams) = (Rc::clone(worker), streams.clone());
        service_fn(move |request| {
            // It is under way from here on, and not from when somebody asks for its answer.
            let (line, share) = (Rc::clone(&streams.line), streams.line.begin());
            answer_one(Rc::clone(&worker), line, share, streams.begin(), request, is_one_too_many)
        })
    };
    let connection = http2::Builder::new(streams)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(Some(STREAMS_MAX as usize))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Socket(Rc::clone(line))), service);
    let mut connection = pin!(connection);
    let mut watch = Watch::over(line, timeouts);
    let end = tokio::select! {
        end = poll_fn(|context| watch.poll(connection.as_mut(), context)) => end,
        () = drain_begun(&app, &pulse) => {
            connection.as_mut().graceful_shutdown();
            poll_fn(|context| watch.poll(connection.as_mut(), context)).await
        }
    };
    if let End::StoppedReading = end {
        line.give_up(STOPPED_READING);
    }
    end
}

/// Why an answer ends whose caller takes nothing of it.
pub(super) const STOPPED_READING: &str = "the caller stopped reading";

/// Answers a request as it is answered over HTTP/1.1, without what is said of a connection there.
async fn answer_one(
    worker: Rc<Worker>,
    line: Rc<Line>,
    share: Arc<UnderWay>,
    stream: Rc<OneStream>,
    request: Request<Incoming>,
    is_one_too_many: bool,
) -> Result<Response<StreamAnswer>, BreakOff> {
    let request = as_over_http1(request);
    let under_way = Arc::clone(&stream.under_way);
    let answered = answer(worker, line, under_way, request, is_one_too_many, Place::default()).await;
    let answered = answered.inspect_err(|_| stream.has_ended.set(true))?;
    let mut response = answered.map(|answer| StreamAnswer { answer, rest: Bytes::new(), stream, _share: share });
    strip_hop_by_hop(response.headers_mut());
    response.body().note_end();
    Ok(response)
}

/// A request as HTTP/1.1 would have brought it: its authority in `Host`, and its cookies in one header (RFC 9113,
/// sections 8.2.3 and 8.3.1).
fn as_over_http1<B>(mut request: Request<B>) -> Request<B> {
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str()).ok();
        let path = request.uri().path_and_query().cloned();
        // One that says something else beside it is refused for having two.
        if let Some(host) = host.filter(|host| request.headers().get(header::HOST) != Some(host)) {
            request.headers_mut().append(header::HOST, host);
        }
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    let crumbs: Vec<&[u8]> = request.headers().get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        request.headers_mut().insert(header::COOKIE, cookie);
    }
    request
}

/// One request on a connection, and its answer.
#[derive(Debug, Default)]
struct OneStream {
    under_way: Arc<UnderWay>,
    /// Since when more of the answer is at hand than its caller has made room for.
    given_since: Cell<Option<Instant>>,
    /// Whether the answer has been handed over to its end, or was broken off by us.
    has_ended: Cell<bool>,
}

/// An answer's body, in pieces.
#[derive(Debug)]
struct StreamAnswer {
    answer: Answer,
    /// What is left of the piece that has come last.
    rest: Bytes,
    stream: Rc<OneStream>,
    _share: Arc<UnderWay>,
}

impl StreamAnswer {
    fn note_end(&self) {
        if http_body::Body::is_end_stream(self) {
            self.stream.has_ended.set(true);
        }
    }
}

impl http_body::Body for StreamAnswer {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let this = &mut *self;
        // hyper asks for more when the caller has made room for what it has got.
        this.stream.given_since.set(None);
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.answer).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(trailers) => {
                        this.stream.has_ended.set(true);
                        return Poll::Ready(Some(Ok(trailers)));
                    }
                },
                ended => {
                    this.stream.has_ended.set(true);
                    return Poll::Ready(ended);
                }
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE_BYTES));
        this.stream.given_since.set(Some(Instant::now()));
        this.note_end();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // It is asked for before the first piece, for the length that the head says.
        if self.rest.is_empty() { self.answer.size_hint() } else { SizeHint::new() }
    }
}

/// Has each stream's work done on the connection's thread, and watches over it.
#[derive(Clone)]
struct Streams {
    line: Rc<Line>,
    /// The stream whose request has just come. hyper hands its work over before another one comes.
    begun: Rc<Cell<Option<Rc<OneStream>>>>,
    resets: Rc<RefCell<Resets>>,
    write_timeout: Duration,
}

impl Streams {
    fn begin(&self) -> Rc<OneStream> {
        let stream = Rc::<OneStream>::default();
        self.begun.set(Some(Rc::clone(&stream)));
        stream
    }
}

impl<F: Future + 'static> Executor<F> for Streams {
    fn execute(&self, work: F) {
        let stream = self.begun.take().unwrap_or_default();
        spawn_local(Attended { work: Some(Box::pin(work)), stream, streams: self.clone(), timer: None });
    }
}

/// A stream's work, which ends when its caller takes nothing of what it has got for as long as it may.
///
/// Over HTTP/2 what a caller reads is seen when it makes room for more, which most do when they have read half of what
/// they had room for. One that reads some bytes now and then is not told from one that has stopped.
struct Attended<F> {
    work: Option<Pin<Box<F>>>,
    stream: Rc<OneStream>,
    streams: Streams,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Future for Attended<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(work) = &mut this.work else { return Poll::Ready(()) };
        if work.as_mut().poll(context).is_ready() {
            if !this.stream.has_ended.get() && this.streams.resets.borrow_mut().is_flood(Instant::now()) {
                this.streams.line.flood();
            }
            return Poll::Ready(());
        }
        let Some(since) = this.stream.given_since.get() else { return Poll::Pending };
        let due = since + this.streams.write_timeout;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        ready!(timer.as_mut().poll(context));
        tracing::debug!("a caller stopped reading, and its stream is reset");
        this.stream.under_way.give_up(STOPPED_READING);
        // What is dropped unfinished is reset.
        this.work = None;
        Poll::Ready(())
    }
}

/// How many requests a caller has taken back of late.
#[derive(Debug)]
struct Resets {
    /// How many, less those that time has let pass.
    count: u32,
    /// Up to when time has done so.
    until: Instant,
}

impl Resets {
    fn new(now: Instant) -> Resets {
        Resets { count: 0, until: now }
    }

    /// Takes note of one more. Whether they are too many.
    fn is_flood(&mut self, now: Instant) -> bool {
        let step = Duration::from_secs(1) / RESETS_PER_SECOND;
        let steps = now.saturating_duration_since(self.until).as_nanos() / step.as_nanos();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.count = self.count.saturating_sub(steps);
        self.until = if self.count == 0 { now } else { self.until + step * steps };
        self.count += 1;
        self.count > RESETS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_http1_would_have_brought_it() {
        let request = |uri: &'static str, headers: &[(&'static str, &'static str)]| {
            let request = headers
                .iter()
                .fold(Request::builder().uri(uri), |request, (name, value)| request.header(*name, *value));
            as_over_http1(request.body(()).expect("a request"))
        };
        let plain = request("https://spillway:4141/v1/models?a=b", &[("cookie", "a=1"), ("cookie", "b=2")]);
        assert_eq!(plain.uri(), "/v1/models?a=b");
        assert_eq!(
            [&plain.headers()["host"], &plain.headers()["cookie"]].map(HeaderValue::as_bytes),
            [&b"spillway:4141"[..], b"a=1; b=2"]
        );
        let named = request("https://spillway/", &[("host", "spillway")]);
        assert_eq!(named.headers().get_all("host").iter().count(), 1);
        let odd = request("https://spillway/", &[("host", "other")]);
        assert_eq!(odd.headers().get_all("host").iter().count(), 2, "which is refused");
    }

    #[test]
    fn who_takes_many_requests_back_is_no_flood_unless_it_goes_on() {
        let began = Instant::now();
        let mut resets = Resets::new(began);
        assert!((0..RESETS_MAX).all(|_| !resets.is_flood(began)), "all that it has");
        assert!(resets.is_flood(began), "and one more");
        let mut resets = Resets::new(began);
        let each = Duration::from_secs(1) / RESETS_PER_SECOND;
        assert!((0..10 * RESETS_MAX).all(|number| !resets.is_flood(began + each * number)), "for as long as it likes");
        let floods = (0..10 * RESETS_MAX).filter(|number| resets.is_flood(began + each * *number / 2)).count();
        assert!(floods > 0, "twice as many");
    }
}
