//! Waiting for what another process does: by looking again, until a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits before it fails. Long, because a loaded machine is slow and a wait that ends well never
/// reaches it.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Between two looks. Short against what is waited for, long against the cost of a look.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks until there is something to see; `None` when the deadline passes first.
pub fn within<T>(deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let give_up_at = Instant::now() + deadline;
    loop {
        let seen = look();
        if seen.is_some() || Instant::now() >= give_up_at {
            return seen;
        }
        thread::sleep(PAUSE);
    }
}

/// Looks until there is something to see.
///
/// # Panics
/// After [`DEADLINE`].
#[track_caller]
#[expect(clippy::panic, reason = "a wait in vain is a failed test, and panics are how tests fail")]
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, look).unwrap_or_else(|| panic!("waited {DEADLINE:?} in vain until {what}"))
}
