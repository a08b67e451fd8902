//! What is simulated: a scenario, as TOML and as checked values.

mod family;
mod mistakes;
mod recorded;

pub use recorded::{Arrival, Recorded};

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use spillway_resilience::Outcome;

use crate::clients::Clients;
use crate::comparison::Rule;
use crate::figure::Figure;
use crate::provider::Latencies;

/// The scenarios that come with the program, by the name of their file.
const BUILT_IN: [&str; 29] = [
    include_str!("../scenarios/total-outage.toml"),
    include_str!("../scenarios/brown-out.toml"),
    include_str!("../scenarios/overload-2x.toml"),
    include_str!("../scenarios/overload-10x.toml"),
    include_str!("../scenarios/flapping.toml"),
    include_str!("../scenarios/quota-exhausted.toml"),
    include_str!("../scenarios/thundering-herd.toml"),
    include_str!("../scenarios/flooding-tenant.toml"),
    include_str!("../scenarios/metastable.toml"),
    include_str!("../scenarios/random-errors.toml"),
    include_str!("../scenarios/fails.toml"),
    include_str!("../scenarios/fails-rarely.toml"),
    include_str!("../scenarios/fails-warm.toml"),
    include_str!("../scenarios/times-out.toml"),
    include_str!("../scenarios/times-out-warm.toml"),
    include_str!("../scenarios/hangs.toml"),
    include_str!("../scenarios/one-model.toml"),
    include_str!("../scenarios/one-model-for-long.toml"),
    include_str!("../scenarios/one-tenant.toml"),
    include_str!("../scenarios/limit-30.toml"),
    include_str!("../scenarios/lifted-limit.toml"),
    include_str!("../scenarios/worsens.toml"),
    include_str!("../scenarios/worsens-for-four-models.toml"),
    include_str!("../scenarios/slow.toml"),
    include_str!("../scenarios/outage.toml"),
    include_str!("../scenarios/chain.toml"),
    include_str!("../scenarios/chain-fails.toml"),
    include_str!("../scenarios/chain-fails-last.toml"),
    include_str!("../scenarios/chain-fails-slowly.toml"),
];

/// A world to run: who sends what, what the provider can bear and when it cannot, and which figures
/// are good enough.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Lowercase letters, digits and hyphens.
    pub name: String,
    /// What happens in it: the first sentence of the comment with which its text begins.
    #[serde(skip)]
    pub about: String,
    /// Requests arrive for this long; what is then under way is let finish.
    #[serde(default)]
    pub seconds: f64,
    /// Instead of `seconds`: so many requests on average after the warm-up, however long they take.
    #[serde(default)]
    pub requests_per_run: Option<u32>,
    /// Runs, unless the command line says otherwise, each with a seed of its own.
    #[serde(default = "usual_seeds")]
    pub seeds: u32,
    /// How often callers try again by themselves: the scenario is run once for each kind.
    #[serde(default = "both_kinds")]
    pub caller_retries: Vec<u32>,
    /// Who arrives in this time is left out of most figures.
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
    /// What follows that upstream in a chain, in which it is the first target; without it, there is none.
    #[serde(default)]
    pub further_targets: Vec<FurtherTarget>,
    /// Requests as they were recorded, in place of those that `tenants` would send. Not to be had in TOML.
    #[serde(skip)]
    pub recorded: Option<Recorded>,
    /// What each figure must reach: shares at least, all others at most. Figures without a goal are
    /// only shown.
    #[serde(default)]
    pub goals: Goals,
    /// Goals where callers never try again by themselves; they go before `goals`.
    #[serde(default)]
    pub goals_without_retries: Goals,
    /// Goals where they do.
    #[serde(default)]
    pub goals_with_retries: Goals,
    /// In what ours may be worse than others, and why.
    #[serde(default)]
    pub concessions: Vec<Concession>,
}

/// Goals by figure.
pub type Goals = BTreeMap<Figure, f64>;

/// A named exemption from the rule that nobody is worse off with ours.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concession {
    /// What it is called in reports.
    pub name: String,
    /// In what ours may be worse.
    pub rule: Rule,
    /// Only for callers that try again so many times by themselves.
    #[serde(default)]
    pub retries: Option<u32>,
    /// By how much: points, per cent or seconds.
    pub allowed: f64,
    /// Why that is right.
    pub reason: String,
}

