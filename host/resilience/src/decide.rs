//! Whether a failed attempt is followed by another one here, and after which wait.

use std::time::Duration;

use crate::Mistake;
use crate::backoff::Backoff;
use crate::budget::{RetryBudget, Spend};
use crate::consequence::Pacing;
use crate::time::{Timestamp, share_of, uniform_below};

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
    /// Five attempts, the last one where [enough are served](Self::LAST_ATTEMPT_SHARE_MIN): with half of the calls
    /// failing, 96 % of the requests are served, with 70 % failing, three quarters.
    pub const DEFAULT_MAX_ATTEMPTS: u32 = 5;
    /// Ten seconds: a failure that comes later has used up what people wait.
    pub const DEFAULT_QUICK_ATTEMPT_MAX: Duration = Duration::from_secs(10);
    /// A quarter of the time left is kept for the attempt itself.
    pub const DEFAULT_DEADLINE_RESERVE: f64 = 0.25;
    /// Two minutes, the longest `Retry-After` that the official client SDKs honour.
    pub const DEFAULT_WAIT_CAP: Duration = Duration::from_secs(120);
    /// Highest allowed `max_attempts`: one request must not become a load of its own.
    pub const MAX_ATTEMPTS_MAX: u32 = 20;

    /// The last attempt is made only where at least so large a share of the requests is served: where less is, it
    /// mostly fails as well.
    pub const LAST_ATTEMPT_SHARE_MIN: f64 = 0.62;

    /// A run of failing attempts whose chance is below this is no chance any more, so that retries are of no use.
    pub const REPEAT_CHANCE_MIN: f64 = 1e-7;
    /// The same for a caller that repeats by itself, who is left to do so sooner: then a provider that fails every time
    /// gets one call more than it would without us, and a hiccup is survived by the caller's own, longer waits.
    pub const REPEAT_CHANCE_MIN_BESIDE_THE_CALLERS: f64 = 3e-5;

    /// So many pauses that a provider names are waited for while nobody else waits and nobody is served, for a caller that
    /// would wait for them by itself: those of a limit that fills again are over by then.
    pub const PAUSES_OF_ONE_ALONE: u32 = 3;

    /// The chance below which a run of failing attempts ends retries.
    #[must_use]
    pub const fn repeat_chance_min(is_repeated_by_its_caller: bool) -> f64 {
        if is_repeated_by_its_caller { Self::REPEAT_CHANCE_MIN_BESIDE_THE_CALLERS } else { Self::REPEAT_CHANCE_MIN }
    }

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Advice {
    /// Another attempt at the same upstream may succeed.
    Retry,
    /// Not here again for this request; another upstream may serve it.
    NextUpstream,
    /// Nowhere: the same request fails everywhere.
    GiveUp,
}

/// What a policy decides about a request whose attempt has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// The same upstream, after this wait. One that would end after the deadline is as good as `SpoolFor`.
    After(Duration),
    /// Another upstream, if there is one.
    NextUpstream,
    /// The caller is answered.
    GiveUp,
    /// The request is put aside for so long, or its caller told so.
    SpoolFor(Duration),
}

/// A failed attempt, as far as it matters for what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedAttempt {
    /// Its number; 1 is the first.
    pub number: u32,
    /// How long it took.
    pub took: Duration,
    /// What the provider asked for (`Retry-After` and its like), or who judged the attempt.
    pub requested_wait: Option<Duration>,
    /// The time left to the request's deadline.
    pub remaining: Option<Duration>,
    /// Where the request may be tried again.
    pub advice: Advice,
    /// Whether the request may be sent again at all: to do it twice means the same as to do it once, or it was
    /// [certainly not done](crate::Consequence::is_untouched), and no part of an answer has come.
    pub may_repeat: bool,
    /// How the next attempt would wait in a lane: see [`Consequence::pacing`](crate::Consequence::pacing).
    pub pacing: Option<Pacing>,
    /// Whether another turn there is of use: somebody was served since the request came, or others wait as well.
    pub is_turn_of_use: bool,
    /// Whether its caller sends a request again by itself when it fails.
    pub is_repeated_by_its_caller: bool,
    /// Whether it has sent this one before.
    pub has_come_back: bool,
    /// Whether it says nothing about the upstream's health, so that no circuit bounds how often it is repeated.
    pub is_no_evidence: bool,
}

impl FailedAttempt {
    /// Whether there is anything to decide for a policy. Budget, attempt limit and deadline hold whatever it answers.
    #[must_use]
    pub fn may_be_decided(&self, settings: &RetrySettings) -> bool {
        self.may_repeat && self.advice == Advice::Retry && self.number < settings.max_attempts
    }

