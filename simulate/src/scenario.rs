//! What is simulated: a scenario, as TOML and as checked values.

mod mistakes;

use std::time::Duration;

use serde::Deserialize;

use crate::figure::Figure;

/// The scenarios that come with the program, by the name of their file.
const BUILT_IN: [&str; 11] = [
    include_str!("../scenarios/total-outage.toml"),
    include_str!("../scenarios/half-failure.toml"),
    include_str!("../scenarios/brown-out.toml"),
    include_str!("../scenarios/overload-2x.toml"),
    include_str!("../scenarios/overload-10x.toml"),
    include_str!("../scenarios/flapping.toml"),
    include_str!("../scenarios/quota-exhausted.toml"),
    include_str!("../scenarios/thundering-herd.toml"),
    include_str!("../scenarios/flooding-tenant.toml"),
    include_str!("../scenarios/metastable.toml"),
    include_str!("../scenarios/random-errors.toml"),
];

/// A world to run: who sends what, what the provider can bear and when it cannot, and which figures
/// are good enough.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Lowercase letters, digits and hyphens.
    pub name: String,
    /// Requests arrive for this long; what is then under way is let finish.
    pub seconds: f64,
    /// Figures of a scenario without faults leave out this much at its start.
    #[serde(default)]
    pub warm_up_seconds: f64,
    /// Requests of all seeds together; each seed then runs only as long as its share of them takes,
    /// instead of `seconds` (at most a day). Only for scenarios without faults.
    #[serde(default)]
    pub requests_in_all: Option<u32>,
    /// What counts as recovered.
    #[serde(default)]
    pub recovery: Recovery,
    /// Who sends requests.
    pub tenants: Vec<Tenant>,
    /// How all clients behave.
    #[serde(default)]
    pub client: Client,
    /// The upstream.
    #[serde(default)]
    pub provider: Provider,
    /// When the upstream is not itself.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// What each figure must reach; figures without a goal are only shown.
    #[serde(default)]
    pub goals: Goals,
}

/// What counts as recovered after a fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recovery {
    /// A call sent since the fault's end has succeeded and the circuit is closed.
    #[default]
    Circuit,
    /// From then to the end of the run, over every ten seconds, at least 95 % as many users are
    /// served as arrive.
    Baseline,
}

/// One source of requests, which arrive at random instants (a Poisson process).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Mean arrivals per second.
    pub requests_per_second: f64,
    /// Its share of the quota while others wait too, relative to theirs; 1 to 1000.
    #[serde(default = "usual_weight")]
    pub weight: u32,
    /// Input of each request, in tokens. Known in advance.
    #[serde(default)]
    pub input_tokens: u32,
    /// Bound of the output, in tokens; the actual output is uniform up to it.
    #[serde(default)]
    pub output_tokens_max: u32,
}

/// How clients behave.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Client {
    /// How often a client sends a request by itself, the first time included.
    pub attempts: u32,
    /// How long a request may wait in the proxy for tokens or for a circuit.
    pub patience_seconds: f64,
    /// Time-out of one attempt at the provider.
    pub timeout_seconds: f64,
    /// After this time the client wants no further attempt by the proxy.
    pub deadline_seconds: f64,
}

impl Default for Client {
    fn default() -> Self {
        Self { attempts: 1, patience_seconds: 0.0, timeout_seconds: 10.0, deadline_seconds: 30.0 }
    }
}

/// What the upstream can bear.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Provider {
    /// Calls per second it can work off.
    pub calls_per_second: f64,
    /// Work it lets pile up before it answers 503 at once, in seconds at full speed.
    pub backlog_seconds_max: f64,
    /// Mean time of an answer, beside the time in its queue.
    pub latency_seconds: f64,
    /// Time of an error or a refusal.
    pub refusal_seconds: f64,
    /// Share of calls that fail on a good day.
    pub failure_rate: f64,
    /// Quota; the proxy's limiter is set to the same figure. None: no limiter.
    pub tokens_per_minute: Option<u32>,
    /// Largest burst of that quota, in tokens.
    pub burst_tokens: u32,
}

impl Default for Provider {
    fn default() -> Self {
        Self {
            calls_per_second: 1000.0,
            backlog_seconds_max: 20.0,
            latency_seconds: 0.2,
            refusal_seconds: 0.2,
            failure_rate: 0.0,
            tokens_per_minute: None,
            burst_tokens: 100_000,
        }
    }
}

