//! Takes over what the journals say: each entry once, whatever ends in between.
//!
//! How far a file has come is written together with what was taken over from it. Whatever is cut off goes on from there.

use super::entry::{Booked, Closed, Counts, Entries, Entry, Length, Mark, Name, Opened};
use super::journal::FILE_PREFIX;
use super::store::{About, Applied, Batch, MINUTE_S, Store, Sums};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Why the ledger cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    /// Its database.
    #[error("its database: {0}")]
    Database(#[from] rusqlite::Error),
    /// Its folder or a journal.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process keeps it.
    #[error("another Spillway keeps its ledger in {}; give this one another `spool.dir`", .0.display())]
    Kept(PathBuf),
}

/// A journal's file, as far as it was read.
#[derive(Debug, Default)]
struct Reading {
    offset: u64,
    names: Vec<String>,
    /// Calls that were opened in it and have not ended.
    open: u64,
}

/// A call that is under way.
#[derive(Debug)]
struct Call {
    opened: Opened,
    names: [String; Name::COUNT],
    /// The file in which it was opened.
    file: String,
}

/// Follows all journals of a folder.
#[derive(Debug)]
pub(super) struct Follower {
    folder: PathBuf,
    store: Store,
    files: BTreeMap<String, Reading>,
    /// By the stem of its journal and its number.
    calls: HashMap<(String, u64), Call>,
    /// What was read and is not written yet.
    batch: Batch,
}

impl Follower {
    /// Opens the ledger, and takes over what earlier processes have left: of calls that were under way, what was
    /// estimated.
    pub(super) fn open(folder: &Path) -> Result<Follower, LedgerError> {
        let store = Store::open(folder)?;
        let mut follower = Follower {
            folder: folder.to_owned(),
            store,
            files: BTreeMap::new(),
            calls: HashMap::new(),
            batch: Batch::default(),
        };
        follower.recover()?;
        Ok(follower)
    }

    pub(super) fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Takes over what has been written since.
    pub(super) fn follow(&mut self) -> Result<(), LedgerError> {
        for file in self.journals()? {
            self.read(&file, None)?;
        }
        self.let_go();
        self.commit()
    }

    fn recover(&mut self) -> Result<(), LedgerError> {
        let applied = self.store.applied()?;
        let files = self.journals()?;
        for file in &files {
            match applied.get(file) {
                Some(Applied::Done) => {}
                Some(Applied::Bytes(bytes)) => self.read(file, Some(*bytes))?,
                Some(Applied::Gone) | None => self.read(file, None)?,
            }
        }
        for (_, call) in std::mem::take(&mut self.calls) {
            let counts = Counts { input: call.opened.input, output: call.opened.output, ..Counts::default() };
            let booked = Booked { mark: Mark::Killed, counts, tier: 0, length: Length::of(counts.input) };
            book(&mut self.batch, &call, call.opened.at_unix_s, (call.opened.requests.into(), 1), &booked);
        }
        self.files.clear();
        let done = files.iter().map(|file| (file.clone(), Applied::Done));
        self.batch.applied = applied.into_keys().map(|file| (file, Applied::Gone)).chain(done).collect();
        self.commit()?;
        self.delete(files)
    }

    /// The journals there are, in the order in which their worker has written them.
    fn journals(&self) -> Result<Vec<String>, LedgerError> {
        let wrong = |source| LedgerError::File { path: self.folder.clone(), source };
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(wrong)? {
            let name = entry.map_err(wrong)?.file_name().to_string_lossy().into_owned();
            if name.starts_with(FILE_PREFIX) {
                files.push(name);
            }
        }
        files.sort();
        Ok(files)
    }

