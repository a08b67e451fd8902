//! What people see of a Spillway that runs: its first word in a terminal, and `spillway status`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use serde_json::Value;
use spillway_tests::asks::{KEY, chat, chat_stream};
use spillway_tests::http::{Request, get};
use spillway_tests::provider::{Failure, Provider, fail, healthy};
use spillway_tests::spillway::{Ended, Setup, Spillway, binary, run_to_end};
use spillway_tests::terminal::Terminal;
use spillway_tests::wait::{DEADLINE, eventually};
use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};

fn status(spillway: &Spillway, more: &[&str]) -> Ended {
    let admin = spillway.admin_address().to_string();
    let arguments: Vec<OsString> = ["status", "--admin", &admin].iter().chain(more).map(OsString::from).collect();
    run_to_end(spillway.folder(), &arguments)
}

/// Lines in which columns are one space apart, so that it does not matter how wide they are.
fn page(ended: &Ended) -> String {
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_page_says_what_is_as_it_should_be() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).policy("default");
    let setup = setup
        .set("upstreams.openai.limits", "requests_per_minute = 100")
        .set("routes.chat", "targets = [\"openai\", \"anthropic\"]");
    let spillway = setup.set("upstreams.anthropic", "dialect = \"openai\"").start();
    assert_eq!(spillway.send(&chat()).status(), 200);
    let page = page(&status(&spillway, &[]));
    let hash = spillway.policy("default")["sha256"].as_str().unwrap()[..8].to_owned();
    for said in [
        &format!("Spillway {} serves at {}, for ", env!("CARGO_PKG_VERSION"), spillway.address()),
        "upstreams anthropic, gemini, openai",
        "limits openai: 99 requests left; 0 calls of 10000 in flight",
        "route chat: openai (100 % served), then anthropic (100 % served)",
        "queue nothing waits",
        &format!("policies default ({hash})"),
        "configuration ",
        "refusals none since it runs",
    ] {
        assert!(page.contains(said), "{said} is not in:\n{page}");
    }
    assert!(!page.contains("To be looked at") && !page.contains("Refused of late"), "{page}");
}

