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
