//! The built-in policy's judgement: what the providers' answers mean, by code before status.
//!
//! Spillway runs this code natively, and a policy may call it to adjust its judgement. What a policy does not want to
//! judge at all needs no call: it answers `None`.
//!
//! ```
//! use spillway_sdk::{Class, Exchange, Scope, Verdict, builtin, testing::exchange};
//!
//! /// Each model has workers of its own here, so that an overload is one model's.
//! fn classify(exchange: &Exchange<'_>) -> Option<Verdict> {
//!     let verdict = builtin::classify(exchange);
//!     (verdict.class == Class::Overloaded).then(|| verdict.scope(Scope::Model))
//! }
//! assert_eq!(classify(&exchange().status(529).exchange()).map(|verdict| verdict.scope), Some(Scope::Model));
//! ```

use crate::exchange::contains;
use crate::{Advice, Exchange, Fault, Phase, ProviderError, Verdict};
use std::time::Duration;

/// How long a credential rests when its money or long-term quota is spent and the provider names no time.
///
/// Long enough not to hammer a key that needs a person, short enough that topping it up is noticed soon.
///
/// ```
/// use spillway_sdk::{builtin, testing::exchange};
///
/// let verdict = builtin::classify(&exchange().status(402).exchange());
/// assert_eq!(verdict.cool_off, Some(builtin::EXHAUSTED_COOL_OFF));
/// ```
pub const EXHAUSTED_COOL_OFF: Duration = Duration::from_secs(10 * 60);

/// Codes that say: no money, or no quota that refills soon.
const EXHAUSTED: &[&str] = &[
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "enforced_spend_limit_reached",
    "contract_spend_limit_reached",
    "billing_error",
    "billing_hard_limit_reached",
];

/// Codes that say: alive, but asked for too much at once.
const OVERLOADED: &[&str] =
    &["slow_down", "server_is_overloaded", "overloaded_error", "overloaded", "service_unavailable_error"];

/// Codes of a rate limit, wherever they appear.
const THROTTLED: &[&str] =
    &["rate_limit_exceeded", "rate_limit_error", "ramp_limit_exceeded", "RESOURCE_EXHAUSTED", "ThrottlingException"];

/// Codes that say that the request itself is wrong.
const REJECTED: &[&str] = &[
    "invalid_request_error",
    "context_length_exceeded",
    "exceed_context_size_error",
    "request_too_large",
    "not_found_error",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
];

/// Judges one attempt as Spillway does when no policy says otherwise.
///
/// ```
/// use spillway_sdk::{Class, builtin, testing::exchange};
///
/// let spent = exchange().status(429).body(r#"{"error":{"code":"insufficient_quota","message":"m"}}"#);
/// let verdict = builtin::classify(&spent.exchange());
/// assert_eq!((verdict.class, &*verdict.reason), (Class::Exhausted, "429: quota spent"));
/// ```
pub fn classify(exchange: &Exchange<'_>) -> Verdict {
    if let Some(fault) = exchange.fault() {
        return by_fault(fault, exchange.phase());
    }
    let Some(status) = exchange.status() else {
        return Verdict::failure("no response");
    };
    let verdict = match status {
        // A 200 is no proof of success: a stream's first event can be an error.
        200..=299 if exchange.streaming() => match exchange.provider_error() {
            None => Verdict::success(),
            Some(error) => by_stream_error(&error),
        },
        200..=299 => Verdict::success(),
        401 | 403 => Verdict::unauthorized("credential refused"),
        402 => Verdict::exhausted("payment required").cool_off(EXHAUSTED_COOL_OFF),
        408 => Verdict::failure("408: the provider timed out"),
        409 => Verdict::ignored("409: conflict").advice(Advice::Retry),
        424 => Verdict::failure("424: the model failed"),
        429 => by_throttle(exchange),
        400..=499 => Verdict::rejected(format!("status {status}")),
        503 => by_unavailable(exchange),
        529 => Verdict::overloaded("529: overloaded").cool_off(exchange.retry_after()),
        500..=599 => Verdict::failure(format!("status {status}")).cool_off(exchange.retry_after()),
        _ => Verdict::ignored(format!("status {status}")),
    };
    // Providers that know better than their status say so.
    if verdict.advice == Advice::Retry && exchange.header("x-should-retry").as_deref() == Some(b"false") {
        return verdict.advice(Advice::NextUpstream);
    }
    verdict
}

