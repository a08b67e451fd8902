//! The built-in judgement, once native and once as a Wasm module: the same in all that providers may answer. The
//! policies come from the harness of the end-to-end tests, which is Linux's.
#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use proptest::prelude::*;
use spillway::policy::{Instance, Judge, Limits, Registry, Role, Runtime, Sha256Sum};
use spillway::runtime::clock::Clock;
use spillway_sdk::testing::{ExchangeBuilder, exchange};
use spillway_sdk::{Advice, Class, Fault, Phase, RetryDecision, Scope, Verdict, builtin};
use spillway_tests::spillway::policy_file;
use std::fs;
use std::rc::Rc;
use std::time::Duration;

/// Codes and kinds that the judgement knows, and some that it does not.
const WORDS: [&str; 27] = [
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_usage_limit_exceeded",
    "billing_error",
    "billing_hard_limit_reached",
    "exceeded_current_quota_error",
    "pre_consume_token_quota_failed",
    "slow_down",
    "server_is_overloaded",
    "overloaded_error",
    "service_unavailable_error",
    "unavailable_error",
    "rate_limit_exceeded",
    "rate_limit_error",
    "rate_limit_reached_error",
    "RESOURCE_EXHAUSTED",
    "ThrottlingException",
    "invalid_request_error",
    "context_length_exceeded",
    "request_too_large",
    "not_found_error",
    "INVALID_ARGUMENT",
    "server_error",
    "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
    "GenerateRequestsPerDayPerProject",
    "GenerateRequestsPerMinutePerProject",
    "",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![8 => prop::sample::select(&WORDS[..]).prop_map(str::to_owned), 1 => "\\PC{0,20}"]
}

fn message() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("Loading model".to_owned()),
        Just("Model is overloaded, try again later".to_owned()),
        Just("The server is overloaded".to_owned()),
        Just("You requested up to 65535 tokens, but can only afford 3025".to_owned()),
        Just("Your prepayment credits are depleted".to_owned()),
        Just("Your account reached organization max RPM: 3".to_owned()),
        "\\PC{0,40}",
        // Longer than the bound on messages, with ends that fall into characters.
        "[é漢x]{500,520}",
    ]
}

/// The error bodies of each dialect, bodies that are broken, and bodies that say nothing.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let said = (word(), word(), message(), 0_u32..90_000);
    let error = (said, 0..9).prop_map(|((code, kind, message, wait_ms), dialect)| {
        use serde_json::json;
        let wait = format!("{}.{:03}s", wait_ms / 1_000, wait_ms % 1_000);
        let body = match dialect {
            0 => json!({"error": {"message": message, "type": kind, "param": null, "code": code}}),
            1 => json!({"type": "error", "error": {"type": kind, "message": message, "details": {"error_code": code}}}),
            2 => json!({"error": {"code": 429, "status": code, "message": message, "details": [
                    {"violations": [{"quotaId": kind}]}, {"retryDelay": wait}]}}),
            3 => json!([{"error": {"code": 503, "status": code, "message": message}}]),
            4 => json!({"object": "error", "message": message, "type": kind, "code": 400}),
            5 => json!({"error": message, "error_type": kind}),
            6 => json!({"type": "response.failed", "response": {"error": {"code": code, "message": message}}}),
            7 => json!({"type": "error", "code": code, "message": message}),
            _ => json!({"choices": [{"message": {"content": message}}]}),
        };
        body.to_string().into_bytes()
    });
    let error = error.boxed();
    let cut =
        (error.clone(), any::<prop::sample::Index>()).prop_map(|(body, at)| body[..at.index(body.len())].to_vec());
    prop_oneof![6 => error, 1 => cut, 1 => prop::collection::vec(any::<u8>(), 0..64), 1 => Just(Vec::new())]
}

fn header() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    // Dates lie so far away that the answer does not depend on the second in which it is given.
    let waits = prop_oneof![
        "[0-9]{1,6}",
        "[0-9]{1,4}\\.[0-9]{1,3}",
        "-?[0-9]{1,3}s?",
        Just("Sun, 06 Nov 1994 08:49:37 GMT".to_owned()),
        Just("Fri, 31 Dec 2399 23:59:59 GMT".to_owned()),
        Just("inf".to_owned()),
    ]
    .prop_map(String::into_bytes);
    let waits = prop_oneof![8 => waits, 1 => prop::collection::vec(any::<u8>(), 0..12)];
    let names = prop::sample::select(vec!["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens"]);
    let retry = prop::sample::select(vec!["true", "false", "FALSE", "\u{fc}"]);
    prop_oneof![4 => (names, waits), 1 => retry.prop_map(|value| ("x-should-retry", value.as_bytes().to_vec()))]
}

