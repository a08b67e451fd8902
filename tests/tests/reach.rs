//! How far a verdict reaches: no further than what the provider said, and in its own words.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::json;
use spillway_tests::asks::{APIS, Api, chat_by, chat_with};
use spillway_tests::http::Response;
use spillway_tests::provider::{
    Failure, Provider, Reply, fail, healthy, insufficient_quota, model, rate_limited, respond, stall,
};
use spillway_tests::spillway::{Setup, Spillway};
use spillway_tests::wait::eventually;
use std::time::{Duration, Instant};

const OPEN: &str = "spillway_circuit_open";

/// The circuit of each upstream opens at the first failure, and stays so.
fn brittle(provider: &Provider) -> Setup {
    APIS.iter().fold(Setup::with(provider), |setup, api| {
        let upstream = format!("upstreams.{}", api.name);
        let breaker = "consecutive_failures = 1\ncooldown = \"20s\"\ncooldown_max = \"20s\"";
        setup.set(&format!("{upstream}.retry"), "max_attempts = 1").set(&format!("{upstream}.breaker"), breaker)
    })
}

/// It is answered at once, by one call.
#[track_caller]
fn is_well(spillway: &Spillway, provider: &Provider, api: Api, model: &str) {
    let (calls, began) = (provider.stats().started, Instant::now());
    let answer = spillway.send(&(api.of_model)(model));
    assert_eq!(answer.status(), 200, "{}, {model}: {}", api.name, answer.text());
    assert_eq!(provider.stats().started, calls + 1, "{}, {model}", api.name);
    assert!(began.elapsed() < Duration::from_millis(500), "{}, {model} waited {:?}", api.name, began.elapsed());
}

#[test]
fn a_limit_of_one_model_holds_for_no_other() {
    let limits = [rate_limited().retry_after_s(300), rate_limited().retry_after_s(300), insufficient_quota()];
    let minutes = rate_limited().retry_after_s(300);
    // Gemini names both kinds per model: so many a minute, and so many a day.
    let gemini = APIS[2];
    for (api, limit) in APIS.into_iter().zip(limits).chain([(gemini, minutes)]) {
        let provider = Provider::start();
        let spillway = Setup::with(&provider).start();
        provider.when(model("big"), limit);
        assert_eq!(spillway.send(&(api.of_model)("big")).status(), 429, "{}", api.name);
        is_well(&spillway, &provider, api, "small");
        let calls = provider.stats().started;
        let refused = spillway.send(&(api.of_model)("big"));
        assert_eq!(refused.status(), 429, "{}: {}", api.name, refused.text());
        assert!(refused.refusal().is_some(), "{}: {:?}", api.name, refused.head);
        assert_eq!(provider.stats().started, calls, "{}: its own limit still holds", api.name);
        is_well(&spillway, &provider, api, "small");
    }
}

#[test]
fn a_failure_belongs_to_its_model() {
    for api in APIS {
        for status in [500, 503] {
            let provider = Provider::start();
            let spillway = Setup::with(&provider).start();
            provider.when(model("sick"), fail(Failure::ServerError).status(status));
            for _ in 0..3 {
                // Two in a row, which are tried several times each.
                for _ in 0..2 {
                    spillway.send(&(api.of_model)("sick"));
                }
                is_well(&spillway, &provider, api, "well");
            }
        }
    }
}

/// As OpenRouter says it.
fn too_much_for_the_balance() -> Reply {
    let message = "This request requires more credits, or fewer max_tokens. You requested up to 65536 tokens, but can \
                   only afford 1021. To increase, visit https://openrouter.ai/settings/credits and upgrade to a paid \
                   account";
    respond(402).json(json!({"error": {"message": message, "code": 402, "metadata": {"provider_name": null}}}))
}

#[test]
fn a_request_that_the_balance_does_not_afford_shuts_the_key_for_no_smaller_one() {
    for policy in [None, Some("default"), Some("quota-aware")] {
        let provider = Provider::start();
        let setup = policy.into_iter().fold(Setup::with(&provider), |setup, policy| {
            setup.policy(policy).set("upstreams.openai", &format!("policy = \"{policy}\""))
        });
        let spillway = setup.start();
        provider.next(too_much_for_the_balance());
        let refused = spillway.send(&chat_with(json!({"max_tokens": 65_536})));
        assert_eq!((refused.status(), refused.refusal()), (402, None), "{policy:?}: as the provider said it");
        let small = spillway.send(&chat_with(json!({"max_tokens": 500})));
        assert_eq!(small.status(), 200, "{policy:?}: {}", small.text());
        assert_eq!(provider.stats().started, 2, "{policy:?}");
    }
}

