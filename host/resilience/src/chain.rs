//! Whether a request goes on to the next target of its chain, and which others a failure rules out for it.

use std::time::Duration;

use crate::Mistake;
use crate::balance::Standing;
use crate::budget::{RetryBudget, Spend};
use crate::consequence::Reach;
use crate::decide::Step;
use crate::time::Timestamp;

/// The numbers behind [`onward`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainSettings {
    /// Calls at further targets that may follow the first one, 0 to [`HOPS_MAX`](Self::HOPS_MAX). Targets that are
    /// passed over without a call are not counted.
    pub max_hops: u32,
    /// So long after the request came no further target is asked; `None`: its deadline alone decides.
    pub timeout: Option<Duration>,
    /// A failure that took longer is not followed by another target; `None`: any failure is.
    pub quick_failure_max: Option<Duration>,
}

impl ChainSettings {
    /// Three: with the first one, more targets than most chains have, and an end to one request that fails everywhere.
    pub const DEFAULT_MAX_HOPS: u32 = 3;
    /// Highest allowed `max_hops`: one request must not become a load of its own.
    pub const HOPS_MAX: u32 = 10;

    /// Every mistake in these settings; none when they are sound.
    #[must_use]
    pub fn validate(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        Mistake::unless(
            &mut mistakes,
            self.max_hops <= Self::HOPS_MAX,
            "max_hops",
            format!("{} must lie between 0 and {}", self.max_hops, Self::HOPS_MAX),
        );
        for (field, value) in [("timeout", self.timeout), ("quick_failure_max", self.quick_failure_max)] {
            Mistake::unless(
                &mut mistakes,
                value.is_none_or(|value| !value.is_zero()),
                field,
                "must be longer than zero; to ask one target only, allow no hops".to_owned(),
            );
        }
        mistakes
    }
}

impl Default for ChainSettings {
    fn default() -> Self {
        Self { max_hops: Self::DEFAULT_MAX_HOPS, timeout: None, quick_failure_max: None }
    }
}

/// How a request stands after a failed attempt, as far as it matters for whether another target is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hop {
    /// What would follow if there were no other target.
    pub step: Step,
    /// Attempts made at this target, the failed one included.
    pub attempts: u32,
    /// How well this target serves such requests.
    pub standing: Standing,
    /// Targets that were called before this one.
    pub hops: u32,
    /// Whether there is another target that is not ruled out.
    pub has_others: bool,
    /// How long ago the request came.
    pub since_arrival: Duration,
    /// How long the failed attempt took.
    pub took: Duration,
}

/// Where a request goes after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    /// To the next target. A token of the budget is spent, which goes back by [`RetryBudget::refund`] if none is called
    /// after all.
    Next,
    /// Nowhere else: its [`Step`] says what follows.
    Here(NoHop),
}

/// Why no other target is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHop {
    /// There is no other, or all are ruled out.
    NoOthers,
    /// Another target would not help, or must not see the request: see
    /// [`Reason::allows_next_upstream`](crate::Reason::allows_next_upstream).
    OfNoUse,
    /// It is a hiccup of a target that serves: repeated there, the request finds its prompt cache.
    Hiccup,
    /// The request has been at as many targets as it may.
    HopsSpent,
    /// The request came too long ago.
    TooLate,
    /// The attempt took too long to be followed by one elsewhere.
    TooSlow,
    /// The retry budget has no token.
    BudgetSpent,
}

impl NoHop {
    /// Why, in a sentence's words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoOthers => "there is no other target",
            Self::OfNoUse => "another target would be of no use",
            Self::Hiccup => "the target serves nearly all others",
            Self::HopsSpent => "the request has been at as many targets as it may",
            Self::TooLate => "the request came too long ago for another target",
            Self::TooSlow => "the attempt took too long for another target",
            Self::BudgetSpent => "the retry budget is spent",
        }
    }
}

/// Decides whether a failed attempt is followed by one at the next target.
///
/// A limit that was told moves a request on at once, and so does whatever would make it wait. Only a hiccup is repeated
/// here: the first failure at a target that serves, without a wait. If [`may_retry`](crate::may_retry) does not grant
/// that retry, ask again with [`Step::NextUpstream`]: what is no chance here may be served elsewhere.
///
/// The `budget` is that of the target which would be asked next, since it is that one's load which is to be bounded by
/// what it serves. By simulation of an outage in which calls hang for ten seconds, the budget of the failing target has
/// no token for four of five of them.
#[must_use]
pub fn onward(settings: &ChainSettings, hop: &Hop, budget: &mut RetryBudget, now: Timestamp) -> Onward {
    if !hop.has_others {
        return Onward::Here(NoHop::NoOthers);
    }
    match hop.step {
        Step::GiveUp { reason, .. } if !reason.allows_next_upstream() => return Onward::Here(NoHop::OfNoUse),
        Step::RetryAfter(wait) if wait.is_zero() && hop.attempts <= 1 && !hop.standing.is_doubtful() => {
            return Onward::Here(NoHop::Hiccup);
        }
        Step::Paced | Step::RetryAfter(_) | Step::NextUpstream { .. } | Step::GiveUp { .. } => {}
    }
    if hop.hops >= settings.max_hops {
        return Onward::Here(NoHop::HopsSpent);
    }
    if settings.timeout.is_some_and(|timeout| hop.since_arrival >= timeout) {
        return Onward::Here(NoHop::TooLate);
    }
    if settings.quick_failure_max.is_some_and(|longest| hop.took > longest) {
        return Onward::Here(NoHop::TooSlow);
    }
    if budget.try_spend(Spend::Fallback, now) { Onward::Next } else { Onward::Here(NoHop::BudgetSpent) }
}

/// Where a request was or may be sent. The numbers are the caller's own; equal ones mean the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The upstream.
    pub upstream: usize,
    /// The model asked for there.
    pub model: usize,
    /// The credential it is asked with.
    pub key: usize,
}

/// Whether a failure that reaches so far rules out another place for the same request. The place itself always is:
/// what was tried is not tried again.
#[must_use]
pub fn rules_out(reach: Reach, failed: Place, other: Place) -> bool {
    let (same_model, same_key) = (failed.model == other.model, failed.key == other.key);
    failed.upstream == other.upstream
        && match reach {
            Reach::Upstream => true,
            Reach::Model => same_model,
            Reach::Credential => same_key,
            Reach::ModelOfCredential => same_model && same_key,
        }
}

#[cfg(test)]
mod tests;
