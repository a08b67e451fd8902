//! What the result of a call does to its circuit.

use std::time::Duration;

use super::closed::Closed;
use super::{Breaker, Cause, Gate, Pending, Permit, Recorded, State, Transition, TripDecision};
use crate::time::Timestamp;
use crate::window::{Outcome, Window};

/// A failure that took longer is a slow one.
const SLOW_FAILURE: Duration = Duration::from_secs(1);

impl Breaker {
    /// Takes a permit back with what became of its call.
    ///
    /// `open_until` is a time before which no call makes sense, as the provider or the classifier
    /// said. Whatever the outcome, it opens a closed or half-open circuit at once; an open one
    /// stays open until the later of the two times. It is capped at `open_for_cap` from now, and
    /// has no effect when it has passed already.
    ///
    /// A failure, overload or throttling of a closed circuit, and a slow success, come back as a
    /// [judgement](Recorded::judgement) to be passed to [`judge`](Self::judge). A quick success
    /// never opens a circuit.
    ///
    /// A probe's success counts towards closing; its failure, overload or throttling opens the
    /// circuit again for a longer cooldown.
    pub fn record(
        &mut self,
        permit: Permit,
        outcome: Outcome,
        duration: Duration,
        open_until: Option<Timestamp>,
        now: Timestamp,
        random: u64,
    ) -> Recorded {
        self.in_flight.end(permit.admitted, now);
        if permit.would_be_refused {
            return Recorded::NOTHING;
        }
        let latest = now.saturating_add(self.settings.open_for_cap);
        let open_until = open_until.filter(|until| *until > now).map(|until| until.min(latest));
        let current = permit.generation == self.generation;
        match &mut self.state {
            State::Open { until, .. } => {
                *until = open_until.map_or(*until, |later| later.max(*until));
                if current && permit.is_probe() {
                    self.record_spaced_probe(outcome, permit.sent, now)
                } else {
                    Recorded::NOTHING
                }
            }
            State::Closed(closed) if current => {
                // A cancelled call says nothing about the upstream, so it does not end a stall.
                closed.end(outcome != Outcome::Ignored, now);
                self.record_closed(outcome, duration, open_until, permit.sent, now, random)
            }
            State::HalfOpen(half_open) if current => {
                // A probe without a lease lost it to another: its verdict comes too late.
                if permit.lease.is_some_and(|lease| half_open.settle(lease)) {
                    self.record_probe(outcome, open_until, now, random)
                } else {
                    Recorded::NOTHING
                }
            }
            State::Disabled if current => {
                self.count(outcome, duration, now);
                Recorded::NOTHING
            }
            State::Closed(_) | State::HalfOpen(_) | State::Disabled | State::ForcedOpen => Recorded::NOTHING,
        }
    }

    fn record_closed(
        &mut self,
        outcome: Outcome,
        duration: Duration,
        open_until: Option<Timestamp>,
        sent: Timestamp,
        now: Timestamp,
        random: u64,
    ) -> Recorded {
        let slow = self.count(outcome, duration, now);
        if matches!(outcome, Outcome::Failure | Outcome::FailedOnReturn | Outcome::Overloaded | Outcome::Overdue) {
            self.slow_failure = duration >= SLOW_FAILURE;
        }
        match outcome {
            Outcome::Success | Outcome::FailedElsewhere => self.expectation.served(sent, now),
            Outcome::Failure | Outcome::Overloaded => self.expectation.failed(sent, now),
            Outcome::FailedAgain => self.expectation.failed_again(sent, now),
            Outcome::FailedOnReturn | Outcome::Overdue => self.expectation.hinted(sent, now),
            Outcome::Throttled | Outcome::Ignored => {}
        }
        if let Some(until) = open_until {
            return Recorded::transition(self.open(Cause::CoolOff, until, now, random));
        }
        let judged = match outcome {
            Outcome::Success => slow,
            Outcome::Failure
            | Outcome::FailedOnReturn
            | Outcome::FailedElsewhere
            | Outcome::Overloaded
            | Outcome::Throttled
            | Outcome::Overdue => true,
            Outcome::FailedAgain | Outcome::Ignored => false,
        };
        Recorded { transition: None, judgement: if judged { self.pending(now) } else { None } }
    }