fn by_fault(fault: Fault, phase: Phase) -> Verdict {
    let verdict = Verdict::failure(fault.as_str());
    match fault {
        // What the caller has begun to read cannot be taken back.
        _ if phase == Phase::Committed => verdict.advice(Advice::GiveUp),
        // A slow failure has used the caller's time and perhaps money: not a second time in the same place.
        Fault::FirstContentTimeout | Fault::IdleTimeout | Fault::AttemptTimeout => verdict.advice(Advice::NextUpstream),
        // Waiting does not mend a certificate or a peer that speaks something else.
        Fault::Tls | Fault::Protocol => verdict.advice(Advice::NextUpstream),
        Fault::Dns | Fault::ConnectRefused | Fault::ConnectTimeout | Fault::Reset | Fault::Truncated => verdict,
    }
}

fn by_stream_error(error: &ProviderError) -> Verdict {
    if error.is_any(EXHAUSTED) || names_daily_quota(error) {
        Verdict::exhausted("spent quota, said inside the stream").cool_off(EXHAUSTED_COOL_OFF)
    } else if error.is_any(OVERLOADED) {
        Verdict::overloaded("overloaded, said inside the stream")
    } else if error.is_any(THROTTLED) {
        Verdict::throttled("rate limit, said inside the stream")
    } else if error.is_any(REJECTED) {
        Verdict::rejected("request refused inside the stream")
    } else {
        Verdict::failure("error inside the stream")
    }
}

/// Gemini names the quota that was violated; a daily one is not worth waiting for.
fn names_daily_quota(error: &ProviderError) -> bool {
    error.kind.as_deref().is_some_and(|quota| contains(quota, "PerDay"))
}

fn by_throttle(exchange: &Exchange<'_>) -> Verdict {
    let wait = exchange.retry_after();
    let Some(error) = exchange.provider_error() else {
        return Verdict::throttled("429").cool_off(wait);
    };
    if error.is_any(EXHAUSTED) {
        return Verdict::exhausted("429: quota spent").cool_off(wait.unwrap_or(EXHAUSTED_COOL_OFF));
    }
    if names_daily_quota(&error) {
        return Verdict::exhausted("429: daily quota spent").cool_off(wait.unwrap_or_default().max(EXHAUSTED_COOL_OFF));
    }
    // A sentence counts only where no code speaks of a rate limit.
    if error.is_any(OVERLOADED) || !error.is_any(THROTTLED) && error.mentions(&["Model is overloaded"]) {
        return Verdict::overloaded("429: asks for less load").cool_off(wait);
    }
    Verdict::throttled("429: rate limit").cool_off(wait)
}