impl Concession {
    /// Whether it is about this rule for callers that try again so many times.
    #[must_use]
    pub fn is_about(&self, rule: Rule, retries: u32) -> bool {
        self.rule == rule && self.retries.is_none_or(|one| one == retries)
    }
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
    /// The model that it asks for; those without a name ask for the same one.
    #[serde(default)]
    pub model: Option<String>,
    /// So many conversations, to any of which each request is the next turn; 0: requests belong to none.
    #[serde(default)]
    pub conversations: u32,
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

/// One more target of a chain.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FurtherTarget {
    /// Whether it is an equal of the one before it, among which requests are balanced; if not, it comes after.
    #[serde(default)]
    pub is_equal: bool,
    /// As [`Scenario::provider`].
    #[serde(default)]
    pub provider: Provider,
    /// As [`Scenario::faults`].
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// How clients behave.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Client {
    /// How long a request may wait in the proxy for tokens or for a circuit.
    pub patience_seconds: f64,
    /// Time-out of one attempt at the provider.
    pub timeout_seconds: f64,
    /// After this time the client hangs up.
    pub deadline_seconds: f64,
}

impl Default for Client {
    fn default() -> Self {
        Self { patience_seconds: 0.0, timeout_seconds: 10.0, deadline_seconds: 30.0 }
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
    /// Share of calls that are never answered on a good day.
    pub timeout_rate: f64,
    /// Limit on calls; each one too many is answered 429.
    pub limit_per_second: Option<f64>,
    /// Calls that may come at once under that limit.
    pub limit_burst: f64,
    /// `Retry-After` of that answer.
    pub limit_retry_after_seconds: f64,
    /// Calls in a second that it bears; of more than that it serves fewer in all the more they are.
    pub worsens_beyond_per_second: Option<f64>,
    /// What it says to those that it does not serve then.
    pub worsens_says: Says,
    /// When the limit and the getting worse begin.
    pub bounds_from_seconds: f64,
    /// Quota; the proxy's limiter is set to the same figure. None: no limiter.
    pub tokens_per_minute: Option<u32>,
    /// Largest burst of that quota, in tokens.
    pub burst_tokens: u32,
    /// Measured times of an answer, in place of `latency_seconds`. Not to be had in TOML.
    #[serde(skip)]
    pub latencies: Option<Latencies>,
}

impl Default for Provider {
    fn default() -> Self {
        Self {
            calls_per_second: 1000.0,
            backlog_seconds_max: 20.0,
            latency_seconds: 0.2,
            refusal_seconds: 0.2,
            failure_rate: 0.0,
            timeout_rate: 0.0,
            limit_per_second: None,
            limit_burst: 10.0,
            limit_retry_after_seconds: 1.0,
            worsens_beyond_per_second: None,
            worsens_says: Says::Overloaded,
            bounds_from_seconds: 0.0,
            tokens_per_minute: None,
            burst_tokens: 100_000,
            latencies: None,
        }
    }
}

/// What an upstream says that has too much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Says {
    /// That it is overloaded: 529, or a 503 that says so.
    Overloaded,
    /// Nothing: a plain 500.
    Failure,
}

impl Says {
    /// What it means to whoever hears it.
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Overloaded => Outcome::Overloaded,
            Self::Failure => Outcome::Failure,
        }
    }
}

/// A time in which the upstream is not itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Begin.
    pub from_seconds: f64,
    /// Earliest end; after `seconds`, it lasts until all is over.
    pub to_seconds: f64,
    /// The end comes up to this much later, at random.
    #[serde(default)]
    pub to_jitter_seconds: f64,
    /// In its last part, of this length, it fades: `failure_rate` and `timeout_rate` fall to 0.
    #[serde(default)]
    pub recovers_over_seconds: f64,
    /// Only calls for this model.
    #[serde(default)]
    pub model: Option<String>,
    /// Only calls of this tenant, counted from 0.
    #[serde(default)]
    pub tenant: Option<usize>,
    /// Share of calls that fail.
    #[serde(default)]
    pub failure_rate: f64,
    /// Share of calls that are never answered.
    #[serde(default)]
    pub timeout_rate: f64,
    /// Share of calls that are answered by an overload, beside those that fail.
    #[serde(default)]
    pub overloaded_rate: f64,
    /// Share of calls that are answered by 429, beside those that fail.
    #[serde(default)]
    pub throttled_rate: f64,
    /// Limit on calls; each one too many is answered 429.
    #[serde(default)]
    pub limit_per_second: Option<f64>,
    /// `Retry-After` of the overloads and 429s above.
    #[serde(default)]
    pub retry_after_seconds: Option<f64>,
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

