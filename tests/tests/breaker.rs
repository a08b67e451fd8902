//! Circuits, retries and credentials: what a failing provider does to the requests that follow.

use serde_json::Value;
use spillway_tests::asks::{APIS, chat, chat_by, chat_with, generate};
use spillway_tests::http::Response;
use spillway_tests::provider::{Failure, Provider, Reply, fail, healthy, insufficient_quota, rate_limited, stall};
use spillway_tests::spillway::{Setup, Spillway};
use spillway_tests::wait::eventually;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

const CODE: &str = "/error/code";
/// Which refusal it is; what it raises is the provider's affair.
const OPEN: &str = "spillway_circuit_open";

fn broken() -> Reply {
    fail(Failure::ServerError)
}

/// Without retries, so that every request is one call; the circuit as these lines say.
fn single_calls(provider: &Provider, breaker: &str) -> Setup {
    APIS.iter().fold(Setup::with(provider), |setup, api| {
        let upstream = format!("upstreams.{}", api.name);
        setup.set(&format!("{upstream}.retry"), "max_attempts = 1").set(&format!("{upstream}.breaker"), breaker)
    })
}

/// Without a pause that anybody would wait for: it is then refused.
fn impatient(setup: Setup) -> Setup {
    setup.set("upstreams.openai.limits", "patience = \"0s\"")
}

fn is_refused(answer: &Response) -> bool {
    answer.refusal() == Some(OPEN)
}

fn wait_for_a_possible_probe(spillway: &Spillway) {
    eventually("the cooldown is over", || {
        spillway.upstream("openai")["breakers"][0]["probe_possible_in_ms"].is_null().then_some(())
    });
}

#[test]
fn failures_in_a_row_open_the_circuit_and_requests_are_then_refused_without_a_call() {
    let provider = Provider::start();
    let spillway =
        single_calls(&provider, "consecutive_failures = 3\ncooldown = \"20s\"\ncooldown_max = \"20s\"").start();
    for api in APIS {
        let calls = provider.stats().started;
        provider.always(broken());
        for _ in 0..3 {
            assert_eq!(spillway.send(&(api.whole)()).status(), 500, "{}: the provider's own answer", api.name);
        }
        assert_eq!(spillway.circuit(api.name), "open");
        provider.heal();
        for request in [(api.whole)(), (api.stream)()] {
            let refused = spillway.send(&request);
            assert!(is_refused(&refused), "{}: {}", api.name, refused.text());
            assert_eq!(refused.status(), 500, "{}: as the provider's last answer", api.name);
            let wait_s = refused.retry_after_s().expect("a Retry-After");
            assert!((1..=24).contains(&wait_s), "{}: Retry-After: {wait_s}", api.name);
            assert_eq!(refused.header("x-spillway-attempts"), Some("0"));
        }
        assert_eq!(provider.stats().started, calls + 3, "{}: no call while open", api.name);
    }
    let breaker = spillway.upstream("openai")["breakers"][0].clone();
    assert_eq!((&breaker["cause"], &breaker["window"]["failures"]), (&"3 calls in a row failed".into(), &3.into()));
}

#[test]
fn one_success_in_between_starts_the_count_of_failures_anew() {
    let provider = Provider::start();
    let spillway =
        single_calls(&provider, "consecutive_failures = 2\ncooldown = \"20s\"\ncooldown_max = \"20s\"").start();
    for _ in 0..3 {
        provider.next(broken());
        assert_eq!(spillway.send(&chat()).status(), 500);
        assert_eq!(spillway.send(&chat()).status(), 200);
    }
    assert_eq!(spillway.circuit("openai"), "closed");
}

#[test]
fn a_failure_rate_opens_the_circuit_even_when_no_failures_are_in_a_row() {
    let provider = Provider::start();
    let rate = "consecutive_failures = 0\nfailure_rate = 0.5\nminimum_requests = 6\ncooldown = \"20s\"\ncooldown_max = \"20s\"";
    let spillway = single_calls(&provider, rate).start();
    for round in 0..3 {
        assert_eq!(spillway.circuit("openai"), "closed", "round {round}");
        assert_eq!(spillway.send(&chat()).status(), 200);
        provider.next(broken());
        assert_eq!(spillway.send(&chat()).status(), 500);
    }
    assert!(is_refused(&spillway.send(&chat())));
    assert_eq!(spillway.upstream("openai")["breakers"][0]["cause"], "3 of the last 6 calls failed");
    assert_eq!(provider.stats().started, 6);
}

