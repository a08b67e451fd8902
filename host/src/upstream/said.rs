//! What a provider last said, so that whoever is refused for it hears the same.

use crate::dialect::sse;
use crate::policy::Record;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use spillway_resilience::Hears;
use spillway_sdk::AttemptFacts;

/// A provider's error as it was: status and, where it was JSON, the body with its type, its code and whatever else
/// there was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    /// The status; for an error inside of a stream, the one that fits.
    #[serde(with = "status")]
    pub status: StatusCode,
    /// The body, if it was an error in JSON.
    pub error: Option<Value>,
    pub message: String,
}

impl Said {
    /// What an attempt was answered with; `None` when there was no answer.
    pub(crate) fn of(record: &Record, hears: Hears) -> Option<Said> {
        let status = StatusCode::from_u16(record.status?).ok()?;
        let status = if status.is_success() { fitting(hears) } else { status };
        let error = serde_json::from_slice(&record.prefix).ok().or_else(|| {
            // A stream's error is an event of it.
            serde_json::from_slice(&sse::data(&record.prefix)).ok()
        });
        let message = record.provider_error().map(|error| error.message).unwrap_or_default();
        Some(Said { status, error: error.filter(has_error), message })
    }

    /// The same error in other words, and with another wait where the body names one.
    pub(crate) fn envelope(&self, message: &str, request_id: &str) -> Option<Value> {
        let mut body = self.error.clone()?;
        let top = match &mut body {
            Value::Array(list) => list.first_mut()?,
            top => top,
        };
        if let Some(id) = top.get_mut("request_id") {
            *id = request_id.into();
        }
        let place = match top.get_mut("error")? {
            error @ Value::Object(_) => {
                // The wait that it names has passed in part: headers say what is left of it.
                if let Some(details) = error.get_mut("details").and_then(Value::as_array_mut) {
                    details.retain(|detail| detail.get("retryDelay").is_none());
                }
                error.as_object_mut()?.entry("message").or_insert(Value::Null)
            }
            text => text,
        };
        *place = message.into();
        Some(body)
    }
}

fn has_error(body: &Value) -> bool {
    body.as_array().and_then(|list| list.first()).unwrap_or(body).get("error").is_some()
}

/// The status that fits what a caller hears, where the answer had none of its own.
pub(crate) fn fitting(hears: Hears) -> StatusCode {
    match hears {
        Hears::Limit => StatusCode::TOO_MANY_REQUESTS,
        Hears::Overload => StatusCode::SERVICE_UNAVAILABLE,
        Hears::Failure | Hears::Answer => StatusCode::BAD_GATEWAY,
    }
}

/// A status as its number.
mod status {
    use http::StatusCode;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(status.as_u16())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StatusCode, D::Error> {
        StatusCode::from_u16(u16::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(error: Value) -> Said {
        Said { status: StatusCode::TOO_MANY_REQUESTS, error: Some(error), message: "too fast".into() }
    }

    #[test]
    fn an_error_keeps_its_type_and_code_in_every_dialect_and_says_other_words() {
        let table = [
            (
                json!({"error": {"message": "too fast", "type": "insufficient_quota", "param": null, "code": "insufficient_quota"}}),
                json!({"error": {"message": "wait", "type": "insufficient_quota", "param": null, "code": "insufficient_quota"}}),
            ),
            (
                json!({"type": "error", "error": {"type": "rate_limit_error", "message": "too fast"}, "request_id": "req_1"}),
                json!({"type": "error", "error": {"type": "rate_limit_error", "message": "wait"}, "request_id": "id"}),
            ),
            (
                json!({"error": {"code": 429, "message": "too fast", "status": "RESOURCE_EXHAUSTED"}}),
                json!({"error": {"code": 429, "message": "wait", "status": "RESOURCE_EXHAUSTED"}}),
            ),
            // Gemini's streams answer errors in a list.
            (
                json!([{"error": {"code": 429, "message": "too fast", "status": "RESOURCE_EXHAUSTED"}}]),
                json!([{"error": {"code": 429, "message": "wait", "status": "RESOURCE_EXHAUSTED"}}]),
            ),
            (json!({"error": "too fast"}), json!({"error": "wait"})),
            (json!({"error": {"type": "api_error"}}), json!({"error": {"type": "api_error", "message": "wait"}})),
        ];
        for (error, expected) in table {
            assert_eq!(said(error).envelope("wait", "id"), Some(expected));
        }
    }

    #[test]
    fn a_wait_in_the_body_is_left_to_the_headers() {
        let details = json!([
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"},
        ]);
        let error = said(json!({"error": {"code": 429, "message": "too fast", "details": details}}));
        let envelope = error.envelope("wait", "id").expect("it is an error");
        let kept = json!([{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []}]);
        assert_eq!(envelope["error"]["details"], kept);
    }

    #[test]
    fn what_is_no_error_in_json_has_no_envelope() {
        for error in [json!({"detail": "too fast"}), json!([]), json!("too fast"), json!(429)] {
            assert!(!has_error(&error), "{error}");
            assert_eq!(said(error).envelope("wait", "id"), None);
        }
        let without = Said { status: StatusCode::BAD_GATEWAY, error: None, message: String::new() };
        assert_eq!(without.envelope("wait", "id"), None);
    }

    #[test]
    fn it_is_read_back_as_it_was_written() {
        let said = said(json!({"error": {"message": "too fast"}}));
        let text = serde_json::to_string(&said).expect("it has a form in JSON");
        assert_eq!(serde_json::from_str::<Said>(&text).expect("it was written just now"), said);
        let impossible = text.replace("429", "42");
        assert!(serde_json::from_str::<Said>(&impossible).is_err(), "{impossible}");
    }
}
