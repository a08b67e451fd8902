//! One call to one upstream: sent within its timeouts, and held until its first content says what it is worth.

use crate::dialect::compression;
use crate::dialect::events::is_whole;
use crate::dialect::json_end::JsonEnd;
use crate::dialect::sse::{self, Splitter};
use crate::dialect::{Dialect, EventKind, Operation};
use crate::proxy::call::{Call, CallBody};
use crate::proxy::forward::OPEN_WHEN_OVER;
use crate::runtime::clock::{random, wall_unix_ms};
use crate::runtime::shortage::Shortage;
use crate::runtime::upload::Passing;
use crate::upstream::client::{Client, Connection, RequestBody, Trouble, fault_of};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use serde_json::Value;
use spillway_sdk::{
    AttemptFacts, BODY_PREFIX_BYTES_MAX, Dimension, Fault, Phase, ProviderError, RateLimit, body_json, rate_limits,
    wait,
};
use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

/// Most of a stream that is held while it says nothing. Beyond it the stream is taken for content.
pub const PREAMBLE_BYTES_MAX: usize = 64 << 10;
/// Longest time for which the beginning of an answer is held back from the caller, hoping for a word of content or error:
/// some servers send blank lines or comments for minutes, so that callers do not give up. What is passed on is committed.
pub const PREAMBLE_HOLD: Duration = Duration::from_secs(1);

/// For so long after the moment that its caller has announced a call goes on: the caller shall leave by itself, and find its
/// own timeout and no answer of ours. SDKs announce whole seconds, and begin to count before we do.
const CALLERS_GRACE: Duration = Duration::from_secs(2);

/// How an attempt ended, as far as the first content.
#[derive(Debug)]
pub struct Ended {
    /// What a policy may see of it.
    pub record: Record,
    /// The response, when its head arrived and nothing broke since.
    pub held: Option<Held>,
    /// What ended it, when that says nothing about the upstream.
    pub elsewhere: Option<Elsewhere>,
}

/// What can end an attempt in which the upstream has no part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// Its caller did not finish sending its body.
    BodyBroken,
    /// Its caller did not send its body in time.
    BodyLate,
    /// Its caller announced that it would not wait for longer.
    Impatient,
    /// This machine lacks something for it.
    Short(Shortage),
}

/// Why an attempt has no response.
enum Failed {
    Fault(Fault),
    /// With what was in the way of a connection.
    Unconnected(Trouble),
    Elsewhere(Elsewhere),
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Failed::Fault(fault)
    }
}

/// A response whose beginning is held.
#[derive(Debug)]
pub struct Held {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, shared with the record of the attempt.
    pub headers: Rc<HeaderMap>,
    /// What has arrived of the body, whole events where it is a stream.
    pub arrived: VecDeque<Bytes>,
    /// The part of a stream's event that has arrived.
    pub splitter: Option<Splitter>,
    /// What is still to come.
    pub rest: Option<Incoming>,
    /// Whether it is known to have begun, rather than being a preamble that was held for long enough.
    pub has_content: bool,
    /// What broke it off before it was whole. Should the caller get it nonetheless, it breaks off in the same place.
    pub broken: Option<Fault>,
}

impl Held {
    /// Whether part of an answer has come whose rest never will: it was made, and is paid for.
    pub fn is_part(&self) -> bool {
        let says_something = || self.arrived.iter().flatten().any(|byte| !byte.is_ascii_whitespace());
        self.broken.is_some() && self.splitter.is_none() && self.status.is_success() && says_something()
    }

    /// Whether its caller sees by itself that it is no answer: by its status, or because it is empty, breaks off, or is a
    /// stream that begins with an error.
    pub fn shows_its_failure(&self, record: &Record) -> bool {
        let begins_with_error = self.splitter.is_some() && record.error.get().is_some_and(Option::is_some);
        !self.status.is_success() || record.fault.is_some() || begins_with_error
    }
}

/// How far an attempt has come, kept outside of its future so that it survives a timeout.
#[derive(Debug)]
struct Progress {
    phase: Cell<Phase>,
    head: OnceCell<(StatusCode, Rc<HeaderMap>)>,
    /// What is known of a body that passes through.
    body: Arc<Passing>,
}

