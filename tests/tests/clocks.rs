//! Whatever waits, waits for time that passes: also while the machine sleeps, and however its wall clock is set.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::{Value, json};
use spillway_tests::asks::{chat, chat_stream};
use spillway_tests::clocks::Clocks;
use spillway_tests::http::{Request, Response, get};
use spillway_tests::provider::{Provider, Reply, healthy, rate_limited, respond};
use spillway_tests::spillway::{Setup, Spillway};
use spillway_tests::wait::eventually;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3_600);
/// More than a day, so that nothing that is kept for a day looks fresh.
const JUMP: Duration = Duration::from_secs(25 * 3_600);

/// Somebody sets the wall clock.
type Set = fn(&mut Clocks);

/// Spillway or its machine is started anew, and meanwhile the wall clock is set.
type Restart = fn(&mut Spillway, Set);

/// Each way to set it wrong.
const SETS: [(&str, Set); 2] = [("ahead", |clocks| clocks.set_ahead(JUMP)), ("back", |clocks| clocks.set_back(JUMP))];

/// With clocks to move, and pauses of more than an hour believed.
fn movable(provider: &Provider) -> Setup {
    Setup::with(provider).with_clocks_to_move().set("upstreams.openai.pacing", "named_pause_max = \"12h\"")
}

/// Chat whose caller leaves rather than waits.
fn impatient() -> Request {
    chat().header("x-stainless-read-timeout", "0.5")
}

/// The provider says: not within the next hour.
fn name_an_hour(spillway: &Spillway, provider: &Provider) {
    provider.next(rate_limited().retry_after_s(3_600));
    assert_eq!(spillway.send(&impatient()).status(), 429);
    assert_eq!(provider.stats().started, 1);
}

fn retry_after(answer: &Response) -> u64 {
    answer.header("retry-after").and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Whoever comes is told to wait for about an hour, and nobody is asked.
#[track_caller]
fn assert_an_hour_is_left(spillway: &Spillway, provider: &Provider, when: &str) {
    let asked = provider.stats().started;
    let answer = spillway.send(&impatient());
    // A pause is kept as named, or a fiftieth longer.
    let left = retry_after(&answer);
    assert!(answer.status() == 429 && (3_500..=3_680).contains(&left), "{when}: {left} s left, {answer:?}");
    assert_eq!(provider.stats().started, asked, "{when}: the provider was asked");
}

fn until_remembered(spillway: &Spillway, what: &str) {
    let file = spillway.folder().join("spillway-data/circuits.json");
    let stands = |kept: &Value| kept[what].as_array().is_some_and(|list| !list.is_empty());
    eventually("it is remembered", || {
        let kept: Value = serde_json::from_slice(&fs::read(&file).ok()?).ok()?;
        stands(&kept).then_some(())
    });
}

/// The next start is one of the machine, too.
fn start_the_machine_anew(spillway: &mut Spillway, meanwhile: Set) {
    let file = spillway.folder().join("spillway-data/clock.json");
    spillway.terminate();
    spillway.wait_for_exit();
    let mut kept: Value = serde_json::from_slice(&fs::read(&file).expect("a file")).expect("JSON");
    kept["boot"] = json!("another start of the machine");
    fs::write(&file, kept.to_string()).expect("written");
    meanwhile(spillway.clocks());
    spillway.restart();
}

#[test]
fn a_named_pause_passes_while_the_machine_sleeps_and_is_moved_by_no_clock_that_is_set() {
    for (name, set) in SETS {
        let provider = Provider::start();
        let mut spillway = movable(&provider).start();
        name_an_hour(&spillway, &provider);
        set(spillway.clocks());
        assert_an_hour_is_left(&spillway, &provider, name);
        spillway.clocks().sleep(2 * HOUR);
        assert_eq!(spillway.send(&chat()).status(), 200, "{name}");
    }
}

#[test]
fn a_date_is_as_far_off_as_the_clock_says_of_whoever_names_it() {
    for (name, set) in SETS {
        let provider = Provider::start();
        let mut spillway = movable(&provider).start();
        set(spillway.clocks());
        let dates = [("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("retry-after", "Sun, 06 Nov 1994 09:49:37 GMT")];
        provider.next(dates.iter().fold(rate_limited(), |reply, (name, value)| reply.header(name, value)));
        assert_eq!(spillway.send(&impatient()).status(), 429);
        assert_an_hour_is_left(&spillway, &provider, name);
    }
}

#[test]
fn who_waits_for_a_pause_is_served_as_soon_as_the_machine_wakes_up_behind_its_end() {
    let provider = Provider::start();
    let setup = movable(&provider).set("server", "request_timeout = \"4h\"");
    let mut spillway = setup.set("upstreams.openai.limits", "patience = \"3h\"").start();
    name_an_hour(&spillway, &provider);
    let address = spillway.address();
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                let mut connection = spillway_tests::http::Connection::open(address).expect("connected");
                connection.exchange(&chat()).expect("an answer").status()
            })
        })
        .collect();
    let waiting = |spillway: &Spillway| spillway.upstream("openai")["pacing"][0]["waiting"].as_u64();
    eventually("they wait", || (waiting(&spillway) == Some(4)).then_some(()));
    for (name, set) in SETS {
        set(spillway.clocks());
        assert_an_hour_is_left(&spillway, &provider, name);
    }
    assert_eq!(provider.stats().started, 1, "nobody was served early");
    spillway.clocks().sleep(2 * HOUR);
    let woken = Instant::now();
    for waiter in waiters {
        assert_eq!(waiter.join().expect("an answer"), 200);
    }
    assert!(woken.elapsed() < Duration::from_secs(10), "it took {:?}", woken.elapsed());
    spillway.log().wait_for(&["the machine has slept"]);
}

