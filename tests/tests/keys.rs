//! Virtual keys: made by commands, shown by callers, in force within a second, and no provider's to see.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::{Value, json};
use spillway_tests::asks::{APIS, Api, KEY, chat, chat_of, chat_with, generate, message, patient_chat};
use spillway_tests::commands::{ended, ends, json, well};
use spillway_tests::http::{Connection, Request, Response, get, post};
use spillway_tests::provider::{Provider, healthy, overloaded, stall};
use spillway_tests::spillway::{Ended, Setup, Spillway, binary};
use spillway_tests::wait::{DEADLINE, eventually};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Whatever a command has changed is in force by then.
const IN_FORCE: Duration = Duration::from_secs(1);
/// What busy machines need beside that.
const SLACK: Duration = Duration::from_secs(1);

/// Runs `spillway key …` beside the configuration in this folder.
#[track_caller]
fn key(folder: &Path, arguments: &[&str]) -> Ended {
    let mut command = Command::new(binary());
    command.arg("key").args(arguments).current_dir(folder).stdin(Stdio::null()).env_remove("SPILLWAY_LOG");
    ended(&mut command)
}

/// Runs `spillway key …`, which prints a key.
#[track_caller]
fn made(folder: &Path, arguments: &[&str]) -> String {
    let ended = key(folder, arguments);
    well(&ended, &[]);
    ended.stdout.trim().to_owned()
}

/// Each upstream has a key of its own.
fn keyed(provider: &Provider) -> Setup {
    APIS.iter().fold(Setup::with(provider), |setup, api| {
        fs::write(setup.folder().join(format!("{}.key", api.name)), format!("{}-canary-0123456789", api.name)).unwrap();
        setup.set(&format!("upstreams.{}", api.name), &format!("api_key_file = \"{}.key\"", api.name))
    })
}

fn demanding(provider: &Provider) -> Setup {
    keyed(provider).set("keys", "required = true")
}

/// A request that shows this key where its API's SDK puts one.
fn showing(request: &Request, key: &str) -> Request {
    let bare =
        request.clone().without_header("authorization").without_header("x-api-key").without_header("x-goog-api-key");
    bare.header("authorization", &format!("Bearer {key}"))
}

/// Waits until the Spillway has so many keys that count.
#[track_caller]
fn wait_for_valid(spillway: &Spillway, count: u64) {
    eventually("keys to be in force", || (spillway.status()["keys"]["valid"] == count).then_some(()));
}

#[track_caller]
fn refused(response: &Response, status: u16, api: &Api, code: &str) {
    assert_eq!(
        (response.status(), response.at(api.code)),
        (status, code.to_owned()),
        "{}: {}",
        api.name,
        response.text()
    );
}

#[test]
fn a_key_serves_wherever_an_sdk_puts_one_and_goes_no_further() {
    let provider = Provider::start();
    let spillway = demanding(&provider).start();
    let secret = made(spillway.folder(), &["new", "--name", "shop"]);
    wait_for_valid(&spillway, 1);
    let bearer = format!("Bearer {secret}");
    let places = [
        ("authorization", bearer.as_str()),
        ("authorization", &secret),
        ("x-api-key", &secret),
        ("api-key", &secret),
        ("x-goog-api-key", &secret),
        ("x-spillway-access-key", &secret),
    ];
    for api in APIS {
        for (name, value) in places {
            let bare = showing(&(api.whole)(), "").without_header("authorization");
            let answer = spillway.send(&bare.header(name, value));
            assert_eq!(answer.status(), 200, "{} by {name}: {}", api.name, answer.text());
        }
    }
    for query in ["key", "access_token"] {
        let path = format!("/v1beta/models/mock-gemini:generateContent?{query}={secret}");
        let answer = spillway.send(&generate().without_header("x-goog-api-key").path(&path));
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }
    let seen = format!("{:?}", provider.requests());
    assert!(!seen.contains(&secret) && seen.contains("openai-canary") && seen.contains("gemini-canary"), "{seen}");
    let kept = fs::read_to_string(spillway.folder().join("spillway-data/keys.json")).unwrap();
    assert!(!kept.contains(&secret) && !spillway.status().to_string().contains(&secret), "{kept}");
}

