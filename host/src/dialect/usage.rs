//! Tokens as a provider counted them, by what they cost: each kind has a price of its own.

use serde_json::Value;

/// Tokens as the provider counted them. Providers differ in what contains what; here `input` and `output` are the
/// wholes, all else is a part of one of them, and no token is in two parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub input: u64,
    /// All output tokens, reasoning included.
    pub output: u64,
    /// Input that was read from a cache.
    pub cache_read: u64,
    /// Input that was written into a cache which lasts for minutes: Anthropic's five, OpenAI's thirty.
    pub cache_write_5m: u64,
    /// Input that was written into a cache which lasts for longer: an hour, or hours.
    pub cache_write_1h: u64,
    /// Output that nobody was shown, or that was shown as thoughts.
    pub reasoning: u64,
    /// Input that was heard, and did not come from a cache.
    pub audio_input: u64,
    /// Output that was spoken.
    pub audio_output: u64,
    /// At which of its prices the provider served.
    pub tier: Tier,
}

/// At which of a provider's prices a request was served, as the answer says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// The usual one; also what is said by saying nothing.
    #[default]
    Standard,
    /// Whenever there is room, for less.
    Flex,
    /// Within a day, for less.
    Batch,
    /// Before others, for more. OpenAI also calls it fast.
    Priority,
    /// Anthropic's fast mode, for more.
    Fast,
    /// Faster still, for much more.
    Ultrafast,
}

impl Tier {
    /// All of them.
    pub const ALL: [Tier; 6] = [Tier::Standard, Tier::Flex, Tier::Batch, Tier::Priority, Tier::Fast, Tier::Ultrafast];

    /// The word used in files and output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Tier::Standard => "standard",
            Tier::Flex => "flex",
            Tier::Batch => "batch",
            Tier::Priority => "priority",
            Tier::Fast => "fast",
            Tier::Ultrafast => "ultrafast",
        }
    }

    /// The tier that [`Tier::as_str`] calls so.
    pub fn from_word(word: &str) -> Option<Tier> {
        Tier::ALL.into_iter().find(|tier| tier.as_str() == word)
    }

    /// Its number in what is kept: its place in [`Tier::ALL`].
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// The tier of a number; the usual one for a number that none has.
    pub(crate) fn of_number(number: u8) -> Tier {
        Tier::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }

    /// By a word of a provider's. One that nobody here has heard of is the usual tier.
    pub(super) fn said(word: &str) -> Tier {
        let word = word.trim_start_matches("ON_DEMAND_").trim_start_matches("SERVICE_TIER_").to_ascii_lowercase();
        Tier::from_word(&word).unwrap_or_default()
    }
}

impl Usage {
    /// Input and output together.
    pub fn total(self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// What two requests have used together. They are told as of the dearer tier, which is the later one in
    /// [`Tier::ALL`].
    pub fn plus(self, other: Usage) -> Usage {
        self.by_kind(other, u64::saturating_add)
    }

    /// What one answer has used, by two reports of it. Anthropic counts the input first and the output last, and each
    /// report holds all until then, so that the larger one counts of each kind.
    pub fn most(self, other: Usage) -> Usage {
        self.by_kind(other, u64::max)
    }

    fn by_kind(self, other: Usage, of: fn(u64, u64) -> u64) -> Usage {
        Usage {
            input: of(self.input, other.input),
            output: of(self.output, other.output),
            cache_read: of(self.cache_read, other.cache_read),
            cache_write_5m: of(self.cache_write_5m, other.cache_write_5m),
            cache_write_1h: of(self.cache_write_1h, other.cache_write_1h),
            reasoning: of(self.reasoning, other.reasoning),
            audio_input: of(self.audio_input, other.audio_input),
            audio_output: of(self.audio_output, other.audio_output),
            tier: self.tier.max(other.tier),
        }
    }

    /// The same with no part larger than what its whole has left for it, whatever a server has counted.
    #[must_use]
    pub fn within_wholes(self) -> Usage {
        let part = |left: &mut u64, counted: u64| {
            let part = counted.min(*left);
            *left -= part;
            part
        };
        let (mut input, mut output) = (self.input, self.output);
        Usage {
            cache_read: part(&mut input, self.cache_read),
            cache_write_1h: part(&mut input, self.cache_write_1h),
            cache_write_5m: part(&mut input, self.cache_write_5m),
            audio_input: part(&mut input, self.audio_input),
            audio_output: part(&mut output, self.audio_output),
            reasoning: part(&mut output, self.reasoning),
            ..self
        }
    }
}

/// A number that stands under this key; one that is absent, or no count, is none.
pub(super) fn count(object: &Value, key: &str) -> Option<u64> {
    object.get(key)?.as_u64()
}

/// The largest of the numbers that stand under these keys, which are words for the same.
pub(super) fn either(object: &Value, keys: &[&str]) -> Option<u64> {
    keys.iter().filter_map(|key| count(object, key)).max()
}

/// What stands under the first of these keys that holds an object.
pub(super) fn details<'v>(object: &'v Value, keys: &[&str]) -> &'v Value {
    static NOTHING: Value = Value::Null;
    keys.iter().filter_map(|key| object.get(key)).find(|value| value.is_object()).unwrap_or(&NOTHING)
}

#[cfg(test)]
mod tests;
