//! A committed answer on its way to the caller: forwarded as it comes, read on the way, settled when it ends.

mod keep_alive;
mod tail;

use self::keep_alive::KeepAlive;
use self::tail::Tail;
use crate::dialect::decoder::Decoder;
use crate::dialect::events::{Event, Events, Stage};
use crate::dialect::json_end::JsonEnd;
use crate::dialect::sse::Splitter;
use crate::dialect::{Dialect, Operation, Usage};
use crate::observe::metrics::RequestOutcome;
use crate::proxy::body::{Aborted, Arriving};
use crate::proxy::completion::{Completion, End};
use crate::proxy::hold::{BufferedResponse, OPEN_WHEN_OVER};
use crate::proxy::refusal::{Refusal, RefusalKind};
use crate::runtime::causes::{ErrorChain, causes};
use crate::upstream::client::fault_of;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use spillway_sdk::Fault;
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// How long an answer that is whole may stay open in silence: what is counted may follow, and what marks the end. Then
/// it is closed, as it is whole.
const OPEN_WHEN_FINISHED: Duration = Duration::from_secs(10);

/// An answer on its way to the caller.
pub(crate) struct Forward {
    /// What can be passed on at once.
    ready: VecDeque<Bytes>,
    upstream: Option<Incoming>,
    /// What has broken it off while it was held.
    broken: Option<Fault>,
    /// What a break was told by.
    cause: Option<ErrorChain>,
    reader: Reader,
    /// Whether the events that are read are not what is passed on, but what that decodes to.
    is_compressed: bool,
    /// Decodes a body that comes compressed, so that it can be read.
    decoder: Option<Box<Decoder>>,
    /// Whether it is in an API's words, and generated.
    generates: bool,
    terminal_expected: bool,
    /// What was passed on last lacks the blank line behind it.
    is_open: bool,
    idle: Pin<Box<Sleep>>,
    idle_timeout: Duration,
    keep_alive: Option<KeepAlive>,
    has_content: bool,
    abort: Abort,
    /// Whether the caller's connection is reset then.
    resets: bool,
    /// Why its caller is given up.
    given_up: Option<&'static str>,
    completion: Option<Completion>,
    /// Rings when its caller's key is revoked, if it has shown one.
    revoked: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

/// How the connection is aborted after a break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Abort {
    No,
    /// hyper drops what it has not flushed when a body fails, so it gets one turn to flush the error event.
    AfterFlush,
    Now,
}

/// How an answer is read on its way.
enum Reader {
    /// Event by event.
    Events(Box<Events>),
    /// As a body.
    Body(Tail),
    /// Not at all.
    Unread,
}

impl Forward {
    /// Takes over a response whose head is on its way to the caller.
    pub(crate) fn new(held: BufferedResponse, mut completion: Completion) -> Forward {
        let target = &completion.target;
        let is_answer = completion.outcome == RequestOutcome::Answered && held.status.is_success();
        let generates = target.request.operation == Operation::Generate;
        let dialect = target.request.dialect;
        let is_compressed = held.splitter.as_ref().is_some_and(Splitter::is_compressed);
        let reader = match held.splitter {
            Some(splitter) => {
                let alternatives = target.request.parameters.alternatives;
                Reader::Events(Box::new(Events::new(splitter, dialect, alternatives, target.demands_usage.get())))
            }
            None if generates => {
                let json = JsonEnd::of(&held.headers).filter(|_| !target.request.parameters.streaming);
                Reader::Body(Tail::new(json))
            }
            None => Reader::Unread,
        };
        let decoder = match reader {
            Reader::Events(_) => None,
            Reader::Body(_) => Decoder::of(&held.headers),
            Reader::Unread => target.makers.as_ref().and_then(|_| Decoder::of(&held.headers)),
        };
        let key = target.request.caller.key.as_ref();
        let revoked = key.map(|key| Box::pin(key.revoked()) as Pin<Box<dyn Future<Output = ()>>>);
        let config = &target.upstream.config;
        // A comment among compressed bytes would be none.
        let keep_alive = match reader {
            Reader::Events(_) if !is_compressed => KeepAlive::of(dialect, config.keep_alive),
            Reader::Events(_) | Reader::Body(_) | Reader::Unread => None,
        };
        let mut forward = Forward {
            ready: VecDeque::new(),
            upstream: held.rest,
            broken: held.broken,
            cause: held.cause,
            reader,
            is_compressed,
            decoder,
            generates: generates && dialect != Dialect::Other,
            terminal_expected: generates && dialect != Dialect::Other && is_answer,
            is_open: false,
            idle: Box::pin(sleep_until(match held.has_content {
                true => Instant::now() + config.idle_timeout,
                false => completion.record.began + config.first_content_timeout,
            })),
            idle_timeout: config.idle_timeout,
            keep_alive,
            has_content: held.has_content,
            abort: Abort::No,
            resets: false,
            given_up: None,
            completion: None,
            revoked,
        };
        if forward.has_content {
            completion.content_began();
        }
        forward.completion = Some(completion);
        let arrived = match is_compressed {
            true => {
                forward.ready = held.arrived;
                held.decoded
            }
            false => held.arrived,
        };
        for bytes in arrived {
            forward.read(bytes);
        }
        // Events behind the telling one may have arrived with it.
        forward.drain_events();
        if forward.has_content {
            forward.wait_for_more();
        }
        forward
    }

