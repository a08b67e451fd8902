//! A caller's connection: the requests that come over it, for how long it may be silent in which direction, and its
//! end.

pub(crate) mod crowd;
mod peer;
mod socket;
pub(crate) mod stream;
mod switched;

use crate::config::Server;
use crate::downstream::connection::crowd::Crowd;
use crate::downstream::connection::socket::{Line, Socket, Stage};
use crate::downstream::connection::stream::Stream;
use crate::downstream::connection::switched::{Place, Switched};
use crate::downstream::cors;
use crate::downstream::serve;
use crate::proxy::app::App;
use crate::proxy::body::{Aborted, Body};
use crate::proxy::unserved::BreakOff;
use crate::proxy::worker::Worker;
use crate::runtime::causes::find;
use crate::runtime::heartbeat::{InHand, Pulse};
use crate::runtime::upload::{UNWANTED_BYTES_MAX, UNWANTED_SILENCE, UNWANTED_TIMEOUT, UnderWay, Upload};
use crate::tenants::guard::Entrance;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

/// Largest head. OpenAI asks its callers to stay below 64 KiB.
const HEAD_BYTES_MAX: usize = 128 << 10;

/// How often, while a caller takes nothing, it is looked whether it has read what lies in the kernel's buffers. They
/// hold megabytes, and have no room for more until a third of that is read.
const LOOKS_PER_TIMEOUT: u32 = 4;

/// A caller that sends no more may have left or wait for its answer. It is looked whether somebody still holds the
/// other end, at first soon, because a process that closes both halves takes a moment for it, and then each second.
const FIRST_LOOK_AFTER: Duration = Duration::from_millis(10);
const LOOK_EVERY_MAX: Duration = Duration::from_secs(1);

/// What is read at once of what nobody wants.
const UNWANTED_PIECE_BYTES: usize = 64 << 10;

/// What a caller hears whose head does not come. It has named no API in whose words to say more.
const HEAD_LATE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Serves a connection until its end.
pub(crate) async fn serve(worker: Rc<Worker>, crowd: Rc<Crowd>, stream: Stream) {
    stream.send_at_once();
    let app = Arc::clone(&worker.app);
    let counted = app.begin_connection();
    let pulse = Arc::clone(&worker.pulse);
    let _of_worker = pulse.begin_connection();
    let port = Entrance::of_port(&app.config.server);
    if port == Entrance::Network {
        stream.ask_whether_it_lives();
    }
    let line = Line::new(stream, port);
    // Whoever comes when there is no room takes that of one that nobody uses, here or at another worker. Without any,
    // it is told so, and does not take the descriptor of a call that is under way.
    let is_one_too_many = app.has_too_many_connections() && !crowd.close_longest_unused();
    if is_one_too_many {
        app.crowded.notify_waiters();
    }
    let _place = crowd.join(Rc::clone(&line), counted);
    let switched = Place::default();
    let (end, ahead) = {
        let served = Rc::clone(&line);
        let place = Rc::clone(&switched);
        let service = service_fn(move |request| {
            let place = Rc::clone(&place);
            let origin = (served.entrance, served.address);
            answer(Rc::clone(&worker), served.begin(), request, origin, is_one_too_many, place)
        });
        let mut connection = http1::Builder::new()
            .header_read_timeout(None)
            .half_close(true)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(Socket(Rc::clone(&line))), service);
        let mut watch = Watch::over(&line, Timeouts::of(&app.config.server));
        let end = tokio::select! {
            end = poll_fn(|context| watch.poll(Pin::new(&mut connection), context)) => end,
            () = drain_begun(&app, &pulse) => {
                Pin::new(&mut connection).graceful_shutdown();
                poll_fn(|context| watch.poll(Pin::new(&mut connection), context)).await
            }
        };
        if let End::StoppedReading = end {
            // What is under way ends with the connection, and says this.
            line.give_up("the caller stopped reading");
        }
        (end, connection.into_parts().read_buf)
    };
    match end {
        End::Closed(Err(error)) => {
            if find::<Aborted>(&error).is_some_and(|aborted| aborted.resets) {
                line.reset_on_close();
            }
            tracing::debug!(%error, "a connection ended early");
        }
        End::StoppedReading => {
            line.reset_on_close();
            tracing::debug!("a caller stopped reading, and its connection is reset");
        }
        End::HeadLate => line.end_with(HEAD_LATE),
        End::Closed(Ok(())) => {
            if let Some(switched) = switched.take() {
                switched.relay(&line, ahead).await;
            }
        }
        End::Unused | End::Left => {}
    }
    if line.is_talked_over() {
        read_unwanted(&line).await;
    }
}

