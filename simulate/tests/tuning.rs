//! What is advised: where a setting helps it is found, and where none does nothing is made up.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::time::Duration;

use spillway_resilience::{BreakerKind, BreakerSettings};
use spillway_simulate::comparison::Rule;
use spillway_simulate::estimate::{Estimate, RecordedCall, RecordedRequest, Said};
use spillway_simulate::figure::Figure;
use spillway_simulate::scenario::Scenario;
use spillway_simulate::stack::Settings;
use spillway_simulate::tuning::{Advice, Effort, InForce, Outcome, Way, advise, lanes, lost_to_no_proxy, run};

const SEEDS: Effort = Effort::Seeds(8);

fn defaults() -> InForce {
    InForce {
        stack: Settings::default(),
        patience: Duration::from_secs(10),
        attempt_timeout: Duration::from_secs(305),
        request_timeout: Duration::from_secs(600),
    }
}

fn built_in(name: &str) -> Scenario {
    Scenario::built_in().unwrap().into_iter().find(|scenario| scenario.name == name).unwrap()
}

fn advice(scenario: &Scenario, in_force: &InForce, retries: u32) -> (Advice, Vec<Outcome>) {
    let (_, outcomes) = run(scenario, in_force, lanes(scenario, in_force, retries), SEEDS);
    (advise(&outcomes, retries), outcomes)
}

fn served(outcomes: &[Outcome], way: &Way, retries: u32) -> f64 {
    let outcome = outcomes.iter().find(|one| one.lane.way == *way && one.lane.retries == retries).unwrap();
    outcome.trial.figures.get(Figure::ServedPercent).unwrap()
}

#[test]
fn where_retries_are_off_in_a_partial_failure_it_is_advised_to_switch_them_on() {
    let mut in_force = defaults();
    in_force.stack.retry.max_attempts = 1;
    for retries in [0, 2] {
        let (advice, outcomes) = advice(&built_in("fails-50-at-50"), &in_force, retries);
        let Advice::Change(change, gains) = advice else { unreachable!("it is left as it is") };
        assert_eq!((change.key, change.was.as_str(), change.value.as_str()), ("retry.max_attempts", "1", "5"));
        assert_eq!(gains[0].rule, Rule::ServedPercent);
        let gained = served(&outcomes, &Way::Changed(change), retries) - served(&outcomes, &Way::InForce, retries);
        assert!((gains[0].by - gained).abs() < 1e-9 && gained > 3.0, "{gained}");
    }
}

#[test]
fn default_settings_are_left_where_they_are_right() {
    for name in ["fails-30-at-50", "outage-10-s"] {
        let (advice, outcomes) = advice(&built_in(name), &defaults(), 0);
        assert_eq!(lost_to_no_proxy(&outcomes, 0), None, "{name}");
        assert_eq!(advice, Advice::Leave, "{name}");
    }
}

#[test]
fn that_no_proxy_would_serve_more_is_said() {
    let mut in_force = defaults();
    (in_force.stack.kind, in_force.stack.breaker) = (BreakerKind::Plain, BreakerSettings::default());
    let (_, outcomes) = advice(&built_in("fails-50-at-50"), &in_force, 0);
    assert!(lost_to_no_proxy(&outcomes, 0) > Some(10.0));
}

#[test]
fn a_limit_of_ones_own_that_is_too_low_is_found() {
    let mut in_force = defaults();
    in_force.stack.requests = Some(spillway_simulate::stack::Quota::of_a_minute(300));
    let (advice, _) = advice(&built_in("fails-30-at-50"), &in_force, 0);
    assert!(matches!(&advice, Advice::Change(change, _) if change.key == "limits.requests_per_minute"), "{advice:?}");
}

#[test]
fn what_is_replayed_is_what_was_recorded() {
    let requests = (0..3_000).map(|number| RecordedRequest {
        came: Duration::from_millis(number * 20),
        tenant: String::new(),
        model: "m".to_owned(),
        tokens_max: 0,
        has_come_back: false,
        allowed: Duration::from_secs(30),
    });
    let said = |at: f64| if (20.0..30.0).contains(&at) { Said::Failure } else { Said::Answer };
    let calls = requests.clone().map(|one| RecordedCall {
        sent: one.came,
        took: Duration::from_millis(50),
        model: one.model,
        said: said(one.came.as_secs_f64()),
        retry_after: None,
    });
    let Estimate { scenario, caller_retries, .. } = Estimate::of(requests.collect(), calls.collect()).unwrap();
    let (_, outcomes) = run(&scenario, &defaults(), lanes(&scenario, &defaults(), caller_retries), SEEDS);
    // Directly, a sixth of the requests comes while all fail.
    let direct = served(&outcomes, &Way::Direct, 0);
    assert!((direct - 100.0 * 5.0 / 6.0).abs() < 0.2, "{direct}");
    assert_eq!(lost_to_no_proxy(&outcomes, 0), None);
}
