//! Whether a failed attempt is followed by another one here, and after which wait.

use std::time::Duration;

use crate::Mistake;
use crate::backoff::Backoff;
use crate::time::{share_of, uniform_below};

/// The numbers behind [`next_step`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetrySettings {
    /// Attempts at one upstream per request, the first included.
    pub max_attempts: u32,
    /// The wait before the third attempt and further ones when the provider asks for none, and the least wait when it
    /// does. The second attempt follows the first at once: most failures are over by then.
    pub backoff: Backoff,
    /// An attempt that took longer is not repeated: a retry is for quick failures, and would double the wait of a slow
    /// one.
    pub quick_attempt_max: Duration,
    /// Share of the time left, 0 to 1, that a wait must leave to the attempt after it.
    pub deadline_reserve: f64,
    /// Longest wait that is sat out, whoever asked for it; a longer one is answered or put aside at
    /// once.
    pub wait_cap: Duration,
}

impl RetrySettings {
    /// Five attempts, the last one where [enough are served](Self::LAST_ATTEMPT_SHARE_MIN): with half of the calls failing,
    /// 96 % of the requests are served, with 70 % failing, three quarters.
    pub const DEFAULT_MAX_ATTEMPTS: u32 = 5;
    /// Ten seconds: a failure that comes later has used up what people wait.
    pub const DEFAULT_QUICK_ATTEMPT_MAX: Duration = Duration::from_secs(10);
    /// A quarter of the time left is kept for the attempt itself.
    pub const DEFAULT_DEADLINE_RESERVE: f64 = 0.25;
    /// Two minutes, the longest `Retry-After` that the official client SDKs honour.
    pub const DEFAULT_WAIT_CAP: Duration = Duration::from_secs(120);
    /// Highest allowed `max_attempts`: one request must not become a load of its own.
    pub const MAX_ATTEMPTS_MAX: u32 = 20;

    /// The last attempt is made only where at least so large a share of the requests is served: where less is, it mostly
    /// fails as well.
    pub const LAST_ATTEMPT_SHARE_MIN: f64 = 0.62;

    /// Whether another attempt is worth making after so many, where this share of the requests is served.
    #[must_use]
    pub fn allows(&self, attempts: u32, served_share: f64) -> bool {
        attempts + 1 < self.max_attempts.max(2) || served_share >= Self::LAST_ATTEMPT_SHARE_MIN
    }

    /// Every mistake in these settings and in their backoff; none when they are sound.
    #[must_use]
    pub fn validate(&self) -> Vec<Mistake> {
        let mut mistakes = self.backoff.validate();
        Mistake::unless(
            &mut mistakes,
            (1..=Self::MAX_ATTEMPTS_MAX).contains(&self.max_attempts),
            "max_attempts",
            format!("{} must lie between 1 and {}", self.max_attempts, Self::MAX_ATTEMPTS_MAX),
        );
        Mistake::unless(
            &mut mistakes,
            !self.quick_attempt_max.is_zero(),
            "quick_attempt_max",
            "must be longer than zero; to switch retries off, allow one attempt".to_owned(),
        );
        Mistake::unless(
            &mut mistakes,
            (0.0..1.0).contains(&self.deadline_reserve),
            "deadline_reserve",
            format!("{} must be at least 0 and below 1", self.deadline_reserve),
        );
        mistakes
    }
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            max_attempts: Self::DEFAULT_MAX_ATTEMPTS,
            backoff: Backoff::default(),
            quick_attempt_max: Self::DEFAULT_QUICK_ATTEMPT_MAX,
            deadline_reserve: Self::DEFAULT_DEADLINE_RESERVE,
            wait_cap: Self::DEFAULT_WAIT_CAP,
        }
    }
}

/// What the classifier advises about the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Another attempt at the same upstream may succeed.
    Retry,
    /// Not here again for this request; another upstream may serve it.
    NextUpstream,
    /// Nowhere: the same request fails everywhere.
    GiveUp,
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another attempt at the same upstream after this wait, provided that the retry budget grants
    /// a token.
    RetryAfter(Duration),
    /// No further attempt at this upstream.
    GiveUp(Reason),
}

/// Why there is no further attempt at this upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The request fails everywhere; no other upstream should see it.
    Advised,
    /// The advice is to try another upstream.
    NextUpstreamAdvised,
    /// All attempts that this upstream gets per request are made.
    AttemptsSpent,
    /// The attempt took too long to be worth another, or longer than there is time left.
    TooSlow,
    /// The least sensible wait leaves too little time before the deadline. The wait is the hint to
    /// pass on.
    PastDeadline {
        /// The wait that did not fit.
        wait: Duration,
    },
    /// The least sensible wait is longer than a connection is held for. The wait is the hint to
    /// pass on.
    WaitTooLong {
        /// The wait that was asked for.
        wait: Duration,
    },
}

