//! File events, reduced to a ring: something has changed.

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

/// Rings that wait to be answered. One says as much as many.
pub(super) const RINGS_MAX: usize = 1;

/// Something has changed.
#[derive(Debug)]
pub(super) struct Ring;

/// Which names in a folder ring; none: all.
pub(super) type Names = Option<BTreeSet<OsString>>;

/// The folders that are watched.
pub(super) struct Doorbells {
    ring: SyncSender<Ring>,
    /// The watchers, and the inode of the folder each watches: one that vanishes and returns is another.
    hung: BTreeMap<PathBuf, (RecommendedWatcher, u64)>,
    /// Folders that send no events, which the log says once of each.
    silent: BTreeSet<PathBuf>,
}

impl Doorbells {
    pub(super) fn new(ring: SyncSender<Ring>) -> Self {
        Doorbells { ring, hung: BTreeMap::new(), silent: BTreeSet::new() }
    }

    /// Watches a folder, if it exists and is not being watched.
    pub(super) fn hang(&mut self, folder: &Path, names: impl FnOnce() -> Names) {
        let Ok(metadata) = fs::metadata(folder) else {
            self.hung.remove(folder);
            return;
        };
        if self.hung.get(folder).is_some_and(|(_, inode)| *inode == metadata.ino()) {
            return;
        }
        let (ring, names) = (self.ring.clone(), names());
        let rang = move |event: notify::Result<Event>| {
            // Events that were lost may have been anything.
            if event.is_ok_and(|event| !concerns(&event, &names)) {
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
                self.hung.insert(folder.to_owned(), (watcher, metadata.ino()));
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

/// Whether an event may mean that one of these names stands for something else now.
fn concerns(event: &Event, names: &Names) -> bool {
    let only_read = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        // Reading a file rings as well; answering that would never end.
        EventKind::Access(_) => true,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => false,
    };
    let named = |path: &PathBuf| match (names, path.file_name()) {
        (Some(names), Some(name)) => names.contains(name),
        (None, _) | (_, None) => true,
    };
    // Without paths it tells that events were lost.
    !only_read && (event.paths.is_empty() || event.paths.iter().any(named))
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
    use notify::event::{CreateKind, DataChange, ModifyKind, RenameMode};
    use std::sync::mpsc::sync_channel;

    fn event(kind: EventKind, names: &[&str]) -> Event {
        names.iter().fold(Event::new(kind), |event, name| event.add_path(Path::new("folder").join(name)))
    }

    #[test]
    fn a_log_beside_the_configuration_does_not_ring_and_an_editors_rename_does() {
        let names = Some(BTreeSet::from(["spillway.toml".into()]));
        let write = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let rename = |mode| EventKind::Modify(ModifyKind::Name(mode));
        assert!(!concerns(&event(write, &["spillway.log"]), &names));
        assert!(!concerns(&event(EventKind::Create(CreateKind::File), &["spillway.toml.swp"]), &names));
        assert!(concerns(&event(write, &["spillway.toml"]), &names));
        assert!(concerns(&event(rename(RenameMode::To), &["spillway.toml"]), &names));
        assert!(concerns(&event(rename(RenameMode::Both), &[".spillway.toml.tmp", "spillway.toml"]), &names));
        assert!(concerns(&event(write, &["any.wasm"]), &None), "without names everything rings");
        assert!(concerns(&event(EventKind::Other, &[]), &names), "events were lost");
    }

    #[test]
    fn reading_does_not_ring() {
        let read = EventKind::Access(AccessKind::Open(AccessMode::Any));
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        assert!(!concerns(&event(read, &["any.wasm"]), &None));
        assert!(concerns(&event(written, &["any.wasm"]), &None));
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
