//! What came of a simulation, as a table with an advice, and as JSON.

use super::traffic::Traffic;
use super::words::{callers, duration, fault_in_words, gain_in_words};
use crate::runtime::screen::{ASIDE, COMMAND, DOUBTFUL, GOOD, HEADING, styled, table};
use serde::Serialize;
use serde_json::json;
use spillway_simulate::comparison::Rule;
use spillway_simulate::estimate::Estimate;
use spillway_simulate::figure::Figure;
use spillway_simulate::scenario::{Fault, Scenario};
use spillway_simulate::tuning::{Advice, Gain, Outcome, Way, lost_to_no_proxy};
use std::collections::BTreeSet;

/// Upstream of which the settings are tried where nobody says another.
const UPSTREAM_DEFAULT: &str = "openai";
/// Times of trouble that are shown; all are simulated.
const FAULTS_SHOWN_MAX: usize = 12;

/// What is simulated, and where it comes from.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) scenario: Scenario,
    pub(super) upstream: String,
    /// How often callers try again by themselves, where that is known.
    pub(super) caller_retries: Option<u32>,
    log: Option<OfLog>,
}

/// What a log has said beside.
#[derive(Debug)]
struct OfLog {
    actual: Row,
    requests: usize,
    calls: usize,
    bad_lines: u64,
    first_bad_line: Option<String>,
    has_arrivals: bool,
}

impl Found {
    pub(super) fn scenario(scenario: Scenario, upstream: Option<&str>) -> Found {
        let upstream = upstream.unwrap_or(UPSTREAM_DEFAULT).to_owned();
        Found { scenario, upstream, caller_retries: None, log: None }
    }

    pub(super) fn log(estimate: Estimate, traffic: &Traffic, upstream: String) -> Found {
        let Estimate { scenario, begins, caller_retries } = estimate;
        let actual = traffic.actual(begins);
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let row = Row {
            name: "as it was recorded".to_owned(),
            change: None,
            caller_retries: None,
            served_percent: share(100 * actual.served, actual.requests),
            calls_per_request: share(actual.calls, actual.requests),
            wait_p50_seconds: actual.waits.percentile_seconds(50),
            wait_p95_seconds: actual.waits.percentile_seconds(95),
        };
        let log = OfLog {
            actual: row,
            requests: scenario.recorded.as_ref().map_or(0, |recorded| recorded.arrivals.len()),
            calls: traffic.calls.len(),
            bad_lines: traffic.bad_lines,
            first_bad_line: traffic.first_bad_line.clone(),
            has_arrivals: traffic.has_arrivals,
        };
        Found { scenario, upstream, caller_retries: Some(caller_retries), log: Some(log) }
    }
}

/// One row of the table.
#[derive(Clone, Debug, Serialize)]
struct Row {
    name: String,
    /// The key that is changed, and its value.
    change: Option<(String, String)>,
    caller_retries: Option<u32>,
    served_percent: Option<f64>,
    calls_per_request: Option<f64>,
    wait_p50_seconds: Option<f64>,
    wait_p95_seconds: Option<f64>,
}

/// All that came of it.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) found: Found,
    /// What is configured and not simulated.
    pub(super) left_out: Vec<String>,
    /// How often callers try again by themselves, where settings are changed.
    pub(super) retries: u32,
    pub(super) seeds: u32,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) advice: Advice,
}

impl Report {
    fn rows(&self) -> Vec<Row> {
        let row = |outcome: &Outcome| {
            let (lane, figures) = (&outcome.lane, &outcome.trial.figures);
            let of_whom = if lane.retries == 0 { String::new() } else { format!(", {}", callers(lane.retries)) };
            let (name, change) = match &lane.way {
                Way::Direct => (format!("no proxy{of_whom}"), None),
                Way::InForce => (format!("in force{of_whom}"), None),
                Way::Changed(change) => {
                    let (key, value) = (change.key, &change.value);
                    (format!("  {key} = {value}"), Some((key.to_owned(), value.clone())))
                }
            };
            Row {
                name,
                change,
                caller_retries: Some(lane.retries),
                served_percent: figures.get(Figure::ServedPercent),
                calls_per_request: figures.get(Figure::CallsPerRequest),
                wait_p50_seconds: figures.get(Figure::WaitP50Seconds),
                wait_p95_seconds: figures.get(Figure::WaitP95Seconds),
            }
        };
        self.found.log.iter().map(|log| log.actual.clone()).chain(self.outcomes.iter().map(row)).collect()
    }