/// Waits until the process drains, or a worker that was stuck finds itself replaced.
pub(crate) async fn drain_begun(app: &App, pulse: &Pulse) {
    tokio::select! {
        () = app.drain_begun() => {}
        () = pulse.replaced() => {}
    }
}

/// Answers a request, and says whether it is under way for as long as its answer lives.
async fn answer(
    worker: Rc<Worker>,
    under_way: Arc<UnderWay>,
    request: Request<Incoming>,
    origin: (Entrance, Option<IpAddr>),
    is_one_too_many: bool,
    switched: Place,
) -> Result<Response<Answer>, BreakOff> {
    let request_id = serve::request_id(&request);
    let in_hand = Rc::new(worker.pulse.take(&request_id));
    let page = worker.app.guard.page(request.headers()).cloned();
    let waits_for_word = request.headers().contains_key(header::EXPECT);
    let response = if is_one_too_many && worker.app.has_too_many_connections() {
        serve::turn_away(&worker.app, &request)
    } else {
        let body_timeout = worker.app.config.server.body_timeout;
        let request = Upload::of(request, body_timeout, Arc::clone(&under_way));
        in_hand.over(serve::serve(worker, request, request_id, origin)).await
    };
    if let Some(break_off) = response.extensions().get::<BreakOff>() {
        return Err(*break_off);
    }
    let response = match response.into_parts() {
        (head, Body::Switched(relay)) => {
            // The head leaves as any other; what follows it is told to whoever has the connection then.
            switched.set(Some(Switched::new(relay, Arc::clone(&under_way), Rc::clone(&in_hand))));
            Response::from_parts(head, Body::empty())
        }
        (head, body) => Response::from_parts(head, body),
    };
    let mut response = response.map(|body| Answer { body, under_way, in_hand });
    if waits_for_word && response.body().under_way.has_more() {
        // Its body is not read, and may come or not.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(page) = page {
        cors::open_to(page, response.headers_mut());
    }
    Ok(response)
}

/// An answer's body, and its request's share in the connection.
struct Answer {
    body: Body,
    under_way: Arc<UnderWay>,
    in_hand: Rc<InHand>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let Answer { body, in_hand, .. } = &mut *self;
        in_hand.run(|| Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let (Body::Arriving(arriving), Some(why)) = (&mut self.body, self.under_way.given_up()) {
            arriving.give_up(why);
        }
    }
}

/// How long a connection may be silent.
#[derive(Clone, Copy, Debug)]
struct Timeouts {
    /// Between two requests.
    unused: Duration,
    /// From the first byte of a head to its last.
    head: Duration,
    /// While more is ready than the caller takes.
    write: Duration,
}

impl Timeouts {
    fn of(server: &Server) -> Self {
        Timeouts { unused: server.keep_alive_timeout, head: server.head_timeout, write: server.write_timeout }
    }
}

/// How a connection ends.
enum End {
    /// By itself.
    Closed(hyper::Result<()>),
    /// The caller has left while it was served.
    Left,
    /// Nobody uses it.
    Unused,
    /// A head has begun, and is not complete in time.
    HeadLate,
    /// The caller takes nothing of its answer.
    StoppedReading,
}

