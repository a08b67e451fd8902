//! File events, reduced to a ring: something has changed.

use crate::runtime::file_identity::FileId;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

/// Rings that wait to be answered. One says as much as many.
pub(super) const RINGS_MAX: usize = 1;

/// Something has changed.
#[derive(Debug)]
pub(super) struct Ring;

/// The folders that are watched.
pub(super) struct Doorbells {
    ring: SyncSender<Ring>,
    /// The watchers, and which folder each watches: one that vanishes and returns is another.
    hung: BTreeMap<PathBuf, (RecommendedWatcher, FileId)>,
    /// Folders that send no events, which the log says once of each.
    silent: BTreeSet<PathBuf>,
}

impl Doorbells {
    pub(super) fn new(ring: SyncSender<Ring>) -> Self {
        Doorbells { ring, hung: BTreeMap::new(), silent: BTreeSet::new() }
    }

    /// Watches a folder, if it exists and is not being watched.
    pub(super) fn hang(&mut self, folder: &Path) {
        let Ok(id) = FileId::of(folder) else {
            self.hung.remove(folder);
            return;
        };
        if self.hung.get(folder).is_some_and(|(_, watched)| *watched == id) {
            return;
        }
        let ring = self.ring.clone();
        let rang = move |event: notify::Result<Event>| {
            // Events that were lost may have been anything.
            if event.is_ok_and(|event| !is_change(&event)) {
                return;
            }
            // When it is full, a ring is waiting already.
            let _ = ring.try_send(Ring);
        };
        let watcher = notify::recommended_watcher(rang).and_then(|mut watcher| {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        match watcher {
            Ok(watcher) => {
                self.silent.remove(folder);
                self.hung.insert(folder.to_owned(), (watcher, id));
            }
            Err(error) => {
                self.hung.remove(folder);
                if self.silent.insert(folder.to_owned()) {
                    tracing::warn!(dir = %folder.display(), %error, "the folder sends no events; it is polled");
                }
            }
        }
    }
}

/// Whether an event may mean that a file is another now.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        // Reading a file rings as well; answering that would never end.
        EventKind::Access(_) => false,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
}

/// Waits for a ring, for `patience` at most, but until `not_before` in any case: a file that is written to without end
/// rings without end. Whoever waits holds the doorbells, so there is always somebody who could ring.
pub(super) fn wait(rings: &Receiver<Ring>, patience: Duration, not_before: Instant) {
    let mut patience = patience;
    loop {
        let _ = rings.recv_timeout(patience);
        patience = not_before.saturating_duration_since(Instant::now());
        if patience.is_zero() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, ModifyKind, RenameMode};
    use std::sync::mpsc::sync_channel;

    #[test]
    fn writing_rings_and_reading_does_not() {
        let read = EventKind::Access(AccessKind::Open(AccessMode::Any));
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::Both));
        assert!(!is_change(&Event::new(read)));
        for kind in [written, renamed, EventKind::Create(CreateKind::File), EventKind::Other] {
            assert!(is_change(&Event::new(kind)), "{kind:?}");
        }
    }

    #[test]
    fn rings_without_end_are_answered_no_sooner_than_wanted() {
        let (ring, rings) = sync_channel(2);
        let not_before = Instant::now() + Duration::from_millis(30);
        for _ in 0..2 {
            ring.send(Ring).expect("somebody listens");
        }
        wait(&rings, Duration::from_secs(60), not_before);
        assert!(Instant::now() >= not_before);
        assert!(rings.try_recv().is_err(), "both were answered together");
    }
}
