//! What a provider sends is what a policy sees: each getter asked from within Wasm, in the real proxy.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use serde_json::json;
use spillway_tests::asks::{APIS, chat, chat_stream, message, message_stream};
use spillway_tests::http::Request;
use spillway_tests::provider::{Provider, Reply, healthy, respond, stream};
use spillway_tests::spillway::{Setup, Spillway};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A Spillway whose attempts are judged by a policy that says what it sees.
fn witnessed(provider: &Provider) -> Spillway {
    let mut setup = Setup::with(provider).policy("witness");
    for upstream in APIS.map(|api| api.name) {
        setup = setup.set(&format!("upstreams.{upstream}"), "policy = \"witness\"");
        setup = setup.set(&format!("upstreams.{upstream}.retry"), "max_attempts = 1");
        // An open circuit would keep the later attempts from being made.
        setup = setup.set(&format!("upstreams.{upstream}.breaker"), "watch_only = true");
    }
    setup.start()
}

/// What the policy says of this answer to this request, as the request's line in the log has it.
fn seen(provider: &Provider, spillway: &Spillway, ask: &Request, answer: Reply, look: &str) -> String {
    let id = format!("request-{}", provider.stats().started);
    provider.next(answer.header("x-look", look));
    let (_, mut connection) = spillway.open(&ask.clone().header("x-request-id", &id));
    // However the answer ends: the line is written then.
    let _ = connection.events();
    let line = spillway.log().wait_for(&["\"message\":\"request\"", &format!("\"request_id\":\"{id}\"")]);
    assert!(line["policy"].as_str().is_some_and(|by| by.starts_with("witness@")), "{line}");
    let why = line["why"].as_str().unwrap();
    let (begin, end) = (why.find('(').expect("a reason") + 1, why.rfind(')').expect("a reason"));
    why[begin..end].to_owned()
}

#[test]
fn a_value_at_a_pointer_in_an_errors_body_is_what_the_provider_wrote_there() {
    let provider = Provider::start();
    let spillway = witnessed(&provider);
    let error = json!({"error": {
        "code": "busy", "param": null, "details": [{"reason": "region drained", "queue": [7, 9.5]}], "a/b": true,
    }});
    for (pointer, value) in [
        ("/error/code", "busy"),
        ("/error/details/0/reason", "region drained"),
        ("/error/details/0/queue/1", "9.5"),
        ("/error/details/0", r#"{"reason":"region drained","queue":[7,9.5]}"#),
        ("/error/a~1b", "true"),
        ("/error/param", "nothing"),
        ("/error/details/1", "nothing"),
    ] {
        let answer = respond(503).json(error.clone());
        assert_eq!(seen(&provider, &spillway, &chat(), answer, pointer), value, "{pointer}");
    }
    let answer = respond(503).body("busy");
    assert_eq!(seen(&provider, &spillway, &chat(), answer, "/error/code"), "nothing");
}

#[test]
fn in_a_stream_the_pointer_leads_into_its_error_event() {
    let provider = Provider::start();
    let spillway = witnessed(&provider);
    let error = json!({"code": "busy", "message": "no", "details": [{"reason": "region drained", "queue": [7, 9]}]});
    for (pointer, value) in
        [("/error/details/0/reason", "region drained"), ("/error/details/0/queue", "[7,9]"), ("/message/id", "nothing")]
    {
        let openai = stream().chunk(": hello\n\n").event(json!({"error": error}));
        assert_eq!(seen(&provider, &spillway, &chat_stream(), openai, pointer), value, "{pointer}");
        let preamble = json!({"type": "message_start", "message": {"id": "msg_1", "content": []}});
        let anthropic = stream().named_event("message_start", preamble);
        let anthropic = anthropic.named_event("error", json!({"type": "error", "error": error}));
        assert_eq!(seen(&provider, &spillway, &message_stream(), anthropic, pointer), value, "{pointer}");
    }
}

#[test]
fn the_limits_on_requests_and_tokens_are_those_of_the_answers_headers() {
    let provider = Provider::start();
    let spillway = witnessed(&provider);
    let openai = healthy()
        .header("x-ratelimit-limit-requests", "500")
        .header("x-ratelimit-remaining-requests", "499")
        .header("x-ratelimit-reset-requests", "120ms")
        .header("x-ratelimit-limit-tokens", "30000")
        .header("x-ratelimit-remaining-tokens", "0")
        .header("x-ratelimit-reset-tokens", "6m0s");
    let said = "requests: 499 of 500, reset 120 ms; tokens: 0 of 30000, reset 360000 ms";
    assert_eq!(seen(&provider, &spillway, &chat(), openai, "limits"), said);

    let anthropic = healthy()
        .header("anthropic-ratelimit-tokens-limit", "80000")
        .header("anthropic-ratelimit-tokens-remaining", "79000")
        .header("anthropic-ratelimit-tokens-reset", "2025-08-21T12:40:59Z");
    let said = "requests: none; tokens: 79000 of 80000, reset 0 ms";
    assert_eq!(seen(&provider, &spillway, &message(), anthropic, "limits"), said, "that moment has passed");
    let openai = healthy().header("x-ratelimit-limit-requests", "5").header("x-ratelimit-remaining-requests", "1");
    let said = "requests: 1 of 5, reset unknown; tokens: none";
    assert_eq!(seen(&provider, &spillway, &chat(), openai, "limits"), said);
}

#[test]
fn the_time_is_that_of_the_attempts_end() {
    let provider = Provider::start();
    let spillway = witnessed(&provider);
    let now_ms = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let takes = Duration::from_millis(200);
    let before = now_ms();
    let said = seen(&provider, &spillway, &chat(), healthy().delay(takes), "clock");
    let after = now_ms();
    let time: u128 = said.parse().unwrap();
    // Far beyond its beginning, and with room for what is rounded down on the way.
    assert!((before + takes.as_millis() / 2..=after).contains(&time), "{time} is not between {before} and {after}");
}

#[test]
fn a_policy_may_take_for_an_answer_what_holds_none() {
    let provider = Provider::start();
    let spillway = witnessed(&provider);
    for (api, empty) in APIS.into_iter().zip([r#"{"choices":[]}"#, r#"{"content":[]}"#, "{}"]) {
        provider
            .next(respond(200).header("x-look", "the bright side").json(serde_json::from_str(empty).expect("JSON")));
        let answer = spillway.send(&(api.whole)());
        assert_eq!((answer.status(), answer.header("x-spillway-attempts"), &*answer.text()), (200, Some("1"), empty));
        assert_eq!(spillway.circuit(api.name), "closed");
    }
    assert_eq!(provider.stats().started, 3);
}
