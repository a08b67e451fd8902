//! How many files and connections this process may have open.

/// What macOS allows a process whose limit it calls unlimited: `OPEN_MAX`.
#[cfg(target_os = "macos")]
const OPEN_MAX: u64 = 10_240;

/// Windows counts connections among its handles, of which a process may have 16 million. What they take of memory is
/// what bounds them there, so this many are allowed: as many as there are ports.
#[cfg(windows)]
const HANDLES_USED_MAX: u64 = 65_536;

/// Raises the limit as far as the system lets us, and answers how many there may be.
#[cfg(unix)]
pub(crate) fn raise() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Some systems allow no more than they say, whatever they say; what was allowed before is still allowed then.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    #[cfg(target_os = "macos")]
    if raised.is_err() {
        let current = limit.maximum.unwrap_or(u64::MAX).min(OPEN_MAX);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum });
    }
    #[cfg(not(target_os = "macos"))]
    let _ = raised;
    allowed()
}

/// How many there may be as it is.
#[cfg(unix)]
pub(crate) fn allowed() -> u64 {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Answers how many there may be. There is nothing to raise.
#[cfg(windows)]
pub(crate) fn raise() -> u64 {
    allowed()
}

/// How many there may be as it is.
#[cfg(windows)]
pub(crate) fn allowed() -> u64 {
    HANDLES_USED_MAX
}
