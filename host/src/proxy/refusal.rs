//! Spillway's own errors: what they are, whose fault, and what to do next.

pub(crate) mod advice;
#[cfg(test)]
mod tests;
mod words;

use crate::ledger::Standing;
use crate::runtime::causes::ErrorChain;
use crate::runtime::shortage::Shortage;
use crate::tenants::access::Turned;
use crate::tenants::guard::Unwelcome;
use crate::upstream::said::Said;
use http::StatusCode;
use spillway_resilience::{Dimension, GuardKind, Priority, Tripped};
use spillway_sdk::Fault;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What Spillway refuses, or could not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    /// The circuit is open: the provider is known to fail.
    CircuitOpen {
        upstream: String,
        /// Why it opened.
        cause: String,
        /// What the provider last said.
        said: Option<Arc<Said>>,
    },
    /// The provider has said "too much", and the wait is longer than the caller's patience.
    Paced {
        upstream: String,
        /// What it last said.
        said: Option<Arc<Said>>,
    },
    /// It would have been a repetition, and there are enough of these.
    NoBudget { upstream: String },
    /// A configured limit is used up.
    LimitExceeded {
        owner: Owner,
        dimension: Dimension,
        /// The limit per minute.
        limit: u64,
    },
    /// What a key, a group or all callers together may spend is spent, or reserved by calls that are under way.
    Exhausted { standing: Box<Standing> },
    /// As many calls are in flight as there may be, or as many wait for it.
    Saturated {
        owner: Owner,
        /// What is full.
        what: String,
    },
    /// Spillway itself has as much in hand as it can hold.
    Overloaded {
        /// The priority that is refused at this load.
        priority: Priority,
    },
    /// This machine lacks something.
    Short { shortage: Shortage },
    /// No connection, or none that lasted until an answer came.
    Unreachable {
        upstream: String,
        fault: Fault,
        /// What was in the way of a connection, in a sentence's words.
        cause: Option<ErrorChain>,
    },
    /// The caller's own timeout has passed.
    Impatient { upstream: String },
    /// The provider took too long.
    TimedOut {
        upstream: String,
        /// Which of the timeouts.
        fault: Fault,
        /// What was in the way of a connection, in a sentence's words.
        cause: Option<ErrorChain>,
    },
    /// The answer looked like a success and was judged a failure.
    JudgedFailed {
        upstream: String,
        reason: String,
        /// The status that fits the verdict.
        status: StatusCode,
    },
    /// A stream broke after its first content.
    StreamCut { upstream: String, fault: Fault },
    /// The request's body exceeds the bound.
    BodyTooLarge {
        /// The bound, in bytes.
        limit: usize,
        /// What to do about it, as a sentence.
        remedy: &'static str,
    },
    /// The request's body did not arrive in time.
    BodyLate {
        /// Longest silence within it.
        timeout: Duration,
    },
    /// The request is not understood.
    BadRequest { reason: String },
    /// No upstream serves this path.
    NoSuchRoute { path: String },
    /// There is no such job, or no longer.
    NoSuchJob {
        /// What the spool has lost, if it has: the job may have been among it.
        lost: Option<String>,
    },
    /// The path exists, with other methods.
    WrongMethod {
        /// The methods it has.
        allowed: &'static str,
    },
    /// Whoever is served by this route spends keys that are not his own, and has to show that he may.
    AccessRequired { route: String },
    /// Other machines may call, so that every caller shows the access key, and this one does not.
    Stranger,
    /// Every caller shows a key, and this one shows nothing.
    KeyRequired,
    /// What is shown as a key counts for nothing: callers are not told why.
    KeyRefused,
    /// The key that is shown counts, and not for this.
    KeyForbids {
        /// What is asked for, in a sentence's words.
        what: String,
        /// What may be asked for, in a sentence's words.
        allowed: String,
    },
    /// The request comes from where none should come from.
    Forbidden { reason: String },
    /// The job's state does not allow it.
    Conflict { reason: String },
    /// Nothing is kept here.
    SpoolOff,
    /// A bound of what is kept is reached.
    SpoolFull {
        /// What is kept, and the setting that bounds it, in a sentence's words.
        kept: String,
    },
    /// The spool cannot promise anything.
    SpoolUnavailable { reason: String },
    /// A guard against runaway agents has something against it.
    Runaway { tripped: Tripped },
    /// A defect of Spillway's own.
    Defect,
}

