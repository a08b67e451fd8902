//! Whether to send a second call beside one that takes long.

use std::time::Duration;

use crate::Mistake;
use crate::budget::{RetryBudget, Spend};
use crate::time::Timestamp;

/// The numbers behind [`when_to_hedge`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HedgeSettings {
    /// Whether to hedge at all. Off by default: each hedge is paid for.
    pub enabled: bool,
    /// Hedges per request, at most [`HEDGES_MAX`](Self::HEDGES_MAX).
    pub max_hedges: u32,
    /// Least wait before a hedge, whatever the latencies say; longer than zero.
    pub delay_min: Duration,
}

impl HedgeSettings {
    /// One hedge takes away most of the tail; each further one costs the same and wins less.
    pub const DEFAULT_MAX_HEDGES: u32 = 1;
    /// Half a second: below it a first token is not late.
    pub const DEFAULT_DELAY_MIN: Duration = Duration::from_millis(500);
    /// Highest allowed `max_hedges`.
    pub const HEDGES_MAX: u32 = 5;

    /// Every mistake in these settings; none when they are sound.
    #[must_use]
    pub fn validate(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        Mistake::unless(
            &mut mistakes,
            (1..=Self::HEDGES_MAX).contains(&self.max_hedges),
            "max_hedges",
            format!(
                "{} must lie between 1 and {}; to switch hedging off, disable it",
                self.max_hedges,
                Self::HEDGES_MAX
            ),
        );
        Mistake::unless(
            &mut mistakes,
            !self.delay_min.is_zero(),
            "delay_min",
            "must be longer than zero, or every call is sent twice".to_owned(),
        );
        mistakes
    }
}

impl Default for HedgeSettings {
    fn default() -> Self {
        Self { enabled: false, max_hedges: Self::DEFAULT_MAX_HEDGES, delay_min: Self::DEFAULT_DELAY_MIN }
    }
}

/// How one request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Race {
    /// Time since the latest of its calls was sent.
    pub elapsed: Duration,
    /// A high quantile (0.95, say) of the time to first content at this upstream; `None` while too
    /// little is known, and then nothing is late.
    pub usual: Option<Duration>,
    /// Calls of this request in flight, hedges included.
    pub in_flight: u32,
    /// Hedges sent so far, ended ones included.
    pub hedges: u32,
    /// Whether a call has just failed in a way that another one may not.
    pub failed: bool,
    /// Whether the first content has reached the caller.
    pub committed: bool,
}

/// What to do about hedging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hedge {
    /// Send one now; its token is withdrawn from the budget. The first call to bring content wins;
    /// cancel the others and settle them.
    Send,
    /// Nothing is late yet: ask again after this time, or when a call ends.
    After(Duration),
    /// No further hedge; the calls in flight go on.
    Await(NoHedge),
    /// No further hedge, and nothing in flight to wait for: answer with the last failure.
    Fail(NoHedge),
}

/// Why there is no further hedge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHedge {
    /// Hedging is off.
    Disabled,
    /// Content has reached the caller; a second answer could not be joined to it.
    Committed,
    /// All hedges of this request are sent.
    HedgesSpent,
    /// Nothing is known yet about the usual time to first content.
    TooLittleKnown,
    /// The retry budget is empty. Calls in flight are not affected.
    BudgetEmpty,
}

