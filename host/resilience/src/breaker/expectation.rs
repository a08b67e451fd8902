//! What share of requests is served, and how surprising it is that none is any more.

use std::time::Duration;

use crate::balance::Standing;
use crate::breaker::trials::Trials;
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
const IMAGINED_BY_THE_CIRCUIT: Share = Share { served: 1.0, seen: 10.0 };
const SHARE_MAX: f64 = 0.7;
/// Repetitions end early rather than late. So what is not known is imagined as two attempts that were served but
/// for a chance of one in two hundred, and no share counts as higher than that.
const IMAGINED_BY_REPETITIONS: Share = Share { served: 1.99, seen: 2.0 };
const SHARE_MAX_FOR_REPETITIONS: f64 = 0.995;

/// How many of the last were served.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    served: f64,
    seen: f64,
}

impl Share {
    /// One more, of which this part was served, while no more than `memory` are remembered.
    fn see(&mut self, served: f64, memory: f64) {
        if self.seen >= memory {
            self.served *= (memory - 1.0) / self.seen;
            self.seen = memory - 1.0;
        }
        self.served += served;
        self.seen += 1.0;
    }

    /// With what is not known imagined.
    fn imagining(self, imagined: Share) -> f64 {
        (self.served + imagined.served) / (self.seen + imagined.seen)
    }
}

/// The share of requests that were served of late, and the run of failures since the last one that was.
///
/// A failure rate is no reason to refuse anybody: what is served at a rate of 30 % would be lost too. A run of
/// failures is one if it is a surprise given the share served until it began: the chance of so many failures in
/// a row, `(1 - share)^run`, is then below one in a hundred thousand, and the upstream must be taken to serve nobody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expectation {
    requests: Share,
    /// Of all attempts, repetitions included.
    attempts: Share,
    last: Timestamp,
    /// When the youngest of the calls went out that were served.
    served_sent: Timestamp,
    /// As of the last one that was served. What fails since, of calls of before, is no part of what was expected.
    requests_before: Share,
    attempts_before: Share,
    /// In parts of a failure.
    run: u32,
    attempts_in_a_row: u32,
    trials: Trials,
}

/// Parts of a failure, so that weaker evidence can count as a share of one.
const FAILURE: u32 = 3;
const HINT: u32 = 1;

impl Expectation {
    pub(super) fn new(now: Timestamp) -> Self {
        let nothing = Share::default();
        Self {
            requests: nothing,
            attempts: nothing,
            last: now,
            served_sent: Timestamp::ORIGIN,
            requests_before: nothing,
            attempts_before: nothing,
            run: 0,
            attempts_in_a_row: 0,
            trials: Trials::new(now),
        }
    }

    /// A call that went out at `sent` was served.
    pub(super) fn served(&mut self, sent: Timestamp, now: Timestamp) {
        self.served_sent = self.served_sent.max(sent);
        let memory = self.memory(now);
        self.requests.see(1.0, memory);
        self.attempts.see(1.0, memory);
        self.trials.served(now);
        self.begin_anew();
    }

    /// A request's first failure.
    pub(super) fn failed(&mut self, sent: Timestamp, now: Timestamp) {
        self.fail(FAILURE, sent, now);
    }

    /// Weaker evidence: a caller left that had waited far longer than others do, or came back and failed once more.
    pub(super) fn hinted(&mut self, sent: Timestamp, now: Timestamp) {
        self.fail(HINT, sent, now);
    }

    /// A further failure of the same request.
    pub(super) fn failed_again(&mut self, sent: Timestamp, now: Timestamp) {
        self.fail(0, sent, now);
    }

    fn fail(&mut self, part: u32, sent: Timestamp, now: Timestamp) {
        if now.saturating_since(self.last) >= SILENCE {
            self.begin_anew();
        }
        let memory = self.memory(now);
        self.attempts.see(0.0, memory);
        if part > 0 {
            self.requests.see(0.0, memory);
        }
        self.trials.failed(now.saturating_since(sent), now);
        // A call that hung and broke tells what was then. Where one that went out later was served, it is part of no
        // run.
        if sent >= self.served_sent {
            self.attempts_in_a_row = self.attempts_in_a_row.saturating_add(1);
            self.run = self.run.saturating_add(part);
        }
    }

    /// The upstream serves again. The share begins anew with what the run has shown: who comes back from serving one
    /// in twenty must not be taken for who serves all.
    pub(super) fn recovered(&mut self, sent: Timestamp, now: Timestamp) {
        if self.run > 0 {
            self.requests = Share { served: 0.0, seen: f64::from(self.requests_in_a_row()).clamp(1.0, MEMORY - 1.0) };
            self.attempts = self.requests;
        }
        self.trials = Trials::new(now);
        self.served(sent, now);
    }

    pub(super) const fn requests_in_a_row(&self) -> u32 {
        self.run / FAILURE
    }

    /// The share of requests served of late, with what is not known imagined as well served.
    pub(super) fn share(&self) -> f64 {
        self.requests.imagining(IMAGINED_BY_REPETITIONS)
    }

    pub(super) fn standing(&self, now: Timestamp) -> Standing {
        match now.saturating_since(self.last) >= SILENCE {
            true => Standing::GOOD,
            false => Standing { served_share: self.share(), doublings: self.trials.doublings() },
        }
    }

    /// Whether so many failing requests in a row had less than this chance.
    pub(super) fn is_surprise(&self, chance: f64) -> bool {
        let share = self.requests_before.imagining(IMAGINED_BY_THE_CIRCUIT).min(SHARE_MAX);
        less_likely_than(chance, share, self.requests_in_a_row())
    }

    /// Whether repeating a request makes sense: so many failing attempts in a row had more than this chance.
    pub(super) fn may_repeat(&self, chance: f64) -> bool {
        let share = self.attempts_before.imagining(IMAGINED_BY_REPETITIONS).min(SHARE_MAX_FOR_REPETITIONS);
        !less_likely_than(chance, share, self.attempts_in_a_row)
    }

    fn begin_anew(&mut self) {
        (self.run, self.attempts_in_a_row) = (0, 0);
        (self.requests_before, self.attempts_before) = (self.requests, self.attempts);
    }

    /// How many are remembered; and now something has been seen.
    fn memory(&mut self, now: Timestamp) -> f64 {
        let silent = now.saturating_since(self.last) >= SILENCE;
        self.last = now;
        if silent { MEMORY_AFTER_SILENCE } else { MEMORY }
    }
}

fn less_likely_than(chance: f64, share: f64, failures: u32) -> bool {
    f64::from(failures) * (1.0 - share).ln() < chance.ln()
}
