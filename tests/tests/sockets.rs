//! Connections that are upgraded, such as WebSockets: relayed both ways, byte for byte, and counted like any request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use ring::digest::{Context, Digest, SHA256};
use serde_json::{Value, json};
use socket2::SockRef;
use spillway_tests::asks::chat;
use spillway_tests::between::Between;
use spillway_tests::certificates::self_signed;
use spillway_tests::http::{Head, Request, Response, get};
use spillway_tests::provider::{Provider, fail, healthy, overloaded, rate_limited, respond};
use spillway_tests::spillway::{Setup, Spillway};
use spillway_tests::wait::{DEADLINE, eventually};
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Many times what buffers between the two ends hold.
const MUCH_BYTES: usize = 24 << 20;

/// The close frame of a server that goes away.
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

fn realtime() -> Request {
    get("/v1/realtime?model=mock-realtime")
        .header("authorization", "Bearer sk-test")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
}

/// A provider that does as a test says, byte by byte.
struct Raw(TcpListener);

impl Raw {
    fn start() -> Raw {
        Raw(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn setup(&self) -> Setup {
        let url = format!("url = \"http://{}\"", self.0.local_addr().unwrap());
        Setup::bare().set("upstreams.openai", &url).set("upstreams.openai.retry", "max_attempts = 1")
    }

    /// The next connection, with the head of its request.
    fn accept(&self) -> (TcpStream, String) {
        let (mut stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let head = head_of(&mut stream);
        (stream, head)
    }

    /// Answers the next request with these bytes.
    fn answer(&self, bytes: &[u8]) -> (TcpStream, String) {
        let (mut stream, head) = self.accept();
        stream.write_all(bytes).unwrap();
        (stream, head)
    }
}

/// Reads a head, and nothing behind it.
fn head_of(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

const SWITCHES: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nx-of-provider: yes\r\n\r\n";

/// Sends a request to Spillway, and reads no answer.
fn asks(spillway: &Spillway, request: &Request) -> TcpStream {
    let bytes = spillway.connect().bytes_of(request);
    let mut stream = TcpStream::connect(spillway.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(&bytes).unwrap();
    stream
}

/// Both ends of a relayed connection: the caller's and the provider's.
fn open(spillway: &Spillway, raw: &Raw) -> (TcpStream, TcpStream) {
    let mut caller = asks(spillway, &realtime());
    let (provider, _) = raw.answer(SWITCHES);
    let head = head_of(&mut caller);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    (caller, provider)
}

/// A whole answer to an upgrade that was not agreed to.
fn refused(spillway: &Spillway, request: &Request) -> Response {
    let mut connection = spillway.connect();
    connection.exchange(request).unwrap()
}

fn switched(spillway: &Spillway, request: &Request) -> (Head, spillway_tests::http::Connection) {
    let mut connection = spillway.connect();
    connection.send(request).unwrap();
    let head = connection.head().unwrap();
    assert_eq!(head.status, 101, "{head:?}");
    (head, connection)
}

fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes);
    (bytes, end.err().map(|error| error.kind()))
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

fn nothing_in_flight(spillway: &Spillway) {
    eventually("nothing is in flight", || (spillway.metric("spillway_in_flight") == 0.0).then_some(()));
    assert_eq!(spillway.upstream("openai")["limits"]["in_flight"], 0, "{}", spillway.upstream("openai"));
}

fn window(spillway: &Spillway, figure: &str) -> Value {
    spillway.upstream("openai")["breakers"][0]["window"][figure].clone()
}

fn ended(spillway: &Spillway, how: &str) -> f64 {
    spillway.metric(&format!("spillway_sockets_total{{upstream=\"openai\",end=\"{how}\"}}"))
}

/// A frame of a server's.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(u8::try_from(length).unwrap()),
        length @ 126..=0xffff => {
            bytes.push(126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(payload);
    bytes
}

fn text(json: &Value) -> Vec<u8> {
    frame(0x81, json.to_string().as_bytes())
}

/// A frame of a caller's.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    let mask = [7, 11, 13, 17];
    let mut bytes = vec![first, 0x80 | u8::try_from(payload.len()).unwrap()];
    bytes.extend(mask);
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    bytes
}

fn sha256(bytes: &[u8]) -> Digest {
    ring::digest::digest(&SHA256, bytes)
}

#[test]
fn a_handshake_passes_with_its_headers_and_says_whose_answer_it_is() {
    let raw = Raw::start();
    let spillway = raw.setup().start();
    let request = realtime().header("sec-websocket-protocol", "realtime").header("x-request-id", "it-is-me");
    let mut caller = asks(&spillway, &request);
    let (_provider, asked) = raw.answer(SWITCHES);
    let asked = asked.to_ascii_lowercase();
    for line in [
        "get /v1/realtime?model=mock-realtime http/1.1\r\n",
        "\r\nconnection: upgrade\r\n",
        "\r\nupgrade: websocket\r\n",
        "\r\nsec-websocket-version: 13\r\n",
        "\r\nsec-websocket-key: dghlihnhbxbszsbub25jzq==\r\n",
        "\r\nsec-websocket-protocol: realtime\r\n",
        "\r\nauthorization: bearer sk-test\r\n",
        "\r\nvia: 1.1 spillway-",
    ] {
        assert!(asked.contains(line), "{line} in {asked}");
    }
    let answered = head_of(&mut caller).to_ascii_lowercase();
    for line in [
        "http/1.1 101 ",
        "\r\nconnection: upgrade\r\n",
        "\r\nupgrade: websocket\r\n",
        "\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n",
        "\r\nx-of-provider: yes\r\n",
        "\r\nx-spillway-request-id: it-is-me\r\n",
        "\r\nx-spillway-upstream: openai\r\n",
    ] {
        assert!(answered.contains(line), "{line} in {answered}");
    }
    assert!(!answered.contains("\r\ncontent-length:") && !answered.contains("\r\ntransfer-encoding:"), "{answered}");
}

#[test]
fn bytes_pass_both_ways_at_once_unchanged_whatever_they_are() {
    let raw = Raw::start();
    let spillway = raw.setup().start();
    // Frames in fragments, with a ping between them, and then what is none of a WebSocket.
    let frames = [
        frame(0x01, b"{\"type\":"),
        frame(0x89, b"are you there"),
        frame(0x80, b"\"session.created\"}"),
        frame(0x82, &vec![0xff; 70_000]),
        frame(0xc1, b"compressed, though nobody agreed"),
    ]
    .concat();
    let random: Vec<u8> =
        (0..MUCH_BYTES as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let sent = [frames, random].concat();
    let (caller, provider) = open(&spillway, &raw);
    let write = |mut to: TcpStream, bytes: Vec<u8>| {
        thread::spawn(move || {
            to.write_all(&bytes).unwrap();
            to.shutdown(Shutdown::Write).unwrap();
        })
    };
    let read = |mut from: TcpStream| {
        thread::spawn(move || {
            let (mut hash, mut piece) = (Context::new(&SHA256), vec![0; 64 << 10]);
            loop {
                match from.read(&mut piece).unwrap() {
                    0 => return hash.finish(),
                    read => hash.update(&piece[..read]),
                }
            }
        })
    };
    let writers =
        [write(caller.try_clone().unwrap(), sent.clone()), write(provider.try_clone().unwrap(), sent.clone())];
    let readers = [read(caller), read(provider)];
    for writer in writers {
        writer.join().unwrap();
    }
    for reader in readers {
        assert_eq!(reader.join().unwrap().as_ref(), sha256(&sent).as_ref());
    }
    nothing_in_flight(&spillway);
    spillway.log().wait_for(&["websocket for", &format!("{} bytes from the caller", sent.len())]);
}

#[test]
fn what_a_caller_sends_at_once_behind_its_request_is_not_lost() {
    let raw = Raw::start();
    let spillway = raw.setup().start();
    let mut caller = asks(&spillway, &realtime());
    caller.write_all(b"ahead of the answer").unwrap();
    // The provider's first bytes come with its head.
    let (mut provider, _) = raw.answer(&[SWITCHES, b"behind the head"].concat());
    head_of(&mut caller);
    provider.shutdown(Shutdown::Write).unwrap();
    caller.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut provider), (b"ahead of the answer".to_vec(), None));
    assert_eq!(read_to_end(&mut caller), (b"behind the head".to_vec(), None));
}

#[test]
fn one_half_may_end_before_the_other() {
    let raw = Raw::start();
    let spillway = raw.setup().start();
    for caller_first in [true, false] {
        let (caller, provider) = open(&spillway, &raw);
        let (mut first, mut second) = if caller_first { (caller, provider) } else { (provider, caller) };
        first.write_all(b"that is all").unwrap();
        first.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut second), (b"that is all".to_vec(), None));
        second.write_all(b"not here").unwrap();
        drop(second);
        assert_eq!(read_to_end(&mut first), (b"not here".to_vec(), None), "caller first: {caller_first}");
        nothing_in_flight(&spillway);
    }
}

#[test]
fn an_abrupt_end_on_one_side_is_one_on_the_other() {
    let raw = Raw::start();
    let spillway = raw.setup().start();
    let spoken = text(&json!({"type": "response.output_text.delta", "delta": "a"}));
    for (callers_fault, outcome, how) in [(true, "abandoned", "left"), (false, "broken", "broken")] {
        let (mut caller, mut provider) = open(&spillway, &raw);
        provider.write_all(&spoken).unwrap();
        caller.read_exact(&mut vec![0; spoken.len()]).unwrap();
        let (lost, mut other) = if callers_fault { (caller, provider) } else { (provider, caller) };
        reset(lost);
        assert_eq!(read_to_end(&mut other), (vec![], Some(ErrorKind::ConnectionReset)), "{outcome}");
        let line = spillway.log().wait_for(&["websocket for", &format!("\"outcome\":\"{outcome}\"")]);
        assert_eq!((&line["status"], &line["model"]), (&json!(101), &json!("mock-realtime")), "{line}");
        nothing_in_flight(&spillway);
        assert_eq!(ended(&spillway, how), 1.0);
    }
    // The provider had served both.
    assert_eq!(window(&spillway, "failures"), 0);
}

#[test]
fn whoever_reads_nothing_stops_whoever_sends_and_loses_nothing() {
    let raw = Raw::start();
    let spillway = raw.setup().start();
    for caller_reads_nothing in [true, false] {
        let (caller, provider) = open(&spillway, &raw);
        let (mut reader, mut sender) = if caller_reads_nothing { (caller, provider) } else { (provider, caller) };
        sender.set_nonblocking(true).unwrap();
        let (piece, mut sent, mut since) = (vec![0x55; 64 << 10], 0, Instant::now());
        // It is stopped when nothing more has been taken for a while.
        while since.elapsed() < Duration::from_millis(500) {
            match sender.write(&piece) {
                Ok(written) => (sent, since) = (sent + written, Instant::now()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(5)),
                Err(error) => panic!("{error}"),
            }
            assert!(sent < 256 << 20, "nobody stops the sender");
        }
        sender.set_nonblocking(false).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
        let (read, end) = read_to_end(&mut reader);
        assert_eq!((read.len(), end), (sent, None));
        assert!(read.iter().all(|byte| *byte == 0x55));
    }
}

#[test]
fn silence_on_both_sides_ends_it_and_no_time_of_a_request_does() {
    let raw = Raw::start();
    let server = "socket_idle_timeout = \"700ms\"\nrequest_timeout = \"600ms\"\ndrain_timeout = \"100ms\"\n\
                  keep_alive_timeout = \"300ms\"\nwrite_timeout = \"300ms\"\nbody_timeout = \"300ms\"";
    let setup = raw.setup().set("server", server);
    let timeouts = "first_content_timeout = \"500ms\"\nconnect_timeout = \"500ms\"\nidle_timeout = \"300ms\"";
    let spillway = setup.set("upstreams.openai", timeouts).start();
    let (mut caller, mut provider) = open(&spillway, &raw);
    let began = Instant::now();
    // As long as one of them speaks now and then, it goes on: time is what this is about.
    for index in 0..6 {
        thread::sleep(Duration::from_millis(300));
        let (from, to) = if index % 2 == 0 { (&mut caller, &mut provider) } else { (&mut provider, &mut caller) };
        from.write_all(&frame(0x89, b"ping")).unwrap();
        to.read_exact(&mut [0; 6]).unwrap();
    }
    assert_eq!(spillway.metric("spillway_sockets_open{upstream=\"openai\"}"), 1.0);
    let silent = Instant::now();
    assert_eq!(read_to_end(&mut caller), (GOING_AWAY.to_vec(), None), "a close, in order");
    assert!(silent.elapsed() >= Duration::from_millis(500) && began.elapsed() > Duration::from_secs(2));
    assert_eq!(read_to_end(&mut provider).0, b"");
    spillway.log().wait_for(&["websocket for", "server.socket_idle_timeout"]);
    nothing_in_flight(&spillway);
    assert_eq!((ended(&spillway, "cut"), window(&spillway, "failures")), (1.0, json!(0)));
    assert_eq!(spillway.metric("spillway_sockets_open{upstream=\"openai\"}"), 0.0);
}

#[test]
fn a_termination_lets_it_go_on_for_a_while_and_then_says_goodbye_where_a_frame_has_ended() {
    let raw = Raw::start();
    for is_within_a_frame in [false, true] {
        let mut spillway = raw.setup().set("server", "drain_timeout = \"500ms\"").start();
        let (mut caller, mut provider) = open(&spillway, &raw);
        spillway.terminate();
        spillway.log().wait_for(&["draining"]);
        let mut last = frame(0x81, b"still here");
        provider.write_all(&last).unwrap();
        caller.read_exact(&mut last).unwrap();
        if is_within_a_frame {
            provider.write_all(&last[..5]).unwrap();
            caller.read_exact(&mut last[..5]).unwrap();
        }
        let expected = match is_within_a_frame {
            false => (GOING_AWAY.to_vec(), None),
            true => (vec![], Some(ErrorKind::ConnectionReset)),
        };
        assert_eq!(read_to_end(&mut caller), expected, "within a frame: {is_within_a_frame}");
        drop((caller, provider));
        assert_eq!(spillway.wait_for_exit().code(), Some(0));
        spillway.log().wait_for(&["websocket for", "Spillway ends"]);
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let raw = Raw::start();
    let mut spillway = raw.setup().set("server", "drain_timeout = \"5m\"").start();
    let (mut caller, _provider) = open(&spillway, &raw);
    spillway.terminate();
    spillway.log().wait_for(&["draining"]);
    spillway.terminate();
    assert_eq!(read_to_end(&mut caller).0, GOING_AWAY);
    drop(caller);
    assert_eq!(spillway.wait_for_exit().code(), Some(0));
}

#[test]
fn what_the_provider_answers_instead_is_judged_and_passed_on_as_any_answer() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("upstreams.openai.retry", "max_attempts = 1").start();
    let said = json!({"error": {"message": "no such voice", "code": "voice", "type": "invalid_request_error"}});
    for status in [400, 401, 404] {
        provider.next(respond(status).json(said.clone()));
        let answer = refused(&spillway, &realtime());
        assert_eq!((answer.status(), answer.json(), answer.refusal()), (status, said.clone(), None));
    }
    assert_eq!(window(&spillway, "failures"), 0);
    provider.next(rate_limited().retry_after_s(1));
    let limited = refused(&spillway, &realtime());
    assert_eq!((limited.status(), limited.header("retry-after")), (429, Some("1")), "{}", limited.text());
    provider.heal();
    // Who has said "too much" is asked again in a second.
    let (head, _) = switched(&spillway, &realtime());
    assert!(head.header("x-spillway-attempts").is_some());
    provider.next(fail(spillway_tests::provider::Failure::ServerError));
    assert_eq!(refused(&spillway, &realtime()).status(), 500);
    assert_eq!(window(&spillway, "failures"), 1);
}

#[test]
fn a_handshake_that_fails_is_repeated_as_any_get_is() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    provider.next(respond(502));
    provider.next(overloaded());
    let (head, _) = switched(&spillway, &realtime());
    assert_eq!((head.header("x-spillway-attempts"), provider.stats().started), (Some("3"), 3));
}