const fn usual_seeds() -> u32 {
    20
}

fn both_kinds() -> Vec<u32> {
    vec![0, Clients::SDK_RETRIES]
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

impl Scenario {
    /// Most targets behind the first one: as many as a chain's hops can reach, more or less.
    pub const FURTHER_TARGETS_MAX: usize = 8;
    /// Longest run: a day, so that a quota's reset at midnight fits.
    pub const SECONDS_MAX: f64 = 86_400.0;
    /// Most tenants, because every pair of them is watched for fairness.
    pub const TENANTS_MAX: usize = 8;
    /// Most faults, repetitions included, because each answer looks through them.
    pub const FAULTS_MAX: u32 = 100;
    /// Most requests of one run, so that none takes longer than some seconds.
    pub const REQUESTS_MAX: f64 = 2_000_000.0;
    /// Most retries of a client, more than any SDK makes by itself.
    pub const RETRIES_MAX: u32 = 9;
    /// Most runs.
    pub const SEEDS_MAX: u32 = 100_000;
    /// Slowest speed of a fault. An outage is a failure rate of 1, not a speed of 0.
    pub const SPEED_MIN: f64 = 0.001;

    /// The scenarios that come with the program.
    ///
    /// # Errors
    ///
    /// None in a released program: a test reads them all.
    pub fn built_in() -> Result<Vec<Self>, String> {
        let mut scenarios = Vec::new();
        for text in BUILT_IN {
            scenarios.extend(Self::read_all(text)?);
        }
        Ok(scenarios)
    }

    /// The scenario of a TOML text that holds one, or the first of them.
    ///
    /// # Errors
    ///
    /// As [`read_all`](Self::read_all).
    pub fn read(text: &str) -> Result<Self, String> {
        Self::read_all(text)?.into_iter().next().ok_or_else(|| "vary: at least one value".to_owned())
    }

    /// The scenarios of a TOML text: one, or a family by its keys `vary` and `variants`.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, as the parser says it, or else with its values, every mistake
    /// on a line.
    pub fn read_all(text: &str) -> Result<Vec<Self>, String> {
        let mut scenarios = family::read(text)?;
        let about = about(text);
        for scenario in &mut scenarios {
            scenario.about.clone_from(&about);
            if let Some(requests) = scenario.requests_per_run {
                scenario.seconds = scenario.warm_up_seconds + f64::from(requests) / scenario.requests_per_second();
            }
            scenario.validate()?;
        }
        Ok(scenarios)
    }

    /// Says all mistakes of a scenario that was put together by other means than TOML.
    ///
    /// # Errors
    ///
    /// As [`read_all`](Self::read_all).
    pub fn validate(&self) -> Result<(), String> {
        let mistakes = self.mistakes();
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes.join("\n")) }
    }

    /// Arrivals of all tenants together.
    #[must_use]
    pub fn requests_per_second(&self) -> f64 {
        self.tenants.iter().map(|tenant| tenant.requests_per_second).sum()
    }

    /// The rank of each target.
    #[must_use]
    pub fn ranks(&self) -> Vec<u32> {
        let mut rank = 0;
        let further = self.further_targets.iter().map(|target| {
            rank += u32::from(!target.is_equal);
            rank
        });
        std::iter::once(0).chain(further).collect()
    }

    /// The same world with one target of the chain and no other; `None` if there is none of this number.
    #[must_use]
    pub fn alone(&self, target: usize) -> Option<Self> {
        let mut alone = Self { further_targets: Vec::new(), ..self.clone() };
        if let Some(further) = target.checked_sub(1) {
            let FurtherTarget { provider, faults, .. } = self.further_targets.get(further)?.clone();
            (alone.provider, alone.faults) = (provider, faults);
        }
        Some(alone)
    }

    /// The goals where callers try again so many times.
    #[must_use]
    pub fn goals(&self, retries: u32) -> Goals {
        let mut goals = self.goals.clone();
        goals.extend(if retries == 0 { &self.goals_without_retries } else { &self.goals_with_retries });
        goals
    }

    /// Whether a goal says what a rule would say.
    #[must_use]
    pub fn judges(&self, rule: Rule, retries: u32) -> bool {
        let goals = self.goals(retries);
        match rule {
            Rule::ServedPercent => {
                goals.contains_key(&Figure::ServedPercent) || goals.contains_key(&Figure::GoodputPercent)
            }
            Rule::CallsPerServed => {
                goals.contains_key(&Figure::CallsPerServed) || goals.contains_key(&Figure::CallsPerRequest)
            }
            Rule::FirstTokenP50Seconds => goals.contains_key(&Figure::FirstTokenP50Seconds),
            Rule::WaitP95Seconds => goals.contains_key(&Figure::WaitP95Seconds),
        }
    }

    /// The number of a model: models are counted in the order of the tenants that ask for them.
    #[must_use]
    pub fn model_index(&self, model: Option<&str>) -> usize {
        if let Some(recorded) = &self.recorded {
            let place = recorded.models.iter().position(|one| Some(one.as_str()) == model);
            return place.unwrap_or(recorded.models.len());
        }
        let mut models: Vec<Option<&str>> = Vec::new();
        for tenant in &self.tenants {
            if !models.contains(&tenant.model.as_deref()) {
                models.push(tenant.model.as_deref());
            }
        }
        models.iter().position(|one| *one == model).unwrap_or(models.len())
    }

    /// How long requests arrive in a run that is one of `seeds`.
    #[must_use]
    pub fn run_length(&self, seeds: u32) -> Duration {
        let rate = self.requests_per_second();
        let seconds = self.requests_in_all.map_or(self.seconds, |requests| {
            // Arrivals are random: a hundredth more makes sure that all of them come.
            1.01 * f64::from(requests) / f64::from(seeds.max(1)) / rate + self.warm_up_seconds
        });
        Duration::try_from_secs_f64(seconds.min(Self::SECONDS_MAX)).unwrap_or_default()
    }
}

