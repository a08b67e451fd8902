//! What helps whoever hears a refusal: a program of somebody's own can take a promise, an SDK takes a 202 for an empty
//! success, and whoever reads a log or a job asks for nothing.

use super::{Owner, Refusal, RefusalKind};
use crate::dialect::library::Library;
use spillway_sdk::Fault;

/// To whom a refusal is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Whoever looks at it later: in the log, or in what became of a job.
    Records,
    /// Whoever sent the request.
    Caller {
        /// With which library.
        library: Library,
        /// Whether the request would be kept if it were sent again with the wish for that.
        may_be_kept: bool,
    },
}

impl Audience {
    /// Whoever sent a request with this library that cannot be kept.
    pub(crate) fn of(library: Library) -> Audience {
        Audience::Caller { library, may_be_kept: false }
    }
}

/// What helps whoever can come back for its answer.
const TO_BE_KEPT: &str = "To have it kept and served later, send it with `Prefer: respond-async`: the answer is then \
                          a 202 that says where to fetch the real one.";

/// The sentences that help this audience, if any do.
pub(super) fn advice(refusal: &Refusal, audience: Audience) -> Vec<String> {
    let Audience::Caller { library, may_be_kept } = audience else { return Vec::new() };
    let Some(remedy) = remedy(&refusal.kind) else { return Vec::new() };
    let of_operator = match remedy {
        // Others were asked already.
        Remedy::StandIn if refusal.tried.is_some() => None,
        Remedy::StandIn => Some("Whoever runs Spillway can have another target stand in: [routes].".to_owned()),
        Remedy::Patience => Some(
            "Whoever runs Spillway can let requests wait there for longer: `patience` in the upstream's limits."
                .to_owned(),
        ),
        Remedy::Time => None,
    };
    let of_caller = match library {
        Library::None if may_be_kept => return vec![TO_BE_KEPT.to_owned()],
        Library::None => None,
        library => of_library(library, refusal.asks_not_to_retry()),
    };
    of_caller.into_iter().chain(of_operator).collect()
}

/// What helps against a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// Another target.
    StandIn,
    /// Waiting at Spillway.
    Patience,
    /// Coming again.
    Time,
}

/// What helps besides what the refusal itself says; nothing where the request or the configuration is to be mended.
fn remedy(kind: &RefusalKind) -> Option<Remedy> {
    match kind {
        // A certificate is mended by nobody's waiting.
        RefusalKind::Unreachable { fault: Fault::Tls, .. } => None,
        RefusalKind::CircuitOpen { .. }
        | RefusalKind::NoBudget { .. }
        | RefusalKind::Unreachable { .. }
        | RefusalKind::JudgedFailed { .. }
        | RefusalKind::TimedOut { .. } => Some(Remedy::StandIn),
        RefusalKind::Paced { .. }
        | RefusalKind::LimitExceeded { owner: Owner::Upstream(_), .. }
        | RefusalKind::Saturated { owner: Owner::Upstream(_), .. } => Some(Remedy::Patience),
        RefusalKind::Exhausted { standing } if standing.exhausted.never_fits() => None,
        RefusalKind::Exhausted { .. }
        | RefusalKind::LimitExceeded { owner: Owner::Tenant(_), .. }
        | RefusalKind::Saturated { owner: Owner::Tenant(_), .. }
        | RefusalKind::Overloaded { .. }
        | RefusalKind::Short { .. }
        | RefusalKind::SpoolFull { .. }
        | RefusalKind::SpoolUnavailable { .. } => Some(Remedy::Time),
        RefusalKind::Impatient { .. }
        | RefusalKind::StreamCut { .. }
        | RefusalKind::BodyTooLarge { .. }
        | RefusalKind::BodyLate { .. }
        | RefusalKind::BadRequest { .. }
        | RefusalKind::NoSuchRoute { .. }
        | RefusalKind::NoSuchJob { .. }
        | RefusalKind::SpoolOff
        | RefusalKind::WrongMethod { .. }
        | RefusalKind::AccessRequired { .. }
        | RefusalKind::Stranger
        | RefusalKind::KeyRequired
        | RefusalKind::KeyRefused
        | RefusalKind::KeyForbids { .. }
        | RefusalKind::Forbidden { .. }
        | RefusalKind::Conflict { .. }
        | RefusalKind::Runaway { .. }
        | RefusalKind::Defect => None,
    }
}

/// What a library does by itself, and how to have it do more.
fn of_library(library: Library, is_asked_not_to: bool) -> Option<String> {
    match (library, is_asked_not_to) {
        (Library::Official { .. }, true) => {
            Some("Your SDK has been asked not to try again by itself: that would be too soon.".to_owned())
        }
        (Library::Official { retries }, false) => {
            Some(format!("Your SDK tries again as often as its {retries} allows; raise that for more tries."))
        }
        // It does not know that it can be asked not to.
        (Library::Vercel, true) => None,
        (Library::Vercel, false) => {
            Some("The AI SDK tries again as often as its maxRetries allows; raise that for more tries.".to_owned())
        }
        (Library::Google, true) | (Library::Other, true) | (Library::None, _) => None,
        (Library::Google, false) => {
            Some("Google's SDK tries again by itself only if its http_options have retry_options.".to_owned())
        }
        (Library::Other, false) => Some("Have your SDK try again, if it does not do so by itself.".to_owned()),
    }
}
