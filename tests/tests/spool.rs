//! The spool: a 202 is a promise that outlives the provider's outage and Spillway's own death.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use serde_json::json;
use spillway_tests::asks::{KEY, chat, chat_stream, chat_with, message, patient_chat};
use spillway_tests::http::{Request, Response, delete, get, post};
use spillway_tests::provider::{Failure, Provider, body, fail, healthy, respond};
use spillway_tests::spillway::{Setup, Spillway};
use spillway_tests::wait::eventually;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// One call per request, and a circuit that opens at the first failure and soon probes.
fn brittle(provider: &Provider) -> Setup {
    Setup::with(provider)
        .set("upstreams.openai.retry", "max_attempts = 1")
        .set("upstreams.openai.breaker", "consecutive_failures = 1\ncooldown = \"50ms\"\ncooldown_max = \"50ms\"")
}

/// As [`brittle`], but the circuit stays open for longer than a test takes.
fn down(provider: &Provider) -> Setup {
    Setup::with(provider)
        .set("upstreams.openai.retry", "max_attempts = 1")
        .set("upstreams.openai.breaker", "consecutive_failures = 1\ncooldown = \"60s\"\ncooldown_max = \"60s\"")
}

fn waiting(wait_s: u64) -> Request {
    chat().header("prefer", &format!("respond-async, wait={wait_s}"))
}

/// The place of the job that a 202 promises, after a look at everything else that belongs to it.
#[track_caller]
fn promised(answer: &Response) -> String {
    promised_as("queued", answer)
}

/// The location of a job that begins in this state.
fn promised_as(state: &str, answer: &Response) -> String {
    assert_eq!(answer.status(), 202, "{}", answer.text());
    let location = answer.header("location").expect("a Location").to_owned();
    assert!(location.starts_with("/spillway/jobs/job_"), "{location}");
    assert!(answer.header("preference-applied").is_some_and(|applied| applied.starts_with("respond-async")));
    let wait_s = answer.header("retry-after").and_then(|wait| wait.parse::<u64>().ok()).expect("a Retry-After");
    assert!((1..=60).contains(&wait_s), "Retry-After: {wait_s}");
    assert_eq!((answer.at("/status"), answer.at("/status_url")), (state.to_owned(), location.clone()));
    location
}

fn status_of(spillway: &Spillway, location: &str) -> String {
    spillway.send(&get(location)).at("/status")
}

fn open_the_circuit(spillway: &Spillway, provider: &Provider) {
    provider.next(fail(Failure::ServerError));
    assert_eq!(spillway.send(&chat()).status(), 500);
    assert_eq!(spillway.circuit("openai"), "open");
}

#[test]
fn while_the_provider_is_well_a_preference_for_later_changes_nothing() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    for request in [patient_chat(), waiting(10), chat_stream().header("prefer", "respond-async")] {
        let answer = spillway.send(&request);
        assert_eq!((answer.status(), answer.header("location")), (200, None), "{}", answer.text());
        let seen = provider.requests().pop().unwrap();
        assert_eq!(seen.header("prefer"), None, "the preference is Spillway's affair");
    }
    provider.next(fail(Failure::ContextLengthExceeded));
    assert_eq!(spillway.send(&patient_chat()).status(), 400, "waiting does not mend a wrong request");
    assert_eq!(spillway.status()["queue"]["queued"], 0);
}

#[test]
fn a_request_in_an_outage_is_kept_and_its_answer_is_later_there_word_for_word() {
    let provider = Provider::start();
    let spillway = brittle(&provider).start();
    let said = json!({"id": "x", "choices": [{"message": {"content": "late"}}], "odd": [1, 2.5]}).to_string();
    provider.stop();
    let location = promised(&spillway.send(&patient_chat()));
    // The circuit is open by now, and the next is kept without a call.
    let second = promised(&spillway.send(&patient_chat().header("x-request-id", "second")));
    assert_ne!(location, second);
    let unfinished = spillway.send(&get(&format!("{location}/result")));
    assert_eq!((unfinished.status(), &*unfinished.at("/error/code")), (409, "spillway_conflict"));
    assert!(unfinished.header("retry-after").is_some());

    provider.always(respond(200).header("content-type", "application/json").header("x-odd", "1").body(said.clone()));
    provider.start_again();
    let job = spillway.wait_for_job(&location);
    assert_eq!((&job["status"], &job["response"]["status"]), (&json!("done"), &json!(200)));
    assert_eq!(job["response"]["body"]["odd"], json!([1, 2.5]));
    let result = spillway.send(&get(job["result_url"].as_str().unwrap()));
    assert_eq!((result.status(), result.text(), result.header("x-odd")), (200, said, Some("1")));
    assert_eq!(spillway.wait_for_job(&second)["request_id"], "second");

    // It went out as it had come, credential included.
    let seen = provider.requests().pop().unwrap();
    assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {KEY}")));
    assert_eq!((&*seen.path, seen.json()["model"].as_str()), ("/v1/chat/completions", Some("mock-small")));
}

