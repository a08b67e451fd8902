//! The curves of `docs/partial-failure.md`: what is served, and what it costs, as a provider fails more or is asked more.

mod chart;

use chart::{Axis, Chart, Line, Panel};

use crate::clients::Clients;
use crate::contender::Contender;
use crate::figure::{Figure, Figures};
use crate::runs;
use crate::scenario::{FurtherTarget, Provider, Says, Scenario};

/// Runs for each point: with them it is right within about half a point.
const SEEDS: u32 = 10;

/// Everybody asks for fifty answers a second, and waits ten seconds in the proxy, as by default.
const WORLD: &str = "name = 'curve'\nseconds = 60\n[client]\npatience_seconds = 10\n\
                     [provider]\nlatency_seconds = 0.05\nrefusal_seconds = 0.05\n\
                     [[tenants]]\nrequests_per_second = 50\n";

/// What a provider that gets worse under load bears, as in the scenarios `worsens-40`.
const BEARABLE_PER_SECOND: f64 = 40.0;
/// Whoever arrives before is left out there: a rate has to be found first.
const OVERLOAD_WARM_UP_SECONDS: f64 = 20.0;

const PERCENT: Axis = Axis { label: "served, %", max: 100.0, step: 20.0 };

/// Each chart's file name and its SVG text. The same on every machine with the same floating-point logarithm.
///
/// # Errors
///
/// None in a released program: a test draws a point.
pub fn all() -> Result<Vec<(&'static str, String)>, String> {
    let rates: Vec<f64> = (0..=10).map(f64::from).map(|tenths| 10.0 * tenths).collect();
    let loads: Vec<f64> = (1..=10).map(f64::from).map(|tens| 10.0 * tens).collect();
    let failing = family(&rates, |scenario, percent| scenario.provider.failure_rate = percent / 100.0)?;
    let overloaded = |says| {
        family(&loads, move |scenario, load| {
            scenario.warm_up_seconds = OVERLOAD_WARM_UP_SECONDS;
            for tenant in &mut scenario.tenants {
                tenant.requests_per_second = load;
            }
            let bounds = (Some(BEARABLE_PER_SECOND), says);
            scenario.provider =
                Provider { worsens_beyond_per_second: bounds.0, worsens_says: bounds.1, ..scenario.provider };
        })
    };
    let chain = |is_equal| {
        family(&rates, move |scenario, percent| {
            let provider = scenario.provider;
            scenario.further_targets = vec![FurtherTarget { is_equal, provider, faults: Vec::new() }];
            scenario.provider.failure_rate = percent / 100.0;
        })
    };
    let (first, equal) = (chain(false)?, chain(true)?);
    let (said, unsaid) = (overloaded(Says::Overloaded)?, overloaded(Says::Failure)?);
    let rate = Axis { label: "calls that fail at random, %", max: 100.0, step: 20.0 };
    let load = Axis { label: "requests offered a second", max: 100.0, step: 20.0 };
    let calls = Axis { label: "calls paid for, per request", max: 12.0, step: 2.0 };
    let calls_of_chains = Axis { label: "calls paid for, per request", max: 4.0, step: 1.0 };
    let (never, twice) = (0, Clients::SDK_RETRIES);
    let failure_panels = |figure| {
        vec![
            panel("callers never retry", &failing, never, figure),
            panel("callers retry twice by themselves", &failing, twice, figure),
        ]
    };
    let overload_panels = vec![
        panel("it says so; callers never retry", &said, never, Figure::ServedPercent),
        panel("it says only 500; callers never retry", &unsaid, never, Figure::ServedPercent),
        panel("it says so; callers retry twice", &said, twice, Figure::ServedPercent),
        panel("it says only 500; callers retry twice", &unsaid, twice, Figure::ServedPercent),
    ];
    let in_chain = [Contender::Alone(0), Contender::Failover, Contender::Spillway];
    let chain_panels = vec![
        panel_of(&in_chain, "it is asked first", &first, never, Figure::CallsPerRequest),
        panel_of(&in_chain, "it is one of two equals", &equal, never, Figure::CallsPerRequest),
    ];
    Ok(vec![
        (
            "partial-failure-served.svg",
            Chart {
                title: "Share of requests served, by failure rate",
                x: rate,
                y: PERCENT,
                panels: failure_panels(Figure::ServedPercent),
            }
            .svg(),
        ),
        (
            "partial-failure-calls.svg",
            Chart {
                title: "Calls paid for, by failure rate",
                x: rate,
                y: calls,
                panels: failure_panels(Figure::CallsPerRequest),
            }
            .svg(),
        ),
        (
            "overload-served.svg",
            Chart {
                title: "Share of requests served by a provider that bears 40 calls a second",
                x: load,
                y: PERCENT,
                panels: overload_panels,
            }
            .svg(),
        ),
        (
            "chain-calls.svg",
            Chart {
                title: "Calls paid for by a chain, by the failure rate of one of its two targets",
                x: rate,
                y: calls_of_chains,
                panels: chain_panels,
            }
            .svg(),
        ),
    ])
}

/// The same scenario for each value of what is varied.
fn family(values: &[f64], vary: impl Fn(&mut Scenario, f64)) -> Result<Vec<(f64, Scenario)>, String> {
    let member = |value: &f64| {
        let mut scenario = Scenario::read(WORLD)?;
        vary(&mut scenario, *value);
        Ok((*value, scenario))
    };
    values.iter().map(member).collect()
}

/// A line for each contender, ours last, so that it lies above the others.
fn panel(title: &'static str, family: &[(f64, Scenario)], retries: u32, figure: Figure) -> Panel {
    let contenders: Vec<Contender> = Contender::OTHERS.into_iter().chain([Contender::Spillway]).collect();
    panel_of(&contenders, title, family, retries, figure)
}

/// The same for these contenders.
fn panel_of(
    contenders: &[Contender],
    title: &'static str,
    family: &[(f64, Scenario)],
    retries: u32,
    figure: Figure,
) -> Panel {
    let line = |contender: Contender| {
        let point = |(value, scenario): &(f64, Scenario)| {
            let figures = Figures::of(&runs(scenario, SEEDS, SEEDS, contender, retries));
            (*value, figures.get(figure).unwrap_or(0.0))
        };
        Line { name: contender.name(), points: family.iter().map(point).collect() }
    };
    Panel { title, lines: contenders.iter().copied().map(line).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_has_a_line_for_everybody_and_ours_is_the_last() {
        let family = family(&[30.0], |scenario, percent| {
            scenario.seconds = 2.0;
            scenario.provider.failure_rate = percent / 100.0;
        });
        let panel = panel("x", &family.unwrap(), 0, Figure::ServedPercent);
        assert_eq!(panel.lines.len(), Contender::OTHERS.len() + 1);
        let ours = panel.lines.last().unwrap();
        assert_eq!(ours.name, "spillway");
        let (rate, served) = ours.points[0];
        assert!(rate == 30.0 && served > 95.0, "{served}");
    }
}
