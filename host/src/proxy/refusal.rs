//! Spillway's own errors: what they are, whose fault, and what to do next.

use crate::runtime::causes::ErrorChain;
use crate::runtime::shortage::Shortage;
use crate::tenants::guard::Unwelcome;
use crate::upstream::said::Said;
use http::StatusCode;
use spillway_resilience::{Dimension, Priority};
use spillway_sdk::Fault;
use std::borrow::Cow;
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
    /// The request comes from where none should come from.
    Forbidden { reason: String },
    /// The job's state does not allow it.
    Conflict { reason: String },
    /// The spool's bound is reached.
    SpoolFull {
        /// Jobs in it.
        depth: u64,
    },
    /// The spool cannot promise anything.
    SpoolUnavailable { reason: String },
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
}

/// An error of Spillway's own, ready to be said in any API's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub kind: RefusalKind,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
    /// The targets that were to serve, and what became of it.
    pub tried: Option<Arc<str>>,
}

/// What happened: as it was told where it arose, if it was.
fn in_words(fault: Fault, cause: Option<&ErrorChain>) -> Cow<'static, str> {
    cause.map_or(Cow::Borrowed(fault.as_str()), |cause| Cow::Owned(cause.to_string()))
}

impl From<Unwelcome> for Refusal {
    fn from(unwelcome: Unwelcome) -> Self {
        match unwelcome {
            Unwelcome::Malformed(reason) => RefusalKind::BadRequest { reason: reason.to_owned() }.into(),
            Unwelcome::Forbidden(reason) => RefusalKind::Forbidden { reason }.into(),
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
            RefusalKind::Overloaded { .. } => "spillway_overloaded",
            RefusalKind::Short { .. } => "spillway_out_of_resources",
            RefusalKind::Unreachable { .. } => "spillway_upstream_unreachable",
            RefusalKind::TimedOut { .. } => "spillway_upstream_timeout",
            RefusalKind::JudgedFailed { .. } => "spillway_upstream_failed",
            RefusalKind::StreamCut { .. } => "spillway_stream_cut",
            RefusalKind::BodyTooLarge { .. } => "spillway_body_too_large",
            RefusalKind::BodyLate { .. } => "spillway_body_timeout",
            RefusalKind::BadRequest { .. } => "spillway_bad_request",
            RefusalKind::NoSuchRoute { .. } => "spillway_no_such_route",
            RefusalKind::NoSuchJob { .. } => "spillway_no_such_job",
            RefusalKind::WrongMethod { .. } => "spillway_wrong_method",
            RefusalKind::AccessRequired { .. } => "spillway_access_required",
            RefusalKind::Forbidden { .. } => "spillway_forbidden",
            RefusalKind::Conflict { .. } => "spillway_conflict",
            RefusalKind::SpoolFull { .. } => "spillway_spool_full",
            RefusalKind::SpoolUnavailable { .. } => "spillway_spool_unavailable",
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
            RefusalKind::LimitExceeded { .. } | RefusalKind::Saturated { .. } | RefusalKind::Paced { .. } => {
                StatusCode::TOO_MANY_REQUESTS
            }
            RefusalKind::Unreachable { .. } | RefusalKind::StreamCut { .. } => StatusCode::BAD_GATEWAY,
            RefusalKind::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
            RefusalKind::JudgedFailed { status, .. } => *status,
            RefusalKind::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            RefusalKind::BodyLate { .. } => StatusCode::REQUEST_TIMEOUT,
            RefusalKind::BadRequest { .. } => StatusCode::BAD_REQUEST,
            RefusalKind::NoSuchRoute { .. } | RefusalKind::NoSuchJob { .. } => StatusCode::NOT_FOUND,
            RefusalKind::WrongMethod { .. } => StatusCode::METHOD_NOT_ALLOWED,
            RefusalKind::AccessRequired { .. } => StatusCode::UNAUTHORIZED,
            RefusalKind::Forbidden { .. } => StatusCode::FORBIDDEN,
            RefusalKind::Conflict { .. } => StatusCode::CONFLICT,
        }
    }

    /// Whether it is the caller's own tenant that may not go on, whoever would serve it.
    pub(crate) fn is_of_tenant(&self) -> bool {
        matches!(
            self.kind,
            RefusalKind::LimitExceeded { owner: Owner::Tenant(_), .. }
                | RefusalKind::Saturated { owner: Owner::Tenant(_), .. }
        )
    }

    /// Whose fault it is and what to do next.
    pub(crate) fn message(&self) -> String {
        match &self.tried {
            Some(tried) => format!("{} Nobody of the route served it: {tried}.", self.message_of_one()),
            None => self.message_of_one(),
        }
    }