#[test]
fn nobody_who_did_not_ask_for_it_is_answered_202() {
    let provider = Provider::start();
    let spillway = brittle(&provider).start();
    provider.always(fail(Failure::ServerError));
    for request in [chat(), chat().header("prefer", "wait=1"), chat().header("prefer", "return=minimal")] {
        let answer = spillway.send(&request);
        assert!(answer.status() >= 500, "{}", answer.text());
    }
    // What may not be repeatable cannot be kept either.
    let upload = post("/v1/files", &json!({})).header("prefer", "respond-async");
    assert!(spillway.send(&upload).status() >= 500);
    assert_eq!(spillway.status()["queue"]["queued"], 0);
}

#[test]
fn a_streamed_request_and_those_of_other_apis_can_be_kept_too() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    provider.stop();
    let stream = promised_as("running", &spillway.send(&chat_stream().header("prefer", "respond-async, wait=0")));
    let message = promised_as("running", &spillway.send(&message().header("prefer", "respond-async, wait=0")));
    provider.start_again();
    assert_eq!(spillway.wait_for_job(&message)["response"]["body"]["type"], "message");
    spillway.wait_for_job(&stream);
    let events = spillway.send(&get(&format!("{stream}/result")));
    assert!(events.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")));
    assert!(events.text().ends_with("data: [DONE]\n\n"), "{}", events.text());
}

#[test]
fn an_answer_that_comes_within_the_wait_is_given_at_once() {
    let provider = Provider::start();
    let spillway = brittle(&provider).start();
    open_the_circuit(&spillway, &provider);
    let answer = spillway.send(&waiting(20));
    assert_eq!((answer.status(), answer.header("location")), (200, None), "waited through the cooldown");

    let gate = provider.gate();
    provider.next(healthy().hold_head(&gate));
    thread::scope(|scope| {
        let slow = scope.spawn(|| spillway.send(&waiting(20)));
        provider.wait_for_requests(3);
        gate.open();
        assert_eq!(slow.join().unwrap().status(), 200);
    });
}

#[test]
fn a_call_that_outlasts_the_wait_becomes_the_job_and_is_made_once() {
    let provider = Provider::start();
    let spillway = brittle(&provider).start();
    let gate = provider.gate();
    provider.always(healthy().saying("adopted").hold_head(&gate));
    let began = Instant::now();
    let location = promised_as("running", &spillway.send(&waiting(1)));
    assert!(began.elapsed() >= Duration::from_secs(1), "the wait was not kept: {:?}", began.elapsed());
    assert_eq!((&*status_of(&spillway, &location), provider.stats().started), ("running", 1));
    let cancelled = spillway.send(&delete(&location));
    assert_eq!(cancelled.status(), 409, "what is under way may already cost");
    gate.open();
    let job = spillway.wait_for_job(&location);
    assert_eq!(job["response"]["body"]["choices"][0]["message"]["content"], "adopted");
    let stats = provider.stats();
    assert_eq!((stats.started, stats.completed), (1, 1), "one call, and it was not broken off");
}

#[test]
fn a_promise_outlives_kill_9() {
    let provider = Provider::start();
    let mut spillway = brittle(&provider).start();
    provider.stop();
    let locations: Vec<_> = (0..5).map(|_| promised(&spillway.send(&patient_chat()))).collect();
    spillway.kill();
    provider.start_again();
    spillway.restart();
    for location in &locations {
        let job = spillway.wait_for_job(location);
        assert_eq!((&job["status"], &job["response"]["status"]), (&json!("done"), &json!(200)));
    }
    assert_eq!(provider.stats().started, 5);
    assert!(provider.requests().iter().all(|seen| seen.header("authorization") == Some(&*format!("Bearer {KEY}"))));

    // Answers outlive it as well.
    spillway.restart();
    let results = locations.iter().map(|location| spillway.send(&get(&format!("{location}/result"))).status());
    assert_eq!(results.collect::<Vec<_>>(), [200; 5]);
}