    /// Takes what was held: events as they were cut out, or pieces of a body.
    fn read(&mut self, bytes: Bytes) {
        let readable = match &mut self.decoder {
            Some(decoder) => decoder.decode(&bytes),
            None => bytes.clone(),
        };
        match &mut self.reader {
            Reader::Events(events) => {
                let event = events.read(bytes);
                self.take(event);
            }
            Reader::Body(tail) => {
                let is_content = tail.read(&readable);
                self.remember(&readable);
                self.ready.push_back(bytes);
                self.begins(is_content);
            }
            Reader::Unread => {
                self.remember(&readable);
                self.ready.push_back(bytes);
            }
        }
    }

    /// What was made is remembered with its maker.
    fn remember(&self, answer: &[u8]) {
        if let Some(completion) = &self.completion {
            completion.target.remember(answer, matches!(self.reader, Reader::Events(_)));
        }
    }

    fn take(&mut self, event: Event) {
        if let Some(bytes) = event.bytes {
            self.remember(&bytes);
            if !self.is_compressed {
                self.pass_on(bytes);
            }
        }
        self.begins(event.is_content);
    }

    fn pass_on(&mut self, event: Bytes) {
        if let Reader::Events(events) = &self.reader {
            self.is_open = !events.dialect().framing().is_closed(&event);
        }
        if let Some(keep_alive) = &mut self.keep_alive {
            keep_alive.saw(&event);
        }
        self.ready.push_back(event);
    }

    /// The first content tells when the answer began.
    fn begins(&mut self, is_content: bool) {
        if is_content
            && !std::mem::replace(&mut self.has_content, true)
            && let Some(completion) = &mut self.completion
        {
            completion.content_began();
        }
    }

    fn drain_events(&mut self) {
        while let Reader::Events(events) = &mut self.reader {
            let Some(event) = events.next_event() else { break };
            self.take(event);
        }
    }

    fn arrived(&mut self, data: Bytes) {
        let was_over = self.stage() == Stage::Over;
        match &mut self.reader {
            Reader::Events(events) => {
                if self.is_compressed {
                    self.ready.push_back(data.clone());
                }
                events.push(data);
                self.drain_events();
            }
            Reader::Body(_) | Reader::Unread => self.read(data),
        }
        if let Some(keep_alive) = &mut self.keep_alive {
            keep_alive.heard();
        }
        // What comes behind the end does not keep it open.
        if self.has_content && !(was_over && self.stage() == Stage::Over) {
            self.wait_for_more();
        }
    }

    /// How far the answer has come, as far as it says so itself.
    fn stage(&self) -> Stage {
        match &self.reader {
            // What else streams has no such end.
            Reader::Events(_) if !self.generates => Stage::Running,
            Reader::Events(events) if events.error().is_some() => Stage::Finished,
            Reader::Events(events) => events.stage(),
            Reader::Body(tail) if tail.is_whole() => Stage::Over,
            Reader::Body(_) | Reader::Unread => Stage::Running,
        }
    }

