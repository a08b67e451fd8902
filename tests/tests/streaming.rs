//! Streams: forwarded event by event, cancelled with their caller, and never taken for whole when they are not.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::json;
use spillway_tests::asks::{APIS, Api, chat, chat_stream, chat_with, generate_stream, message_stream};
use spillway_tests::http::Connection;
use spillway_tests::provider::{Provider, Reply, body, error_in_200, healthy, respond, stall, stream};
use spillway_tests::spillway::{Setup, Spillway};
use std::io::ErrorKind;

/// Events of a healthy stream up to its first word: Anthropic opens with three that say nothing yet, OpenAI with one.
fn first_word(api: Api) -> usize {
    match api.name {
        "anthropic" => 4,
        "openai" => 2,
        _ => 1,
    }
}

fn without_retries(provider: &Provider) -> Setup {
    let setup = Setup::with(provider);
    APIS.iter().fold(setup, |setup, api| setup.set(&format!("upstreams.{}.retry", api.name), "max_attempts = 1"))
}

/// Reads this many events, each of which must come although the provider holds back what follows.
fn read_events(stream: &mut Connection, count: usize) -> Vec<String> {
    (0..count).map(|_| stream.event().expect("an event").expect("no end yet")).collect()
}

/// The stream must end with the API's error event, which has this code, and then break off.
fn assert_broken(api: Api, stream: &mut Connection) {
    let (events, end) = stream.events();
    let last = events.last().unwrap_or_else(|| panic!("{}: no event tells of the break", api.name));
    assert!(last.contains("spillway_stream_cut"), "{}: {last}", api.name);
    assert_eq!(last.starts_with("event: error\n"), api.name == "anthropic", "{last}");
    let data = last.split_once("data: ").expect("data").1;
    let data: serde_json::Value = serde_json::from_str(data.trim()).expect("JSON");
    assert_eq!(data.pointer(api.code), Some(&json!("spillway_stream_cut")), "{}", api.name);
    let end = end.expect_err("an answer that breaks off must not end cleanly");
    assert!(matches!(end.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{}: {end}", api.name);
}

fn failures(spillway: &Spillway, api: Api) -> serde_json::Value {
    spillway.upstream(api.name)["breakers"][0]["window"]["failures"].clone()
}

#[test]
fn a_long_preamble_is_passed_on_and_latency_still_counts_to_the_first_word() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let gate = provider.gate();
    provider.next(healthy().saying("late").after_events(1).wait_for(&gate));
    let (_, mut answer) = spillway.open(&message_stream());
    assert!(read_events(&mut answer, 1)[0].starts_with("event: message_start"));
    let p50 = || spillway.upstream("anthropic")["breakers"][0]["window"]["first_content_p50_ms"].clone();
    assert!(p50().is_null(), "nothing has been said yet");
    gate.open();
    assert!(answer.events().1.is_ok());
    assert!(p50().as_u64().is_some_and(|ms| ms >= 1_000), "{}", p50());
}

#[test]
fn an_event_too_large_to_be_kept_together_passes_whole() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let image = "A".repeat(2 << 20);
    let event =
        json!({"candidates": [{"content": {"parts": [{"inlineData": {"data": image}}]}, "finishReason": "STOP"}]});
    provider.next(stream().event(event));
    let (_, mut answer) = spillway.open(&generate_stream());
    let body = answer.body().expect("a clean end");
    assert!(body.len() > 2 << 20 && !String::from_utf8_lossy(&body).contains("spillway_stream_cut"));
}

#[test]
fn a_stream_with_a_content_encoding_is_passed_on_unread() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let bytes: &[u8] = b"\x1f\x8b not to be read";
    let reply = spillway_tests::provider::respond(200);
    provider.next(reply.header("content-type", "text/event-stream").header("content-encoding", "gzip").body(bytes));
    let (head, mut answer) = spillway.open(&chat_stream());
    assert_eq!((head.status, head.header("content-encoding")), (200, Some("gzip")));
    assert_eq!(answer.body().expect("a clean end"), bytes);
    assert_eq!(spillway.circuit("openai"), "closed");
}

