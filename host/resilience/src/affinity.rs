//! Where a conversation is, so that its next turn finds the prompt cache of the last.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::Mistake;
use crate::time::Timestamp;

/// The numbers of an [`Affinity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AffinitySettings {
    /// A conversation that was not served for so long is where it likes. Longer than zero.
    pub ttl: Duration,
    /// Conversations that are remembered, 1 to [`CAPACITY_MAX`](Self::CAPACITY_MAX). Beyond that the one is forgotten
    /// that was not served for the longest time.
    pub capacity: usize,
}

impl AffinitySettings {
    /// An hour, the longest for which a provider keeps a prompt without being paid by the hour: Anthropic's caches last
    /// five minutes or an hour after their last use, OpenAI's five minutes to an hour. A pin that outlives its cache
    /// costs some balance; a cache that outlives its pin is paid for again, at ten times the price.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(3_600);
    /// A hundred thousand, which take less than ten megabytes: 28 new conversations a second for an hour.
    pub const DEFAULT_CAPACITY: usize = 100_000;
    /// Highest allowed `capacity`: less than a hundred megabytes.
    pub const CAPACITY_MAX: usize = 1_000_000;

    /// Every mistake in these settings; none when they are sound.
    #[must_use]
    pub fn validate(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        Mistake::unless(&mut mistakes, !self.ttl.is_zero(), "ttl", "must be longer than zero".to_owned());
        Mistake::unless(
            &mut mistakes,
            (1..=Self::CAPACITY_MAX).contains(&self.capacity),
            "capacity",
            format!("{} must lie between 1 and {}", self.capacity, Self::CAPACITY_MAX),
        );
        mistakes
    }
}

impl Default for AffinitySettings {
    fn default() -> Self {
        Self { ttl: Self::DEFAULT_TTL, capacity: Self::DEFAULT_CAPACITY }
    }
}

#[derive(Clone, Copy, Debug)]
struct Pin {
    candidate: usize,
    served: Timestamp,
}

/// Which conversation is pinned to which candidate.
///
/// A conversation is where it was last served. It is known by a hash; two with the same are taken for one, which costs
/// them a cache and no more.
#[derive(Clone, Debug)]
pub struct Affinity {
    settings: AffinitySettings,
    pins: BTreeMap<u64, Pin>,
    /// The same conversations by when they were last served, the longest ago first.
    oldest: BTreeSet<(Timestamp, u64)>,
    /// How many are pinned to each candidate, without those that have none.
    conversations: BTreeMap<usize, u64>,
}

impl Affinity {
    /// Nothing is pinned. A capacity outside its range is brought to the nearer end.
    #[must_use]
    pub fn new(settings: AffinitySettings) -> Self {
        let capacity = settings.capacity.clamp(1, AffinitySettings::CAPACITY_MAX);
        Self {
            settings: AffinitySettings { capacity, ..settings },
            pins: BTreeMap::new(),
            oldest: BTreeSet::new(),
            conversations: BTreeMap::new(),
        }
    }

    /// The candidate that this conversation is pinned to, if it is.
    #[must_use]
    pub fn pinned(&mut self, conversation: u64, now: Timestamp) -> Option<usize> {
        self.forget_expired(now);
        self.pins.get(&conversation).map(|pin| pin.candidate)
    }

    /// Notes that a candidate has served a conversation, which is pinned to it from here on.
    pub fn served(&mut self, conversation: u64, candidate: usize, now: Timestamp) {
        self.forget_expired(now);
        self.forget(conversation);
        if self.pins.len() >= self.settings.capacity
            && let Some((_, oldest)) = self.oldest.first().copied()
        {
            self.forget(oldest);
        }
        self.pins.insert(conversation, Pin { candidate, served: now });
        self.oldest.insert((now, conversation));
        *self.conversations.entry(candidate).or_default() += 1;
    }

    /// How many conversations are pinned to a candidate, as of the last call of another method.
    #[must_use]
    pub fn conversations(&self, candidate: usize) -> u64 {
        self.conversations.get(&candidate).copied().unwrap_or_default()
    }

    /// Conversations that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pins.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pins.is_empty()
    }

    fn forget_expired(&mut self, now: Timestamp) {
        while let Some((served, conversation)) = self.oldest.first().copied()
            && now.saturating_since(served) >= self.settings.ttl
        {
            self.forget(conversation);
        }
    }

    fn forget(&mut self, conversation: u64) {
        let Some(Pin { candidate, served }) = self.pins.remove(&conversation) else { return };
        self.oldest.remove(&(served, conversation));
        if let Some(count) = self.conversations.get_mut(&candidate) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.conversations.remove(&candidate);
            }
        }
    }
}

#[cfg(test)]
mod tests;
