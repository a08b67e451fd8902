//! The mock's sharp edges, seen through a raw socket: what it puts on the wire, and how the wire ends.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::time::Duration;

use serde_json::{Value, json};

use super::*;

mod scripted;

const CHAT: &str = "/v1/chat/completions";
const GEMINI_STREAM: &str = "/v1beta/models/gemini-x:streamGenerateContent";

/// A client that sees every byte and how the connection ended.
struct Client {
    stream: TcpStream,
    received: String,
}

impl Client {
    fn connect(provider: &Provider) -> Self {
        let stream = TcpStream::connect(provider.address()).unwrap();
        // Only a failing test reaches this.
        stream.set_read_timeout(Some(WAIT_DEADLINE)).unwrap();
        Self { stream, received: String::new() }
    }

    fn post(provider: &Provider, path: &str, body: Value) -> Self {
        let mut client = Self::connect(provider);
        client.send(path, &body);
        client
    }

    fn send(&mut self, path: &str, body: &Value) {
        self.send_with("", path, body);
    }

    fn send_with(&mut self, header: &str, path: &str, body: &Value) {
        let body = body.to_string();
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: mock\r\n{header}content-length: {length}\r\n\r\n");
        self.stream.write_all((head + &body).as_bytes()).unwrap();
    }

    fn read_some(&mut self) -> std::io::Result<usize> {
        let mut buffer = vec![0; 1 << 16];
        let count = self.stream.read(&mut buffer)?;
        self.received.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        Ok(count)
    }

    fn read_until(&mut self, ending: &str) -> &str {
        while !self.received.ends_with(ending) {
            assert_ne!(self.read_some().unwrap(), 0, "closed after {:?}", self.received);
        }
        &self.received
    }

    /// Reads to the end of the connection, and says how it ended.
    fn read_to_end(mut self) -> (String, std::io::Result<()>) {
        loop {
            match self.read_some() {
                Ok(0) => return (self.received, Ok(())),
                Ok(_) => {}
                Err(error) => return (self.received, Err(error)),
            }
        }
    }

    /// Nothing arrives within a moment. A slow machine can only make this miss a mistake, never report one.
    fn nothing_arrives(&mut self) -> bool {
        self.stream.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
        // Windows and the others call it by different names.
        let waited = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
        let nothing = matches!(self.read_some(), Err(error) if waited.contains(&error.kind()));
        self.stream.set_read_timeout(Some(WAIT_DEADLINE)).unwrap();
        nothing
    }
}

/// Status and body of a whole answer, streamed or not.
fn ask(provider: &Provider, path: &str, body: Value) -> (u16, String) {
    let mut client = Client::connect(provider);
    client.send_with("connection: close\r\n", path, &body);
    let (received, ending) = client.read_to_end();
    ending.unwrap();
    let status = received[9..12].parse().unwrap();
    let (head, body) = received.split_once("\r\n\r\n").unwrap();
    if head.contains("transfer-encoding: chunked") {
        return (status, unchunked(body));
    }
    assert!(head.contains(&format!("content-length: {}", body.len())), "{received}");
    (status, body.to_owned())
}

fn unchunked(mut rest: &str) -> String {
    assert!(rest.ends_with("0\r\n\r\n"), "no final chunk: {rest}");
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    body
}

fn ask_json(provider: &Provider, path: &str, body: Value) -> (u16, Value) {
    let (status, body) = ask(provider, path, body);
    (status, serde_json::from_str(&body).unwrap())
}

/// The (name, data) pairs of a stream, which must consist of nothing else.
fn sse(stream: &str) -> Vec<(Option<&str>, &str)> {
    let events = stream.strip_suffix("\n\n").unwrap().split("\n\n").map(|event| match event.split_once('\n') {
        Some((name, data)) => (name.strip_prefix("event: "), data.strip_prefix("data: ").unwrap()),
        None => (None, event.strip_prefix("data: ").unwrap()),
    });
    events.collect()
}

