//! The trait that a policy implements.

use crate::{Exchange, RetryDecision, TripDecision, Verdict, Window};
use serde::de::DeserializeOwned;

/// Which of a policy's hooks the host calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hooks {
    /// [`Policy::classify`], asked after every attempt.
    pub classify: bool,
    /// [`Policy::backoff`], asked before every retry.
    pub backoff: bool,
    /// [`Policy::trip`], asked after every result that counts while the circuit is closed.
    pub trip: bool,
}

impl Hooks {
    /// Every hook is called.
    pub const ALL: Hooks = Hooks { classify: true, backoff: true, trip: true };
    /// No hook is called.
    pub const NONE: Hooks = Hooks { classify: false, backoff: false, trip: false };
}

/// A policy's own table from the configuration, `[policies.settings.NAME]`.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    json: &'a str,
}

impl<'a> Settings<'a> {
    /// Wraps a table that was turned into JSON; empty means an empty table.
    pub fn from_json(json: &'a str) -> Self {
        Settings { json: if json.trim().is_empty() { "{}" } else { json } }
    }

    /// Reads the table into a type that derives `serde::Deserialize`.
    ///
    /// Put `#[serde(default, deny_unknown_fields)]` on that type: what is absent keeps its default, and a
    /// misspelt key is an error instead of a silent nothing.
    ///
    /// # Errors
    /// What does not fit, naming the key, in words made for the operator.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_str(self.json).map_err(|error| error.to_string())
    }

    fn is_empty(&self) -> bool {
        self.json.chars().all(|c| c.is_whitespace() || c == '{' || c == '}')
    }
}

/// A policy: what counts as a failure, how long to wait, when to trip.
///
/// Every method has a default, and every hook may answer `None`: the built-in policy and the operator's settings
/// then decide. So a policy contains only what is particular to one provider. [`export!`](crate::export) turns it
/// into a module that Spillway loads.
///
/// Policies are pure: time, randomness and everything else they may know come with the call.
pub trait Policy: Default + 'static {
    /// One line for `spillway` and its dashboard to show.
    const SUMMARY: &'static str = "";

    /// The hooks this policy wants to be asked. Naming fewer saves a call where the answer is always `None`.
    const HOOKS: Hooks = Hooks::ALL;

    /// Takes the policy's settings, once, before any hook is called. By default a policy has none.
    ///
    /// # Errors
    /// What is wrong with the settings. The policy is then not loaded, and the message is shown to the operator.
    fn configure(&mut self, settings: Settings<'_>) -> Result<(), String> {
        if settings.is_empty() { Ok(()) } else { Err("this policy has no settings".into()) }
    }

    /// Says what the end of an attempt means. `None` leaves it to [`builtin::classify`](crate::builtin::classify).
    fn classify(&self, exchange: &Exchange<'_>) -> Option<Verdict> {
        let _ = exchange;
        None
    }

    /// Says what to do after an attempt whose verdict advised a retry. `None` leaves it to the upstream's
    /// configured backoff. Retry budget, attempt limit and deadline hold whatever is answered here.
    fn backoff(&self, exchange: &Exchange<'_>, verdict: &Verdict) -> Option<RetryDecision> {
        let _ = (exchange, verdict);
        None
    }

    /// Says whether a circuit opens. `None` leaves it to the upstream's configured thresholds.
    fn trip(&self, window: &Window<'_>) -> Option<TripDecision> {
        let _ = window;
        None
    }
}