    /// For as long as the answer may stay silent, as far as it has come.
    fn wait_for_more(&mut self) {
        let silence = match self.stage() {
            Stage::Running | Stage::PartlyFinished => self.idle_timeout,
            Stage::Finished => self.idle_timeout.min(OPEN_WHEN_FINISHED),
            Stage::Over => self.idle_timeout.min(OPEN_WHEN_OVER),
        };
        self.idle.as_mut().reset(Instant::now() + silence);
    }

    /// What keeps its caller waiting in a long silence: between two events, while more is to come.
    fn poll_keep_alive(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        let stage = self.stage();
        let (Some(keep_alive), Reader::Events(events)) = (&mut self.keep_alive, &self.reader) else {
            return Poll::Pending;
        };
        let is_between = !self.is_open && events.pending().is_empty() && stage < Stage::Finished;
        keep_alive.poll(context, is_between)
    }

    /// Ends the answer with its last byte: whoever knows its length does not ask for more.
    fn end_if_delivered(&mut self) {
        let all_arrived = self.upstream.as_ref().is_none_or(http_body::Body::is_end_stream) && self.broken.is_none();
        if self.ready.is_empty() && all_arrived && self.abort == Abort::No && self.completion.is_some() {
            self.ended();
        }
    }

    /// Nothing more comes. What is whole stays so, however its connection ended.
    fn ended_by(&mut self, fault: Fault) {
        self.take_last_event();
        if self.stage() <= Stage::PartlyFinished { self.broke(fault) } else { self.ended() }
    }

    /// The upstream has ended its answer cleanly; whether it is whole is another question.
    fn ended(&mut self) {
        self.upstream = None;
        self.take_last_event();
        let end = match &self.reader {
            Reader::Events(events) => match events.error() {
                Some(error) => End::Failed(error.clone()),
                None if !self.terminal_expected || events.overflowed() => End::Whole,
                None if events.stage() == Stage::Running => return self.broke(Fault::Truncated),
                // An end of nothing, behind what has kept the caller waiting.
                None if !events.has_content() => return self.broke(Fault::Truncated),
                None => End::Whole,
            },
            Reader::Body(_) if self.terminal_expected && !self.has_content => return self.broke(Fault::Truncated),
            Reader::Body(_) | Reader::Unread => End::Whole,
        };
        if let Reader::Events(events) = &mut self.reader {
            let rest = events.take_rest();
            self.ready.extend((!rest.is_empty() && !self.is_compressed).then_some(rest));
        }
        self.settle(end);
    }

    /// The blank line behind the last event may be missing.
    fn take_last_event(&mut self) {
        if let Reader::Events(events) = &mut self.reader
            && let Some(event) = events.last_event()
        {
            self.take(event);
        }
    }

    /// The answer will never be whole: says so in the stream, and then aborts the connection. In what is compressed
    /// nothing can be said: it breaks off as the provider's did.
    fn broke(&mut self, fault: Fault) {
        if let Some(completion) = &self.completion {
            let upstream = completion.target.upstream.name.to_string();
            self.tell(RefusalKind::StreamCut { upstream, fault }.into());
        }
        self.upstream = None;
        self.broken = None;
        self.abort = Abort::AfterFlush;
        let cause = self.cause.take();
        // A reset takes from a caller what it has not read yet, and in a stream that is what says that it broke.
        self.resets = !matches!(self.reader, Reader::Events(_)) && cause.as_ref().is_some_and(|cause| was_reset(cause));
        self.settle(End::Broken(fault, cause));
    }

    /// Its caller's key was revoked: it ends here, as one that its caller has left does, and the caller hears of it.
    fn cut(&mut self) {
        self.tell(RefusalKind::KeyRefused.into());
        (self.upstream, self.broken) = (None, None);
        self.abort = Abort::AfterFlush;
        self.settle(End::Abandoned(Some("its key was revoked")));
    }

    /// Says in a stream, in its API's words, why it ends here.
    fn tell(&mut self, refusal: Refusal) {
        let (Reader::Events(events), Some(completion)) = (&self.reader, &self.completion) else { return };
        // The caller has seen the status of the answer that ends.
        let seen = (refusal.code(), completion.record.status.unwrap_or(0));
        completion.worker.app.note_refusal(seen, completion.target.names(), &refusal.reason());
        if self.is_compressed {
            return;
        }
        if self.is_open {
            self.ready.push_back(Bytes::from_static(events.dialect().framing().end()));
        }
        self.ready.push_back(refusal.into_event(events.dialect(), &completion.target.request.id));
    }