#[test]
fn a_pause_goes_on_behind_a_restart_by_the_time_that_has_passed() {
    for (name, set) in SETS {
        let provider = Provider::start();
        let mut spillway = movable(&provider).start();
        name_an_hour(&spillway, &provider);
        until_remembered(&spillway, "pauses");
        spillway.kill();
        set(spillway.clocks());
        spillway.restart();
        assert_an_hour_is_left(&spillway, &provider, name);
        spillway.kill();
        spillway.clocks().sleep(2 * HOUR);
        spillway.restart();
        assert_eq!(spillway.send(&chat()).status(), 200, "{name}");
    }
}

#[test]
fn behind_a_start_of_the_machine_the_wall_clock_tells_what_has_passed_and_never_less_than_nothing() {
    let provider = Provider::start();
    let mut spillway = movable(&provider).start();
    name_an_hour(&spillway, &provider);
    until_remembered(&spillway, "pauses");
    start_the_machine_anew(&mut spillway, |clocks| clocks.set_back(JUMP));
    assert_an_hour_is_left(&spillway, &provider, "with a wall clock that is behind");
    start_the_machine_anew(&mut spillway, |clocks| clocks.set_ahead(JUMP));
    assert_eq!(spillway.send(&chat()).status(), 200, "it was off for a day");
}

#[test]
fn a_circuit_cools_down_by_the_time_that_passes() {
    for (name, set) in SETS {
        let provider = Provider::start();
        let breaker = "consecutive_failures = 1\ncooldown = \"1h\"\ncooldown_max = \"1h\"";
        let setup = movable(&provider).set("upstreams.openai.breaker", breaker);
        let mut spillway = setup.set("upstreams.openai.retry", "max_attempts = 1").start();
        provider.next(respond(500).json(json!({"error": {"message": "broken"}})));
        assert_eq!(spillway.send(&chat()).status(), 500);
        set(spillway.clocks());
        assert_ne!(spillway.send(&chat()).status(), 200, "{name}");
        assert_eq!((spillway.circuit("openai").as_str(), provider.stats().started), ("open", 1), "{name}");
        until_remembered(&spillway, "circuits");
        spillway.kill();
        set(spillway.clocks());
        spillway.restart();
        let answer = spillway.send(&chat());
        assert_eq!((spillway.circuit("openai").as_str(), provider.stats().started), ("open", 1), "{name}");
        assert!((3_500..=4_400).contains(&retry_after(&answer)), "{name}: {answer:?}");
        spillway.clocks().sleep(2 * HOUR);
        assert_eq!(spillway.send(&chat()).status(), 200, "{name}");
    }
}