#[test]
fn of_many_callers_that_arrive_at_once_exactly_one_probes_and_its_success_closes_the_circuit() {
    const CALLERS: usize = 8;
    let provider = Provider::start();
    let breaker = "consecutive_failures = 1\ncooldown = \"100ms\"\ncooldown_max = \"100ms\"";
    let spillway = single_calls(&provider, breaker).start();
    provider.next(broken());
    assert_eq!(spillway.send(&chat()).status(), 500);
    assert_eq!(spillway.circuit("openai"), "open");
    let gate = provider.gate();
    provider.always(healthy().hold_head(&gate));
    wait_for_a_possible_probe(&spillway);

    thread::scope(|scope| {
        let (results, answers) = channel();
        for _ in 0..CALLERS {
            let (results, spillway) = (results.clone(), &spillway);
            scope.spawn(move || results.send(spillway.send(&chat())));
        }
        for _ in 1..CALLERS {
            let answer = answers.recv().expect("an answer");
            assert!(is_refused(&answer), "{answer:?}");
            assert!(answer.header("retry-after").is_some());
        }
        provider.wait_for_requests(2);
        assert_eq!(spillway.circuit("openai"), "half-open");
        gate.open();
        assert_eq!(answers.recv().expect("the probe's answer").status(), 200);
    });
    assert_eq!(provider.stats().started, 2, "the failure and one probe");
    assert_eq!(spillway.circuit("openai"), "closed");
    assert_eq!(spillway.send(&chat()).status(), 200);
}

#[test]
fn a_failed_probe_opens_the_circuit_again_for_longer() {
    let provider = Provider::start();
    let breaker = "consecutive_failures = 1\ncooldown = \"60ms\"\ncooldown_max = \"10s\"\ncooldown_jitter = 0";
    let spillway = single_calls(&provider, breaker).start();
    provider.always(broken());
    for calls in 1..=4 {
        eventually("a call goes through", || (!is_refused(&spillway.send(&chat()))).then_some(()));
        assert_eq!(provider.stats().started, calls, "one probe at a time");
    }
    eventually("each opening is logged with its cooldown", || {
        let text = spillway.log().text();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let openings = lines.filter(|line| line["to"] == "open");
        let cooldowns: Vec<_> = openings.filter_map(|line| line["cooldown_ms"].as_u64()).collect();
        (cooldowns == [60, 120, 240, 480]).then_some(())
    });
    spillway.log().wait_for(&["\"to\":\"open\"", "\"cause\":\"a probe failed\""]);
}

#[test]
fn a_retry_after_closes_the_door_for_that_credential_only_and_until_then_only() {
    let provider = Provider::start();
    let spillway = impatient(single_calls(&provider, "cooldown = \"10ms\"")).start();
    let began = Instant::now();
    provider.next(rate_limited().retry_after_s(1));
    let limited = spillway.send(&chat());
    assert_eq!((limited.status(), limited.header("retry-after")), (429, Some("1")), "as the provider said it");
    let refused = spillway.send(&chat());
    assert!(refused.refusal().is_some() && refused.text().contains("for this model"), "{}", refused.text());
    assert_eq!((refused.status(), &*refused.at("/error/type")), (429, "requests"), "what the provider said");
    assert_eq!(provider.stats().started, 1);
    assert_eq!(spillway.send(&chat_by("another")).status(), 200);
    assert_eq!(spillway.circuit("openai"), "closed", "the upstream as a whole is well");

    eventually("the credential is served again", || (spillway.send(&chat()).status() == 200).then_some(()));
    assert!(began.elapsed() >= Duration::from_secs(1), "served again after {:?} already", began.elapsed());
}

