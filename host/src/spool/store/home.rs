//! Where the store lives: opened, watched while it is open, and opened again when that can be done.
//!
//! Whatever keeps it from being open, the process lives on without it: nothing is promised then, and everybody can see
//! why in [`Standing`].

use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::SpoolSettings;
use super::ballast::{Ballast, no_room_to_open};
use super::failure::Failure;
use super::folder::Folder;
use super::operations::Limits;
use super::standing::{Opening, Shut, Standing};
use super::upkeep;
use super::writer::{Store, checkpoint};
use crate::spool::error::{OpenError, StoreError};
use crate::spool::seal::Key;

/// How long it stays shut before it is opened again. Long enough for whoever deletes or moves a folder to be done with
/// it, and short beside the time after which a refused caller comes again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The time in unix milliseconds, which is not before that of the latest change that is handed to it.
pub(super) type Time = Box<dyn Fn(u64) -> u64 + Send>;

pub(super) struct Home {
    settings: SpoolSettings,
    limits: Limits,
    incarnation: [u8; 16],
    now_ms: Time,
    standing: Arc<Standing>,
    // Dropped in this order: SQLite must have tidied up before somebody else may lock the folder.
    opened: Option<Opened>,
    folder: Option<Folder>,
    /// The last key in use, should its file be deleted.
    key: Option<Key>,
    /// What is open, or was last. Any damage that is told is its.
    last: Option<Arc<Opening>>,
    /// What `last` was when its files changed, until another is open.
    left: Option<Left>,
    /// A database was missing, and none has been opened in its place yet.
    vanished: bool,
    /// Has the reader let go of what was left.
    let_go: Box<dyn Fn() + Send>,
    try_again_at: Instant,
    /// The kind of error that the log was told last; its numbers may change every second.
    told: Option<Discriminant<OpenError>>,
}

struct Opened {
    store: Store,
    ballast: Ballast,
}

/// What the database that is being opened is to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The first that this process sees here, and nothing says that there was another.
    First,
    /// The one that was open before.
    Same,
    /// Not the one that was open before.
    Another,
    /// An empty one, although there was another: one that was open before, or one whose key is still there.
    Begun,
}

/// A store whose files have changed.
struct Left {
    why: String,
    held: Option<Held>,
    /// Held open until another is, which could be taken for the same file otherwise: a number that is free is given to
    /// the next one.
    _store: Option<Store>,
}

/// What a database held.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// Jobs to be served.
    waiting: u64,
    /// Jobs that have ended, most of them with an answer.
    ended: u64,
}

