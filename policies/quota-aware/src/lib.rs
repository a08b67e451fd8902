//! For keys with quotas: tells a spent quota from a rate limit that refills within the minute, whatever status and code
//! the vendor dresses it in.
//!
//! Vendors contradict each other: a spent balance is a 429 (OpenAI), a 400 (Anthropic), a 402 (OpenRouter) or a 403
//! (Azure's API management), and `insufficient_quota` or `RESOURCE_EXHAUSTED` may be a limit per minute. What decides
//! is, in this order: the settings' words, whether only this request is too large for what is left, the period that is
//! named, words about money, and then the built-in policy. Money is the key's; other quotas are one model's under that
//! key, unless the vendor says otherwise.

use serde::Deserialize;
use spillway_sdk::{Exchange, Hooks, Policy, Scope, Settings, Verdict, builtin};
use std::time::Duration;

/// Never or next day: no waiting caller sees it.
const REFILLS_LATE: &[&str] = &[
    "PerDay",
    "per day",
    "daily",
    "(TPD)",
    "(RPD)",
    "per month",
    "monthly",
    "will be replenished",
    // Gemini to a project that has no right to the model at all.
    "limit: 0",
];
/// While a caller waits.
const REFILLS_SOON: &[&str] = &["PerMinute", "per min", "PerSecond", "per second", "(TPM)", "(RPM)"];
/// Not before somebody pays.
const MONEY: &[&str] = &[
    "insufficient_quota",
    "exceeded_current_quota",
    "credit_balance",
    "credit balance",
    "negative balance",
    "insufficient balance",
    "insufficient credits",
    "spend_limit",
    "usage_limit_exceeded",
    "budget_exceeded",
    "billing_error",
    "billing_hard_limit",
    "spending cap",
    "spending limit",
    "credits are depleted",
];

/// Parks what is spent, and only throttles what is merely fast.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct QuotaAware {
    /// How long a spent quota rests, in seconds; longer if the provider says so.
    rest_s: u64,
    /// Further words that mean that the credential has nothing left, in the error's code, type or message.
    spent_words: Vec<String>,
}

impl Default for QuotaAware {
    fn default() -> Self {
        QuotaAware { rest_s: 600, spent_words: Vec::new() }
    }
}

impl Policy for QuotaAware {
    const SUMMARY: &'static str = "Tells a spent quota from a rate limit, whatever the vendor calls it";
    const HOOKS: Hooks = Hooks { classify: true, ..Hooks::NONE };

    fn configure(&mut self, settings: Settings<'_>) -> Result<(), String> {
        *self = settings.parse()?;
        Ok(())
    }

    fn classify(&self, exchange: &Exchange<'_>) -> Option<Verdict> {
        match exchange.status()? {
            400 | 402 | 403 | 429 => {}
            // A stream's first event can be such an error too.
            200..=299 if exchange.streaming() => {}
            _ => return None,
        }
        let error = exchange.provider_error()?;
        let wait = exchange.retry_after();
        let spent = |scope: Scope, reason: &'static str| {
            let rest = wait.unwrap_or_default().max(Duration::from_secs(self.rest_s));
            Some(Verdict::exhausted(reason).scope(scope).cool_off(rest))
        };
        let money = error.mentions(MONEY);
        let scope = if money { Scope::Credential } else { builtin::limit_scope(&error) };
        if error.mentions(&self.spent_words) {
            spent(Scope::Credential, "quota spent, in the settings' words")
        } else if builtin::asks_too_much(&error) {
            Some(Verdict::rejected("asks for more than is left"))
        } else if error.mentions(REFILLS_LATE) {
            spent(scope, "quota spent for the day or longer")
        } else if error.mentions(REFILLS_SOON) {
            Some(Verdict::throttled("rate limit that refills within a minute").scope(scope).cool_off(wait))
        } else if money {
            spent(scope, "no money left")
        } else {
            None
        }
    }
}

