//! Every shape of stream that was recorded, through the real process in pieces as chance will have them: the caller gets
//! its bytes, and no others. Where usage was asked for on the caller's behalf, it gets all but the event with the usage.
#![allow(clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use serde_json::json;
use spillway_tests::asks::{APIS, chat_with};
use spillway_tests::chance::Chance;
use spillway_tests::http::{Request, post};
use spillway_tests::provider::{Provider, Reply, in_pieces};
use spillway_tests::spillway::{Setup, Spillway};
use std::fs;
use std::path::Path;

/// Ways in which each stream arrives.
const WAYS: usize = 6;
/// Most pieces that a stream comes in.
const PIECES_MAX: usize = 24;
/// A limit that nothing here reaches. Where there is one on tokens, usage is asked for.
const LIMITS: &str = "tokens_per_minute = 1000000000";

/// How a recording ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Well,
    /// With an error, behind a part of the answer.
    WithError,
    /// With an error that is all there is: it is judged and repeated, and is no stream that a caller gets.
    AsRefusal,
}

fn ends(name: &str) -> Ends {
    match name {
        _ if name.ends_with("-first-error") => Ends::AsRefusal,
        _ if name.ends_with("-error") || name.ends_with("-failed") => Ends::WithError,
        _ => Ends::Well,
    }
}

/// The recordings that end so, by name; the fuzz targets begin with them.
fn recordings(end: Ends) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/recorded");
    let files = fs::read_dir(folder).expect("the recordings").map(|entry| entry.expect("a recording").path());
    let recordings: Vec<(String, Vec<u8>)> = files
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("a recording"))
        })
        .filter(|(name, _)| ends(name) == end)
        .collect();
    assert!(recordings.len() > 2, "recordings are missing");
    recordings
}

/// The request that a recording answers.
fn request(name: &str, asks_for_usage: bool) -> Request {
    let [_, anthropic, gemini] = APIS;
    match name {
        _ if name.starts_with("anthropic-") => (anthropic.stream)(),
        _ if name.starts_with("gemini-") => (gemini.stream)(),
        _ if name.starts_with("ollama-chat") => post("/openai/api/chat", &json!({"model": "m", "messages": []})),
        _ if name.starts_with("ollama-generate") => post("/openai/api/generate", &json!({"model": "m", "prompt": ""})),
        _ if name.starts_with("openai-responses") => {
            post("/v1/responses", &json!({"model": "mock-small", "input": "Say hello.", "stream": true}))
        }
        _ => {
            let alternatives = if name.contains("two-choices") { 2 } else { 1 };
            let mut fields = json!({"stream": true, "n": alternatives});
            if asks_for_usage {
                fields["stream_options"] = json!({"include_usage": true});
            }
            chat_with(fields)
        }
    }
}

/// The stream in pieces as chance will have it, at first one byte at a time.
fn split(name: &str, stream: &[u8], way: usize, chance: &mut Chance) -> Reply {
    let mut cuts: Vec<usize> = match way {
        0 => (0..stream.len()).collect(),
        _ => (0..chance.below(PIECES_MAX)).map(|_| chance.below(stream.len())).collect(),
    };
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    cuts.dedup();
    let pieces = cuts.windows(2).map(|pair| stream[pair[0]..pair[1]].to_vec());
    let media_type = if name.starts_with("ollama-") { "application/x-ndjson" } else { "text/event-stream" };
    pieces.fold(in_pieces(media_type), Reply::chunk)
}

/// A chat's stream without the event that is there only because usage was asked for.
fn without_usage(stream: &[u8]) -> Vec<u8> {
    let text = str::from_utf8(stream).expect("text");
    let blank_line = ["\r\n\r\n", "\n\n", "\r\r"].into_iter().find(|blank| text.contains(blank)).expect("an event");
    let is_usage = |event: &&str| {
        let json: String = event.replace("data:", "").split_whitespace().collect();
        json.contains("\"choices\":[],\"usage\":{")
    };
    text.split_inclusive(blank_line).filter(|event| !is_usage(event)).collect::<String>().into_bytes()
}

/// A caller who wants its usage gets the stream as it is, by one call, in whichever pieces it arrives.
fn passes_as_it_is(
    spillway: &Spillway,
    provider: &Provider,
    (name, stream): (&str, &[u8]),
    way: usize,
    chance: &mut Chance,
) {
    let started = provider.stats().started;
    provider.next(split(name, stream, way, chance));
    let answer = spillway.open(&request(name, true)).1.body().expect("a clean end");
    assert_eq!(String::from_utf8_lossy(&answer), String::from_utf8_lossy(stream), "{name}, {way}");
    assert_eq!(provider.stats().started, started + 1, "{name}, {way}");
}

#[test]
fn a_caller_gets_every_recorded_stream_as_it_is_however_it_arrives() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let mut chance = Chance::seeded(25);
    for (name, stream) in recordings(Ends::Well) {
        for way in 0..WAYS {
            passes_as_it_is(&spillway, &provider, (&name, &stream), way, &mut chance);
        }
    }
}

#[test]
fn an_error_within_a_stream_is_passed_on_as_it_is_however_it_arrives() {
    let provider = Provider::start();
    let mut chance = Chance::seeded(250);
    for (name, stream) in recordings(Ends::WithError) {
        for way in 0..WAYS {
            // What failed before is nothing to wait for.
            let spillway = Setup::with(&provider).start();
            passes_as_it_is(&spillway, &provider, (&name, &stream), way, &mut chance);
        }
    }
}

#[test]
fn a_caller_that_did_not_ask_for_usage_gets_all_but_the_event_with_it_however_it_arrives() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("upstreams.openai.limits", LIMITS).start();
    let mut chance = Chance::seeded(52);
    let mut shorter = 0;
    for (name, stream) in recordings(Ends::Well).into_iter().filter(|(name, _)| name.starts_with("openai-chat")) {
        let expected = without_usage(&stream);
        shorter += usize::from(expected.len() < stream.len());
        for way in 0..WAYS {
            provider.next(split(&name, &stream, way, &mut chance));
            let answer = spillway.open(&request(&name, false)).1.body().expect("a clean end");
            assert_eq!(String::from_utf8_lossy(&answer), String::from_utf8_lossy(&expected), "{name}, {way}");
        }
    }
    assert!(shorter > 5, "recordings with usage are missing");
}
