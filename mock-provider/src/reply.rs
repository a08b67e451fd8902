//! What one answer is, written as a sentence: `respond(429).header("retry-after", "2")`,
//! `stream().event(first).wait_for(&gate).event(second).cut()`, `healthy().after_events(2).reset()`.
//!
//! A [`Reply`] is a plain value. It is put into the words of the API that was called only when a request meets it,
//! so that one reply serves every dialect.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use serde_json::Value;

use super::dialects::sse_event;
use super::failures::Failure;
use super::plan::{Break, Gate, Pause, Step};
use super::tools::Scripted;

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// What the API called would answer on a good day.
    Healthy,
    /// What the API called would answer on a bad one; `in_200` hides it behind a success status.
    Failure { failure: Failure, in_200: bool },
    /// These bytes, with their length announced.
    Fixed(Bytes),
    /// Only the steps, as server-sent events of unannounced length.
    Scripted,
}

/// One scripted answer; see the functions of this module for where to start and the methods for how to go on.
///
/// The methods that act within the body ([`wait_for`](Self::wait_for), [`pause`](Self::pause), [`chunk`](Self::chunk),
/// [`stall`](Self::stall), [`cut`](Self::cut), [`reset`](Self::reset), ...) happen in the order written. In a
/// [`stream`] they are the body. In a healthy streamed answer they stand after the number of events last named by
/// [`after_events`](Self::after_events), or else in the middle; in an answer that is not streamed, in its middle.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) content: Content,
    pub(super) before_head: Vec<Pause>,
    pub(super) instead_of_head: Option<Break>,
    pub(super) text: Option<String>,
    pub(super) usage: Option<(u64, u64)>,
    pub(super) tools: Vec<Scripted>,
    pub(super) choices: Option<u64>,
    pub(super) gzipped: bool,
    pub(super) retry_after_s: Option<u64>,
    pub(super) status: Option<StatusCode>,
    pub(super) headers: HeaderMap,
    pub(super) steps: Vec<(Option<usize>, Step)>,
    cursor: Option<usize>,
    pub(super) pace: Option<Duration>,
}

fn reply(content: Content) -> Reply {
    Reply {
        content,
        before_head: Vec::new(),
        instead_of_head: None,
        text: None,
        usage: None,
        tools: Vec::new(),
        choices: None,
        gzipped: false,
        retry_after_s: None,
        status: None,
        headers: HeaderMap::new(),
        steps: Vec::new(),
        cursor: None,
        pace: None,
    }
}

/// Answers as the API called would on a good day: streamed if asked so, with ids and usage, in its own dialect.
pub fn healthy() -> Reply {
    reply(Content::Healthy)
}

/// Answers with this status and, until a body is given, an empty one.
///
/// # Panics
/// If `status` is not a valid HTTP status (100 to 999).
pub fn respond(status: u16) -> Reply {
    reply(Content::Fixed(Bytes::new())).status(status)
}

/// Answers 200 with server-sent events, exactly those that follow.
pub fn stream() -> Reply {
    reply(Content::Scripted).header("content-type", "text/event-stream")
}

/// Answers 200 with a body of this type and of unannounced length, exactly in the pieces that follow.
pub fn in_pieces(content_type: &str) -> Reply {
    reply(Content::Scripted).header("content-type", content_type)
}

/// Takes the request and never answers, until the client goes away.
pub fn stall() -> Reply {
    let mut reply = respond(200);
    reply.before_head.push(Pause::Forever);
    reply
}

/// Takes the request and closes the connection in an orderly way, without a byte of answer.
pub fn close_before_head() -> Reply {
    Reply { instead_of_head: Some(Break::Close), ..respond(200) }
}

/// Takes the request and resets the connection (RST), without a byte of answer.
pub fn reset() -> Reply {
    Reply { instead_of_head: Some(Break::Reset), ..respond(200) }
}

/// Refuses in the dialect called, for this reason.
pub fn fail(failure: Failure) -> Reply {
    reply(Content::Failure { failure, in_200: false })
}

/// Refuses because requests come too fast: 429 in every dialect.
pub fn rate_limited() -> Reply {
    fail(Failure::RateLimited)
}

/// Refuses because the provider has no capacity: OpenAI and Gemini 503, Anthropic 529.
pub fn overloaded() -> Reply {
    fail(Failure::Overloaded)
}

/// Refuses because the money or the day's quota is spent: a 429 that waiting does not cure.
pub fn insufficient_quota() -> Reply {
    fail(Failure::InsufficientQuota)
}

/// Says that it is overloaded, but under status 200: as the JSON body, or as the first event of a stream.
pub fn error_in_200() -> Reply {
    reply(Content::Failure { failure: Failure::Overloaded, in_200: true })
}

