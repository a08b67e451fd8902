//! A policy's way into service: compared as a shadow first, trusted, kept compiled, and swapped however files can be.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use ring::signature::{Ed25519KeyPair, KeyPair};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use spillway_tests::asks::chat;
use spillway_tests::http::get;
use spillway_tests::provider::{Failure, Provider, error_in_200, fail};
use spillway_tests::spillway::{Setup, Spillway, policy_file};
use spillway_tests::wait::eventually;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

fn swaps(spillway: &Spillway, name: &str) -> u64 {
    spillway.policy(name)["swaps"].as_u64().unwrap_or(0)
}

fn wait_for_swap(spillway: &Spillway, name: &str, count: u64) -> Value {
    eventually(&format!("{name} was swapped {count} times"), || {
        (swaps(spillway, name) == count).then(|| spillway.policy(name))
    })
}

fn wait_for_rejection(spillway: &Spillway, name: &str, reason: &str) -> Value {
    eventually(&format!("{name} is rejected: {reason}"), || {
        let policy = spillway.policy(name);
        policy["rejected"]["reason"].as_str()?.contains(reason).then_some(policy)
    })
}

fn wait_for_shadow(spillway: &Spillway, name: &str) -> Value {
    eventually("the shadow is compared", || {
        let shadow = spillway.policy(name)["shadow"].clone();
        (shadow["state"] == "comparing").then_some(shadow)
    })
}

#[test]
fn a_shadow_is_asked_and_compared_and_changes_nothing() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).policy("default").start();
    fs::copy(policy_file("error-in-success"), spillway.policy_path("default.shadow")).unwrap();
    wait_for_shadow(&spillway, "default");
    assert_eq!(spillway.send(&chat()).status(), 200);
    provider.next(error_in_200());
    let answer = spillway.send(&chat());
    assert_eq!(answer.status(), 200, "the policy that serves takes it for a success: {}", answer.text());
    assert!(answer.header("x-spillway-policy").is_some_and(|by| by.starts_with("default@")));
    let comparison = spillway.policy("default")["shadow"]["comparison"].clone();
    assert_eq!((&comparison["agreed"], &comparison["disagreed"]), (&json!(1), &json!(1)), "{comparison}");
    assert_eq!(comparison["by_kind"]["classify: success -> failure"], 1, "{comparison}");
    let example = &comparison["examples"][0];
    assert_eq!((&example["status"], &example["upstream"]), (&json!(200), &json!("openai")));
    assert_eq!(spillway.circuit("openai"), "closed");

    // What it was compared with is gone, so the comparison begins anew; then the shadow goes too.
    fs::remove_file(spillway.policy_path("default")).unwrap();
    wait_for_swap(&spillway, "default", 2);
    assert_eq!(spillway.policy("default")["shadow"]["comparison"]["disagreed"], 0);
    fs::remove_file(spillway.policy_path("default.shadow")).unwrap();
    eventually("the shadow is gone", || spillway.policy("default")["shadow"].is_null().then_some(()));
}

#[test]
fn a_shadow_that_misbehaves_harms_nobody_and_is_quarantined() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    fs::create_dir_all(spillway.folder().join("policies")).unwrap();
    fs::copy(policy_file("hostile"), spillway.policy_path("default.shadow")).unwrap();
    wait_for_shadow(&spillway, "default");
    provider.always(spillway_tests::provider::healthy().header("x-hostile", "trap"));
    for _ in 0..6 {
        let answer = spillway.send(&chat());
        assert_eq!((answer.status(), answer.header("x-spillway-policy")), (200, Some("built-in")));
    }
    let shadow = spillway.policy("default")["shadow"].clone();
    assert_eq!((&shadow["state"], &shadow["faults"]), (&json!("quarantined"), &json!(5)));
    assert_eq!(shadow["quarantined_after"], "5 faults in a row");
}

/// Three failures and then a success, with which more than half of at least four calls have failed.
fn succeed_where_most_have_failed(provider: &Provider, spillway: &Spillway) {
    for _ in 0..3 {
        provider.next(fail(Failure::ServerError));
        assert_eq!(spillway.send(&chat()).status(), 500);
    }
    assert_eq!(spillway.send(&chat()).status(), 200);
}

