//! What is told of policies: at the admin address, which writes it, and to the command line, which reads it. What an
//! older or a newer Spillway does not say is left empty.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyStatus {
    pub(crate) name: String,
    /// `built-in` or `module`.
    pub(crate) source: Cow<'static, str>,
    /// `serving` or `quarantined`.
    pub(crate) state: Cow<'static, str>,
    /// The rule that it has broken, while it is quarantined.
    pub(crate) quarantined_after: Option<String>,
    /// Hash of the file that serves.
    pub(crate) sha256: Option<String>,
    /// Version of its crate.
    pub(crate) version: Option<String>,
    /// What it says of itself.
    pub(crate) summary: Option<String>,
    /// The hooks it wants to be asked.
    pub(crate) hooks: Vec<Cow<'static, str>>,
    /// How often something else took over under this name.
    pub(crate) swaps: u64,
    /// Calls since it serves.
    pub calls: u64,
    /// Calls that gave no answer.
    pub faults: u64,
    /// What the last of these was.
    pub last_fault: Option<String>,
    /// The last file that could not be served.
    pub(crate) rejected: Option<Rejected>,
    /// The candidate beside it.
    pub(crate) shadow: Option<ShadowStatus>,
}

/// The last file in a role that could not be loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Rejected {
    /// Its hash; `None` where it could not be read.
    pub(crate) sha256: Option<String>,
    pub(crate) reason: String,
    pub(crate) at_unix_ms: u64,
}

/// A candidate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ShadowStatus {
    /// Hash of the file that is compared; none when no file could be loaded.
    pub(crate) sha256: Option<String>,
    /// Version of its crate.
    pub(crate) version: Option<String>,
    /// `comparing` or `quarantined`.
    pub(crate) state: Option<Cow<'static, str>>,
    /// The rule that it has broken, while it is quarantined.
    pub(crate) quarantined_after: Option<String>,
    /// Calls since it is there.
    pub(crate) calls: u64,
    /// Calls that gave no answer.
    pub(crate) faults: u64,
    pub(crate) last_fault: Option<String>,
    pub(crate) comparison: Option<Comparison>,
    /// The last file that could not be loaded.
    pub(crate) rejected: Option<Rejected>,
}

/// How a candidate's answers compare with those that counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Comparison {
    pub(crate) agreed: u64,
    pub(crate) disagreed: u64,
    /// Questions to which the candidate gave no answer: it failed, was quarantined, or does not want to be asked what
    /// the serving policy is. They are compared with nothing.
    pub(crate) unanswered: u64,
    pub(crate) by_kind: BTreeMap<String, u64>,
    /// The latest last.
    pub(crate) examples: Vec<Example>,
}

/// One attempt about which the two disagreed. It holds nothing of what the caller sent or the provider answered but the
/// model's name, the status and the error code; a policy's reasons may quote either, and are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Example {
    pub(crate) at_unix_ms: u64,
    pub(crate) kind: String,
    pub(crate) upstream: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) status: Option<u16>,
    pub(crate) fault: Option<Cow<'static, str>>,
    pub(crate) error_code: Option<String>,
    /// What counted.
    pub(crate) active: String,
    /// What the candidate said.
    pub(crate) shadow: String,
}