#[test]
fn a_bucket_fills_while_the_machine_sleeps_and_by_no_clock_that_is_set() {
    let provider = Provider::start();
    let limits = "requests_per_minute = 1\npatience = \"0s\"";
    let mut spillway = movable(&provider).set("upstreams.openai.limits", limits).start();
    assert_eq!(spillway.send(&chat()).status(), 200);
    for (name, set) in SETS {
        set(spillway.clocks());
        assert_eq!(spillway.send(&chat()).status(), 429, "{name}");
    }
    spillway.clocks().sleep(2 * HOUR);
    assert_eq!(spillway.send(&chat()).status(), 200);
}

/// Keeps a request as a job; the provider is asked for nothing.
#[track_caller]
fn kept(spillway: &Spillway) -> String {
    let answer = spillway.send(&chat().header("prefer", "respond-async"));
    assert_eq!(answer.status(), 202, "{}", answer.text());
    answer.header("location").expect("a place").to_owned()
}

fn job(spillway: &Spillway, location: &str) -> Value {
    spillway.send(&get(location)).json()
}

/// Waits until a job waits for a moment, and answers for which.
#[track_caller]
fn until_it_waits(spillway: &Spillway, location: &str) -> u64 {
    let not_before = || job(spillway, location)["not_before_ms"].as_u64().filter(|moment| *moment > 0);
    eventually("the job waits for a moment", not_before)
}

/// Waits until the spool has been tidied with so many jobs in its queue. What is over has been ended or deleted then.
#[track_caller]
fn until_tidied(spillway: &Spillway, queued: u32) {
    eventually("the spool is tidied", || {
        (spillway.metric("spillway_jobs{state=\"queued\"}") == f64::from(queued)).then_some(())
    });
}

#[test]
fn jobs_and_answers_are_kept_and_begun_by_the_time_that_passes() {
    let provider = Provider::start();
    let mut spillway = movable(&provider).set("spool", "expiry = \"20h\"\nretention = \"20h\"").start();
    let gate = provider.gate();
    provider.next(healthy().hold_head(&gate));
    let answered = spillway.send(&chat().header("prefer", "respond-async, wait=0"));
    let answered = answered.header("location").expect("a place").to_owned();
    gate.open();
    assert_eq!(spillway.wait_for_job(&answered)["status"], "done");
    provider.next(rate_limited().retry_after_s(3_600));
    assert_eq!(spillway.send(&impatient()).status(), 429);
    let asked = provider.stats().started;

    let mut jobs = vec![kept(&spillway)];
    for (name, set) in [SETS[0], SETS[1], SETS[1], SETS[0]] {
        set(spillway.clocks());
        jobs.push(kept(&spillway));
        until_tidied(&spillway, u32::try_from(jobs.len()).expect("few"));
        for location in &jobs {
            assert_eq!(job(&spillway, location)["status"], "queued", "{name}");
        }
        assert_eq!(job(&spillway, &answered)["status"], "done", "{name}: an answer of a minute ago is kept");
    }
    assert_eq!(provider.stats().started, asked, "nobody was served early");

    spillway.clocks().sleep(2 * HOUR);
    for location in &jobs {
        assert_eq!(spillway.wait_for_job(location)["status"], "done");
    }
    spillway.clocks().sleep(20 * HOUR);
    eventually("an answer of yesterday is gone", || (spillway.send(&get(&answered)).status() == 404).then_some(()));
}

#[test]
fn jobs_wait_behind_a_restart_no_longer_than_they_were_told_to() {
    let of_spillway: Restart = |spillway, set| {
        spillway.kill();
        set(spillway.clocks());
        spillway.restart();
    };
    let of_the_machine: Restart = start_the_machine_anew;
    for (whose, restart) in [("of Spillway", of_spillway), ("of the machine", of_the_machine)] {
        let provider = Provider::start();
        let mut spillway = movable(&provider).start();
        name_an_hour(&spillway, &provider);
        let location = kept(&spillway);
        let before = until_it_waits(&spillway, &location);
        restart(&mut spillway, |clocks| clocks.set_back(JUMP));
        // It is shown as the wall clock will show it.
        let moved = before - until_it_waits(&spillway, &location);
        assert!(moved.abs_diff(25 * 3_600_000) < 60_000, "{whose}: moved by {moved} ms");
        assert_eq!(job(&spillway, &location)["status"], "queued", "{whose}");
        spillway.clocks().sleep(2 * HOUR);
        assert_eq!(spillway.wait_for_job(&location)["status"], "done", "{whose}");
    }
}

