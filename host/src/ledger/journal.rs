//! A worker's journal: each call is written down before it goes out, and what it came to behind it.
//!
//! What is handed to the system survives the end of the process, however sudden, and it is written in memory where the
//! system has such ([`memory`](super::memory)), so that no worker waits for a disk. A call costs two short entries.

use super::bell::Bell;
use super::entry::{Booked, Closed, Entry, NAME_BYTES_MAX, Name, Opened};
use super::journals::FILE_PREFIX;
use super::sheet::{self, Sheet};
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Most bytes that wait for a disk that takes none. Beyond it entries are lost, which is counted.
const WAITING_BYTES_MAX: usize = 256 << 10;
/// Size from which on a worker goes on in another file, so that the former one can be deleted: in memory once it is
/// copied, and on the disk when all in it has ended. What waits has room behind it, and what has ended in a file that is full.
const FILE_BYTES_MAX: usize = sheet::BYTES_MAX - 3 * WAITING_BYTES_MAX;
/// How often it is tried again to write what a disk has not taken.
const TRIED_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Most names in one file; then it goes on in another.
const NAMES_MAX: usize = 4 << 10;

/// What is written of a call when it goes out. Names are in the order of [`Name`]; an empty one is none.
#[derive(Clone, Debug)]
pub(crate) struct Going<'a> {
    pub at_unix_s: i64,
    pub names: [&'a Arc<str>; Name::COUNT],
    /// Whether it is the first of its request.
    pub is_first: bool,
    pub input: u64,
    pub output: u64,
}

/// One worker's journal.
#[derive(Debug)]
pub(crate) struct Journal {
    state: RefCell<State>,
    /// Rung when a disk has not taken something.
    waits: Notify,
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct State {
    folder: PathBuf,
    /// Tells it from the journals of other workers, and of other processes.
    stem: String,
    /// How many files came before this one.
    file_number: u32,
    sheet: Option<Sheet>,
    waiting: Vec<u8>,
    /// Whether any of what waits refers to names of this file.
    waits_with_names: bool,
    names: HashMap<Arc<str>, u32>,
    /// Those that were used last, each in its place.
    last: [Option<(Arc<str>, u32)>; Name::COUNT],
    next_call: u64,
    /// Whether the last write failed, which is told once.
    is_failing: bool,
}

impl Journal {
    /// A worker's journal in this folder. Nothing is written before the first call.
    pub(super) fn new(folder: PathBuf, stem: String, bell: Arc<Bell>) -> Rc<Journal> {
        let state = State {
            folder,
            stem,
            file_number: 0,
            sheet: None,
            waiting: Vec::new(),
            waits_with_names: false,
            names: HashMap::new(),
            last: Default::default(),
            next_call: 0,
            is_failing: false,
        };
        Rc::new(Journal { state: RefCell::new(state), waits: Notify::new(), bell })
    }

    /// Writes down a call before it goes out, and answers its number.
    pub(super) fn open(&self, going: &Going<'_>) -> u64 {
        let mut state = self.state.borrow_mut();
        let number = state.next_call;
        state.next_call += 1;
        state.take_opened(number, going, &self.bell);
        self.written(&mut state);
        number
    }

    /// It goes on, and has come to this already.
    pub(super) fn book(&self, number: u64, at_unix_s: i64, booked: Booked) {
        self.write(&Entry::Booked { number, at_unix_s, booked });
    }

    /// It has ended.
    pub(super) fn close(&self, number: u64, booked: Option<Booked>) {
        self.write(&Entry::Closed(Closed { number, booked }));
    }

    /// Writes what a disk has not taken, once it does; until `end`.
    pub(super) async fn keep_written(&self, end: impl Future<Output = ()>) {
        let kept = async {
            loop {
                self.waits.notified().await;
                tokio::time::sleep(TRIED_AGAIN_AFTER).await;
                self.flush();
            }
        };
        tokio::select! {
            () = kept => {}
            () = end => self.flush(),
        }
    }

    /// Writes what waits.
    pub(super) fn flush(&self) {
        let mut state = self.state.borrow_mut();
        if !state.waiting.is_empty() {
            self.written(&mut state);
        }
    }

    fn write(&self, entry: &Entry) {
        let mut state = self.state.borrow_mut();
        state.take(entry, &self.bell);
        self.written(&mut state);
    }

    fn written(&self, state: &mut State) {
        match state.write(&self.bell) {
            Ok(()) => {
                if std::mem::take(&mut state.is_failing) {
                    self.bell.recovered();
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut state.is_failing, true) {
                    self.bell.failed(&error);
                }
                // Once the disk takes it again.
                self.waits.notify_one();
            }
        }
        self.bell.ring();
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.flush();
    }
}

impl State {
    fn take_opened(&mut self, number: u64, going: &Going<'_>, bell: &Bell) {
        if self.is_full() || self.names.len() > NAMES_MAX - Name::COUNT {
            self.begin_another(bell);
        }
        if self.waiting.len() >= WAITING_BYTES_MAX {
            bell.lost_one();
            return;
        }
        self.waits_with_names = true;
        let names = std::array::from_fn(|place| self.name(place, going.names[place]));
        let &Going { at_unix_s, is_first, input, output, .. } = going;
        let opened = Opened { number, at_unix_s, names, requests: is_first.into(), input, output };
        Entry::Opened(opened).write(&mut self.waiting);
    }

    fn name(&mut self, place: usize, name: &Arc<str>) -> u32 {
        if let Some((last, number)) = &self.last[place]
            && last == name
        {
            return *number;
        }
        let number = self.names.get(name).copied().unwrap_or_else(|| {
            let cut = &name[..name.floor_char_boundary(NAME_BYTES_MAX)];
            Entry::Name(cut.to_owned()).write(&mut self.waiting);
            // There are at most as many as `NAMES_MAX`.
            let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
            self.names.insert(Arc::clone(name), number);
            number
        });
        self.last[place] = Some((Arc::clone(name), number));
        number
    }

    fn is_full(&self) -> bool {
        self.sheet.as_ref().is_some_and(|sheet| sheet.written() >= FILE_BYTES_MAX)
    }

    /// Goes on in another file, once what waits for this one is in it.
    fn begin_another(&mut self, bell: &Bell) {
        if self.write(bell).is_ok() {
            self.turn_over();
        }
    }

    fn turn_over(&mut self) {
        self.sheet = None;
        self.file_number += 1;
        self.names.clear();
        self.last = Default::default();
    }

    fn take(&mut self, entry: &Entry, bell: &Bell) {
        if self.waiting.len() < WAITING_BYTES_MAX {
            entry.write(&mut self.waiting);
        } else {
            bell.lost_one();
        }
    }

    /// Writes what waits.
    fn write(&mut self, bell: &Bell) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        if self.is_full() && !self.waits_with_names {
            self.turn_over();
        }
        let sheet = match &mut self.sheet {
            Some(sheet) => sheet,
            None => {
                let path = self.folder.join(format!("{FILE_PREFIX}{}-{:06}", self.stem, self.file_number));
                self.sheet.insert(bell.begin_sheet(&path)?)
            }
        };
        sheet.append(&self.waiting)?;
        self.waiting.clear();
        self.waits_with_names = false;
        Ok(())
    }
}