/// Status, kind and code: what an SDK makes its exception of.
fn raised(api: Api, answer: &Response) -> (u16, String, String) {
    (answer.status(), answer.at(api.kind), answer.at(api.code))
}

#[test]
fn a_refusal_raises_what_the_providers_answer_raised_and_says_whose_it_is() {
    for status in [500, 504] {
        let provider = Provider::start();
        let spillway = brittle(&provider).start();
        for api in APIS {
            provider.next(fail(Failure::ServerError).status(status));
            let provider_said = spillway.send(&(api.whole)());
            assert_eq!(provider_said.refusal(), None, "{}: the provider's own", api.name);
            let calls = provider.stats().started;
            let refused = spillway.send(&(api.whole)());
            assert_eq!(refused.refusal(), Some(OPEN), "{}: {}", api.name, refused.text());
            assert_eq!(raised(api, &refused), raised(api, &provider_said), "{}: {}", api.name, refused.text());
            assert_eq!(provider.stats().started, calls);
            let (message, quoted) = (refused.at("/error/message"), provider_said.at("/error/message"));
            assert!(message.contains("Spillway") && message.contains(&quoted), "{}: {message}", api.name);
            let wait_s = refused.retry_after_s().expect("a Retry-After");
            assert!((15..=24).contains(&wait_s), "{}: Retry-After: {wait_s}", api.name);
        }
    }
}

#[test]
fn only_a_caller_that_can_take_a_promise_is_told_of_it_and_only_where_one_would_be_made() {
    let provider = Provider::start();
    let keeps = brittle(&provider).start();
    let keeps_nothing = brittle(&provider).set("spool", "enabled = false").start();
    provider.always(fail(Failure::ServerError));
    let message = |spillway: &Spillway, name: &str, value: &str| {
        let refused = spillway.send(&chat_with(json!({})).header(name, value));
        assert_eq!(refused.refusal(), Some(OPEN), "{name}: {value}: {}", refused.text());
        refused.at("/error/message")
    };
    for spillway in [&keeps, &keeps_nothing] {
        spillway.send(&chat_with(json!({})));
    }
    assert!(message(&keeps, "user-agent", "curl/8.14.1").contains("`Prefer: respond-async`"));
    let sdks = [
        ("x-stainless-lang", "python", "max_retries"),
        ("x-stainless-lang", "js", "maxRetries"),
        ("x-goog-api-client", "google-genai-sdk/1.52.0 gl-python/3.13.1", "retry_options"),
        ("user-agent", "ai/6.0.14 ai-sdk/provider-utils/4.0.3", "maxRetries"),
        ("user-agent", "litellm/1.80.0", "Have your SDK try again"),
    ];
    for (name, value, words) in sdks {
        let told = message(&keeps, name, value);
        assert!(told.contains(words) && !told.contains("Prefer"), "{value}: {told}");
    }
    let told = message(&keeps_nothing, "user-agent", "curl/8.14.1");
    assert!(told.contains("[routes]") && !told.contains("Prefer"), "{told}");
}

#[test]
fn where_there_was_no_answer_a_refusal_says_that_the_circuit_is_open() {
    let provider = Provider::start();
    let spillway = brittle(&provider).start();
    provider.stop();
    for (api, status) in APIS.into_iter().zip([503, 529, 503]) {
        assert_eq!(spillway.send(&(api.whole)()).status(), 502, "{}", api.name);
        let refused = spillway.send(&(api.whole)());
        assert_eq!((refused.status(), refused.refusal()), (status, Some(OPEN)), "{}: {}", api.name, refused.text());
        assert_eq!(refused.at(api.code), OPEN, "{}", api.name);
    }
}

