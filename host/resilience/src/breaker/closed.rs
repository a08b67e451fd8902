//! What a closed circuit keeps track of besides its window: the stall of its calls, and the ramp.

use std::time::Duration;

use super::settings::BreakerSettings;
use crate::time::{Timestamp, micros};

/// Shares and credit are counted in millionths of a call, so that no rounding adds up.
const CALL: u64 = 1_000_000;

/// The share of calls that a ramp begins with. From nothing the first calls would wait for most of
/// the ramp.
const RAMP_START: u64 = CALL / 10;

/// Calls that pass at the beginning of a ramp whatever its share. So few are no herd, and an
/// upstream with little traffic should not notice that there is a ramp.
const RAMP_FIRST_CALLS: u64 = 10;

/// One closed phase. Calls of earlier phases are none of its business.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed {
    pub(super) since: Timestamp,
    /// Calls admitted in this phase and not settled.
    in_flight: u32,
    /// The last moment at which a call ended, or fewer were in flight than make a stall.
    quiet_since: Timestamp,
    /// What the arrivals of the ramp have earned and not spent, in millionths of a call; `None`
    /// when the circuit was not closed by its probes.
    credit: Option<u64>,
}

impl Closed {
    /// A phase in which every call passes from the beginning.
    pub(super) const fn new(now: Timestamp) -> Self {
        Self { since: now, in_flight: 0, quiet_since: now, credit: None }
    }

    /// A phase that begins with a ramp.
    pub(super) const fn recovering(now: Timestamp) -> Self {
        Self { credit: Some(RAMP_FIRST_CALLS * CALL), ..Self::new(now) }
    }

    pub(super) fn start(&mut self, settings: &BreakerSettings, now: Timestamp) {
        if settings.stalled_calls.is_some_and(|calls| self.in_flight < calls) {
            self.quiet_since = self.quiet_since.max(now);
        }
        self.in_flight = self.in_flight.saturating_add(1);
    }

    /// Takes out a call; `answered` says whether its end was the upstream's doing.
    pub(super) fn end(&mut self, answered: bool, now: Timestamp) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if answered {
            self.quiet_since = self.quiet_since.max(now);
        }
    }

    /// How many calls are in flight, if they are enough and have been for so long, without an end
    /// of any, that the upstream must be taken for stuck.
    pub(super) fn stalled(&self, settings: &BreakerSettings, now: Timestamp) -> Option<u32> {
        let enough = settings.stalled_calls.is_some_and(|calls| self.in_flight >= calls.max(1));
        let long = now.saturating_since(self.quiet_since) >= settings.stall_duration;
        (enough && long).then_some(self.in_flight)
    }

    /// What did not end until now could not end.
    pub(super) fn woken(&mut self, now: Timestamp) {
        self.quiet_since = self.quiet_since.max(now);
    }

    /// Whether the ramp lets an arriving call pass. Every arrival earns the share of the moment,
    /// and one that passes spends a whole call.
    pub(super) fn climb(&mut self, ramp: Duration, now: Timestamp) -> bool {
        let (Some(credit), Some(share)) = (&mut self.credit, ramp_share(self.since, ramp, now)) else {
            self.credit = None;
            return true;
        };
        let earned = credit.saturating_add(share);
        let passes = earned >= CALL;
        *credit = if passes { earned - CALL } else { earned };
        passes
    }
}

/// The share of calls that pass, in millionths: it grows evenly from a tenth to all. `None` when
/// the ramp is over.
fn ramp_share(since: Timestamp, ramp: Duration, now: Timestamp) -> Option<u64> {
    let passed = now.saturating_since(since);
    if passed >= ramp {
        return None;
    }
    let grown = u128::from(CALL - RAMP_START) * passed.as_micros() / u128::from(micros(ramp).max(1));
    Some(RAMP_START.saturating_add(u64::try_from(grown).unwrap_or(CALL)))
}
