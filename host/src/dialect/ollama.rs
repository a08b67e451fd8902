//! Ollama's own API, whose streams are objects line by line.

use super::lenient::{self, Prompts, Scalar};
use super::{EventKind, Parameters, Usage, lacks, raw, values_behind};
use crate::dialect::error::ApiError;
use serde_json::{Value, json};

/// The first segment of all of its paths.
const ROOT: &str = "/api/";
/// What may follow it.
const OPERATIONS: [&str; 13] = [
    "chat",
    "generate",
    "embed",
    "embeddings",
    "tags",
    "show",
    "ps",
    "version",
    "pull",
    "push",
    "create",
    "copy",
    "delete",
];

pub(super) fn recognises(path: &str) -> bool {
    let Some(operation) = path.strip_prefix(ROOT) else { return false };
    OPERATIONS.contains(&operation) || operation.starts_with("blobs/")
}

/// It streams unless it is told not to. A bound below zero is none.
pub(super) fn read_request(path: &str, body: &[u8]) -> Parameters {
    let embeds = path.ends_with("/embed");
    let mut asked = Parameters { streaming: !embeds, ..Parameters::default() };
    let read = lenient::members(body, |key, value| match key {
        "model" => asked.model = Scalar::read(value).text(),
        "stream" if !embeds => asked.streaming = !Scalar::read(value).is(false),
        "input" if embeds => asked.prompts = Prompts::read(value).0,
        "options" => {
            asked.output_tokens_max =
                raw::member(value, "num_predict").map(Scalar::read).and_then(|n| n.whole_number());
        }
        _ => {}
    });
    if read.is_none() {
        asked = Parameters { streaming: !embeds, ..Parameters::default() };
    }
    if embeds {
        asked.output_tokens_max = Some(0);
    }
    asked
}

/// A message may be empty, and so may an embedding of nothing.
pub(super) fn is_nothing(body: &[u8]) -> bool {
    lacks(body, |object| !object.is_empty())
}

/// A line of a stream. The last one says that it is done, and what was counted.
pub(super) fn read_event(line: &[u8]) -> EventKind {
    if line.is_empty() {
        return EventKind::Preamble;
    }
    if is_done(line) { EventKind::Complete } else { EventKind::Content }
}

/// Whether the line itself says so, rather than the arguments of a tool that is called in it.
fn is_done(line: &[u8]) -> bool {
    let is_meant = |line| raw::member(line, "done").is_some_and(|done| Scalar::read(done).is(true));
    values_behind(line, b"\"done\"").any(|value| value.starts_with(b"true")) && str::from_utf8(line).is_ok_and(is_meant)
}

/// What was counted stands beside the rest, at the end. The input is left out where all of it was cached.
pub(super) fn usage(json: &[u8]) -> Option<Usage> {
    let counted = |key: &'static [u8]| {
        let value = values_behind(json, key).last()?;
        let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
        str::from_utf8(&value[..digits]).ok()?.parse::<u64>().ok()
    };
    let (input, output) = (counted(b"\"prompt_eval_count\""), counted(b"\"eval_count\""));
    (input.is_some() || output.is_some()).then(|| Usage {
        input: input.unwrap_or_default(),
        output: output.unwrap_or_default(),
        ..Usage::default()
    })
}

pub(super) fn envelope(error: &ApiError) -> Value {
    json!({"error": error.message})
}

#[cfg(test)]
mod tests {
    use crate::dialect::{Dialect, EventKind, Usage};
    use http::HeaderMap;

    const OLLAMA: Dialect = Dialect::Ollama;

    #[test]
    fn its_paths_are_known_and_those_of_others_that_begin_so_are_not() {
        let of = |path| Dialect::recognise(path, &HeaderMap::new());
        for path in ["/api/chat", "/api/tags", "/api/blobs/sha256:1"] {
            assert_eq!(of(path), Some(OLLAMA), "{path}");
        }
        for path in ["/api/v1/chat/completions", "/api", "/api/chats", "/x/api/chat"] {
            assert_eq!(of(path), None, "{path}");
        }
    }

    #[test]
    fn a_request_streams_unless_it_is_told_not_to() {
        let asked = |path: &str, body: &str| OLLAMA.read_request(path, body.as_bytes());
        assert!(asked("/api/chat", r#"{"model":"m"}"#).streaming && asked("/api/generate", "{").streaming);
        assert!(!asked("/api/chat", r#"{"model":"m","stream":false}"#).streaming);
        let embed = asked("/api/embed", r#"{"model":"m","input":["a","b"]}"#);
        assert_eq!((embed.streaming, embed.prompts, embed.output_tokens_max), (false, 2, Some(0)));
        let bounded = asked("/api/chat", r#"{"model":"m","options":{"num_predict":7}}"#);
        assert_eq!((bounded.model.as_deref(), bounded.output_tokens_max), (Some("m"), Some(7)));
        assert_eq!(asked("/api/chat", r#"{"options":{"num_predict":-1}}"#).output_tokens_max, None);
    }

    #[test]
    fn a_line_is_content_until_one_says_that_it_is_done() {
        let kind = |line: &str| OLLAMA.read_event(line.as_bytes());
        assert_eq!(kind("{\"message\":{\"content\":\"a\"},\"done\":false}\n"), EventKind::Content);
        assert_eq!(kind("{\"message\":{\"content\":\"\"}, \"done\" : true}\r\n"), EventKind::Complete);
        let arguments = r#"{"message":{"tool_calls":[{"function":{"arguments":{"done":true}}}]},"done":false}"#;
        assert_eq!(kind(arguments), EventKind::Content);
        assert_eq!(kind("\n"), EventKind::Preamble);
        let EventKind::Error(error) = kind("{\"error\":\"model runner has stopped\"}\n") else { panic!("an error") };
        assert_eq!(error.message, "model runner has stopped");
        assert_eq!(kind(r#"{"response":"the \"error\": done\": true","done":false}"#), EventKind::Content);
    }

    #[test]
    fn usage_is_what_the_last_line_counts() {
        let usage = |line: &str| OLLAMA.read_usage(line.as_bytes());
        let line = r#"{"done":true,"context":[1,2],"prompt_eval_count":26,"prompt_eval_duration":3,"eval_count": 298,"eval_duration":1}"#;
        assert_eq!(usage(line), Some(Usage { input: 26, output: 298, ..Usage::default() }));
        assert_eq!(usage(r#"{"done":true,"eval_count":5}"#), Some(Usage { input: 0, output: 5, ..Usage::default() }));
        assert_eq!(
            usage(r#"{"embeddings":[[1]],"prompt_eval_count":8}"#),
            Some(Usage { input: 8, output: 0, ..Usage::default() })
        );
        assert_eq!(usage(r#"{"response":"\"eval_count\": 5","done":false}"#), None);
        assert_eq!(usage(r#"{"eval_count":null}"#), None);
    }
}