/// Every request is one call, and a circuit opens when half of at least four have failed.
fn by_failure_rate(provider: &Provider) -> Setup {
    let setup = Setup::with(provider).set("upstreams.openai.retry", "max_attempts = 1");
    let rate = "consecutive_failures = 0\nfailure_rate = 0.5\nminimum_requests = 4";
    setup.set("upstreams.openai.breaker", rate)
}

#[test]
fn a_success_opens_no_circuit_because_a_shadow_wants_to_be_asked_about_tripping() {
    let provider = Provider::start();
    let spillway = by_failure_rate(&provider).start();
    fs::create_dir_all(spillway.folder().join("policies")).unwrap();
    fs::copy(policy_file("latency-trip"), spillway.policy_path("default.shadow")).unwrap();
    wait_for_shadow(&spillway, "default");
    succeed_where_most_have_failed(&provider, &spillway);
    assert_eq!(spillway.circuit("openai"), "closed");
    let comparison = spillway.policy("default")["shadow"]["comparison"].clone();
    // It was asked about the failures, and left them open as the built-in policy does.
    assert_eq!((&comparison["agreed"], &comparison["disagreed"]), (&json!(3), &json!(0)), "{comparison}");
    assert_eq!(comparison["unanswered"], 0, "nobody asks it what neither wants: {comparison}");
}

#[test]
fn a_success_opens_no_circuit_when_the_policy_that_is_asked_leaves_it_open() {
    let provider = Provider::start();
    let spillway =
        by_failure_rate(&provider).policy("latency-trip").set("upstreams.openai", "policy = \"latency-trip\"");
    let spillway = spillway.start();
    succeed_where_most_have_failed(&provider, &spillway);
    assert_eq!(spillway.circuit("openai"), "closed");
    // It was asked, and the thresholds still judge failures.
    assert_eq!(spillway.policy("latency-trip")["calls"], 4);
    provider.next(fail(Failure::ServerError));
    assert_eq!(spillway.send(&chat()).status(), 500);
    spillway.wait_for_circuit("openai", "open");
}

#[test]
fn a_shadow_that_gives_no_answer_is_compared_with_nothing() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).policy("default").start();
    fs::copy(policy_file("hostile"), spillway.policy_path("default.shadow")).unwrap();
    wait_for_shadow(&spillway, "default");
    provider.always(spillway_tests::provider::healthy().header("x-hostile", "trap"));
    for _ in 0..6 {
        assert_eq!(spillway.send(&chat()).status(), 200);
    }
    let comparison = spillway.policy("default")["shadow"]["comparison"].clone();
    let counts = (&comparison["agreed"], &comparison["disagreed"], &comparison["unanswered"]);
    assert_eq!(counts, (&json!(0), &json!(0), &json!(6)), "five faults, and one call in quarantine: {comparison}");
}

#[test]
fn only_listed_files_serve_where_hashes_are_listed() {
    let provider = Provider::start();
    let allowed = sha256_of(&policy_file("default"));
    let spillway = Setup::with(&provider).set("policies", &format!("allow = [\"{allowed}\"]")).start();
    spillway.drop_policy(&policy_file("default"), "default");
    assert_eq!(wait_for_swap(&spillway, "default", 1)["sha256"], allowed);
    spillway.drop_policy(&policy_file("latency-trip"), "default");
    let policy = wait_for_rejection(&spillway, "default", "is not among [policies] allow");
    assert_eq!(policy["sha256"], allowed, "the last good one goes on serving");
}

/// The hash that `/status` shows of a file that serves.
fn sha256_of(file: &Path) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, &fs::read(file).unwrap());
    hex::encode(digest)
}

