//! What people put between clients and provider: ours, and what it must not be worse than.

mod accrual;
mod cooldown;
mod direct;
mod failover;
mod ratio;
mod retry_budget;
mod retry_on;
mod throttle;

pub use accrual::Accrual;
pub use cooldown::Cooldown;
pub use direct::Direct;
pub use failover::Failover;
pub use ratio::RatioBreaker;
pub use retry_budget::RetryBudget;
pub use retry_on::RetryOn;
pub use throttle::Throttle;

use spillway_resilience::Outcome;

use crate::chain::Chain;
use crate::protection::{Answer, Protection};
use crate::scenario::Scenario;
use crate::stack::{Settings, Stack};

/// A protection by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// Ours, made of the real core.
    Spillway,
    /// Nothing at all.
    Direct,
    /// See [`RetryOn`].
    RetryOn,
    /// See [`Throttle`].
    Throttle,
    /// See [`Accrual`].
    Accrual,
    /// See [`RatioBreaker`].
    RatioBreaker,
    /// See [`Cooldown`].
    Cooldown,
    /// See [`Failover`].
    Failover,
    /// Ours, with one target of the chain and no other.
    Alone(usize),
}

impl Contender {
    /// Everything that ours is compared with. Of those that do equally well the first is named.
    pub const OTHERS: [Self; 6] =
        [Self::Direct, Self::RetryOn, Self::Throttle, Self::Accrual, Self::RatioBreaker, Self::Cooldown];

    /// Everything that ours is compared with where there is a chain: each of its targets alone, and the usual way to go
    /// on to the next.
    #[must_use]
    pub fn others(scenario: &Scenario) -> Vec<Self> {
        if scenario.further_targets.is_empty() {
            return Self::OTHERS.to_vec();
        }
        (0..=scenario.further_targets.len()).map(Self::Alone).chain([Self::Failover]).collect()
    }

    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spillway => "spillway",
            Self::Direct => "direct",
            Self::RetryOn => "haproxy-retry-on",
            Self::Throttle => "sre-throttle",
            Self::Accrual => "finagle-accrual",
            Self::RatioBreaker => "resilience4j",
            Self::Cooldown => "five-in-a-row",
            Self::Failover => "next-upstream",
            Self::Alone(0) => "first-alone",
            Self::Alone(1) => "second-alone",
            Self::Alone(2) => "third-alone",
            Self::Alone(_) => "another-alone",
        }
    }

    /// One of its kind, which has seen nothing yet.
    #[must_use]
    pub fn build(self, scenario: &Scenario) -> Box<dyn Protection> {
        match self {
            Self::Spillway if !scenario.further_targets.is_empty() => Box::new(Chain::new(scenario)),
            Self::Spillway | Self::Alone(_) => Box::new(Stack::new(&Settings::knowing(&scenario.provider))),
            Self::Failover => Box::new(Failover::new(1 + scenario.further_targets.len())),
            Self::Direct => Box::new(Direct),
            Self::RetryOn => Box::new(RetryOn),
            Self::Throttle => Box::<Throttle>::default(),
            Self::Accrual => Box::<Accrual>::default(),
            Self::RatioBreaker => Box::<RatioBreaker>::default(),
            Self::Cooldown => Box::<Cooldown>::default(),
        }
    }
}

/// Whether a contender takes an answer for a good one. None of them tells a limit from a failure,
/// and what is the caller's own mistake says nothing against the provider.
fn is_good(answer: &Answer) -> bool {
    matches!(answer.outcome, Outcome::Success | Outcome::Ignored)
}

#[cfg(test)]
mod tests;
