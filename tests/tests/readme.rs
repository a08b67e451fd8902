//! Every command in the README, run as it stands there, by somebody who has nothing but the binary.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use spillway_tests::asks::chat;
use spillway_tests::commands::target_folder;
use spillway_tests::http::Connection;
use spillway_tests::provider::{Failure, Provider, fail};
use spillway_tests::spillway::binary;
use spillway_tests::wait::eventually;
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const README: &str = include_str!("../../README.md");

/// More lines, and nobody reads to the end.
const LINES_MAX: usize = 149;

/// How a command of the README is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Here, in the order of the README, in one shell and one folder.
    Here,
    /// Here, where it takes a minute: with these words behind it.
    Shorter(&'static str),
    /// Here, while the commands behind it run.
    Beside,
    /// Here, in a folder of its own, with another command behind it that says whether it was well.
    Afresh(&'static str),
    /// It changes the machine, or takes minutes: by `cargo xtask test --long`.
    Long,
    /// It is what runs this test, or runs beside it.
    Outside,
}

/// Each command of the README, in its order.
const COMMANDS: &[(&str, How)] = &[
    ("cargo install --path host --locked --profile dist", How::Long),
    ("spillway demo", How::Shorter("--fast")),
    ("spillway demo partial", How::Shorter("--fast")),
    ("spillway doctor", How::Here),
    ("spillway run", How::Beside),
    ("eval \"$(spillway env)\"", How::Here),
    ("spillway status", How::Here),
    ("spillway init", How::Afresh("spillway check")),
    (
        "curl -i \"$OPENAI_BASE_URL/chat/completions\" -H \"Authorization: Bearer $OPENAI_API_KEY\" \
         -H 'Prefer: respond-async, wait=20' -H 'Content-Type: application/json' \
         -d '{\"model\":\"gpt-5\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}'",
        How::Here,
    ),
    ("rustup target add wasm32-unknown-unknown", How::Outside),
    ("spillway policy new my-provider", How::Here),
    ("spillway policy test my-provider", How::Here),
    ("spillway policy build my-provider --install", How::Here),
    ("spillway policy ls", How::Here),
    ("spillway simulate --scenario fails-50-at-50", How::Here),
    ("spillway simulate --log requests.jsonl", How::Here),
    ("cargo xtask test", How::Outside),
    ("cargo xtask demo", How::Outside),
];

/// The commands in the blocks for a shell, without comments, each on one line.
fn commands() -> Vec<String> {
    let blocks = README.split("```sh\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let lines = blocks.flat_map(|block| {
        let block = block.replace("\\\n", " ");
        block.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    let bare = lines.map(|line| {
        let command = line.split(" #").next().unwrap_or_default();
        command.split_whitespace().collect::<Vec<_>>().join(" ")
    });
    bare.filter(|command| !command.is_empty()).collect()
}

#[test]
fn every_command_of_the_readme_is_run_by_a_test() {
    let known: Vec<String> =
        COMMANDS.iter().map(|(command, _)| command.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(commands(), known, "the README's commands, and those that this file runs");
}

#[test]
fn the_readme_is_read_in_one_go() {
    assert!(README.lines().count() <= LINES_MAX, "{} lines", README.lines().count());
}

#[test]
fn every_file_that_the_readme_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let links = README.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files: BTreeSet<&str> = links.filter(|link| !link.contains("://")).collect();
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        let path = file.split('#').next().unwrap_or_default();
        assert!(root.join(path).is_file(), "the README names {file}");
    }
}

/// A machine's address that no other test listens on, so that the ports of the README are free.
fn address_of_our_own() -> Ipv4Addr {
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 77, high, low.clamp(1, 254))
}

/// A child that does not outlive us.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // Both fail only for a child that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder with a configuration, in which commands are run as somebody types them.
struct Desk {
    folder: tempfile::TempDir,
    path: String,
    /// What has been exported so far.
    exports: String,
}

impl Desk {
    fn shell(&self, script: &str) -> Command {
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", script]).current_dir(self.folder.path()).stdin(Stdio::null());
        shell.env("PATH", &self.path).env("OPENAI_API_KEY", "sk-test").env_remove("SPILLWAY_LOG");
        // What a policy needs was downloaded for this test's own build, and mostly compiled as well.
        shell.env("CARGO_NET_OFFLINE", "true").env("CARGO_TARGET_DIR", target_folder());
        shell
    }

