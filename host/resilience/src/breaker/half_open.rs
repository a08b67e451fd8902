//! The probes of one half-open phase.

use std::time::Duration;

use super::Cause;
use crate::time::Timestamp;

/// A slot for a probe, held until the probe settles or the lease ends.
#[derive(Clone, Copy, Debug)]
struct Lease {
    number: u64,
    ends: Timestamp,
}

/// The leases are as many as `probes` in the settings at most, because no more are granted.
#[derive(Clone, Debug)]
pub(super) struct HalfOpen {
    pub(super) since: Timestamp,
    /// Chance for the cooldown if this phase times out: admission, which notices, is handed none.
    pub(super) random: u64,
    /// Why the circuit had opened.
    pub(super) cause: Cause,
    pub(super) successes: u32,
    leases: Vec<Lease>,
    granted: u64,
}

impl HalfOpen {
    pub(super) const fn new(now: Timestamp, random: u64, cause: Cause) -> Self {
        Self { since: now, random, cause, successes: 0, leases: Vec::new(), granted: 0 }
    }

    /// Probes that hold an unexpired lease.
    pub(super) fn live(&self, now: Timestamp) -> usize {
        self.leases.iter().filter(|lease| lease.ends > now).count()
    }

    /// When the first of the live leases ends.
    pub(super) fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        self.leases.iter().map(|lease| lease.ends).filter(|ends| *ends > now).min()
    }

    /// Takes back expired leases and grants a new one, whose number is returned.
    pub(super) fn grant(&mut self, length: Duration, now: Timestamp) -> u64 {
        self.leases.retain(|lease| lease.ends > now);
        self.granted = self.granted.saturating_add(1);
        self.leases.push(Lease { number: self.granted, ends: now.saturating_add(length) });
        self.granted
    }

    /// Ends a lease; `false` when it was taken back before, so that the probe's result no longer
    /// counts.
    pub(super) fn settle(&mut self, number: u64) -> bool {
        let before = self.leases.len();
        self.leases.retain(|lease| lease.number != number);
        self.leases.len() < before
    }
}
