use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const BOUND: Duration = Duration::from_secs(600);

const CIRCUMSTANCES: Circumstances = Circumstances {
    breaker: BreakerKind::Adaptive,
    named: None,
    named_pause_max: BOUND,
    progress: Progress::Answered,
    took: SECOND,
    quick_attempt_max: Duration::from_secs(10),
    first_content: FirstContent::Missing,
    input_tokens: 7,
    used_tokens: None,
    has_failed_before: false,
    has_come_back: false,
    was_slept_through: false,
    suspects_overload: false,
};

const fn verdict(class: Class) -> Verdict {
    let (scope, advice) = match class {
        Class::Success | Class::Ignored | Class::Rejected => (Scope::Upstream, Advice::GiveUp),
        Class::Failure | Class::Overloaded | Class::Throttled => (Scope::Model, Advice::Retry),
        Class::Exhausted | Class::Unauthorized => (Scope::Credential, Advice::NextUpstream),
    };
    Verdict { class, scope, advice, cool_off: None }
}

fn of(class: Class) -> Consequence {
    Consequence::of(verdict(class), &CIRCUMSTANCES)
}

fn resting(class: Class, wait: Duration) -> Verdict {
    Verdict { cool_off: Some(wait), ..verdict(class) }
}

/// Every class with nothing special about it: in its circuit, in the upstream's, in a lane, in the limits, and for the
/// caller.
#[test]
fn the_table_reads_as_it_is_documented() {
    use Outcome as O;
    use Settlement::{AsEstimated as Estimate, Refund};
    for (class, counts, for_upstream, waits, settlement, hears) in [
        (Class::Success, O::Success, O::Success, false, Estimate, Hears::Answer),
        (Class::Ignored, O::Ignored, O::Ignored, false, Estimate, Hears::Answer),
        (Class::Failure, O::Failure, O::FailedElsewhere, false, Estimate, Hears::Failure),
        (Class::Overloaded, O::Throttled, O::Throttled, true, Refund, Hears::Overload),
        (Class::Throttled, O::Throttled, O::Throttled, true, Refund, Hears::Limit),
        (Class::Exhausted, O::Throttled, O::Throttled, false, Refund, Hears::Limit),
        (Class::Rejected, O::Ignored, O::Ignored, false, Refund, Hears::Answer),
        (Class::Unauthorized, O::Ignored, O::Ignored, false, Refund, Hears::Answer),
    ] {
        let of = of(class);
        assert_eq!((of.counts, of.counts_for_upstream, of.pause.is_some()), (counts, for_upstream, waits), "{class:?}");
        assert_eq!((of.settlement, of.hears, of.opens_for), (settlement, hears, None), "{class:?}");
    }
}

#[test]
fn a_verdict_reaches_no_further_than_what_was_said() {
    let reach = |class, scope, breaker| {
        Consequence::of(Verdict { scope, ..verdict(class) }, &Circumstances { breaker, ..CIRCUMSTANCES }).reach
    };
    let adaptive = BreakerKind::Adaptive;
    assert_eq!(reach(Class::Throttled, Scope::Model, adaptive), Reach::ModelOfCredential);
    assert_eq!(reach(Class::Exhausted, Scope::Model, adaptive), Reach::ModelOfCredential);
    assert_eq!(reach(Class::Exhausted, Scope::Credential, adaptive), Reach::Credential);
    assert_eq!(reach(Class::Failure, Scope::Model, adaptive), Reach::Model);
    assert_eq!(reach(Class::Overloaded, Scope::Model, adaptive), Reach::Model);
    assert_eq!(reach(Class::Failure, Scope::Upstream, adaptive), Reach::Upstream);
    assert_eq!(reach(Class::Failure, Scope::Model, BreakerKind::Plain), Reach::Upstream);
    assert_eq!(reach(Class::Overloaded, Scope::Model, BreakerKind::Plain), Reach::Model);
}

