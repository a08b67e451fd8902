//! `spillway policy`: what a file is and would do, and from recorded requests to a policy that judges better.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use serde_json::{Value, json};
use spillway_tests::asks::{KEY, chat};
use spillway_tests::commands::{ends, json, policy, well};
use spillway_tests::provider::{Failure, Provider, error_in_200, fail, healthy, respond};
use spillway_tests::spillway::{Setup, Spillway, policy_file};
use spillway_tests::wait::eventually;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Its configuration file and admin address, as every command that asks a running Spillway is told them.
fn told(spillway: &Spillway, arguments: &[&str]) -> Vec<String> {
    let address = spillway.admin_address().to_string();
    arguments.iter().map(|argument| (*argument).to_owned()).chain(["--admin".to_owned(), address]).collect()
}

fn policy_path(name: &str) -> String {
    policy_file(name).to_string_lossy().into_owned()
}

#[test]
fn a_check_says_what_a_policy_is_or_why_it_would_not_be_served() {
    let setup = Setup::bare().set("upstreams.openai", "policy = \"latency-trip\"");
    let setup = setup.set("policies.settings.latency-trip", "quantile = 7");
    let folder = setup.folder();
    let checked = policy(folder, &["check", &policy_path("default")]);
    well(&checked, &["would be served", "spillway:policy@0.1.0", "classify of a 429", "attempt.status", "memory"]);

    fs::write(folder.join("text.wasm"), "hello").unwrap();
    fs::write(folder.join("cut.wasm"), &fs::read(policy_file("default")).unwrap()[..5_000]).unwrap();
    fs::write(folder.join("nonsense.toml"), "nonsense = 1").unwrap();
    fs::write(folder.join("loop.json"), r#"{"configure": "loop"}"#).unwrap();
    fs::write(folder.join("list.json"), "[]").unwrap();
    let (default, hostile, error) = (policy_path("default"), policy_path("hostile"), policy_path("error-in-success"));
    for (code, arguments, complaint) in [
        (1, vec!["check", "text.wasm"], "would not be served: the file is no WebAssembly"),
        (1, vec!["check", "cut.wasm"], "would not be served: the file is no valid WebAssembly"),
        (
            1,
            vec!["check", &error, "--settings", "nonsense.toml"],
            "would not be served: it refuses its settings: unknown",
        ),
        (
            1,
            vec!["check", &hostile, "--settings", "loop.json"],
            "failed its self-test: configure took longer than 5 ms",
        ),
        (1, vec!["test", "text.wasm"], "text.wasm would not be served: the file is no WebAssembly"),
        (2, vec!["check", "nowhere.wasm"], "cannot read nowhere.wasm"),
        (2, vec!["check", "."], "is no file; name a policy's .wasm file"),
        (2, vec!["check", &default, "--settings", "list.json"], "settings are a table"),
        (2, vec!["check", &default, "--settings", "nowhere.json"], "the settings cannot be read"),
        (2, vec!["check", &default, "--config", "nowhere.toml"], "cannot read nowhere.toml"),
        (2, vec!["check"], "<FILE>"),
    ] {
        ends(&policy(folder, &arguments), code, &[complaint]);
    }
    // The configuration counts: whom it trusts, and what it sets.
    let ended = setup.run_to_end(&["policy", "check", &policy_path("latency-trip")]);
    ends(&ended, 1, &["it refuses its settings: quantile must be between 0 and 1"]);
    let setup = setup.set("policies", &format!("allow = [\"{}\"]", "0".repeat(64)));
    ends(&setup.run_to_end(&["policy", "check", &default]), 1, &["is not among [policies] allow"]);
}

#[test]
fn a_trial_lists_where_a_policy_differs_from_the_built_in_one() {
    let setup = Setup::bare();
    let trial = policy(setup.folder(), &["test", &policy_path("default")]);
    well(&trial, &["Its verdicts are the built-in policy's, everywhere", "no trap, no overrun"]);
    let trial = policy(setup.folder(), &["test", &policy_path("error-in-success")]);
    well(
        &trial,
        &["differ from the built-in policy's", "success of upstream", "failure of model", "openai 200 engine_error"],
    );
    let trial = policy(setup.folder(), &["test", &policy_path("latency-trip")]);
    well(&trial, &["instead of the configured thresholds", "slow calls"]);
}

/// The recorded lines, once there are so many.
fn recorded(spillway: &Spillway, count: usize) -> Vec<Value> {
    eventually(&format!("{count} attempts are recorded"), || {
        let text = fs::read_to_string(spillway.folder().join("requests.jsonl")).unwrap_or_default();
        (text.lines().count() == count).then(|| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    })
}

#[test]
fn requests_are_recorded_without_credentials_prompts_and_cookies() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).set("log", "requests = \"requests.jsonl\"").policy("default");
    let mut spillway = setup.set("upstreams.openai.retry", "max_attempts = 2\nbackoff = \"1ms\"").start();
    provider.next(fail(Failure::RateLimited));
    provider.next(healthy().header("set-cookie", "session=chocolate"));
    let answer = spillway.send(&chat().header("x-request-id", "the-first").header("cookie", "session=vanilla"));
    assert_eq!(answer.status(), 200);
    let lines = recorded(&spillway, 2);
    let (failed, served) = (&lines[0], &lines[1]);
    for line in &lines {
        assert_eq!(
            (&line["form"], &line["request_id"], &line["upstream"]),
            (&json!(1), &json!("the-first"), &json!("openai"))
        );
        assert_eq!((&line["model"], &line["dialect"]), (&json!("mock-small"), &json!("openai")));
        assert_eq!(line["sha256"], spillway.policy("default")["sha256"]);
        assert!(line["judged_by"].as_str().unwrap().starts_with("default@"), "{line}");
        assert!(line["unix_ms"].as_u64().is_some_and(|ms| ms > 1_700_000_000_000), "{line}");
    }
    assert_eq!(
        (&failed["status"], &failed["number"], &failed["backoff"]),
        (&json!(429), &json!(1), &json!("left_open"))
    );
    assert_eq!((&failed["verdict"]["class"], &failed["verdict"]["advice"]), (&json!("throttled"), &json!("retry")));
    assert!(
        failed["provider_error"]["code"].is_string() && failed["body"].as_str().unwrap().contains("error"),
        "{failed}"
    );
    assert_eq!((&served["status"], &served["number"], &served["backoff"]), (&json!(200), &json!(2), &Value::Null));
    let text = fs::read_to_string(spillway.folder().join("requests.jsonl")).unwrap();
    for secret in [KEY, "authorization", "Say hello", "cookie", "chocolate", "vanilla"] {
        assert!(!text.to_lowercase().contains(&secret.to_lowercase()), "{secret} in {text}");
    }
    // Nor one that the provider repeats.
    provider.next(
        respond(401)
            .header("x-echo", KEY)
            .json(json!({"error": {"message": format!("{KEY} is no good"), "code": "no"}})),
    );
    assert_eq!(spillway.send(&chat()).status(), 401);
    let refused = &recorded(&spillway, 3)[2];
    assert!(!refused.to_string().contains(KEY), "{refused}");
    assert_eq!(refused["provider_error"]["message"], "[redacted] is no good");
    assert_eq!(spillway.metric("spillway_recordings_written_total"), 3.0);
    assert_eq!(spillway.metric("spillway_recordings_dropped_total"), 0.0);
    let mode = fs::metadata(spillway.folder().join("requests.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for nobody else to read");

    // A stream that breaks is judged again, and what was handed over is on disk when the process has ended.
    provider.next(healthy().after_events(2).reset());
    let (_, mut stream) = spillway.open(&spillway_tests::asks::chat_stream());
    assert!(stream.events().1.is_err());
    spillway.terminate();
    spillway.wait_for_exit();
    let lines = recorded(&spillway, 5);
    assert_eq!((&lines[3]["phase"], &lines[3]["streaming"]), (&json!("before content"), &json!(true)));
    assert_eq!((&lines[4]["phase"], &lines[4]["verdict"]["class"]), (&json!("committed"), &json!("failure")));
}

#[test]
fn a_recording_that_cannot_be_written_is_told_at_the_start() {
    let ended = Setup::bare().set("log", "requests = \"nowhere/requests.jsonl\"").run_to_end(&["run"]);
    ends(&ended, 1, &["nowhere/requests.jsonl, which [log] requests names: No such file or directory"]);
}

#[test]
fn a_replay_finds_what_would_have_been_decided_differently() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).set("log", "requests = \"requests.jsonl\"");
    let spillway = setup.set("upstreams.openai.retry", "max_attempts = 1").start();
    let folder = spillway.folder();
    for number in 0..7 {
        if number % 2 == 0 {
            provider.next(error_in_200());
        }
        let _ = spillway.send(&chat().header("x-request-id", &format!("request-{number}")));
    }
    recorded(&spillway, 7);
    let (error, default) = (policy_path("error-in-success"), policy_path("default"));
    let replay = |more: &[&str]| policy(folder, &[&["replay", "--log", "requests.jsonl"], more].concat());

    let replayed = replay(&[&error]);
    well(
        &replayed,
        &["compared with what was decided", "request-0, request-2, request-4", "3 as what was decided, 4 otherwise"],
    );
    let line = replayed.stdout.lines().find(|line| line.contains("classify: success -> failure")).unwrap();
    assert!(line.starts_with("4 "), "{replayed:?}");
    well(&replay(&[&default]), &["7 attempts: 7 as what was decided, 0 otherwise", "A call took"]);
    well(&replay(&[&error, "--against", &error]), &["7 as error-in-success@", "0 otherwise"]);
    well(&replay(&[&error, "--against", "built-in"]), &["3 as built-in, 4 otherwise"]);
    fs::create_dir_all(folder.join("policies")).unwrap();
    fs::copy(policy_file("default"), folder.join("policies/mine.wasm")).unwrap();
    let outcome = json(&replay(&[&error, "--against", "mine", "--json"]));
    assert_eq!((&outcome["attempts"], &outcome["changed"], &outcome["faults"]), (&json!(7), &json!(4), &json!(0)));
    assert_eq!(outcome["changes"]["classify: success -> failure"]["count"], 4);
    // Settings change what a policy says.
    fs::write(folder.join("throttle.toml"), "throttle_codes = [\"server_is_overloaded\"]").unwrap();
    well(&replay(&[&error, "--settings", "throttle.toml"]), &["classify: success -> throttled"]);

    // Lines that are none are named and passed over.
    let text = fs::read_to_string(folder.join("requests.jsonl")).unwrap();
    fs::write(folder.join("odd.jsonl"), format!("nonsense\n{text}\n{{\"form\": 1}}\n{}", &text[..100])).unwrap();
    let odd = policy(folder, &["replay", &error, "--log", "odd.jsonl", "--log", "requests.jsonl"]);
    well(
        &odd,
        &[
            "3 lines could not be read",
            "odd.jsonl line 1: ",
            "odd.jsonl line 10: ",
            "odd.jsonl line 11: ",
            "14 attempts",
        ],
    );

    fs::write(folder.join("empty.jsonl"), "").unwrap();
    fs::write(folder.join("text.wasm"), "hello").unwrap();
    for (code, arguments, complaint) in [
        (2, vec!["replay", &error, "--log", "nowhere.jsonl"], "cannot read nowhere.jsonl"),
        (2, vec!["replay", &error, "--log", "odd.jsonl", "--against", "nobody"], "no policy of that name in policies"),
        (2, vec!["replay", &error], "--log"),
        (1, vec!["replay", &error, "--log", "empty.jsonl"], "No attempt is recorded there"),
        (1, vec!["replay", "text.wasm", "--log", "odd.jsonl"], "would not be served: the file is no WebAssembly"),
    ] {
        ends(&policy(folder, &arguments), code, &[complaint]);
    }
}

