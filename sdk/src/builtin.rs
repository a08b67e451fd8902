//! The built-in policy's judgement: what the providers' answers mean, by code before status.
//!
//! Spillway runs this code natively, and a policy may call it to adjust its judgement. What a policy does not want to
//! judge at all needs no call: it answers `None`.
//!
//! ```
//! use spillway_sdk::{Class, Exchange, Scope, Verdict, builtin, testing::exchange};
//!
//! /// All models share their machines here, so that an overload is the whole upstream's.
//! fn classify(exchange: &Exchange<'_>) -> Option<Verdict> {
//!     let verdict = builtin::classify(exchange);
//!     (verdict.class == Class::Overloaded).then(|| verdict.scope(Scope::Upstream))
//! }
//! assert_eq!(classify(&exchange().status(529).exchange()).map(|verdict| verdict.scope), Some(Scope::Upstream));
//! ```

use crate::exchange::contains;
use crate::{Advice, Exchange, Fault, Phase, ProviderError, Scope, Verdict};
use std::time::Duration;

/// How long money or a long-term quota that is spent is left alone when the provider names no time. Then one call asks
/// again.
///
/// A refusal costs the provider nothing, and its caller hears what it would have heard without Spillway. So the
/// question is asked often enough that a key which somebody tops up serves again within seconds.
///
/// ```
/// use spillway_sdk::{builtin, testing::exchange};
///
/// let verdict = builtin::classify(&exchange().status(402).exchange());
/// assert_eq!(verdict.cool_off, Some(builtin::EXHAUSTED_COOL_OFF));
/// ```
pub const EXHAUSTED_COOL_OFF: Duration = Duration::from_secs(10);

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
    "exceeded_current_quota_error",
];

/// What providers write about spent money that give it the code of any other limit: Gemini's caps and prepaid credits,
/// and xAI's.
const EXHAUSTED_PHRASES: &[&str] = &["spending cap", "credits are depleted", "used all available credits"];

/// Codes that say: this request costs more than is left, and a smaller one may not.
const TOO_MUCH: &[&str] = &["pre_consume_token_quota_failed"];

/// What providers write to that effect: OpenRouter of a request's output and of its prompt, OpenAI of one that is larger
/// than a whole minute's tokens, Anthropic of a context that the plan does not include.
const TOO_MUCH_PHRASES: &[&str] = &[
    "can only afford",
    "requires more credits",
    "prompt tokens limit exceeded",
    "request too large for",
    "required for long context",
];

/// What providers write that have one limit for all models (Moonshot). The name of an organisation alone says nothing:
/// OpenAI and Anthropic name it beside the model whose limit they mean.
const SHARED_LIMIT_PHRASES: &[&str] =
    &["organization max", "max organization", "organization tpm", "organization tpd", "organization-level"];

/// Codes that say: alive, but asked for too much at once.
const OVERLOADED: &[&str] =
    &["slow_down", "server_is_overloaded", "overloaded_error", "overloaded", "service_unavailable_error"];

/// Codes of a rate limit, wherever they appear.
const THROTTLED: &[&str] = &[
    "rate_limit_exceeded",
    "rate_limit_error",
    "rate_limit_reached_error",
    "ramp_limit_exceeded",
    "RESOURCE_EXHAUSTED",
    "ThrottlingException",
];

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

/// Codes that say: too long for this model, and perhaps not for another.
const TOO_LONG: &[&str] = &["context_length_exceeded", "exceed_context_size_error", "request_too_large"];

/// What providers write to that effect: Anthropic, OpenAI and those who speak like it, Gemini, Groq.
const TOO_LONG_PHRASES: &[&str] = &[
    "prompt is too long",
    "maximum context length",
    "context window",
    "exceeds the maximum number of tokens",
    "reduce the length of the messages",
];