/// Makes one attempt, over a connection that was used before if there is one. `heard` tells from outside whether the head
/// of an answer has come.
pub async fn make(
    client: &Client,
    connection: Option<Connection>,
    call: &Call,
    number: u32,
    heard: &Cell<bool>,
) -> Ended {
    let began = Instant::now();
    let progress = Progress { phase: Cell::new(Phase::Connecting), head: OnceCell::new(), body: Passing::new(began) };
    let grace = if call.deadline_is_callers { CALLERS_GRACE } else { Duration::ZERO };
    let mut begun = pin!(begin(client, connection, call, &progress, heard));
    let outcome = loop {
        // What a caller takes to send a body that passes through is its own, as it is with one that is held.
        let took = progress.body.took();
        let (timeout, deadline) =
            (began + took + call.upstream.config.first_content_timeout, call.deadline + took + grace);
        match timeout_at(timeout.min(deadline), begun.as_mut()).await {
            Ok(outcome) => break outcome,
            Err(_) if progress.body.took() > took => {}
            Err(_) => {
                break Err(match (deadline < timeout, call.deadline_is_callers) {
                    (true, true) => Failed::Elsewhere(Elsewhere::Impatient),
                    (true, false) => Failed::Fault(Fault::AttemptTimeout),
                    (false, _) => Failed::Fault(Fault::FirstContentTimeout),
                });
            }
        }
    };
    let elapsed = began.elapsed();
    let (status, headers) = match progress.head.get() {
        Some((status, headers)) => (Some(status.as_u16()), Rc::clone(headers)),
        None => (None, Rc::default()),
    };
    let mut record = Record {
        upstream: Arc::clone(&call.upstream.name),
        dialect: call.dialect,
        model: call.asked.model.clone(),
        streaming: call.asked.streaming,
        number,
        phase: progress.phase.get(),
        fault: None,
        cause: None,
        status,
        headers,
        prefix: Bytes::new(),
        json: OnceCell::new(),
        error: OnceCell::new(),
        elapsed,
        first_content: Cell::new(None),
        began,
        deadline: call.deadline,
    };
    match outcome {
        Ok(Begun { held, error, fault }) => {
            record.first_content.set(held.has_content.then_some(elapsed));
            record.prefix = prefix_of(&held);
            record.fault = fault.or_else(|| is_nothing(call, &held, &record.prefix).then_some(Fault::Truncated));
            record.streaming |= held.splitter.is_some();
            if held.splitter.is_some() {
                // A stream's error is an event of it, the last one held; its beginning as a whole is no JSON.
                let event = if error.is_some() { held.arrived.back() } else { None };
                let _ = record.json.set(event.and_then(|event| json_of_event(event)));
                let _ = record.error.set(error);
            }
            Ended { record, held: Some(held), elsewhere: None }
        }
        Err(Failed::Fault(fault)) => {
            record.fault = Some(fault);
            Ended { record, held: None, elsewhere: None }
        }
        Err(Failed::Unconnected(trouble)) => {
            record.fault = Some(trouble.fault);
            record.cause = Some(trouble.cause);
            Ended { record, held: None, elsewhere: None }
        }
        Err(Failed::Elsewhere(what)) => Ended { record, held: None, elsewhere: Some(what) },
    }
}

/// A response of which it is clear what it is.
struct Begun {
    held: Held,
    /// The error that a stream has begun with.
    error: Option<ProviderError>,
    /// Why it is no answer.
    fault: Option<Fault>,
}

