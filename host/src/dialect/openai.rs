//! OpenAI's API: chat completions, responses, completions and embeddings.

use super::lenient::{self, Prompts, Scalar};
use super::usage::{count, details, either};
use super::{
    EventKind, Parameters, Tier, Usage, count_meant, has_key, has_list, has_objects, in_place, json_type, lacks,
    object_behind, raw, values_behind,
};
use crate::dialect::error::{ApiError, ErrorKind};
use crate::dialect::sse;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use spillway_sdk::ProviderError;
use std::borrow::Cow;

const CHAT: &str = "/chat/completions";
/// First segments of OpenAI's paths that callers use without `/v1`.
const BARE: [&str; 5] = ["/chat/", "/responses", "/completions", "/embeddings", "/models"];

pub(super) fn recognises(path: &str) -> bool {
    path.starts_with("/v1/") || is_bare(path)
}

/// Whether this is a path of the API without its `/v1`.
pub(super) fn is_bare(path: &str) -> bool {
    BARE.iter().any(|bare| path.starts_with(bare))
}

/// What is read of a request, each field for itself: one that makes no sense is the provider's to complain about, and
/// says nothing about the others.
#[derive(Default)]
struct Body {
    model: Scalar,
    stream: Scalar,
    max_tokens: Scalar,
    max_completion_tokens: Scalar,
    max_output_tokens: Scalar,
    n: Scalar,
    prompt: Prompts,
    input: Prompts,
    /// Among the options of a stream.
    include_usage: Scalar,
    background: Scalar,
    conversation: Scalar,
    service_tier: Scalar,
}

impl Body {
    fn read(body: &[u8]) -> Option<Body> {
        let inside = |object: &str, key: &str| raw::member(object, key).map_or(Scalar::Null, Scalar::read);
        let mut read = Body::default();
        lenient::members(body, |key, value| match key {
            "model" => read.model = Scalar::read(value),
            "stream" => read.stream = Scalar::read(value),
            "max_tokens" => read.max_tokens = Scalar::read(value),
            "max_completion_tokens" => read.max_completion_tokens = Scalar::read(value),
            "max_output_tokens" => read.max_output_tokens = Scalar::read(value),
            "n" => read.n = Scalar::read(value),
            "prompt" => read.prompt = Prompts::read(value),
            "input" => read.input = Prompts::read(value),
            "stream_options" => read.include_usage = inside(value, "include_usage"),
            "background" => read.background = Scalar::read(value),
            "conversation" => read.conversation = Scalar::read(value),
            "service_tier" => read.service_tier = Scalar::read(value),
            _ => {}
        })?;
        Some(read)
    }
}

pub(super) fn read_request(path: &str, body: &[u8]) -> Parameters {
    let Some(body) = Body::read(body) else { return Parameters::default() };
    let streaming = body.stream.is(true);
    let bounds = [&body.max_completion_tokens, &body.max_output_tokens, &body.max_tokens];
    let bound = bounds.into_iter().find_map(Scalar::whole_number);
    let alternatives = body.n.whole_number().unwrap_or(1).max(1).saturating_mul(body.prompt.0);
    let embeds = path.ends_with("/embeddings");
    let without_output = embeds.then_some(0);
    Parameters {
        creates: body.background.is(true) || body.conversation != Scalar::Null,
        model: body.model.text(),
        streaming,
        alternatives,
        prompts: if embeds { body.input.0 } else { body.prompt.0 },
        tier: body.service_tier.text().as_deref().map(tier).unwrap_or_default(),
        output_tokens_max: without_output.or(bound.map(|bound| bound.saturating_mul(alternatives))),
        usage_withheld: streaming && path.ends_with(CHAT) && !body.include_usage.is(true),
    }
}

/// Chat and text completions have choices, if they are no promise of some. Of embeddings there may be none, and what
/// Responses has written may be still to come.
pub(super) fn is_nothing(path: &str, body: &[u8]) -> bool {
    let has_choices = path.ends_with("/completions");
    if has_choices && has_objects(body, b"\"choices\"") {
        return false;
    }
    lacks(body, |object| !object.is_empty() && (!has_choices || !object.contains_key("choices")))
}

