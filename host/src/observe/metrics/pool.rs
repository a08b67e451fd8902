//! What is counted of connections to upstreams.

use super::cells::Cells;
use super::words::Closed;
use std::sync::Arc;

/// Connections to one upstream, of all workers together.
#[derive(Debug)]
pub(crate) struct PoolMetrics(Cells);

const OPEN: usize = 0;
const IDLE: usize = 1;
const NEW: usize = 2;
const REUSED: usize = 3;
const CLOSED: usize = 4;

impl Default for PoolMetrics {
    fn default() -> Self {
        PoolMetrics(Cells::new(CLOSED + Closed::ALL.len()))
    }
}

impl PoolMetrics {
    /// Counts a new connection, and counts it as open until the returned value is dropped.
    pub(crate) fn opened(self: &Arc<Self>) -> OpenConnection {
        self.0.add(NEW, 1);
        self.0.add(OPEN, 1);
        OpenConnection(Arc::clone(self))
    }

    /// Counts a connection as used by nobody from now on.
    pub(crate) fn rests(&self) {
        self.0.add(IDLE, 1);
    }

    /// Counts a connection that nobody used as used again.
    pub(crate) fn reused(&self) {
        self.0.take(IDLE, 1);
        self.0.add(REUSED, 1);
    }

    /// Counts a connection that nobody used as closed.
    pub(crate) fn closed(&self, why: Closed) {
        self.0.take(IDLE, 1);
        self.0.add(CLOSED + why as usize, 1);
    }

    /// Counts a connection that turned out to be closed when it was used again.
    pub(crate) fn closed_under_call(&self) {
        self.0.add(CLOSED + Closed::UnderCall as usize, 1);
    }

    /// Connections that carry a call, and those that nobody uses. What is counted meanwhile may be in one and not yet
    /// in the other.
    pub(super) fn busy_and_idle(&self) -> (i64, i64) {
        let count = |index| i64::try_from(self.0.sum(index)).unwrap_or(0);
        let idle = count(IDLE);
        ((count(OPEN) - idle).max(0), idle)
    }

    /// Calls over a new connection, and over one that was used before.
    pub(super) fn new_and_reused(&self) -> (u64, u64) {
        (self.0.sum(NEW), self.0.sum(REUSED))
    }

    pub(super) fn closed_for(&self, why: Closed) -> u64 {
        self.0.sum(CLOSED + why as usize)
    }
}

/// A connection to an upstream, counted as open while this lives.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<PoolMetrics>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.0.take(OPEN, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_busy_or_idle_until_it_is_closed() {
        let pool = Arc::new(PoolMetrics::default());
        let (one, other) = (pool.opened(), pool.opened());
        pool.rests();
        assert_eq!(pool.busy_and_idle(), (1, 1));
        pool.reused();
        assert_eq!((pool.busy_and_idle(), pool.new_and_reused()), ((2, 0), (2, 1)));
        drop(other);
        pool.rests();
        pool.closed(Closed::Unused);
        drop(one);
        assert_eq!((pool.busy_and_idle(), pool.closed_for(Closed::Unused)), ((0, 0), 1));
    }
}
