//! What an upstream has for some of its parts only: a circuit, a lane. It comes into being when something is said of
//! the part, and goes when there is nothing to tell any more.

use crate::upstream::scope::{Protects, Subject};
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::iter;
use std::sync::Arc;

/// So many things of one kind, at most, by the part that they are for.
#[derive(Debug)]
pub(crate) struct Parts<T> {
    capacity: usize,
    /// Read by every call without a lock; replaced as a whole when one comes or goes, which is rare.
    parts: ArcSwap<HashMap<Protects, Arc<T>>>,
}

impl<T> Parts<T> {
    /// None yet, and never more than `capacity`.
    pub(crate) fn new(capacity: usize) -> Self {
        Parts { capacity, parts: ArcSwap::default() }
    }

    /// That of one part.
    pub(crate) fn find(&self, protects: &Protects) -> Option<Arc<T>> {
        self.parts.load().get(protects).map(Arc::clone)
    }

    /// Those of all that a call belongs to, the narrowest first.
    pub(crate) fn of(&self, subject: Subject<'_>) -> Vec<Arc<T>> {
        let parts = self.parts.load();
        // While nothing is said there are none, and a model's name need not be copied to look for them.
        if parts.is_empty() {
            return Vec::new();
        }
        let belongs_to = subject.parts();
        let all = belongs_to.iter().chain(iter::once(&Protects::Upstream));
        all.filter_map(|part| parts.get(part).map(Arc::clone)).collect()
    }

    /// All of them, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        self.parts.load().values().map(Arc::clone).collect()
    }

    /// That of one part, made if there is none. When all are in use those that `may_go` make room; `None` if none may.
    pub(crate) fn find_or_make(
        &self,
        protects: &Protects,
        make: impl FnOnce() -> T,
        may_go: impl Fn(&T) -> bool,
    ) -> Option<Arc<T>> {
        if let Some(found) = self.find(protects) {
            return Some(found);
        }
        let made = Arc::new(make());
        // May be repeated if another thread adds one meanwhile; its own is kept then.
        self.parts.rcu(|parts| {
            let mut parts = HashMap::clone(parts);
            if parts.len() >= self.capacity {
                parts.retain(|_, part| !may_go(part));
            }
            if parts.len() < self.capacity {
                parts.entry(protects.clone()).or_insert_with(|| Arc::clone(&made));
            }
            parts
        });
        self.find(protects)
    }

    /// Lets all go that may.
    pub(crate) fn tidy(&self, may_go: impl Fn(&T) -> bool) {
        if self.parts.load().is_empty() {
            return;
        }
        self.parts.rcu(|parts| {
            let mut parts = HashMap::clone(parts);
            parts.retain(|_, part| !may_go(part));
            parts
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Subject<'_> = Subject { model: Some("m"), credential: 7 };

    fn make(parts: &Parts<u64>, credential: u64) -> Option<u64> {
        parts.find_or_make(&Protects::Credential(credential), || credential, |kept| *kept == 1).map(|made| *made)
    }

    #[test]
    fn a_call_finds_those_of_its_parts_the_narrowest_first() {
        let parts = Parts::new(9);
        assert!(parts.of(CALL).is_empty());
        let [of_both, of_credential, of_model] = CALL.parts();
        for (protects, rank) in [(Protects::Upstream, 4), (of_model, 3), (of_both, 1), (of_credential, 2)] {
            assert_eq!(parts.find_or_make(&protects, || rank, |_| false).as_deref(), Some(&rank));
        }
        assert_eq!(make(&parts, 8), Some(8), "somebody else's");
        assert_eq!(parts.of(CALL).into_iter().map(|rank| *rank).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }

    #[test]
    fn what_is_there_is_not_made_again() {
        let parts = Parts::new(9);
        let protects = Protects::Model("m".into());
        assert_eq!(parts.find_or_make(&protects, || 1, |_| false).as_deref(), Some(&1));
        assert_eq!(parts.find_or_make(&protects, || 2, |_| false).as_deref(), Some(&1));
    }

    #[test]
    fn when_all_are_in_use_those_that_may_go_make_room_and_the_others_stay() {
        let parts = Parts::new(2);
        assert_eq!((make(&parts, 1), make(&parts, 2)), (Some(1), Some(2)));
        assert_eq!(make(&parts, 3), Some(3), "the first has gone");
        assert_eq!(make(&parts, 4), None);
        assert_eq!((make(&parts, 2), make(&parts, 3), parts.all().len()), (Some(2), Some(3), 2));
        parts.tidy(|kept| *kept == 2);
        assert_eq!(parts.all().len(), 1);
    }
}
