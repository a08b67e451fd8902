//! Refusing work early, the least important first, before a bound refuses it blindly.

use std::time::Duration;

use crate::Mistake;

/// How much a request matters. The caller's key or header says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Somebody waits for it and pays for it.
    High,
    /// Everything that says nothing else.
    #[default]
    Normal,
    /// Batches and background work, which can come back later.
    Low,
}

impl Priority {
    /// All priorities, the most important first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The place in [`ALL`](Self::ALL), from 0.
    #[must_use]
    pub const fn rank(self) -> usize {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }

    /// The priority's name, in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

/// How full the process is. A bound of zero counts as reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Requests in hand, waiting ones included.
    pub in_flight: u64,
    /// Most requests in hand.
    pub max_in_flight: u64,
    /// Memory in use, in bytes.
    pub held_bytes: u64,
    /// Most memory, in bytes.
    pub max_held_bytes: u64,
}

impl Load {
    /// The fuller of the two, as a share of its bound: 1 is full, and more is possible.
    #[must_use]
    pub fn share(&self) -> f64 {
        share(self.in_flight, self.max_in_flight).max(share(self.held_bytes, self.max_held_bytes))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
fn share(used: u64, bound: u64) -> f64 {
    if bound == 0 { f64::INFINITY } else { used as f64 / bound as f64 }
}

/// From which load on each priority is refused: shares of the bound, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShedSettings {
    /// For [`Priority::Low`].
    pub low: f64,
    /// For [`Priority::Normal`]; not below `low`.
    pub normal: f64,
    /// For [`Priority::High`]; not below `normal`.
    pub high: f64,
    /// The wait suggested to a refused caller where its refusals begin.
    pub retry_after_min: Duration,
    /// The wait suggested when the bound is reached.
    pub retry_after_max: Duration,
}

impl ShedSettings {
    /// Background work stops while a third of the room is free.
    pub const DEFAULT_LOW: f64 = 0.7;
    /// An ordinary burst passes below this.
    pub const DEFAULT_NORMAL: f64 = 0.85;
    /// The last twentieth is for what has begun already: answers grow while they are read.
    pub const DEFAULT_HIGH: f64 = 0.95;
    /// A second, the least that `Retry-After` can say.
    pub const DEFAULT_RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
    /// Ten seconds, about as long as an ordinary answer takes to make room.
    pub const DEFAULT_RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

    /// Decides about a request of this `priority`.
    ///
    /// The decision depends on nothing else, so it is monotone: what is refused is refused at any
    /// higher load too, and so is everything less important; the suggested wait grows with the
    /// load.
    #[must_use]
    pub fn decide(&self, load: Load, priority: Priority) -> ShedDecision {
        let threshold = self.threshold(priority);
        let share = load.share();
        if share < threshold {
            return ShedDecision::Admit;
        }
        // The whole ramp lies between the threshold and the bound; at a threshold of 1 there is none.
        let room = 1.0 - threshold;
        let excess = if room > 0.0 { ((share - threshold) / room).clamp(0.0, 1.0) } else { 1.0 };
        let spread = self.retry_after_max.saturating_sub(self.retry_after_min);
        ShedDecision::Shed { retry_after: self.retry_after_min.saturating_add(crate::time::share_of(spread, excess)) }
    }

    const fn threshold(&self, priority: Priority) -> f64 {
        match priority {
            Priority::Low => self.low,
            Priority::Normal => self.normal,
            Priority::High => self.high,
        }
    }

