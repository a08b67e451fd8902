//! Chains: who of a route is asked, who is passed over without a call, and what stays where it was made.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::json;
use spillway_tests::asks::{chat, chat_by, chat_of, chat_with, patient_chat};
use spillway_tests::http::{Request, Response, get, post};
use spillway_tests::provider::{Failure, fail, header, insufficient_quota, rate_limited};
use spillway_tests::row::{KEYS, NAMES, Row};
use spillway_tests::setup::Setup;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const ALL: &str = r#"["first", "second", "third"]"#;
const EQUALS: &str = r#"[["first", "second", "third"]]"#;

fn target(answer: &Response) -> &str {
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.header("x-spillway-target").unwrap_or_default()
}

fn response_request(fields: serde_json::Value) -> Request {
    let mut body = json!({"model": "m", "input": "hi"});
    body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    post("/v1/responses", &body).header("authorization", "Bearer sk-of-caller")
}

#[test]
fn behind_an_open_circuit_nobody_waits_and_nobody_calls() {
    let row = Row::new();
    let breaker = "consecutive_failures = 2\ncooldown = \"30s\"\ncooldown_max = \"30s\"";
    let spillway = row.setup("openai", ALL).set("upstreams.first.breaker", breaker).start();
    row.first().always(fail(Failure::ServerError));
    while spillway.circuit("first") != "open" {
        assert_eq!(target(&spillway.send(&chat())), "second");
    }
    let calls = row.first().stats().started;
    row.first().heal();
    let began = Instant::now();
    let answer = spillway.send(&chat());
    assert_eq!((target(&answer), answer.header("x-spillway-fallback-from")), ("second", Some("first")));
    assert_eq!((row.first().stats().started, answer.header("x-spillway-attempts")), (calls, Some("1")));
    assert!(began.elapsed() < Duration::from_secs(1), "it waited {:?}", began.elapsed());
}

#[test]
fn where_our_own_quota_for_it_is_used_up_a_target_is_passed_over_without_a_call() {
    let row = Row::new();
    let spillway = row.setup("openai", ALL).set("upstreams.first.limits", "requests_per_minute = 1").start();
    let began = Instant::now();
    let served: Vec<_> = (0..3).map(|_| target(&spillway.send(&chat())).to_owned()).collect();
    assert_eq!(served, ["first", "second", "second"]);
    assert_eq!(row.asked(), served);
    assert!(began.elapsed() < Duration::from_secs(5), "somebody waited: {:?}", began.elapsed());
}

#[test]
fn where_everybody_is_in_the_way_a_request_waits_as_it_would_for_one() {
    let row = Row::new();
    let spillway = row.setup("openai", ALL).start();
    for (provider, wait) in [(row.first(), 20), (row.second(), 1), (row.third(), 20)] {
        provider.next(rate_limited().retry_after_s(wait));
    }
    let answer = spillway.send(&chat());
    assert_eq!(target(&answer), "second", "it is the first that lets anybody in");
    assert_eq!(row.asked(), ["first", "second", "third", "second"]);
}

#[test]
fn a_context_that_is_too_small_is_passed_over_without_a_call() {
    let row = Row::new();
    let targets = r#"[{ target = "first", context_tokens = 100 }, "second", "third"]"#;
    let spillway = row.setup("openai", targets).set("upstreams.second.limits", "context_tokens = 200").start();
    let asks = |words: usize| chat_with(json!({"messages": [{"role": "user", "content": "word ".repeat(words)}]}));
    for (words, expected) in [(10, "first"), (150, "second"), (1_000, "third")] {
        assert_eq!(target(&spillway.send(&asks(words))), expected, "{words} words");
    }
    assert_eq!(row.asked(), ["first", "second", "third"]);
    spillway.log().wait_for(&["first passed over: its context is too small"]);
}

#[test]
fn where_every_context_is_too_small_the_first_one_says_so_itself() {
    let row = Row::new();
    let setup = NAMES.iter().fold(row.setup("openai", ALL), |setup, name| {
        setup.set(&format!("upstreams.{name}.limits"), "context_tokens = 100")
    });
    let spillway = setup.start();
    row.first().next(fail(Failure::ContextLengthExceeded));
    let answer = spillway.send(&chat_with(json!({"messages": [{"role": "user", "content": "word ".repeat(900)}]})));
    assert_eq!((answer.status(), &*answer.at("/error/code")), (400, "context_length_exceeded"));
    assert_eq!(row.asked(), ["first"]);
}

#[test]
fn what_is_the_callers_own_mistake_is_asked_of_nobody_else() {
    let row = Row::new();
    let spillway = row.setup("openai", ALL).start();
    row.first().always(fail(Failure::ServerError).status(422));
    assert_eq!(spillway.send(&chat()).status(), 422);
    assert_eq!(row.asked(), ["first"]);
}

