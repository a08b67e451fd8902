//! From the configuration to what is simulated: the settings of an upstream, and what of the rest is left out.

use crate::config::{Config, DEFAULT_POLICY, UpstreamConfig};
use spillway_simulate::stack::{Quota, Settings};
use spillway_simulate::tuning::InForce;
use std::time::Duration;

/// The settings of an upstream, as far as they are simulated. No request lives longer than `request_timeout`.
pub(super) fn in_force(upstream: &UpstreamConfig, request_timeout: Duration) -> InForce {
    let quota = upstream.limits.quota();
    InForce {
        stack: Settings {
            kind: upstream.breaker.kind,
            breaker: upstream.breaker_settings(),
            watch_only: upstream.breaker.watch_only,
            circuit_patience: upstream.circuit_patience(),
            retry: upstream.retry.settings(),
            retry_budget: upstream.retry.budget(),
            pacing: upstream.pacing.settings(),
            requests: quota.requests_per_minute.map(Quota::of_a_minute),
            tokens: quota.tokens_per_minute.map(Quota::of_a_minute),
            queue: upstream.limits.queue(),
            concurrency: upstream.concurrency.settings(),
            is_adaptive: upstream.concurrency.adaptive,
        },
        patience: upstream.limits.patience,
        attempt_timeout: upstream.connect_timeout + upstream.first_content_timeout,
        request_timeout,
    }
}

/// What is set in the configuration and would play a part for this upstream, but is not simulated.
pub(super) fn left_out(config: &Config, name: &str, upstream: &UpstreamConfig) -> Vec<String> {
    let mut left_out = Vec::new();
    let mut unless = |is_plain: bool, what: String| {
        if !is_plain {
            left_out.push(what);
        }
    };
    unless(!upstream.hedge.enabled, format!("upstreams.{name}.hedge"));
    let policy = &upstream.policy;
    let judges = config.policies.dir.join(format!("{policy}.wasm")).is_file();
    unless(policy == DEFAULT_POLICY && !judges, format!("the policy \"{policy}\": the built-in one judges"));
    let is_target = |route: &crate::config::RouteConfig| {
        let mut targets = route.targets.0.iter().flatten();
        targets.any(|target| target.upstream == name)
    };
    for (route, _) in config.routes.0.iter().filter(|(_, route)| is_target(route)) {
        unless(false, format!("routes.{route}: this upstream alone is simulated"));
    }
    unless(config.tenants.is_empty(), "tenants: their limits, weights and priorities".to_owned());
    left_out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use spillway_resilience::BreakerKind;
    use std::path::Path;

    fn of(text: &str) -> (Config, InForce) {
        let config = parse(text, Path::new("")).expect("a configuration");
        let in_force = in_force(&config.upstreams["openai"], config.server.request_timeout);
        (config, in_force)
    }

    #[test]
    fn without_a_configuration_the_simulations_own_defaults_are_in_force() {
        let (_, InForce { stack, patience, .. }) = of("");
        // A probe may take as long as any other call, which the simulation does not know of.
        let breaker = Settings::default().breaker;
        assert_eq!(Settings { breaker, ..stack }, Settings::default());
        assert_eq!(stack.breaker.probe_spacing, breaker.probe_spacing);
        assert_eq!(patience, Duration::from_secs(10));
    }

    #[test]
    fn what_an_operator_sets_is_what_is_simulated() {
        let (_, InForce { stack, patience, attempt_timeout, request_timeout }) = of(
            "server.request_timeout = '60s'\n[upstreams.openai]\nfirst_content_timeout = '20s'\nconnect_timeout = '1s'\n\
             breaker = { kind = 'plain', cooldown = '7s', watch_only = true }\n\
             retry = { max_attempts = 2, budget_ratio = 0.5 }\npacing.named_pause_max = '9s'\n\
             limits = { requests_per_minute = 60, tokens_per_minute = 1000, patience = '3s', max_waiting = 5 }\n\
             concurrency = { max_in_flight = 4, min_in_flight = 2, adaptive = false }\n",
        );
        assert_eq!((stack.kind, stack.watch_only, stack.circuit_patience), (BreakerKind::Plain, true, Duration::ZERO));
        assert_eq!(stack.breaker.cooldown, Duration::from_secs(7));
        assert_eq!((stack.retry.max_attempts, stack.retry_budget.ratio), (2, 0.5));
        assert_eq!(stack.pacing.named_pause_max, Duration::from_secs(9));
        assert_eq!((stack.requests, stack.tokens), (Some(Quota::of_a_minute(60)), Some(Quota::of_a_minute(1_000))));
        assert_eq!((stack.queue.max_waiting, stack.concurrency.max_in_flight, stack.is_adaptive), (5, 4, false));
        assert_eq!([patience, attempt_timeout, request_timeout].map(|time| time.as_secs()), [3, 21, 60]);
    }

    #[test]
    fn what_is_set_and_not_simulated_is_named() {
        let (config, _) = of("[upstreams.openai.hedge]\nenabled = true\n[tenants.a]\nweight = 2\n");
        let left_out = left_out(&config, "openai", &config.upstreams["openai"]);
        assert_eq!(left_out, ["upstreams.openai.hedge", "tenants: their limits, weights and priorities"]);
        let (config, _) = of("");
        assert_eq!(super::left_out(&config, "openai", &config.upstreams["openai"]), [""; 0]);
    }
}
