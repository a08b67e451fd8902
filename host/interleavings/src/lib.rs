//! What Spillway's threads share, where it is more than a value behind a lock, checked by [`loom`] in the
//! interleavings of its threads and with the old values that weakly ordered memory may show them. Loom's word is not
//! the last: it knows no reads ahead of time, and takes `SeqCst` for `AcqRel`.
//!
//! The files are the host's own, included by path and compiled against other names: `crate::runtime::sync` gives them
//! loom's locks and atomics here, and `crate::runtime::clock` a time that only a model moves. So there is no copy that
//! could stray from what runs, the host needs neither a feature nor a `cfg` for it, and these checks run wherever
//! `cargo test` does. A file can be included when it shares state through `crate::runtime::sync` only, and names
//! nothing else of the host.
//!
//! The models are this crate's tests, one file for each of the host's. A thread that is never woken is a deadlock to
//! loom, and fails the model.

// The included files have unit tests of their own, which belong to the host and need all of it.
#![cfg(not(test))]

pub mod runtime;

// rustfmt would look for this file's tests beside it. It is formatted with the host.
#[rustfmt::skip]
#[path = "../../src/upstream/gate.rs"]
pub mod gate;
#[path = "../../src/runtime/gauge.rs"]
pub mod gauge;
#[path = "../../src/policy/health.rs"]
pub mod health;

/// Preemptions that [`bounded_model`] goes up to: more than the two or three that loom's authors found to bring most
/// defects to light, and few enough to be through within seconds.
pub const PREEMPTIONS_MAX: usize = 4;

/// As [`loom::model`], but only in the interleavings with at most [`PREEMPTIONS_MAX`], for models that have too many.
pub fn bounded_model(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(model);
}