/// Whose limit it is that refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// An upstream's.
    Upstream(String),
    /// A tenant's.
    Tenant(String),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Upstream(name) => f.write_str(name),
            Owner::Tenant(name) => write!(f, "tenant {name}"),
        }
    }
}

impl Owner {
    /// Where its limits are configured.
    fn section(&self) -> String {
        match self {
            Owner::Upstream(name) => format!("[upstreams.{name}.limits]"),
            Owner::Tenant(name) => format!("[tenants.{name}]"),
        }
    }

    /// Where it is configured how many calls it may have at once, and how many may wait.
    fn bounds(&self) -> String {
        match self {
            Owner::Upstream(name) => format!("[upstreams.{name}.limits] and [upstreams.{name}.concurrency]"),
            Owner::Tenant(_) => self.section(),
        }
    }
}

/// An error of Spillway's own, ready to be said in any API's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub kind: RefusalKind,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
    /// The targets that were to serve, and what became of it.
    pub tried: Option<OfSeveral>,
}

/// What became of a request at several targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OfSeveral {
    /// Each with what it said, in a few words.
    pub list: Arc<str>,
    /// Whether trying again is of no use with any of them.
    pub is_final: bool,
}

impl From<Unwelcome> for Refusal {
    fn from(unwelcome: Unwelcome) -> Self {
        match unwelcome {
            Unwelcome::Malformed(reason) => RefusalKind::BadRequest { reason: reason.to_owned() }.into(),
            Unwelcome::Forbidden(reason) => RefusalKind::Forbidden { reason }.into(),
        }
    }
}

impl From<Turned> for Refusal {
    fn from(turned: Turned) -> Self {
        match turned {
            Turned::KeyRequired => RefusalKind::KeyRequired.into(),
            Turned::KeyRefused => RefusalKind::KeyRefused.into(),
            Turned::Stranger => RefusalKind::Stranger.into(),
        }
    }
}

impl From<RefusalKind> for Refusal {
    fn from(kind: RefusalKind) -> Self {
        Refusal { kind, retry_after: None, tried: None }
    }
}

impl Refusal {
    /// As [`From`], with a time after which trying again makes sense.
    pub(crate) fn after(kind: RefusalKind, wait: impl Into<Option<Duration>>) -> Self {
        Refusal { kind, retry_after: wait.into(), tried: None }
    }