    /// What is said of the target that was asked first.
    fn message_of_one(&self) -> String {
        let again = match self.retry_after {
            Some(wait) => format!(" Try again in {:.1} s.", wait.as_secs_f64()),
            None => String::new(),
        };
        match &self.kind {
            RefusalKind::CircuitOpen { upstream, cause, .. } => format!(
                "Spillway did not call {upstream}: its circuit is open ({cause}).{again}{} \
                 Send `Prefer: respond-async` to have the request kept and served later.",
                self.quote()
            ),
            RefusalKind::Paced { upstream, .. } => format!(
                "Spillway did not call {upstream}: it has said that it is too much, and calls wait for their turn.{again}{} \
                 Send `Prefer: respond-async` to have the request kept and served later.",
                self.quote()
            ),
            RefusalKind::NoBudget { upstream } => {
                format!("Spillway did not call {upstream}: the budget for repetitions there is spent.{again}")
            }
            RefusalKind::LimitExceeded { owner, dimension, limit } => format!(
                "The limit of {limit} {} per minute for {owner} is used up.{again} \
                 Raise {} if it is lower than what is allowed.",
                dimension.as_str(),
                owner.section()
            ),
            RefusalKind::Saturated { owner, what } => {
                format!("Spillway lets no more calls in for {owner}: {what}.{again}")
            }
            RefusalKind::Overloaded { priority } => format!(
                "Spillway has too much in hand for requests of {} priority.{again} \
                 Raise server.max_in_flight or server.max_held if this machine can bear more.",
                priority.as_str()
            ),
            RefusalKind::Short { shortage } => format!("Spillway itself is short: {shortage}.{again}"),
            RefusalKind::Unreachable { upstream, fault, cause } => {
                let cause = in_words(*fault, cause.as_ref());
                let check = match fault {
                    Fault::Tls => String::new(),
                    _ => format!(" Check the network and [upstreams.{upstream}] url."),
                };
                format!("Spillway got no answer from {upstream}: {cause}.{check}{again}")
            }
            RefusalKind::TimedOut { upstream, fault, cause } => {
                let cause = in_words(*fault, cause.as_ref());
                format!("{upstream} did not answer in time: {cause}.{again}")
            }
            RefusalKind::JudgedFailed { upstream, reason, .. } => {
                format!("{upstream} failed: {reason}.{again}")
            }
            RefusalKind::StreamCut { upstream, fault } => {
                format!("The stream from {upstream} broke: {}. What was received is incomplete.", fault.as_str())
            }
            RefusalKind::BodyTooLarge { limit } => {
                format!("The request's body is larger than {limit} bytes. Raise server.max_body to allow it.")
            }
            RefusalKind::BodyLate { timeout } => format!(
                "The request's body did not arrive in time: its sender was silent for {:.1} s, or sent next to nothing \
                 for longer. Send it again, or raise server.body_timeout.",
                timeout.as_secs_f64()
            ),
            RefusalKind::BadRequest { reason } => format!("Spillway does not understand the request: {reason}."),
            RefusalKind::NoSuchRoute { path } => format!(
                "No upstream serves {path}. Paths of OpenAI, Anthropic and Gemini are recognised; \
                 others begin with the name of an upstream, as in /openai/v1/models."
            ),
            RefusalKind::NoSuchJob { lost: None } => {
                "There is no such job. Finished jobs are kept for spool.retention only.".into()
            }
            RefusalKind::NoSuchJob { lost: Some(lost) } => {
                format!("There is no such job. It may have been lost by Spillway: {lost}.")
            }
            RefusalKind::WrongMethod { allowed } => format!("This path has only {allowed}."),
            RefusalKind::AccessRequired { route } => format!(
                "Spillway did not call anybody: {route} spends keys of its own, and the request does not show that its \
                 sender may. Give the access key (server.access_key_env or server.access_key_file) to your SDK as its \
                 API key, or send it as x-spillway-access-key; or come through server.unix_socket; or let every process \
                 on this machine spend them by [routes.{route}] open_to_local = true."
            ),
            RefusalKind::Forbidden { reason } => format!("Spillway refuses the request: {reason}."),
            RefusalKind::Conflict { reason } => format!("{reason}."),
            RefusalKind::SpoolFull { depth } => {
                format!("The spool is full with {depth} jobs, so the request was not kept.{again}")
            }
            RefusalKind::SpoolUnavailable { reason } => {
                format!("Spillway's spool cannot be used: {reason}.{again}")
            }
        }
    }

    /// What the provider last said, in its words.
    fn quote(&self) -> String {
        match self.said() {
            Some(said) if said.message.is_empty() => {
                format!(" The provider's last answer was a {}.", said.status.as_u16())
            }
            Some(said) => format!(" The provider last said ({}): {:?}", said.status.as_u16(), said.message),
            None => String::new(),
        }
    }
}