#[test]
fn a_failing_provider_and_what_is_refused_for_it_come_first_and_in_words() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).set("upstreams.openai.retry", "max_attempts = 1");
    let spillway = setup
        .set("upstreams.openai.breaker", "consecutive_failures = 2\ncooldown = \"30s\"\ncooldown_max = \"30s\"")
        .start();
    provider.always(fail(Failure::ServerError));
    for _ in 0..2 {
        assert_eq!(spillway.send(&chat()).status(), 500);
    }
    for _ in 0..3 {
        assert_eq!(spillway.send(&chat()).refusal(), Some("spillway_circuit_open"));
    }
    assert_eq!(spillway.send(&get("/nowhere")).status(), 404);
    let json = status(&spillway, &["--json"]);
    let told: Value = serde_json::from_str(&json.stdout).unwrap();
    let refusals = told["refusals"].as_array().unwrap();
    let kinds: Vec<_> = refusals
        .iter()
        .map(|kind| {
            (kind["code"].as_str().unwrap(), kind["upstream"].as_str().unwrap(), kind["times"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(kinds, [("spillway_no_such_route", "", 1), ("spillway_circuit_open", "openai", 3)]);
    assert_eq!((&refusals[1]["model"], &refusals[1]["status"]), (&"mock-small".into(), &500.into()));
    let page = page(&status(&spillway, &[]));
    for said in [
        "To be looked at openai circuit open for ",
        ": 2 calls in a row failed; last said: 500 ",
        "; next call in ",
        "As it should be upstreams anthropic, gemini queue",
        "s ago 404 spillway_no_such_route, once Spillway ",
        "s ago 500 spillway_circuit_open, openai, model mock-small: 3 times Spillway did not call openai",
    ] {
        assert!(page.contains(said), "{said} is not in:\n{page}");
    }
    assert!(!page.contains(KEY) && !json.stdout.contains(KEY));
}

/// Each way in which Spillway refuses is remembered: before it is known where a request goes, where it goes nowhere, and
/// in the midst of an answer.
#[test]
fn refusals_are_remembered_wherever_they_arise() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("upstreams.openai.retry", "max_attempts = 1").start();
    provider.next(healthy().after_events(2).reset());
    let (_, mut stream) = spillway.open(&chat_stream());
    assert!(stream.events().1.is_err());
    let foreign = get("/openai/v1/models").header("origin", "https://page.example");
    assert_eq!(spillway.send(&foreign).status(), 403);
    let codes = || -> Vec<String> {
        let told = spillway.status();
        told["refusals"].as_array().unwrap().iter().map(|kind| kind["code"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(codes(), ["spillway_forbidden", "spillway_stream_cut"]);
    assert_eq!(spillway.status()["refusals"][1]["status"], 200, "the head had gone out");
}

#[test]
fn who_finds_no_spillway_is_told_where_it_was_sought_and_how_one_is_started() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let setup = Setup::bare();
    let sought = setup.set("admin", &format!("listen = \"{closed}\"")).run_to_end(&["status"]);
    assert_eq!((sought.code, &*sought.stdout), (Some(1), ""));
    for said in [&format!("no Spillway answers at {closed}"), "nobody listens there", "spillway run", "--config FILE"] {
        assert!(sought.stderr.contains(said), "{}", sought.stderr);
    }
    assert!(!sought.stderr.contains('\u{1b}'), "colours are for terminals: {:?}", sought.stderr);
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let wrong = [OsString::from("status"), "--admin".into(), spillway.address().to_string().into()];
    let ended = run_to_end(spillway.folder(), &wrong);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("does not answer as a Spillway"), "{}", ended.stderr);
}

#[test]
fn the_admin_address_is_asked_past_every_proxy() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let dead = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let mut command = Command::new(binary());
    command.args(["status", "--admin", &spillway.admin_address().to_string()]).stdin(Stdio::null());
    let proxied = command.env("HTTP_PROXY", format!("http://{dead}")).env("http_proxy", format!("http://{dead}"));
    let ended = proxied.output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn in_a_terminal_the_first_word_is_a_block_that_says_what_to_do_next() {
    let provider = Provider::start();
    let terminal = Terminal::of(80);
    let setup = Setup::with(&provider)
        .set("log", "format = \"text\"")
        .set("upstreams.openai", "api_key_env = \"OUR_KEY\"")
        .environment("OUR_KEY", "sk-very-secret-indeed")
        .environment("SHELL", "/bin/bash")
        .environment("NO_COLOR", "1")
        .set("routes.chat", "targets = [\"openai\"]\nopen_to_local = true")
        .policy("default");
    let spillway = setup.start_unheard(terminal.stdio());
    // The last line of the block.
    terminal.screen.find(&["Ctrl-C ends it"], DEADLINE).expect("the block is whole");
    let block = terminal.screen.text();
    let at = spillway.address();
    let folder = spillway.folder().display();
    for said in [
        "Spillway is ready.",
        &format!("listens at     http://{at}"),
        &format!("admin address  http://{}\n", spillway.admin_address()),
        &format!("how it stands  spillway status --config {folder}/spillway.toml"),
        &format!("configuration  {folder}/spillway.toml"),
        &format!("data           {folder}/spillway-data"),
        "policies       default (",
        "keys           of its own, for openai by OUR_KEY",
        &format!("  export OPENAI_BASE_URL=http://{at}/openai/v1"),
        "  or: eval \"$(spillway env --config ",
    ] {
        assert!(block.contains(said), "{said} is not in:\n{block}");
    }
    assert!(!block.contains("very-secret"), "{block}");
    assert!(!block.contains('\u{1b}'), "NO_COLOR: {block:?}");
}

#[test]
fn in_a_log_the_first_word_is_one_line_with_the_same() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).policy("default").start();
    let line = spillway.log().find(&["Spillway is ready"], DEADLINE).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["listen"], spillway.address().to_string());
    assert_eq!((&line["open_jobs"], &line["keys"]), (&0.into(), &"none".into()));
    assert!(line["judging"].as_str().unwrap().starts_with("default ("), "{line}");
    assert!(line["configuration"].as_str().unwrap().ends_with("spillway.toml"), "{line}");
}

/// What a shell makes of it, for each that is installed here.
#[test]
fn each_shell_understands_its_exports() {
    let setup = Setup::bare().set("server", "listen = \"127.0.0.1:4999\"");
    for (shell, program) in [("sh", "sh"), ("fish", "fish")] {
        let told = setup.run_to_end(&["env", "--shell", shell]);
        assert_eq!(told.code, Some(0), "{}", told.stderr);
        let script = format!("{}\nprintf '%s %s' $OPENAI_BASE_URL $NO_PROXY", told.stdout);
        let mut command = Command::new(program);
        let evaluated =
            command.arg("-c").arg(script).env_remove("no_proxy").env("NO_PROXY", "internal.example").output();
        let Ok(evaluated) = evaluated else {
            println!("skipped: {program} is not installed on this machine");
            continue;
        };
        let said = String::from_utf8_lossy(&evaluated.stdout).into_owned();
        assert_eq!(said, "http://127.0.0.1:4999/openai/v1 127.0.0.1,localhost,internal.example", "{shell}");
    }
    let told = setup.run_to_end(&["env", "--shell", "json"]);
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(told["ANTHROPIC_BASE_URL"], "http://127.0.0.1:4999/anthropic");
}

#[test]
fn what_waits_and_what_is_paced_is_told() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    provider.always(fail(Failure::RateLimited));
    let request: Request = chat();
    let mut waiting = spillway.connect();
    waiting.send(&request).unwrap();
    eventually("it is paced", || {
        let page = page(&status(&spillway, &[]));
        page.contains("openai, model mock-small")
            .then_some(())
            .filter(|()| page.contains("has said that it is too much"))
    });
}
