//! Who came when: what the simulation needs beside attempts.

use super::entry::FORM;
use serde::{Deserialize, Serialize};

/// A request's arrival. It stands in the line of each of its attempts, or, where it had none, in a line of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Arrival {
    /// When it came.
    pub came_unix_ms: u64,
    /// Its tenant's name, or the fingerprint of its credential.
    pub tenant: String,
    /// What it may cost at most, in tokens, by Spillway's estimate.
    pub tokens_max: u64,
    /// Whether its caller has sent it before, and says so.
    pub has_come_back: bool,
    /// How long after its arrival it must be answered.
    pub allowed_ms: u64,
}

/// A request that ended without an attempt: a circuit or a limit was in its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unserved {
    /// The form of recorded lines.
    pub form: u32,
    /// Under which the log knows it.
    pub request_id: String,
    /// Where it would have gone first.
    pub upstream: String,
    /// The model that it asked for.
    pub model: Option<String>,
    /// How it came.
    pub arrival: Arrival,
    /// How it ended, in the words of the metrics.
    pub outcome: String,
    /// How long after its arrival it ended.
    pub ended_after_ms: u64,
}

/// The line as a whole, so that it is told from an attempt's by its only key.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UnservedLine {
    pub(super) unserved: Unserved,
}

/// How such a line begins.
pub(super) const BEGINNING: &[u8] = b"{\"unserved\":";

impl UnservedLine {
    /// Reads a line back.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(line: &[u8]) -> Result<Unserved, String> {
        let UnservedLine { unserved } = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        match unserved.form {
            FORM => Ok(unserved),
            other => Err(format!("it has form {other}, and this Spillway reads form {FORM}")),
        }
    }
}