impl Reply {
    /// Replaces the status.
    ///
    /// # Panics
    /// If `status` is not a valid HTTP status (100 to 999).
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(StatusCode::from_u16(status).unwrap_or_else(|_| panic!("{status} is no HTTP status")));
        self
    }

    /// Adds a header; where the answer has one of this name by default, replaces it.
    ///
    /// # Panics
    /// If name or value cannot stand in an HTTP header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let valid_name = HeaderName::from_bytes(name.as_bytes());
        let valid_value = HeaderValue::from_str(value);
        let (Ok(valid_name), Ok(valid_value)) = (valid_name, valid_value) else {
            panic!("`{name}: {value}` is no HTTP header")
        };
        self.headers.append(valid_name, valid_value);
        self
    }

    /// Asks the caller to wait, in the way of the dialect: a `retry-after` header, or Gemini's `RetryInfo` in the body
    /// of [`rate_limited`] and its like.
    pub fn retry_after_s(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Answers with these bytes, and their `content-length`.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.content = Content::Fixed(body.into());
        self
    }

    /// Answers with this JSON, and its content type.
    pub fn json(self, body: Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// What a healthy answer says; streamed word by word.
    pub fn saying(mut self, text: &str) -> Self {
        self.text = Some(text.to_owned());
        self
    }

    /// What a healthy answer reports as used, in tokens.
    pub fn usage(mut self, input_tokens: u64, output_tokens: u64) -> Self {
        self.usage = Some((input_tokens, output_tokens));
        self
    }

    /// Has a healthy answer call this tool; several are called in order. It then says nothing beside, unless it is
    /// told to.
    pub fn calling(mut self, name: &str, arguments: Value) -> Self {
        self.tools.push(Scripted { name: Some(name.to_owned()), arguments });
        self
    }

    /// Has a healthy answer call the first tool that the request offers, or `get_weather`, for a city.
    pub fn calling_a_tool(mut self) -> Self {
        self.tools.push(Scripted::default());
        self
    }

    /// Gives so many healthy answers at once, of 16 at most, instead of as many as the request asks for (OpenAI's `n`,
    /// Gemini's `candidateCount`).
    pub fn choices(mut self, count: u64) -> Self {
        self.choices = Some(count);
        self
    }

    /// Compresses the body with gzip where the request accepts that, streams event by event.
    pub fn gzipped(mut self) -> Self {
        self.gzipped = true;
        self
    }

    /// Waits this long before the head of the answer.
    pub fn delay(mut self, duration: Duration) -> Self {
        self.before_head.push(Pause::For(duration));
        self
    }

    /// Keeps the head of the answer back until the gate is opened.
    pub fn hold_head(mut self, gate: &Gate) -> Self {
        self.before_head.push(Pause::Until(gate.clone()));
        self
    }

    /// Waits this long before each event of a healthy streamed answer.
    pub fn paced(mut self, between_events: Duration) -> Self {
        self.pace = Some(between_events);
        self
    }

    /// Moves what is written next to the place after this many events of a healthy streamed answer (0: right after the
    /// head). Beyond the last event it means the last.
    pub fn after_events(mut self, count: usize) -> Self {
        self.cursor = Some(count);
        self
    }

    /// Sends `data: <json>` and a blank line.
    pub fn event(self, data: Value) -> Self {
        self.chunk(sse_event(None, &data))
    }

    /// Sends `event: <name>`, `data: <json>` and a blank line.
    pub fn named_event(self, name: &str, data: Value) -> Self {
        self.chunk(sse_event(Some(name), &data))
    }

    /// Sends `data: [DONE]`, with which chat streams end.
    pub fn done(self) -> Self {
        self.chunk("data: [DONE]\n\n")
    }

    /// Sends these bytes as they are, for half events, comments and other oddities.
    pub fn chunk(self, bytes: impl Into<Bytes>) -> Self {
        self.then(Step::Send(bytes.into()))
    }

    /// Waits this long.
    pub fn pause(self, duration: Duration) -> Self {
        self.then(Step::Hold(Pause::For(duration)))
    }

    /// Waits until the gate is opened. What was sent before has left by then.
    pub fn wait_for(self, gate: &Gate) -> Self {
        self.then(Step::Hold(Pause::Until(gate.clone())))
    }

    /// Sends nothing more, until the client goes away.
    pub fn stall(self) -> Self {
        self.then(Step::Hold(Pause::Forever))
    }

    /// Sends the dialect's own "overloaded" error event and ends the stream there. Nothing if not streamed.
    pub fn error_event(self) -> Self {
        self.then(Step::ErrorEvent)
    }

    /// Ends a streamed answer here, in an orderly way, as if it were whole. Nothing if not streamed.
    pub fn end_early(self) -> Self {
        self.then(Step::End)
    }

    /// Closes the connection here, once all before is sent: no final chunk, or less than the length announced.
    pub fn cut(self) -> Self {
        self.then(Step::Break(Break::Close))
    }

    /// Resets the connection here (RST), once all before is sent.
    pub fn reset(self) -> Self {
        self.then(Step::Break(Break::Reset))
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push((self.cursor, step));
        self
    }
}
