//! Starting, watching and stopping Spillway.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use serde_json::json;
use spillway_tests::asks::{chat, chat_stream};
use spillway_tests::http::{Connection, get, post};
use spillway_tests::provider::{Failure, Provider, fail, healthy};
use spillway_tests::spillway::{Setup, binary, run_to_end};
use spillway_tests::wait::eventually;
use std::net::TcpListener;
use std::process::{Command, Stdio};

#[test]
fn every_mistake_in_a_configuration_is_listed_with_its_line_and_path() {
    let setup = Setup::bare()
        .set("server", "listen = \"0.0.0.0:4141\"\nmax_bodi = \"1MiB\"")
        .set("upstreams.openai", "url = \"ftp://nowhere\"")
        .set("upstreams.openai.breaker", "cooldown = \"soon\"\nfailure_rate = 2")
        .set("upstreams.mine", "dialect = \"klingon\"");
    let written = [
        ("server.listen", "is reached by other machines"),
        ("server.max_bodi", "did you mean `max_body`?"),
        ("upstreams.openai.url", "must begin with http:// or https://"),
        ("upstreams.openai.breaker.cooldown", "expected a duration with its unit"),
        ("upstreams.openai.breaker.failure_rate", "must be from 0 to 1"),
        ("upstreams.mine.dialect", "must be openai, anthropic, gemini, ollama or other"),
        ("upstreams.mine.url", "where is this upstream?"),
    ];
    for command in ["check", "run"] {
        let ended = setup.run_to_end(&[command]);
        assert_eq!(ended.code, Some(2), "{command}: {}", ended.stderr);
        assert!(ended.stderr.contains("has 7 mistakes"), "{}", ended.stderr);
        let file = std::fs::read_to_string(setup.folder().join("spillway.toml")).unwrap();
        for (path, message) in written {
            let line = ended.stderr.lines().find(|line| line.contains(&format!(": {path}: ")));
            let line = line.unwrap_or_else(|| panic!("nothing is said of {path}:\n{}", ended.stderr));
            assert!(line.contains(message), "{line}");
            let number: usize =
                line.trim().trim_start_matches("line ").split(':').next().unwrap().trim().parse().unwrap();
            let key = path.rsplit('.').next().unwrap();
            let named = file.lines().nth(number - 1).unwrap();
            // A key that is missing can only be shown by its table.
            assert!(named.contains(key) || (key == "url" && named.contains("mine")), "{line}\npoints to: {named}");
        }
    }
}

#[test]
fn what_could_not_work_is_a_mistake_before_anything_is_served() {
    for (section, lines, said) in [
        ("upstreams.mine", "url = \"http://h:0\"", "has no port that there is"),
        ("upstreams.mine", "url = \"http://h:99999\"", "has no port that there is"),
        ("spool", "max_size = \"1B\"", "must be 1MiB or more"),
        ("server", "allowed_origins = [\"https://app.example/\"]", "did you mean \"https://app.example\"?"),
        ("server", "allowed_hosts = [\"proxy.internal:4141\"]", "is no host name alone"),
        ("policies.settings.mine", "limit = 1", "no upstream has the policy \"mine\""),
        ("upstreams.openai", "idle_timeout = \"1h\"", "must not be longer than server.request_timeout"),
        ("spool", "concurrency = 1\nconcurrency = 2", "duplicate key `concurrency`"),
    ] {
        for command in ["check", "run"] {
            let ended = Setup::bare().set(section, lines).run_to_end(&[command]);
            assert_eq!(ended.code, Some(2), "{command} with {lines}: {}", ended.stderr);
            let line = ended.stderr.lines().find(|line| line.contains(said));
            assert!(line.is_some_and(|line| line.trim().starts_with("line ")), "{}", ended.stderr);
        }
    }
}

#[test]
fn a_file_that_is_no_toml_is_told_where_it_breaks() {
    let ended = Setup::bare().set("server", "max_body = = 3").run_to_end(&["check"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("spillway.toml has"), "{}", ended.stderr);
    assert!(ended.stderr.contains("  line "), "{}", ended.stderr);
}

#[test]
fn a_good_configuration_is_called_good_and_a_missing_one_missing() {
    let setup = Setup::bare();
    let ended = setup.run_to_end(&["check"]);
    assert_eq!((ended.code, ended.stdout.contains("The configuration is valid: 3 upstreams")), (Some(0), true));
    let missing = ["check", "--config", "nowhere.toml"].map(Into::into);
    let ended = run_to_end(setup.folder(), &missing);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("cannot read nowhere.toml"), "{}", ended.stderr);
    let unknown = run_to_end(setup.folder(), &["dance".into()]);
    assert_eq!(unknown.code, Some(2));
}