/// Decides whether a request gets a hedge.
///
/// A hedge is sent when the latest call is later than usual, or at once when one has failed, and
/// only if the retry budget pays for it. There is always something to wait for or a final answer:
/// with nothing in flight the decision is [`Hedge::Send`] or [`Hedge::Fail`]. A failure that no
/// other call can mend is none of this function's: cancel everything.
#[must_use]
pub fn when_to_hedge(settings: &HedgeSettings, race: Race, budget: &mut RetryBudget, now: Timestamp) -> Hedge {
    let refuse = |reason| if race.in_flight == 0 { Hedge::Fail(reason) } else { Hedge::Await(reason) };
    if race.committed {
        return refuse(NoHedge::Committed);
    }
    if !settings.enabled {
        return refuse(NoHedge::Disabled);
    }
    if race.hedges >= settings.max_hedges {
        return refuse(NoHedge::HedgesSpent);
    }
    if !race.failed && race.in_flight > 0 {
        let Some(usual) = race.usual else {
            return refuse(NoHedge::TooLittleKnown);
        };
        let left = usual.max(settings.delay_min).saturating_sub(race.elapsed);
        if !left.is_zero() {
            return Hedge::After(left);
        }
    }
    if budget.try_spend(Spend::Hedge, now) { Hedge::Send } else { refuse(NoHedge::BudgetEmpty) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::RetryBudgetSettings;
    use proptest::prelude::*;

    const ON: HedgeSettings =
        HedgeSettings { enabled: true, max_hedges: 2, delay_min: HedgeSettings::DEFAULT_DELAY_MIN };

    const NOW: Timestamp = Timestamp::ORIGIN;

    const LATE: Race = Race {
        elapsed: Duration::from_secs(3),
        usual: Some(Duration::from_secs(2)),
        in_flight: 1,
        hedges: 0,
        failed: false,
        committed: false,
    };

    fn budget(reserve: u32) -> RetryBudget {
        RetryBudget::new(RetryBudgetSettings { reserve, ..RetryBudgetSettings::for_hedges() }, NOW)
    }

    #[test]
    fn hedging_is_off_by_default() {
        let decision = when_to_hedge(&HedgeSettings::default(), LATE, &mut budget(5), NOW);
        assert_eq!(decision, Hedge::Await(NoHedge::Disabled));
    }

    #[test]
    fn a_late_call_gets_a_hedge_and_an_early_one_a_wait() {
        let mut budget = budget(5);
        assert_eq!(when_to_hedge(&ON, LATE, &mut budget, NOW), Hedge::Send);
        assert_eq!(budget.available(), 4);
        let early = Race { elapsed: Duration::from_millis(500), ..LATE };
        assert_eq!(when_to_hedge(&ON, early, &mut budget, NOW), Hedge::After(Duration::from_millis(1500)));
        let fast = Race { usual: Some(Duration::from_millis(1)), elapsed: Duration::ZERO, ..LATE };
        assert_eq!(when_to_hedge(&ON, fast, &mut budget, NOW), Hedge::After(ON.delay_min));
        let unknown = Race { usual: None, ..LATE };
        assert_eq!(when_to_hedge(&ON, unknown, &mut budget, NOW), Hedge::Await(NoHedge::TooLittleKnown));
        assert_eq!(budget.available(), 4, "nothing is withdrawn for a hedge that is not sent");
    }

    #[test]
    fn after_the_first_content_there_is_no_hedge() {
        let committed = Race { committed: true, ..LATE };
        assert_eq!(when_to_hedge(&ON, committed, &mut budget(5), NOW), Hedge::Await(NoHedge::Committed));
    }

    #[test]
    fn a_failure_sends_the_next_hedge_at_once() {
        let failed = Race { failed: true, elapsed: Duration::ZERO, usual: None, ..LATE };
        assert_eq!(when_to_hedge(&ON, failed, &mut budget(5), NOW), Hedge::Send);
        let spent = Race { hedges: 2, ..failed };
        assert_eq!(when_to_hedge(&ON, spent, &mut budget(5), NOW), Hedge::Await(NoHedge::HedgesSpent));
    }

    #[test]
    fn case_29_an_empty_budget_suppresses_only_the_new_hedge() {
        let mut budget = budget(1);
        assert_eq!(when_to_hedge(&ON, LATE, &mut budget, NOW), Hedge::Send);
        let racing = Race { in_flight: 2, hedges: 1, ..LATE };
        assert_eq!(when_to_hedge(&ON, racing, &mut budget, NOW), Hedge::Await(NoHedge::BudgetEmpty));
        assert_eq!(budget.spent(Spend::Hedge), 1, "the one in flight keeps its token");
    }

    #[test]
    fn case_30_a_hedge_refused_after_the_only_attempt_failed_is_an_immediate_error() {
        let alone = Race { in_flight: 0, failed: true, ..LATE };
        assert_eq!(when_to_hedge(&ON, alone, &mut budget(0), NOW), Hedge::Fail(NoHedge::BudgetEmpty));
    }

    #[test]
    fn every_mistake_is_listed() {
        let broken = HedgeSettings { enabled: true, max_hedges: 0, delay_min: Duration::ZERO };
        let fields: Vec<_> = broken.validate().into_iter().map(|m| m.field).collect();
        assert_eq!(fields, ["max_hedges", "delay_min"]);
        assert_eq!(HedgeSettings::default().validate(), []);
    }

    proptest! {
        #[test]
        fn nothing_is_waited_for_when_nothing_is_in_flight(
            elapsed in 0_u64..10,
            usual in prop::option::of(0_u64..10),
            hedges in 0_u32..4,
            failed: bool,
            committed: bool,
            enabled: bool,
            reserve in 0_u32..2,
        ) {
            let race = Race {
                elapsed: Duration::from_secs(elapsed),
                usual: usual.map(Duration::from_secs),
                in_flight: 0,
                hedges,
                failed,
                committed,
            };
            let settings = HedgeSettings { enabled, ..ON };
            match when_to_hedge(&settings, race, &mut budget(reserve), NOW) {
                Hedge::Send => prop_assert!(enabled && !committed && reserve == 1),
                Hedge::Fail(_) => {}
                Hedge::After(_) | Hedge::Await(_) => prop_assert!(false, "a request would hang"),
            }
        }
    }
}
