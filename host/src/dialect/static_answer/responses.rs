//! OpenAI's Responses.

use super::{Said, StaticAnswer, fields};
use serde_json::{Map, Value, json};

pub(super) fn answer(said: &Said<'_>) -> StaticAnswer {
    if said.streaming { StaticAnswer::named_events(stream(said)) } else { StaticAnswer::json(&response(said, true)) }
}

/// The answer, or what it is before anything of it is there.
fn response(said: &Said<'_>, is_complete: bool) -> Value {
    let usage = json!({
        "input_tokens": 0, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 0, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 0,
    });
    json!({
        "id": format!("resp_{}", said.id), "object": "response", "created_at": said.created_unix_s,
        "status": status(is_complete), "background": false, "error": null, "incomplete_details": null,
        "instructions": null, "max_output_tokens": null, "model": said.model,
        "output": Vec::from_iter(is_complete.then(|| item(said, true))), "parallel_tool_calls": true,
        "previous_response_id": null, "reasoning": {"effort": null, "summary": null},
        // No provider has it, so that nobody can go on from it.
        "store": false,
        "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "truncation": "disabled", "usage": is_complete.then_some(usage), "user": null, "metadata": {},
    })
}

/// The message that is all of its output.
fn item(said: &Said<'_>, is_complete: bool) -> Value {
    json!({
        "id": message_id(said), "type": "message", "status": status(is_complete),
        "content": Vec::from_iter(is_complete.then(|| part(said.text))), "role": "assistant",
    })
}

fn message_id(said: &Said<'_>) -> String {
    format!("msg_{}", said.id)
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
}

fn status(is_complete: bool) -> &'static str {
    if is_complete { "completed" } else { "in_progress" }
}

/// The events by which SDKs put an answer together, all of its text in one.
fn stream(said: &Said<'_>) -> impl Iterator<Item = (&'static str, Map<String, Value>)> {
    let of_item = |is_complete| json!({"output_index": 0, "item": item(said, is_complete)});
    let of_part = |key: &str, value: Value| {
        let mut event = json!({"item_id": message_id(said), "output_index": 0, "content_index": 0});
        event[key] = value;
        event
    };
    let of_text = |key: &str| {
        let mut event = of_part(key, json!(said.text));
        event["logprobs"] = json!([]);
        event
    };
    let events = [
        ("response.created", json!({"response": response(said, false)})),
        ("response.in_progress", json!({"response": response(said, false)})),
        ("response.output_item.added", of_item(false)),
        ("response.content_part.added", of_part("part", part(""))),
        ("response.output_text.delta", of_text("delta")),
        ("response.output_text.done", of_text("text")),
        ("response.content_part.done", of_part("part", part(said.text))),
        ("response.output_item.done", of_item(true)),
        ("response.completed", json!({"response": response(said, true)})),
    ];
    events.into_iter().enumerate().map(|(number, (name, event))| {
        let mut fields = fields(event);
        fields.insert("sequence_number".to_owned(), json!(number));
        (name, fields)
    })
}
