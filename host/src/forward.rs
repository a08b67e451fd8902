//! A committed answer on its way to the caller: forwarded as it comes, read on the way, settled when it ends.

use crate::attempt::{Held, Record};
use crate::body::Aborted;
use crate::call::Call;
use crate::circuit::Admission;
use crate::client::fault_of;
use crate::dialect::{Dialect, EventKind, Operation, Usage};
use crate::explain::Story;
use crate::metrics::Outcome;
use crate::refusal::{Kind, Refusal};
use crate::request::{conclude, feedback, overdue};
use crate::served::Charges;
use crate::sse::{self, Splitter};
use crate::worker::Worker;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use spillway_resilience::Settlement;
use spillway_sdk::{AttemptFacts, Class, Fault, Phase, ProviderError, Verdict};
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// The end of an answer in which its usage is looked for.
const USAGE_TAIL_BYTES: usize = 64 << 10;

/// How an answer ended.
#[derive(Debug)]
enum End {
    /// As it should.
    Whole,
    /// With an error event of the provider's.
    Failed(ProviderError),
    /// Before its time.
    Broken(Fault),
    /// The caller went away.
    Abandoned,
}

/// An answer on its way to the caller.
pub struct Forward {
    /// What can be passed on at once.
    ready: VecDeque<Bytes>,
    upstream: Option<Incoming>,
    reader: Reader,
    idle: Pin<Box<Sleep>>,
    idle_timeout: Duration,
    has_content: bool,
    abort: Abort,
    usage: Option<Usage>,
    affair: Option<Affair>,
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
    Events(Events),
    /// As bytes; the last of them are kept, for the usage in them.
    Tail(VecDeque<Bytes>, usize),
    /// Not at all.
    Unread,
}

struct Events {
    splitter: Splitter,
    dialect: Dialect,
    strip_usage: bool,
    terminal_expected: bool,
    terminal_seen: bool,
    error: Option<ProviderError>,
}

/// What is to be settled when the answer has ended.
pub struct Affair {
    /// Where policies and circuits are at hand.
    pub worker: Rc<Worker>,
    /// What was asked.
    pub call: Rc<Call>,
    /// What policies may see.
    pub record: Rc<Record>,
    /// The verdict so far.
    pub verdict: Verdict,
    /// The circuits' permits, unless they are settled already.
    pub admission: Option<Admission>,
    /// What was taken of limits.
    pub charges: Charges,
    /// Why.
    pub story: Story,
    /// How the request ended, should the answer arrive whole.
    pub outcome: Outcome,
    /// Whether a failure of its request is counted already.
    pub has_failed: bool,
}

impl Forward {
    /// Takes over a response whose head is on its way to the caller.
    pub fn new(held: Held, mut affair: Affair) -> Forward {
        let call = &affair.call;
        let is_answer = affair.outcome == Outcome::Answered && held.status.is_success();
        let mut forward = Forward {
            ready: VecDeque::new(),
            upstream: held.rest,
            reader: match held.splitter {
                Some(splitter) => Reader::Events(Events {
                    splitter,
                    dialect: call.dialect,
                    strip_usage: call.body_demanding_usage.is_some(),
                    terminal_expected: call.operation == Operation::Generate
                        && call.dialect != Dialect::Other
                        && is_answer,
                    terminal_seen: false,
                    error: None,
                }),
                None if call.operation == Operation::Generate => Reader::Tail(VecDeque::new(), 0),
                None => Reader::Unread,
            },
            idle: Box::pin(sleep_until(match held.has_content {
                true => Instant::now() + call.upstream.config.idle_timeout,
                false => affair.record.began + call.upstream.config.first_content_timeout,
            })),
            idle_timeout: call.upstream.config.idle_timeout,
            has_content: held.has_content,
            abort: Abort::No,
            usage: None,
            affair: None,
        };
        for bytes in held.arrived {
            forward.read(bytes);
        }
        if forward.has_content {
            affair.content_began();
        }
        forward.affair = Some(affair);
        // Events behind the telling one may have arrived with it.
        forward.drain_splitter();
        forward
    }

