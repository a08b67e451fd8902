//! Takes over what the journals say: each entry once, whatever ends in between.
//!
//! How far a file has come is written together with what was taken over from it. Whatever is cut off goes on from there.

use super::bell::Bell;
use super::entry::{Booked, Closed, Counts, Entries, Entry, Length, Mark, Name, Opened};
use super::error::LedgerError;
use super::journals::{Journals, stem};
use super::store::{About, Applied, Batch, MINUTE_S, Store, Sums};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

/// A journal's file, as far as it was read.
#[derive(Debug)]
struct Reading {
    offset: u64,
    /// Its journal's.
    stem: Arc<str>,
    names: Vec<Arc<str>>,
    /// Calls that were opened in it and have not ended.
    open: u64,
    /// What these, and those that have ended, have come to, and is not in the batch yet. By names' numbers, so that an
    /// entry costs no look at names.
    spent: HashMap<AboutInFile, Sums>,
    /// Whether all was read that will ever stand in it: its worker goes on in another one.
    is_whole: bool,
}

/// As [`About`], by numbers of the names in a journal's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct AboutInFile {
    start_unix_s: i64,
    names: [u32; Name::COUNT],
    tier: u8,
    length: Length,
    mark: Mark,
}

/// A call that is under way, and the file in which it was opened.
#[derive(Debug)]
struct Call {
    opened: Opened,
    file: Arc<str>,
}

/// The calls of one journal that are under way, by their numbers.
type Calls = HashMap<u64, Call>;

/// Files by their names.
type Files = BTreeMap<Arc<str>, Reading>;

impl Call {
    /// The file in which it was opened: the one that is being read, or one before it.
    fn opened_in<'r>(&self, file: &Arc<str>, read: &'r mut Reading, others: &'r mut Files) -> Option<&'r mut Reading> {
        if Arc::ptr_eq(&self.file, file) { Some(read) } else { others.get_mut(&self.file) }
    }
}

/// Follows all journals of a ledger.
#[derive(Debug)]
pub(super) struct Follower {
    journals: Journals,
    bell: Arc<Bell>,
    store: Store,
    files: Files,
    /// By the stem of their journal.
    calls: HashMap<Arc<str>, Calls>,
    /// What was read and is not written yet.
    batch: Batch,
}