#[test]
fn a_job_that_runs_when_spillway_is_killed_runs_again() {
    let provider = Provider::start();
    let mut spillway = brittle(&provider).start();
    provider.stop();
    let location = promised(&spillway.send(&patient_chat()));
    let gate = provider.gate();
    provider.next(healthy().hold_head(&gate));
    provider.start_again();
    provider.wait_for_requests(1);
    assert_eq!(status_of(&spillway, &location), "running");
    spillway.kill();
    provider.wait_for_disconnect();
    spillway.restart();
    assert_eq!(spillway.wait_for_job(&location)["status"], "done");
    assert_eq!(provider.stats().started, 2);
}

#[test]
fn a_job_that_waits_can_be_cancelled_and_never_runs() {
    let provider = Provider::start();
    let spillway = down(&provider).start();
    open_the_circuit(&spillway, &provider);
    let began = Instant::now();
    let location = promised(&spillway.send(&waiting(20)));
    assert!(began.elapsed() < Duration::from_secs(10), "nothing can come within the wait, so it is not sat out");
    assert_eq!(status_of(&spillway, &location), "queued");
    let cancelled = spillway.send(&delete(&location));
    assert_eq!((cancelled.status(), &*cancelled.at("/status")), (200, "cancelled"));
    let again = spillway.send(&delete(&location));
    assert_eq!((again.status(), &*again.at("/error/code")), (409, "spillway_conflict"));
    assert_eq!(spillway.status()["queue"]["cancelled"], 1);
    assert_eq!(provider.stats().started, 1, "only the call that opened the circuit");
}

#[test]
fn a_job_that_nobody_knows_is_a_404() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    for id in ["job_00000000000000000000000000000000", "job_1", "JOB", "..%2f..%2fetc"] {
        for request in [get(&format!("/spillway/jobs/{id}")), get(&format!("/spillway/jobs/{id}/result"))] {
            let answer = spillway.send(&request);
            assert_eq!((answer.status(), &*answer.at("/error/code")), (404, "spillway_no_such_job"), "{id}");
        }
    }
    let known = "/spillway/jobs/job_00000000000000000000000000000000";
    let answer = spillway.send(&post(known, &json!({})));
    assert_eq!((answer.status(), answer.header("allow")), (405, Some("GET, DELETE")));
}

#[test]
fn a_request_over_the_limit_is_kept_until_the_limit_allows_it() {
    let provider = Provider::start();
    let spillway =
        Setup::with(&provider).set("upstreams.openai.limits", "patience = \"0s\"\ntokens_per_minute = 6000").start();
    // Half a second's worth of debt.
    provider.next(healthy().usage(6_000, 50));
    assert_eq!(spillway.send(&chat_with(json!({"max_tokens": 10}))).status(), 200);
    let small = chat_with(json!({"max_tokens": 10}));
    assert_eq!(spillway.send(&small).status(), 429);
    let location = promised(&spillway.send(&small.header("prefer", "respond-async")));
    let job = spillway.wait_for_job(&location);
    assert_eq!((&job["status"], provider.stats().started), (&json!("done"), 2));
}

#[test]
fn a_request_that_always_fails_by_itself_is_given_up_with_its_last_answer() {
    let provider = Provider::start();
    let setup =
        Setup::with(&provider).set("upstreams.openai.retry", "max_attempts = 1").set("spool", "max_attempts = 2");
    let spillway = setup.start();
    let poison = |seen: &serde_json::Value| seen["user"] == "poison";
    provider.when(body(poison), fail(Failure::ServerError));
    let location = promised(&spillway.send(&chat_with(json!({"user": "poison"})).header("prefer", "respond-async")));
    let job = spillway.wait_for_job(&location);
    assert_eq!(
        (&job["status"], &job["attempts"], &job["response"]["status"]),
        (&json!("dead"), &json!(2), &json!(500))
    );
    assert_eq!(spillway.status()["queue"]["dead"], 1);
    assert_eq!(spillway.send(&chat()).status(), 200, "others are served");
}

