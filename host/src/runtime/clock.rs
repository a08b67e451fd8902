//! The one clock and the one source of randomness. Everything else is handed their values.
//!
//! What waits, waits for time that *passes*: also while the machine sleeps, and however its wall clock is set
//! meanwhile. So everything is measured by a counter that nobody sets and that sleep does not stop, and wall time is
//! read once and then counted on. Two things are measured otherwise, because they would be wrong by this: how long a
//! call has been under way, since whoever is asked and whoever waits for it sleep with us (`Instant`, which the
//! runtime's timers follow; on Windows it counts sleep as well, so that a call may time out on waking up), and what
//! people and providers are told or tell in dates ([`wall_unix_ms`]).

mod counter;

use spillway_resilience::Timestamp;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio::time::Instant;

/// A sleep worth noticing: far above what passes between two readings, far below what a machine needs to fall asleep
/// and wake up.
const SLEEP_MIN: Duration = Duration::from_millis(500);

/// What is known of the machine's sleep. There is one machine, so there is one of these.
static SLEEPS: Sleeps =
    Sleeps { noticed_micros: AtomicU64::new(0), woken_micros: AtomicU64::new(0), woken: Notify::const_new() };

struct Sleeps {
    /// How long the machine has slept since the clock was started, as far as it was noticed.
    noticed_micros: AtomicU64,
    /// When the last sleep was noticed.
    woken_micros: AtomicU64,
    /// Rung then.
    woken: Notify,
}

/// A clock that counts from the moment it was made. Sleep of the machine counts, and nobody can set it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What the counter said at that moment.
    origin_micros: u64,
    /// That moment for what does not count sleep.
    awake: Instant,
    /// What wall time it was then. It lives as long as the process, as the clock does, of which there is one.
    began_unix_ms: &'static AtomicU64,
}

impl Clock {
    /// Starts counting, from the wall clock's time.
    pub fn start() -> Self {
        let began_unix_ms = Box::leak(Box::new(AtomicU64::new(wall_unix_ms())));
        Clock { origin_micros: counter::micros(), awake: Instant::now(), began_unix_ms }
    }

    /// Lets [`Clock::unix_ms`] go on from `unix_ms`: from what a former process has counted up to.
    pub fn go_on_from(&self, unix_ms: u64) {
        self.began_unix_ms.store(unix_ms.saturating_sub(self.counted_ms()), Ordering::Relaxed);
    }

    /// Something is known that happened at `unix_ms`, so that this is not in the future.
    pub fn not_before(&self, unix_ms: u64) {
        self.began_unix_ms.fetch_max(unix_ms.saturating_sub(self.counted_ms()), Ordering::Relaxed);
    }

    /// Now, for the pure core.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(counter::micros().saturating_sub(self.origin_micros))
    }

    /// Milliseconds since 1970, for what outlives the process. It was the wall clock's time once, and counts on from
    /// there: a wall clock that is set moves nothing that waits.
    pub fn unix_ms(&self) -> u64 {
        self.began_unix_ms.load(Ordering::Relaxed).saturating_add(self.counted_ms())
    }

    fn counted_ms(&self) -> u64 {
        self.now().as_micros() / 1_000
    }

    /// What the wall clock shows, or has shown or will show, at a moment of [`Clock::unix_ms`], as it is set at
    /// present.
    pub fn shown_unix_ms(&self, unix_ms: u64) -> u64 {
        shown(unix_ms, self.unix_ms(), wall_unix_ms())
    }

    /// The moment at which the runtime's timers say `instant`, if the machine does not sleep in between.
    pub fn at(&self, instant: Instant) -> Timestamp {
        let (now, awake) = (self.now(), Instant::now());
        match instant.checked_duration_since(awake) {
            Some(ahead) => now.saturating_add(ahead),
            None => earlier(now, awake.saturating_duration_since(instant)),
        }
    }

    /// How long until `moment`; zero when it has passed.
    pub fn until(&self, moment: Timestamp) -> Duration {
        moment.saturating_since(self.now())
    }

    /// Waits for so long. Unlike the runtime's timers it counts what the machine sleeps meanwhile.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now().saturating_add(duration)).await;
    }

    /// As [`Clock::sleep`], until a moment.
    pub async fn sleep_until(&self, moment: Timestamp) {
        loop {
            // Listening begins before looking, so that no sleep in between is missed.
            let mut woken = pin!(SLEEPS.woken.notified());
            woken.as_mut().enable();
            let left = self.until(moment);
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                () = woken => {}
            }
        }
    }

    /// Looks whether the machine has slept, and if so, answers for how long and has everybody who waits by this clock
    /// look anew: the runtime's timers have not counted it. To be called about once a second.
    pub fn notice_sleep(&self) -> Option<Duration> {
        let slept = self.slept();
        counter::noticed();
        let noticed = Duration::from_micros(SLEEPS.noticed_micros.load(Ordering::Relaxed));
        let more = slept.checked_sub(noticed).filter(|more| *more >= SLEEP_MIN)?;
        SLEEPS.noticed_micros.store(micros(slept), Ordering::Relaxed);
        SLEEPS.woken_micros.store(self.now().as_micros(), Ordering::Relaxed);
        SLEEPS.woken.notify_waiters();
        Some(more)
    }

    /// Whether the machine has slept since `moment`.
    pub fn has_slept_since(&self, moment: Timestamp) -> bool {
        let unnoticed = micros(self.slept()).saturating_sub(SLEEPS.noticed_micros.load(Ordering::Relaxed));
        moment.as_micros() < SLEEPS.woken_micros.load(Ordering::Relaxed) || unnoticed >= micros(SLEEP_MIN)
    }

    /// How long the machine has slept since the start.
    fn slept(&self) -> Duration {
        // The counter first: a process that is stopped between the two readings is not taken for a machine that slept.
        let passed = Duration::from_micros(self.now().as_micros());
        counter::slept(passed, self.awake)
    }
}

