//! Streams of events, which most APIs write as server-sent events and Ollama line by line: finding where one ends, and
//! what it says.

use super::decoder::Decoder;
use bytes::{Bytes, BytesMut};
use std::borrow::Cow;

/// Largest event that is kept together. A longer one is passed on in parts, as they come. Images are longer.
pub(crate) const EVENT_BYTES_MAX: usize = 1 << 20;

/// How a stream is cut into events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Server-sent events, with a blank line behind each.
    #[default]
    Events,
    /// A JSON object in each line.
    Lines,
}

impl Framing {
    /// Whether a head with this media type announces such a stream.
    pub(crate) fn is_of(self, content_type: &[u8]) -> bool {
        let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let names: &[&str] = match self {
            Framing::Events => &["text/event-stream"],
            Framing::Lines => &["application/x-ndjson", "application/ndjson", "application/jsonl"],
        };
        names.iter().any(|name| media_type.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// What is put behind an event that lacks its end, so that another can follow.
    pub(crate) fn end(self) -> &'static [u8] {
        match self {
            Framing::Events => b"\n\n",
            Framing::Lines => b"\n",
        }
    }

    /// Whether something can follow that begins an event of its own: behind a blank line, or behind a comment.
    pub(crate) fn is_closed(self, bytes: &[u8]) -> bool {
        match self {
            Framing::Events => is_closed(bytes),
            Framing::Lines => bytes.ends_with(b"\n"),
        }
    }
}

/// Bytes of a blank line that may have arrived while its last one has not: where it stands, an event ends.
const BLANK_LINE_BEGUN_BYTES_MAX: usize = 3;

/// Cuts a stream of bytes into whole events.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    framing: Framing,
    /// Decodes what arrives, where it comes compressed.
    decoder: Option<Box<Decoder>>,
    pending: Bytes,
    /// How much of `pending` is known to hold no end of what it begins with.
    searched: usize,
    /// What has begun and is too large, so that `pending` is but the rest of it.
    oversized: Option<Oversized>,
    overflowed: bool,
    cut_a_part: bool,
}

/// What is too large to be kept together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Oversized {
    /// It ends with a blank line.
    Event,
    /// It ends with its line.
    Comment,
}

impl Splitter {
    /// For a stream that is cut so, and comes compressed if there is a decoder for it.
    pub(crate) fn new(framing: Framing, decoder: Option<Box<Decoder>>) -> Self {
        Splitter { framing, decoder, ..Splitter::default() }
    }

    /// Whether the events are not what arrives, but what it decodes to.
    pub(crate) fn is_compressed(&self) -> bool {
        self.decoder.is_some()
    }

    /// Adds what has arrived. Copies nothing when no partial event is waiting.
    pub(crate) fn push(&mut self, mut arrived: Bytes) {
        if let Some(decoder) = &mut self.decoder {
            arrived = decoder.decode(&arrived);
            // What cannot be decoded may have said anything.
            self.overflowed |= decoder.has_given_up();
        }
        if self.pending.is_empty() {
            self.pending = arrived;
        } else {
            // Nobody else holds a partial event, so its buffer grows in place.
            let mut joined = match std::mem::take(&mut self.pending).try_into_mut() {
                Ok(own) => own,
                Err(shared) => BytesMut::from(&shared[..]),
            };
            joined.extend_from_slice(&arrived);
            self.pending = joined.freeze();
        }
    }

    /// The next whole event, its closing blank line included; or a blank line or a comment before it, with which
    /// servers keep their callers waiting. Of what is too large, which does not depend on how it arrives, it is
    /// [a part](Self::has_cut_a_part).
    pub(crate) fn next_event(&mut self) -> Option<Bytes> {
        let begins_with = match self.pending.first()? {
            b':' => Oversized::Comment,
            _ => Oversized::Event,
        };
        let kind = self.oversized.unwrap_or(begins_with);
        let end = match (self.framing, kind) {
            (Framing::Lines, _) => newline_end(&self.pending, self.searched),
            (Framing::Events, Oversized::Comment) => line_end(&self.pending, self.searched),
            (Framing::Events, Oversized::Event) => {
                let blank_line = if self.oversized.is_none() { blank_line_end(&self.pending) } else { None };
                blank_line.or_else(|| event_end(&self.pending, self.searched))
            }
        };
        let is_large = self.oversized.is_some() || end.unwrap_or(self.pending.len()) > EVENT_BYTES_MAX;
        let begun = self.pending.len().saturating_sub(BLANK_LINE_BEGUN_BYTES_MAX);
        self.cut_a_part = is_large;
        self.overflowed |= is_large;
        self.oversized = (is_large && end.is_none()).then_some(kind);
        self.searched = if end.is_some() || is_large { 0 } else { begun };
        match end {
            Some(end) => Some(self.pending.split_to(end)),
            None if is_large && begun > 0 => Some(self.pending.split_to(begun)),
            None => None,
        }
    }

