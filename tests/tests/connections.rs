//! Callers that misbehave take nobody else along, and what they are answered reaches them.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::{Value, json};
use spillway_tests::asks::{APIS, chat, chat_by, chat_stream, chat_with, patient_chat};
use spillway_tests::http::{Connection, Request, Response, get, post, request};
use spillway_tests::provider::{Provider, Reply, healthy, rate_limited, respond, stall, stream};
use spillway_tests::spillway::{Setup, Spillway};
use spillway_tests::wait::eventually;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

/// Many times what the kernel buffers of an answer that nobody reads.
const HUGE_BYTES: usize = 48 << 20;

fn failures(spillway: &Spillway, upstream: &str) -> Value {
    spillway.upstream(upstream)["breakers"][0]["window"]["failures"].clone()
}

/// The head of a request of which another `bytes` bytes are to come.
fn head_of(request: &Request, bytes: usize) -> Request {
    request.clone().body("").header("content-length", &bytes.to_string())
}

/// Sends a byte now and then until the answer begins, or nobody takes it any more.
fn drip(connection: &mut Connection, every: Duration) -> Response {
    connection.read_timeout(every);
    loop {
        match connection.response() {
            Ok(answer) => return answer,
            Err(error) => assert!(connection.send_raw(b"x").is_ok(), "{error}"),
        }
    }
}

#[test]
fn a_body_that_never_comes_or_drips_ends_with_a_408_in_its_apis_words_and_is_nobodys_failure() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).set("server", "body_timeout = \"300ms\"");
    let spillway =
        APIS.iter().fold(setup, |setup, api| setup.set(&format!("upstreams.{}.retry", api.name), "max_attempts = 1"));
    let spillway = spillway.start();
    for api in APIS {
        // One that is held, and one that passes through.
        let upload = post(&format!("/{}/some/files", api.name), &json!({}));
        for request in [(api.whole)(), upload] {
            for drips in [false, true] {
                let mut connection = spillway.connect();
                connection.send(&head_of(&request, 10_000)).expect("sent");
                let began = Instant::now();
                let answer = if drips {
                    drip(&mut connection, Duration::from_millis(50))
                } else {
                    connection.response().expect("an answer")
                };
                assert_eq!((answer.status(), answer.refusal()), (408, Some("spillway_body_timeout")), "{answer:?}");
                assert!(answer.at("/error/message").contains("server.body_timeout"), "{}", answer.text());
                assert_eq!(answer.header("connection"), Some("close"), "what still comes is no request");
                assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
            }
        }
        assert_eq!(failures(&spillway, api.name), 0, "{}", api.name);
    }
    assert_eq!(provider.stats().started, 0);
    eventually("nothing is in flight", || (spillway.metric("spillway_in_flight") == 0.0).then_some(()));
}

#[test]
fn a_large_body_may_come_slowly_and_no_timeout_of_the_providers_runs_meanwhile() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider)
        .set("server", "body_timeout = \"400ms\"")
        .set("upstreams.openai", "first_content_timeout = \"500ms\"")
        .start();
    let held = chat_with(json!({"user": "x".repeat(160_000)}));
    let passing = post("/v1/files", &json!({"purpose": "x".repeat(160_000)}));
    for request in [held, passing] {
        let mut connection = spillway.connect();
        let bytes = connection.bytes_of(&request);
        let began = Instant::now();
        for piece in bytes.chunks(bytes.len() / 15) {
            connection.send_raw(piece).expect("sent");
            // Slow is what it is to be.
            thread::sleep(Duration::from_millis(80));
        }
        assert!(began.elapsed() > Duration::from_secs(1));
        assert_eq!(connection.response().expect("an answer").status(), 200, "{request:?}");
    }
    assert_eq!((failures(&spillway, "openai"), provider.stats().completed), (json!(0), 2));
}

/// An answer of which more is ready than anybody's buffers hold.
fn huge() -> Reply {
    let event = json!({"choices": [{"delta": {"content": "x".repeat(64 << 10)}, "finish_reason": null}]});
    let last = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]});
    let events = (0..HUGE_BYTES / (64 << 10)).fold(stream(), |reply, _| reply.event(event.clone()));
    events.event(last).done()
}

