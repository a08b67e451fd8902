//! Policies: WebAssembly modules that take over while traffic flows, and what holds those that misbehave.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use serde_json::{Value, json};
use spillway_tests::asks::chat;
use spillway_tests::http::{Connection, Response};
use spillway_tests::provider::{Provider, error_in_200, healthy, respond};
use spillway_tests::spillway::{Setup, Spillway, policy_file};
use spillway_tests::wait::eventually;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn judge(answer: &Response) -> &str {
    answer.header("x-spillway-policy").unwrap_or_default()
}

/// Waits until the file that lies in the policy folder under this name serves, and returns its hash.
fn wait_for_takeover(spillway: &Spillway, name: &str, swaps: u64) -> String {
    eventually(&format!("{name} has taken over {swaps} times"), || {
        let policy = spillway.policy(name);
        let served = policy["source"] == "module" && policy["swaps"] == swaps;
        served.then(|| policy["sha256"].as_str().unwrap_or_default().to_owned())
    })
}

fn wait_for_rejection(spillway: &Spillway, name: &str, reason: &str) -> Value {
    eventually(&format!("{name} is rejected: {reason}"), || {
        let policy = spillway.policy(name);
        policy["rejected"]["reason"].as_str()?.contains(reason).then_some(policy)
    })
}

#[test]
fn policies_come_change_and_go_while_traffic_flows_and_no_request_fails() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let (stop, judges) = (AtomicBool::new(false), Mutex::new(Vec::<String>::new()));
    let clients = |spillway: &Spillway| {
        let mut connection = Connection::open(spillway.address()).expect("a connection");
        while !stop.load(Ordering::Relaxed) {
            let answer = connection.exchange(&chat()).expect("an answer");
            assert_eq!(answer.status(), 200, "{}", answer.text());
            judges.lock().unwrap().push(judge(&answer).to_owned());
        }
    };
    let seen = |prefix: &str| {
        judges.lock().unwrap().clear();
        eventually(&format!("{prefix} judges"), || {
            judges.lock().unwrap().iter().any(|judge| judge.starts_with(prefix)).then_some(())
        });
        // Both workers follow: an answer that begins from here on is judged by nobody else.
        judges.lock().unwrap().clear();
        let others = eventually("more answers", || {
            let judges = judges.lock().unwrap();
            (judges.len() >= 20).then(|| judges.iter().filter(|judge| !judge.starts_with(prefix)).count())
        });
        assert!(others <= 4, "{others} of the last answers were not judged by {prefix}");
    };
    thread::scope(|scope| {
        let handles: Vec<_> = (0..4).map(|_| scope.spawn(|| clients(&spillway))).collect();
        let steps = || {
            seen("built-in");
            // Dropped.
            spillway.drop_policy(&policy_file("default"), "default");
            let first = wait_for_takeover(&spillway, "default", 1);
            seen(&format!("default@{}", &first[..8]));
            // Overwritten in place.
            spillway.drop_policy(&policy_file("hostile"), "default");
            let second = wait_for_takeover(&spillway, "default", 2);
            assert_ne!(first, second);
            // Harmless without its header, it leaves every answer open.
            seen("built-in");
            // Renamed over.
            let hidden = spillway.folder().join("policies/.default.wasm.part");
            fs::copy(policy_file("default"), &hidden).unwrap();
            fs::rename(&hidden, spillway.policy_path("default")).unwrap();
            assert_eq!(wait_for_takeover(&spillway, "default", 3), first);
            seen("default@");
            // Deleted.
            fs::remove_file(spillway.policy_path("default")).unwrap();
            eventually("it is gone", || (spillway.policy("default")["source"] == "built-in").then_some(()));
            seen("built-in");
        };
        // The clients must be stopped also when a step panics, or the scope would wait for ever.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(steps));
        stop.store(true, Ordering::Relaxed);
        for handle in handles {
            handle.join().expect("no request failed");
        }
        outcome.expect("every step was seen");
    });
    let stats = provider.stats();
    assert_eq!(stats.started, stats.completed);
    spillway.log().wait_for(&["policy takes over", "\"policy\":\"default\""]);
    spillway.log().wait_for(&["policy removed"]);
}

