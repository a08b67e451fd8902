//! What the simulation must be for its figures to mean anything: repeatable, without leaks, and
//! able to show harm.

#![expect(clippy::unwrap_used, reason = "in a test, to panic is to fail")]

use std::process::Command;

use spillway_simulate::figure::{Figure, Figures};
use spillway_simulate::measure::Run;
use spillway_simulate::scenario::Scenario;
use spillway_simulate::{simulate, world};

fn built_in(name: &str) -> Scenario {
    Scenario::built_in().unwrap().into_iter().find(|scenario| scenario.name == name).unwrap()
}

fn figure(name: &str, protected: bool, figure: Figure) -> f64 {
    simulate(&built_in(name), 10, protected).get(figure).unwrap()
}

/// Every built-in scenario, with and without protection.
fn each(mut check: impl FnMut(&Scenario, bool)) {
    for mut scenario in Scenario::built_in().unwrap() {
        // A million requests are more than these tests need.
        scenario.requests_in_all = scenario.requests_in_all.map(|requests| requests.min(5_000));
        check(&scenario, true);
        check(&scenario, false);
    }
}

#[test]
fn a_seed_fixes_a_run_entirely() {
    each(|scenario, protected| {
        let run = |seed| world::run(scenario, seed, 1, protected);
        assert_eq!(run(7), run(7), "{}", scenario.name);
        assert_ne!(run(7), run(8), "{}", scenario.name);
    });
}

#[test]
fn every_request_ends_once_and_gives_back_what_it_held() {
    each(|scenario, protected| {
        for seed in 1..=3 {
            let Run { arrived, served, unserved, left_over, .. } = world::run(scenario, seed, 1, protected);
            assert!(arrived > 0);
            assert_eq!((arrived, left_over), (served + unserved, 0), "{} {seed}", scenario.name);
        }
    });
}

#[test]
fn protection_changes_nothing_about_who_comes() {
    each(|scenario, _| {
        let arrived = |protected| world::run(scenario, 1, 1, protected).arrived;
        assert_eq!(arrived(true), arrived(false), "{}", scenario.name);
    });
}

#[test]
fn without_protection_three_attempts_triple_the_load_of_an_outage() {
    let amplification = |name| figure(name, false, Figure::Amplification);
    assert!((2.95..=3.0).contains(&amplification("total-outage")));
    assert!((1.70..=1.80).contains(&amplification("half-failure")), "1 + 1/2 + 1/4");
    assert!(figure("total-outage", false, Figure::WastedCallsPercent) > 290.0);
}

#[test]
fn without_protection_an_overload_asks_for_far_more_than_the_quota() {
    assert!(figure("overload-2x", false, Figure::OvershootTokens) > 600_000.0);
    assert!(figure("overload-10x", false, Figure::WastedCallsPercent) > 200.0);
}

#[test]
fn without_protection_ten_bad_seconds_never_end() {
    assert_eq!(figure("metastable", false, Figure::RecoveryP50Seconds), f64::INFINITY);
    let before_and_after = figure("metastable", false, Figure::GoodputPercent);
    assert!(before_and_after < 50.0, "{before_and_after}");
}

#[test]
fn it_is_the_clients_retries_that_keep_the_bad_state_alive() {
    let mut scenario = built_in("metastable");
    scenario.client.attempts = 1;
    let recovery = simulate(&scenario, 10, true).get(Figure::RecoveryP95Seconds).unwrap();
    assert!(recovery <= 20.0, "{recovery}");
}

#[test]
fn with_protection_ten_bad_seconds_are_over_within_ten_more() {
    let recovery = figure("metastable", true, Figure::RecoveryP95Seconds);
    assert!(recovery <= 10.0, "{recovery}");
    assert_eq!(figure("metastable", true, Figure::FalseOpens), 0.0);
}

#[test]
fn with_protection_a_herd_does_not_open_the_circuit_again() {
    assert_eq!(figure("thundering-herd", true, Figure::FalseOpens), 0.0);
    assert!(figure("thundering-herd", true, Figure::RecoveryP95Seconds) <= 5.0);
}