#[test]
fn a_full_spool_refuses_and_promises_nothing() {
    let provider = Provider::start();
    let spillway = down(&provider).set("spool", "max_jobs = 2").start();
    open_the_circuit(&spillway, &provider);
    for _ in 0..2 {
        promised(&spillway.send(&patient_chat()));
    }
    let refused = spillway.send(&patient_chat());
    assert_eq!((refused.status(), &*refused.at("/error/code")), (503, "spillway_spool_full"));
    assert!(refused.header("retry-after").is_some() && refused.header("location").is_none());
    assert_eq!(spillway.status()["queue"]["queued"], 2);
}

#[test]
fn a_call_that_outlasts_the_wait_and_cannot_be_kept_is_waited_for() {
    let provider = Provider::start();
    let spillway =
        down(&provider).set("spool", "max_jobs = 1").set("upstreams.other", &format!("url = \"{}\"", provider.url()));
    let spillway = spillway.start();
    open_the_circuit(&spillway, &provider);
    promised(&spillway.send(&patient_chat()));
    let gate = provider.gate();
    provider.next(healthy().hold_head(&gate));
    thread::scope(|scope| {
        let slow = scope.spawn(|| spillway.send(&waiting(1).path("/other/v1/chat/completions")));
        spillway.log().wait_for(&["its caller waits for the call under way"]);
        gate.open();
        assert_eq!(slow.join().unwrap().status(), 200, "it was under way and paid for");
    });
}

#[test]
fn a_job_under_way_is_finished_and_stored_before_a_termination_ends_the_process() {
    let provider = Provider::start();
    let mut spillway = brittle(&provider).start();
    provider.stop();
    let location = promised(&spillway.send(&patient_chat()));
    let gate = provider.gate();
    provider.always(healthy().hold_head(&gate));
    provider.start_again();
    provider.wait_for_requests(1);
    spillway.terminate();
    spillway.log().wait_for(&["draining"]);
    gate.open();
    assert_eq!(spillway.wait_for_exit().code(), Some(0));
    spillway.restart();
    assert_eq!(spillway.wait_for_job(&location)["status"], "done");
    assert_eq!(provider.stats().started, 1, "it was not made a second time");
}

#[test]
fn a_provider_that_throttles_without_saying_for_how_long_is_not_hammered_by_the_spool() {
    let provider = Provider::start();
    let spillway = brittle(&provider).start();
    provider.always(respond(429).json(json!({"error": {"message": "slow down", "type": "requests", "code": null}})));
    promised(&spillway.send(&patient_chat()));
    // The live call, the job's first at once, and two more.
    provider.wait_for_requests(4);
    let at: Vec<_> = provider.requests().iter().map(|request| request.at).collect();
    let gaps = [at[2] - at[1], at[3] - at[2]];
    assert!(gaps[0] >= Duration::from_millis(450) && gaps[1] >= Duration::from_millis(900), "{gaps:?}");
}

#[test]
fn credentials_and_prompts_lie_on_disk_in_no_readable_form() {
    let provider = Provider::start();
    let mut spillway = down(&provider).start();
    open_the_circuit(&spillway, &provider);
    let secret = chat_with(json!({"user": "a very private prompt"}))
        .replace_header("authorization", "Bearer sk-very-secret-key");
    promised(&spillway.send(&secret.header("prefer", "respond-async")));
    spillway.kill();
    let mut files = 0;
    for_each_file(spillway.folder(), &mut |path, bytes| {
        files += 1;
        for word in ["a very private prompt", "sk-very-secret-key"] {
            let found = bytes.windows(word.len()).any(|window| window == word.as_bytes());
            assert!(!found, "{} holds \"{word}\"", path.display());
        }
    });
    assert!(files >= 3, "database, key and configuration at least, not {files}");
    assert!(!spillway.log().text().contains("sk-very-secret-key"));
}

fn for_each_file(folder: &Path, look: &mut impl FnMut(&Path, &[u8])) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            for_each_file(&path, look);
        } else {
            look(&path, &fs::read(&path).unwrap());
        }
    }
}

#[test]
fn without_a_spool_nothing_is_promised() {
    let provider = Provider::start();
    let spillway = brittle(&provider).set("spool", "enabled = false").start();
    provider.stop();
    let answer = spillway.send(&patient_chat());
    assert_eq!((answer.status(), &*answer.at("/error/code")), (502, "spillway_upstream_unreachable"));
    assert!(spillway.status()["queue"].is_null());
    let eventually_open = || (spillway.circuit("openai") == "open").then_some(());
    eventually("the circuit opens", eventually_open);
}