#[test]
fn a_wait_is_bounded_if_the_provider_names_it_and_not_if_a_policy_orders_it() {
    let named = Circumstances { named: Some(DAY), ..CIRCUMSTANCES };
    let spent = resting(Class::Exhausted, DAY);
    assert_eq!(Consequence::of(spent, &CIRCUMSTANCES).opens_for, Some(DAY));
    assert_eq!(Consequence::of(spent, &named).opens_for, Some(BOUND));
    let limited = resting(Class::Throttled, DAY);
    assert_eq!(Consequence::of(limited, &CIRCUMSTANCES).pause, Some(Pause::Ordered(DAY)));
    assert_eq!(Consequence::of(limited, &named).pause, Some(Pause::Named(DAY)));
}

#[test]
fn a_request_counts_one_failure_and_its_repetitions_none() {
    for (has_failed_before, has_come_back, counts) in [
        (false, false, Outcome::Failure),
        (false, true, Outcome::FailedOnReturn),
        (true, false, Outcome::FailedAgain),
        (true, true, Outcome::FailedAgain),
    ] {
        let circumstances = Circumstances { has_failed_before, has_come_back, ..CIRCUMSTANCES };
        let failed = Consequence::of(verdict(Class::Failure), &circumstances);
        assert_eq!((failed.counts, failed.part), (counts, Some(Reach::ModelOfCredential)));
        assert!(failed.request_has_failed);
    }
}

#[test]
fn a_failure_that_names_a_pause_counts_and_is_waited_for() {
    let failure = resting(Class::Failure, SECOND);
    let named = Consequence::of(failure, &Circumstances { named: Some(SECOND), ..CIRCUMSTANCES });
    assert_eq!((named.counts, named.opens_for), (Outcome::Failure, None));
    assert_eq!((named.pause, named.pacing), (Some(Pause::Named(SECOND)), Some(Pacing::Pause)));
    let ordered = Consequence::of(failure, &CIRCUMSTANCES);
    assert_eq!((ordered.opens_for, ordered.pause), (Some(SECOND), None), "a policy's own cool-off opens the circuit");
}

#[test]
fn only_quick_errors_that_were_said_are_taken_for_an_overload_and_only_where_it_is_suspected() {
    let suspected = Circumstances { suspects_overload: true, ..CIRCUMSTANCES };
    let failure = |circumstances: &Circumstances| Consequence::of(verdict(Class::Failure), circumstances);
    let paced = failure(&suspected);
    assert_eq!((paced.pause, paced.pacing), (Some(Pause::Suspected), Some(Pacing::Turn)));
    assert_eq!((paced.counts, paced.counts_for_upstream, paced.part), (Outcome::Throttled, Outcome::Throttled, None));
    assert!(!paced.asks_for_less && !paced.is_untouched, "nobody has said so");
    for otherwise in [
        CIRCUMSTANCES,
        Circumstances { progress: Progress::Unanswered, ..suspected },
        Circumstances { took: 11 * SECOND, ..suspected },
    ] {
        assert_eq!(failure(&otherwise).pause, None, "{otherwise:?}");
    }
    let said = Consequence::of(resting(Class::Failure, SECOND), &suspected);
    assert_eq!(said.counts, Outcome::Failure, "who names a time is not suspected");
}

#[test]
fn a_plain_breaker_counts_failures_for_its_whole_upstream_and_overloads_that_no_lane_deals_with() {
    let plain = Circumstances { breaker: BreakerKind::Plain, ..CIRCUMSTANCES };
    let failed = Consequence::of(verdict(Class::Failure), &plain);
    assert_eq!((failed.reach, failed.part), (Reach::Upstream, None));
    for (scope, counts) in [(Scope::Model, Outcome::Throttled), (Scope::Upstream, Outcome::Overloaded)] {
        let overloaded = Consequence::of(Verdict { scope, ..verdict(Class::Overloaded) }, &plain);
        for (is_fruitless, counts, for_upstream) in [
            (Some(false), Outcome::Throttled, Outcome::Throttled),
            (Some(true), counts, Outcome::Overloaded),
            (None, counts, Outcome::Overloaded),
        ] {
            let heard = overloaded.heard_by_lane(is_fruitless);
            assert_eq!((heard.counts, heard.counts_for_upstream), (counts, for_upstream), "{is_fruitless:?}");
        }
    }
}

