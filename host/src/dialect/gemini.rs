//! Google's Gemini API.

use super::lenient::{self, Scalar};
use super::paths::method;
use super::usage::count;
use super::{EventKind, Parameters, Tier, Usage, count_meant, has_key, has_objects, in_place, lacks, raw, sum};
use crate::dialect::error::{ApiError, ErrorKind};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};
use std::time::Duration;

pub(super) fn recognises(path: &str, headers: &HeaderMap) -> bool {
    headers.contains_key("x-goog-api-key") || path.starts_with("/v1beta/") || is_live(path) || method(path).is_some()
}

/// Whether this is a path of the Live API, which is spoken over WebSockets.
fn is_live(path: &str) -> bool {
    path.starts_with("/ws/google.")
}

pub(super) fn read_request(path: &str, body: &[u8]) -> Parameters {
    let (mut candidates, mut bound, mut tier) = (Scalar::Null, Scalar::Null, Scalar::Null);
    let read = lenient::members(body, |key, config| match key {
        "generationConfig" | "generation_config" => {
            (candidates, bound) = Default::default();
            let _no_object = raw::members(config.as_bytes(), |key, value| match key {
                "candidateCount" | "candidate_count" => candidates = Scalar::read(value),
                "maxOutputTokens" | "max_output_tokens" => bound = Scalar::read(value),
                _ => {}
            });
        }
        "serviceTier" | "service_tier" => tier = Scalar::read(config),
        _ => {}
    });
    if read.is_none() {
        (candidates, bound, tier) = Default::default();
    }
    let alternatives = candidates.whole_number().unwrap_or(1).max(1);
    let bound = bound.whole_number().map(|bound| bound.saturating_mul(alternatives));
    let generates_text = method(path).is_some_and(|method| method.ends_with("enerateContent"));
    Parameters {
        streaming: method(path) == Some("streamGenerateContent"),
        alternatives,
        tier: tier.text().as_deref().map(Tier::said).unwrap_or_default(),
        output_tokens_max: if generates_text { bound } else { Some(0) },
        ..Parameters::default()
    }
}

/// What Google's resources are called by, where a model is named outside of a path.
const RESOURCE: &str = "models/";

/// The body with another model, where it repeats the one that the path names: batches and counts do, and mistakes are
/// refused. Models of others may do so as well. A body that names none, as most, stays as it is.
pub(super) fn with_model(body: &Bytes, model: &str) -> Bytes {
    if !has_key(body, b"\"model\"") {
        return body.clone();
    }
    let mut named = Vec::new();
    let read = raw::members(body, |key, value| match key {
        "model" => named.push(value),
        "generateContentRequest" | "generate_content_request" => named.extend(raw::member(value, "model")),
        "requests" => {
            let _no_list = raw::elements(value.as_bytes(), |request| named.extend(raw::member(request, "model")));
        }
        _ => {}
    });
    if read.is_none() {
        return body.clone();
    }
    in_place::replace(body, &named, |written| {
        let is_resource = raw::text(written).is_some_and(|text| text.starts_with(RESOURCE));
        Value::from(if is_resource { format!("{RESOURCE}{model}") } else { model.to_owned() }).to_string()
    })
}

/// Candidates, or what stood against them: an empty list is left out. Of embeddings and tokens there may be none.
pub(super) fn is_nothing(path: &str, body: &[u8]) -> bool {
    let generates_text = method(path).is_some_and(|method| method.ends_with("enerateContent"));
    if !generates_text {
        return false;
    }
    !has_objects(body, b"\"candidates\"") && lacks(body, |object| object.contains_key("promptFeedback"))
}

pub(super) fn read_event(data: &[u8]) -> EventKind {
    if !has_key(data, b"\"candidates\"") && !has_key(data, b"\"promptFeedback\"") {
        return EventKind::Preamble;
    }
    // A prompt that is blocked has no candidates at all.
    match (count_meant(data, b"\"finishReason\""), count_meant(data, b"\"blockReason\"")) {
        (0, 0) => EventKind::Content,
        (0, _) => EventKind::Finished(u64::MAX),
        (finished, _) => EventKind::Finished(finished),
    }
}

