//! The figures: what they are called, when they are good enough, and how runs add up to them.

use std::time::Duration;

use serde::Deserialize;

use crate::measure::{Judged, Run};
use crate::waits::Waits;

/// One figure of a scenario. Its name there says its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Requests served in the end, of those that arrived after the warm-up.
    ServedPercent,
    /// Calls at the provider for each of those requests.
    CallsPerRequest,
    /// Calls at the provider for each of those requests that was served: what an answer costs.
    CallsPerServed,
    /// How long those that were served waited, from arrival to answer, over all retries; half of them
    /// shorter.
    WaitP50Seconds,
    /// As before; 95 % of them shorter.
    WaitP95Seconds,
    /// The wait of those whose first call succeeded, and whose caller never had to try again, half of
    /// them shorter: what a protection costs where nothing is wrong.
    FirstTokenP50Seconds,
    /// Requests served of those that no fault is about, in a scenario whose faults are not about all.
    UntouchedServedPercent,
    /// Calls that served nobody from the first fault's begin to the last one's end, per run.
    WastedCalls,
    /// Requests served of those that arrived after a fault's end (and before the next begin).
    ServedAfterPercent,
    /// As before, from 1 s or 5 % of the fault's length after its end on, whichever is later.
    ServedSoonPercent,
    /// Calls at the provider for each request of a user, from the first fault's begin to the last
    /// one's end (without faults: after the warm-up).
    Amplification,
    /// Calls in the same time that served nobody, as a share of the requests.
    WastedCallsPercent,
    /// From a fault's end to recovery; half of the recoveries are quicker.
    RecoveryP50Seconds,
    /// As before; 95 % are quicker.
    RecoveryP95Seconds,
    /// What was served after the warm-up, as a share of what was asked for or of what the provider
    /// can bear, whichever is less; in tokens if there is a quota, else in requests.
    GoodputPercent,
    /// The most tokens that were ever demanded of the provider beyond its quota; the worst seed.
    OvershootTokens,
    /// How far a tenant gets ahead of another between two turns of theirs while both wait, in tokens
    /// granted and not given back, by weight, and in units of the largest request; the worst seed.
    FairnessGap,
    /// Openings of a closed circuit by a call that was sent while no fault lasted, all seeds
    /// together: random errors, or load that the proxy itself let through.
    FalseOpens,
    /// Of a chain: from the end of a fault of its first target to the first second in which at least 90 % of the calls
    /// go there; 95 % of these times are shorter.
    ReturnP95Seconds,
    /// Of a chain: the busiest second of its first target after its first fault, against the busiest second in which
    /// requests arrive; the worst seed. Above 100, who returns is a herd.
    PeakPercent,
    /// Of a chain: turns of conversations that are served where the last turn was, of those where that target is well.
    StayedPercent,
    /// Of a chain whose first targets are equals: how far the requests that one of them served before the first fault
    /// are from their mean; the worst seed.
    ImbalancePercent,
}

impl Figure {
    /// All figures in the order of the report.
    pub const ALL: [Self; 22] = [
        Self::ServedPercent,
        Self::CallsPerRequest,
        Self::CallsPerServed,
        Self::WaitP50Seconds,
        Self::WaitP95Seconds,
        Self::FirstTokenP50Seconds,
        Self::UntouchedServedPercent,
        Self::WastedCalls,
        Self::ServedAfterPercent,
        Self::ServedSoonPercent,
        Self::Amplification,
        Self::WastedCallsPercent,
        Self::RecoveryP50Seconds,
        Self::RecoveryP95Seconds,
        Self::GoodputPercent,
        Self::OvershootTokens,
        Self::FairnessGap,
        Self::FalseOpens,
        Self::ReturnP95Seconds,
        Self::PeakPercent,
        Self::StayedPercent,
        Self::ImbalancePercent,
    ];