#[test]
fn where_keys_are_demanded_nobody_reaches_a_provider_or_a_job_without_one() {
    let provider = Provider::start();
    let spillway = demanding(&provider).start();
    let secret = made(spillway.folder(), &["new"]);
    wait_for_valid(&spillway, 1);
    for api in APIS {
        refused(&spillway.send(&(api.whole)()), 401, &api, "spillway_key_refused");
        let bare = showing(&(api.whole)(), "").without_header("authorization");
        refused(&spillway.send(&bare), 401, &api, "spillway_key_required");
    }
    for path in ["/openai/v1/models", "/spillway/jobs/job_00000000000000000000000000000000"] {
        assert_eq!(spillway.send(&get(path)).refusal(), Some("spillway_key_required"), "{path}");
        let with = spillway.send(&showing(&get(path), &secret));
        assert_ne!(with.status(), 401, "{path}: {}", with.text());
    }
    assert_eq!(provider.requests().len(), 1, "the models");
}

#[test]
fn where_keys_are_demanded_they_are_through_the_unix_socket_too() {
    let provider = Provider::start();
    let spillway = demanding(&provider).set("server", "unix_socket = \"spillway.sock\"").start();
    let secret = made(spillway.folder(), &["new"]);
    wait_for_valid(&spillway, 1);
    let mut socket = Connection::open_unix(&spillway.folder().join("spillway.sock")).unwrap();
    assert_eq!(socket.exchange(&chat()).unwrap().refusal(), Some("spillway_key_refused"));
    assert_eq!(socket.exchange(&showing(&chat(), &secret)).unwrap().status(), 200);
    assert_eq!(provider.requests().len(), 1);
}

#[test]
fn where_none_is_demanded_a_callers_own_credential_passes_and_a_key_that_is_shown_is_obeyed() {
    let provider = Provider::start();
    let spillway = keyed(&provider).start();
    let secret = made(spillway.folder(), &["new", "--models", "mock-small"]);
    wait_for_valid(&spillway, 1);
    assert_eq!(spillway.send(&chat()).status(), 200);
    assert_eq!(provider.requests().pop().unwrap().header("authorization"), Some(&*format!("Bearer {KEY}")));
    assert_eq!(spillway.send(&showing(&chat(), &secret)).status(), 200);
    let ours = provider.requests().pop().unwrap();
    assert_eq!(ours.header("authorization"), Some("Bearer openai-canary-0123456789"));
    assert_eq!(spillway.send(&showing(&chat_of("mock-large"), &secret)).status(), 403);
    assert_eq!(spillway.send(&showing(&chat(), "sk-spillway-0123")).refusal(), Some("spillway_key_refused"));
    assert_eq!(provider.requests().len(), 2);
}

#[test]
fn keys_that_do_not_count_are_refused_alike_and_told_apart_in_the_log_alone() {
    let provider = Provider::start();
    let spillway = demanding(&provider).start();
    let folder = spillway.folder();
    let [revoked, replaced, expired] = ["revoked", "replaced", "expired"].map(|name| {
        let end = if name == "expired" { "1s" } else { "90d" };
        made(folder, &["new", "--name", name, "--expires", end])
    });
    let replacing = made(folder, &["rotate", "replaced", "--grace", "0s"]);
    well(&key(folder, &["revoke", "revoked"]), &["is revoked"]);
    wait_for_valid(&spillway, 1);
    for api in APIS {
        let answers: Vec<String> = [&revoked, &replaced, &expired, "sk-spillway-unknown"]
            .iter()
            .map(|secret| {
                let answer = spillway.send(&showing(&(api.whole)(), secret).header("x-request-id", "same"));
                refused(&answer, 401, &api, "spillway_key_refused");
                answer.text()
            })
            .collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    }
    assert_eq!(provider.stats().started, 0, "none of them has reached it");
    assert_eq!(spillway.send(&showing(&chat(), &replacing)).status(), 200);
    for why in ["revoked", "replaced", "expired", "unknown"] {
        spillway.log().wait_for(&["a key is not taken", &format!("\"why\":\"{why}\"")]);
    }
    assert!(!spillway.log().text().contains(&revoked));
}

