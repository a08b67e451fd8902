//! Whether a policy's module still gives answers: a circuit breaker for policies.

use crate::runtime::sync::atomic::Ordering::Relaxed;
use crate::runtime::sync::atomic::{AtomicU32, AtomicU64};
use crate::runtime::sync::{Mutex, lock};
use spillway_resilience::Timestamp;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Calls and faults of a module, and whether it is quarantined.
///
/// All workers ask and report answers without a lock, so calls that overlap may see each other's outcomes late. That
/// costs a call too many, which the built-in policy's answer covers like any fault, and never a module that is lost for
/// good:
/// - a call may still be asked while the fault that begins a quarantine is being noted;
/// - a quarantine after faults in a row is begun anew by each fault of a call that was under way, and ended by an answer
///   to one; one for their share is ended by time alone, since half of its calls may be answers;
/// - when a quarantine is over, all calls try the module: after faults in a row until one of them fails, and otherwise
///   until as many have failed as before;
/// - a fault beside an answer counts as if it had come before or after it.
#[derive(Debug, Default)]
pub struct Health {
    calls: AtomicU64,
    faults: AtomicU64,
    faults_in_a_row: AtomicU32,
    /// Of a quarantine after faults in a row, which an answer ends by ending the row.
    quarantined_until: AtomicU64,
    /// Of a quarantine for the share of faults; 0 when there is none.
    quarantined_for_share_until: AtomicU64,
    noted: Mutex<Noted>,
}

/// What is written when a call fails, and only then.
#[derive(Debug, Default)]
struct Noted {
    last_fault: Option<String>,
    /// The last faults, at most [`Health::FAULTS_AMONG_CALLS`]: when each was, and how many calls there were before it.
    recent: VecDeque<(Timestamp, u64)>,
}

/// Why a module is not asked. Shown as the rule that it has broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quarantine {
    /// [`Health::FAULTS_IN_A_ROW`].
    InARow,
    /// [`Health::FAULTS_AMONG_CALLS`].
    Share,
}

impl fmt::Display for Quarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Quarantine::InARow => write!(f, "{} faults in a row", Health::FAULTS_IN_A_ROW),
            Quarantine::Share => {
                let (faults, calls) = (Health::FAULTS_AMONG_CALLS, Health::CALLS_LOOKED_BACK);
                write!(f, "{faults} faults among {calls} calls within a minute")
            }
        }
    }
}

impl Health {
    /// Faults in a row after which a policy is no longer asked.
    pub const FAULTS_IN_A_ROW: u32 = 5;
    /// Faults among the last [`CALLS_LOOKED_BACK`](Self::CALLS_LOOKED_BACK) calls, and within a
    /// [`MINUTE`](Self::MINUTE), after which it is no longer asked. Twice as many as in a row, so that a policy which
    /// fails now and then is not judged by a handful of calls. All of them together, each at its limit of time, cost a
    /// worker a tenth of a second.
    pub const FAULTS_AMONG_CALLS: usize = 10;
    /// Calls that are looked back on, from a fault. A fault at the limit of time costs thousands of times what an
    /// answer does, so a policy that fails a tenth of them hardly does anything else; one that fails at a rare kind of
    /// answer, which the built-in policy then judges, goes on serving all others.
    pub const CALLS_LOOKED_BACK: u64 = 100;
    /// For how long faults are counted together: long enough to find a policy that fails every other call at twenty
    /// calls a minute or more, and short enough that a bad hour long ago counts for nothing.
    pub const MINUTE: Duration = Duration::from_secs(60);
    /// For how long it is not asked; then it is tried again.
    pub const QUARANTINE: Duration = Duration::from_secs(30);

    /// Whether it may be in quarantine. When not, nobody needs to look at the clock.
    pub fn may_be_quarantined(&self) -> bool {
        self.faults_in_a_row.load(Relaxed) != 0 || self.quarantined_for_share_until.load(Relaxed) != 0
    }

