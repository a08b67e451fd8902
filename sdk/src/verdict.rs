//! What a policy answers: verdicts on attempts, and decisions about retrying and tripping.

use std::borrow::Cow;
use std::time::Duration;

/// What the end of an attempt says about the provider.
///
/// ```
/// use spillway_sdk::{Class, builtin, testing::exchange};
///
/// let verdict = builtin::classify(&exchange().status(529).exchange());
/// let will_pass = match verdict.class {
///     Class::Failure | Class::Overloaded | Class::Throttled => true,
///     Class::Success | Class::Ignored | Class::Exhausted | Class::Rejected | Class::Unauthorized => false,
/// };
/// assert!(will_pass);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The provider served the request.
    Success,
    /// Says nothing about the upstream's health, and is counted nowhere.
    Ignored,
    /// The upstream failed.
    Failure,
    /// The upstream is alive and asks for less load.
    Overloaded,
    /// A rate limit that refills within minutes.
    Throttled,
    /// A quota or a balance that will not refill soon.
    Exhausted,
    /// The caller's request is at fault: it would fail everywhere, or it asks for more than its credential affords.
    Rejected,
    /// The credential is refused.
    Unauthorized,
}

impl Class {
    /// Every class, in the contract's order.
    ///
    /// ```
    /// use spillway_sdk::Class;
    ///
    /// // Settings name a class by its word.
    /// let class = Class::ALL.into_iter().find(|class| class.as_str() == "throttled");
    /// assert_eq!(class, Some(Class::Throttled));
    /// ```
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

/// How far a verdict reaches, and so which circuit it is recorded in. It should reach no further than what the provider
/// said: a circuit that opens takes away all that its scope might still have answered.
///
/// Limits and balances belong to keys, failures to machines. So the same scope means different things:
///
/// | | [`Throttled`](Class::Throttled), [`Exhausted`](Class::Exhausted) | Every other class |
/// |---|---|---|
/// | [`Scope::Model`] | this model under this credential | this model, whatever the credential |
/// | [`Scope::Credential`] | all models under this credential | all models under this credential |
/// | [`Scope::Upstream`] | everything | everything |
///
/// ```
/// use spillway_sdk::{Scope, Verdict};
///
/// assert_eq!(Verdict::failure("status 500").scope, Scope::Model);
/// assert_eq!(Verdict::throttled("tokens per minute").scope, Scope::Model);
/// assert_eq!(Verdict::exhausted("no credit").scope, Scope::Credential);
/// assert_eq!(Verdict::failure("the region is down").scope(Scope::Upstream).scope, Scope::Upstream);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The whole upstream, for everybody: nobody answers there.
    Upstream,
    /// The model that was asked for, at this upstream; of a limit, only for this request's credential. A request that
    /// names no model speaks of all of them.
    Model,
    /// The credential of this request, at this upstream: a spent balance is one key's affair, whatever the model.
    Credential,
}

impl Scope {
    /// The word used in explanations.
    ///
    /// ```
    /// assert_eq!(spillway_sdk::Scope::Credential.as_str(), "credential");
    /// ```
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Upstream => "upstream",
            Scope::Model => "model",
            Scope::Credential => "credential",
        }
    }
}

/// What to do with the request next.
///
/// ```
/// use spillway_sdk::{Advice, Verdict};
///
/// assert_eq!(Verdict::failure("status 500").advice, Advice::Retry);
/// assert_eq!(Verdict::failure("here for good").advice(Advice::NextUpstream).advice, Advice::NextUpstream);
/// assert_eq!(Verdict::rejected("no such model").advice, Advice::GiveUp);
/// ```
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
    ///
    /// ```
    /// assert_eq!(spillway_sdk::Advice::NextUpstream.as_str(), "next upstream");
    /// ```
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
    /// How far it reaches.
    pub scope: Scope,
    /// What to do with the request. Of no effect on a success.
    pub advice: Advice,
    /// Opens the scope's circuit at once, and keeps it open for at least this long (a day at most), whatever its
    /// statistics say. Of no effect on a success.
    pub cool_off: Option<Duration>,
    /// Why, in a few words for explanations and logs. The host cuts it after 200 bytes.
    pub reason: Cow<'static, str>,
}

impl Verdict {
    const fn new(class: Class, scope: Scope, advice: Advice, reason: Cow<'static, str>) -> Self {
        Verdict { class, scope, advice, cool_off: None, reason }
    }

    /// The provider served the request.
    ///
    /// ```
    /// use spillway_sdk::{Class, Fault, Verdict, testing::exchange};
    ///
    /// // This server ends each of its streams without a terminal event.
    /// let facts = exchange().status(200).streaming().fault(Fault::Truncated);
    /// let verdict = (facts.exchange().fault() == Some(Fault::Truncated)).then(Verdict::success);
    /// assert_eq!(verdict.map(|verdict| verdict.class), Some(Class::Success));
    /// ```
    pub const fn success() -> Self {
        Verdict::new(Class::Success, Scope::Upstream, Advice::GiveUp, Cow::Borrowed(""))
    }

    /// Says nothing about the upstream; the caller gets the answer as it is.
    ///
    /// ```
    /// use spillway_sdk::{Advice, Class, Verdict};
    ///
    /// let verdict = Verdict::ignored("announced maintenance");
    /// assert_eq!((verdict.class, verdict.advice), (Class::Ignored, Advice::GiveUp));
    /// ```
    pub fn ignored(reason: impl Into<Cow<'static, str>>) -> Self {
        Verdict::new(Class::Ignored, Scope::Upstream, Advice::GiveUp, reason.into())
    }

