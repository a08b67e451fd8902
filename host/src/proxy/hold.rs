//! The beginning of a response, held until it is clear what it is worth.

mod stream;

use self::stream::{Beginning, hold_stream, splitter};
use crate::dialect::compression::{self, Coding};
use crate::dialect::decoder::Decoder;
use crate::dialect::json_end::JsonEnd;
use crate::dialect::sse::Splitter;
use crate::dialect::{Dialect, Operation};
use crate::policy::Record;
use crate::proxy::target::Target;
use crate::runtime::causes::ErrorChain;
use crate::upstream::client::{Switched, fault_of};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
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
    /// What has arrived of the body, whole events where it is a stream that can be read without being decoded.
    pub arrived: VecDeque<Bytes>,
    /// What has been read of a stream that comes compressed.
    pub decoded: VecDeque<Bytes>,
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
    /// The events that were read of a stream, in their order.
    pub(crate) fn events(&self) -> &VecDeque<Bytes> {
        match &self.splitter {
            Some(splitter) if splitter.is_compressed() => &self.decoded,
            Some(_) | None => &self.arrived,
        }
    }

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
        decoded: VecDeque::new(),
        splitter: None,
        rest: Some(body),
        has_content: true,
        broken: None,
        cause: None,
        switched: None,
    };
    let (generates, succeeds) = (target.request.operation == Operation::Generate, held.status.is_success());
    let (mut error, mut fault) = (None, None);
    let mut is_stream = false;
    if succeeds && let Some(splitter) = splitter(target.request.dialect, &held.headers) {
        is_stream = true;
        match hold_stream(target, &mut held, splitter).await {
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

/// Holds a body until it is whole or long enough to tell, and says what broke it off.
///
/// An answer that dribbles in is not held for longer than a preamble is, and one that is whole not for as long as its
/// connection stays open.
async fn hold_body(target: &Target, held: &mut BufferedResponse, enough: usize) -> Option<Fault> {
    let succeeds = held.status.is_success();
    let is_json = !target.request.parameters.streaming && JsonEnd::of(&held.headers).is_some();
    let tells_its_end = is_json && Coding::of(&held.headers) == Coding::None;
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
            Ok(Some(Err(_))) | Err(_) if is_whole || is_json && !tells_its_end && decodes_whole(held) => {
                held.rest = None;
            }
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

/// Whether what has come compressed is JSON that is whole. It is decoded for that where nothing more comes, and not with
/// each piece.
fn decodes_whole(held: &BufferedResponse) -> bool {
    let (mut json, mut decoder) = (JsonEnd::default(), Decoder::of(&held.headers));
    for piece in &held.arrived {
        json.read(&decoder.as_mut().map_or_else(Bytes::new, |decoder| decoder.decode(piece)));
    }
    json.is_whole()
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

pub(super) fn json_of_event(dialect: Dialect, event: &[u8]) -> Option<Value> {
    let data = dialect.data(event);
    if data.len() > BODY_PREFIX_BYTES_MAX { None } else { body_json::parse(&data) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streams_json_is_the_data_of_its_error_event() {
        let event = b"event: error\ndata: {\"error\":{\ndata: \"type\":\"overloaded_error\"}}\n\n";
        let json = json_of_event(Dialect::Anthropic, event).expect("JSON over two lines");
        assert_eq!(body_json::at(&json, "/error/type").as_deref(), Some("overloaded_error"));
        let long = format!("data: {{\"error\":\"{}\"}}\n\n", "x".repeat(BODY_PREFIX_BYTES_MAX));
        assert_eq!(json_of_event(Dialect::Anthropic, long.as_bytes()), None, "a longer event is bounded like a body");
    }
}