    /// Whether another attempt is the business of a caller that makes it anyway, so that ours would multiply its own:
    /// where nothing but patience bounds how often it is repeated, and nobody else gains by our keeping the order. Some
    /// pauses that are named are waited for on its behalf, the first time that it comes.
    fn is_left_to_its_caller(&self) -> bool {
        let is_first_wait = self.requested_wait.is_some() && !self.has_come_back;
        let waits = is_first_wait && self.number <= RetrySettings::PAUSES_OF_ONE_ALONE;
        self.is_repeated_by_its_caller
            && match self.pacing {
                Some(Pacing::Turn) => !self.is_turn_of_use && !waits,
                Some(Pacing::Pause) => false,
                None => self.is_no_evidence,
            }
    }
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another attempt at the same upstream as soon as its lane lets it out.
    Paced,
    /// Another attempt at the same upstream after this wait, provided that [`may_retry`] grants it.
    RetryAfter(Duration),
    /// No further attempt at this upstream; another one may serve the request. Where there is none, the caller hears of
    /// the failure, and of this wait.
    NextUpstream {
        /// The wait that is worth telling.
        hint: Option<Duration>,
    },
    /// No further attempt at this upstream, and the caller hears of the failure.
    GiveUp {
        /// Why.
        reason: Reason,
        /// The wait that is worth telling.
        hint: Option<Duration>,
    },
}

/// Why there is no further attempt at this upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The request fails everywhere; no other upstream should see it.
    Advised,
    /// It may have been done, or a part of its answer has come: doing it twice is not the same as doing it once.
    NotRepeatable,
    /// A policy wants it put aside.
    PutAside,
    /// Its caller makes it by itself.
    LeftToCaller,
    /// All attempts that this upstream gets per request are made.
    AttemptsSpent,
    /// The attempt took too long to be worth another, or longer than there is time left.
    TooSlow,
    /// The least sensible wait leaves too little time before the deadline.
    PastDeadline {
        /// The wait that did not fit.
        wait: Duration,
    },
    /// The least sensible wait is longer than a connection is held for.
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
            Self::Advised | Self::NotRepeatable | Self::PutAside => false,
            Self::LeftToCaller
            | Self::AttemptsSpent
            | Self::TooSlow
            | Self::PastDeadline { .. }
            | Self::WaitTooLong { .. } => true,
        }
    }
}

/// Decides what follows a failed attempt: what a policy has `decided`, else the lane, else the backoff.
///
/// Attempts and deadline bound them all, but for a lane in which somebody is served: there patience does. Where nobody
/// is served and nobody else waits, a turn in a lane is an attempt like others, and one that a caller which repeats by
/// itself is left to make.
///
/// The wait that the provider asked for is a floor: jitter comes on top, up to a quarter of it, and the own backoff
/// still applies when it is longer. A lane keeps it by itself. A wait that would not leave
/// [`deadline_reserve`](RetrySettings::deadline_reserve) of the time left gives up now rather than at the deadline.
#[must_use]
pub fn next_step(
    settings: &RetrySettings,
    failed: &FailedAttempt,
    decided: Option<RetryDecision>,
    random: u64,
) -> Step {
    let &FailedAttempt { number, remaining, advice, may_repeat, is_turn_of_use, .. } = failed;
    if !may_repeat {
        return Step::GiveUp { reason: Reason::NotRepeatable, hint: None };
    }
    match decided.filter(|_| failed.may_be_decided(settings)) {
        Some(RetryDecision::After(wait)) if remaining.is_none_or(|left| wait < left) => return Step::RetryAfter(wait),
        Some(RetryDecision::After(wait) | RetryDecision::SpoolFor(wait)) => {
            return Step::GiveUp { reason: Reason::PutAside, hint: Some(wait) };
        }
        Some(RetryDecision::NextUpstream) => return Step::NextUpstream { hint: None },
        Some(RetryDecision::GiveUp) => return Step::GiveUp { reason: Reason::Advised, hint: None },
        None => {}
    }
    let pacing = failed.pacing.filter(|_| number < settings.max_attempts || is_turn_of_use);
    let hint = failed.requested_wait;
    match advice {
        Advice::Retry if failed.is_left_to_its_caller() => {
            return Step::GiveUp { reason: Reason::LeftToCaller, hint };
        }
        Advice::Retry if pacing == Some(Pacing::Turn) => return Step::Paced,
        Advice::Retry => {}
        Advice::NextUpstream => return Step::NextUpstream { hint },
        Advice::GiveUp => return Step::GiveUp { reason: Reason::Advised, hint },
    }
    let wait = failed.requested_wait.filter(|_| pacing.is_none());
    match backoff(settings, failed, wait.unwrap_or_default(), random) {
        Ok(wait) => Step::RetryAfter(wait),
        Err(reason) => Step::GiveUp { reason, hint },
    }
}

