//! What was used within the last hour.

use std::time::Duration;

use crate::time::Timestamp;

/// Slots of the hour.
const SLOTS: usize = 60;
/// How long each is.
const SLOT_MICROS: u64 = 60_000_000;

/// What was used within the last hour, to the minute: in the minute that has begun, and in the 59 before it.
#[derive(Clone, Debug)]
pub struct Hour {
    used: [u64; SLOTS],
    /// The minute of the latest slot, counted from the clock's origin.
    minute: u64,
    /// Whether its limit was reached when it was last looked at.
    is_reached: bool,
}

impl Default for Hour {
    fn default() -> Self {
        Self { used: [0; SLOTS], minute: 0, is_reached: false }
    }
}

impl Hour {
    /// Notes what was used. Time never goes back: what comes from before the latest minute counts in that.
    pub fn add(&mut self, amount: u64, now: Timestamp) {
        self.advance(now);
        let slot = &mut self.used[slot(self.minute)];
        *slot = slot.saturating_add(amount);
    }

    /// How much that is at this moment.
    pub fn used(&mut self, now: Timestamp) -> u64 {
        self.advance(now);
        self.used.iter().fold(0, |sum, used| sum.saturating_add(*used))
    }

    /// How much there is if that is the limit or more, and whether it was less when this was last asked.
    pub fn reaches(&mut self, limit: u64, now: Timestamp) -> Option<(u64, bool)> {
        let used = self.used(now);
        let was_reached = std::mem::replace(&mut self.is_reached, used >= limit);
        self.is_reached.then_some((used, !was_reached))
    }

    /// How long until less than `limit` was used within the hour, if nothing more is until then.
    pub fn until_below(&mut self, limit: u64, now: Timestamp) -> Duration {
        let mut used = self.used(now);
        let mut minutes = 0;
        while used >= limit && minutes < SLOTS as u64 {
            // The oldest slot is the one behind the latest.
            used = used.saturating_sub(self.used[slot(self.minute + 1 + minutes)]);
            minutes += 1;
        }
        let end = Timestamp::from_micros((self.minute + minutes).saturating_mul(SLOT_MICROS));
        end.saturating_since(now)
    }

    fn advance(&mut self, now: Timestamp) {
        let minute = now.as_micros() / SLOT_MICROS;
        let passed = minute.saturating_sub(self.minute).min(SLOTS as u64);
        for later in 0..passed {
            self.used[slot(minute - later)] = 0;
        }
        self.minute = self.minute.max(minute);
    }
}

fn slot(minute: u64) -> usize {
    usize::try_from(minute % SLOTS as u64).unwrap_or(0)
}
