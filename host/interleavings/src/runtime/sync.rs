//! Stands in for the host's `sync.rs`.

/// The real one, because loom's cannot be a method's receiver (`self: &Arc<Self>`). It only keeps things alive here: no
/// file infers anything from a count of owners.
pub use std::sync::Arc;

pub use loom::sync::{Mutex, MutexGuard, atomic};

use std::sync::PoisonError;

/// Locks.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