/// The wait before another attempt, by the operator's settings.
fn backoff(
    settings: &RetrySettings,
    failed: &FailedAttempt,
    requested: Duration,
    random: u64,
) -> Result<Duration, Reason> {
    let &FailedAttempt { number, took, remaining, .. } = failed;
    if number >= settings.max_attempts {
        return Err(Reason::AttemptsSpent);
    }
    if took > settings.quick_attempt_max || remaining.is_some_and(|left| took > left && !left.is_zero()) {
        return Err(Reason::TooSlow);
    }
    let backoff = match number {
        0 | 1 => Duration::ZERO,
        _ => settings.backoff.delay(number - 1, random),
    };
    let floor = backoff.max(requested);
    if let Some(left) = remaining
        && (left.is_zero() || floor > affordable(left, settings))
    {
        return Err(Reason::PastDeadline { wait: floor });
    }
    if floor > settings.wait_cap {
        return Err(Reason::WaitTooLong { wait: floor });
    }

    // The spread never turns a wait that fits into one that does not.
    let jittered = requested.saturating_add(uniform_below(requested / 4, random)).max(backoff);
    let longest = remaining.map_or(settings.wait_cap, |left| affordable(left, settings).min(settings.wait_cap));
    Ok(jittered.min(longest))
}

/// A retry that was decided on, as far as it matters for whether it is granted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// Attempts made so far.
    pub attempts: u32,
    /// The wait before it.
    pub wait: Duration,
    /// For how long the call's circuits will refuse it yet; `None` if they would let it through.
    pub blocked_for: Option<Duration>,
    /// How much longer the request has the patience to wait for a circuit.
    pub circuit_patience: Duration,
    /// Whether so many attempts that failed in a row may still be chance: [`Breaker::may_repeat`](crate::Breaker) with
    /// [`RetrySettings::repeat_chance_min`].
    pub may_be_chance: bool,
    /// The share of such requests that is served.
    pub served_share: f64,
    /// Whether the request's caller has sent it before.
    pub has_come_back: bool,
}

/// Why a retry is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRetry {
    /// The circuit will still be open when the wait for it and the patience are over.
    CircuitOpen {
        /// For how long.
        wait: Duration,
    },
    /// So many attempts have failed in a row that it is no chance.
    NoChance,
    /// Too few are served for one more attempt.
    TooFewServed,
    /// The retry budget has no token.
    BudgetSpent,
}

impl NoRetry {
    /// Why, in a sentence's words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CircuitOpen { .. } => "the circuit is open",
            Self::NoChance => "too many failures in a row to be chance",
            Self::TooFewServed => "too few are served for another attempt",
            Self::BudgetSpent => "the retry budget is spent",
        }
    }

    /// The wait that is worth telling.
    #[must_use]
    pub const fn wait(self) -> Option<Duration> {
        match self {
            Self::CircuitOpen { wait } => Some(wait),
            Self::NoChance | Self::TooFewServed | Self::BudgetSpent => None,
        }
    }
}

/// Whether a retry is granted. Then a token of the budget is spent, which goes back by
/// [`RetryBudget::refund`] if it is not sent after all.
///
/// # Errors
///
/// Why not; nothing is spent.
pub fn may_retry(
    settings: &RetrySettings,
    retry: &Retry,
    budget: &mut RetryBudget,
    now: Timestamp,
) -> Result<(), NoRetry> {
    // Waiting for a circuit that will still be open is waiting for nothing.
    if let Some(wait) = retry.blocked_for.filter(|blocked| *blocked > retry.wait && *blocked > retry.circuit_patience) {
        return Err(NoRetry::CircuitOpen { wait });
    }
    if !retry.may_be_chance {
        return Err(NoRetry::NoChance);
    }
    // Who has come back would go away unserved.
    if !retry.has_come_back && !settings.allows(retry.attempts, retry.served_share) {
        return Err(NoRetry::TooFewServed);
    }
    if budget.try_spend(Spend::Retry, now) { Ok(()) } else { Err(NoRetry::BudgetSpent) }
}

fn affordable(left: Duration, settings: &RetrySettings) -> Duration {
    left.saturating_sub(share_of(left, settings.deadline_reserve))
}

#[cfg(test)]
mod tests;
