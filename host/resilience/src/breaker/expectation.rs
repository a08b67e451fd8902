//! What share of requests is served, and how surprising it is that none is any more.

use std::time::Duration;

use crate::time::Timestamp;

/// Requests that make up the share: enough to tell 90 % from 50 %, few enough to notice within a second of fifty that
/// things have changed. By simulation of a failure rate that jumps to 90 %, 64 of them lose twice as many answers.
const MEMORY: f64 = 24.0;
/// What is left of the memory after a silence: a share of an hour ago is hardly more than a guess.
const MEMORY_AFTER_SILENCE: f64 = 8.0;
/// A silence that long makes the share old.
const SILENCE: Duration = Duration::from_secs(60);
/// The circuit opens late rather than early. So what is not known is imagined as ten requests of which one was
/// served, and no share counts as higher than seven tenths: a total outage is told from a failure rate of 90 %
/// after about a hundred requests at the start, and after ten when all has been well.
const IMAGINED_BY_THE_CIRCUIT: (f64, f64) = (1.0, 10.0);
const SHARE_MAX: f64 = 0.7;
/// Repetitions end early rather than late. So what is not known is imagined as two requests that were served but
/// for a chance of three in a hundred, and no share counts as higher than that.
const IMAGINED_BY_REPETITIONS: (f64, f64) = (1.94, 2.0);
const SHARE_MAX_FOR_REPETITIONS: f64 = 0.97;

/// The share of requests that were served of late, and the run of failures since the last one that was.
///
/// A failure rate is no reason to refuse anybody: what is served at a rate of 30 % would be lost too. A run of
/// failures is one if it is a surprise given the share served until it began: the chance of so many failures in
/// a row, `(1 - share)^run`, is then below one in a hundred thousand, and the upstream must be taken to serve nobody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expectation {
    served: f64,
    seen: f64,
    last: Timestamp,
    /// Served and seen, as of the beginning of the run.
    before: (f64, f64),
    /// In parts of a failure.
    run: u32,
    attempts_in_a_row: u32,
}

/// Parts of a failure, so that weaker evidence can count as a share of one.
const FAILURE: u32 = 3;
const OVERDUE: u32 = 1;

impl Expectation {
    pub(super) const fn new(now: Timestamp) -> Self {
        Self { served: 0.0, seen: 0.0, last: now, before: (0.0, 0.0), run: 0, attempts_in_a_row: 0 }
    }

    pub(super) fn served(&mut self, now: Timestamp) {
        self.see(1.0, now);
        self.run = 0;
        self.attempts_in_a_row = 0;
    }

    /// A request's first failure.
    pub(super) fn failed(&mut self, now: Timestamp) {
        self.fail(FAILURE, now);
    }

    /// A caller left that had waited far longer than others do.
    pub(super) fn overdue(&mut self, now: Timestamp) {
        self.fail(OVERDUE, now);
    }

    fn fail(&mut self, part: u32, now: Timestamp) {
        self.failed_again(now);
        self.run = self.run.saturating_add(part);
        self.see(0.0, now);
    }

    /// A further failure of the same request.
    pub(super) fn failed_again(&mut self, now: Timestamp) {
        if now.saturating_since(self.last) >= SILENCE {
            (self.run, self.attempts_in_a_row) = (0, 0);
        }
        if self.attempts_in_a_row == 0 {
            self.before = (self.served, self.seen);
        }
        self.attempts_in_a_row = self.attempts_in_a_row.saturating_add(1);
    }

    /// The upstream serves again. The share begins anew with what the run has shown: who comes back from serving one
    /// in twenty must not be taken for who serves all.
    pub(super) fn recovered(&mut self, now: Timestamp) {
        if self.run > 0 {
            self.seen = f64::from(self.requests_in_a_row()).clamp(1.0, MEMORY - 1.0);
            self.served = 0.0;
        }
        self.served(now);
    }

    pub(super) const fn requests_in_a_row(&self) -> u32 {
        self.run / FAILURE
    }

    /// The share of requests served of late, with what is not known imagined as well served.
    pub(super) fn share(&self) -> f64 {
        share((self.served, self.seen), IMAGINED_BY_REPETITIONS)
    }

    /// Whether so many failing requests in a row had less than this chance.
    pub(super) fn is_surprise(&self, chance: f64) -> bool {
        let share = share(self.before, IMAGINED_BY_THE_CIRCUIT).min(SHARE_MAX);
        less_likely_than(chance, share, self.requests_in_a_row())
    }

    /// Whether repeating a request makes sense: so many failing attempts in a row had more than this chance.
    pub(super) fn may_repeat(&self, chance: f64) -> bool {
        let share = share(self.before, IMAGINED_BY_REPETITIONS).min(SHARE_MAX_FOR_REPETITIONS);
        !less_likely_than(chance, share, self.attempts_in_a_row)
    }

    fn see(&mut self, served: f64, now: Timestamp) {
        let memory = if now.saturating_since(self.last) >= SILENCE { MEMORY_AFTER_SILENCE } else { MEMORY };
        self.last = now;
        if self.seen >= memory {
            self.served *= (memory - 1.0) / self.seen;
            self.seen = memory - 1.0;
        }
        self.served += served;
        self.seen += 1.0;
    }
}

/// The share of what was served, with what is only imagined.
fn share((served, seen): (f64, f64), (imagined_served, imagined_seen): (f64, f64)) -> f64 {
    (served + imagined_served) / (seen + imagined_seen)
}

fn less_likely_than(chance: f64, share: f64, failures: u32) -> bool {
    f64::from(failures) * (1.0 - share).ln() < chance.ln()
}
