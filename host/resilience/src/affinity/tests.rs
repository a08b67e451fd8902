use super::*;
use proptest::prelude::*;

const fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn affinity(ttl_seconds: u64, capacity: usize) -> Affinity {
    Affinity::new(AffinitySettings { ttl: Duration::from_secs(ttl_seconds), capacity })
}

#[test]
fn a_conversation_is_where_it_was_last_served() {
    let mut affinity = affinity(60, 10);
    assert_eq!(affinity.pinned(7, at(0)), None);
    affinity.served(7, 2, at(0));
    assert_eq!(affinity.pinned(7, at(1)), Some(2));
    affinity.served(7, 0, at(2));
    assert_eq!(affinity.pinned(7, at(3)), Some(0));
    assert_eq!([0, 1, 2].map(|candidate| affinity.conversations(candidate)), [1, 0, 0]);
}

#[test]
fn only_being_served_keeps_it_there() {
    let mut affinity = affinity(60, 10);
    affinity.served(7, 2, at(0));
    affinity.served(7, 2, at(50));
    assert_eq!(affinity.pinned(7, at(109)), Some(2), "it was served again");
    assert_eq!(affinity.pinned(7, at(110)), None, "to be asked for is not to be served");
    assert_eq!(affinity.conversations(2), 0);
    assert!(affinity.is_empty());
}

#[test]
fn the_one_that_was_silent_for_longest_makes_room() {
    let mut affinity = affinity(60, 2);
    affinity.served(1, 0, at(0));
    affinity.served(2, 0, at(1));
    affinity.served(1, 0, at(2));
    affinity.served(3, 1, at(3));
    assert_eq!([1, 2, 3].map(|conversation| affinity.pinned(conversation, at(3))), [Some(0), None, Some(1)]);
    assert_eq!(affinity.len(), 2);
}

#[test]
fn a_clock_that_was_read_earlier_forgets_nothing() {
    let mut affinity = affinity(60, 2);
    affinity.served(1, 0, at(100));
    affinity.served(1, 1, at(99));
    assert_eq!(affinity.pinned(1, at(0)), Some(1));
}

#[test]
fn every_mistake_is_listed() {
    let broken = AffinitySettings { ttl: Duration::ZERO, capacity: 0 };
    let fields: Vec<_> = broken.validate().into_iter().map(|mistake| mistake.field).collect();
    assert_eq!(fields, ["ttl", "capacity"]);
    assert_eq!(AffinitySettings::default().validate(), []);
    assert_eq!(Affinity::new(broken).settings.capacity, 1, "the nearer end");
}

/// What an [`Affinity`] remembers, said in the plainest way: all that was served, the latest last.
#[derive(Default)]
struct Log(Vec<(u64, usize, u64)>);

impl Log {
    fn served(&mut self, conversation: u64, candidate: usize, second: u64, ttl: u64, capacity: usize) {
        self.0.retain(|(other, _, served)| *other != conversation && second - served < ttl);
        if self.0.len() == capacity {
            // Of those that were served in the same second the one with the lowest number goes.
            let oldest = self.0.iter().min_by_key(|(other, _, served)| (*served, *other)).copied();
            self.0.retain(|entry| Some(*entry) != oldest);
        }
        self.0.push((conversation, candidate, second));
    }

    fn pinned(&self, conversation: u64, second: u64, ttl: u64) -> Option<usize> {
        let is_it = |(other, _, served): &&(u64, usize, u64)| *other == conversation && second - served < ttl;
        self.0.iter().find(is_it).map(|(_, candidate, _)| *candidate)
    }

    fn conversations(&self, candidate: usize, second: u64, ttl: u64) -> usize {
        self.0.iter().filter(|(_, other, served)| *other == candidate && second - served < ttl).count()
    }
}

proptest! {
    #[test]
    fn it_remembers_what_a_list_would(
        ttl in 1_u64..20,
        capacity in 1_usize..6,
        steps in prop::collection::vec((0_u64..10, 0_usize..3, 0_u64..4), 1..80),
    ) {
        let (mut affinity, mut log) = (affinity(ttl, capacity), Log::default());
        let mut second = 0;
        for (conversation, candidate, passed) in steps {
            second += passed;
            affinity.served(conversation, candidate, at(second));
            log.served(conversation, candidate, second, ttl, capacity);
            for conversation in 0..10 {
                prop_assert_eq!(affinity.pinned(conversation, at(second)), log.pinned(conversation, second, ttl));
            }
            for candidate in 0..3 {
                prop_assert_eq!(affinity.conversations(candidate), log.conversations(candidate, second, ttl) as u64);
            }
            prop_assert!(affinity.len() <= capacity);
            prop_assert_eq!(affinity.oldest.len(), affinity.len());
        }
    }
}
