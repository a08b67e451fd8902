//! What a policy answers: verdicts on attempts, and decisions about retrying and tripping.

use std::borrow::Cow;
use std::time::Duration;

/// What the end of an attempt says about the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The provider served the request.
    Success,
    /// Says nothing about the upstream's health and is counted nowhere.
    Ignored,
    /// The upstream failed.
    Failure,
    /// The upstream is alive and asks for less load.
    Overloaded,
    /// A rate limit that refills within minutes.
    Throttled,
    /// A quota or a balance that will not refill soon.
    Exhausted,
    /// The caller's request is at fault: it would fail everywhere.
    Rejected,
    /// The credential is refused.
    Unauthorized,
}

impl Class {
    /// Every class, in the contract's order.
    pub const ALL: [Class; 8] = [
        Class::Success,
        Class::Ignored,
        Class::Failure,
        Class::Overloaded,
        Class::Throttled,
        Class::Exhausted,
        Class::Rejected,
        Class::Unauthorized,
    ];

    /// The word used in logs, metrics and explanations.
    ///
    /// ```
    /// assert_eq!(spillway_sdk::Class::Overloaded.as_str(), "overloaded");
    /// ```
    pub const fn as_str(self) -> &'static str {
        match self {
            Class::Success => "success",
            Class::Ignored => "ignored",
            Class::Failure => "failure",
            Class::Overloaded => "overloaded",
            Class::Throttled => "throttled",
            Class::Exhausted => "exhausted",
            Class::Rejected => "rejected",
            Class::Unauthorized => "unauthorized",
        }
    }
}

/// What a verdict speaks of, and so which circuit it is recorded in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The whole upstream: an outage is everybody's.
    Upstream,
    /// One model at the upstream.
    Model,
    /// One credential at the upstream: a spent quota is one key's affair.
    Credential,
}

impl Scope {
    /// The word used in explanations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Upstream => "upstream",
            Scope::Model => "model",
            Scope::Credential => "credential",
        }
    }
}

/// What to do with the request next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Advice {
    /// Retry here after a backoff, if budget and deadline allow.
    Retry,
    /// Not here again for this request; another upstream may serve it.
    NextUpstream,
    /// Nowhere: answer the caller.
    GiveUp,
}

impl Advice {
    /// The word used in explanations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Advice::Retry => "retry",
            Advice::NextUpstream => "next upstream",
            Advice::GiveUp => "give up",
        }
    }
}

/// A policy's judgement of one attempt.
///
/// Made by the constructor named after its [`Class`], which sets the scope and the advice that usually go with
/// it, and adjusted from there:
///
/// ```
/// use spillway_sdk::{Advice, Verdict};
/// use std::time::Duration;
///
/// let verdict = Verdict::throttled("shared quota spent").cool_off(Duration::from_secs(30));
/// assert_eq!(verdict.advice, Advice::Retry);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What the attempt's end means.
    pub class: Class,
    /// What it speaks of.
    pub scope: Scope,
    /// What to do with the request.
    pub advice: Advice,
    /// Opens the scope's circuit at once, and keeps it open for at least this long (a day at most), whatever its
    /// statistics say. Of no effect on a success.
    pub cool_off: Option<Duration>,
    /// A few words shown in explanations and logs.
    pub reason: Cow<'static, str>,
}

impl Verdict {
    const fn new(class: Class, scope: Scope, advice: Advice, reason: Cow<'static, str>) -> Self {
        Verdict { class, scope, advice, cool_off: None, reason }
    }

    /// The provider served the request.
    pub const fn success() -> Self {
        Verdict::new(Class::Success, Scope::Upstream, Advice::GiveUp, Cow::Borrowed(""))
    }

    /// Says nothing about the upstream; the caller gets the answer as it is.
    pub fn ignored(reason: impl Into<Cow<'static, str>>) -> Self {
        Verdict::new(Class::Ignored, Scope::Upstream, Advice::GiveUp, reason.into())
    }

    /// The upstream failed; worth a retry.
    pub fn failure(reason: impl Into<Cow<'static, str>>) -> Self {
        Verdict::new(Class::Failure, Scope::Upstream, Advice::Retry, reason.into())
    }

    /// The upstream asks for less load; worth a retry after a wait.
    pub fn overloaded(reason: impl Into<Cow<'static, str>>) -> Self {
        Verdict::new(Class::Overloaded, Scope::Upstream, Advice::Retry, reason.into())
    }

    /// A rate limit of this credential; worth a retry after the wait the provider asked for.
    pub fn throttled(reason: impl Into<Cow<'static, str>>) -> Self {
        Verdict::new(Class::Throttled, Scope::Credential, Advice::Retry, reason.into())
    }

    /// A spent quota of this credential; another upstream may serve the request.
    pub fn exhausted(reason: impl Into<Cow<'static, str>>) -> Self {
        Verdict::new(Class::Exhausted, Scope::Credential, Advice::NextUpstream, reason.into())
    }

    /// The caller's own fault; nothing to retry.
    pub fn rejected(reason: impl Into<Cow<'static, str>>) -> Self {
        Verdict::new(Class::Rejected, Scope::Upstream, Advice::GiveUp, reason.into())
    }

    /// The credential is refused; another upstream may serve the request.
    pub fn unauthorized(reason: impl Into<Cow<'static, str>>) -> Self {
        Verdict::new(Class::Unauthorized, Scope::Credential, Advice::NextUpstream, reason.into())
    }

    /// Opens the scope's circuit at once, and keeps it open for at least `duration`. `None` leaves it to its
    /// statistics, so that [`Exchange::retry_after`](crate::Exchange::retry_after) can be passed on as it is.
    ///
    /// ```
    /// use spillway_sdk::{Verdict, testing::exchange};
    /// use std::time::Duration;
    ///
    /// let facts = exchange().status(429).header("retry-after", "7");
    /// let verdict = Verdict::throttled("shared quota").cool_off(facts.exchange().retry_after());
    /// assert_eq!(verdict.cool_off, Some(Duration::from_secs(7)));
    /// ```
    #[must_use]
    pub fn cool_off(mut self, duration: impl Into<Option<Duration>>) -> Self {
        self.cool_off = duration.into();
        self
    }

    /// Speaks of `scope` instead.
    ///
    /// ```
    /// use spillway_sdk::{Scope, Verdict};
    ///
    /// let verdict = Verdict::failure("this model's workers are down").scope(Scope::Model);
    /// assert_eq!(verdict.scope, Scope::Model);
    /// ```
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Advises `advice` instead.
    ///
    /// ```
    /// use spillway_sdk::{Advice, Verdict};
    ///
    /// let verdict = Verdict::failure("it was paid for").advice(Advice::GiveUp);
    /// assert_eq!(verdict.advice, Advice::GiveUp);
    /// ```
    #[must_use]
    pub fn advice(mut self, advice: Advice) -> Self {
        self.advice = advice;
        self
    }
}

/// What to do after an attempt whose verdict advised a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// Same upstream, after this wait.
    After(Duration),
    /// Another upstream, if there is one.
    NextUpstream,
    /// Answer the caller.
    GiveUp,
    /// Put aside, if the caller allows it, until this much later.
    SpoolFor(Duration),
}

/// Whether a circuit opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TripDecision {
    /// Stay closed, whatever the configured thresholds say.
    Stay,
    /// Open for the circuit's own growing cooldown.
    Open,
    /// Open for this long.
    OpenFor(Duration),
}