/// Watches over a connection while hyper serves it.
///
/// hyper asks an answer's body for more only while the caller takes what it has got, so whatever bounds that must not
/// hang on the body. And it sees no difference between a caller that has left and one that only sends no more.
struct Watch<'a> {
    line: &'a Line,
    timeouts: Timeouts,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires. It is set anew when it must fire sooner, and otherwise when it has fired.
    fires: Instant,
    had_request: bool,
    /// The next look at a caller that sends no more, and how long after that the next one is.
    look: Option<(Instant, Duration)>,
    /// Whether it was seen to wait all the same.
    was_held: bool,
    blocked: Option<Blocked>,
}

impl<'a> Watch<'a> {
    fn over(line: &'a Line, timeouts: Timeouts) -> Self {
        let fires = Instant::now() + timeouts.unused;
        let timer = Box::pin(sleep_until(fires));
        Watch { line, timeouts, timer, fires, had_request: false, look: None, was_held: false, blocked: None }
    }

    fn poll<C>(&mut self, connection: Pin<&mut C>, context: &mut Context<'_>) -> Poll<End>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        if let Poll::Ready(result) = connection.poll(context) {
            return Poll::Ready(End::Closed(result));
        }
        let has_request = self.line.stage() == Stage::Request;
        if std::mem::replace(&mut self.had_request, has_request) && !has_request {
            self.line.ended_one();
        }
        if has_request
            && self.look.is_none()
            && let Poll::Ready(ended) = self.line.poll_ended(context)
        {
            if ended.is_err() || !self.is_held(Instant::now()) {
                return Poll::Ready(End::Left);
            }
            tracing::debug!("a caller sends no more, and waits for its answer");
        }
        self.note_blocked();
        loop {
            if let Some(due) = self.due().filter(|due| *due < self.fires) {
                self.set_timer(due);
            }
            ready!(self.timer.as_mut().poll(context));
            let now = Instant::now();
            if let Some(end) = self.look(now) {
                return Poll::Ready(end);
            }
            // A request may end without any word to this.
            self.set_timer(self.due().unwrap_or(now + self.timeouts.unused));
        }
    }

    fn set_timer(&mut self, fires: Instant) {
        self.fires = fires;
        self.timer.as_mut().reset(fires);
    }

    fn note_blocked(&mut self) {
        match (self.line.blocked_since(), &self.blocked) {
            (Some(since), Some(blocked)) if blocked.since == since => {}
            (Some(since), _) => self.blocked = Some(Blocked::new(since, self.timeouts.write)),
            (None, Some(_)) => self.blocked = None,
            (None, None) => {}
        }
    }

    /// When there is something to decide.
    fn due(&self) -> Option<Instant> {
        let silence = match self.line.stage() {
            // Of an answer that is still on its way, the caller's reading decides.
            Stage::Idle(_) | Stage::Head(_) if self.blocked.is_some() => None,
            Stage::Idle(since) => Some(since + self.timeouts.unused),
            Stage::Head(since) => Some(since + self.timeouts.head),
            Stage::Request => self.look.map(|(next, _)| next),
        };
        let blocked = self.blocked.as_ref().map(|blocked| blocked.look_at);
        silence.into_iter().chain(blocked).min()
    }

    /// Decides whether it ends.
    fn look(&mut self, now: Instant) -> Option<End> {
        if let Some(blocked) = self.blocked.as_mut().filter(|blocked| now >= blocked.look_at)
            && blocked.has_stopped(now, self.line.unread_bytes(), self.timeouts.write)
        {
            return Some(End::StoppedReading);
        }
        match (self.line.stage(), self.look) {
            (Stage::Idle(_) | Stage::Head(_), _) if self.blocked.is_some() => None,
            (Stage::Idle(since), _) if now >= since + self.timeouts.unused => Some(End::Unused),
            (Stage::Head(since), _) if now >= since + self.timeouts.head => Some(End::HeadLate),
            (Stage::Request, Some((next, _))) if now >= next && !self.is_held(now) => Some(End::Left),
            _ => None,
        }
    }

    /// Whether a caller that sends no more still waits for its answer. Where nobody can tell, it has left: this is what
    /// it almost always means, and what goes on for nobody is paid for. One that was seen to wait goes on waiting until
    /// it is seen to have left.
    fn is_held(&mut self, now: Instant) -> bool {
        let after = self.look.map_or(FIRST_LOOK_AFTER, |(_, after)| (after * 2).min(LOOK_EVERY_MAX));
        self.look = Some((now + after, after));
        self.was_held = self.line.is_held().unwrap_or(self.was_held);
        self.was_held
    }
}