#[test]
fn a_spent_quota_is_said_each_time_as_the_provider_said_it() {
    for api in APIS {
        let provider = Provider::start();
        let spillway = Setup::with(&provider).start();
        provider.always(insufficient_quota());
        let first = spillway.send(&(api.whole)());
        assert_eq!((first.status(), first.refusal()), (429, None), "{}", api.name);
        for _ in 0..3 {
            let next = spillway.send(&(api.whole)());
            assert_eq!(raised(api, &next), raised(api, &first), "{}: {}", api.name, next.text());
            assert!(next.refusal().is_some(), "{}: {:?}", api.name, next.head);
            assert_eq!(next.header("x-should-retry"), Some("false"), "{}", api.name);
            let message = next.at("/error/message");
            assert!(message.contains("Spillway") && message.contains("your quota is spent"), "{}: {message}", api.name);
        }
        assert_eq!(provider.stats().started, 1, "{}: nobody else was asked", api.name);
    }
}

#[test]
fn money_is_spent_for_every_model_of_its_key() {
    for api in [APIS[0], APIS[1]] {
        let provider = Provider::start();
        let spillway = Setup::with(&provider).start();
        provider.next(insufficient_quota());
        assert_eq!(spillway.send(&(api.of_model)("big")).status(), 429);
        let refused = spillway.send(&(api.of_model)("small"));
        assert_eq!(refused.status(), 429, "{}: {}", api.name, refused.text());
        assert_eq!(provider.stats().started, 1, "{}", api.name);
    }
}

/// A spent key is asked about once in ten seconds whether it still is.
fn topping_up_is_noticed(restarts: bool) {
    let provider = Provider::start();
    let mut spillway = Setup::with(&provider).start();
    provider.always(insufficient_quota());
    let began = Instant::now();
    assert_eq!(spillway.send(&chat_by("poor")).status(), 429);
    if restarts {
        let kept = spillway.folder().join("spillway-data/circuits.json");
        eventually("it is on disk", || {
            std::fs::read_to_string(&kept).ok().filter(|text| text.contains("\"credential\""))
        });
        spillway.restart();
    }
    assert_eq!(spillway.send(&chat_by("poor")).status(), 429);
    provider.always(healthy());
    eventually("the key is served again", || (spillway.send(&chat_by("poor")).status() == 200).then_some(()));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "after {took:?} only");
    // The call that was refused, perhaps a probe, and the call that was served.
    let calls = provider.stats().started;
    assert!((2..=3).contains(&calls), "{calls} calls in {took:?}");
    assert!(took >= Duration::from_secs(5), "{took:?} is not once in a while");
}

#[test]
fn topping_up_is_noticed_within_seconds() {
    topping_up_is_noticed(false);
}

#[test]
fn topping_up_is_noticed_also_after_a_restart() {
    topping_up_is_noticed(true);
}

#[test]
fn every_refusal_of_spillways_own_names_itself_in_a_header_and_no_answer_of_the_providers_does() {
    let provider = Provider::start();
    let setup = APIS.iter().fold(Setup::with(&provider).set("server", "max_body = \"2KiB\""), |setup, api| {
        let upstream = format!("upstreams.{}", api.name);
        setup
            .set(&upstream, "first_content_timeout = \"200ms\"")
            .set(&format!("{upstream}.limits"), "patience = \"0s\"\nrequests_per_minute = 3")
            .set(&format!("{upstream}.retry"), "max_attempts = 1")
    });
    let spillway = setup.start();
    let is = |api: Api, answer: &Response, status: u16, refusal: &str| {
        let named = (answer.status(), answer.refusal().unwrap_or_default());
        assert_eq!(named, (status, refusal), "{}: {}", api.name, answer.text());
    };
    for api in APIS {
        provider.next(fail(Failure::ContextLengthExceeded));
        is(api, &spillway.send(&(api.whole)()), 400, "");
        is(api, &spillway.send(&(api.whole)().body(vec![b' '; 3 << 10])), 413, "spillway_body_too_large");
        provider.next(stall());
        is(api, &spillway.send(&(api.whole)()), 504, "spillway_upstream_timeout");
        let mut answers = (0..4).map(|_| spillway.send(&(api.whole)()));
        let limited = answers.find(|answer| answer.status() != 200).expect("three a minute at most");
        is(api, &limited, 429, "rate_limit_exceeded");
    }
}