#[test]
fn a_wait_that_gemini_asks_for_in_the_body_is_honoured_too() {
    let provider = Provider::start();
    let spillway = single_calls(&provider, "cooldown = \"10ms\"").start();
    provider.next(rate_limited().retry_after_s(30));
    assert_eq!(spillway.send(&generate()).status(), 429);
    let refused = spillway.send(&generate());
    assert!(refused.refusal().is_some(), "{:?}", refused.head);
    assert_eq!((refused.status(), &*refused.at("/error/status")), (429, "RESOURCE_EXHAUSTED"));
    let wait_s = refused.retry_after_s().expect("a Retry-After");
    // Named as 30 s, and at most a tenth longer.
    assert!((20..=33).contains(&wait_s), "Retry-After: {wait_s}");
    assert_eq!(provider.stats().started, 1);
}

#[test]
fn a_spent_quota_blocks_its_key_and_no_other() {
    let provider = Provider::start();
    let spillway = single_calls(&provider, "cooldown = \"10ms\"").start();
    provider.next(insufficient_quota());
    assert_eq!(spillway.send(&chat_by("poor")).status(), 429);
    let refused = spillway.send(&chat_by("poor"));
    assert!(refused.refusal().is_some(), "{}", refused.text());
    assert_eq!(refused.header("x-should-retry"), Some("false"), "it takes longer than SDKs should wait");
    assert_eq!((spillway.send(&chat_by("rich")).status(), provider.stats().started), (200, 2));
}

#[test]
fn a_caller_that_leaves_counts_neither_for_nor_against_the_provider() {
    let provider = Provider::start();
    let breaker = "consecutive_failures = 1\ncooldown = \"50ms\"\ncooldown_max = \"50ms\"";
    let spillway = single_calls(&provider, breaker).start();
    let gate = provider.gate();
    provider.always(healthy().hold_head(&gate));
    let leave = || {
        let (mut connection, aborted) = (spillway.connect(), provider.stats().aborted);
        let calls = provider.stats().started;
        connection.send(&chat()).expect("sent");
        provider.wait_for_requests(calls + 1);
        drop(connection);
        provider.wait_until(|stats| stats.aborted > aborted);
    };
    leave();
    let window = eventually("nothing is in flight", || {
        let window = spillway.upstream("openai")["breakers"][0]["window"].clone();
        (window["in_flight"] == 0).then_some(window)
    });
    assert_eq!((&window["requests"], &window["failures"]), (&0.into(), &0.into()));
    assert_eq!(spillway.circuit("openai"), "closed");

    // A probe that its caller abandons frees its place for the next.
    provider.next(broken());
    assert_eq!(spillway.send(&chat()).status(), 500);
    wait_for_a_possible_probe(&spillway);
    leave();
    gate.open();
    eventually("another probe closes the circuit", || (spillway.send(&chat()).status() == 200).then_some(()));
    assert_eq!(spillway.circuit("openai"), "closed");
}

#[test]
fn a_caller_who_would_not_wait_says_nothing_about_the_upstream() {
    let provider = Provider::start();
    let spillway = single_calls(&provider, "consecutive_failures = 1").start();
    provider.always(stall());
    let answer = spillway.send(&chat().header("x-stainless-read-timeout", "0.2"));
    assert_eq!((answer.status(), &*answer.at(CODE)), (504, "spillway_upstream_timeout"));
    assert_eq!(spillway.circuit("openai"), "closed");
    assert_eq!(spillway.upstream("openai")["breakers"][0]["window"]["failures"], 0);
}

#[test]
fn an_upload_that_its_caller_breaks_off_says_nothing_about_the_upstream() {
    let provider = Provider::start();
    let spillway = single_calls(&provider, "consecutive_failures = 1").start();
    for _ in 0..3 {
        let mut upload = spillway.connect();
        let head = "POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n";
        upload.send_raw(head.as_bytes()).unwrap();
        upload.send_raw(&[b'x'; 5_000]).unwrap();
    }
    let abandoned = "spillway_requests_total{upstream=\"openai\",outcome=\"abandoned\"}";
    eventually("three uploads were abandoned", || (spillway.metric(abandoned) >= 3.0).then_some(()));
    assert_eq!(spillway.circuit("openai"), "closed");
}