#[test]
fn the_list_shows_what_serves_or_else_what_would() {
    let provider = Provider::start();
    let mut spillway = Setup::with(&provider).policy("default").policy("latency-trip").start();
    spillway.drop_policy_bytes(b"hello", "latency-trip");
    eventually("the file is rejected", || (!spillway.policy("latency-trip")["rejected"].is_null()).then_some(()));
    assert_eq!(spillway.send(&chat()).status(), 200);
    let listed = policy(spillway.folder(), &told(&spillway, &["ls"]));
    let hash = spillway.policy("default")["sha256"].as_str().unwrap()[..8].to_owned();
    well(
        &listed,
        &[
            "NAME",
            "default",
            "serving",
            &hash,
            "latency-trip: its last file was not loaded: the file is no WebAssembly",
        ],
    );
    let listed = json(&policy(spillway.folder(), &told(&spillway, &["ls", "--json"])));
    assert_eq!((&listed["running"], &listed["policies"][0]["calls"]), (&json!(true), &json!(1)));

    let arguments = told(&spillway, &["ls"]);
    // The data plane answers, but not as an admin address does.
    let wrong = ["ls".to_owned(), "--admin".to_owned(), spillway.address().to_string()];
    ends(&policy(spillway.folder(), &wrong), 2, &["does not answer as a Spillway", "--admin"]);
    spillway.kill();
    fs::copy(policy_file("error-in-success"), spillway.policy_path("default.shadow")).unwrap();
    let listed = policy(spillway.folder(), &arguments);
    well(
        &listed,
        &[
            "No Spillway answers at",
            "would be served\n",
            "would be compared",
            "would not be served: the file is no WebAssembly",
        ],
    );
    let listed = json(&policy(spillway.folder(), &[&arguments[..], &["--json".to_owned()]].concat()));
    assert_eq!((&listed["running"], &listed["files"][0]["policy"]), (&json!(false), &json!("default")));
    fs::remove_dir_all(spillway.folder().join("policies")).unwrap();
    well(
        &policy(spillway.folder(), &arguments),
        &["policies holds no policy: the built-in policy would judge everything"],
    );
}

