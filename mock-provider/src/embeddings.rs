//! Vectors, as OpenAI's API gives them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Numbers per embedding unless the request says otherwise; no test reads their values.
const DEFAULT_DIMENSIONS: u64 = 8;

/// The most that a real embedding model offers is 3,072; a request for more gets this many.
const MAX_DIMENSIONS: u64 = 4096;

/// One vector per input. SDKs ask for base64 by default, and some read nothing else then.
pub(super) fn embeddings(model: &str, input_tokens: u64, request: &Value) -> Value {
    let inputs = match request["input"].as_array() {
        // An array of numbers is one input given as tokens.
        Some(inputs) if !inputs.iter().all(Value::is_number) => inputs.len(),
        Some(_) | None => 1,
    };
    let dimensions = request["dimensions"].as_u64().unwrap_or(DEFAULT_DIMENSIONS).clamp(1, MAX_DIMENSIONS);
    let values = (0..dimensions).map(|_| 0.25_f32);
    let embedding = if request["encoding_format"] == "base64" {
        json!(STANDARD.encode(values.flat_map(f32::to_le_bytes).collect::<Vec<_>>()))
    } else {
        json!(values.collect::<Vec<_>>())
    };
    let data = (0..inputs).map(|index| json!({"object": "embedding", "index": index, "embedding": embedding}));
    json!({
        "object": "list", "data": data.collect::<Vec<_>>(), "model": model,
        "usage": {"prompt_tokens": input_tokens, "total_tokens": input_tokens},
    })
}