/// A caller that takes nothing of what is ready for it.
#[derive(Debug)]
struct Blocked {
    since: Instant,
    /// When it was last seen to have read something.
    read_at: Instant,
    /// What it had not read by then.
    unread_bytes: Option<u64>,
    /// When to look again.
    look_at: Instant,
}

impl Blocked {
    fn new(since: Instant, timeout: Duration) -> Self {
        Blocked { since, read_at: since, unread_bytes: None, look_at: since + timeout / LOOKS_PER_TIMEOUT }
    }

    /// Whether it has read nothing for as long as the timeout. What it reads is seen in what lies unread in the kernel;
    /// where nobody tells how much that is, a caller that does not make room for more counts as one that reads nothing.
    fn has_stopped(&mut self, now: Instant, unread_bytes: Option<u64>, timeout: Duration) -> bool {
        if let (Some(before), Some(unread)) = (self.unread_bytes, unread_bytes)
            && unread < before
        {
            self.read_at = now;
        }
        // What was read before the first look nobody knows.
        if self.unread_bytes.is_none() && unread_bytes.is_some() {
            self.read_at = now;
        }
        self.unread_bytes = unread_bytes.or(self.unread_bytes);
        let over = self.read_at + timeout;
        self.look_at = over.min(now + timeout / LOOKS_PER_TIMEOUT);
        now >= over
    }
}

/// Reads and drops what still comes behind our last byte, within bounds, until the caller closes as well. A connection
/// that is closed before is reset, and with it goes what the caller has not read of our answer.
async fn read_unwanted(line: &Line) {
    let (until, mut bytes) = (Instant::now() + UNWANTED_TIMEOUT, 0);
    let mut piece = vec![0; UNWANTED_PIECE_BYTES];
    while bytes <= UNWANTED_BYTES_MAX {
        let read = poll_fn(|context| {
            let mut into = ReadBuf::new(&mut piece);
            ready!(line.poll_read(context, &mut into))?;
            Poll::Ready(Ok::<_, std::io::Error>(into.filled().len() as u64))
        });
        match timeout_at(until.min(Instant::now() + UNWANTED_SILENCE), read).await {
            Ok(Ok(read)) if read > 0 => bytes += read,
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_reads_however_little_has_not_stopped() {
        let (since, timeout) = (Instant::now(), Duration::from_secs(60));
        let at = |seconds: u64| since + Duration::from_secs(seconds);
        let mut blocked = Blocked::new(since, timeout);
        let mut looks = Vec::new();
        let mut look = |unread: Option<u64>| {
            let now = blocked.look_at;
            looks.push(now);
            blocked.has_stopped(now, unread, timeout)
        };
        for unread in [5_000, 5_000, 4_999, 4_999, 4_998, 4_998, 4_998, 4_998] {
            assert!(!look(Some(unread)), "{unread}");
        }
        assert!(look(Some(4_998)), "nothing for a minute");
        assert_eq!(looks, [15, 30, 45, 60, 75, 90, 105, 120, 135].map(at));
    }

    #[test]
    fn where_nobody_tells_what_is_read_room_for_more_decides() {
        let (since, timeout) = (Instant::now(), Duration::from_secs(60));
        let mut blocked = Blocked::new(since, timeout);
        let stopped: Vec<bool> = (0..4).map(|_| blocked.has_stopped(blocked.look_at, None, timeout)).collect();
        assert_eq!(stopped, [false, false, false, true]);
    }
}
