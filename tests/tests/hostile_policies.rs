//! A hostile policy in the real proxy: what it costs the requests of others.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use serde_json::json;
use spillway_tests::asks::{chat, message, patient_chat};
use spillway_tests::http::Connection;
use spillway_tests::provider::{Provider, Reply, healthy, path_contains, respond};
use spillway_tests::spillway::{Setup, Spillway};
use spillway_tests::wait::eventually;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The longest that one call of a policy holds its worker: two free ticks of a millisecond, and 5 ms of processor time
/// within 50 ms (`spillway::policy::Instance` has these figures).
const CALL_BOUND: Duration = Duration::from_millis(2 + 50);
/// A request meets such calls of its own policy only, but may have to wait for those of others on its worker.
const GENEROUS: u32 = 40;

/// How often a policy misbehaves in every way there is.
const ROUNDS: u32 = 16;
/// Answers after each fault that keep a policy in service: a tenth of the calls is too large a share of faults.
const ANSWERS_PER_FAULT: usize = 11;

fn hostile(provider: &Provider, name: &str) -> Setup {
    // One worker, so that whoever is held up is held up with everybody.
    let setup = Setup::with(provider).policy(name).set("server", "workers = 1");
    let setup = setup.set("upstreams.openai", &format!("policy = \"{name}\""));
    setup.set("upstreams.openai.breaker", "consecutive_failures = 0\nfailure_rate = 0")
}

fn doing(deed: &str) -> Reply {
    respond(200).header("x-hostile", deed).json(json!({"choices": [{}]}))
}

/// Memory of the process in KiB.
fn resident_kib(spillway: &Spillway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", spillway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Sends requests of another upstream on the same worker while `misbehaving` runs, and returns the slowest of them.
fn slowest_beside(spillway: &Spillway, misbehaving: impl FnOnce()) -> (usize, Duration) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut connection = Connection::open(spillway.address()).unwrap();
            let (mut count, mut slowest) = (0, Duration::ZERO);
            while !done.load(Ordering::Relaxed) {
                let began = Instant::now();
                assert_eq!(connection.exchange(&message()).unwrap().status(), 200);
                (count, slowest) = (count + 1, slowest.max(began.elapsed()));
            }
            (count, slowest)
        });
        // The others must be stopped also when the misbehaviour ends badly.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(misbehaving));
        done.store(true, Ordering::Relaxed);
        let seen = others.join().expect("no other request failed");
        outcome.expect("all of it was survived");
        seen
    })
}

#[test]
fn others_on_the_same_worker_are_served_while_a_policy_loops_traps_and_hoards() {
    let provider = Provider::start();
    let spillway = hostile(&provider, "hostile").start();
    let mut settled_kib = 0;
    let (count, slowest) = slowest_beside(&spillway, || {
        let mut connection = spillway.connect();
        for round in 0..ROUNDS {
            for deed in ["loop", "trap", "memory", "stack", "huge reason", "broken reason", "huge line"] {
                // Answers in between keep the quarantine away, which would end the misbehaviour.
                for (deed, times) in [(deed, 1), ("harmless", ANSWERS_PER_FAULT)] {
                    provider.when(path_contains("/chat/"), doing(deed));
                    for _ in 0..times {
                        let answer = connection.exchange(&chat()).unwrap();
                        assert_eq!(answer.status(), 200, "{deed}: {}", answer.text());
                    }
                }
            }
            if round == 3 {
                settled_kib = resident_kib(&spillway);
            }
        }
    });
    let policy = spillway.policy("hostile");
    println!("{count} requests beside {} faults; the slowest took {slowest:?}", policy["faults"]);
    assert_eq!((&policy["faults"], &policy["state"]), (&json!(7 * ROUNDS), &json!("serving")), "{policy}");
    assert!(count > 20, "only {count} requests were served beside it");
    assert!(slowest < CALL_BOUND * GENEROUS, "the slowest took {slowest:?}");
    let grown_kib = resident_kib(&spillway).saturating_sub(settled_kib);
    assert!(grown_kib < 32 << 10, "{grown_kib} KiB more");
}

#[test]
fn a_policy_that_fails_every_other_call_is_quarantined_and_told_which_rule_it_broke() {
    let provider = Provider::start();
    let spillway = hostile(&provider, "hostile").start();
    let send = |deed: &str| {
        provider.next(doing(deed));
        let answer = spillway.send(&chat());
        assert_eq!(answer.status(), 200, "{deed}: {}", answer.text());
    };
    for fault in 1..=10 {
        let policy = spillway.policy("hostile");
        assert_eq!((&policy["state"], &policy["quarantined_after"]), (&json!("serving"), &json!(null)), "{fault}");
        send("harmless");
        send("trap");
    }
    let rule = "10 faults among 100 calls within a minute";
    let policy = spillway.policy("hostile");
    assert_eq!((&policy["state"], &policy["quarantined_after"]), (&json!("quarantined"), &json!(rule)));
    assert_eq!((&policy["calls"], &policy["faults"]), (&json!(20), &json!(10)));
    spillway.log().wait_for(&["\"level\":\"ERROR\"", &format!("the policy is quarantined for 30 s after {rule}")]);
    send("harmless");
    send("loop");
    assert_eq!(spillway.policy("hostile")["calls"], 20, "it is not asked");
}

