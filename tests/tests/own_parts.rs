//! Spillway's own parts fail without taking traffic along.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::json;
use spillway_tests::asks::{APIS, chat, chat_stream};
use spillway_tests::http::{Connection, Response};
use spillway_tests::provider::{Provider, healthy, respond, stall};
use spillway_tests::spillway::{Setup, Signal, Spillway};
use spillway_tests::wait::eventually;
use std::fs::{self, File};
use std::io::pipe;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

/// So many requests that their lines fill every pipe, which holds 64 KiB.
const REQUESTS: usize = 400;

#[test]
fn a_log_that_cannot_be_written_costs_lines_and_no_answer() {
    let (reader, unread) = pipe().expect("a pipe");
    let (gone, orphaned) = pipe().expect("a pipe");
    drop(gone);
    let full = File::options().write(true).open("/dev/full").expect("it is there");
    for (name, target, loses) in [
        ("full", Stdio::from(full), true),
        ("orphaned", Stdio::from(orphaned), true),
        ("unread", Stdio::from(unread), false),
    ] {
        let provider = Provider::start();
        let mut spillway = Setup::with(&provider).start_unheard(target);
        let long = "x".repeat(128);
        let mut caller = spillway.connect();
        for number in 0..REQUESTS {
            let answer = caller.exchange(&chat().header("x-request-id", &long)).expect("an answer");
            assert_eq!(answer.status(), 200, "{name}: number {number}");
        }
        if loses {
            eventually("lost lines are counted", || {
                (spillway.metric("spillway_log_lines_lost_total") >= REQUESTS as f64).then_some(())
            });
        }
        drop(caller);
        let began = Instant::now();
        spillway.terminate();
        assert!(spillway.wait_for_exit().success(), "{name}");
        assert!(began.elapsed() < Duration::from_secs(8), "{name}: it took {:?} to end", began.elapsed());
        assert_eq!(provider.stats().started, REQUESTS as u64, "{name}");
    }
    drop(reader);
}

#[test]
fn a_detailed_log_beside_the_configuration_does_not_feed_on_itself() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).environment("SPILLWAY_LOG", "trace");
    // The policies' folder too is beside it.
    fs::create_dir_all(setup.folder().join("policies")).expect("a folder");
    let path = setup.folder().join("spillway.log");
    let log = File::create(&path).expect("a file");
    let spillway = setup.start_unheard(Stdio::from(log));
    let bytes = || fs::metadata(&path).expect("it is there").len();
    let before = bytes();
    // Nothing is asked of it meanwhile.
    thread::sleep(Duration::from_millis(1_500));
    let written = bytes() - before;
    assert!(written < 20_000, "{written} bytes of nothing");
    drop(spillway);
}

#[test]
fn a_worker_that_is_stuck_is_replaced_and_nobody_who_comes_later_waits_for_it() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("server", "workers = 2").start();
    let gate = provider.gate();
    provider.always(healthy().after_events(1).wait_for(&gate));
    // Enough that both workers have some.
    let mut streams: Vec<_> = (0..16).map(|_| spillway.open(&chat_stream()).1).collect();
    provider.heal();
    let stopped = spillway.stop_thread("worker-0");
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let address = spillway.address();
            thread::spawn(move || Connection::open(address)?.exchange(&chat()).map(|answer| answer.status()))
        })
        .collect();
    let line = spillway.log().wait_for(&["another takes its place"]);
    assert_eq!(line["worker"], "worker-0");
    let answers = callers.into_iter().map(|caller| caller.join().expect("no panic").expect("an answer"));
    assert!(answers.into_iter().all(|status| status == 200), "whoever waited at its listener is served by the new one");
    // What was under way on it goes on when it can.
    drop(stopped);
    gate.open();
    for stream in &mut streams {
        let rest = std::iter::from_fn(|| stream.event().expect("it does not break off")).count();
        assert!(rest > 0);
    }
    assert!((0..16).all(|_| spillway.send(&chat()).status() == 200));
}

#[test]
fn a_dispatcher_that_is_stuck_is_replaced() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let _stopped = spillway.stop_thread("dispatcher");
    provider.always(respond(503));
    let kept = spillway.send(&chat().header("prefer", "respond-async"));
    assert_eq!(kept.status(), 202, "{}", kept.text());
    provider.heal();
    let job = spillway.wait_for_job(kept.header("location").expect("a place"));
    assert_eq!(job["status"], "done", "{job}");
}

#[test]
fn a_process_that_was_stopped_as_a_whole_has_no_worker_that_is_stuck() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    assert_eq!(spillway.send(&chat()).status(), 200);
    spillway.signal(Signal::STOP);
    thread::sleep(Duration::from_secs(7));
    spillway.signal(Signal::CONT);
    // It has had as many looks since as it takes to be wrong.
    thread::sleep(Duration::from_secs(3));
    assert_eq!(spillway.send(&chat()).status(), 200);
    assert!(!spillway.log().text().contains("stuck"), "{}", spillway.log().text());
}