#[test]
fn a_port_in_use_is_named_with_its_setting_and_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("listen = \"{}\"", taken.local_addr().unwrap());
    for section in ["server", "admin"] {
        let ended = Setup::bare().set(section, &listen).run_to_end(&["run"]);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains(&format!("({section}.listen): the port is in use")), "{}", ended.stderr);
    }
    // Another Spillway is no exception, although its workers share a port among themselves.
    let provider = Provider::start();
    let first = Setup::with(&provider).start();
    let same = format!("listen = \"{}\"", first.address());
    let ended = Setup::with(&provider).set("server", &same).run_to_end(&["run"]);
    assert!(ended.code == Some(1) && ended.stderr.contains("is another Spillway running?"), "{}", ended.stderr);
}

#[test]
fn the_exports_send_each_sdk_through_spillway() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).set("server", "listen = \"127.0.0.1:4999\"");
    let ended = setup.run_to_end(&["env", "--shell", "sh"]);
    let expected = "export OPENAI_BASE_URL=http://127.0.0.1:4999/openai/v1\n\
                    export ANTHROPIC_BASE_URL=http://127.0.0.1:4999/anthropic\n\
                    export GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:4999/gemini\n\
                    export no_proxy=\"${no_proxy:-${NO_PROXY:-}}\"\n\
                    case \",$no_proxy,\" in *,127.0.0.1,*) ;; *) no_proxy=\"127.0.0.1,localhost${no_proxy:+,$no_proxy}\" ;; esac\n\
                    export NO_PROXY=\"$no_proxy\"\n";
    assert_eq!((ended.code, &*ended.stdout), (Some(0), expected));
    let evaluated = Command::new("sh")
        .arg("-euc")
        .arg(format!("{}\nprintf '%s %s' \"$OPENAI_BASE_URL\" \"$NO_PROXY\"", ended.stdout))
        .env_remove("no_proxy")
        .env("NO_PROXY", "internal.example")
        .output();
    assert_eq!(evaluated.unwrap().stdout, b"http://127.0.0.1:4999/openai/v1 127.0.0.1,localhost,internal.example");
}

#[test]
fn the_admin_port_tells_probes_and_people_how_it_is() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    for (path, word) in [("/livez", "alive"), ("/readyz", "ready"), ("/healthz", "ready")] {
        let answer = spillway.admin(&get(path));
        // What follows depends on the disk that the tests run on.
        assert_eq!((answer.status(), answer.text().lines().next()), (200, Some(word)), "{path}");
    }
    assert!(spillway.admin(&get("/")).text().contains("/metrics"));
    assert_eq!(spillway.admin(&get("/nowhere")).status(), 404);
    assert_eq!(spillway.admin(&post("/status", &json!({}))).status(), 405);
    assert_eq!(spillway.send(&get("/status")).status(), 404, "the data plane has no admin paths");

    let status = spillway.status();
    assert_eq!((&status["draining"], &status["in_flight"]), (&json!(false), &json!(0)));
    assert_eq!(status["queue"]["queued"], 0);
    let names: Vec<_> = status["upstreams"].as_array().unwrap().iter().map(|upstream| &upstream["name"]).collect();
    assert_eq!(names, ["anthropic", "gemini", "openai"]);
    let upstream = spillway.upstream("openai");
    assert_eq!((&upstream["url"], &upstream["policy"]), (&json!(provider.url()), &json!("default")));
    assert_eq!(spillway.policy("default")["source"], "built-in");
}