    /// Every mistake in these settings; none when they are sound.
    #[must_use]
    pub fn validate(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        for (field, value, least) in
            [("low", self.low, 0.0), ("normal", self.normal, self.low), ("high", self.high, self.normal)]
        {
            Mistake::unless(
                &mut mistakes,
                value > 0.0 && value <= 1.0 && value >= least,
                field,
                format!("{value} must lie above 0 and at most at 1, and not below the threshold of a lower priority"),
            );
        }
        Mistake::unless(
            &mut mistakes,
            self.retry_after_max >= self.retry_after_min,
            "retry_after_max",
            format!("{:?} must not be shorter than retry_after_min ({:?})", self.retry_after_max, self.retry_after_min),
        );
        mistakes
    }
}

impl Default for ShedSettings {
    fn default() -> Self {
        Self {
            low: Self::DEFAULT_LOW,
            normal: Self::DEFAULT_NORMAL,
            high: Self::DEFAULT_HIGH,
            retry_after_min: Self::DEFAULT_RETRY_AFTER_MIN,
            retry_after_max: Self::DEFAULT_RETRY_AFTER_MAX,
        }
    }
}

/// What becomes of a request that has just arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShedDecision {
    /// There is room.
    Admit,
    /// Refused, to keep room for what matters more.
    Shed {
        /// The wait to suggest to the caller.
        retry_after: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn requests(in_flight: u64) -> Load {
        Load { in_flight, max_in_flight: 100, held_bytes: 0, max_held_bytes: 1 }
    }

    fn admitted(load: Load) -> [bool; 3] {
        Priority::ALL.map(|priority| ShedSettings::default().decide(load, priority) == ShedDecision::Admit)
    }

    #[test]
    fn the_least_important_is_refused_first() {
        assert_eq!(admitted(requests(69)), [true, true, true]);
        assert_eq!(admitted(requests(70)), [true, true, false]);
        assert_eq!(admitted(requests(85)), [true, false, false]);
        assert_eq!(admitted(requests(95)), [false, false, false]);
    }

    #[test]
    fn either_bound_is_enough() {
        let memory = Load { in_flight: 0, max_in_flight: 100, held_bytes: 900, max_held_bytes: 1000 };
        assert_eq!(admitted(memory), [true, false, false]);
        assert_eq!(admitted(Load { max_held_bytes: 0, ..memory }), [false; 3], "no bound is no room");
    }

    #[test]
    fn the_suggested_wait_grows_from_the_threshold_to_the_bound() {
        let wait = |in_flight| match ShedSettings::default().decide(requests(in_flight), Priority::Low) {
            ShedDecision::Admit => Duration::ZERO,
            ShedDecision::Shed { retry_after } => retry_after,
        };
        let seconds = [69, 70, 85, 100, 1000].map(|load| wait(load).as_secs_f64().round());
        assert_eq!(seconds, [0.0, 1.0, 6.0, 10.0, 10.0], "half way is five and a half");
    }

    #[test]
    fn every_mistake_is_listed() {
        let broken = ShedSettings {
            low: f64::NAN,
            normal: 0.9,
            high: 0.8,
            retry_after_max: Duration::ZERO,
            ..ShedSettings::default()
        };
        let fields: Vec<_> = broken.validate().into_iter().map(|m| m.field).collect();
        assert_eq!(fields, ["low", "normal", "high", "retry_after_max"]);
        assert_eq!(ShedSettings::default().validate(), []);
    }

    proptest! {
        #[test]
        fn what_is_refused_is_refused_at_any_higher_load_and_lower_priority(
            in_flight in 0_u64..120,
            more in 0_u64..50,
            memory in 0_u64..120,
        ) {
            let load = |in_flight| Load { in_flight, max_in_flight: 100, held_bytes: memory, max_held_bytes: 100 };
            let settings = ShedSettings::default();
            let wait = |load, priority| match settings.decide(load, priority) {
                ShedDecision::Admit => None,
                ShedDecision::Shed { retry_after } => Some(retry_after),
            };
            for priority in Priority::ALL {
                prop_assert!(wait(load(in_flight), priority) <= wait(load(in_flight + more), priority));
            }
            let now = admitted(load(in_flight));
            prop_assert!(now[0] >= now[1] && now[1] >= now[2]);
        }
    }
}
