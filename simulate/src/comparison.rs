//! Whether ours is worse than what people could have used instead.

use serde::Deserialize;

use crate::contender::Contender;
use crate::figure::{Figure, Figures};
use crate::measure::Run;
use crate::scenario::{Concession, Scenario};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Served is at least what the best contender serves, in percentage points.
    ServedPercent,
    /// An answer costs no more calls than with that same contender, in per cent.
    CallsPerServed,
    /// What succeeds at its first call, with ours and without a proxy, has its first token as soon with
    /// ours, in seconds.
    FirstTokenP50Seconds,
    /// Of a chain: 95 % of its requests wait no longer than with its best target alone, in seconds.
    WaitP95Seconds,
}

impl Rule {
    /// By how much ours may be worse without a concession: points, per cent, seconds. Beside it, twice
    /// the standard error of the runs' differences is allowed, which is chance.
    pub const ALLOWED: [(Self, f64); 4] = [
        (Self::ServedPercent, 1.0),
        (Self::CallsPerServed, 3.0),
        (Self::FirstTokenP50Seconds, 0.002),
        (Self::WaitP95Seconds, 0.01),
    ];

    /// The figure that it is about.
    #[must_use]
    pub const fn figure(self) -> Figure {
        match self {
            Self::ServedPercent => Figure::ServedPercent,
            Self::CallsPerServed => Figure::CallsPerServed,
            Self::FirstTokenP50Seconds => Figure::FirstTokenP50Seconds,
            Self::WaitP95Seconds => Figure::WaitP95Seconds,
        }
    }
}

/// One contender's runs of a scenario.
#[derive(Debug)]
pub struct Trial {
    /// Who it was.
    pub contender: Contender,
    /// All of its runs together.
    pub figures: Figures,
    /// Per run.
    served_percents: Vec<f64>,
    calls_per_served: Vec<f64>,
    wait_p95_seconds: Vec<f64>,
    /// Per run, for each request: see [`Run::first_micros`].
    first_micros: Vec<Vec<u32>>,
}

impl Trial {
    /// What came of these runs.
    #[must_use]
    pub fn of(contender: Contender, runs: &[Run]) -> Self {
        let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        Self {
            contender,
            figures: Figures::of(runs),
            served_percents: runs.iter().map(|run| 100.0 * share(run.judged.served, run.judged.requests)).collect(),
            calls_per_served: runs.iter().map(|run| share(run.judged.calls, run.judged.served)).collect(),
            wait_p95_seconds: runs.iter().map(|run| run.waits.percentile_seconds(95).unwrap_or(0.0)).collect(),
            first_micros: runs.iter().map(|run| run.first_micros.clone()).collect(),
        }
    }
}

/// By how much ours is worse than another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss<'a> {
    /// In what.
    pub rule: Rule,
    /// Than whom.
    pub than: Contender,
    /// By so much: points, per cent or seconds. Negative where ours is better.
    pub by: f64,
    /// What may be lost, by the rule, by chance or by the concession.
    pub allowed: f64,
    /// What the scenario says about it, if that is needed.
    pub conceded: Option<&'a Concession>,
    /// The scenario has a goal for the same thing, which is what counts.
    pub judged_by_goal: bool,
}

impl Loss<'_> {
    /// Whether ours is worse than it may be.
    #[must_use]
    pub fn is_too_much(&self) -> bool {
        !self.judged_by_goal && self.by > self.allowed
    }
}

/// The contender that serves most.
#[must_use]
pub fn best(others: &[Trial]) -> Option<&Trial> {
    let served = |trial: &Trial| trial.figures.get(Figure::ServedPercent).unwrap_or(0.0);
    others.iter().reduce(|best, other| if served(other) > served(best) { other } else { best })
}

/// Compares ours, run with the same seeds, with the others; callers try again so many times by
/// themselves.
#[must_use]
pub fn losses<'a>(scenario: &'a Scenario, retries: u32, ours: &Trial, others: &[Trial]) -> Vec<Loss<'a>> {
    let Some(best) = best(others) else { return Vec::new() };
    let direct = others.iter().find(|trial| trial.contender == Contender::Direct);
    let mut losses = Vec::new();
    for (rule, allowed) in Rule::ALLOWED {
        if rule == Rule::WaitP95Seconds && scenario.further_targets.is_empty() {
            continue;
        }
        let Some(other) = (if rule == Rule::FirstTokenP50Seconds { direct } else { Some(best) }) else { continue };
        // Whoever serves nobody loses by the share served; what an answer costs cannot be said then.
        let Some((by, chance)) = worse_by(rule, ours, other) else { continue };
        let within = allowed + 2.0 * chance;
        let conceded = scenario.concessions.iter().find(|one| one.is_about(rule, retries)).filter(|_| by > within);
        losses.push(Loss {
            rule,
            than: other.contender,
            by,
            allowed: conceded.map_or(within, |concession| concession.allowed.max(within)),
            conceded,
            judged_by_goal: scenario.judges(rule, retries),
        });
    }
    losses
}

/// By how much one is worse than another by a rule, and how much that is off by chance, in the rule's unit; `None` where
/// one of the two has nothing to measure. Both were run with the same seeds.
#[must_use]
pub fn worse_by(rule: Rule, one: &Trial, other: &Trial) -> Option<(f64, f64)> {
    let (mine, theirs) = (one.figures.get(rule.figure())?, other.figures.get(rule.figure())?);
    Some(match rule {
        Rule::ServedPercent => (theirs - mine, standard_error(&other.served_percents, &one.served_percents)),
        Rule::CallsPerServed => {
            let error = standard_error(&other.calls_per_served, &one.calls_per_served);
            (100.0 * (mine / theirs - 1.0), 100.0 * error / theirs)
        }
        Rule::WaitP95Seconds => (mine - theirs, standard_error(&other.wait_p95_seconds, &one.wait_p95_seconds)),
        Rule::FirstTokenP50Seconds => later_by(&one.first_micros, &other.first_micros),
    })
}