#[test]
fn a_credential_in_the_query_has_a_circuit_of_its_own() {
    let provider = Provider::start();
    let spillway = single_calls(&provider, "consecutive_failures = 5").start();
    let by = |key: &str| {
        let body = serde_json::json!({"contents": []});
        spillway_tests::http::post(&format!("/v1beta/models/mock-gemini:generateContent?key={key}"), &body)
    };
    provider.next(insufficient_quota());
    assert_eq!(spillway.send(&by("one")).status(), 429);
    let refused = spillway.send(&by("one"));
    assert_eq!(refused.status(), 429, "its quota is spent");
    assert!(refused.refusal().is_some(), "{}", refused.text());
    assert_eq!(spillway.send(&by("two")).status(), 200);
}

#[test]
fn a_server_error_is_retried_within_bounds_and_the_last_answer_is_the_providers_own() {
    let provider = Provider::start();
    let retry = "max_attempts = 3\nbackoff = \"1ms\"\nbackoff_max = \"2ms\"\nbudget_ratio = 1";
    let setup = Setup::with(&provider).set("upstreams.openai.retry", retry);
    let spillway = setup.set("upstreams.openai.breaker", "consecutive_failures = 0\nfailure_rate = 0").start();
    provider.next(broken());
    provider.next(broken());
    let answer = spillway.send(&chat());
    assert_eq!((answer.status(), answer.header("x-spillway-attempts")), (200, Some("3")));
    let bodies: Vec<_> = provider.requests().iter().map(|request| request.body.clone()).collect();
    assert!(bodies.len() == 3 && bodies.iter().all(|body| *body == bodies[0]), "the same request each time");

    // Where few are served the last attempt is not made.
    (0..5).for_each(|_| assert_eq!(spillway.send(&chat()).status(), 200));
    let before = provider.stats().started;
    provider.always(broken().header("x-provider", "its own"));
    let answer = spillway.send(&chat());
    assert_eq!((answer.status(), answer.header("x-spillway-attempts")), (500, Some("3")));
    assert_eq!((answer.header("x-provider"), &*answer.at("/error/type")), (Some("its own"), "server_error"));
    assert_eq!(provider.stats().started, before + 3);
}

#[test]
fn what_may_not_be_repeatable_is_not_repeated() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("upstreams.openai.retry", "max_attempts = 3\nbackoff = \"1ms\"").start();
    provider.always(broken());
    assert_eq!(spillway.send(&chat().path("/v1/files")).status(), 500);
    assert_eq!(provider.stats().started, 1);
}

#[test]
fn retries_of_all_requests_together_stay_within_their_budget() {
    const RESERVE: usize = 20;
    let provider = Provider::start();
    let retry = "max_attempts = 3\nbudget_ratio = 0\nbudget_floor = 0";
    let spillway = Setup::with(&provider).set("upstreams.openai.retry", retry).start();
    let status = |_| {
        provider.next(broken());
        spillway.send(&chat()).status()
    };
    let statuses: Vec<u16> = (0..RESERVE + 5).map(status).collect();
    // The budget begins with a reserve and never grows here.
    assert_eq!(statuses, [vec![200; RESERVE], vec![500; 5]].concat());
    spillway.log().wait_for(&["the retry budget is spent"]);
}

#[test]
fn retries_end_where_so_many_failures_in_a_row_are_no_chance() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    provider.always(broken());
    let attempts: Vec<_> =
        (0..4).map(|_| spillway.send(&chat()).header("x-spillway-attempts").map(str::to_owned)).collect();
    assert_eq!(attempts, ["4", "1", "1", "1"].map(|count| Some(count.to_owned())));
    spillway.log().wait_for(&["too many failures in a row to be chance"]);
    // One answer is enough to believe in chance again.
    provider.next(healthy());
    assert_eq!(spillway.send(&chat()).status(), 200);
    assert_eq!(spillway.send(&chat()).header("x-spillway-attempts"), Some("4"));
}