#[test]
fn a_candidate_is_looked_at_promoted_and_taken_back() {
    let provider = Provider::start();
    let mut spillway = Setup::with(&provider).policy("default").start();
    let folder = spillway.folder().to_owned();
    let run = |spillway: &Spillway, arguments: &[&str]| policy(&folder, &told(spillway, arguments));
    ends(&run(&spillway, &["shadow", "default"]), 1, &["default has no candidate beside it", "default.shadow.wasm"]);
    ends(&run(&spillway, &["promote", "default"]), 1, &["there is no policies/default.shadow.wasm"]);
    ends(&run(&spillway, &["rollback", "default"]), 1, &["nothing was promoted that could be taken back"]);
    ends(&run(&spillway, &["promote", "../x"]), 2, &["\"../x\" is no policy's name"]);

    let hash = |spillway: &Spillway| spillway.policy("default")["sha256"].as_str().unwrap_or_default().to_owned();
    let first = hash(&spillway);
    fs::copy(policy_file("error-in-success"), spillway.policy_path("default.shadow")).unwrap();
    eventually("it is compared", || (spillway.policy("default")["shadow"]["state"] == "comparing").then_some(()));
    provider.next(error_in_200());
    for _ in 0..2 {
        assert_eq!(spillway.send(&chat()).status(), 200);
    }
    let said =
        ["agreed 1 times and disagreed 1", "classify: success -> failure", "the candidate: failure of model, retry"];
    well(&run(&spillway, &["shadow", "default"]), &said);
    let shadow = json(&run(&spillway, &["shadow", "default", "--json"]));
    assert_eq!(shadow["shadow"]["comparison"]["disagreed"], 1);

    let second = shadow["shadow"]["sha256"].as_str().unwrap().to_owned();
    let (old, new) = (format!("default@{}", &first[..8]), format!("default@{}", &second[..8]));
    let overruled = "the candidate has disagreed with what serves; --yes promotes it all the same; nothing was changed";
    ends(&run(&spillway, &["promote", "default"]), 1, &[said[0], overruled]);
    assert!(spillway.policy_path("default.shadow").exists() && hash(&spillway) == first);
    well(
        &run(&spillway, &["promote", "default", "--yes"]),
        &[said[0], &format!("{new} serves in place of {old}"), "`spillway policy rollback default` goes back"],
    );
    assert_eq!(hash(&spillway), second, "it serves when the command ends");
    well(
        &run(&spillway, &["rollback", "default"]),
        &[&format!("{old} serves in place of {new}"), "the candidate again"],
    );
    assert_eq!(hash(&spillway), first);

    // Without a running Spillway, the files are all there is; a candidate that could not serve stays one.
    let arguments = |command: &str| told(&spillway, &[command, "default"]);
    let (promote, look) = (arguments("promote"), arguments("shadow"));
    spillway.kill();
    ends(&policy(&folder, &look), 1, &["no Spillway answers at", "spillway policy replay"]);
    well(&policy(&folder, &promote), &["No Spillway answers at", &format!("{new} serves from the next start on")]);
    fs::write(folder.join("policies/default.shadow.wasm"), "hello").unwrap();
    ends(&policy(&folder, &promote), 1, &["would not be served: the file is no WebAssembly; nothing was changed"]);
    spillway.restart();
    assert_eq!(hash(&spillway), second);
}
