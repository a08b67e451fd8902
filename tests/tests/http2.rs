//! HTTP/2 towards callers: what holds for a connection over HTTP/1.1 holds for each stream.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::json;
use spillway_tests::asks::{APIS, chat, chat_stream, chat_with};
use spillway_tests::certificates::Authority;
use spillway_tests::http::Connection;
use spillway_tests::http2::Http2;
use spillway_tests::provider::{Provider, Reply, respond, stall, stream};
use spillway_tests::spillway::{Setup, Spillway};
use spillway_tests::wait::{DEADLINE, eventually, within};
use std::fs;
use std::time::{Duration, Instant};

/// How much of an answer comes ahead of its reading: what browsers and SDKs have, more or less.
const WINDOW_BYTES: u32 = 64 << 10;
/// Many times what anybody buffers.
const HUGE_BYTES: usize = 48 << 20;

fn start(setup: Setup) -> (Spillway, Authority) {
    let authority = Authority::new();
    (setup.with_certificate(&authority.certify("localhost")).start(), authority)
}

fn connect(spillway: &Spillway, authority: &Authority) -> Http2 {
    Http2::open(spillway.address(), &authority.client(&[b"h2"]), WINDOW_BYTES)
}

fn huge() -> Reply {
    let event = json!({"choices": [{"delta": {"content": "x".repeat(64 << 10)}, "finish_reason": null}]});
    let last = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]});
    (0..HUGE_BYTES / (64 << 10)).fold(stream(), |reply, _| reply.event(event.clone())).event(last).done()
}

fn memory_bytes(spillway: &Spillway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", spillway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn each_api_is_served_side_by_side_and_nothing_is_said_of_a_connection() {
    let provider = Provider::start();
    let (spillway, authority) = start(Setup::with(&provider));
    let connection = connect(&spillway, &authority);
    for api in APIS {
        for ask in [api.whole, api.stream] {
            let mut answer = connection.open_answer(&ask()).unwrap();
            assert_eq!(answer.status(), 200);
            for hop in ["connection", "transfer-encoding", "keep-alive", "upgrade"] {
                assert_eq!(answer.header(hop), None, "{hop}");
            }
            assert!(answer.header("x-spillway-upstream").is_some());
            let (body, end) = answer.rest();
            end.unwrap();
            assert!(!body.is_empty());
        }
    }
    let gate = provider.gate();
    provider.always(stream().wait_for(&gate).event(json!({"choices": [{"delta": {"content": "a"}}]})).done());
    let asked: Vec<_> = (0..100).map(|_| connection.begin(&chat_stream())).collect();
    provider.wait_until(|stats| stats.in_flight() == 100);
    gate.open();
    eventually("all are answered", || asked.iter().all(|asked| asked.is_finished()).then_some(()));
    let sent = provider.requests();
    assert!(sent.iter().all(|request| request.header("host").is_some_and(|host| host.starts_with("127.0.0.1"))));
}

#[test]
fn a_large_body_comes_whole_and_one_too_large_is_refused_while_the_others_go_on() {
    let provider = Provider::start();
    let (spillway, authority) = start(Setup::with(&provider).set("server", "max_body = \"2MiB\""));
    let connection = connect(&spillway, &authority);
    let large = chat_with(json!({"user": "x".repeat(1 << 20)}));
    assert_eq!(connection.open_answer(&large).unwrap().status(), 200);
    let longest = provider.requests().iter().filter_map(|sent| sent.json()["user"].as_str().map(str::len)).max();
    assert_eq!(longest, Some(1 << 20));
    let too_large = chat_with(json!({"user": "x".repeat(6 << 20)}));
    assert_eq!(connection.open_answer(&too_large).unwrap().status(), 413);
    assert_eq!(connection.open_answer(&chat()).unwrap().status(), 200);
}