impl Reason {
    /// Whether another upstream may still be tried for this request.
    #[must_use]
    pub const fn allows_next_upstream(self) -> bool {
        match self {
            Self::Advised => false,
            Self::NextUpstreamAdvised
            | Self::AttemptsSpent
            | Self::TooSlow
            | Self::PastDeadline { .. }
            | Self::WaitTooLong { .. } => true,
        }
    }
}

/// Decides what follows attempt number `attempt` (1 is the first), which failed after `took`.
///
/// `requested_wait` is what the provider asked for (`Retry-After` and its like). It is a floor:
/// jitter comes on top, up to a quarter of it, and the own backoff still applies when it is longer.
/// `remaining` is the time left to the request's deadline. A wait that would not leave
/// `deadline_reserve` of it gives up now rather than at the deadline.
#[must_use]
pub fn next_step(
    settings: &RetrySettings,
    attempt: u32,
    took: Duration,
    requested_wait: Option<Duration>,
    remaining: Option<Duration>,
    advice: Advice,
    random: u64,
) -> Step {
    next_step_after(settings, attempt, took, None, requested_wait, remaining, advice, random)
}

/// [`next_step`] for a backoff with [`Jitter::Decorrelated`](crate::Jitter::Decorrelated), which
/// needs `previous_wait`: the wait before the attempt that failed, `None` if it was the first.
#[must_use]
#[expect(clippy::too_many_arguments, reason = "each is a fact of its own")]
pub fn next_step_after(
    settings: &RetrySettings,
    attempt: u32,
    took: Duration,
    previous_wait: Option<Duration>,
    requested_wait: Option<Duration>,
    remaining: Option<Duration>,
    advice: Advice,
    random: u64,
) -> Step {
    match advice {
        Advice::Retry => {}
        Advice::NextUpstream => return Step::GiveUp(Reason::NextUpstreamAdvised),
        Advice::GiveUp => return Step::GiveUp(Reason::Advised),
    }
    if attempt >= settings.max_attempts {
        return Step::GiveUp(Reason::AttemptsSpent);
    }
    if took > settings.quick_attempt_max || remaining.is_some_and(|left| took > left && !left.is_zero()) {
        return Step::GiveUp(Reason::TooSlow);
    }

    let backoff = match attempt {
        0 | 1 => Duration::ZERO,
        _ => settings.backoff.delay_after(attempt - 1, previous_wait, random),
    };
    let requested = requested_wait.unwrap_or_default();
    let floor = backoff.max(requested);
    if let Some(left) = remaining
        && (left.is_zero() || floor > affordable(left, settings))
    {
        return Step::GiveUp(Reason::PastDeadline { wait: floor });
    }
    if floor > settings.wait_cap {
        return Step::GiveUp(Reason::WaitTooLong { wait: floor });
    }

    // The spread never turns a wait that fits into one that does not.
    let jittered = requested.saturating_add(uniform_below(requested / 4, random)).max(backoff);
    let longest = remaining.map_or(settings.wait_cap, |left| affordable(left, settings).min(settings.wait_cap));
    Step::RetryAfter(jittered.min(longest))
}

