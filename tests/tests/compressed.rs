//! Compressed answers pass as the provider sent them, and are decoded to be read: what they say counts as if they had come
//! in plain.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use spillway_tests::asks::{APIS, Api, chat, chat_stream};
use spillway_tests::http::{Connection, Request};
use spillway_tests::provider::{Provider, Reply, in_pieces, respond};
use spillway_tests::spillway::{Setup, Spillway};
use spillway_tests::wait::eventually;
use std::io::Write;

/// What decodes to this many times a megabyte would be felt, if it were decoded.
const BOMB_MEGABYTES: usize = 512;

/// Events, each flushed by itself, and the end of the stream.
fn flushed(events: &[&str]) -> Vec<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    for event in events {
        encoder.write_all(event.as_bytes()).and_then(|()| encoder.flush()).expect("memory");
        pieces.push(std::mem::take(encoder.get_mut()));
    }
    pieces.push(encoder.finish().expect("memory"));
    pieces
}

fn gzip(text: &str) -> Vec<u8> {
    flushed(&[text]).concat()
}

/// The events of an API's stream, of which the first two belong to one another, and each counts 12 and 3 tokens in all.
fn events(api: Api) -> [&'static str; 3] {
    match api.name {
        "anthropic" => [
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":12,\"output_tokens\":1}}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"Hello\"}}\n\n",
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":3}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ],
        "gemini" => [
            "data: {\"usageMetadata\":{}}\r\n\r\n",
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hello\"}]}}]}\r\n\r\n",
            "data: {\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":12,\"candidatesTokenCount\":3}}\r\n\r\n",
        ],
        _ => [
            ": hello\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n",
        ],
    }
}

fn stream() -> Reply {
    in_pieces("text/event-stream").header("content-encoding", "gzip")
}

fn tokens(spillway: &Spillway, upstream: &str) -> (f64, f64) {
    let of = |direction: &str| {
        spillway.metric(&format!("spillway_tokens_total{{upstream=\"{upstream}\",direction=\"{direction}\"}}"))
    };
    (of("input"), of("output"))
}

/// Reads so many bytes, which must come although the provider holds back what follows.
fn read(answer: &mut Connection, count: usize) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < count {
        read.extend(answer.piece().expect("no break").expect("no end yet"));
    }
    read
}

#[test]
fn a_compressed_stream_passes_byte_by_byte_as_soon_as_it_comes_and_is_counted() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    for api in APIS {
        let pieces = flushed(&events(api));
        let gate = provider.gate();
        let held = stream().chunk(pieces[0].clone()).chunk(pieces[1].clone()).wait_for(&gate);
        provider.next(held.chunk(pieces[2].clone()).chunk(pieces[3].clone()));
        let asked = (api.stream)().header("accept-encoding", "gzip, deflate, br, zstd");
        let (head, mut answer) = spillway.open(&asked);
        assert_eq!((head.status, head.header("content-encoding")), (200, Some("gzip")), "{}", api.name);
        let first = read(&mut answer, pieces[0].len() + pieces[1].len());
        assert_eq!(first, pieces[..2].concat(), "{}", api.name);
        gate.open();
        assert_eq!(answer.body().expect("a clean end"), pieces[2..].concat(), "{}", api.name);
        eventually("its tokens are counted", || (tokens(&spillway, api.name) == (12.0, 3.0)).then_some(()));
        let sent = provider.requests();
        let sent = sent.last().expect("a request");
        assert_eq!(sent.header("accept-encoding"), Some("gzip, deflate, br"), "{}", api.name);
    }
}

#[test]
fn an_error_that_a_compressed_stream_begins_with_is_tried_again() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let error = "data: {\"error\":{\"message\":\"The server had an error\",\"type\":\"server_error\"}}\n\n";
    provider.next(stream().chunk(gzip(error)));
    let (head, mut answer) = spillway.open(&chat_stream().header("accept-encoding", "gzip"));
    assert_eq!((head.status, provider.stats().started), (200, 2));
    assert!(String::from_utf8_lossy(&answer.body().expect("a clean end")).contains("[DONE]"));
}

