//! The trait that a policy implements.

use crate::{Exchange, RetryDecision, Settings, TripDecision, Verdict, Window};

/// Which of a policy's hooks the host calls.
///
/// ```
/// use spillway_sdk::Hooks;
///
/// const HOOKS: Hooks = Hooks { trip: true, ..Hooks::NONE };
/// assert!(!HOOKS.classify);
/// ```
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

    /// Takes the policy's settings, once, before any hook is called. By default a policy has none. See
    /// [`Settings::parse`].
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
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    /// use spillway_sdk::{Exchange, Policy, RetryDecision, Verdict};
    /// use std::time::Duration;
    ///
    /// #[derive(Default)]
    /// struct OnceAgain;
    ///
    /// impl Policy for OnceAgain {
    ///     fn backoff(&self, exchange: &Exchange<'_>, _: &Verdict) -> Option<RetryDecision> {
    ///         Some(if exchange.number() == 1 {
    ///             RetryDecision::After(Duration::from_secs(1))
    ///         } else {
    ///             RetryDecision::NextUpstream
    ///         })
    ///     }
    /// }
    ///
    /// let second = exchange().number(2).status(500);
    /// let decision = OnceAgain.backoff(&second.exchange(), &Verdict::failure("status 500"));
    /// assert_eq!(decision, Some(RetryDecision::NextUpstream));
    /// ```
    fn backoff(&self, exchange: &Exchange<'_>, verdict: &Verdict) -> Option<RetryDecision> {
        let _ = (exchange, verdict);
        None
    }

    /// Says whether a circuit opens. `None` leaves it to the upstream's configured thresholds.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    /// use spillway_sdk::{Policy, TripDecision, Window};
    ///
    /// #[derive(Default)]
    /// struct Patient;
    ///
    /// impl Policy for Patient {
    ///     fn trip(&self, window: &Window<'_>) -> Option<TripDecision> {
    ///         (window.requests() < 100).then_some(TripDecision::Stay)
    ///     }
    /// }
    ///
    /// let facts = window().calls(5, 5).thresholds_crossed();
    /// assert_eq!(Patient.trip(&facts.window()), Some(TripDecision::Stay));
    /// ```
    fn trip(&self, window: &Window<'_>) -> Option<TripDecision> {
        let _ = window;
        None
    }
}
