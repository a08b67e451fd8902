//! Whether a policy's module still gives answers: a circuit breaker for policies.

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU32, AtomicU64};
use crate::sync::{Mutex, lock};
use spillway_resilience::Timestamp;
use std::time::Duration;

/// Calls and faults of a module, and whether it is quarantined.
///
/// All workers ask and report without a lock, so calls that overlap may see each other's outcomes late. That costs a
/// call too many, which the built-in policy's answer covers like any fault, and never a module that is lost for good:
/// - a call may still be asked while the fault that begins a quarantine is being noted;
/// - each fault of a call that was under way when a quarantine began begins it anew;
/// - when a quarantine is over, all calls try the module until one of them fails;
/// - a fault beside an answer counts as if it had come before or after it.
#[derive(Debug, Default)]
pub struct Health {
    calls: AtomicU64,
    faults: AtomicU64,
    faults_in_a_row: AtomicU32,
    quarantined_until: AtomicU64,
    last_fault: Mutex<Option<String>>,
}

impl Health {
    /// Faults in a row after which a policy is no longer asked.
    pub const FAULTS_TO_QUARANTINE: u32 = 5;
    /// For how long it is not asked; then it is tried again.
    pub const QUARANTINE: Duration = Duration::from_secs(30);

    /// Whether its last call has failed; only then can it be in quarantine.
    pub fn has_faults(&self) -> bool {
        self.faults_in_a_row.load(Relaxed) != 0
    }

    /// Whether the module is asked now.
    pub fn is_asked(&self, now: Timestamp) -> bool {
        self.faults_in_a_row.load(Relaxed) < Self::FAULTS_TO_QUARANTINE
            || now.as_micros() >= self.quarantined_until.load(Relaxed)
    }

    /// Notes an answer, which ends a quarantine.
    pub fn answered(&self) {
        self.calls.fetch_add(1, Relaxed);
        // Read first: a write would take the line from the other workers at every call. A swap and no store, because
        // loom would let a fault beside a store outlast it.
        if self.faults_in_a_row.load(Relaxed) != 0 {
            self.faults_in_a_row.swap(0, Relaxed);
        }
    }

    /// Notes a call without an answer. True when this fault begins a quarantine, for the first time or anew.
    pub fn faulted(&self, reason: String, now: Timestamp) -> bool {
        self.calls.fetch_add(1, Relaxed);
        self.faults.fetch_add(1, Relaxed);
        *lock(&self.last_fault) = Some(reason);
        let in_a_row = self.faults_in_a_row.fetch_add(1, Relaxed).saturating_add(1);
        if in_a_row < Self::FAULTS_TO_QUARANTINE {
            return false;
        }
        self.quarantined_until.store(now.saturating_add(Self::QUARANTINE).as_micros(), Relaxed);
        true
    }

    /// Calls since the module serves.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// Calls that gave no answer.
    pub fn faults(&self) -> u64 {
        self.faults.load(Relaxed)
    }

    /// The last of them.
    pub fn last_fault(&self) -> Option<String> {
        lock(&self.last_fault).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_policy_that_keeps_failing_is_quarantined_and_tried_again_later() {
        let health = Health::default();
        for _ in 1..Health::FAULTS_TO_QUARANTINE {
            assert!(!health.faulted("trap".into(), at(0)));
        }
        assert!(health.is_asked(at(0)));
        assert!(health.faulted("trap".into(), at(0)));
        assert!(!health.is_asked(at(29)));
        assert!(health.is_asked(at(30)), "it is tried again");
        assert!(health.faulted("trap".into(), at(30)), "and its fault begins the next quarantine");
        assert!(!health.is_asked(at(31)));
        health.answered();
        assert!(health.is_asked(at(31)), "an answer ends it");
    }
}
