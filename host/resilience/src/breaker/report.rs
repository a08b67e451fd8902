//! What a breaker tells its caller: states, causes, transitions, rejections and statistics.

use std::fmt;
use std::time::Duration;

use crate::histogram::Histogram;
use crate::time::Timestamp;

/// Whether calls pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CircuitState {
    /// Calls pass and their results are watched.
    Closed,
    /// Calls are refused.
    Open,
    /// A few probes pass; their results decide.
    HalfOpen,
}

impl fmt::Display for CircuitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        })
    }
}

/// Who decides about the circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The breaker itself.
    Normal,
    /// An operator refuses every call until further notice.
    ForcedOpen,
    /// An operator lets every call pass until further notice. Results are still counted, so that
    /// the statistics show what the breaker would have done.
    Disabled,
    /// An operator lets every call pass until further notice, and the breaker reports what it would
    /// have done by itself, as transitions marked [`would`](Transition::would).
    WatchOnly,
}

/// Why a circuit changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// This many failures without a success between them.
    ConsecutiveFailures(u32),
    /// None of this many requests in a row was served, which is a surprise given what was served before.
    NoneServed(u32),
    /// Too large a share of failures and overloads in the window.
    FailureRate {
        /// Failures and overloads.
        failures: u32,
        /// Calls they are a share of; throttled ones are left out.
        requests: u32,
    },
    /// Too large a share of slow calls in the window.
    SlowCallRate {
        /// Slow calls.
        slow_calls: u32,
        /// Calls they are a share of; throttled ones are left out.
        requests: u32,
    },
    /// Enough calls were in flight for long enough, and none ended.
    InFlightStall {
        /// Calls in flight.
        in_flight: u32,
    },
    /// The trip policy said so.
    Policy,
    /// The provider or the classifier named a time before which no call makes sense.
    CoolOff,
    /// A probe found the upstream still failing.
    ProbeFailed,
    /// Enough probes succeeded.
    ProbeSucceeded,
    /// The cooldown is over and a call came to probe.
    CooldownElapsed,
    /// The probes brought no verdict in time.
    HalfOpenTimedOut,
    /// An operator's command.
    Operator,
}

impl Cause {
    /// The cause as a word and its counts, for whoever keeps it where there are no enums;
    /// [`from_parts`](Self::from_parts) reads it again.
    #[must_use]
    pub const fn to_parts(self) -> (&'static str, [u32; 2]) {
        match self {
            Self::ConsecutiveFailures(count) => ("consecutive_failures", [count, 0]),
            Self::NoneServed(count) => ("none_served", [count, 0]),
            Self::FailureRate { failures, requests } => ("failure_rate", [failures, requests]),
            Self::SlowCallRate { slow_calls, requests } => ("slow_call_rate", [slow_calls, requests]),
            Self::InFlightStall { in_flight } => ("in_flight_stall", [in_flight, 0]),
            Self::Policy => ("policy", [0, 0]),
            Self::CoolOff => ("cool_off", [0, 0]),
            Self::ProbeFailed => ("probe_failed", [0, 0]),
            Self::ProbeSucceeded => ("probe_succeeded", [0, 0]),
            Self::CooldownElapsed => ("cooldown_elapsed", [0, 0]),
            Self::HalfOpenTimedOut => ("half_open_timed_out", [0, 0]),
            Self::Operator => ("operator", [0, 0]),
        }
    }

