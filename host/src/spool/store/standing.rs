//! How the spool stands, for whoever has to tell: its own threads write it down, everybody reads it, and nobody waits
//! for a disk to learn it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::watch::Watch;
use crate::runtime::sync::lock;
use crate::spool::seal::Sealer;

/// What is open, and how it is read.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) database: PathBuf,
    pub(super) sealer: Sealer,
    pub(super) watch: Watch,
    /// What lies there ends with the container or the machine: the file system's name.
    pub(super) perishable: Option<&'static str>,
}

impl Opening {
    /// Whether the database is still where it was opened, whatever has become of the other files.
    pub(super) fn is_there(&self) -> bool {
        self.watch.is_as_it_was(&self.database)
    }
}

/// Why nothing is open.
#[derive(Debug, Clone)]
pub(super) struct Shut {
    pub(super) why: String,
    /// Another process has the folder.
    pub(super) is_anothers: bool,
}

/// What was promised and can no longer be kept.
#[derive(Debug)]
struct Loss {
    what: String,
    at: Instant,
}

#[derive(Debug)]
struct State {
    open: Result<Arc<Opening>, Shut>,
    /// Why nothing can be taken in although it is open.
    no_room: Option<String>,
    /// Why the last question could not be answered.
    unread: Option<String>,
    /// Why the last transaction could not be committed.
    unwritten: Option<String>,
    /// The last that was read and was not what had been written.
    damage: Option<String>,
    loss: Option<Loss>,
    /// Since when the writer has been at the same group.
    busy_since: Option<Instant>,
}

/// How the spool stands.
#[derive(Debug)]
pub(super) struct Standing {
    state: Mutex<State>,
    /// A group that takes longer is told as a trouble.
    hangs_after: Duration,
    /// How long a loss is told: as long as anybody may still ask for what was lost.
    retention: Duration,
}

impl Standing {
    pub(super) fn new(hangs_after: Duration, retention: Duration) -> Self {
        let open = Err(Shut { why: "it is being opened".to_owned(), is_anothers: false });
        let state =
            State { open, no_room: None, unread: None, unwritten: None, damage: None, loss: None, busy_since: None };
        Self { state: Mutex::new(state), hangs_after, retention }
    }

    pub(super) fn open(&self, opening: Arc<Opening>) {
        lock(&self.state).open = Ok(opening);
    }

    pub(super) fn shut(&self, shut: Shut) {
        let mut state = lock(&self.state);
        state.open = Err(shut);
        (state.no_room, state.unread, state.unwritten) = (None, None, None);
    }

    /// What is open.
    ///
    /// # Errors
    /// [`Failure::Shut`].
    pub(super) fn opening(&self) -> Result<Arc<Opening>, Failure> {
        lock(&self.state).open.clone().map_err(|shut| Failure::Shut(shut.why))
    }

    pub(super) fn is_anothers(&self) -> bool {
        lock(&self.state).open.as_ref().is_err_and(|shut| shut.is_anothers)
    }

    pub(super) fn has_room(&self, room: Result<(), String>) {
        lock(&self.state).no_room = room.err();
    }

    pub(super) fn was_read(&self, read: Result<(), String>) {
        lock(&self.state).unread = read.err();
    }

    /// Tells how a commit went, and answers whether that has changed.
    pub(super) fn was_written(&self, written: Result<(), String>) -> bool {
        let mut state = lock(&self.state);
        let before = state.unwritten.is_some();
        state.unwritten = written.err();
        before != state.unwritten.is_some()
    }

    pub(super) fn is_damaged(&self, what: String) {
        lock(&self.state).damage = Some(what);
    }

    /// What was damaged is no longer what is in use.
    pub(super) fn forget_damage(&self) {
        lock(&self.state).damage = None;
    }

    pub(super) fn has_lost(&self, what: String) {
        lock(&self.state).loss = Some(Loss { what, at: Instant::now() });
    }

