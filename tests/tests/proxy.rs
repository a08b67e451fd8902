//! Spillway as a proxy: what passes through, what is refused at the door, and in which words.

use serde_json::json;
use spillway_tests::asks::{APIS, KEY, chat, generate, message};
use spillway_tests::http::{delete, get, post};
use spillway_tests::provider::{Failure, Provider, fail, respond};
use spillway_tests::spillway::Setup;
use std::io::ErrorKind;

#[test]
fn each_api_reaches_its_provider_with_the_callers_own_credential() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    for (request, path, header) in [
        (chat(), "/v1/chat/completions", "authorization"),
        (message(), "/v1/messages", "x-api-key"),
        (generate(), "/v1beta/models/mock-gemini:generateContent", "x-goog-api-key"),
        (chat().path("/openai/v1/responses"), "/v1/responses", "authorization"),
        (chat().path("/v1/embeddings"), "/v1/embeddings", "authorization"),
    ] {
        let answer = spillway.send(&request);
        let seen = provider.requests().pop().expect("a request");
        assert_eq!((answer.status(), &*seen.path), (200, path));
        assert!(seen.header(header).is_some_and(|value| value.ends_with(KEY)), "{path}: {seen:?}");
        assert_eq!(seen.header("host"), Some(&*provider.address().to_string()));
        assert_eq!(seen.json()["model"], serde_json::from_slice::<serde_json::Value>(&seen.body).unwrap()["model"]);
    }
}

#[test]
fn what_the_provider_answers_reaches_the_caller_unchanged() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let body = json!({"id": "x", "choices": [{"index": 0}], "unknown": {"kept": [1, 2.50, "é"]}}).to_string();
    provider.next(respond(200).header("content-type", "application/json").header("x-odd", "1").body(body.clone()));
    let answer = spillway.send(&chat());
    assert_eq!((answer.text(), answer.header("x-odd")), (body, Some("1")));

    provider.next(fail(Failure::ContextLengthExceeded));
    let answer = spillway.send(&chat());
    assert_eq!((answer.status(), &*answer.at("/error/code")), (400, "context_length_exceeded"));
    provider.next(fail(Failure::Unauthorized));
    assert_eq!(spillway.send(&message()).status(), 401);
    assert_eq!(provider.stats().started, 3, "what is the caller's own affair is not retried");
}

