use super::*;
use crate::ledger::bell::Bell;
use crate::ledger::journal::{Going, Journal};
use crate::ledger::journals::FILE_PREFIX;
use crate::ledger::report::{Dimension, Question, ask};
use proptest::prelude::*;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const NOW_S: i64 = 1_795_000_000;

/// A ledger's folder, and where its journals are written, if that is memory.
struct Folders {
    folder: tempfile::TempDir,
    memory: Option<tempfile::TempDir>,
}

impl Folders {
    /// One for each place in which this system lets journals be written.
    fn of_each_kind() -> impl Iterator<Item = Folders> {
        let folder = || tempfile::tempdir().unwrap();
        let in_memory = cfg!(target_os = "linux").then(|| Folders { folder: folder(), memory: Some(folder()) });
        in_memory.into_iter().chain([Folders { folder: folder(), memory: None }])
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn memory(&self) -> Option<&Path> {
        self.memory.as_ref().map(tempfile::TempDir::path)
    }

    fn follower(&self) -> Follower {
        Follower::open(self.path(), self.memory(), self.bell()).unwrap()
    }

    fn journal(&self, worker: usize, process: u32) -> Rc<Journal> {
        let stem = format!("{process:016x}-{worker:03}");
        Journal::new(self.memory().unwrap_or(self.path()).to_owned(), stem, self.bell())
    }

    fn bell(&self) -> Arc<Bell> {
        Arc::new(Bell::new(self.memory.is_some()))
    }

    /// Copies what was written since, and of each journal only so many bytes of that at most.
    fn copy_in_part(&self, bytes: usize) {
        let length = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        for written in self.memory().map(journals).unwrap_or_default() {
            let copy = self.path().join(written.file_name().unwrap());
            let had = length(&copy);
            let more = length(&written).saturating_sub(had);
            let copied = usize::try_from(had + bytes as u64 % (more + 1)).unwrap();
            fs::write(copy, &fs::read(written).unwrap()[..copied]).unwrap();
        }
    }

    /// Journals in the ledger's folder, and in memory.
    fn journals(&self) -> [Vec<PathBuf>; 2] {
        [journals(self.path()), self.memory().map(journals).unwrap_or_default()]
    }
}

fn journals(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(FILE_PREFIX)).collect()
}

fn open(journal: &Journal, key: &str, input: u64, output: u64) -> u64 {
    open_at(journal, NOW_S, key, input, output)
}

fn open_at(journal: &Journal, at_unix_s: i64, key: &str, input: u64, output: u64) -> u64 {
    let names: [Arc<str>; Name::COUNT] = [key, "team", "", "openai", "gpt-5", ""].map(Arc::from);
    journal.open(&Going { at_unix_s, names: names.each_ref(), is_first: true, input, output })
}

fn booked(input: u64, output: u64) -> Booked {
    Booked {
        mark: Mark::Reported,
        counts: Counts { input, output, ..Counts::default() },
        tier: 0,
        length: Length::of(input),
    }
}

/// Requests, calls, input and output of each key, and how many of them were estimated.
fn spent(folder: &Path) -> BTreeMap<String, (u64, u64, u64, u64, u64)> {
    let store = Store::look(folder).unwrap().expect("a ledger");
    let question = Question { since_unix_s: 0, until_unix_s: i64::MAX, by: vec![Dimension::Of(Name::Key)] };
    let lines = ask(&store, &question, &crate::prices::Prices::default()).unwrap();
    let line = |line: super::super::Line| {
        let Sums { requests, calls, counts } = line.sums;
        (requests, calls, counts.input, counts.output, line.estimated.calls)
    };
    lines.into_iter().map(|(key, found)| (key.concat(), line(found))).collect()
}

#[test]
fn each_call_is_taken_over_once_and_what_is_under_way_is_left_alone() {
    for folder in Folders::of_each_kind() {
        let journal = folder.journal(0, 1);
        let mut follower = folder.follower();
        let (one, two) = (open(&journal, "a", 10, 20), open(&journal, "b", 1, 2));
        journal.close(one, Some(booked(9, 3)));
        journal.flush();
        for _ in 0..3 {
            follower.follow().unwrap();
            assert_eq!(spent(folder.path()), BTreeMap::from([("a".into(), (1, 1, 9, 3, 0))]));
        }
        journal.book(two, NOW_S + 60, booked(5, 5));
        journal.close(two, Some(booked(1, 1)));
        let three = open(&journal, "c", 1, 1);
        journal.close(three, None);
        journal.flush();
        follower.follow().unwrap();
        let expected = [("a", (1, 1, 9, 3, 0)), ("b", (1, 1, 6, 6, 0))];
        assert_eq!(spent(folder.path()), expected.map(|(key, sums)| (key.to_owned(), sums)).into());
    }
}

