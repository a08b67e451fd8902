//! Anthropic's Messages API.

use super::{Asked, EventKind, Usage, sum};
use crate::refusal::{Kind, Refusal};
use crate::sse;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

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

pub(super) fn generates(path: &str) -> bool {
    path.ends_with("/messages")
}

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    stream: Option<bool>,
    max_tokens: Option<u64>,
}

pub(super) fn read_request(body: &[u8]) -> Asked {
    let Ok(body) = serde_json::from_slice::<Body>(body) else { return Asked::default() };
    Asked {
        model: body.model,
        streaming: body.stream.unwrap_or(false),
        output_tokens_max: body.max_tokens,
        usage_withheld: false,
    }
}

pub(super) fn read_event(event: &[u8], data: &[u8]) -> EventKind {
    match sse::name(event) {
        Some(b"message_start" | b"ping" | b"content_block_start") => EventKind::Preamble,
        Some(b"message_stop") => EventKind::Terminal,
        Some(_) => EventKind::Content,
        None if data.is_empty() => EventKind::Preamble,
        None => EventKind::Content,
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
pub(super) fn status(refusal: &Refusal) -> StatusCode {
    match refusal.kind {
        Kind::CircuitOpen { said: None, .. } | Kind::Overloaded { .. } => {
            StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
        }
        _ => refusal.status(),
    }
}

pub(super) fn envelope(refusal: &Refusal, request_id: &str) -> Value {
    let kind = match refusal.kind {
        Kind::LimitExceeded { .. } | Kind::Saturated { .. } | Kind::Paced { .. } => "rate_limit_error",
        Kind::CircuitOpen { .. } | Kind::Overloaded { .. } | Kind::SpoolFull { .. } | Kind::SpoolUnavailable { .. } => {
            "overloaded_error"
        }
        Kind::TimedOut { .. } => "timeout_error",
        Kind::Unreachable { .. } | Kind::JudgedFailed { .. } | Kind::StreamCut { .. } => "api_error",
        Kind::BodyTooLarge { .. } => "request_too_large",
        Kind::NoSuchRoute { .. } | Kind::NoSuchJob => "not_found_error",
        Kind::Forbidden { .. } => "permission_error",
        Kind::BadRequest { .. } | Kind::WrongMethod { .. } | Kind::Conflict { .. } => "invalid_request_error",
    };
    json!({
        "type": "error",
        "error": {"type": kind, "message": refusal.message(), "details": {"error_code": refusal.code()}},
        "request_id": request_id,
    })
}