    /// The name, with its unit, as in a scenario's goals.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ServedPercent => "served_percent",
            Self::CallsPerRequest => "calls_per_request",
            Self::CallsPerServed => "calls_per_served",
            Self::WaitP50Seconds => "wait_p50_seconds",
            Self::WaitP95Seconds => "wait_p95_seconds",
            Self::FirstTokenP50Seconds => "first_token_p50_seconds",
            Self::UntouchedServedPercent => "untouched_served_percent",
            Self::WastedCalls => "wasted_calls",
            Self::ServedAfterPercent => "served_after_percent",
            Self::ServedSoonPercent => "served_soon_percent",
            Self::Amplification => "amplification",
            Self::WastedCallsPercent => "wasted_calls_percent",
            Self::RecoveryP50Seconds => "recovery_p50_seconds",
            Self::RecoveryP95Seconds => "recovery_p95_seconds",
            Self::GoodputPercent => "goodput_percent",
            Self::OvershootTokens => "overshoot_tokens",
            Self::FairnessGap => "fairness_gap",
            Self::FalseOpens => "false_opens",
            Self::ReturnP95Seconds => "return_p95_seconds",
            Self::PeakPercent => "peak_percent",
            Self::StayedPercent => "stayed_percent",
            Self::ImbalancePercent => "imbalance_percent",
        }
    }

    /// Whether more of it is better.
    #[must_use]
    pub const fn more_is_better(self) -> bool {
        matches!(
            self,
            Self::ServedPercent
                | Self::UntouchedServedPercent
                | Self::ServedAfterPercent
                | Self::ServedSoonPercent
                | Self::GoodputPercent
                | Self::StayedPercent
        )
    }

    /// With so many decimals it is told.
    #[must_use]
    pub const fn decimals(self) -> usize {
        match self {
            Self::Amplification | Self::WaitP50Seconds | Self::WaitP95Seconds | Self::FirstTokenP50Seconds => 3,
            Self::CallsPerRequest
            | Self::CallsPerServed
            | Self::WastedCallsPercent
            | Self::RecoveryP50Seconds
            | Self::RecoveryP95Seconds
            | Self::ReturnP95Seconds
            | Self::ServedPercent => 2,
            Self::UntouchedServedPercent
            | Self::ServedAfterPercent
            | Self::ServedSoonPercent
            | Self::GoodputPercent
            | Self::FairnessGap
            | Self::StayedPercent
            | Self::ImbalancePercent => 1,
            Self::PeakPercent | Self::WastedCalls | Self::OvershootTokens | Self::FalseOpens => 0,
        }
    }

    /// Whether a value reaches a goal, as it is told: half a unit of its last decimal is chance.
    #[must_use]
    pub fn meets(self, value: f64, goal: f64) -> bool {
        let half = 0.5 / 10_f64.powi(i32::try_from(self.decimals()).unwrap_or(0));
        if self.more_is_better() { value >= goal - half } else { value <= goal + half }
    }
}

/// The figures of many runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    values: [Option<f64>; Figure::ALL.len()],
}