#[test]
fn a_caller_that_stops_reading_takes_nobody_along() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider)
        .set("server", "write_timeout = \"500ms\"")
        .set("upstreams.openai.concurrency", "max_in_flight = 1")
        .set("upstreams.openai.limits", "patience = \"10s\"")
        .start();
    provider.next(huge());
    let (head, mut answer) = spillway.open(&chat_stream());
    assert_eq!(head.status, 200);
    answer.event().expect("an event").expect("no end");
    // It reads no more. Somebody else waits for its place.
    let other = spillway.send(&chat_by("sk-test-2"));
    assert_eq!(other.status(), 200, "{}", other.text());
    provider.wait_for_disconnect();
    let line = spillway.log().wait_for(&["stopped reading", "\"outcome\":\"abandoned\""]);
    assert_eq!(line["upstream"], "openai");
    assert_eq!(failures(&spillway, "openai"), 0);
    eventually("nothing is in flight", || (spillway.metric("spillway_in_flight") == 0.0).then_some(()));
    let (events, end) = answer.events();
    assert!(end.is_err(), "after {} events of an answer that was cut", events.len());
}

#[test]
fn nor_does_one_that_reads_none_of_our_own_answers() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("server", "write_timeout = \"300ms\"").start();
    let gate = provider.gate();
    provider.next(healthy().hold_head(&gate));
    let kept = spillway.send(&patient_chat().header("prefer", "wait=0"));
    let location = kept.header("location").expect("a place").to_owned();
    gate.open();
    spillway.wait_for_job(&location);
    // Questions without end, and nobody reads the answers.
    let mut connection = spillway.connect();
    let question = connection.bytes_of(&get(&location)).repeat(1_000);
    connection.write_timeout(Duration::from_secs(20));
    let refused = (0..1_000).find_map(|_| connection.send_raw(&question).err());
    let refused = refused.expect("the connection ends");
    assert!(!matches!(refused.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{refused}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_caller_that_reads_slowly_gets_all_of_its_answer() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("server", "write_timeout = \"500ms\"").start();
    provider.next(huge());
    let (_, mut answer) = spillway.open(&chat_stream());
    let began = Instant::now();
    let mut read = 0;
    // Far less than what would make room in the kernel's buffers within the timeout.
    while began.elapsed() < Duration::from_secs(3) {
        read += answer.piece().expect("a piece").expect("no end").len();
        thread::sleep(Duration::from_millis(50));
    }
    read += answer.body().expect("all of the rest").len();
    assert!(read > HUGE_BYTES, "{read}");
}

/// Sends all of its body before it reads, as many clients do.
fn says_all_first(spillway: &Spillway, request: &Request) -> Response {
    let mut connection = spillway.connect();
    let bytes = connection.bytes_of(request);
    for piece in bytes.chunks(64 << 10) {
        connection.send_raw(piece).expect("taken");
    }
    connection.response().expect("an answer")
}

#[test]
fn an_answer_of_ours_reaches_a_caller_that_is_still_sending() {
    let provider = Provider::start();
    let breaker = "consecutive_failures = 1\ncooldown = \"60s\"\ncooldown_max = \"60s\"";
    let spillway = Setup::with(&provider)
        .set("server", "max_body = \"1MiB\"")
        .set("upstreams.gemini.breaker", breaker)
        .set("upstreams.gemini.retry", "max_attempts = 1")
        .start();
    provider.next(respond(500));
    assert_eq!(spillway.send(&(APIS[2].whole)()).status(), 500);
    let large = chat().body(vec![b' '; 16 << 20]);
    let in_chunks = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat().repeat(16);
    let chunked = chat().header("transfer-encoding", "chunked").body([&in_chunks, b"0\r\n\r\n".as_slice()].concat());
    let nowhere = post("/nowhere", &json!({})).body(vec![b' '; 300 << 10]);
    let evil = chat().header("origin", "https://evil.example").body(vec![b' '; 300 << 10]);
    let file = post("/gemini/some/files", &json!({})).body(vec![b' '; 8 << 20]);
    let with_head = get("/nowhere").header("x-large", &"x".repeat(8 << 20));
    for _ in 0..5 {
        for (request, status) in
            [(&large, 413), (&chunked, 413), (&nowhere, 404), (&evil, 403), (&file, 500), (&with_head, 431)]
        {
            let answer = says_all_first(&spillway, request);
            assert_eq!(answer.status(), status, "{answer:?}");
        }
    }
    // Of one that is read to its end the connection goes on.
    let mut connection = spillway.connect();
    for _ in 0..3 {
        assert_eq!(connection.exchange(&large).expect("an answer").status(), 413);
    }
    assert_eq!(connection.exchange(&chat()).expect("an answer").status(), 200);
}

#[test]
fn a_body_that_its_caller_sends_on_a_word_is_not_waited_for_when_it_is_refused() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("server", "max_body = \"1MiB\"").start();
    let (head, mut connection) = spillway.open(&head_of(&chat().header("expect", "100-continue"), 2 << 20));
    assert_eq!((head.status, head.header("connection")), (413, Some("close")));
    connection.body().expect("a whole answer");
}

