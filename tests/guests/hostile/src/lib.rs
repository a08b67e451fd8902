//! A policy that misbehaves when a response header tells it to: `x-hostile` names the deed.
//!
//! Its setting `configure` makes it do the same when it is loaded.

mod misbehave;

use misbehave::{misbehave, verdict};
use serde::Deserialize;
use spillway_sdk::{Exchange, Hooks, Policy, Settings, Verdict};

/// Harmless until it is told otherwise.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Hostile {
    /// What to do when configured.
    configure: String,
}

impl Policy for Hostile {
    const SUMMARY: &'static str = "Misbehaves on demand";
    const HOOKS: Hooks = Hooks { classify: true, ..Hooks::NONE };

    fn configure(&mut self, settings: Settings<'_>) -> Result<(), String> {
        *self = settings.parse()?;
        misbehave(&self.configure);
        Ok(())
    }

    fn classify(&self, exchange: &Exchange<'_>) -> Option<Verdict> {
        let deed = exchange.header_str("x-hostile")?;
        misbehave(&deed);
        // A random half of the calls.
        if deed == "sometimes" && exchange.random().is_multiple_of(2) {
            misbehave("trap");
        }
        Some(verdict(&deed).unwrap_or_else(|| Verdict::ignored("nothing hostile to do")))
    }
}

spillway_sdk::export!(Hostile);
