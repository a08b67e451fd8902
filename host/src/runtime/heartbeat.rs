//! Whether workers still work: each one beats once a second, and one that has stopped is replaced.
//!
//! A worker is one thread, and whatever does not come back to its runtime holds everything on it. Its connections wait
//! with it, but those that come later need not: a new worker accepts from the same listener.

use crate::runtime::gauge::{Counted, Gauge};
use crate::runtime::sync::lock;
use pin_project_lite::pin_project;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;

/// How often a worker beats, and is looked at.
const BEAT: Duration = Duration::from_secs(1);
/// Looks in a row that find no beat before a worker counts as stuck. Looks are counted rather than time, so that a
/// machine that slept, or a process that was stopped, is not taken for a worker that is stuck.
const MISSED_MAX: u32 = 5;
/// Workers that were replaced and are still stuck. Beyond that no more are: each may be burning a processor.
const REPLACED_MAX: usize = 8;

/// What can be seen of a worker from outside.
#[derive(Debug)]
pub(crate) struct Pulse {
    beats: AtomicU64,
    /// The number of the request that runs this very moment; 0 for none.
    running: AtomicU64,
    /// The ids of all that are in hand.
    requests: Mutex<HashMap<u64, Arc<str>>>,
    next: AtomicU64,
    /// Connections and requests that hang on this worker.
    held: Arc<Gauge>,
    replaced: watch::Sender<bool>,
}

impl Default for Pulse {
    fn default() -> Self {
        Pulse {
            beats: AtomicU64::new(0),
            running: AtomicU64::new(0),
            requests: Mutex::default(),
            next: AtomicU64::new(1),
            held: Arc::default(),
            replaced: watch::Sender::new(false),
        }
    }
}

impl Pulse {
    /// Beats until the runtime ends.
    pub(crate) async fn beat(self: Arc<Self>) {
        loop {
            self.beats.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(BEAT).await;
        }
    }

    /// Takes a request in hand, so that it is known when it runs.
    pub(crate) fn take(self: &Arc<Self>, request_id: &str) -> InHand {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.requests().insert(number, Arc::from(request_id));
        InHand { pulse: Arc::clone(self), number, _held: self.held.begin() }
    }

    /// Does for a request what has a task of its own.
    pub(crate) async fn during<T>(self: Arc<Self>, request_id: String, work: impl Future<Output = T>) -> T {
        let in_hand = self.take(&request_id);
        in_hand.over(work).await
    }

    /// The request that runs this very moment.
    pub(crate) fn running(&self) -> Option<Arc<str>> {
        let number = self.running.load(Ordering::Relaxed);
        self.requests().get(&number).cloned()
    }

    /// Waits until another worker has taken this one's place.
    pub(crate) async fn replaced(&self) {
        let mut replaced = self.replaced.subscribe();
        // The sender lives as long as `self`.
        let _ = replaced.wait_for(|replaced| *replaced).await;
    }

    /// Counts a caller's connection to this worker as open until the returned value is dropped.
    pub(crate) fn begin_connection(&self) -> Counted {
        self.held.begin()
    }

    /// Waits until no caller is connected to this worker, and no request or job is in its hands.
    pub(crate) async fn at_rest(&self) {
        self.held.until_none().await;
    }

    fn requests(&self) -> MutexGuard<'_, HashMap<u64, Arc<str>>> {
        lock(&self.requests)
    }
}

/// A request that is in a worker's hands.
#[derive(Debug)]
pub(crate) struct InHand {
    pulse: Arc<Pulse>,
    number: u64,
    _held: Counted,
}

impl InHand {
    /// Watches all that is done for the request in this.
    pub(crate) fn over<T>(&self, inner: T) -> Watched<'_, T> {
        Watched { in_hand: self, inner }
    }

    /// Does something for the request.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = self.pulse.running.swap(self.number, Ordering::Relaxed);
        let done = work();
        self.pulse.running.store(before, Ordering::Relaxed);
        done
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.pulse.requests().remove(&self.number);
    }
}

pin_project! {
    /// Something that is watched while it runs.
    #[derive(Debug)]
    pub struct Watched<'w, T> {
        in_hand: &'w InHand,
        #[pin]
        inner: T,
    }
}

impl<T: Future> Future for Watched<'_, T> {
    type Output = T::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T::Output> {
        let this = self.project();
        this.in_hand.run(|| this.inner.poll(context))
    }
}

/// The place of a worker, and how it was last seen.
#[derive(Debug)]
struct Place<L> {
    name: String,
    listener: L,
    pulse: Arc<Pulse>,
    seen: Seen,
}

/// How often a worker was seen not to beat.
#[derive(Debug, Default)]
struct Seen {
    beats: u64,
    missed: u32,
}

impl Seen {
    /// Looks once more; true when the worker is stuck.
    fn look(&mut self, beats: u64) -> bool {
        if beats == self.beats {
            self.missed += 1;
        } else {
            *self = Seen { beats, missed: 0 };
        }
        self.missed >= MISSED_MAX
    }
}