    /// The upstream failed to serve this model, whatever the credential; worth a retry. If others cannot be served
    /// either, their own failures say so; what is known to be everybody's, such as a connection that is refused, is said
    /// with [`Scope::Upstream`].
    ///
    /// ```
    /// use spillway_sdk::{Advice, Scope, Verdict};
    ///
    /// let verdict = Verdict::failure("the worker died");
    /// assert_eq!((verdict.scope, verdict.advice), (Scope::Model, Advice::Retry));
    /// ```
    pub fn failure(reason: impl Into<Cow<'static, str>>) -> Self {
        Verdict::new(Class::Failure, Scope::Model, Advice::Retry, reason.into())
    }

    /// The upstream asks for less load of this model, whatever the credential; worth a retry after a wait.
    ///
    /// ```
    /// use spillway_sdk::{Advice, Scope, Verdict};
    ///
    /// let verdict = Verdict::overloaded("too many requests in the queue");
    /// assert_eq!((verdict.scope, verdict.advice), (Scope::Model, Advice::Retry));
    /// ```
    pub fn overloaded(reason: impl Into<Cow<'static, str>>) -> Self {
        Verdict::new(Class::Overloaded, Scope::Model, Advice::Retry, reason.into())
    }

    /// A rate limit of this model under this credential; worth a retry after the wait the provider asked for. One that
    /// all models share is said with [`Scope::Credential`]; [`builtin::limit_scope`](crate::builtin::limit_scope) tells
    /// them apart.
    ///
    /// ```
    /// use spillway_sdk::{Advice, Scope, Verdict};
    ///
    /// let verdict = Verdict::throttled("tokens per minute");
    /// assert_eq!((verdict.scope, verdict.advice), (Scope::Model, Advice::Retry));
    /// ```
    pub fn throttled(reason: impl Into<Cow<'static, str>>) -> Self {
        Verdict::new(Class::Throttled, Scope::Model, Advice::Retry, reason.into())
    }

    /// A spent balance or quota of this credential, whatever the model; another upstream may serve the request. A quota
    /// that is one model's is said with [`Scope::Model`].
    ///
    /// ```
    /// use spillway_sdk::{Advice, Scope, Verdict};
    ///
    /// let verdict = Verdict::exhausted("no credit left");
    /// assert_eq!((verdict.scope, verdict.advice), (Scope::Credential, Advice::NextUpstream));
    /// ```
    pub fn exhausted(reason: impl Into<Cow<'static, str>>) -> Self {
        Verdict::new(Class::Exhausted, Scope::Credential, Advice::NextUpstream, reason.into())
    }

    /// The caller's own fault; nothing to retry.
    ///
    /// ```
    /// use spillway_sdk::{Advice, Class, Verdict};
    ///
    /// let verdict = Verdict::rejected("the prompt is too long");
    /// assert_eq!((verdict.class, verdict.advice), (Class::Rejected, Advice::GiveUp));
    /// ```
    pub fn rejected(reason: impl Into<Cow<'static, str>>) -> Self {
        Verdict::new(Class::Rejected, Scope::Upstream, Advice::GiveUp, reason.into())
    }

    /// The credential is refused; another upstream may serve the request.
    ///
    /// ```
    /// use spillway_sdk::{Advice, Scope, Verdict};
    ///
    /// let verdict = Verdict::unauthorized("the key was revoked");
    /// assert_eq!((verdict.scope, verdict.advice), (Scope::Credential, Advice::NextUpstream));
    /// ```
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
    /// let verdict = Verdict::overloaded("the region is drained").scope(Scope::Upstream);
    /// assert_eq!(verdict.scope, Scope::Upstream);
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
///
/// ```
/// use spillway_sdk::{RetryDecision, testing::exchange};
/// use std::time::Duration;
///
/// let facts = exchange().status(503).header("retry-after", "90");
/// let decision = match facts.exchange().retry_after() {
///     Some(wait) if wait > Duration::from_secs(60) => RetryDecision::SpoolFor(wait),
///     Some(wait) => RetryDecision::After(wait),
///     None => RetryDecision::NextUpstream,
/// };
/// assert_eq!(decision, RetryDecision::SpoolFor(Duration::from_secs(90)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// Same upstream, after this wait. One that would end after the request's deadline is taken as a `SpoolFor`.
    After(Duration),
    /// Another upstream, if there is one.
    NextUpstream,
    /// Answer the caller.
    GiveUp,
    /// Put the request aside, if its caller allows that, and try again this much later. Otherwise the caller gets the
    /// answer, with this wait.
    SpoolFor(Duration),
}

/// Whether a circuit opens.
///
/// ```
/// use spillway_sdk::{TripDecision, testing::window};
/// use std::time::Duration;
///
/// let facts = window().calls(10, 10);
/// let decision = match facts.window().failure_rate() {
///     1.0 => TripDecision::OpenFor(Duration::from_secs(60)), // nothing works: it is down
///     0.5.. => TripDecision::Open,
///     _ => TripDecision::Stay,
/// };
/// assert_eq!(decision, TripDecision::OpenFor(Duration::from_secs(60)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TripDecision {
    /// Stay closed, whatever the configured thresholds say.
    Stay,
    /// Open for the circuit's own cooldown, which grows with each opening in a row.
    Open,
    /// Open for this long, a day at most.
    OpenFor(Duration),
}
