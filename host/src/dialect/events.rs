//! A stream of events as it is read on its way: what of it the caller gets, how far it has come, and what it cost.

use crate::dialect::sse::Splitter;
use crate::dialect::{Dialect, EventKind, Usage};
use bytes::Bytes;
use spillway_sdk::ProviderError;

/// The end of an answer, or of an event that is too large to be kept together, in which its usage is looked for.
pub(crate) const USAGE_TAIL_BYTES: usize = 64 << 10;

/// How far a stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// More is to come.
    Running,
    /// Some of the alternatives that were asked for are finished: if nothing else comes, the provider gave fewer.
    PartlyFinished,
    /// Everything that was asked for is there. What is counted may follow, and what marks the end.
    Finished,
    /// Nothing follows.
    Over,
}

/// A stream that is read event by event.
#[derive(Debug)]
pub(crate) struct Events {
    splitter: Splitter,
    dialect: Dialect,
    alternatives: u64,
    strip_usage: bool,
    finished: u64,
    is_over: bool,
    pieces: u64,
    error: Option<ProviderError>,
    usage: Option<Usage>,
    /// The end of what has come of an event that is too large, and perhaps more of it.
    tail: Vec<u8>,
}

/// An event that was read.
#[derive(Debug)]
pub(crate) struct Event {
    /// The event, unless the caller must not see it.
    pub bytes: Option<Bytes>,
    /// Whether it is part of the answer, or tells why there is none.
    pub is_content: bool,
}

impl Events {
    /// What `splitter` will bring. So many `alternatives` were asked for; with `strip_usage`, usage is there only
    /// because we asked for it.
    pub(crate) fn new(splitter: Splitter, dialect: Dialect, alternatives: u64, strip_usage: bool) -> Self {
        Events {
            splitter,
            dialect,
            alternatives,
            strip_usage,
            finished: 0,
            is_over: false,
            pieces: 0,
            error: None,
            usage: None,
            tail: Vec::new(),
        }
    }

    /// Adds what has arrived.
    pub(crate) fn push(&mut self, arrived: Bytes) {
        self.splitter.push(arrived);
    }

    /// The next whole event, if it has arrived; of one that is too large, what has arrived of it.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let begins = !self.splitter.is_within_a_part();
        let event = self.splitter.next_event()?;
        Some(if self.splitter.has_cut_a_part() { self.pass(event, begins) } else { self.read(event) })
    }

    /// A part of an event that is too large to be read. It is content, as large as it is, and what it cost stands at
    /// its end: an image, or an answer with images in it.
    fn pass(&mut self, part: Bytes, begins: bool) -> Event {
        self.pieces += u64::from(begins);
        if self.tail.len() >= USAGE_TAIL_BYTES {
            self.tail.drain(..self.tail.len() - USAGE_TAIL_BYTES);
        }
        self.tail.extend_from_slice(&part[part.len().saturating_sub(USAGE_TAIL_BYTES)..]);
        if !self.splitter.is_within_a_part() {
            self.read_tail();
        }
        Event { bytes: Some(part), is_content: true }
    }

    fn read_tail(&mut self) {
        let tail = std::mem::take(&mut self.tail);
        if let Some(reported) = self.dialect.read_usage(&tail[tail.len().saturating_sub(USAGE_TAIL_BYTES)..]) {
            self.count(reported);
        }
    }

    fn count(&mut self, reported: Usage) {
        self.usage = Some(self.usage.unwrap_or_default().most(reported));
    }

    /// The last event, when nothing more comes. Some servers leave out the blank line behind it, and some connections
    /// break right before that: where it says something whole, it is read like any other.
    pub(crate) fn last_event(&mut self) -> Option<Event> {
        self.read_tail();
        if !is_whole(self.dialect, self.splitter.pending()) {
            return None;
        }
        let event = self.splitter.take_rest();
        Some(self.read(event))
    }

    /// What has arrived of an event that is not whole.
    pub(crate) fn pending(&self) -> &[u8] {
        self.splitter.pending()
    }

    /// What is left of an event that never became one.
    pub(crate) fn take_rest(&mut self) -> Bytes {
        self.splitter.take_rest()
    }

    /// Reads an event that has been cut out already.
    pub(crate) fn read(&mut self, event: Bytes) -> Event {
        let kind = self.dialect.read_event(&event);
        let is_content = match kind {
            EventKind::Preamble => false,
            EventKind::Content => true,
            EventKind::Finished(alternatives) => {
                self.finished = self.finished.saturating_add(alternatives);
                true
            }
            EventKind::Complete => {
                self.is_over = true;
                true
            }
            EventKind::End => {
                self.is_over = true;
                false
            }
            EventKind::Error(error) => {
                self.error = Some(error);
                true
            }
        };
        self.pieces += u64::from(is_content);
        // Where the data is on several lines, the usage may be as well.
        let data = self.dialect.data(&event);
        if let Some(reported) = self.dialect.read_usage(&data) {
            self.count(reported);
            if self.strip_usage && self.dialect.is_usage_event(&data) {
                return Event { bytes: None, is_content };
            }
        }
        Event { bytes: Some(event), is_content }
    }

    /// How far it has come.
    pub(crate) fn stage(&self) -> Stage {
        if self.is_over {
            Stage::Over
        } else if self.finished >= self.alternatives {
            Stage::Finished
        } else if self.finished > 0 {
            Stage::PartlyFinished
        } else {
            Stage::Running
        }
    }

    /// Whether anything of an answer has come, or an error.
    pub(crate) fn has_content(&self) -> bool {
        self.pieces > 0
    }

    /// The provider's own error, said inside of the stream.
    pub(crate) fn error(&self) -> Option<&ProviderError> {
        self.error.as_ref()
    }

    /// Events with content so far. A token or more is in each.
    pub(crate) fn pieces(&self) -> u64 {
        self.pieces
    }

    /// What the provider has counted so far.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.usage
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whether an event was too large to be kept together, so that what it said is not known.
    pub(crate) fn overflowed(&self) -> bool {
        self.splitter.overflowed()
    }
}

/// Whether an event behind which the blank line is missing says something whole.
pub(crate) fn is_whole(dialect: Dialect, event: &[u8]) -> bool {
    let data = dialect.data(event);
    &*data == b"[DONE]" || serde_json::from_slice::<serde::de::IgnoredAny>(&data).is_ok()
}

#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;
