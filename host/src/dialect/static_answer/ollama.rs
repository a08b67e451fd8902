//! Ollama's own API, which streams objects line by line.

use super::{JSON, Said, StaticAnswer, on_one_line};
use serde_json::{Value, json};
use std::time::{Duration, UNIX_EPOCH};

const LINES: &str = "application/x-ndjson";

/// The last second that RFC 3339 has words for.
const UNIX_S_MAX: u64 = 253_402_300_799;

/// What the last object counts.
const COUNTED: [&str; 6] =
    ["total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"];

pub(super) fn answer(said: &Said<'_>) -> StaticAnswer {
    let body = if said.streaming {
        [object(said, said.text, false), object(said, "", true)].iter().map(|line| on_one_line(line) + "\n").collect()
    } else {
        object(said, said.text, true).to_string()
    };
    StaticAnswer { content_type: if said.streaming { LINES } else { JSON }, body: body.into() }
}

fn object(said: &Said<'_>, text: &str, is_last: bool) -> Value {
    let moment = UNIX_EPOCH + Duration::from_secs(said.created_unix_s.min(UNIX_S_MAX));
    let mut object = json!({"model": said.model, "created_at": humantime::format_rfc3339_seconds(moment).to_string()});
    if said.path.ends_with("/api/chat") {
        object["message"] = json!({"role": "assistant", "content": text});
    } else {
        object["response"] = json!(text);
    }
    object["done"] = json!(is_last);
    if is_last {
        object["done_reason"] = json!("stop");
        for counted in COUNTED {
            object[counted] = json!(0);
        }
    }
    object
}