#[test]
fn a_key_that_is_revoked_ends_its_streams_within_a_second_with_the_apis_error() {
    for api in APIS {
        let provider = Provider::start();
        let spillway = demanding(&provider).start();
        let secret = made(spillway.folder(), &["new", "--name", "shop"]);
        let other = made(spillway.folder(), &["new", "--name", "other"]);
        wait_for_valid(&spillway, 2);
        let (held, goes_on) = (provider.gate(), provider.gate());
        provider.next(healthy().saying("one two three").after_events(5).wait_for(&held));
        let (head, mut stream) = spillway.open(&showing(&(api.stream)(), &secret));
        provider.next(healthy().saying("one two three").after_events(5).wait_for(&goes_on));
        let (_, mut others) = spillway.open(&showing(&(api.stream)(), &other));
        assert_eq!(head.status, 200, "{}", api.name);
        assert!(stream.event().unwrap().is_some());
        well(&key(spillway.folder(), &["revoke", "shop"]), &[]);
        let revoked = Instant::now();
        let (events, end) = stream.events();
        let took = revoked.elapsed();
        assert!(took < IN_FORCE + SLACK, "{}: {took:?}", api.name);
        let last = events.last().unwrap_or_else(|| panic!("{}: nothing tells of the end", api.name));
        let data: Value = serde_json::from_str(last.split_once("data: ").unwrap().1.trim()).unwrap();
        assert_eq!(data.pointer(api.code).unwrap(), "spillway_key_refused", "{last}");
        assert_eq!(last.starts_with("event: error\n"), api.name == "anthropic", "{last}");
        let end = end.unwrap_err();
        assert!(matches!(end.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{}: {end}", api.name);
        provider.wait_for_disconnect();
        refused(&spillway.send(&showing(&(api.whole)(), &secret)), 401, &api, "spillway_key_refused");
        goes_on.open();
        assert!(others.events().1.is_ok(), "{}: another key's stream goes on", api.name);
    }
}

#[test]
fn a_request_that_waits_when_its_key_is_revoked_is_refused_and_its_call_cancelled() {
    let provider = Provider::start();
    let spillway = demanding(&provider).start();
    let secret = made(spillway.folder(), &["new", "--name", "shop"]);
    wait_for_valid(&spillway, 1);
    provider.always(stall());
    let mut connection = spillway.connect();
    connection.send(&showing(&chat(), &secret)).unwrap();
    provider.wait_for_requests(1);
    well(&key(spillway.folder(), &["revoke", "shop"]), &[]);
    let answer = connection.response().unwrap();
    assert_eq!((answer.status(), answer.refusal()), (401, Some("spillway_key_refused")));
    provider.wait_for_disconnect();
}

#[test]
fn jobs_of_a_key_that_is_revoked_are_not_sent_any_more() {
    let provider = Provider::start();
    let spillway = demanding(&provider).start();
    let secret = made(spillway.folder(), &["new", "--name", "shop"]);
    let other = made(spillway.folder(), &["new", "--name", "other"]);
    wait_for_valid(&spillway, 2);
    provider.always(overloaded());
    let kept = spillway.send(&showing(&patient_chat(), &secret));
    assert_eq!(kept.status(), 202, "{}", kept.text());
    let location = kept.header("location").unwrap().to_owned();
    well(&key(spillway.folder(), &["revoke", "shop"]), &[]);
    wait_for_valid(&spillway, 1);
    let before = provider.stats().started;
    provider.heal();
    let job = eventually("the job to end", || {
        let job = spillway.send(&showing(&get(&location), &other)).json();
        (job["status"] == "dead").then_some(job)
    });
    assert!(job["reason"].as_str().unwrap().contains("revoked"), "{job}");
    assert_eq!(provider.stats().started, before);
}

#[test]
fn a_key_is_for_the_models_and_routes_that_it_names_and_hears_of_no_others() {
    let provider = Provider::start();
    let spillway = demanding(&provider)
        .set("routes.cheap", "model = \"mock-small*\"\ntargets = [\"openai\"]")
        .set("routes.secret", "model = \"mock-large*\"\ntargets = [\"openai\"]")
        .start();
    let folder = spillway.folder();
    let narrow = made(folder, &["new", "--models", "mock-*,o4", "--routes", "cheap,anthropic"]);
    wait_for_valid(&spillway, 1);
    let send = |request: Request| spillway.send(&showing(&request, &narrow));
    assert_eq!(send(chat_of("mock-small")).status(), 200);
    assert_eq!(send(message()).status(), 200);
    for (request, api, said) in [
        (chat_of("mock-large"), APIS[0], "these routes and upstreams: cheap, anthropic"),
        (chat_of("gpt-5"), APIS[0], "these routes and upstreams: cheap, anthropic"),
        (generate(), APIS[2], "these routes and upstreams: cheap, anthropic"),
        ((APIS[1].of_model)("claude"), APIS[1], "these models: mock-*, o4"),
        (post("/anthropic/v1/messages/batches", &serde_json::json!({})), APIS[1], "these models: mock-*, o4"),
    ] {
        let answer = send(request);
        refused(&answer, 403, &api, "spillway_key_forbids");
        let told = answer.text();
        assert!(told.contains(said) && !told.contains("[routes.secret]"), "{told}");
    }
    ends(&key(folder, &["new", "--routes", "chaep"]), 2, &["no route or upstream chaep"]);
}

#[test]
fn where_keys_are_demanded_a_key_says_of_which_tenant_its_caller_is_and_nobody_else_does() {
    let provider = Provider::start();
    let limits = "requests_per_minute = 1\n";
    let spillway =
        demanding(&provider).set("tenants.batch", limits).set("upstreams.openai.limits", "patience = \"0s\"").start();
    let free = made(spillway.folder(), &["new"]);
    let bound = made(spillway.folder(), &["new", "--tenant", "batch"]);
    wait_for_valid(&spillway, 2);
    let send = |secret: &str| spillway.send(&showing(&chat(), secret).header("x-spillway-tenant", "batch")).status();
    assert_eq!([send(&free), send(&free), send(&free)], [200; 3]);
    assert_eq!([send(&bound), send(&bound)], [200, 429]);
}

#[test]
fn a_key_has_the_guards_of_its_group_unless_it_has_its_own() {
    let provider = Provider::start();
    let spillway = demanding(&provider)
        .set("guards", "max_tokens_per_request = 1000")
        .set("groups.above.guards", "max_tokens_per_request = 2000")
        .set("groups.team", "parent = \"above\"")
        .start();
    let new = |arguments: &[&str]| made(spillway.folder(), &[&["new"], arguments].concat());
    let (plain, of_team) = (new(&[]), new(&["--group", "team"]));
    let own = new(&["--group", "team", "--max-tokens-per-request", "3000"]);
    let free = new(&["--group", "team", "--max-tokens-per-request", "0"]);
    wait_for_valid(&spillway, 4);
    let send = |key: &str, tokens: u64| {
        spillway.send(&showing(&chat_with(serde_json::json!({"max_tokens": tokens})), key)).status()
    };
    for (key, most) in [(&plain, 1_000), (&of_team, 2_000), (&own, 3_000)] {
        assert_eq!([send(key, most - 100), send(key, most)], [200, 400], "{most}");
    }
    assert_eq!(send(&free, 100_000), 200);
}

#[test]
fn wrong_keys_of_an_address_wait_longer_and_longer_while_right_ones_do_not() {
    let provider = Provider::start();
    let spillway = demanding(&provider).start();
    let secret = made(spillway.folder(), &["new"]);
    wait_for_valid(&spillway, 1);
    let began = Instant::now();
    for _ in 0..8 {
        assert_eq!(spillway.send(&chat()).status(), 401);
    }
    assert!(began.elapsed() >= Duration::from_millis(100 + 200 + 400 + 800 + 1_600), "{:?}", began.elapsed());
    let mut waiting = spillway.connect();
    waiting.send(&chat()).unwrap();
    let asked = Instant::now();
    assert_eq!(spillway.send(&showing(&chat(), &secret)).status(), 200);
    assert!(asked.elapsed() < Duration::from_secs(3), "a right key does not wait: {:?}", asked.elapsed());
    assert_eq!(waiting.response().unwrap().status(), 401);
    assert!(asked.elapsed() >= Duration::from_secs(3), "and a wrong one does");
}

#[test]
fn a_key_that_is_rotated_counts_with_both_secrets_until_the_old_one_does_no_more() {
    let provider = Provider::start();
    let spillway = demanding(&provider).start();
    let old = made(spillway.folder(), &["new", "--name", "shop"]);
    let new = made(spillway.folder(), &["rotate", "shop"]);
    let serves = |secret: &str| spillway.send(&showing(&chat(), secret)).status() == 200;
    eventually("both to count", || (serves(&old) && serves(&new)).then_some(()));
    let newest = made(spillway.folder(), &["rotate", "shop", "--grace", "0s"]);
    eventually("the old ones to count no more", || (serves(&newest) && !serves(&old) && !serves(&new)).then_some(()));
    let shown = json(&key(spillway.folder(), &["show", "shop", "--json"]));
    assert_eq!((&shown["state"], shown["former"].as_array().map(Vec::len)), (&"valid".into(), Some(2)));
}

#[test]
fn keys_of_litellms_are_taken_over_by_their_hashes_and_count_as_they_are() {
    let provider = Provider::start();
    let spillway = demanding(&provider).set("ledger", "unpriced = \"allow\"").start();
    let theirs = "sk-litellm-0123456789";
    let digest = ring::digest::digest(&ring::digest::SHA256, theirs.as_bytes());
    let hash: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!(
        r#"{{"keys": [{{"token": "{hash}", "key_alias": "shop", "models": ["mock-small"], "max_budget": 30,
            "budget_duration": "30d", "rpm_limit": 100}}]}}"#
    );
    let file = spillway.folder().join("list.json");
    fs::write(&file, list).unwrap();
    let path = file.display().to_string();
    well(&key(spillway.folder(), &["import", &path]), &["100 requests per minute, $30 per month", "1 key taken over"]);
    wait_for_valid(&spillway, 1);
    assert_eq!(spillway.send(&showing(&chat(), theirs)).status(), 200);
    assert_eq!(spillway.send(&showing(&chat_of("other"), theirs)).status(), 403);
}

