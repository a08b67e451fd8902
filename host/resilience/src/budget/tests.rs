use super::*;
use proptest::prelude::*;

fn budget(ratio: f64, reserve: u32, capacity: u32) -> RetryBudget {
    RetryBudget::new(RetryBudgetSettings { ratio, reserve, capacity })
}

fn withdraw_all(budget: &mut RetryBudget) -> u32 {
    (0..).find(|_| !budget.try_spend(Spend::Retry)).unwrap()
}

#[test]
fn case_28_ten_deposits_at_a_ratio_of_six_tenths_pay_for_six_retries() {
    let mut budget = budget(0.6, 0, 100);
    (0..10).for_each(|_| budget.deposit());
    assert_eq!(withdraw_all(&mut budget), 6);
}

#[test]
fn case_31_a_retry_counts_from_its_decision_and_is_refunded_when_never_sent() {
    let mut budget = budget(0.1, 1, 10);
    assert!(budget.try_spend(Spend::Retry));
    assert!(!budget.try_spend(Spend::Retry), "the first one still waits in backoff");
    budget.refund(Spend::Retry);
    assert!(budget.try_spend(Spend::Retry));
}

#[test]
fn case_32_an_empty_budget_refills_with_traffic() {
    let mut budget = budget(0.1, 3, 10);
    assert_eq!(withdraw_all(&mut budget), 3);
    (0..9).for_each(|_| budget.deposit());
    assert!(!budget.try_spend(Spend::Retry));
    budget.deposit();
    assert!(budget.try_spend(Spend::Retry));
}

#[test]
fn case_32_whatever_emptied_it_a_budget_refills_for_everything() {
    for emptied in Spend::ALL {
        for wanted in Spend::ALL {
            let mut budget = budget(0.5, 4, 10);
            while budget.try_spend(emptied) {}
            (0..2).for_each(|_| budget.deposit());
            assert!(budget.try_spend(wanted), "{} after {}", wanted.as_str(), emptied.as_str());
            assert!(!budget.try_spend(wanted));
        }
    }
}

#[test]
fn one_budget_pays_for_all_and_counts_each_apart() {
    let mut budget = budget(0.1, 4, 10);
    let spends = [Spend::Retry, Spend::Fallback, Spend::Hedge, Spend::Hedge, Spend::Retry];
    assert_eq!(spends.map(|spend| budget.try_spend(spend)), [true, true, true, true, false]);
    assert_eq!(Spend::ALL.map(|spend| budget.spent(spend)), [1, 1, 2]);
    budget.refund(Spend::Hedge);
    assert_eq!(Spend::ALL.map(|spend| budget.spent(spend)), [1, 1, 1]);
    assert_eq!(budget.available(), 1);
}

#[test]
fn amplification_stays_at_a_tenth_in_a_total_outage() {
    let mut budget = RetryBudget::new(RetryBudgetSettings::default());
    let mut retries = 0;
    for _ in 0..10_000 {
        budget.deposit();
        retries += withdraw_all(&mut budget);
    }
    assert_eq!(retries, 1_003, "a tenth of the requests, and the reserve once");
}

#[test]
fn savings_stop_at_the_capacity() {
    let mut budget = budget(1.0, 0, 10);
    (0..1_000).for_each(|_| budget.deposit());
    assert_eq!(budget.available(), 10);
    budget.refund(Spend::Retry);
    assert_eq!(budget.available(), 10);
    assert_eq!(withdraw_all(&mut budget), 10);
}

#[test]
fn every_mistake_is_listed_and_survived() {
    let broken = RetryBudgetSettings { ratio: f64::NAN, reserve: 5, capacity: 0 };
    let fields: Vec<_> = broken.validate().into_iter().map(|m| m.field).collect();
    assert_eq!(fields, ["ratio", "capacity", "reserve"]);
    let mut budget = RetryBudget::new(broken);
    budget.deposit();
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
            budget.deposit();
            return Event::Deposit;
        }
        if *kind == 9 && !unsettled.is_empty() {
            budget.refund(unsettled.swap_remove(which % unsettled.len()));
            return Event::Refund;
        }
        let spend = Spend::ALL[which % Spend::ALL.len()];
        if budget.try_spend(spend) {
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
