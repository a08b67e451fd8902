//! Anthropic's Messages API.

use super::lenient::{self, Scalar};
use super::{EventKind, Parameters, Usage, has_objects, json_type, lacks, sum};
use crate::dialect::error::{ApiError, ErrorKind};
use crate::dialect::sse;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

pub(super) fn recognises(path: &str, headers: &HeaderMap) -> bool {
    let mut bare = path;
    while let Some(rest) = bare.strip_prefix("/v1").filter(|rest| rest.starts_with('/')) {
        bare = rest;
    }
    headers.contains_key("anthropic-version") || is_bare(bare)
}

/// Whether this is a path of the API without its `/v1`.
pub(super) fn is_bare(path: &str) -> bool {
    path == "/messages" || path.starts_with("/messages/")
}

pub(super) fn read_request(body: &[u8]) -> Parameters {
    let mut asked = Parameters::default();
    let read = lenient::members(body, |key, value| match key {
        "model" => asked.model = Scalar::read(value).text(),
        "stream" => asked.streaming = Scalar::read(value).is(true),
        "max_tokens" => asked.output_tokens_max = Scalar::read(value).whole_number(),
        _ => {}
    });
    read.map_or_else(Parameters::default, |()| asked)
}

/// Whether a body names the version of this API, as it does in clouds.
pub(super) fn is_version_in(body: &[u8]) -> bool {
    let mut version = Scalar::Null;
    let read = lenient::members(body, |key, value| {
        if key == "anthropic_version" {
            version = Scalar::read(value);
        }
    });
    read.is_some() && version != Scalar::Null
}

/// A message may be empty, behind the results of tools for instance, but then it says why it has stopped.
pub(super) fn is_nothing(body: &[u8]) -> bool {
    let says_why = |object: &Map<String, Value>| object.get("stop_reason").is_some_and(Value::is_string);
    let is_other = |object: &Map<String, Value>| !object.is_empty() && !object.contains_key("content");
    !has_objects(body, b"\"content\"") && lacks(body, |object| says_why(object) || is_other(object))
}

pub(super) fn read_event(event: &[u8], data: &[u8]) -> EventKind {
    let named = sse::name(event).and_then(|name| str::from_utf8(name).ok()).filter(|name| *name != "message");
    match named.map(Cow::Borrowed).or_else(|| json_type(data)).as_deref() {
        Some("message_start" | "ping" | "content_block_start") => EventKind::Preamble,
        Some("message_stop") => EventKind::End,
        None if data.is_empty() => EventKind::Preamble,
        None if data == b"[DONE]" => EventKind::End,
        Some(_) | None => EventKind::Content,
    }
}

/// Anthropic's three kinds of input add up; elsewhere the cached part is inside of the whole.
pub(super) fn usage(usage: &Value) -> Option<Usage> {
    usage.is_object().then(|| Usage {
        input: sum(usage, &["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"]),
        output: sum(usage, &["output_tokens"]),
    })
}

/// Anthropic says "try again soon" with 529, and its SDKs have a class of their own for it.
pub(super) fn status(error: &ApiError) -> StatusCode {
    match error.kind {
        ErrorKind::Overloaded => StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        _ => error.status,
    }
}

pub(super) fn envelope(error: &ApiError, request_id: &str) -> Value {
    let kind = match error.kind {
        ErrorKind::RateLimited { .. } => "rate_limit_error",
        ErrorKind::Overloaded | ErrorKind::Unavailable => "overloaded_error",
        ErrorKind::TimedOut => "timeout_error",
        ErrorKind::Unreachable | ErrorKind::Failed => "api_error",
        ErrorKind::TooLarge => "request_too_large",
        ErrorKind::NotFound => "not_found_error",
        ErrorKind::Unauthenticated => "authentication_error",
        ErrorKind::Forbidden => "permission_error",
        ErrorKind::Invalid | ErrorKind::Late | ErrorKind::Conflict => "invalid_request_error",
    };
    json!({
        "type": "error",
        "error": {"type": kind, "message": error.message, "details": {"error_code": error.code}},
        "request_id": request_id,
    })
}
