//! Whoever names what was made at a provider is sent there also behind a restart, and nowhere else.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::{Value, json};
use spillway_tests::http::{Request, Response, get, post};
use spillway_tests::provider::{Failure, Provider, RecordedRequest, fail};
use spillway_tests::spillway::{Setup, Spillway};
use spillway_tests::wait::eventually;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Whoever shows it may spend the keys of the second target.
const ACCESS_KEY: &str = "access-key-of-the-house";
const SECOND_KEYS: [&str; 2] = ["sk-second-one", "sk-second-two"];

/// A first target, and a second one that has two keys: what was made with one is not known to the other.
struct Chain {
    first: Provider,
    second: Provider,
}

impl Chain {
    fn start() -> Chain {
        Chain { first: Provider::start(), second: Provider::start() }
    }

    /// Calls are not repeated, so that each that fails is seen once.
    fn setup(&self) -> Setup {
        let second = format!(
            "url = \"{}\"\ndialect = \"openai\"\napi_key_env = [\"SECOND_ONE\", \"SECOND_TWO\"]",
            self.second.url()
        );
        Setup::with(&self.first)
            .set("upstreams.openai.retry", "max_attempts = 1")
            .set("upstreams.second", &second)
            .set("upstreams.second.retry", "max_attempts = 1")
            .set("server", "access_key_env = \"ACCESS_KEY\"")
            .set("routes.answers", "targets = [\"openai\", \"second\"]")
            .environment("ACCESS_KEY", ACCESS_KEY)
            .environment("SECOND_ONE", SECOND_KEYS[0])
            .environment("SECOND_TWO", SECOND_KEYS[1])
    }

    /// An answer's id that the second target has made while the first one failed, and with which key.
    #[track_caller]
    fn made_by_the_second(&self, spillway: &Spillway, stream: bool) -> (String, String) {
        self.first.always(fail(Failure::ServerError));
        let answer = spillway.send(&respond(json!({"stream": stream})));
        self.first.heal();
        assert_eq!((answer.status(), answer.header("x-spillway-target")), (200, Some("second")), "{}", answer.text());
        (id(&answer, stream), shown(&self.last_at_the_second()))
    }

    fn last_at_the_second(&self) -> RecordedRequest {
        let requests = self.second.requests();
        RecordedRequest::clone(requests.last().expect("the second target was asked"))
    }

    /// Whatever names it reaches who has made it, with the same key, and nobody else; also when that one fails.
    #[track_caller]
    fn is_known_to_the_second_alone(&self, spillway: &Spillway, id: &str, key: &str) {
        let calls = self.first.stats().started;
        let follow_up = respond(json!({"previous_response_id": id}));
        let question = get(&format!("/v1/responses/{id}")).header("authorization", &format!("Bearer {ACCESS_KEY}"));
        for request in [&follow_up, &question, &follow_up, &question] {
            let answer = spillway.send(request);
            assert_eq!(answer.status(), 200, "{request:?}: {}", answer.text());
            assert_eq!(shown(&self.last_at_the_second()), key, "{request:?}");
        }
        for request in [&follow_up, &question] {
            self.second.next(fail(Failure::ServerError));
            let answer = spillway.send(request);
            assert_eq!(answer.status(), 500, "{request:?}: {}", answer.text());
        }
        assert_eq!(self.first.stats().started, calls, "the first target was asked for what it has not made");
    }
}

/// The credential of a call.
fn shown(request: &RecordedRequest) -> String {
    let value = request.header("authorization").expect("a credential");
    value.strip_prefix("Bearer ").expect("a bearer's").to_owned()
}

/// A request for an answer that a later one may name.
fn respond(fields: Value) -> Request {
    let mut body = json!({"model": "mock-small", "input": "Say hello."});
    if let (Some(body), Value::Object(fields)) = (body.as_object_mut(), fields) {
        body.extend(fields);
    }
    post("/v1/responses", &body).header("authorization", &format!("Bearer {ACCESS_KEY}"))
}

/// The id in a whole answer, or in the first event of a stream.
#[track_caller]
fn id(answer: &Response, stream: bool) -> String {
    if !stream {
        return answer.at("/id");
    }
    let text = answer.text();
    let created = text.lines().find_map(|line| line.strip_prefix("data: ")).expect("an event");
    let created: Value = serde_json::from_str(created).expect("JSON");
    assert_eq!(created["type"], "response.created", "{text}");
    created["response"]["id"].as_str().expect("an id").to_owned()
}

fn file(spillway: &Spillway) -> PathBuf {
    spillway.folder().join("spillway-data/makers.json")
}