    /// Why the module is not asked now; `None` when it is.
    pub fn quarantine(&self, now: Timestamp) -> Option<Quarantine> {
        let until = self.quarantined_for_share_until.load(Relaxed);
        if now.as_micros() < until {
            return Some(Quarantine::Share);
        }
        if until != 0 {
            // It is over, and forgotten, so that no call looks at the clock because of it. This fails where a fault has
            // begun the next one just now.
            let _ = self.quarantined_for_share_until.compare_exchange(until, 0, Relaxed, Relaxed);
        }
        let in_a_row = self.faults_in_a_row.load(Relaxed) >= Self::FAULTS_IN_A_ROW
            && now.as_micros() < self.quarantined_until.load(Relaxed);
        in_a_row.then_some(Quarantine::InARow)
    }

    /// Notes an answer, which ends a quarantine after faults in a row.
    pub fn answered(&self) {
        self.calls.fetch_add(1, Relaxed);
        // Read first: a write would take the line from the other workers at every call. A swap and no store, because
        // loom would let a fault beside a store outlast it.
        if self.faults_in_a_row.load(Relaxed) != 0 {
            self.faults_in_a_row.swap(0, Relaxed);
        }
    }

    /// Notes a call without an answer. Returns the quarantine that this fault begins, for the first time or anew.
    pub fn faulted(&self, reason: String, now: Timestamp) -> Option<Quarantine> {
        let until = now.saturating_add(Self::QUARANTINE).as_micros();
        let mut noted = lock(&self.noted);
        // Under the lock, so that faults are counted in the order of their calls.
        let calls_before = self.calls.fetch_add(1, Relaxed);
        self.faults.fetch_add(1, Relaxed);
        noted.last_fault = Some(reason);
        let in_a_row = self.faults_in_a_row.fetch_add(1, Relaxed).saturating_add(1) >= Self::FAULTS_IN_A_ROW;
        if in_a_row {
            self.quarantined_until.store(until, Relaxed);
        }
        if noted.is_too_large_a_share(now, calls_before) {
            // A swap and no store, because loom would let the end of the quarantine before outlast it.
            self.quarantined_for_share_until.swap(until, Relaxed);
            return Some(Quarantine::Share);
        }
        in_a_row.then_some(Quarantine::InARow)
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
        lock(&self.noted).last_fault.clone()
    }
}

