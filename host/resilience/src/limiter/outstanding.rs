//! Which reservations may still be settled.

use std::collections::VecDeque;

use super::Limiter;
use crate::time::Timestamp;

/// Reservations in the order of their numbers, each with its expiry; `None` is settled.
#[derive(Clone, Debug, Default)]
pub(super) struct Outstanding {
    /// The number of the first entry.
    first: u64,
    expiries: VecDeque<Option<Timestamp>>,
    open: usize,
}

impl Outstanding {
    /// The number that the next reservation gets.
    pub(super) fn next_id(&self) -> u64 {
        self.first + self.expiries.len() as u64
    }

    /// Notes a new reservation, and answers its number.
    pub(super) fn issue(&mut self, now: Timestamp) -> u64 {
        self.expire(now);
        if self.expiries.len() >= Limiter::OUTSTANDING_MAX {
            self.drop_first();
        }
        let id = self.next_id();
        self.expiries.push_back(Some(now.saturating_add(Limiter::RESERVATION_LIFETIME)));
        self.open += 1;
        id
    }

    /// Strikes a reservation out; `false` when it has expired.
    pub(super) fn close(&mut self, id: u64, now: Timestamp) -> bool {
        self.expire(now);
        let index = id.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let closed = index.and_then(|index| self.expiries.get_mut(index)).and_then(Option::take).is_some();
        self.open -= usize::from(closed);
        self.expire(now);
        closed
    }

    /// Reservations neither settled nor found expired.
    pub(super) fn len(&self) -> usize {
        self.open
    }

    fn expire(&mut self, now: Timestamp) {
        while self.expiries.front().is_some_and(|expiry| expiry.is_none_or(|expiry| expiry <= now)) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(expiry) = self.expiries.pop_front() {
            self.first += 1;
            self.open -= usize::from(expiry.is_some());
        }
    }
}
