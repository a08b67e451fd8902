//! A policy that is asked as the proxy asks it: within the same limits, with the built-in answer in place of a missing
//! one, and every call timed.

use crate::policy::{CallError, Instance, Module};
use spillway_sdk::{AttemptFacts, Exchange, RetryDecision, TripDecision, Verdict, WindowFacts, builtin};
use std::rc::Rc;
use std::time::Instant;

/// Times kept; more than any recorded log of ours holds. Later calls are not timed.
const TIMES_MAX: usize = 1_000_000;

/// A loaded policy at work. An instance that fails is replaced, as in the proxy.
pub(super) struct LoadedPolicy<'a> {
    module: &'a Module,
    instance: Option<Instance>,
    times_ns: Vec<u64>,
}

impl<'a> LoadedPolicy<'a> {
    pub(super) fn new(module: &'a Module) -> Self {
        LoadedPolicy { module, instance: None, times_ns: Vec::new() }
    }

    /// What the end of an attempt means: the policy's own answer, if it gives one.
    ///
    /// # Errors
    /// Why it gave no answer.
    pub(super) fn classify(&mut self, facts: &Rc<dyn AttemptFacts>) -> Result<Option<Verdict>, String> {
        if !self.module.about().hooks.classify {
            return Ok(None);
        }
        let facts = Rc::clone(facts);
        self.ask(|instance| instance.classify(facts))
    }

    /// What follows an attempt that is to be tried again.
    ///
    /// # Errors
    /// Why it gave no answer.
    pub(super) fn backoff(
        &mut self,
        facts: &Rc<dyn AttemptFacts>,
        verdict: &Verdict,
    ) -> Result<Option<RetryDecision>, String> {
        if !self.module.about().hooks.backoff {
            return Ok(None);
        }
        let facts = Rc::clone(facts);
        self.ask(|instance| instance.backoff(facts, verdict))
    }

    /// Whether a circuit opens.
    ///
    /// # Errors
    /// Why it gave no answer.
    pub(super) fn trip(&mut self, facts: &Rc<dyn WindowFacts>) -> Result<Option<TripDecision>, String> {
        if !self.module.about().hooks.trip {
            return Ok(None);
        }
        let facts = Rc::clone(facts);
        self.ask(|instance| instance.trip(facts))
    }

    fn ask<T>(
        &mut self,
        call: impl FnOnce(&mut Instance) -> Result<Option<T>, CallError>,
    ) -> Result<Option<T>, String> {
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.module.instantiate().map_err(|error| error.to_string())?,
        };
        let began = Instant::now();
        let answer = call(&mut instance).map_err(|error| error.to_string())?;
        if self.times_ns.len() < TIMES_MAX {
            self.times_ns.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        self.instance = Some(instance).filter(|instance| !instance.is_worn());
        Ok(answer)
    }

    /// Begins to time anew.
    pub(super) fn forget_times(&mut self) {
        self.times_ns.clear();
    }

    /// How long its calls took; none before the first.
    pub(super) fn times(&mut self) -> Option<Times> {
        Times::of(&mut self.times_ns)
    }
}

/// What is decided when a policy leaves its answer open.
pub(super) fn effective(answer: Option<Verdict>, facts: &dyn AttemptFacts) -> Verdict {
    answer.unwrap_or_else(|| builtin::classify(&Exchange::new(facts)))
}

/// Quantiles of calls' times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Times {
    pub(super) calls: usize,
    pub(super) median_ns: u64,
    pub(super) p99_ns: u64,
}

impl Times {
    /// Sorts the times; none when there are none.
    pub(super) fn of(times_ns: &mut [u64]) -> Option<Times> {
        times_ns.sort_unstable();
        let last = times_ns.len().checked_sub(1)?;
        Some(Times { calls: times_ns.len(), median_ns: times_ns[last / 2], p99_ns: times_ns[last * 99 / 100] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_taken_from_the_sorted_times() {
        let mut times: Vec<u64> = (0..=100).rev().collect();
        assert_eq!(Times::of(&mut times), Some(Times { calls: 101, median_ns: 50, p99_ns: 99 }));
        assert_eq!(Times::of(&mut []), None);
    }
}