/// Sends the request, and holds the response until it is clear what it is.
async fn begin(
    client: &Client,
    mut used_before: Option<Connection>,
    call: &Call,
    progress: &Progress,
    heard: &Cell<bool>,
) -> Result<Begun, Failed> {
    let mut unsent: Option<Box<Request<RequestBody>>> = None;
    let response = loop {
        let was_used_before = used_before.is_some();
        let connection = match used_before.take() {
            Some(connection) => connection,
            None => client.connect().await.map_err(|trouble| match trouble.shortage {
                Some(shortage) => Failed::Elsewhere(Elsewhere::Short(shortage)),
                None => Failed::Unconnected(trouble),
            })?,
        };
        progress.phase.set(Phase::Waiting);
        let request = match unsent.take() {
            Some(request) => *request,
            None => request(call, &progress.body)?,
        };
        let unanswered = match connection.send(request).await {
            Ok(response) => break response,
            Err(unanswered) => unanswered,
        };
        if was_used_before && (unanswered.unsent.is_some() || unanswered.was_closed_as_unused && call.is_repeatable()) {
            // Those beside it have been unused for longer.
            client.forget_unused();
            progress.phase.set(Phase::Connecting);
            unsent = unanswered.unsent;
            continue;
        }
        // The client's own error says only that the connection has ended.
        return Err(match unanswered.shortage {
            _ if progress.body.is_broken() => Failed::Elsewhere(Elsewhere::BodyBroken),
            _ if progress.body.is_late() => Failed::Elsewhere(Elsewhere::BodyLate),
            Some(shortage) => Failed::Elsewhere(Elsewhere::Short(shortage)),
            None => Failed::Fault(unanswered.fault),
        });
    };
    heard.set(true);
    if let Some(trouble) = client.refused_by_proxy(response.status()) {
        progress.phase.set(Phase::Connecting);
        return Err(Failed::Unconnected(trouble));
    }
    progress.phase.set(Phase::BeforeContent);
    let (head, body) = response.into_parts();
    // The future is polled once, so nobody has set it before.
    let headers = Rc::new(head.headers);
    let _ = progress.head.set((head.status, Rc::clone(&headers)));
    let mut held = Held {
        status: head.status,
        headers,
        arrived: VecDeque::new(),
        splitter: None,
        rest: Some(body),
        has_content: true,
        broken: None,
    };
    let (generates, succeeds) = (call.operation == Operation::Generate, held.status.is_success());
    let (mut error, mut fault) = (None, None);
    let mut is_stream = succeeds && is_event_stream(&held.headers);
    if is_stream {
        match hold_stream(call, &mut held).await {
            Beginning::Telling(told) => error = told,
            Beginning::OfNothing(why) => fault = Some(why),
            Beginning::NoStream => is_stream = false,
        }
    }
    if !is_stream && (generates || !succeeds) {
        // Parts of an answer that streams in some other form must not wait for each other.
        let enough = if call.asked.streaming && succeeds { 1 } else { BODY_PREFIX_BYTES_MAX };
        fault = hold_body(call, &mut held, enough).await;
    }
    Ok(Begun { held, error, fault })
}

fn request(call: &Call, passing: &Arc<Passing>) -> Result<Request<RequestBody>, Fault> {
    let body = match &call.body {
        CallBody::Whole(bytes) => {
            let demanding = call.body_demanding_usage.as_ref().filter(|_| call.demands_usage.get());
            RequestBody::Whole(Full::new(demanding.unwrap_or(bytes).clone()))
        }
        // Taken by the first attempt; a second one never comes.
        CallBody::Streaming(body) => match body.take() {
            Some(body) => RequestBody::Streaming(body.told_to(Arc::clone(passing))),
            None => RequestBody::Whole(Full::default()),
        },
    };
    // Identifying the call has made sure that these parts make a request.
    let uri = call.upstream.config.base.join(&call.path_and_query).map_err(|_| Fault::Protocol)?;
    let mut request = Request::new(body);
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = call.upstream_headers.clone();
    Ok(request)
}

/// Whether the body is a stream of events that can be read as it comes, rather than a compressed one.
fn is_event_stream(headers: &HeaderMap) -> bool {
    let plain = headers.get(header::CONTENT_ENCODING).is_none_or(|encoding| encoding == "identity");
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    plain && content_type.is_some_and(|value| value.to_ascii_lowercase().starts_with(b"text/event-stream"))
}

/// What the beginning of a stream says.
enum Beginning {
    /// It has begun, with an answer or with an error.
    Telling(Option<ProviderError>),
    /// It has ended, and was no answer.
    OfNothing(Fault),
    /// It contradicts its head, and is a body.
    NoStream,
}

