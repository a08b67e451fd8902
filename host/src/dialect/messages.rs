//! Messages that a provider sends over a WebSocket: OpenAI's Realtime and Responses, and Gemini's Live API. Each is an
//! object of JSON by itself.

use super::{Dialect, EventKind, Usage, has_key, json_type, openai};
use spillway_sdk::ProviderError;

impl Dialect {
    /// What a message means. What is no JSON says nothing: it is content.
    pub(crate) fn read_message(self, json: &[u8]) -> EventKind {
        if has_key(json, b"\"error\"")
            && let Some(error) = ProviderError::parse(json)
        {
            return EventKind::Error(error);
        }
        match self {
            Dialect::OpenAi if opens_session(json) => EventKind::Preamble,
            Dialect::OpenAi => openai::read_event(b"", json),
            Dialect::Gemini if has_key(json, b"\"setupComplete\"") => EventKind::Preamble,
            Dialect::Gemini | Dialect::Anthropic | Dialect::Ollama | Dialect::Other => EventKind::Content,
        }
    }

    /// The usage that a message reports of what has ended with it.
    pub(crate) fn read_message_usage(self, json: &[u8]) -> Option<Usage> {
        match self {
            Dialect::OpenAi | Dialect::Gemini => self.read_usage(json),
            Dialect::Anthropic | Dialect::Ollama | Dialect::Other => None,
        }
    }
}

/// Whether it tells of the session alone, which may still fail as if it had not begun.
fn opens_session(json: &[u8]) -> bool {
    let kind = json_type(json);
    let kind = kind.as_deref().unwrap_or_default();
    kind.starts_with("session.") || matches!(kind, "conversation.created" | "rate_limits.updated")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_begins_with_what_is_no_answer_yet() {
        use Dialect::{Gemini, OpenAi, Other};
        let cases = [
            (OpenAi, r#"{"type":"session.created","session":{"model":"m"}}"#, true),
            (OpenAi, r#"{"type":"rate_limits.updated","rate_limits":[]}"#, true),
            (OpenAi, r#"{"type":"response.created","response":{"error":null,"usage":null}}"#, true),
            (OpenAi, r#"{"type":"response.output_text.delta","delta":"a \"session.created\""}"#, false),
            (Gemini, r#"{"setupComplete":{}}"#, true),
            (Gemini, r#"{"serverContent":{"turnComplete":true}}"#, false),
            (Other, r#"{"type":"session.created"}"#, false),
            (OpenAi, "no JSON", false),
        ];
        for (dialect, json, is_preamble) in cases {
            assert_eq!(dialect.read_message(json.as_bytes()) == EventKind::Preamble, is_preamble, "{json}");
        }
        let failed = r#"{"type":"error","error":{"type":"server_error","code":"overloaded","message":"m"}}"#;
        let EventKind::Error(error) = OpenAi.read_message(failed.as_bytes()) else { panic!("an error") };
        assert_eq!((error.kind.as_deref(), error.code.as_deref()), (Some("server_error"), Some("overloaded")));
    }

    #[test]
    fn usage_is_read_where_it_is_reported() {
        let cases = [
            (
                Dialect::OpenAi,
                r#"{"type":"response.done","response":{"usage":{"total_tokens":12,"input_tokens":9,"output_tokens":3,
                    "input_token_details":{"cached_tokens":4}},"output":[]}}"#,
                Some((9, 3)),
            ),
            (
                Dialect::OpenAi,
                r#"{"type":"response.completed","response":{"usage":{"input_tokens":1,"output_tokens":2}}}"#,
                Some((1, 2)),
            ),
            (Dialect::OpenAi, r#"{"type":"response.created","response":{"usage":null}}"#, None),
            (
                Dialect::Gemini,
                r#"{"serverContent":{},"usageMetadata":{"promptTokenCount":5,"responseTokenCount":7,
                    "thoughtsTokenCount":1,"totalTokenCount":13}}"#,
                Some((5, 8)),
            ),
            (Dialect::Other, r#"{"usage":{"input_tokens":1,"output_tokens":2}}"#, None),
        ];
        for (dialect, json, expected) in cases {
            let usage = dialect.read_message_usage(json.as_bytes());
            assert_eq!(usage.map(|usage| (usage.input, usage.output)), expected, "{json}");
        }
    }
}