/// A moment of one time, in the other: `now` and `wall` are the same moment.
fn shown(moment_ms: u64, now_ms: u64, wall_ms: u64) -> u64 {
    match wall_ms.checked_sub(now_ms) {
        Some(ahead) => moment_ms.saturating_add(ahead),
        None => moment_ms.saturating_sub(now_ms - wall_ms),
    }
}

fn earlier(now: Timestamp, by: Duration) -> Timestamp {
    Timestamp::from_micros(now.as_micros().saturating_sub(micros(by)))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970 by the wall clock, as it is set: for people, and for dates that others name. Nothing may
/// wait by it.
pub fn wall_unix_ms() -> u64 {
    milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// What the counter says, in milliseconds: it began with the system, and means nothing after the next start of that.
pub(crate) fn counter_ms() -> u64 {
    counter::micros() / 1_000
}

/// Whole milliseconds of a duration.
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Fresh randomness, uniform over 64 bits; good for jitter, not for secrets.
pub fn random() -> u64 {
    fastrand::u64(..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_as_far_from_now_as_it_is() {
        const DAY: u64 = 86_400_000;
        // The moment, now, what the wall clock says, what is shown.
        for (moment, now, wall, expected) in [
            (5_000, 4_000, 4_000, 5_000),
            (5_000, 4_000, 4_000 + 25 * DAY / 24, 5_000 + 25 * DAY / 24),
            (2 * DAY, 2 * DAY - 1, DAY - 1, DAY),
            (0, DAY, 0, 0),
            (u64::MAX, DAY, 2 * DAY, u64::MAX),
        ] {
            assert_eq!(shown(moment, now, wall), expected, "{moment} {now} {wall}");
        }
    }

    #[test]
    fn a_clock_is_moved_by_what_is_known_to_have_happened_and_never_back() {
        let clock = Clock::start();
        for (known, expected) in [(0, 1_000_000), (2_000_000, 2_000_000), (1_000_000, 2_000_000)] {
            if known == 0 {
                clock.go_on_from(1_000_000);
            }
            clock.not_before(known);
            assert!((expected..expected + 60_000).contains(&clock.unix_ms()), "{known}: {}", clock.unix_ms());
        }
    }

    #[test]
    fn instants_before_and_after_now_keep_their_distance() {
        let clock = Clock::start();
        let (now, minute) = (Instant::now(), Duration::from_secs(60));
        let (at, later) = (clock.at(now), clock.at(now + minute));
        let distance = later.saturating_since(at);
        assert!(distance > minute.mul_f64(0.99) && distance < minute.mul_f64(1.01), "{distance:?}");
        assert!(!clock.has_slept_since(at), "nobody sleeps here");
    }

    #[test]
    fn a_wait_ends_when_its_time_has_passed() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let clock = Clock::start();
        runtime.block_on(clock.sleep(Duration::from_millis(20)));
        assert!(clock.now().as_micros() >= 20_000);
    }
}