#[test]
fn each_hook_may_loop_and_its_answer_is_given_without_it() {
    let provider = Provider::start();
    let setup =
        hostile(&provider, "hostile-hooks").set("upstreams.openai.retry", "max_attempts = 2\nbackoff = \"1ms\"");
    // `trip` is told what to do by its upstream's name.
    let url = format!("url = \"{}\"\ndialect = \"openai\"\npolicy = \"hostile-hooks\"", provider.url());
    let spillway = setup.set("upstreams.loop", &url).start();
    provider.always(healthy().header("x-hostile", "loop"));
    assert_eq!(spillway.send(&chat()).status(), 200);
    spillway.log().wait_for(&["the built-in policy answers instead", "\"hook\":\"classify\"", "took longer than 5 ms"]);
    provider.heal();
    provider.next(healthy().header("x-hostile", "backoff: loop"));
    assert_eq!(spillway.send(&chat()).status(), 200, "it is tried again after the configured wait");
    spillway.log().wait_for(&["the built-in policy answers instead", "\"hook\":\"backoff\"", "took longer than 5 ms"]);
    assert_eq!(spillway.send(&chat().path("/loop/v1/chat/completions")).status(), 200);
    spillway.log().wait_for(&["the built-in policy answers instead", "\"hook\":\"trip\"", "took longer than 5 ms"]);
    assert_eq!(spillway.policy("hostile-hooks")["faults"], 3);
}

#[test]
fn a_policy_that_floods_the_log_leaves_room_for_others_in_it() {
    let provider = Provider::start();
    let spillway = hostile(&provider, "hostile").start();
    let began = Instant::now();
    let requests = 8;
    for request in 0..requests {
        // An instance that traps is followed by another, which has no more lines than were left.
        provider.next(doing(if request % 2 == 0 { "flood" } else { "flood and trap" }));
        assert_eq!(spillway.send(&chat()).status(), 200);
    }
    let lines = |what: &str| spillway.log().text().lines().filter(|line| line.contains(what)).count();
    eventually("every request has its line", || (lines("\"request\"") == requests).then_some(()));
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    let flood = lines("policy says: flood");
    // Ten in a second; and a second that has begun counts.
    assert!((1..=10 * (seconds + 1)).contains(&flood), "{flood} lines in {seconds} s");
}

#[test]
fn a_policys_words_forge_neither_lines_nor_headers() {
    let provider = Provider::start();
    let setup = hostile(&provider, "hostile").set("upstreams.openai.retry", "max_attempts = 1");
    let spillway = setup.start();
    provider.next(doing("forged line"));
    assert_eq!(spillway.send(&chat()).status(), 200);
    spillway.log().wait_for(&["policy says: harmless 1970-01-01T00:00:00Z ERROR forged"]);
    provider.next(doing("forged reason"));
    let answer = spillway.send(&chat());
    assert_eq!((answer.status(), answer.header("x-forged")), (502, None), "{:?}", answer.head);
    spillway.log().wait_for(&["harmless  x-forged: yes"]);
}

#[test]
fn waits_without_end_end_neither_a_worker_nor_a_job() {
    let provider = Provider::start();
    let setup = hostile(&provider, "hostile-hooks").set("spool", "enabled = true");
    let url = format!("url = \"{}\"\ndialect = \"openai\"\npolicy = \"hostile-hooks\"", provider.url());
    let spillway = setup.set("upstreams.open-for", &url).start();
    for deed in ["endless cool-off", "backoff: retry after", "backoff: spool for"] {
        for ask in [chat(), patient_chat()] {
            provider.always(doing(deed));
            let answer = spillway.send(&ask);
            assert!(
                matches!(answer.status(), 202 | 429 | 502 | 503 | 529),
                "{deed}: {} {}",
                answer.status(),
                answer.text()
            );
            provider.heal();
            // Whatever was opened, another upstream is served, and by the same worker.
            assert_eq!(spillway.send(&message()).status(), 200, "{deed}");
        }
    }
    let answer = spillway.send(&chat().path("/open-for/v1/chat/completions"));
    println!("{} {}", answer.status(), answer.text());
    let log = spillway.log().text();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn what_is_no_file_or_too_large_to_be_one_does_not_hold_up_the_others() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let folder = spillway.folder().join("policies");
    fs::create_dir_all(&folder).unwrap();
    // Sparse: it takes no room, and all the time there is to read.
    fs::File::create(folder.join("sparse.wasm")).unwrap().set_len(1 << 30).unwrap();
    symlink("/dev/zero", folder.join("endless.wasm")).unwrap();
    symlink("/dev/zero", folder.join("default.wasm.sig")).unwrap();
    fs::create_dir(folder.join("folder.wasm")).unwrap();
    let mkfifo = |name: &str| assert!(Command::new("mkfifo").arg(folder.join(name)).status().unwrap().success());
    mkfifo("pipe.wasm");
    mkfifo("piped.wasm.sig");
    let before = resident_kib(&spillway);
    for name in ["piped", "default"] {
        spillway.drop_policy(&spillway_tests::spillway::policy_file("default"), name);
    }
    eventually("the good one serves", || (spillway.policy("default")["source"] == "module").then_some(()));
    eventually("the large one is refused", || {
        let reason = spillway.policy("sparse")["rejected"]["reason"].clone();
        reason.as_str()?.contains("a policy has at most").then_some(())
    });
    let grown_kib = resident_kib(&spillway).saturating_sub(before);
    assert!(grown_kib < 64 << 10, "{grown_kib} KiB more");
}