prop_compose! {
    fn any_exchange()(
        status in prop_oneof![
            1 => Just(None),
            4 => prop::sample::select(vec![200, 204, 400, 401, 402, 403, 404, 408, 409, 413, 424, 429, 500, 502, 503, 529])
                .prop_map(Some),
            1 => (100_u16..600).prop_map(Some),
        ],
        fault in prop::option::weighted(0.2, prop::sample::select(&Fault::ALL[..])),
        phase in prop::sample::select(vec![Phase::Connecting, Phase::Waiting, Phase::BeforeContent, Phase::Committed]),
        dialect in prop::sample::select(vec!["openai", "anthropic", "gemini", "other"]),
        model in prop::option::of("\\PC{0,20}"),
        streaming in any::<bool>(),
        headers in prop::collection::vec(header(), 0..4),
        body in body(),
        random in any::<u64>(),
    ) -> ExchangeBuilder {
        let mut facts = exchange().dialect(dialect).body(body).random(random);
        facts = if let Some(status) = status { facts.status(status) } else { facts };
        facts = if let Some(fault) = fault { facts.fault(fault) } else { facts };
        facts = if let Some(model) = model { facts.model(model) } else { facts };
        facts = if streaming { facts.streaming() } else { facts };
        headers.into_iter().fold(facts.phase(phase), |facts, (name, value)| facts.header(name, value))
    }
}

fn judge_with(policy: &str) -> (Judge, std::sync::Arc<spillway::policy::Slot>, Registry) {
    let file = fs::read(policy_file(policy)).unwrap();
    let sha256 = Sha256Sum::of(&file);
    let module = Runtime::start(None).unwrap().load(&file, sha256, policy, "{}", Limits::STANDARD).unwrap();
    let clock = Clock::start();
    let registry = Registry::new(clock);
    registry.install(policy, Role::Active, sha256, module);
    (Judge::new(clock), registry.slot(policy), registry)
}

#[test]
fn the_default_policy_judges_in_wasm_as_spillway_does_natively() {
    let (judge, slot, registry) = judge_with("default");
    let judge = std::cell::RefCell::new(judge);
    let mut seen = std::collections::BTreeMap::<&str, u32>::new();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 4_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let seen_cell = std::cell::RefCell::new(&mut seen);
    let outcome = runner.run(&any_exchange(), |facts| {
        let native = builtin::classify(&facts.exchange());
        let judged = judge.borrow_mut().classify(&slot, Rc::new(facts));
        prop_assert!(judged.by.label.starts_with("default@"), "the module did not answer");
        // What the contract says of durations is in milliseconds.
        let cool_off = native.cool_off.map(|cool_off| Duration::from_millis(cool_off.as_millis().try_into().unwrap()));
        *seen_cell.borrow_mut().entry(native.class.as_str()).or_default() += 1;
        prop_assert_eq!(judged.verdict, Verdict { cool_off, ..native });
        Ok(())
    });
    outcome.unwrap();
    assert_eq!(registry.status()[0].faults, 0);
    let classes: Vec<&str> =
        Class::ALL.iter().map(|class| class.as_str()).filter(|class| !seen.contains_key(class)).collect();
    assert!(classes.is_empty(), "never generated: {classes:?}");
}

/// What is left of a reason behind the border.
fn kept(reason: &str) -> String {
    let mut kept = String::new();
    for character in reason.chars().map(|character| if character.is_control() { ' ' } else { character }) {
        if kept.len() + character.len_utf8() > Instance::REASON_BYTES_MAX {
            break;
        }
        kept.push(character);
    }
    kept
}

#[test]
fn every_verdict_survives_the_border_in_both_directions() {
    let (judge, slot, registry) = judge_with("hostile-hooks");
    let judge = std::cell::RefCell::new(judge);
    let scopes = [Scope::Upstream, Scope::Model, Scope::Credential];
    let advices = [Advice::Retry, Advice::NextUpstream, Advice::GiveUp];
    let reason = prop_oneof!["\\PC{0,40}", "[aé漢🦀]{45,110}", "[\u{0}-\u{20}x]{0,20}"];
    let verdicts = (0..Class::ALL.len(), 0..3_usize, 0..3_usize, any::<Option<u64>>(), reason);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&verdicts, |(class, scope, advice, cool_off_ms, reason)| {
        let cool_off = cool_off_ms.map_or_else(|| "none".to_owned(), |ms| ms.to_string());
        let dictated = format!("{scope} {advice} {class} {cool_off}");
        let facts: Rc<ExchangeBuilder> = Rc::new(exchange().header("x-verdict", dictated).body(reason.clone()));
        let meant = Verdict {
            class: Class::ALL[class],
            scope: scopes[scope],
            advice: advices[advice],
            cool_off: cool_off_ms.map(Duration::from_millis),
            reason: kept(&reason).into(),
        };
        let judged = judge.borrow_mut().classify(&slot, facts.clone());
        prop_assert_eq!(&judged.verdict, &meant);
        // The other way nothing is cut: a policy is told of its own verdict, or of the built-in policy's.
        let whole = Verdict { reason: reason.into(), ..meant };
        let decision = judge.borrow_mut().backoff(&slot, facts, &whole);
        prop_assert_eq!(decision, Some(RetryDecision::GiveUp), "backoff was told of another verdict");
        Ok(())
    });
    outcome.unwrap();
    assert_eq!(registry.status()[0].faults, 0);
}
