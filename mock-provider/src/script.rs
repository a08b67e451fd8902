//! Which reply a request meets: rules first, then the queue of next answers, then the default behaviour.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::observe::RecordedRequest;
use super::reply::{Reply, healthy};

/// A condition on a request, for [`Provider::when`](super::Provider::when).
#[derive(Clone)]
pub struct Matcher(Arc<dyn Fn(&RecordedRequest) -> bool + Send + Sync>);

impl Matcher {
    /// Both must hold.
    pub fn and(self, other: Matcher) -> Matcher {
        request(move |request| (self.0)(request) && (other.0)(request))
    }

    /// Counts the requests that match.
    pub fn counted(self) -> (Matcher, Count) {
        let count = Count::default();
        let counting = count.clone();
        let matcher = request(move |request| {
            let matches = (self.0)(request);
            counting.0.fetch_add(u64::from(matches), Ordering::Relaxed);
            matches
        });
        (matcher, count)
    }
}

/// How many requests a [`Matcher::counted`] has matched; clones are the same count.
#[derive(Clone, Debug, Default)]
pub struct Count(Arc<AtomicU64>);

impl Count {
    /// So many until now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Requests of which this says yes.
pub fn request(condition: impl Fn(&RecordedRequest) -> bool + Send + Sync + 'static) -> Matcher {
    Matcher(Arc::new(condition))
}

/// Requests whose path contains this.
pub fn path_contains(part: &str) -> Matcher {
    let part = part.to_owned();
    request(move |request| request.path.contains(&part))
}

/// Requests for this model, named in the body or, by Gemini and Azure, in the path.
pub fn model(name: &str) -> Matcher {
    let name = name.to_owned();
    request(move |request| request.model() == Some(&name))
}

/// Requests with this header.
pub fn header(name: &str, value: &str) -> Matcher {
    let (name, value) = (name.to_owned(), value.to_owned());
    request(move |request| request.header(&name) == Some(&value))
}

/// Requests whose JSON body is as this wants it; a body that is not JSON is shown as `null`.
pub fn body(condition: impl Fn(&Value) -> bool + Send + Sync + 'static) -> Matcher {
    request(move |request| condition(request.json()))
}

/// The whole script, changed by the test while requests consult it.
pub(super) struct Script {
    default: Reply,
    queue: VecDeque<Reply>,
    /// Whom the queue and the default are for; all others are answered well. `None`: for everybody.
    only: Option<Matcher>,
    rules: Vec<(Matcher, Reply)>,
}

impl Script {
    pub(super) fn healthy() -> Self {
        Self { default: healthy(), queue: VecDeque::new(), only: None, rules: Vec::new() }
    }

    pub(super) fn always(&mut self, reply: Reply) {
        self.default = reply;
    }

    pub(super) fn next(&mut self, reply: Reply) {
        self.queue.push_back(reply);
    }

    pub(super) fn only(&mut self, matcher: Matcher) {
        self.only = Some(matcher);
    }

    pub(super) fn when(&mut self, matcher: Matcher, reply: Reply) {
        self.rules.push((matcher, reply));
    }

    /// Rules come first because they are the most specific: a request that one of them takes leaves the queue to those
    /// it was meant for. The youngest rule wins, so that a test can refine what its set-up said.
    pub(super) fn reply_to(&mut self, request: &RecordedRequest) -> Reply {
        let rule = self.rules.iter().rev().find(|(matcher, _)| (matcher.0)(request));
        match rule {
            Some((_, reply)) => reply.clone(),
            None if self.only.as_ref().is_some_and(|only| !(only.0)(request)) => healthy(),
            None => self.queue.pop_front().unwrap_or_else(|| self.default.clone()),
        }
    }
}