impl Follower {
    /// Opens the ledger in this folder, whose journals are written in `memory` if there is such, and takes over what
    /// earlier processes have left: of calls that were under way, what was estimated.
    pub(super) fn open(folder: &Path, memory: Option<&Path>, bell: Arc<Bell>) -> Result<Follower, LedgerError> {
        let store = Store::open(folder)?;
        let mut follower = Follower {
            journals: Journals::new(folder.to_owned(), memory.map(Path::to_owned)),
            bell,
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
        let files = self.gather()?;
        for (index, file) in files.iter().enumerate() {
            if self.files.get(&**file).is_some_and(|reading| reading.is_whole) {
                continue;
            }
            self.read(file, None)?;
            let is_whole = files.get(index + 1).is_some_and(|next| stem(next) == stem(file));
            if let Some(reading) = self.files.get_mut(&**file) {
                reading.is_whole = is_whole;
            }
        }
        self.let_go();
        self.commit()
    }

    /// Takes over the last of this process.
    pub(super) fn finish(&mut self) -> Result<(), LedgerError> {
        self.follow()?;
        self.journals.leave_memory()
    }

    fn recover(&mut self) -> Result<(), LedgerError> {
        let applied = self.store.applied()?;
        let files = self.gather()?;
        for file in &files {
            match applied.get(file) {
                Some(Applied::Done) => {}
                Some(Applied::Bytes(bytes)) => self.read(file, Some(*bytes))?,
                Some(Applied::Gone) | None => self.read(file, None)?,
            }
        }
        for call in std::mem::take(&mut self.calls).into_values().flat_map(Calls::into_values) {
            let Opened { at_unix_s, requests, input, output, .. } = call.opened;
            let counts = Counts { input, output, ..Counts::default() };
            let booked = Booked { mark: Mark::Killed, counts, tier: 0, length: Length::of(input) };
            if let Some(file) = self.files.get_mut(&call.file) {
                file.book(&call.opened, at_unix_s, (requests.into(), 1), &booked);
            }
        }
        self.gather_spent();
        self.files.clear();
        let done = files.iter().map(|file| (file.clone(), Applied::Done));
        self.batch.applied = applied.into_keys().map(|file| (file, Applied::Gone)).chain(done).collect();
        self.commit()?;
        self.delete(files)
    }

    /// The journals there are, those of a worker in the order in which it has written them.
    fn gather(&mut self) -> Result<Vec<String>, LedgerError> {
        let Follower { journals, bell, .. } = self;
        journals.gather(|bytes| bell.freed(bytes))
    }

    /// Reads on in a file. What stands before `applied` is known, and only tells which calls are under way.
    fn read(&mut self, file: &str, applied: Option<u64>) -> Result<(), LedgerError> {
        let from = self.files.get(file).map_or(0, |reading| reading.offset);
        let bytes = self.journals.read(file, from)?;
        let known = self.files.remove_entry(file);
        let (file, mut reading) = known.unwrap_or_else(|| (Arc::from(file), Reading::of(stem(file))));
        let mut calls = self.calls.remove(&reading.stem).unwrap_or_default();
        let mut entries = Entries::of(&bytes);
        while let Some(entry) = entries.next() {
            reading.offset = from + (bytes.len() - entries.unread()) as u64;
            let is_known = applied.is_some_and(|applied| reading.offset <= applied);
            self.take(&file, &mut reading, &mut calls, entry, is_known);
        }
        if reading.offset > from {
            self.batch.applied.insert((*file).to_owned(), Applied::Bytes(reading.offset));
        }
        self.calls.insert(Arc::clone(&reading.stem), calls);
        self.files.insert(file, reading);
        Ok(())
    }

    /// Takes an entry of the file that is being read. What is known of it is not booked again.
    fn take(&mut self, file: &Arc<str>, reading: &mut Reading, calls: &mut Calls, entry: Entry, is_known: bool) {
        match entry {
            Entry::Name(name) => reading.names.push(name.into()),
            Entry::Opened(opened) => {
                calls.insert(opened.number, Call { opened, file: Arc::clone(file) });
                reading.open += 1;
            }
            Entry::Booked { number, at_unix_s, booked } => {
                if let (false, Some(call)) = (is_known, calls.get(&number))
                    && let Some(of) = call.opened_in(file, reading, &mut self.files)
                {
                    of.book(&call.opened, at_unix_s, (0, 0), &booked);
                }
            }
            Entry::Closed(Closed { number, booked }) => {
                if let Some(call) = calls.remove(&number)
                    && let Some(of) = call.opened_in(file, reading, &mut self.files)
                {
                    of.open = of.open.saturating_sub(1);
                    if let (false, Some(booked)) = (is_known, booked) {
                        of.book(&call.opened, call.opened.at_unix_s, (call.opened.requests.into(), 1), &booked);
                    }
                }
            }
        }
    }

    /// Adds to the batch what was read.
    fn gather_spent(&mut self) {
        for reading in self.files.values_mut() {
            for (about, sums) in reading.spent.drain() {
                let AboutInFile { start_unix_s, names, tier, length, mark } = about;
                let names = names.map(|number| reading.names.get(number as usize).cloned().unwrap_or_default());
                let about = About { start_unix_s, names, tier, length, mark };
                self.batch.spent.entry(about).or_default().add(&sums);
            }
        }
    }

    /// Files behind which their worker has gone on in another, and of which every call has ended.
    fn let_go(&mut self) {
        let files: Vec<(&Arc<str>, &Reading)> = self.files.iter().collect();
        for pair in files.windows(2) {
            let [(file, reading), (_, next)] = pair else { continue };
            if reading.stem == next.stem && reading.open == 0 {
                self.batch.applied.insert(String::from(&***file), Applied::Done);
            }
        }
    }

    fn commit(&mut self) -> Result<(), LedgerError> {
        self.gather_spent();
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
            self.journals.delete(&file, |bytes| self.bell.freed(bytes))?;
            self.files.remove(&*file);
            self.batch.applied.insert(file, Applied::Gone);
        }
        Ok(())
    }
}

impl Reading {
    /// A file of this journal, of which nothing was read.
    fn of(stem: &str) -> Reading {
        Reading { offset: 0, stem: stem.into(), names: Vec::new(), open: 0, spent: HashMap::new(), is_whole: false }
    }

    /// Adds what a call has come to that was opened in it: so many requests and calls, and these tokens.
    fn book(&mut self, opened: &Opened, at_unix_s: i64, (requests, calls): (u64, u64), booked: &Booked) {
        let Booked { mark, counts, tier, length } = *booked;
        let start_unix_s = at_unix_s.div_euclid(MINUTE_S) * MINUTE_S;
        let about = AboutInFile { start_unix_s, names: opened.names, tier, length, mark };
        self.spent.entry(about).or_default().add(&Sums { requests, calls, counts });
    }
}

#[cfg(test)]
mod tests;