impl Home {
    pub(super) fn new(
        settings: SpoolSettings,
        limits: Limits,
        incarnation: [u8; 16],
        now_ms: Time,
        standing: Arc<Standing>,
        let_go: Box<dyn Fn() + Send>,
    ) -> Self {
        Self {
            settings,
            limits,
            incarnation,
            now_ms,
            standing,
            opened: None,
            folder: None,
            key: None,
            last: None,
            left: None,
            vanished: false,
            let_go,
            try_again_at: Instant::now(),
            told: None,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The store that is open.
    ///
    /// # Errors
    /// [`Failure::Shut`].
    pub(super) fn store(&self) -> Result<&Store, Failure> {
        match &self.opened {
            Some(opened) => Ok(&opened.store),
            // After a failed commit it is open again before the next, or shut with a reason.
            None => {
                Err(self.standing.opening().err().unwrap_or_else(|| Failure::Shut("it is being opened".to_owned())))
            }
        }
    }

    /// Has the store open if it can be: leaves one whose files have changed, and opens one when it is time for that.
    ///
    /// # Errors
    /// [`Failure::Shut`].
    pub(super) fn look(&mut self) -> Result<(), Failure> {
        self.leave_if_changed();
        if self.opened.is_none() && Instant::now() >= self.try_again_at && !self.is_left_still_read() {
            // Why not is told where everybody sees it.
            let _ = self.open();
        }
        if let Some(opened) = &mut self.opened {
            self.standing.has_room(opened.ballast.room());
        }
        self.store().map(|_| ())
    }

    /// Whether requests may be admitted.
    ///
    /// # Errors
    /// Why not, for the caller to hear.
    pub(super) fn room(&mut self) -> Result<(), String> {
        let room = self.opened.as_mut().map_or(Ok(()), |opened| opened.ballast.room());
        self.standing.has_room(room.clone());
        room
    }

    /// Makes room for what was admitted, if it is the disk that is full.
    pub(super) fn make_room_to_drain(&mut self) {
        if let Some(opened) = &mut self.opened {
            opened.ballast.make_room_to_drain();
        }
    }

    /// Gives up a connection that is not to be trusted any more. The next look opens another.
    pub(super) fn disconnect(&mut self) {
        self.opened = None;
        self.try_again_at = Instant::now();
    }

    /// Leaves the store if its files are no longer those in the folder.
    pub(super) fn leave_if_changed(&mut self) {
        let Some(last) = self.last.as_ref().filter(|_| self.left.is_none()) else { return };
        let why = match &self.opened {
            Some(_) => last.watch.changed(),
            // SQLite itself deletes the log when the last connection ends.
            None => (!last.is_there()).then(|| format!("{} is gone", last.database.display())),
        };
        let Some(why) = why else { return };
        let store = self.opened.take().map(|opened| opened.store);
        let held = store.as_ref().and_then(|store| {
            // What only the log holds goes into the database, wherever that lies: it may have been moved, or only the
            // log be gone.
            if let Err(failure) = checkpoint(&store.connection, "FULL") {
                tracing::warn!(?failure, "the log of the spool that is left cannot be copied into its database");
            }
            held(&store.connection)
        });
        let store = store.filter(|_| !last.is_there());
        self.left = Some(Left { why: why.clone(), held, _store: store });
        tracing::error!(why, "the spool is shut, and soon opened anew; live traffic goes on");
        self.standing.shut(Shut { why, is_anothers: false });
        self.try_again_at = Instant::now() + TRY_AGAIN;
        (self.let_go)();
    }

    /// Whether the reader is still connected to what was left. A database must not be opened beside a connection to
    /// another of the same name: they would share a log's index.
    fn is_left_still_read(&self) -> bool {
        let is_read = self.left.is_some() && self.last.as_ref().is_some_and(|last| Arc::strong_count(last) > 1);
        if is_read {
            (self.let_go)();
        }
        is_read
    }

    /// Opens the store, or tells why it cannot be.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(super) fn open(&mut self) -> Result<(), OpenError> {
        match self.try_open() {
            Ok(opened) => {
                self.opened = Some(opened);
                (self.left, self.vanished, self.told) = (None, false, None);
                tracing::info!(dir = %self.settings.dir.display(), "the spool is open");
                Ok(())
            }
            Err(error) => {
                let error = self.explain(error);
                if self.told.replace(discriminant(&error)) != Some(discriminant(&error)) {
                    tracing::error!(
                        why = %error,
                        "the spool cannot be opened: live traffic is served, nothing is promised, and it is tried again"
                    );
                }
                let is_anothers = matches!(error, OpenError::Locked { .. });
                self.standing.shut(Shut { why: error.to_string(), is_anothers });
                self.try_again_at = Instant::now() + TRY_AGAIN;
                Err(error)
            }
        }
    }

    fn try_open(&mut self) -> Result<Opened, OpenError> {
        let folder = match self.folder.take().filter(Folder::is_locked) {
            Some(folder) => folder,
            None => Folder::lock(self.settings.dir.clone())?,
        };
        let folder = self.folder.insert(folder);
        let mut ballast = Ballast::new(folder.dir(), self.settings.max_size);
        ballast.make_room_to_open();
        let sealing = folder.sealing(self.settings.sealer.clone(), self.key.as_ref())?;
        let had_database = folder.has_database();
        let database = folder.database();
        let is_same = had_database && self.last.as_ref().is_some_and(|last| last.is_there());
        self.vanished |= !had_database && (self.last.is_some() || (sealing.key.is_some() && !sealing.is_new));
        let origin = match &self.last {
            _ if self.vanished => Origin::Begun,
            Some(_) if is_same => Origin::Same,
            Some(_) => Origin::Another,
            None => Origin::First,
        };
        if origin != Origin::Same {
            self.standing.forget_damage();
            folder.put_old_log_aside(self.last.as_ref().map(|last| &last.watch));
        }
        let connection = folder.open_database(&sealing.sealer, &self.limits).inspect_err(|_| {
            if sealing.is_new {
                folder.take_back_key();
            }
        })?;
        let store = Store {
            connection,
            sealer: sealing.sealer.clone(),
            incarnation: self.incarnation,
            limits: self.limits,
            standing: Arc::clone(&self.standing),
        };
        let now_ms = (self.now_ms)(upkeep::latest_ms(&store.connection));
        upkeep::recover(&store, now_ms).map_err(|failure| OpenError::Database {
            path: database.clone(),
            problem: StoreError::from(failure).to_string(),
        })?;
        let watch = folder.watch(sealing.key.clone())?;
        let opening = Arc::new(Opening { database, sealer: sealing.sealer, watch, perishable: folder.perishable() });
        ballast.restore();
        self.key = sealing.key.or(self.key.take());
        self.tell_loss(origin);
        self.standing.open(Arc::clone(&opening));
        self.last = Some(opening);
        Ok(Opened { store, ballast })
    }

    /// An error that has its reason in a full disk says so, and how full.
    fn explain(&self, error: OpenError) -> OpenError {
        match error {
            OpenError::Folder { .. } | OpenError::Database { .. } => {
                no_room_to_open(&self.settings.dir, self.settings.max_size).map_or(error, OpenError::NoRoom)
            }
            error => error,
        }
    }

    /// A database that took the place of another is no reason to be silent about what that one held.
    fn tell_loss(&mut self, origin: Origin) {
        let left = self.left.take();
        let now = match origin {
            // One that was only away for a while has lost nothing.
            Origin::First | Origin::Same => return,
            Origin::Another => "another one is in its place",
            Origin::Begun => "an empty one was begun",
        };
        let path = self.path();
        let what = match (left, &self.last) {
            (Some(Left { why, held: Some(Held { waiting, ended }), .. }), _) => format!(
                "the database {path} is not the one it was ({why}), and {now}: {waiting} requests that were to be served \
                 and {ended} that had ended are lost with the old one"
            ),
            (Some(Left { why, held: None, .. }), _) => format!(
                "the database {path} is not the one it was ({why}), and {now}: what the old one held is lost with it"
            ),
            (None, Some(_)) => {
                format!("the database {path} is not the one it was, and {now}: what the old one held is lost with it")
            }
            (None, None) => format!(
                "there was a key but no database {path}, and {now}: requests that were kept there get no answer. If you \
                 have that database, stop Spillway and put it back with its key"
            ),
        };
        tracing::error!("{what}");
        self.standing.has_lost(what);
    }

    fn path(&self) -> String {
        let database = self.folder.as_ref().map(Folder::database);
        database.unwrap_or_default().display().to_string()
    }
}

/// What the database held, as far as it can still be read.
fn held(connection: &Connection) -> Option<Held> {
    let tally =
        "SELECT SUM(jobs) FILTER (WHERE state IN (0, 1)), SUM(jobs) FILTER (WHERE state NOT IN (0, 1)) FROM tally";
    let counts = connection.query_row(tally, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
    let (waiting, ended) = counts.ok()?;
    Some(Held { waiting: waiting.unsigned_abs(), ended: ended.unsigned_abs() })
}
