//! What a verdict leads to, in one table: in which circuit it counts and as what, for how long it shuts one, and whether
//! it makes callers wait in a lane.

use crate::config::BreakerKind;
use crate::upstream::scope::{Protects, Subject};
use spillway_resilience::{Outcome, Pause};
use spillway_sdk::{Class, Verdict};
use std::time::Duration;

/// What is known besides a verdict.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// The kind of breaker.
    pub kind: BreakerKind,
    /// The wait that the provider itself named.
    pub named: Option<Duration>,
    /// Longest wait by a provider's word.
    pub named_pause_max: Duration,
    /// Whether a failure of the same request is counted already.
    pub has_failed_before: bool,
    /// Whether its caller has sent it before, so that it has failed before.
    pub has_come_back: bool,
    /// Whether it was cut off by the sleep of the machine, which is no fault of who was called.
    pub was_slept_through: bool,
    /// Whether plain errors are taken for an overload that is not said.
    pub suspects_overload: bool,
}

/// What a verdict leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consequence {
    /// What it reaches.
    pub reach: Protects,
    /// A part of that in whose circuit it counts too: a caller whose every request fails must not be taken for a model
    /// that serves nobody, nor be repeated for ever because the model serves others.
    pub part: Option<Protects>,
    /// As what it counts in the circuit of that.
    pub counts: Outcome,
    /// As what it counts in the upstream's own circuit, where that is another one.
    pub counts_for_upstream: Outcome,
    /// For how long the circuit opens at once.
    pub shuts_for: Option<Duration>,
    /// Callers wait in a lane from here on, and for so long nobody goes out.
    pub too_much: Option<Pause>,
}

