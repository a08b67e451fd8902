//! What of a circuit outlives a restart.

use std::time::Duration;

use super::closed::Closed;
use super::{Breaker, BreakerSettings, Cause, CircuitState, Mode, State, chance};
use crate::time::Timestamp;

/// How a circuit stood, as plain data that holds no instant: the clock of one process means nothing
/// to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Who decided about the circuit.
    pub mode: Mode,
    /// How it stood; in [`Mode::WatchOnly`], how it would have stood.
    pub state: CircuitState,
    /// Why it had opened; `None` when it was closed.
    pub cause: Option<Cause>,
    /// What was left of the cooldown; zero unless it was open.
    pub remaining: Duration,
    /// Openings since it last stayed closed for the sustained time: the growth of the cooldown.
    pub openings: u32,
}

impl Breaker {
    /// How the circuit stands now, to be kept for [`restore`](Self::restore).
    #[must_use]
    pub fn snapshot(&self, now: Timestamp) -> Snapshot {
        let (cause, remaining) = match &self.state {
            State::Closed(_) | State::Disabled => (None, Duration::ZERO),
            State::ForcedOpen => (Some(Cause::Operator), Duration::ZERO),
            State::Open { until, cause, .. } => (Some(*cause), until.saturating_since(now)),
            State::HalfOpen(half_open) => (Some(half_open.cause), Duration::ZERO),
        };
        Snapshot {
            mode: self.mode(),
            state: self.would_be_state(),
            cause,
            remaining,
            openings: self.consecutive_openings(now),
        }
    }

    /// A circuit that goes on where another left off. An open one stays open for what remained of
    /// its cooldown, at most `open_for_cap`, and a half-open one lets the next call probe. Time that
    /// passed between the snapshot and `now` is the caller's to subtract, if a wall clock tells it.
    ///
    /// The window, the calls in flight and a ramp begun are not kept; how long a closed circuit had
    /// stayed closed neither, so the growth of its cooldown is forgotten a sustained time from now.
    #[must_use]
    pub fn restore(settings: BreakerSettings, snapshot: Snapshot, now: Timestamp) -> Self {
        let open_for = |remaining: Duration| State::Open {
            since: now,
            probing: 0,
            until: now.saturating_add(remaining.min(settings.open_for_cap)),
            cause: snapshot.cause.unwrap_or(Cause::CooldownElapsed),
            random: chance(now),
        };
        let by_itself = match snapshot.state {
            CircuitState::Closed => State::Closed(Closed::new(now)),
            CircuitState::Open => open_for(snapshot.remaining),
            CircuitState::HalfOpen => open_for(Duration::ZERO),
        };
        let (state, watching) = match snapshot.mode {
            Mode::Normal => (by_itself, false),
            Mode::WatchOnly => (by_itself, true),
            Mode::ForcedOpen => (State::ForcedOpen, false),
            Mode::Disabled => (State::Disabled, false),
        };
        Self { state, watching, openings: snapshot.openings, ..Self::new(settings, now) }
    }
}
