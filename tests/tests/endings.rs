//! How answers begin and end: what is whole stays so whatever becomes of its connection, and what holds no answer is none
//! whatever its status says.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::{Value, json};
use spillway_tests::asks::{APIS, Api, chat, chat_stream, chat_with, message_stream, patient_chat};
use spillway_tests::http::{Connection, Request, post};
use spillway_tests::provider::{
    Provider, Reply, close_before_head, error_in_200, healthy, in_pieces, rate_limited, reset, respond, stream,
};
use spillway_tests::spillway::{Setup, Spillway};
use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

/// What becomes of a connection, in words and in deeds.
type Ending = (&'static str, fn(Reply) -> Reply);

/// What can become of a connection behind an answer that is whole.
const ENDINGS: [Ending; 4] = [
    ("its last chunk is missing", Reply::cut),
    ("it is reset", Reply::reset),
    ("it stays open in silence", Reply::stall),
    ("something follows, and breaks off", |reply| reply.chunk(": bye\n\nda").cut()),
];

fn failures(spillway: &Spillway, api: Api) -> Value {
    spillway.upstream(api.name)["breakers"][0]["window"]["failures"].clone()
}

/// A whole answer of each API, not streamed.
fn whole_answer(api: Api, text: &str) -> Value {
    match api.name {
        "openai" => json!({"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
                           "usage": {"prompt_tokens": 3, "completion_tokens": 2}}),
        "anthropic" => json!({"type": "message", "content": [{"type": "text", "text": text}],
                              "stop_reason": "end_turn", "usage": {"input_tokens": 3, "output_tokens": 2}}),
        _ => json!({"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}],
                    "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}}),
    }
}

/// How many events a whole answer has.
fn events(spillway: &Spillway, request: &Request) -> usize {
    let (events, end) = spillway.open(request).1.events();
    end.expect("a clean end");
    events.len()
}

fn as_json(body: impl Into<Vec<u8>>) -> Reply {
    in_pieces("application/json").chunk(body.into())
}

#[test]
fn what_becomes_of_a_stream_behind_its_last_event_is_no_failure() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    for api in APIS {
        let count = events(&spillway, &(api.stream)());
        for (name, ending) in ENDINGS {
            let before = provider.stats().started;
            let gate = provider.gate();
            provider.next(ending(healthy().after_events(usize::MAX).wait_for(&gate)));
            let (_, mut answer) = spillway.open(&(api.stream)());
            for _ in 0..count {
                answer.event().expect("an event").expect("no end yet");
            }
            gate.open();
            let (rest, end) = answer.events();
            assert!(end.is_ok(), "{}, {name}: {end:?}", api.name);
            assert!(!rest.concat().contains("spillway"), "{}, {name}: {rest:?}", api.name);
            assert_eq!(failures(&spillway, api), 0, "{}, {name}", api.name);
            assert_eq!(provider.stats().started, before + 1, "{}, {name}", api.name);
        }
    }
}

#[test]
fn what_becomes_of_a_body_behind_its_last_bracket_is_no_failure() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    for api in APIS {
        let before = |ending: fn(Reply) -> Reply, text: &str| {
            let (gate, body) = (provider.gate(), whole_answer(api, text).to_string());
            provider.next(ending(as_json(body.clone()).wait_for(&gate)));
            (gate, body, provider.stats().started)
        };
        let as_it_was = |name: &str, answer: &mut Connection, body: &str, started: u64| {
            let rest = answer.body().unwrap_or_else(|error| panic!("{}, {name}: {error}", api.name));
            assert!(body.as_bytes().ends_with(&rest), "{}, {name}", api.name);
            assert_eq!(failures(&spillway, api), 0, "{}, {name}", api.name);
            assert_eq!(provider.stats().started, started + 1, "{}, {name}", api.name);
        };
        // One that is on its way to the caller when its connection ends.
        for (name, ending) in &ENDINGS[..3] {
            let (gate, body, started) = before(*ending, &"word ".repeat(8 << 10));
            let (_, mut answer) = spillway.open(&(api.whole)());
            let mut read = 0;
            while read < body.len() {
                read += answer.piece().expect("a piece").expect("no end yet").len();
            }
            gate.open();
            as_it_was(name, &mut answer, "", started);
        }
        // One that is held as a whole.
        for (name, ending) in [ENDINGS[0], ENDINGS[2]] {
            let (gate, body, started) = before(ending, "hello");
            gate.open();
            let (_, mut answer) = spillway.open(&(api.whole)());
            as_it_was(name, &mut answer, &body, started);
        }
    }
}

#[test]
fn a_kept_job_whose_answer_is_whole_is_called_once_however_its_connection_ends() {
    for (name, ending) in [ENDINGS[0], ENDINGS[2]] {
        let provider = Provider::start();
        let spillway = Setup::with(&provider).start();
        provider.next(rate_limited().retry_after_s(1));
        provider.next(ending(as_json(whole_answer(APIS[0], "hello").to_string())));
        let kept = spillway.send(&patient_chat());
        assert_eq!(kept.status(), 202, "{name}: {}", kept.text());
        let job = spillway.wait_for_job(kept.header("location").expect("a place"));
        assert_eq!((&job["status"], &job["response"]["status"]), (&json!("done"), &json!(200)), "{name}: {job}");
        assert_eq!(provider.stats().started, 2, "{name}");
    }
}

#[test]
fn a_stream_of_responses_needs_no_event_lines() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let request = post("/v1/responses", &json!({"model": "m", "input": "hi", "stream": true}));
    for _ in 0..6 {
        let events = stream()
            .event(json!({"type": "response.created", "response": {"status": "in_progress"}}))
            .event(json!({"type": "response.output_text.delta", "delta": "hi"}))
            .event(json!({"type": "response.completed", "response": {"status": "completed"}}));
        provider.next(events);
        let answer = spillway.send(&request);
        assert!(answer.text().ends_with("\"response\":{\"status\":\"completed\"}}\n\n"), "{}", answer.text());
    }
    assert_eq!((failures(&spillway, APIS[0]), provider.stats().started), (json!(0), 6));
}

