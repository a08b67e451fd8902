//! What is done though no request asks for it: opening circuits that stall, remembering how they stand and who has made
//! what, and noticing that the machine has slept or that its wall clock was set.

use crate::proxy::app::App;
use crate::runtime::fingerprint::FingerprintKey;
use crate::runtime::sync::{Mutex, lock};
use crate::spool::Spool;
use crate::state::circuit_file::CircuitFile;
use crate::state::maker_file::MakerFile;
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
pub(super) async fn look_after(app: Arc<App>) {
    let mut looks = tokio::time::interval(LOOK);
    let mut lost = LostLines::default();
    loop {
        looks.tick().await;
        if let Some(slept) = app.clock.notice_sleep() {
            // What calls did not end meanwhile says nothing about who was called.
            app.upstreams.values().for_each(|upstream| upstream.circuits.woken());
            tracing::info!(slept_s = slept.as_secs(), "the machine has slept; what was due meanwhile is due now");
        }
        app.upstreams.values().for_each(|upstream| {
            upstream.circuits.poll();
            upstream.lanes.tidy();
        });
        if let Some(ledger) = &app.ledger {
            ledger.look();
        }
        lost.look(app.means.log_lines_lost.get());
    }
}

/// Remembers how circuits and time stand until the process ends, and then once more. Writes to disk, and so belongs on
/// a thread of its own.
pub(super) async fn remember(
    app: Arc<App>,
    mut circuit_file: CircuitFile,
    time: Arc<Mutex<SteadyTime>>,
    mut end: oneshot::Receiver<oneshot::Sender<()>>,
) {
    let mut looks = tokio::time::interval(LOOK);
    loop {
        // Listening begins before saving, so that nothing that happens meanwhile is missed.
        let changed = app.circuit_changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        save(&app, &mut circuit_file);
        tokio::select! {
            () = &mut changed => {
                // Whoever ends the process does not wait for more to be gathered.
                let ended = tokio::time::timeout(GATHER, &mut end).await;
                if let Ok(remembered) = ended {
                    return finish(&app, &mut circuit_file, &time, remembered);
                }
            }
            remembered = &mut end => return finish(&app, &mut circuit_file, &time, remembered),
            _ = looks.tick() => keep_time(&app, &time),
        }
    }
}

/// Remembers who has made what until the process ends, and then once more. It has a thread of its own, since there may
/// be much to write, and a circuit's file is not to wait for that.
pub(super) async fn remember_makers(
    app: Arc<App>,
    mut file: MakerFile,
    key: FingerprintKey,
    mut end: oneshot::Receiver<oneshot::Sender<()>>,
) {
    let makers = app.chains.all_makers();
    let mut keep = || match may_write(&app) {
        true => file.save(&key, makers.changes(), || makers.remembered()),
        false => LOOK,
    };
    loop {
        let gather = keep();
        if let Ok(remembered) = tokio::time::timeout(gather, &mut end).await {
            keep();
            return tell(remembered);
        }
    }
}

/// A data folder that another process has is not written to: after its next start it would take our circuits for its
/// own.
fn may_write(app: &App) -> bool {
    !app.spool.as_ref().is_some_and(Spool::is_anothers)
}

fn save(app: &App, circuit_file: &mut CircuitFile) {
    if may_write(app) {
        circuit_file.save(&app.upstreams, app.clock);
    }
}

fn keep_time(app: &App, time: &Mutex<SteadyTime>) {
    if may_write(app) {
        lock(time).keep(&app.clock);
    }
}

fn finish(
    app: &App,
    circuit_file: &mut CircuitFile,
    time: &Mutex<SteadyTime>,
    remembered: Result<oneshot::Sender<()>, oneshot::error::RecvError>,
) {
    keep_time(app, time);
    save(app, circuit_file);
    tell(remembered);
}

/// Tells whoever ends the process that all is remembered. Nobody may be left who waits for it.
fn tell(remembered: Result<oneshot::Sender<()>, oneshot::error::RecvError>) {
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
