//! Connections that nobody uses at the moment, and for how long they are worth using again.
//!
//! A connection that was left alone may be dead without anybody knowing: its machine slept, a NAT forgot it, or a load
//! balancer moved. So it is not kept for long, and not for ever however much it is used. Both are measured by a clock
//! that goes on while the machine sleeps.

use crate::observe::metrics::{Closed, PoolMetrics};
use spillway_resilience::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// How long an unused connection is kept. Shorter than what providers and load balancers keep it for, so that it is
/// seldom closed under a request.
pub(super) const UNUSED_MAX: Duration = Duration::from_secs(50);
/// How old a connection is used again. A new one costs two round trips, and goes to where the name leads by then.
pub(super) const AGE_MAX: Duration = Duration::from_secs(300);
/// Unused connections kept per worker and upstream; beyond that the one that was unused for longest is closed.
pub(super) const KEPT_MAX: usize = 64;

/// A connection, or what stands for one in a test.
pub(super) trait Connected {
    /// Whether its other end has closed it, as far as is known.
    fn is_closed(&self) -> bool;
}

/// Unused connections, those that were used last at the end.
#[derive(Debug)]
pub(super) struct Pool<T> {
    kept: Vec<Kept<T>>,
    metrics: Arc<PoolMetrics>,
}

/// An unused connection.
#[derive(Debug)]
pub(super) struct Kept<T> {
    pub(super) connection: T,
    /// When it was made.
    pub(super) made: Timestamp,
    /// Since when it is unused.
    pub(super) since: Timestamp,
}

impl<T: Connected> Pool<T> {
    /// An empty one, whose connections are counted here.
    pub(super) fn counted_by(metrics: Arc<PoolMetrics>) -> Pool<T> {
        Pool { kept: Vec::new(), metrics }
    }

    /// Keeps a connection that is unused from `now` on, if it is worth it.
    pub(super) fn put(&mut self, connection: T, made: Timestamp, now: Timestamp) {
        self.prune(now);
        let kept = Kept { connection, made, since: now };
        self.metrics.rests();
        if let Some(why) = kept.is_of_no_use(now) {
            self.metrics.closed(why);
            return;
        }
        if self.kept.len() >= KEPT_MAX {
            self.kept.remove(0);
            self.metrics.closed(Closed::Unused);
        }
        self.kept.push(kept);
    }

    /// The connection that was used last, if it was so within `unused_max`.
    pub(super) fn take(&mut self, unused_max: Duration, now: Timestamp) -> Option<Kept<T>> {
        while let Some(kept) = self.kept.pop() {
            if let Some(why) = kept.is_of_no_use(now) {
                self.metrics.closed(why);
                continue;
            }
            if now.saturating_since(kept.since) > unused_max {
                self.kept.push(kept);
                return None;
            }
            self.metrics.reused();
            return Some(kept);
        }
        None
    }

    /// Closes those that are too old. Answers whether any is left.
    pub(super) fn prune(&mut self, now: Timestamp) -> bool {
        let metrics = &self.metrics;
        self.kept.retain(|kept| {
            let why = kept.is_of_no_use(now);
            why.into_iter().for_each(|why| metrics.closed(why));
            why.is_none()
        });
        !self.kept.is_empty()
    }

    /// Closes all: one of them has turned out to be dead, and they share a fate.
    pub(super) fn clear(&mut self) {
        self.kept.drain(..).for_each(|_| self.metrics.closed(Closed::Suspect));
    }
}

impl<T: Connected> Kept<T> {
    /// Why it is not to be used again, if it is not.
    fn is_of_no_use(&self, now: Timestamp) -> Option<Closed> {
        let (unused, age) = (now.saturating_since(self.since), now.saturating_since(self.made));
        match unused < UNUSED_MAX && age < AGE_MAX {
            _ if self.connection.is_closed() => Some(Closed::ByUpstream),
            true => None,
            false => Some(Closed::Unused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    struct Wire(&'static str, Rc<Cell<bool>>);

    impl Connected for Wire {
        fn is_closed(&self) -> bool {
            self.1.get()
        }
    }

    fn open(name: &'static str) -> Wire {
        Wire(name, Rc::default())
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn taken(pool: &mut Pool<Wire>, seconds: u64) -> Option<&'static str> {
        pool.take(Duration::MAX, at(seconds)).map(|kept| kept.connection.0)
    }

    #[test]
    fn the_one_that_was_used_last_is_used_first() {
        let mut pool = Pool::counted_by(Arc::default());
        pool.put(open("first"), at(0), at(1));
        pool.put(open("second"), at(0), at(2));
        assert_eq!(taken(&mut pool, 3), Some("second"));
        assert_eq!(taken(&mut pool, 3), Some("first"));
        assert_eq!(taken(&mut pool, 3), None);
    }

    #[test]
    fn what_was_unused_for_too_long_or_has_grown_old_is_not_used_again() {
        let mut pool = Pool::counted_by(Arc::default());
        pool.put(open("unused"), at(0), at(1));
        assert_eq!(taken(&mut pool, 50), Some("unused"));
        pool.put(open("unused"), at(0), at(1));
        assert_eq!(taken(&mut pool, 51), None, "as after a machine's sleep");
        pool.put(open("old"), at(0), at(299));
        assert_eq!(taken(&mut pool, 300), None);
        pool.put(open("old"), at(0), at(300));
        assert_eq!(taken(&mut pool, 300), None);
    }

    #[test]
    fn what_was_closed_is_not_used_again() {
        let (mut pool, closed) = (Pool::counted_by(Arc::default()), Rc::new(Cell::new(false)));
        pool.put(open("open"), at(0), at(0));
        pool.put(Wire("closed", Rc::clone(&closed)), at(0), at(0));
        closed.set(true);
        assert_eq!(taken(&mut pool, 0), Some("open"));
        assert!(!pool.prune(at(0)));
    }

    #[test]
    fn whoever_wants_a_fresh_one_gets_none_that_was_unused_and_leaves_it_to_others() {
        let mut pool = Pool::counted_by(Arc::default());
        pool.put(open("one"), at(0), at(0));
        assert!(pool.take(Duration::from_secs(1), at(2)).is_none());
        assert_eq!(taken(&mut pool, 2), Some("one"));
    }

    #[test]
    fn no_more_are_kept_than_may_be() {
        let mut pool = Pool::counted_by(Arc::default());
        (0..=KEPT_MAX).for_each(|n| {
            pool.put(open(if n == 0 { "oldest" } else { "other" }), at(0), at(0));
        });
        let names: Vec<_> = std::iter::from_fn(|| taken(&mut pool, 0)).collect();
        assert_eq!(names, ["other"; KEPT_MAX]);
    }
}