#[test]
fn only_signed_files_serve_where_signers_are_listed() {
    let provider = Provider::start();
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let key = hex::encode(pair.public_key());
    let spillway = Setup::with(&provider).set("policies", &format!("signers = [\"{key}\"]")).start();
    spillway.drop_policy(&policy_file("default"), "default");
    wait_for_rejection(&spillway, "default", "default.wasm.sig");
    // The signature of another file is none.
    let signature = spillway.folder().join("policies/default.wasm.sig");
    fs::write(&signature, pair.sign(b"another file").as_ref()).unwrap();
    wait_for_rejection(&spillway, "default", "none of the keys");
    fs::write(&signature, pair.sign(&fs::read(policy_file("default")).unwrap()).as_ref()).unwrap();
    let policy = wait_for_swap(&spillway, "default", 1);
    assert_eq!((&policy["source"], &policy["rejected"]), (&json!("module"), &Value::Null));
}

#[test]
fn a_signature_that_cannot_be_one_is_told_what_is_wrong_and_nobody_waits_for_it() {
    let provider = Provider::start();
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let key = hex::encode(pair.public_key());
    let spillway = Setup::with(&provider).set("policies", &format!("signers = [\"{key}\"]")).start();
    spillway.drop_policy(&policy_file("default"), "default");
    let command = "openssl pkeyutl -sign -rawin -inkey key.pem -in default.wasm -out default.wasm.sig";
    wait_for_rejection(&spillway, "default", command);
    let path = spillway.folder().join("policies/default.wasm.sig");
    let signature = pair.sign(&fs::read(policy_file("default")).unwrap());
    for wrong in [[signature.as_ref(), b"\n"].concat(), b"cut off".to_vec()] {
        fs::write(&path, &wrong).unwrap();
        let policy = wait_for_rejection(&spillway, "default", &format!("default.wasm.sig has {} bytes", wrong.len()));
        assert!(policy["rejected"]["reason"].as_str().unwrap().contains(command), "{policy}");
    }
    fs::remove_file(&path).unwrap();
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    wait_for_rejection(&spillway, "default", "default.wasm.sig is no regular file");
    fs::remove_file(&path).unwrap();
    fs::write(&path, signature.as_ref()).unwrap();
    wait_for_swap(&spillway, "default", 1);
}

#[test]
fn a_file_that_cannot_be_reached_is_rejected_and_the_others_are_served() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).policy("default").start();
    let circle = spillway.policy_path("circle");
    symlink(&circle, &circle).unwrap();
    mknodat(CWD, spillway.policy_path("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    wait_for_rejection(&spillway, "circle", "it cannot be reached");
    wait_for_rejection(&spillway, "pipe", "it is no regular file");
    spillway.drop_policy(&policy_file("latency-trip"), "default");
    assert_eq!(wait_for_swap(&spillway, "default", 2)["sha256"], sha256_of(&policy_file("latency-trip")));
    // What serves goes on serving when its file becomes one of those.
    let beside = spillway.folder().join("default.part");
    symlink("default.wasm", &beside).unwrap();
    fs::rename(&beside, spillway.policy_path("default")).unwrap();
    let policy = wait_for_rejection(&spillway, "default", "it cannot be reached");
    assert_eq!(policy["sha256"], sha256_of(&policy_file("latency-trip")));
    assert_eq!(spillway.send(&chat()).status(), 200);
}

#[test]
fn the_whole_hash_of_whoever_judged_is_in_explanations_metrics_and_status() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).policy("default").start();
    let sha256 = sha256_of(&policy_file("default"));
    let answer = spillway.send(&chat());
    let by = format!("default@{}", &sha256[..8]);
    assert_eq!(answer.header("x-spillway-policy"), Some(&*by));
    let line = spillway.log().wait_for(&["\"request\"", &sha256]);
    assert_eq!((&line["policy"], &line["policy_sha256"]), (&json!(by), &json!(sha256)));
    let calls = format!("spillway_policy_calls_total{{policy=\"default\",sha256=\"{sha256}\"}}");
    assert_eq!(spillway.metric(&calls), 1.0, "{}", spillway.admin(&get("/metrics")).text());
    assert_eq!(spillway.policy("default")["sha256"], sha256);
}