#[test]
fn a_hangup_reloads_and_cuts_no_stream_and_a_quit_lets_all_end() {
    let provider = Provider::start();
    let mut spillway = Setup::with(&provider).start();
    let gate = provider.gate();
    provider.always(healthy().after_events(2).wait_for(&gate));
    let (head, mut answer) = spillway.open(&chat_stream());
    assert_eq!(head.status, 200);
    answer.event().expect("an event").expect("no end");
    spillway.signal(Signal::HUP);
    spillway.log().wait_for(&["are looked at"]);
    spillway.signal(Signal::QUIT);
    spillway.log().wait_for(&["draining"]);
    gate.open();
    let (events, end) = answer.events();
    assert!(end.is_ok() && events.last().is_some_and(|last| last.contains("[DONE]")), "{events:?}");
    assert!(spillway.wait_for_exit().success());
}

#[test]
fn what_has_become_of_a_circuit_just_before_the_end_is_remembered() {
    for round in 0..6 {
        let provider = Provider::start();
        let breaker = "consecutive_failures = 1\ncooldown = \"60s\"\ncooldown_max = \"60s\"";
        let setup = Setup::with(&provider).set("upstreams.openai.breaker", breaker);
        let mut spillway = setup.set("upstreams.openai.retry", "max_attempts = 1").start();
        provider.always(respond(500).json(json!({"error": {"message": "broken"}})));
        assert_eq!(spillway.send(&chat()).status(), 500);
        spillway.terminate();
        spillway.start_again();
        assert_eq!(spillway.circuit("openai"), "open", "round {round}");
    }
}

#[test]
fn a_job_whose_process_ended_in_order_is_not_taken_for_poison() {
    let provider = Provider::start();
    let mut spillway = Setup::with(&provider).set("server", "drain_timeout = \"100ms\"").start();
    provider.always(stall());
    let kept = spillway.send(&(APIS[0].whole)().header("prefer", "respond-async, wait=0"));
    assert_eq!(kept.status(), 202, "{}", kept.text());
    let location = kept.header("location").expect("a place").to_owned();
    for restart in 1..=6 {
        provider.wait_for_requests(restart);
        spillway.terminate();
        spillway.start_again();
    }
    provider.heal();
    spillway.kill();
    spillway.restart();
    assert_eq!(spillway.wait_for_job(&location)["status"], "done");
}

/// As many streams at once, each held open by its provider; how many of their callers got a 200, and what the others got.
fn at_once(spillway: &Spillway, provider: &Provider, count: usize) -> (Vec<Connection>, Vec<Response>) {
    let gate = provider.gate();
    provider.always(healthy().after_events(2).wait_for(&gate));
    let (mut open, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let mut connection = spillway.connect();
        connection.send(&chat_stream()).expect("sent");
        let head = connection.head().expect("a head");
        if head.status == 200 {
            open.push(connection);
        } else {
            let body = connection.body().expect("a body");
            refused.push(Response { head, body });
        }
    }
    gate.open();
    (open, refused)
}

#[test]
fn more_streams_than_the_soft_limit_on_open_files_allows_are_served() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).descriptors(256, 1_024).start();
    let (open, refused) = at_once(&spillway, &provider, 400);
    assert_eq!((open.len(), refused.len()), (400, 0));
}

#[test]
fn what_this_machine_lacks_is_said_as_such_and_counts_against_no_provider() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).descriptors(256, 256).start();
    let (open, refused) = at_once(&spillway, &provider, 300);
    assert!(open.len() >= 60, "only {} of 300 are served with 256 descriptors", open.len());
    assert!(!refused.is_empty());
    for refusal in &refused {
        assert_eq!((refusal.status(), refusal.refusal()), (503, Some("spillway_out_of_resources")), "{refusal:?}");
        assert!(refusal.text().contains("ulimit -n"), "{}", refusal.text());
    }
    let circuit = spillway.upstream("openai")["breakers"][0].clone();
    assert_eq!((&circuit["state"], &circuit["window"]["failures"]), (&json!("closed"), &json!(0)), "{circuit}");
    drop(open);
    provider.heal();
    eventually("there is room again", || (spillway.send(&chat()).status() == 200).then_some(()));
}

#[test]
fn nobody_is_connected_through_to_somewhere_else() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    for request in [
        "CONNECT example.org:443 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "TRACE /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ] {
        let mut connection = spillway.connect();
        connection.send_raw(request.as_bytes()).expect("sent");
        let answer = connection.response().expect("an answer");
        assert_eq!(answer.status(), 405, "{request}");
        assert!(answer.header("allow").is_some_and(|allowed| allowed.contains("POST")), "{answer:?}");
    }
    assert_eq!(provider.stats().started, 0);
}
