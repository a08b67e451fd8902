//! Guards against runaway agents: each stops a program that goes on and on, in the words of the API that it calls, and
//! no SDK makes a storm of that.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::{Value, json};
use spillway_tests::asks::{APIS, Api, KEY, chat, chat_with};
use spillway_tests::callers::{Caller, Habit};
use spillway_tests::commands::{ended, well};
use spillway_tests::http::{Request, Response, post};
use spillway_tests::provider::{Failure, Provider, fail, healthy};
use spillway_tests::spillway::{Setup, Spillway, binary, run_to_end};
use spillway_tests::wait::{DEADLINE, eventually, within};
use std::path::Path;
use std::process::Command;

fn guarded(provider: &Provider, guards: &str) -> Spillway {
    Setup::with(provider).set("guards", guards).start()
}

/// What an agent sends in its so-many-th turn, each longer than the last.
fn turn(api: &Api, number: usize, streaming: bool) -> Request {
    let text = |turn: usize| if turn == 0 { "Mend the tests.".to_owned() } else { format!("That was step {turn}.") };
    let messages = |of_agent: &str, content: fn(String) -> Value| -> Vec<Value> {
        let role = |turn: usize| if turn.is_multiple_of(2) { "user" } else { of_agent };
        (0..2 * number - 1)
            .map(|turn| {
                let mut message = content(text(turn));
                message["role"] = role(turn).into();
                message
            })
            .collect()
    };
    let plain = |text: String| json!({"content": text});
    match api.name {
        "openai" => {
            let body = json!({"model": "mock-small", "stream": streaming, "messages": messages("assistant", plain)});
            post("/v1/chat/completions", &body).header("authorization", &format!("Bearer {KEY}"))
        }
        "anthropic" => {
            let messages = messages("assistant", plain);
            let body = json!({"model": "mock-claude", "max_tokens": 64, "stream": streaming, "messages": messages});
            post("/v1/messages", &body).header("x-api-key", KEY).header("anthropic-version", "2023-06-01")
        }
        _ => {
            let method = if streaming { "streamGenerateContent?alt=sse" } else { "generateContent" };
            let contents = messages("model", |text| json!({"parts": [{"text": text}]}));
            post(&format!("/v1beta/models/mock-gemini:{method}"), &json!({"contents": contents}))
                .header("x-goog-api-key", KEY)
        }
    }
}

/// What a guard has found, as the status tells it.
fn finding(spillway: &Spillway, guard: &str) -> Value {
    let status = spillway.status();
    let guards = status["guards"].as_array().expect("a list").iter();
    guards.clone().find(|finding| finding["guard"] == guard).cloned().unwrap_or_default()
}

/// A refusal by this guard, which says what to do, and which no SDK sends again by itself.
#[track_caller]
fn assert_refused(api: &Api, answer: &Response, status: u16, guard: &str) {
    let code = format!("spillway_guard_{guard}");
    assert_eq!(answer.status(), status, "{}: {}", api.name, answer.text());
    assert_eq!(answer.header("x-spillway-refusal"), Some(&*code), "{}", api.name);
    assert_eq!(answer.at(api.code), code, "{}: {}", api.name, answer.text());
    assert_eq!(answer.header("x-should-retry"), Some("false"), "{}", api.name);
    let message = answer.at("/error/message");
    assert!(message.contains(&format!("guards.{guard}")) && message.contains("raise"), "{message}");
}

#[test]
fn a_loop_that_asks_the_same_again_and_again_is_stopped_in_every_api() {
    for api in APIS {
        let provider = Provider::start();
        let spillway = guarded(&provider, "max_repeats = 3");
        for request in [(api.whole)(), (api.whole)(), (api.whole)()] {
            assert_eq!(spillway.send(&request).status(), 200, "{}", api.name);
        }
        let answer = spillway.send(&(api.whole)());
        assert_refused(&api, &answer, 400, "max_repeats");
        assert!(answer.at("/error/message").contains("4 times in a row"), "{}", answer.text());
        assert_eq!(provider.stats().started, 3, "{}", api.name);
        let finding = finding(&spillway, "max_repeats");
        assert_eq!((&finding["refused"], &finding["would_have_refused"]), (&json!(1), &json!(0)));
        assert_eq!(spillway.metric("spillway_guard_findings_total{guard=\"max_repeats\",outcome=\"refused\"}"), 1.0);
        let line = spillway.log().find(&["a guard refuses", "max_repeats"], DEADLINE);
        assert!(line.is_some(), "{}", spillway.log().text());
        // Something else is served, and breaks the row.
        assert_eq!(spillway.send(&(api.of_model)("another")).status(), 200, "{}", api.name);
        assert_eq!(spillway.send(&(api.whole)()).status(), 200, "{}", api.name);
    }
}