    /// Whether what was cut out last is a part of an event, or of a comment, that is too large to be kept together.
    pub(crate) fn has_cut_a_part(&self) -> bool {
        self.cut_a_part
    }

    /// Whether more of that is to come.
    pub(crate) fn is_within_a_part(&self) -> bool {
        self.oversized.is_some()
    }

    /// Whether some event was too large to be kept together, so that what it said is not known.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// What has arrived, and has not been cut out yet.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// What has arrived of an event that is not whole.
    pub(crate) fn take_rest(&mut self) -> Bytes {
        self.searched = 0;
        self.oversized = None;
        std::mem::take(&mut self.pending)
    }
}

/// Where the first line ends, of lines that end with a line feed.
fn newline_end(bytes: &[u8], from: usize) -> Option<usize> {
    memchr::memchr(b'\n', &bytes[from..]).map(|at| from + at + 1)
}

/// Where a blank line ends that stands before an event and belongs to none.
fn blank_line_end(bytes: &[u8]) -> Option<usize> {
    match bytes.first()? {
        b'\n' | b'\r' => line_end(bytes, 0),
        _ => None,
    }
}

/// Where the first line ends, whichever of the three line ends is used.
fn line_end(bytes: &[u8], from: usize) -> Option<usize> {
    let end = from + memchr::memchr2(b'\n', b'\r', &bytes[from..])?;
    match &bytes[end..] {
        // Whether a line feed belongs to it is told by what comes next.
        [b'\r'] => None,
        [b'\r', b'\n', ..] => Some(end + 2),
        _ => Some(end + 1),
    }
}

/// Where the first event ends: behind an empty line, whichever of the three line ends is used.
fn event_end(bytes: &[u8], from: usize) -> Option<usize> {
    for at in memchr::memchr2_iter(b'\n', b'\r', &bytes[from..]).map(|at| at + from) {
        let rest = &bytes[at..];
        for blank in [&b"\n\n"[..], b"\n\r\n", b"\r\n\r\n", b"\r\r"] {
            if rest.starts_with(blank) {
                return Some(at + blank.len());
            }
        }
    }
    None
}

fn is_closed(bytes: &[u8]) -> bool {
    let blank = [&b"\n\n"[..], b"\n\r\n", b"\r\r"].iter().any(|blank| bytes.ends_with(blank));
    blank || matches!(bytes.first(), Some(b':' | b'\n' | b'\r')) && matches!(bytes.last(), Some(b'\n' | b'\r'))
}

/// The event's `data`, its lines joined by line feeds; empty when it has none.
pub(crate) fn data(event: &[u8]) -> Cow<'_, [u8]> {
    let mut joined: Cow<'_, [u8]> = Cow::Borrowed(b"");
    for (index, line) in fields(event, b"data").enumerate() {
        if index == 0 {
            joined = Cow::Borrowed(line);
        } else {
            let owned = joined.to_mut();
            owned.push(b'\n');
            owned.extend_from_slice(line);
        }
    }
    joined
}

/// The event's name, when it has one.
pub(crate) fn name(event: &[u8]) -> Option<&[u8]> {
    fields(event, b"event").last()
}