#[test]
fn the_metrics_count_requests_calls_verdicts_and_circuits() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).set("upstreams.openai.retry", "max_attempts = 2\nbackoff = \"1ms\"");
    let spillway = setup
        .set("upstreams.openai.breaker", "consecutive_failures = 2\ncooldown = \"30s\"\ncooldown_max = \"30s\"")
        .start();
    provider.always(healthy().usage(11, 3));
    assert_eq!(spillway.send(&chat()).status(), 200);
    provider.next(fail(Failure::ServerError));
    assert_eq!(spillway.send(&chat()).status(), 200);
    provider.always(fail(Failure::ServerError));
    // Each is one failure, however often it is tried. The second one opens the circuit, and is not repeated any more.
    for _ in 0..2 {
        assert_eq!(spillway.send(&chat()).status(), 500);
    }
    assert_eq!(spillway.send(&chat()).refusal(), Some("spillway_circuit_open"));
    for (name, labels, value) in [
        ("requests_total", ",outcome=\"answered\"", 2.0),
        ("requests_total", ",outcome=\"failed\"", 2.0),
        ("requests_total", ",outcome=\"circuit_open\"", 1.0),
        ("requests_total", ",outcome=\"abandoned\"", 0.0),
        ("attempts_total", ",class=\"success\"", 2.0),
        ("attempts_total", ",class=\"failure\"", 4.0),
        ("retries_total", "", 2.0),
        ("tokens_total", ",direction=\"input\"", 22.0),
        ("tokens_total", ",direction=\"output\"", 6.0),
        ("circuit_state", "", 2.0),
        ("circuit_transitions_total", ",to=\"open\"", 1.0),
        ("first_content_seconds_count", "", 2.0),
    ] {
        let metric = format!("spillway_{name}{{upstream=\"openai\"{labels}}}");
        assert_eq!(spillway.metric(&metric), value, "{metric}\n{}", spillway.admin(&get("/metrics")).text());
    }
    let metrics = spillway.admin(&get("/metrics"));
    assert!(metrics.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")));
    assert!(metrics.text().ends_with("# EOF\n"));
}

#[test]
fn callers_who_leave_before_their_answer_are_counted_and_logged() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    provider.next(spillway_tests::provider::stall());
    let mut caller = spillway.connect();
    caller.send(&chat()).unwrap();
    provider.wait_for_requests(1);
    drop(caller);
    spillway.log().wait_for(&["\"outcome\":\"abandoned\""]);
    assert_eq!(spillway.metric("spillway_requests_total{upstream=\"openai\",outcome=\"abandoned\"}"), 1.0);
}

#[test]
fn a_termination_lets_streams_finish_and_takes_nothing_new() {
    let provider = Provider::start();
    let mut spillway = Setup::with(&provider).start();
    let gate = provider.gate();
    provider.next(healthy().saying("one two three").after_events(2).wait_for(&gate));
    let (_, mut stream) = spillway.open(&chat_stream());
    stream.event().unwrap();
    let mut idle = spillway.connect();
    assert_eq!(idle.exchange(&chat()).unwrap().status(), 200);

    spillway.terminate();
    spillway.log().wait_for(&["draining"]);
    let ready = spillway.admin(&get("/readyz"));
    assert_eq!((ready.status(), &*ready.text()), (503, "draining\n"));
    assert_eq!(spillway.admin(&get("/livez")).status(), 200);
    // A worker hears of the end a moment after the control plane has said so.
    eventually("no connection is served any more", || {
        let tried = Connection::open(spillway.address()).and_then(|mut late| late.exchange(&chat()));
        tried.is_err().then_some(())
    });
    eventually("an idle connection is closed", || idle.exchange(&chat()).is_err().then_some(()));
    let calls = provider.stats().started;

    gate.open();
    let (events, end) = stream.events();
    assert!(end.is_ok() && events.last().is_some_and(|event| event == "data: [DONE]\n\n"), "{events:?}");
    assert_eq!(spillway.wait_for_exit().code(), Some(0));
    assert_eq!(provider.stats().started, calls);
    spillway.log().wait_for(&["Spillway ends", "all requests have ended"]);
}

#[test]
fn a_stream_that_does_not_end_cannot_hold_up_the_end_for_ever() {
    let provider = Provider::start();
    let mut spillway = Setup::with(&provider).set("server", "drain_timeout = \"200ms\"").start();
    provider.next(healthy().after_events(2).stall());
    let (_, mut stream) = spillway.open(&chat_stream());
    stream.event().unwrap();
    spillway.terminate();
    assert_eq!(spillway.wait_for_exit().code(), Some(0));
    assert!(stream.events().1.is_err(), "what was cut off must not look whole");
    spillway.log().wait_for(&["the drain timeout has passed"]);
}

/// Runs where the default ports are free, and says so where they are not.
#[test]
fn without_a_configuration_it_serves_where_it_says() {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    if !(free(4141) && free(4142)) {
        println!("skipped: port 4141 or 4142 is in use on this machine");
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let mut command = Command::new(binary());
    command.arg("run").current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let ready = spillway_tests::wait::within(spillway_tests::wait::DEADLINE, || {
        let mut admin = Connection::open(([127, 0, 0, 1], 4142).into()).ok()?;
        admin.exchange(&get("/readyz")).ok().filter(|answer| answer.status() == 200)
    });
    let nowhere = Connection::open(([127, 0, 0, 1], 4141).into()).and_then(|mut open| open.exchange(&get("/nowhere")));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ready.is_some(), "the admin port does not answer");
    assert_eq!(nowhere.unwrap().status(), 404);
}
