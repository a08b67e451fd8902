//! What is spent, by whom and on what, and what may be.
//!
//! [`Accounts`] decide, in memory. Each call that they let out is written to its worker's [`Journal`] before it goes out,
//! and what it came to behind it; the keeper, a thread, takes the journals over into the database, and nobody else ever
//! waits for a disk. After a restart the
//! sums are those of the database, in which calls that were under way stand as they were estimated.

mod accounts;
mod bell;
mod calendar;
mod entry;
mod error;
mod follower;
mod hold;
mod journal;
mod journals;
mod left;
mod memory;
mod report;
mod sheet;
mod store;

pub(crate) use accounts::{Accounts, Payer, Standing, Terms, Whose};
pub(crate) use entry::{Booked, Length, Mark, Name};
pub(crate) use error::LedgerError;
pub(crate) use hold::{Cost, Hold, Subject};
pub(crate) use journal::Journal;
pub(crate) use report::{Dimension, Line, Question, ask};
pub(crate) use store::{Store, Sums};

use self::bell::Bell;
use self::follower::Follower;
use crate::config::Config;
use crate::runtime::clock::Clock;
use crate::runtime::gauge::Gauge;
use crate::runtime::private;
use spillway_resilience::{Amounts, Asked, Period};
use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The ledger's folder, in the data folder.
const FOLDER: &str = "ledger";
/// The file that says that a process keeps it.
const LOCK: &str = "lock";
/// How long the keeper waits for more, so that what comes together is written together.
const TOGETHER: Duration = Duration::from_millis(100);
/// How often what is old is condensed.
const CONDENSED_EVERY: Duration = Duration::from_secs(15 * 60);
/// How long the keeper may take for what is left at the end.
const END_TAKES_AT_MOST: Duration = Duration::from_secs(5);
/// How long the keeper waits after something went wrong.
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The ledger of one process.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) accounts: Accounts,
    /// Where journals are written.
    journals_in: PathBuf,
    /// Begins the names of this process's journals.
    stem: String,
    clock: Clock,
    bell: Arc<Bell>,
    /// How many journals there were so far.
    journal_count: AtomicU32,
    /// Journals that are written to.
    written: Arc<Gauge>,
    end: watch::Sender<bool>,
}

/// The keeper, and what it keeps.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// Whether its thread is at work.
    keeps: Arc<Gauge>,
    ledger: Arc<Ledger>,
}

/// What a ledger was opened with.
pub(crate) struct Opened {
    pub ledger: Arc<Ledger>,
    follower: Follower,
    lock: File,
    retention: Duration,
}

/// Where a configuration's ledger lies.
pub(crate) fn folder(config: &Config) -> PathBuf {
    config.spool.dir.join(FOLDER)
}

impl Ledger {
    /// Opens a configuration's ledger, and takes over what earlier processes have left in it.
    ///
    /// # Errors
    /// When it cannot be kept, or another process keeps it.
    pub(crate) fn open(config: &Config, clock: Clock) -> Result<Opened, LedgerError> {
        let folder = folder(config);
        let wrong = |source| LedgerError::File { path: folder.clone(), source };
        private::make_folder(&folder).map_err(wrong)?;
        let lock = File::options().create(true).truncate(false).write(true).open(folder.join(LOCK)).map_err(wrong)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LedgerError::Kept(folder)),
            Err(TryLockError::Error(source)) => return Err(wrong(source)),
        }
        let memory = memory::folder(&folder).inspect_err(|error| {
            tracing::info!(%error, "the ledger is written to its disk at once: a disk that hangs holds up whom it serves");
        });
        let memory = memory.ok();
        let bell = Arc::new(Bell::new(memory.is_some()));
        let follower = Follower::open(&folder, memory.as_deref(), Arc::clone(&bell))?;
        let ledger = Arc::new(Ledger {
            accounts: Accounts::new(config, clock),
            stem: format!("{:016x}", clock.unix_ms()),
            journals_in: memory.unwrap_or(folder),
            clock,
            bell,
            journal_count: AtomicU32::new(0),
            written: Arc::default(),
            end: watch::Sender::new(false),
        });
        Ok(Opened { ledger, follower, lock, retention: config.ledger.retention })
    }

    /// A worker's journal, which is written by a task of that worker's.
    pub(crate) fn journal(self: &Arc<Self>) -> Rc<Journal> {
        let number = self.journal_count.fetch_add(1, Ordering::Relaxed);
        let journal =
            Journal::new(self.journals_in.clone(), format!("{}-{number:06}", self.stem), Arc::clone(&self.bell));
        let (ledger, written, counted) = (Arc::clone(self), Rc::clone(&journal), self.written.begin());
        tokio::task::spawn_local(async move {
            let mut end = ledger.end.subscribe();
            written.keep_written(async { drop(end.wait_for(|ends| *ends).await) }).await;
            drop(counted);
        });
        journal
    }

    /// Reserves at this moment what a call may cost.
    ///
    /// # Errors
    /// The allowance that is in the way.
    pub(crate) fn hold(
        self: &Arc<Self>,
        journal: &Rc<Journal>,
        subject: &Subject,
        asked: &Asked,
        is_first: bool,
        now_ms: u64,
    ) -> Result<Hold, Box<Standing>> {
        Hold::new(self, journal, subject, asked, is_first, now_ms)
    }

    /// Why nothing is written at present, if so.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.bell.trouble()
    }

    /// Looks whether the disk hangs, and tells of it once.
    pub(crate) fn look(&self) {
        self.bell.look();
    }

    /// Entries that were lost because nothing could be written.
    pub(crate) fn lost(&self) -> u64 {
        self.bell.lost()
    }

    fn unix_s(&self) -> i64 {
        whole_seconds(self.clock.unix_ms())
    }
}