#[test]
fn what_was_under_way_when_its_process_was_killed_is_booked_as_it_was_estimated() {
    for folder in Folders::of_each_kind() {
        let journal = folder.journal(0, 1);
        let mut follower = folder.follower();
        let one = open(&journal, "a", 10, 20);
        open(&journal, "b", 30, 40);
        follower.follow().unwrap();
        drop(follower);
        journal.close(one, Some(booked(9, 3)));
        drop(journal);
        for _ in 0..2 {
            drop(folder.follower());
            let expected = [("a", (1, 1, 9, 3, 0)), ("b", (1, 1, 30, 40, 1))];
            assert_eq!(spent(folder.path()), expected.map(|(key, sums)| (key.to_owned(), sums)).into());
        }
        assert_eq!(folder.journals(), [Vec::<PathBuf>::new(), Vec::new()], "journals that were taken over are deleted");
    }
}

#[test]
fn a_file_that_is_full_is_deleted_when_all_in_it_has_ended() {
    for folder in Folders::of_each_kind() {
        let journal = folder.journal(0, 1);
        let mut follower = folder.follower();
        let long = open(&journal, "long", 1, 1);
        let mut calls = 0;
        while folder.journals().concat().len() < 3 {
            let call = open(&journal, "a", 1, 1);
            journal.close(call, Some(booked(1, 1)));
            calls += 1;
        }
        follower.follow().unwrap();
        follower.follow().unwrap();
        let in_memory = usize::from(folder.memory.is_some());
        let counts = || folder.journals().map(|journals| journals.len());
        assert_eq!(counts(), [2, in_memory], "the first has a call under way, and memory what may be written to");
        journal.close(long, Some(booked(1, 1)));
        journal.flush();
        follower.follow().unwrap();
        follower.follow().unwrap();
        assert_eq!(counts(), [1, in_memory]);
        journal.flush();
        assert_eq!(spent(folder.path())["long"], (1, 1, 1, 1, 0));
        drop((journal, follower));
        drop(folder.follower());
        assert_eq!(spent(folder.path())["a"], (calls, calls, calls, calls, 0));
    }
}

