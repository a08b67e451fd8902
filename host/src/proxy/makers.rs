//! Who has made what lives at a provider, so that whoever names it later is sent there.

use crate::runtime::clock::Clock;
use crate::runtime::fingerprint::FingerprintKey;
use crate::runtime::sync::lock;
use crate::state::maker_file::{Made, Remembered};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What is remembered lies in so many parts, each behind a lock of its own: whoever copies all of it to write it down
/// holds up nobody for longer than one part takes.
const PARTS: usize = 16;
/// So many things are remembered in each part at least, and twice as many at most: the oldest half is forgotten at
/// once. All parts together have about 50,000 at least, and 100,000 at most, which take some 3 MB.
const GENERATION_MAX: usize = 3_125;
/// What was not heard of for longer is forgotten. Providers keep answers for 30 days.
const DAYS_MAX: u16 = 60;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// The upstream, the model and the credential that something was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Maker {
    pub upstream: Arc<str>,
    /// Its fingerprint.
    pub credential: u64,
    /// A [fingerprint](Makers::model) of the model.
    pub model: u16,
}

/// What was made by whom, as far as it is remembered: a request that names something older goes where it would go first.
#[derive(Debug)]
pub(crate) struct Makers {
    /// Names are kept as fingerprints, which are the same behind a restart, and say nothing to whoever has not this key.
    key: FingerprintKey,
    clock: Clock,
    /// All that are configured, in the order of their names.
    upstreams: Vec<Arc<str>>,
    parts: [Mutex<Generations>; PARTS],
    changes: AtomicU64,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<u64, Made>,
    old: HashMap<u64, Made>,
}

impl Generations {
    fn get(&self, name: u64) -> Option<Made> {
        self.young.get(&name).or_else(|| self.old.get(&name)).copied()
    }

    /// Answers whether that was not known.
    fn insert(&mut self, name: u64, made: Made) -> bool {
        if self.young.get(&name) == Some(&made) {
            return false;
        }
        if self.young.len() >= GENERATION_MAX && !self.young.contains_key(&name) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(name, made);
        true
    }
}

impl Makers {
    /// Nothing is remembered at first. `upstreams` are the names of all that are configured.
    pub(crate) fn new(key: FingerprintKey, upstreams: impl Iterator<Item = Arc<str>>, clock: Clock) -> Makers {
        let mut upstreams: Vec<Arc<str>> = upstreams.collect();
        upstreams.sort_unstable();
        Makers { key, clock, upstreams, parts: Default::default(), changes: AtomicU64::new(0) }
    }

