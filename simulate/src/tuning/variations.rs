//! The settings that are worth a try in a scenario, one changed at a time.

use std::time::Duration;

use spillway_resilience::{BreakerKind, BreakerSettings, RetryBudgetSettings, RetrySettings};

use super::InForce;
use crate::scenario::Scenario;
use crate::stack::{Quota, Settings};

/// One setting changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The key below the upstream's table.
    pub key: &'static str,
    /// What it is, as the configuration says it.
    pub was: String,
    /// What it becomes.
    pub value: String,
    /// All settings with it.
    pub to: InForce,
}

/// Waits are tried up to this; nobody sits before a longer one.
const PATIENCE_MAX: Duration = Duration::from_secs(120);

/// Each setting that matters in a scenario, changed to what may help, and to what may do no harm. Values are such as the
/// configuration would take.
#[must_use]
pub fn variations(scenario: &Scenario, in_force: &InForce) -> Vec<Change> {
    let mut tried = Tried { in_force: *in_force, changes: Vec::new() };
    tried.retries();
    tried.breaker();
    tried.patience();
    tried.limits(scenario);
    tried.concurrency();
    tried.changes
}

struct Tried {
    in_force: InForce,
    changes: Vec<Change>,
}

impl Tried {
    /// Adds a change, if it is one and is not there already.
    fn add(&mut self, key: &'static str, was: impl ToString, value: impl ToString, change: impl FnOnce(&mut InForce)) {
        let mut to = self.in_force;
        change(&mut to);
        if to != self.in_force && !self.changes.iter().any(|tried| tried.to == to) {
            self.changes.push(Change { key, was: was.to_string(), value: value.to_string(), to });
        }
    }

    fn retries(&mut self) {
        let was = self.in_force.stack.retry.max_attempts;
        let more = (was + 3).min(RetrySettings::MAX_ATTEMPTS_MAX);
        for attempts in [1, RetrySettings::DEFAULT_MAX_ATTEMPTS, more] {
            self.add("retry.max_attempts", was, attempts, |to| to.stack.retry.max_attempts = attempts);
        }
        let was = self.in_force.stack.retry_budget.ratio;
        for ratio in [1.0, RetryBudgetSettings::DEFAULT_RATIO] {
            self.add("retry.budget_ratio", decimal(was), decimal(ratio), |to| to.stack.retry_budget.ratio = ratio);
        }
    }

    fn breaker(&mut self) {
        let stack = self.in_force.stack;
        let off = !stack.watch_only;
        self.add("breaker.watch_only", stack.watch_only, off, |to| to.stack.watch_only = off);
        let kind = match stack.kind {
            BreakerKind::Adaptive => BreakerKind::Plain,
            BreakerKind::Plain => BreakerKind::Adaptive,
        };
        self.add("breaker.kind", quoted(stack.kind.as_str()), quoted(kind.as_str()), |to| {
            let (lease, wait) = (to.stack.breaker.probe_lease, to.stack.breaker.half_open_max_wait);
            let (breaker, patience) = match kind {
                BreakerKind::Adaptive => (BreakerSettings::adaptive(), Settings::CIRCUIT_PATIENCE),
                BreakerKind::Plain => (BreakerSettings::default(), Duration::ZERO),
            };
            to.stack.kind = kind;
            to.stack.breaker = BreakerSettings { probe_lease: lease, half_open_max_wait: wait, ..breaker };
            to.stack.circuit_patience = patience;
        });
        match (stack.kind, stack.breaker.probe_spacing) {
            (BreakerKind::Adaptive, Some(spacing)) => {
                for factor in [0.25, 4.0] {
                    let interval = spacing.interval.mul_f64(factor).min(spacing.interval_max);
                    self.add("breaker.probe_interval", time(spacing.interval), time(interval), |to| {
                        if let Some(spacing) = &mut to.stack.breaker.probe_spacing {
                            spacing.interval = interval;
                        }
                    });
                }
            }
            _ => {
                for factor in [0.25, 4.0] {
                    let was = stack.breaker.cooldown;
                    let cooldown = was.mul_f64(factor).min(stack.breaker.cooldown_max);
                    let key = "breaker.cooldown";
                    self.add(key, time(was), time(cooldown), |to| to.stack.breaker.cooldown = cooldown);
                }
            }
        }
    }

    fn patience(&mut self) {
        let was = self.in_force.patience;
        let longer = match was.is_zero() {
            true => Duration::from_secs(10),
            false => was * 3,
        };
        let longest = PATIENCE_MAX.min(self.in_force.request_timeout);
        for patience in [Duration::ZERO, longer.min(longest)] {
            self.add("limits.patience", time(was), time(patience), |to| to.patience = patience);
        }
    }

    fn limits(&mut self, scenario: &Scenario) {
        let stack = self.in_force.stack;
        if let Some(Quota { per_minute, .. }) = stack.requests {
            for other in [per_minute.div_ceil(2), per_minute * 2] {
                let quota = Quota::of_a_minute(other);
                self.add("limits.requests_per_minute", per_minute, other, |to| to.stack.requests = Some(quota));
            }
        }
        let faults = scenario.faults.iter().filter_map(|fault| fault.limit_per_second);
        // The least of a provider's limits is the one that is said to it.
        if let Some(limit) = scenario.provider.limit_per_second.into_iter().chain(faults).reduce(f64::min) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
            let per_minute = ((limit * 60.0) as u64).max(1);
            let was = stack.requests.map_or("none".to_owned(), |quota| quota.per_minute.to_string());
            let quota = Quota::of_a_minute(per_minute);
            self.add("limits.requests_per_minute", was, per_minute, |to| to.stack.requests = Some(quota));
        }
        if let Some(Quota { per_minute, .. }) = stack.tokens {
            for other in [per_minute.div_ceil(2), per_minute * 2] {
                let quota = Quota::of_a_minute(other);
                self.add("limits.tokens_per_minute", per_minute, other, |to| to.stack.tokens = Some(quota));
            }
        }
        if let Some(tokens) = scenario.provider.tokens_per_minute {
            let was = stack.tokens.map_or("none".to_owned(), |quota| quota.per_minute.to_string());
            let quota = Quota::of_a_minute(u64::from(tokens));
            self.add("limits.tokens_per_minute", was, tokens, |to| to.stack.tokens = Some(quota));
        }
    }

    fn concurrency(&mut self) {
        let stack = self.in_force.stack;
        let adapts = !stack.is_adaptive;
        self.add("concurrency.adaptive", stack.is_adaptive, adapts, |to| to.stack.is_adaptive = adapts);
        let was = stack.concurrency.max_in_flight;
        // As many as there may be by default are no bound that anybody chose.
        if was < spillway_resilience::AdaptiveLimitSettings::DEFAULT_MAX_IN_FLIGHT {
            for most in [(was / 2).max(stack.concurrency.min_in_flight), was.saturating_mul(4)] {
                self.add("concurrency.max_in_flight", was, most, |to| {
                    to.stack.concurrency.max_in_flight = most;
                    to.stack.concurrency.initial = most;
                });
            }
        }
    }
}

/// A word as TOML has it.
fn quoted(word: &str) -> String {
    format!("\"{word}\"")
}

fn decimal(number: f64) -> String {
    format!("{number:?}")
}

/// A time as the configuration has it.
fn time(time: Duration) -> String {
    match (time.is_zero(), time.subsec_millis()) {
        (true, _) => quoted("0s"),
        (_, 0) => format!("\"{}s\"", time.as_secs()),
        (_, _) => format!("\"{}ms\"", time.as_millis()),
    }
}
