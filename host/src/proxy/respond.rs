//! The one place where Spillway's own errors become responses, in the words of the API that was called.

use crate::dialect::Dialect;
use crate::dialect::error::{ApiError, ErrorKind};
use crate::proxy::body::Body;
use crate::proxy::refusal::advice::Audience;
use crate::proxy::refusal::{Refusal, RefusalKind};
use crate::runtime::clock::milliseconds;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde_json::Value;
use spillway_resilience::GuardKind;
use spillway_sdk::{Fault, wait};
use std::time::{Duration, SystemTime};

/// Longest `Retry-After` that every SDK acts on as it is meant. Beyond it some wait for ever and others ignore it, so
/// they are asked not to retry.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// In which official SDKs are told whether to try again by themselves.
pub(crate) const SHOULD_RETRY: &str = "x-should-retry";
/// `Retry-After` in milliseconds, which the official client SDKs read first.
const RETRY_AFTER_MS: &str = "retry-after-ms";

impl Refusal {
    fn as_api_error(&self, audience: Audience) -> ApiError {
        ApiError {
            kind: self.error_kind(),
            status: self.status(),
            code: self.code(),
            message: self.message_to(audience),
            retry_after: self.retry_after,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match &self.kind {
            RefusalKind::LimitExceeded { dimension, .. } => ErrorKind::RateLimited { of: dimension.as_str() },
            RefusalKind::Exhausted { standing } if standing.exhausted.is_unpriced => ErrorKind::Forbidden,
            RefusalKind::Exhausted { standing } => {
                ErrorKind::RateLimited { of: standing.exhausted.allowance.measure.as_str() }
            }
            RefusalKind::Saturated { .. } | RefusalKind::Paced { .. } => ErrorKind::RateLimited { of: "requests" },
            RefusalKind::CircuitOpen { .. }
            | RefusalKind::NoBudget { .. }
            | RefusalKind::Overloaded { .. }
            | RefusalKind::Short { .. } => ErrorKind::Overloaded,
            RefusalKind::SpoolFull { .. } | RefusalKind::SpoolUnavailable { .. } => ErrorKind::Unavailable,
            RefusalKind::TimedOut { .. } | RefusalKind::Impatient { .. } => ErrorKind::TimedOut,
            RefusalKind::Unreachable { .. } => ErrorKind::Unreachable,
            RefusalKind::JudgedFailed { .. } | RefusalKind::StreamCut { .. } | RefusalKind::Defect => ErrorKind::Failed,
            RefusalKind::BodyTooLarge { .. } => ErrorKind::TooLarge,
            RefusalKind::BodyLate { .. } => ErrorKind::Late,
            RefusalKind::BadRequest { .. } | RefusalKind::WrongMethod { .. } => ErrorKind::Invalid,
            RefusalKind::Runaway { tripped } if tripped.guard == GuardKind::TokensPerHour => {
                ErrorKind::RateLimited { of: "tokens" }
            }
            RefusalKind::Runaway { .. } => ErrorKind::Invalid,
            RefusalKind::NoSuchRoute { .. } | RefusalKind::NoSuchJob { .. } | RefusalKind::SpoolOff => {
                ErrorKind::NotFound
            }
            RefusalKind::AccessRequired { .. }
            | RefusalKind::Stranger
            | RefusalKind::KeyRequired
            | RefusalKind::KeyRefused => ErrorKind::Unauthenticated,
            RefusalKind::Forbidden { .. } | RefusalKind::KeyForbids { .. } => ErrorKind::Forbidden,
            RefusalKind::Conflict { .. } => ErrorKind::Conflict,
        }
    }

    /// The body, in an API's words. Where the provider's own words are the reason, they stay what they were.
    fn envelope(&self, error: &ApiError, dialect: Dialect, request_id: &str) -> Value {
        match self.said().and_then(|said| said.envelope(&error.message, request_id)) {
            Some(body) => dialect.with_wait(body, self.retry_after),
            None => dialect.envelope(error, request_id),
        }
    }

    /// The event that ends a stream of this API's that has failed.
    pub(crate) fn into_event(self, dialect: Dialect, request_id: &str) -> Bytes {
        dialect.error_event(&self.envelope(&self.as_api_error(Audience::Records), dialect, request_id))
    }

    /// Whether the same caller has no use in trying again by itself: a spent quota is refilled by nobody's trying, and
    /// a certificate is mended by somebody else.
    pub(super) fn is_final_for_now(&self) -> bool {
        match &self.kind {
            RefusalKind::CircuitOpen { .. } => {
                self.said().is_some_and(|said| matches!(said.status.as_u16(), 402 | 403 | 429))
            }
            RefusalKind::Unreachable { fault, .. } => *fault == Fault::Tls,
            RefusalKind::Exhausted { standing } => standing.ends_after().is_none(),
            RefusalKind::Runaway { tripped } => tripped.guard != GuardKind::TokensPerHour,
            _ => false,
        }
    }

    /// Whether SDKs are asked not to try again by themselves.
    pub(super) fn asks_not_to_retry(&self) -> bool {
        let is_final = self.tried.as_ref().map_or_else(|| self.is_final_for_now(), |tried| tried.is_final);
        is_final || self.retry_after.is_some_and(|wait| wait > RETRY_AFTER_MAX)
    }

    /// The response, in the words of the API that was called, and for whoever called.
    pub(crate) fn into_response(self, dialect: Dialect, request_id: &str, audience: Audience) -> Response<Body> {
        let error = self.as_api_error(audience);
        let mut response = Response::new(Body::from(self.envelope(&error, dialect, request_id).to_string()));
        // What the provider said keeps the provider's status.
        *response.status_mut() = if self.said().is_some() { error.status } else { dialect.status(&error) };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("x-spillway-refusal", HeaderValue::from_static(self.code()));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(dialect.request_id_header(), id);
        }
        if let RefusalKind::WrongMethod { allowed } = self.kind {
            headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        if let RefusalKind::BodyLate { .. } = self.kind {
            // The rest of the body may still come, and must not be taken for a request.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(wait) = self.retry_after {
            insert_wait(headers, wait);
        }
        if self.asks_not_to_retry() {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }
}

/// Says a wait so that every SDK acts on it as it is meant.
pub(crate) fn insert_wait(headers: &mut http::HeaderMap, wait: Duration) {
    // Some SDKs take 0 as "at once, as often as you like".
    let wait_ms = milliseconds(wait).max(1);
    headers.insert(header::RETRY_AFTER, HeaderValue::from(wait_ms.div_ceil(1_000)));
    headers.insert(RETRY_AFTER_MS, HeaderValue::from(wait_ms));
    if wait > RETRY_AFTER_MAX {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
}

/// Raises the wait that an answer of the provider's names to the one that is kept here. Where it names none, none is
/// added, and a little more is none: whoever comes a moment too early waits here for that moment.
pub(crate) fn raise_wait(headers: &mut http::HeaderMap, wait: Duration) {
    const A_LITTLE: f64 = 1.1;
    let named = wait::from_headers(|name| headers.get(name).map(HeaderValue::as_bytes), SystemTime::now());
    if named.is_some_and(|named| named.mul_f64(A_LITTLE) < wait) {
        restate_wait(headers, wait);
    }
}

/// Lowers the wait that an answer of the provider's names to one after which another target may serve.
pub(crate) fn lower_wait(headers: &mut http::HeaderMap, wait: Duration) {
    let named = wait::from_headers(|name| headers.get(name).map(HeaderValue::as_bytes), SystemTime::now());
    if named.is_some_and(|named| named > wait) {
        restate_wait(headers, wait);
    }
}

/// Says another wait where one is named. Where that is in milliseconds alone, it stays so: a library that does not know
/// these takes an answer with a `Retry-After` for one of another kind than it was.
fn restate_wait(headers: &mut http::HeaderMap, wait: Duration) {
    let was_in_seconds = headers.remove(header::RETRY_AFTER).is_some();
    let was_in_milliseconds = headers.remove(RETRY_AFTER_MS).is_some();
    insert_wait(headers, wait);
    if was_in_milliseconds && !was_in_seconds {
        headers.remove(header::RETRY_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::refusal::Owner;
    use spillway_resilience::Dimension;

    fn limited(wait: Duration) -> Response<Body> {
        let kind = RefusalKind::LimitExceeded {
            owner: Owner::Upstream("openai".into()),
            dimension: Dimension::Tokens,
            limit: 100,
        };
        Refusal::after(kind, wait).into_response(Dialect::OpenAi, "id", Audience::Records)
    }

    #[test]
    fn a_wait_is_rounded_up_and_never_zero() {
        let headers = limited(Duration::from_millis(1_001)).headers().clone();
        assert_eq!(
            (&headers["retry-after"], &headers["retry-after-ms"]),
            (&HeaderValue::from(2), &HeaderValue::from(1_001))
        );
        let headers = limited(Duration::ZERO).headers().clone();
        assert_eq!(
            (&headers["retry-after"], &headers["retry-after-ms"]),
            (&HeaderValue::from(1), &HeaderValue::from(1))
        );
    }

    #[test]
    fn a_forwarded_header_promises_no_less_than_is_waited_here_in_all_its_forms() {
        let raised = |name: &'static str, value: &str, wait: Duration| {
            let mut headers = http::HeaderMap::new();
            headers.insert(name, HeaderValue::from_str(value).expect("it is a header's value"));
            raise_wait(&mut headers, wait);
            headers
        };
        let long = Duration::from_secs(30);
        for (name, value, in_seconds) in [
            ("retry-after", "1", Some(30)),
            ("retry-after-ms", "900", None),
            ("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT", Some(30)),
        ] {
            let headers = raised(name, value, long);
            let in_seconds = in_seconds.map(|seconds: u64| HeaderValue::from(seconds));
            assert_eq!(headers.get("retry-after"), in_seconds.as_ref(), "{name}: {value}");
            assert_eq!(headers["retry-after-ms"], HeaderValue::from(30_000), "{name}: {value}");
        }
        // What is longer, or hardly less, or no promise at all stays as it was.
        for (name, value) in [("retry-after", "60"), ("retry-after", "29"), ("retry-after", "soon"), ("x-other", "1")] {
            let headers = raised(name, value, long);
            assert_eq!((headers.len(), &headers[name]), (1, &HeaderValue::from_str(value).expect("as above")));
        }
    }

    #[test]
    fn a_wait_that_sdks_would_not_act_on_asks_them_not_to_retry() {
        let headers = limited(Duration::from_secs(61)).headers().clone();
        assert_eq!(headers["retry-after"], "61");
        assert_eq!(headers["x-should-retry"], "false");
    }

    #[test]
    fn whoever_may_not_spend_is_told_so_as_a_provider_tells_who_has_no_key() {
        let refusal = Refusal::from(RefusalKind::AccessRequired { route: "chat".into() });
        let cases = [
            (Dialect::OpenAi, "/error/type", "authentication_error"),
            (Dialect::OpenAi, "/error/code", "spillway_access_required"),
            (Dialect::Anthropic, "/error/type", "authentication_error"),
            (Dialect::Gemini, "/error/status", "UNAUTHENTICATED"),
        ];
        for (dialect, pointer, word) in cases {
            let error = refusal.as_api_error(Audience::Records);
            assert_eq!(dialect.status(&error).as_u16(), 401);
            assert_eq!(dialect.envelope(&error, "id").pointer(pointer).and_then(|v| v.as_str()), Some(word));
            for what in ["[routes.chat] open_to_local", "unix_socket", "access_key_env"] {
                assert!(error.message.contains(what), "{}", error.message);
            }
        }
    }

    #[test]
    fn the_same_refusal_wears_each_apis_status_and_envelope() {
        let refusal = Refusal::from(RefusalKind::CircuitOpen { upstream: "u".into(), cause: "c".into(), said: None });
        let cases = [
            (Dialect::OpenAi, 503, "/error/code", "spillway_circuit_open"),
            (Dialect::Anthropic, 529, "/error/type", "overloaded_error"),
            (Dialect::Gemini, 503, "/error/status", "UNAVAILABLE"),
        ];
        for (dialect, status, pointer, word) in cases {
            let error = refusal.as_api_error(Audience::Records);
            assert_eq!(dialect.status(&error).as_u16(), status);
            assert_eq!(dialect.envelope(&error, "id").pointer(pointer).and_then(|v| v.as_str()), Some(word));
        }
    }
}