#[test]
fn a_chat_stream_ends_with_done_and_reports_usage_only_if_asked() {
    let provider = Provider::start();
    provider.always(healthy().saying("one two").usage(7, 2));

    let (_, plain) = ask(&provider, CHAT, json!({"model": "m", "stream": true}));
    let events = sse(&plain);
    assert_eq!(events.last(), Some(&(None, "[DONE]")));
    assert!(!plain.contains("usage") && plain.contains(r#""content":"two""#));

    let options = json!({"include_usage": true});
    let (_, counted) = ask(&provider, CHAT, json!({"model": "m", "stream": true, "stream_options": options}));
    let events = sse(&counted);
    let usage: Value = serde_json::from_str(events[events.len() - 2].1).unwrap();
    assert_eq!((&usage["choices"], &usage["usage"]["total_tokens"]), (&json!([]), &json!(9)));
    assert!(events[0].1.contains(r#""usage":null"#));
}

#[test]
fn responses_and_messages_streams_name_and_order_their_events() {
    let provider = Provider::start();
    provider.always(healthy().saying("one two").usage(7, 2));
    for (path, first, pieces, last) in [
        ("/v1/messages", "message_start", "content_block_delta", "message_stop"),
        ("/v1/responses", "response.created", "response.output_text.delta", "response.completed"),
    ] {
        let (_, stream) = ask(&provider, path, json!({"model": "m", "stream": true}));
        let events = sse(&stream);
        let names: Vec<&str> = events.iter().map(|(name, _)| name.unwrap()).collect();
        assert_eq!((names[0], names[names.len() - 1]), (first, last));
        assert_eq!(names.iter().filter(|name| **name == pieces).count(), 2);
        for (position, (name, data)) in events.iter().enumerate() {
            let data: Value = serde_json::from_str(data).unwrap();
            assert_eq!(data["type"].as_str(), *name);
            assert!(path == "/v1/messages" || data["sequence_number"] == position);
        }
    }
}

#[test]
fn gemini_streams_as_events_or_as_one_array() {
    let provider = Provider::start();
    let (_, events) = ask(&provider, &format!("{GEMINI_STREAM}?alt=sse"), json!({}));
    let last: Value = serde_json::from_str(sse(&events).last().unwrap().1).unwrap();
    assert_eq!((&last["candidates"][0]["finishReason"], &last["modelVersion"]), (&json!("STOP"), &json!("gemini-x")));

    let (_, array) = ask_json(&provider, GEMINI_STREAM, json!({}));
    assert_eq!(array.as_array().unwrap().len(), sse(&events).len());
}

#[test]
fn embeddings_come_one_per_input_and_in_the_encoding_asked_for() {
    let provider = Provider::start();
    let request = json!({"input": ["a", "b"], "dimensions": 2, "encoding_format": "base64"});
    let (_, answer) = ask_json(&provider, "/v1/embeddings", request);
    // Two little-endian floats of 0.25.
    assert_eq!(answer["data"][1]["embedding"], "AACAPgAAgD4=");
    let (_, answer) = ask_json(&provider, "/v1/embeddings", json!({"input": [1, 2, 3], "dimensions": 2}));
    assert_eq!((&answer["data"][0]["embedding"], &answer["data"][1]), (&json!([0.25, 0.25]), &Value::Null));
}

#[test]
fn unknown_paths_echo_what_arrived() {
    let provider = Provider::start();
    let (status, echo) = ask_json(&provider, "/v1/files?purpose=x", json!([1]));
    assert_eq!((status, &echo["path"], &echo["query"]), (200, &json!("/v1/files"), &json!("purpose=x")));
    assert_eq!((&echo["method"], &echo["body_length"]), (&json!("POST"), &json!(3)));
    assert_eq!(echo["headers"]["host"], "mock");
}

#[test]
fn rules_come_before_the_queue_and_the_queue_before_the_default() {
    let provider = Provider::start();
    provider.always(respond(503));
    provider.next(respond(429).header("retry-after", "2").json(json!({"slow": "down"})));
    provider.when(model("special"), respond(418));
    provider.when(body(|body| body["user"] == "ann").and(path_contains("chat")), respond(402));
    let status = |body: Value| ask(&provider, CHAT, body).0;

    assert_eq!(status(json!({"model": "special"})), 418);
    assert_eq!(status(json!({"model": "special", "user": "ann"})), 402);
    let mut queued = Client::post(&provider, CHAT, json!({}));
    let queued = queued.read_until(r#"{"slow":"down"}"#);
    assert!(queued.starts_with("HTTP/1.1 429") && queued.contains("retry-after: 2\r\n"));
    assert_eq!(status(json!({})), 503);
    provider.heal();
    assert_eq!(status(json!({"model": "special"})), 200);

    let requests = provider.requests();
    assert_eq!(requests.iter().map(|request| request.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!((requests[0].model(), requests[2].header("HOST")), (Some("special"), Some("mock")));
}

#[test]
fn every_dialect_refuses_in_its_own_words() {
    let provider = Provider::start();
    let gemini = "/v1/models/g:generateContent";
    for (reply, path, status, pointer, words) in [
        (rate_limited(), CHAT, 429, "/error/code", "rate_limit_exceeded"),
        (rate_limited(), "/v1/messages", 429, "/error/type", "rate_limit_error"),
        (rate_limited().retry_after_s(7), gemini, 429, "/error/details/1/retryDelay", "7s"),
        (overloaded(), "/v1/responses", 503, "/error/code", "server_is_overloaded"),
        (overloaded(), "/v1/messages", 529, "/error/type", "overloaded_error"),
        (overloaded(), gemini, 503, "/error/status", "UNAVAILABLE"),
        (insufficient_quota(), CHAT, 429, "/error/type", "insufficient_quota"),
        (fail(Failure::Unauthorized), "/v1/messages", 401, "/error/type", "authentication_error"),
        (error_in_200(), CHAT, 200, "/error/code", "server_is_overloaded"),
        (error_in_200(), "/v1/messages", 200, "/error/type", "overloaded_error"),
    ] {
        provider.next(reply);
        let (got, body) = ask_json(&provider, path, json!({}));
        assert_eq!((got, body.pointer(pointer)), (status, Some(&json!(words))), "{path}");
    }
}

#[test]
fn errors_within_a_stream_are_events_of_its_dialect_and_its_last() {
    let provider = Provider::start();
    for (path, name, words) in [
        (CHAT, None, "server_is_overloaded"),
        ("/v1/responses", Some("error"), "server_is_overloaded"),
        ("/v1/messages", Some("error"), "overloaded_error"),
        (&format!("{GEMINI_STREAM}?alt=sse"), None, "UNAVAILABLE"),
    ] {
        provider.next(error_in_200());
        provider.next(healthy().after_events(2).error_event());
        for before in [0, 2] {
            let (status, stream) = ask(&provider, path, json!({"stream": true}));
            let events = sse(&stream);
            assert_eq!((status, events.len()), (200, before + 1), "{stream}");
            assert!(events[before].0 == name && events[before].1.contains(words), "{stream}");
        }
    }
}

#[test]
fn a_cut_stream_has_all_that_was_sent_before_it_and_no_final_chunk() {
    let provider = Provider::start();
    // More than hyper and the kernel buffer, so that what is not flushed before the cut would be missed.
    let much = "x".repeat(16 << 20);
    provider.next(stream().event(json!(much)).event(json!("last")).cut());
    let (received, ending) = Client::post(&provider, CHAT, json!({"stream": true})).read_to_end();
    assert!(ending.is_ok(), "a cut is an orderly close: {ending:?}");
    assert!(received.len() > much.len() && received.ends_with("data: \"last\"\n\n\r\n"));
    provider.wait_until(|stats| stats.broken == 1 && stats.in_flight() == 0 && stats.open_connections == 0);
}

#[test]
fn a_cut_json_body_is_shorter_than_announced() {
    let provider = Provider::start();
    provider.next(respond(200).body("0123456789").cut());
    let (received, ending) = Client::post(&provider, CHAT, json!({})).read_to_end();
    assert!(ending.is_ok() && received.contains("content-length: 10\r\n"));
    assert!(received.ends_with("\r\n\r\n01234"), "{received}");
}

#[test]
fn a_reset_is_a_reset_before_the_head_and_within_a_stream() {
    let provider = Provider::start();
    provider.next(reset());
    provider.next(healthy().after_events(1).reset());
    for expected in ["", "\n\n\r\n"] {
        let (received, ending) = Client::post(&provider, CHAT, json!({"stream": true})).read_to_end();
        assert_eq!(ending.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(received.ends_with(expected) && received.is_empty() == expected.is_empty(), "{received}");
    }
    provider.next(close_before_head());
    let (received, ending) = Client::post(&provider, CHAT, json!({})).read_to_end();
    assert!(received.is_empty() && ending.is_ok());
    assert_eq!(provider.stats().broken, 3);
}

#[test]
fn gates_hold_the_head_and_the_events_behind_them() {
    let provider = Provider::start();
    let (head, middle) = (provider.gate(), provider.gate());
    provider.next(stream().hold_head(&head).event(json!(1)).wait_for(&middle).event(json!(2)).done());
    let mut client = Client::post(&provider, CHAT, json!({"stream": true}));
    provider.wait_for_requests(1);
    assert!(client.nothing_arrives());
    head.open();
    client.read_until("data: 1\n\n\r\n");
    assert!(client.nothing_arrives());
    assert_eq!((provider.stats().in_flight(), provider.stats().completed), (1, 0));
    middle.open();
    client.read_until("data: [DONE]\n\n\r\n0\r\n\r\n");
    assert_eq!((provider.stats().in_flight(), provider.stats().completed), (0, 1));

    provider.next(respond(200));
    client.send(CHAT, &json!({}));
    client.received.clear();
    client.read_until("\r\n\r\n");
    assert!(client.received.contains("content-length: 0\r\n"));
    assert_eq!(provider.requests()[1].connection, 1, "the connection is reused");
}

#[test]
fn a_client_that_leaves_during_an_answer_is_noticed() {
    let provider = Provider::start();
    provider.next(stall());
    let client = Client::post(&provider, CHAT, json!({}));
    provider.wait_for_requests(1);
    drop(client);
    provider.wait_for_disconnect();

    provider.next(healthy().after_events(1).stall());
    let mut client = Client::post(&provider, CHAT, json!({"stream": true}));
    client.read_until("\n\n\r\n");
    drop(client);
    provider.wait_until(|stats| stats.aborted == 2 && stats.in_flight() == 0 && stats.completed == 0);
}

#[test]
fn a_stopped_provider_refuses_and_starts_again_on_its_port() {
    let provider = Provider::start();
    provider.next(stall());
    let client = Client::post(&provider, CHAT, json!({}));
    provider.wait_for_requests(1);
    for _ in 0..3 {
        provider.stop();
        assert_eq!(TcpStream::connect(provider.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        provider.start_again();
        assert_eq!(ask(&provider, CHAT, json!({})).0, 200);
    }
    assert_eq!(client.read_to_end().0, "");
    let stats = provider.stats();
    assert_eq!((stats.aborted, stats.broken, stats.completed), (0, 1, 3));
}

#[tokio::test]
async fn waits_work_within_a_runtime() {
    let provider = Provider::start();
    let client = Client::post(&provider, CHAT, json!({}));
    provider.wait_until_async(|stats| stats.completed == 1).await;
    drop(client);
    provider.wait_until_async(|stats| stats.open_connections == 0).await;
}

#[test]
fn a_wait_in_vain_says_what_was_seen() {
    let provider = Provider::start();
    ask(&provider, CHAT, json!({}));
    let wait = || provider.shared.observer.wait("rain", Location::caller(), Duration::ZERO, |_| false);
    let panic = catch_unwind(AssertUnwindSafe(wait)).unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.contains("in vain for rain") && message.contains("#1 POST /v1/chat/completions"), "{message}");
}

#[test]
fn it_is_told_over_http_what_to_do_and_does_not_count_that() {
    let provider = Provider::start();
    let answer = |path: &str, ending: &str| Client::post(&provider, path, json!({})).read_until(ending).to_owned();
    assert!(answer("/_control/rate-limit?retry_after_s=7", "}").starts_with("HTTP/1.1 200"));
    assert!(answer(CHAT, "}}").contains("retry-after: 7"));
    assert!(answer("/_control/heal", "}").starts_with("HTTP/1.1 200"));
    assert!(answer(CHAT, "}").starts_with("HTTP/1.1 200"));
    assert!(answer("/_control/fail?status=500&times=1", "}").starts_with("HTTP/1.1 200"));
    assert!(answer(CHAT, "}}").starts_with("HTTP/1.1 500"));
    assert!(answer(CHAT, "}").starts_with("HTTP/1.1 200"));
    assert!(answer("/_control/dance", "}").starts_with("HTTP/1.1 404"));
    assert_eq!(provider.stats().started, 4);
}

#[test]
fn it_is_told_of_no_more_answers_than_it_keeps() {
    let provider = Provider::start();
    for (times, status) in
        [("0", 200), ("10000", 200), ("10001", 400), ("3000000", 400), ("99999999999999999999", 400), ("-1", 400)]
    {
        let (told, answer) = ask_json(&provider, &format!("/_control/fail?status=500&times={times}"), json!({}));
        assert_eq!(told, status, "{times}: {answer}");
        assert!(status == 200 || answer["error"].as_str().unwrap().contains("at most 10000"), "{times}: {answer}");
    }
    // What was refused has changed nothing.
    assert_eq!(ask(&provider, CHAT, json!({})).0, 500);
}

#[test]
fn web_pages_are_not_heard() {
    let provider = Provider::start();
    for (headers, status) in [
        ("origin: https://example.com\r\n", 403),
        ("Origin: null\r\n", 403),
        ("sec-fetch-site: cross-site\r\n", 403),
        // A page of another port of this machine.
        ("sec-fetch-site: same-site\r\n", 403),
        ("sec-fetch-site: none\r\n", 200),
        ("", 200),
    ] {
        for request in ["GET /_control/stats", "POST /_control/heal"] {
            let mut client = Client::connect(&provider);
            let head = format!("{request} HTTP/1.1\r\nhost: mock\r\n{headers}connection: close\r\n");
            client.stream.write_all((head + "content-length: 0\r\n\r\n").as_bytes()).unwrap();
            let (received, _) = client.read_to_end();
            assert!(received.starts_with(&format!("HTTP/1.1 {status}")), "{request} {headers}: {received}");
            assert_eq!(received.contains("web pages"), status == 403, "{received}");
        }
    }
    provider.always(respond(503));
    let mut page = Client::connect(&provider);
    page.send_with("origin: https://example.com\r\nconnection: close\r\n", "/_control/heal", &json!({}));
    assert!(page.read_to_end().0.starts_with("HTTP/1.1 403"));
    assert_eq!(ask(&provider, CHAT, json!({})).0, 503, "it is as it was told before");
}

#[test]
fn some_requests_only_are_in_trouble() {
    let provider = Provider::start();
    let refused = |provider: &Provider, count: u32| {
        (0..count).filter(|_| ask(provider, CHAT, json!({"model": "m"})).0 == 429).count()
    };
    provider.when(by_chance(0.3, 1), rate_limited());
    let by_chance = refused(&provider, 200);
    assert!((40..=80).contains(&by_chance), "{by_chance} of 200 at 30 %");

    provider.heal();
    provider.when(every_other(), rate_limited());
    assert_eq!(refused(&provider, 10), 5);

    // So slowly refilled that the time which this takes does not matter.
    provider.heal();
    let (beyond, count) = faster_than(0.001, 3.0).counted();
    provider.when(model("m").and(beyond), rate_limited());
    assert_eq!((refused(&provider, 10), count.get()), (7, 7));

    // The more it is asked, the less it serves.
    provider.heal();
    provider.when(more_than_it_bears(10.0, 1), rate_limited());
    assert_eq!(refused(&provider, 10), 0);
    assert!(refused(&provider, 20) >= 4);

    provider.heal();
    let now = std::time::Instant::now();
    provider.when(between(now, now + Duration::from_secs(60)), rate_limited());
    assert_eq!(refused(&provider, 1), 1);
    provider.when(between(now - Duration::from_secs(2), now), respond(200));
    assert_eq!(refused(&provider, 1), 1);
}