#[test]
fn a_retry_comes_no_sooner_than_the_provider_asked() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).set("upstreams.openai.retry", "max_attempts = 2\nbackoff = \"1ms\"");
    let spillway = setup.start();
    provider.next(rate_limited().retry_after_s(1));
    let answer = spillway.send(&chat());
    assert_eq!((answer.status(), answer.header("x-spillway-attempts")), (200, Some("2")));
    let at: Vec<_> = provider.requests().iter().map(|request| request.at).collect();
    assert!(at[1] - at[0] >= Duration::from_secs(1), "asked again after {:?}", at[1] - at[0]);
}

#[test]
fn a_wait_longer_than_the_callers_patience_is_passed_on_at_once() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    provider.next(rate_limited().retry_after_s(40));
    let began = Instant::now();
    let answer = spillway.send(&chat_with(serde_json::json!({})).header("x-stainless-read-timeout", "10"));
    assert_eq!((answer.status(), answer.header("retry-after")), (429, Some("40")));
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(provider.stats().started, 1);
}

#[test]
fn a_restart_forgets_neither_an_open_circuit_nor_how_often_it_has_opened() {
    let provider = Provider::start();
    let mut spillway =
        single_calls(&provider, "consecutive_failures = 2\ncooldown = \"50ms\"\ncooldown_max = \"60s\"").start();
    provider.always(broken());
    // The growth of its cooldown, and a day's pause for one credential.
    eventually("the cooldown is a minute", || {
        spillway.send(&chat());
        let wait_ms = spillway.upstream("openai")["breakers"][0]["probe_possible_in_ms"].as_u64();
        wait_ms.is_some_and(|wait_ms| wait_ms > 3_000).then_some(())
    });
    let before = spillway.upstream("openai")["breakers"][0].clone();
    let openings = before["consecutive_openings"].clone();
    let kept = spillway.folder().join("spillway-data/circuits.json");
    eventually("it is on disk", || {
        std::fs::read_to_string(&kept).ok().filter(|text| text.contains(&format!("\"openings\": {openings}")))
    });
    let calls = provider.stats().started;
    spillway.restart();
    let refused = spillway.send(&chat());
    assert!(is_refused(&refused), "{}", refused.text());
    assert_eq!(provider.stats().started, calls, "no call was needed to learn it again");
    let after = spillway.upstream("openai")["breakers"][0].clone();
    assert_eq!(
        (&after["state"], &after["consecutive_openings"], &after["cause"]),
        (&"open".into(), &openings, &before["cause"])
    );
    let left = |breaker: &Value| breaker["probe_possible_in_ms"].as_u64();
    assert!(left(&after) <= left(&before), "{after} after {before}");
}

#[test]
fn a_restart_remembers_a_spent_credential_and_lets_others_call() {
    let provider = Provider::start();
    let mut spillway = single_calls(&provider, "").start();
    provider.next(insufficient_quota());
    assert_eq!(spillway.send(&chat_by("drained-key")).status(), 429);
    let kept = spillway.folder().join("spillway-data/circuits.json");
    let text = eventually("it is on disk", || {
        std::fs::read_to_string(&kept).ok().filter(|text| text.contains("\"credential\""))
    });
    assert!(!text.contains("drained-key"), "the credential itself is on disk");
    spillway.restart();
    let refused = spillway.send(&chat_by("drained-key"));
    assert_eq!(refused.status(), 429, "{}", refused.text());
    assert!(refused.refusal().is_some(), "{:?}", refused.head);
    assert_eq!(spillway.send(&chat_by("other")).status(), 200);
}

#[test]
fn a_file_of_circuits_that_cannot_be_read_is_no_reason_not_to_start() {
    let provider = Provider::start();
    let mut spillway = single_calls(&provider, "").start();
    let other_layout = r#"{"version": 1, "saved_at_unix_ms": 0, "fingerprint_key": [1, 2], "circuits": []}"#;
    for (left, why) in [("{ nonsense", "key must be a string"), (other_layout, "the file's layout is 1")] {
        std::fs::write(spillway.folder().join("spillway-data/circuits.json"), left).expect("written");
        spillway.restart();
        assert_eq!(spillway.send(&chat()).status(), 200);
        spillway.log().wait_for(&["how the circuits stood is not known", why]);
    }
}

