//! The end of a chain: a local server that serves less than was asked for, or one text for all, and both say so.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::{Value, json};
use spillway_tests::asks::{APIS, chat, chat_with, patient_chat};
use spillway_tests::http::{Request, post};
use spillway_tests::provider::{Failure, fail, insufficient_quota};
use spillway_tests::row::Row;
use spillway_tests::spillway::Spillway;

const TEXT: &str = "We are degraded; \"come back\" later.";

/// A row in which nobody serves, with a text at its end.
fn nobody_serves(dialect: &str) -> (Row, Spillway) {
    let row = Row::new();
    let answer = format!("static_answer = {}", json!(TEXT));
    let spillway = row.setup(dialect, r#"["first", "second"]"#).set("routes.chain", &answer).start();
    row.first().always(insufficient_quota());
    row.second().stop();
    (row, spillway)
}

#[test]
fn what_a_degraded_target_answers_is_marked() {
    let row = Row::new();
    let targets = r#"["first", { target = "second/small", degraded = true }]"#;
    let spillway = row.setup("openai", targets).start();
    assert_eq!(spillway.send(&chat()).header("x-spillway-degraded"), None);
    row.first().always(insufficient_quota());
    let answer = spillway.send(&chat());
    assert_eq!((answer.status(), answer.header("x-spillway-degraded")), (200, Some("second/small")));
}

#[test]
fn where_nobody_serves_the_text_is_answered_in_the_api_that_was_asked_and_marked() {
    for api in APIS {
        let (row, spillway) = nobody_serves(api.name);
        let answer = spillway.send(&(api.whole)());
        assert_eq!((answer.status(), answer.header("x-spillway-degraded")), (200, Some("static")), "{}", answer.text());
        let places = ["/choices/0/message/content", "/content/0/text", "/candidates/0/content/parts/0/text"];
        let text = places.iter().map(|place| answer.at(place)).find(|text| !text.is_empty());
        assert_eq!(text.as_deref(), Some(TEXT), "{}", answer.text());

        let (head, mut connection) = spillway.open(&(api.stream)());
        let (events, end) = connection.events();
        assert_eq!((head.status, head.header("x-spillway-degraded")), (200, Some("static")), "{events:?}");
        assert!(head.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")));
        assert!(end.is_ok() && events.concat().contains("We are degraded;"), "{events:?}");
        let line = spillway.log().wait_for(&["\"message\":\"request\"", "static"]);
        assert_eq!(line["status"], 200, "{line}");
        assert!(row.asked().contains(&"first"), "it is the end of a chain, not its beginning");
    }
}

#[test]
fn nobody_who_wants_more_than_a_text_gets_one() {
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    let schema = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}});
    let gemini = |fields: Value| {
        let mut body = json!({"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]});
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        post("/v1beta/models/m:generateContent", &body).header("x-goog-api-key", "k")
    };
    let anthropic = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}],
                           "tools": [{"name": "f", "input_schema": {"type": "object"}}]});
    let cases: [(&str, Vec<Request>); 3] = [
        (
            "openai",
            vec![
                chat_with(json!({"tools": tools})),
                chat_with(json!({"response_format": schema})),
                chat_with(json!({"tools": tools, "stream": true})),
                post("/v1/embeddings", &json!({"model": "m", "input": "hi"})),
            ],
        ),
        ("anthropic", vec![post("/v1/messages", &anthropic).header("x-api-key", "k")]),
        (
            "gemini",
            vec![
                gemini(json!({"tools": [{"functionDeclarations": [{"name": "f"}]}]})),
                gemini(json!({"generationConfig": {"responseMimeType": "application/json"}})),
            ],
        ),
    ];
    for (dialect, requests) in cases {
        let (_row, spillway) = nobody_serves(dialect);
        for request in requests {
            let answer = spillway.send(&request);
            assert!(
                answer.status() >= 400 && !answer.text().contains("We are degraded"),
                "{request:?}: {}",
                answer.text()
            );
            assert_eq!(answer.header("x-spillway-degraded"), None);
        }
    }
}

#[test]
fn the_callers_own_mistake_is_no_reason_for_the_text() {
    let (row, spillway) = nobody_serves("openai");
    row.first().always(fail(Failure::ServerError).status(422));
    assert_eq!(spillway.send(&chat()).status(), 422);
}

#[test]
fn whoever_takes_a_promise_gets_one_and_no_text_stands_for_its_job() {
    let row = Row::new();
    let answer = format!("static_answer = {}", json!(TEXT));
    let setup = row.setup("openai", r#"["first"]"#).set("routes.chain", &answer).set("spool", "max_attempts = 1");
    let spillway = setup.start();
    row.first().always(fail(Failure::ServerError));
    let kept = spillway.send(&patient_chat());
    assert_eq!(kept.status(), 202, "{}", kept.text());
    let job = spillway.wait_for_job(kept.header("location").expect("a place to ask"));
    assert_eq!((&job["status"], &job["response"]["status"]), (&json!("dead"), &json!(500)), "{job}");
}