impl Noted {
    /// Counts a fault, before which there were so many calls. True when the last faults are too close together;
    /// counting begins anew then.
    fn is_too_large_a_share(&mut self, now: Timestamp, calls_before: u64) -> bool {
        self.recent.push_back((now, calls_before));
        if self.recent.len() < Health::FAULTS_AMONG_CALLS {
            return false;
        }
        let too_close = self.recent.pop_front().is_some_and(|(first, calls_before_first)| {
            let calls = calls_before.saturating_sub(calls_before_first).saturating_add(1);
            calls <= Health::CALLS_LOOKED_BACK && now.saturating_since(first) < Health::MINUTE
        });
        if too_close {
            self.recent.clear();
        }
        too_close
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    /// Answers, and then a fault.
    fn fail_after(health: &Health, answers: u64, now: Timestamp) -> Option<Quarantine> {
        (0..answers).for_each(|_| health.answered());
        health.faulted("trap".into(), now)
    }

    /// One fault too few for their share to count, each after an answer.
    fn fail_nearly_too_often(health: &Health, now: Timestamp) {
        for _ in 1..Health::FAULTS_AMONG_CALLS {
            assert_eq!(fail_after(health, 1, now), None);
        }
    }

    #[test]
    fn a_policy_that_keeps_failing_is_quarantined_and_tried_again_later() {
        let health = Health::default();
        for _ in 1..Health::FAULTS_IN_A_ROW {
            assert_eq!(health.faulted("trap".into(), at(0)), None);
        }
        assert_eq!(health.quarantine(at(0)), None);
        assert_eq!(health.faulted("trap".into(), at(0)), Some(Quarantine::InARow));
        assert_eq!(health.quarantine(at(29)), Some(Quarantine::InARow));
        assert_eq!(health.quarantine(at(30)), None, "it is tried again");
        let anew = health.faulted("trap".into(), at(30));
        assert_eq!(anew, Some(Quarantine::InARow), "and its fault begins the next quarantine");
        assert_eq!(health.quarantine(at(31)), Some(Quarantine::InARow));
        health.answered();
        assert_eq!(health.quarantine(at(31)), None, "an answer ends it");
        assert!(!health.may_be_quarantined());
    }

    #[test]
    fn a_policy_that_fails_every_other_call_is_quarantined_and_tried_again_later() {
        let health = Health::default();
        fail_nearly_too_often(&health, at(0));
        assert_eq!(health.quarantine(at(0)), None);
        assert_eq!(fail_after(&health, 1, at(1)), Some(Quarantine::Share));
        assert_eq!(health.quarantine(at(1)), Some(Quarantine::Share));
        health.answered();
        assert!(health.may_be_quarantined());
        assert_eq!(health.quarantine(at(30)), Some(Quarantine::Share), "the answer was under way when it began");
        assert_eq!(health.quarantine(at(31)), None, "it is tried again");
        assert!(!health.may_be_quarantined(), "nobody looks at the clock any more");
        fail_nearly_too_often(&health, at(31));
        assert_eq!(fail_after(&health, 1, at(32)), Some(Quarantine::Share), "and counting has begun anew");
    }

    #[test]
    fn ten_faults_among_a_hundred_calls_are_too_many_and_among_more_are_not() {
        for (calls, quarantine) in [(100, Some(Quarantine::Share)), (101, None)] {
            let health = Health::default();
            // What was before the first of them does not count, however good it was.
            assert_eq!(fail_after(&health, 10_000, at(0)), None);
            (2..Health::FAULTS_AMONG_CALLS).for_each(|_| assert_eq!(fail_after(&health, 1, at(1)), None));
            let so_far = u64::try_from(2 * Health::FAULTS_AMONG_CALLS - 3).expect("a few");
            assert_eq!(fail_after(&health, calls - so_far - 1, at(59)), quarantine, "the tenth fault in {calls} calls");
        }
    }

    #[test]
    fn a_change_for_the_worse_is_found_at_the_tenth_fault_whatever_was_before() {
        let health = Health::default();
        assert_eq!((fail_after(&health, 0, at(0)), fail_after(&health, 10_000, at(0))), (None, None));
        let faults = (2..1_000).find(|_| fail_after(&health, 1, at(0)).is_some());
        assert_eq!(faults, Some(10));
    }

    #[test]
    fn faults_that_are_further_apart_than_a_minute_do_not_add_up() {
        let health = Health::default();
        fail_nearly_too_often(&health, at(0));
        assert_eq!(fail_after(&health, 1, at(60)), None, "the first is a minute ago");
        for _ in 2..Health::FAULTS_AMONG_CALLS {
            assert_eq!(fail_after(&health, 1, at(119)), None);
        }
        assert_eq!(fail_after(&health, 1, at(119)), Some(Quarantine::Share));
    }

    #[test]
    fn the_rules_are_told_in_the_same_words_everywhere() {
        let words = [Quarantine::InARow, Quarantine::Share].map(|rule| rule.to_string());
        let rule =
            format!("quarantined for {} s after {}, or after {}", Health::QUARANTINE.as_secs(), words[0], words[1]);
        for (file, text) in [
            ("docs/policies.md", include_str!("../../../docs/policies.md")),
            ("ARCHITECTURE.md", include_str!("../../../ARCHITECTURE.md")),
        ] {
            assert!(text.contains(&rule), "{file} does not say: {rule}");
        }
    }
}
