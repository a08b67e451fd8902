//! Spillway's own errors, and the one place that turns them into responses.

use crate::body::Body;
use crate::clock::milliseconds;
use crate::dialect::Dialect;
use http::{HeaderValue, Response, StatusCode, header};
use spillway_resilience::{Dimension, Priority};
use spillway_sdk::Fault;
use std::fmt;
use std::time::Duration;

/// Longest `Retry-After` sent. Beyond it some SDKs wait for ever and others ignore it, so the time goes into a
/// header of our own and the SDK is asked not to retry.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// What Spillway refuses, or could not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The circuit is open: the provider is known to fail.
    CircuitOpen {
        /// Whose circuit.
        upstream: String,
        /// Why it opened.
        cause: String,
    },
    /// A configured limit is used up.
    LimitExceeded {
        /// Whose limit.
        owner: Owner,
        /// What it counts.
        dimension: Dimension,
        /// The limit per minute.
        limit: u64,
    },
    /// As many calls are in flight as there may be, or as many wait for it.
    Saturated {
        /// Whose limit.
        owner: Owner,
        /// What is full.
        what: String,
    },
    /// Spillway itself has as much in hand as it can hold.
    Overloaded {
        /// The priority that is refused at this load.
        priority: Priority,
    },
    /// No connection, or none that lasted until an answer came.
    Unreachable {
        /// Where.
        upstream: String,
        /// What happened.
        fault: Fault,
    },
    /// The provider took too long.
    TimedOut {
        /// Which.
        upstream: String,
        /// Which of the timeouts.
        fault: Fault,
    },
    /// The answer looked like a success and was judged a failure.
    JudgedFailed {
        /// Who answered.
        upstream: String,
        /// The verdict's reason.
        reason: String,
        /// The status that fits the verdict.
        status: StatusCode,
    },
    /// A stream broke after its first content.
    StreamCut {
        /// Whose stream.
        upstream: String,
        /// What happened.
        fault: Fault,
    },
    /// The request's body exceeds the bound.
    BodyTooLarge {
        /// The bound, in bytes.
        limit: usize,
    },
    /// The request is not understood.
    BadRequest {
        /// Why.
        reason: String,
    },
    /// No upstream serves this path.
    NoSuchRoute {
        /// The path.
        path: String,
    },
    /// There is no such job, or no longer.
    NoSuchJob,
    /// The path exists, with other methods.
    WrongMethod {
        /// The methods it has.
        allowed: &'static str,
    },
    /// The request comes from where none should come from.
    Forbidden {
        /// Why.
        reason: String,
    },
    /// The job's state does not allow it.
    Conflict {
        /// Why.
        reason: String,
    },
    /// The spool's bound is reached.
    SpoolFull {
        /// Jobs in it.
        depth: u64,
    },
    /// The spool cannot promise anything.
    SpoolUnavailable {
        /// Why.
        reason: String,
    },
}

/// Whose limit it is that refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
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
pub struct Refusal {
    /// What it is.
    pub kind: Kind,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
}

impl From<Kind> for Refusal {
    fn from(kind: Kind) -> Self {
        Refusal { kind, retry_after: None }
    }
}

