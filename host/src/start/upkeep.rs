//! What is done though no request asks for it: opening circuits that stall, remembering how they stand, and noticing that
//! the machine has slept or that its wall clock was set.

use crate::proxy::worker::Shared;
use crate::runtime::sync::{Mutex, lock};
use crate::spool::Spool;
use crate::state::circuit_file::Memory;
use crate::state::steady::SteadyTime;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often circuits and clocks are looked at. A stall is measured in minutes, so a second is soon enough.
const LOOK: Duration = Duration::from_secs(1);
/// How long transitions are gathered before they are written. A process that is killed within it forgets them.
const GATHER: Duration = Duration::from_millis(50);
/// How often it is said that lines of the log were lost, while that goes on.
const SAY_LOST: Duration = Duration::from_secs(60);

/// Looks after circuits and time until the process ends. It touches no disk, which may hang.
pub(super) async fn look_after(shared: Arc<Shared>) {
    let mut looks = tokio::time::interval(LOOK);
    let mut lost = LostLines::default();
    loop {
        looks.tick().await;
        if let Some(slept) = shared.clock.notice_sleep() {
            // What calls did not end meanwhile says nothing about who was called.
            shared.upstreams.values().for_each(|upstream| upstream.circuits.woken());
            tracing::info!(slept_s = slept.as_secs(), "the machine has slept; what was due meanwhile is due now");
        }
        shared.upstreams.values().for_each(|upstream| {
            upstream.circuits.poll();
            upstream.lanes.tidy();
        });
        lost.look(shared.means.log_lines_lost.get());
    }
}

/// Remembers how circuits and time stand until the process ends, and then once more. Writes to disk, and so belongs on a
/// thread of its own.
pub(super) async fn remember(
    shared: Arc<Shared>,
    mut memory: Memory,
    time: Arc<Mutex<SteadyTime>>,
    mut end: oneshot::Receiver<oneshot::Sender<()>>,
) {
    let mut looks = tokio::time::interval(LOOK);
    loop {
        // Listening begins before saving, so that nothing that happens meanwhile is missed.
        let changed = shared.circuit_changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        save(&shared, &mut memory);
        tokio::select! {
            () = &mut changed => {
                // Whoever ends the process does not wait for more to be gathered.
                let ended = tokio::time::timeout(GATHER, &mut end).await;
                if let Ok(remembered) = ended {
                    return finish(&shared, &mut memory, &time, remembered);
                }
            }
            remembered = &mut end => return finish(&shared, &mut memory, &time, remembered),
            _ = looks.tick() => keep_time(&shared, &time),
        }
    }
}

/// A data folder that another process has is not written to: after its next start it would take our circuits for its own.
fn save(shared: &Shared, memory: &mut Memory) {
    if !shared.spool.as_ref().is_some_and(Spool::is_anothers) {
        memory.save(&shared.upstreams, shared.clock);
    }
}

fn keep_time(shared: &Shared, time: &Mutex<SteadyTime>) {
    if !shared.spool.as_ref().is_some_and(Spool::is_anothers) {
        lock(time).keep(&shared.clock);
    }
}

fn finish(
    shared: &Shared,
    memory: &mut Memory,
    time: &Mutex<SteadyTime>,
    remembered: Result<oneshot::Sender<()>, oneshot::error::RecvError>,
) {
    keep_time(shared, time);
    save(shared, memory);
    if let Ok(remembered) = remembered {
        let _ = remembered.send(());
    }
}

/// What was said of the lines that the log has lost.
#[derive(Debug, Default)]
struct LostLines {
    said: u64,
    last: Option<Instant>,
}

impl LostLines {
    fn look(&mut self, lost: u64) {
        if lost == self.said || self.last.is_some_and(|last| last.elapsed() < SAY_LOST) {
            return;
        }
        let lines = lost - self.said;
        tracing::warn!(lines, "lines of the log were lost: whoever reads it is too slow, or its disk is full");
        (self.said, self.last) = (lost, Some(Instant::now()));
    }
}
