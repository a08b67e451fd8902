//! The beginning of a response, held until it is clear what it is worth.

use crate::dialect::compression;
use crate::dialect::events::is_whole;
use crate::dialect::json_end::JsonEnd;
use crate::dialect::sse::{self, Splitter};
use crate::dialect::{EventKind, Operation};
use crate::policy::Record;
use crate::proxy::target::Target;
use crate::runtime::causes::ErrorChain;
use crate::upstream::client::{Switched, fault_of};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use serde_json::Value;
use spillway_sdk::{BODY_PREFIX_BYTES_MAX, Fault, ProviderError, body_json};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

/// Most of a stream that is held while it says nothing. Beyond it the stream is taken for content.
pub(crate) const PREAMBLE_BYTES_MAX: usize = 64 << 10;
/// Longest time for which the beginning of an answer is held back from the caller, hoping for a word of content or
/// error: some servers send blank lines or comments for minutes, so that callers do not give up. What is passed on is
/// committed.
pub(crate) const PREAMBLE_HOLD: Duration = Duration::from_secs(1);

/// How long an answer that is whole, and behind whose last event nothing may follow, may stay open. Then it is closed,
/// as it is whole.
pub(crate) const OPEN_WHEN_OVER: Duration = Duration::from_secs(1);

/// A response whose beginning is held.
#[derive(Debug)]
pub(crate) struct BufferedResponse {
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
    /// What that was told by.
    pub cause: Option<ErrorChain>,
    /// The connection, where it speaks another protocol from here on.
    pub switched: Option<Switched>,
}

impl BufferedResponse {
    /// Whether part of an answer has come whose rest never will: it was made, and is paid for.
    pub(crate) fn is_part(&self) -> bool {
        let says_something = || self.arrived.iter().flatten().any(|byte| !byte.is_ascii_whitespace());
        self.broken.is_some() && self.splitter.is_none() && self.status.is_success() && says_something()
    }

    /// Whether its caller sees by itself that it is no answer: by its status, or because it is empty, breaks off, or is
    /// a stream that begins with an error.
    pub(crate) fn shows_its_failure(&self, record: &Record) -> bool {
        let begins_with_error = self.splitter.is_some() && record.error.get().is_some_and(Option::is_some);
        !self.status.is_success() || record.fault.is_some() || begins_with_error
    }
}

/// A response of which it is clear what it is.
pub(super) struct Begun {
    pub(super) held: BufferedResponse,
    /// The error that a stream has begun with.
    pub(super) error: Option<ProviderError>,
    /// Why it is no answer.
    pub(super) fault: Option<Fault>,
}