#[test]
fn a_breaker_that_only_watches_lets_every_call_pass_and_says_what_it_would_do() {
    let provider = Provider::start();
    let spillway = single_calls(&provider, "consecutive_failures = 3\nwatch_only = true").start();
    provider.always(broken());
    for _ in 0..6 {
        assert_eq!(spillway.send(&chat()).status(), 500, "the provider's own answer");
    }
    assert_eq!(provider.stats().started, 6);
    spillway.log().wait_for(&["circuit would have changed", "3 calls in a row failed"]);
    assert_eq!(spillway.upstream("openai")["breakers"][0]["mode"], "watch only");
}

#[test]
fn a_window_of_so_many_calls_is_counted_in_calls() {
    let provider = Provider::start();
    let breaker = "consecutive_failures = 0\nfailure_rate = 0.5\nminimum_requests = 4\nwindow = 4";
    let spillway = single_calls(&provider, breaker).start();
    // Long ago by count, though not by time.
    for _ in 0..8 {
        assert_eq!(spillway.send(&chat()).status(), 200);
    }
    provider.always(broken());
    for _ in 0..2 {
        assert_eq!(spillway.send(&chat()).status(), 500);
    }
    assert!(is_refused(&spillway.send(&chat())));
    assert_eq!(spillway.upstream("openai")["breakers"][0]["cause"], "2 of the last 4 calls failed");
}

#[test]
fn calls_that_all_hang_open_the_circuit_before_any_of_them_ends() {
    let provider = Provider::start();
    let spillway = single_calls(
        &provider,
        "stalled_calls = 2\nstall_duration = \"1s\"\ncooldown = \"20s\"\ncooldown_max = \"20s\"",
    )
    .start();
    let gate = provider.gate();
    provider.always(healthy().hold_head(&gate));
    thread::scope(|scope| {
        let calls: Vec<_> = (0..2).map(|_| scope.spawn(|| spillway.send(&chat()))).collect();
        spillway.wait_for_circuit("openai", "open");
        let refused = spillway.send(&chat());
        assert!(refused.text().contains("2 calls were in flight and none ended"), "{}", refused.text());
        gate.open();
        for call in calls {
            assert_eq!(call.join().expect("no panic").status(), 200, "calls in flight are let finish");
        }
    });
}

#[test]
fn two_requests_that_fail_however_often_they_are_repeated_open_no_circuit() {
    for api in APIS {
        let provider = Provider::start();
        let spillway = Setup::with(&provider).start();
        provider.always(broken());
        for _ in 0..2 {
            assert_eq!(spillway.send(&(api.whole)()).status(), 500, "{}", api.name);
        }
        let calls = provider.stats().started;
        assert!(calls > 2, "{}: they were not repeated", api.name);
        provider.heal();
        let began = Instant::now();
        let answer = spillway.send(&(api.whole)());
        assert_eq!(answer.status(), 200, "{}: {}", api.name, answer.text());
        assert!(began.elapsed() < Duration::from_millis(500), "{}: after {:?}", api.name, began.elapsed());
        assert_eq!(provider.stats().started, calls + 1, "{}", api.name);
    }
}

#[test]
fn a_request_counts_one_failure_however_often_it_is_repeated() {
    let provider = Provider::start();
    let retry = "max_attempts = 3\nbackoff = \"1ms\"\nbackoff_max = \"2ms\"\nbudget_ratio = 1";
    let breaker = "consecutive_failures = 3\ncooldown = \"20s\"\ncooldown_max = \"20s\"";
    let setup = Setup::with(&provider).set("upstreams.openai.retry", retry);
    let spillway = setup.set("upstreams.openai.breaker", breaker).start();
    provider.always(broken());
    for number in 1..=3 {
        assert_eq!(spillway.circuit("openai"), "closed", "before request {number}");
        assert_eq!(spillway.send(&chat()).status(), 500);
        assert_eq!(spillway.upstream("openai")["breakers"][0]["window"]["failures"], number, "after request {number}");
    }
    assert!(provider.stats().started > 3, "nothing was repeated");
    assert!(is_refused(&spillway.send(&chat())));
}

