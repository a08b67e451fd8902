//! Anthropic's Messages API.

use super::lenient::{self, Scalar};
use super::usage::{count, details};
use super::{EventKind, Parameters, Tier, Usage, has_objects, json_type, lacks};
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
        "speed" => {
            let is_fast = Scalar::read(value).text().as_deref() == Some("fast");
            asked.tier = if is_fast { Tier::Fast } else { Tier::Standard };
        }
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

/// Anthropic's three kinds of input add up; elsewhere the cached part is inside of the whole. What it did besides, such
/// as to sum up what was too long, stands among the iterations alone.
pub(super) fn usage(usage: &Value) -> Option<Usage> {
    let message = of_object(usage)?;
    let iterations = usage.get("iterations").and_then(Value::as_array).into_iter().flatten();
    let besides = iterations.filter(|one| one.get("type").is_some_and(|kind| kind != "message"));
    Some(besides.filter_map(of_object).fold(message, Usage::plus))
}

fn of_object(usage: &Value) -> Option<Usage> {
    const INPUT: [&str; 3] = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];
    let [uncached, written, cache_read] = INPUT.map(|key| count(usage, key));
    let output = count(usage, "output_tokens");
    if uncached.is_none() && written.is_none() && cache_read.is_none() && output.is_none() {
        return None;
    }
    let of_written = details(usage, &["cache_creation"]);
    let [for_minutes, for_an_hour] = ["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"]
        .map(|key| count(of_written, key).unwrap_or_default());
    let cache_read = cache_read.unwrap_or_default();
    // What is not told by lifetime lasts for as long as is usual.
    let written = written.unwrap_or_default().max(for_minutes.saturating_add(for_an_hour));
    let is_fast = usage.get("speed").is_some_and(|speed| speed == "fast");
    let tier = usage.get("service_tier").and_then(Value::as_str).map(Tier::said).unwrap_or_default();
    Some(Usage {
        input: uncached.unwrap_or_default().saturating_add(written).saturating_add(cache_read),
        output: output.unwrap_or_default(),
        cache_read,
        cache_write_5m: written.saturating_sub(for_an_hour),
        cache_write_1h: for_an_hour,
        reasoning: count(details(usage, &["output_tokens_details"]), "thinking_tokens").unwrap_or_default(),
        audio_input: 0,
        audio_output: 0,
        tier: if is_fast { Tier::Fast } else { tier },
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