#[test]
fn who_takes_a_request_back_ends_its_call_and_no_other() {
    let provider = Provider::start();
    let (spillway, authority) = start(Setup::with(&provider));
    let connection = connect(&spillway, &authority);
    // In the middle of its answer, and before its head.
    provider.next(stream().event(json!({"choices": [{"delta": {"content": "a"}}]})).stall());
    let mut answer = connection.open_answer(&chat_stream()).unwrap();
    answer.piece().unwrap();
    drop(answer);
    provider.wait_until(|stats| stats.aborted == 1);
    provider.next(stall());
    let asked = connection.begin(&chat());
    provider.wait_until(|stats| stats.in_flight() == 1);
    asked.abort();
    provider.wait_until(|stats| stats.aborted == 2);
    eventually("both are written off", || (spillway.log().text().matches("abandoned").count() == 2).then_some(()));
    assert_eq!(connection.open_answer(&chat()).unwrap().status(), 200);
    // With the connection all of its requests go.
    provider.always(stall());
    let _asked: Vec<_> = (0..10).map(|_| connection.begin(&chat())).collect();
    provider.wait_until(|stats| stats.in_flight() == 10);
    drop(connection);
    provider.wait_until(|stats| stats.in_flight() == 0);
    eventually("nothing is in flight", || (spillway.metric("spillway_in_flight") == 0.0).then_some(()));
}

#[test]
fn who_takes_nothing_of_an_answer_loses_it_while_the_others_go_on() {
    let provider = Provider::start();
    let (spillway, authority) = start(Setup::with(&provider).set("server", "write_timeout = \"1s\""));
    let connection = connect(&spillway, &authority);
    let before = memory_bytes(&spillway);
    provider.next(huge());
    let mut stopped = connection.open_answer(&chat_stream()).unwrap();
    assert_eq!(stopped.status(), 200);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(800) {
        let mut answer = connection.open_answer(&chat()).unwrap();
        assert_eq!((answer.status(), answer.rest().1.is_ok()), (200, true));
    }
    assert!(memory_bytes(&spillway) < before + (32 << 20), "the provider is not read faster than the caller reads");
    provider.wait_until(|stats| stats.aborted == 1);
    spillway.log().wait_for(&["stopped reading", "\"outcome\":\"abandoned\""]);
    let (_, end) = stopped.rest();
    assert!(end.is_err(), "no clean end");
    assert_eq!(connection.open_answer(&chat()).unwrap().status(), 200, "the connection goes on");
}

#[test]
fn an_answer_that_breaks_off_is_reset_and_the_connection_goes_on() {
    let provider = Provider::start();
    let (spillway, authority) = start(Setup::with(&provider));
    let connection = connect(&spillway, &authority);
    provider.next(stream().event(json!({"choices": [{"delta": {"content": "a"}}]})).cut());
    let mut answer = connection.open_answer(&chat_stream()).unwrap();
    let (body, end) = answer.rest();
    assert!(String::from_utf8_lossy(&body).contains("error"), "the API's own words come first");
    let error = end.expect_err("it breaks off");
    let chain = format!("{error:?}");
    assert!(chain.contains("INTERNAL_ERROR"), "{chain}");
    assert_eq!(connection.open_answer(&chat()).unwrap().status(), 200);
}

#[test]
fn what_is_under_way_ends_in_peace_when_spillway_does() {
    let provider = Provider::start();
    let (spillway, authority) = start(Setup::with(&provider));
    let mut connection = connect(&spillway, &authority);
    let gate = provider.gate();
    let first = json!({"choices": [{"delta": {"content": "a"}, "finish_reason": null}]});
    let last = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]});
    provider.next(stream().event(first).wait_for(&gate).event(last).done());
    let mut answer = connection.open_answer(&chat_stream()).unwrap();
    answer.piece().unwrap();
    spillway.terminate();
    spillway.log().wait_for(&["draining"]);
    gate.open();
    let (body, end) = answer.rest();
    end.unwrap();
    assert!(String::from_utf8_lossy(&body).contains("[DONE]"));
    assert!(connection.ends());
}

/// A connection that speaks HTTP/2 as it likes.
fn raw(spillway: &Spillway, authority: &Authority) -> Connection {
    let mut raw = Connection::open_tls(spillway.address(), &authority.client(&[b"h2"]), "localhost").unwrap();
    raw.send_raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    raw.send_raw(&frame(SETTINGS, 0, 0, &[])).unwrap();
    raw.write_timeout(Duration::from_millis(500));
    raw
}

