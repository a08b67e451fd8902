//! Callers on other machines, as from container to container: who is let in, and what becomes of its credentials.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use spillway_tests::asks::{APIS, KEY, chat, chat_stream, patient_chat};
use spillway_tests::http::{Connection, Request, delete, get, request};
use spillway_tests::provider::{Failure, Provider, fail};
use spillway_tests::spillway::{Setup, Spillway};
use std::fs;

const ACCESS: &str = "access-canary-0123456789";
const REFUSED: &str = "spillway_access_required";

/// Reached by other machines, with no key of a provider's.
fn beyond(provider: &Provider) -> Setup {
    let setup = Setup::with(provider);
    fs::write(setup.folder().join("access.key"), ACCESS).unwrap();
    setup.set("server", "listen = \"0.0.0.0:0\"\nplaintext = true\naccess_key_file = \"access.key\"")
}

fn shown(request: &Request) -> Request {
    request.clone().header("x-spillway-access-key", ACCESS)
}

#[track_caller]
fn assert_turned_away(spillway: &Spillway, request: &Request) {
    let answer = spillway.send(request);
    assert_eq!((answer.status(), answer.refusal()), (401, Some(REFUSED)), "{request:?}: {}", answer.text());
    assert!(answer.text().contains("x-spillway-access-key"), "{}", answer.text());
    assert!(!answer.text().contains(ACCESS), "{}", answer.text());
}

#[test]
fn other_machines_are_let_in_only_where_both_settings_say_so() {
    for (lines, lacking) in [
        ("", "an access key"),
        ("plaintext = true", "an access key"),
        ("access_key_file = \"access.key\"", "plaintext = true"),
    ] {
        let setup = Setup::bare();
        fs::write(setup.folder().join("access.key"), ACCESS).unwrap();
        let setup = setup.set("server", &format!("listen = \"0.0.0.0:0\"\n{lines}"));
        for command in ["check", "run"] {
            let ended = setup.run_to_end(&[command]);
            assert_eq!(ended.code, Some(2), "{command} with {lines:?}: {}", ended.stderr);
            let line = ended.stderr.lines().find(|line| line.contains("server.listen")).unwrap_or_default();
            assert!(line.contains(lacking) && line.contains("127.0.0.1"), "{}", ended.stderr);
        }
    }
    let ended = Setup::bare().set("admin", "listen = \"0.0.0.0:0\"").run_to_end(&["check"]);
    assert_eq!(ended.code, Some(2), "what operators see is for nobody without a token");
    assert!(ended.stderr.contains("spillway status"), "{}", ended.stderr);
}

#[test]
fn whoever_does_not_show_the_access_key_is_turned_away_on_every_path_in_its_apis_words() {
    let provider = Provider::start();
    let spillway = beyond(&provider).start();
    let kinds = ["authentication_error", "authentication_error", "UNAUTHENTICATED"];
    for (api, kind) in APIS.into_iter().zip(kinds) {
        for ask in [api.whole, api.stream] {
            let answer = spillway.send(&ask());
            assert_eq!((answer.status(), answer.at(api.code), answer.at(api.kind)), (401, REFUSED.into(), kind.into()));
        }
        assert_turned_away(&spillway, &(api.whole)().header("x-spillway-access-key", "access-canary-012345678"));
    }
    for path in ["/v1/models", "/openai/v1/models", "/nowhere", "/spillway", "/spillway/jobs/job_1", "/"] {
        assert_turned_away(&spillway, &get(path));
        assert_turned_away(&spillway, &delete(path));
    }
    // What asks as a browser does, and is none whose page may.
    assert_turned_away(&spillway, &request("OPTIONS", "/v1/models"));
    assert_eq!(provider.stats().started, 0);
}

