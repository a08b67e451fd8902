use super::*;
use crate::budget::RetryBudgetSettings;
use proptest::prelude::*;

const QUICK: Duration = Duration::from_millis(200);
const FAILED: FailedAttempt = FailedAttempt {
    number: 1,
    took: QUICK,
    requested_wait: None,
    remaining: None,
    advice: Advice::Retry,
    may_repeat: true,
    pacing: None,
    is_turn_of_use: false,
    is_repeated_by_its_caller: false,
    has_come_back: false,
    is_no_evidence: false,
};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn after(failed: FailedAttempt) -> Step {
    next_step(&RetrySettings::default(), &failed, None, 0)
}

fn decided(failed: FailedAttempt, decision: RetryDecision) -> Step {
    next_step(&RetrySettings::default(), &failed, Some(decision), 0)
}

fn asked_to_wait(requested: u64, remaining: Option<u64>) -> Step {
    after(FailedAttempt { requested_wait: Some(seconds(requested)), remaining: remaining.map(seconds), ..FAILED })
}

fn reason(step: Step) -> Reason {
    match step {
        Step::GiveUp { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn advice_and_attempts_come_before_any_wait() {
    let advised = |advice| after(FailedAttempt { advice, ..FAILED });
    assert_eq!(reason(advised(Advice::GiveUp)), Reason::Advised);
    assert_eq!(advised(Advice::NextUpstream), Step::NextUpstream { hint: None });
    assert_eq!(reason(after(FailedAttempt { number: 5, ..FAILED })), Reason::AttemptsSpent);
    assert_eq!(after(FailedAttempt { number: 2, ..FAILED }), Step::RetryAfter(Duration::ZERO));
}

#[test]
fn another_upstream_may_serve_what_failed_for_reasons_of_this_one_only() {
    let wait = QUICK;
    for (reason, allows) in [
        (Reason::Advised, false),
        (Reason::NotRepeatable, false),
        (Reason::PutAside, false),
        (Reason::AttemptsSpent, true),
        (Reason::TooSlow, true),
        (Reason::PastDeadline { wait }, true),
        (Reason::WaitTooLong { wait }, true),
    ] {
        assert_eq!(reason.allows_next_upstream(), allows, "{reason:?}");
    }
}

#[test]
fn the_second_attempt_follows_at_once_and_only_further_ones_wait() {
    let after = |number| next_step(&RetrySettings::default(), &FailedAttempt { number, ..FAILED }, None, u64::MAX);
    let most = |longest: Duration| Step::RetryAfter(longest - Duration::from_micros(1));
    assert_eq!(after(1), Step::RetryAfter(Duration::ZERO));
    assert_eq!((after(2), after(3)), (most(Backoff::DEFAULT_BASE), most(Backoff::DEFAULT_BASE * 2)));
}

#[test]
fn a_slow_failure_is_not_repeated() {
    let after = |took, left| after(FailedAttempt { took: seconds(took), remaining: Some(seconds(left)), ..FAILED });
    assert_eq!(after(10, 100), Step::RetryAfter(Duration::ZERO));
    assert_eq!(reason(after(11, 100)), Reason::TooSlow);
    assert_eq!(reason(after(5, 4)), Reason::TooSlow, "it would not end in time, judged by the last one");
}

#[test]
fn case_33_a_retry_after_beyond_the_deadline_fails_now_with_the_hint() {
    let late = Step::GiveUp { reason: Reason::PastDeadline { wait: seconds(30) }, hint: Some(seconds(30)) };
    assert_eq!(asked_to_wait(30, Some(20)), late);
    assert_eq!(asked_to_wait(30, Some(39)), late, "a quarter is kept");
    assert_eq!(asked_to_wait(30, Some(40)), Step::RetryAfter(seconds(30)));
    let spent = after(FailedAttempt { remaining: Some(Duration::ZERO), ..FAILED });
    assert_eq!(reason(spent), Reason::PastDeadline { wait: Duration::ZERO });
}

#[test]
fn a_backoff_beyond_the_deadline_fails_now_too() {
    let (settings, left) = (RetrySettings::default(), Duration::from_millis(500));
    let fourth = FailedAttempt { number: 4, remaining: Some(left), ..FAILED };
    let after = |random| next_step(&settings, &fourth, None, random);
    let wait = settings.backoff.delay(3, u64::MAX);
    assert_eq!(reason(after(u64::MAX)), Reason::PastDeadline { wait });
    assert_eq!(after(1 << 63), Step::RetryAfter(settings.backoff.delay(3, 1 << 63)));
}

#[test]
fn a_wait_of_days_is_not_sat_out() {
    let days = seconds(6 * 24 * 3600);
    let too_long = Step::GiveUp { reason: Reason::WaitTooLong { wait: days }, hint: Some(days) };
    assert_eq!(asked_to_wait(days.as_secs(), None), too_long);
    assert_eq!(asked_to_wait(120, None), Step::RetryAfter(seconds(120)));
}

#[test]
fn what_must_not_be_repeated_is_sent_to_no_other_upstream_either() {
    for advice in [Advice::Retry, Advice::NextUpstream, Advice::GiveUp] {
        for pacing in [None, Some(Pacing::Turn), Some(Pacing::Pause)] {
            let failed = FailedAttempt { may_repeat: false, advice, pacing, is_turn_of_use: true, ..FAILED };
            let step = decided(failed, RetryDecision::NextUpstream);
            assert_eq!(step, Step::GiveUp { reason: Reason::NotRepeatable, hint: None });
        }
    }
}

#[test]
fn a_policy_decides_before_the_lane_and_the_backoff() {
    let paced = FailedAttempt { pacing: Some(Pacing::Turn), remaining: Some(seconds(10)), ..FAILED };
    for (decision, step) in [
        (RetryDecision::After(seconds(9)), Step::RetryAfter(seconds(9))),
        (RetryDecision::After(seconds(10)), Step::GiveUp { reason: Reason::PutAside, hint: Some(seconds(10)) }),
        (RetryDecision::SpoolFor(seconds(1)), Step::GiveUp { reason: Reason::PutAside, hint: Some(seconds(1)) }),
        (RetryDecision::NextUpstream, Step::NextUpstream { hint: None }),
        (RetryDecision::GiveUp, Step::GiveUp { reason: Reason::Advised, hint: None }),
    ] {
        assert_eq!(decided(paced, decision), step);
    }
}

#[test]
fn no_policy_decides_for_more_attempts_than_there_may_be_nor_against_the_advice() {
    let now = RetryDecision::After(Duration::ZERO);
    assert_eq!(reason(decided(FailedAttempt { number: 5, ..FAILED }, now)), Reason::AttemptsSpent);
    assert_eq!(reason(decided(FailedAttempt { advice: Advice::GiveUp, ..FAILED }, now)), Reason::Advised);
}

#[test]
fn who_is_paced_goes_on_beyond_the_attempts_while_a_turn_is_of_use() {
    let paced = FailedAttempt { pacing: Some(Pacing::Turn), requested_wait: Some(seconds(7)), ..FAILED };
    assert_eq!(after(paced), Step::Paced);
    let fifth = FailedAttempt { number: 5, ..paced };
    assert_eq!(after(FailedAttempt { is_turn_of_use: true, ..fifth }), Step::Paced);
    assert_eq!(after(fifth), Step::GiveUp { reason: Reason::AttemptsSpent, hint: Some(seconds(7)) });
    let elsewhere = FailedAttempt { advice: Advice::NextUpstream, ..paced };
    assert_eq!(after(elsewhere), Step::NextUpstream { hint: Some(seconds(7)) });
}

#[test]
fn a_pause_that_a_failure_has_named_is_left_to_the_lane() {
    let paused = FailedAttempt { pacing: Some(Pacing::Pause), requested_wait: Some(seconds(7)), ..FAILED };
    assert_eq!(after(paused), Step::RetryAfter(Duration::ZERO), "the lane waits, not the retry");
    assert_eq!(after(FailedAttempt { pacing: None, ..paused }), Step::RetryAfter(seconds(7)));
    assert_eq!(reason(after(FailedAttempt { number: 5, ..paused })), Reason::AttemptsSpent);
}

const RETRY: Retry = Retry {
    attempts: 1,
    wait: QUICK,
    blocked_for: None,
    circuit_patience: Duration::ZERO,
    may_be_chance: true,
    served_share: 1.0,
    has_come_back: false,
};

fn grant(retry: Retry) -> Result<(), NoRetry> {
    let mut budget = RetryBudget::new(RetryBudgetSettings::default(), Timestamp::ORIGIN);
    let granted = may_retry(&RetrySettings::default(), &retry, &mut budget, Timestamp::ORIGIN);
    assert_eq!(budget.spent(Spend::Retry), u64::from(granted.is_ok()), "only what is granted is paid for");
    granted
}

#[test]
fn nobody_waits_for_a_circuit_that_will_still_be_open() {
    assert_eq!(grant(RETRY), Ok(()));
    let wait = seconds(1);
    let blocked = Retry { blocked_for: Some(wait), ..RETRY };
    assert_eq!(grant(blocked), Err(NoRetry::CircuitOpen { wait }));
    assert_eq!(NoRetry::CircuitOpen { wait }.wait(), Some(wait));
    assert_eq!(grant(Retry { circuit_patience: wait, ..blocked }), Ok(()), "it has the patience");
    assert_eq!(grant(Retry { wait, ..blocked }), Ok(()), "it waits for so long anyway");
}

#[test]
fn a_run_of_failures_that_is_no_chance_ends_retries() {
    assert_eq!(grant(Retry { may_be_chance: false, ..RETRY }), Err(NoRetry::NoChance));
    let (ours, callers) = (RetrySettings::repeat_chance_min(false), RetrySettings::repeat_chance_min(true));
    assert!(ours < callers, "sooner for a caller that repeats by itself");
}

#[test]
fn the_last_attempt_is_for_where_many_are_served_and_for_who_has_come_back() {
    let last = Retry { attempts: 4, served_share: 0.5, ..RETRY };
    assert_eq!(grant(last), Err(NoRetry::TooFewServed));
    assert_eq!(grant(Retry { served_share: 0.7, ..last }), Ok(()));
    assert_eq!(grant(Retry { has_come_back: true, ..last }), Ok(()));
}

#[test]
fn without_a_token_there_is_no_retry() {
    let nothing = RetryBudgetSettings { ratio: 0.0, floor: 0.0, ..RetryBudgetSettings::default() };
    let mut budget = RetryBudget::new(nothing, Timestamp::ORIGIN);
    while budget.try_spend(Spend::Retry, Timestamp::ORIGIN) {}
    let granted = may_retry(&RetrySettings::default(), &RETRY, &mut budget, Timestamp::ORIGIN);
    assert_eq!(granted, Err(NoRetry::BudgetSpent));
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
    assert_eq!(fields, ["backoff", "max_attempts", "quick_attempt_max", "deadline_reserve"]);
    assert_eq!(RetrySettings::default().validate(), []);
}

proptest! {
    #[test]
    fn a_provider_is_never_asked_again_before_the_wait_it_named(
        requested in 0_u64..200_000,
        remaining in prop::option::of(0_u64..400_000),
        number in 1_u32..6,
        random: u64,
    ) {
        let requested = Duration::from_millis(requested);
        let remaining = remaining.map(Duration::from_millis);
        let settings = RetrySettings::default();
        let took = Duration::ZERO;
        let failed = FailedAttempt { number, took, requested_wait: Some(requested), remaining, ..FAILED };
        match next_step(&settings, &failed, None, random) {
            Step::RetryAfter(wait) => {
                prop_assert!(wait >= requested && wait <= settings.wait_cap);
                prop_assert!(remaining.is_none_or(|left| wait <= left - left / 4));
            }
            Step::GiveUp { hint, .. } => prop_assert_eq!(hint, Some(requested)),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

#[test]
fn what_a_caller_repeats_by_itself_is_left_to_it_where_nothing_bounds_us_and_nobody_gains_by_it() {
    let of_sdk = FailedAttempt { is_repeated_by_its_caller: true, ..FAILED };
    let in_lane = FailedAttempt { pacing: Some(Pacing::Turn), ..of_sdk };
    for left in [in_lane, FailedAttempt { is_no_evidence: true, ..of_sdk }] {
        assert_eq!(reason(after(left)), Reason::LeftToCaller);
        assert!(Reason::LeftToCaller.allows_next_upstream());
        let own = FailedAttempt { is_repeated_by_its_caller: false, ..left };
        assert!(matches!(after(own), Step::Paced | Step::RetryAfter(_)), "{:?}", after(own));
    }
    assert_eq!(after(FailedAttempt { is_turn_of_use: true, ..in_lane }), Step::Paced);
    assert_eq!(after(of_sdk), Step::RetryAfter(Duration::ZERO), "circuits bound this");
    let requested_wait = Some(seconds(2));
    let named = FailedAttempt { requested_wait, ..in_lane };
    assert_eq!(after(FailedAttempt { number: 3, ..named }), Step::Paced);
    for left in [FailedAttempt { number: 4, ..named }, FailedAttempt { has_come_back: true, ..named }] {
        assert_eq!(after(left), Step::GiveUp { reason: Reason::LeftToCaller, hint: requested_wait });
    }
}