/// The plain breaker, by choice and otherwise as by default; its circuit stays open for as long as a test takes.
fn plain(provider: &Provider, more: &str) -> Setup {
    let lines = format!("kind = \"plain\"\ncooldown = \"20s\"\ncooldown_max = \"20s\"\n{more}");
    single_calls(provider, &lines)
}

#[test]
fn a_plain_breaker_opens_at_five_failures_in_a_row_for_the_whole_upstream() {
    let provider = Provider::start();
    let spillway = plain(&provider, "").start();
    for api in APIS {
        let calls = provider.stats().started;
        provider.always(broken());
        for number in 1..=5 {
            assert_eq!(spillway.circuit(api.name), "closed", "{}: before failure {number}", api.name);
            assert_eq!(spillway.send(&(api.of_model)("one")).status(), 500);
        }
        provider.heal();
        let refused = spillway.send(&(api.of_model)("another"));
        assert!(is_refused(&refused), "{}: {}", api.name, refused.text());
        assert_eq!(provider.stats().started, calls + 5, "{}", api.name);
        assert_eq!(spillway.upstream(api.name)["breakers"][0]["cause"], "5 calls in a row failed");
    }
}

#[test]
fn a_plain_breaker_opens_when_half_of_twenty_calls_failed() {
    let provider = Provider::start();
    let spillway = plain(&provider, "").start();
    for round in 0..10 {
        assert_eq!(spillway.circuit("openai"), "closed", "round {round}");
        assert_eq!(spillway.send(&chat()).status(), 200);
        provider.next(broken());
        assert_eq!(spillway.send(&chat()).status(), 500);
    }
    assert!(is_refused(&spillway.send(&chat())));
    assert_eq!(spillway.upstream("openai")["breakers"][0]["cause"], "10 of the last 20 calls failed");
}

#[test]
fn a_plain_breaker_opens_when_too_many_calls_are_slow() {
    let provider = Provider::start();
    let slow = "slow_call_rate = 0.5\nslow_call_duration = \"50ms\"\nminimum_requests = 4";
    let spillway = plain(&provider, slow).start();
    for delay_ms in [0, 0, 100, 100] {
        assert_eq!(spillway.circuit("openai"), "closed");
        provider.next(healthy().delay(Duration::from_millis(delay_ms)));
        assert_eq!(spillway.send(&chat()).status(), 200);
    }
    assert!(is_refused(&spillway.send(&chat())));
    assert_eq!(provider.stats().started, 4);
}

#[test]
fn a_plain_breaker_lets_as_many_probe_as_it_is_told_and_closes_when_enough_succeed() {
    let provider = Provider::start();
    let breaker = "kind = \"plain\"\nconsecutive_failures = 1\nprobes = 2\nprobe_successes = 2\ncooldown = \"50ms\"\n\
                   cooldown_max = \"50ms\"";
    let spillway = single_calls(&provider, breaker).start();
    provider.next(broken());
    assert_eq!(spillway.send(&chat()).status(), 500);
    wait_for_a_possible_probe(&spillway);
    let gate = provider.gate();
    provider.always(healthy().hold_head(&gate));
    thread::scope(|scope| {
        let probes: Vec<_> = (0..2).map(|_| scope.spawn(|| spillway.send(&chat()))).collect();
        provider.wait_for_requests(3);
        assert_eq!(spillway.circuit("openai"), "half-open");
        assert!(is_refused(&spillway.send(&chat())), "two are enough");
        gate.open();
        for probe in probes {
            assert_eq!(probe.join().expect("no panic").status(), 200);
        }
    });
    assert_eq!((&*spillway.circuit("openai"), provider.stats().started), ("closed", 3));
}

#[test]
fn by_default_no_failure_rate_opens_the_circuit() {
    let provider = Provider::start();
    let spillway = single_calls(&provider, "kind = \"adaptive\"").start();
    for _ in 0..30 {
        provider.next(broken());
        assert_eq!(spillway.send(&chat()).status(), 500, "the provider's own answer");
        assert_eq!(spillway.send(&chat()).status(), 200);
    }
    assert_eq!((&*spillway.circuit("openai"), provider.stats().started), ("closed", 60));
}