    /// Remembers who has made what is called so.
    pub(crate) fn note(&self, reference: &str, maker: &Maker) {
        let Some(upstream) = self.place(&maker.upstream) else { return };
        let made = Made { upstream, credential: maker.credential, model: maker.model, day: self.today() };
        let name = self.key.of_reference(reference);
        if lock(self.part(name)).insert(name, made) {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A fingerprint of a model, which tells those of one route apart.
    pub(crate) fn model(&self, model: Option<&str>) -> u16 {
        let [low, high, ..] = self.key.of_reference(model.unwrap_or_default()).to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// Who has made what is called so.
    pub(crate) fn of(&self, reference: &str) -> Option<Maker> {
        let name = self.key.of_reference(reference);
        let made = lock(self.part(name)).get(name).filter(|made| self.is_remembered(made))?;
        let upstream = Arc::clone(self.upstreams.get(usize::from(made.upstream))?);
        Some(Maker { upstream, credential: made.credential, model: made.model })
    }

    /// How often something has changed that would have to be written down.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// All that is remembered.
    pub(crate) fn remembered(&self) -> Remembered {
        let mut made = Vec::new();
        for part in &self.parts {
            let part = lock(part);
            // Read in this order, the older ones are again the first to be forgotten.
            made.extend(part.old.iter().chain(&part.young).map(|(name, made)| (*name, *made)));
        }
        made.retain(|(_, made)| self.is_remembered(made));
        Remembered { upstreams: self.upstreams.iter().map(|name| name.to_string()).collect(), made }
    }

    /// Remembers what another process has. Upstreams that are not configured any more are of no use.
    pub(crate) fn restore(&self, remembered: Remembered) {
        let places: Vec<Option<u16>> = remembered.upstreams.iter().map(|name| self.place(name)).collect();
        for (name, made) in remembered.made {
            let place = places.get(usize::from(made.upstream)).copied().flatten();
            if let Some(upstream) = place.filter(|_| self.is_remembered(&made)) {
                lock(self.part(name)).insert(name, Made { upstream, ..made });
            }
        }
    }

    fn part(&self, name: u64) -> &Mutex<Generations> {
        // Any byte of a fingerprint is as good as another, and 256 is a multiple of the parts.
        &self.parts[usize::from(name.to_be_bytes()[0]) % PARTS]
    }

    fn place(&self, upstream: &str) -> Option<u16> {
        let place = self.upstreams.binary_search_by(|name| (**name).cmp(upstream)).ok()?;
        u16::try_from(place).ok()
    }

    fn today(&self) -> u16 {
        u16::try_from(self.clock.unix_ms() / DAY_MS).unwrap_or(u16::MAX)
    }

    fn is_remembered(&self, made: &Made) -> bool {
        self.today().saturating_sub(made.day) <= DAYS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a process with these upstreams remembers, and its clock.
    fn makers(upstreams: &[&str]) -> (Makers, Clock) {
        let clock = Clock::start();
        let names = upstreams.iter().copied().map(Arc::from);
        (Makers::new(FingerprintKey::from_bytes([1; 32]), names, clock), clock)
    }

    fn maker(name: &str) -> Maker {
        Maker { upstream: Arc::from(name), credential: 1, model: 7 }
    }

    fn pass_days(clock: &Clock, days: u32) {
        clock.go_on_from(clock.unix_ms() + u64::from(days) * DAY_MS);
    }

    #[test]
    fn who_has_made_something_is_remembered_for_as_long_as_there_is_room() {
        let (makers, _) = makers(&["openai", "azure"]);
        let fill = |word: &str, count: usize| {
            (0..count).for_each(|number| makers.note(&format!("{word} {number}"), &maker("openai")));
        };
        makers.note("resp_1", &maker("azure"));
        assert_eq!(makers.of("resp_1"), Some(maker("azure")));
        assert_eq!(makers.of("resp_2"), None);
        fill("filler", PARTS * GENERATION_MAX);
        assert_eq!(makers.of("resp_1"), Some(maker("azure")), "one generation later");
        fill("more", 2 * PARTS * GENERATION_MAX);
        assert_eq!(makers.of("resp_1"), None, "generations later");
        let count = makers.remembered().made.len();
        assert!((PARTS * GENERATION_MAX * 9 / 10..=2 * PARTS * GENERATION_MAX).contains(&count), "{count}");
        assert_eq!(2 * PARTS * GENERATION_MAX, 100_000);
    }

    #[test]
    fn another_process_remembers_all_of_it_however_its_upstreams_are_ordered() {
        let (before, _) = makers(&["openai", "azure", "gone"]);
        (0..70_000).for_each(|number| before.note(&format!("resp_{number}"), &maker("openai")));
        before.note("file_1", &maker("azure"));
        before.note("file_2", &maker("gone"));
        let known = (0..70_000).filter(|number| before.of(&format!("resp_{number}")).is_some()).count();
        assert!(known > 45_000, "{known}");
        let (after, _) = makers(&["another", "openai", "azure"]);
        after.restore(before.remembered());
        assert_eq!(after.changes(), 0, "nothing of it has to be written");
        assert_eq!((after.of("file_1"), after.of("file_2")), (Some(maker("azure")), None));
        for number in 0..70_000 {
            let name = format!("resp_{number}");
            assert_eq!(after.of(&name), before.of(&name), "{name}");
        }
    }

    #[test]
    fn what_was_not_heard_of_for_months_is_forgotten() {
        let (makers, clock) = makers(&["openai"]);
        for name in ["resp_1", "resp_2"] {
            makers.note(name, &maker("openai"));
        }
        pass_days(&clock, u32::from(DAYS_MAX));
        assert_eq!(makers.of("resp_1"), Some(maker("openai")));
        makers.note("resp_1", &maker("openai"));
        pass_days(&clock, 1);
        assert_eq!((makers.of("resp_1"), makers.of("resp_2")), (Some(maker("openai")), None));
        assert_eq!(makers.remembered().made.len(), 1);
        // A clock that was behind makes nobody forget.
        clock.go_on_from(0);
        assert_eq!(makers.of("resp_1"), Some(maker("openai")));
    }

    #[test]
    fn only_what_is_news_is_a_change() {
        let (makers, clock) = makers(&["openai", "azure"]);
        for (name, upstream, changes) in
            [("conv_1", "openai", 1), ("conv_1", "openai", 1), ("conv_2", "openai", 2), ("conv_1", "azure", 3)]
        {
            makers.note(name, &maker(upstream));
            assert_eq!(makers.changes(), changes, "{name} of {upstream}");
        }
        makers.note("conv_3", &maker("nowhere"));
        assert_eq!((makers.changes(), makers.of("conv_3")), (3, None));
        pass_days(&clock, 1);
        makers.note("conv_2", &maker("openai"));
        assert_eq!(makers.changes(), 4, "it was heard of another day");
    }
}
