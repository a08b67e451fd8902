//! OpenAI's API: chat completions, responses, completions and embeddings.

use super::{Asked, EventKind, Usage, has_key, has_string_behind, sum};
use crate::refusal::{Kind, Refusal};
use crate::sse;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

const CHAT: &str = "/chat/completions";
const GENERATING: [&str; 4] = [CHAT, "/responses", "/completions", "/embeddings"];
/// First segments of OpenAI's paths that callers use without `/v1`.
const BARE: [&str; 5] = ["/chat/", "/responses", "/completions", "/embeddings", "/models"];

pub(super) fn recognises(path: &str) -> bool {
    path.starts_with("/v1/") || is_bare(path)
}

/// Whether this is a path of the API without its `/v1`.
pub(super) fn is_bare(path: &str) -> bool {
    BARE.iter().any(|bare| path.starts_with(bare))
}

pub(super) fn generates(path: &str) -> bool {
    GENERATING.iter().any(|end| path.ends_with(end))
}

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    stream: Option<bool>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    n: Option<u64>,
    stream_options: Option<StreamOptions>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

pub(super) fn read_request(path: &str, body: &[u8]) -> Asked {
    let Ok(body) = serde_json::from_slice::<Body>(body) else { return Asked::default() };
    let streaming = body.stream.unwrap_or(false);
    let included = body.stream_options.and_then(|options| options.include_usage).unwrap_or(false);
    let bound = body.max_completion_tokens.or(body.max_output_tokens).or(body.max_tokens);
    let without_output = path.ends_with("/embeddings").then_some(0);
    Asked {
        model: body.model,
        streaming,
        output_tokens_max: without_output.or(bound.map(|bound| bound.saturating_mul(body.n.unwrap_or(1).max(1)))),
        usage_withheld: streaming && path.ends_with(CHAT) && !included,
    }
}

pub(super) fn read_event(event: &[u8], data: &[u8]) -> EventKind {
    if data.is_empty() {
        return EventKind::Preamble;
    }
    if data == b"[DONE]" {
        return EventKind::Terminal;
    }
    match sse::name(event) {
        Some(b"response.created" | b"response.in_progress" | b"response.queued") => EventKind::Preamble,
        Some(b"response.completed" | b"response.incomplete" | b"response.failed") => EventKind::Terminal,
        Some(_) => EventKind::Content,
        None if has_string_behind(data, b"\"finish_reason\"") => EventKind::Terminal,
        None => EventKind::Content,
    }
}

pub(super) fn usage(usage: &Value) -> Option<Usage> {
    usage.is_object().then(|| Usage {
        input: sum(usage, &["prompt_tokens", "input_tokens"]),
        output: sum(usage, &["completion_tokens", "output_tokens"]),
    })
}

pub(super) fn demand_usage(body: &[u8]) -> Option<Bytes> {
    let mut body: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let options = body.entry("stream_options").or_insert_with(|| json!({}));
    if options.is_null() {
        *options = json!({});
    }
    options.as_object_mut()?.insert("include_usage".into(), Value::Bool(true));
    serde_json::to_vec(&body).ok().map(Bytes::from)
}

pub(super) fn is_usage_event(data: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Chunk {
        choices: Vec<serde::de::IgnoredAny>,
        usage: Option<serde::de::IgnoredAny>,
    }
    has_key(data, b"\"usage\"")
        && serde_json::from_slice::<Chunk>(data).is_ok_and(|chunk| chunk.choices.is_empty() && chunk.usage.is_some())
}

pub(super) fn envelope(refusal: &Refusal) -> Value {
    let kind = match refusal.kind {
        Kind::LimitExceeded { dimension, .. } => dimension.as_str(),
        Kind::Saturated { .. } | Kind::Paced { .. } => "requests",
        Kind::CircuitOpen { .. } | Kind::Overloaded { .. } | Kind::SpoolFull { .. } | Kind::SpoolUnavailable { .. } => {
            "service_unavailable_error"
        }
        Kind::Unreachable { .. } | Kind::TimedOut { .. } | Kind::JudgedFailed { .. } | Kind::StreamCut { .. } => {
            "server_error"
        }
        Kind::BodyTooLarge { .. }
        | Kind::BadRequest { .. }
        | Kind::NoSuchRoute { .. }
        | Kind::NoSuchJob
        | Kind::WrongMethod { .. }
        | Kind::Forbidden { .. }
        | Kind::Conflict { .. } => "invalid_request_error",
    };
    json!({"error": {"message": refusal.message(), "type": kind, "param": null, "code": refusal.code()}})
}
