//! How many calls are in flight, and how long the oldest has been, in constant memory.

use std::time::Duration;

use crate::time::Timestamp;

/// Start times are kept to the second for this many seconds: far beyond what a healthy call takes,
/// at a kilobyte per circuit. Older calls are still counted, with the greatest age that is told
/// apart.
const SECONDS: usize = 256;

/// A call that has left the ring is older than this; by how much is not known.
const AGE_MAX: Duration = Duration::from_secs(SECONDS as u64 - 1);

const MICROS_PER_SECOND: u64 = 1_000_000;

/// A ring of counts, one per second, of the calls that started then and have not ended, and one
/// count for all that started before the ring's reach.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    /// The latest second seen; the ring covers it and the `SECONDS - 1` before it.
    newest: u64,
    ring: [u32; SECONDS],
    older: u32,
}

impl InFlight {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { newest: second(now), ring: [0; SECONDS], older: 0 }
    }

    pub(crate) fn start(&mut self, now: Timestamp) {
        self.advance(now);
        let count = self.counter(now);
        *count = count.saturating_add(1);
    }

    /// Takes out a call that started at `started`.
    pub(crate) fn end(&mut self, started: Timestamp, now: Timestamp) {
        self.advance(now);
        let count = self.counter(started);
        *count = count.saturating_sub(1);
    }

    pub(crate) fn count(&self) -> u32 {
        self.ring.iter().fold(self.older, |sum, count| sum.saturating_add(*count))
    }

    /// Age of the oldest call: never overstated, understated by at most a second, and at most
    /// `AGE_MAX`. Zero when nothing is in flight.
    pub(crate) fn oldest(&self, now: Timestamp) -> Duration {
        if self.older > 0 {
            return AGE_MAX;
        }
        let first = self.newest.saturating_sub(SECONDS as u64 - 1);
        (first..=self.newest).find(|second| self.ring[index(*second)] > 0).map_or(Duration::ZERO, |second| {
            let end_of_second = second.saturating_add(1).saturating_mul(MICROS_PER_SECOND);
            let age = now.saturating_since(Timestamp::from_micros(end_of_second));
            age.min(AGE_MAX)
        })
    }

    fn counter(&mut self, started: Timestamp) -> &mut u32 {
        if self.newest.saturating_sub(second(started)) < SECONDS as u64 {
            &mut self.ring[index(second(started))]
        } else {
            &mut self.older
        }
    }

    /// Moves the ring on to `now`; what leaves it is lumped together. Turning it once suffices
    /// after any silence.
    fn advance(&mut self, now: Timestamp) {
        let steps = second(now).saturating_sub(self.newest).min(SECONDS as u64);
        for step in 1..=steps {
            let left = std::mem::take(&mut self.ring[index(self.newest.saturating_add(step))]);
            self.older = self.older.saturating_add(left);
        }
        self.newest = self.newest.max(second(now));
    }
}

const fn second(at: Timestamp) -> u64 {
    at.as_micros() / MICROS_PER_SECOND
}

#[expect(clippy::cast_possible_truncation, reason = "the remainder is smaller than SECONDS, which is a usize")]
const fn index(second: u64) -> usize {
    (second % SECONDS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    #[test]
    fn a_call_older_than_the_ring_is_counted_until_it_ends() {
        let mut in_flight = InFlight::new(at(0));
        in_flight.start(at(0));
        in_flight.start(at(10_000_000));
        assert_eq!(in_flight.count(), 2);
        assert_eq!(in_flight.oldest(at(10_000_000)), AGE_MAX);
        in_flight.end(at(0), at(10_001_000));
        assert_eq!(in_flight.count(), 1);
        assert_eq!(in_flight.oldest(at(10_003_000)), Duration::from_secs(2));
        in_flight.end(at(10_000_000), at(10_003_000));
        assert_eq!((in_flight.count(), in_flight.oldest(at(10_003_000))), (0, Duration::ZERO));
    }

    proptest! {
        /// Against a plain list of start times.
        #[test]
        fn count_and_age_agree_with_a_list(
            steps in prop::collection::vec(
                (any::<bool>(), 0_u64..20_000, any::<prop::sample::Index>()),
                1..200,
            ),
        ) {
            let mut in_flight = InFlight::new(at(5_000));
            let mut list: Vec<u64> = Vec::new();
            let mut now = 5_000;
            for (starts, pause, which) in steps {
                now += pause;
                if starts || list.is_empty() {
                    in_flight.start(at(now));
                    list.push(now);
                } else {
                    let started = list.remove(which.index(list.len()));
                    in_flight.end(at(started), at(now));
                }
                prop_assert_eq!(in_flight.count() as usize, list.len());
                let exact = list.first().map_or(Duration::ZERO, |s| Duration::from_millis(now - s));
                let exact = exact.min(AGE_MAX);
                let reported = in_flight.oldest(at(now));
                prop_assert!(reported <= exact);
                prop_assert!(exact - reported <= Duration::from_secs(1));
            }
        }
    }
}