#[test]
fn a_compressed_stream_that_ends_too_early_breaks_off_as_it_came_and_counts_as_a_failure() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    for api in APIS {
        let whole = flushed(&events(api));
        let early = flushed(&events(api)[..2]);
        // Cut between two events, and ended cleanly without the last ones.
        for (pieces, ends) in [(&whole[..2], Reply::cut as fn(Reply) -> Reply), (&early[..], |reply| reply)] {
            let before = spillway.upstream(api.name)["breakers"][0]["window"]["failures"].as_u64().expect("a count");
            provider.next(ends(pieces.iter().cloned().fold(stream(), Reply::chunk)));
            let (_, mut answer) = spillway.open(&(api.stream)().header("accept-encoding", "gzip"));
            let mut arrived = Vec::new();
            let broken = loop {
                match answer.piece() {
                    Ok(Some(piece)) => arrived.extend(piece),
                    end => break end,
                }
            };
            assert!(broken.is_err(), "{}", api.name);
            assert_eq!(arrived, pieces.concat(), "{}", api.name);
            eventually("its failure is counted", || {
                (spillway.upstream(api.name)["breakers"][0]["window"]["failures"] == json!(before + 1)).then_some(())
            });
        }
    }
}

#[test]
fn a_compressed_body_is_read_for_its_usage_its_end_and_its_error() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let asked = chat().header("accept-encoding", "gzip");
    let body = gzip(
        "{\"choices\":[{\"message\":{\"content\":\"Hello\"}}],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":3}}",
    );
    let gzipped = |reply: Reply| reply.header("content-type", "application/json").header("content-encoding", "gzip");
    provider.next(gzipped(respond(200)).body(body.clone()));
    assert_eq!(spillway.send(&asked).body, body);
    eventually("its tokens are counted", || (tokens(&spillway, "openai") == (12.0, 3.0)).then_some(()));

    // Its connection is lost behind the last bracket.
    let cut = in_pieces("application/json").header("content-encoding", "gzip").chunk(body.clone()).cut();
    provider.next(cut);
    let started = provider.stats().started;
    assert_eq!((spillway.send(&asked).body, provider.stats().started), (body, started + 1));

    // Nothing under a success is none because it is compressed.
    provider.next(gzipped(respond(200)).body(gzip("{\"choices\":[]}")));
    assert_eq!((spillway.send(&asked).status(), provider.stats().started), (200, started + 3));

    // A quota that is spent is told by the body alone, and not tried again.
    let error = gzip(
        "{\"error\":{\"message\":\"You exceeded your current quota\",\"type\":\"insufficient_quota\",\"code\":\"insufficient_quota\"}}",
    );
    provider.next(gzipped(respond(429)).body(error.clone()));
    let answer = spillway.send(&asked);
    assert_eq!((answer.status(), &answer.body, provider.stats().started), (429, &error, started + 4));
}

#[test]
fn an_answer_whose_bytes_may_be_changed_is_asked_for_in_plain() {
    let provider = Provider::start();
    let asked = |spillway: &Spillway, request: Request| {
        assert_eq!(spillway.send(&request.header("accept-encoding", "gzip")).status(), 200);
        let sent = provider.requests();
        sent.last().and_then(|sent| sent.header("accept-encoding").map(str::to_owned))
    };
    let limited = Setup::with(&provider).set("upstreams.openai.limits", "tokens_per_minute = 100000").start();
    assert_eq!(asked(&limited, chat()).as_deref(), Some("gzip"));
    assert_eq!(asked(&limited, chat_stream()).as_deref(), Some("identity"), "usage is taken out of it");
    let keyed = Setup::with(&provider)
        .set("upstreams.openai", "api_key_env = [\"KEY\"]")
        .set("routes.all", "targets = [\"openai\"]\nopen_to_local = true")
        .environment("KEY", "sk-of-the-house")
        .start();
    assert_eq!(asked(&keyed, chat()).as_deref(), Some("identity"), "a key is kept out of it");
}

#[test]
fn what_decodes_to_more_than_anybody_answers_is_passed_on_and_not_read() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    // A megabyte, again and again: what is packed in several parts is one body.
    let bomb = gzip(&" ".repeat(1 << 20)).repeat(BOMB_MEGABYTES);
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", spillway.pid())).expect("a process");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        peak.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") >> 10
    };
    let before = memory();
    for (request, content_type) in [(chat(), "application/json"), (chat_stream(), "text/event-stream")] {
        let reply = respond(200).header("content-type", content_type).header("content-encoding", "gzip");
        provider.next(reply.body(bomb.clone()));
        let (head, mut answer) = spillway.open(&request.header("accept-encoding", "gzip"));
        assert_eq!((head.status, answer.body().expect("a clean end")), (200, bomb.clone()), "{content_type}");
    }
    let grown = memory() - before;
    assert!(grown < BOMB_MEGABYTES / 8, "{grown} MB");
}
