//! `spillway run -- COMMAND`: one command behind a Spillway of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use rustix::process::{Pid, Signal, kill_process};
use spillway_tests::asks::chat;
use spillway_tests::commands::{ended, ends, well};
use spillway_tests::http::Connection;
use spillway_tests::log::Log;
use spillway_tests::provider::Provider;
use spillway_tests::spillway::binary;
use spillway_tests::terminal::Terminal;
use spillway_tests::wait::eventually;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Says where it was sent, and ends as soon as its input does.
const TELL_AND_WAIT: &str = "echo \"$OPENAI_BASE_URL $SPILLWAY_ADMIN\"; read -r _; exit 7";

struct Run {
    folder: TempDir,
    command: Command,
}

/// `spillway run -- sh -c SCRIPT` in a folder of its own, with an environment that says nothing.
fn run(script: &str) -> Run {
    run_with(&[], &["sh", "-c", script])
}

fn run_with(options: &[&str], words: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    command.arg("run").args(options).arg("--").args(words).current_dir(&folder);
    for name in ["SPILLWAY_LOG", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL"] {
        command.env_remove(name);
    }
    Run { folder, command }
}

/// Starts it with its output followed.
fn started(run: &mut Run) -> (Child, Log) {
    let mut child = run.command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let log = Log::follow(child.stdout.take().unwrap()).unwrap();
    (child, log)
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
}

/// The first line that it has written.
fn first_line(log: &Log) -> String {
    eventually("a line of the command's", || {
        let text = log.text();
        text.split_once('\n').map(|(line, _)| line.trim().to_owned())
    })
}

#[test]
fn a_command_is_served_and_its_exit_code_is_ours() {
    let provider = Provider::start();
    let mut run = run(TELL_AND_WAIT);
    // Where it was sent before, there its calls go.
    run.command.env("OPENAI_BASE_URL", format!("{}/v1", provider.url()));
    let (mut child, log) = started(&mut run);
    let line = first_line(&log);
    let (base, admin) = line.split_once(' ').unwrap();
    let address = base.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/openai/v1"));
    let address: SocketAddr = address.unwrap_or_else(|| panic!("{line}")).parse().unwrap();
    assert!(address.ip().is_loopback());
    let response = Connection::open(address).unwrap().exchange(&chat().path("/openai/v1/chat/completions")).unwrap();
    assert_eq!((response.status(), provider.stats().completed), (200, 1));
    let status = ended(Command::new(binary()).args(["status", "--admin", admin]).env_remove("SPILLWAY_LOG"));
    well(&status, &["serves at"]);
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert!(Connection::open(address).is_err(), "it serves although its command has ended");
}

#[test]
fn commands_of_spillway_find_the_one_that_serves_them() {
    let spillway = binary();
    let mut run = run_with(&[], &[spillway.to_str().unwrap(), "status"]);
    well(&ended(&mut run.command), &["serves at"]);
    let mut run =
        run_with(&[], &["sh", "-c", "echo $OPENAI_BASE_URL; \"$0\" env --shell json", spillway.to_str().unwrap()]);
    let told = ended(&mut run.command);
    let base = told.stdout.lines().next().unwrap();
    assert!(base.starts_with("http://127.0.0.1:") && told.stdout.matches(base).count() == 2, "{}", told.stdout);
}

#[test]
fn the_command_has_the_terminal_to_itself_and_the_log_goes_where_it_is_told_to() {
    let mut quiet = run("echo mine >&2");
    let told = ended(&mut quiet.command);
    assert_eq!((told.code, &*told.stdout, &*told.stderr), (Some(0), "", "mine\n"));
    assert_eq!(std::fs::read_dir(quiet.folder.path()).unwrap().count(), 0, "nothing is left behind");
    let mut kept = run_with(&["--log-file", "log"], &["true"]);
    well(&ended(&mut kept.command), &[]);
    let log = std::fs::read_to_string(kept.folder.path().join("log")).unwrap();
    assert!(log.contains("Spillway is ready") && log.contains("Spillway ends"), "{log}");
    let mut wanted = run("true");
    well(&ended(wanted.command.env("SPILLWAY_LOG", "info")), &["Spillway is ready"]);
}

#[test]
fn signals_are_the_commands() {
    for (number, name) in [
        (Signal::TERM, "TERM"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::HUP, "HUP"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ] {
        let mut run = run(&format!("trap 'exit 9' {name}; echo ready; while :; do sleep 0.02; done"));
        // Away from any terminal that this test may have, whose Ctrl-C would reach both.
        run.command.process_group(0);
        let (mut child, log) = started(&mut run);
        assert_eq!(first_line(&log), "ready");
        signal(&child, number);
        assert_eq!(child.wait().unwrap().code(), Some(9), "{name}");
    }
}

#[test]
fn a_signal_that_is_ignored_stays_so_for_the_command() {
    let mut within = run("echo ready; read -r _; exit 4");
    let mut ignoring = Command::new("sh");
    ignoring.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(within.command.get_program());
    ignoring.args(within.command.get_args()).current_dir(&within.folder).env_remove("SPILLWAY_LOG").process_group(0);
    within.command = ignoring;
    let (mut child, log) = started(&mut within);
    assert_eq!(first_line(&log), "ready");
    signal(&child, Signal::HUP);
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

#[test]
fn a_command_that_a_signal_ends_ends_as_in_a_shell() {
    let mut run = run("kill -KILL $$");
    assert_eq!(ended(&mut run.command).code, Some(137));
}

#[test]
fn a_key_of_the_terminal_reaches_the_command_once() {
    let terminal = Terminal::of(80);
    let run = run("trap 'echo interrupted' INT; echo ready; read -r _; read -r _; exit 5");
    // A session of its own, whose terminal this one becomes.
    let mut session = Command::new("setsid");
    session.args(["--ctty", "--wait"]).arg(run.command.get_program()).args(run.command.get_args());
    session.current_dir(&run.folder).stdin(terminal.stdio()).stdout(terminal.stdio()).stderr(terminal.stdio());
    let mut child = session.spawn().unwrap();
    terminal.screen.wait_for(&["ready"]);
    terminal.type_in("\u{3}");
    terminal.screen.wait_for(&["interrupted"]);
    terminal.type_in("a\nb\n");
    assert_eq!(child.wait().unwrap().code(), Some(5));
    assert_eq!(terminal.screen.text().matches("interrupted").count(), 1);
}

#[test]
fn what_cannot_be_run_is_told_and_answered_as_shells_do() {
    let mut missing = run_with(&[], &["no-such-command-anywhere"]);
    ends(&ended(&mut missing.command), 127, &["spillway: cannot start no-such-command-anywhere: "]);
    let mut folder = run_with(&[], &["/"]);
    ends(&ended(&mut folder.command), 126, &["spillway: cannot start /: "]);
    ends(&ended(&mut run_with(&[], &[]).command), 2, &["behind -- stands the command"]);
    let mut lost = run("true");
    ends(&ended(lost.command.env("OPENAI_BASE_URL", "gateway")), 2, &["OPENAI_BASE_URL is set, and \"gateway\""]);
}