#[test]
fn a_providers_early_answer_reaches_a_caller_that_is_still_sending() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("url = \"http://{}\"", listener.local_addr().expect("an address"));
    let early = thread::spawn(move || {
        // Answers the head, and reads nothing of the body.
        for stream in listener.incoming().take(5) {
            let mut stream = BufReader::new(stream.expect("a connection"));
            let mut line = String::new();
            while stream.read_line(&mut line).expect("a line") > 2 {
                line.clear();
            }
            let body = r#"{"error":{"message":"no such purpose"}}"#;
            let head = "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\nconnection: close\r\n";
            let mut stream = stream.into_inner();
            write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).expect("sent");
            stream.shutdown(Shutdown::Write).expect("shut down");
            // It goes on taking what comes, as a server does that lingers.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let spillway = Setup::bare().set("upstreams.openai", &url).start();
    let file = post("/v1/files", &json!({})).body(vec![b' '; 16 << 20]);
    for _ in 0..5 {
        let answer = says_all_first(&spillway, &file);
        assert_eq!((answer.status(), answer.refusal()), (401, None), "{answer:?}");
        assert_eq!(answer.at("/error/message"), "no such purpose");
    }
    early.join().expect("it has answered each");
    assert_eq!(failures(&spillway, "openai"), 0);
}

#[test]
fn a_page_whose_origin_is_allowed_can_read_what_it_is_answered() {
    const APP: &str = "https://app.example";
    let provider = Provider::start();
    let spillway = Setup::with(&provider)
        .set("server", &format!("allowed_origins = [\"{APP}\"]"))
        .set("upstreams.openai.limits", "patience = \"0s\"")
        .start();
    let from = |request: Request, origin: &str| spillway.send(&request.header("origin", origin));
    provider.next(rate_limited().retry_after_s(1).header("access-control-allow-origin", "*"));
    let kept = from(patient_chat(), APP);
    let location = kept.header("location").expect("a place").to_owned();
    let job = from(get(&location), APP);
    let refused = from(get("/nowhere"), APP);
    spillway.wait_for_job(&location);
    provider.next(healthy().header("access-control-allow-origin", "https://console.example"));
    let passed_on = from((APIS[1].whole)(), APP);
    for (answer, status) in [(&kept, 202), (&job, 200), (&refused, 404), (&passed_on, 200)] {
        assert_eq!(answer.status(), status, "{answer:?}");
        let all: Vec<_> =
            answer.head.headers.iter().filter(|(name, _)| name == "access-control-allow-origin").collect();
        assert!(all.len() == 1 && all[0].1 == APP, "{answer:?}");
        assert_eq!(answer.header("access-control-expose-headers"), Some("*"));
        assert_eq!(answer.header("vary"), Some("origin"));
    }
    for (name, value) in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
        let answer = spillway.send(&get(&location).header(name, value));
        assert_eq!((answer.status(), answer.header("access-control-allow-origin")), (403, None), "{name}");
    }
    assert_eq!(spillway.send(&get("/nowhere")).header("access-control-allow-origin"), None, "no page, no word of it");
}

