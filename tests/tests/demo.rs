//! `spillway demo` and `spillway mock-provider`, as somebody runs them who has nothing but the binary.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use spillway_tests::http::{Connection, request};
use spillway_tests::spillway::binary;
use spillway_tests::wait::{eventually, within};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A demo of the short form takes a third of this on an idle machine.
const DEMO_DEADLINE: Duration = Duration::from_secs(60);

/// Runs a demo to its end, with this folder for what it needs for a moment.
fn demo(arguments: &[&str], temporary: &Path) -> (ExitStatus, String) {
    let mut command = Command::new(binary());
    command.arg("demo").args(arguments).env("TMPDIR", temporary).stdin(Stdio::null()).stderr(Stdio::inherit());
    let mut child = Owned(command.stdout(Stdio::piped()).spawn().expect("it starts"));
    let mut stdout = child.0.stdout.take().expect("standard output");
    let text = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut text).map(|_| text)
    });
    let ended = within(DEMO_DEADLINE, || child.0.try_wait().ok().flatten()).expect("it ends by itself");
    (ended, text.join().expect("no panic").expect("text"))
}

/// A child that does not outlive us.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn folder() -> TempDir {
    TempDir::with_prefix("spillway-test-").expect("a folder")
}

fn nothing_is_left_in(folder: &TempDir) -> bool {
    let names = folder.path().read_dir().expect("a folder").flatten().map(|entry| entry.file_name());
    // Wine keeps a folder of its own there.
    !names.into_iter().any(|name| !name.to_string_lossy().starts_with("wine-"))
}

fn number(document: &Value, pointer: &str) -> f64 {
    document.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {document:#}"))
}

#[test]
fn an_outage_costs_fewest_behind_spillway_and_what_was_kept_is_finished() {
    let temporary = folder();
    let (status, text) = demo(&["--fast", "--json"], temporary.path());
    assert!(status.success(), "{status}: {text}");
    let document: Value = serde_json::from_str(&text).expect("nothing but a document");
    let of = |lane: usize, pointer: &str| number(&document, &format!("/lanes/{lane}{pointer}"));
    // The provider is away for nine twentieths of the time: whatever the machine does, somebody is not served then.
    for lane in [0, 1] {
        assert!(of(lane, "/live/served_share") < 0.9, "{document:#}");
        assert!(of(lane, "/background/answered_share") < 1.0, "{document:#}");
    }
    // A lane that tries again serves who comes near the end of an outage; nobody who waits longer serves fewer.
    assert!(of(2, "/live/served_share") >= of(0, "/live/served_share"), "{document:#}");
    assert_eq!(of(2, "/background/answered_share"), 1.0, "all that was kept is finished: {document:#}");
    assert!(of(2, "/background/kept") > 0.0 && of(2, "/background/kept") == of(2, "/background/kept_and_answered"));
    assert!(of(2, "/calls/per_answer") < of(0, "/calls/per_answer"), "{document:#}");
    assert!(of(2, "/calls/per_answer") < of(1, "/calls/per_answer"), "{document:#}");
    let told = document["events"].as_array().expect("events");
    let tells = |who: &str, what: &str| {
        told.iter().any(|event| event["who"] == who && event["what"].as_str().is_some_and(|words| words.contains(what)))
    };
    assert!(tells("provider", "503") && tells("spillway", "opens") && tells("spillway", "closed"), "{document:#}");
    // Where another lane is better it is said, and no figure is said to be worse that is not.
    for conceded in document["better_elsewhere"].as_array().expect("a list") {
        assert!(conceded["sentence"].as_str().is_some_and(|sentence| sentence.contains("through Spillway")));
    }
    assert!(nothing_is_left_in(&temporary));
}

#[test]
fn a_demo_that_is_ended_early_leaves_nothing_behind() {
    let temporary = folder();
    let mut child = begun(temporary.path());
    let mut lines = BufReader::new(child.0.stdout.take().expect("standard output")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("provider   is well")), "it begins");
    assert!(!nothing_is_left_in(&temporary), "its Spillway has a folder");
    kill_process(Pid::from_child(&child.0), Signal::INT).expect("a signal");
    let ended = eventually("it ends", || child.0.try_wait().ok().flatten());
    assert_eq!(ended.code(), Some(1));
    assert!(nothing_is_left_in(&temporary));
}

