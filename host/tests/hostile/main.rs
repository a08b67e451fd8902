//! Whatever lies in the policy folder, and whatever a policy does when it is called: the host survives it, in bounded
//! time and memory, and says what was wrong. What it asks of the system is Linux's.
#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "a test")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

mod files;
mod rewrite;
mod service;
mod shutdown;
mod smith;

use spillway::policy::{Limits, LoadError, Module, Runtime, Sha256Sum};
use spillway_tests::spillway::policy_file;
use std::fs;
use std::time::{Duration, Instant};

/// For how long anything here may take before it counts as hanging: a hundred times what it takes.
const HANGS_AFTER: Duration = Duration::from_secs(20);

/// A policy as the compiler left it.
fn policy(name: &str) -> Vec<u8> {
    fs::read(policy_file(name)).unwrap()
}

fn load(runtime: &Runtime, file: &[u8], settings: &str) -> Result<Module, LoadError> {
    let began = Instant::now();
    let loaded = runtime.load(file, Sha256Sum::of(file), "hostile", settings, Limits::STANDARD);
    assert!(began.elapsed() < HANGS_AFTER, "loading took {:?}", began.elapsed());
    loaded
}

/// Why a file is not loaded.
fn refusal(runtime: &Runtime, file: &[u8]) -> String {
    match load(runtime, file, "{}") {
        Ok(module) => panic!("{module:?} was loaded"),
        Err(error) => error.to_string(),
    }
}

fn runtime() -> Runtime {
    Runtime::start(None).unwrap()
}

/// Memory of this process in KiB.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
