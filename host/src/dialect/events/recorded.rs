//! Every shape of stream that providers send, as it was recorded: read alike however it arrives, one byte at a time or
//! in any pieces, and with the same bytes passed on, whether or not the usage in it was asked for.
//!
//! The recordings lie with the fuzz targets, which begin with them; a file's name begins with the dialect's.

use super::*;
use proptest::prelude::*;
use std::fs;
use std::path::PathBuf;

/// What comes of a stream.
#[derive(Debug, PartialEq)]
struct Told {
    /// Each event as the caller gets it, if it does, and whether it is content; at last the one behind which the blank
    /// line is missing.
    events: Vec<(Option<Bytes>, bool)>,
    rest: Bytes,
    stage: Stage,
    pieces: u64,
    usage: Option<Usage>,
    error: Option<ProviderError>,
}

impl Told {
    fn of(recorded: &Recorded, strips_usage: bool, pieces: &[&[u8]]) -> Told {
        let splitter = Splitter::new(recorded.dialect.framing(), None);
        let mut stream = Events::new(splitter, recorded.dialect, recorded.expected.alternatives, strips_usage);
        let mut events = Vec::new();
        let mut tell = |event: Event| events.push((event.bytes, event.is_content));
        for piece in pieces {
            stream.push(Bytes::copy_from_slice(piece));
            std::iter::from_fn(|| stream.next_event()).for_each(&mut tell);
        }
        stream.last_event().into_iter().for_each(tell);
        Told {
            events,
            rest: stream.take_rest(),
            stage: stream.stage(),
            pieces: stream.pieces(),
            usage: stream.usage(),
            error: stream.error().cloned(),
        }
    }

    fn passed_on(&self) -> Vec<u8> {
        self.events.iter().flat_map(|(event, _)| event.iter().flatten()).chain(&self.rest).copied().collect()
    }
}

/// What is known of a recording.
#[derive(Clone, Copy)]
struct Expected {
    name: &'static str,
    alternatives: u64,
    stage: Stage,
    /// Input and output tokens.
    usage: Option<(u64, u64)>,
    /// The code or the kind of the error in it, or part of its message, where it has neither.
    error: Option<&'static str>,
    /// How many of its events are there only because usage was asked for.
    stripped: usize,
}

const fn whole(name: &'static str, stage: Stage, usage: Option<(u64, u64)>, stripped: usize) -> Expected {
    Expected { name, alternatives: 1, stage, usage, error: None, stripped }
}

const fn failing(name: &'static str, usage: Option<(u64, u64)>, error: &'static str) -> Expected {
    Expected { name, alternatives: 1, stage: Stage::Running, usage, error: Some(error), stripped: 0 }
}

/// Tokens of most of them.
const USAGE: Option<(u64, u64)> = Some((5, 2));

/// Every recording there is.
const EXPECTED: [Expected; 38] = [
    whole("anthropic-messages", Stage::Over, Some((24, 5)), 0),
    failing("anthropic-messages-error", Some((5, 1)), "overloaded_error"),
    failing("anthropic-messages-first-error", None, "overloaded_error"),
    whole("anthropic-messages-no-names", Stage::Over, USAGE, 0),
    whole("anthropic-messages-tools", Stage::Over, USAGE, 0),
    whole("gemini-generate", Stage::Finished, Some((14, 5)), 0),
    whole("gemini-generate-blocked", Stage::Finished, Some((5, 0)), 0),
    failing("gemini-generate-error", None, "UNAVAILABLE"),
    whole("gemini-generate-tools", Stage::Finished, USAGE, 0),
    whole("ollama-chat", Stage::Over, USAGE, 0),
    whole("ollama-chat-cr-lf", Stage::Over, USAGE, 0),
    failing("ollama-chat-error", None, "unexpected EOF"),
    failing("ollama-chat-first-error", None, "unexpectedly stopped"),
    whole("ollama-chat-last-line-missing", Stage::Over, USAGE, 0),
    whole("ollama-chat-tools", Stage::Over, USAGE, 0),
    whole("ollama-generate", Stage::Over, USAGE, 0),
    whole("openai-chat", Stage::Over, None, 0),
    whole("openai-chat-azure", Stage::Over, None, 0),
    whole("openai-chat-byte-order-mark", Stage::Over, USAGE, 1),
    whole("openai-chat-comments", Stage::Over, USAGE, 1),
    whole("openai-chat-cr", Stage::Over, USAGE, 1),
    whole("openai-chat-cr-lf", Stage::Over, USAGE, 1),
    failing("openai-chat-error", None, "server_error"),
    failing("openai-chat-first-error", None, "rate_limit_exceeded"),
    whole("openai-chat-ids", Stage::Over, USAGE, 1),
    whole("openai-chat-last-line-missing", Stage::Over, USAGE, 1),
    whole("openai-chat-many-lines", Stage::Over, USAGE, 1),
    whole("openai-chat-no-space", Stage::Over, USAGE, 1),
    whole("openai-chat-quoted", Stage::Over, USAGE, 1),
    whole("openai-chat-tools", Stage::Over, USAGE, 1),
    Expected { alternatives: 2, ..whole("openai-chat-two-choices", Stage::Over, USAGE, 1) },
    whole("openai-chat-usage", Stage::Over, Some((30, 5)), 1),
    whole("openai-responses", Stage::Over, Some((11, 5)), 0),
    failing("openai-responses-failed", None, "server_error"),
    failing("openai-responses-first-error", None, "server_error"),
    whole("openai-responses-incomplete", Stage::Over, USAGE, 0),
    whole("openai-responses-no-names", Stage::Over, USAGE, 0),
    whole("openai-responses-tools", Stage::Over, USAGE, 0),
];

