//! What one request adds to the load.

use crate::runtime::gauge::Counted;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that are held of all requests together.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    bytes: AtomicU64,
    max: u64,
}

impl HeldBytes {
    /// None yet, and so many at most.
    pub(crate) fn of_at_most(max: u64) -> HeldBytes {
        HeldBytes { bytes: AtomicU64::new(0), max }
    }

    /// How many there are.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// What one request adds to the load, for as long as this lives: itself, and the bytes that are held of it.
#[derive(Debug)]
pub(crate) struct LoadShare {
    _in_flight: Counted,
    held: Arc<HeldBytes>,
    bytes: u64,
}

impl LoadShare {
    /// Of a request of which nothing is held yet.
    pub(crate) fn of(in_flight: Counted, held: &Arc<HeldBytes>) -> LoadShare {
        LoadShare { _in_flight: in_flight, held: Arc::clone(held), bytes: 0 }
    }

    /// Holds so many bytes of it, if it holds less; false when all requests together would hold more than they may.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> bool {
        let more = (bytes as u64).saturating_sub(self.bytes);
        let before = self.held.bytes.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        before.saturating_add(more) <= self.held.max
    }
}

impl Drop for LoadShare {
    fn drop(&mut self) {
        self.held.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
