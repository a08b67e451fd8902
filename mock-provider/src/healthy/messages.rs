//! Anthropic's Messages.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Facts;
use crate::dialects::sse_event;
use crate::tools::ToolCall;

fn messages_usage(facts: &Facts<'_>, output_tokens: u64) -> Value {
    json!({
        "input_tokens": facts.input_tokens, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
        "output_tokens": output_tokens, "service_tier": "standard",
    })
}

pub(super) fn message(facts: &Facts<'_>) -> Value {
    let text = facts.has_text().then(|| json!({"type": "text", "text": facts.text}));
    let content: Vec<Value> = text.into_iter().chain(facts.tools.iter().map(ToolCall::in_messages)).collect();
    json!({
        "id": format!("msg_{}", facts.id), "type": "message", "role": "assistant", "model": facts.model,
        "content": content, "stop_reason": stop_reason(facts), "stop_sequence": null,
        "usage": messages_usage(facts, facts.output_tokens),
    })
}

fn stop_reason(facts: &Facts<'_>) -> &'static str {
    if facts.tools.is_empty() { "end_turn" } else { "tool_use" }
}

pub(super) fn messages_stream(facts: &Facts<'_>) -> Vec<Bytes> {
    let mut opening = message(facts);
    opening["content"] = json!([]);
    opening["stop_reason"] = Value::Null;
    opening["usage"] = messages_usage(facts, 1);
    let mut events = vec![json!({"type": "message_start", "message": opening})];
    if facts.has_text() {
        let block = json!({"type": "text", "text": ""});
        events.push(json!({"type": "content_block_start", "index": 0, "content_block": block}));
    }
    events.push(json!({"type": "ping"}));
    if facts.has_text() {
        events.extend(facts.pieces.iter().map(
            |piece| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}),
        ));
        events.push(json!({"type": "content_block_stop", "index": 0}));
    }
    let before_tools = usize::from(facts.has_text());
    for (index, tool) in facts.tools.iter().enumerate() {
        events.extend(tool.messages_events(before_tools + index));
    }
    events.extend([
        json!({"type": "message_delta", "delta": {"stop_reason": stop_reason(facts), "stop_sequence": null},
               "usage": messages_usage(facts, facts.output_tokens)}),
        json!({"type": "message_stop"}),
    ]);
    // In this dialect an event's name is its type.
    events.iter().map(|event| sse_event(event["type"].as_str(), event)).collect()
}
