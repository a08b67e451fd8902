//! Credentials of Spillway's own: who may spend them, where they go, and that they are nowhere else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::json;
use spillway_tests::asks::{APIS, KEY, chat, chat_of, chat_stream, generate, message, patient_chat};
use spillway_tests::http::{Connection, Request, get};
use spillway_tests::provider::{Failure, Provider, RecordedRequest, fail, in_pieces, overloaded, respond};
use spillway_tests::spillway::Setup;
use spillway_tests::wait::{DEADLINE, eventually};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What callers show, and what each upstream is shown.
const ACCESS: &str = "access-canary-0123456789";
const OPENAI: &str = "openai-canary-0123456789";
const ANTHROPIC: &str = "anthropic-canary-0123456789";
const GEMINI: &str = "gemini-canary-0123456789";
const ALL: [&str; 4] = [ACCESS, OPENAI, ANTHROPIC, GEMINI];

/// Each upstream has a key of its own, and there is an access key.
fn keyed(provider: &Provider) -> Setup {
    let setup = [("openai", OPENAI), ("anthropic", ANTHROPIC), ("gemini", GEMINI)];
    let setup = setup.iter().fold(Setup::with(provider), |setup, (name, key)| {
        fs::write(setup.folder().join(format!("{name}.key")), key).unwrap();
        setup.set(&format!("upstreams.{name}"), &format!("api_key_file = \"{name}.key\""))
    });
    with_access_key(setup)
}

fn with_access_key(setup: Setup) -> Setup {
    fs::write(setup.folder().join("access.key"), format!("{ACCESS}\n")).unwrap();
    setup.set("server", "access_key_file = \"access.key\"")
}

/// Where a request shows the access key.
fn showing_it(request: &Request, name: &str, value: &str) -> Request {
    request
        .clone()
        .without_header("authorization")
        .without_header("x-api-key")
        .without_header("x-goog-api-key")
        .header(name, value)
}

/// The last request that the provider got.
#[track_caller]
fn seen(provider: &Provider) -> std::sync::Arc<RecordedRequest> {
    provider.requests().pop().unwrap()
}

/// Whether a request that the provider got has this text in it, wherever.
fn holds(request: &RecordedRequest, text: &str) -> bool {
    format!("{request:?}").contains(text)
}

#[test]
fn whoever_shows_the_access_key_where_an_api_key_goes_spends_the_upstreams_own() {
    let provider = Provider::start();
    let spillway = keyed(&provider).start();
    let bearer = format!("Bearer {ACCESS}");
    let ours = format!("Bearer {OPENAI}");
    let cases = [
        (showing_it(&chat(), "authorization", &bearer), "authorization", ours.as_str()),
        (showing_it(&chat_stream(), "authorization", &bearer), "authorization", &ours),
        (showing_it(&chat(), "api-key", ACCESS), "authorization", &ours),
        (showing_it(&chat(), "x-spillway-access-key", ACCESS), "authorization", &ours),
        (showing_it(&message(), "x-api-key", ACCESS), "x-api-key", ANTHROPIC),
        (showing_it(&message(), "authorization", &bearer), "x-api-key", ANTHROPIC),
        (showing_it(&generate(), "x-goog-api-key", ACCESS), "x-goog-api-key", GEMINI),
    ];
    for (request, name, ours) in cases {
        assert_eq!(spillway.send(&request).status(), 200, "{request:?}");
        let seen = seen(&provider);
        assert_eq!(seen.header(name), Some(ours), "{request:?}");
        assert!(!holds(&seen, ACCESS), "{seen:?}");
        let others = seen.headers.iter().filter(|(_, value)| value.contains("canary")).count();
        assert_eq!(others, 1, "{seen:?}");
    }
    let in_query = format!("/v1beta/models/mock-gemini:generateContent?key={ACCESS}&alt=json");
    let request = showing_it(&generate(), "x-other", "1").path(&in_query);
    assert_eq!(spillway.send(&request).status(), 200);
    let seen = seen(&provider);
    assert_eq!((seen.header("x-goog-api-key"), seen.query.as_deref()), (Some(GEMINI), Some("alt=json")));
}

