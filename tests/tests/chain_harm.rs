//! No route makes its callers worse off: what others refuse, what is asked once, and who pays for a fallback.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::json;
use spillway_tests::asks::{chat, chat_with, patient_chat};
use spillway_tests::http::{Request, get, post};
use spillway_tests::provider::{Failure, fail, insufficient_quota, respond};
use spillway_tests::row::Row;

const TWO: &str = r#"["first", "second"]"#;
const ALL: &str = r#"["first", "second", "third"]"#;
const EQUALS: &str = r#"[["first", "second"]]"#;

/// A chat that is no other's conversation.
fn chat_about(subject: usize) -> Request {
    chat_with(json!({"messages": [{"role": "user", "content": format!("about {subject}")}]}))
}

#[test]
fn what_does_not_generate_is_asked_of_one_target_whatever_it_says() {
    let row = Row::new();
    let spillway = row.setup("openai", ALL).start();
    for status in [404, 413, 429, 500] {
        row.first().always(fail(Failure::ServerError).status(status));
        for request in [post("/v1/files", &json!({"purpose": "batch"})), get("/v1/models")] {
            assert_eq!(spillway.send(&request).status(), status);
        }
    }
    assert!(row.asked().iter().all(|asked| *asked == "first"), "{:?}", row.asked());
}

#[test]
fn a_mistake_that_all_find_is_the_callers_to_hear_and_neither_kept_nor_answered_by_the_routes_text() {
    for failure in [Failure::ContextLengthExceeded, Failure::Unauthorized] {
        let row = Row::new();
        let spillway = row.setup("openai", TWO).set("routes.chain", "static_answer = \"later\"").start();
        row.first().always(fail(failure));
        row.second().always(fail(failure));
        let without = spillway.send(&chat());
        assert!(matches!(without.status(), 400 | 401), "{}", without.text());
        let kept = spillway.send(&patient_chat());
        assert_eq!(kept.status(), without.status(), "{}", kept.text());
        assert_eq!(row.asked(), ["first", "second", "first", "second"]);
    }
}

#[test]
fn a_stand_in_that_refuses_leaves_the_first_target_as_good_as_it_is_alone() {
    let row = Row::new();
    let spillway = row.setup("openai", TWO).start();
    row.second()
        .always(respond(400).json(json!({"error": {"message": "unknown parameter", "type": "invalid_request_error"}})));
    for subject in 0..60 {
        row.first().next(fail(Failure::ServerError));
        let answer = spillway.send(&chat_about(subject));
        assert_eq!(answer.status(), 200, "{subject}: {}", answer.text());
        assert_eq!(answer.header("x-spillway-target"), Some("first"));
    }
}

#[test]
fn an_equal_whose_key_is_refused_draws_no_conversations() {
    let row = Row::new();
    let spillway = row.setup("openai", EQUALS).start();
    row.second().always(fail(Failure::Unauthorized));
    for subject in 0..100 {
        assert_eq!(spillway.send(&chat_about(subject)).status(), 200);
    }
    let in_vain = row.asked().iter().filter(|asked| **asked == "second").count();
    assert!(in_vain <= 20, "{in_vain} of 100 requests asked it in vain");

    row.second().heal();
    let mut subject = 100;
    while spillway.send(&chat_about(subject)).header("x-spillway-target") != Some("second") {
        subject += 1;
        assert!(subject < 400, "it is never asked again");
    }
}

#[test]
fn a_fallback_is_paid_for_by_who_serves_it_and_not_by_who_is_passed_over() {
    let row = Row::new();
    let spillway = row.setup("openai", ALL).start();
    row.first().always(fail(Failure::ContextLengthExceeded));
    row.second().always(insufficient_quota());
    for subject in 0..80 {
        let answer = spillway.send(&chat_about(subject));
        assert_eq!((answer.status(), answer.header("x-spillway-target")), (200, Some("third")), "{subject}");
    }
}

#[test]
fn a_retry_is_invited_as_long_as_one_target_may_serve_then() {
    let row = Row::new();
    let spillway = row.setup("openai", TWO).start();
    row.first().always(insufficient_quota());
    row.second().always(fail(Failure::ServerError));
    for _ in 0..3 {
        let answer = spillway.send(&chat());
        assert_eq!((answer.status(), answer.header("x-should-retry")), (429, None), "{}", answer.text());
    }
}

#[test]
fn a_job_says_which_target_has_served_it_and_for_whom() {
    let row = Row::new();
    let spillway = row.setup("openai", TWO).start();
    row.first().always(insufficient_quota());
    row.second().always(fail(Failure::ServerError));
    let kept = spillway.send(&patient_chat());
    assert_eq!(kept.status(), 202, "{}", kept.text());
    row.second().heal();
    let job = spillway.wait_for_job(kept.header("location").expect("a place to ask"));
    let told = (&job["response"]["target"], &job["response"]["fallback_from"]);
    assert_eq!(told, (&json!("second"), &json!("first")), "{job}");
}
