//! Modules, components and mutants of policies that a generator makes, each loaded and, if it can be, called.

use crate::{load, resident_kib, runtime};
use spillway::policy::{Judge, LoadError, Registry, Role, Sha256Sum};
use spillway::runtime::clock::Clock;
use spillway_sdk::testing::{exchange, window};
use spillway_sdk::{Fault, Verdict};
use spillway_tests::setup::{policy_file, product};
use std::io::Read;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The generator writes one of each kind in turn.
const KINDS: [&str; 4] = ["modules", "components", "policies' shapes", "mutants"];
/// Growth of memory from the hundredth file on.
const GROWTH_MAX_KIB: u64 = 96 << 10;

#[test]
fn whatever_can_be_generated_is_refused_or_answers_or_fails_in_bounded_time_and_memory() {
    let count = if std::env::var_os("SPILLWAY_LONG").is_some() { 10_000 } else { 300 };
    let mut smith = Command::new(product("SPILLWAY_SMITH", "spillway-smith"));
    smith.args(["4141", &count.to_string()]);
    smith.args(["default", "error-in-success", "latency-trip", "hostile-hooks"].map(policy_file));
    let mut smith = smith.stdout(Stdio::piped()).spawn().expect("`cargo xtask test` builds the generator");
    let mut files = smith.stdout.take().unwrap();

    let runtime = runtime();
    let clock = Clock::start();
    let (mut called, mut faults, mut answers) = ([0_u32; KINDS.len()], 0, 0);
    let (mut slowest, mut settled_kib) = (Duration::ZERO, 0);
    for index in 0..count {
        let mut length = [0; 4];
        files.read_exact(&mut length).unwrap();
        let mut file = vec![0; u32::from_le_bytes(length) as usize];
        files.read_exact(&mut file).unwrap();
        let began = Instant::now();
        let loading = load(&runtime, &file, "{}");
        // What fails its self-test has been compiled and called as well.
        let was_called = match &loading {
            Ok(_) | Err(LoadError::Start(_) | LoadError::Settings(_) | LoadError::SelfTest { .. }) => true,
            Err(LoadError::Artifact(_) | LoadError::Outsized { .. } | LoadError::Compile(_)) => false,
        };
        called[index % KINDS.len()] += u32::from(was_called);
        if let Ok(module) = loading {
            let registry = Registry::new(clock);
            registry.install("p", Role::Active, Sha256Sum::of(&file), module);
            let (slot, mut judge) = (registry.slot("p"), Judge::new(clock));
            let body = r#"{"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}}"#;
            for facts in [
                exchange().status(429).header("retry-after", "7").body(body),
                exchange().status(200).streaming().model("m").body(body),
                exchange().fault(Fault::Truncated),
            ] {
                let facts = Rc::new(facts);
                judge.classify(&slot, facts.clone());
                judge.backoff(&slot, facts, &Verdict::overloaded("é"));
                judge.trip(&slot, Rc::new(window().calls(9, 7)));
            }
            let status = &registry.status()[0];
            faults += status.faults;
            answers += status.calls - status.faults;
        }
        slowest = slowest.max(began.elapsed());
        if index == 100 {
            settled_kib = resident_kib();
        }
    }
    assert!(smith.wait().unwrap().success());
    let grown_kib = resident_kib().saturating_sub(settled_kib);
    let [_, _, shapes, mutants] = called;
    println!("of {count} files, {shapes} in the shape of a policy and {mutants} mutants were called");
    println!("those that were loaded gave {answers} answers and failed {faults} times");
    println!("the slowest took {slowest:?}; memory has grown by {grown_kib} KiB");
    assert!(shapes > 50 && mutants > 20 && answers > 100, "too few of them came as far as being called");
    assert!(grown_kib < GROWTH_MAX_KIB, "{grown_kib} KiB more");
}
