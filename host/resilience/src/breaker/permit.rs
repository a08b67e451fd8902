//! What passes between a breaker and its caller: permits, results and judgements.

use std::time::Duration;

use super::report::{Transition, WindowStatistics};
use crate::time::Timestamp;
#[cfg(doc)]
use crate::{Breaker, Mode, Outcome};

/// The right to make one call. Hand it back to [`Breaker::record`], whatever became of the call.
///
/// It cannot be copied. One that is lost stays counted as in flight, and if it was a probe its slot
/// is free again only when its lease ends; so the caller should wrap it in a guard that records
/// [`Outcome::Ignored`] when dropped.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that is never recorded stays in flight for good"]
pub struct Permit {
    pub(super) generation: u64,
    pub(super) admitted: Timestamp,
    pub(super) sent: Timestamp,
    pub(super) lease: Option<u64>,
    pub(super) would_be_refused: bool,
}

impl Permit {
    /// When the call was admitted.
    #[must_use]
    pub const fn admitted(&self) -> Timestamp {
        self.admitted
    }

    /// The same for a call that had gone out before: its result then tells of that time.
    pub const fn of_a_call_sent(self, sent: Timestamp) -> Self {
        Self { sent, ..self }
    }

    /// Whether the call is a probe.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        self.lease.is_some()
    }

    /// Whether the call passes only because the circuit is in [`Mode::WatchOnly`]. Its result
    /// counts nowhere, as if the call had not been made.
    #[must_use]
    pub const fn would_be_refused(&self) -> bool {
        self.would_be_refused
    }
}

/// An admission, and the change of state that came with it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "it holds a permit that must be recorded"]
pub struct Admitted {
    /// The right to make the call.
    pub permit: Permit,
    /// Set when this call is the first to probe after the cooldown.
    pub transition: Option<Transition>,
}

/// What recording a result led to.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "a pending judgement must be passed to `Breaker::judge`"]
pub struct Recorded {
    /// The change of state that the result caused by itself.
    pub transition: Option<Transition>,
    /// Set when the result leaves open whether the circuit trips: [`Breaker::judge`] decides.
    pub judgement: Option<Pending>,
}

impl Recorded {
    pub(super) const NOTHING: Self = Self { transition: None, judgement: None };

    pub(super) const fn transition(transition: Transition) -> Self {
        Self { transition: Some(transition), judgement: None }
    }
}

/// A result that may trip the circuit, with the figures to judge it by. A policy can look at them
/// without holding any lock; if the circuit has changed state meanwhile, the judgement has no
/// effect.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "pass it to `Breaker::judge`, or the result cannot trip the circuit"]
pub struct Pending {
    pub(super) generation: u64,
    /// What the circuit had seen, this result included.
    pub statistics: WindowStatistics,
}

/// A policy's answer to a [`Pending`] judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TripDecision {
    /// The circuit stays closed, whatever the thresholds say.
    Stay,
    /// It opens for its own growing cooldown.
    Open,
    /// It opens for this long, at most `open_for_cap`.
    OpenFor(Duration),
}
