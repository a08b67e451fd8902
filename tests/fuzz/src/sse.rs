//! Streams of events: however they arrive they are read alike, and those sent by a server as the standard reads them.

use crate::dialect::events::{Events, Stage};
use crate::dialect::sse::{self, Framing, Splitter};
use crate::dialect::{Dialect, Usage};
use crate::splits::splits;
use bytes::Bytes;
use spillway_sdk::ProviderError;

/// All that comes of a stream.
#[derive(Debug, PartialEq)]
struct Told {
    /// Each event as the caller gets it, if it does, and whether it is content.
    events: Vec<(Option<Bytes>, bool)>,
    /// The last one, behind which the blank line is missing.
    last: Option<(Option<Bytes>, bool)>,
    rest: Bytes,
    stage: Stage,
    pieces: u64,
    usage: Option<Usage>,
    error: Option<ProviderError>,
}

/// Reads a stream that arrives in these pieces and then ends.
fn told(dialect: Dialect, strips_usage: bool, pieces: &[&[u8]]) -> Told {
    let mut stream = Events::new(Splitter::new(dialect.framing(), None), dialect, 1, strips_usage);
    let mut events = Vec::new();
    for piece in pieces {
        stream.push(Bytes::copy_from_slice(piece));
        while let Some(event) = stream.next_event() {
            events.push((event.bytes, event.is_content));
        }
    }
    let last = stream.last_event().map(|event| (event.bytes, event.is_content));
    Told {
        events,
        last,
        rest: stream.take_rest(),
        stage: stream.stage(),
        pieces: stream.pieces(),
        usage: stream.usage(),
        error: stream.error().cloned(),
    }
}

/// What must hold of any bytes that come as a stream of events.
pub fn check(bytes: &[u8]) {
    for dialect in Dialect::ALL {
        let whole = told(dialect, false, &[bytes]);
        let passed_on: Vec<u8> = whole
            .events
            .iter()
            .chain(&whole.last)
            .flat_map(|(event, _)| event.iter().flatten())
            .chain(&whole.rest)
            .copied()
            .collect();
        assert_eq!(passed_on, bytes, "{dialect:?}: other bytes are passed on");
        for (event, _) in &whole.events {
            assert!(
                event.as_ref().is_some_and(|event| dialect.framing().is_closed(event)),
                "{event:?} is cut out before its end"
            );
        }
        let stripped = told(dialect, true, &[bytes]);
        assert_eq!(
            (stripped.stage, stripped.pieces, stripped.usage, &stripped.error),
            (whole.stage, whole.pieces, whole.usage, &whole.error),
            "{dialect:?}: usage that is taken out is not read alike"
        );
        assert_eq!(stripped.events.len(), whole.events.len());
        for (kept, event) in stripped.events.iter().chain(&stripped.last).zip(whole.events.iter().chain(&whole.last)) {
            let is_usage = || event.0.as_ref().is_some_and(|event| dialect.is_usage_event(&dialect.data(event)));
            assert!(kept == event || kept.0.is_none() && is_usage(), "{dialect:?}: {event:?} is taken out");
        }
        for pieces in splits(bytes) {
            assert_eq!(told(dialect, false, &pieces), whole, "{dialect:?}: in pieces it is read otherwise: {pieces:?}");
            if dialect == Dialect::OpenAi {
                assert_eq!(told(dialect, true, &pieces), stripped, "{dialect:?}: in pieces, stripped: {pieces:?}");
            }
        }
    }
    if has_one_kind_of_line_end(bytes) {
        let ours: Vec<(Vec<u8>, Vec<u8>)> = told(Dialect::Other, false, &[bytes])
            .events
            .iter()
            .flat_map(|(event, _)| event)
            .map(|event| (sse::name(event).unwrap_or_default().to_vec(), sse::data(event).into_owned()))
            .filter(|(_, data)| !data.is_empty())
            .collect();
        let standard = by_the_standard(bytes);
        assert_eq!(ours, standard, "the standard reads other events");
        // Usage is what stands in their data, and in no other place.
        for dialect in Dialect::ALL.into_iter().filter(|dialect| dialect.framing() == Framing::Events) {
            let whole = told(dialect, false, &[bytes]);
            if whole.last.is_some() {
                continue;
            }
            let counted = standard.iter().filter_map(|(_, data)| dialect.read_usage(data));
            assert_eq!(whole.usage, counted.reduce(Usage::most), "{dialect:?}");
        }
    }
}

/// Whether all lines end alike. Where they do not, events may be taken together that the standard tells apart, which
/// no provider brings about.
fn has_one_kind_of_line_end(bytes: &[u8]) -> bool {
    let text: Vec<u8> = [bytes, b"\n"].concat();
    let pairs = text.windows(2).filter(|pair| *pair == b"\r\n").count();
    let of = |wanted: u8| bytes.iter().filter(|byte| **byte == wanted).count();
    let (returns, feeds) = (of(b'\r'), of(b'\n'));
    returns == 0
        || feeds == 0 && !bytes.ends_with(b"\r")
        || returns == feeds && pairs == feeds && !bytes.ends_with(b"\r")
}

/// The names and the data of the events that are dispatched, by the living standard of HTML, section 9.2.6: "event
/// stream interpretation", without its first line's byte order mark.
fn by_the_standard(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let ending: &[u8] = if bytes.windows(2).any(|pair| pair == b"\r\n") {
        b"\r\n"
    } else if bytes.contains(&b'\r') {
        b"\r"
    } else {
        b"\n"
    };
    let mut lines = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(ending.len()).position(|window| window == ending) {
        lines.push(&rest[..at]);
        rest = &rest[at + ending.len()..];
    }
    let (mut events, mut name, mut data) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        if line.is_empty() {
            data.pop();
            let event = (std::mem::take(&mut name), std::mem::take(&mut data));
            if !event.1.is_empty() {
                events.push(event);
            }
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = colon.map_or((line, &b""[..]), |at| (&line[..at], &line[at + 1..]));
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => name = value.to_vec(),
            b"data" => data.extend([value, b"\n"].concat()),
            _ => {}
        }
    }
    events
}