#[test]
fn the_blank_line_behind_the_last_event_may_be_missing_and_half_an_event_is_not_passed_on_before_an_error() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let chunk = |reason: Value| json!({"choices": [{"delta": {"content": "a"}, "finish_reason": reason}]});
    for ending in [Reply::cut, |reply: Reply| reply] {
        provider.next(ending(stream().event(chunk(Value::Null)).chunk(format!("data: {}", chunk(json!("stop"))))));
        let (_, mut answer) = spillway.open(&chat_stream());
        let body = String::from_utf8(answer.body().expect("a clean end")).expect("text");
        assert!(body.ends_with("\"stop\"}]}") && !body.contains("spillway"), "{body}");

        provider.next(ending(stream().event(chunk(Value::Null)).chunk("data: {\"choices\":[{\"del")));
        let (events, end) = spillway.open(&chat_stream()).1.events();
        assert!(end.is_err() && events.len() == 2, "{events:?}");
        assert!(events[1].starts_with("data: {\"error\""), "{events:?}");
    }
}

#[test]
fn an_event_that_is_whole_but_not_the_last_does_not_run_into_what_is_said_of_the_break() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let chunk = |text: &str| json!({"choices": [{"delta": {"content": text}, "finish_reason": null}]});
    for end in ["", "\n"] {
        provider.next(stream().event(chunk("a")).chunk(format!("data: {}{end}", chunk("b"))).cut());
        let (events, broken) = spillway.open(&chat_stream()).1.events();
        assert!(broken.is_err() && events.len() >= 3, "{events:?}");
        assert!(events[1].contains("\"b\"") && !events[1].contains("error"), "{events:?}");
        assert!(events.last().is_some_and(|last| last.trim_start().starts_with("data: {\"error\"")), "{events:?}");
    }
}