fn whole_seconds(unix_ms: u64) -> i64 {
    i64::try_from(unix_ms / 1_000).unwrap_or(i64::MAX)
}

impl Opened {
    /// Restores what was spent in the periods that are not over, once the accounts of all keys are there, and has a
    /// thread keep the ledger from here on. `cost` says what a sum has cost, as far as it has a price.
    ///
    /// # Errors
    /// When the ledger cannot be read, or no thread can be started.
    pub(crate) fn keep(mut self, cost: impl Fn(&report::Priced<'_>) -> u128) -> Result<Keeper, LedgerError> {
        let Opened { ledger, follower, .. } = &mut self;
        let calendar = ledger.accounts.calendar();
        for period in Period::ALL {
            let since = calendar.of(period).starts_unix_s;
            report::spent_since(follower.store(), since, |key, group, priced| {
                let Sums { requests, counts, .. } = priced.sums;
                let amounts = Amounts {
                    requests,
                    input_tokens: counts.input,
                    output_tokens: counts.output,
                    cost_pico_dollars: cost(&priced),
                };
                ledger.accounts.restore(key, group, period, &amounts);
            })?;
        }
        let Opened { ledger, follower, lock, retention } = self;
        let (kept, keeps) = (Arc::clone(&ledger), Arc::<Gauge>::default());
        let at_work = keeps.begin();
        thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || {
                keep(&kept, follower, retention);
                // The folder is ours for as long as anything may be written to it.
                drop((lock, at_work));
            })
            .map_err(|source| LedgerError::File { path: PathBuf::from(FOLDER), source })?;
        Ok(Keeper { keeps, ledger })
    }
}

/// Takes over what the journals say, until the end.
fn keep(ledger: &Ledger, mut follower: Follower, retention: Duration) {
    ledger.bell.heard_here();
    let mut condensed: Option<Instant> = None;
    loop {
        let ends = ledger.bell.ends();
        ledger.bell.at_round(true);
        let mut done = if ends { follower.finish() } else { follower.follow() };
        if done.is_ok() && condensed.is_none_or(|then| then.elapsed() >= CONDENSED_EVERY) {
            condensed = Some(Instant::now());
            done = follower.store().condense(ledger.unix_s(), retention).map_err(LedgerError::from);
        }
        ledger.bell.at_round(false);
        ledger.bell.took_over(&done);
        if ends {
            return;
        }
        if done.is_err() {
            thread::park_timeout(TRIED_AGAIN_AFTER);
        } else {
            while !ledger.bell.was_rung() && !ledger.bell.ends() {
                thread::park();
            }
            if !ledger.bell.ends() {
                thread::sleep(TOGETHER);
            }
        }
    }
}

impl Keeper {
    /// Has what is known written, and the keeper take it over. Nobody waits for a disk that hangs: what it has not taken
    /// stays in the journals, for the next process.
    pub(crate) async fn end(self) {
        self.ledger.end.send_replace(true);
        self.ledger.written.until_none().await;
        self.ledger.bell.end();
        if tokio::time::timeout(END_TAKES_AT_MOST, self.keeps.until_none()).await.is_err() {
            tracing::warn!("the ledger's disk does not answer; what was spent last is left to the next start");
        }
    }
}