#[test]
fn each_event_arrives_while_the_provider_still_holds_the_next() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    for api in APIS {
        let first = first_word(api);
        let gates: Vec<_> = (0..3).map(|_| provider.gate()).collect();
        let reply = healthy().saying("one two three four five");
        let held = gates.iter().enumerate();
        provider.next(held.fold(reply, |reply, (number, gate)| reply.after_events(first + number).wait_for(gate)));
        let (head, mut stream) = spillway.open(&(api.stream)());
        assert_eq!(head.status, 200);
        assert!(head.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")));
        let words = ["one", "two", "three"];
        assert!(read_events(&mut stream, first).last().expect("an event").contains(words[0]), "{}", api.name);
        for (number, gate) in gates.iter().enumerate() {
            gate.open();
            if let Some(word) = words.get(number + 1) {
                assert!(read_events(&mut stream, 1)[0].contains(word), "{}", api.name);
            }
        }
        let (rest, end) = stream.events();
        assert!(end.is_ok() && rest.iter().any(|event| event.contains("five")), "{}: {rest:?}", api.name);
    }
}

#[test]
fn a_stream_reaches_the_caller_as_the_provider_sent_it() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let odd =
        ": a comment\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\nid: 7\ndata: {\"x\":\ndata: 1}\n\n";
    provider.next(stream().chunk(&odd.as_bytes()[..20]).chunk(&odd.as_bytes()[20..]).done());
    let answer = spillway.send(&chat_stream());
    assert_eq!(answer.text(), format!("{odd}data: [DONE]\n\n"));
    assert_eq!(answer.header("cache-control"), Some("no-cache, no-transform"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
}

#[test]
fn a_caller_that_leaves_cancels_the_upstream_call() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    for (number, api) in (1..).zip(APIS) {
        provider.next(healthy().after_events(first_word(api)).stall());
        let (_, mut stream) = spillway.open(&(api.stream)());
        read_events(&mut stream, first_word(api));
        drop(stream);
        provider.wait_until(|stats| stats.aborted == number);
        assert_eq!(failures(&spillway, api), 0, "{}: leaving is nobody's failure", api.name);
    }
    spillway.log().wait_for(&["\"outcome\":\"abandoned\"", "the caller went away"]);

    // Also while there is nothing to read yet, and of an answer that is not streamed.
    for (number, request) in (4..).zip([chat_stream(), chat()]) {
        provider.next(stall());
        let mut connection = spillway.connect();
        connection.send(&request).expect("sent");
        provider.wait_for_requests(number);
        drop(connection);
        provider.wait_until(|stats| stats.aborted == number);
    }
}

#[test]
fn case_26_a_stream_that_is_cut_ends_with_an_error_is_a_failure_and_is_never_replayed() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    for (number, api) in (1..).zip(APIS) {
        provider.next(healthy().saying("one two three").after_events(first_word(api)).cut());
        let (_, mut stream) = spillway.open(&(api.stream)());
        read_events(&mut stream, first_word(api));
        assert_broken(api, &mut stream);
        assert_eq!(failures(&spillway, api), 1, "{}: a broken stream is a failure", api.name);
        assert_eq!(provider.stats().started, number, "{}: what has begun is never retried", api.name);
    }
    let line = spillway.log().wait_for(&["\"outcome\":\"broken\"", "the answer broke off"]);
    assert_eq!(line["message"], "request");
}

#[test]
fn a_stream_that_is_reset_ends_with_an_error_too() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    for api in APIS {
        // A reset may overtake what was sent before, so the event is read before.
        let gate = provider.gate();
        provider.next(healthy().after_events(first_word(api)).wait_for(&gate).reset());
        let (_, mut stream) = spillway.open(&(api.stream)());
        read_events(&mut stream, first_word(api));
        gate.open();
        assert_broken(api, &mut stream);
    }
}

#[test]
fn an_answer_that_is_not_streamed_is_not_whole_either_when_it_is_cut() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    // One that is held as a whole, and one that is too long for that.
    for (calls, words) in [(1, 8), (2, 8 << 10)] {
        provider.next(healthy().saying(&"word ".repeat(words)).cut());
        let (head, mut answer) = spillway.open(&chat());
        assert_eq!(head.status, 200);
        assert!(answer.body().is_err(), "half an answer must not look like a whole one");
        assert_eq!(provider.stats().started, calls);
    }
}

