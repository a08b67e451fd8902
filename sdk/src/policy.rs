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
    ///
    /// ```
    /// use spillway_sdk::{Hooks, Policy};
    ///
    /// #[derive(Default)]
    /// struct Mine;
    ///
    /// impl Policy for Mine {}
    ///
    /// assert_eq!(Mine::HOOKS, Hooks::ALL, "unless it says otherwise");
    /// assert!(Hooks::ALL.classify && Hooks::ALL.backoff && Hooks::ALL.trip);
    /// ```
    pub const ALL: Hooks = Hooks { classify: true, backoff: true, trip: true };
    /// No hook is called.
    ///
    /// ```
    /// use spillway_sdk::Hooks;
    ///
    /// // To begin with, for a policy that names the hooks it wants.
    /// const HOOKS: Hooks = Hooks { backoff: true, ..Hooks::NONE };
    /// assert_eq!((HOOKS.classify, HOOKS.backoff, HOOKS.trip), (false, true, false));
    /// ```
    pub const NONE: Hooks = Hooks { classify: false, backoff: false, trip: false };
}

/// A policy: what counts as a failure, how long to wait, when to trip.
///
/// Every method has a default, and every hook may answer `None`: the built-in policy and the operator's settings
/// then decide. So a policy contains only what is particular to one provider. [`export!`](crate::export) turns it
/// into a module that Spillway loads.
///
/// Policies are pure: time, randomness and everything else they may know come with the call.
///
/// ```
/// use serde::Deserialize;
/// use spillway_sdk::testing::exchange;
/// use spillway_sdk::{Class, Exchange, Hooks, Policy, Settings, Verdict};
///
/// /// A gateway that answers 502 with a code of its own when it has no worker left.
/// #[derive(Default, Deserialize)]
/// #[serde(default, deny_unknown_fields)]
/// struct Gateway {
///     busy_codes: Vec<String>,
/// }
///
/// impl Policy for Gateway {
///     const SUMMARY: &'static str = "Takes the gateway's busy codes for overload";
///     const HOOKS: Hooks = Hooks { classify: true, ..Hooks::NONE };
///
///     fn configure(&mut self, settings: Settings<'_>) -> Result<(), String> {
///         *self = settings.parse()?;
///         Ok(())
///     }
///
///     fn classify(&self, exchange: &Exchange<'_>) -> Option<Verdict> {
///         let error = exchange.provider_error()?;
///         error.is_any(&self.busy_codes).then(|| Verdict::overloaded("no worker left"))
///     }
/// }
///
/// // In its crate: `spillway_sdk::export!(Gateway);`, and a test:
/// let mut policy = Gateway::default();
/// policy.configure(Settings::from_json(r#"{"busy_codes":["no_worker"]}"#))?;
/// let busy = exchange().status(502).body(r#"{"error":{"code":"no_worker"}}"#);
/// assert_eq!(policy.classify(&busy.exchange()).map(|verdict| verdict.class), Some(Class::Overloaded));
/// let down = exchange().status(502);
/// assert_eq!(policy.classify(&down.exchange()), None, "the built-in policy judges");
/// # Ok::<(), String>(())
/// ```
pub trait Policy: Default + 'static {
    /// One line for `spillway` and its dashboard to show. The host cuts it after 200 bytes.
    ///
    /// ```
    /// use spillway_sdk::Policy;
    ///
    /// #[derive(Default)]
    /// struct Patient;
    ///
    /// impl Policy for Patient {
    ///     const SUMMARY: &'static str = "Waits longer than others for a model that is loading";
    /// }
    ///
    /// assert!(Patient::SUMMARY.len() <= 200);
    /// ```
    const SUMMARY: &'static str = "";

    /// The hooks this policy wants to be asked. One that is not named is never called, which saves a call where the
    /// answer would always be `None`.
    ///
    /// ```
    /// use spillway_sdk::{Hooks, Policy, TripDecision, Window};
    ///
    /// #[derive(Default)]
    /// struct NeverTrip;
    ///
    /// impl Policy for NeverTrip {
    ///     const HOOKS: Hooks = Hooks { trip: true, ..Hooks::NONE };
    ///
    ///     fn trip(&self, _: &Window<'_>) -> Option<TripDecision> {
    ///         Some(TripDecision::Stay)
    ///     }
    /// }
    ///
    /// assert!(NeverTrip::HOOKS.trip && !NeverTrip::HOOKS.classify);
    /// ```
    const HOOKS: Hooks = Hooks::ALL;

    /// Takes the policy's settings, once, before any hook is called. By default a policy has none. See
    /// [`Settings::parse`].
    ///
    /// # Errors
    /// What is wrong with the settings. The policy is then not loaded, and the message is shown to the operator, cut
    /// after 200 bytes.
    ///
    /// ```
    /// use serde::Deserialize;
    /// use spillway_sdk::{Policy, Settings};
    ///
    /// #[derive(Default, Deserialize)]
    /// #[serde(default, deny_unknown_fields)]
    /// struct Slow {
    ///     share: f32,
    /// }
    ///
    /// impl Policy for Slow {
    ///     fn configure(&mut self, settings: Settings<'_>) -> Result<(), String> {
    ///         *self = settings.parse()?;
    ///         if self.share <= 1.0 { Ok(()) } else { Err("share: must be at most 1".into()) }
    ///     }
    /// }
    ///
    /// let mut policy = Slow::default();
    /// assert_eq!(policy.configure(Settings::from_json(r#"{"share":0.3}"#)), Ok(()));
    /// let refused = policy.configure(Settings::from_json(r#"{"share":30}"#));
    /// assert_eq!(refused, Err("share: must be at most 1".into()));
    /// ```
    fn configure(&mut self, settings: Settings<'_>) -> Result<(), String> {
        if settings.is_empty() { Ok(()) } else { Err("this policy has no settings".into()) }
    }

    /// Says what the end of an attempt means. `None` leaves it to [`builtin::classify`](crate::builtin::classify).
    ///
    /// Asked after every attempt, also after one whose stream broke when content had reached the caller.
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    /// use spillway_sdk::{Exchange, Policy, Scope, Verdict};
    ///
    /// #[derive(Default)]
    /// struct Region;
    ///
    /// impl Policy for Region {
    ///     fn classify(&self, exchange: &Exchange<'_>) -> Option<Verdict> {
    ///         let drained = || Verdict::overloaded("region drained").scope(Scope::Upstream);
    ///         (exchange.json("/state")? == "drained").then(drained)
    ///     }
    /// }
    ///
    /// let facts = exchange().status(503).body(r#"{"state":"drained"}"#);
    /// let verdict = Region.classify(&facts.exchange());
    /// assert_eq!(verdict.map(|verdict| verdict.scope), Some(Scope::Upstream));
    /// assert_eq!(Region.classify(&exchange().status(503).exchange()), None);
    /// ```
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
