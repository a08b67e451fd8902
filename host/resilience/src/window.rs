//! A sliding window over the results of calls.

mod buckets;
mod last;

use std::time::Duration;

use crate::histogram::Histogram;
use crate::time::Timestamp;
use buckets::Buckets;
use last::Last;

/// Which results a window shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    /// Those of so long a time. It forgets, which suits traffic that comes and goes.
    Time(Duration),
    /// The last so many, however old; throttled ones included. Reacts after as many calls at any
    /// rate of traffic.
    Count(u32),
}

impl WindowKind {
    /// The most results that a count window holds: a rate is then exact to a tenth of a percent, at
    /// 16 kB per window. A larger count is taken for this one, and 0 for 1.
    pub const COUNT_MAX: u32 = 1_000;
}

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
    /// The upstream failed a request again whose first failure is counted already: a repetition is no
    /// independent evidence. Counted nowhere, but noted by whoever decides about further repetitions.
    FailedAgain,
    /// The upstream failed a request that its caller has sent before and sends again. A failure in every count; but
    /// since its request has failed before, it is a third of one where it is about how surprising a run of failures is.
    FailedOnReturn,
    /// The upstream failed in a way for which a narrower circuit answers, and could be reached. Counted as a
    /// failure in statistics; where it is about opening and closing it is as good as a success.
    FailedElsewhere,
    /// The caller left before an answer, after waiting far longer than others do. Counted nowhere, but a hint: many in
    /// a row are a reason to believe that the upstream serves nobody.
    Overdue,
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
        if self.step(outcome, slow, |count| count.saturating_add(1)) {
            self.latencies.record(duration);
        }
    }

    /// Takes out a call that was counted with just these arguments.
    fn forget(&mut self, outcome: Outcome, duration: Duration, slow: bool) {
        if self.step(outcome, slow, |count| count.saturating_sub(1)) {
            self.latencies.forget(duration);
        }
    }

    /// Moves every counter that such a call concerns by one; false when it is counted nowhere.
    fn step(&mut self, outcome: Outcome, slow: bool, by_one: impl Fn(u32) -> u32) -> bool {
        let outcomes = match outcome {
            Outcome::Success => None,
            Outcome::Failure | Outcome::FailedOnReturn | Outcome::FailedElsewhere => Some(&mut self.failures),
            Outcome::Overloaded => Some(&mut self.overloads),
            Outcome::Throttled => Some(&mut self.throttles),
            Outcome::FailedAgain | Outcome::Overdue | Outcome::Ignored => return false,
        };
        if let Some(counter) = outcomes {
            *counter = by_one(*counter);
        }
        self.requests = by_one(self.requests);
        if slow && outcome != Outcome::Throttled {
            self.slow_calls = by_one(self.slow_calls);
        }
        true
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

/// The results of calls that are recent enough to matter.
///
/// A time window counts in ten buckets: the one being filled and the nine before it are in view, so
/// a result stays visible for at least nine tenths of the length and never longer than all of it. A
/// count window is exact. A call is counted once, when it ends, however long it took.
#[derive(Clone, Debug)]
pub struct Window {
    results: Results,
    failures_in_a_row: u32,
    /// The number of the bucket or result that the run's last failure was counted in.
    last_failure: u64,
}

#[derive(Clone, Debug)]
enum Results {
    /// Boxed, so that a count window does not occupy the buckets' four kilobytes.
    Time(Duration, Box<Buckets>),
    Count(Box<Last>),
}

impl Window {
    /// An empty window. A time under ten microseconds counts as ten, and a count is brought to the
    /// range from 1 to [`WindowKind::COUNT_MAX`].
    #[must_use]
    pub fn new(kind: WindowKind, now: Timestamp) -> Self {
        let results = match kind {
            WindowKind::Time(length) => Results::Time(length, Box::new(Buckets::new(length, now))),
            WindowKind::Count(size) => Results::Count(Box::new(Last::new(size))),
        };
        Self { results, failures_in_a_row: 0, last_failure: 0 }
    }

    /// Counts one call that ended `now` after `duration`; `slow` is the caller's judgement of that
    /// duration.
    pub fn record(&mut self, outcome: Outcome, duration: Duration, slow: bool, now: Timestamp) {
        let before = self.consecutive_failures(now);
        match &mut self.results {
            Results::Time(_, buckets) => buckets.record(outcome, duration, slow, now),
            Results::Count(last) => last.record(outcome, duration, slow, now),
        }
        match outcome {
            Outcome::Success | Outcome::FailedElsewhere => self.failures_in_a_row = 0,
            Outcome::Failure | Outcome::FailedOnReturn | Outcome::Overloaded => {
                self.failures_in_a_row = before.saturating_add(1);
                self.last_failure = match &self.results {
                    Results::Time(_, buckets) => buckets.number(now),
                    Results::Count(last) => last.number(),
                };
            }
            Outcome::Throttled | Outcome::FailedAgain | Outcome::Overdue | Outcome::Ignored => {}
        }
    }

    /// Everything in view, merged.
    #[must_use]
    pub fn tally(&self, now: Timestamp) -> Tally {
        match &self.results {
            Results::Time(_, buckets) => buckets.tally(now),
            Results::Count(last) => last.tally(),
        }
    }

    /// Failures and overloads since the last success. A run whose last failure has left the window
    /// is forgotten: after a long silence, or as many throttled calls as a count window holds, the
    /// next failure starts a new one.
    #[must_use]
    pub fn consecutive_failures(&self, now: Timestamp) -> u32 {
        let remembered = match &self.results {
            Results::Time(_, buckets) => buckets.shows(self.last_failure, now),
            Results::Count(last) => last.shows(self.last_failure),
        };
        if remembered { self.failures_in_a_row } else { 0 }
    }

    /// The span of time that is in view: the configured one, or for a count window the time since
    /// its oldest result, zero when there is none.
    #[must_use]
    pub fn length(&self, now: Timestamp) -> Duration {
        match &self.results {
            Results::Time(length, _) => *length,
            Results::Count(last) => last.length(now),
        }
    }
}

#[cfg(test)]
mod tests;