#[test]
fn what_a_fallback_has_against_a_request_is_no_news_of_the_first_target() {
    let row = Row::new();
    let spillway = row.setup("openai", ALL).start();
    row.first().always(fail(Failure::ServerError).status(503));
    row.second().always(fail(Failure::ServerError).status(400));
    row.third().always(fail(Failure::ServerError).status(401));
    let answer = spillway.send(&chat());
    assert_eq!(answer.status(), 503, "the first target would have taken it");
    let tried = answer.header("x-spillway-tried").expect("they are named").to_owned();
    for what in ["(503)", "(400)", "(401)"] {
        assert!(tried.contains(what), "{tried}");
    }
}

#[test]
fn what_would_be_made_twice_moves_on_only_if_it_was_certainly_not_made() {
    let row = Row::new();
    let spillway = row.setup("openai", ALL).start();
    let request = response_request(json!({"background": true}));
    row.first().next(fail(Failure::ServerError));
    assert_eq!(spillway.send(&request).status(), 500);
    assert_eq!(row.asked(), ["first"], "it may have been made");
    row.first().next(rate_limited().retry_after_s(30));
    assert_eq!(target(&spillway.send(&request)), "second");
}

#[test]
fn what_was_made_at_a_target_is_asked_for_there_and_with_the_key_that_made_it() {
    for streams in [false, true] {
        let row = Row::new();
        let spillway = row.setup("openai", ALL).start();
        row.first().next(insufficient_quota());
        let made = spillway.send(&response_request(json!({"stream": streams})));
        assert_eq!(target(&made), "second");
        let id =
            made.text().split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an id").to_owned();
        assert!(id.starts_with("resp_"), "{id}");

        // The first is well again, and knows nothing of it.
        let on = response_request(json!({"previous_response_id": id}));
        assert_eq!(target(&spillway.send(&on)), "second", "streams: {streams}");
        let answer = spillway.send(&get(&format!("/v1/responses/{id}")).header("authorization", "Bearer sk-of-caller"));
        assert_eq!((answer.status(), answer.header("x-spillway-upstream")), (200, Some("second")));
        let calls = row.ledger();
        let there: Vec<_> = calls.iter().skip(1).map(|call| (call.upstream, call.credentials.clone())).collect();
        assert_eq!(there, vec![("second", vec![KEYS[0].to_owned()]); 3], "streams: {streams}");

        let third = get(&format!("/third/v1/responses/{id}")).header("authorization", "Bearer sk-of-caller");
        assert_eq!(
            spillway.send(&third).header("x-spillway-upstream"),
            Some("third"),
            "whoever names one gets that one"
        );
        assert_eq!(row.ledger().last().expect("a call").credentials, ["sk-of-caller"]);

        // Nobody else can go on with it, so nobody else is asked.
        row.second().always(insufficient_quota());
        let answer = spillway.send(&on);
        assert_eq!((answer.status(), answer.header("x-spillway-fallback-from")), (429, None));
        assert_eq!(row.asked().last(), Some(&"second"));
        assert_eq!(row.asked().len(), 6);
    }
}