    pub(super) fn in_words(&self) -> String {
        let mut text = self.beginning();
        let mut rows = table(["", "served %", "calls/request", "wait p50", "wait p95"]);
        let figure = |value: Option<f64>, decimals: usize, unit: &str| {
            value.map_or("-".to_owned(), |value| format!("{value:.decimals$}{unit}"))
        };
        let advised = match &self.advice {
            Advice::Change(change, _) => Some((change.key.to_owned(), change.value.clone())),
            Advice::Leave => None,
        };
        let mut told_of_changes = false;
        for row in self.rows() {
            if row.change.is_some() && !std::mem::replace(&mut told_of_changes, true) {
                let heading = format!("one changed, {}", callers(self.retries));
                rows.add_row([styled(ASIDE, heading)]);
            }
            let is_advised = row.change.is_some() && row.change == advised;
            let name = match (row.name.starts_with("in force"), is_advised) {
                (true, _) => styled(HEADING, &row.name),
                (false, true) => styled(GOOD, &row.name),
                (false, false) => row.name,
            };
            rows.add_row([
                name,
                figure(row.served_percent, 1, ""),
                figure(row.calls_per_request, 2, ""),
                figure(row.wait_p50_seconds, 2, " s"),
                figure(row.wait_p95_seconds, 2, " s"),
            ]);
        }
        text.push_str(&format!("{}\n\n", rows.trim_fmt()));
        if !self.left_out.is_empty() {
            let left_out = self.left_out.join("; ");
            text.push_str(&format!("{} {left_out}.\n", styled(DOUBTFUL, "Configured, and not simulated:")));
        }
        for retries in BTreeSet::from([0, self.retries]) {
            let Some(points) = lost_to_no_proxy(&self.outcomes, retries) else { continue };
            let lost = format!("where {}, {points:.1} points more are served without a proxy.", callers(retries));
            let conceded = self.found.scenario.concessions.iter();
            let conceded = conceded.filter(|one| one.is_about(Rule::ServedPercent, retries));
            let conceded: String = conceded.map(|one| format!(" Conceded: {}", one.reason)).collect();
            text.push_str(&format!("{} {lost}{}{conceded}\n", styled(DOUBTFUL, "Worse off:"), self.excuse()));
        }
        text.push_str(&self.advice_in_words());
        text
    }

    /// What was simulated, with what.
    fn beginning(&self) -> String {
        let Found { scenario, upstream, log, .. } = &self.found;
        let seeds = self.seeds;
        let Some(log) = log else {
            let name = styled(HEADING, &scenario.name);
            return format!(
                "Scenario {name}, {seeds} runs of each row. In force are the settings of upstream {upstream}.\n\
                 Waits are those of requests that are served.\n\n"
            );
        };
        let OfLog { requests, calls, .. } = log;
        let took = duration(scenario.seconds);
        let mut text = format!(
            "{requests} recorded requests to {upstream} with {calls} calls, within {took}; {seeds} runs of each row.\n\
             In force are its settings as they are configured now; waits are those of requests that are served.\n\
             Taken from the log: when requests came, whose they are, their models and their size at most.\n\
             Estimated: when the provider failed, and how long it takes to answer.\n\
             What would have become of calls that nobody made cannot be known.\n"
        );
        for line in self.doubts(log) {
            text.push_str(&format!("{} {line}\n", styled(DOUBTFUL, "Note:")));
        }
        let several = scenario.recorded.as_ref().is_some_and(|recorded| recorded.models.len() > 1);
        for fault in scenario.faults.iter().take(FAULTS_SHOWN_MAX) {
            text.push_str(&format!("  {}\n", fault_in_words(fault, several)));
        }
        match scenario.faults.len().saturating_sub(FAULTS_SHOWN_MAX) {
            0 => {}
            more => text.push_str(&format!("  and {more} more\n")),
        }
        text.push('\n');
        text
    }

