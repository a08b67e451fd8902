use super::*;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::ORIGIN;

/// Without a floor.
fn budget(ratio: f64, reserve: u32, capacity: u32) -> RetryBudget {
    RetryBudget::new(RetryBudgetSettings { ratio, floor: 0.0, reserve, capacity }, NOW)
}

fn withdraw_all(budget: &mut RetryBudget) -> u32 {
    (0..).find(|_| !budget.try_spend(Spend::Retry, NOW)).unwrap()
}

#[test]
fn case_28_ten_answers_at_a_ratio_of_six_tenths_pay_for_six_retries() {
    let mut budget = budget(0.6, 0, 100);
    (0..10).for_each(|_| budget.earn(1.0));
    assert_eq!(withdraw_all(&mut budget), 6);
}

#[test]
fn case_31_a_retry_counts_from_its_decision_and_is_refunded_when_never_sent() {
    let mut budget = budget(0.1, 1, 10);
    assert!(budget.try_spend(Spend::Retry, NOW));
    assert!(!budget.try_spend(Spend::Retry, NOW), "the first one still waits in backoff");
    budget.refund(Spend::Retry);
    assert!(budget.try_spend(Spend::Retry, NOW));
}

#[test]
fn case_32_an_empty_budget_refills_with_traffic() {
    let mut budget = budget(0.1, 3, 10);
    assert_eq!(withdraw_all(&mut budget), 3);
    (0..9).for_each(|_| budget.earn(1.0));
    assert!(!budget.try_spend(Spend::Retry, NOW));
    budget.earn(1.0);
    assert!(budget.try_spend(Spend::Retry, NOW));
}

#[test]
fn case_32_whatever_emptied_it_a_budget_refills_for_everything() {
    for emptied in Spend::ALL {
        for wanted in Spend::ALL {
            let mut budget = budget(0.5, 4, 10);
            while budget.try_spend(emptied, NOW) {}
            (0..2).for_each(|_| budget.earn(1.0));
            assert!(budget.try_spend(wanted, NOW), "{} after {}", wanted.as_str(), emptied.as_str());
            assert!(!budget.try_spend(wanted, NOW));
        }
    }
}

#[test]
fn one_budget_pays_for_all_and_counts_each_apart() {
    let mut budget = budget(0.1, 4, 10);
    let spends = [Spend::Retry, Spend::Fallback, Spend::Hedge, Spend::Hedge, Spend::Retry];
    assert_eq!(spends.map(|spend| budget.try_spend(spend, NOW)), [true, true, true, true, false]);
    assert_eq!(Spend::ALL.map(|spend| budget.spent(spend)), [1, 1, 2]);
    budget.refund(Spend::Hedge);
    assert_eq!(Spend::ALL.map(|spend| budget.spent(spend)), [1, 1, 1]);
    assert_eq!(budget.available(), 1);
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn default_budget() -> RetryBudget {
    RetryBudget::new(RetryBudgetSettings::default(), NOW)
}

#[test]
fn an_upstream_that_serves_nobody_gets_the_reserve_and_then_one_retry_a_second() {
    let mut budget = default_budget();
    let retries: Vec<usize> =
        [0, 1, 2, 10].map(|second| (0..50).filter(|_| budget.try_spend(Spend::Retry, at(second))).count()).into();
    assert_eq!(retries, [RetryBudgetSettings::DEFAULT_RESERVE as usize, 1, 1, 8]);
}

#[test]
fn the_floor_is_saved_up_to_the_capacity_and_fractions_of_it_are_not_lost() {
    let mut budget = default_budget();
    assert_eq!((0..1_000).filter(|_| budget.try_spend(Spend::Retry, at(3_600))).count(), 100);
    let every_third = (1..=3_000_u64).map(|step| Timestamp::from_micros(3_600_000_000 + step * 333));
    assert_eq!(every_third.filter(|now| budget.try_spend(Spend::Retry, *now)).count(), 0, "not a second has passed");
    assert!(budget.try_spend(Spend::Retry, Timestamp::from_micros(3_601_000_000)));
}

#[test]
fn failures_of_any_share_are_healed_as_long_as_something_is_served() {
    for failing_of_ten in [1, 3, 5, 7, 9] {
        let mut budget = budget(RetryBudgetSettings::DEFAULT_RATIO, 6, 20);
        let mut refused = 0;
        for attempt in 0..10_000 {
            if (attempt * 7) % 10 < failing_of_ten {
                refused += u32::from(!budget.try_spend(Spend::Retry, NOW));
            } else {
                budget.earn(1.0);
            }
        }
        assert!(refused <= 1, "{refused} when {failing_of_ten} of ten fail, before the first answer");
    }
}

#[test]
fn an_answer_earns_less_where_retries_do_harm() {
    let mut budget = budget(10.0, 0, 100);
    budget.earn(0.2);
    assert_eq!(budget.available(), 2);
    budget.earn(f64::NAN);
    assert_eq!(budget.available(), 2);
}

#[test]
fn savings_stop_at_the_capacity() {
    let mut budget = budget(1.0, 0, 10);
    (0..1_000).for_each(|_| budget.earn(1.0));
    assert_eq!(budget.available(), 10);
    budget.refund(Spend::Retry);
    assert_eq!(budget.available(), 10);
    assert_eq!(withdraw_all(&mut budget), 10);
}

#[test]
fn every_mistake_is_listed_and_survived() {
    let broken = RetryBudgetSettings { ratio: f64::NAN, floor: -1.0, reserve: 5, capacity: 0 };
    let fields: Vec<_> = broken.validate().into_iter().map(|m| m.field).collect();
    assert_eq!(fields, ["ratio", "floor", "capacity", "reserve"]);
    let mut budget = RetryBudget::new(broken, NOW);
    budget.earn(1.0);
    assert_eq!(withdraw_all(&mut budget), 1);
    assert_eq!(RetryBudgetSettings::default().validate(), []);
}

/// What a budget can live through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Deposit,
    Granted,
    Refused,
    Refund,
}