fn affordable(left: Duration, settings: &RetrySettings) -> Duration {
    left.saturating_sub(share_of(left, settings.deadline_reserve))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUICK: Duration = Duration::from_millis(200);

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn step(attempt: u32, requested: Option<u64>, remaining: Option<u64>, advice: Advice) -> Step {
        let settings = RetrySettings::default();
        next_step(&settings, attempt, QUICK, requested.map(seconds), remaining.map(seconds), advice, 0)
    }

    #[test]
    fn advice_and_attempts_come_before_any_wait() {
        let give_up = |step| match step {
            Step::GiveUp(reason) => (reason, reason.allows_next_upstream()),
            Step::RetryAfter(wait) => panic!("retried after {wait:?}"),
        };
        assert_eq!(give_up(step(1, None, None, Advice::GiveUp)), (Reason::Advised, false));
        assert_eq!(give_up(step(1, None, None, Advice::NextUpstream)), (Reason::NextUpstreamAdvised, true));
        assert_eq!(give_up(step(5, None, None, Advice::Retry)), (Reason::AttemptsSpent, true));
        assert_eq!(step(2, None, None, Advice::Retry), Step::RetryAfter(Duration::ZERO));
    }

    #[test]
    fn the_second_attempt_follows_at_once_and_only_further_ones_wait() {
        let settings = RetrySettings::default();
        let after = |attempt| next_step(&settings, attempt, QUICK, None, None, Advice::Retry, u64::MAX);
        let most = |longest: Duration| Step::RetryAfter(longest - Duration::from_micros(1));
        assert_eq!(after(1), Step::RetryAfter(Duration::ZERO));
        assert_eq!((after(2), after(3)), (most(Backoff::DEFAULT_BASE), most(Backoff::DEFAULT_BASE * 2)));
    }

    #[test]
    fn a_slow_failure_is_not_repeated() {
        let settings = RetrySettings::default();
        let after = |took, left| next_step(&settings, 1, seconds(took), None, Some(seconds(left)), Advice::Retry, 0);
        assert_eq!(after(10, 100), Step::RetryAfter(Duration::ZERO));
        assert_eq!(after(11, 100), Step::GiveUp(Reason::TooSlow));
        assert_eq!(after(5, 4), Step::GiveUp(Reason::TooSlow), "it would not end in time, judged by the last one");
    }

    #[test]
    fn case_33_a_retry_after_beyond_the_deadline_fails_now_with_the_hint() {
        let late = Step::GiveUp(Reason::PastDeadline { wait: seconds(30) });
        assert_eq!(step(1, Some(30), Some(20), Advice::Retry), late);
        assert_eq!(step(1, Some(30), Some(39), Advice::Retry), late, "a quarter is kept");
        assert_eq!(step(1, Some(30), Some(40), Advice::Retry), Step::RetryAfter(seconds(30)));
        let spent = Step::GiveUp(Reason::PastDeadline { wait: Duration::ZERO });
        assert_eq!(step(1, None, Some(0), Advice::Retry), spent);
    }

    #[test]
    fn a_backoff_beyond_the_deadline_fails_now_too() {
        let (settings, left) = (RetrySettings::default(), Duration::from_millis(500));
        let after = |random| next_step(&settings, 4, QUICK, None, Some(left), Advice::Retry, random);
        let wait = settings.backoff.delay(3, u64::MAX);
        assert_eq!(after(u64::MAX), Step::GiveUp(Reason::PastDeadline { wait }));
        assert_eq!(after(1 << 63), Step::RetryAfter(settings.backoff.delay(3, 1 << 63)));
    }

    #[test]
    fn a_wait_of_days_is_not_sat_out() {
        let days = 6 * 24 * 3600;
        let too_long = Step::GiveUp(Reason::WaitTooLong { wait: seconds(days) });
        assert_eq!(step(1, Some(days), None, Advice::Retry), too_long);
        assert_eq!(step(1, Some(120), None, Advice::Retry), Step::RetryAfter(seconds(120)));
    }

    #[test]
    fn a_decorrelated_backoff_grows_from_the_wait_before() {
        let backoff = Backoff { jitter: crate::Jitter::Decorrelated, ..Backoff::default() };
        let settings = RetrySettings { backoff, ..RetrySettings::default() };
        let after = |previous| next_step_after(&settings, 2, QUICK, previous, None, None, Advice::Retry, 1 << 63);
        assert_eq!(after(None), Step::RetryAfter(Duration::from_millis(200)));
        assert_eq!(after(Some(seconds(2))), Step::RetryAfter(Duration::from_millis(3050)));
    }

    #[test]
    fn every_mistake_is_listed() {
        let broken = RetrySettings {
            max_attempts: 0,
            backoff: Backoff { base: Duration::ZERO, ..Backoff::default() },
            quick_attempt_max: Duration::ZERO,
            deadline_reserve: 1.0,
            ..RetrySettings::default()
        };
        let fields: Vec<_> = broken.validate().into_iter().map(|m| m.field).collect();
        assert_eq!(fields, ["base", "max_attempts", "quick_attempt_max", "deadline_reserve"]);
        assert_eq!(RetrySettings::default().validate(), []);
    }

    proptest! {
        #[test]
        fn a_provider_is_never_asked_again_before_the_wait_it_named(
            requested in 0_u64..200_000,
            remaining in prop::option::of(0_u64..400_000),
            attempt in 1_u32..6,
            random: u64,
        ) {
            let requested = Duration::from_millis(requested);
            let remaining = remaining.map(Duration::from_millis);
            let settings = RetrySettings::default();
            match next_step(&settings, attempt, Duration::ZERO, Some(requested), remaining, Advice::Retry, random) {
                Step::RetryAfter(wait) => {
                    prop_assert!(wait >= requested && wait <= settings.wait_cap);
                    prop_assert!(remaining.is_none_or(|left| wait <= left - left / 4));
                }
                Step::GiveUp(_) => {}
            }
        }
    }
}
