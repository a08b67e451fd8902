//! Getting worse the more is asked.

use std::collections::VecDeque;
use std::time::Duration;

use spillway_resilience::Timestamp;

/// A provider that works well up to a load, which is the number of calls in the last second, and
/// beyond it serves less in all the more it is asked: each call succeeds with probability
/// (bearable / load)², as if every call too many also took work from the others.
#[derive(Clone, Debug)]
pub(super) struct Load {
    bearable: f64,
    last_second: VecDeque<Timestamp>,
}

impl Load {
    const MEMORY: Duration = Duration::from_secs(1);

    pub(super) const fn new(bearable: f64) -> Self {
        Self { bearable, last_second: VecDeque::new() }
    }

    /// Takes a call, and says how likely it is to succeed.
    pub(super) fn take(&mut self, now: Timestamp) -> f64 {
        self.last_second.push_back(now);
        while self.last_second.front().is_some_and(|at| now.saturating_since(*at) > Self::MEMORY) {
            self.last_second.pop_front();
        }
        (self.bearable / self.last_second.len() as f64).powi(2).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_the_bearable_load_succeeds_a_quarter_of_the_time_and_a_quiet_second_heals() {
        let mut load = Load::new(10.0);
        let likely: Vec<f64> = (0..20).map(|_| load.take(Timestamp::ORIGIN)).collect();
        assert_eq!((likely[9], likely[19]), (1.0, 0.25));
        assert_eq!(load.take(Timestamp::from_micros(1_000_001)), 1.0);
    }
}
