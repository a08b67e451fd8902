//! Reads an error in the shapes in which providers say them.

use crate::ProviderError;
use serde_json::Value;

/// Longest message kept, in bytes. Longer ones are cut at a character's end.
///
/// ```
/// use spillway_sdk::{MESSAGE_BYTES_MAX, testing::exchange};
///
/// let facts = exchange().status(500).body(format!(r#"{{"error":{{"message":"{}"}}}}"#, "no ".repeat(1_000)));
/// let error = facts.exchange().provider_error().expect("an error");
/// assert_eq!(error.message.len(), MESSAGE_BYTES_MAX);
/// ```
pub const MESSAGE_BYTES_MAX: usize = 512;

impl ProviderError {
    /// Reads the error in a response body, or in the data of a stream's event.
    ///
    /// Understands OpenAI's, Anthropic's, Gemini's and Azure's envelopes, those of vLLM, llama.cpp, Ollama and TGI,
    /// and an OpenAI Responses stream's `error` and `response.failed` events. Gemini's answers carry their most
    /// telling word, the violated quota, in their details: it becomes the `kind`, a daily one before the others.
    ///
    /// `None` when `body` is no JSON object or says nothing of an error.
    ///
    /// ```
    /// use spillway_sdk::ProviderError;
    ///
    /// let body = br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    /// let error = ProviderError::parse(body).expect("an error");
    /// assert_eq!((error.kind.as_deref(), &*error.message), (Some("overloaded_error"), "Overloaded"));
    /// ```
    pub fn parse(body: &[u8]) -> Option<ProviderError> {
        let value: Value = serde_json::from_slice(body).ok()?;
        Self::from_value(&value)
    }

    /// As [`ProviderError::parse`], for JSON that is already parsed. A list is read by its first element.
    ///
    /// ```
    /// use spillway_sdk::{ProviderError, body_json};
    ///
    /// let json = body_json::parse(br#"[{"error":{"status":"UNAVAILABLE","message":"Try later."}}]"#).expect("JSON");
    /// let error = ProviderError::from_value(&json).expect("an error");
    /// assert_eq!(error.code.as_deref(), Some("UNAVAILABLE"));
    /// ```
    pub fn from_value(value: &Value) -> Option<ProviderError> {
        let top = value.as_array().and_then(|list| list.first()).unwrap_or(value).as_object()?;
        let nested = top.get("response").and_then(|response| response.get("error"));
        let is_error_event = top.get("type").and_then(Value::as_str) == Some("error");
        match top.get("error").or(nested) {
            Some(Value::Object(error)) => Some(ProviderError {
                code: word(error.get("status")).or_else(|| word(error.get("code"))).or_else(|| detail_code(error)),
                kind: violated_quota(error).or_else(|| word(error.get("type"))),
                message: message(error.get("message")),
            }),
            Some(text @ Value::String(_)) => {
                Some(ProviderError { code: None, kind: word(top.get("error_type")), message: message(Some(text)) })
            }
            Some(_) | None => {
                let bare = is_error_event || top.get("object").and_then(Value::as_str) == Some("error");
                bare.then(|| ProviderError {
                    code: word(top.get("code")),
                    kind: word(top.get("type")),
                    message: message(top.get("message")),
                })
            }
        }
    }
}

fn word(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Anthropic's newer answers put a finer code here.
fn detail_code(error: &serde_json::Map<String, Value>) -> Option<String> {
    word(error.get("details")?.get("error_code"))
}

/// Of several violated quotas the daily one tells more: it outlasts the others.
fn violated_quota(error: &serde_json::Map<String, Value>) -> Option<String> {
    let details = error.get("details")?.as_array()?;
    let violations = details.iter().filter_map(|detail| detail.get("violations")?.as_array()).flatten();
    let quotas = || violations.clone().filter_map(|violation| violation.get("quotaId")?.as_str());
    quotas().find(|quota| quota.contains("PerDay")).or_else(|| quotas().next()).map(str::to_owned)
}

fn message(value: Option<&Value>) -> String {
    let text = value.and_then(Value::as_str).unwrap_or_default();
    let mut end = text.len().min(MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_and_kind(body: &str) -> (Option<String>, Option<String>) {
        let error = ProviderError::parse(body.as_bytes()).expect("an error");
        (error.code, error.kind)
    }

    #[test]
    fn every_providers_envelope_is_read() {
        let cases = [
            (
                r#"{"error":{"message":"m","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
                Some("rate_limit_exceeded"),
                Some("tokens"),
            ),
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"m"},"request_id":"req_1"}"#,
                None,
                Some("overloaded_error"),
            ),
            (
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"ramp_limit_exceeded"}}}"#,
                Some("ramp_limit_exceeded"),
                Some("rate_limit_error"),
            ),
            (
                r#"{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED","details":[{"@type":"q","violations":[{"quotaId":"GenerateRequestsPerDay"}]}]}}"#,
                Some("RESOURCE_EXHAUSTED"),
                Some("GenerateRequestsPerDay"),
            ),
            (
                r#"{"error":{"message":"m","status":"RESOURCE_EXHAUSTED","details":[{"violations":[{"quotaId":"RequestsPerMinute"},{"quotaId":"RequestsPerDay"}]}]}}"#,
                Some("RESOURCE_EXHAUSTED"),
                Some("RequestsPerDay"),
            ),
            (r#"[{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}]"#, Some("UNAVAILABLE"), None),
            (
                r#"{"error":{"message":"m","type":"BadRequestError","param":null,"code":400}}"#,
                Some("400"),
                Some("BadRequestError"),
            ),
            (
                r#"{"object":"error","message":"m","type":"BadRequestError","code":400}"#,
                Some("400"),
                Some("BadRequestError"),
            ),
            (r#"{"error":"Model is overloaded","error_type":"overloaded"}"#, None, Some("overloaded")),
            (
                r#"{"type":"error","code":"server_error","message":"m","sequence_number":3}"#,
                Some("server_error"),
                Some("error"),
            ),
            (
                r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"m"}}}"#,
                Some("server_error"),
                None,
            ),
        ];
        for (body, code, kind) in cases {
            assert_eq!(code_and_kind(body), (code.map(str::to_owned), kind.map(str::to_owned)), "{body}");
        }
    }

    #[test]
    fn an_answer_without_an_error_is_none() {
        for body in
            [r#"{"id":"chatcmpl-1","choices":[]}"#, r#"{"error":null,"status":"completed"}"#, "not json", "", "[]", "3"]
        {
            assert_eq!(ProviderError::parse(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn a_long_message_is_cut_at_a_characters_end() {
        let body = serde_json::json!({"error": {"message": format!("x{}", "é".repeat(MESSAGE_BYTES_MAX))}}).to_string();
        let error = ProviderError::parse(body.as_bytes()).expect("an error");
        assert_eq!(error.message.len(), MESSAGE_BYTES_MAX - 1);
    }
}