#[test]
fn what_nobody_here_has_made_goes_to_the_first_and_never_falls_back() {
    let row = Row::new();
    let spillway = row.setup("openai", ALL).start();
    row.first().always(insufficient_quota());
    for fields in [
        json!({"previous_response_id": "resp_from_elsewhere"}),
        json!({"input": [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "b3BhcXVl"}]}),
        json!({"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}),
    ] {
        let before = row.asked().len();
        assert_eq!(spillway.send(&response_request(fields.clone())).status(), 429, "{fields}");
        assert!(row.asked().len() <= before + 1 && row.second().stats().started == 0, "{fields}: {:?}", row.asked());
    }
}

#[test]
fn a_request_that_is_kept_is_served_later_by_whoever_of_its_route_can() {
    let row = Row::new();
    let spillway = row.setup("openai", r#"["first", "second/other"]"#).start();
    row.first().stop();
    row.second().stop();
    let kept = spillway.send(&patient_chat());
    assert_eq!(kept.status(), 202, "{}", kept.text());
    row.second().start_again();
    let job = spillway.wait_for_job(kept.header("location").expect("a place to ask"));
    assert_eq!(job["status"], "done", "{job}");
    let calls: Vec<_> = row.ledger().into_iter().map(|call| (call.upstream, call.credentials)).collect();
    assert_eq!(calls, [("second", vec![KEYS[0].to_owned()])]);
    assert_eq!(row.second().requests()[0].model(), Some("other"));
}

#[test]
fn one_key_rests_while_another_of_the_same_target_serves() {
    let row = Row::new();
    let setup = row.setup("openai", r#"["third", "second"]"#).environment("SPILLWAY_TEST_SPARE_KEY", "sk-spare");
    let file = setup.folder().join("spare-key");
    std::fs::write(&file, "sk-spare\n").expect("a file");
    let spillway = setup.set("upstreams.third", &format!("api_key_file = \"{}\"", file.display())).start();
    let of = |key: &'static str| header("authorization", &format!("Bearer {key}"));
    row.third().when(of(KEYS[1]), insufficient_quota());
    let answers: Vec<_> = (0..4).map(|_| target(&spillway.send(&chat())).to_owned()).collect();
    assert_eq!(answers, ["third"; 4]);
    let spent = row.ledger().iter().filter(|call| call.credentials == [KEYS[1]]).count();
    assert!(spent <= 1, "a spent key is left alone: {:?}", row.ledger());
    assert_eq!(row.second().stats().started, 0);
}

#[test]
fn a_route_takes_what_fits_all_that_it_says_and_the_first_that_fits_takes_it() {
    let row = Row::new();
    let setup = row.setup("openai", r#"["third"]"#);
    // Routes count in the order of the file, which the harness writes by name.
    let setup = setup.set("routes.a-model", "targets = [\"first\"]\nmodel = \"gpt-*\"\npath = \"/v1/chat/*\"").set(
        "routes.b-tenant",
        "targets = [\"second\"]\ntenant = \"acme\"\nheaders = \"x-team: blue*\"\nopen_to_local = true",
    );
    let spillway = setup.start();
    let acme = |request: Request| request.header("x-spillway-tenant", "acme").header("x-team", "blue-1");
    for (request, expected) in [
        (chat_of("gpt-5"), "a-model first"),
        (acme(chat_of("gpt-5")), "a-model first"),
        (acme(chat_of("o5")), "b-tenant second"),
        (chat_of("o5").header("x-spillway-tenant", "acme"), "chain third"),
        (chat_of("gpt-5").path("/v1/responses"), "chain third"),
        (chat_of("gpt-5").path("/chat/completions"), "a-model first"),
    ] {
        let answer = spillway.send(&request);
        let took = format!("{} {}", answer.header("x-spillway-route").unwrap_or("none"), target(&answer));
        assert_eq!(took, expected, "{request:?}");
    }
    // A path that names an upstream asks for that one.
    let answer = spillway.send(&chat_of("gpt-5").path("/second/v1/chat/completions"));
    assert_eq!((answer.header("x-spillway-route"), answer.header("x-spillway-upstream")), (None, Some("second")));
}

#[test]
fn a_chain_that_mixes_apis_is_a_mistake_that_is_told_with_its_line() {
    let setup = Setup::bare().set("routes.chain", "targets = [\n  \"openai/gpt-5\",\n  \"anthropic/claude\",\n]");
    let ended = setup.run_to_end(&["check"]);
    assert_eq!(ended.code, Some(2), "{} {}", ended.stdout, ended.stderr);
    let text = std::fs::read_to_string(setup.folder().join("spillway.toml")).expect("a configuration");
    let line = text.lines().position(|line| line.contains("anthropic/claude")).expect("the target") + 1;
    for said in
        [&*format!("line {line}"), "routes.chain.targets", "anthropic/claude speaks anthropic", "must speak one API"]
    {
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    }
}

#[test]
fn conversations_stay_with_the_equal_that_served_them_and_are_spread_over_all() {
    let row = Row::new();
    let spillway = row.setup("openai", EQUALS).start();
    let turn = |conversation: usize, turns: usize| {
        let first = json!({"role": "user", "content": format!("Conversation {conversation}.")});
        let more = (0..turns).map(|turn| json!({"role": "user", "content": format!("Turn {turn}.")}));
        let messages: Vec<_> = std::iter::once(first).chain(more).collect();
        target(&spillway.send(&chat_with(json!({"messages": messages})))).to_owned()
    };
    let began: Vec<String> = (0..200).map(|conversation| turn(conversation, 0)).collect();
    for name in NAMES {
        let share = began.iter().filter(|target| *target == name).count();
        assert!((54..=80).contains(&share), "{name} has {share} of 200");
    }
    let mut stayed = 0;
    for turns in 1..4 {
        stayed += (0..200).filter(|conversation| turn(*conversation, turns) == began[*conversation]).count();
    }
    assert!(stayed >= 570, "{stayed} of 600 turns stayed");

    // One that fails loses its conversations with one request each, and the others keep theirs.
    row.first().stop();
    let moved: Vec<String> = (0..200).map(|conversation| turn(conversation, 4)).collect();
    let again: Vec<String> = (0..200).map(|conversation| turn(conversation, 5)).collect();
    assert!(moved.iter().all(|target| target != "first"), "served by one that is not there");
    let kept = moved.iter().zip(&again).filter(|(moved, again)| moved == again).count();
    assert!(kept >= 190, "{kept} of 200 stayed where they went");
}

#[test]
fn the_same_words_of_other_tenants_are_other_conversations() {
    let row = Row::new();
    let spillway = row.setup("openai", EQUALS).start();
    let mut served: BTreeMap<String, u32> = BTreeMap::new();
    for tenant in 0..30 {
        let request = chat_by("sk-of-caller").header("x-spillway-tenant", &format!("tenant-{tenant}"));
        *served.entry(target(&spillway.send(&request)).to_owned()).or_default() += 1;
    }
    assert_eq!(served.len(), 3, "{served:?}");
}