/// The first sentence of the comment with which a text begins.
fn about(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
    let comment = lines.collect::<Vec<_>>().join(" ");
    comment.split_inclusive(". ").next().unwrap_or_default().trim_end().to_owned()
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
        assert_eq!(names.len(), scenarios.len());
    }

    #[test]
    fn goals_for_one_kind_of_callers_go_before_those_for_all() {
        let text = "name = 'a'\nseconds = 1\n[[tenants]]\nrequests_per_second = 1\n[goals]\nserved_percent = 90\n\
                    wasted_calls = 5\n[goals_with_retries]\nserved_percent = 99\n";
        let scenario = Scenario::read(text).unwrap();
        let goals = |retries| scenario.goals(retries).into_iter().collect::<Vec<_>>();
        assert_eq!(goals(0), [(Figure::ServedPercent, 90.0), (Figure::WastedCalls, 5.0)]);
        assert_eq!(goals(2), [(Figure::ServedPercent, 99.0), (Figure::WastedCalls, 5.0)]);
        assert!(Scenario::read(&text.replace("wasted_calls", "wasted_call")).is_err());
    }

    #[test]
    fn models_are_counted_in_the_order_of_the_tenants() {
        let tenant = |model: &str| format!("[[tenants]]\nrequests_per_second = 1\n{model}\n");
        let tenants = [tenant("model = 'b'"), tenant(""), tenant("model = 'b'"), tenant("model = 'a'")].concat();
        let scenario = Scenario::read(&format!("name = 'a'\nseconds = 1\n{tenants}")).unwrap();
        let indices = [Some("b"), None, Some("a")].map(|model| scenario.model_index(model));
        assert_eq!(indices, [0, 1, 2]);
    }

    #[test]
    fn a_number_of_requests_in_all_is_split_over_the_seeds() {
        let text = "name = 'a'\nseconds = 10\nrequests_in_all = 1000000\n[[tenants]]\nrequests_per_second = 100\n";
        let scenario = Scenario::read(text).unwrap();
        assert_eq!(scenario.run_length(1_000), Duration::from_millis(10_100));
    }
}