/// Codes that say: there is no such model here, and perhaps elsewhere.
const NO_SUCH_MODEL: &[&str] =
    &["model_not_found", "model_not_available", "DeploymentNotFound", "not_found_error", "NOT_FOUND"];

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
            Some(error) => by_stream_error(&error, exchange.retry_after()),
        },
        200..=299 => Verdict::success(),
        402 | 403 if exchange.provider_error().is_some_and(|error| asks_too_much(&error)) => {
            Verdict::rejected(format!("{status}: asks for more than is left"))
                .scope(Scope::Credential)
                .advice(Advice::NextUpstream)
        }
        401 | 403 => Verdict::unauthorized("credential refused"),
        402 => Verdict::exhausted("payment required").cool_off(exchange.retry_after().unwrap_or(EXHAUSTED_COOL_OFF)),
        408 => Verdict::failure("408: the provider timed out"),
        409 => Verdict::ignored("409: conflict").advice(Advice::Retry),
        424 => Verdict::failure("424: the model failed"),
        429 => by_throttle(exchange),
        404 => Verdict::rejected("404: not here").scope(Scope::Model).advice(Advice::NextUpstream),
        413 => Verdict::rejected("413: too large").scope(Scope::Model).advice(Advice::NextUpstream),
        400..=499 => {
            let (verdict, error) = (Verdict::rejected(format!("status {status}")), exchange.provider_error());
            match error {
                Some(error) if asks_for_what_others_may_have(&error) => {
                    verdict.scope(Scope::Model).advice(Advice::NextUpstream)
                }
                Some(error) if asks_too_much(&error) => verdict.scope(Scope::Credential).advice(Advice::NextUpstream),
                Some(_) | None => verdict,
            }
        }
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

/// Whether an error says that this one request costs more than the balance or the limit affords, as OpenRouter's "can
/// only afford 3025" does.
///
/// That is its caller's own affair, whatever the status: a smaller request, or one to a model that is free, is served
/// with the same key. So it is no spent quota.
///
/// ```
/// use spillway_sdk::{Class, builtin, testing::exchange};
///
/// let body = r#"{"error":{"code":402,"message":"This request requires more credits, or fewer max_tokens."}}"#;
/// let facts = exchange().status(402).body(body);
/// assert!(facts.exchange().provider_error().is_some_and(|error| builtin::asks_too_much(&error)));
/// assert_eq!(builtin::classify(&facts.exchange()).class, Class::Rejected);
/// ```
pub fn asks_too_much(error: &ProviderError) -> bool {
    error.is_any(TOO_MUCH) || error.mentions(TOO_MUCH_PHRASES)
}

/// Whether an error says that the model is not there, or that the request is too long for it: another upstream may have
/// it, or a larger one.
///
/// ```
/// use spillway_sdk::{Advice, builtin, testing::exchange};
///
/// let body = r#"{"error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000"}}"#;
/// let facts = exchange().status(400).body(body);
/// assert!(facts.exchange().provider_error().is_some_and(|error| builtin::asks_for_what_others_may_have(&error)));
/// assert_eq!(builtin::classify(&facts.exchange()).advice, Advice::NextUpstream);
/// ```
pub fn asks_for_what_others_may_have(error: &ProviderError) -> bool {
    error.is_any(TOO_LONG) || error.is_any(NO_SUCH_MODEL) || error.mentions(TOO_LONG_PHRASES)
}

/// How far the limit reaches of which an error speaks: to all that its credential may use, if it is money or if the
/// provider says so, and otherwise to the one model.
///
/// Where an error leaves it open, the smaller is meant. If that is wrong, each other model learns of the limit by a call
/// of its own; the larger would take away models that would have answered.
///
/// ```
/// use spillway_sdk::{ProviderError, Scope, builtin};
///
/// let violated = |quota: &str| ProviderError { kind: Some(quota.into()), ..ProviderError::default() };
/// assert_eq!(builtin::limit_scope(&violated("GenerateRequestsPerDayPerProjectPerModel")), Scope::Model);
/// assert_eq!(builtin::limit_scope(&violated("GenerateRequestsPerMinutePerProject")), Scope::Credential);
/// assert_eq!(builtin::limit_scope(&violated("insufficient_quota")), Scope::Credential);
/// ```
pub fn limit_scope(error: &ProviderError) -> Scope {
    // Gemini's quotas say in their ids what they are counted by; Vertex AI has them per base model.
    let shared_quota = error.kind.as_deref().is_some_and(|quota| {
        ["PerDay", "PerHour", "PerMinute", "PerSecond"].iter().any(|period| quota.contains(period))
            && !quota.contains("Model")
    });
    if shared_quota || is_out_of_money(error) || error.mentions(SHARED_LIMIT_PHRASES) {
        Scope::Credential
    } else {
        Scope::Model
    }
}