spillway_sdk::export!(QuotaAware);

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_sdk::{Class, testing::exchange};

    fn class_of(status: u16, body: &str) -> Option<Class> {
        let facts = exchange().status(status).body(body);
        QuotaAware::default().classify(&facts.exchange()).map(|verdict| verdict.class)
    }

    #[test]
    fn spent_money_is_told_from_a_rate_limit_in_every_vendors_words() {
        let spent = [
            (
                429,
                r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
            ),
            (
                429,
                r#"{"error":{"message":"Rate limit reached on tokens per day (TPD): Limit 100000","code":"rate_limit_exceeded"}}"#,
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}"#,
            ),
            (402, r#"{"error":{"code":402,"message":"Your account has a negative balance"}}"#),
            (
                403,
                r#"{"error":{"code":"403","message":"Out of call volume quota. Quota will be replenished in 3 days."}}"#,
            ),
            (429, r#"{"error":{"status":"RESOURCE_EXHAUSTED","message":"Quota exceeded, limit: 0"}}"#),
        ];
        for (status, body) in spent {
            assert_eq!(class_of(status, body), Some(Class::Exhausted), "{status} {body}");
        }
        let fast = [
            (429, r#"{"error":{"message":"Rate limit reached on tokens per min (TPM)","code":"rate_limit_exceeded"}}"#),
            (429, r#"{"error":{"message":"Too many requests per minute","code":"insufficient_quota"}}"#),
        ];
        for (status, body) in fast {
            assert_eq!(class_of(status, body), Some(Class::Throttled), "{status} {body}");
        }
    }

    #[test]
    fn money_is_the_keys_and_a_quota_its_models() {
        let scope = |status: u16, message: &str| {
            let body = format!(r#"{{"error":{{"message":"{message}","code":"rate_limit_exceeded"}}}}"#);
            let facts = exchange().status(status).body(body);
            QuotaAware::default().classify(&facts.exchange()).map(|verdict| (verdict.class, verdict.scope))
        };
        let (spent, fast) = (Class::Exhausted, Class::Throttled);
        assert_eq!(scope(400, "Your credit balance is too low"), Some((spent, Scope::Credential)));
        assert_eq!(scope(429, "exceeded its monthly spending cap"), Some((spent, Scope::Credential)));
        assert_eq!(scope(429, "Limit of gpt-5 on tokens per day (TPD)"), Some((spent, Scope::Model)));
        assert_eq!(scope(429, "Limit of gpt-5 on tokens per min (TPM)"), Some((fast, Scope::Model)));
        assert_eq!(scope(429, "organization max requests per min"), Some((fast, Scope::Credential)));
    }

    #[test]
    fn a_request_that_is_too_large_for_the_balance_spends_nothing() {
        let too_large = [
            "This request requires more credits, or fewer max_tokens. You requested up to 65535 tokens, but can only afford 3025. To increase, create a key with a higher daily limit",
            "Prompt tokens limit exceeded: 64128 > 6964. To increase, create a key with a higher monthly limit",
            "Request too large for gpt-5 on tokens per min (TPM): Limit 30000, Requested 45000",
        ];
        for (status, message) in [402, 403, 429].into_iter().zip(too_large) {
            let body = format!(r#"{{"error":{{"code":{status},"message":"{message}"}}}}"#);
            assert_eq!(class_of(status, &body), Some(Class::Rejected), "{message}");
        }
    }

    #[test]
    fn a_daily_quota_counts_among_several_of_geminis() {
        let violated = |ids: &[&str]| {
            let ids: Vec<String> = ids.iter().map(|id| format!(r#"{{"quotaId":"GenerateRequests{id}"}}"#)).collect();
            let body = r#"{"error":{"status":"RESOURCE_EXHAUSTED","message":"m","details":[{"violations":[IDS]},{"retryDelay":"3s"}]}}"#;
            let facts = exchange().status(429).body(body.replace("IDS", &ids.join(",")));
            let verdict = QuotaAware::default().classify(&facts.exchange()).expect("a verdict");
            (verdict.class, verdict.scope, verdict.cool_off)
        };
        let (short, long) = (Some(Duration::from_secs(3)), Some(Duration::from_secs(600)));
        let (key, model) = (Scope::Credential, Scope::Model);
        assert_eq!(violated(&["PerMinutePerProject"]), (Class::Throttled, key, short));
        assert_eq!(violated(&["PerMinutePerProject", "PerDayPerProject"]), (Class::Exhausted, key, long));
        assert_eq!(violated(&["PerMinutePerProjectPerModel"]), (Class::Throttled, model, short));
        assert_eq!(violated(&["PerDayPerProjectPerModel"]), (Class::Exhausted, model, long));
    }

    #[test]
    fn everything_else_is_left_to_the_built_in_policy() {
        assert_eq!(class_of(429, r#"{"error":{"message":"slow down","code":"slow_down"}}"#), None);
        assert_eq!(class_of(400, r#"{"error":{"message":"bad model","type":"invalid_request_error"}}"#), None);
        assert_eq!(class_of(500, r#"{"error":{"message":"billing backend down"}}"#), None);
        assert_eq!(class_of(200, r#"{"choices":[]}"#), None);
    }

    #[test]
    fn words_and_rest_can_be_set() {
        let mut policy = QuotaAware::default();
        let settings = r#"{"rest_s":60,"spent_words":["plan limit"]}"#;
        policy.configure(Settings::from_json(settings)).expect("valid settings");
        let facts = exchange().status(429).body(r#"{"error":{"message":"Plan limit reached"}}"#);
        let verdict = policy.classify(&facts.exchange()).expect("a verdict");
        assert_eq!((verdict.class, verdict.cool_off), (Class::Exhausted, Some(Duration::from_secs(60))));
    }
}
