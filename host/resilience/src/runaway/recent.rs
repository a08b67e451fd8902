//! Something remembered of each of those who were about lately.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use crate::time::Timestamp;

/// Something remembered of each of those who were about lately, so many at most.
///
/// They are known by hashes, which are taken as they are; two with the same are taken for one. There are a young and an
/// old half: whoever is asked for is in the young one, and when that is full it becomes the old one, whose content is
/// forgotten. So whoever was about since as many others came as half of the capacity is never forgotten, and nothing is
/// searched for whom to forget.
#[derive(Clone, Debug)]
pub struct Recent<V> {
    young: Half<V>,
    old: Half<V>,
    half: usize,
    ttl: Duration,
}

type Half<V> = HashMap<u64, (V, Timestamp), BuildHasherDefault<AsItIs>>;

impl<V: Default> Recent<V> {
    /// Remembers at most `capacity` (2 at least), each for `ttl` after it was last asked for.
    #[must_use]
    pub fn new(capacity: usize, ttl: Duration) -> Self {
        Self { young: Half::default(), old: Half::default(), half: (capacity / 2).max(1), ttl }
    }

    /// What is remembered of this one, or else the beginning of it.
    pub fn of(&mut self, id: u64, now: Timestamp) -> &mut V {
        if !self.young.contains_key(&id) {
            let known = self.old.remove(&id);
            if self.young.len() >= self.half {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(id, known.unwrap_or_else(|| (V::default(), now)));
        }
        let (value, asked) = self.young.entry(id).or_insert_with(|| (V::default(), now));
        if now.saturating_since(*asked) >= self.ttl {
            *value = V::default();
        }
        *asked = now;
        value
    }

    /// What is remembered of this one, if anything is. It is not remembered for longer by that.
    #[must_use]
    pub fn look(&self, id: u64, now: Timestamp) -> Option<&V> {
        let (value, asked) = self.young.get(&id).or_else(|| self.old.get(&id))?;
        (now.saturating_since(*asked) < self.ttl).then_some(value)
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A hash that is one already.
#[derive(Clone, Copy, Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