fn by_fault(fault: Fault, phase: Phase) -> Verdict {
    let verdict = Verdict::failure(fault.as_str());
    let verdict = match fault {
        // Where nobody answers, no model does.
        Fault::Dns | Fault::ConnectRefused | Fault::ConnectTimeout | Fault::Tls => verdict.scope(Scope::Upstream),
        // Behind one address, models have workers of their own.
        Fault::Reset
        | Fault::Protocol
        | Fault::FirstContentTimeout
        | Fault::IdleTimeout
        | Fault::AttemptTimeout
        | Fault::Truncated => verdict,
    };
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

fn by_stream_error(error: &ProviderError, wait: Option<Duration>) -> Verdict {
    if asks_too_much(error) {
        Verdict::rejected("asks for more than is left, said inside the stream")
            .scope(Scope::Credential)
            .advice(Advice::NextUpstream)
    } else if let Some(rest) = rest_of_spent(error, wait) {
        Verdict::exhausted("spent quota, said inside the stream").scope(limit_scope(error)).cool_off(rest)
    } else if error.is_any(OVERLOADED) || !error.is_any(THROTTLED) && error.mentions(&["overloaded"]) {
        // Gemini has no code for it, only its words.
        Verdict::overloaded("overloaded, said inside the stream").cool_off(wait)
    } else if error.is_any(THROTTLED) {
        Verdict::throttled("rate limit, said inside the stream").scope(limit_scope(error)).cool_off(wait)
    } else if asks_for_what_others_may_have(error) {
        Verdict::rejected("too long or not here, said inside the stream")
            .scope(Scope::Model)
            .advice(Advice::NextUpstream)
    } else if error.is_any(REJECTED) {
        Verdict::rejected("request refused inside the stream")
    } else {
        Verdict::failure("error inside the stream")
    }
}

fn is_out_of_money(error: &ProviderError) -> bool {
    error.is_any(EXHAUSTED) || error.mentions(EXHAUSTED_PHRASES)
}

/// Gemini names the quota that was violated; a daily one is not worth waiting for.
fn names_daily_quota(error: &ProviderError) -> bool {
    error.kind.as_deref().is_some_and(|quota| contains(quota, "PerDay"))
}

/// How long to leave alone what an error calls spent; `None` when it calls nothing spent.
fn rest_of_spent(error: &ProviderError, wait: Option<Duration>) -> Option<Duration> {
    if is_out_of_money(error) {
        return Some(wait.unwrap_or(EXHAUSTED_COOL_OFF));
    }
    // The wait that comes with a daily quota is often that of a limit per minute which was violated along with it.
    names_daily_quota(error).then(|| wait.unwrap_or_default().max(EXHAUSTED_COOL_OFF))
}

fn by_throttle(exchange: &Exchange<'_>) -> Verdict {
    let wait = exchange.retry_after();
    let Some(error) = exchange.provider_error() else {
        return Verdict::throttled("429").cool_off(wait);
    };
    if asks_too_much(&error) {
        return Verdict::rejected("429: asks for more than is left")
            .scope(Scope::Credential)
            .advice(Advice::NextUpstream);
    }
    if let Some(rest) = rest_of_spent(&error, wait) {
        let reason = if is_out_of_money(&error) { "429: quota spent" } else { "429: daily quota spent" };
        return Verdict::exhausted(reason).scope(limit_scope(&error)).cool_off(rest);
    }
    // A sentence counts only where no code speaks of a rate limit.
    if error.is_any(OVERLOADED) || !error.is_any(THROTTLED) && error.mentions(&["Model is overloaded"]) {
        return Verdict::overloaded("429: asks for less load").cool_off(wait);
    }
    Verdict::throttled("429: rate limit").scope(limit_scope(&error)).cool_off(wait)
}

fn by_unavailable(exchange: &Exchange<'_>) -> Verdict {
    let wait = exchange.retry_after();
    let Some(error) = exchange.provider_error() else {
        return Verdict::failure("status 503").cool_off(wait);
    };
    // A local server that loads its model is healthy; it must not be taken for one that crashed.
    if error.is_any(&["unavailable_error"]) && error.mentions(&["loading"]) {
        let verdict = Verdict::ignored("503: the model is loading").scope(Scope::Model);
        return verdict.advice(Advice::Retry).cool_off(wait);
    }
    if error.is_any(OVERLOADED) || error.mentions(&["overloaded"]) {
        return Verdict::overloaded("503: overloaded").cool_off(wait);
    }
    Verdict::failure("status 503").cool_off(wait)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Class,
        testing::{ExchangeBuilder, exchange},
    };

    #[test]
    fn what_another_upstream_may_have_is_asked_for_there_and_what_is_wrong_is_not() {
        let error =
            |kind: &str, message: &str| format!(r#"{{"error":{{"type":"{kind}","code":null,"message":"{message}"}}}}"#);
        let elsewhere = [
            (400, error("context_length_exceeded", "too long")),
            (400, error("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum")),
            (400, error("invalid_request_error", "This model's maximum context length is 8192 tokens.")),
            (400, error("exceed_context_size_error", "the request exceeds the available context size")),
            (400, error("INVALID_ARGUMENT", "The input token count exceeds the maximum number of tokens allowed")),
            (404, error("invalid_request_error", "The model `gpt-9` does not exist")),
            (404, error("not_found_error", "model: claude-9")),
            (404, String::new()),
            (413, error("request_too_large", "Request exceeds the maximum size")),
        ];
        for (status, body) in elsewhere {
            let verdict = classify(&exchange().status(status).body(body.clone()).exchange());
            let judged = (verdict.class, verdict.scope, verdict.advice);
            assert_eq!(judged, (Class::Rejected, Scope::Model, Advice::NextUpstream), "{status}: {body}");
            let streamed = exchange().status(200).streaming().body(body.clone());
            if status == 400 {
                assert_eq!(classify(&streamed.exchange()).advice, Advice::NextUpstream, "{body}");
            }
        }
        for (status, body) in [
            (400, error("invalid_request_error", "messages: roles must alternate")),
            (422, error("invalid_request_error", "temperature must be at most 2")),
        ] {
            let verdict = classify(&exchange().status(status).body(body.clone()).exchange());
            assert_eq!((verdict.class, verdict.advice), (Class::Rejected, Advice::GiveUp), "{status}: {body}");
        }
    }

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
        let words = r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#;
        assert_eq!(classify(&stream(words).exchange()).class, Class::Overloaded);
        let spent = stream(r#"{"error":{"code":"insufficient_quota","message":"m"}}"#);
        assert_eq!(classify(&spent.exchange()).class, Class::Exhausted);
        let content = stream(r#"{"choices":[{"delta":{"content":"hi"}}]}"#);
        assert_eq!(classify(&content.exchange()).class, Class::Success);
    }

    /// What a verdict says of, and to, the circuits: what shuts, how much of it, and for how long.
    fn reach(facts: &ExchangeBuilder) -> (Class, Scope, Option<Duration>) {
        let verdict = classify(&facts.exchange());
        (verdict.class, verdict.scope, verdict.cool_off)
    }

    const SECONDS: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_failure_is_the_models_unless_nobody_answered_at_all() {
        for fault in Fault::ALL {
            let scope = match fault {
                Fault::Dns | Fault::ConnectRefused | Fault::ConnectTimeout | Fault::Tls => Scope::Upstream,
                _ => Scope::Model,
            };
            assert_eq!(reach(&exchange().fault(fault)), (Class::Failure, scope, None), "{fault:?}");
        }
        for status in [408, 424, 500, 502, 503, 504] {
            assert_eq!(reach(&exchange().status(status)), (Class::Failure, Scope::Model, None), "{status}");
        }
        assert_eq!(reach(&exchange().status(529)), (Class::Overloaded, Scope::Model, None));
        let died = exchange().status(200).streaming().body(r#"{"error":{"code":"server_error","message":"m"}}"#);
        assert_eq!(reach(&died), (Class::Failure, Scope::Model, None));
        let loading = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
        let loading = exchange().status(503).header("retry-after", "5").body(loading);
        assert_eq!(reach(&loading), (Class::Ignored, Scope::Model, Some(SECONDS(5))));
    }

    /// An error as a 429, and as the first event of a stream.
    fn both_ways(body: &str) -> [ExchangeBuilder; 2] {
        [exchange().status(429).body(body), exchange().status(200).streaming().body(body)]
    }

    #[test]
    fn a_rate_limit_is_one_models_under_one_key_unless_the_provider_says_more() {
        let models = [
            r#"{"error":{"message":"Rate limit reached for gpt-5 in organization org-1 on tokens per min (TPM): Limit 30000","type":"tokens","code":"rate_limit_exceeded"}}"#,
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your organization's rate limit of 30,000 input tokens per minute (org: 1, model: claude-sonnet-4-6)."}}"#,
            r#"{"error":{"status":"RESOURCE_EXHAUSTED","message":"m","details":[{"violations":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}]}]}}"#,
            r#"{"error":{"status":"RESOURCE_EXHAUSTED","message":"m","details":[{"violations":[{"quotaId":"GenerateContentRequestsPerMinutePerProjectPerBaseModel"}]}]}}"#,
        ];
        let keys = [
            r#"{"error":{"message":"Your account org-1 request reached organization max RPM: 3, please try again after 1 seconds","type":"rate_limit_reached_error"}}"#,
            r#"{"error":{"status":"RESOURCE_EXHAUSTED","message":"m","details":[{"violations":[{"quotaId":"GenerateContentRequestsPerMinutePerProjectPerRegion"}]}]}}"#,
        ];
        let scopes = [Scope::Model, Scope::Credential];
        for (scope, bodies) in scopes.into_iter().zip([&models[..], &keys[..]]) {
            for facts in bodies.iter().flat_map(|body| both_ways(body)) {
                assert_eq!(reach(&facts), (Class::Throttled, scope, None), "{facts:?}");
            }
        }
        assert_eq!(reach(&exchange().status(429)), (Class::Throttled, Scope::Model, None));
    }

    #[test]
    fn spent_money_is_the_keys_and_is_asked_for_again_within_seconds() {
        let spent = [
            r#"{"error":{"code":"insufficient_quota","type":"insufficient_quota","message":"m"}}"#,
            r#"{"error":{"code":"project_spend_limit_exceeded","type":"insufficient_quota","message":"m"}}"#,
            r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"Your prepayment credits are depleted."}}"#,
            r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"Your project has exceeded its monthly spending cap."}}"#,
            r#"{"error":{"type":"exceeded_current_quota_error","message":"check your account balance"}}"#,
        ];
        for facts in spent.iter().flat_map(|body| both_ways(body)) {
            assert_eq!(reach(&facts), (Class::Exhausted, Scope::Credential, Some(SECONDS(10))), "{facts:?}");
            let named = facts.header("retry-after", "3");
            assert_eq!(reach(&named).2, Some(SECONDS(3)), "what the provider names is kept");
        }
        let unpaid = exchange().status(402);
        assert_eq!(reach(&unpaid), (Class::Exhausted, Scope::Credential, Some(SECONDS(10))));
        assert_eq!(reach(&unpaid.header("retry-after", "60")).2, Some(SECONDS(60)));
    }

    #[test]
    fn a_request_that_asks_for_more_than_is_left_shuts_nothing() {
        let messages = [
            "This request requires more credits, or fewer max_tokens. You requested up to 65535 tokens, but can only afford 3025.",
            "Prompt tokens limit exceeded: 64128 > 6964. To increase, create a key with a higher monthly limit",
            "Request too large for gpt-5 in organization org-1 on tokens per min (TPM): Limit 30000, Requested 45000.",
            "Extra usage is required for long context requests.",
        ];
        let said = |message: &str| format!(r#"{{"error":{{"code":"rate_limit_exceeded","message":"{message}"}}}}"#);
        let relay = r#"{"error":{"code":"pre_consume_token_quota_failed","message":"token quota is not enough, token remain quota: 0.19, need quota: 0.23"}}"#;
        for body in messages.iter().map(|message| said(message)).chain([relay.to_owned()]) {
            let stream = exchange().status(200).streaming();
            let refused = [400, 402, 403, 429].map(|status| exchange().status(status));
            for facts in refused.into_iter().chain([stream]) {
                let facts = facts.header("retry-after", "60").body(body.clone());
                let verdict = classify(&facts.exchange());
                let judged = (verdict.class, verdict.advice, verdict.cool_off);
                assert_eq!(judged, (Class::Rejected, Advice::NextUpstream, None), "{facts:?}");
            }
        }
    }

    #[test]
    fn the_providers_wait_becomes_the_cool_off() {
        let facts = exchange().status(429).header("retry-after", "7");
        assert_eq!(classify(&facts.exchange()).cool_off, Some(Duration::from_secs(7)));
        let facts = exchange().status(503).header("retry-after-ms", "250");
        assert_eq!(classify(&facts.exchange()).cool_off, Some(Duration::from_millis(250)));
    }

    #[test]
    fn a_daily_quota_rests_its_model_even_when_the_wait_is_short() {
        let violated = |quota: &str, wait: &str| {
            both_ways(&format!(
                r#"{{"error":{{"code":429,"status":"RESOURCE_EXHAUSTED","message":"m","details":[
                    {{"violations":[{{"quotaId":"{quota}"}}]}},{{"retryDelay":"{wait}"}}]}}}}"#
            ))
        };
        for (quota, scope) in [
            ("GenerateRequestsPerDayPerProjectPerModel-FreeTier", Scope::Model),
            ("GenerateRequestsPerDayPerProject", Scope::Credential),
        ] {
            for (wait, rest) in [("3s", EXHAUSTED_COOL_OFF), ("40s", SECONDS(40))] {
                for facts in violated(quota, wait) {
                    assert_eq!(reach(&facts), (Class::Exhausted, scope, Some(rest)), "{facts:?}");
                }
            }
        }
    }

    #[test]
    fn a_wait_that_is_named_inside_a_stream_becomes_the_cool_off() {
        let body = r#"{"error":{"status":"RESOURCE_EXHAUSTED","message":"m","details":[{"retryDelay":"37s"}]}}"#;
        let facts = exchange().status(200).streaming().body(body);
        assert_eq!(reach(&facts), (Class::Throttled, Scope::Model, Some(SECONDS(37))));
    }
}