#[test]
fn a_file_of_keys_that_is_damaged_leaves_those_in_force_and_keeps_a_spillway_from_starting() {
    let provider = Provider::start();
    let mut spillway = demanding(&provider).start();
    let secret = made(spillway.folder(), &["new"]);
    wait_for_valid(&spillway, 1);
    let file = spillway.folder().join("spillway-data/keys.json");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, &good[..good.len() / 2]).unwrap();
    spillway.log().wait_for(&["the file of keys cannot be used"]);
    assert_eq!(spillway.send(&showing(&chat(), &secret)).status(), 200);
    ends(&key(spillway.folder(), &["new"]), 1, &["it is no file of keys", "move it away"]);
    let config = spillway.folder().join("spillway.toml").display().to_string();
    spillway.kill();
    let mut command = Command::new(binary());
    command.args(["run", "--config", &config]).stdin(Stdio::null());
    let started = ended(&mut command);
    assert!(started.code.is_some_and(|code| code != 0), "{started:?}");
    assert!(started.stderr.contains("the file of virtual keys cannot be used"), "{started:?}");
    fs::write(&file, good).unwrap();
    spillway.restart();
    assert_eq!(spillway.send(&showing(&chat(), &secret)).status(), 200);
}

#[test]
fn a_websocket_is_closed_when_its_key_is_revoked() {
    let provider = Provider::start();
    let spillway = demanding(&provider).start();
    let secret = made(spillway.folder(), &["new", "--name", "shop"]);
    wait_for_valid(&spillway, 1);
    let handshake = get("/v1/realtime?model=mock-realtime")
        .header("authorization", &format!("Bearer {secret}"))
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let mut connection = spillway.connect();
    connection.read_timeout(DEADLINE);
    connection.send(&handshake).unwrap();
    assert_eq!(connection.head().unwrap().status, 101);
    well(&key(spillway.folder(), &["revoke", "shop"]), &[]);
    let revoked = Instant::now();
    let rest = connection.rest().unwrap();
    assert!(rest.ends_with(&[0x88, 2, 0x03, 0xf0]), "closed by 1008: {rest:?}");
    assert!(revoked.elapsed() < IN_FORCE + SLACK, "{:?}", revoked.elapsed());
}

