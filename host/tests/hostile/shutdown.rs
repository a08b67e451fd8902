//! A Spillway that is told to end while it compiles.

use crate::policy;
use crate::rewrite::{tangled, with_body};
use spillway_tests::asks::chat;
use spillway_tests::provider::Provider;
use spillway_tests::spillway::{Setup, Spillway};
use spillway_tests::wait::eventually;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Processor time after which the thread that loads policies can only be compiling: reading and checking the file take
/// a tenth of it.
const COMPILES_AFTER: Duration = Duration::from_millis(200);

/// Processor time of the thread that loads policies.
fn loader_time(spillway: &Spillway) -> Duration {
    let mut tasks = fs::read_dir(format!("/proc/{}/task", spillway.pid())).unwrap().map(|task| task.unwrap().path());
    let loader =
        tasks.find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "policy-loader"));
    // A thread takes its name as the first thing it does.
    let Some(loader) = loader else { return Duration::ZERO };
    let times = fs::read_to_string(loader.join("schedstat")).unwrap();
    Duration::from_nanos(times.split_whitespace().next().unwrap().parse().unwrap())
}

/// What lies in the cache of compiled policies.
fn compiled(spillway: &Spillway) -> Vec<PathBuf> {
    let files = fs::read_dir(spillway.folder().join("spillway-data/policy-cache")).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

#[test]
fn a_compilation_holds_up_no_end_and_what_it_leaves_behind_no_start() {
    let provider = Provider::start();
    let mut spillway = Setup::with(&provider).start();
    // Seconds to compile. It serves then, because this policy is never asked about tripping.
    let slow = with_body(&policy("default"), "#trip", |_, _| tangled(3_000, 3_000));
    spillway.drop_policy_bytes(&slow, "default");
    eventually("it is being compiled", || (loader_time(&spillway) > COMPILES_AFTER).then_some(()));
    spillway.terminate();
    assert!(spillway.wait_for_exit().success());
    let log = spillway.log().text();
    assert!(log.contains("Spillway ends") && !log.contains("policy takes over"), "it waited: {log}");
    assert_eq!(compiled(&spillway), Vec::<PathBuf>::new());

    spillway.restart();
    let is_judged_by_it = |spillway: &Spillway| {
        let answer = spillway.send(&chat());
        answer.header("x-spillway-policy").is_some_and(|by| by.starts_with("default@"))
    };
    assert!(is_judged_by_it(&spillway));
    let [whole] = &compiled(&spillway)[..] else { panic!("{:?}", compiled(&spillway)) };

    // What an end in the middle of writing leaves.
    let half = fs::read(whole).unwrap();
    fs::write(whole.with_file_name(".spillway-a1b2c3.new"), &half[..half.len() / 2]).unwrap();
    fs::remove_file(whole).unwrap();
    spillway.restart();
    assert!(is_judged_by_it(&spillway));
    assert!(whole.exists(), "it was compiled again");
}
