//! How each dialect says no.

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::dialects::{Dialect, Framing, sse_event};

/// Why a provider refuses; each dialect has its own status, type and code for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Too many requests or tokens in this minute.
    RateLimited,
    /// No capacity.
    Overloaded,
    /// Money or the day's quota is spent.
    InsufficientQuota,
    /// An error of the provider's own.
    ServerError,
    /// The prompt is too long for the model.
    ContextLengthExceeded,
    /// The credential is not accepted.
    Unauthorized,
}

/// A failure in the words of one dialect: status, type (Gemini: the RPC status) and, where there is one, a finer code.
struct Words(u16, &'static str, Option<&'static str>);

impl Failure {
    fn words(self, dialect: Dialect) -> Words {
        match dialect {
            Dialect::OpenAi => match self {
                Self::RateLimited => Words(429, "requests", Some("rate_limit_exceeded")),
                Self::Overloaded => Words(503, "service_unavailable_error", Some("server_is_overloaded")),
                Self::InsufficientQuota => Words(429, "insufficient_quota", Some("credit_balance_exhausted")),
                Self::ServerError => Words(500, "server_error", None),
                Self::ContextLengthExceeded => Words(400, "invalid_request_error", Some("context_length_exceeded")),
                Self::Unauthorized => Words(401, "invalid_request_error", Some("invalid_api_key")),
            },
            Dialect::Anthropic => match self {
                Self::RateLimited => Words(429, "rate_limit_error", None),
                Self::Overloaded => Words(529, "overloaded_error", None),
                Self::InsufficientQuota => Words(429, "rate_limit_error", Some("enforced_spend_limit_reached")),
                Self::ServerError => Words(500, "api_error", None),
                Self::ContextLengthExceeded => Words(400, "invalid_request_error", None),
                Self::Unauthorized => Words(401, "authentication_error", None),
            },
            Dialect::Gemini => match self {
                Self::RateLimited => {
                    let quota = "GenerateRequestsPerMinutePerProjectPerModel";
                    Words(429, "RESOURCE_EXHAUSTED", Some(quota))
                }
                Self::Overloaded => Words(503, "UNAVAILABLE", None),
                Self::InsufficientQuota => {
                    let quota = "GenerateRequestsPerDayPerProjectPerModel-FreeTier";
                    Words(429, "RESOURCE_EXHAUSTED", Some(quota))
                }
                Self::ServerError => Words(500, "INTERNAL", None),
                Self::ContextLengthExceeded => Words(400, "INVALID_ARGUMENT", None),
                Self::Unauthorized => Words(401, "UNAUTHENTICATED", None),
            },
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::RateLimited => "The mock provider says: too many requests, slow down.",
            Self::Overloaded => "The mock provider says: overloaded, try again later.",
            Self::InsufficientQuota => "The mock provider says: your quota is spent.",
            Self::ServerError => "The mock provider says: something broke on our side.",
            Self::ContextLengthExceeded => "The mock provider says: the prompt is too long for this model.",
            Self::Unauthorized => "The mock provider says: this key is not valid.",
        }
    }

    pub(super) fn status(self, dialect: Dialect) -> StatusCode {
        // The table above holds valid statuses only; the fallback is never used.
        StatusCode::from_u16(self.words(dialect).0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The error body. Gemini has no `retry-after` header and says in here how long to wait.
    pub(super) fn envelope(self, dialect: Dialect, retry_after_s: Option<u64>) -> Value {
        let Words(status, kind, code) = self.words(dialect);
        let message = self.message();
        match dialect {
            Dialect::OpenAi => {
                json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
            }
            Dialect::Anthropic => {
                let mut error = json!({"type": kind, "message": message});
                if let Some(code) = code {
                    error["details"] = json!({"error_code": code});
                }
                json!({"type": "error", "error": error, "request_id": "req_mock"})
            }
            Dialect::Gemini => {
                let mut details = Vec::new();
                details.extend(code.map(|quota| {
                    let metric = "generativelanguage.googleapis.com/generate_content_requests";
                    json!({"@type": "type.googleapis.com/google.rpc.QuotaFailure",
                           "violations": [{"quotaMetric": metric, "quotaId": quota}]})
                }));
                details.extend(retry_after_s.map(|seconds| {
                    json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s")})
                }));
                json!({"error": {"code": status, "message": message, "status": kind, "details": details}})
            }
        }
    }
}

impl Framing {
    /// The failure as an event of a stream that has sent `position` events before.
    pub(super) fn error_event(self, failure: Failure, position: usize) -> Bytes {
        match self {
            Self::Data(dialect) => sse_event(None, &failure.envelope(dialect, None)),
            Self::Responses => {
                let Words(_, kind, code) = failure.words(Dialect::OpenAi);
                let event = json!({"type": "error", "code": code.unwrap_or(kind), "message": failure.message(),
                                   "param": null, "sequence_number": position});
                sse_event(Some("error"), &event)
            }
            Self::Messages => sse_event(Some("error"), &failure.envelope(Dialect::Anthropic, None)),
            Self::Array => {
                let opening = if position == 0 { "[" } else { ",\r\n" };
                format!("{opening}{}]", failure.envelope(Dialect::Gemini, None)).into()
            }
        }
    }
}