    /// A probe of an open circuit. A success closes it, however long it took; otherwise it stays open as it is.
    fn record_spaced_probe(&mut self, outcome: Outcome, sent: Timestamp, now: Timestamp) -> Recorded {
        if let State::Open { probing, .. } = &mut self.state {
            *probing = probing.saturating_sub(1);
        }
        match outcome {
            Outcome::Success | Outcome::FailedElsewhere => {
                self.expectation.recovered(sent, now);
                Recorded::transition(self.close(now))
            }
            Outcome::Failure | Outcome::Overloaded => {
                self.expectation.failed(sent, now);
                Recorded::NOTHING
            }
            Outcome::FailedOnReturn => {
                self.expectation.hinted(sent, now);
                Recorded::NOTHING
            }
            // It says nothing, so another one need not wait for its time.
            Outcome::Ignored => {
                if let State::Open { until, .. } = &mut self.state {
                    *until = now;
                }
                Recorded::NOTHING
            }
            // An upstream that says "too much" is there.
            Outcome::Throttled => Recorded::transition(self.close(now)),
            Outcome::FailedAgain | Outcome::Overdue => Recorded::NOTHING,
        }
    }

    /// A fresh start: the failures that opened the circuit must not open it again.
    fn close(&mut self, now: Timestamp) -> Transition {
        self.window = Window::new(self.settings.window, now);
        self.enter(State::Closed(Closed::recovering(now)), Cause::ProbeSucceeded, None, now)
    }

    fn record_probe(
        &mut self,
        outcome: Outcome,
        open_until: Option<Timestamp>,
        now: Timestamp,
        random: u64,
    ) -> Recorded {
        let success = match outcome {
            Outcome::Failure
            | Outcome::FailedAgain
            | Outcome::FailedOnReturn
            | Outcome::Overloaded
            | Outcome::Throttled => {
                let cooldown = self.cooldown_end(now, random);
                let until = open_until.map_or(cooldown, |asked| asked.max(cooldown));
                return Recorded::transition(self.open(Cause::ProbeFailed, until, now, random));
            }
            Outcome::Success | Outcome::FailedElsewhere => true,
            Outcome::Overdue | Outcome::Ignored => false,
        };
        if let Some(until) = open_until {
            return Recorded::transition(self.open(Cause::CoolOff, until, now, random));
        }
        let State::HalfOpen(half_open) = &mut self.state else {
            return Recorded::NOTHING;
        };
        half_open.successes = half_open.successes.saturating_add(u32::from(success));
        if success && half_open.successes >= self.settings.probe_successes {
            return Recorded::transition(self.close(now));
        }
        if let Gate::Open { cause, .. } = self.gate(now) {
            let until = self.cooldown_end(now, random);
            return Recorded::transition(self.open(cause, until, now, random));
        }
        Recorded::NOTHING
    }

    /// The figures to judge a closed circuit by, for policies that want to be asked about quick
    /// successes too; `None` unless the circuit is closed.
    #[must_use]
    pub fn pending(&self, now: Timestamp) -> Option<Pending> {
        match self.state {
            State::Closed(_) => Some(Pending { generation: self.generation, statistics: self.statistics(now) }),
            State::Open { .. } | State::HalfOpen(_) | State::Disabled | State::ForcedOpen => None,
        }
    }

    /// Decides whether a recorded result trips the circuit: by the configured thresholds, or as
    /// `decision` says. It has no effect when the circuit has changed state since the result was
    /// recorded.
    #[must_use = "a transition is reported only once"]
    pub fn judge(
        &mut self,
        pending: Pending,
        decision: Option<TripDecision>,
        now: Timestamp,
        random: u64,
    ) -> Option<Transition> {
        // Judgements are handed out by closed circuits only, so an equal generation means: still
        // closed.
        if pending.generation != self.generation {
            return None;
        }
        let (cause, until) = match decision {
            None => (pending.statistics.thresholds_crossed?, self.cooldown_end(now, random)),
            Some(TripDecision::Stay) => return None,
            Some(TripDecision::Open) => (Cause::Policy, self.cooldown_end(now, random)),
            Some(TripDecision::OpenFor(length)) => {
                (Cause::Policy, now.saturating_add(length.min(self.settings.open_for_cap)))
            }
        };
        Some(self.open(cause, until, now, random))
    }

    /// Counts a result in the window and says whether it was slow.
    fn count(&mut self, outcome: Outcome, duration: Duration, now: Timestamp) -> bool {
        let slow = duration > self.settings.slow_call_duration;
        self.window.record(outcome, duration, slow, now);
        slow
    }
}
