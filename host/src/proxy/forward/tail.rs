//! The end of a body that is read on its way.

use crate::dialect::events::USAGE_TAIL_BYTES;
use crate::dialect::json_end::JsonEnd;
use bytes::Bytes;
use std::collections::VecDeque;

/// A body whose end is kept, for the usage in it.
#[derive(Default)]
pub(super) struct Tail {
    last: VecDeque<Bytes>,
    bytes: usize,
    /// Where the body ends, unless its length says that.
    json: Option<JsonEnd>,
}

impl Tail {
    /// Of a body that ends so, if it says where.
    pub(super) fn new(json: Option<JsonEnd>) -> Tail {
        Tail { json, ..Tail::default() }
    }

    /// Keeps what has arrived, as it reads, and answers whether it is more than blank space.
    pub(super) fn read(&mut self, arrived: &Bytes) -> bool {
        self.bytes += arrived.len();
        self.last.push_back(arrived.clone());
        // Only the end can hold the usage.
        while self.last.front().is_some_and(|first| self.bytes - first.len() >= USAGE_TAIL_BYTES) {
            self.bytes -= self.last.pop_front().map_or(0, |first| first.len());
        }
        if let Some(json) = &mut self.json {
            json.read(arrived);
        }
        !arrived.iter().all(u8::is_ascii_whitespace)
    }

    /// Whether all has come, as far as the body says so itself.
    pub(super) fn is_whole(&self) -> bool {
        self.json.is_some_and(|json| json.is_whole())
    }

    /// What is kept.
    pub(super) fn joined(&self) -> Vec<u8> {
        self.last.iter().flatten().copied().collect()
    }
}