/// Thousandths of a token that a history leaves, counted from its beginning.
fn recount(reserve: u64, capacity: u64, per_mille: u64, history: &[Event]) -> u64 {
    history.iter().fold(reserve * 1000, |thousandths, event| match event {
        Event::Deposit => (thousandths + per_mille).min(capacity * 1000),
        Event::Granted => thousandths - 1000,
        Event::Refused => thousandths,
        Event::Refund => (thousandths + 1000).min(capacity * 1000),
    })
}

/// A random history of 1 to 80 deposits, spends and refunds, with the answers that the budget gave.
/// Every refund is of something that was spent.
fn live(budget: &mut RetryBudget, steps: &[(u8, usize)]) -> Vec<Event> {
    let mut unsettled = Vec::new();
    let step = |(kind, which): &(u8, usize)| {
        if *kind < 5 {
            budget.earn(1.0);
            return Event::Deposit;
        }
        if *kind == 9 && !unsettled.is_empty() {
            budget.refund(unsettled.swap_remove(which % unsettled.len()));
            return Event::Refund;
        }
        let spend = Spend::ALL[which % Spend::ALL.len()];
        if budget.try_spend(spend, NOW) {
            unsettled.push(spend);
            Event::Granted
        } else {
            Event::Refused
        }
    };
    let history: Vec<Event> = steps.iter().map(step).collect();
    for spend in Spend::ALL {
        let count = unsettled.iter().filter(|unsettled| **unsettled == spend).count();
        assert_eq!(budget.spent(spend), count as u64, "{}", spend.as_str());
    }
    history
}

fn steps() -> impl Strategy<Value = Vec<(u8, usize)>> {
    prop::collection::vec((0_u8..10, any::<usize>()), 1..80)
}

/// A budget's settings, with the ratio in thousandths beside one that is rounded to it.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    per_mille: u32,
    ratio: f64,
    reserve: u32,
    capacity: u32,
}

/// Small numbers, so that a budget is often full and often empty.
fn numbers() -> impl Strategy<Value = Numbers> {
    let per_mille = prop_oneof![0_u32..=1000, Just(100), Just(1000), Just(333)];
    (per_mille, -0.4..0.4, 1_u32..12, any::<u32>()).prop_map(|(per_mille, rest, capacity, reserve)| Numbers {
        per_mille,
        ratio: (f64::from(per_mille) + rest) / 1000.0,
        reserve: reserve % (capacity + 1),
        capacity,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn over_any_span_no_more_is_granted_than_was_saved_deposited_and_refunded(
        Numbers { per_mille, ratio, reserve, capacity } in numbers(),
        steps in steps(),
    ) {
        let mut budget = budget(ratio, reserve, capacity);
        let history = live(&mut budget, &steps);
        for start in 0..history.len() {
            let saved = if start == 0 { reserve } else { capacity };
            let (mut earned, mut spent) = (u64::from(saved) * 1000, 0);
            for event in &history[start..] {
                match event {
                    Event::Deposit => earned += u64::from(per_mille),
                    Event::Granted => spent += 1000,
                    Event::Refused => {}
                    Event::Refund => earned += 1000,
                }
                prop_assert!(spent <= earned, "{} of {} from event {} on", spent, earned, start);
            }
        }
    }

    #[test]
    fn a_spend_is_refused_exactly_when_a_recount_finds_less_than_a_token(
        Numbers { per_mille, ratio, reserve, capacity } in numbers(),
        steps in steps(),
    ) {
        let mut budget = budget(ratio, reserve, capacity);
        let history = live(&mut budget, &steps);
        let left = |events: &[Event]| recount(reserve.into(), capacity.into(), per_mille.into(), events);
        for (index, event) in history.iter().enumerate() {
            match event {
                Event::Granted => prop_assert!(left(&history[..index]) >= 1000, "granted: event {}", index),
                Event::Refused => prop_assert!(left(&history[..index]) < 1000, "refused: event {}", index),
                Event::Deposit | Event::Refund => {}
            }
        }
        prop_assert_eq!(budget.available(), left(&history) / 1000);
    }
}
