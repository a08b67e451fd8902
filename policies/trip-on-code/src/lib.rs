//! Leaves alone for 15 minutes what says by a code that it will not serve for a while.
//!
//! A 429 or a 5xx means many things. After a single one that is named here nobody is asked again for 15 minutes: a spent
//! quota is its key's affair, and opens that key's circuit; a drained region is its model's, and opens that one's. Then
//! one call tries whether it serves again. All other answers are left to Spillway: it waits for its turn at a rate
//! limit, repeats what fails now and then, and stops calling what serves nobody any more.

use spillway_sdk::{Exchange, Policy, Verdict};
use std::time::Duration;

#[derive(Default)]
struct TripOnCode;

impl Policy for TripOnCode {
    fn classify(&self, exchange: &Exchange<'_>) -> Option<Verdict> {
        let error = exchange.provider_error()?;
        let verdict = match exchange.status()? {
            429 if error.is_any(&["insufficient_quota"]) => Verdict::exhausted("quota spent"),
            500..=599 if error.is_any(&["region_drained"]) => Verdict::failure("region drained"),
            _ => return None, // Spillway judges all other answers
        };
        Some(verdict.cool_off(Duration::from_mins(15)))
    }
}

spillway_sdk::export!(TripOnCode);

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_sdk::{Scope, testing::exchange};

    /// How far this policy's verdict reaches, and for how many seconds.
    fn rests(status: u16, code: &str) -> Option<(Scope, u64)> {
        let body = format!(r#"{{"error":{{"code":"{code}"}}}}"#);
        let facts = exchange().status(status).body(body);
        let verdict = TripOnCode.classify(&facts.exchange())?;
        Some((verdict.scope, verdict.cool_off?.as_secs()))
    }

    #[test]
    fn a_spent_quota_rests_its_key_and_a_drained_region_its_model() {
        let spent = rests(429, "insufficient_quota");
        assert_eq!(spent, Some((Scope::Credential, 900)));
        assert_eq!(rests(503, "region_drained"), Some((Scope::Model, 900)));
    }

    #[test]
    fn all_other_answers_are_left_to_spillway() {
        assert_eq!(rests(429, "rate_limit_exceeded"), None);
        assert_eq!(rests(503, "server_is_overloaded"), None);
        assert_eq!(rests(400, "insufficient_quota"), None);
        for status in [200, 429, 503] {
            let facts = exchange().status(status);
            assert_eq!(TripOnCode.classify(&facts.exchange()), None);
        }
    }
}