impl Refusal {
    /// As [`From`], with a time after which trying again makes sense.
    pub fn after(kind: Kind, wait: impl Into<Option<Duration>>) -> Self {
        Refusal { kind, retry_after: wait.into() }
    }

    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match &self.kind {
            Kind::CircuitOpen { .. } => "spillway_circuit_open",
            Kind::LimitExceeded { .. } | Kind::Saturated { .. } => "rate_limit_exceeded",
            Kind::Overloaded { .. } => "spillway_overloaded",
            Kind::Unreachable { .. } => "spillway_upstream_unreachable",
            Kind::TimedOut { .. } => "spillway_upstream_timeout",
            Kind::JudgedFailed { .. } => "spillway_upstream_failed",
            Kind::StreamCut { .. } => "spillway_stream_cut",
            Kind::BodyTooLarge { .. } => "spillway_body_too_large",
            Kind::BadRequest { .. } => "spillway_bad_request",
            Kind::NoSuchRoute { .. } => "spillway_no_such_route",
            Kind::NoSuchJob => "spillway_no_such_job",
            Kind::WrongMethod { .. } => "spillway_wrong_method",
            Kind::Forbidden { .. } => "spillway_forbidden",
            Kind::Conflict { .. } => "spillway_conflict",
            Kind::SpoolFull { .. } => "spillway_spool_full",
            Kind::SpoolUnavailable { .. } => "spillway_spool_unavailable",
        }
    }

    /// The status, where the API has no habit of its own.
    pub fn status(&self) -> StatusCode {
        match &self.kind {
            Kind::CircuitOpen { .. }
            | Kind::Overloaded { .. }
            | Kind::SpoolFull { .. }
            | Kind::SpoolUnavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Kind::LimitExceeded { .. } | Kind::Saturated { .. } => StatusCode::TOO_MANY_REQUESTS,
            Kind::Unreachable { .. } | Kind::StreamCut { .. } => StatusCode::BAD_GATEWAY,
            Kind::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
            Kind::JudgedFailed { status, .. } => *status,
            Kind::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::BadRequest { .. } => StatusCode::BAD_REQUEST,
            Kind::NoSuchRoute { .. } | Kind::NoSuchJob => StatusCode::NOT_FOUND,
            Kind::WrongMethod { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Kind::Forbidden { .. } => StatusCode::FORBIDDEN,
            Kind::Conflict { .. } => StatusCode::CONFLICT,
        }
    }

    /// Whose fault it is and what to do next.
    pub fn message(&self) -> String {
        let again = match self.retry_after {
            Some(wait) => format!(" Try again in {:.1} s.", wait.as_secs_f64()),
            None => String::new(),
        };
        match &self.kind {
            Kind::CircuitOpen { upstream, cause } => format!(
                "Spillway did not call {upstream}: its circuit is open ({cause}).{again} \
                 Send `Prefer: respond-async` to have the request kept and served later."
            ),
            Kind::LimitExceeded { owner, dimension, limit } => format!(
                "The limit of {limit} {} per minute for {owner} is used up.{again} \
                 Raise {} if it is lower than what is allowed.",
                dimension.as_str(),
                owner.section()
            ),
            Kind::Saturated { owner, what } => {
                format!("Spillway lets no more calls in for {owner}: {what}.{again}")
            }
            Kind::Overloaded { priority } => format!(
                "Spillway has too much in hand for requests of {} priority.{again} \
                 Raise server.max_in_flight or server.max_held if this machine can bear more.",
                priority.as_str()
            ),
            Kind::Unreachable { upstream, fault } => {
                let check = format!("Check the network and [upstreams.{upstream}] url.");
                format!("Spillway got no answer from {upstream}: {}. {check}{again}", fault.as_str())
            }
            Kind::TimedOut { upstream, fault } => {
                format!("{upstream} did not answer in time: {}.{again}", fault.as_str())
            }
            Kind::JudgedFailed { upstream, reason, .. } => {
                format!("{upstream} failed: {reason}.{again}")
            }
            Kind::StreamCut { upstream, fault } => {
                format!("The stream from {upstream} broke: {}. What was received is incomplete.", fault.as_str())
            }
            Kind::BodyTooLarge { limit } => {
                format!("The request's body is larger than {limit} bytes. Raise server.max_body to allow it.")
            }
            Kind::BadRequest { reason } => format!("Spillway does not understand the request: {reason}."),
            Kind::NoSuchRoute { path } => format!(
                "No upstream serves {path}. Paths of OpenAI, Anthropic and Gemini are recognised; \
                 others begin with the name of an upstream, as in /openai/v1/models."
            ),
            Kind::NoSuchJob => "There is no such job. Finished jobs are kept for spool.retention only.".into(),
            Kind::WrongMethod { allowed } => format!("This path has only {allowed}."),
            Kind::Forbidden { reason } => format!("Spillway refuses the request: {reason}."),
            Kind::Conflict { reason } => format!("{reason}."),
            Kind::SpoolFull { depth } => {
                format!("The spool is full with {depth} jobs, so the request was not kept.{again}")
            }
            Kind::SpoolUnavailable { reason } => {
                format!("The spool cannot keep the request: {reason}.{again}")
            }
        }
    }

    /// The response, in the words of the API that was called.
    pub fn into_response(self, dialect: Dialect, request_id: &str) -> Response<Body> {
        let mut response = Response::new(Body::from(dialect.envelope(&self, request_id).to_string()));
        *response.status_mut() = dialect.status(&self);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(dialect.request_id_header(), id);
        }
        if let Kind::WrongMethod { allowed } = self.kind {
            headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        if let Some(wait) = self.retry_after {
            insert_wait(headers, wait);
        }
        response
    }
}

/// Says a wait so that every SDK acts on it as it is meant.
pub fn insert_wait(headers: &mut http::HeaderMap, wait: Duration) {
    // Some SDKs take 0 as "at once, as often as you like".
    let wait_ms = milliseconds(wait).max(1);
    if wait <= RETRY_AFTER_MAX {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(wait_ms.div_ceil(1_000)));
        headers.insert("retry-after-ms", HeaderValue::from(wait_ms));
    } else {
        headers.insert("x-should-retry", HeaderValue::from_static("false"));
        headers.insert("x-spillway-retry-after-ms", HeaderValue::from(wait_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(wait: Duration) -> Response<Body> {
        let kind =
            Kind::LimitExceeded { owner: Owner::Upstream("openai".into()), dimension: Dimension::Tokens, limit: 100 };
        Refusal::after(kind, wait).into_response(Dialect::OpenAi, "id")
    }

    #[test]
    fn a_wait_is_rounded_up_and_never_zero() {
        let headers = limited(Duration::from_millis(1_001)).headers().clone();
        assert_eq!(
            (&headers["retry-after"], &headers["retry-after-ms"]),
            (&HeaderValue::from(2), &HeaderValue::from(1_001))
        );
        let headers = limited(Duration::ZERO).headers().clone();
        assert_eq!(
            (&headers["retry-after"], &headers["retry-after-ms"]),
            (&HeaderValue::from(1), &HeaderValue::from(1))
        );
    }

    #[test]
    fn a_wait_that_sdks_would_not_act_on_asks_them_not_to_retry() {
        let headers = limited(Duration::from_secs(61)).headers().clone();
        assert!(!headers.contains_key("retry-after"));
        assert_eq!(headers["x-should-retry"], "false");
    }

    #[test]
    fn the_same_refusal_wears_each_apis_status_and_envelope() {
        let refusal = Refusal::from(Kind::CircuitOpen { upstream: "u".into(), cause: "c".into() });
        let cases = [
            (Dialect::OpenAi, 503, "/error/code", "spillway_circuit_open"),
            (Dialect::Anthropic, 529, "/error/type", "overloaded_error"),
            (Dialect::Gemini, 503, "/error/status", "UNAVAILABLE"),
        ];
        for (dialect, status, pointer, word) in cases {
            assert_eq!(dialect.status(&refusal).as_u16(), status);
            assert_eq!(dialect.envelope(&refusal, "id").pointer(pointer).and_then(|v| v.as_str()), Some(word));
        }
    }
}