#[test]
fn of_several_answers_each_must_be_finished_where_the_connection_breaks() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let request = chat_with(json!({"stream": true, "n": 2}));
    let finish = |index: u32| json!({"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]});
    provider.next(stream().event(finish(0)).cut());
    assert!(spillway.open(&request).1.events().1.is_err());
    provider.next(stream().event(finish(0)).event(finish(1)).cut());
    assert!(spillway.open(&request).1.events().1.is_ok());
}

#[test]
fn an_empty_reason_to_finish_is_no_end() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let chunk = |reason: &str| json!({"choices": [{"delta": {"content": "a"}, "finish_reason": reason}]});
    provider.next(stream().event(chunk("")).event(chunk("")));
    let (_, mut answer) = spillway.open(&chat_stream());
    let (events, end) = answer.events();
    assert!(end.is_err() && events.concat().contains("spillway_stream_cut"), "{events:?}");
    provider.next(stream().event(chunk("")).event(chunk("stop")));
    let (events, end) = spillway.open(&chat_stream()).1.events();
    assert!(end.is_ok() && !events.concat().contains("spillway"), "{events:?}");
}

/// What holds no answer, by API: not streamed, and streamed.
fn nothing(api: Api) -> Vec<(&'static str, Request, Reply)> {
    let json = |body: &str| respond(200).header("content-type", "application/json").body(body.to_owned());
    let page = respond(200).header("content-type", "text/html").body("<!doctype html><title>Log in</title>");
    let (empty, end) = match api.name {
        "openai" => (json(r#"{"id":"x","choices":[]}"#), stream().done()),
        "anthropic" => (
            json(r#"{"type":"message","content":[],"stop_reason":null}"#),
            stream().named_event("message_stop", json!({"type": "message_stop"})),
        ),
        _ => (json("{}"), stream().event(json!({"usageMetadata": {}}))),
    };
    vec![
        ("no body", (api.whole)(), json("")),
        ("null", (api.whole)(), json("null")),
        ("blank lines", (api.whole)(), json("\n\n\n")),
        ("a web page", (api.whole)(), page.clone()),
        ("an empty answer", (api.whole)(), empty),
        ("a web page for a stream", (api.stream)(), page),
        ("no body for a stream", (api.stream)(), stream()),
        ("only an end of a stream", (api.stream)(), end),
    ]
}

#[test]
fn nothing_under_a_200_is_a_failure_and_had_again() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    for api in APIS {
        for (name, request, reply) in nothing(api) {
            provider.next(reply);
            let answer = spillway.send(&request);
            assert_eq!(
                (answer.status(), answer.header("x-spillway-attempts")),
                (200, Some("2")),
                "{}, {name}",
                api.name
            );
            assert!(answer.text().contains("Hello"), "{}, {name}: {}", api.name, answer.text());
        }
    }
}

#[test]
fn nothing_under_a_200_that_stays_so_reaches_the_caller_as_the_provider_sent_it() {
    let provider = Provider::start();
    for api in APIS {
        let setup = Setup::with(&provider).set(&format!("upstreams.{}.retry", api.name), "max_attempts = 2");
        let spillway = setup.start();
        for (name, request, reply) in nothing(api) {
            provider.heal();
            provider.always(reply);
            let direct = Connection::open(provider.address()).and_then(|mut direct| direct.exchange(&request));
            let direct = direct.expect("an answer");
            let answer = spillway.send(&request);
            assert_eq!((answer.status(), answer.text()), (direct.status(), direct.text()), "{}, {name}", api.name);
        }
        assert!(failures(&spillway, api).as_u64() >= Some(4), "{}", failures(&spillway, api));
    }
}

#[test]
fn an_answer_that_may_be_empty_is_one() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let legal = [
        (post("/v1/embeddings", &json!({"model": "m", "input": []})), respond(200).json(json!({"data": []}))),
        (chat(), respond(204)),
        // What is accepted for later would be done twice if it were sent again.
        (chat(), respond(202).json(json!({}))),
        ((APIS[2].whole)(), respond(202).json(json!({"status": "queued"}))),
        (chat().path("/v1/files/f").body(""), respond(200)),
    ];
    for (number, (request, reply)) in (1..).zip(legal) {
        provider.next(reply);
        let answer = spillway.send(&request);
        assert!((200..300).contains(&answer.status()), "{number}");
        assert_eq!(provider.stats().started, number);
    }
    assert_eq!(failures(&spillway, APIS[0]), 0);
}

#[test]
fn what_keeps_a_caller_waiting_is_passed_on_while_there_is_no_answer_yet() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    for api in APIS {
        let gate = provider.gate();
        let body = whole_answer(api, "late").to_string();
        let reply = as_json("\n").wait_for(&gate);
        provider.next(reply.chunk("\n").chunk(body.clone()));
        let (head, mut answer) = spillway.open(&(api.whole)());
        assert_eq!(head.status, 200);
        assert_eq!(answer.piece().expect("a piece").expect("no end yet"), b"\n", "while the provider still thinks");
        gate.open();
        assert_eq!(answer.body().expect("a clean end"), format!("\n{body}").as_bytes());
        assert_eq!(failures(&spillway, api), 0);
    }
}

