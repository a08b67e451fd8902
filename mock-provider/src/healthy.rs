//! What each API answers on a good day, in the shapes its SDKs read.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};

use super::dialects::{Answer, Framing, Route, echo, sse_event};
use super::observe::RecordedRequest;
use super::reply::Reply;

pub(super) const DEFAULT_TEXT: &str = "Hello from the mock provider.";

/// Numbers per embedding unless the request says otherwise; no test reads their values.
const DEFAULT_DIMENSIONS: u64 = 8;

/// The most that a real embedding model offers is 3,072; a request for more gets this many.
const MAX_DIMENSIONS: u64 = 4096;

/// What all shapes of one answer have in common.
struct Facts<'a> {
    id: String,
    model: &'a str,
    text: &'a str,
    /// The text as it is streamed, one piece per event.
    pieces: Vec<&'a str>,
    input_tokens: u64,
    output_tokens: u64,
    created_s: u64,
}

pub(super) fn answer(route: Route, framing: Option<Framing>, reply: &Reply, request: &RecordedRequest) -> Answer {
    let text = reply.text.as_deref().unwrap_or(DEFAULT_TEXT);
    let pieces: Vec<&str> = text.split_inclusive(' ').collect();
    // Four bytes a token and one token a word are near enough for a provider that does not think.
    let estimate = ((request.body.len() / 4).max(1) as u64, pieces.len() as u64);
    let (input_tokens, output_tokens) = reply.usage.unwrap_or(estimate);
    let facts = Facts {
        id: format!("mock{:06}", request.number),
        model: request.model().unwrap_or("mock-small"),
        text,
        pieces,
        input_tokens,
        output_tokens,
        created_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
    };
    let streamed = framing.is_some();
    let events = match route {
        Route::Chat if streamed => chat_stream(&facts, request.json["stream_options"]["include_usage"] == true),
        Route::Responses if streamed => responses_stream(&facts),
        Route::Messages if streamed => messages_stream(&facts),
        Route::StreamGenerate => gemini_stream(&facts, framing == Some(Framing::Array)),
        Route::Chat => whole(&chat(&facts)),
        Route::Responses => whole(&response(&facts, "completed")),
        Route::Messages => whole(&message(&facts)),
        Route::Generate => whole(&gemini(&facts, facts.text, true)),
        Route::Embeddings => whole(&embeddings(&facts, &request.json)),
        Route::CountTokens => whole(&json!({"input_tokens": facts.input_tokens})),
        Route::Models => {
            let models = ["mock-small", "mock-large"]
                .map(|id| json!({"id": id, "object": "model", "created": facts.created_s, "owned_by": "mock"}));
            whole(&json!({"object": "list", "data": models}))
        }
        Route::Unknown => whole(&echo(request)),
    };
    Answer::ok(framing, events)
}

fn whole(body: &Value) -> Vec<Bytes> {
    vec![body.to_string().into()]
}

fn chat_usage(facts: &Facts<'_>) -> Value {
    json!({
        "prompt_tokens": facts.input_tokens, "completion_tokens": facts.output_tokens,
        "total_tokens": facts.input_tokens + facts.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    })
}

fn chat(facts: &Facts<'_>) -> Value {
    json!({
        "id": format!("chatcmpl-{}", facts.id), "object": "chat.completion",
        "created": facts.created_s, "model": facts.model,
        "choices": [{"index": 0, "finish_reason": "stop", "logprobs": null,
            "message": {"role": "assistant", "content": facts.text, "refusal": null, "annotations": []}}],
        "usage": chat_usage(facts), "service_tier": "default", "system_fingerprint": "fp_mock",
    })
}

/// Role, one chunk per word, the finish, the usage if it was asked for (only then do the other chunks have a `usage`,
/// of null), and `[DONE]`.
fn chat_stream(facts: &Facts<'_>, include_usage: bool) -> Vec<Bytes> {
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = json!({
            "id": format!("chatcmpl-{}", facts.id), "object": "chat.completion.chunk",
            "created": facts.created_s, "model": facts.model, "service_tier": "default",
            "system_fingerprint": "fp_mock", "choices": choices,
        });
        if include_usage {
            chunk["usage"] = usage;
        }
        sse_event(None, &chunk)
    };
    let choice = |delta: Value, finish_reason: Value| {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason});
        chunk(json!([choice]), Value::Null)
    };
    let mut events = vec![choice(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null)];
    events.extend(facts.pieces.iter().map(|piece| choice(json!({"content": piece}), Value::Null)));
    events.push(choice(json!({}), json!("stop")));
    if include_usage {
        events.push(chunk(json!([]), chat_usage(facts)));
    }
    events.push("data: [DONE]\n\n".into());
    events
}

fn output_text(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn output_item(facts: &Facts<'_>, status: &str, content: Value) -> Value {
    let id = format!("msg_{}", facts.id);
    json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content})
}

fn response(facts: &Facts<'_>, status: &str) -> Value {
    let completed = status == "completed";
    let output = completed.then(|| output_item(facts, "completed", json!([output_text(facts.text)])));
    let usage = completed.then(|| {
        json!({
            "input_tokens": facts.input_tokens, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": facts.output_tokens, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": facts.input_tokens + facts.output_tokens,
        })
    });
    json!({
        "id": format!("resp_{}", facts.id), "object": "response", "created_at": facts.created_s, "status": status,
        "error": null, "incomplete_details": null, "instructions": null, "max_output_tokens": null,
        "model": facts.model, "output": Vec::from_iter(output), "parallel_tool_calls": true,
        "previous_response_id": null, "reasoning": {"effort": null, "summary": null}, "store": true,
        "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "truncation": "disabled", "usage": usage, "user": null, "metadata": {},
    })
}

