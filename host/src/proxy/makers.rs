//! Who has made what lives at a provider, so that whoever names it later is sent there.

use crate::runtime::sync::lock;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};

/// So many references are remembered at least, and twice as many at most: the oldest half is forgotten at once.
const GENERATION_MAX: usize = 50_000;

/// The upstream and the credential that something was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Maker {
    pub upstream: Arc<str>,
    /// Its fingerprint.
    pub credential: u64,
}

/// What was made by whom, as far as it is remembered: a request that names something older goes where it would go first.
#[derive(Debug, Default)]
pub(crate) struct Makers {
    hasher: RandomState,
    made: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<u64, Maker>,
    old: HashMap<u64, Maker>,
}

impl Makers {
    /// Remembers who has made what is called so.
    pub(crate) fn note(&self, reference: &str, maker: &Maker) {
        let key = self.hasher.hash_one(reference);
        let mut made = lock(&self.made);
        if made.young.len() >= GENERATION_MAX && !made.young.contains_key(&key) {
            made.old = std::mem::take(&mut made.young);
        }
        made.young.insert(key, maker.clone());
    }

    /// Who has made what is called so.
    pub(crate) fn of(&self, reference: &str) -> Option<Maker> {
        let key = self.hasher.hash_one(reference);
        let made = lock(&self.made);
        made.young.get(&key).or_else(|| made.old.get(&key)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_made_something_is_remembered_for_as_long_as_there_is_room() {
        let makers = Makers::default();
        let maker = |name: &str| Maker { upstream: Arc::from(name), credential: 1 };
        makers.note("resp_1", &maker("azure"));
        assert_eq!(makers.of("resp_1"), Some(maker("azure")));
        assert_eq!(makers.of("resp_2"), None);
        for number in 0..GENERATION_MAX {
            makers.note(&format!("filler {number}"), &maker("openai"));
        }
        assert_eq!(makers.of("resp_1"), Some(maker("azure")), "one generation later");
        for number in 0..GENERATION_MAX {
            makers.note(&format!("more {number}"), &maker("openai"));
        }
        assert_eq!(makers.of("resp_1"), None, "two generations later");
        let made = lock(&makers.made);
        assert!(made.young.len() + made.old.len() <= 2 * GENERATION_MAX);
    }
}
