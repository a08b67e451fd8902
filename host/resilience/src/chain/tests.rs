use super::*;
use crate::budget::RetryBudgetSettings;
use crate::decide::Reason;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::ORIGIN;
const SETTINGS: ChainSettings = ChainSettings {
    max_hops: 2,
    timeout: Some(Duration::from_secs(20)),
    quick_failure_max: Some(Duration::from_secs(5)),
};
const ON: Step = Step::NextUpstream { hint: None };
const HOP: Hop = Hop {
    step: ON,
    attempts: 1,
    standing: Standing::GOOD,
    hops: 0,
    has_others: true,
    since_arrival: Duration::from_secs(1),
    took: Duration::from_millis(200),
};

fn budget(reserve: u32) -> RetryBudget {
    RetryBudget::new(RetryBudgetSettings { reserve, floor: 0.0, ..RetryBudgetSettings::default() }, NOW)
}

fn goes(hop: Hop) -> Onward {
    onward(&SETTINGS, &hop, &mut budget(1), NOW)
}

fn gives_up(reason: Reason) -> Step {
    Step::GiveUp { reason, hint: None }
}

#[test]
fn every_mistake_is_listed() {
    let zero = Some(Duration::ZERO);
    let broken = ChainSettings { max_hops: 11, timeout: zero, quick_failure_max: zero };
    let fields: Vec<_> = broken.validate().into_iter().map(|mistake| mistake.field).collect();
    assert_eq!(fields, ["max_hops", "timeout", "quick_failure_max"]);
    assert_eq!(ChainSettings::default().validate(), []);
    assert_eq!(ChainSettings { max_hops: 0, ..SETTINGS }.validate(), [], "to ask one target only is sound");
}

#[test]
fn whatever_would_make_a_request_wait_moves_it_on() {
    let wait = Duration::from_millis(500);
    for step in [
        ON,
        Step::Paced,
        Step::RetryAfter(wait),
        gives_up(Reason::AttemptsSpent),
        gives_up(Reason::TooSlow),
        gives_up(Reason::PastDeadline { wait }),
        gives_up(Reason::WaitTooLong { wait }),
    ] {
        assert_eq!(goes(Hop { step, ..HOP }), Onward::Next, "{step:?}");
    }
}

#[test]
fn what_fails_everywhere_or_must_not_be_done_twice_stays() {
    for reason in [Reason::Advised, Reason::NotRepeatable, Reason::PutAside] {
        assert_eq!(goes(Hop { step: gives_up(reason), ..HOP }), Onward::Here(NoHop::OfNoUse), "{reason:?}");
    }
}

#[test]
fn a_hiccup_is_repeated_where_the_prompt_cache_is() {
    let hiccup = Hop { step: Step::RetryAfter(Duration::ZERO), ..HOP };
    assert_eq!(goes(hiccup), Onward::Here(NoHop::Hiccup));
    assert_eq!(goes(Hop { attempts: 2, ..hiccup }), Onward::Next, "it has failed twice");
    assert_eq!(
        goes(Hop { standing: Standing { served_share: 0.89, ..Standing::GOOD }, ..hiccup }),
        Onward::Next,
        "it fails many"
    );
    assert_eq!(goes(Hop { step: Step::RetryAfter(Duration::from_millis(1)), ..hiccup }), Onward::Next, "it would wait");
}

#[test]
fn each_bound_keeps_a_request_where_it_is() {
    let seconds = Duration::from_secs;
    for (hop, why) in [
        (Hop { has_others: false, ..HOP }, NoHop::NoOthers),
        (Hop { hops: 2, ..HOP }, NoHop::HopsSpent),
        (Hop { since_arrival: seconds(20), ..HOP }, NoHop::TooLate),
        (Hop { took: seconds(6), ..HOP }, NoHop::TooSlow),
    ] {
        assert_eq!(goes(hop), Onward::Here(why));
    }
    let unbounded = ChainSettings { timeout: None, quick_failure_max: None, ..SETTINGS };
    let late = Hop { since_arrival: seconds(900), took: seconds(600), ..HOP };
    assert_eq!(onward(&unbounded, &late, &mut budget(1), NOW), Onward::Next);
}

#[test]
fn each_hop_costs_a_token_of_the_budget() {
    let mut budget = budget(1);
    assert_eq!(onward(&SETTINGS, &HOP, &mut budget, NOW), Onward::Next);
    assert_eq!(budget.spent(Spend::Fallback), 1);
    assert_eq!(onward(&SETTINGS, &HOP, &mut budget, NOW), Onward::Here(NoHop::BudgetSpent));
}

#[test]
fn a_failure_rules_out_what_it_speaks_of_and_the_place_itself() {
    let failed = Place { upstream: 1, model: 1, key: 1 };
    let other_key = Place { key: 2, ..failed };
    let other_model = Place { model: 2, ..failed };
    let other_in_both = Place { model: 2, key: 2, ..failed };
    let elsewhere = Place { upstream: 2, ..failed };
    for (reach, ruled_out) in [
        (Reach::Upstream, [true, true, true, true, false]),
        (Reach::Model, [true, true, false, false, false]),
        (Reach::Credential, [true, false, true, false, false]),
        (Reach::ModelOfCredential, [true, false, false, false, false]),
    ] {
        let places = [failed, other_key, other_model, other_in_both, elsewhere];
        assert_eq!(places.map(|place| rules_out(reach, failed, place)), ruled_out, "{reach:?}");
    }
}

proptest! {
    #[test]
    fn a_request_is_at_no_more_targets_than_it_may(
        max_hops in 0_u32..=ChainSettings::HOPS_MAX,
        others in 0_u32..20,
        tokens in 0_u32..20,
    ) {
        let settings = ChainSettings { max_hops, ..ChainSettings::default() };
        let mut budget = budget(tokens);
        let mut hops = 0;
        while onward(&settings, &Hop { hops, has_others: hops < others, ..HOP }, &mut budget, NOW) == Onward::Next {
            hops += 1;
        }
        prop_assert_eq!(hops, max_hops.min(others).min(tokens));
        prop_assert_eq!(budget.spent(Spend::Fallback), u64::from(hops), "what stays costs nothing");
    }
}
