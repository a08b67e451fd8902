//! What providers answer and how they fail, for policies to be tried on.

use crate::observe::recording::phase_as_str;
use spillway_sdk::testing::{ExchangeBuilder, WindowBuilder, exchange, window};
use spillway_sdk::{Fault, Phase};
use std::time::Duration;

/// What is asked about, and its name.
pub(super) type Case<T> = (String, T);

/// Statuses with nothing to go by but themselves; some that no provider should send are among them.
const STATUSES: [u16; 26] = [
    100, 200, 201, 204, 302, 304, 400, 401, 402, 403, 404, 405, 408, 409, 413, 418, 422, 424, 425, 429, 500, 502, 503,
    504, 529, 999,
];

/// API, status, and the error that a provider of it answers, or that a server which imitates it does.
const ERRORS: [(&str, u16, &str); 30] = [
    (
        "openai",
        400,
        r#"{"error":{"message":"This model's maximum context length is 8192 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
    ),
    (
        "openai",
        401,
        r#"{"error":{"message":"Incorrect API key provided.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
    ),
    (
        "openai",
        404,
        r#"{"error":{"message":"The model does not exist.","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
    ),
    (
        "openai",
        429,
        r#"{"error":{"message":"Rate limit reached for requests.","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#,
    ),
    (
        "openai",
        429,
        r#"{"error":{"message":"You exceeded your current quota.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
    ),
    (
        "openai",
        429,
        r#"{"error":{"message":"Your traffic grew too fast.","type":"slow_down","param":null,"code":"slow_down"}}"#,
    ),
    (
        "openai",
        500,
        r#"{"error":{"message":"The server had an error.","type":"server_error","param":null,"code":null}}"#,
    ),
    (
        "openai",
        503,
        r#"{"error":{"message":"The engine is currently overloaded.","type":"server_error","param":null,"code":"server_is_overloaded"}}"#,
    ),
    ("openai", 503, r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#),
    ("openai", 404, r#"{"error":"model 'llama' not found"}"#),
    ("openai", 500, r#"{"object":"error","message":"worker died","type":"InternalServerError","code":500}"#),
    ("openai", 424, r#"{"error":"Request failed during generation","error_type":"generation"}"#),
    ("openai", 402, r#"{"error":{"code":402,"message":"Insufficient credits."}}"#),
    ("openai", 200, r#"{"error":{"code":"engine_error","message":"worker died"}}"#),
    ("openai", 200, r#"{"id":"x","choices":[]}"#),
    (
        "anthropic",
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: Field required"}}"#,
    ),
    (
        "anthropic",
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}"#,
    ),
    ("anthropic", 401, r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#),
    ("anthropic", 402, r#"{"type":"error","error":{"type":"billing_error","message":"Payment required."}}"#),
    ("anthropic", 403, r#"{"type":"error","error":{"type":"permission_error","message":"Not allowed."}}"#),
    (
        "anthropic",
        429,
        r#"{"type":"error","error":{"type":"rate_limit_error","message":"Number of requests has exceeded your rate limit."}}"#,
    ),
    ("anthropic", 500, r#"{"type":"error","error":{"type":"api_error","message":"Internal server error"}}"#),
    ("anthropic", 529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#),
    (
        "gemini",
        400,
        r#"{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#,
    ),
    ("gemini", 403, r#"{"error":{"code":403,"message":"Permission denied.","status":"PERMISSION_DENIED"}}"#),
    (
        "gemini",
        429,
        r#"{"error":{"code":429,"message":"Quota exceeded.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel"}]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"37s"}]}}"#,
    ),
    (
        "gemini",
        429,
        r#"{"error":{"code":429,"message":"Quota exceeded.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel"}]}]}}"#,
    ),
    ("gemini", 500, r#"{"error":{"code":500,"message":"Internal error.","status":"INTERNAL"}}"#),
    ("gemini", 503, r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#),
    ("other", 429, r#"{"message":"Too many tokens, please wait before trying again.","__type":"ThrottlingException"}"#),
];

/// Errors that arrive inside a stream, after a 200.
const STREAM_ERRORS: [(&str, &str); 4] = [
    ("openai", r#"{"error":{"message":"Rate limit reached","type":"tokens","code":"rate_limit_exceeded"}}"#),
    (
        "openai",
        r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"The model failed."}}}"#,
    ),
    ("anthropic", r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#),
    ("gemini", r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#),
];

/// Forms in which a wait is asked for, and some that are none.
const WAITS: [(&str, &str); 6] = [
    ("retry-after", "2"),
    ("retry-after", "99999999"),
    ("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"),
    ("retry-after", "soon"),
    ("retry-after-ms", "120"),
    ("x-should-retry", "false"),
];

/// A whole answer with the headers that providers send, and an ordinary refusal.
pub(super) fn typical() -> [Case<ExchangeBuilder>; 2] {
    let headers = |exchange: ExchangeBuilder| {
        [
            ("content-type", "application/json"),
            ("date", "Fri, 01 Aug 2025 12:00:00 GMT"),
            ("openai-processing-ms", "431"),
            ("x-request-id", "req_0123456789abcdef"),
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "499"),
            ("x-ratelimit-limit-tokens", "90000"),
            ("x-ratelimit-remaining-tokens", "87123"),
        ]
        .into_iter()
        .fold(exchange.model("a-model"), |exchange, (name, value)| exchange.header(name, value))
    };
    let answer = r#"{"id":"chatcmpl-1","object":"chat.completion","model":"a-model","choices":[{"index":0,"message":{"role":"assistant","content":"Hello! How can I help you today?"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":9,"total_tokens":18}}"#;
    [
        (
            "an answer".to_owned(),
            headers(exchange().status(200).body(answer)).first_content(Duration::from_millis(430)),
        ),
        ("a 429".to_owned(), headers(exchange().status(429).body(ERRORS[3].2)).header("retry-after", "2")),
    ]
}

/// Everything a policy is tried on.
pub(super) fn all() -> Vec<Case<ExchangeBuilder>> {
    let mut cases: Vec<Case<ExchangeBuilder>> = typical().into();
    let mut add = |name: String, exchange: ExchangeBuilder| cases.push((name, exchange));
    for status in STATUSES {
        add(format!("a bare {status}"), exchange().status(status));
    }
    for (dialect, status, body) in ERRORS {
        let said = spillway_sdk::ProviderError::parse(body.as_bytes());
        let word = said.and_then(|error| error.code.or(error.kind)).unwrap_or_else(|| "no code".to_owned());
        add(format!("{dialect} {status} {word}"), exchange().dialect(dialect).status(status).body(body));
    }
    for (dialect, event) in STREAM_ERRORS {
        let stream = exchange().dialect(dialect).status(200).streaming().body(event);
        add(format!("{dialect} stream with an error"), stream);
    }
    for (name, value) in WAITS {
        for status in [429, 503] {
            add(format!("{status} with {name}: {value}"), exchange().status(status).header(name, value));
        }
    }
    for fault in Fault::ALL {
        for phase in [Phase::Connecting, Phase::Waiting, Phase::BeforeContent, Phase::Committed] {
            let mut failed = exchange().fault(fault);
            if matches!(phase, Phase::BeforeContent | Phase::Committed) {
                failed = failed.status(200);
            }
            add(format!("{}, {}", fault.as_str(), phase_as_str(phase)), failed.phase(phase));
        }
    }
    for number in [2, 3, u32::MAX] {
        add(format!("a 500 at attempt {number}"), exchange().status(500).number(number));
    }
    let long = Duration::from_secs(590);
    add("a slow answer".to_owned(), exchange().status(200).elapsed(long).first_content(long));
    add("a 500 with no time left".to_owned(), exchange().status(500).remaining(Duration::ZERO));
    // What no provider should send, and some server will.
    for (name, body) in [
        ("nothing but brackets", "[".repeat(8 << 10).into_bytes()),
        ("bytes that are no text", vec![0xff; 8 << 10]),
        ("an error of the wrong type", br#"{"error":[1,{"code":{}}]}"#.to_vec()),
        ("an error cut off", br#"{"error":{"code":"rate_lim"#.to_vec()),
        ("a page of HTML", b"<html><body>502 Bad Gateway</body></html>".to_vec()),
    ] {
        for status in [200, 500] {
            add(format!("a {status} with {name}"), exchange().status(status).body(body.clone()));
        }
    }
    add("a header that is no text".to_owned(), exchange().status(503).header("retry-after", vec![0xff, 0x00]));
    add("nothing at all".to_owned(), exchange());
    cases
}

/// What a circuit can look like.
pub(super) fn windows() -> Vec<Case<WindowBuilder>> {
    let slow = || [100, 200, 30_000].map(Duration::from_millis);
    vec![
        ("an empty window".to_owned(), window()),
        ("one failure".to_owned(), window().calls(1, 1).consecutive_failures(1)),
        ("nothing but successes".to_owned(), window().calls(100, 0).latencies(slow())),
        ("every second call failed".to_owned(), window().calls(100, 50).consecutive_failures(1).latencies(slow())),
        ("nothing but failures".to_owned(), window().calls(100, 100).consecutive_failures(100).thresholds_crossed()),
        ("many overloads".to_owned(), window().calls(100, 60).overloads(60).latencies(slow())),
        ("many throttles".to_owned(), window().calls(100, 0).throttles(90)),
        ("slow calls".to_owned(), window().calls(100, 0).slow_calls(90).latencies([Duration::from_secs(60)])),
        ("stalled calls".to_owned(), window().in_flight(1_000, Duration::from_secs(600))),
        ("a circuit that opened often".to_owned(), window().calls(1, 1).consecutive_openings(u32::MAX)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_sdk::{Class, builtin};
    use std::collections::BTreeSet;

    #[test]
    fn the_cases_reach_every_class_of_the_built_in_policy() {
        let seen: BTreeSet<&str> =
            all().iter().map(|(_, facts)| builtin::classify(&facts.exchange()).class.as_str()).collect();
        assert_eq!(seen, Class::ALL.iter().map(|class| class.as_str()).collect());
    }
}
