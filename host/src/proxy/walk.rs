//! Which target is asked next for a request, and which may be asked once more.

use crate::proxy::admission::Places;
use crate::proxy::candidate::Candidate;
use crate::proxy::target::{Target, Targets};
use crate::upstream::Upstream;
use spillway_resilience::{Place, Reach, Timestamp, rules_out};
use std::rc::Rc;
use std::sync::Arc;

/// What a request has gone through at one target.
#[derive(Default)]
pub(super) struct Past {
    /// Calls that were made there.
    pub attempts: u32,
    /// A request counts one failure at most: its repetitions are no independent evidence.
    pub has_failed: bool,
    /// Where it has waited before, so that a call that is refused keeps its place.
    pub places: Places,
}

/// A target on a request's way, with what was before.
pub(super) struct Stop {
    pub target: Rc<Target>,
    pub past: Past,
    /// Whether it was passed over before, or has failed, and is asked once more.
    pub is_asked_again: bool,
    /// Until when it is not to be asked again.
    pub not_before: Option<Timestamp>,
}

/// A request's way along its targets: each once in its turn, without waiting for any, and then those that may serve
/// later, the soonest first, for as long as there is patience.
pub(super) struct Walk<'a> {
    targets: &'a Targets,
    /// Who is asked next.
    position: usize,
    /// What failures have ruled out.
    ruled_out: Vec<(Reach, Place)>,
    /// Those that may serve later, and when.
    later: Vec<(Timestamp, Stop)>,
    /// Those whose context is too small, by their names and places.
    pub too_small: Vec<(Arc<str>, usize)>,
}

impl<'a> Walk<'a> {
    /// Its beginning. Where every context seems too small, the first one shall say so itself.
    pub(super) fn along(targets: &'a Targets) -> (Walk<'a>, Stop) {
        let mut walk = Walk { targets, position: 0, ruled_out: Vec::new(), later: Vec::new(), too_small: Vec::new() };
        let stop = match targets.is_chain() {
            true => walk.next_fresh(),
            false => None,
        };
        let first = stop.unwrap_or_else(|| {
            walk.position = targets.count();
            Stop { target: Rc::clone(targets.first()), past: Past::default(), is_asked_again: false, not_before: None }
        });
        (walk, first)
    }

    /// Whether anybody is left beside the one that is asked.
    pub(super) fn has_others(&self) -> bool {
        !self.later.is_empty() || self.fresh().next().is_some()
    }

    /// Those who may be asked in their turn.
    fn fresh(&self) -> impl Iterator<Item = &Candidate> + Clone {
        let left = (self.position..self.targets.count()).filter_map(|position| self.targets.candidate(position));
        left.filter(|candidate| self.is_possible(candidate))
    }

    /// Who would be asked next, if anybody is left beside the one that is asked.
    pub(super) fn following(&self) -> Option<&Arc<Upstream>> {
        let mut fresh = self.fresh();
        // One whose circuit is open is passed over, unless there are only such.
        let next = fresh.clone().find(|candidate| !candidate.is_shut(&self.targets.first().request));
        match next.or_else(|| fresh.next()) {
            Some(candidate) => Some(&candidate.upstream),
            None => self.soonest().map(|soonest| &self.later[soonest].1.target.upstream),
        }
    }

    /// Which of those comes first that may serve later: of two that let it in as soon, the one that was to be asked
    /// first.
    fn soonest(&self) -> Option<usize> {
        (0..self.later.len()).min_by_key(|index| self.later[*index].0)
    }

    fn is_too_small(&self, candidate: &Candidate) -> bool {
        candidate.is_too_small_for(&self.targets.first().request)
    }

    fn is_possible(&self, candidate: &Candidate) -> bool {
        let is_ruled_out = |(reach, failed): &(Reach, Place)| rules_out(*reach, *failed, candidate.place);
        !self.is_too_small(candidate) && !self.ruled_out.iter().any(is_ruled_out)
    }

    /// A failure at a target reaches so far: what it reaches is asked no more.
    pub(super) fn rule_out(&mut self, target: &Target, reach: Reach) {
        let Some(standing) = &target.standing else { return };
        self.ruled_out.push((reach, standing.place));
        self.later.retain(|(_, stop)| {
            let other = stop.target.standing.as_ref().map(|standing| standing.place);
            other.is_none_or(|other| !rules_out(reach, standing.place, other))
        });
    }

    /// A target may serve at that time, before which it is not to be asked, if it says so.
    pub(super) fn may_serve_later(&mut self, at: Timestamp, is_backoff: bool, target: Rc<Target>, past: Past) {
        let not_before = is_backoff.then_some(at);
        self.later.push((at, Stop { target, past, is_asked_again: true, not_before }));
    }

    /// Who is asked next, if anybody is.
    pub(super) fn next(&mut self) -> Option<Stop> {
        self.next_fresh().or_else(|| Some(self.later.remove(self.soonest()?).1))
    }

    fn next_fresh(&mut self) -> Option<Stop> {
        while let Some(candidate) = self.targets.candidate(self.position) {
            let position = self.position;
            self.position += 1;
            if self.is_too_small(candidate) {
                self.too_small.push((Arc::clone(&candidate.label), position));
            }
            if let Some(target) = self.is_possible(candidate).then(|| self.targets.at(position)).flatten() {
                return Some(Stop { target, past: Past::default(), is_asked_again: false, not_before: None });
            }
        }
        None
    }
}
