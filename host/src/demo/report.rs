//! What a demo came to, as `--json` prints it.

use super::comparison::{Concession, RELATIVE_TOLERANCE, SHARE_TOLERANCE_POINTS, WAIT_TOLERANCE_MS, concessions};
use super::figures::Figures;
use super::mode::{Lane, Mode, Scenario};
use super::provider::SEED;
use clap::ValueEnum;
use serde::Serialize;

/// What is told while it happens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Event {
    /// Since the first request, in seconds.
    pub at_s: f64,
    /// Who does or says something.
    pub who: Who,
    /// What.
    pub what: String,
}

/// Who does or says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Who {
    /// The mock providers, which all do the same.
    Provider,
    /// Whoever sends the traffic.
    Application,
    /// The Spillway in between.
    Spillway,
    /// Whoever shows all this.
    Demo,
}

/// Shares before and after a policy took over, among live requests that were due while the provider failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Swap {
    /// The policy.
    pub policy: &'static str,
    /// Where its source is.
    pub source: &'static str,
    /// When it took over, in seconds since the first request.
    pub at_s: f64,
    /// The share served before, by lane.
    pub served_share_before: [f64; 3],
    /// The share served afterwards.
    pub served_share_after: [f64; 3],
}

/// What a demo came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    /// What was shown.
    pub scenario: Scenario,
    /// In [their order](Lane::ALL).
    pub figures: [Figures; 3],
    /// Before and after, where a policy was dropped in.
    pub swap: Option<Swap>,
    /// What was told.
    pub events: Vec<Event>,
}

/// The same for programs.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'a> {
    mode: String,
    lasting_s: f64,
    trouble_from_s: f64,
    trouble_until_s: f64,
    seed: u64,
    lanes: Vec<LaneDocument<'a>>,
    swap: Option<&'a Swap>,
    /// Where another lane is better than Spillway's by more than the tolerances.
    better_elsewhere: Vec<Concession>,
    tolerances: Tolerances,
    events: &'a [Event],
}

#[derive(Debug, Serialize)]
struct LaneDocument<'a> {
    name: &'static str,
    #[serde(flatten)]
    figures: &'a Figures,
}

/// Up to here a difference is called none.
#[derive(Debug, Serialize)]
struct Tolerances {
    share_points: f64,
    wait_ms: f64,
    wait_and_calls_relative: f64,
}

impl Report {
    /// As a document for programs.
    pub(crate) fn document(&self) -> Document<'_> {
        let named = |(lane, figures): (Lane, _)| LaneDocument { name: lane.name(), figures };
        Document {
            mode: name(self.scenario.mode),
            lasting_s: self.scenario.lasting.as_secs_f64(),
            trouble_from_s: self.scenario.trouble_from.as_secs_f64(),
            trouble_until_s: self.scenario.trouble_until.as_secs_f64(),
            seed: SEED,
            lanes: Lane::ALL.into_iter().zip(&self.figures).map(named).collect(),
            swap: self.swap.as_ref(),
            better_elsewhere: concessions(&self.figures),
            tolerances: Tolerances {
                share_points: SHARE_TOLERANCE_POINTS,
                wait_ms: WAIT_TOLERANCE_MS,
                wait_and_calls_relative: RELATIVE_TOLERANCE,
            },
            events: &self.events,
        }
    }
}

/// As it is called on the command line.
pub(crate) fn name(mode: Mode) -> String {
    mode.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