#[test]
fn a_pages_preflight_is_answered_here() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("server", "allowed_origins = [\"https://app.example\"]").start();
    let preflight = |path: &str, origin: &str| {
        let request = request("OPTIONS", path).header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        spillway.send(&request.header("access-control-request-headers", "authorization,x-api-key"))
    };
    for path in ["/v1/chat/completions", "/spillway/jobs/job_1", "/v1/files"] {
        let answer = preflight(path, "https://app.example");
        assert_eq!(answer.status(), 204, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
        assert_eq!(answer.header("access-control-allow-headers"), Some("authorization,x-api-key"));
        assert!(answer.header("access-control-allow-methods").is_some_and(|methods| methods.contains("DELETE")));
        let answer = preflight(path, "https://evil.example");
        assert_eq!((answer.status(), answer.header("access-control-allow-origin")), (403, None));
    }
    assert_eq!(provider.stats().started, 0);
    // A question of another kind is the provider's.
    assert_eq!(spillway.send(&request("OPTIONS", "/v1/files")).status(), 200);
    assert_eq!(provider.stats().started, 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_caller_that_sends_no_more_gets_its_answer() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let gate = provider.gate();
    provider.next(healthy().hold_head(&gate));
    let mut connection = spillway.connect();
    connection.send(&chat()).expect("sent");
    connection.finish_sending().expect("half closed");
    provider.wait_for_requests(1);
    // It has been looked for several times meanwhile.
    thread::sleep(Duration::from_millis(300));
    gate.open();
    let answer = connection.response().expect("an answer");
    assert_eq!((answer.status(), provider.stats().aborted), (200, 0));
    assert_eq!(connection.everything().expect("an end"), "", "and then the connection ends");
    // A stream as well.
    let mut connection = spillway.connect();
    connection.send(&chat_stream()).expect("sent");
    connection.finish_sending().expect("half closed");
    let head = connection.head().expect("a head");
    let (events, end) = connection.events();
    assert!(head.status == 200 && end.is_ok() && events.concat().contains("[DONE]"), "{events:?}");
}

#[test]
fn a_caller_that_leaves_is_noticed_whether_it_has_half_closed_before_or_not() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    for (number, half_closes) in (1..).zip([false, true]) {
        provider.next(stall());
        let mut connection = spillway.connect();
        connection.send(&chat()).expect("sent");
        provider.wait_for_requests(number);
        if half_closes {
            connection.finish_sending().expect("half closed");
            // Long enough that it has been looked for in between.
            thread::sleep(Duration::from_millis(100));
        }
        drop(connection);
        provider.wait_until(|stats| stats.aborted == number);
    }
    assert_eq!(failures(&spillway, "openai"), 0);
}

#[test]
fn a_connection_lies_unused_for_longer_than_a_head_may_take() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("server", "head_timeout = \"300ms\"").start();
    let (mut before, mut between) = (spillway.connect(), spillway.connect());
    assert_eq!(between.exchange(&chat()).expect("an answer").status(), 200);
    thread::sleep(Duration::from_secs(1));
    for connection in [&mut before, &mut between] {
        assert_eq!(connection.exchange(&chat()).expect("an answer").status(), 200);
    }
    // A head that has begun, on a new connection and behind a request.
    for mut connection in [spillway.connect(), between] {
        connection.send_raw(b"POST /v1/chat/completions HTTP/1.1\r\n").expect("sent");
        let began = Instant::now();
        let answer = drip(&mut connection, Duration::from_millis(50));
        assert_eq!((answer.status(), answer.header("connection")), (408, Some("close")));
        assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    }
}

#[test]
fn a_connection_that_nobody_uses_is_closed_in_the_end() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("server", "keep_alive_timeout = \"300ms\"").start();
    let (mut before, mut behind) = (spillway.connect(), spillway.connect());
    assert_eq!(behind.exchange(&chat()).expect("an answer").status(), 200);
    for connection in [&mut before, &mut behind] {
        assert_eq!(connection.everything().expect("an end"), "");
    }
    // One that waits for its answer is used.
    provider.next(healthy().delay(Duration::from_secs(1)));
    assert_eq!(spillway.send(&chat()).status(), 200);
}

#[test]
fn connections_that_nobody_uses_make_room_for_those_that_somebody_does() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).descriptors(256, 256).start();
    let mut unused = Vec::new();
    // More than there is room for, each of which has been answered.
    for number in 0..120 {
        let mut connection = spillway.connect();
        let answer = eventually("there is room", || {
            let answer = connection.exchange(&get("/nowhere")).expect("an answer");
            if answer.status() == 503 {
                connection = spillway.connect();
            }
            (answer.status() == 404).then_some(answer)
        });
        assert_eq!(answer.status(), 404, "{number}");
        unused.push(connection);
    }
    // The last ones are open still, and the first are not.
    let last = unused.last_mut().expect("some");
    assert_eq!(last.exchange(&get("/nowhere")).expect("an answer").status(), 404);
    assert_eq!(unused[0].everything().expect("an end"), "");
}
