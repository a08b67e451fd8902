//! What the settings in force make of a scenario, beside no proxy and beside other settings, and which one to change.

mod advice;
mod variations;

use std::time::{Duration, Instant};

use crate::chain::Chain;
use crate::clients::Clients;
use crate::comparison::Trial;
use crate::contender::{Contender, Direct};
use crate::measure::Run;
use crate::protection::Protection;
use crate::scenario::{Client, Scenario};
use crate::stack::{Settings, Stack};
use crate::{on_two_threads, world};

pub use advice::{Advice, Gain, advise, lost_to_no_proxy};
pub use variations::{Change, variations};

/// The settings of an upstream: those of its layers, and how long requests may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InForce {
    /// Of the layers.
    pub stack: Settings,
    /// How long a request waits for limits and in lanes.
    pub patience: Duration,
    /// Longest time from sending an attempt to its answer.
    pub attempt_timeout: Duration,
    /// Longest life of a request.
    pub request_timeout: Duration,
}

impl InForce {
    /// How clients behave behind these settings: the proxy ends what they would wait longer for.
    fn client(&self, client: &Client) -> Client {
        Client {
            patience_seconds: self.patience.as_secs_f64(),
            timeout_seconds: client.timeout_seconds.min(self.attempt_timeout.as_secs_f64()),
            deadline_seconds: client.deadline_seconds.min(self.request_timeout.as_secs_f64()),
        }
    }

    fn protection(&self, scenario: &Scenario) -> Box<dyn Protection> {
        match scenario.further_targets.is_empty() {
            true => Box::new(Stack::new(&self.stack)),
            false => Box::new(Chain::with(scenario, |_| self.stack)),
        }
    }
}

/// One way to live through a scenario.
#[derive(Clone, Debug, PartialEq)]
pub enum Way {
    /// Callers call the provider themselves.
    Direct,
    /// With these settings.
    InForce,
    /// With one of them changed.
    Changed(Box<Change>),
}

/// A way with the kind of callers that go it.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    /// Which way.
    pub way: Way,
    /// How often callers try again by themselves.
    pub retries: u32,
}

/// A lane, and what came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The lane.
    pub lane: Lane,
    /// Its runs together.
    pub trial: Trial,
}

/// How many runs are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// So many for each lane.
    Seeds(u32),
    /// As many as can be made in this time, within [`SEEDS_MIN`] and [`SEEDS_MAX`].
    Time(Duration),
}

/// Fewer runs say too little of what is chance, however long they take.
pub const SEEDS_MIN: u32 = 6;
/// More runs add nothing that anybody would act upon.
pub const SEEDS_MAX: u32 = 60;
/// Runs are added by so many at once, for each lane: both threads have work then.
const ROUND: u32 = 2;

/// The lanes that are compared: no proxy, with callers that try again by themselves and with such that do not; the
/// settings in force, likewise; and each setting that can be changed alone, with callers that try again `retries` times.
#[must_use]
pub fn lanes(scenario: &Scenario, in_force: &InForce, retries: u32) -> Vec<Lane> {
    let plain = [Way::Direct, Way::InForce].into_iter();
    let mut lanes: Vec<Lane> =
        plain.flat_map(|way| [0, Clients::SDK_RETRIES].map(|retries| Lane { way: way.clone(), retries })).collect();
    if !lanes.iter().any(|lane| lane.retries == retries) {
        lanes.push(Lane { way: Way::Direct, retries });
        lanes.push(Lane { way: Way::InForce, retries });
    }
    let changed = variations(scenario, in_force);
    lanes.extend(changed.into_iter().map(|change| Lane { way: Way::Changed(Box::new(change)), retries }));
    lanes
}

/// Runs every lane with the same seeds. Answers how many they were, and what came of each.
#[must_use]
pub fn run(scenario: &Scenario, in_force: &InForce, lanes: Vec<Lane>, effort: Effort) -> (u32, Vec<Outcome>) {
    let began = Instant::now();
    let mut runs: Vec<Vec<Run>> = lanes.iter().map(|_| Vec::new()).collect();
    let mut seeds = 0;
    let wanted = match effort {
        Effort::Seeds(seeds) => seeds,
        Effort::Time(_) => SEEDS_MAX,
    };
    while seeds < wanted {
        let to = (seeds + ROUND).min(wanted);
        for (lane, runs) in lanes.iter().zip(&mut runs) {
            runs.extend(on_two_threads(seeds + 1..=to, |seed| once(scenario, in_force, lane, seed)));
        }
        seeds = to;
        if let Effort::Time(time) = effort {
            let next_ends = began.elapsed().mul_f64(1.0 + f64::from(ROUND) / f64::from(seeds));
            if seeds >= SEEDS_MIN && next_ends > time {
                break;
            }
        }
    }
    let outcomes = lanes.into_iter().zip(runs).map(|(lane, runs)| {
        let contender = if lane.way == Way::Direct { Contender::Direct } else { Contender::Spillway };
        Outcome { trial: Trial::of(contender, &runs), lane }
    });
    (seeds, outcomes.collect())
}

/// One run of a lane.
fn once(scenario: &Scenario, in_force: &InForce, lane: &Lane, seed: u32) -> Run {
    let (client, mut protection): (Client, Box<dyn Protection>) = match &lane.way {
        Way::Direct => (scenario.client, Box::new(Direct)),
        Way::InForce => (in_force.client(&scenario.client), in_force.protection(scenario)),
        Way::Changed(change) => (change.to.client(&scenario.client), change.to.protection(scenario)),
    };
    let scenario = Scenario { client, ..scenario.clone() };
    let mut run = world::run_with(&scenario, u64::from(seed), 1, protection.as_mut(), lane.retries);
    // They take the most room by far, and no row shows them.
    run.first_micros = Vec::new();
    run
}
