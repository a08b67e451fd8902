use super::*;
use crate::ledger::bell::Bell;
use crate::ledger::journal::{Going, Journal};
use crate::ledger::report::{Dimension, Question, ask};
use proptest::prelude::*;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const NOW_S: i64 = 1_795_000_000;

fn journal(folder: &Path, worker: usize, process: u32) -> Rc<Journal> {
    Journal::new(folder.to_owned(), format!("{process:016x}-{worker:03}"), Arc::new(Bell::default()))
}

fn going(key: &str, input: u64, output: u64) -> Going {
    let names = [key, "team", "", "openai", "gpt-5", ""].map(Arc::from);
    Going { at_unix_s: NOW_S, names, is_first: true, input, output }
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
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(folder.path(), 0, 1);
    let mut follower = Follower::open(folder.path()).unwrap();
    let (one, two) = (journal.open(&going("a", 10, 20)), journal.open(&going("b", 1, 2)));
    journal.close(one, Some(booked(9, 3)));
    journal.flush();
    for _ in 0..3 {
        follower.follow().unwrap();
        assert_eq!(spent(folder.path()), BTreeMap::from([("a".into(), (1, 1, 9, 3, 0))]));
    }
    journal.book(two, NOW_S + 60, booked(5, 5));
    journal.close(two, Some(booked(1, 1)));
    let three = journal.open(&going("c", 1, 1));
    journal.close(three, None);
    journal.flush();
    follower.follow().unwrap();
    let expected = [("a", (1, 1, 9, 3, 0)), ("b", (1, 1, 6, 6, 0))];
    assert_eq!(spent(folder.path()), expected.map(|(key, sums)| (key.to_owned(), sums)).into());
}

#[test]
fn what_was_under_way_when_its_process_was_killed_is_booked_as_it_was_estimated() {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(folder.path(), 0, 1);
    let mut follower = Follower::open(folder.path()).unwrap();
    let one = journal.open(&going("a", 10, 20));
    journal.open(&going("b", 30, 40));
    follower.follow().unwrap();
    drop(follower);
    journal.close(one, Some(booked(9, 3)));
    journal.flush();
    for _ in 0..2 {
        drop(Follower::open(folder.path()).unwrap());
        let expected = [("a", (1, 1, 9, 3, 0)), ("b", (1, 1, 30, 40, 1))];
        assert_eq!(spent(folder.path()), expected.map(|(key, sums)| (key.to_owned(), sums)).into());
    }
    let left = fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(FILE_PREFIX));
    assert_eq!(left.count(), 0, "journals that were taken over are deleted");
}

#[test]
fn a_file_that_is_full_is_deleted_when_all_in_it_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(folder.path(), 0, 1);
    let mut follower = Follower::open(folder.path()).unwrap();
    let long = journal.open(&going("long", 1, 1));
    let mut calls = 0;
    while follower.journals().unwrap().len() < 3 {
        let call = journal.open(&going("a", 1, 1));
        journal.close(call, Some(booked(1, 1)));
        calls += 1;
    }
    follower.follow().unwrap();
    assert_eq!(follower.journals().unwrap().len(), 2, "the first has a call under way, the second has none");
    journal.close(long, Some(booked(1, 1)));
    journal.flush();
    follower.follow().unwrap();
    follower.follow().unwrap();
    assert_eq!(follower.journals().unwrap().len(), 1);
    journal.flush();
    assert_eq!(spent(folder.path())["long"], (1, 1, 1, 1, 0));
    drop((journal, follower));
    drop(Follower::open(folder.path()).unwrap());
    assert_eq!(spent(folder.path())["a"], (calls, calls, calls, calls, 0));
}

#[test]
fn minutes_become_quarters_and_what_is_very_old_becomes_one_sum() {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(folder.path(), 0, 1);
    let mut follower = Follower::open(folder.path()).unwrap();
    for minute in 0..240 {
        let call = journal.open(&Going { at_unix_s: NOW_S + minute * 60, ..going("a", 1, 1) });
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

#[derive(Clone, Debug)]
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
    /// The process is killed, with what waits to be written.
    Dies,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        5 => (0usize..2, 0usize..3, 1u64..100).prop_map(|(worker, key, most)| Happens::Opens { worker, key, most }),
        5 => (any::<usize>(), prop::option::weighted(0.8, 0u64..100))
            .prop_map(|(which, spent)| Happens::Ends { which, spent }),
        1 => (any::<usize>(), 0u64..100).prop_map(|(which, spent)| Happens::Books { which, spent }),
        3 => Just(Happens::IsFollowed),
        1 => Just(Happens::IsCutOff),
        1 => Just(Happens::Dies),
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
        let folder = tempfile::tempdir().unwrap();
        let mut process = 1;
        let mut journals = [0, 1].map(|worker| journal(folder.path(), worker, process));
        let mut follower = Some(Follower::open(folder.path()).unwrap());
        let mut under: Vec<Under> = Vec::new();
        let mut expected: BTreeMap<String, (u64, u64, u64, u64, u64)> = BTreeMap::new();
        for event in events {
            match event {
                Happens::Opens { worker, key, most } => {
                    let key = ["a", "b", "c"][key];
                    let number = journals[worker].open(&going(key, most, 0));
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
                    journals.iter().for_each(|journal| journal.flush());
                    let copies: Vec<(PathBuf, Vec<u8>)> = follower.as_ref().unwrap().journals().unwrap().into_iter()
                        .map(|file| folder.path().join(file))
                        .map(|path| (path.clone(), fs::read(path).unwrap()))
                        .collect();
                    // The next process finds what was deleted, as if it never had been.
                    drop(follower.take());
                    follower = Some(Follower::open(folder.path()).unwrap());
                    copies.into_iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
                    die(&mut under, &mut expected);
                    process += 1;
                    journals = [0, 1].map(|worker| journal(folder.path(), worker, process));
                    drop(follower.take());
                    follower = Some(Follower::open(folder.path()).unwrap());
                }
                Happens::Dies => {
                    // What has ended and waits is lost by a kill at most; here it is written, which is known to the test.
                    journals.iter().for_each(|journal| journal.flush());
                    die(&mut under, &mut expected);
                    process += 1;
                    journals = [0, 1].map(|worker| journal(folder.path(), worker, process));
                    drop(follower.take());
                    follower = Some(Follower::open(folder.path()).unwrap());
                }
                Happens::Ends { .. } | Happens::Books { .. } => {}
            }
        }
        journals.iter().for_each(|journal| journal.flush());
        drop((journals, follower));
        die(&mut under, &mut expected);
        drop(Follower::open(folder.path()).unwrap());
        expected.retain(|_, sums| *sums != (0, 0, 0, 0, 0));
        let mut found = spent(folder.path());
        found.retain(|_, sums| *sums != (0, 0, 0, 0, 0));
        prop_assert_eq!(found, expected);
    }
}

/// What is under way stands as it was estimated.
fn die(under: &mut Vec<Under>, expected: &mut BTreeMap<String, (u64, u64, u64, u64, u64)>) {
    for call in under.drain(..) {
        let sums = expected.entry(call.key.to_owned()).or_default();
        *sums = (sums.0 + 1, sums.1 + 1, sums.2 + call.most, sums.3, sums.4 + 1);
    }
}