#[test]
fn minutes_become_quarters_and_what_is_very_old_becomes_one_sum() {
    let folder = Folders::of_each_kind().last().unwrap();
    let journal = folder.journal(0, 1);
    let mut follower = folder.follower();
    for minute in 0..240 {
        let call = open_at(&journal, NOW_S + minute * 60, "a", 1, 1);
        journal.close(call, Some(booked(1, 2)));
    }
    journal.flush();
    follower.follow().unwrap();
    let rows = |follower: &mut Follower| {
        follower.store().connection().query_row("SELECT count(*) FROM spent", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(rows(&mut follower), 240);
    let (retention, expected) =
        (Duration::from_secs(100 * 86_400), BTreeMap::from([("a".into(), (240, 240, 240, 480, 0))]));
    for _ in 0..2 {
        follower.store().condense(NOW_S + 240 * 60, retention).unwrap();
        assert!((120..=140).contains(&rows(&mut follower)), "{}", rows(&mut follower));
        assert_eq!(spent(folder.path()), expected);
    }
    follower.store().condense(NOW_S + 200 * 86_400, retention).unwrap();
    assert_eq!((rows(&mut follower), spent(folder.path())), (1, expected));
}

#[derive(Clone, Copy, Debug)]
enum Happens {
    Opens {
        worker: usize,
        key: usize,
        most: u64,
    },
    Ends {
        which: usize,
        spent: Option<u64>,
    },
    Books {
        which: usize,
        spent: u64,
    },
    IsFollowed,
    /// The keeper is cut off before it has deleted what it took over.
    IsCutOff,
    /// The process is killed, while what was written last is copied out of memory.
    Dies {
        copied: usize,
    },
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        5 => (0usize..2, 0usize..3, 1u64..100).prop_map(|(worker, key, most)| Happens::Opens { worker, key, most }),
        5 => (any::<usize>(), prop::option::weighted(0.8, 0u64..100))
            .prop_map(|(which, spent)| Happens::Ends { which, spent }),
        1 => (any::<usize>(), 0u64..100).prop_map(|(which, spent)| Happens::Books { which, spent }),
        3 => Just(Happens::IsFollowed),
        1 => Just(Happens::IsCutOff),
        1 => any::<usize>().prop_map(|copied| Happens::Dies { copied }),
    ]
}

/// A call as the test knows it.
struct Under {
    worker: usize,
    number: u64,
    key: &'static str,
    most: u64,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("SPILLWAY_LONG").is_some() { 2_000 } else { 60 }))]
    #[test]
    fn however_often_it_is_cut_off_each_call_is_booked_once(events in prop::collection::vec(happens(), 1..60)) {
        for folder in Folders::of_each_kind() {
            let mut process = 1;
            let begun = |process| vec![folder.journal(0, process), folder.journal(1, process)];
            let mut journals = begun(process);
            let mut follower = Some(folder.follower());
            let mut under: Vec<Under> = Vec::new();
            let mut expected: BTreeMap<String, (u64, u64, u64, u64, u64)> = BTreeMap::new();
            for event in events.iter().copied() {
                match event {
                    Happens::Opens { worker, key, most } => {
                        let key = ["a", "b", "c"][key];
                        let number = open(&journals[worker], key, most, 0);
                        under.push(Under { worker, number, key, most });
                    }
                    Happens::Ends { which, spent } if !under.is_empty() => {
                        let call = under.swap_remove(which % under.len());
                        journals[call.worker].close(call.number, spent.map(|spent| booked(spent, 0)));
                        if let Some(spent) = spent {
                            let sums = expected.entry(call.key.to_owned()).or_default();
                            *sums = (sums.0 + 1, sums.1 + 1, sums.2 + spent, sums.3, sums.4);
                        }
                    }
                    Happens::Books { which, spent } if !under.is_empty() => {
                        let call = &under[which % under.len()];
                        journals[call.worker].book(call.number, NOW_S, booked(spent, 0));
                        expected.entry(call.key.to_owned()).or_default().2 += spent;
                    }
                    Happens::IsFollowed => follower.as_mut().unwrap().follow().unwrap(),
                    Happens::IsCutOff => {
                        journals.clear();
                        let copies: Vec<(PathBuf, Vec<u8>)> = folder.journals().concat().into_iter()
                            .map(|path| (path.clone(), fs::read(path).unwrap()))
                            .collect();
                        // The next process finds what was deleted, as if it never had been.
                        drop(follower.take());
                        follower = Some(folder.follower());
                        copies.into_iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
                        die(&mut under, &mut expected);
                        process += 1;
                        journals = begun(process);
                        drop(follower.take());
                        follower = Some(folder.follower());
                    }
                    Happens::Dies { copied } => {
                        // What has ended and waits is lost by a kill at most; here it is written, which is known to the test.
                        journals.clear();
                        folder.copy_in_part(copied);
                        die(&mut under, &mut expected);
                        process += 1;
                        journals = begun(process);
                        drop(follower.take());
                        follower = Some(folder.follower());
                    }
                    Happens::Ends { .. } | Happens::Books { .. } => {}
                }
            }
            drop((journals, follower));
            die(&mut under, &mut expected);
            drop(folder.follower());
            expected.retain(|_, sums| *sums != (0, 0, 0, 0, 0));
            let mut found = spent(folder.path());
            found.retain(|_, sums| *sums != (0, 0, 0, 0, 0));
            prop_assert_eq!(found, expected);
        }
    }
}

/// What is under way stands as it was estimated.
fn die(under: &mut Vec<Under>, expected: &mut BTreeMap<String, (u64, u64, u64, u64, u64)>) {
    for call in under.drain(..) {
        let sums = expected.entry(call.key.to_owned()).or_default();
        *sums = (sums.0 + 1, sums.1 + 1, sums.2 + call.most, sums.3, sums.4 + 1);
    }
}