fn by_unavailable(exchange: &Exchange<'_>) -> Verdict {
    let wait = exchange.retry_after();
    let Some(error) = exchange.provider_error() else {
        return Verdict::failure("status 503").cool_off(wait);
    };
    // A local server that loads its model is healthy; it must not be taken for one that crashed.
    if error.is_any(&["unavailable_error"]) && error.mentions(&["loading"]) {
        return Verdict::ignored("503: the model is loading").advice(Advice::Retry).cool_off(wait);
    }
    if error.is_any(OVERLOADED) || error.mentions(&["overloaded"]) {
        return Verdict::overloaded("503: overloaded").cool_off(wait);
    }
    Verdict::failure("status 503").cool_off(wait)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Class, testing::exchange};

    #[test]
    fn the_code_decides_before_the_status() {
        let openai = |code: &str, kind: &str| {
            exchange()
                .status(429)
                .body(format!(r#"{{"error":{{"message":"m","type":"{kind}","param":null,"code":"{code}"}}}}"#))
        };
        let cases = [
            (exchange().status(200), Class::Success, Advice::GiveUp),
            (exchange().status(400), Class::Rejected, Advice::GiveUp),
            (exchange().status(401), Class::Unauthorized, Advice::NextUpstream),
            (exchange().status(402), Class::Exhausted, Advice::NextUpstream),
            (exchange().status(409), Class::Ignored, Advice::Retry),
            (exchange().status(429), Class::Throttled, Advice::Retry),
            (openai("rate_limit_exceeded", "tokens"), Class::Throttled, Advice::Retry),
            (openai("insufficient_quota", "insufficient_quota"), Class::Exhausted, Advice::NextUpstream),
            (openai("slow_down", "rate_limit_error"), Class::Overloaded, Advice::Retry),
            (exchange().status(429).body(r#"{"error":"Model is overloaded"}"#), Class::Overloaded, Advice::Retry),
            (
                exchange().status(429).body(
                    r#"{"error":{"message":"Model is overloaded","type":"tokens","code":"rate_limit_exceeded"}}"#,
                ),
                Class::Throttled,
                Advice::Retry,
            ),
            (exchange().status(500), Class::Failure, Advice::Retry),
            (exchange().status(503), Class::Failure, Advice::Retry),
            (exchange().status(529), Class::Overloaded, Advice::Retry),
            (exchange().status(500).header("x-should-retry", "false"), Class::Failure, Advice::NextUpstream),
            (
                exchange()
                    .status(503)
                    .body(r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#),
                Class::Ignored,
                Advice::Retry,
            ),
            (exchange().fault(Fault::ConnectRefused), Class::Failure, Advice::Retry),
            (exchange().fault(Fault::FirstContentTimeout), Class::Failure, Advice::NextUpstream),
            (exchange().fault(Fault::Truncated).phase(Phase::Committed), Class::Failure, Advice::GiveUp),
        ];
        for (facts, class, advice) in cases {
            let verdict = classify(&facts.exchange());
            assert_eq!((verdict.class, verdict.advice), (class, advice), "{:?}", facts.exchange());
        }
    }

    #[test]
    fn an_error_as_a_streams_first_event_is_judged_by_its_code() {
        let stream = |data: &str| exchange().status(200).streaming().body(data.to_owned());
        let overloaded = stream(r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#);
        assert_eq!(classify(&overloaded.exchange()).class, Class::Overloaded);
        let spent = stream(r#"{"error":{"code":"insufficient_quota","message":"m"}}"#);
        assert_eq!(classify(&spent.exchange()).class, Class::Exhausted);
        let content = stream(r#"{"choices":[{"delta":{"content":"hi"}}]}"#);
        assert_eq!(classify(&content.exchange()).class, Class::Success);
    }

    #[test]
    fn the_providers_wait_becomes_the_cool_off() {
        let facts = exchange().status(429).header("retry-after", "7");
        assert_eq!(classify(&facts.exchange()).cool_off, Some(Duration::from_secs(7)));
        let facts = exchange().status(503).header("retry-after-ms", "250");
        assert_eq!(classify(&facts.exchange()).cool_off, Some(Duration::from_millis(250)));
    }

    #[test]
    fn a_daily_quota_rests_the_credential_even_when_the_wait_is_short() {
        let body = r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"m","details":[
            {"violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]},{"retryDelay":"3s"}]}}"#;
        for facts in [exchange().status(429), exchange().status(200).streaming()] {
            let verdict = classify(&facts.body(body).exchange());
            assert_eq!((verdict.class, verdict.cool_off), (Class::Exhausted, Some(EXHAUSTED_COOL_OFF)));
        }
    }
}