fn responses_stream(facts: &Facts<'_>) -> Vec<Bytes> {
    let item_id = format!("msg_{}", facts.id);
    let place = || json!({"item_id": item_id, "output_index": 0, "content_index": 0});
    let with = |mut event: Value, key: &str, value: Value| {
        event[key] = value;
        event
    };
    let item = |status: &str, content: Value| json!({"output_index": 0, "item": output_item(facts, status, content)});
    let mut events = vec![
        ("response.created", json!({"response": response(facts, "in_progress")})),
        ("response.in_progress", json!({"response": response(facts, "in_progress")})),
        ("response.output_item.added", item("in_progress", json!([]))),
        ("response.content_part.added", with(place(), "part", output_text(""))),
    ];
    events.extend(facts.pieces.iter().map(|piece| {
        let delta = with(with(place(), "delta", json!(piece)), "logprobs", json!([]));
        ("response.output_text.delta", delta)
    }));
    let done = with(with(place(), "text", json!(facts.text)), "logprobs", json!([]));
    events.extend([
        ("response.output_text.done", done),
        ("response.content_part.done", with(place(), "part", output_text(facts.text))),
        ("response.output_item.done", item("completed", json!([output_text(facts.text)]))),
        ("response.completed", json!({"response": response(facts, "completed")})),
    ]);
    let numbered = events.into_iter().enumerate().map(|(number, (name, data))| {
        let data = with(with(data, "type", json!(name)), "sequence_number", json!(number));
        sse_event(Some(name), &data)
    });
    numbered.collect()
}

fn messages_usage(facts: &Facts<'_>, output_tokens: u64) -> Value {
    json!({
        "input_tokens": facts.input_tokens, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
        "output_tokens": output_tokens, "service_tier": "standard",
    })
}

fn message(facts: &Facts<'_>) -> Value {
    json!({
        "id": format!("msg_{}", facts.id), "type": "message", "role": "assistant", "model": facts.model,
        "content": [{"type": "text", "text": facts.text}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": messages_usage(facts, facts.output_tokens),
    })
}

fn messages_stream(facts: &Facts<'_>) -> Vec<Bytes> {
    let mut opening = message(facts);
    opening["content"] = json!([]);
    opening["stop_reason"] = Value::Null;
    opening["usage"] = messages_usage(facts, 1);
    let mut events = vec![
        json!({"type": "message_start", "message": opening}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
    ];
    events.extend(facts.pieces.iter().map(
        |piece| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}),
    ));
    events.extend([
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
               "usage": messages_usage(facts, facts.output_tokens)}),
        json!({"type": "message_stop"}),
    ]);
    // In this dialect an event's name is its type.
    events.iter().map(|event| sse_event(event["type"].as_str(), event)).collect()
}

fn gemini(facts: &Facts<'_>, text: &str, last: bool) -> Value {
    let mut candidate = json!({"content": {"parts": [{"text": text}], "role": "model"}, "index": 0});
    let mut usage = json!({"promptTokenCount": facts.input_tokens, "totalTokenCount": facts.input_tokens});
    if last {
        candidate["finishReason"] = json!("STOP");
        usage["candidatesTokenCount"] = json!(facts.output_tokens);
        usage["totalTokenCount"] = json!(facts.input_tokens + facts.output_tokens);
    }
    json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": facts.model, "responseId": facts.id})
}

fn gemini_stream(facts: &Facts<'_>, as_array: bool) -> Vec<Bytes> {
    // An empty text still makes one chunk, for the finish reason and the usage are in the last.
    let pieces = if facts.pieces.is_empty() { &[""][..] } else { &facts.pieces };
    let last = pieces.len() - 1;
    let events = pieces.iter().enumerate().map(|(position, piece)| {
        let chunk = gemini(facts, piece, position == last);
        if !as_array {
            return sse_event(None, &chunk);
        }
        let (opening, closing) = (if position == 0 { "[" } else { ",\r\n" }, if position == last { "]" } else { "" });
        format!("{opening}{chunk}{closing}").into()
    });
    events.collect()
}

/// One vector per input. SDKs ask for base64 by default, and some read nothing else then.
fn embeddings(facts: &Facts<'_>, request: &Value) -> Value {
    let inputs = match request["input"].as_array() {
        // An array of numbers is one input given as tokens.
        Some(inputs) if !inputs.iter().all(Value::is_number) => inputs.len(),
        Some(_) | None => 1,
    };
    let dimensions = request["dimensions"].as_u64().unwrap_or(DEFAULT_DIMENSIONS).clamp(1, MAX_DIMENSIONS);
    let values = (0..dimensions).map(|_| 0.25_f32);
    let embedding = if request["encoding_format"] == "base64" {
        json!(base64(&values.flat_map(f32::to_le_bytes).collect::<Vec<_>>()))
    } else {
        json!(values.collect::<Vec<_>>())
    };
    let data = (0..inputs).map(|index| json!({"object": "embedding", "index": index, "embedding": embedding}));
    json!({
        "object": "list", "data": data.collect::<Vec<_>>(), "model": facts.model,
        "usage": {"prompt_tokens": facts.input_tokens, "total_tokens": facts.input_tokens},
    })
}

/// RFC 4648 section 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, i| bits << 8 | group.get(i).map_or(0, |byte| usize::from(*byte)));
        for i in 0..4 {
            let digit = ALPHABET[bits >> (18 - 6 * i) & 63];
            text.push(if i <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