#[test]
fn anybody_elses_own_credential_passes_as_it_came() {
    let provider = Provider::start();
    let spillway = keyed(&provider).start();
    for api in APIS {
        assert_eq!(spillway.send(&(api.whole)()).status(), 200, "{}", api.name);
        let own = seen(&provider);
        assert!(holds(&own, KEY) && !holds(&own, "canary"), "{}: {own:?}", api.name);
        // What stands in the usual place beside the access key is there because an SDK demands something.
        let request = (api.whole)().header("x-spillway-access-key", ACCESS);
        assert_eq!(spillway.send(&request).status(), 200, "{}", api.name);
        let ours = seen(&provider);
        let canary = format!("{}-canary", api.name);
        assert!(holds(&ours, &canary) && !holds(&ours, KEY) && !holds(&ours, ACCESS), "{}: {ours:?}", api.name);
    }
    let wrong = showing_it(&chat(), "authorization", "Bearer access-canary-012345678");
    assert_eq!(spillway.send(&wrong).status(), 200, "what is not the key is somebody's own credential");
    assert_eq!(seen(&provider).header("authorization"), Some("Bearer access-canary-012345678"));
}

#[test]
fn the_access_key_reaches_no_provider_wherever_it_is_shown() {
    let provider = Provider::start();
    // None of them has a key of its own.
    let spillway = with_access_key(Setup::with(&provider)).start();
    let bearer = format!("Bearer {ACCESS}");
    let places = [
        ("authorization", bearer.as_str()),
        ("authorization", ACCESS),
        ("x-api-key", ACCESS),
        ("api-key", ACCESS),
        ("x-goog-api-key", ACCESS),
        ("x-spillway-access-key", ACCESS),
    ];
    for api in APIS {
        for (name, value) in places {
            spillway.send(&showing_it(&(api.whole)(), name, value));
            spillway.send(&(api.whole)().header(name, value));
        }
    }
    // What passes through unread is no exception.
    for query in [format!("key={ACCESS}"), format!("a=b&%6bey={ACCESS}"), format!("access_token={ACCESS}&a=b")] {
        spillway.send(&get(&format!("/openai/v1/models?{query}")).header("authorization", &bearer));
    }
    let requests = provider.requests();
    assert_eq!(requests.len(), APIS.len() * places.len() * 2 + 3);
    for request in requests {
        assert!(!holds(&request, ACCESS), "{request:?}");
    }
}

#[test]
fn a_route_with_keys_of_its_own_refuses_whoever_may_not_spend_them() {
    let kinds = ["authentication_error", "authentication_error", "UNAUTHENTICATED"];
    for (api, kind) in APIS.into_iter().zip(kinds) {
        let provider = Provider::start();
        let route = format!("targets = [\"{}\"]", api.name);
        let spillway = keyed(&provider).set("routes.mine", &route).start();
        let refused = spillway.send(&(api.whole)());
        assert_eq!(refused.status(), 401, "{}: {}", api.name, refused.text());
        assert_eq!((refused.at(api.code), refused.at(api.kind)), ("spillway_access_required".into(), kind.into()));
        assert!(refused.text().contains("[routes.mine] open_to_local"), "{}", refused.text());
        assert_eq!(provider.stats().started, 0);
        assert_eq!(spillway.send(&(api.whole)().header("x-spillway-access-key", ACCESS)).status(), 200);
        let seen = seen(&provider);
        assert!(holds(&seen, &format!("{}-canary", api.name)) && !holds(&seen, KEY), "{seen:?}");
    }
}