#[test]
fn a_clean_end_without_the_terminal_event_is_an_error() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let content = |api: Api| match api.name {
        "anthropic" => stream()
            .named_event("message_start", json!({"type": "message_start"}))
            .named_event("content_block_delta", json!({"type": "content_block_delta", "delta": {"text": "half"}})),
        "openai" => stream().event(json!({"choices": [{"delta": {"content": "half"}, "finish_reason": null}]})),
        _ => stream().event(json!({"candidates": [{"content": {"parts": [{"text": "half"}]}}]})),
    };
    for api in APIS {
        provider.next(content(api));
        let (head, mut stream) = spillway.open(&(api.stream)());
        assert_eq!(head.status, 200);
        assert_broken(api, &mut stream);
        assert_eq!(failures(&spillway, api), 1, "{}", api.name);
    }
    let events = spillway.send(&chat_stream()).text();
    assert!(events.ends_with("data: [DONE]\n\n"), "a whole stream ends as it did: {events}");
}

#[test]
fn case_25_an_error_that_comes_before_any_content_of_a_200_is_a_failure_and_is_retried() {
    let provider = Provider::start();
    let retry = "max_attempts = 2\nbackoff = \"1ms\"\nbackoff_max = \"2ms\"\nbudget_ratio = 1";
    let setup = APIS.iter().fold(Setup::with(&provider), |setup, api| {
        let upstream = format!("upstreams.{}", api.name);
        // Where the error says "overloaded", it is repeated when its turn comes, once a second at most.
        setup
            .set(&format!("{upstream}.retry"), retry)
            .set(&format!("{upstream}.breaker"), "consecutive_failures = 0")
            .set(&format!("{upstream}.limits"), "patience = \"2500ms\"")
    });
    let spillway = setup.start();
    for api in APIS {
        provider.next(error_in_200());
        let (head, mut stream) = spillway.open(&(api.stream)());
        assert_eq!((head.status, head.header("x-spillway-attempts")), (200, Some("2")), "{}", api.name);
        let (events, end) = stream.events();
        assert!(end.is_ok() && !events.concat().contains("\"error\":{"), "{}: {events:?}", api.name);

        provider.always(error_in_200());
        let answer = spillway.send(&(api.stream)());
        let own = answer.text().contains("\"error\":{") && !answer.text().contains("spillway");
        assert!(answer.status() == 200 && own, "{}: the provider's own words: {}", api.name, answer.text());
        provider.heal();
    }
    // Anthropic's opening events say nothing yet, so an error behind them is still in time.
    provider.next(healthy().after_events(2).error_event());
    let (head, mut stream) = spillway.open(&message_stream());
    assert_eq!((head.status, head.header("x-spillway-attempts")), (200, Some("2")));
    assert!(stream.events().1.is_ok());
}

#[test]
fn an_overload_in_the_middle_of_a_stream_is_passed_on_and_paces_those_who_come() {
    let provider = Provider::start();
    let spillway = without_retries(&provider).start();
    for api in APIS {
        provider.next(healthy().after_events(first_word(api)).error_event());
        let (_, mut stream) = spillway.open(&(api.stream)());
        let (events, _) = stream.events();
        assert!(events.last().is_some_and(|event| event.contains("overloaded")), "{}: {events:?}", api.name);
        let window = spillway.upstream(api.name)["breakers"][0]["window"].clone();
        assert_eq!((&window["throttles"], &window["failures"]), (&1.into(), &0.into()), "{}: {window}", api.name);
        let pacing = spillway.upstream(api.name)["pacing"].clone();
        assert_eq!(pacing.as_array().map(Vec::len), Some(1), "{}: {pacing}", api.name);
    }
}

#[test]
fn silence_ends_a_stream_after_the_idle_timeout() {
    let provider = Provider::start();
    let setup = APIS.iter().fold(without_retries(&provider), |setup, api| {
        setup.set(&format!("upstreams.{}", api.name), "idle_timeout = \"150ms\"")
    });
    let spillway = setup.start();
    for (number, api) in (1..).zip(APIS) {
        provider.next(healthy().after_events(first_word(api)).stall());
        let (_, mut stream) = spillway.open(&(api.stream)());
        read_events(&mut stream, first_word(api));
        assert_broken(api, &mut stream);
        provider.wait_until(|stats| stats.aborted == number);
    }
}

