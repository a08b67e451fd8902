//! Gemini's answers and chunks.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Facts;
use crate::dialects::sse_event;
use crate::tools::ToolCall;

/// One answer or one chunk of it, whose parts are these for each candidate.
fn chunk(facts: &Facts<'_>, last: bool, parts: impl Fn(u64) -> Vec<Value>) -> Value {
    let candidates = (0..facts.choices).map(|index| {
        let mut candidate = json!({"content": {"parts": parts(index), "role": "model"}, "index": index});
        if last {
            candidate["finishReason"] = json!("STOP");
        }
        candidate
    });
    let candidates: Vec<Value> = candidates.collect();
    let mut usage = json!({"promptTokenCount": facts.input_tokens, "totalTokenCount": facts.input_tokens});
    if last {
        usage["candidatesTokenCount"] = json!(facts.output_tokens);
        usage["totalTokenCount"] = json!(facts.input_tokens + facts.output_tokens);
    }
    json!({"candidates": candidates, "usageMetadata": usage, "modelVersion": facts.model, "responseId": facts.id})
}

/// All parts of one candidate.
fn parts_of(facts: &Facts<'_>, choice: u64) -> Vec<Value> {
    let text = facts.has_text().then(|| json!({"text": facts.pieces_of(choice).concat()}));
    text.into_iter().chain(facts.tools.iter().map(ToolCall::in_gemini)).collect()
}

/// All parts of one candidate, as they are streamed: one per chunk.
fn pieces_of(facts: &Facts<'_>, choice: u64) -> Vec<Value> {
    let pieces = if facts.has_text() { facts.pieces_of(choice) } else { Vec::new() };
    let text = pieces.into_iter().map(|piece| json!({"text": piece}));
    text.chain(facts.tools.iter().map(ToolCall::in_gemini)).collect()
}

pub(super) fn gemini_stream(facts: &Facts<'_>, as_array: bool) -> Vec<Bytes> {
    let all: Vec<Vec<Value>> = (0..facts.choices).map(|choice| pieces_of(facts, choice)).collect();
    // An empty text still makes one chunk, for the finish reason and the usage are in the last.
    let count = all.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let events = (0..count).map(|position| {
        let last = position + 1 == count;
        let part = |choice: u64| {
            let pieces = usize::try_from(choice).ok().and_then(|choice| all.get(choice));
            let part = pieces.and_then(|pieces| pieces.get(position)).cloned();
            vec![part.unwrap_or_else(|| json!({"text": ""}))]
        };
        let chunk = chunk(facts, last, part);
        if !as_array {
            return sse_event(None, &chunk);
        }
        let (opening, closing) = (if position == 0 { "[" } else { ",\r\n" }, if last { "]" } else { "" });
        format!("{opening}{chunk}{closing}").into()
    });
    events.collect()
}

/// A whole answer.
pub(super) fn gemini(facts: &Facts<'_>) -> Value {
    chunk(facts, true, |choice| parts_of(facts, choice))
}