#[test]
fn so_are_comments_before_a_streams_first_event() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let gate = provider.gate();
    let chunk = json!({"choices": [{"delta": {"content": "late"}, "finish_reason": "stop"}]});
    // A comment is a line, and need not be an event.
    provider.next(stream().chunk(": still thinking\n").wait_for(&gate).event(chunk).done());
    let (_, mut answer) = spillway.open(&chat_stream());
    assert_eq!(answer.piece().expect("a piece").expect("no end yet"), b": still thinking\n");
    gate.open();
    let (events, end) = answer.events();
    assert!(end.is_ok() && events.concat().contains("late"), "{events:?}");
}

#[test]
fn an_error_as_a_streams_first_event_keeps_its_words() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("upstreams.anthropic.limits", "patience = \"0s\"").start();
    provider.always(error_in_200());
    let answer = spillway.send(&message_stream());
    assert_eq!(answer.status(), 200);
    let (head, mut direct) = direct(&provider, &message_stream());
    assert_eq!(head, 200);
    assert_eq!(answer.text(), direct.events().0.concat());
    assert!(answer.text().contains("overloaded_error") && !answer.text().contains("spillway"), "{}", answer.text());
}

#[test]
fn an_error_in_a_stream_that_is_not_worth_repeating_is_not_repeated() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let error = json!({"type": "error", "error": {"type": "invalid_request_error", "message": "no such tool"}});
    provider.always(stream().event(error));
    let answer = spillway.send(&message_stream());
    assert!(answer.text().contains("no such tool"), "{}", answer.text());
    assert_eq!(provider.stats().started, 1);
}

#[test]
fn a_body_that_contradicts_its_content_type_keeps_its_words() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    // An error that is the request's own.
    let body = r#"{"error":{"type":"invalid_request_error","message":"no such model"}}"#;
    provider.next(stream().chunk(body));
    let answer = spillway.send(&chat_stream());
    assert_eq!((answer.status(), answer.text()), (200, body.to_owned()));
    assert_eq!((provider.stats().started, failures(&spillway, APIS[0])), (1, json!(0)));
    // And an answer.
    let body = whole_answer(APIS[0], "hello").to_string();
    provider.next(stream().chunk(body.clone()));
    assert_eq!(spillway.send(&chat_stream()).text(), body);
    assert_eq!((provider.stats().started, failures(&spillway, APIS[0])), (2, json!(0)));
}

fn once(provider: &Provider) -> Spillway {
    Setup::with(provider).set("upstreams.openai.retry", "max_attempts = 1").start()
}