#[test]
fn a_provider_that_says_nothing_at_all_is_given_up_in_time() {
    let provider = Provider::start();
    let upstream = "first_content_timeout = \"150ms\"";
    let spillway = without_retries(&provider).set("upstreams.openai", upstream).start();
    for (number, reply) in (1..).zip([stall(), healthy().after_events(0).stall()] as [Reply; 2]) {
        provider.next(reply);
        let answer = spillway.send(&chat_stream());
        assert_eq!((answer.status(), &*answer.at("/error/code")), (504, "spillway_upstream_timeout"));
        provider.wait_until(|stats| stats.aborted == number);
    }
    provider.next(stall());
    let answer = spillway.send(&generate_stream().header("x-server-timeout", "0.2"));
    assert_eq!(
        (answer.status(), answer.header("x-spillway-attempts")),
        (504, Some("1")),
        "the caller's own counts as well"
    );
}

#[test]
fn usage_is_asked_for_where_tokens_are_limited_and_hidden_from_callers_that_did_not_ask() {
    let provider = Provider::start();
    let limits = "tokens_per_minute = 1000000";
    let spillway = Setup::with(&provider).set("upstreams.openai.limits", limits).start();
    provider.always(healthy().usage(70, 7));
    let asked_upstream = || {
        let seen = provider.requests().pop().expect("a request");
        seen.json()["stream_options"]["include_usage"] == true
    };
    let plain = spillway.send(&chat_stream());
    assert!(asked_upstream());
    assert!(!plain.text().contains("prompt_tokens") && plain.text().ends_with("data: [DONE]\n\n"), "{}", plain.text());

    let demanding = chat_with(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let kept = spillway.send(&demanding);
    assert!(asked_upstream());
    assert!(kept.text().contains("\"prompt_tokens\":70"), "{}", kept.text());

    assert_eq!(spillway.metric("spillway_tokens_total{upstream=\"openai\",direction=\"input\"}"), 140.0);
    assert_eq!(spillway.metric("spillway_tokens_total{upstream=\"openai\",direction=\"output\"}"), 14.0);
}

#[test]
fn a_strict_server_that_does_not_know_how_to_report_usage_is_asked_once_and_never_again() {
    let provider = Provider::start();
    let limits = "tokens_per_minute = 1000000";
    let spillway = Setup::with(&provider).set("upstreams.openai.limits", limits).start();
    let is_asked = || body(|body| !body["stream_options"].is_null());
    let strict = json!({"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "no"}]});
    provider.when(is_asked(), respond(422).json(strict.clone()));
    for calls in [2, 3] {
        let answer = spillway.send(&chat_stream());
        assert_eq!((answer.status(), provider.stats().started), (200, calls), "{}", answer.text());
    }
    // A caller that asks by itself hears what the server says.
    let demanding = chat_with(json!({"stream": true, "stream_options": {"include_usage": true}}));
    assert_eq!(spillway.send(&demanding).json(), strict);

    let never = Setup::with(&provider).set("upstreams.openai.limits", limits);
    let never = never.set("upstreams.openai", "ask_for_usage = false").start();
    let before = provider.stats().started;
    assert_eq!(never.send(&chat_stream()).status(), 200);
    assert_eq!(provider.stats().started, before + 1);
}

#[test]
fn a_stream_that_is_left_half_way_is_charged_for_what_was_seen_of_it() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("upstreams.openai.limits", "tokens_per_minute = 1000000").start();
    let event = |text: &str| json!({"choices": [{"delta": {"content": text}}], "usage": {"prompt_tokens": 0, "completion_tokens": 0}});
    provider.next(stream().event(event("one")).event(event("two")).event(event("three")).stall());
    let (_, mut answer) = spillway.open(&chat_stream());
    read_events(&mut answer, 3);
    drop(answer);
    provider.wait_for_disconnect();
    spillway.log().wait_for(&["\"outcome\":\"abandoned\""]);
    assert_eq!(spillway.metric("spillway_tokens_total{upstream=\"openai\",direction=\"output\"}"), 3.0);
    assert!(spillway.metric("spillway_tokens_total{upstream=\"openai\",direction=\"input\"}") > 1.0);
}

#[test]
fn without_a_token_limit_requests_go_out_as_they_came() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    spillway.send(&chat_stream());
    assert_eq!(provider.requests()[0].json()["stream_options"], json!(null));
}