/// Holds a stream through its preamble, up to the event that is content or an error.
async fn hold_stream(call: &Call, held: &mut Held) -> Beginning {
    let mut splitter = Splitter::default();
    let mut bytes = 0;
    let mut release: Option<Instant> = None;
    let beginning = loop {
        let Some(body) = held.rest.as_mut() else { break Beginning::Telling(None) };
        let frame = match frame_until(release, body).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => break ended(call, held, &mut splitter, Some(fault_of(&error))),
            Ok(None) => break ended(call, held, &mut splitter, None),
            Err(_) => {
                held.has_content = false;
                break Beginning::Telling(None);
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        bytes += data.len();
        splitter.push(data);
        if begins_as_body(&held.arrived, splitter.pending()) {
            held.arrived.push_back(splitter.take_rest());
            return Beginning::NoStream;
        }
        let mut telling = None;
        while telling.is_none()
            && let Some(event) = splitter.next_event()
        {
            telling = tells(call, call.dialect.read_event(&event));
            held.arrived.push_back(event);
        }
        if let Some(beginning) = telling {
            break beginning;
        }
        if bytes > PREAMBLE_BYTES_MAX {
            break Beginning::Telling(None);
        }
        if !held.arrived.is_empty() {
            release.get_or_insert_with(|| Instant::now() + PREAMBLE_HOLD);
        }
    };
    held.splitter = Some(splitter);
    beginning
}

/// Whether what a head calls a stream of events begins as JSON or a page does, and as no event can.
fn begins_as_body(arrived: &VecDeque<Bytes>, pending: &[u8]) -> bool {
    let mut bytes = arrived.iter().flatten().chain(pending);
    matches!(bytes.find(|byte| !byte.is_ascii_whitespace()), Some(b'{' | b'[' | b'<'))
}

/// What an event says of the stream that it is the first one of to tell anything.
fn tells(call: &Call, kind: EventKind) -> Option<Beginning> {
    match kind {
        EventKind::Preamble if call.operation == Operation::Generate => None,
        EventKind::End if call.operation == Operation::Generate => Some(Beginning::OfNothing(Fault::Truncated)),
        EventKind::Error(error) => Some(Beginning::Telling(Some(error))),
        EventKind::Preamble | EventKind::Content | EventKind::Finished(_) | EventKind::Complete | EventKind::End => {
            Some(Beginning::Telling(None))
        }
    }
}

/// A stream has ended, or broken off, before it told anything.
fn ended(call: &Call, held: &mut Held, splitter: &mut Splitter, broken: Option<Fault>) -> Beginning {
    held.rest = None;
    let rest = splitter.take_rest();
    // The blank line behind the last event may be missing, which does not make it say less.
    let whole = is_whole(&rest);
    let kind = if whole { call.dialect.read_event(&rest) } else { EventKind::Preamble };
    // Half an event would make nonsense of what we say of the break.
    if !rest.is_empty() && (whole || broken.is_none()) {
        held.arrived.push_back(rest);
    }
    match (kind, broken) {
        (EventKind::Error(error), _) => Beginning::Telling(Some(error)),
        (EventKind::Finished(_) | EventKind::Complete, _) => Beginning::Telling(None),
        (EventKind::Preamble | EventKind::Content | EventKind::End, Some(fault)) => {
            held.broken = Some(fault);
            Beginning::OfNothing(fault)
        }
        (EventKind::Preamble | EventKind::Content | EventKind::End, None) => match call.operation {
            Operation::Generate => Beginning::OfNothing(Fault::Truncated),
            Operation::PassThrough => Beginning::Telling(None),
        },
    }
}

/// Holds a body until it is whole or long enough to tell, and says what broke it off.
///
/// An answer that dribbles in is not held for longer than a preamble is, and one that is whole not for as long as its
/// connection stays open.
async fn hold_body(call: &Call, held: &mut Held, enough: usize) -> Option<Fault> {
    let succeeds = held.status.is_success();
    let tells_its_end = !call.asked.streaming && JsonEnd::of(&held.headers).is_some();
    let (mut json, mut bytes) = (JsonEnd::default(), 0);
    let mut release: Option<Instant> = None;
    for arrived in &held.arrived {
        json.read(arrived);
        bytes += arrived.len();
        release = Some(Instant::now() + OPEN_WHEN_OVER);
    }
    while bytes < enough {
        // Most bodies come with their end, and need no clock.
        let Some(body) = held.rest.as_mut().filter(|body| !body.is_end_stream()) else {
            held.rest = None;
            break;
        };
        let is_whole = tells_its_end && json.is_whole();
        match frame_until(release, body).await {
            Ok(None) => held.rest = None,
            Ok(Some(Err(_))) | Err(_) if is_whole => held.rest = None,
            Err(_) => break,
            Ok(Some(Err(error))) => {
                held.rest = None;
                held.broken = Some(fault_of(&error));
            }
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { continue };
                if tells_its_end {
                    json.read(&data);
                }
                bytes += data.len();
                held.arrived.push_back(data);
                if tells_its_end && json.is_whole() && !is_whole {
                    release = Some(Instant::now() + OPEN_WHEN_OVER);
                } else if succeeds {
                    release.get_or_insert_with(|| Instant::now() + PREAMBLE_HOLD);
                }
            }
        }
    }
    if held.rest.as_ref().is_some_and(Incoming::is_end_stream) {
        held.rest = None;
    }
    if held.rest.is_some() {
        held.has_content = held.arrived.iter().flatten().any(|byte| !byte.is_ascii_whitespace());
    }
    held.broken
}