#[test]
fn what_was_compiled_is_kept_and_a_damaged_file_is_compiled_again() {
    let provider = Provider::start();
    let mut spillway = Setup::with(&provider).policy("latency-trip").policy("default").start();
    let kept = || -> Vec<_> {
        let entries = fs::read_dir(spillway.folder().join("spillway-data/policy-cache")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let files = kept();
    assert_eq!(files.len(), 2, "{files:?}");
    let written = |files: &[std::path::PathBuf]| -> Vec<u64> {
        files.iter().map(|file| std::os::unix::fs::MetadataExt::ino(&fs::metadata(file).unwrap())).collect()
    };
    let first = written(&files);
    spillway.restart();
    assert_eq!(written(&files), first, "nothing was compiled again");
    assert!(spillway.send(&chat()).header("x-spillway-policy").is_some_and(|by| by.starts_with("default@")));
    for file in &files {
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(file, bytes).unwrap();
    }
    spillway.restart();
    assert!(spillway.send(&chat()).header("x-spillway-policy").is_some_and(|by| by.starts_with("default@")));
    spillway.log().wait_for(&["a compiled policy is damaged"]);
    assert_ne!(written(&files), first);
}

#[test]
fn code_that_others_could_have_put_there_is_not_run() {
    let provider = Provider::start();
    let mut spillway = Setup::with(&provider).policy("default").start();
    let cache = spillway.folder().join("spillway-data/policy-cache");
    fs::set_permissions(&cache, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    spillway.restart();
    spillway.log().wait_for(&["others can write to it"]);
    assert!(spillway.send(&chat()).header("x-spillway-policy").is_some_and(|by| by.starts_with("default@")));
}

#[test]
fn settings_are_followed_while_serving_and_wrong_ones_change_nothing() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).policy("error-in-success");
    let setup = setup.set("upstreams.openai", "policy = \"error-in-success\"");
    let mut spillway = setup.set("upstreams.openai.limits", "patience = \"1500ms\"").start();
    provider.always(error_in_200());
    assert_eq!(spillway.send(&chat()).status(), 502, "a failure");
    spillway.reconfigure("policies.settings.error-in-success", "throttle_codes = [\"server_is_overloaded\"]");
    wait_for_swap(&spillway, "error-in-success", 2);
    assert_eq!(spillway.send(&chat()).status(), 429, "now a rate limit");
    spillway.reconfigure("policies.settings.error-in-success", "nonsense = 1");
    wait_for_rejection(&spillway, "error-in-success", "nonsense");
    assert_eq!(spillway.send(&chat()).status(), 429, "as before");
    spillway.reconfigure("server", "listen = 17");
    spillway.log().wait_for(&["the configuration was changed and is wrong", "server.listen"]);
    assert_eq!(spillway.send(&chat()).status(), 429, "as before");
}

#[test]
fn an_empty_configuration_in_between_takes_no_settings_away() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).policy("error-in-success");
    let setup = setup.set("policies.settings.error-in-success", "throttle_codes = [\"server_is_overloaded\"]");
    let mut spillway = setup.start();
    fs::write(spillway.folder().join("spillway.toml"), "").unwrap();
    // A policy that is loaded later shows that the empty file has been looked at, twice and long enough.
    spillway.drop_policy(&policy_file("default"), "default");
    wait_for_swap(&spillway, "default", 1);
    spillway.drop_policy(&policy_file("latency-trip"), "default");
    wait_for_swap(&spillway, "default", 2);
    spillway.reconfigure("upstreams.openai", "policy = \"default\"");
    spillway.drop_policy(&policy_file("default"), "default");
    wait_for_swap(&spillway, "default", 3);
    assert_eq!(swaps(&spillway, "error-in-success"), 1, "its settings are what they were");
}

#[test]
fn a_slow_writer_is_waited_for() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    fs::create_dir_all(spillway.folder().join("policies")).unwrap();
    let bytes = fs::read(policy_file("default")).unwrap();
    let mut file = fs::File::create(spillway.policy_path("default")).unwrap();
    // Each piece comes before the file could be taken for finished, or after it was taken and rejected; either way what
    // is whole at last serves.
    for piece in bytes.chunks(bytes.len() / 5 + 1) {
        file.write_all(piece).unwrap();
        file.flush().unwrap();
        assert_eq!(spillway.send(&chat()).status(), 200);
    }
    drop(file);
    assert_eq!(wait_for_swap(&spillway, "default", 1)["sha256"], sha256_of(&policy_file("default")));
}