#[test]
fn with_protection_a_provider_that_refuses_what_it_cannot_bear_is_kept_busy() {
    let text = "name = 'a'\nseconds = 120\nwarm_up_seconds = 30\n[[tenants]]\nrequests_per_second = 200\n\
                [client]\npatience_seconds = 10\n\
                [provider]\ncalls_per_second = 100\nlatency_seconds = 2\nbacklog_seconds_max = 1\n";
    let figures = simulate(&Scenario::read(text).unwrap(), 10, true);
    let (goodput, false_opens) = (figures.get(Figure::GoodputPercent), figures.get(Figure::FalseOpens));
    assert!(goodput >= Some(95.0) && false_opens == Some(0.0), "{goodput:?} {false_opens:?}");
}

#[test]
fn without_a_limit_on_the_provider_the_trigger_leaves_no_trace() {
    let mut scenario = built_in("metastable");
    scenario.provider.calls_per_second = 1000.0;
    let figures: Figures = simulate(&scenario, 10, false);
    assert_eq!(figures.get(Figure::RecoveryP95Seconds), Some(0.0));
}

#[test]
fn with_protection_no_failure_is_amplified_by_more_than_a_tenth() {
    for scenario in Scenario::built_in().unwrap() {
        if scenario.goals.amplification.is_some() {
            let amplification = simulate(&scenario, 10, true).get(Figure::Amplification).unwrap();
            assert!(amplification <= 1.1, "{}: {amplification}", scenario.name);
        }
    }
}

#[test]
fn with_protection_a_quota_is_used_up_and_never_exceeded() {
    for name in ["overload-2x", "overload-10x"] {
        assert_eq!(figure(name, true, Figure::OvershootTokens), 0.0, "{name}");
        assert!(figure(name, true, Figure::GoodputPercent) >= 95.0, "{name}");
    }
}

#[test]
fn with_protection_a_flood_takes_no_more_than_its_share_and_leaves_no_token_unused() {
    let gap = figure("flooding-tenant", true, Figure::FairnessGap);
    assert!((1.0..=2.0).contains(&gap), "{gap}");
    assert!(figure("flooding-tenant", true, Figure::GoodputPercent) >= 95.0);
}

#[test]
fn with_protection_a_tenant_of_twice_the_weight_is_served_twice_as_much() {
    let tenant = |weight| format!("[[tenants]]\nrequests_per_second = 20\ninput_tokens = 1000\nweight = {weight}\n");
    let text = format!(
        "name = 'a'\nseconds = 60\n{}{}[client]\npatience_seconds = 10\n\
         [provider]\ntokens_per_minute = 600_000\nburst_tokens = 10_000\n",
        tenant(2),
        tenant(1)
    );
    // By weight, the drift is that of equals: with another share it would grow with every turn.
    let gap = simulate(&Scenario::read(&text).unwrap(), 10, true).get(Figure::FairnessGap).unwrap();
    assert!(gap <= 2.0, "{gap}");
}

#[test]
fn what_was_not_there_to_measure_is_not_a_good_figure() {
    let figures = simulate(&built_in("flooding-tenant"), 2, false);
    assert_eq!((figures.get(Figure::FairnessGap), figures.get(Figure::FalseOpens)), (None, None));
}

#[test]
fn the_program_says_by_its_exit_code_whether_the_goals_are_met() {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let run = |file: &str, text: &str, arguments: &[&str]| {
        let path = directory.join(file);
        std::fs::write(&path, text).unwrap();
        let output =
            Command::new(env!("CARGO_BIN_EXE_simulate")).arg(path).args(["--seeds", "2"]).args(arguments).output();
        let output = output.unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text)
    };
    let world = "name = 'mine'\nseconds = 60\n[[tenants]]\nrequests_per_second = 5\n\
                 [[faults]]\nfrom_seconds = 10\nto_seconds = 30\nfailure_rate = 1.0\n";
    let strict = format!("{world}[goals]\nwasted_calls_percent = 0\n");
    let (code, text) = run("strict.toml", &strict, &["--check"]);
    assert!(code == Some(1) && text.contains("<=0 MISSED"), "{code:?} {text}");
    assert_eq!(run("strict-unchecked.toml", &strict, &[]).0, Some(0));
    let (code, text) = run("easy.toml", &format!("{world}[goals]\namplification = 1.1\n"), &["--check", "--json"]);
    assert!(code == Some(0) && text.contains("\"met\": true"), "{code:?} {text}");
    let (code, text) = run("broken.toml", "name = 'mine'\nsecond = 1\n", &[]);
    assert!(code == Some(2) && text.contains("second"), "{code:?} {text}");
}