    fn doubts(&self, log: &OfLog) -> Vec<String> {
        let mut doubts = Vec::new();
        if !log.has_arrivals {
            doubts.push(
                "an older Spillway has recorded this, without arrivals: each request begins with its first call, and \
                 those that were refused without a call are missing."
                    .to_owned(),
            );
        }
        if let Some(first) = &log.first_bad_line {
            doubts.push(format!("{} lines could not be read; the first: {first}.", log.bad_lines));
        }
        doubts
    }

    /// Where the estimate is weakest: who is told of an overload sends less, and that is taken to help nobody.
    fn excuse(&self) -> &'static str {
        let says_so = |fault: &Fault| fault.overloaded_rate > 0.0 || fault.throttled_rate > 0.0;
        match self.found.log.is_some() && self.found.scenario.faults.iter().any(says_so) {
            true => " What was told of an overload is taken not to depend on the load; mostly it does.",
            false => "",
        }
    }

    fn advice_in_words(&self) -> String {
        let upstream = &self.found.upstream;
        if self.found.log.is_some() && self.found.scenario.faults.is_empty() {
            return "Nothing failed while this was recorded, so it does not show which settings are better. Record a \
                    time of trouble.\n"
                .to_owned();
        }
        match &self.advice {
            Advice::Leave => format!(
                "{} none of these changes helps by more than chance, or is worth what it costs.\n",
                styled(GOOD, "Leave the settings as they are:")
            ),
            Advice::Change(change, gains) => {
                let (key, was, value) = (change.key, &change.was, &change.value);
                let gains: Vec<String> = gains.iter().map(gain_in_words).collect();
                let setting = styled(COMMAND, format!("upstreams.{upstream}.{key} = {value}"));
                format!("Set {setting} (it is {was}): {}.\n", gains.join(", "))
            }
        }
    }

    /// The same for programs.
    ///
    /// # Errors
    /// None that is known of.
    pub(super) fn json(&self) -> Result<String, String> {
        let Found { scenario, upstream, log, .. } = &self.found;
        let advice = match &self.advice {
            Advice::Leave => None,
            Advice::Change(change, gains) => {
                let gain = |gain: &Gain| {
                    let by = json!({"by": gain.by, "standard_error": gain.chance});
                    (gain.rule.figure().name().to_owned(), by)
                };
                let gains: serde_json::Map<_, _> = gains.iter().map(gain).collect();
                Some(json!({"key": change.key, "was": change.was, "value": change.value, "gains": gains}))
            }
        };
        let fault = |fault: &Fault| {
            json!({
                "from_seconds": fault.from_seconds,
                "to_seconds": fault.to_seconds,
                "model": fault.model,
                "failure_rate": fault.failure_rate,
                "timeout_rate": fault.timeout_rate,
                "overloaded_rate": fault.overloaded_rate,
                "throttled_rate": fault.throttled_rate,
                "limit_per_second": fault.limit_per_second,
                "retry_after_seconds": fault.retry_after_seconds,
            })
        };
        let log = log.as_ref().map(|log| {
            json!({
                "requests": log.requests,
                "calls": log.calls,
                "bad_lines": log.bad_lines,
                "has_arrivals": log.has_arrivals,
                "faults": scenario.faults.iter().map(fault).collect::<Vec<_>>(),
            })
        });
        let report = json!({
            "scenario": scenario.name,
            "upstream": upstream,
            "seeds": self.seeds,
            "caller_retries": self.retries,
            "log": log,
            "not_simulated": self.left_out,
            "rows": self.rows(),
            "lost_to_no_proxy_points": lost_to_no_proxy(&self.outcomes, self.retries),
            "advice": advice,
        });
        serde_json::to_string_pretty(&report).map(|text| text + "\n").map_err(|error| error.to_string())
    }
}