#[test]
fn a_link_that_is_swapped_and_a_folder_that_vanishes_and_returns_are_followed() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let policies = spillway.folder().join("policies");
    // As Kubernetes mounts a ConfigMap: the file is a link through a link to a folder, and only the latter is swapped.
    let releases = spillway.folder().join("releases");
    for (release, policy) in [("one", "default"), ("two", "latency-trip")] {
        fs::create_dir_all(releases.join(release)).unwrap();
        fs::copy(policy_file(policy), releases.join(release).join("default.wasm")).unwrap();
    }
    let swap_to = |release: &str| {
        let beside = spillway.folder().join("current.new");
        symlink(releases.join(release), &beside).unwrap();
        fs::rename(&beside, spillway.folder().join("current")).unwrap();
    };
    swap_to("one");
    fs::create_dir_all(&policies).unwrap();
    symlink(spillway.folder().join("current/default.wasm"), policies.join("default.wasm")).unwrap();
    assert_eq!(wait_for_swap(&spillway, "default", 1)["sha256"], sha256_of(&policy_file("default")));
    swap_to("two");
    assert_eq!(wait_for_swap(&spillway, "default", 2)["sha256"], sha256_of(&policy_file("latency-trip")));
    let away = spillway.folder().join("policies.away");
    fs::rename(&policies, &away).unwrap();
    assert_eq!(wait_for_swap(&spillway, "default", 3)["source"], "built-in");
    fs::rename(&away, &policies).unwrap();
    assert_eq!(wait_for_swap(&spillway, "default", 4)["source"], "module");
    // And it is listened to again, not only polled.
    fs::remove_file(policies.join("default.wasm")).unwrap();
    assert_eq!(wait_for_swap(&spillway, "default", 5)["source"], "built-in");
}

/// How often the thread that loads policies has begun to wait for something.
fn loader_waits(spillway: &Spillway) -> u64 {
    let mut tasks = fs::read_dir(format!("/proc/{}/task", spillway.pid())).unwrap().map(|task| task.unwrap().path());
    let loader =
        tasks.find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "policy-loader"));
    let status = fs::read_to_string(loader.expect("it is running").join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn a_log_that_is_written_beside_the_configuration_wakes_nobody() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).policy("default").start();
    let mut log = fs::File::create(spillway.folder().join("spillway.log")).unwrap();
    let before = loader_waits(&spillway);
    let lines = 200;
    for _ in 0..lines {
        log.write_all(b"a line for each request\n").unwrap();
        assert_eq!(spillway.send(&chat()).status(), 200);
    }
    let waits = loader_waits(&spillway) - before;
    assert!(waits < lines / 10, "{waits} looks during {lines} lines of log");
    // The configuration itself and the policies' folder are still listened to.
    spillway.drop_policy(&policy_file("latency-trip"), "default");
    wait_for_swap(&spillway, "default", 2);
}

/// Resident memory in KiB.
fn resident_kib(spillway: &Spillway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", spillway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn swaps_without_end_leak_nothing() {
    let long = std::env::var_os("SPILLWAY_LONG").is_some();
    let (settled_after, total) = if long { (100, 1_000) } else { (10, 40) };
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let mut settled = 0;
    for count in 1..=total {
        let name = if count % 2 == 0 { "latency-trip" } else { "default" };
        let beside = spillway.folder().join("next.part");
        fs::copy(policy_file(name), &beside).unwrap();
        fs::create_dir_all(spillway.folder().join("policies")).unwrap();
        fs::rename(&beside, spillway.policy_path("default")).unwrap();
        wait_for_swap(&spillway, "default", count);
        assert_eq!(spillway.send(&chat()).status(), 200);
        if count == settled_after {
            settled = resident_kib(&spillway);
        }
    }
    let grown_kib = resident_kib(&spillway).saturating_sub(settled);
    assert!(grown_kib < 16 << 10, "{grown_kib} KiB more after {} further swaps", total - settled_after);
}