/// Holds a response until it is clear what it is: a stream of events through its preamble, another body up to what a
/// policy may see of it.
pub(super) async fn hold(target: &Target, status: StatusCode, headers: Rc<HeaderMap>, body: Incoming) -> Begun {
    let mut held = BufferedResponse {
        status,
        headers,
        arrived: VecDeque::new(),
        splitter: None,
        rest: Some(body),
        has_content: true,
        broken: None,
        cause: None,
        switched: None,
    };
    let (generates, succeeds) = (target.request.operation == Operation::Generate, held.status.is_success());
    let (mut error, mut fault) = (None, None);
    let mut is_stream = succeeds && is_event_stream(&held.headers);
    if is_stream {
        match hold_stream(target, &mut held).await {
            Beginning::Telling(told) => error = told,
            Beginning::OfNothing(why) => fault = Some(why),
            Beginning::NoStream => is_stream = false,
        }
    }
    if !is_stream && (generates || !succeeds) {
        // Parts of an answer that streams in some other form must not wait for each other.
        let enough = if target.request.parameters.streaming && succeeds { 1 } else { BODY_PREFIX_BYTES_MAX };
        fault = hold_body(target, &mut held, enough).await;
    }
    if let (Some(key), false) = (&target.key, succeeds) {
        // What the caller, the log and the status hear of a refused key is not the key.
        let said: Vec<u8> = held.arrived.iter().flatten().copied().collect();
        if let Some(covered) = key.covered(&said) {
            held.arrived = VecDeque::from([covered]);
        }
    }
    Begun { held, error, fault }
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
async fn hold_stream(target: &Target, held: &mut BufferedResponse) -> Beginning {
    let mut splitter = Splitter::default();
    let mut bytes = 0;
    let mut release: Option<Instant> = None;
    let beginning = loop {
        let Some(body) = held.rest.as_mut() else { break Beginning::Telling(None) };
        let frame = match frame_until(release, body).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => {
                let fault = fault_of(&error);
                held.cause = Some(ErrorChain::of(error));
                break ended(target, held, &mut splitter, Some(fault));
            }
            Ok(None) => break ended(target, held, &mut splitter, None),
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
            // Whoever reads of a refused key must not read the key.
            let covered = target.key.as_ref().and_then(|key| key.covered(&event));
            let event = covered.unwrap_or(event);
            telling = tells(target, target.request.dialect.read_event(&event));
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
fn tells(target: &Target, kind: EventKind) -> Option<Beginning> {
    match kind {
        EventKind::Preamble if target.request.operation == Operation::Generate => None,
        EventKind::End if target.request.operation == Operation::Generate => {
            Some(Beginning::OfNothing(Fault::Truncated))
        }
        EventKind::Error(error) => Some(Beginning::Telling(Some(error))),
        EventKind::Preamble | EventKind::Content | EventKind::Finished(_) | EventKind::Complete | EventKind::End => {
            Some(Beginning::Telling(None))
        }
    }
}

/// A stream has ended, or broken off, before it told anything.
fn ended(target: &Target, held: &mut BufferedResponse, splitter: &mut Splitter, broken: Option<Fault>) -> Beginning {
    held.rest = None;
    let rest = splitter.take_rest();
    // The blank line behind the last event may be missing, which does not make it say less.
    let whole = is_whole(&rest);
    let kind = if whole { target.request.dialect.read_event(&rest) } else { EventKind::Preamble };
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
        (EventKind::Preamble | EventKind::Content | EventKind::End, None) => match target.request.operation {
            Operation::Generate => Beginning::OfNothing(Fault::Truncated),
            Operation::PassThrough => Beginning::Telling(None),
        },
    }
}

/// Holds a body until it is whole or long enough to tell, and says what broke it off.
///
/// An answer that dribbles in is not held for longer than a preamble is, and one that is whole not for as long as its
/// connection stays open.
async fn hold_body(target: &Target, held: &mut BufferedResponse, enough: usize) -> Option<Fault> {
    let succeeds = held.status.is_success();
    let tells_its_end = !target.request.parameters.streaming && JsonEnd::of(&held.headers).is_some();
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
                held.cause = Some(ErrorChain::of(error));
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
pub(super) fn is_nothing(target: &Target, held: &BufferedResponse, begins: &[u8]) -> bool {
    // These need hold nothing; and what is accepted for later would be done twice if it were sent again.
    let may_be_empty = matches!(held.status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::ACCEPTED);
    let is_body =
        target.request.operation == Operation::Generate && held.status.is_success() && held.splitter.is_none();
    if !is_body || may_be_empty || !held.has_content {
        return false;
    }
    let is_all = held.rest.is_none() && begins.len() < BODY_PREFIX_BYTES_MAX;
    target.request.dialect.is_nothing(target.request.path(), begins, is_all)
}

/// The beginning of what has arrived, as its reader needs it.
pub(super) fn prefix_of(held: &BufferedResponse) -> Bytes {
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

pub(super) fn json_of_event(event: &[u8]) -> Option<Value> {
    let data = sse::data(event);
    if data.len() > BODY_PREFIX_BYTES_MAX { None } else { body_json::parse(&data) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streams_json_is_the_data_of_its_error_event() {
        let event = b"event: error\ndata: {\"error\":{\ndata: \"type\":\"overloaded_error\"}}\n\n";
        let json = json_of_event(event).expect("JSON over two lines");
        assert_eq!(body_json::at(&json, "/error/type").as_deref(), Some("overloaded_error"));
        let long = format!("data: {{\"error\":\"{}\"}}\n\n", "x".repeat(BODY_PREFIX_BYTES_MAX));
        assert_eq!(json_of_event(long.as_bytes()), None, "a longer event is bounded like a body");
    }
}
