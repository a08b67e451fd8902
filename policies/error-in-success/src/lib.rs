//! For a provider that answers 200 and puts its errors into the body.
//!
//! Without this policy such an answer is a success: it is not retried, it never opens the circuit, and the
//! application finds the error where it expected a completion. An error within a stream is not its affair: the built-in
//! policy finds that one, and tells a rate limit, an overload and a spent quota apart.

use serde::Deserialize;
use spillway_sdk::{Exchange, Hooks, Policy, Settings, Verdict};

/// Looks for an error where a success was announced.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ErrorInSuccess {
    /// Error codes or types that mean a rate limit rather than a failure. Not those of streams.
    throttle_codes: Vec<String>,
}

impl Policy for ErrorInSuccess {
    const SUMMARY: &'static str = "Takes a 200 whose body is an error for what it is";
    const HOOKS: Hooks = Hooks { classify: true, ..Hooks::NONE };

    fn configure(&mut self, settings: Settings<'_>) -> Result<(), String> {
        *self = settings.parse()?;
        Ok(())
    }

    fn classify(&self, exchange: &Exchange<'_>) -> Option<Verdict> {
        if exchange.streaming() || !exchange.is_success_status() || exchange.fault().is_some() {
            return None;
        }
        let error = exchange.provider_error()?;
        Some(if error.is_any(&self.throttle_codes) {
            Verdict::throttled(format!("200 with rate limit: {}", error.message)).cool_off(exchange.retry_after())
        } else {
            Verdict::failure(format!("200 with error: {}", error.message))
        })
    }
}

spillway_sdk::export!(ErrorInSuccess);

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_sdk::{Class, Scope, builtin, testing::exchange};

    fn class_of(policy: &ErrorInSuccess, status: u16, body: &str) -> Option<Class> {
        let facts = exchange().status(status).body(body);
        policy.classify(&facts.exchange()).map(|verdict| verdict.class)
    }

    #[test]
    fn an_error_under_a_200_is_a_failure() {
        let policy = ErrorInSuccess::default();
        let body = r#"{"error":{"code":"engine_error","message":"worker died"}}"#;
        assert_eq!(class_of(&policy, 200, body), Some(Class::Failure));
    }

    #[test]
    fn a_configured_code_is_a_rate_limit() {
        let mut policy = ErrorInSuccess::default();
        policy.configure(Settings::from_json(r#"{"throttle_codes":["too_fast"]}"#)).expect("valid settings");
        let body = r#"{"error":{"code":"too_fast","message":"slow down"}}"#;
        assert_eq!(class_of(&policy, 200, body), Some(Class::Throttled));
    }

    #[test]
    fn either_is_the_models_alone() {
        let mut policy = ErrorInSuccess::default();
        policy.configure(Settings::from_json(r#"{"throttle_codes":["too_fast"]}"#)).expect("valid settings");
        for code in ["too_fast", "engine_error"] {
            let facts = exchange().status(200).body(format!(r#"{{"error":{{"code":"{code}"}}}}"#));
            let verdict = policy.classify(&facts.exchange());
            assert_eq!(verdict.map(|verdict| verdict.scope), Some(Scope::Model), "{code}");
        }
    }

    #[test]
    fn everything_else_is_left_to_the_built_in_policy() {
        let policy = ErrorInSuccess::default();
        assert_eq!(class_of(&policy, 200, r#"{"choices":[]}"#), None);
        assert_eq!(class_of(&policy, 500, r#"{"error":{"code":"engine_error"}}"#), None);
    }

    #[test]
    fn what_a_stream_says_is_left_to_the_built_in_policy_which_knows_it_better() {
        for (code, class) in [
            ("rate_limit_exceeded", Class::Throttled),
            ("server_is_overloaded", Class::Overloaded),
            ("insufficient_quota", Class::Exhausted),
            ("engine_error", Class::Failure),
        ] {
            let error = format!(r#"{{"error":{{"code":"{code}","message":"no"}}}}"#);
            let facts = exchange().status(200).streaming().body(error);
            assert_eq!(ErrorInSuccess::default().classify(&facts.exchange()), None, "{code}");
            assert_eq!(builtin::classify(&facts.exchange()).class, class, "{code}");
        }
    }

    #[test]
    fn a_misspelt_setting_is_refused_by_name() {
        let refused = ErrorInSuccess::default().configure(Settings::from_json(r#"{"throttle_code":[]}"#));
        assert!(refused.is_err_and(|message| message.contains("throttle_code")));
    }
}