#[test]
fn policies_that_lie_in_the_folder_at_the_start_judge_from_the_first_request_on() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).policy("default").start();
    assert!(judge(&spillway.send(&chat())).starts_with("default@"));
    let policy = spillway.policy("default");
    assert_eq!((&policy["version"], &policy["hooks"]), (&json!("0.1.0"), &json!(["classify"])));
}

#[test]
fn an_error_under_a_200_becomes_a_failure_once_the_policy_for_it_is_there() {
    let provider = Provider::start();
    let retry = "max_attempts = 2\nbackoff = \"1ms\"\nbackoff_max = \"2ms\"\nbudget_ratio = 1";
    let setup = Setup::with(&provider).set("upstreams.openai", "policy = \"error-in-success\"");
    let spillway = setup.set("upstreams.openai.retry", retry).start();
    spillway.log().wait_for(&["no such policy file", "error-in-success"]);
    provider.always(error_in_200());
    let before = spillway.send(&chat());
    assert_eq!((before.status(), judge(&before)), (200, "built-in"));

    spillway.drop_policy(&policy_file("error-in-success"), "error-in-success");
    wait_for_takeover(&spillway, "error-in-success", 1);
    provider.heal();
    provider.next(error_in_200());
    let retried = spillway.send(&chat());
    assert_eq!((retried.status(), retried.header("x-spillway-attempts")), (200, Some("2")));
    assert_eq!(retried.at("/object"), "chat.completion");

    provider.always(error_in_200());
    let failed = spillway.send(&chat());
    assert_eq!((failed.status(), &*failed.at("/error/code")), (502, "spillway_upstream_failed"));
    assert!(failed.text().contains("200 with error: The mock provider says"), "{}", failed.text());
    assert!(judge(&failed).starts_with("error-in-success@"));
}

#[test]
fn a_policy_that_trips_on_latency_opens_the_circuit_of_a_slow_provider() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).policy("latency-trip").set("upstreams.openai", "policy = \"latency-trip\"");
    let setup = setup.set("policies.settings.latency-trip", "slow_ms = 60\nquantile = 0.5\nminimum_requests = 4");
    let spillway = setup.set("upstreams.openai.breaker", "cooldown = \"20s\"\ncooldown_max = \"20s\"").start();
    for _ in 0..4 {
        assert_eq!(spillway.send(&chat()).status(), 200);
    }
    assert_eq!(spillway.circuit("openai"), "closed", "quick answers are fine");
    provider.always(healthy().delay(Duration::from_millis(100)));
    let refused = eventually("slow answers open the circuit", || {
        let answer = spillway.send(&chat());
        (answer.status() != 200).then_some(answer)
    });
    assert_eq!(refused.refusal(), Some("spillway_circuit_open"), "{}", refused.text());
    assert_eq!(spillway.upstream("openai")["breakers"][0]["cause"], "the trip policy decided so");
    assert!(provider.stats().started <= 10, "five slow answers are a majority");
}

#[test]
fn settings_reach_the_policy_and_wrong_ones_leave_the_last_good_one_serving() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).policy("error-in-success");
    let setup = setup.set("upstreams.openai", "policy = \"error-in-success\"");
    let setup = setup.set("upstreams.openai.limits", "patience = \"1500ms\"");
    let spillway =
        setup.set("policies.settings.error-in-success", "throttle_codes = [\"server_is_overloaded\"]").start();
    provider.always(error_in_200());
    let throttled = spillway.send(&chat());
    assert_eq!(throttled.status(), 429, "the code named in the settings is a rate limit: {}", throttled.text());

    // The same settings make no sense to another policy under the same name.
    spillway.drop_policy(&policy_file("latency-trip"), "error-in-success");
    let policy = wait_for_rejection(&spillway, "error-in-success", "throttle_codes");
    assert_eq!(
        (&policy["source"], &policy["state"], &policy["swaps"]),
        (&json!("module"), &json!("serving"), &json!(1))
    );
    assert!(judge(&spillway.send(&chat())).starts_with("error-in-success@"));
    spillway.log().wait_for(&["policy file not loaded; error-in-success@", "throttle_codes"]);
}

