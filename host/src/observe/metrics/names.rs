//! Values of labels that callers choose: a bounded number of names, each with its figures.

use crate::runtime::sync::lock;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// The label of what has no name of its own among the figures.
pub(super) const OTHER: &str = "other";
/// The label of what names nothing.
pub(super) const NONE: &str = "none";
/// Longest name that becomes a label, in bytes. A longer one is counted as "other".
const NAME_BYTES_MAX: usize = 100;

/// How many names may still be taken, counted down together by all who share it.
#[derive(Debug)]
pub(super) struct Room(AtomicUsize);

impl Room {
    /// For so many names.
    pub(super) fn of(names_max: usize) -> Arc<Room> {
        Arc::new(Room(AtomicUsize::new(names_max)))
    }

    fn take(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// Figures by name. First come, first served: a name that has its own figures keeps them for as long as the process
/// lives, since counts that vanish and begin anew are misread. When there is no room left, and for whoever names
/// nothing, there are figures that all others share. Finding a name takes no lock.
#[derive(Debug)]
pub(super) struct Named<V> {
    by_name: ArcSwap<HashMap<Box<str>, Arc<V>>>,
    /// Held while a name is added.
    adding: Mutex<()>,
    room: Arc<Room>,
    other: V,
    none: V,
}

impl<V> Named<V> {
    /// Only what all others share, made by the label.
    pub(super) fn new(room: Arc<Room>, make: impl Fn(&str) -> V) -> Named<V> {
        Named { by_name: ArcSwap::default(), adding: Mutex::default(), room, other: make(OTHER), none: make(NONE) }
    }

    /// Counts at a name's own figures, or at those that it shares. Nobody gets own ones by being looked for.
    pub(super) fn at<T>(&self, name: Option<&str>, count: impl FnOnce(&V) -> T) -> T {
        let Some(name) = name else { return count(&self.none) };
        match self.by_name.load().get(name) {
            Some(own) => count(own),
            None => count(&self.other),
        }
    }

    /// Counts at a name's own figures; where it has none yet, it gets them as long as there is room.
    pub(super) fn at_own<T>(&self, name: Option<&str>, make: impl Fn(&str) -> V, count: impl FnOnce(&V) -> T) -> T {
        if let Some(name) = name {
            if let Some(own) = self.by_name.load().get(name) {
                return count(own);
            }
            self.add(name, make);
        }
        self.at(name, count)
    }

    /// Gives a name figures of its own, though no room is left: for names that the operator has given.
    pub(super) fn reserve(&self, name: &str, make: impl Fn(&str) -> V) {
        let _adding = lock(&self.adding);
        if !is_shared(name) {
            self.insert(name, make);
        }
    }

    #[cold]
    fn add(&self, name: &str, make: impl Fn(&str) -> V) {
        if name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return;
        }
        let _adding = lock(&self.adding);
        if !is_shared(name) && !self.by_name.load().contains_key(name) && self.room.take() {
            self.insert(name, make);
        }
    }

    fn insert(&self, name: &str, make: impl Fn(&str) -> V) {
        let mut more = HashMap::clone(&self.by_name.load());
        more.insert(name.into(), Arc::new(make(name)));
        self.by_name.store(Arc::new(more));
    }

    /// Everybody's figures: those of whoever names nothing, then by name, then those of all others.
    pub(super) fn each(&self, mut tell: impl FnMut(&str, &V)) {
        tell(NONE, &self.none);
        let by_name = self.by_name.load();
        let mut names: Vec<_> = by_name.iter().collect();
        names.sort_unstable_by_key(|(name, _)| &**name);
        names.into_iter().for_each(|(name, own)| tell(name, own));
        tell(OTHER, &self.other);
    }
}

/// Whether a label says something else already than that somebody has this name.
fn is_shared(name: &str) -> bool {
    [OTHER, NONE, ""].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn counts(named: &Named<AtomicUsize>) -> Vec<(String, usize)> {
        let mut counts = Vec::new();
        named.each(|name, count| counts.push((name.to_owned(), count.load(Ordering::Relaxed))));
        counts
    }

    fn count(named: &Named<AtomicUsize>, name: Option<&str>) {
        named.at_own(name, |_| AtomicUsize::default(), |count| count.fetch_add(1, Ordering::Relaxed));
    }

    fn pairs(pairs: &[(&str, usize)]) -> Vec<(String, usize)> {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn the_first_names_have_figures_of_their_own_and_the_rest_share_theirs() {
        let named = Named::new(Room::of(2), |_| AtomicUsize::default());
        for name in [Some("b"), Some("a"), Some("c"), Some("b"), None, Some("d")] {
            count(&named, name);
        }
        assert_eq!(counts(&named), pairs(&[("none", 1), ("a", 1), ("b", 2), ("other", 2)]));
    }

    #[test]
    fn who_is_only_looked_for_gets_no_figures_of_its_own() {
        let named = Named::new(Room::of(2), |_| AtomicUsize::default());
        named.at(Some("invented"), |count| count.fetch_add(1, Ordering::Relaxed));
        assert_eq!(counts(&named), pairs(&[("none", 0), ("other", 1)]));
    }

    #[test]
    fn names_that_would_be_mistaken_or_are_unfit_share_the_others_figures() {
        let named = Named::new(Room::of(9), |_| AtomicUsize::default());
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for name in ["other", "", "a\nb", &long] {
            count(&named, Some(name));
        }
        assert_eq!(counts(&named), pairs(&[("none", 0), ("other", 4)]));
    }

    #[test]
    fn what_the_operator_has_named_needs_no_room() {
        let named = Named::new(Room::of(0), |_| AtomicUsize::default());
        named.reserve("shop", |_| AtomicUsize::default());
        named.reserve("other", |_| AtomicUsize::default());
        count(&named, Some("shop"));
        count(&named, Some("elsewhere"));
        assert_eq!(counts(&named), pairs(&[("none", 0), ("shop", 1), ("other", 1)]));
    }

    #[test]
    fn nothing_is_lost_while_many_threads_bring_new_names() {
        let named = Named::new(Room::of(5), |_| AtomicUsize::default());
        thread::scope(|scope| {
            for thread in 0..4 {
                let named = &named;
                scope.spawn(move || (0..2_000).for_each(|n| count(named, Some(&format!("m{}", (n + thread) % 9)))));
            }
        });
        let counts = counts(&named);
        assert_eq!(counts.len(), 2 + 5);
        assert_eq!(counts.iter().map(|(_, count)| count).sum::<usize>(), 8_000);
    }
}
