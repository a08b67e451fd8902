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
    /// Whether all was read that will ever stand in it: its worker goes on in another one.
    is_whole: bool,
}

/// A call that is under way.
#[derive(Debug)]
struct Call {
    opened: Opened,
    names: [Arc<str>; Name::COUNT],
    /// The file in which it was opened.
    file: Arc<str>,
}

/// Follows all journals of a ledger.
#[derive(Debug)]
pub(super) struct Follower {
    journals: Journals,
    bell: Arc<Bell>,
    store: Store,
    files: BTreeMap<Arc<str>, Reading>,
    /// By the stem of its journal and its number.
    calls: HashMap<(Arc<str>, u64), Call>,
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

    /// The journals there are, those of a worker in the order in which it has written them.
    fn gather(&mut self) -> Result<Vec<String>, LedgerError> {
        let Follower { journals, bell, .. } = self;
        journals.gather(|bytes| bell.freed(bytes))
    }

    /// Reads on in a file. What stands before `applied` is known, and only tells which calls are under way.
    fn read(&mut self, file: &str, applied: Option<u64>) -> Result<(), LedgerError> {
        let (file, reading) = match self.files.remove_entry(file) {
            Some(known) => known,
            None => (
                Arc::from(file),
                Reading { offset: 0, stem: stem(file).into(), names: Vec::new(), open: 0, is_whole: false },
            ),
        };
        let from = reading.offset;
        self.files.insert(Arc::clone(&file), reading);
        let bytes = self.journals.read(&file, from)?;
        let mut entries = Entries::of(&bytes);
        let mut read = from;
        while let Some(entry) = entries.next() {
            read = from + (bytes.len() - entries.unread()) as u64;
            let is_known = applied.is_some_and(|applied| read <= applied);
            self.take(&file, entry, is_known);
        }
        if let Some(reading) = self.files.get_mut(&file)
            && read > from
        {
            reading.offset = read;
            self.batch.applied.insert((*file).to_owned(), Applied::Bytes(read));
        }
        Ok(())
    }

    fn take(&mut self, file: &Arc<str>, entry: Entry, is_known: bool) {
        let Some(reading) = self.files.get_mut(file) else { return };
        let call = |number: u64| (Arc::clone(&reading.stem), number);
        match entry {
            Entry::Name(name) => reading.names.push(name.into()),
            Entry::Opened(opened) => {
                let name = |number: u32| reading.names.get(number as usize).cloned().unwrap_or_default();
                let under_way = Call { opened, names: opened.names.map(name), file: Arc::clone(file) };
                self.calls.insert(call(opened.number), under_way);
                reading.open += 1;
            }
            Entry::Booked { number, at_unix_s, booked } => {
                if let (false, Some(call)) = (is_known, self.calls.get(&call(number))) {
                    book(&mut self.batch, call, at_unix_s, (0, 0), &booked);
                }
            }
            Entry::Closed(Closed { number, booked }) => {
                let Some(call) = self.calls.remove(&call(number)) else { return };
                self.ended(&call);
                if let (false, Some(booked)) = (is_known, booked) {
                    book(&mut self.batch, &call, call.opened.at_unix_s, (call.opened.requests.into(), 1), &booked);
                }
            }
        }
    }

    fn ended(&mut self, call: &Call) {
        if let Some(reading) = self.files.get_mut(&call.file) {
            reading.open = reading.open.saturating_sub(1);
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

/// Adds what a call has come to: so many requests and calls, and these tokens.
fn book(batch: &mut Batch, call: &Call, at_unix_s: i64, (requests, calls): (u64, u64), booked: &Booked) {
    let Booked { mark, counts, tier, length } = *booked;
    let start_unix_s = at_unix_s.div_euclid(MINUTE_S) * MINUTE_S;
    let about = About { start_unix_s, names: call.names.clone(), tier, length, mark };
    batch.spent.entry(about).or_default().add(&Sums { requests, calls, counts });
}

#[cfg(test)]
mod tests;
