//! Gemini's `generateContent`, whole, and as a stream in either of its forms.

use super::{JSON, Said, StaticAnswer};
use crate::dialect::paths::method;
use serde_json::{Value, json};

pub(super) fn answer(said: &Said<'_>) -> Option<StaticAnswer> {
    match method(said.path) {
        Some("generateContent") => Some(StaticAnswer::json(&response(said))),
        Some("streamGenerateContent") if said.query.split('&').any(|pair| pair == "alt=sse") => {
            Some(StaticAnswer::events([response(said)]))
        }
        // Otherwise a stream is one list, of which each response is an element.
        Some("streamGenerateContent") => {
            Some(StaticAnswer { content_type: JSON, body: format!("[{}]", response(said)).into() })
        }
        Some(_) | None => None,
    }
}

fn response(said: &Said<'_>) -> Value {
    let candidates = (0..said.alternatives).map(|index| {
        let content = json!({"parts": [{"text": said.text}], "role": "model"});
        json!({"content": content, "finishReason": "STOP", "index": index})
    });
    json!({
        "candidates": Vec::from_iter(candidates),
        "usageMetadata": {"promptTokenCount": 0, "candidatesTokenCount": 0, "totalTokenCount": 0},
        "modelVersion": said.model, "responseId": said.id,
    })
}