#[test]
fn a_route_that_is_open_to_local_processes_asks_for_no_access_key() {
    let provider = Provider::start();
    let spillway = keyed(&provider).set("routes.mine", "targets = [\"openai\"]\nopen_to_local = true").start();
    assert_eq!(spillway.send(&chat()).status(), 200);
    assert_eq!(seen(&provider).header("authorization"), Some(&*format!("Bearer {OPENAI}")));
}

#[test]
fn an_upstream_with_paths_and_a_place_for_keys_of_its_own_is_asked_in_its_way() {
    let provider = Provider::start();
    let at = |more: &str| format!("url = \"{}\"\n{more}", provider.url());
    let azure = "auth = \"api-key\"\napi_key_file = \"openai.key\"\n\
                 path = \"/openai/deployments/{model}/{operation}?api-version=2024-10-21\"";
    let vertex = "dialect = \"gemini\"\nauth = \"bearer\"\napi_key_file = \"gemini.key\"\n\
                  path = \"/v1/projects/p/locations/l/publishers/google/models/{model}:{operation}\"";
    let spillway = keyed(&provider)
        .set("upstreams.azure", &at(azure))
        .set("upstreams.vertex", &at(vertex))
        .set("routes.chat", "targets = [\"azure/gpt-5\"]\nmodel = \"mock-small\"")
        .set("routes.google", "targets = [\"vertex/gemini-3-pro\"]\nmodel = \"mock-gemini\"")
        .start();
    let spending = |request: Request| showing_it(&request, "x-spillway-access-key", ACCESS);
    let sent = |request: Request, name: &str| {
        let answer = spillway.send(&request);
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let seen = seen(&provider);
        let path = format!("{}?{}", seen.path, seen.query.as_deref().unwrap_or_default());
        (path, seen.header(name).unwrap_or_default().to_owned(), seen.json()["model"].as_str().map(str::to_owned))
    };
    let deployment = "/openai/deployments/gpt-5/chat/completions?api-version=2024-10-21";
    let expected = (deployment.to_owned(), OPENAI.to_owned(), Some("gpt-5".to_owned()));
    assert_eq!(sent(spending(chat()), "api-key"), expected);
    // With the model that its caller asks for, and a parameter of the caller's own.
    let named = spending(chat_of("o4")).path("/azure/v1/chat/completions?trace=1");
    let deployment = "/openai/deployments/o4/chat/completions?api-version=2024-10-21&trace=1";
    assert_eq!(sent(named, "api-key"), (deployment.to_owned(), OPENAI.to_owned(), Some("o4".to_owned())));
    // What Azure's own SDK writes stays as it is.
    let own = "/openai/deployments/mine/chat/completions?api-version=2025-01-01-preview";
    assert_eq!(sent(spending(chat_of("other")).path(own), "api-key").0, own);
    let vertex = "/v1/projects/p/locations/l/publishers/google/models/gemini-3-pro:generateContent?";
    assert_eq!(sent(spending(generate()), "authorization"), (vertex.to_owned(), format!("Bearer {GEMINI}"), None));
}

/// Every file below a folder, with what is in it.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(files(&path)),
            kind if kind.is_file() => found.push((path.clone(), fs::read(&path).unwrap())),
            _ => {}
        }
    }
    found
}

#[track_caller]
fn assert_without_canaries(what: &str, text: &str) {
    for canary in ALL {
        assert!(!text.contains(canary), "{canary} in {what}:\n{text}");
    }
}