#[test]
fn a_job_expires_while_the_machine_sleeps() {
    let provider = Provider::start();
    let mut spillway = movable(&provider).set("spool", "expiry = \"30m\"").start();
    name_an_hour(&spillway, &provider);
    let location = kept(&spillway);
    until_it_waits(&spillway, &location);
    spillway.clocks().sleep(2 * HOUR);
    assert_eq!(spillway.wait_for_job(&location)["status"], "expired");
}

/// A call under way, in a thread of its own.
fn under_way(spillway: &Spillway, provider: &Provider, reply: Reply) -> thread::JoinHandle<u16> {
    let calls = provider.stats().started;
    provider.next(reply);
    let mut connection = spillway.connect();
    let call = thread::spawn(move || connection.exchange(&chat()).map_or(0, |answer| answer.status()));
    provider.wait_for_requests(calls + 1);
    call
}

#[test]
fn what_the_machine_slept_through_counts_against_nobody() {
    let provider = Provider::start();
    let breaker = "consecutive_failures = 1\ncooldown = \"1h\"\ncooldown_max = \"1h\"";
    let setup = movable(&provider).set("upstreams.openai.breaker", breaker);
    let mut spillway = setup.set("upstreams.openai.retry", "max_attempts = 1").start();
    for (slept, circuit) in [(true, "closed"), (false, "open")] {
        let gate = provider.gate();
        // Half an answer, and then a connection that has not survived.
        let call = under_way(&spillway, &provider, healthy().hold_head(&gate).reset());
        if slept {
            spillway.clocks().sleep(2 * HOUR);
        }
        gate.open();
        let status = call.join().expect("an end");
        assert_ne!(status, 200);
        assert_eq!(spillway.circuit("openai"), circuit, "slept: {slept}");
        // What begins before the sleep is noticed may have begun before the sleep.
        spillway.log().wait_for(&["the machine has slept"]);
    }
}

#[test]
fn a_stream_that_the_machine_slept_through_counts_against_nobody() {
    let provider = Provider::start();
    let breaker = "consecutive_failures = 1\ncooldown = \"1h\"\ncooldown_max = \"1h\"";
    let mut spillway = movable(&provider).set("upstreams.openai.breaker", breaker).start();
    for (number, slept, circuit) in [(1, true, "closed"), (2, false, "open")] {
        let gate = provider.gate();
        // Its first word, and then a connection that has not survived.
        provider.next(healthy().after_events(2).wait_for(&gate).reset());
        let (_, mut stream) = spillway.open(&chat_stream());
        for _ in 0..2 {
            assert!(stream.event().is_ok_and(|event| event.is_some()));
        }
        if slept {
            spillway.clocks().sleep(2 * HOUR);
        }
        gate.open();
        while stream.event().is_ok_and(|event| event.is_some()) {}
        // It is counted when it has ended, which its caller sees first.
        eventually("it is settled", || {
            (spillway.log().text().matches("the answer broke off").count() == number).then_some(())
        });
        assert_eq!(spillway.circuit("openai"), circuit, "slept: {slept}");
        spillway.log().wait_for(&["the machine has slept"]);
    }
}

#[test]
fn calls_that_stand_still_with_the_machine_do_not_stall() {
    let provider = Provider::start();
    let breaker = "kind = \"plain\"\nstalled_calls = 1\nstall_duration = \"60s\"";
    let mut spillway = movable(&provider).set("upstreams.openai.breaker", breaker).start();
    let gate = provider.gate();
    let call = under_way(&spillway, &provider, healthy().hold_head(&gate));
    spillway.clocks().sleep(2 * HOUR);
    spillway.log().wait_for(&["the machine has slept"]);
    assert_eq!(spillway.circuit("openai"), "closed");
    gate.open();
    assert_eq!(call.join().expect("an answer"), 200);
    assert_eq!(spillway.circuit("openai"), "closed");
}