    /// Takes what has arrived: events as they were held, or raw bytes.
    fn read(&mut self, bytes: Bytes) {
        match &mut self.reader {
            Reader::Events(events) => {
                let (kind, event) = events.read(bytes, &mut self.usage);
                self.ready.extend(event);
                if kind != EventKind::Preamble && !std::mem::replace(&mut self.has_content, true) {
                    self.idle.as_mut().reset(Instant::now() + self.idle_timeout);
                    if let Some(affair) = &mut self.affair {
                        affair.content_began();
                    }
                }
            }
            Reader::Tail(tail, length) => {
                *length += bytes.len();
                tail.push_back(bytes.clone());
                // Only the end can hold the usage.
                while tail.front().is_some_and(|first| *length - first.len() >= USAGE_TAIL_BYTES) {
                    *length -= tail.pop_front().map_or(0, |first| first.len());
                }
                self.ready.push_back(bytes);
            }
            Reader::Unread => self.ready.push_back(bytes),
        }
    }

    fn drain_splitter(&mut self) {
        while let Reader::Events(events) = &mut self.reader {
            let Some(event) = events.splitter.next_event() else { break };
            self.read(event);
        }
    }

    fn arrived(&mut self, data: Bytes) {
        match &mut self.reader {
            Reader::Events(events) => {
                events.splitter.push(data);
                self.drain_splitter();
            }
            Reader::Tail(..) | Reader::Unread => self.read(data),
        }
    }

    /// Ends the answer with its last byte: whoever knows its length does not ask for more.
    fn end_if_delivered(&mut self) {
        let all_arrived = self.upstream.as_ref().is_none_or(http_body::Body::is_end_stream);
        if self.ready.is_empty() && all_arrived && self.abort == Abort::No && self.affair.is_some() {
            self.ended();
        }
    }

    /// The upstream has ended its answer cleanly; whether it is whole is another question.
    fn ended(&mut self) {
        self.upstream = None;
        let mut end = End::Whole;
        match &mut self.reader {
            Reader::Events(events) => {
                if let Some(error) = events.error.take() {
                    end = End::Failed(error);
                } else if events.terminal_expected && !events.terminal_seen && !events.splitter.overflowed() {
                    return self.broke(Fault::Truncated);
                }
                let rest = events.splitter.take_rest();
                if !rest.is_empty() {
                    self.ready.push_back(rest);
                }
            }
            Reader::Tail(tail, _) => {
                if let Some(affair) = &self.affair {
                    let joined: Vec<u8> = tail.iter().flatten().copied().collect();
                    self.usage = affair.call.dialect.read_usage(&joined);
                }
            }
            Reader::Unread => {}
        }
        self.settle(end);
    }

    /// The answer will never be whole: says so in the stream, and then aborts the connection.
    fn broke(&mut self, fault: Fault) {
        self.upstream = None;
        self.abort = Abort::Now;
        if let (Reader::Events(events), Some(affair)) = (&self.reader, &self.affair) {
            let upstream = affair.call.upstream.name.to_string();
            let refusal = Refusal::from(Kind::StreamCut { upstream, fault });
            self.ready.push_back(events.dialect.error_event(&refusal, &affair.call.request_id));
            self.abort = Abort::AfterFlush;
        }
        self.settle(End::Broken(fault));
    }

    fn settle(&mut self, end: End) {
        if let Some(affair) = self.affair.take() {
            affair.settle(end, self.usage);
        }
    }
}

impl Events {
    /// Reads an event, and returns what it means, and itself unless the caller must not see it.
    fn read(&mut self, event: Bytes, usage: &mut Option<Usage>) -> (EventKind, Option<Bytes>) {
        let kind = self.dialect.read_event(&event);
        match &kind {
            EventKind::Terminal => self.terminal_seen = true,
            EventKind::Error(error) => self.error = Some(error.clone()),
            EventKind::Preamble | EventKind::Content => {}
        }
        if let Some(reported) = self.dialect.read_usage(&event) {
            // Anthropic reports input first and output last.
            let known = usage.get_or_insert_default();
            known.input = known.input.max(reported.input);
            known.output = known.output.max(reported.output);
            if self.strip_usage && self.dialect.is_usage_event(&sse::data(&event)) {
                return (kind, None);
            }
        }
        (kind, Some(event))
    }
}

impl Affair {
    /// The first content is on its way to the caller.
    fn content_began(&mut self) {
        if self.outcome != Outcome::Answered || self.verdict.class != Class::Success {
            return;
        }
        let upstream = &self.call.upstream;
        let duration = self.record.first_content.get().unwrap_or_else(|| self.record.began.elapsed());
        self.record.first_content.set(Some(duration));
        upstream.metrics.first_content(duration);
        let is_first = self.call.is_first(self.record.number);
        let first_sent = is_first.then(|| self.worker.shared.clock.at(self.record.began));
        upstream.served(self.call.subject(), duration, first_sent);
        if let Some(admission) = &mut self.admission {
            admission.answered();
        }
        // A probe has shown what it was sent for: nobody should wait for the end of its stream.
        if let Some(probe) = self.admission.take_if(|admission| admission.is_probe()) {
            conclude(&self.worker, &self.call, probe, &self.record, &self.verdict, self.has_failed);
        }
    }

