//! The one clock and the one source of randomness. Everything else is handed their values.

use spillway_resilience::Timestamp;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A monotonic clock that counts from the moment it was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts counting.
    pub fn start() -> Self {
        Clock { origin: Instant::now() }
    }

    /// Now, for the pure core.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The moment at which the runtime's timers say `instant`.
    pub fn at(&self, instant: tokio::time::Instant) -> Timestamp {
        let since = instant.into_std().saturating_duration_since(self.origin);
        Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    /// How long until `moment`; zero when it has passed.
    pub fn until(&self, moment: Timestamp) -> Duration {
        moment.saturating_since(self.now())
    }
}

/// Milliseconds since 1970, for what outlives the process.
pub fn unix_ms() -> u64 {
    milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Whole milliseconds of a duration.
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Fresh randomness, uniform over 64 bits; good for jitter, not for secrets.
pub fn random() -> u64 {
    fastrand::u64(..)
}
