//! What threads share state with, named in one place so that a model checker's versions can stand in for it: see
//! `host/interleavings`.

pub(crate) use std::sync::{Arc, Mutex, MutexGuard, atomic};

use std::sync::PoisonError;

/// Locks. What is locked in Spillway are values without half-done states, so whoever panicked while holding one left
/// it as consistent as it was.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
