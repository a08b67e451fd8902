//! For quotas that refill at a time of day: a spent one rests until then, instead of being tried again every few seconds.
//!
//! Meanwhile the circuit of what is spent is open: the credential's for money, and for other quotas that of the model
//! under that credential, unless the provider says otherwise. Requests hear when to come again, and spooled jobs run when
//! the quota is back. A UTC offset knows no summer time: where there is one, set the one that resets later.

use serde::Deserialize;
use spillway_sdk::{Exchange, Hooks, Policy, Settings, Verdict, builtin};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A provider's reset may be late by its own clock or ours. A refusal this soon after it must not cost a whole day.
const LATE: Duration = Duration::from_secs(15 * 60);

/// Rests a quota until it is reset.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BusinessHours {
    /// When the quota is reset, as `HH:MM`.
    reset: String,
    /// The clock that `reset` is read from, as `+HH:MM` or `-HH:MM` from UTC.
    utc_offset: String,
    /// Words that mean such a quota, anywhere in the error's code, type or message; Gemini's type is the quota's id.
    codes: Vec<String>,
    /// `reset` in UTC, since midnight.
    #[serde(skip)]
    reset_utc: Duration,
}

impl Default for BusinessHours {
    fn default() -> Self {
        let codes = ["insufficient_quota", "PerDay", "per day", "daily"].map(str::to_owned).into();
        BusinessHours { reset: "00:00".into(), utc_offset: "+00:00".into(), codes, reset_utc: Duration::ZERO }
    }
}

impl BusinessHours {
    fn until_reset(&self, unix_time: Duration) -> Duration {
        let since_midnight = Duration::from_secs(unix_time.as_secs() % DAY.as_secs());
        let wait = match self.reset_utc.checked_sub(since_midnight) {
            Some(wait) if !wait.is_zero() => wait,
            _ => self.reset_utc + DAY - since_midnight,
        };
        if wait > DAY - LATE { MINUTE } else { wait }
    }
}

impl Policy for BusinessHours {
    const SUMMARY: &'static str = "Rests a spent quota until the time of day at which it is reset";
    const HOOKS: Hooks = Hooks { classify: true, ..Hooks::NONE };

    fn configure(&mut self, settings: Settings<'_>) -> Result<(), String> {
        *self = settings.parse()?;
        let reset = minutes(&self.reset).ok_or("reset: must be a time of day such as \"09:30\"")?;
        let (sign, offset) = self.utc_offset.split_at_checked(1).unwrap_or_default();
        let offset = minutes(offset).filter(|_| matches!(sign, "+" | "-"));
        let offset = offset.ok_or("utc_offset: must be an offset such as \"-08:00\"")?;
        let day = 24 * 60;
        let utc = if sign == "+" { reset + day - offset } else { reset + offset } % day;
        self.reset_utc = MINUTE * utc;
        Ok(())
    }

    fn classify(&self, exchange: &Exchange<'_>) -> Option<Verdict> {
        if exchange.is_success_status() {
            return None;
        }
        let error = exchange.provider_error()?;
        // A request that is too large for what is left of the quota has not spent it.
        if !error.mentions(&self.codes) || builtin::asks_too_much(&error) {
            return None;
        }
        let reason = format!("quota spent until {} UTC{}", self.reset, self.utc_offset);
        let verdict = Verdict::exhausted(reason).scope(builtin::limit_scope(&error));
        Some(verdict.cool_off(self.until_reset(exchange.unix_time())))
    }
}