    /// Counts the writer as at work until it says that it is not.
    pub(super) fn works(&self, works: bool) {
        lock(&self.state).busy_since = works.then(Instant::now);
    }

    /// Whether a request would be taken in, as far as is known.
    pub(super) fn promises(&self) -> bool {
        let state = lock(&self.state);
        state.open.is_ok() && state.no_room.is_none() && state.unwritten.is_none() && self.told_hang(&state).is_none()
    }

    /// What was lost, and how long ago, for as long as somebody may ask for it.
    pub(super) fn loss(&self) -> Option<String> {
        self.told_loss(&lock(&self.state))
    }

    /// Everything that is not as it should be, one sentence each.
    pub(super) fn troubles(&self) -> Vec<String> {
        let state = lock(&self.state);
        let opening = state.open.as_ref().ok();
        let shut = state.open.as_ref().err().map(|shut| format!("nothing can be kept: {}", shut.why));
        let hangs = self.told_hang(&state);
        let no_room = state.no_room.as_ref().map(|why| format!("nothing more can be kept: {why}"));
        let unread = state.unread.as_ref().map(|why| format!("it cannot be read: {why}"));
        let unwritten = state.unwritten.as_ref().map(|why| format!("it cannot be written: {why}"));
        let damage = state.damage.as_ref().map(|what| {
            format!(
                "its database is damaged ({what}). What is not damaged is served; to begin anew, move spool.db, spool.db-wal \
                 and spool.db-shm away, and keep them for recovery"
            )
        });
        let perishable = opening.and_then(|opening| {
            let dir = opening.database.parent().unwrap_or(&opening.database).display();
            let kind = opening.perishable?;
            Some(format!(
                "{dir} lies on {kind}: what is promised there ends with the container or the machine; give it a volume on \
                 a disk"
            ))
        });
        [shut, hangs, no_room, unread, unwritten, damage, self.told_loss(&state), perishable]
            .into_iter()
            .flatten()
            .collect()
    }

    /// That the writer is at one group for longer than a caller waits, if it is.
    pub(super) fn hangs(&self) -> Option<String> {
        self.told_hang(&lock(&self.state))
    }

    fn told_hang(&self, state: &State) -> Option<String> {
        let time = state.busy_since.map(|since| since.elapsed()).filter(|time| *time > self.hangs_after)?;
        Some(format!("its disk has not answered for {} s", time.as_secs()))
    }

    fn told_loss(&self, state: &State) -> Option<String> {
        let loss = state.loss.as_ref().filter(|loss| loss.at.elapsed() < self.retention)?;
        Some(format!("{} ({} s ago)", loss.what, loss.at.elapsed().as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_tests::wait::eventually;

    #[test]
    fn a_disk_that_does_not_answer_is_told_and_is_promised_nothing_on() {
        let standing = Standing::new(Duration::ZERO, Duration::ZERO);
        let opening = Opening {
            database: PathBuf::new(),
            sealer: Sealer::from_key(&[1; 32]),
            watch: Watch::new(Vec::new(), None),
            perishable: None,
        };
        standing.open(Arc::new(opening));
        assert!(standing.promises() && standing.troubles().is_empty());
        standing.works(true);
        eventually("it counts as hanging", || (!standing.promises()).then_some(()));
        assert!(standing.troubles().concat().contains("has not answered"), "{:?}", standing.troubles());
        standing.works(false);
        assert!(standing.promises() && standing.troubles().is_empty());
    }

    #[test]
    fn a_loss_is_told_for_as_long_as_what_was_lost_would_have_been_kept() {
        for (retention, told) in [(Duration::from_secs(60), true), (Duration::ZERO, false)] {
            let standing = Standing::new(Duration::from_secs(5), retention);
            standing.has_lost("three answers".to_owned());
            assert_eq!(standing.loss().is_some_and(|loss| loss.contains("three answers")), told);
        }
    }
}
