//! What the journal holds: calls that were let out, and what they came to.

use crate::dialect::{Tier, Usage};
use serde::{Deserialize, Serialize};

/// Tokens by kind: `input` and `output` are the wholes, and the others parts of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_write_5m: u64,
    pub cache_write_1h: u64,
    pub reasoning: u64,
    pub audio_input: u64,
    pub audio_output: u64,
}

impl From<Usage> for Counts {
    fn from(usage: Usage) -> Counts {
        let Usage {
            input,
            output,
            cache_read,
            cache_write_5m,
            cache_write_1h,
            reasoning,
            audio_input,
            audio_output,
            tier: _,
        } = usage;
        Counts { input, output, cache_read, cache_write_5m, cache_write_1h, reasoning, audio_input, audio_output }
    }
}

impl Counts {
    /// The same as what was used at this tier.
    pub(crate) fn at(self, tier: Tier) -> Usage {
        let Counts { input, output, cache_read, cache_write_5m, cache_write_1h, reasoning, audio_input, audio_output } =
            self;
        Usage { input, output, cache_read, cache_write_5m, cache_write_1h, reasoning, audio_input, audio_output, tier }
    }
}

/// Where what was booked comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Mark {
    /// The provider has said so.
    Reported,
    /// It was made and not counted, a stream that was cut for instance: what was estimated stands.
    Estimated,
    /// The process was killed while it was under way: what was estimated stands.
    Killed,
    /// Nothing of it is read: a file, an image.
    Unread,
}

impl Mark {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Mark; 4] = [Mark::Reported, Mark::Estimated, Mark::Killed, Mark::Unread];

    /// Its number in the ledger.
    pub(crate) fn number(self) -> i64 {
        match self {
            Mark::Reported => 0,
            Mark::Estimated => 1,
            Mark::Killed => 2,
            Mark::Unread => 3,
        }
    }
}

/// A call that was let out: whose it is, and the most that it may cost. Names are numbers of the [`Entry::Name`]s before
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Opened {
    pub number: u64,
    pub at_unix_s: i64,
    pub names: [u32; Name::COUNT],
    /// 1 for the first call of its request, and 0 for those after it.
    pub requests: u8,
    pub input: u64,
    pub output: u64,
}

/// What a name is the name of, as [`Opened::names`] has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Key,
    Group,
    Tenant,
    Upstream,
    Model,
    Label,
}

impl Name {
    pub(crate) const COUNT: usize = 6;

    /// Its word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Name::Key => "key",
            Name::Group => "group",
            Name::Tenant => "tenant",
            Name::Upstream => "upstream",
            Name::Model => "model",
            Name::Label => "label",
        }
    }
}

/// What a call came to. `None`: it was not made, or nobody counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Closed {
    pub number: u64,
    pub booked: Option<Booked>,
}

/// How long a prompt was, as far as prices ask for it: so many of these bounds it passes. A price that changes at another
/// length changes at the next one of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Length(u8);

impl Length {
    const BOUNDS: [u64; 10] =
        [32_000, 64_000, 100_000, 128_000, 200_000, 256_000, 272_000, 400_000, 512_000, 1_000_000];

    /// Of a prompt with so many tokens.
    pub(crate) fn of(tokens: u64) -> Length {
        let passed = Length::BOUNDS.iter().filter(|bound| tokens > **bound).count();
        Length(u8::try_from(passed).unwrap_or(u8::MAX))
    }

    pub(crate) fn number(self) -> u8 {
        self.0
    }

    pub(crate) fn of_number(number: u8) -> Length {
        Length(number)
    }

    /// The shortest prompt that is so long.
    pub(crate) fn tokens_above(self) -> u64 {
        let passed = usize::from(self.0).checked_sub(1).and_then(|index| Length::BOUNDS.get(index));
        passed.map_or(0, |bound| bound + 1)
    }
}

/// What is booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Booked {
    pub mark: Mark,
    pub counts: Counts,
    /// The number of the price's tier.
    pub tier: u8,
    pub length: Length,
}

/// One entry of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// The next name, counted from 0. The empty one is none.
    Name(String),
    Opened(Opened),
    /// Something that a call that goes on has come to already.
    Booked {
        number: u64,
        at_unix_s: i64,
        booked: Booked,
    },
    Closed(Closed),
}

/// Bytes before each entry: its length, and its checksum.
const HEAD_BYTES: usize = 2 + 4;
/// Longest name that is kept whole.
pub(crate) const NAME_BYTES_MAX: usize = 512;