#[test]
fn a_connection_that_is_lost_before_the_head_is_lost_for_the_caller_too() {
    let provider = Provider::start();
    let spillway = once(&provider);
    for broken in [reset(), close_before_head()] {
        provider.next(broken);
        let lost = spillway.connect().exchange(&chat()).expect_err("no answer");
        assert!(matches!(lost.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{lost}");
    }
    assert_eq!((failures(&spillway, APIS[0]), provider.stats().started), (json!(2), 2));
    spillway.log().wait_for(&["connection lost", "the caller's connection is closed as the provider's was"]);
    assert_eq!(spillway.send(&chat()).status(), 200);
}

#[test]
fn a_quick_loss_is_repeated_where_nothing_was_answered() {
    for broken in [reset(), close_before_head(), in_pieces("application/json").chunk("\n").cut()] {
        let provider = Provider::start();
        // Its first connection cannot have been unused.
        let spillway = Setup::with(&provider).start();
        provider.next(broken);
        let answer = spillway.send(&chat());
        assert_eq!((answer.status(), answer.header("x-spillway-attempts")), (200, Some("2")));
    }
}

#[test]
fn a_body_that_is_cut_half_way_reaches_the_caller_as_far_as_it_came_and_is_called_once() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    provider.always(healthy().cut());
    let half = |mut answer: Connection| {
        let mut arrived = Vec::new();
        loop {
            match answer.piece() {
                Ok(piece) => arrived.extend(piece.expect("no clean end")),
                Err(broken) => break (arrived.len(), broken.kind()),
            }
        }
    };
    let (status, answer) = direct(&provider, &chat());
    let directly = half(answer);
    let (head, answer) = spillway.open(&chat());
    assert_eq!((head.status, half(answer)), (status, directly));
    assert!(directly.0 > 0);
    assert_eq!((failures(&spillway, APIS[0]), provider.stats().started), (json!(1), 2));
}

#[test]
fn a_body_breaks_off_for_the_caller_as_it_did_for_us() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    type Cut = fn(Reply) -> Reply;
    let endings: [(Cut, ErrorKind); 2] =
        [(Reply::cut, ErrorKind::UnexpectedEof), (Reply::reset, ErrorKind::ConnectionReset)];
    // One that is held as a whole, and one that is too long for that.
    for (words, (ending, expected)) in [8, 64 << 10].into_iter().flat_map(|words| endings.map(|one| (words, one))) {
        provider.next(ending(healthy().saying(&"word ".repeat(words))));
        let (head, mut answer) = spillway.open(&chat());
        let broken = loop {
            match answer.piece() {
                Ok(piece) => assert!(piece.is_some(), "no clean end"),
                Err(broken) => break broken,
            }
        };
        assert_eq!((head.status, broken.kind()), (200, expected), "{words} words");
    }
}

#[test]
fn a_stream_that_is_cut_before_its_first_word_ends_with_an_error_in_its_apis_words() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("upstreams.anthropic.retry", "max_attempts = 1").start();
    provider.always(healthy().after_events(2).cut());
    let (head, mut answer) = spillway.open(&message_stream());
    let (events, end) = answer.events();
    assert!(head.status == 200 && end.is_err() && events.len() == 3, "{events:?}");
    assert!(events[2].starts_with("event: error\n") && events[2].contains("spillway_stream_cut"), "{events:?}");
}

#[test]
fn a_connection_that_its_provider_closes_as_unused_is_nobodys_failure() {
    let provider = Provider::start();
    let spillway = once(&provider);
    let mut caller = spillway.connect();
    assert_eq!(caller.exchange(&chat()).expect("an answer").status(), 200);
    let unused = Duration::from_millis(1_100);
    for (number, closed) in (1..).zip([close_before_head(), reset()]) {
        // On the connection that has answered, and that nobody has used since.
        thread::sleep(unused);
        provider.next(closed);
        let answer = caller.exchange(&chat()).expect("an answer");
        assert_eq!((answer.status(), answer.header("x-spillway-attempts")), (200, Some("1")));
        assert_eq!(provider.stats().started, 1 + 2 * number);
    }
    assert_eq!(failures(&spillway, APIS[0]), 0);
}

#[test]
fn a_caller_that_leaves_behind_the_last_event_has_been_served() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    for api in APIS {
        let count = events(&spillway, &(api.stream)());
        provider.next(healthy().after_events(usize::MAX).stall());
        let (_, mut answer) = spillway.open(&(api.stream)());
        for _ in 0..count {
            answer.event().expect("an event").expect("no end yet");
        }
        drop(answer);
        provider.wait_for_disconnect();
    }
    spillway.log().wait_for(&["\"outcome\":\"answered\""]);
    assert!(!spillway.log().text().contains("abandoned"), "{}", spillway.log().text());
}

fn direct(provider: &Provider, request: &Request) -> (u16, Connection) {
    let mut connection = Connection::open(provider.address()).expect("a connection");
    connection.send(request).expect("sent");
    let head = connection.head().expect("a head");
    (head.status, connection)
}
