//! What the operator says about each policy, wherever that is written.

use super::limits::Limits;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// What the operator says about each policy now.
pub(crate) trait PolicySettings: fmt::Debug + Send {
    /// A policy's own settings, as JSON.
    fn of(&self, policy: &str) -> &str;

    /// How large a policy may be.
    fn limits_of(&self, policy: &str) -> Limits;

    /// Looks whether something else is said now. What has changed counts once it has stayed as it is for as long as
    /// `settle`.
    fn follow(&mut self, settle: Duration) -> Followed;
}

/// What a look at the settings has shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Followed {
    /// Nothing new.
    AsBefore,
    /// They have changed, and may still be written to: they must be looked at again soon.
    Settling,
    /// What is said about these policies has changed.
    Changed(BTreeSet<String>),
}