/// A stream as it was recorded.
struct Recorded {
    dialect: Dialect,
    bytes: Vec<u8>,
    expected: Expected,
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/recorded"))
}

fn recorded() -> impl Iterator<Item = Recorded> {
    EXPECTED.into_iter().map(|expected| {
        let dialect = expected.name.split('-').next().and_then(Dialect::from_word).expect("a dialect");
        Recorded { dialect, bytes: fs::read(folder().join(expected.name)).expect("a recording"), expected }
    })
}

#[test]
fn every_recording_is_read_as_what_it_is() {
    let mut there: Vec<String> = fs::read_dir(folder())
        .expect("the recordings")
        .map(|entry| entry.expect("a recording").file_name().into_string().expect("a name"))
        .collect();
    there.sort();
    assert_eq!(there, EXPECTED.map(|expected| expected.name), "each recording has its line here");
    for stream in recorded() {
        let Expected { name, stage, usage, error, stripped, .. } = stream.expected;
        let told = Told::of(&stream, false, &[&stream.bytes]);
        let counted = told.usage.map(|usage| (usage.input, usage.output));
        assert_eq!((told.stage, counted), (stage, usage), "{name}");
        let is_error =
            |word: &str| told.error.as_ref().is_some_and(|error| error.is_any(&[word]) || error.message.contains(word));
        assert!(error.map_or(told.error.is_none(), is_error), "{name}: {:?}", told.error);
        assert!(told.passed_on() == stream.bytes, "{name}: other bytes are passed on");
        let taken_out =
            Told::of(&stream, true, &[&stream.bytes]).events.iter().filter(|(event, _)| event.is_none()).count();
        assert_eq!(taken_out, stripped, "{name}");
    }
}

#[test]
fn one_byte_at_a_time_every_recording_is_read_alike() {
    for stream in recorded() {
        let one_by_one: Vec<&[u8]> = stream.bytes.chunks(1).collect();
        for strips_usage in [false, true] {
            let whole = Told::of(&stream, strips_usage, &[&stream.bytes]);
            assert_eq!(Told::of(&stream, strips_usage, &one_by_one), whole, "{}", stream.expected.name);
        }
    }
}

#[test]
fn cut_anywhere_every_recording_is_read_alike() {
    for stream in recorded() {
        let whole = Told::of(&stream, true, &[&stream.bytes]);
        for cut in 0..=stream.bytes.len() {
            let (first, second) = stream.bytes.split_at(cut);
            assert_eq!(Told::of(&stream, true, &[first, second]), whole, "{}, {cut}", stream.expected.name);
        }
    }
}

proptest! {
    #[test]
    fn in_any_pieces_every_recording_is_read_alike(
        which in 0..EXPECTED.len(),
        places in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        strips_usage in any::<bool>(),
    ) {
        let stream = recorded().nth(which).expect("a recording");
        let mut cuts: Vec<usize> = places.iter().map(|place| place.index(stream.bytes.len() + 1)).collect();
        cuts.extend([0, stream.bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream.bytes[pair[0]..pair[1]]).collect();
        let whole = Told::of(&stream, strips_usage, &[&stream.bytes]);
        prop_assert_eq!(Told::of(&stream, strips_usage, &pieces), whole);
    }
}