pub(super) fn read_event(event: &[u8], data: &[u8]) -> EventKind {
    if data.is_empty() {
        return EventKind::Preamble;
    }
    if data == b"[DONE]" {
        return EventKind::End;
    }
    let named =
        sse::name(event).and_then(|name| str::from_utf8(name).ok()).filter(|name| name.starts_with("response."));
    match named.map(Cow::Borrowed).or_else(|| json_type(data)).as_deref() {
        Some("response.created" | "response.in_progress" | "response.queued") => EventKind::Preamble,
        Some("response.completed" | "response.incomplete") => EventKind::Complete,
        // One that says why has been read as an error.
        Some("response.failed") => {
            EventKind::Error(ProviderError { kind: Some("response.failed".into()), ..ProviderError::default() })
        }
        Some(kind) if kind.starts_with("response.") => EventKind::Content,
        _ => match count_meant(data, b"\"finish_reason\"") {
            // Azure's first event says what it thinks of the prompt, and the usage comes last: neither is part of an
            // answer.
            0 if has_list(data, b"\"choices\"", b"]") => EventKind::Preamble,
            0 => EventKind::Content,
            finished => EventKind::Finished(finished),
        },
    }
}

/// OpenAI's wholes hold their parts. The tier stands beside the usage, or in it.
pub(super) fn usage(json: &[u8]) -> Option<Usage> {
    let usage = of_object(&object_behind(json, b"\"usage\"")?)?;
    let said = values_behind(json, b"\"service_tier\"").last().and_then(|value| value.strip_prefix(b"\""));
    let word = said.and_then(|said| str::from_utf8(said.split(|byte| *byte == b'"').next()?).ok());
    Some(Usage { tier: word.map(tier).unwrap_or_default(), ..usage })
}

/// OpenAI calls priority fast as well, and has nothing else that is called so.
fn tier(word: &str) -> Tier {
    if word == "fast" { Tier::Priority } else { Tier::said(word) }
}

fn of_object(usage: &Value) -> Option<Usage> {
    // Chat and its like, Responses and its like, and what servers between say that speak both.
    let input = either(usage, &["prompt_tokens", "input_tokens"]);
    let output = either(usage, &["completion_tokens", "output_tokens"]);
    if input.is_none() && output.is_none() {
        return None;
    }
    let (input, output) = (input.unwrap_or_default(), output.unwrap_or_default());
    let of_input = details(usage, &["prompt_tokens_details", "input_tokens_details", "input_token_details"]);
    let of_output = details(usage, &["completion_tokens_details", "output_tokens_details", "output_token_details"]);
    let of_cached = details(of_input, &["cached_tokens_details"]);
    let number = |object: &Value, key: &str| count(object, key).unwrap_or_default();
    let reasoning = number(of_output, "reasoning_tokens");
    // xAI counts reasoning beside the output, and says so in the sum alone.
    let apart = input.saturating_add(output).saturating_add(reasoning);
    let is_apart = reasoning > output || reasoning > 0 && count(usage, "total_tokens") == Some(apart);
    Some(Usage {
        input,
        output: if is_apart { output.saturating_add(reasoning) } else { output },
        // DeepSeek has a word of its own.
        cache_read: number(of_input, "cached_tokens").max(number(usage, "prompt_cache_hit_tokens")),
        cache_write_5m: number(of_input, "cache_write_tokens"),
        cache_write_1h: 0,
        reasoning,
        audio_input: number(of_input, "audio_tokens").saturating_sub(number(of_cached, "audio_tokens")),
        audio_output: number(of_output, "audio_tokens"),
        tier: Tier::Standard,
    })
}

/// The last chunk then has the usage. Where the options are no object the provider shall say so.
pub(super) fn demand_usage(body: &[u8]) -> Option<Bytes> {
    in_place::set(body, &["stream_options", "include_usage"], "true")
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

pub(super) fn envelope(error: &ApiError) -> Value {
    let kind = match error.kind {
        ErrorKind::RateLimited { of } => of,
        ErrorKind::Overloaded | ErrorKind::Unavailable => "service_unavailable_error",
        ErrorKind::Unreachable | ErrorKind::TimedOut | ErrorKind::Failed => "server_error",
        ErrorKind::Unauthenticated => "authentication_error",
        ErrorKind::TooLarge
        | ErrorKind::Late
        | ErrorKind::Invalid
        | ErrorKind::NotFound
        | ErrorKind::Forbidden
        | ErrorKind::Conflict => "invalid_request_error",
    };
    json!({"error": {"message": error.message, "type": kind, "param": null, "code": error.code}})
}