    /// Whether its caller's key was revoked while more of it is to come.
    fn poll_revoked(&mut self, context: &mut Context<'_>) -> bool {
        let is_under_way = self.completion.is_some() && self.abort == Abort::No;
        let revoked = self.revoked.as_mut().filter(|_| is_under_way);
        revoked.is_some_and(|revoked| revoked.as_mut().poll(context).is_ready())
    }

    fn settle(&mut self, end: End) {
        let Some(completion) = self.completion.take() else { return };
        let usage = match &self.reader {
            Reader::Events(events) => events.usage(),
            Reader::Body(tail) => {
                let end = tail.joined();
                // What was made may stand where two pieces meet.
                completion.target.remember(&end, false);
                completion.target.request.dialect.read_usage(&end)
            }
            Reader::Unread => None,
        };
        // Before its end a stream may count nothing, or less than it has sent: what was seen was made, and is paid for.
        let usage = match (&self.reader, usage) {
            (Reader::Events(events), Some(usage)) if !matches!(end, End::Whole) => Some(Usage {
                input: if usage.input > 0 { usage.input } else { completion.target.estimate.input },
                output: usage.output.max(events.pieces()),
                ..usage
            }),
            (_, usage) => usage,
        };
        // What is passed on although it is no answer has been judged already.
        let end = if completion.outcome == RequestOutcome::Failed && !matches!(end, End::Abandoned(_)) {
            End::Whole
        } else {
            end
        };
        completion.settle(end, usage);
    }
}

/// Whether a connection was reset, rather than closed.
fn was_reset(cause: &(dyn Error + 'static)) -> bool {
    causes(cause)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

impl http_body::Body for Forward {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let this = &mut *self;
        if this.poll_revoked(context) {
            this.cut();
        }
        loop {
            if let Some(bytes) = this.ready.pop_front() {
                this.end_if_delivered();
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            match this.abort {
                Abort::No => {}
                Abort::AfterFlush => {
                    this.abort = Abort::Now;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Abort::Now => return Poll::Ready(Some(Err(Aborted { resets: this.resets }))),
            }
            let Some(upstream) = this.upstream.as_mut() else {
                if let Some(fault) = this.broken {
                    this.broke(fault);
                    continue;
                }
                if this.completion.is_some() {
                    this.ended();
                    continue;
                }
                return Poll::Ready(None);
            };
            match Pin::new(upstream).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        this.arrived(data);
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    let fault = fault_of(&error);
                    this.cause = Some(ErrorChain::of(error));
                    this.ended_by(fault);
                }
                Poll::Ready(None) => this.ended(),
                Poll::Pending => match this.idle.as_mut().poll(context) {
                    Poll::Ready(()) if this.has_content => this.ended_by(Fault::IdleTimeout),
                    Poll::Ready(()) => this.ended_by(Fault::FirstContentTimeout),
                    Poll::Pending => {
                        return this.poll_keep_alive(context).map(|comment| Some(Ok(Frame::data(comment))));
                    }
                },
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        // A stream may gain an error event or lose a usage event, so only plain bodies have a known length.
        match (&self.reader, &self.upstream) {
            // And of one that has broken off, the head tells how long it should have been.
            _ if self.broken.is_some() => SizeHint::default(),
            (Reader::Events(_), _) => SizeHint::default(),
            (Reader::Body(_) | Reader::Unread, upstream) => {
                let ready: u64 = self.ready.iter().map(|bytes| bytes.len() as u64).sum();
                let rest = upstream.as_ref().map_or(SizeHint::with_exact(0), Incoming::size_hint);
                rest.exact().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(ready + rest))
            }
        }
    }
}

impl Arriving for Forward {
    fn give_up(&mut self, why: &'static str) {
        self.given_up = Some(why);
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.end_if_delivered();
        // Many callers leave with the last event, and do not wait for the end of the connection.
        if self.ready.is_empty()
            && self.abort == Abort::No
            && self.stage() >= Stage::Finished
            && self.completion.is_some()
        {
            self.ended();
        }
        self.settle(End::Abandoned(self.given_up));
    }
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("abort", &self.abort).field("broken", &self.broken).finish_non_exhaustive()
    }
}