/// By how many seconds the median of those requests is later here than there that are served at once in
/// both, and how much that is off by chance. Runs are compared seed by seed, because the same
/// requests arrive; who waits here because it would have failed there is not meant.
fn later_by(here: &[Vec<u32>], there: &[Vec<u32>]) -> (f64, f64) {
    let (mut medians_here, mut medians_there) = (Vec::new(), Vec::new());
    for (here, there) in here.iter().zip(there) {
        let both = here.iter().zip(there).filter(|(here, there)| **here.max(there) != Run::NOT_AT_ONCE);
        let (here, there): (Vec<u32>, Vec<u32>) = both.unzip();
        if let (Some(here), Some(there)) = (median(here), median(there)) {
            medians_here.push(f64::from(here) / 1e6);
            medians_there.push(f64::from(there) / 1e6);
        }
    }
    let count = medians_here.len().max(1) as f64;
    let by = (medians_here.iter().sum::<f64>() - medians_there.iter().sum::<f64>()) / count;
    (by, standard_error(&medians_here, &medians_there))
}

fn median(mut values: Vec<u32>) -> Option<u32> {
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable(middle).1)
}

/// How much the mean difference of two rows of runs with the same seeds is off by chance.
fn standard_error(one: &[f64], other: &[f64]) -> f64 {
    let differences: Vec<f64> = one.iter().zip(other).map(|(one, other)| one - other).collect();
    let count = differences.len() as f64;
    if count < 2.0 {
        return 0.0;
    }
    let mean = differences.iter().sum::<f64>() / count;
    let variance = differences.iter().map(|difference| (difference - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (variance / count).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Judged;

    fn trial(contender: Contender, served: u64, calls: u64) -> Trial {
        let run = Run { judged: Judged { requests: 1_000, served, calls }, ..Run::default() };
        Trial::of(contender, &[run.clone(), run])
    }

    fn scenario(more: &str) -> Scenario {
        let text = format!("name = 'a'\nseconds = 1\n[[tenants]]\nrequests_per_second = 1\n{more}");
        Scenario::read(&text).unwrap()
    }

    #[test]
    fn ours_is_held_against_whoever_serves_most_in_shares_and_in_what_an_answer_costs() {
        let others = [trial(Contender::Direct, 500, 1_000), trial(Contender::RetryOn, 930, 1_860)];
        let scenario = scenario("");
        let lost = |served, calls| -> Vec<(Contender, f64, bool)> {
            losses(&scenario, 0, &trial(Contender::Spillway, served, calls), &others)
                .iter()
                .map(|loss| (loss.than, (loss.by * 10.0).round() / 10.0, loss.is_too_much()))
                .collect()
        };
        let than = Contender::RetryOn;
        assert_eq!(lost(200, 300), [(than, 73.0, true), (than, -25.0, false)]);
        assert_eq!(lost(921, 1_860), [(than, 0.9, false), (than, 1.0, false)]);
        assert_eq!(lost(950, 2_000), [(than, -2.0, false), (than, 5.3, true)]);
        assert_eq!(lost(0, 0), [(than, 93.0, true)], "an answer that was never given has no price");
    }

    #[test]
    fn a_goal_takes_the_place_of_a_rule_and_a_concession_widens_it() {
        let others = [trial(Contender::Direct, 900, 1_000)];
        let ours = trial(Contender::Spillway, 800, 800);
        let too_much = |more: &str, retries| losses(&scenario(more), retries, &ours, &others)[0].is_too_much();
        assert!(too_much("", 0));
        assert!(!too_much("[goals]\nserved_percent = 75\n", 0));
        let only_one = "[goals_without_retries]\nserved_percent = 75\n";
        assert!(!too_much(only_one, 0) && too_much(only_one, 2));
        let concession = |allowed: f64| {
            format!("[[concessions]]\nname = 'x'\nrule = 'served_percent'\nallowed = {allowed}\nreason = 'because'\n")
        };
        assert!(!too_much(&concession(10.0), 0) && too_much(&concession(9.0), 2));
        assert!(too_much(&format!("{}retries = 2\n", concession(10.0)), 0));
    }

    #[test]
    fn first_tokens_are_compared_among_those_who_are_served_at_once_by_both() {
        let none = Run::NOT_AT_ONCE;
        let (here, there) = (vec![50_000, 60_000, 9_000_000, none, 70_000], vec![40_000, 60_000, none, none, 40_000]);
        let (by, chance) = later_by(&[here.clone(), here], &[there.clone(), there]);
        assert!((by - 0.02).abs() < 1e-9 && chance == 0.0, "{by} {chance}");
        assert_eq!(later_by(&[vec![none]], &[vec![1]]), (0.0, 0.0));
    }

    #[test]
    fn chance_is_what_differs_from_run_to_run() {
        assert_eq!(standard_error(&[5.0, 5.0, 5.0], &[1.0, 1.0, 1.0]), 0.0);
        assert_eq!(standard_error(&[1.0, 3.0], &[0.0, 0.0]), 1.0);
        assert_eq!(standard_error(&[1.0], &[0.0]), 0.0);
    }
}