/// Gemini counts cached input inside of the prompt, but thoughts beside the candidates. What it said over a WebSocket is
/// a response.
pub(super) fn usage(usage: &Value) -> Option<Usage> {
    const INPUT: [&str; 2] = ["promptTokenCount", "toolUsePromptTokenCount"];
    const OUTPUT: [&str; 3] = ["candidatesTokenCount", "responseTokenCount", "thoughtsTokenCount"];
    if !INPUT.iter().chain(&OUTPUT).any(|key| count(usage, key).is_some()) {
        return None;
    }
    let heard = ["promptTokensDetails", "toolUsePromptTokensDetails"].map(|key| audio(usage, key));
    let spoken = ["candidatesTokensDetails", "responseTokensDetails"].map(|key| audio(usage, key));
    let said = ["trafficType", "serviceTier"].iter().filter_map(|key| usage.get(key)?.as_str());
    Some(Usage {
        input: sum(usage, &INPUT),
        output: sum(usage, &OUTPUT),
        cache_read: count(usage, "cachedContentTokenCount").unwrap_or_default(),
        reasoning: count(usage, "thoughtsTokenCount").unwrap_or_default(),
        audio_input: heard.into_iter().fold(0, u64::saturating_add).saturating_sub(audio(usage, "cacheTokensDetails")),
        audio_output: spoken.into_iter().fold(0, u64::saturating_add),
        tier: said.map(Tier::said).max().unwrap_or_default(),
        ..Usage::default()
    })
}

/// Of what is counted by modality under this key, that which is sound.
fn audio(usage: &Value, key: &str) -> u64 {
    let counted = usage.get(key).and_then(Value::as_array).into_iter().flatten();
    let heard = counted.filter(|each| each.get("modality").is_some_and(|modality| modality == "AUDIO"));
    heard.filter_map(|each| count(each, "tokenCount")).fold(0, u64::saturating_add)
}

fn retry_info(wait: Duration) -> Value {
    let delay = format!("{:.3}s", wait.as_secs_f64());
    json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
}

/// An error of Google's with the wait that is left.
pub(super) fn with_wait(mut body: Value, wait: Option<Duration>) -> Value {
    let error = if body.is_array() { body.pointer_mut("/0/error") } else { body.pointer_mut("/error") };
    if let (Some(wait), Some(error)) = (wait, error.and_then(Value::as_object_mut))
        && let Some(details) = error.entry("details").or_insert_with(|| json!([])).as_array_mut()
    {
        details.push(retry_info(wait));
    }
    body
}

pub(super) fn envelope(error: &ApiError) -> Value {
    let status = match error.kind {
        ErrorKind::RateLimited { .. } => "RESOURCE_EXHAUSTED",
        ErrorKind::TimedOut | ErrorKind::Late => "DEADLINE_EXCEEDED",
        ErrorKind::Overloaded | ErrorKind::Unavailable | ErrorKind::Unreachable => "UNAVAILABLE",
        ErrorKind::Failed => "INTERNAL",
        ErrorKind::NotFound => "NOT_FOUND",
        ErrorKind::Unauthenticated => "UNAUTHENTICATED",
        ErrorKind::Forbidden => "PERMISSION_DENIED",
        ErrorKind::TooLarge | ErrorKind::Invalid => "INVALID_ARGUMENT",
        ErrorKind::Conflict => "FAILED_PRECONDITION",
    };
    let mut details = vec![json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": error.code, "domain": "spillway",
    })];
    if let Some(wait) = error.retry_after {
        details.push(retry_info(wait));
    }
    // Google's SDKs need a number here.
    let code = error.status.as_u16();
    json!({"error": {"code": code, "message": error.message, "status": status, "details": details}})
}