#[test]
fn whoever_shows_it_is_served_with_its_own_credential_and_the_key_goes_no_further() {
    let provider = Provider::start();
    let spillway = beyond(&provider).start();
    for api in APIS {
        for ask in [api.whole, api.stream] {
            // As a container's callers name this one.
            let answer = spillway.send(&shown(&ask()).header("host", "spillway:4141"));
            assert_eq!(answer.status(), 200, "{}: {}", api.name, answer.text());
            let seen = format!("{:?}", provider.requests().pop().unwrap());
            assert!(seen.contains(KEY) && !seen.contains(ACCESS), "{}: {seen}", api.name);
        }
    }
    // In the place of an API key it is let in as well, and goes on without any.
    let answer = spillway.send(&chat().replace_header("authorization", &format!("Bearer {ACCESS}")));
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(provider.requests().pop().unwrap().header("authorization"), None);
    let in_query = spillway.send(&get(&format!("/openai/v1/models?key={ACCESS}")));
    assert_eq!(in_query.status(), 200, "{}", in_query.text());
    assert_eq!(provider.requests().pop().unwrap().query.as_deref().unwrap_or_default(), "");
    assert!(!spillway.log().text().contains(ACCESS));
}

#[test]
fn a_kept_request_is_asked_for_with_the_access_key() {
    let provider = Provider::start();
    let setup = beyond(&provider).set("upstreams.openai.retry", "max_attempts = 1");
    let breaker = "consecutive_failures = 1\ncooldown = \"50ms\"\ncooldown_max = \"50ms\"";
    let spillway = setup.set("upstreams.openai.breaker", breaker).start();
    provider.always(fail(Failure::ServerError));
    assert_turned_away(&spillway, &patient_chat());
    let kept = spillway.send(&shown(&patient_chat()));
    assert_eq!(kept.status(), 202, "{}", kept.text());
    let location = kept.header("location").unwrap().to_owned();
    for path in [location.clone(), format!("{location}/result")] {
        assert_turned_away(&spillway, &get(&path));
        assert_turned_away(&spillway, &delete(&path));
    }
    assert_eq!(spillway.send(&shown(&get(&location))).status(), 200);
}

#[test]
fn through_the_unix_socket_nobody_shows_anything() {
    let provider = Provider::start();
    let spillway = beyond(&provider).set("server", "unix_socket = \"spillway.sock\"").start();
    let path = spillway.folder().join("spillway.sock");
    let answer = Connection::open_unix(&path).unwrap().exchange(&chat().header("host", "whoever")).unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_turned_away(&spillway, &chat());
}

#[test]
fn pages_stay_out_unless_their_origin_is_allowed_and_then_show_the_key_as_well() {
    let provider = Provider::start();
    let spillway = beyond(&provider).set("server", "allowed_origins = [\"https://app.example\"]").start();
    let of_page = |request: &Request, origin: &str| request.clone().header("host", "spillway").header("origin", origin);
    for (page, status) in
        [("https://evil.example", 403), ("null", 403), ("http://spillway", 403), ("https://app.example", 200)]
    {
        let answer = spillway.send(&of_page(&shown(&chat()), page));
        assert_eq!(answer.status(), status, "{page}: {}", answer.text());
    }
    let hidden = shown(&chat_stream()).header("sec-fetch-site", "cross-site");
    assert_eq!(spillway.send(&hidden).status(), 403, "{hidden:?}");
    assert_turned_away(&spillway, &of_page(&chat(), "https://app.example"));
    // A browser asks without the key whether it may send it.
    let preflight = of_page(&request("OPTIONS", "/v1/chat/completions"), "https://app.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "x-spillway-access-key");
    assert_eq!(spillway.send(&preflight).status(), 204);
}

#[test]
fn names_that_are_listed_are_the_only_ones() {
    let provider = Provider::start();
    let spillway = beyond(&provider).set("server", "allowed_hosts = [\"spillway\"]").start();
    for (host, status) in [("spillway:4141", 200), ("localhost:4141", 200), ("evil.example", 403)] {
        let answer = spillway.send(&shown(&chat()).header("host", host));
        assert_eq!(answer.status(), status, "{host}: {}", answer.text());
    }
}

#[test]
fn this_machines_own_processes_are_sent_to_the_loopback() {
    let setup = Setup::bare();
    fs::write(setup.folder().join("access.key"), ACCESS).unwrap();
    let lines = "listen = \"0.0.0.0:4141\"\nplaintext = true\naccess_key_file = \"access.key\"";
    let ended = setup.set("server", lines).run_to_end(&["env"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("OPENAI_BASE_URL=http://127.0.0.1:4141/"), "{}", ended.stdout);
}
