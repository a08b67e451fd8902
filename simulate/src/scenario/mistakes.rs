//! Which scenarios can be run, and what is wrong with the others.

use super::{Fault, Provider, Scenario};

impl Scenario {
    /// What is wrong with the values, each mistake with its key.
    pub(super) fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut unless = |holds: bool, mistake: &str| {
            if !holds {
                mistakes.push(mistake.to_owned());
            }
        };
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let name = &self.name;
        unless(!name.is_empty() && name.chars().all(plain), "name: only lowercase letters, digits and hyphens");
        let positive = |seconds: f64| seconds > 0.0 && seconds <= Self::SECONDS_MAX;
        let span = |seconds: f64| (0.0..=Self::SECONDS_MAX).contains(&seconds);
        unless(positive(self.seconds), "seconds: above 0, at most a day (86400)");
        unless((0.0..self.seconds).contains(&self.warm_up_seconds), "warm_up_seconds: at least 0, below seconds");
        unless((1..=Self::TENANTS_MAX).contains(&self.tenants.len()), "tenants: between 1 and 8");
        let rates = self.tenants.iter().map(|tenant| tenant.requests_per_second);
        unless(rates.clone().all(|rate| rate > 0.0), "tenants.requests_per_second: above 0");
        let weights = 1..=spillway_resilience::Tenant::WEIGHT_MAX;
        let weighed = self.tenants.iter().all(|tenant| weights.contains(&tenant.weight));
        unless(weighed, "tenants.weight: between 1 and 1000");
        let requests = self.requests_in_all.map_or(rates.sum::<f64>() * self.seconds, f64::from);
        unless(
            (1.0..=Self::REQUESTS_MAX).contains(&requests),
            "tenants: rate times seconds (or requests_in_all) must lie between 1 and 2000000 requests",
        );
        let client = &self.client;
        let retries = &self.caller_retries;
        let few = retries.iter().all(|retries| *retries <= Self::RETRIES_MAX);
        unless(!retries.is_empty() && few, "caller_retries: at least one number, each at most 9");
        unless((1..=Self::SEEDS_MAX).contains(&self.seeds), "seeds: between 1 and 100000");
        unless(span(client.patience_seconds), "client.patience_seconds: between 0 and a day");
        unless(positive(client.timeout_seconds), "client.timeout_seconds: above 0, at most a day");
        unless(positive(client.deadline_seconds), "client.deadline_seconds: above 0, at most a day");
        self.mistakes_of(&self.provider, &mut unless);
        self.mistakes_of_faults(&self.faults, &mut unless);
        unless(self.further_targets.len() <= Self::FURTHER_TARGETS_MAX, "further_targets: at most 8");
        for target in &self.further_targets {
            self.mistakes_of(&target.provider, &mut unless);
            self.mistakes_of_faults(&target.faults, &mut unless);
        }
        let unplanned = self.requests_in_all.is_none() || self.faults.is_empty();
        unless(unplanned, "requests_in_all: only without faults, whose times need a fixed length");
        let goals = [&self.goals, &self.goals_without_retries, &self.goals_with_retries];
        unless(
            goals.into_iter().flat_map(|goals| goals.values()).all(|goal| goal.is_finite()),
            "goals: finite numbers",
        );
        let told = |text: &str| !text.is_empty() && !text.contains(['"', '\\']) && !text.contains(char::is_control);
        let explained = self.concessions.iter().all(|one| told(&one.name) && told(&one.reason));
        unless(explained, "concessions: a name and a reason on one line each, without quotes");
        let bounded = self.concessions.iter().all(|one| one.allowed.is_finite() && one.allowed > 0.0);
        unless(bounded, "concessions.allowed: above 0");
        mistakes
    }

    /// What is wrong with a provider's values.
    fn mistakes_of(&self, provider: &Provider, unless: &mut impl FnMut(bool, &str)) {
        let span = |seconds: f64| (0.0..=Self::SECONDS_MAX).contains(&seconds);
        let share = |rate: f64| (0.0..=1.0).contains(&rate);
        unless((0.001..=1e6).contains(&provider.calls_per_second), "provider.calls_per_second: between 0.001 and 1e6");
        unless(span(provider.backlog_seconds_max), "provider.backlog_seconds_max: between 0 and a day");
        unless(span(provider.latency_seconds), "provider.latency_seconds: between 0 and a day");
        unless(span(provider.refusal_seconds), "provider.refusal_seconds: between 0 and a day");
        unless(share(provider.failure_rate), "provider.failure_rate: between 0 and 1");
        unless(share(provider.timeout_rate), "provider.timeout_rate: between 0 and 1");
        unless(
            share(provider.failure_rate + provider.timeout_rate),
            "provider.timeout_rate: at most 1 together with failure_rate",
        );
        let bounds = [provider.limit_per_second, provider.worsens_beyond_per_second];
        let rates_are_sound = bounds.into_iter().flatten().all(|rate| (0.001..=1e6).contains(&rate));
        unless(rates_are_sound, "provider.limit_per_second, worsens_beyond_per_second: between 0.001 and 1e6");
        unless((1.0..=1e6).contains(&provider.limit_burst), "provider.limit_burst: between 1 and 1e6");
        unless(span(provider.limit_retry_after_seconds), "provider.limit_retry_after_seconds: between 0 and a day");
        unless(span(provider.bounds_from_seconds), "provider.bounds_from_seconds: between 0 and a day");
        let largest = self.tenants.iter().map(|t| u64::from(t.input_tokens) + u64::from(t.output_tokens_max)).max();
        unless(
            provider.tokens_per_minute.is_none() || largest.unwrap_or(0) <= u64::from(provider.burst_tokens),
            "provider.burst_tokens: at least the largest request, or that one overshoots by design",
        );
        unless(provider.tokens_per_minute != Some(0), "provider.tokens_per_minute: at least 1");
        unless(provider.burst_tokens > 0, "provider.burst_tokens: at least 1");
    }

    /// What is wrong with a provider's faults.
    fn mistakes_of_faults(&self, faults: &[Fault], unless: &mut impl FnMut(bool, &str)) {
        let share = |rate: f64| (0.0..=1.0).contains(&rate);
        let mut number = 0_u32;
        let mut end = 0.0;
        // Recorded faults are each about a model, and lie beside each other.
        let is_recorded = self.recorded.is_some();
        for fault in faults {
            number = number.saturating_add(fault.repeat);
            let longest = fault.to_seconds + fault.to_jitter_seconds - fault.from_seconds;
            unless(
                is_recorded || fault.from_seconds >= end,
                "faults.from_seconds: not before the latest end of the fault before",
            );
            unless(fault.to_seconds > fault.from_seconds, "faults.to_seconds: after from_seconds");
            unless(fault.to_jitter_seconds >= 0.0, "faults.to_jitter_seconds: at least 0");
            unless(share(fault.failure_rate), "faults.failure_rate: between 0 and 1");
            unless(share(fault.timeout_rate), "faults.timeout_rate: between 0 and 1");
            unless(share(fault.overloaded_rate), "faults.overloaded_rate: between 0 and 1");
            unless(share(fault.throttled_rate), "faults.throttled_rate: between 0 and 1");
            let failing = fault.failure_rate + fault.timeout_rate + fault.overloaded_rate + fault.throttled_rate;
            unless(failing <= 1.0 + 1e-9, "faults: at most 1 for all rates together");
            let limit = fault.limit_per_second.unwrap_or(1.0);
            unless((0.001..=1e6).contains(&limit), "faults.limit_per_second: between 0.001 and 1e6");
            let named = fault.retry_after_seconds.unwrap_or(0.0);
            unless((0.0..=Self::SECONDS_MAX).contains(&named), "faults.retry_after_seconds: between 0 and a day");
            let length = fault.to_seconds - fault.from_seconds;
            unless(
                (0.0..=length.max(0.0)).contains(&fault.recovers_over_seconds),
                "faults.recovers_over_seconds: between 0 and the fault's length",
            );
            let is_asked_for = |model: &String| self.tenants.iter().any(|tenant| tenant.model.as_ref() == Some(model));
            let is_known = |model: &String| is_recorded || is_asked_for(model);
            unless(fault.model.as_ref().is_none_or(is_known), "faults.model: one that a tenant asks for");
            unless(fault.tenant.is_none_or(|one| one < self.tenants.len()), "faults.tenant: the number of a tenant");
            let about_one = fault.model.is_some() || fault.tenant.is_some();
            let for_all = fault.speed < 1.0 || fault.quota_exhausted;
            unless(!about_one || !for_all, "faults.model, faults.tenant: not with speed or quota_exhausted");
            unless((Self::SPEED_MIN..=1.0).contains(&fault.speed), "faults.speed: between 0.001 and 1");
            unless(fault.repeat > 0, "faults.repeat: at least 1");
            unless(fault.repeat <= 1 || fault.every_seconds > longest, "faults.every_seconds: longer than the fault");
            let last = fault.from_seconds + f64::from(fault.repeat.saturating_sub(1)) * fault.every_seconds;
            end = last + longest;
            unless(last < self.seconds && end <= Self::SECONDS_MAX, "faults: all must begin before seconds");
        }
        unless(number <= Self::FAULTS_MAX, "faults: at most 100, repetitions included");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_listed_at_once_and_unknown_keys_are_refused() {
        let text = "name = 'Two Words'\nseconds = 10\ncaller_retries = [99]\n[[tenants]]\nrequests_per_second = 0\n\
                    [[faults]]\nfrom_seconds = 11\nto_seconds = 12\nspeed = 0\n";
        let mistakes = Scenario::read(text).unwrap_err();
        let fields: Vec<_> = mistakes.lines().filter_map(|line| line.split(':').next()).collect();
        let expected = ["name", "tenants.requests_per_second", "tenants", "caller_retries", "faults.speed", "faults"];
        assert_eq!(fields, expected);
        assert!(Scenario::read("name = 'a'\nsecond = 1").unwrap_err().contains("second"));
    }
}