#[test]
fn where_there_is_no_room_for_a_lane_nobody_waits_in_it() {
    assert_eq!(of(Class::Throttled).heard_by_lane(None).pacing, None);
    assert_eq!(of(Class::Throttled).heard_by_lane(Some(true)), of(Class::Throttled));
}

#[test]
fn an_answer_costs_what_is_reported_and_a_refusal_nothing() {
    let reported = Circumstances { used_tokens: Some(12), ..CIRCUMSTANCES };
    let settlement = |class| Consequence::of(verdict(class), &reported).settlement;
    assert_eq!(settlement(Class::Success), Settlement::Used(12));
    assert_eq!(settlement(Class::Failure), Settlement::AsEstimated, "it may have been billed");
    assert_eq!(settlement(Class::Throttled), Settlement::Refund);
}

#[test]
fn only_content_and_its_lateness_tell_of_room() {
    let answered = Feedback::Answered { first_token: SECOND, input_tokens: 7 };
    let late = FirstContent::Late { hangs_alone: false };
    for (class, first_content, feedback) in [
        (Class::Success, FirstContent::After(SECOND), answered),
        (Class::Success, FirstContent::Missing, Feedback::Neutral),
        (Class::Success, late, Feedback::TimedOut),
        (Class::Failure, FirstContent::After(SECOND), Feedback::Neutral),
        (Class::Failure, FirstContent::Missing, Feedback::Neutral),
        (Class::Failure, late, Feedback::TimedOut),
        (Class::Failure, FirstContent::Late { hangs_alone: true }, Feedback::Neutral),
        (Class::Ignored, late, Feedback::Neutral),
        (Class::Overloaded, late, Feedback::Neutral),
    ] {
        let circumstances = Circumstances { first_content, ..CIRCUMSTANCES };
        assert_eq!(Consequence::of(verdict(class), &circumstances).feedback, feedback, "{class:?} {first_content:?}");
    }
}

#[test]
fn who_left_early_says_nothing_and_who_left_far_too_late_gives_a_hint() {
    for (is_overdue, counts) in [(false, Outcome::Ignored), (true, Outcome::Overdue)] {
        let left = Consequence::of_leaving(is_overdue);
        assert_eq!((left.reach, left.counts), (Reach::Upstream, counts));
        assert_eq!((left.settlement, left.feedback), (Settlement::AsEstimated, Feedback::Neutral));
        assert!(!left.request_has_failed && left.pause.is_none() && !left.is_suspect);
    }
}

#[test]
fn only_what_was_served_or_failed_teaches() {
    let teaches = Class::ALL.map(|class| class.teaches(false));
    let mut expected = [Teaches::Nothing; 8];
    (expected[0], expected[2]) = (Teaches::Served, Teaches::Failed);
    assert_eq!(teaches, expected);
}

#[test]
fn the_request_itself_is_suspect_only_if_an_answer_failed() {
    for class in Class::ALL {
        for progress in [Progress::Unsent, Progress::Unanswered, Progress::Answered] {
            let of = Consequence::of(verdict(class), &Circumstances { progress, ..CIRCUMSTANCES });
            let fails = matches!(class, Class::Failure | Class::Ignored);
            assert_eq!(of.is_suspect, fails && progress == Progress::Answered, "{class:?} {progress:?}");
        }
    }
}

prop_compose! {
    fn circumstances()(
        flags in any::<[bool; 5]>(),
        named in prop::option::of(0..=3_u64),
        progress in prop::sample::select(vec![Progress::Unsent, Progress::Unanswered, Progress::Answered]),
        took in 0..20_u64,
        first_content in prop::sample::select(vec![
            FirstContent::Missing,
            FirstContent::After(SECOND),
            FirstContent::Late { hangs_alone: false },
            FirstContent::Late { hangs_alone: true },
        ]),
        used_tokens in prop::option::of(0..100_u64),
    ) -> Circumstances {
        let [plain, has_failed_before, has_come_back, was_slept_through, suspects_overload] = flags;
        Circumstances {
            breaker: if plain { BreakerKind::Plain } else { BreakerKind::Adaptive },
            named: named.map(Duration::from_secs),
            named_pause_max: 2 * SECOND,
            progress,
            took: Duration::from_secs(took),
            first_content,
            used_tokens,
            has_failed_before,
            has_come_back,
            was_slept_through,
            suspects_overload,
            ..CIRCUMSTANCES
        }
    }
}