#[test]
fn an_agent_whose_conversation_grows_and_grows_is_stopped_in_every_api_whole_and_streamed() {
    for api in APIS {
        let provider = Provider::start();
        let spillway = guarded(&provider, "max_turns_per_conversation = 4");
        for number in 1..=4 {
            let answer = spillway.send(&turn(&api, number, number % 2 == 0));
            assert_eq!(answer.status(), 200, "{}, turn {number}: {}", api.name, answer.text());
        }
        for number in 5..8 {
            let answer = spillway.send(&turn(&api, number, number % 2 == 0));
            assert_refused(&api, &answer, 400, "max_turns_per_conversation");
        }
        assert_eq!(provider.stats().started, 4, "{}", api.name);
        // A conversation of another name is another one, and the name goes no further.
        let other = turn(&api, 8, false).header("x-spillway-conversation", "a-new-one");
        assert_eq!(spillway.send(&other).status(), 200, "{}", api.name);
        let requests = provider.requests();
        let last = requests.last().expect("a request");
        assert_eq!(last.header("x-spillway-conversation"), None);
    }
}

#[test]
fn what_a_conversation_may_use_is_counted_as_the_provider_reports_it() {
    for api in APIS {
        let provider = Provider::start();
        provider.always(healthy().usage(700, 100));
        let spillway = guarded(&provider, "max_tokens_per_conversation = 1600");
        // The usage of an answer is read as it passes, so that the next turn knows it.
        for number in [1, 2] {
            assert_eq!(spillway.send(&turn(&api, number, false)).status(), 200, "{}", api.name);
        }
        let answer = spillway.send(&turn(&api, 3, false));
        assert_refused(&api, &answer, 400, "max_tokens_per_conversation");
        assert!(answer.at("/error/message").contains("1600 tokens"), "{}", answer.text());
        assert_eq!(spillway.send(&(api.whole)()).status(), 200, "another conversation of {}", api.name);
    }
}

#[test]
fn what_a_caller_may_use_within_an_hour_is_a_limit_that_says_when_to_come_back() {
    for api in APIS {
        let provider = Provider::start();
        provider.always(healthy().usage(700, 100));
        let spillway = guarded(&provider, "max_tokens_per_hour = 1600");
        for request in [(api.whole)(), (api.stream)()] {
            assert_eq!(spillway.send(&request).status(), 200, "{}", api.name);
        }
        // A stream has reported its usage when its caller has seen its end, or a moment later.
        let answer = eventually("the limit is reached", || {
            let answer = spillway.send(&(api.whole)());
            (answer.status() != 200).then_some(answer)
        });
        assert_refused(&api, &answer, 429, "max_tokens_per_hour");
        let wait: u64 = answer.header("retry-after").expect("a wait").parse().expect("seconds");
        assert!((3_480..=3_600).contains(&wait), "{wait}");
        // Somebody else has an hour of its own.
        let other = (api.whole)().header("x-spillway-tenant", "somebody-else");
        assert_eq!(spillway.send(&other).status(), 200, "{}", api.name);
    }
}

#[test]
fn a_request_that_may_cost_too_much_is_refused_before_anybody_is_asked() {
    let provider = Provider::start();
    let spillway = guarded(&provider, "max_tokens_per_request = 5000");
    assert_eq!(spillway.send(&chat_with(json!({"max_tokens": 4_000}))).status(), 200);
    let answer = spillway.send(&chat_with(json!({"max_tokens": 6_000})));
    assert_refused(&APIS[0], &answer, 400, "max_tokens_per_request");
    let long = "word ".repeat(20_000);
    let answer = spillway.send(&chat_with(json!({"messages": [{"role": "user", "content": long}]})));
    assert_refused(&APIS[0], &answer, 400, "max_tokens_per_request");
    assert_eq!(provider.stats().started, 1);
    let refusals = spillway.status()["refusals"].clone();
    assert_eq!(refusals[0]["code"], "spillway_guard_max_tokens_per_request");
}