/// A component that imports an interface of WASI and exports nothing.
fn wasi_component() -> Vec<u8> {
    let name = b"wasi:cli/environment@0.2.0";
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    // One type: an empty instance. One import of that type.
    bytes.extend([7, 3, 1, 0x42, 0]);
    bytes.extend([10, u8::try_from(name.len() + 5).unwrap(), 1, 0, u8::try_from(name.len()).unwrap()]);
    bytes.extend(name);
    bytes.extend([5, 0]);
    bytes
}

/// What a build for wasm32-wasip1 leaves, as far as it matters: a contract, and an import of WASI.
fn wasi_module() -> Vec<u8> {
    let import = [b"\x01\x16wasi_snapshot_preview1\x08fd_write".as_slice(), &[0, 0]].concat();
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    // One type: a function of nothing. One import of that type. A section that announces the contract.
    bytes.extend([1, 4, 1, 0x60, 0, 0]);
    bytes.extend([2, u8::try_from(import.len()).unwrap()]);
    bytes.extend(import);
    bytes.extend(b"\x00\x0f\x0ecomponent-type");
    bytes
}

/// The same module as if it had been built against another version of the contract.
fn for_another_version(module: &[u8]) -> Vec<u8> {
    let mut bytes = module.to_vec();
    let places: Vec<usize> =
        bytes.windows(6).enumerate().filter(|(_, window)| window == b"@0.1.0").map(|(place, _)| place).collect();
    assert!(!places.is_empty(), "the module names no version");
    for place in places {
        bytes[place..place + 6].copy_from_slice(b"@0.2.0");
    }
    bytes
}

#[test]
fn whatever_is_no_policy_leaves_the_last_good_one_serving_and_says_why() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).policy("default").start();
    let good = fs::read(policy_file("default")).unwrap();
    let served = spillway.policy("default")["sha256"].clone();
    let hash = spillway.policy("default")["sha256"].as_str().unwrap()[..8].to_owned();
    let truncated = good[..good.len() / 2].to_vec();
    let garbled = [b"\0asm\x01\0\0\0".as_slice(), &[0xff; 100]].concat();
    for (what, bytes, reason) in [
        ("empty", Vec::new(), "the file is empty"),
        ("text", b"this is no WebAssembly".to_vec(), "the file is no WebAssembly"),
        ("truncated", truncated, "the file is no valid WebAssembly"),
        ("garbled", garbled, "the file is no valid WebAssembly"),
        ("another module", b"\0asm\x01\0\0\0".to_vec(), "built neither with spillway-sdk"),
        ("another contract", b"\0asm\x0d\0\x01\0".to_vec(), "it does not export spillway:policy/description"),
        ("another version", for_another_version(&good), "it was built for spillway:policy@0.2.0"),
        (
            "built for WASI",
            wasi_module(),
            "it needs wasi_snapshot_preview1, and policies get no WASI; build it without: Rust for wasm32-unknown-unknown",
        ),
        ("in need of WASI", wasi_component(), "--disable random stdio clocks http fetch-event"),
        ("too large", vec![0; (16 << 20) + 1], "a policy has at most 16777216"),
    ] {
        spillway.drop_policy_bytes(&bytes, "default");
        let policy = wait_for_rejection(&spillway, "default", reason);
        assert_eq!(
            (&policy["sha256"], &policy["state"], &policy["source"]),
            (&served, &json!("serving"), &json!("module")),
            "{what}"
        );
        spillway.log().wait_for(&["policy file not loaded", &format!("default@{hash} goes on serving"), reason]);
        let answer = spillway.send(&chat());
        assert_eq!((answer.status(), judge(&answer)), (200, &*format!("default@{hash}")), "{what}");
    }
    // The good one put back clears the complaint.
    spillway.drop_policy_bytes(&good, "default");
    eventually("the complaint is gone", || spillway.policy("default")["rejected"].is_null().then_some(()));
    assert_eq!(spillway.policy("default")["sha256"], served);
}