impl Consequence {
    /// The consequence of a verdict on a call.
    pub fn of(verdict: &Verdict, subject: Subject<'_>, circumstances: Circumstances) -> Consequence {
        let Circumstances {
            kind,
            named,
            named_pause_max,
            has_failed_before,
            has_come_back,
            was_slept_through,
            suspects_overload,
        } = circumstances;
        let by_provider = verdict.cool_off.is_some() && verdict.cool_off == named;
        let pause = match verdict.cool_off {
            None => Pause::Unnamed,
            Some(wait) if by_provider => Pause::Named(wait),
            Some(wait) => Pause::Ordered(wait),
        };
        let failure = match (has_failed_before, has_come_back) {
            (true, _) => Outcome::FailedAgain,
            (false, true) => Outcome::FailedOnReturn,
            (false, false) => Outcome::Failure,
        };
        let shuts_for = match verdict.cool_off {
            Some(wait) if by_provider => Some(wait.min(named_pause_max)),
            own => own,
        };
        let reach = subject.reach(verdict.class, verdict.scope, kind);
        let counts = |counts, for_upstream| Consequence {
            reach: reach.clone(),
            part: None,
            counts,
            counts_for_upstream: for_upstream,
            shuts_for: None,
            too_much: None,
        };
        match verdict.class {
            Class::Success => counts(Outcome::Success, Outcome::Success),
            Class::Throttled => Consequence { too_much: Some(pause), ..counts(Outcome::Throttled, Outcome::Throttled) },
            Class::Overloaded => {
                // A plain breaker counts an overload, as documented, unless the lane deals with it.
                let for_upstream = match kind {
                    BreakerKind::Adaptive => Outcome::Throttled,
                    BreakerKind::Plain => Outcome::Overloaded,
                };
                let own = if reach == Protects::Upstream { for_upstream } else { Outcome::Throttled };
                Consequence { too_much: Some(pause), ..counts(own, for_upstream) }
            }
            Class::Failure if was_slept_through => counts(Outcome::Ignored, Outcome::Ignored),
            Class::Failure => {
                let part = (kind == BreakerKind::Adaptive && matches!(reach, Protects::Model(_)))
                    .then(|| subject.of_model_and_credential());
                let counted = Consequence { part, ..counts(failure, Outcome::FailedElsewhere) };
                match pause {
                    Pause::Named(_) => Consequence { too_much: Some(pause), ..counted },
                    Pause::Ordered(_) => Consequence { shuts_for, ..counted },
                    // An overload that is not said.
                    Pause::Unnamed if suspects_overload => Consequence {
                        too_much: Some(Pause::Suspected),
                        ..counts(Outcome::Throttled, Outcome::Throttled)
                    },
                    Pause::Unnamed | Pause::Suspected => counted,
                }
            }
            Class::Exhausted => Consequence { shuts_for, ..counts(Outcome::Throttled, Outcome::Throttled) },
            // Not a word about health, but perhaps one about when to come again.
            Class::Ignored => {
                let too_much = verdict.cool_off.is_some().then_some(pause);
                Consequence { too_much, ..counts(Outcome::Ignored, Outcome::Ignored) }
            }
            Class::Rejected | Class::Unauthorized => {
                Consequence { shuts_for, ..counts(Outcome::Ignored, Outcome::Ignored) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_sdk::Scope;

    const SECOND: Duration = Duration::from_secs(1);
    const DAY: Duration = Duration::from_secs(86_400);
    const BOUND: Duration = Duration::from_secs(600);
    const CALL: Subject<'_> = Subject { model: Some("m"), credential: 7 };

    fn circumstances() -> Circumstances {
        Circumstances {
            kind: BreakerKind::Adaptive,
            named: None,
            named_pause_max: BOUND,
            has_failed_before: false,
            has_come_back: false,
            was_slept_through: false,
            suspects_overload: false,
        }
    }

    fn of(verdict: &Verdict) -> Consequence {
        Consequence::of(verdict, CALL, circumstances())
    }

    #[test]
    fn a_limit_makes_callers_wait_and_shuts_nothing() {
        for verdict in [Verdict::throttled("429").cool_off(SECOND), Verdict::overloaded("529")] {
            let consequence = of(&verdict);
            assert!(consequence.too_much.is_some() && consequence.shuts_for.is_none(), "{consequence:?}");
            assert_eq!(consequence.counts, Outcome::Throttled);
        }
    }

    #[test]
    fn a_wait_is_bounded_if_the_provider_names_it_and_not_if_a_policy_orders_it() {
        let verdict = Verdict::exhausted("spent").cool_off(DAY);
        assert_eq!(of(&verdict).shuts_for, Some(DAY));
        let named = Circumstances { named: Some(DAY), ..circumstances() };
        assert_eq!(Consequence::of(&verdict, CALL, named).shuts_for, Some(BOUND));
        let verdict = Verdict::throttled("429").cool_off(DAY);
        assert_eq!(of(&verdict).too_much, Some(Pause::Ordered(DAY)));
        assert_eq!(Consequence::of(&verdict, CALL, named).too_much, Some(Pause::Named(DAY)));
    }

    #[test]
    fn a_request_counts_one_failure_and_its_repetitions_none() {
        let verdict = Verdict::failure("status 500");
        assert_eq!(of(&verdict).counts, Outcome::Failure);
        let again = Circumstances { has_failed_before: true, ..circumstances() };
        assert_eq!(Consequence::of(&verdict, CALL, again).counts, Outcome::FailedAgain);
        let returned = Circumstances { has_come_back: true, ..circumstances() };
        assert_eq!(Consequence::of(&verdict, CALL, returned).counts, Outcome::FailedOnReturn);
        let both = Circumstances { has_failed_before: true, ..returned };
        assert_eq!(Consequence::of(&verdict, CALL, both).counts, Outcome::FailedAgain);
    }

    #[test]
    fn a_failure_that_names_a_pause_counts_and_is_waited_for() {
        let verdict = Verdict::failure("status 503").cool_off(SECOND);
        let named = Circumstances { named: Some(SECOND), ..circumstances() };
        let consequence = Consequence::of(&verdict, CALL, named);
        assert_eq!((consequence.counts, consequence.shuts_for), (Outcome::Failure, None));
        assert_eq!(consequence.too_much, Some(Pause::Named(SECOND)));
        assert_eq!(of(&verdict).shuts_for, Some(SECOND), "a policy's own cool-off shuts the circuit");
    }

    #[test]
    fn plain_errors_make_callers_wait_only_where_they_are_taken_for_an_overload() {
        let verdict = Verdict::failure("status 500");
        assert_eq!(of(&verdict).too_much, None);
        let suspected = Circumstances { suspects_overload: true, ..circumstances() };
        let consequence = Consequence::of(&verdict, CALL, suspected);
        assert_eq!((consequence.too_much, consequence.counts), (Some(Pause::Suspected), Outcome::Throttled));
    }

    #[test]
    fn a_plain_breaker_counts_failures_for_its_whole_upstream() {
        let plain = Circumstances { kind: BreakerKind::Plain, ..circumstances() };
        assert_eq!(Consequence::of(&Verdict::failure("status 500"), CALL, plain).reach, Protects::Upstream);
        let overloaded = Consequence::of(&Verdict::overloaded("529"), CALL, plain);
        assert_eq!(overloaded.counts_for_upstream, Outcome::Overloaded);
    }

    #[test]
    fn what_the_machine_has_slept_through_counts_nowhere() {
        let slept = Circumstances { was_slept_through: true, suspects_overload: true, ..circumstances() };
        let consequence = Consequence::of(&Verdict::failure("cut off").cool_off(SECOND), CALL, slept);
        assert_eq!((consequence.counts, consequence.counts_for_upstream), (Outcome::Ignored, Outcome::Ignored));
        assert_eq!((consequence.shuts_for, consequence.too_much), (None, None));
    }

    #[test]
    fn the_callers_own_affairs_count_nowhere() {
        for verdict in [Verdict::rejected("400"), Verdict::unauthorized("401"), Verdict::ignored("418")] {
            let consequence = of(&verdict.scope(Scope::Upstream));
            assert_eq!((consequence.counts, consequence.counts_for_upstream), (Outcome::Ignored, Outcome::Ignored));
            assert_eq!((consequence.shuts_for, consequence.too_much), (None, None));
        }
    }
}
