//! What an answer leads to in circuits and lanes.

use spillway_resilience::{Outcome, Pause};

use super::part::Part;
use crate::protection::{Answer, Call};

/// What an answer leads to, by its outcome alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// The call was served.
    Served,
    /// It failed. A request counts at most one failure: its retries are no independent evidence.
    Failed {
        /// Whether its request has failed here before.
        again: bool,
        /// Whether its caller has sent it before.
        returned: bool,
    },
    /// The model has too much to do; it said so, or its plain errors are taken for that.
    Overloaded {
        /// Whether it did not say so.
        suspected: bool,
    },
    /// A limit of the model's under this credential is reached.
    Limited,
    /// The caller left, after waiting far longer than others do.
    Overdue,
    /// It says nothing about the upstream: the caller left, or was wrong.
    Nothing,
}

impl Consequence {
    /// As what it counts in the upstream's own circuit. A failure belongs to the model until others fail too.
    pub(super) const fn for_whole(self) -> Outcome {
        match self {
            Self::Served => Outcome::Success,
            Self::Failed { .. } => Outcome::FailedElsewhere,
            Self::Overloaded { .. } | Self::Limited => Outcome::Throttled,
            Self::Overdue => Outcome::Overdue,
            Self::Nothing => Outcome::Ignored,
        }
    }

    /// As what it counts in the circuit of a part that the call belongs to.
    ///
    /// A failure counts in the model's and in that of the model under the credential: a caller whose every request
    /// fails must neither be taken for a model that serves nobody nor be repeated for ever. What is said to be too
    /// much counts only where it was said.
    pub(super) const fn for_part(self, part: Part) -> Outcome {
        match (self, part) {
            (Self::Served, _) => Outcome::Success,
            (Self::Failed { again: true, .. }, _) => Outcome::FailedAgain,
            (Self::Failed { again: false, returned: true }, _) => Outcome::FailedOnReturn,
            (Self::Failed { again: false, returned: false }, _) => Outcome::Failure,
            (Self::Overloaded { .. }, Part::Model(_)) | (Self::Limited, Part::ModelOf(..)) => Outcome::Throttled,
            (Self::Overloaded { .. } | Self::Limited | Self::Overdue | Self::Nothing, _) => Outcome::Ignored,
        }
    }

    /// The part whose callers wait in a lane from here on, and for how long nobody goes out.
    pub(super) fn too_much(self, call: &Call, answer: &Answer) -> Option<(Part, Pause)> {
        let said = answer.retry_after.map_or(Pause::Unnamed, Pause::Named);
        match self {
            Self::Overloaded { suspected: true } => Some((Part::model(call), Pause::Suspected)),
            Self::Overloaded { suspected: false } => Some((Part::model(call), said)),
            Self::Limited => Some((Part::model_of_tenant(call), said)),
            Self::Served | Self::Failed { .. } | Self::Overdue | Self::Nothing => None,
        }
    }
}