    /// A stable word for programs.
    pub(crate) fn code(&self) -> &'static str {
        match &self.kind {
            RefusalKind::CircuitOpen { .. } => "spillway_circuit_open",
            RefusalKind::Paced { .. } => "spillway_paced",
            RefusalKind::NoBudget { .. } => "spillway_retry_budget_spent",
            RefusalKind::LimitExceeded { .. } | RefusalKind::Saturated { .. } => "rate_limit_exceeded",
            RefusalKind::Exhausted { standing } if standing.exhausted.is_unpriced => "spillway_unpriced",
            RefusalKind::Exhausted { .. } => "spillway_limit_exhausted",
            RefusalKind::Overloaded { .. } => "spillway_overloaded",
            RefusalKind::Short { .. } => "spillway_out_of_resources",
            RefusalKind::Unreachable { .. } => "spillway_upstream_unreachable",
            RefusalKind::TimedOut { .. } | RefusalKind::Impatient { .. } => "spillway_upstream_timeout",
            RefusalKind::JudgedFailed { .. } => "spillway_upstream_failed",
            RefusalKind::StreamCut { .. } => "spillway_stream_cut",
            RefusalKind::BodyTooLarge { .. } => "spillway_body_too_large",
            RefusalKind::BodyLate { .. } => "spillway_body_timeout",
            RefusalKind::BadRequest { .. } => "spillway_bad_request",
            RefusalKind::NoSuchRoute { .. } => "spillway_no_such_route",
            RefusalKind::NoSuchJob { .. } | RefusalKind::SpoolOff => "spillway_no_such_job",
            RefusalKind::WrongMethod { .. } => "spillway_wrong_method",
            RefusalKind::AccessRequired { .. } | RefusalKind::Stranger => "spillway_access_required",
            RefusalKind::KeyRequired => "spillway_key_required",
            RefusalKind::KeyRefused => "spillway_key_refused",
            RefusalKind::KeyForbids { .. } => "spillway_key_forbids",
            RefusalKind::Forbidden { .. } => "spillway_forbidden",
            RefusalKind::Conflict { .. } => "spillway_conflict",
            RefusalKind::SpoolFull { .. } => "spillway_spool_full",
            RefusalKind::SpoolUnavailable { .. } => "spillway_spool_unavailable",
            RefusalKind::Runaway { tripped } => match tripped.guard {
                GuardKind::TokensPerRequest => "spillway_guard_max_tokens_per_request",
                GuardKind::TurnsPerConversation => "spillway_guard_max_turns_per_conversation",
                GuardKind::TokensPerConversation => "spillway_guard_max_tokens_per_conversation",
                GuardKind::TokensPerHour => "spillway_guard_max_tokens_per_hour",
                GuardKind::Repeats => "spillway_guard_max_repeats",
                GuardKind::Growth => "spillway_guard_growth_alarm",
            },
            RefusalKind::Defect => "spillway_internal_error",
        }
    }

    /// What the provider last said, where that is the reason.
    pub(crate) fn said(&self) -> Option<&Said> {
        match &self.kind {
            RefusalKind::CircuitOpen { said, .. } | RefusalKind::Paced { said, .. } => said.as_deref(),
            _ => None,
        }
    }

    /// The status, where the API has no habit of its own.
    pub(crate) fn status(&self) -> StatusCode {
        // A refusal raises what the provider's own answer would have raised.
        if let Some(said) = self.said() {
            return said.status;
        }
        match &self.kind {
            RefusalKind::CircuitOpen { .. }
            | RefusalKind::NoBudget { .. }
            | RefusalKind::Overloaded { .. }
            | RefusalKind::Short { .. }
            | RefusalKind::SpoolFull { .. }
            | RefusalKind::SpoolUnavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            RefusalKind::Exhausted { standing } if standing.exhausted.is_unpriced => StatusCode::FORBIDDEN,
            RefusalKind::LimitExceeded { .. }
            | RefusalKind::Exhausted { .. }
            | RefusalKind::Saturated { .. }
            | RefusalKind::Paced { .. } => StatusCode::TOO_MANY_REQUESTS,
            RefusalKind::Unreachable { .. } | RefusalKind::StreamCut { .. } => StatusCode::BAD_GATEWAY,
            RefusalKind::TimedOut { .. } | RefusalKind::Impatient { .. } => StatusCode::GATEWAY_TIMEOUT,
            RefusalKind::JudgedFailed { status, .. } => *status,
            RefusalKind::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            RefusalKind::BodyLate { .. } => StatusCode::REQUEST_TIMEOUT,
            RefusalKind::BadRequest { .. } => StatusCode::BAD_REQUEST,
            RefusalKind::NoSuchRoute { .. } | RefusalKind::NoSuchJob { .. } | RefusalKind::SpoolOff => {
                StatusCode::NOT_FOUND
            }
            RefusalKind::WrongMethod { .. } => StatusCode::METHOD_NOT_ALLOWED,
            RefusalKind::AccessRequired { .. }
            | RefusalKind::Stranger
            | RefusalKind::KeyRequired
            | RefusalKind::KeyRefused => StatusCode::UNAUTHORIZED,
            RefusalKind::Forbidden { .. } | RefusalKind::KeyForbids { .. } => StatusCode::FORBIDDEN,
            // What time mends is a limit like others. Anything else no SDK may send again by itself, and of what SDKs do
            // not send again this is what no agent takes for something else, such as a login that has expired.
            RefusalKind::Runaway { tripped } => match tripped.guard {
                GuardKind::TokensPerHour => StatusCode::TOO_MANY_REQUESTS,
                _ => StatusCode::BAD_REQUEST,
            },
            RefusalKind::Conflict { .. } => StatusCode::CONFLICT,
            RefusalKind::Defect => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whether it is the caller's own tenant that may not go on, whoever would serve it.
    pub(crate) fn is_of_tenant(&self) -> bool {
        matches!(
            self.kind,
            RefusalKind::Exhausted { .. }
                | RefusalKind::LimitExceeded { owner: Owner::Tenant(_), .. }
                | RefusalKind::Saturated { owner: Owner::Tenant(_), .. }
        )
    }
}
