//! `spillway policy …` as tests run it, some of it compiles, and what it ends with.
#![expect(clippy::panic, reason = "a command that cannot be run fails the test, and panics are how tests fail")]

use crate::spillway::{Ended, binary};
use serde_json::Value;
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs `spillway policy …` in a folder for as long as it takes.
///
/// # Panics
/// As [`ended`].
#[track_caller]
pub fn policy<A: AsRef<OsStr>>(folder: &Path, arguments: &[A]) -> Ended {
    policy_by(&binary(), folder, arguments)
}

/// The same by another copy of the program.
///
/// # Panics
/// As [`ended`].
#[track_caller]
pub fn policy_by<A: AsRef<OsStr>>(program: &Path, folder: &Path, arguments: &[A]) -> Ended {
    let mut command = Command::new(program);
    command.arg("policy").args(arguments).current_dir(folder).stdin(Stdio::null()).env_remove("SPILLWAY_LOG");
    // What a crate needs was downloaded for this test's own build, and mostly compiled as well.
    command.env("CARGO_NET_OFFLINE", "true").env("CARGO_TARGET_DIR", target_folder());
    ended(&mut command)
}

/// Where this test was built, which has most of what is compiled here.
pub fn target_folder() -> PathBuf {
    let told = env::var_os("CARGO_TARGET_DIR").and_then(|folder| std::path::absolute(folder).ok());
    let executable = env::current_exe().unwrap_or_default();
    told.or_else(|| executable.ancestors().nth(3).map(Path::to_path_buf)).unwrap_or_default()
}

/// Runs a command to its end.
///
/// # Panics
/// When it does not start.
#[track_caller]
pub fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// All is well, and this was said, somewhere.
///
/// # Panics
/// When it is otherwise.
#[track_caller]
pub fn well(ended: &Ended, said: &[&str]) {
    ends(ended, 0, said);
}

/// It ended with this code, and this was said, somewhere.
///
/// # Panics
/// When it is otherwise.
#[track_caller]
pub fn ends(ended: &Ended, code: i32, said: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    for words in said {
        assert!(ended.stdout.contains(words) || ended.stderr.contains(words), "no `{words}` in {ended:?}");
    }
}

/// What it said as JSON.
///
/// # Panics
/// When that is none.
#[track_caller]
pub fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("no JSON: {error}, {ended:?}"))
}
