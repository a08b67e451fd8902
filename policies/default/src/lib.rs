//! The built-in policy as a module: a starting point to copy, and a way to pin its judgement.
//!
//! As `default.wasm` in the policy folder it replaces the built-in policy for every upstream that names none.

use spillway_sdk::{Exchange, Hooks, Policy, Verdict, builtin};

/// Judges as Spillway itself does.
#[derive(Default)]
struct BuiltIn;

impl Policy for BuiltIn {
    const SUMMARY: &'static str = "The built-in policy: judges by the provider's error code before its status";
    const HOOKS: Hooks = Hooks { classify: true, ..Hooks::NONE };

    fn classify(&self, exchange: &Exchange<'_>) -> Option<Verdict> {
        Some(builtin::classify(exchange))
    }
}

spillway_sdk::export!(BuiltIn);

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_sdk::testing::exchange;

    #[test]
    fn it_judges_as_the_built_in_policy_does() {
        for status in [200, 400, 401, 402, 409, 429, 500, 503, 529] {
            let facts = exchange().status(status).header("retry-after", "3");
            let exchange = facts.exchange();
            assert_eq!(BuiltIn.classify(&exchange), Some(builtin::classify(&exchange)), "{status}");
        }
    }
}
