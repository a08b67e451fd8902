//! A caller's connection: the requests that come over it, for how long it may be silent in which direction, and its
//! end.

pub(crate) mod crowd;
mod encrypted;
pub(crate) mod handshake;
mod multiplexed;
mod peer;
mod socket;
pub(crate) mod stream;
mod switched;
mod watch;

use crate::downstream::connection::crowd::Crowd;
use crate::downstream::connection::handshake::Handshakes;
use crate::downstream::connection::multiplexed::STOPPED_READING;
use crate::downstream::connection::socket::{Line, Socket};
use crate::downstream::connection::stream::Stream;
use crate::downstream::connection::switched::{Place, Switched};
use crate::downstream::connection::watch::{End, Timeouts, Watch};
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
use crate::tenants::origin::Origin;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;
use tokio::time::{Instant, timeout_at};

/// Largest head. OpenAI asks its callers to stay below 64 KiB.
const HEAD_BYTES_MAX: u32 = 128 << 10;

/// What is read at once of what nobody wants.
const UNWANTED_PIECE_BYTES: usize = 64 << 10;

/// What a caller hears whose head does not come. It has named no API in whose words to say more.
const HEAD_LATE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Serves a connection until its end; `peer` is the address at its other end.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    crowd: Rc<Crowd>,
    handshakes: Rc<Handshakes>,
    stream: Stream,
    peer: Option<IpAddr>,
) {
    stream.send_at_once();
    let app = Arc::clone(&worker.app);
    let counted = app.begin_connection();
    let pulse = Arc::clone(&worker.pulse);
    let _of_worker = pulse.begin_connection();
    let port = Entrance::of_port(&app.config.server);
    if port == Entrance::Network {
        stream.ask_whether_it_lives();
    }
    // Whoever comes when there is no room takes that of one that nobody uses, here or at another worker. Without any,
    // it is told so, and does not take the descriptor of a call that is under way.
    let is_one_too_many = app.has_too_many_connections() && !crowd.close_longest_unused();
    if is_one_too_many {
        app.crowded.notify_waiters();
    }
    let stream = match (stream, &app.means.tls) {
        (Stream::Tcp(tcp), Some(tls)) => {
            // On the heap, so that connections without it are as small as they are.
            let agreed = Box::pin(handshakes.agree(tcp, tls, app.config.server.head_timeout));
            let agreed = tokio::select! {
                agreed = agreed => agreed,
                () = drain_begun(&app, &pulse) => None,
            };
            let Some(encrypted) = agreed else { return };
            Stream::Tls(Box::new(encrypted))
        }
        (stream, _) => stream,
    };
    let origin = Origin { entrance: stream.entrance(port), peer };
    let line = Line::new(stream, origin);
    let _place = crowd.join(Rc::clone(&line), counted);
    let switched = Place::default();
    let (end, ahead) = if line.is_http2 {
        (Box::pin(multiplexed::serve(&worker, &line, is_one_too_many)).await, Bytes::new())
    } else {
        serve_in_turn(worker, &line, &switched, is_one_too_many).await
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
        End::Flooded => {
            line.reset_on_close();
            tracing::info!(
                caller = peer.map(tracing::field::display),
                "a caller took back requests by the hundred, and its connection is reset"
            );
        }
        // In HTTP/2 there are no words for it.
        End::HeadLate if line.is_http2 => {}
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

/// Serves a connection on which one request comes after the other, until its end. What has come behind the last one is
/// answered with it.
async fn serve_in_turn(worker: Rc<Worker>, line: &Rc<Line>, switched: &Place, is_one_too_many: bool) -> (End, Bytes) {
    let (app, pulse) = (Arc::clone(&worker.app), Arc::clone(&worker.pulse));
    let (served, place) = (Rc::clone(line), Rc::clone(switched));
    let service = service_fn(move |request| {
        let (line, place) = (Rc::clone(&served), Rc::clone(&place));
        answer(Rc::clone(&worker), line, served.begin(), request, is_one_too_many, place)
    });
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .half_close(true)
        .max_buf_size(HEAD_BYTES_MAX as usize)
        .serve_connection(TokioIo::new(Socket(Rc::clone(line))), service);
    let mut watch = Watch::over(line, Timeouts::of(&app.config.server));
    let end = tokio::select! {
        end = poll_fn(|context| watch.poll(Pin::new(&mut connection), context)) => end,
        () = drain_begun(&app, &pulse) => {
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|context| watch.poll(Pin::new(&mut connection), context)).await
        }
    };
    if let End::StoppedReading = end {
        // What is under way ends with the connection, and says this.
        line.give_up(STOPPED_READING);
    }
    (end, connection.into_parts().read_buf)
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
    line: Rc<Line>,
    under_way: Arc<UnderWay>,
    request: Request<Incoming>,
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
        in_hand.over(serve::serve(worker, request, request_id, line.origin)).await
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
    let mut response = response.map(|body| Answer { body, line, under_way, in_hand });
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
#[derive(Debug)]
struct Answer {
    body: Body,
    line: Rc<Line>,
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
        let given_up = self.under_way.given_up().or_else(|| self.line.given_up());
        if let (Body::Arriving(arriving), Some(why)) = (&mut self.body, given_up) {
            arriving.give_up(why);
        }
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
