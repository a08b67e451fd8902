//! Exact counts of a text's tokens, by the vocabularies that OpenAI publishes.

use std::fmt;

/// Whether there is any: they are megabytes, and can be left out of a build.
pub const HAS_VOCABULARIES: bool = cfg!(feature = "tokenizer");

/// A tokeniser by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokenizer {
    /// Of GPT-4o and all later models.
    O200k,
    /// Of GPT-4, GPT-3.5 and the embeddings.
    Cl100k,
}

impl Tokenizer {
    /// All of them.
    pub const ALL: [Tokenizer; 2] = [Tokenizer::O200k, Tokenizer::Cl100k];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Tokenizer::O200k => "o200k",
            Tokenizer::Cl100k => "cl100k",
        }
    }

    /// What it counts with. The first time this takes a fifth of a second, and memory that is never given back; `None`
    /// where Spillway was built without vocabularies.
    pub fn vocabulary(self) -> Option<Vocabulary> {
        built_in::words(self).map(|words| Vocabulary { tokenizer: self, words })
    }
}

/// A tokeniser that is ready to count.
#[derive(Clone, Copy)]
pub struct Vocabulary {
    /// Whose it is.
    pub tokenizer: Tokenizer,
    words: &'static built_in::Words,
}

impl Vocabulary {
    /// The tokens of a text, whatever it says: a special token in it is text like the rest. `None` of what is no text,
    /// and which it could not count.
    pub fn count(self, text: &str) -> Option<u64> {
        (!has_long_blank(text)).then(|| built_in::count(self.words, text))
    }
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tokenizer.as_str())
    }
}

/// White space at a stretch, in bytes, that is counted. It is gone through character by character, and a million of them
/// ends the crate's matching with a panic.
const BLANK_BYTES_MAX: usize = 64 << 10;

/// Whether there is more white space at a stretch than can be counted.
fn has_long_blank(text: &str) -> bool {
    if text.len() <= BLANK_BYTES_MAX {
        return false;
    }
    let mut blank = 0;
    text.chars().any(|character| {
        blank = if character.is_whitespace() { blank + character.len_utf8() } else { 0 };
        blank > BLANK_BYTES_MAX
    })
}

#[cfg(feature = "tokenizer")]
mod built_in {
    use super::Tokenizer;
    pub(super) use tiktoken_rs::CoreBPE as Words;
    use tiktoken_rs::{cl100k_base_singleton, o200k_base_singleton};

    pub(super) fn words(tokenizer: Tokenizer) -> Option<&'static Words> {
        Some(match tokenizer {
            Tokenizer::O200k => o200k_base_singleton(),
            Tokenizer::Cl100k => cl100k_base_singleton(),
        })
    }

    pub(super) fn count(words: &Words, text: &str) -> u64 {
        words.count_ordinary(text) as u64
    }
}

#[cfg(not(feature = "tokenizer"))]
mod built_in {
    use super::Tokenizer;

    /// There are none.
    pub(super) enum Words {}

    pub(super) fn words(_: Tokenizer) -> Option<&'static Words> {
        None
    }

    pub(super) fn count(words: &Words, _: &str) -> u64 {
        match *words {}
    }
}

#[cfg(test)]
#[cfg(feature = "tokenizer")]
mod tests {
    use super::*;

    fn count(tokenizer: Tokenizer, text: &str) -> Option<u64> {
        tokenizer.vocabulary().expect("it is built in").count(text)
    }

    #[test]
    fn each_tokeniser_counts_as_its_own_models_do() {
        for (text, o200k, cl100k) in [
            ("", 0, 0),
            ("The quick brown fox jumps over the lazy dog.", 10, 10),
            // From the table of OpenAI's cookbook.
            ("antidisestablishmentarianism", 6, 6),
            ("お誕生日おめでとう", 8, 9),
            ("<|endoftext|>", 7, 7),
        ] {
            assert_eq!(count(Tokenizer::O200k, text), Some(o200k), "{text:?} by o200k");
            assert_eq!(count(Tokenizer::Cl100k, text), Some(cl100k), "{text:?} by cl100k");
        }
    }

    #[test]
    fn what_could_not_be_counted_is_not_and_nothing_panics() {
        for blank in [" ", "\u{a0}", "\u{3000}"] {
            let long = blank.repeat(BLANK_BYTES_MAX / blank.len());
            assert!(count(Tokenizer::O200k, &format!("{long}x{long}x")).is_some(), "{blank:?}");
            let endless = format!("x{}x", blank.repeat(1_100_000));
            assert_eq!(count(Tokenizer::O200k, &endless), None, "{blank:?}");
            assert_eq!(count(Tokenizer::Cl100k, &endless), None, "{blank:?}");
        }
        for long in ["A", "aB", "1", ".", "\u{2b0}", "\u{301}", "-a", "'s"] {
            let text = long.repeat(1_100_000 / long.len());
            assert!(count(Tokenizer::O200k, &text).is_some(), "{long:?}");
        }
    }
}