    /// Whether this toolchain has the Wasm target. Where it has not, `policy new` must say how it is had.
    fn can_build_policies(&self) -> bool {
        let made = self.shell("spillway policy new can-it-be-built").output().unwrap();
        let complained = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(made.status.success() || complained.contains("rustup target add"), "{complained}");
        made.status.success()
    }

    /// Runs a command to its end, which must be a good one, and answers what it said.
    #[track_caller]
    fn types(&mut self, command: &str) -> String {
        if command.starts_with("eval ") {
            self.exports.push_str(command);
            self.exports.push('\n');
        }
        let output = self.shell(&format!("{}{command}", self.exports)).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (said, complained) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "`{command}` ends with {}:\n{said}\n{complained}", output.status);
        said
    }
}

#[test]
fn the_commands_of_the_readme_do_what_it_says() {
    let provider = Provider::start();
    let address = address_of_our_own();
    let folder = tempfile::TempDir::with_prefix("spillway-readme-").unwrap();
    let url = provider.url();
    let upstreams = ["openai", "anthropic", "gemini"].map(|name| format!("[upstreams.{name}]\nurl = \"{url}\"\n"));
    let configuration = format!(
        "[server]\nlisten = \"{address}:4141\"\n[admin]\nlisten = \"{address}:4142\"\n\
         [log]\nrequests = \"requests.jsonl\"\n{}policy = \"my-provider\"\n",
        upstreams.into_iter().rev().collect::<String>()
    );
    fs::write(folder.path().join("spillway.toml"), configuration).unwrap();
    let path = [binary().parent().unwrap().to_string_lossy().into_owned(), env::var("PATH").unwrap()].join(":");
    let mut desk = Desk { folder, path, exports: String::new() };
    let mut running = None;
    let can_build = desk.can_build_policies();
    for (command, how) in COMMANDS {
        match how {
            How::Outside | How::Long => {}
            // Where the policies are compiled by another toolchain than that of the tests, what is lacking is told.
            How::Here if !can_build && command.starts_with("spillway policy ") => println!("skipped: `{command}`"),
            How::Here if *command == "spillway simulate --log requests.jsonl" => {
                record(&provider, address);
                desk.types(command);
            }
            How::Here => {
                let said = desk.types(command);
                assert!(command.starts_with("eval ") || !said.trim().is_empty(), "`{command}` says nothing");
            }
            How::Shorter(with) => {
                desk.types(&format!("{command} {with}"));
            }
            How::Afresh(then) => {
                desk.types(&format!("mkdir afresh && cd afresh && {command} && {then}"));
            }
            How::Beside => {
                let mut spillway = desk.shell(&format!("exec {command}"));
                spillway.stdout(Stdio::null()).stderr(Stdio::null());
                running = Some(Owned(spillway.spawn().unwrap()));
                eventually("Spillway answers", || {
                    desk.shell("spillway status").output().unwrap().status.success().then_some(())
                });
            }
        }
    }
    assert!(running.is_some(), "`spillway run` is among them");
    assert!(provider.requests().iter().any(|request| request.path == "/v1/chat/completions"), "curl reached it");
}

/// Traffic with an outage in it, as `requests.jsonl` has it then.
fn record(provider: &Provider, address: Ipv4Addr) {
    let mut caller = Connection::open(SocketAddr::from((address, 4141))).unwrap();
    let mut ask = |times: usize| {
        for _ in 0..times {
            let answer = caller.exchange(&chat());
            assert!(answer.is_ok(), "{answer:?}");
        }
    };
    ask(100);
    provider.always(fail(Failure::ServerError));
    ask(20);
    provider.heal();
    ask(100);
}

/// It takes minutes, and so has its own turn.
#[test]
fn the_program_is_installed_as_the_readme_says() {
    if env::var_os("SPILLWAY_LONG").is_none() {
        return;
    }
    let folder = tempfile::TempDir::with_prefix("spillway-installed-").unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (command, _) = COMMANDS.iter().find(|(_, how)| *how == How::Long).expect("one that installs");
    let mut words = command.split_whitespace();
    let mut install = Command::new(words.next().unwrap());
    install.args(words).arg("--root").arg(folder.path()).current_dir(root).env("CARGO_TARGET_DIR", target_folder());
    assert!(install.status().unwrap().success(), "{command}");
    let said = Command::new(folder.path().join("bin/spillway")).arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&said.stdout).starts_with("spillway "), "{said:?}");
}