#[test]
fn a_key_is_nowhere_but_in_the_requests_of_its_own_upstream() {
    let provider = Provider::start();
    let setup = keyed(&provider).set("log", "requests = \"requests.jsonl\"");
    let shown = setup.run_to_end(&["config", "show", "--effective"]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    assert_without_canaries("config show", &(shown.stdout + &shown.stderr));
    let setup = setup.set("upstreams.openai.retry", "max_attempts = 1").environment("SPILLWAY_LOG", "trace");
    let mut spillway = setup
        .set("upstreams.openai.breaker", "consecutive_failures = 2\ncooldown = \"60s\"\ncooldown_max = \"60s\"")
        .start();
    let spending = |request: &Request| showing_it(request, "x-spillway-access-key", ACCESS);

    // Well, badly, and so that the key is repeated to whoever listens.
    for api in APIS {
        assert_eq!(spillway.send(&spending(&(api.whole)())).status(), 200, "{}", api.name);
        assert_eq!(spillway.send(&spending(&(api.stream)())).status(), 200, "{}", api.name);
    }
    let repeated = format!("Incorrect API key provided: {OPENAI}. You can find your API key elsewhere.");
    let body = json!({"error": {"message": repeated, "type": "invalid_request_error", "code": "invalid_api_key"}});
    // In a header, and in the first event of what calls itself a success.
    let challenge = format!("Bearer error_description=\"{OPENAI} is revoked\"");
    provider.next(in_pieces("text/event-stream").header("www-authenticate", &challenge).event(body.clone()));
    let answer = spillway.send(&spending(&chat_stream()));
    assert!(answer.text().contains("Incorrect API key"), "{}", answer.text());
    assert!(answer.header("www-authenticate").is_some_and(|told| told.contains("is revoked")), "{answer:?}");
    assert_without_canaries("a stream", &format!("{answer:?}{}", answer.text()));
    for status in [401, 403, 500, 500] {
        provider.next(respond(status).json(body.clone()));
        let answer = spillway.send(&spending(&chat()));
        assert_eq!(answer.status(), status);
        assert!(answer.text().contains("Incorrect API key"), "{}", answer.text());
        assert_without_canaries("an answer", &answer.text());
    }
    // What is refused for it, and what is kept.
    provider.always(overloaded());
    let refused = spillway.send(&spending(&chat()));
    assert_without_canaries("a refusal", &format!("{refused:?}{}", refused.text()));
    let kept = spillway.send(&spending(&patient_chat()));
    assert_eq!(kept.status(), 202, "{}", kept.text());
    let in_query = format!("/gemini/v1beta/models?key={ACCESS}");
    spillway.send(&get(&in_query));

    let recorded = eventually("attempts are recorded", || {
        let text = fs::read_to_string(spillway.folder().join("requests.jsonl")).ok()?;
        (text.matches("Incorrect API key").count() >= 4).then_some(text)
    });
    assert_without_canaries("the recording", &recorded);
    assert_without_canaries("the status", &spillway.status().to_string());
    assert_without_canaries("the metrics", &spillway.admin(&get("/metrics")).text());
    spillway.terminate();
    spillway.wait_for_exit();
    assert_without_canaries("the log", &spillway.log().text());
    let mut looked_at = 0;
    for (path, bytes) in files(spillway.folder()) {
        if path.extension().is_none_or(|extension| extension != "key") {
            assert_without_canaries(&path.display().to_string(), &String::from_utf8_lossy(&bytes));
            looked_at += 1;
        }
    }
    assert!(looked_at >= 4, "configuration, recording, circuits, spool");
    for request in provider.requests() {
        let own = match &*request.path {
            path if path.contains("messages") => ANTHROPIC,
            path if path.contains("v1beta") => GEMINI,
            _ => OPENAI,
        };
        for canary in ALL.into_iter().filter(|canary| *canary != own) {
            assert!(!holds(&request, canary), "{canary} in {request:?}");
        }
    }
}

#[test]
fn a_key_that_is_rotated_is_in_use_without_a_restart() {
    let provider = Provider::start();
    let spillway = keyed(&provider).start();
    let folder = spillway.folder().to_owned();
    let spending = |access: &str| showing_it(&chat(), "x-spillway-access-key", access);
    let sent = || {
        assert_eq!(spillway.send(&spending(ACCESS)).status(), 200);
        seen(&provider).header("authorization").unwrap_or_default().to_owned()
    };
    assert_eq!(sent(), format!("Bearer {OPENAI}"));
    // Written beside it and renamed over it, as whoever rotates keys well does.
    fs::write(folder.join("next.key"), "openai-rotated-0123").unwrap();
    fs::rename(folder.join("next.key"), folder.join("openai.key")).unwrap();
    eventually("the new key is in use", || (sent() == "Bearer openai-rotated-0123").then_some(()));
    let line = spillway.log().find(&["a key has changed", "openai.key"], DEADLINE).unwrap();
    assert!(!line.contains("rotated-0123"), "{line}");

    fs::write(folder.join("openai.key"), "").unwrap();
    let line = spillway.log().find(&["a key can no longer be read", "is empty"], DEADLINE).unwrap();
    assert!(line.contains("\"ERROR\""), "{line}");
    assert_eq!(sent(), "Bearer openai-rotated-0123", "the last one stays in use");
    fs::write(folder.join("openai.key"), "openai-third-0123").unwrap();
    eventually("the third key is in use", || (sent() == "Bearer openai-third-0123").then_some(()));

    // The access key as well; one that can be guessed is not taken.
    fs::write(folder.join("access.key"), "short").unwrap();
    assert!(spillway.log().find(&["is not taken", "too short"], DEADLINE).is_some());
    assert_eq!(sent(), "Bearer openai-third-0123");
    fs::write(folder.join("access.key"), "another-access-key").unwrap();
    eventually("the other access key counts", || {
        spillway.send(&spending("another-access-key"));
        seen(&provider).header("authorization").map(|_| ())
    });
    spillway.send(&spending(ACCESS));
    assert_eq!(seen(&provider).header("authorization"), None, "the old one does not");
}

#[test]
fn a_key_that_cannot_be_had_is_a_mistake_before_anything_is_served() {
    let setup = Setup::bare().set("upstreams.openai", "api_key_env = \"SPILLWAY_TEST_UNSET\"\napi_key_file = \"none\"");
    for command in ["check", "run"] {
        let ended = setup.run_to_end(&[command]);
        assert_eq!(ended.code, Some(2), "{command}: {}", ended.stderr);
        for words in
            ["upstreams.openai.api_key_env: SPILLWAY_TEST_UNSET is not", "upstreams.openai.api_key_file: cannot read"]
        {
            assert!(ended.stderr.contains(words), "{command}: {}", ended.stderr);
        }
    }
}

#[test]
fn whoever_only_asks_what_is_configured_need_not_have_the_keys() {
    let setup = Setup::bare().set("upstreams.openai", "api_key_env = \"SPILLWAY_TEST_UNSET\"");
    for command in [&["env"][..], &["config", "show"], &["policy", "ls"]] {
        let ended = setup.run_to_end(command);
        assert!(!ended.stderr.contains("SPILLWAY_TEST_UNSET") && !ended.stderr.contains("api_key_env"), "{ended:?}");
    }
    assert_eq!(setup.run_to_end(&["env"]).code, Some(0));
}

#[test]
fn a_key_comes_from_the_environment_as_well() {
    let provider = Provider::start();
    let setup = with_access_key(Setup::with(&provider)).environment("SPILLWAY_TEST_KEY", OPENAI);
    let spillway = setup.set("upstreams.openai", "api_key_env = \"SPILLWAY_TEST_KEY\"\nauth = \"query\"").start();
    assert_eq!(spillway.send(&showing_it(&chat(), "api-key", ACCESS)).status(), 200);
    let seen = seen(&provider);
    assert_eq!((seen.query.as_deref(), seen.header("authorization")), (Some(&*format!("key={OPENAI}")), None));
}

#[test]
fn a_kept_request_is_served_later_with_the_key_that_its_caller_might_spend() {
    let provider = Provider::start();
    let setup = keyed(&provider).set("upstreams.openai.retry", "max_attempts = 1");
    let breaker = "consecutive_failures = 1\ncooldown = \"50ms\"\ncooldown_max = \"50ms\"";
    let spillway = setup.set("upstreams.openai.breaker", breaker).start();
    provider.always(fail(Failure::ServerError));
    let kept = |model: &str, name: &str, value: &str| {
        let request = showing_it(&chat_of(model), name, value).header("prefer", "respond-async");
        let answer = spillway.send(&request);
        assert_eq!(answer.status(), 202, "{}", answer.text());
        answer.header("location").unwrap().to_owned()
    };
    let jobs = [
        kept("may", "x-spillway-access-key", ACCESS),
        // Whoever only says so may not.
        kept("may-not", "x-spillway-may-spend", "yes"),
    ];
    provider.heal();
    for job in jobs {
        assert_eq!(spillway.wait_for_job(&job)["status"], "done");
    }
    let ours = format!("Bearer {OPENAI}");
    for request in provider.requests() {
        let sent = if request.model() == Some("may") { Some(&*ours) } else { None };
        assert_eq!(request.header("authorization"), sent, "{request:?}");
        assert!(!holds(&request, "may-spend"), "{request:?}");
    }
}

fn exchange(path: &Path, request: &Request) -> spillway_tests::http::Response {
    Connection::open_unix(path).unwrap().exchange(request).unwrap()
}

/// Without any credential, and with a `Host` that is not let in through the port.
fn plain_chat() -> Request {
    showing_it(&chat(), "host", "whoever.example")
}

#[test]
fn whoever_reaches_the_unix_socket_may_spend_and_nobody_else_reaches_it() {
    let provider = Provider::start();
    let mut spillway = keyed(&provider).set("server", "unix_socket = \"spillway.sock\"").start();
    let path = spillway.folder().join("spillway.sock");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let answer = exchange(&path, &plain_chat());
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(seen(&provider).header("authorization"), Some(&*format!("Bearer {OPENAI}")));
    assert_eq!(spillway.send(&plain_chat()).status(), 403, "through the port its name is nobody's");

    let mut connection = Connection::open_unix(&path).unwrap();
    connection.send(&showing_it(&chat_stream(), "host", "localhost")).unwrap();
    // Whoever sends no more may still wait for its answer.
    connection.finish_sending().unwrap();
    assert_eq!(connection.head().unwrap().status, 200);
    let (events, end) = connection.events();
    assert!(end.is_ok() && events.last().is_some_and(|event| event.contains("[DONE]")), "{events:?}");

    let page = exchange(&path, &plain_chat().header("origin", "https://evil.example"));
    assert_eq!(page.status(), 403, "a page that somebody passes on is a page");

    spillway.terminate();
    spillway.wait_for_exit();
    assert!(!path.exists(), "it goes with whoever made it");
}

#[test]
fn a_caller_that_leaves_through_the_unix_socket_ends_its_call() {
    let provider = Provider::start();
    let spillway = keyed(&provider).set("server", "unix_socket = \"spillway.sock\"").start();
    provider.next(spillway_tests::provider::stall());
    let mut connection = Connection::open_unix(&spillway.folder().join("spillway.sock")).unwrap();
    connection.send(&plain_chat()).unwrap();
    provider.wait_for_requests(1);
    drop(connection);
    provider.wait_for_disconnect();
}

#[test]
fn the_socket_of_a_dead_process_is_replaced_and_that_of_a_living_one_is_not() {
    let provider = Provider::start();
    let mut spillway = keyed(&provider).set("server", "unix_socket = \"spillway.sock\"").start();
    let path = spillway.folder().join("spillway.sock");
    let another = Setup::with(&provider).set("server", &format!("unix_socket = \"{}\"", path.display()));
    let ended = another.run_to_end(&["run"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("server.unix_socket") && ended.stderr.contains("another Spillway"),
        "{}",
        ended.stderr
    );
    assert_eq!(exchange(&path, &plain_chat()).status(), 200, "the first one still serves");
    spillway.kill();
    assert!(path.exists(), "nobody was left to remove it");
    spillway.restart();
    assert_eq!(exchange(&path, &plain_chat()).status(), 200);
}
