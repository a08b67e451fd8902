//! The results of the last stretch of time, in buckets.

use std::time::Duration;

use super::{Outcome, Tally};
use crate::time::{Timestamp, micros};

/// The window slides in steps of a tenth of its length. More buckets would slide more smoothly, but
/// each costs some 400 bytes per circuit and a share of every merge.
const BUCKETS: usize = 10;

/// Buckets are aligned with the window's creation; a `now` that lies behind an earlier one is taken
/// for the earlier one's bucket.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    origin: Timestamp,
    bucket_micros: u64,
    newest: u64,
    buckets: [Bucket; BUCKETS],
}

/// A bucket's number says which span of time its tally is about, so that a stale one needs no
/// sweeping.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    number: u64,
    tally: Tally,
}

impl Buckets {
    pub(super) fn new(length: Duration, now: Timestamp) -> Self {
        Self {
            origin: now,
            bucket_micros: (micros(length) / BUCKETS as u64).max(1),
            newest: 0,
            buckets: [Bucket::default(); BUCKETS],
        }
    }

    pub(super) fn record(&mut self, outcome: Outcome, duration: Duration, slow: bool, now: Timestamp) {
        self.newest = self.number(now);
        let bucket = &mut self.buckets[index(self.newest)];
        if bucket.number != self.newest {
            *bucket = Bucket { number: self.newest, tally: Tally::default() };
        }
        bucket.tally.count(outcome, duration, slow);
    }

    pub(super) fn tally(&self, now: Timestamp) -> Tally {
        let newest = self.number(now);
        let mut total = Tally::default();
        for bucket in &self.buckets {
            if in_view(bucket.number, newest) {
                total.merge(&bucket.tally);
            }
        }
        total
    }

    /// The number of the bucket that `now` falls into.
    pub(super) fn number(&self, now: Timestamp) -> u64 {
        let passed = now.as_micros().saturating_sub(self.origin.as_micros());
        (passed / self.bucket_micros).max(self.newest)
    }

    /// Whether the bucket with this number is still in view.
    pub(super) fn shows(&self, number: u64, now: Timestamp) -> bool {
        in_view(number, self.number(now))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the remainder is smaller than BUCKETS, which is a usize")]
const fn index(number: u64) -> usize {
    (number % BUCKETS as u64) as usize
}

const fn in_view(number: u64, newest: u64) -> bool {
    newest.saturating_sub(number) < BUCKETS as u64
}
