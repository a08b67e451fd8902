//! What keeps a caller waiting in a long silence: between events, where readers pass over it, and nowhere else.
#![allow(clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use flate2::Compression;
use flate2::write::GzEncoder;
use spillway_tests::asks::{chat_stream, generate_stream, message_stream};
use spillway_tests::http::{Connection, Request, post};
use spillway_tests::provider::{Provider, Reply, in_pieces};
use spillway_tests::spillway::{Setup, Spillway};
use std::io::Write;

const CHAT: [&str; 2] = [
    "data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
];
const MESSAGE: [&str; 2] = [
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\"}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
];
const CANDIDATES: [&str; 2] = [
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hello\"}]}}]}\n\n",
    "data: {\"candidates\":[{\"finishReason\":\"STOP\"}]}\n\n",
];

fn started(provider: &Provider, settings: &str) -> Spillway {
    let names = ["openai", "anthropic", "gemini"];
    names.iter().fold(Setup::with(provider), |setup, name| setup.set(&format!("upstreams.{name}"), settings)).start()
}

/// Reads until this has come, and answers all that came.
fn read_until(answer: &mut Connection, end: &str) -> String {
    let mut arrived = String::new();
    while !arrived.ends_with(end) {
        let piece = answer.piece().expect("no break").expect("no end yet");
        arrived.push_str(&String::from_utf8(piece).expect("text"));
    }
    arrived
}

#[test]
fn each_api_gets_what_its_readers_pass_over() {
    let provider = Provider::start();
    let spillway = started(&provider, "keep_alive = \"50ms\"");
    let with_id = "id: 7\ndata: {\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n\n";
    let cases: [(Request, [&str; 2], &str); 4] = [
        (chat_stream(), CHAT, ": keep-alive\n\n"),
        (chat_stream(), [with_id, CHAT[1]], ": keep-alive\n"),
        (message_stream(), MESSAGE, ": keep-alive\n\n"),
        (generate_stream(), CANDIDATES, "\n"),
    ];
    for (request, [first, last], comment) in cases {
        let gate = provider.gate();
        provider.next(in_pieces("text/event-stream").chunk(first).wait_for(&gate).chunk(last));
        let (_, mut answer) = spillway.open(&request);
        let so_far = format!("{first}{comment}{comment}");
        assert_eq!(read_until(&mut answer, &so_far), so_far);
        gate.open();
        let rest = String::from_utf8(answer.body().expect("a clean end")).expect("text");
        let more = rest.strip_suffix(last).expect("what the provider said");
        assert_eq!(more.replace(comment, ""), "", "{rest}");
    }
}

#[test]
fn nothing_is_written_into_an_event_into_lines_or_among_compressed_bytes() {
    let provider = Provider::start();
    let spillway = started(&provider, "keep_alive = \"20ms\"");
    let (half, other_half) = CHAT[1].split_at(20);
    let lines = ["{\"message\":{\"content\":\"a\"},\"done\":false}\n", "{\"done\":true}\n"];
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(CHAT[0].as_bytes()).and_then(|()| encoder.flush()).expect("memory");
    let first = std::mem::take(encoder.get_mut());
    encoder.write_all(CHAT[1].as_bytes()).expect("memory");
    let last = encoder.finish().expect("memory");
    let events = || in_pieces("text/event-stream");
    let ollama = post("/openai/api/chat", &serde_json::json!({"model": "m"}));
    let cases: [(Request, Reply, Vec<u8>, Vec<u8>); 3] = [
        (chat_stream(), events(), [CHAT[0], half].concat().into(), other_half.into()),
        (ollama, in_pieces("application/x-ndjson"), lines[0].into(), lines[1].into()),
        (chat_stream(), events().header("content-encoding", "gzip"), first, last),
    ];
    for (request, reply, first, last) in cases {
        // Ten silences long.
        let silence = std::time::Duration::from_millis(200);
        provider.next(reply.chunk(first.clone()).pause(silence).chunk(last.clone()));
        let (_, mut answer) = spillway.open(&request);
        assert_eq!(answer.body().expect("a clean end"), [first, last].concat());
    }
}

#[test]
fn the_provider_is_given_up_as_if_nothing_were_written_and_without_the_setting_nothing_is() {
    let provider = Provider::start();
    for (settings, said) in
        [("keep_alive = \"50ms\"\nidle_timeout = \"500ms\"", true), ("idle_timeout = \"500ms\"", false)]
    {
        let spillway = started(&provider, settings);
        provider.next(in_pieces("text/event-stream").chunk(CHAT[0]).stall());
        let (_, mut answer) = spillway.open(&chat_stream());
        let (events, end) = answer.events();
        assert!(end.is_err() && events.last().is_some_and(|last| last.contains("spillway_stream_cut")), "{events:?}");
        assert_eq!(events.iter().any(|event| event.contains("keep-alive")), said, "{events:?}");
    }
}