/// All workers, for who looks after them. `L` is what a new one needs to take another's place.
#[derive(Debug)]
pub(crate) struct Places<L> {
    places: Vec<Place<L>>,
    /// Those that were replaced.
    former: Vec<Arc<Pulse>>,
}

impl<L> Default for Places<L> {
    fn default() -> Self {
        Places { places: Vec::new(), former: Vec::new() }
    }
}

impl<L> Places<L> {
    /// Looks after one more.
    pub(crate) fn add(&mut self, name: String, listener: L, pulse: Arc<Pulse>) {
        self.places.push(Place { name, listener, pulse, seen: Seen::default() });
    }

    /// Looks at all of them once a second, and has those that are stuck replaced. Dropped when no more are needed.
    pub(crate) async fn look_after(mut self, replace: impl Fn(&str, &L) -> io::Result<Arc<Pulse>>) {
        loop {
            tokio::time::sleep(BEAT).await;
            self.look(&replace);
        }
    }

    fn look(&mut self, replace: impl Fn(&str, &L) -> io::Result<Arc<Pulse>>) {
        // One that has come back to itself lets go of its pulse when all that hangs on it has ended.
        self.former.retain(|pulse| Arc::strong_count(pulse) > 1);
        for place in &mut self.places {
            if !place.seen.look(place.pulse.beats.load(Ordering::Relaxed)) {
                continue;
            }
            place.seen = Seen::default();
            let (worker, running) = (&*place.name, place.pulse.running());
            let request_id = running.as_deref();
            if self.former.len() >= REPLACED_MAX {
                tracing::error!(worker, request_id, "a worker is stuck; too many are for another to take its place");
                continue;
            }
            match replace(worker, &place.listener) {
                Ok(pulse) => {
                    tracing::error!(worker, request_id, "a worker is stuck; another takes its place");
                    let stuck = std::mem::replace(&mut place.pulse, pulse);
                    stuck.replaced.send_replace(true);
                    self.former.push(stuck);
                }
                Err(error) => {
                    tracing::error!(worker, request_id, %error, "a worker is stuck, and none can take its place");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn a_worker_is_stuck_when_it_has_missed_some_beats_in_a_row() {
        let mut seen = Seen::default();
        assert!(!seen.look(1));
        for _ in 1..MISSED_MAX {
            assert!(!seen.look(1));
        }
        // It comes back in the last moment.
        assert!(!seen.look(2));
        for _ in 1..MISSED_MAX {
            assert!(!seen.look(2));
        }
        assert!(seen.look(2));
    }

    #[tokio::test]
    async fn it_is_known_which_request_runs_and_only_while_it_does() {
        let pulse = Arc::new(Pulse::default());
        let inner = Arc::clone(&pulse);
        let (outer, within) = (pulse.take("req_outer"), pulse.take("req_inner"));
        let watched = outer.over(async move {
            let before = inner.running();
            let within = within.over(async { inner.running() }).await;
            tokio::task::yield_now().await;
            [before, within, inner.running()]
        });
        assert_eq!(pulse.running(), None);
        let ids = watched.await.map(|id| id.map(|id| id.to_string()).unwrap_or_default());
        assert_eq!(ids, ["req_outer", "req_inner", "req_outer"]);
        assert_eq!(pulse.running(), None);
        drop(outer);
        assert!(pulse.requests().is_empty());
    }

    #[test]
    fn one_that_is_stuck_is_replaced_once_and_others_are_left_alone() {
        let [lively, stuck, new] = [(); 3].map(|()| Arc::<Pulse>::default());
        let mut places = Places::default();
        places.add("worker-0".to_owned(), 0, Arc::clone(&lively));
        places.add("worker-1".to_owned(), 1, Arc::clone(&stuck));
        let replaced = RefCell::new(Vec::new());
        for _ in 0..4 * MISSED_MAX {
            for beating in [&lively, &new] {
                beating.beats.fetch_add(1, Ordering::Relaxed);
            }
            places.look(|name, listener| {
                replaced.borrow_mut().push((name.to_owned(), *listener));
                Ok(Arc::clone(&new))
            });
        }
        assert_eq!(replaced.into_inner(), [("worker-1".to_owned(), 1)]);
        assert!(*stuck.replaced.borrow());
        assert!(!*lively.replaced.borrow());
    }

    #[test]
    fn no_more_are_replaced_than_may_be_stuck() {
        let mut places = Places::default();
        let first = Arc::<Pulse>::default();
        places.add("worker-0".to_owned(), (), Arc::clone(&first));
        // Nobody beats, and nobody lets go.
        let kept = RefCell::new(vec![first]);
        for _ in 0..20 * MISSED_MAX {
            places.look(|_, ()| {
                let new = Arc::<Pulse>::default();
                kept.borrow_mut().push(Arc::clone(&new));
                Ok(new)
            });
        }
        assert_eq!(kept.borrow().len(), REPLACED_MAX + 1);
        // One comes back, and there is room for another.
        kept.borrow_mut().remove(0);
        for _ in 0..MISSED_MAX {
            places.look(|_, ()| Ok(Arc::default()));
        }
        assert_eq!(places.former.len(), REPLACED_MAX);
    }
}
