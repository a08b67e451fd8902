//! Policies that are not made with the SDK: whatever meets the contract, and those that carry an interpreter.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use serde_json::json;
use spillway_tests::asks::chat;
use spillway_tests::http::Response;
use spillway_tests::provider::{Provider, error_in_200};
use spillway_tests::spillway::{Setup, Spillway, policy_file};
use spillway_tests::wait::eventually;
use std::fs;
use std::path::Path;

/// More than the file of an ordinary policy may have.
const OUTSIZED_BYTES: usize = 17 << 20;

fn judge(answer: &Response) -> &str {
    answer.header("x-spillway-policy").unwrap_or_default()
}

/// A policy in a file as large as if it carried an interpreter, which would take half a minute to compile.
fn outsized(name: &str) -> Vec<u8> {
    let mut file = fs::read(policy_file(name)).unwrap();
    // A custom section without a name, its size in LEB128.
    let padding = u32::try_from(OUTSIZED_BYTES).unwrap();
    file.push(0);
    file.extend([0, 7, 14].map(|shift| u8::try_from(padding >> shift & 0x7f).unwrap() | 0x80));
    file.push(u8::try_from(padding >> 21).unwrap());
    file.resize(file.len() + OUTSIZED_BYTES, 0);
    file
}

fn wait_until_it_serves(spillway: &Spillway) {
    eventually("it serves", || (spillway.policy("default")["source"] == "module").then_some(()));
}

fn wait_for_rejection(spillway: &Spillway) -> String {
    eventually("it is rejected", || spillway.policy("default")["rejected"]["reason"].as_str().map(str::to_owned))
}

#[test]
fn a_policy_in_c_judges() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).set("upstreams.openai", "policy = \"error-in-success\"");
    let spillway = setup.set("upstreams.openai.retry", "max_attempts = 1").start();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/other-languages/error-in-success.wasm");
    spillway.drop_policy(&file, "error-in-success");
    eventually("it serves", || (spillway.policy("error-in-success")["source"] == "module").then_some(()));
    let healthy = spillway.send(&chat());
    assert_eq!((healthy.status(), judge(&healthy)), (200, "built-in"), "it leaves that open");
    provider.next(error_in_200());
    let failed = spillway.send(&chat());
    assert_eq!((failed.status(), &*failed.at("/error/code")), (502, "spillway_upstream_failed"));
    assert!(failed.text().contains("200 with an error"), "{}", failed.text());
    assert!(judge(&failed).starts_with("error-in-success@"));
    assert_eq!(spillway.policy("error-in-success")["faults"], 0);
}

#[test]
fn a_policy_that_needs_more_room_gets_it_once_the_configuration_says_that_it_carries_an_interpreter() {
    let provider = Provider::start();
    let mut spillway = Setup::with(&provider).start();
    spillway.drop_policy_bytes(&outsized("default"), "default");
    let reason = wait_for_rejection(&spillway);
    assert!(reason.contains("a policy has at most 16777216"), "{reason}");
    assert!(reason.contains(r#"[policies] interpreted = ["default"]"#), "{reason}");
    assert_eq!(judge(&spillway.send(&chat())), "built-in");

    // Followed while serving.
    spillway.reconfigure("policies", r#"interpreted = ["default"]"#);
    wait_until_it_serves(&spillway);
    assert!(judge(&spillway.send(&chat())).starts_with("default@"));
    assert_eq!(spillway.policy("default")["rejected"], json!(null));

    // It was compiled before, so that no start has to wait for it.
    spillway.restart();
    assert!(judge(&spillway.send(&chat())).starts_with("default@"));

    // What was compiled is of no use without the permission.
    fs::write(spillway.folder().join("spillway.toml"), "[upstreams]\n").unwrap();
    let reason = wait_for_rejection(&spillway);
    assert!(reason.contains("interpreted"), "{reason}");
    assert!(judge(&spillway.send(&chat())).starts_with("default@"), "the last good one goes on serving");
}

#[test]
fn a_start_does_not_wait_for_what_carries_an_interpreter_and_was_never_compiled() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).set("policies", r#"interpreted = ["default"]"#);
    fs::create_dir_all(setup.folder().join("policies")).unwrap();
    fs::write(setup.folder().join("policies/default.wasm"), outsized("default")).unwrap();
    let spillway = setup.start();
    wait_until_it_serves(&spillway);
    spillway.log().wait_for(&["policy takes over"]);
    let log = spillway.log().text();
    let at = |words: &str| log.find(words).unwrap_or_else(|| unreachable!("no `{words}` in {log}"));
    // That is said only when nobody waits for it.
    assert!(at("compiling a policy that carries an interpreter") < at("policy takes over"), "{log}");
    assert!(judge(&spillway.send(&chat())).starts_with("default@"));
}