    /// The cause that [`to_parts`](Self::to_parts) made these of; `None` for any other word.
    #[must_use]
    pub fn from_parts(word: &str, [first, second]: [u32; 2]) -> Option<Self> {
        let causes = [
            Self::ConsecutiveFailures(first),
            Self::NoneServed(first),
            Self::FailureRate { failures: first, requests: second },
            Self::SlowCallRate { slow_calls: first, requests: second },
            Self::InFlightStall { in_flight: first },
            Self::Policy,
            Self::CoolOff,
            Self::ProbeFailed,
            Self::ProbeSucceeded,
            Self::CooldownElapsed,
            Self::HalfOpenTimedOut,
            Self::Operator,
        ];
        causes.into_iter().find(|cause| cause.to_parts().0 == word)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures(1) => f.write_str("a call failed"),
            Self::ConsecutiveFailures(count) => write!(f, "{count} calls in a row failed"),
            Self::NoneServed(count) => write!(f, "none of the last {count} requests was served"),
            Self::FailureRate { failures, requests } => {
                write!(f, "{failures} of the last {requests} calls failed")
            }
            Self::SlowCallRate { slow_calls, requests } => {
                write!(f, "{slow_calls} of the last {requests} calls were slow")
            }
            Self::InFlightStall { in_flight } => {
                write!(f, "{in_flight} calls were in flight and none ended")
            }
            Self::Policy => f.write_str("the trip policy decided so"),
            Self::CoolOff => f.write_str("a pause was asked for, by the provider or by the policy that judges it"),
            Self::ProbeFailed => f.write_str("a probe failed"),
            Self::ProbeSucceeded => f.write_str("the probes succeeded"),
            Self::CooldownElapsed => f.write_str("the cooldown is over"),
            Self::HalfOpenTimedOut => f.write_str("the probes brought no verdict in time"),
            Self::Operator => f.write_str("an operator decided so"),
        }
    }
}

/// A change of state, returned once by the call that caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state before.
    pub from: CircuitState,
    /// The state since.
    pub to: CircuitState,
    /// Why.
    pub cause: Cause,
    /// When the first probe becomes possible; `None` unless the circuit opened, and for an
    /// operator's opening, which has no end.
    pub until: Option<Timestamp>,
    /// When it happened.
    pub at: Timestamp,
    /// Whether it only would have happened: in [`Mode::WatchOnly`] the two states are those that the
    /// circuit would have had, while every call passes.
    pub would: bool,
}

/// Why a call may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it may carry a transition to report"]
pub enum Rejected {
    /// The circuit is open.
    Open {
        /// When a probe becomes possible. An operator's opening has no end; asking again one
        /// longest cooldown from now is as good as any time.
        until: Timestamp,
        /// Why the circuit opened.
        cause: Cause,
        /// Set when this very call opened the circuit: it found that the probes brought no verdict in
        /// time, or that the calls in flight stall.
        transition: Option<Transition>,
    },
    /// The circuit is half-open and all its probes are in flight.
    ProbesInFlight {
        /// When to ask again: a probe may settle at any time, and at the latest its lease ends.
        retry_at: Timestamp,
    },
    /// The circuit has closed a moment ago, and this call is not in the share that passes already.
    Ramping {
        /// When to ask again: one ramp's length from now, after its end. So calls return as spread
        /// as they came, not all of them at the end.
        retry_at: Timestamp,
    },
}

impl Rejected {
    /// When asking again makes sense.
    #[must_use]
    pub const fn retry_at(&self) -> Timestamp {
        match self {
            Self::Open { until, .. } => *until,
            Self::ProbesInFlight { retry_at } | Self::Ramping { retry_at } => *retry_at,
        }
    }

    /// How long to wait before asking again, for whoever has so much patience: for the cooldown, or for somebody else's
    /// probe to close the circuit. `None` if there is no use in waiting.
    ///
    /// Where the upstream [fails slowly](crate::Breaker::fails_slowly) it may have too much to do, and those who wait
    /// would be a herd.
    #[must_use]
    pub fn worth_waiting(&self, fails_slowly: bool, patience: Duration, now: Timestamp) -> Option<Duration> {
        let wait = self.retry_at().saturating_since(now);
        // While a probe is under way its verdict is worth waiting for, however far off the next one is.
        let is_probed = matches!(self, Self::ProbesInFlight { .. });
        if fails_slowly || patience.is_zero() || wait > patience && !is_probed {
            return None;
        }
        Some(wait.min(patience))
    }

    /// The transition that the refused call caused, if any.
    #[must_use]
    pub const fn transition(&self) -> Option<Transition> {
        match self {
            Self::Open { transition, .. } => *transition,
            Self::ProbesInFlight { .. } | Self::Ramping { .. } => None,
        }
    }
}