fn fields<'e>(event: &'e [u8], field: &'static [u8]) -> impl Iterator<Item = &'e [u8]> {
    lines(event).filter_map(move |line| {
        match line.strip_prefix(field)? {
            // A field without a colon has an empty value.
            [] => Some(&b""[..]),
            [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
            _ => None,
        }
    })
}

/// The lines of an event, and an empty one between the two bytes of a line end that has two.
fn lines(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(event);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let end = memchr::memchr2(b'\n', b'\r', bytes);
        rest = end.map(|end| &bytes[end + 1..]);
        Some(end.map_or(bytes, |end| &bytes[..end]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut splitter = Splitter::default();
        let mut events = Vec::new();
        for piece in pieces {
            splitter.push(Bytes::copy_from_slice(piece));
            while let Some(event) = splitter.next_event() {
                events.push(event.to_vec());
            }
        }
        (events, splitter.take_rest().to_vec())
    }

    #[test]
    fn each_of_the_three_line_ends_closes_an_event() {
        let (events, rest) = split(&[b"data: a\n\ndata: b\r\n\r\ndata: c\r\rdata: d"]);
        assert_eq!(events, [b"data: a\n\n".to_vec(), b"data: b\r\n\r\n".to_vec(), b"data: c\r\r".to_vec()]);
        assert_eq!(rest, b"data: d");
    }

    #[test]
    fn data_lines_are_joined_and_the_optional_space_is_dropped() {
        assert_eq!(&*data(b"event: x\ndata: one\ndata:two\n\n"), b"one\ntwo");
        assert_eq!(name(b"event: x\r\ndata: one\r\n\r\n"), Some(&b"x"[..]));
        assert_eq!(&*data(b": comment\n\n"), b"");
        assert_eq!(&*data(b"data\ndatabase: x\ndata: one\ndata:\n\n"), b"\none\n");
    }

    #[test]
    fn what_keeps_a_caller_waiting_does_not_wait_for_an_event() {
        let (events, rest) = split(&[b": one\n", b":\r\n", b"\n", b"\r", b"data: a\n: inside\n", b"\n: two"]);
        let expected: [&[u8]; 5] = [b": one\n", b":\r\n", b"\n", b"\r", b"data: a\n: inside\n\n"];
        assert_eq!(events, expected.map(<[u8]>::to_vec));
        assert_eq!(rest, b": two");
    }

    #[test]
    fn what_is_too_large_is_passed_on_in_parts_and_what_follows_it_is_whole() {
        for (begins, ends) in [("x", "\n\n"), ("x", "\r\n\r\n"), (":", "\r\n"), (":", "\r")] {
            let large = format!("{begins}{}{ends}", "y".repeat(EVENT_BYTES_MAX + 1 - begins.len() - ends.len()));
            let stream = format!("{large}data: a\n\n");
            for cut in [1, EVENT_BYTES_MAX - 1, EVENT_BYTES_MAX, large.len() - 1, large.len(), large.len() + 1] {
                let (first, second) = stream.as_bytes().split_at(cut);
                let (mut events, rest) = split(&[first, second]);
                assert_eq!((events.pop().as_deref(), &*rest), (Some(&b"data: a\n\n"[..]), &b""[..]), "{cut}");
                assert!(events.concat() == large.as_bytes(), "{cut}");
            }
        }
    }

    #[test]
    fn no_more_is_kept_of_what_is_too_large_than_may_be_the_beginning_of_its_end() {
        let mut splitter = Splitter::default();
        splitter.push(Bytes::from(vec![b'x'; EVENT_BYTES_MAX]));
        assert!(splitter.next_event().is_none(), "it is not too large yet");
        for _ in 0..3 {
            splitter.push(Bytes::from(vec![b'x'; EVENT_BYTES_MAX]));
            assert!(splitter.next_event().is_some() && splitter.has_cut_a_part() && splitter.next_event().is_none());
            assert_eq!(splitter.pending().len(), BLANK_LINE_BEGUN_BYTES_MAX);
        }
    }

    #[test]
    fn lines_are_events_of_their_own_and_a_head_says_which_it_is() {
        let mut splitter = Splitter::new(Framing::Lines, None);
        splitter.push(Bytes::from_static(b"{\"a\":1}\r\n\n: b\n{\"c\""));
        let events: Vec<Bytes> = std::iter::from_fn(|| splitter.next_event()).collect();
        assert_eq!(events, [&b"{\"a\":1}\r\n"[..], b"\n", b": b\n"]);
        assert_eq!(splitter.take_rest(), &b"{\"c\""[..]);
        assert!(
            Framing::Events.is_of(b"Text/Event-Stream; charset=utf-8") && !Framing::Events.is_of(b"text/event-streams")
        );
        assert!(Framing::Lines.is_of(b"application/x-ndjson") && !Framing::Lines.is_of(b"application/json"));
        assert!(Framing::Lines.is_closed(b"{}\n") && !Framing::Lines.is_closed(b"{}"));
    }

    proptest! {
        #[test]
        fn how_lines_arrive_does_not_change_them(text in "[a-z{}:\r]{0,6}(\n[a-z]{0,3}){0,6}", cut in 0usize..40) {
            let split = |pieces: &[&str]| {
                let mut splitter = Splitter::new(Framing::Lines, None);
                let mut events = Vec::new();
                for piece in pieces {
                    splitter.push(Bytes::copy_from_slice(piece.as_bytes()));
                    events.extend(std::iter::from_fn(|| splitter.next_event()));
                }
                (events, splitter.take_rest())
            };
            let cut = cut.min(text.len());
            prop_assert_eq!(split(&[&text[..cut], &text[cut..]]), split(&[&text]));
        }

        #[test]
        fn how_the_bytes_arrive_does_not_change_the_events(
            text in "((data|): ?[a-z]{0,5}(\n\n|\r\n\r\n|\n|\r)){0,6}",
            cuts in proptest::collection::vec(0usize..60, 0..6),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(split(&pieces), split(&[bytes]));
        }
    }
}