#[test]
fn in_shadow_nothing_is_refused_and_what_would_have_been_is_counted_and_shown() {
    let provider = Provider::start();
    provider.always(healthy().usage(700, 100));
    let all = "max_tokens_per_request = 1\nmax_turns_per_conversation = 1\nmax_tokens_per_conversation = 1\n\
               max_tokens_per_hour = 1\nmax_repeats = 1\nwatch_only = true";
    let spillway = guarded(&provider, all);
    let again =
        [turn(&APIS[0], 1, false), turn(&APIS[0], 2, false), turn(&APIS[0], 3, false), turn(&APIS[0], 3, false)];
    for request in again {
        assert_eq!(spillway.send(&request).status(), 200);
    }
    for (guard, times) in [
        ("max_tokens_per_request", 4),
        ("max_turns_per_conversation", 2),
        ("max_tokens_per_conversation", 2),
        ("max_tokens_per_hour", 3),
        ("max_repeats", 1),
    ] {
        let finding = finding(&spillway, guard);
        assert_eq!((&finding["refused"], &finding["would_have_refused"]), (&json!(0), &json!(times)), "{guard}");
        let metric = format!("spillway_guard_findings_total{{guard=\"{guard}\",outcome=\"would_have_refused\"}}");
        assert_eq!(spillway.metric(&metric), f64::from(times), "{guard}");
        let line = spillway.log().find(&["a guard would have refused", guard], DEADLINE);
        assert!(line.is_some(), "{guard}: {}", spillway.log().text());
    }
}

#[test]
fn one_guard_alone_may_only_warn() {
    let provider = Provider::start();
    let spillway = guarded(&provider, "max_repeats = 1\nmax_tokens_per_request = 5000\nwarn_only = [\"max_repeats\"]");
    for _ in 0..3 {
        assert_eq!(spillway.send(&chat()).status(), 200);
    }
    assert_eq!(spillway.send(&chat_with(json!({"max_tokens": 6_000}))).status(), 400);
    assert_eq!(finding(&spillway, "max_repeats")["would_have_refused"], 2);
}

#[test]
fn requests_that_have_come_to_cost_far_more_are_an_alarm_and_no_refusal() {
    let provider = Provider::start();
    provider.always(healthy().usage(900, 100));
    let spillway = guarded(&provider, "growth_alarm = 4");
    for _ in 0..100 {
        assert_eq!(spillway.send(&chat()).status(), 200);
    }
    assert_eq!(finding(&spillway, "growth_alarm"), Value::Null);
    provider.always(healthy().usage(39_000, 1_000));
    for _ in 0..20 {
        assert_eq!(spillway.send(&chat()).status(), 200);
    }
    let found = eventually("an alarm", || Some(finding(&spillway, "growth_alarm")).filter(|found| !found.is_null()));
    assert_eq!((&found["refused"], &found["would_have_refused"]), (&json!(0), &json!(1)));
    assert!(spillway.log().find(&["requests have grown"], DEADLINE).is_some());
}

#[test]
fn an_sdk_asks_once_at_a_refusal_and_its_own_retries_of_a_failure_are_no_repetitions() {
    for habit in [Habit::Python, Habit::Node, Habit::Vercel] {
        let provider = Provider::start();
        let no_retries = Setup::with(&provider).set("upstreams.openai.retry", "max_attempts = 1");
        let spillway = no_retries.set("guards", "max_repeats = 2\nmax_tokens_per_hour = 1000").start();
        let call = |request: &Request| Caller::new(habit).call(spillway.address(), request, 1).expect("a runtime");

        // What fails is sent again by the SDK, and is still the same first time.
        provider.next(fail(Failure::ServerError));
        provider.next(fail(Failure::ServerError));
        let called = call(&chat());
        assert_eq!((called.status(), called.attempts), (200, 3), "{habit:?}");
        assert_eq!(call(&chat()).status(), 200, "{habit:?}");
        let called = call(&chat());
        assert_eq!((called.status(), called.attempts), (400, 1), "{habit:?}: {:?}", called.answer);

        provider.always(healthy().usage(900, 200));
        assert_eq!(call(&chat_with(json!({"user": "x", "max_tokens": 5}))).status(), 200, "{habit:?}");
        let called = call(&chat_with(json!({"max_tokens": 6})));
        // Vercel's repeats every 429, a few times.
        let attempts = if habit == Habit::Vercel { 3 } else { 1 };
        assert_eq!((called.status(), called.attempts), (429, attempts), "{habit:?}: {:?}", called.answer);
    }
}

#[test]
fn what_is_tried_again_here_and_what_is_kept_for_later_is_asked_about_once() {
    let provider = Provider::start();
    let spillway = guarded(&provider, "max_repeats = 2\nmax_turns_per_conversation = 2");
    for _ in 0..3 {
        provider.next(fail(Failure::ServerError));
    }
    let named = |request: Request| request.header("x-spillway-conversation", "one");
    let answer = spillway.send(&named(chat()));
    assert_eq!((answer.status(), answer.header("x-spillway-attempts")), (200, Some("4")));

    provider.always(fail(Failure::ServerError));
    let promised = spillway.send(&named(chat()).header("prefer", "respond-async"));
    assert_eq!(promised.status(), 202, "{}", promised.text());
    provider.heal();
    let location = promised.header("location").expect("a place").to_owned();
    eventually("the job is done", || {
        let status = spillway.send(&spillway_tests::http::get(&location)).json();
        (status["status"] == "done").then_some(())
    });
    assert_eq!(spillway.status()["guards"], json!([]), "nothing was found so far");
    assert_eq!(spillway.send(&named(chat())).status(), 400);
}