/// Reads `HH:MM` as minutes.
fn minutes(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let two_digits = |part: &str| match part.as_bytes() {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some(u32::from(tens - b'0') * 10 + u32::from(ones - b'0')),
        _ => None,
    };
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

spillway_sdk::export!(BusinessHours);

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_sdk::{Class, Scope, testing::exchange};

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn with(settings: &str) -> Result<BusinessHours, String> {
        let mut policy = BusinessHours::default();
        policy.configure(Settings::from_json(settings)).map(|()| policy)
    }

    /// The rest that follows a spent quota at `utc` on some day.
    fn rest(settings: &str, utc: &str) -> Duration {
        let now = DAY * 20_000 + MINUTE * minutes(utc).expect("a time");
        let facts =
            exchange().status(429).unix_time(now).body(r#"{"error":{"code":"insufficient_quota","message":"m"}}"#);
        let verdict = with(settings).expect("valid settings").classify(&facts.exchange()).expect("a verdict");
        assert_eq!(verdict.class, Class::Exhausted);
        verdict.cool_off.expect("a rest")
    }

    #[test]
    fn a_spent_quota_rests_until_its_reset() {
        assert_eq!(rest(r#"{"reset":"09:00"}"#, "07:30"), MINUTE * 90);
        assert_eq!(rest(r#"{"reset":"09:00"}"#, "10:00"), HOUR * 23);
        assert_eq!(rest("", "23:59"), MINUTE, "midnight UTC, unless it is set");
    }

    #[test]
    fn the_reset_is_read_from_the_clock_of_its_offset() {
        let pacific = r#"{"utc_offset":"-08:00"}"#;
        assert_eq!(rest(pacific, "06:00"), HOUR * 2);
        assert_eq!(rest(pacific, "20:00"), HOUR * 12);
        assert_eq!(rest(r#"{"reset":"04:00","utc_offset":"+05:30"}"#, "22:00"), MINUTE * 30);
    }

    #[test]
    fn a_reset_that_comes_late_does_not_cost_a_day() {
        assert_eq!(rest(r#"{"reset":"09:00"}"#, "09:00"), MINUTE);
        assert_eq!(rest(r#"{"reset":"09:00"}"#, "09:14"), MINUTE);
    }

    #[test]
    fn what_rests_is_what_is_spent() {
        let scope = |body: &str| {
            let facts = exchange().status(429).body(body);
            BusinessHours::default().classify(&facts.exchange()).map(|verdict| verdict.scope)
        };
        let violated = |quota: &str| {
            scope(&format!(r#"{{"error":{{"message":"m","details":[{{"violations":[{{"quotaId":"{quota}"}}]}}]}}}}"#))
        };
        let said = |message: &str| scope(&format!(r#"{{"error":{{"message":"{message}"}}}}"#));
        assert_eq!(scope(r#"{"error":{"code":"insufficient_quota","message":"m"}}"#), Some(Scope::Credential));
        assert_eq!(violated("GenerateRequestsPerDayPerProject"), Some(Scope::Credential));
        assert_eq!(violated("GenerateRequestsPerDayPerProjectPerModel"), Some(Scope::Model));
        assert_eq!(said("Limit of gpt-5 on requests per day (RPD)"), Some(Scope::Model));
        assert_eq!(said("Can only afford 30 tokens. Create a key with a higher daily limit"), None, "nothing is spent");
    }

    #[test]
    fn other_errors_are_left_to_the_built_in_policy() {
        let policy = with(r#"{"codes":["PerDay"]}"#).expect("valid settings");
        for body in [r#"{"error":{"code":"rate_limit_exceeded","message":"m"}}"#, "busy", r#"{"choices":[]}"#] {
            assert_eq!(policy.classify(&exchange().status(429).body(body).exchange()), None, "{body}");
        }
    }

    #[test]
    fn a_time_that_is_none_is_refused_by_its_key() {
        for settings in [r#"{"reset":"9"}"#, r#"{"reset":"24:00"}"#, r#"{"reset":"+9:00"}"#] {
            assert!(with(settings).is_err_and(|message| message.starts_with("reset:")), "{settings}");
        }
        for settings in [r#"{"utc_offset":"08:00"}"#, r#"{"utc_offset":""}"#, r#"{"utc_offset":"+8"}"#] {
            assert!(with(settings).is_err_and(|message| message.starts_with("utc_offset:")), "{settings}");
        }
    }
}
