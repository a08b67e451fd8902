//! The thread that counts the engine's time while there are calls to time. A proxy that has nothing to do wakes nobody.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

/// How often it ticks.
pub(super) const TICK_MS: u64 = 1;
/// Ticks that follow a call's beginning at least. More than the longest call has, so that ticking on while calls come
/// in costs a write to shared memory only this seldom.
const TICKS_PER_ROUND: u32 = 128;

/// Ticks in rounds, and rests after a round in which no call began.
pub(super) struct Ticker {
    tick: Box<dyn Fn() + Send + Sync>,
    /// Whether a call began in this round.
    wanted: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Ticker {
    /// Starts a thread that calls `tick`. It ends with the last reference to the ticker.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub(super) fn start(tick: impl Fn() + Send + Sync + 'static) -> io::Result<Arc<Ticker>> {
        let ticker = Arc::new(Ticker { tick: Box::new(tick), wanted: AtomicBool::new(false), thread: OnceLock::new() });
        let weak = Arc::downgrade(&ticker);
        thread::Builder::new().name("policy-ticker".into()).spawn(move || run(&weak))?;
        Ok(ticker)
    }

    /// To be called when a call begins, and whenever it is looked at and goes on: a whole round of ticks follows at
    /// least.
    ///
    /// Whoever finds the ticker wanted does so before the round's end takes note of that, and another round follows;
    /// whoever finds it unwanted makes it so and ends its rest.
    pub(super) fn keep_ticking(&self) {
        if !self.wanted.load(SeqCst) {
            self.wanted.store(true, SeqCst);
            self.unpark();
        }
    }

    fn unpark(&self) {
        // A thread that has not begun yet begins with a round.
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.unpark();
    }
}

fn run(ticker: &Weak<Ticker>) {
    while let Some(here) = ticker.upgrade() {
        let _ = here.thread.set(thread::current());
        drop(here);
        for _ in 0..TICKS_PER_ROUND {
            let Some(ticker) = ticker.upgrade() else { return };
            (ticker.tick)();
            drop(ticker);
            thread::sleep(Duration::from_millis(TICK_MS));
        }
        let wanted = ticker.upgrade().is_none_or(|ticker| ticker.wanted.swap(false, SeqCst));
        if !wanted {
            thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::time::Instant;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn wait_until(what: &str, condition: impl Fn() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < PATIENCE, "{what}");
            thread::yield_now();
        }
    }

    /// Ticks so far, once there were none for several ticks' time.
    fn at_rest(ticks: &AtomicU32) -> u32 {
        let began = Instant::now();
        loop {
            let before = ticks.load(SeqCst);
            thread::sleep(Duration::from_millis(50 * TICK_MS));
            if ticks.load(SeqCst) == before {
                return before;
            }
            assert!(began.elapsed() < PATIENCE, "it never rests");
        }
    }

    #[test]
    fn it_rests_when_no_call_begins_and_each_call_that_begins_gets_a_round_of_ticks() {
        let ticks = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&ticks);
        let ticker = Ticker::start(move || {
            counted.fetch_add(1, SeqCst);
        })
        .expect("a thread");
        for _ in 0..3 {
            let rested = at_rest(&ticks);
            ticker.keep_ticking();
            wait_until("a round follows", || ticks.load(SeqCst) >= rested + TICKS_PER_ROUND);
        }
        at_rest(&ticks);
        drop(ticker);
        wait_until("the thread ends, and lets go of what it calls", || Arc::strong_count(&ticks) == 1);
    }
}
