//! Stands in for the host's `clock.rs`.

use crate::runtime::sync::Arc;
use crate::runtime::sync::atomic::{AtomicU64, Ordering::Relaxed};
use spillway_resilience::Timestamp;

/// A clock on which no time passes but what a model lets pass. Its clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    micros: Arc<AtomicU64>,
}

impl Clock {
    /// Now.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.micros.load(Relaxed))
    }

    /// Lets time pass until `moment`.
    pub fn set(&self, moment: Timestamp) {
        self.micros.store(moment.as_micros(), Relaxed);
    }
}