#[test]
fn handshakes_that_fail_open_the_circuit_and_the_next_one_is_refused_in_the_apis_words() {
    let provider = Provider::start();
    let breaker = "consecutive_failures = 3\ncooldown = \"1m\"";
    let setup = Setup::with(&provider).set("upstreams.openai.retry", "max_attempts = 1");
    let spillway = setup.set("upstreams.openai.breaker", breaker).start();
    provider.always(respond(500));
    for _ in 0..3 {
        assert_eq!(refused(&spillway, &realtime()).status(), 500);
    }
    let refused = refused(&spillway, &realtime());
    assert_eq!((refused.status(), refused.refusal()), (500, Some("spillway_circuit_open")), "{}", refused.text());
    assert_eq!(refused.at("/error/code"), "spillway_circuit_open");
    assert_eq!(provider.stats().started, 3);
}

#[test]
fn an_early_end_of_the_providers_making_counts_as_a_failure_and_others_do_not() {
    let raw = Raw::start();
    let breaker = "consecutive_failures = 100\nminimum_requests = 100";
    let spillway = raw.setup().set("upstreams.openai.breaker", breaker).start();
    let session = text(&json!({"type": "session.created"}));
    let error = text(&json!({"type": "error", "error": {"type": "server_error", "message": "it is down"}}));
    let wrong = text(&json!({"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}));
    let answer = text(&json!({"type": "response.created", "response": {}}));
    let delta = text(&json!({"type": "response.output_text.delta", "delta": "a"}));
    let close = |code: u16| frame(0x88, &code.to_be_bytes());
    let cases: [(&str, Vec<u8>, u64); 9] = [
        ("nothing", vec![], 1),
        ("only what opens a session", session.clone(), 1),
        ("an internal error", [session.clone(), close(1011)].concat(), 1),
        ("try again later", close(1013), 1),
        ("an error of its own", [session.clone(), error, close(1000)].concat(), 1),
        ("an error of the caller's", [session.clone(), wrong, close(1000)].concat(), 0),
        ("a close in order", [session.clone(), close(1000)].concat(), 0),
        ("the beginning of an answer alone", [session.clone(), answer.clone()].concat(), 1),
        ("an answer that breaks off", [session, answer, delta].concat(), 0),
    ];
    let mut failures = 0;
    for (index, (what, bytes, counts)) in cases.into_iter().enumerate() {
        let (mut caller, mut provider) = open(&spillway, &raw);
        provider.write_all(&bytes).unwrap();
        drop(provider);
        assert_eq!(read_to_end(&mut caller), (bytes, None), "{what}");
        drop(caller);
        eventually("it is settled", || (spillway.log().text().matches("websocket for").count() > index).then_some(()));
        failures += counts;
        assert_eq!(window(&spillway, "failures"), failures, "{what}: {}", spillway.log().text());
    }
    // What the caller ends says nothing.
    let requests = window(&spillway, "requests");
    let (mut caller, mut provider) = open(&spillway, &raw);
    caller.write_all(&masked(0x88, &1000u16.to_be_bytes())).unwrap();
    provider.read_exact(&mut [0; 8]).unwrap();
    provider.write_all(&close(1000)).unwrap();
    drop(provider);
    assert_eq!(read_to_end(&mut caller).0, close(1000));
    drop(caller);
    spillway.log().wait_for(&["closed by the caller with 1000", "\"outcome\":\"answered\""]);
    assert_eq!((window(&spillway, "failures"), window(&spillway, "requests")), (json!(failures), requests));
}

#[test]
fn a_connection_is_a_call_in_flight_for_as_long_as_it_lasts() {
    let raw = Raw::start();
    let setup = raw.setup().set("upstreams.openai.concurrency", "adaptive = false\nmax_in_flight = 1");
    let spillway = setup.set("upstreams.openai.limits", "patience = \"0s\"").start();
    let (caller, provider) = open(&spillway, &raw);
    assert_eq!(spillway.metric("spillway_in_flight"), 1.0);
    let refused = refused(&spillway, &realtime());
    assert!(!refused.text().contains("respond-async"), "nobody keeps a connection: {}", refused.text());
    assert_eq!((refused.status(), refused.refusal()), (429, Some("rate_limit_exceeded")), "{}", refused.text());
    drop((caller, provider));
    nothing_in_flight(&spillway);
    let _another = open(&spillway, &raw);
}

#[test]
fn usage_is_read_on_the_way_and_booked_while_it_goes_on() {
    let provider = Provider::start();
    provider.always(healthy().usage(30, 12));
    let setup = Setup::with(&provider).set("upstreams.openai.limits", "tokens_per_minute = 100\npatience = \"0s\"");
    let spillway = setup.start();
    let metric =
        |direction| spillway.metric(&format!("spillway_tokens_total{{upstream=\"openai\",direction=\"{direction}\"}}"));
    let (_, mut caller) = switched(&spillway, &realtime());
    let response = masked(0x81, br#"{"type":"response.create"}"#);
    for count in 1..=3 {
        caller.send_raw(&response).unwrap();
        eventually("its usage is counted", || (metric("output") == 12.0 * f64::from(count)).then_some(()));
    }
    assert_eq!(metric("input"), 90.0);
    // The tokens of the minute are gone, though the connection is still there.
    let refused = spillway.send(&chat());
    assert_eq!((refused.status(), refused.refusal()), (429, Some("rate_limit_exceeded")), "{}", refused.text());
    caller.send_raw(&masked(0x88, &1000u16.to_be_bytes())).unwrap();
    let line = spillway.log().wait_for(&["websocket for", "90 and 36 tokens", "closed by the caller with 1000"]);
    assert_eq!((&line["outcome"], &line["upstream"]), (&json!("answered"), &json!("openai")));
    nothing_in_flight(&spillway);
}

#[test]
fn geminis_live_api_and_responses_are_found_by_their_paths_and_read_in_their_words() {
    let provider = Provider::start();
    provider.always(healthy().usage(5, 7));
    let spillway = Setup::with(&provider).start();
    let live = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?key=one";
    for (upstream, path, messages) in [
        ("gemini", live, &[r#"{"setup":{"model":"models/g"}}"#, r#"{"clientContent":{"turnComplete":true}}"#][..]),
        ("openai", "/v1/responses", &[r#"{"type":"response.create","model":"m","input":"a"}"#]),
    ] {
        let (head, mut caller) = switched(&spillway, &realtime().path(path));
        assert_eq!(head.header("x-spillway-upstream"), Some(upstream));
        for message in messages {
            caller.send_raw(&masked(0x81, message.as_bytes())).unwrap();
        }
        let name = format!("spillway_tokens_total{{upstream=\"{upstream}\",direction=\"output\"}}");
        eventually("its usage is counted", || (spillway.metric(&name) == 7.0).then_some(()));
    }
}

#[test]
fn an_access_key_among_the_subprotocols_is_taken_out_and_spends_the_upstreams_own() {
    let provider = Provider::start();
    let setup = Setup::with(&provider);
    for (name, key) in [("access", "access-canary-0123456789"), ("own", "own-canary-0123456789")] {
        fs::write(setup.folder().join(name), key).unwrap();
    }
    let setup = setup.set("server", "access_key_file = \"access\"");
    let spillway = setup.set("upstreams.openai", "api_key_file = \"own\"").start();
    let offering = |key: &str| {
        let offered = format!("realtime, openai-insecure-api-key.{key}, openai-organization.org-1");
        realtime().without_header("authorization").header("sec-websocket-protocol", &offered)
    };
    let (head, _) = switched(&spillway, &offering("access-canary-0123456789"));
    assert_eq!(head.header("sec-websocket-protocol"), Some("realtime"));
    let seen = provider.requests().pop().unwrap();
    assert_eq!(seen.header("authorization"), Some("Bearer own-canary-0123456789"));
    assert_eq!(seen.header("sec-websocket-protocol"), Some("realtime"));
    assert!(!format!("{seen:?}").contains("access-canary"), "{seen:?}");
    // A key of the caller's own goes where it was meant to go.
    let (_, _caller) = switched(&spillway, &offering("sk-own"));
    let seen = provider.requests().pop().unwrap();
    let offered = "realtime, openai-insecure-api-key.sk-own, openai-organization.org-1";
    assert_eq!((seen.header("authorization"), seen.header("sec-websocket-protocol")), (None, Some(offered)));
}

#[test]
fn no_web_page_opens_one_unless_it_may_call() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("server", "allowed_origins = [\"https://app.example\"]").start();
    let foreign = refused(&spillway, &realtime().header("origin", "https://evil.example"));
    assert_eq!((foreign.status(), foreign.refusal()), (403, Some("spillway_forbidden")));
    let rebound = refused(&spillway, &realtime().header("host", "evil.example"));
    assert_eq!(rebound.status(), 403);
    assert_eq!(provider.stats().started, 0);
    switched(&spillway, &realtime().header("origin", "https://app.example"));
}

#[test]
fn any_other_protocol_is_relayed_too_but_not_one_of_the_next_hop() {
    let raw = Raw::start();
    let spillway = raw.setup().start();
    let request = get("/openai/attach").header("connection", "Upgrade").header("upgrade", "tcp/1");
    let mut caller = asks(&spillway, &request);
    let answer = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp/1\r\n\r\nhello";
    let (mut provider, asked) = raw.answer(answer);
    assert!(asked.starts_with("GET /attach ") && asked.to_ascii_lowercase().contains("\r\nupgrade: tcp/1\r\n"));
    assert!(head_of(&mut caller).to_ascii_lowercase().contains("\r\nupgrade: tcp/1\r\n"));
    caller.write_all(b"you").unwrap();
    caller.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut provider).0, b"you");
    drop(provider);
    assert_eq!(read_to_end(&mut caller), (b"hello".to_vec(), None));
    spillway.log().wait_for(&["tcp/1 for", "\"outcome\":\"answered\""]);
    // A client that would like HTTP/2 gets what it asked for, over HTTP/1.1.
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let would_like = chat().header("connection", "Upgrade, HTTP2-Settings").header("upgrade", "h2c");
    let answer = spillway.send(&would_like.header("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA"));
    let seen = provider.requests().pop().unwrap();
    assert_eq!((answer.status(), seen.header("upgrade"), seen.header("http2-settings")), (200, None, None));
}

#[test]
fn a_provider_that_switches_unasked_is_not_understood() {
    let raw = Raw::start();
    let spillway = raw.setup().start();
    let caller = thread::spawn({
        let mut connection = spillway.connect();
        move || connection.exchange(&get("/v1/models"))
    });
    let _provider = raw.answer(SWITCHES);
    let answer = caller.join().unwrap().unwrap();
    assert_eq!((answer.status(), answer.refusal()), (502, Some("spillway_upstream_unreachable")), "{}", answer.text());
}

#[test]
fn a_connection_that_was_used_so_is_used_for_nothing_else() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    // One that is there already may become one.
    assert_eq!(spillway.send(&chat()).status(), 200);
    let (_, mut first) = switched(&spillway, &realtime());
    let (_, _second) = switched(&spillway, &realtime());
    first.send_raw(&masked(0x88, &1000u16.to_be_bytes())).unwrap();
    spillway.log().wait_for(&["closed by the caller with 1000"]);
    assert_eq!(spillway.send(&chat()).status(), 200);
    let connections: Vec<u64> = provider.requests().iter().map(|request| request.connection).collect();
    let mut distinct = connections[1..].to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 3, "{connections:?}");
}

#[test]
fn it_goes_the_way_of_all_calls_over_tls_and_through_proxies() {
    let provider = Provider::start();
    let identity = self_signed("api.example");
    let local = self_signed("localhost");
    let front = Between::tls(provider.address(), &identity);
    let straight = Between::tls(provider.address(), &local);
    let http = Between::proxy(([127, 0, 0, 1], front.port()).into(), None);
    let socks = Between::socks(provider.address());
    let ways = [
        (format!("https://localhost:{}", straight.port()), String::new()),
        ("https://api.example".to_owned(), format!("http://localhost:{}", http.port())),
        ("http://api.example".to_owned(), format!("socks5h://localhost:{}", socks.port())),
    ];
    for (url, proxy) in ways {
        let setup = Setup::bare();
        fs::write(setup.folder().join("ca.pem"), [&*identity.pem, &*local.pem].concat()).unwrap();
        let upstream = format!("url = \"{url}\"\nproxy = \"{proxy}\"\nca_file = \"ca.pem\"");
        let spillway = setup.set("upstreams.openai", &upstream).start();
        let (_, mut caller) = switched(&spillway, &realtime());
        for count in 1..=2 {
            caller.send_raw(&masked(0x81, br#"{"type":"response.create"}"#)).unwrap();
            let name = "spillway_tokens_total{upstream=\"openai\",direction=\"output\"}";
            eventually("its usage is counted", || (spillway.metric(name) == 5.0 * f64::from(count)).then_some(()));
        }
        caller.send_raw(&masked(0x88, &1000u16.to_be_bytes())).unwrap();
        spillway.log().wait_for(&["websocket for", "closed by the caller with 1000", "answered"]);
        nothing_in_flight(&spillway);
    }
    assert_eq!(http.seen().len() + socks.seen().len(), 2);
}

#[test]
fn an_upgrade_over_the_unix_socket_is_relayed_too() -> io::Result<()> {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("server", "unix_socket = \"socket\"").start();
    let mut caller = spillway_tests::http::Connection::open_unix(&spillway.folder().join("socket"))?;
    caller.send(&realtime())?;
    assert_eq!(caller.head()?.status, 101);
    caller.send_raw(&masked(0x81, br#"{"type":"response.create"}"#))?;
    let name = "spillway_tokens_total{upstream=\"openai\",direction=\"output\"}";
    eventually("its usage is counted", || (spillway.metric(name) > 0.0).then_some(()));
    Ok(())
}
