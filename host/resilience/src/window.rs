//! A sliding time window over the results of calls.

use std::time::Duration;

use crate::histogram::Histogram;
use crate::time::{Timestamp, micros};

/// The window slides in steps of a tenth of its length. More buckets would slide more smoothly, but
/// each costs some 400 bytes per circuit and a share of every merge.
const BUCKETS: usize = 10;

/// What a call's end says about the upstream's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream did its work.
    Success,
    /// The upstream failed.
    Failure,
    /// The upstream is alive and asks for less load. Weighs as much as a failure.
    Overloaded,
    /// A rate limit refused the call. Counted, but part of no failure rate and of no run of
    /// failures.
    Throttled,
    /// Says nothing about the upstream: cancelled, refused locally, or the caller's own mistake.
    /// Counted nowhere.
    Ignored,
}

/// What was counted within a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls of any counted outcome, throttled ones included.
    pub requests: u32,
    /// Calls that failed.
    pub failures: u32,
    /// Calls that the upstream refused for overload.
    pub overloads: u32,
    /// Calls that a rate limit refused.
    pub throttles: u32,
    /// Calls that were slow, throttled ones excluded.
    pub slow_calls: u32,
    /// How long the counted calls took.
    pub latencies: Histogram,
}

impl Tally {
    /// The calls that enter the failure rate and the slow-call rate: all but the throttled ones.
    #[must_use]
    pub const fn rated(&self) -> u32 {
        self.requests.saturating_sub(self.throttles)
    }

    /// The calls that count against the upstream: failures and overloads.
    #[must_use]
    pub const fn failed(&self) -> u32 {
        self.failures.saturating_add(self.overloads)
    }

    fn count(&mut self, outcome: Outcome, duration: Duration, slow: bool) {
        let outcomes = match outcome {
            Outcome::Success => None,
            Outcome::Failure => Some(&mut self.failures),
            Outcome::Overloaded => Some(&mut self.overloads),
            Outcome::Throttled => Some(&mut self.throttles),
            Outcome::Ignored => return,
        };
        if let Some(counter) = outcomes {
            *counter = counter.saturating_add(1);
        }
        self.requests = self.requests.saturating_add(1);
        if slow && outcome != Outcome::Throttled {
            self.slow_calls = self.slow_calls.saturating_add(1);
        }
        self.latencies.record(duration);
    }

    fn merge(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        self.overloads = self.overloads.saturating_add(other.overloads);
        self.throttles = self.throttles.saturating_add(other.throttles);
        self.slow_calls = self.slow_calls.saturating_add(other.slow_calls);
        self.latencies.merge(&other.latencies);
    }
}

/// The results of the last `length` of time, in ten buckets.
///
/// The bucket being filled and the nine before it are in view, so a result stays visible for at
/// least nine tenths of the length and never longer than all of it. A call is counted once, when it
/// ends, however long it took. Buckets are aligned with the window's creation; a `now` that lies
/// behind an earlier one is taken for the earlier one's bucket.
#[derive(Clone, Debug)]
pub struct Window {
    origin: Timestamp,
    bucket_micros: u64,
    newest: u64,
    buckets: [Bucket; BUCKETS],
    failures_in_a_row: u32,
    last_failure: u64,
}

/// A bucket's number says which span of time its tally is about, so that a stale one needs no
/// sweeping.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    number: u64,
    tally: Tally,
}

impl Window {
    /// An empty window. A length under ten microseconds counts as ten.
    #[must_use]
    pub fn new(length: Duration, now: Timestamp) -> Self {
        Self {
            origin: now,
            bucket_micros: (micros(length) / BUCKETS as u64).max(1),
            newest: 0,
            buckets: [Bucket::default(); BUCKETS],
            failures_in_a_row: 0,
            last_failure: 0,
        }
    }

    /// Counts one call that ended `now` after `duration`; `slow` is the caller's judgement of that
    /// duration.
    pub fn record(&mut self, outcome: Outcome, duration: Duration, slow: bool, now: Timestamp) {
        self.newest = self.number(now);
        self.failures_in_a_row = match outcome {
            Outcome::Success => 0,
            Outcome::Failure | Outcome::Overloaded => {
                let before = self.consecutive_failures(now);
                self.last_failure = self.newest;
                before.saturating_add(1)
            }
            Outcome::Throttled | Outcome::Ignored => self.failures_in_a_row,
        };
        let bucket = &mut self.buckets[index(self.newest)];
        if bucket.number != self.newest {
            *bucket = Bucket { number: self.newest, tally: Tally::default() };
        }
        bucket.tally.count(outcome, duration, slow);
    }

    /// Everything in view, merged.
    #[must_use]
    pub fn tally(&self, now: Timestamp) -> Tally {
        let newest = self.number(now);
        let mut total = Tally::default();
        for bucket in &self.buckets {
            if in_view(bucket.number, newest) {
                total.merge(&bucket.tally);
            }
        }
        total
    }

    /// Failures and overloads since the last success. A run whose last failure has left the window
    /// is forgotten: after a long silence the next failure starts a new one.
    #[must_use]
    pub fn consecutive_failures(&self, now: Timestamp) -> u32 {
        if in_view(self.last_failure, self.number(now)) { self.failures_in_a_row } else { 0 }
    }

    /// The duration below which a share of `q` (0 to 1) of the calls in view stayed, at most 25 %
    /// too high (see [`Histogram::quantile`]); `None` when there are none.
    #[must_use]
    pub fn quantile(&self, q: f32, now: Timestamp) -> Option<Duration> {
        self.tally(now).latencies.quantile(q)
    }

    fn number(&self, now: Timestamp) -> u64 {
        let passed = now.as_micros().saturating_sub(self.origin.as_micros());
        (passed / self.bucket_micros).max(self.newest)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the remainder is smaller than BUCKETS, which is a usize")]
const fn index(number: u64) -> usize {
    (number % BUCKETS as u64) as usize
}

const fn in_view(number: u64, newest: u64) -> bool {
    newest.saturating_sub(number) < BUCKETS as u64
}

#[cfg(test)]
mod tests;