#[test]
fn a_base_url_may_name_the_upstream_with_or_without_v1() {
    let provider = Provider::start();
    let url = format!("url = \"{}/base/v1\"", provider.url());
    let spillway = Setup::with(&provider).set("upstreams.local", &url).start();
    for (path, expected) in [
        ("/openai/v1/chat/completions", "/v1/chat/completions"),
        ("/openai/chat/completions", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/anthropic/v1/messages", "/v1/messages"),
        ("/anthropic/v1/v1/messages", "/v1/messages"),
        ("/gemini/v1beta/models/m:generateContent", "/v1beta/models/m:generateContent"),
        ("/local/v1/chat/completions", "/base/v1/chat/completions"),
    ] {
        let answer = spillway.send(&chat().path(path));
        let seen = provider.requests().pop().expect("a request").path.clone();
        assert_eq!((answer.status(), &*seen), (200, expected), "{path}");
    }
}

#[test]
fn every_path_that_generates_is_protected_whoever_serves_it() {
    let provider = Provider::start();
    let setup = [("azure", ""), ("openrouter", "/api/v1"), ("github", "/inference"), ("groq", "/openai/v1")];
    let setup = setup.into_iter().fold(Setup::with(&provider), |setup, (name, path)| {
        setup.set(&format!("upstreams.{name}"), &format!("url = \"{}{path}\"", provider.url()))
    });
    let spillway = setup.start();
    for (path, expected) in [
        ("/v1beta/openai/chat/completions", "/v1beta/openai/chat/completions"),
        ("/gemini/v1beta/openai/embeddings", "/v1beta/openai/embeddings"),
        ("/anthropic/v1/chat/completions", "/v1/chat/completions"),
        ("//v1/chat/completions", "/v1/chat/completions"),
        ("/v1beta/models/g%3AgenerateContent", "/v1beta/models/g%3AgenerateContent"),
        ("/gemini/v1beta/models/g:predict", "/v1beta/models/g:predict"),
        ("/openai/deployments/d/chat/completions", "/openai/deployments/d/chat/completions"),
        ("/azure/openai/deployments/d/embeddings", "/openai/deployments/d/embeddings"),
        ("/azure/openai/v1/responses", "/openai/v1/responses"),
        ("/openrouter/chat/completions", "/api/v1/chat/completions"),
        ("/openrouter/v1/messages", "/api/v1/messages"),
        ("/github/chat/completions", "/inference/chat/completions"),
        ("/groq/responses", "/openai/v1/responses"),
        ("/openai/api/chat", "/api/chat"),
    ] {
        provider.next(respond(500));
        // An answer in the words of each API.
        provider.next(respond(200).json(json!({"choices": [{}], "content": [{}], "candidates": [{}]})));
        let answer = spillway.send(&chat().path(path));
        assert_eq!(
            (answer.status(), answer.header("x-spillway-attempts")),
            (200, Some("2")),
            "{path}: {}",
            answer.text()
        );
        assert_eq!(provider.requests().pop().expect("a request").path, expected, "{path}");
    }
    let by_header = chat().header("anthropic-version", "2023-06-01");
    provider.next(respond(500));
    let answer = spillway.send(&by_header);
    assert_eq!(
        (answer.header("x-spillway-attempts"), answer.header("x-spillway-upstream")),
        (Some("2"), Some("anthropic"))
    );
}

#[test]
fn an_upstreams_name_alone_is_its_root() {
    let provider = Provider::start();
    let base = format!("url = \"{}/base\"", provider.url());
    let spillway = Setup::with(&provider).set("upstreams.local", &base).start();
    for (path, expected) in [("/anthropic", "/"), ("/anthropic/", "/"), ("/local", "/base/")] {
        assert_eq!(spillway.send(&get(path)).status(), 200, "{path}");
        assert_eq!(provider.requests().pop().expect("a request").path, expected, "{path}");
    }
}

#[test]
fn paths_that_spillway_does_not_know_pass_through_as_they_are() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let request = delete("/v1/files/file-1?purpose=a%20b&x=1").header("x-custom", "kept");
    let echo = spillway.send(&request).json();
    assert_eq!(echo["method"], "DELETE");
    assert_eq!((&echo["path"], &echo["query"]), (&json!("/v1/files/file-1"), &json!("purpose=a%20b&x=1")));
    assert_eq!(echo["headers"]["x-custom"], "kept");

    let upload = post("/v1/files", &json!({"purpose": "batch"})).body(vec![7; 3 << 20]);
    assert_eq!(spillway.send(&upload).json()["body_length"], 3 << 20);
    let models = spillway.send(&get("/v1/models"));
    assert_eq!((models.status(), &*models.at("/object")), (200, "list"));
}

#[test]
fn headers_of_one_connection_are_dropped_in_both_directions_and_via_is_added() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let request = post("/v1/unknown", &json!({}))
        .header("connection", "keep-alive, x-private")
        .header("x-private", "secret")
        .header("te", "trailers")
        .header("proxy-authorization", "Basic secret")
        .header("expect", "nothing")
        .header("x-public", "kept");
    let echo = spillway.send(&request).json();
    let seen = echo["headers"].as_object().expect("headers");
    for dropped in ["x-private", "te", "proxy-authorization", "expect"] {
        assert!(!seen.contains_key(dropped), "{dropped} was forwarded: {echo}");
    }
    assert_eq!(seen["x-public"], "kept");
    assert!(seen["via"].as_str().is_some_and(|via| via.starts_with("1.1 spillway")), "{echo}");

    provider.next(
        respond(200)
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("x-end", "1")
            .json(json!({"choices": [{}]})),
    );
    let answer = spillway.send(&chat());
    assert_eq!((answer.header("x-hop"), answer.header("x-end")), (None, Some("1")));
}