    /// Settles everything, once.
    fn settle(mut self, end: End, usage: Option<Usage>) {
        let metrics = &self.call.upstream.metrics;
        if let Some(usage) = usage {
            metrics.tokens(usage.input, usage.output);
        }
        // What was first said of the attempt is what it says of the upstream's room: an end much later says nothing.
        let clock = self.worker.shared.clock;
        let feedback = match end {
            End::Broken(Fault::FirstContentTimeout) => overdue(&self.call, &self.record, clock),
            End::Whole | End::Failed(_) | End::Broken(_) | End::Abandoned => {
                feedback(&self.call, &self.record, &self.verdict, clock)
            }
        };
        let settlement = usage.map_or(Settlement::AsEstimated, |usage| Settlement::Used(usage.total()));
        std::mem::take(&mut self.charges).settle(settlement, feedback);
        let outcome = match end {
            End::Whole => self.outcome,
            End::Failed(error) => {
                self.story.tell(&format!("the provider failed inside of its answer: {}", error.message));
                self.judge_again(None, Some(error));
                Outcome::Broken
            }
            End::Broken(fault) => {
                self.story.tell(&format!("the answer broke off: {}", fault.as_str()));
                self.judge_again(Some(fault), None);
                Outcome::Broken
            }
            End::Abandoned => {
                self.story.tell("the caller went away");
                // The permits are dropped with this, which counts nowhere.
                self.admission = None;
                Outcome::Abandoned
            }
        };
        if let Some(admission) = self.admission.take() {
            conclude(&self.worker, &self.call, admission, &self.record, &self.verdict, self.has_failed);
        }
        self.story.end(outcome, self.record.status.unwrap_or(0));
    }

    /// What is said about an attempt that broke after its first content.
    fn judge_again(&mut self, fault: Option<Fault>, error: Option<ProviderError>) {
        let mut record = Record::clone(&self.record);
        record.phase = Phase::Committed;
        record.elapsed = record.began.elapsed();
        record.prefix = Bytes::new();
        record.fault = fault;
        record.error = OnceCell::from(error);
        let upstream = &self.call.upstream;
        let record = Rc::new(record);
        let facts = Rc::clone(&record) as Rc<dyn AttemptFacts>;
        let judged = self.worker.judge.borrow_mut().classify(&upstream.policy, facts);
        if let Some(recorder) = &self.worker.shared.recorder {
            drop(recorder.note(&self.call, &record, &judged));
        }
        self.verdict = judged.verdict;
    }
}

impl http_body::Body for Forward {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let this = &mut *self;
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
                Abort::Now => return Poll::Ready(Some(Err(Aborted))),
            }
            let Some(upstream) = this.upstream.as_mut() else {
                if this.affair.is_some() {
                    this.ended();
                    continue;
                }
                return Poll::Ready(None);
            };
            match Pin::new(upstream).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    if this.has_content {
                        this.idle.as_mut().reset(Instant::now() + this.idle_timeout);
                    }
                    if let Ok(data) = frame.into_data() {
                        this.arrived(data);
                    }
                }
                Poll::Ready(Some(Err(error))) => this.broke(fault_of(&error, false)),
                Poll::Ready(None) => this.ended(),
                Poll::Pending => match this.idle.as_mut().poll(context) {
                    Poll::Ready(()) if this.has_content => this.broke(Fault::IdleTimeout),
                    Poll::Ready(()) => this.broke(Fault::FirstContentTimeout),
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        // A stream may gain an error event or lose a usage event, so only plain bodies have a known length.
        match (&self.reader, &self.upstream) {
            (Reader::Events(_), _) => SizeHint::default(),
            (Reader::Tail(..) | Reader::Unread, upstream) => {
                let ready: u64 = self.ready.iter().map(|bytes| bytes.len() as u64).sum();
                let rest = upstream.as_ref().map_or(SizeHint::with_exact(0), Incoming::size_hint);
                rest.exact().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(ready + rest))
            }
        }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.end_if_delivered();
        self.settle(End::Abandoned);
    }
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("abort", &self.abort).field("usage", &self.usage).finish_non_exhaustive()
    }
}