/// What a circuit has seen within its window, and how it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowStatistics {
    /// How the circuit stands.
    pub state: CircuitState,
    /// Length of the window. Results stay in view for between nine tenths of it and all of it. With
    /// a count window, the time since the oldest result in view ended; zero when there is none.
    pub length: Duration,
    /// Calls of any counted outcome, throttled ones included.
    pub requests: u32,
    /// Calls that failed.
    pub failures: u32,
    /// Calls that the upstream refused for overload.
    pub overloads: u32,
    /// Calls that a rate limit refused.
    pub throttles: u32,
    /// Calls that took longer than the slow-call duration, throttled ones excluded.
    pub slow_calls: u32,
    /// Failures and overloads since the last success.
    pub consecutive_failures: u32,
    /// Calls admitted and not settled.
    pub in_flight: u32,
    /// Age of the oldest of them, at most a second too low; it is counted up to 255 s. Zero when
    /// there is none.
    pub oldest_in_flight: Duration,
    /// How long the window's calls took.
    pub latencies: Histogram,
    /// Openings since the circuit last stayed closed for the sustained time.
    pub consecutive_openings: u32,
    /// The first configured threshold that these figures reach.
    pub thresholds_crossed: Option<Cause>,
}

impl WindowStatistics {
    /// The duration below which a share of `q` (0 to 1) of the window's calls stayed, at most 25 %
    /// too high (see [`Histogram::quantile`]); `None` when there are none.
    #[must_use]
    pub fn latency(&self, q: f32) -> Option<Duration> {
        self.latencies.quantile(q)
    }

    /// The least wait that can be [overdue](Self::overdue_after): below it people leave for reasons of their own.
    pub const OVERDUE_MIN: Duration = Duration::from_secs(1);

    /// The duration below which nearly all recent calls stayed; `None` when there were too few to tell, or too many of
    /// them refused: refusals are quick and say nothing about answers.
    #[must_use]
    pub fn usual_latency(&self) -> Option<Duration> {
        let refused = self.failures + self.overloads + self.throttles;
        let telling = self.requests >= USUAL_CALLS_MIN && refused.saturating_mul(10) <= self.requests;
        if telling { self.latency(USUAL_QUANTILE) } else { None }
    }

    /// How long a call must have taken for its caller's leaving to be the upstream's fault: five times what is usual,
    /// and a second at least. `None` when nothing usual is known.
    #[must_use]
    pub fn overdue_after(&self) -> Option<Duration> {
        Some(self.usual_latency()?.saturating_mul(OVERDUE_FACTOR).max(Self::OVERDUE_MIN))
    }
}

/// The share of calls that counts as nearly all.
const USUAL_QUANTILE: f32 = 0.95;
/// Calls of which one quantile that high can be told.
const USUAL_CALLS_MIN: u32 = 20;
/// How many times the usual is more than a slow day.
const OVERDUE_FACTOR: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_circuit_is_waited_for_as_long_as_there_is_patience_and_not_where_it_fails_slowly() {
        let now = Timestamp::from_micros(5_000_000);
        let at = |wait| now.saturating_add(wait);
        let open = Rejected::Open { until: at(SECOND), cause: Cause::Policy, transition: None };
        let probed = Rejected::ProbesInFlight { retry_at: at(60 * SECOND) };
        let ramping = Rejected::Ramping { retry_at: at(SECOND / 2) };
        for (rejected, fails_slowly, patience, worth) in [
            (&open, false, SECOND, Some(SECOND)),
            (&open, false, SECOND / 2, None),
            (&open, true, SECOND, None),
            (&probed, false, SECOND, Some(SECOND)),
            (&probed, true, SECOND, None),
            (&probed, false, Duration::ZERO, None),
            (&ramping, false, SECOND, Some(SECOND / 2)),
        ] {
            assert_eq!(rejected.worth_waiting(fails_slowly, patience, now), worth, "{rejected:?} {patience:?}");
        }
    }

    #[test]
    fn a_cause_is_the_same_after_it_was_kept_as_parts() {
        let causes = [
            Cause::ConsecutiveFailures(5),
            Cause::NoneServed(6),
            Cause::FailureRate { failures: 7, requests: 9 },
            Cause::SlowCallRate { slow_calls: 3, requests: 4 },
            Cause::InFlightStall { in_flight: 2 },
            Cause::Policy,
            Cause::CoolOff,
            Cause::ProbeFailed,
            Cause::ProbeSucceeded,
            Cause::CooldownElapsed,
            Cause::HalfOpenTimedOut,
            Cause::Operator,
        ];
        for cause in causes {
            let (word, counts) = cause.to_parts();
            assert_eq!(Cause::from_parts(word, counts), Some(cause));
        }
        assert_eq!(Cause::from_parts("boredom", [0, 0]), None);
    }
}
