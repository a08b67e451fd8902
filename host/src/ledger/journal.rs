//! A worker's journal: each call is written down before it goes out, and what it came to behind it.
//!
//! What is handed to the system survives the end of the process, however sudden, so nothing is flushed to the disk for
//! it. A call costs two short writes.

use super::bell::Bell;
use super::entry::{Booked, Closed, Entry, NAME_BYTES_MAX, Name, Opened};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{self, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Size from which on a worker goes on in another file, so that the former one can be deleted when all in it has ended.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Most bytes that wait for a disk that takes none. Beyond it entries are lost, which is counted.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// How often it is tried again to write what a disk has not taken.
const TRIED_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Most names in one file; then it goes on in another.
const NAMES_MAX: usize = 4 << 10;

/// The name of each journal's file begins so.
pub(super) const FILE_PREFIX: &str = "journal-";

/// Names of an [`Opened`], in the order of [`Name`]; an empty one is none.
pub(crate) type Names = [Arc<str>; Name::COUNT];

/// What is written of a call when it goes out.
#[derive(Clone, Debug)]
pub(crate) struct Going {
    pub at_unix_s: i64,
    pub names: Names,
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
    file: Option<File>,
    /// Bytes of it that are whole entries.
    length: u64,
    waiting: Vec<u8>,
    /// Whether some of `waiting` may have been written.
    is_torn: bool,
    names: HashMap<Arc<str>, u32>,
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
            file: None,
            length: 0,
            waiting: Vec::new(),
            is_torn: false,
            names: HashMap::new(),
            next_call: 0,
            is_failing: false,
        };
        Rc::new(Journal { state: RefCell::new(state), waits: Notify::new(), bell })
    }

    /// Writes down a call before it goes out, and answers its number.
    pub(super) fn open(&self, going: &Going) -> u64 {
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
        match state.write() {
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
    fn take_opened(&mut self, number: u64, going: &Going, bell: &Bell) {
        if self.length >= FILE_BYTES_MAX || self.names.len() > NAMES_MAX - Name::COUNT {
            self.begin_another();
        }
        let names = [0, 1, 2, 3, 4, 5].map(|index: usize| self.name(&going.names[index]));
        let &Going { at_unix_s, is_first, input, output, .. } = going;
        let opened = Opened { number, at_unix_s, names, requests: is_first.into(), input, output };
        self.take(&Entry::Opened(opened), bell);
    }

    fn name(&mut self, name: &Arc<str>) -> u32 {
        if let Some(number) = self.names.get(name) {
            return *number;
        }
        let cut = &name[..name.floor_char_boundary(NAME_BYTES_MAX)];
        Entry::Name(cut.to_owned()).write(&mut self.waiting);
        // There are at most as many as `NAMES_MAX`.
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.insert(Arc::clone(name), number);
        number
    }

    /// Goes on in another file, once what waits for this one is in it.
    fn begin_another(&mut self) {
        if self.write().is_ok() {
            self.file = None;
            self.file_number += 1;
            self.length = 0;
            self.names.clear();
        }
    }

    fn take(&mut self, entry: &Entry, bell: &Bell) {
        if self.waiting.len() < WAITING_BYTES_MAX {
            entry.write(&mut self.waiting);
        } else {
            bell.lost_one();
        }
    }

    /// Writes what waits. What was written in part is written anew.
    fn write(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let path = self.folder.join(format!("{FILE_PREFIX}{}-{:06}", self.stem, self.file_number));
                self.file.insert(OpenOptions::new().create_new(true).append(true).open(path)?)
            }
        };
        if std::mem::replace(&mut self.is_torn, true) {
            file.set_len(self.length)?;
        }
        file.write_all(&self.waiting)?;
        self.is_torn = false;
        self.length += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }
}