/// Starts a demo, with this folder for what it needs for a moment.
fn begun(temporary: &Path) -> Owned {
    let mut command = Command::new(binary());
    command.args(["demo", "--fast"]).env("TMPDIR", temporary).stdin(Stdio::null());
    Owned(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts"))
}

/// Whether a process runs that was told of something in this folder, where the system says what runs.
fn somebody_runs_in(folder: &Path) -> bool {
    let name = folder.to_str().expect("a plain name");
    let processes = Path::new("/proc").read_dir().into_iter().flatten().flatten();
    // One that ends while it is looked at runs no longer.
    processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok()).any(|line| {
        let arguments = String::from_utf8_lossy(&line);
        arguments.contains(name)
    })
}

#[test]
fn a_demo_that_is_killed_takes_its_spillway_with_it() {
    let temporary = folder();
    let mut demo = begun(temporary.path());
    let mut lines = BufReader::new(demo.0.stdout.take().expect("standard output")).lines().map_while(Result::ok);
    let said = lines.find_map(|line| line.strip_prefix("Spillway http://").map(str::to_owned)).expect("its addresses");
    let (listen, admin) = said.split_once(", its state http://").expect("two addresses");
    let addresses: [SocketAddr; 2] =
        [listen, admin.trim_end_matches("/status")].map(|text| text.parse().expect("an address"));
    assert!(lines.any(|line| line.contains("provider   is well")), "it begins");
    assert!(addresses.iter().all(|address| TcpStream::connect(address).is_ok()));
    demo.0.kill().expect("a signal that cannot be caught");
    eventually("nobody listens", || addresses.iter().all(|address| TcpStream::connect(address).is_err()).then_some(()));
    eventually("it has ended", || (!somebody_runs_in(temporary.path())).then_some(()));
}

#[test]
fn a_demo_that_is_ended_while_it_starts_leaves_nothing_behind() {
    // Each is ended as soon as there is something that it could leave behind.
    for signal in [Signal::INT, Signal::QUIT, Signal::TERM, Signal::HUP].into_iter().cycle().take(8) {
        let temporary = folder();
        let mut demo = begun(temporary.path());
        eventually("it has a folder", || (!nothing_is_left_in(&temporary)).then_some(()));
        kill_process(Pid::from_child(&demo.0), signal).expect("a signal");
        let ended = eventually("it ends", || demo.0.try_wait().ok().flatten());
        assert_eq!(ended.code(), Some(1), "{signal:?}: {ended}");
        assert!(nothing_is_left_in(&temporary), "{signal:?}");
        assert!(!somebody_runs_in(temporary.path()), "{signal:?}");
    }
}

#[test]
fn the_mock_provider_says_where_it_is_and_how_it_is_made_to_fail() {
    let mut command = Command::new(binary());
    command.arg("mock-provider").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = Owned(command.spawn().expect("it starts"));
    let mut lines = BufReader::new(child.0.stdout.take().expect("standard output")).lines().map_while(Result::ok);
    let first = lines.next().expect("a line");
    let address = first.strip_prefix("listening on http://").expect("its URL").parse().expect("an address");
    let said: Vec<String> = lines.by_ref().take_while(|line| !line.contains("_control/stats")).collect();
    let mut provider = Connection::open(address).expect("it listens");
    let ways = said.iter().skip_while(|line| *line != "where WAY is").skip(1);
    let ways: Vec<&str> = ways.filter_map(|line| line.strip_prefix("    ")?.split(' ').next()).collect();
    assert!(ways.len() >= 8, "{said:#?}");
    for way in ways {
        let told = provider.exchange(&request("POST", &format!("/_control/{way}"))).expect("an answer");
        assert_eq!(told.status(), 200, "{way}: {}", told.text());
    }
}
