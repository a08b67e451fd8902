//! For a server of your own that is away while it loads a model: its requests wait, and the circuit stays closed.
//!
//! Covers llama.cpp ("Loading model"), Ollama ("server busy", a model being pulled), and vLLM and others, which refuse
//! connections until they are ready. How often a request waits is `max_attempts` of the upstream's `retry` table, and
//! `budget_ratio` there says how many may wait: raise both for a server whose models take long to load.

use serde::Deserialize;
use spillway_sdk::{Advice, Exchange, Fault, Hooks, Policy, RetryDecision, Settings, Verdict};
use std::time::Duration;

/// Words of a server that is ready, and has more requests than it takes.
const BUSY: &[&str] = &["busy", "overloaded", "queue", "maximum pending requests"];

/// Waits for a model that is being loaded.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalModel {
    /// The wait before the next attempt, in milliseconds.
    wait_ms: u64,
    /// Models that are known to come: for them, a 404 means "not yet".
    models: Vec<String>,
    /// Whether a refused connection means that the server is starting. With `false` it is a failure, as elsewhere.
    starts_on_demand: bool,
}

impl Default for LocalModel {
    fn default() -> Self {
        LocalModel { wait_ms: 2_000, models: Vec::new(), starts_on_demand: true }
    }
}

impl LocalModel {
    /// Why the server is not ready, if that is all that is wrong with it.
    fn not_ready(&self, exchange: &Exchange<'_>) -> Option<&'static str> {
        if let Some(fault) = exchange.fault() {
            return (fault == Fault::ConnectRefused && self.starts_on_demand).then_some("the server is starting");
        }
        match exchange.status()? {
            503 => Some("the model is loading"),
            404 if self.expects(&exchange.model()?) => Some("the model is not there yet"),
            _ => None,
        }
    }

    fn expects(&self, model: &str) -> bool {
        self.models.iter().any(|expected| expected == model)
    }
}

impl Policy for LocalModel {
    const SUMMARY: &'static str = "Waits while a local server loads its model, without opening the circuit";
    const HOOKS: Hooks = Hooks { classify: true, backoff: true, ..Hooks::NONE };

    fn configure(&mut self, settings: Settings<'_>) -> Result<(), String> {
        *self = settings.parse()?;
        Ok(())
    }

    fn classify(&self, exchange: &Exchange<'_>) -> Option<Verdict> {
        let reason = self.not_ready(exchange)?;
        if exchange.provider_error().is_some_and(|error| error.mentions(BUSY)) {
            return Some(Verdict::overloaded("the server's queue is full"));
        }
        // Counted nowhere: a server that loads is not one that crashed.
        Some(Verdict::ignored(reason).advice(Advice::Retry))
    }

    fn backoff(&self, exchange: &Exchange<'_>, _: &Verdict) -> Option<RetryDecision> {
        self.not_ready(exchange)?;
        let wait = Duration::from_millis(self.wait_ms);
        Some(RetryDecision::After(exchange.retry_after().unwrap_or(wait)))
    }
}

spillway_sdk::export!(LocalModel);

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_sdk::{Class, Scope, testing::ExchangeBuilder, testing::exchange};

    fn judged(policy: &LocalModel, facts: &ExchangeBuilder) -> Option<(Class, Option<RetryDecision>)> {
        let verdict = policy.classify(&facts.exchange())?;
        assert_eq!((verdict.advice, verdict.cool_off), (Advice::Retry, None), "a cool-off would open the circuit");
        Some((verdict.class, policy.backoff(&facts.exchange(), &verdict)))
    }

    const WAITS: Option<(Class, Option<RetryDecision>)> =
        Some((Class::Ignored, Some(RetryDecision::After(Duration::from_secs(2)))));

    #[test]
    fn a_server_that_loads_its_model_is_waited_for() {
        let llama_cpp = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
        let policy = LocalModel::default();
        assert_eq!(judged(&policy, &exchange().status(503).body(llama_cpp)), WAITS);
        assert_eq!(judged(&policy, &exchange().status(503)), WAITS, "vLLM behind a proxy says no more than that");
        assert_eq!(judged(&policy, &exchange().fault(Fault::ConnectRefused)), WAITS);
    }

    #[test]
    fn a_full_queue_is_an_overload_of_its_model_and_waits_too() {
        let ollama = r#"{"error":"server busy, please try again. maximum pending requests exceeded"}"#;
        let facts = exchange().status(503).body(ollama);
        let judged = judged(&LocalModel::default(), &facts);
        assert_eq!(judged.map(|(class, _)| class), Some(Class::Overloaded));
        let verdict = LocalModel::default().classify(&facts.exchange());
        assert_eq!(verdict.map(|verdict| verdict.scope), Some(Scope::Model));
    }

    #[test]
    fn a_missing_model_is_waited_for_only_if_it_is_known_to_come() {
        let mut policy = LocalModel::default();
        policy.configure(Settings::from_json(r#"{"models":["llama3"]}"#)).expect("valid settings");
        let missing = |model: &str| exchange().model(model).status(404).body(r#"{"error":"model not found"}"#);
        assert_eq!(judged(&policy, &missing("llama3")), WAITS);
        assert_eq!(judged(&policy, &missing("lama3")), None, "a misspelt name is not waited for");
    }

    #[test]
    fn the_servers_own_wait_comes_first() {
        let facts = exchange().status(503).header("retry-after", "7");
        let wait = Some(RetryDecision::After(Duration::from_secs(7)));
        assert_eq!(judged(&LocalModel::default(), &facts), Some((Class::Ignored, wait)));
    }

    #[test]
    fn a_crash_is_still_a_failure() {
        let policy = LocalModel::default();
        assert_eq!(judged(&policy, &exchange().status(500)), None);
        assert_eq!(judged(&policy, &exchange().fault(Fault::Reset)), None);
        let always_on = LocalModel { starts_on_demand: false, ..LocalModel::default() };
        assert_eq!(judged(&always_on, &exchange().fault(Fault::ConnectRefused)), None);
    }
}
