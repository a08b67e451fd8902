//! A count of what is under way, which can be awaited at zero.

use crate::runtime::sync::atomic::AtomicU64;
use crate::runtime::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::runtime::sync::{Arc, Mutex, lock};
use std::future::poll_fn;
use std::mem::take;
use std::task::{Poll, Waker};

/// Stands beside the count while somebody may wait for its end. The highest bit: a count never comes near it.
const AWAITED: u64 = 1 << 63;

/// How many of something are under way.
#[derive(Debug, Default)]
pub struct Gauge {
    /// The count, and [`AWAITED`]. Both in one word, because whoever ends the last and whoever begins to wait must not
    /// miss each other: of two changes to the same word one comes first, and the other sees it.
    state: AtomicU64,
    /// One per task that waits. A task that gave up waiting leaves its waker here until the next zero, so there are
    /// never more than tasks that have waited.
    waiting: Mutex<Vec<Waker>>,
}

impl Gauge {
    /// Counts one more until the returned value is dropped.
    pub fn begin(self: &Arc<Self>) -> Counted {
        // Nothing follows from a count that grows.
        self.state.fetch_add(1, Relaxed);
        Counted { gauge: Arc::clone(self) }
    }

    /// How many are under way. Others may have begun or ended by the time this returns.
    pub fn count(&self) -> u64 {
        self.state.load(Relaxed) & !AWAITED
    }

    /// Waits until none are under way, and then sees all that was done by those that were. Zero must last until the
    /// waiting task is polled: one that begins before is waited for as well.
    pub async fn until_none(&self) {
        poll_fn(|context| self.poll_none(context.waker())).await;
    }

    fn poll_none(&self, waker: &Waker) -> Poll<()> {
        let mut waiting = lock(&self.waiting);
        // Whoever ends the last from now on sees the mark, and comes for the wakers as soon as this lock is free. The
        // mark may stay though nobody waits; it costs the next zero a look.
        if self.state.fetch_or(AWAITED, Acquire) & !AWAITED == 0 {
            return Poll::Ready(());
        }
        if !waiting.iter().any(|other| other.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        Poll::Pending
    }

    fn wake(&self) {
        let woken = {
            let mut waiting = lock(&self.waiting);
            self.state.fetch_and(!AWAITED, Relaxed);
            take(&mut *waiting)
        };
        woken.into_iter().for_each(Waker::wake);
    }
}

/// One that is under way.
#[derive(Debug)]
pub struct Counted {
    gauge: Arc<Gauge>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.gauge.state.fetch_sub(1, Release) == AWAITED | 1 {
            self.gauge.wake();
        }
    }
}
