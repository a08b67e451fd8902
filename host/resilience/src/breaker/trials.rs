//! How far trust has come back in a place that fails many requests.

use std::time::Duration;

use crate::time::Timestamp;

/// No failure is waited for longer before the trials are doubled: one that shows later is seen when it shows.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// How often the trials of a doubtful place were doubled.
///
/// Failures may show much later than answers: then a place that fails every other request answers many in a row before
/// the first failure is known. So trials are doubled only after as much time without a failure as failures take to show,
/// since what was asked meanwhile would have failed by then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trials {
    doublings: u32,
    /// Of the last doubling or failure.
    since: Timestamp,
    /// How long failures have taken of late.
    failures_take: Duration,
}

impl Trials {
    /// Nothing has failed since `now`.
    pub(super) const fn new(now: Timestamp) -> Self {
        Self { doublings: 0, since: now, failures_take: Duration::ZERO }
    }

    /// Doublings since the last attempt that failed.
    pub(super) const fn doublings(&self) -> u32 {
        self.doublings
    }

    pub(super) fn served(&mut self, now: Timestamp) {
        if now.saturating_since(self.since) >= self.failures_take {
            (self.doublings, self.since) = (self.doublings.saturating_add(1), now);
        }
    }

    /// An attempt has failed, so long after it went out. A slow failure is forgotten by halves, so that a single one does
    /// not keep a place from coming back.
    pub(super) fn failed(&mut self, took: Duration, now: Timestamp) {
        self.failures_take = took.max(self.failures_take / 2).min(WAIT_MAX);
        (self.doublings, self.since) = (0, now);
    }
}
