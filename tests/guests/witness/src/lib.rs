//! A policy that says what it sees. Its verdict is the built-in one; the reason is what the getter answers that the
//! response header `x-look` names: `limits`, `clock`, or a JSON Pointer. To `the bright side` everything is a success.

use spillway_sdk::{Exchange, Hooks, Policy, RateLimit, Verdict, builtin};

#[derive(Default)]
struct Witness;

fn limit_in_words(limit: Option<RateLimit>) -> String {
    let Some(RateLimit { limit, remaining, reset }) = limit else { return "none".to_owned() };
    let reset = reset.map_or("unknown".to_owned(), |reset| format!("{} ms", reset.as_millis()));
    format!("{remaining} of {limit}, reset {reset}")
}

impl Policy for Witness {
    const SUMMARY: &'static str = "Says what it sees";
    const HOOKS: Hooks = Hooks { classify: true, ..Hooks::NONE };

    fn classify(&self, exchange: &Exchange<'_>) -> Option<Verdict> {
        let seen = match &*exchange.header_str("x-look")? {
            "limits" => {
                let [requests, tokens] = [exchange.requests_limit(), exchange.tokens_limit()].map(limit_in_words);
                format!("requests: {requests}; tokens: {tokens}")
            }
            // What others take for no answer is one to this policy.
            "the bright side" => return Some(Verdict::success()),
            "clock" => exchange.unix_time().as_millis().to_string(),
            pointer => exchange.json(pointer).unwrap_or_else(|| "nothing".to_owned()),
        };
        Some(Verdict { reason: seen.into(), ..builtin::classify(exchange) })
    }
}

spillway_sdk::export!(Witness);
