//! The counter that nobody sets and that sleep does not stop, and how long the machine has slept by it.
//!
//! Unix has a second counter, which sleep stops: the difference is the sleep. Windows has one counter for both, so there
//! a sleep is a gap between two looks that should have been a second apart.

use std::time::Duration;
use tokio::time::Instant;

#[cfg(unix)]
pub(super) use unix::{micros, noticed, slept};
#[cfg(windows)]
pub(super) use windows::{micros, noticed, slept};

#[cfg(unix)]
mod unix {
    use super::{Duration, Instant};
    use rustix::time::{ClockId, clock_gettime};

    /// The counter that goes on while the machine sleeps. macOS calls so what Linux calls otherwise.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const COUNTER: ClockId = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const COUNTER: ClockId = ClockId::Monotonic;

    /// What the counter says, in microseconds.
    pub(in crate::runtime::clock) fn micros() -> u64 {
        let time = clock_gettime(COUNTER);
        // Neither is ever negative.
        time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
    }

    /// How long the machine has slept of the time that has `passed` since `awake`, which sleep stops.
    pub(in crate::runtime::clock) fn slept(passed: Duration, awake: Instant) -> Duration {
        passed.saturating_sub(awake.elapsed())
    }

    /// Somebody has looked. Nothing of it is remembered here.
    pub(in crate::runtime::clock) fn noticed() {}
}

#[cfg(windows)]
mod windows {
    use super::{Duration, Gaps, Instant};
    use std::sync::LazyLock;

    /// When the process first asked. What Windows counts by goes on while the machine sleeps, and so does `Instant`.
    static BEGAN: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);

    static GAPS: Gaps = Gaps::new();

    /// What the counter says, in microseconds. It begins with the process.
    pub(in crate::runtime::clock) fn micros() -> u64 {
        u64::try_from(BEGAN.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// How long nobody was there to look, since the process began.
    pub(in crate::runtime::clock) fn slept(_passed: Duration, _awake: Instant) -> Duration {
        Duration::from_micros(GAPS.slept_micros(micros()))
    }

    /// Somebody has looked, as is done once a second.
    pub(in crate::runtime::clock) fn noticed() {
        GAPS.look(micros());
    }
}

/// Looks that should be a second apart, and the gaps between them.
#[cfg(any(windows, test))]
struct Gaps {
    /// When the last look was; 0 before the first.
    looked_micros: std::sync::atomic::AtomicU64,
    /// All gaps before it.
    sum_micros: std::sync::atomic::AtomicU64,
}

#[cfg(any(windows, test))]
impl Gaps {
    /// A gap that no busy machine leaves between two looks, and every sleep does: falling asleep and waking up take
    /// seconds by themselves.
    const MIN_MICROS: u64 = 5_000_000;

    const fn new() -> Gaps {
        use std::sync::atomic::AtomicU64;
        Gaps { looked_micros: AtomicU64::new(0), sum_micros: AtomicU64::new(0) }
    }

    /// All gaps up to now, one included that has not been looked at.
    fn slept_micros(&self, now_micros: u64) -> u64 {
        use std::sync::atomic::Ordering::Relaxed;
        let looked_micros = self.looked_micros.load(Relaxed);
        let gap_micros = if looked_micros == 0 { 0 } else { now_micros.saturating_sub(looked_micros) };
        let gap_micros = if gap_micros < Self::MIN_MICROS { 0 } else { gap_micros };
        self.sum_micros.load(Relaxed).saturating_add(gap_micros)
    }

    fn look(&self, now_micros: u64) {
        use std::sync::atomic::Ordering::Relaxed;
        self.sum_micros.store(self.slept_micros(now_micros), Relaxed);
        self.looked_micros.store(now_micros.max(1), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_between_two_looks_is_a_sleep_and_a_second_is_none() {
        const SECOND: u64 = 1_000_000;
        let gaps = Gaps::new();
        assert_eq!(gaps.slept_micros(100 * SECOND), 0, "nobody has looked yet");
        gaps.look(100 * SECOND);
        gaps.look(101 * SECOND);
        assert_eq!(gaps.slept_micros(102 * SECOND), 0);
        assert_eq!(gaps.slept_micros(161 * SECOND), 60 * SECOND, "it is known before the next look");
        gaps.look(161 * SECOND);
        gaps.look(162 * SECOND);
        assert_eq!(gaps.slept_micros(163 * SECOND), 60 * SECOND);
    }
}