#[test]
fn every_answer_says_under_which_id_the_log_has_it() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let given = spillway.send(&chat().header("x-request-id", "trace-7"));
    assert_eq!(given.header("x-spillway-request-id"), Some("trace-7"));
    let line = spillway.log().wait_for(&["trace-7", "\"message\":\"request\""]);
    assert_eq!((&line["outcome"], &line["upstream"]), (&json!("answered"), &json!("openai")));

    let made = spillway.send(&chat().header("x-request-id", "has spaces in it"));
    let id = made.header("x-spillway-request-id").expect("an id");
    assert!(id.starts_with("req_"), "{id}");
    spillway.log().wait_for(&[id, "\"message\":\"request\""]);

    let refused = spillway.send(&get("/nowhere"));
    let id = refused.header("x-spillway-request-id").expect("an id");
    spillway.log().wait_for(&[id, "refused"]);
}

#[test]
fn an_unreachable_upstream_is_a_502_in_each_apis_own_words() {
    let provider = Provider::start();
    let setup = APIS.iter().fold(Setup::with(&provider), |setup, api| {
        setup.set(&format!("upstreams.{}.retry", api.name), "max_attempts = 1")
    });
    let spillway = setup.start();
    provider.stop();
    for api in APIS {
        let answer = spillway.send(&(api.whole)());
        assert_eq!((answer.status(), &*answer.at(api.code)), (502, "spillway_upstream_unreachable"), "{}", api.name);
        let text = answer.text();
        assert!(text.contains(api.name) && text.contains("connection refused"), "{text}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    let anthropic = spillway.send(&message());
    assert_eq!((&*anthropic.at("/type"), &*anthropic.at("/error/type")), ("error", "api_error"));
    assert!(anthropic.header("request-id").is_some());
    let gemini = spillway.send(&generate()).json();
    assert_eq!((&gemini["error"]["code"], &gemini["error"]["status"]), (&json!(502), &json!("UNAVAILABLE")));
}

#[test]
fn an_oversized_body_is_a_413_whether_or_not_its_length_is_announced() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("server", "max_body = \"2KiB\"").start();
    let big = vec![b'x'; 3 << 10];
    for api in APIS {
        let answer = spillway.send(&(api.whole)().body(big.clone()));
        assert_eq!((answer.status(), &*answer.at(api.code)), (413, "spillway_body_too_large"), "{}", api.name);
    }
    // Refused by its head alone: nothing of the body is sent.
    let mut announced = spillway.connect();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3000000000\r\n\r\n";
    announced.send_raw(head.as_bytes()).expect("sent");
    assert_eq!(announced.response().expect("an answer").status(), 413);

    let mut chunked = spillway.connect();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    chunked.send_raw(head.as_bytes()).expect("sent");
    let chunk = [b"400\r\n", &[b'x'; 1 << 10][..], b"\r\n"].concat();
    for _ in 0..3 {
        chunked.send_raw(&chunk).expect("sent");
    }
    let answer = chunked.response().expect("an answer");
    assert_eq!((answer.status(), &*answer.at("/error/code")), (413, "spillway_body_too_large"));
    assert_eq!(provider.stats().started, 0);
    assert_eq!(spillway.send(&chat()).status(), 200);
}

#[test]
fn a_web_page_cannot_spend_the_users_key() {
    let provider = Provider::start();
    let allowed = "allowed_hosts = [\"llm.internal\"]\nallowed_origins = [\"https://app.internal\"]";
    let spillway = Setup::with(&provider).set("server", allowed).start();
    for (name, value) in [
        ("host", "evil.example"),
        ("host", "127.0.0.1.evil.example:4141"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        let answer = spillway.send(&chat().header(name, value));
        assert_eq!((answer.status(), &*answer.at("/error/code")), (403, "spillway_forbidden"), "{name}: {value}");
        assert_eq!(spillway.admin(&get("/status").header(name, value)).status(), 403, "{name}: {value}");
    }
    assert_eq!(provider.stats().started, 0);
    for (name, value) in [("host", "localhost:1"), ("host", "llm.internal"), ("origin", "https://app.internal")] {
        assert_eq!(spillway.send(&chat().header(name, value)).status(), 200, "{name}: {value}");
    }
}

#[test]
fn requests_whose_framing_is_in_doubt_are_refused() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n";
    for rest in [
        "content-length: 4\r\ncontent-length: 5\r\n\r\n{}  x",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "host: other\r\ncontent-length: 2\r\n\r\n{}",
    ] {
        let mut connection = spillway.connect();
        connection.send_raw(format!("{head}{rest}").as_bytes()).expect("sent");
        match connection.head() {
            Ok(head) => assert_eq!(head.status, 400, "{rest:?}"),
            // Closing without a word is a refusal as well.
            Err(error) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{rest:?}"),
        }
    }
    let mut connection = spillway.connect();
    connection.send_raw(b"GET /v1/models HTTP/1.1\r\n\r\n").expect("sent");
    assert_eq!(connection.head().expect("an answer").status, 400, "no Host at all");
    assert_eq!(provider.stats().started, 0);
}

#[test]
fn a_body_with_two_lengths_goes_upstream_with_one_and_smuggles_nothing() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let both = ["content-length: 4\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 4"];
    for (number, lengths) in (1..).zip(both) {
        // By its Content-Length the body would end in the middle of the chunk, and a request of its own would follow.
        let hidden = "{\"a\":1}GET /v1/hidden HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let body = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
        let mut connection = spillway.connect();
        let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n{lengths}\r\n\r\n");
        connection.send_raw(format!("{head}{body}").as_bytes()).expect("sent");
        assert_eq!(connection.response().expect("an answer").status(), 200);
        let seen = provider.requests().pop().expect("a request");
        assert_eq!((&*seen.body, provider.stats().started), (hidden.as_bytes(), number), "{lengths:?}");
        assert_eq!(seen.header("content-length"), Some(&*hidden.len().to_string()));
        assert_eq!(seen.header("transfer-encoding"), None);
    }
}