impl Figures {
    /// Puts runs together.
    #[must_use]
    pub fn of(runs: &[Run]) -> Self {
        let sum = |of: fn(&Run) -> u64| runs.iter().map(of).sum::<u64>() as f64;
        let share = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
        let worst = |of: fn(&Run) -> Option<f64>| runs.iter().filter_map(of).max_by(f64::total_cmp);
        let percentile = |percent: usize, of: fn(&Run) -> &[Option<Duration>]| {
            // What never came sorts last.
            let in_seconds = |time: &Option<Duration>| time.map_or(f64::INFINITY, |time| time.as_secs_f64());
            let mut times: Vec<f64> = runs.iter().flat_map(of).map(in_seconds).collect();
            times.sort_unstable_by(f64::total_cmp);
            let rank = (times.len() * percent).div_ceil(100);
            times.get(rank.saturating_sub(1)).copied()
        };
        let judged = |of: fn(&Run) -> Judged| {
            runs.iter().map(of).fold(Judged::default(), |sum, run| Judged {
                requests: sum.requests + run.requests,
                served: sum.served + run.served,
                calls: sum.calls + run.calls,
            })
        };
        let all = judged(|run| run.judged);
        let served = |of: Judged| share(100.0 * of.served as f64, of.requests as f64);
        let together = |of: fn(&Run) -> &Waits| {
            let mut waits = Waits::default();
            runs.iter().for_each(|run| waits.merge(of(run)));
            waits
        };
        let (waits, first_tokens) = (together(|run| &run.waits), together(|run| &run.first_tokens));
        let value = |figure| match figure {
            Figure::ServedPercent => served(all),
            Figure::CallsPerRequest => share(all.calls as f64, all.requests as f64),
            Figure::CallsPerServed => share(all.calls as f64, all.served as f64),
            Figure::WaitP50Seconds => waits.percentile_seconds(50),
            Figure::WaitP95Seconds => waits.percentile_seconds(95),
            Figure::FirstTokenP50Seconds => first_tokens.percentile_seconds(50),
            Figure::UntouchedServedPercent => served(judged(|run| run.untouched)),
            Figure::WastedCalls => share(sum(|run| run.wasted), runs.len() as f64),
            Figure::ServedAfterPercent => served(judged(|run| run.after)),
            Figure::ServedSoonPercent => served(judged(|run| run.soon)),
            Figure::Amplification => share(sum(|run| run.calls), sum(|run| run.requests)),
            Figure::WastedCallsPercent => share(100.0 * sum(|run| run.wasted), sum(|run| run.requests)),
            Figure::RecoveryP50Seconds => percentile(50, |run| &run.recoveries),
            Figure::RecoveryP95Seconds => percentile(95, |run| &run.recoveries),
            Figure::GoodputPercent => {
                share(100.0 * sum(|run| run.good), runs.iter().map(|run| run.possible).sum::<f64>())
            }
            Figure::OvershootTokens => worst(|run| run.overshoot.map(|tokens| tokens as f64)),
            Figure::FairnessGap => worst(|run| run.fairness_gap),
            Figure::FalseOpens => runs.iter().map(|run| run.false_opens.map(f64::from)).sum(),
            Figure::ReturnP95Seconds => percentile(95, |run| &run.trodden.returns),
            Figure::PeakPercent => worst(|run| run.trodden.peak_percent),
            Figure::StayedPercent => share(100.0 * sum(|run| run.trodden.stayed), sum(|run| run.trodden.turns)),
            Figure::ImbalancePercent => worst(|run| run.trodden.imbalance_percent),
        };
        Self { values: Figure::ALL.map(value) }
    }

    /// One figure; infinite for a recovery that never came, `None` when there was nothing to
    /// measure.
    #[must_use]
    pub fn get(&self, figure: Figure) -> Option<f64> {
        self.values[figure as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank_and_what_never_recovered_comes_last() {
        let run = |seconds: Option<u64>| Run { recoveries: vec![seconds.map(Duration::from_secs)], ..Run::default() };
        let mut runs: Vec<Run> = (1..=100).map(|seconds| run(Some(seconds))).collect();
        assert_eq!(Figures::of(&runs).get(Figure::RecoveryP50Seconds), Some(50.0));
        assert_eq!(Figures::of(&runs).get(Figure::RecoveryP95Seconds), Some(95.0));
        runs.extend((0..10).map(|_| run(None)));
        assert_eq!(Figures::of(&runs).get(Figure::RecoveryP95Seconds), Some(f64::INFINITY));
        assert_eq!(Figures::of(&[]).get(Figure::Amplification), None);
    }

    #[test]
    fn every_figure_has_its_own_place() {
        let places: Vec<usize> = Figure::ALL.iter().map(|figure| *figure as usize).collect();
        assert_eq!(places, (0..Figure::ALL.len()).collect::<Vec<_>>());
    }
}