#[test]
fn doctor_and_status_tell_of_keys() {
    let provider = Provider::start();
    let spillway = demanding(&provider).start();
    let folder = spillway.folder();
    made(folder, &["new", "--name", "soon", "--expires", "3d"]);
    made(folder, &["new", "--name", "gone"]);
    well(&key(folder, &["revoke", "gone"]), &[]);
    wait_for_valid(&spillway, 1);
    eventually("both", || (spillway.status()["keys"]["revoked"] == 1).then_some(()));
    let told = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(folder).stdin(Stdio::null());
        // Lines are as long as the terminal is wide.
        ended(&mut command).stdout.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let status = told(&["status", "--admin", &spillway.admin_address().to_string()]);
    assert!(
        status.contains("1 valid, 1 revoked; every caller shows one; these expire within a week: soon"),
        "{status}"
    );
    let doctor = told(&["doctor"]);
    assert!(doctor.contains("virtual keys") && doctor.contains("these expire within a week"), "{doctor}");
}

#[test]
fn what_a_keys_limit_would_refuse_goes_along_the_route_that_it_names_whatever_else_it_is_for() {
    let provider = Provider::start();
    let prices = "[[price]]\nmodel = \"mock-dear\"\ninput = 1\noutput = 1000\n\
                  [[price]]\nmodel = \"mock-spare\"\ninput = 0\noutput = 0\n";
    let setup = demanding(&provider)
        .set("prices", "file = \"prices.toml\"")
        .set("routes.spare", "model = \"spare\"\ntargets = [\"openai/mock-spare\"]");
    fs::write(setup.folder().join("prices.toml"), prices).unwrap();
    let spillway = setup.start();
    let own = ["new", "--models", "mock-dear", "--routes", "openai", "--limit", "$1 in total"];
    let secrets = [&[][..], &["--when-exhausted", "spare"]].map(|more| made(spillway.folder(), &[&own, more].concat()));
    wait_for_valid(&spillway, 2);
    let asking = |model: &str, secret: &str| {
        let request = chat_with(json!({"model": model, "max_tokens": 2_000}));
        spillway.send(&showing(&request, secret))
    };
    let [refused, served] = [0, 1].map(|key| asking("mock-dear", &secrets[key]));
    assert_eq!((refused.status(), refused.refusal()), (429, Some("spillway_limit_exhausted")), "{}", refused.text());
    assert_eq!((served.status(), served.header("x-spillway-route")), (200, Some("spare")), "{}", served.text());
    // It may not ask for that by itself.
    assert_eq!(asking("spare", &secrets[1]).refusal(), Some("spillway_key_forbids"));
    let asked: Vec<_> = provider.requests().iter().map(|request| request.json()["model"].clone()).collect();
    assert_eq!(asked, ["mock-spare"]);
}

#[test]
fn a_limit_that_is_raised_lets_a_key_go_on_with_what_it_has_used_and_one_that_is_lowered_ends_that() {
    let provider = Provider::start();
    let spillway = demanding(&provider).start();
    let secret = made(spillway.folder(), &["new", "--name", "shop", "--limit", "2 requests in total"]);
    wait_for_valid(&spillway, 1);
    let asked = || spillway.send(&showing(&chat(), &secret)).status();
    assert_eq!([asked(), asked(), asked()], [200, 200, 429]);
    let set = |arguments: &[&str]| well(&key(spillway.folder(), &[&["set", "shop"], arguments].concat()), &["shop"]);
    set(&["--limit", "4 requests in total"]);
    eventually("the higher limit to hold", || (asked() == 200).then_some(()));
    assert_eq!([asked(), asked()], [200, 429]);
    set(&["--clear", "limits"]);
    eventually("no limit to hold", || (asked() == 200).then_some(()));
    set(&["--limit", "1 requests in total"]);
    eventually("the lower limit to hold", || (asked() == 429).then_some(()));
    set(&["--clear", "limits", "--models", "mock-other"]);
    eventually("it to be for another model", || (asked() == 403).then_some(()));
}