#[test]
fn a_request_that_comes_back_to_the_same_spillway_is_refused() {
    let provider = Provider::start();
    let mut spillway = Setup::with(&provider).start();
    let url = format!("url = \"http://{}\"", spillway.address());
    spillway.restart_with("upstreams.round", &url);
    let answer = spillway.send(&chat().path("/round/v1/chat/completions"));
    assert_eq!((answer.status(), &*answer.at("/error/code")), (400, "spillway_bad_request"));
    assert!(answer.text().contains("points back here"), "{}", answer.text());
    assert_eq!(provider.stats().started, 0);

    // A chain of two is no loop.
    let second = Setup::bare().set("upstreams.openai", &url).start();
    assert_eq!((second.send(&chat()).status(), provider.stats().started), (200, 1));
}

#[test]
fn a_path_of_nobodys_is_a_404_that_says_what_there_is() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    for path in ["/", "/favicon.ico", "/nobody/v1/chat/completions", "/spillway", "/spillway/jobs"] {
        let answer = spillway.send(&chat().path(path));
        assert_eq!((answer.status(), &*answer.at("/error/code")), (404, "spillway_no_such_route"), "{path}");
    }
    assert!(spillway.send(&get("/favicon.ico")).text().contains("/openai/v1/models"));
    assert_eq!(provider.stats().started, 0);
}

#[test]
fn a_caller_keeps_its_connection_through_answers_and_refusals() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let mut connection = spillway.connect();
    for _ in 0..3 {
        for (request, status) in [(chat(), 200), (get("/nowhere"), 404), (message(), 200)] {
            assert_eq!(connection.exchange(&request).expect("an answer").status(), status);
        }
    }
    let connections = provider.stats().connections;
    assert!(connections <= 2, "one connection to each upstream is enough, not {connections}");
}