    /// Reads on in a file. What stands before `applied` is known, and only tells which calls are under way.
    fn read(&mut self, file: &str, applied: Option<u64>) -> Result<(), LedgerError> {
        let path = self.folder.join(file);
        let from = self.files.entry(file.to_owned()).or_default().offset;
        let bytes = read_from(&path, from).map_err(|source| LedgerError::File { path, source })?;
        let mut entries = Entries::of(&bytes);
        while let Some(entry) = entries.next() {
            let read = from + (bytes.len() - entries.unread()) as u64;
            let is_known = applied.is_some_and(|applied| read <= applied);
            self.take(file, entry, is_known);
        }
        let read = from + (bytes.len() - entries.unread()) as u64;
        if let Some(reading) = self.files.get_mut(file)
            && read > reading.offset
        {
            reading.offset = read;
            self.batch.applied.insert(file.to_owned(), Applied::Bytes(read));
        }
        Ok(())
    }

    fn take(&mut self, file: &str, entry: Entry, is_known: bool) {
        let stem = stem(file).to_owned();
        match entry {
            Entry::Name(name) => {
                if let Some(reading) = self.files.get_mut(file) {
                    reading.names.push(name);
                }
            }
            Entry::Opened(opened) => {
                let Some(reading) = self.files.get_mut(file) else { return };
                let name = |number: u32| reading.names.get(number as usize).cloned().unwrap_or_default();
                let call = Call { opened, names: opened.names.map(name), file: file.to_owned() };
                reading.open += 1;
                self.calls.insert((stem, opened.number), call);
            }
            Entry::Booked { number, at_unix_s, booked } => {
                if let (false, Some(call)) = (is_known, self.calls.get(&(stem, number))) {
                    book(&mut self.batch, call, at_unix_s, (0, 0), &booked);
                }
            }
            Entry::Closed(Closed { number, booked }) => {
                let Some(call) = self.calls.remove(&(stem, number)) else { return };
                self.ended(Some(&call));
                if let (false, Some(booked)) = (is_known, booked) {
                    book(&mut self.batch, &call, call.opened.at_unix_s, (call.opened.requests.into(), 1), &booked);
                }
            }
        }
    }

    fn ended(&mut self, call: Option<&Call>) {
        if let Some(reading) = call.and_then(|call| self.files.get_mut(&call.file)) {
            reading.open = reading.open.saturating_sub(1);
        }
    }

    /// Files behind which their worker has gone on in another, and of which every call has ended.
    fn let_go(&mut self) {
        let files: Vec<&String> = self.files.keys().collect();
        let is_followed = |pair: &[&String]| stem(pair[0]) == stem(pair[1]);
        let left = files.windows(2).filter(|pair| is_followed(pair) && self.files[pair[0]].open == 0);
        let left: Vec<String> = left.map(|pair| pair[0].clone()).collect();
        for file in left {
            self.batch.applied.insert(file, Applied::Done);
        }
    }

    fn commit(&mut self) -> Result<(), LedgerError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.store.commit(&self.batch)?;
        let applied = std::mem::take(&mut self.batch).applied;
        let done = applied.into_iter().filter(|(_, applied)| *applied == Applied::Done).map(|(file, _)| file);
        self.delete(done.collect())
    }

    /// Deletes what was taken over. Should that be cut off, it is written that it may be deleted.
    fn delete(&mut self, files: Vec<String>) -> Result<(), LedgerError> {
        for file in files {
            let path = self.folder.join(&file);
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(LedgerError::File { path, source }),
            }
            self.files.remove(&file);
            self.batch.applied.insert(file, Applied::Gone);
        }
        Ok(())
    }
}

/// Adds what a call has come to: so many requests and calls, and these tokens.
fn book(batch: &mut Batch, call: &Call, at_unix_s: i64, (requests, calls): (u64, u64), booked: &Booked) {
    let Booked { mark, counts, tier, length } = *booked;
    let start_unix_s = at_unix_s.div_euclid(MINUTE_S) * MINUTE_S;
    let about = About { start_unix_s, names: call.names.clone(), tier, length, mark };
    batch.spent.entry(about).or_default().add(&Sums { requests, calls, counts });
}

/// A file's name without its last number: all files of a worker have the same.
fn stem(file: &str) -> &str {
    file.rsplit_once('-').map_or(file, |(stem, _)| stem)
}

fn read_from(path: &Path, offset: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