#[test]
fn without_guards_nothing_is_asked_and_nothing_is_said() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    for _ in 0..20 {
        assert_eq!(spillway.send(&chat()).status(), 200);
    }
    assert_eq!(spillway.status()["guards"], json!([]));
}

#[test]
fn a_label_goes_no_further_and_a_bad_one_refuses_nothing() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("labels", "max_keys = 2").start();
    for label in ["feature=search,prompt=v12", "nonsense", "third=x", "=,=,=", &"x".repeat(4_000)] {
        assert_eq!(spillway.send(&chat().header("x-spillway-label", label)).status(), 200, "{label}");
    }
    assert!(provider.requests().iter().all(|request| request.header("x-spillway-label").is_none()));
    let line = spillway.log().find(&["\"label\":\"feature=search,prompt=v12\""], DEADLINE);
    assert!(line.is_some(), "{}", spillway.log().text());
    let left_out = |why: &str| spillway.metric(&format!("spillway_labels_left_out_total{{why=\"{why}\"}}"));
    assert_eq!((left_out("malformed"), left_out("key_beyond_bound")), (5.0, 1.0));
}

#[test]
fn what_a_label_costs_is_told_apart_in_the_ledger() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).set("ledger", "enabled = true");
    let spillway = setup.set("labels", "max_values = 2").start();
    for (label, input, output) in [
        (Some("feature=search,prompt=v12"), 100, 10),
        (Some("prompt=v12, feature=search"), 200, 20),
        (Some("feature=chat"), 30, 3),
        (Some("feature=one-too-many"), 7, 1),
        (Some("nonsense"), 4, 2),
        (None, 5, 1),
    ] {
        provider.next(healthy().usage(input, output));
        let request = label.iter().fold(chat(), |request, label| request.header("x-spillway-label", label));
        assert_eq!(spillway.send(&request).status(), 200, "{label:?}");
    }
    let expected = [
        (json!("feature=search,prompt=v12"), 2, 300, 30),
        (json!("feature=chat"), 1, 30, 3),
        (Value::Null, 2, 9, 3),
        (json!("feature=other"), 1, 7, 1),
    ];
    let mut last = Value::Null;
    let found = within(DEADLINE, || {
        last = usage_by_label(&spillway);
        let lines = last.as_array().expect("a list");
        let has = |(label, requests, input, output): &(Value, u64, u64, u64)| {
            let figures = [("requests", requests), ("input_tokens", input), ("output_tokens", output)];
            let line = lines.iter().find(|line| line["label"] == *label);
            line.is_some_and(|line| figures.iter().all(|(name, figure)| line[*name] == **figure))
        };
        (lines.len() == expected.len() && expected.iter().all(has)).then_some(())
    });
    assert!(found.is_some(), "{expected:?} are expected, and the ledger says {last:#}");
}

fn usage_by_label(spillway: &Spillway) -> Value {
    let arguments = ["usage", "--json", "--config", "spillway.toml", "--by", "label"].map(Into::into);
    let ended = run_to_end(spillway.folder(), &arguments);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let mut usage: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    usage["usage"].take()
}

#[test]
fn each_key_of_a_group_is_a_caller_of_its_own() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).set("upstreams.openai", "api_key_file = \"openai.key\"");
    let setup = setup.set("groups.team", "").set("guards", "max_repeats = 1");
    std::fs::write(setup.folder().join("openai.key"), "openai-canary-0123456789").expect("a folder");
    let spillway = setup.start();
    let keys = ["one", "two"].map(|name| new_key(spillway.folder(), name));
    eventually("the keys are in force", || (spillway.status()["keys"]["valid"] == 2).then_some(()));
    for (name, key) in ["one", "two"].into_iter().zip(keys) {
        let shown = chat().without_header("authorization").header("authorization", &format!("Bearer {key}"));
        assert_eq!(spillway.send(&shown).status(), 200, "{name}");
        assert_refused(&APIS[0], &spillway.send(&shown), 400, "max_repeats");
        assert_eq!(finding(&spillway, "max_repeats")["caller"], name);
    }
}

/// Makes a key of the group.
fn new_key(folder: &Path, name: &str) -> String {
    let mut command = Command::new(binary());
    command.args(["key", "new", "--name", name, "--group", "team"]).current_dir(folder).env_remove("SPILLWAY_LOG");
    let made = ended(&mut command);
    well(&made, &[]);
    made.stdout.trim().to_owned()
}
