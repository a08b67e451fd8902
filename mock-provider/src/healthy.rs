//! What each API answers on a good day, in the shapes its SDKs read.

mod gemini;
mod messages;

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};

use super::dialects::{Answer, Framing, Route, echo, sse_event};
use super::embeddings::embeddings;
use super::observe::RecordedRequest;
use super::reply::Reply;
use super::tools::ToolCall;
use gemini::{gemini, gemini_stream};
use messages::{message, messages_stream};

pub(super) const DEFAULT_TEXT: &str = "Hello from the mock provider.";

/// The most answers to one request, whatever it or the script asks for; OpenAI's own bound is higher.
pub(super) const MAX_CHOICES: u64 = 16;

/// What all shapes of one answer have in common.
struct Facts<'a> {
    id: String,
    model: &'a str,
    text: &'a str,
    /// The text as it is streamed, one piece per event.
    pieces: Vec<&'a str>,
    tools: Vec<ToolCall>,
    /// Answers to the one request (OpenAI's `n`).
    choices: u64,
    input_tokens: u64,
    output_tokens: u64,
    created_s: u64,
}

impl Facts<'_> {
    /// An answer of tool calls alone says nothing beside them.
    fn has_text(&self) -> bool {
        self.tools.is_empty() || !self.text.is_empty()
    }

    /// What one of several answers says, in pieces. They differ, so that a client that mixes them up is seen.
    fn pieces_of(&self, choice: u64) -> Vec<String> {
        let mark = (choice > 0).then(|| format!(" ({})", choice + 1));
        self.pieces.iter().map(|piece| (*piece).to_owned()).chain(mark).collect()
    }
}

/// How many answers the script or the request asks for.
fn choices(reply: &Reply, request: &Value) -> u64 {
    let asked = request["n"].as_u64().or_else(|| request["generationConfig"]["candidateCount"].as_u64());
    reply.choices.or(asked).unwrap_or(1).clamp(1, MAX_CHOICES)
}

pub(super) fn answer(route: Route, framing: Option<Framing>, reply: &Reply, request: &RecordedRequest) -> Answer {
    let default_text = if reply.tools.is_empty() { DEFAULT_TEXT } else { "" };
    let text = reply.text.as_deref().unwrap_or(default_text);
    let pieces: Vec<&str> = text.split_inclusive(' ').collect();
    // Four bytes a token and one token a word are near enough for a provider that does not think.
    let estimate = ((request.body.len() / 4).max(1) as u64, pieces.len() as u64);
    let (input_tokens, output_tokens) = reply.usage.unwrap_or(estimate);
    let facts = Facts {
        id: format!("mock{:06}", request.number),
        model: request.model().unwrap_or("mock-small"),
        text,
        pieces,
        tools: ToolCall::answering(&reply.tools, &request.json, request.number),
        choices: choices(reply, &request.json),
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
        Route::Generate => whole(&gemini(&facts)),
        Route::Embeddings => whole(&embeddings(facts.model, facts.input_tokens, &request.json)),
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
    let choice = |index: u64| {
        let content = facts.has_text().then(|| facts.pieces_of(index).concat());
        let mut message = json!({"role": "assistant", "content": content, "refusal": null, "annotations": []});
        if !facts.tools.is_empty() {
            message["tool_calls"] = facts.tools.iter().map(ToolCall::in_chat).collect();
        }
        json!({"index": index, "finish_reason": chat_finish(facts), "logprobs": null, "message": message})
    };
    json!({
        "id": format!("chatcmpl-{}", facts.id), "object": "chat.completion",
        "created": facts.created_s, "model": facts.model,
        "choices": (0..facts.choices).map(choice).collect::<Vec<_>>(),
        "usage": chat_usage(facts), "service_tier": "default", "system_fingerprint": "fp_mock",
    })
}

fn chat_finish(facts: &Facts<'_>) -> &'static str {
    if facts.tools.is_empty() { "stop" } else { "tool_calls" }
}

/// Role, one chunk per word, the tool calls, the finish, the usage if it was asked for (only then do the other chunks
/// have a `usage`, of null), and `[DONE]`. Several answers come in turns.
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
    let deltas_of = |index: u64| {
        let mut deltas = vec![json!({"role": "assistant", "content": "", "refusal": null})];
        if facts.has_text() {
            deltas.extend(facts.pieces_of(index).into_iter().map(|piece| json!({"content": piece})));
        }
        deltas.extend(facts.tools.iter().flat_map(ToolCall::chat_deltas));
        deltas
    };
    let all: Vec<Vec<Value>> = (0..facts.choices).map(deltas_of).collect();
    let longest = all.iter().map(Vec::len).max().unwrap_or(0);
    let mut events = Vec::new();
    for position in 0..=longest {
        for (index, deltas) in all.iter().enumerate().filter(|(_, deltas)| position <= deltas.len()) {
            let (delta, finish_reason) = match deltas.get(position) {
                Some(delta) => (delta.clone(), Value::Null),
                None => (json!({}), json!(chat_finish(facts))),
            };
            let choice = json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish_reason});
            events.push(chunk(json!([choice]), Value::Null));
        }
    }
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
    let text = facts.has_text().then(|| output_item(facts, "completed", json!([output_text(facts.text)])));
    let output = text.into_iter().chain(facts.tools.iter().map(|tool| tool.in_responses("completed", true)));
    let output: Vec<Value> = if completed { output.collect() } else { Vec::new() };
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
        "model": facts.model, "output": output, "parallel_tool_calls": true,
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
    ];
    if facts.has_text() {
        events.extend([
            ("response.output_item.added", item("in_progress", json!([]))),
            ("response.content_part.added", with(place(), "part", output_text(""))),
        ]);
        events.extend(facts.pieces.iter().map(|piece| {
            let delta = with(with(place(), "delta", json!(piece)), "logprobs", json!([]));
            ("response.output_text.delta", delta)
        }));
        let done = with(with(place(), "text", json!(facts.text)), "logprobs", json!([]));
        events.extend([
            ("response.output_text.done", done),
            ("response.content_part.done", with(place(), "part", output_text(facts.text))),
            ("response.output_item.done", item("completed", json!([output_text(facts.text)]))),
        ]);
    }
    let before_tools = usize::from(facts.has_text());
    for (index, tool) in facts.tools.iter().enumerate() {
        events.extend(tool.responses_events(before_tools + index));
    }
    events.push(("response.completed", json!({"response": response(facts, "completed")})));
    let numbered = events.into_iter().enumerate().map(|(number, (name, data))| {
        let data = with(with(data, "type", json!(name)), "sequence_number", json!(number));
        sse_event(Some(name), &data)
    });
    numbered.collect()
}