const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM_AND_HEADERS: u8 = 5;

/// A frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of a GET of a path (RFC 7541, with what the static table has).
fn head_of_get(path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    // :method GET, :scheme https, and :path and :authority as literals.
    [&[0x82, 0x87, 0x04, length], path.as_bytes(), &[0x01, 9], b"localhost"].concat()
}

/// What a flood of these does: it is sent until nobody takes more, or for long enough. Whether the connection was ended.
fn flood(spillway: &Spillway, authority: &Authority, mut frames: impl FnMut(u32) -> Vec<u8>) -> bool {
    let mut raw = raw(spillway, authority);
    let began = Instant::now();
    for number in 0.. {
        if raw.send_raw(&frames(number)).is_err() {
            return true;
        }
        if began.elapsed() > Duration::from_secs(4) {
            return false;
        }
    }
    false
}

#[test]
fn floods_of_frames_cost_nobody_else_his_answer_nor_spillway_its_memory() {
    let provider = Provider::start();
    let (spillway, authority) = start(Setup::with(&provider).set("server", "workers = 1"));
    let other = connect(&spillway, &authority);
    assert_eq!(other.open_answer(&chat()).unwrap().status(), 200);
    let before = memory_bytes(&spillway);
    type Frames = fn(u32) -> Vec<u8>;
    let floods: [(&str, Frames); 5] = [
        ("settings", |_| frame(SETTINGS, 0, 0, &[]).repeat(100)),
        ("pings", |_| frame(PING, 0, 0, &[0; 8]).repeat(100)),
        ("window updates", |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(100)),
        ("a head without end", |number| match number {
            0 => frame(HEADERS, 0, 1, &head_of_get("/v1/models")),
            _ => frame(CONTINUATION, 0, 1, &[0x00, 1, b'a', 1, b'b'].repeat(1_000)),
        }),
        ("requests that are taken back", |number| {
            let streams = number * 50..(number + 1) * 50;
            let pair = |stream: u32| {
                let head = frame(HEADERS, END_STREAM_AND_HEADERS, 2 * stream + 1, &head_of_get("/v1/models"));
                [head, frame(RESET, 0, 2 * stream + 1, &[0, 0, 0, 8])].concat()
            };
            streams.flat_map(pair).collect()
        }),
    ];
    for (what, frames) in floods {
        let is_ended = std::thread::scope(|scope| {
            let flooding = scope.spawn(|| flood(&spillway, &authority, frames));
            let mut longest = Duration::ZERO;
            while !flooding.is_finished() {
                let began = Instant::now();
                let mut answer = other.open_answer(&chat()).unwrap();
                assert_eq!((answer.status(), answer.rest().1.is_ok()), (200, true), "{what}");
                longest = longest.max(began.elapsed());
            }
            assert!(longest < Duration::from_secs(2), "{what}: somebody else has waited for {longest:?}");
            flooding.join().unwrap()
        });
        let more = memory_bytes(&spillway).saturating_sub(before);
        println!("{what}: ended {is_ended}, {} KiB more", more >> 10);
        assert!(more < 48 << 20, "{what}: {more} bytes");
    }
    assert!(within(DEADLINE, || (spillway.metric("spillway_in_flight") == 0.0).then_some(())).is_some());
}

#[test]
fn whoever_takes_back_requests_by_the_hundred_is_cut_off() {
    let provider = Provider::start();
    provider.always(respond(200).delay(Duration::from_secs(5)));
    let (spillway, authority) = start(Setup::with(&provider));
    let mut raw = raw(&spillway, &authority);
    let ended = eventually("the connection is ended", || {
        let mut stream = 1;
        loop {
            let head = frame(HEADERS, END_STREAM_AND_HEADERS, stream, &head_of_get("/v1/models"));
            if raw.send_raw(&head).and_then(|()| raw.send_raw(&frame(RESET, 0, stream, &[0, 0, 0, 8]))).is_err() {
                return Some(stream / 2);
            }
            stream += 2;
        }
    });
    assert!(ended < 20_000, "after {ended} requests");
    eventually("nothing is in flight", || (provider.stats().in_flight() == 0).then_some(()));
}