/// Waits until something is written down, and answers it.
fn written(spillway: &Spillway) -> String {
    eventually("it is on disk who has made what", || fs::read_to_string(file(spillway)).ok())
}

/// A restart in order remembers what was made until its end, however short ago.
fn an_orderly_restart_forgets_nobody(stream: bool) {
    let chain = Chain::start();
    let mut spillway = chain.setup().start();
    let (id, key) = chain.made_by_the_second(&spillway, stream);
    spillway.terminate();
    spillway.start_again();
    chain.is_known_to_the_second_alone(&spillway, &id, &key);
}

/// A process that is killed leaves behind what was on disk.
fn a_kill_forgets_nobody_who_is_on_disk(stream: bool) {
    let chain = Chain::start();
    let mut spillway = chain.setup().start();
    let (id, key) = chain.made_by_the_second(&spillway, stream);
    let text = written(&spillway);
    for secret in [&id, &key, ACCESS_KEY] {
        assert!(!text.contains(secret), "{secret} itself is on disk");
    }
    let mode = fs::metadata(file(&spillway)).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "it is its owner's alone");
    spillway.restart();
    chain.is_known_to_the_second_alone(&spillway, &id, &key);
}

#[test]
fn who_has_made_an_answer_is_known_behind_a_restart_in_order() {
    an_orderly_restart_forgets_nobody(false);
}

#[test]
fn who_has_made_a_streamed_answer_is_known_behind_a_restart_in_order() {
    an_orderly_restart_forgets_nobody(true);
}

#[test]
fn who_has_made_an_answer_is_known_behind_a_kill() {
    a_kill_forgets_nobody_who_is_on_disk(false);
}

#[test]
fn who_has_made_a_streamed_answer_is_known_behind_a_kill() {
    a_kill_forgets_nobody_who_is_on_disk(true);
}

#[test]
fn a_deleted_file_of_makers_is_written_anew() {
    let chain = Chain::start();
    let mut spillway = chain.setup().start();
    let (id, key) = chain.made_by_the_second(&spillway, false);
    written(&spillway);
    fs::remove_dir_all(spillway.folder().join("spillway-data")).expect("deleted");
    written(&spillway);
    spillway.restart();
    chain.is_known_to_the_second_alone(&spillway, &id, &key);
}

#[test]
fn a_file_of_makers_that_can_be_neither_read_nor_written_is_told_and_memory_alone_serves() {
    let chain = Chain::start();
    let setup = chain.setup();
    let data = setup.folder().join("spillway-data");
    fs::create_dir_all(data.join("makers.json/in-its-place")).expect("a folder where the file goes");
    fs::set_permissions(&data, Permissions::from_mode(0o700)).expect("a mode");
    let mut spillway = setup.start();
    spillway.log().wait_for(&["WARN", "who has made what is not known", "makers.json"]);
    let (id, key) = chain.made_by_the_second(&spillway, false);
    spillway.log().wait_for(&["ERROR", "who has made what could not be stored", "makers.json"]);
    chain.is_known_to_the_second_alone(&spillway, &id, &key);
    // It is tried again, and said no more.
    fs::remove_dir_all(file(&spillway)).expect("mended");
    written(&spillway);
    assert_eq!(spillway.log().text().matches("could not be stored").count(), 1, "{}", spillway.log().text());
    spillway.restart();
    chain.is_known_to_the_second_alone(&spillway, &id, &key);
}

#[test]
fn a_damaged_file_of_makers_is_no_reason_not_to_start() {
    let chain = Chain::start();
    let mut spillway = chain.setup().start();
    chain.made_by_the_second(&spillway, false);
    let text = written(&spillway);
    let later_layout = text.replace("\"version\": 1", "\"version\": 2");
    for (left, why) in [("{ nonsense", "key must be a string"), (&later_layout, "the file's layout is 2")] {
        spillway.kill();
        fs::write(file(&spillway), left).expect("written");
        spillway.restart();
        spillway.log().wait_for(&["who has made what is not known", why]);
        let (id, key) = chain.made_by_the_second(&spillway, false);
        chain.is_known_to_the_second_alone(&spillway, &id, &key);
    }
}

#[test]
fn where_nobody_but_one_can_have_made_anything_nothing_is_written() {
    let provider = Provider::start();
    let mut spillway = Setup::with(&provider).start();
    assert_eq!(spillway.send(&respond(json!({}))).status(), 200);
    spillway.terminate();
    spillway.wait_for_exit();
    assert!(spillway.folder().join("spillway-data").exists());
    assert!(!file(&spillway).exists());
}
