//! An error of Spillway's own, before an API's words are put around it.

use http::StatusCode;
use std::time::Duration;

/// What kind of error it is, as far as APIs have words for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A limit is used up: on requests, or on tokens.
    RateLimited {
        /// The word for what is limited.
        of: &'static str,
    },
    /// Too much to do, here or there; it will pass.
    Overloaded,
    /// Something that is needed for it cannot be used.
    Unavailable,
    /// The provider took too long.
    TimedOut,
    /// The provider could not be reached.
    Unreachable,
    /// The provider failed.
    Failed,
    /// The request is too large.
    TooLarge,
    /// The request did not arrive in time.
    Late,
    /// The request makes no sense.
    Invalid,
    /// There is nothing of that name.
    NotFound,
    /// Who asks has not shown that it may.
    Unauthenticated,
    /// It is not allowed.
    Forbidden,
    /// The state of what it is about does not allow it.
    Conflict,
}

/// An error of Spillway's own.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// What kind it is.
    pub kind: ErrorKind,
    /// The status, where the API has no habit of its own.
    pub status: StatusCode,
    /// A stable word for programs.
    pub code: &'static str,
    /// Whose fault it is and what to do next.
    pub message: String,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
}
