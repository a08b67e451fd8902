//! Anthropic's Messages.

use super::{Said, StaticAnswer, fields};
use serde_json::{Value, json};

pub(super) fn answer(said: &Said<'_>) -> StaticAnswer {
    let content = json!([{"type": "text", "text": said.text}]);
    if !said.streaming {
        return StaticAnswer::json(&message(said, content, Some("end_turn")));
    }
    let events = [
        ("message_start", json!({"message": message(said, json!([]), None)})),
        ("content_block_start", json!({"index": 0, "content_block": {"type": "text", "text": ""}})),
        ("content_block_delta", json!({"index": 0, "delta": {"type": "text_delta", "text": said.text}})),
        ("content_block_stop", json!({"index": 0})),
        (
            "message_delta",
            json!({"delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 0}}),
        ),
        ("message_stop", json!({})),
    ];
    StaticAnswer::named_events(events.map(|(name, event)| (name, fields(event))))
}

fn message(said: &Said<'_>, content: Value, stop_reason: Option<&str>) -> Value {
    json!({
        "id": format!("msg_{}", said.id), "type": "message", "role": "assistant", "model": said.model,
        "content": content, "stop_reason": stop_reason, "stop_sequence": null,
        "usage": {
            "input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0,
        },
    })
}