/// A time in which the upstream is not itself.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Begin.
    pub from_seconds: f64,
    /// Earliest end.
    pub to_seconds: f64,
    /// The end comes up to this much later, at random.
    #[serde(default)]
    pub to_jitter_seconds: f64,
    /// Share of calls that fail.
    #[serde(default)]
    pub failure_rate: f64,
    /// Speed, where 1 is the usual; above 0.
    #[serde(default = "full_speed")]
    pub speed: f64,
    /// Every call is answered 429, with the time to the fault's end as `Retry-After`.
    #[serde(default)]
    pub quota_exhausted: bool,
    /// How often the fault comes.
    #[serde(default = "once")]
    pub repeat: u32,
    /// From one begin to the next.
    #[serde(default)]
    pub every_seconds: f64,
}

const fn usual_weight() -> u32 {
    1
}

const fn full_speed() -> f64 {
    1.0
}

const fn once() -> u32 {
    1
}

/// What each figure must reach: goodput at least, all others at most.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the goal of the figure of the same name, in the same unit")]
pub struct Goals {
    pub amplification: Option<f64>,
    pub wasted_calls_percent: Option<f64>,
    pub recovery_p50_seconds: Option<f64>,
    pub recovery_p95_seconds: Option<f64>,
    pub goodput_percent: Option<f64>,
    pub overshoot_tokens: Option<f64>,
    pub fairness_gap: Option<f64>,
    pub false_opens: Option<f64>,
}

impl Goals {
    /// The goal of one figure.
    #[must_use]
    pub const fn of(&self, figure: Figure) -> Option<f64> {
        match figure {
            Figure::Amplification => self.amplification,
            Figure::WastedCallsPercent => self.wasted_calls_percent,
            Figure::RecoveryP50Seconds => self.recovery_p50_seconds,
            Figure::RecoveryP95Seconds => self.recovery_p95_seconds,
            Figure::GoodputPercent => self.goodput_percent,
            Figure::OvershootTokens => self.overshoot_tokens,
            Figure::FairnessGap => self.fairness_gap,
            Figure::FalseOpens => self.false_opens,
        }
    }
}

impl Scenario {
    /// Longest run: a day, so that a quota's reset at midnight fits.
    pub const SECONDS_MAX: f64 = 86_400.0;
    /// Most tenants, because every pair of them is watched for fairness.
    pub const TENANTS_MAX: usize = 8;
    /// Most faults, repetitions included, because each answer looks through them.
    pub const FAULTS_MAX: u32 = 100;
    /// Most requests of one run, so that none takes longer than some seconds.
    pub const REQUESTS_MAX: f64 = 2_000_000.0;
    /// Most attempts of a client, as many as any SDK makes.
    pub const ATTEMPTS_MAX: u32 = 10;
    /// Slowest speed of a fault. An outage is a failure rate of 1, not a speed of 0.
    pub const SPEED_MIN: f64 = 0.001;

    /// The scenarios that come with the program.
    ///
    /// # Errors
    ///
    /// None in a released program: a test reads them all.
    pub fn built_in() -> Result<Vec<Self>, String> {
        BUILT_IN.iter().map(|text| Self::read(text)).collect()
    }

    /// A scenario from TOML.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, as the parser says it, or else with its values, every mistake
    /// on a line.
    pub fn read(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let mistakes = scenario.mistakes();
        if mistakes.is_empty() { Ok(scenario) } else { Err(mistakes.join("\n")) }
    }

    /// How long requests arrive in a run that is one of `seeds`.
    #[must_use]
    pub fn run_length(&self, seeds: u32) -> Duration {
        let rate: f64 = self.tenants.iter().map(|tenant| tenant.requests_per_second).sum();
        let seconds = self.requests_in_all.map_or(self.seconds, |requests| {
            // Arrivals are random: a hundredth more makes sure that all of them come.
            1.01 * f64::from(requests) / f64::from(seeds.max(1)) / rate + self.warm_up_seconds
        });
        Duration::try_from_secs_f64(seconds.min(Self::SECONDS_MAX)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_is_sound_and_has_a_name_of_its_own() {
        let scenarios = Scenario::built_in().unwrap();
        let mut names: Vec<_> = scenarios.iter().map(|scenario| scenario.name.clone()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), BUILT_IN.len());
    }

    #[test]
    fn a_number_of_requests_in_all_is_split_over_the_seeds() {
        let text = "name = 'a'\nseconds = 10\nrequests_in_all = 1000000\n[[tenants]]\nrequests_per_second = 100\n";
        let scenario = Scenario::read(text).unwrap();
        assert_eq!(scenario.run_length(1_000), Duration::from_millis(10_100));
    }
}