impl Entry {
    /// Writes it behind others.
    pub(crate) fn write(&self, journal: &mut Vec<u8>) {
        let begins = journal.len();
        journal.extend([0; HEAD_BYTES]);
        let written = postcard::to_io(self, &mut *journal).map(|_| ());
        let length = u16::try_from(journal.len() - begins - HEAD_BYTES);
        match (written, length) {
            (Ok(()), Ok(length)) => {
                let checksum = crc32fast::hash(&journal[begins + HEAD_BYTES..]);
                journal[begins..begins + 2].copy_from_slice(&length.to_le_bytes());
                journal[begins + 2..begins + HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
            }
            // Names are cut, and all else is short.
            _ => journal.truncate(begins),
        }
    }
}

/// Reads entries one after the other, up to one that is not whole.
#[derive(Debug)]
pub(crate) struct Entries<'j> {
    rest: &'j [u8],
}

impl<'j> Entries<'j> {
    pub(crate) fn of(journal: &'j [u8]) -> Entries<'j> {
        Entries { rest: journal }
    }

    /// How many bytes at the beginning of a journal are whole entries, whatever they say.
    pub(crate) fn whole(journal: &[u8]) -> usize {
        let mut rest = journal;
        while let Some((_, behind)) = split(rest) {
            rest = behind;
        }
        journal.len() - rest.len()
    }

    /// Bytes that are no whole entry, or none yet.
    pub(crate) fn unread(&self) -> usize {
        self.rest.len()
    }
}

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let (entry, rest) = split(self.rest)?;
        let entry = postcard::from_bytes(entry).ok()?;
        self.rest = rest;
        Some(entry)
    }
}

/// The first entry, and what is behind it; `None` if it is not whole.
fn split(journal: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, behind) = journal.split_at_checked(HEAD_BYTES)?;
    let length = u16::from_le_bytes([head[0], head[1]]);
    let checksum = u32::from_le_bytes([head[2], head[3], head[4], head[5]]);
    let (entry, rest) = behind.split_at_checked(length.into())?;
    (length != 0 && crc32fast::hash(entry) == checksum).then_some((entry, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries() -> Vec<Entry> {
        let opened =
            Opened { number: 7, at_unix_s: 1_795_000_000, names: [0, 1, 2, 3, 4, 5], requests: 1, input: 3, output: 4 };
        let booked = Booked {
            mark: Mark::Reported,
            counts: Counts { input: 3, output: 1, ..Counts::default() },
            tier: 0,
            length: Length::of(3),
        };
        vec![
            Entry::Name("gpt-5".into()),
            Entry::Opened(opened),
            Entry::Booked { number: 7, at_unix_s: 1_795_000_060, booked },
            Entry::Closed(Closed { number: 7, booked: Some(booked) }),
            Entry::Closed(Closed { number: u64::MAX, booked: None }),
        ]
    }

    fn written(entries: &[Entry]) -> Vec<u8> {
        let mut journal = Vec::new();
        entries.iter().for_each(|entry| entry.write(&mut journal));
        journal
    }

    #[test]
    fn what_is_written_is_read_again_and_is_short() {
        let journal = written(&entries());
        let mut read = Entries::of(&journal);
        assert_eq!(read.by_ref().collect::<Vec<_>>(), entries());
        assert_eq!(read.unread(), 0);
        assert!(written(&entries()[1..2]).len() < 40, "an entry is written for each call");
    }

    #[test]
    fn a_prompt_is_as_long_as_the_bounds_that_it_passes() {
        for (tokens, shortest) in
            [(0, 0), (32_000, 0), (32_001, 32_001), (200_000, 128_001), (200_001, 200_001), (u64::MAX, 1_000_001)]
        {
            let length = Length::of(tokens);
            assert_eq!(length.tokens_above(), shortest, "{tokens}");
            assert_eq!(Length::of_number(length.number()), length);
        }
    }

    #[test]
    fn a_journal_that_was_cut_is_read_up_to_there() {
        let journal = written(&entries());
        let mut whole = 0;
        for cut in 0..=journal.len() {
            let mut read = Entries::of(&journal[..cut]);
            let count = read.by_ref().count();
            assert!(count >= whole && count <= entries().len());
            whole = count;
        }
        assert_eq!(whole, entries().len());
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd_to_be_read(bytes in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>()) {
            let _ = Entries::of(&bytes).count();
            let mut journal = written(&entries());
            let at = at.index(journal.len());
            journal[at] ^= 0x40;
            let read: Vec<Entry> = Entries::of(&journal).collect();
            prop_assert!(entries().starts_with(&read), "what is damaged is not read");
        }
    }
}
