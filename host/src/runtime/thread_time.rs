//! How much processor time a thread has used.

use std::time::Duration;

/// Processor time of this thread.
#[cfg(unix)]
pub(crate) fn thread_cpu_time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Processor time of this thread, in clock ticks of 16 ms. Zero where the system does not tell: what is bounded by it is
/// then bounded by the time that passes.
#[cfg(windows)]
pub(crate) fn thread_cpu_time() -> Duration {
    cpu_time::ThreadTime::try_now().map_or(Duration::ZERO, |time| time.as_duration())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_thread_that_works_uses_time() {
        let (before, deadline) = (thread_cpu_time(), Instant::now() + Duration::from_secs(20));
        while thread_cpu_time() == before {
            assert!(Instant::now() < deadline, "nothing was counted in 20 s of work");
        }
    }
}
