//! What the provider has seen: counts, the requests themselves, and waits on them.

use std::collections::VecDeque;
use std::panic::Location;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::Notify;

use super::lock;

/// Requests remembered; the oldest are forgotten first. More than any test looks at, little enough for a demo that
/// runs all day.
pub const MAX_RECORDED_REQUESTS: usize = 1024;

/// Bytes of request bodies remembered in all; beyond, the oldest requests are forgotten, never the newest.
pub const MAX_RECORDED_BYTES: usize = 64 << 20;

/// How long a wait takes before it panics. Long, because a loaded machine is slow and a wait that ends well never
/// reaches it.
pub const WAIT_DEADLINE: Duration = Duration::from_secs(20);

/// Counts since the start; `stop` and `start_again` do not reset them.
///
/// Every request started ends as exactly one of `completed`, `aborted` and `broken`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub open_connections: u64,
    /// Requests received whole.
    pub started: u64,
    /// Answers handed whole to the connection. Counted before the client can see their end.
    pub completed: u64,
    /// Answers that the client did not wait for: it went away before their end.
    pub aborted: u64,
    /// Answers that the script broke off (cut, reset, closed), or that [`stop`](super::Provider::stop) did.
    pub broken: u64,
}

impl Stats {
    /// Requests received and not yet ended.
    pub fn in_flight(&self) -> u64 {
        self.started - self.completed - self.aborted - self.broken
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordedRequest {
    /// Its number, from 1.
    pub number: u64,
    /// The number of the connection it came on, from 1, which tells whether connections are reused.
    pub connection: u64,
    /// The method, such as `POST`.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query, without the question mark.
    pub query: Option<String>,
    /// The headers in the order of arrival, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
    /// When its last byte had arrived.
    pub at: Instant,
    pub(super) json: Value,
}

impl RecordedRequest {
    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON, or `null` if it is none.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// The model asked for, from the body or the path (`models/NAME:method`, `deployments/NAME/`).
    pub fn model(&self) -> Option<&str> {
        let in_path = |marker: &str| {
            let (_, rest) = self.path.split_once(marker)?;
            rest.split([':', '/']).next()
        };
        let in_body = self.json["model"].as_str();
        in_body.or_else(|| in_path("/models/")).or_else(|| in_path("/deployments/"))
    }
}

/// How a request ended.
#[derive(Clone, Copy)]
pub(super) enum Outcome {
    Completed,
    Aborted,
    Broken,
}

#[derive(Default)]
struct Seen {
    stats: Stats,
    requests: VecDeque<Arc<RecordedRequest>>,
    recorded_bytes: usize,
    stopping: bool,
}

#[derive(Default)]
pub(super) struct Observer {
    seen: Mutex<Seen>,
    changed: Condvar,
    changed_async: Notify,
}

impl Observer {
    pub(super) fn stats(&self) -> Stats {
        lock(&self.seen).stats
    }

    pub(super) fn requests(&self) -> Vec<Arc<RecordedRequest>> {
        lock(&self.seen).requests.iter().cloned().collect()
    }

    pub(super) fn set_stopping(&self, stopping: bool) {
        self.change(|seen| seen.stopping = stopping);
    }

    pub(super) fn connection_opened(self: &Arc<Self>) -> OpenConnection {
        let number = self.change(|seen| {
            seen.stats.connections += 1;
            seen.stats.open_connections += 1;
            seen.stats.connections
        });
        OpenConnection { observer: self.clone(), number }
    }

    /// Numbers and records a request in one step, so that who has waited for it also finds it.
    pub(super) fn request_started(self: &Arc<Self>, mut request: RecordedRequest) -> (Arc<RecordedRequest>, Exchange) {
        let request = self.change(|seen| {
            seen.stats.started += 1;
            request.number = seen.stats.started;
            let request = Arc::new(request);
            seen.recorded_bytes += request.body.len();
            seen.requests.push_back(request.clone());
            while seen.requests.len() > MAX_RECORDED_REQUESTS
                || (seen.recorded_bytes > MAX_RECORDED_BYTES && seen.requests.len() > 1)
            {
                let forgotten = seen.requests.pop_front();
                seen.recorded_bytes -= forgotten.map_or(0, |request| request.body.len());
            }
            request
        });
        (request, Exchange { observer: self.clone(), settled: false })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        let result = change(&mut lock(&self.seen));
        self.changed.notify_all();
        self.changed_async.notify_waiters();
        result
    }

    pub(super) fn wait(
        &self,
        what: &str,
        caller: &Location<'_>,
        deadline: Duration,
        mut condition: impl FnMut(&Stats) -> bool,
    ) {
        let seen = lock(&self.seen);
        let waiting = self.changed.wait_timeout_while(seen, deadline, |seen| !condition(&seen.stats));
        // A poisoned lock means that a condition panicked elsewhere; the counts are sound all the same.
        let (seen, timeout) = waiting.unwrap_or_else(std::sync::PoisonError::into_inner);
        if timeout.timed_out() {
            let message = gave_up(what, caller, deadline, &seen);
            drop(seen);
            panic!("{message}");
        }
    }

    pub(super) async fn wait_async(
        &self,
        what: &str,
        caller: &Location<'_>,
        deadline: Duration,
        mut condition: impl FnMut(&Stats) -> bool,
    ) {
        let give_up_at = tokio::time::Instant::now() + deadline;
        loop {
            // Made before the look at the counts, so that no change between the look and the wait is missed.
            let changed = self.changed_async.notified();
            if condition(&self.stats()) {
                return;
            }
            if tokio::time::timeout_at(give_up_at, changed).await.is_err() {
                panic!("{}", gave_up(what, caller, deadline, &lock(&self.seen)));
            }
        }
    }
}

fn gave_up(what: &str, caller: &Location<'_>, deadline: Duration, seen: &Seen) -> String {
    let last = seen.requests.iter().rev().take(5).map(|request| {
        format!("\n  #{} {} {} ({} bytes)", request.number, request.method, request.path, request.body.len())
    });
    format!(
        "the mock provider waited {deadline:?} in vain for {what} (asked at {caller}).\n{:?}, in flight: {}\n\
         The last requests, youngest first:{}",
        seen.stats,
        seen.stats.in_flight(),
        last.collect::<String>(),
    )
}

/// Counts a connection as open for as long as it lives.
pub(super) struct OpenConnection {
    observer: Arc<Observer>,
    pub(super) number: u64,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.observer.change(|seen| seen.stats.open_connections -= 1);
    }
}

/// A request in flight. It is settled once; if nobody did before it is dropped, then hyper dropped it because the
/// client had gone.
pub(super) struct Exchange {
    observer: Arc<Observer>,
    settled: bool,
}

impl Exchange {
    /// Of a request that was not counted, and so needs no settling.
    pub(super) fn uncounted(observer: &Arc<Observer>) -> Self {
        Self { observer: observer.clone(), settled: true }
    }

    pub(super) fn settle(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        self.observer.change(|seen| match outcome {
            Outcome::Completed => seen.stats.completed += 1,
            Outcome::Aborted if !seen.stopping => seen.stats.aborted += 1,
            Outcome::Aborted | Outcome::Broken => seen.stats.broken += 1,
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.settle(Outcome::Aborted);
    }
}
