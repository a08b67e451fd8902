//! What has become of each request of a lane so far.

use super::mode::Kind;
use crate::runtime::sync::{Mutex, lock};
use std::sync::Arc;
use std::time::Duration;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With the provider's answer.
    Answered,
    /// With an error, or without any answer.
    Failed,
    /// With an error under status 200, which an application takes for an answer.
    ErrorUnder200,
}

/// Where a request stands. Times are from when it was due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its time has not come.
    #[default]
    Due,
    /// It has gone out.
    Waiting,
    /// Spillway has promised to serve it later.
    Kept,
    /// It has ended.
    Ended {
        /// How.
        end: End,
        /// How long that took.
        took: Duration,
        /// Whether it had been kept before.
        kept: bool,
    },
}

/// A request and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// When it was due, from the first one on.
    pub at: Duration,
    /// Who waits for it.
    pub kind: Kind,
    /// Where it stands.
    pub standing: Standing,
}

/// All requests of a lane, by their number; clones are the same board.
#[derive(Clone, Debug)]
pub(crate) struct Board(Arc<Mutex<Vec<Entry>>>);

impl Board {
    /// With requests that are all to come.
    pub(super) fn new(due: &[Duration]) -> Board {
        let entry =
            |(number, at): (usize, &Duration)| Entry { at: *at, kind: Kind::of(number), standing: Standing::Due };
        Board(Arc::new(Mutex::new(due.iter().enumerate().map(entry).collect())))
    }

    /// Notes where a request stands.
    pub(super) fn note(&self, number: usize, standing: Standing) {
        if let Some(entry) = lock(&self.0).get_mut(number) {
            entry.standing = standing;
        }
    }

    /// How all of them stand at this moment.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        lock(&self.0).clone()
    }
}