#[test]
fn a_file_that_was_never_a_policy_leaves_the_built_in_one_serving() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    spillway.drop_policy_bytes(b"\0asm\x01\0\0\0", "default");
    let policy = wait_for_rejection(&spillway, "default", "built neither with spillway-sdk");
    assert_eq!(policy["source"], "built-in");
    spillway.log().wait_for(&["the built-in policy goes on serving"]);
    assert_eq!(judge(&spillway.send(&chat())), "built-in");
}

#[test]
fn a_policy_that_loops_when_it_is_configured_is_not_loaded() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).policy("hostile").set("upstreams.openai", "policy = \"hostile\"");
    let began = Instant::now();
    let spillway = setup.set("policies.settings.hostile", "configure = \"loop\"").start();
    assert!(began.elapsed() < Duration::from_secs(10), "it held up the start for {:?}", began.elapsed());
    let policy = wait_for_rejection(&spillway, "hostile", "it failed its self-test: configure took longer than");
    assert_eq!(policy["source"], "built-in");
    assert_eq!(spillway.send(&chat()).status(), 200);
}

#[test]
fn a_policy_that_misbehaves_is_overruled_in_bounded_time_counted_and_at_last_quarantined() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).policy("hostile").set("upstreams.openai", "policy = \"hostile\"");
    let spillway = setup.start();
    let harmless = || assert_eq!(spillway.send(&chat()).status(), 200);
    for (faults, (deed, complaint)) in
        (1..).zip([("loop", "took longer"), ("trap", "trapped"), ("memory", "memory"), ("stack", "trapped")])
    {
        provider.next(respond(200).header("x-hostile", deed).json(json!({"choices": [{}]})));
        let began = Instant::now();
        let answer = spillway.send(&chat());
        assert_eq!((answer.status(), judge(&answer)), (200, "built-in"), "{deed}: {}", answer.text());
        assert!(began.elapsed() < Duration::from_secs(5), "{deed} took {:?}", began.elapsed());
        let policy = spillway.policy("hostile");
        assert_eq!((&policy["faults"], &policy["state"]), (&json!(faults), &json!("serving")), "{deed}");
        assert!(policy["last_fault"].as_str().is_some_and(|fault| fault.contains(complaint)), "{deed}: {policy}");
        spillway.log().wait_for(&["the built-in policy answers instead", complaint]);
        harmless();
    }

    // An answer in between has begun the count anew each time; now there is none.
    for number in 1..=5 {
        assert_eq!(spillway.policy("hostile")["state"], "serving", "fault {number}");
        provider.next(respond(200).header("x-hostile", "trap").json(json!({"choices": [{}]})));
        assert_eq!(spillway.send(&chat()).status(), 200);
    }
    let policy = spillway.policy("hostile");
    assert_eq!((&policy["state"], &policy["faults"]), (&json!("quarantined"), &json!(9)));
    assert_eq!(policy["quarantined_after"], "5 faults in a row");
    spillway.log().wait_for(&["the policy is quarantined for 30 s after 5 faults in a row"]);

    // It is not asked now, so that its endless loop costs nothing.
    let calls = policy["calls"].clone();
    provider.next(respond(200).header("x-hostile", "loop").json(json!({"choices": [{}]})));
    harmless();
    assert_eq!(spillway.policy("hostile")["calls"], calls);

    // A new file is a new chance.
    spillway.drop_policy(&policy_file("default"), "hostile");
    wait_for_takeover(&spillway, "hostile", 2);
    assert!(judge(&spillway.send(&chat())).starts_with("hostile@"));
}