/// The next piece of a body, for which nobody waits longer than this.
async fn frame_until(
    release: Option<Instant>,
    body: &mut Incoming,
) -> Result<Option<Result<Frame<Bytes>, hyper::Error>>, Elapsed> {
    match release {
        None => Ok(body.frame().await),
        Some(release) => timeout_at(release, body.frame()).await,
    }
}

/// Whether what came under a success, and begins like this, is no answer at all.
fn is_nothing(call: &Call, held: &Held, begins: &[u8]) -> bool {
    let may_be_empty = matches!(held.status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
    let is_body = call.operation == Operation::Generate && held.status.is_success() && held.splitter.is_none();
    if !is_body || may_be_empty || !held.has_content {
        return false;
    }
    let is_all = held.rest.is_none() && begins.len() < BODY_PREFIX_BYTES_MAX;
    call.dialect.is_nothing(call.path(), begins, is_all)
}

/// The beginning of what has arrived, as its reader needs it.
fn prefix_of(held: &Held) -> Bytes {
    let prefix = match held.arrived.front() {
        None => Bytes::new(),
        Some(only) if held.arrived.len() == 1 => only.slice(..only.len().min(BODY_PREFIX_BYTES_MAX)),
        Some(_) => held.arrived.iter().flatten().copied().take(BODY_PREFIX_BYTES_MAX).collect(),
    };
    match compression::decoded(&held.headers, &prefix, BODY_PREFIX_BYTES_MAX) {
        Cow::Borrowed(_) => prefix,
        Cow::Owned(decoded) => Bytes::from(decoded),
    }
}

fn json_of_event(event: &[u8]) -> Option<Value> {
    let data = sse::data(event);
    if data.len() > BODY_PREFIX_BYTES_MAX { None } else { body_json::parse(&data) }
}

/// What a policy may see of an attempt: nothing that the caller sent but its model, and no cookies.
#[derive(Clone, Debug)]
pub struct Record {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// The API spoken.
    pub dialect: Dialect,
    /// The model asked for.
    pub model: Option<String>,
    /// Whether a stream was asked for.
    pub streaming: bool,
    /// 1 for the first attempt.
    pub number: u32,
    /// How far it came.
    pub phase: Phase,
    /// Why a whole response is missing.
    pub fault: Option<Fault>,
    /// What was in the way of a connection, in a sentence's words.
    pub cause: Option<Rc<str>>,
    /// The response's status.
    pub status: Option<u16>,
    /// The response's headers.
    pub headers: Rc<HeaderMap>,
    /// The beginning of its body.
    pub prefix: Bytes,
    /// The body's or the error event's JSON, read when it is first asked for.
    pub json: OnceCell<Option<Value>>,
    /// The provider's own error, read when it is first asked for.
    pub error: OnceCell<Option<ProviderError>>,
    /// How long the attempt took so far.
    pub elapsed: Duration,
    /// How long its first content took; still unknown when a long preamble was passed on without it.
    pub first_content: Cell<Option<Duration>>,
    /// When it began.
    pub began: Instant,
    /// When the request must be answered.
    pub deadline: Instant,
}

#[cfg(test)]
impl Record {
    /// An attempt that was answered at once, for tests that care for one of its facts only.
    pub fn for_tests() -> Record {
        let now = Instant::now();
        Record {
            upstream: Arc::from("test"),
            dialect: Dialect::OpenAi,
            model: None,
            streaming: false,
            number: 1,
            phase: Phase::BeforeContent,
            fault: None,
            cause: None,
            status: Some(200),
            headers: Rc::default(),
            prefix: Bytes::new(),
            json: OnceCell::new(),
            error: OnceCell::new(),
            elapsed: Duration::ZERO,
            first_content: Cell::new(None),
            began: now,
            deadline: now,
        }
    }
}

impl Record {
    fn json(&self) -> Option<&Value> {
        self.json.get_or_init(|| body_json::parse(&self.prefix)).as_ref()
    }
}

impl AttemptFacts for Record {
    fn upstream(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.upstream)
    }
    fn dialect(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.dialect.as_str())
    }
    fn model(&self) -> Option<Cow<'_, str>> {
        self.model.as_deref().map(Cow::Borrowed)
    }
    fn streaming(&self) -> bool {
        self.streaming
    }
    fn number(&self) -> u32 {
        self.number
    }
    fn phase(&self) -> Phase {
        self.phase
    }
    fn fault(&self) -> Option<Fault> {
        self.fault
    }
    fn status(&self) -> Option<u16> {
        self.status
    }
    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        // The map finds names in capitals too.
        let value = self.headers.get(name).filter(|_| !name.eq_ignore_ascii_case("set-cookie"))?;
        Some(Cow::Borrowed(value.as_bytes()))
    }
    fn header_names(&self) -> Vec<String> {
        self.headers.keys().filter(|name| *name != header::SET_COOKIE).map(|name| name.as_str().to_owned()).collect()
    }
    fn body_prefix(&self, limit: u32) -> Cow<'_, [u8]> {
        let end = self.prefix.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        Cow::Borrowed(&self.prefix[..end])
    }
    fn body_json(&self, pointer: &str) -> Option<String> {
        if self.phase == Phase::Committed { None } else { body_json::at(self.json()?, pointer) }
    }
    fn provider_error(&self) -> Option<ProviderError> {
        self.error.get_or_init(|| ProviderError::from_value(self.json()?)).clone()
    }
    fn retry_after(&self) -> Option<Duration> {
        let header = |name: &str| self.headers.get(name).map(|value| value.as_bytes());
        wait::from_headers(header, SystemTime::now()).or_else(|| wait::from_body(&self.prefix))
    }
    fn rate_limit(&self, dimension: Dimension) -> Option<RateLimit> {
        let header = |name: &str| self.headers.get(name).map(|value| value.as_bytes());
        rate_limits::from_headers(header, SystemTime::now()).get(dimension)
    }
    fn elapsed(&self) -> Duration {
        self.elapsed
    }
    fn first_content(&self) -> Option<Duration> {
        self.first_content.get()
    }
    fn remaining(&self) -> Option<Duration> {
        Some(self.deadline.saturating_duration_since(Instant::now()))
    }
    fn unix_time(&self) -> Duration {
        let since_the_end = self.began.elapsed().saturating_sub(self.elapsed);
        Duration::from_millis(wall_unix_ms()).saturating_sub(since_the_end)
    }
    fn random(&self) -> u64 {
        random()
    }
}

#[cfg(test)]
mod tests;
