//! Chains: a target gets its caller's bytes, whatever they are, but for the model's name.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use spillway_tests::asks::{chat, generate, message};
use spillway_tests::http::Request;
use spillway_tests::provider::rate_limited;
use spillway_tests::row::Row;
use std::io::Write;

/// Under which the target is asked.
const OTHER: &str = "vendor/other \"model\"";

/// One member of an object, as it is written: key, what stands before and behind the colon, value.
type Member = (String, String, String);

fn space() -> impl Strategy<Value = String> {
    "[ \n\t]{0,2}"
}

/// A text, with the escapes that another writer would write otherwise.
fn text() -> impl Strategy<Value = String> {
    r#""([a-zé ]|\\u00e9|\\n|\\"|\\/|\\ud83d\\ude00|\\u0000|😀){0,6}""#
}

/// A value with unknown fields in every depth, numbers as nobody else writes them, and keys that stand twice.
fn value() -> impl Strategy<Value = String> {
    let number = prop::sample::select(vec![
        "0",
        "-0",
        "1.0",
        "1e3",
        "1E+2",
        "0.10",
        "-1.5e-7",
        "12345678901234567890123",
        "1e400",
    ]);
    let word = prop::sample::select(vec!["null", "true", "false", "{}", "[ ]", r#"{"model":"inner"}"#]);
    let leaf = prop_oneof![number.prop_map(str::to_owned), word.prop_map(str::to_owned), text()];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let members =
            prop::collection::vec((text(), space(), inner.clone()), 0..3).prop_map(|members| object(&members));
        let list = prop::collection::vec((inner, space()), 0..3).prop_map(|values| {
            let values: Vec<String> = values.into_iter().map(|(value, space)| value + &space).collect();
            format!("[{}]", values.join(","))
        });
        prop_oneof![members, list]
    })
}

fn object(members: &[Member]) -> String {
    let members: Vec<String> =
        members.iter().map(|(key, space, value)| format!("{space}{key}{space}:{space}{value}{space}")).collect();
    format!("{{{}}}", members.join(","))
}

/// Members that ask for nothing in particular.
fn members() -> impl Strategy<Value = Vec<Member>> {
    let key =
        prop::sample::select(vec![r#""x""#, r#""x_\u0061""#, r#""é""#, r#""messages""#, r#""seed""#, r#""Model""#]);
    prop::collection::vec((key.prop_map(str::to_owned), space(), value()), 0..6)
}

/// Where the model stands among the members, and how its key and its value are written. Some write it twice.
fn models() -> impl Strategy<Value = Vec<(prop::sample::Index, String, String)>> {
    let key = prop::sample::select(vec![r#""model""#, r#""mod\u0065l""#]).prop_map(str::to_owned);
    prop::collection::vec((any::<prop::sample::Index>(), key, text()), 1..3)
}

fn check(dialect: &str, request: &Request, has_model_in_body: bool) {
    let row = Row::new();
    let target = format!("second/{OTHER}");
    let spillway = row.setup(dialect, &format!("['{target}']")).start();
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() });
    let outcome = runner.run(&(members(), models()), |(members, models)| {
        let (mut sent, mut expected) = (members.clone(), members);
        for (place, key, value) in models.into_iter().filter(|_| has_model_in_body) {
            let place = place.index(sent.len() + 1);
            sent.insert(place, (key.clone(), String::new(), value));
            expected.insert(place, (key, String::new(), serde_json::Value::from(OTHER).to_string()));
        }
        let answer = spillway.send(&request.clone().body(object(&sent)));
        prop_assert_eq!(answer.status(), 200, "{}", answer.text());
        let ledger = row.ledger();
        prop_assert_eq!(&ledger.last().expect("a call").body, &object(&expected));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{dialect}: {error}");
    }
}

#[test]
fn whatever_a_request_holds_a_target_gets_the_callers_bytes_but_for_the_model() {
    std::thread::scope(|scope| {
        scope.spawn(|| check("openai", &chat(), true));
        scope.spawn(|| check("openai", &chat().path("/v1/responses"), true));
        scope.spawn(|| check("anthropic", &message(), true));
        scope.spawn(|| check("gemini", &generate(), false));
    });
}

#[test]
fn what_came_compressed_is_sent_as_it_reads_where_another_model_is_asked() {
    let row = Row::new();
    let spillway = row.setup("openai", r#"["second/other", "third"]"#).start();
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(br#"{"model":"mine", "seed":1e3}"#).expect("memory");
    let packed = packed.finish().expect("memory");
    let request = chat().header("content-encoding", "gzip").body(packed.clone());
    row.second().next(rate_limited().retry_after_s(30));
    assert_eq!(spillway.send(&request).status(), 200);
    let (changed, own) = (&row.second().requests()[0], &row.third().requests()[0]);
    assert_eq!((&*changed.body, changed.header("content-encoding")), (&br#"{"model":"other", "seed":1e3}"#[..], None));
    assert_eq!((&*own.body, own.header("content-encoding")), (&*packed, Some("gzip")));
}