prop_compose! {
    fn any_verdict()(
        class in prop::sample::select(Class::ALL.to_vec()),
        scope in prop::sample::select(vec![Scope::Upstream, Scope::Model, Scope::Credential]),
        advice in prop::sample::select(vec![Advice::Retry, Advice::NextUpstream, Advice::GiveUp]),
        cool_off in prop::option::of(0..=3_u64),
    ) -> Verdict {
        Verdict { class, scope, advice, cool_off: cool_off.map(Duration::from_secs) }
    }
}

proptest! {
    #[test]
    fn whatever_the_circumstances(verdict in any_verdict(), circumstances in circumstances()) {
        let of = Consequence::of(verdict, &circumstances);
        let class = verdict.class;

        // Who opens a circuit makes nobody wait for the same time in a lane, and nothing does either unasked.
        prop_assert!(of.opens_for.is_none() || of.pause.is_none());
        prop_assert!(of.opens_for.is_none() || verdict.cool_off.is_some());
        prop_assert_eq!(of.pause.is_some(), of.pacing.is_some());

        // Health: only failures count as such, and the caller's own affairs nowhere.
        let fails = matches!(of.counts, Outcome::Failure | Outcome::FailedAgain | Outcome::FailedOnReturn);
        prop_assert!(!fails || class == Class::Failure && !circumstances.was_slept_through);
        prop_assert!(of.part.is_none() || fails && of.reach == Reach::Model);
        prop_assert_eq!(of.counts == Outcome::Success, class == Class::Success);
        if matches!(class, Class::Ignored | Class::Rejected | Class::Unauthorized) {
            prop_assert_eq!((of.counts, of.counts_for_upstream), (Outcome::Ignored, Outcome::Ignored));
        }
        if circumstances.breaker == BreakerKind::Adaptive {
            prop_assert!(of.counts != Outcome::Overloaded && of.counts_for_upstream != Outcome::Overloaded);
        }

        // Limits: what was not sent, and what was refused, is given back.
        if circumstances.progress == Progress::Unsent && circumstances.used_tokens.is_none() {
            prop_assert_eq!(of.settlement, Settlement::Refund);
        }
        prop_assert!(of.feedback != Feedback::TimedOut || !circumstances.was_slept_through);
        prop_assert!(of.feedback != Feedback::Overloaded, "what is said is paced");

        // Retries: only what is certain.
        prop_assert_eq!(of.is_untouched, circumstances.progress == Progress::Unsent || of.asks_for_less);
        prop_assert!(!of.request_has_failed || class.teaches(circumstances.was_slept_through) == Teaches::Failed);

        // The caller: what asks for less load is never its answer, and what is final is a spent quota.
        prop_assert!(!of.asks_for_less || of.hears != Hears::Answer);
        prop_assert_eq!(of.is_final, class == Class::Exhausted);
    }

    #[test]
    fn what_the_machine_has_slept_through_counts_against_nobody(
        cool_off in prop::option::of(0..=3_u64),
        circumstances in circumstances(),
    ) {
        let slept = Circumstances { was_slept_through: true, ..circumstances };
        let failure = Verdict { cool_off: cool_off.map(Duration::from_secs), ..verdict(Class::Failure) };
        let of = Consequence::of(failure, &slept);
        prop_assert_eq!((of.counts, of.counts_for_upstream), (Outcome::Ignored, Outcome::Ignored));
        prop_assert_eq!((of.opens_for, of.pause, of.feedback), (None, None, Feedback::Neutral));
        prop_assert_eq!((of.request_has_failed, of.is_suspect), (false, false));
        prop_assert_eq!(Class::Failure.teaches(true), Teaches::Nothing);
    }
}
