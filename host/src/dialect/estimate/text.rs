//! Tokens of a text, by its bytes.
//!
//! Tokenisers cut what is frequent into long pieces and what is rare into short ones, and so what a byte costs depends
//! on what it is part of. The weights are a least-squares fit to what OpenAI's o200k makes of prose in 30 languages,
//! source code, JSON and markup; the table that `cargo test --test estimates` prints says how far off they are.

use super::tokenizer::Vocabulary;

/// Weights are thousandths of a token.
const UNIT: u64 = 1_000;

const LETTER: u16 = 232;
/// Few numbers are long, and digits among letters make a piece of each.
const DIGIT: u16 = 900;
const PUNCTUATION: u16 = 540;
const NEWLINE: u16 = 1_100;
/// By the first byte of a character: Latin letters with something on them, which break words up.
const ACCENTED: u16 = 700;
/// Cyrillic, Greek, Arabic, Hebrew.
const OTHER_ALPHABET: u16 = 340;
/// The scripts of India and their neighbours.
const INDIC: u16 = 380;
/// Chinese, Japanese, Korean, and signs.
const SYLLABLE_OR_SIGN: u16 = 750;
/// Emoji, above all.
const PICTURE: u16 = 1_800;

/// Text this long without a space or a line's end, half of it no small letters, is no language: base64, keys, hashes.
/// Of these a token has 1.5 bytes.
const UNBROKEN_BYTES_MIN: usize = 128;
const UNBROKEN: u64 = 680;

/// Groups of bytes that a tokeniser treats alike, as lanes of a number.
pub(super) const GROUPS: usize = 4;
const WORDS: usize = 0;
const SIGNS: usize = 1;
const ALPHABETS: usize = 2;
const SYLLABLES: usize = 3;
/// Bits of a lane.
const LANE: usize = 16;
/// Bytes whose weights fit into a lane together, whatever they are.
const BYTES_OF_A_LANE: usize = 32;

static WEIGHTS: [u64; 256] = weights();

/// The weight of each byte, in the lane of its group.
const fn weights() -> [u64; 256] {
    let mut weights = [0; 256];
    let mut byte = 0u8;
    loop {
        let (weight, group) = match byte {
            b'a'..=b'z' | b'A'..=b'Z' => (LETTER, WORDS),
            b'0'..=b'9' => (DIGIT, SIGNS),
            b'\n' => (NEWLINE, SIGNS),
            // Spaces go with the word behind them, and runs of them are one piece.
            b' ' | b'\t' | b'\r' => (0, WORDS),
            0..=0x7F => (PUNCTUATION, SIGNS),
            // What comes behind a character's first byte.
            0x80..=0xBF => (0, WORDS),
            0xC0..=0xC9 => (ACCENTED, ALPHABETS),
            0xCA..=0xDF => (OTHER_ALPHABET, ALPHABETS),
            0xE0 => (INDIC, ALPHABETS),
            0xE1..=0xEF => (SYLLABLE_OR_SIGN, SYLLABLES),
            0xF0..=0xFF => (PICTURE, SYLLABLES),
        };
        weights[byte as usize] = (weight as u64) << (group * LANE);
        if byte == u8::MAX {
            return weights;
        }
        byte += 1;
    }
}

/// Tokens of texts, added up without rounding each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TextTokens {
    /// Thousandths of a token, by group.
    units: [u64; GROUPS],
}

impl TextTokens {
    /// Adds a text: counted by a tokeniser, or else estimated.
    pub(super) fn add(&mut self, text: &str, vocabulary: Option<Vocabulary>) {
        match vocabulary.and_then(|vocabulary| vocabulary.count(text)) {
            // How it is made up matters to nobody then.
            Some(tokens) => self.add_units(WORDS, tokens.saturating_mul(UNIT)),
            None => self.estimate(text.as_bytes()),
        }
    }

    fn estimate(&mut self, text: &[u8]) {
        if is_unbroken(text) {
            self.add_units(SIGNS, text.len() as u64 * UNBROKEN);
            return;
        }
        for bytes in text.chunks(BYTES_OF_A_LANE) {
            let lanes: u64 = bytes.iter().map(|byte| WEIGHTS[usize::from(*byte)]).sum();
            for group in 0..GROUPS {
                self.add_units(group, lanes >> (group * LANE) & 0xFFFF);
            }
        }
    }

    fn add_units(&mut self, group: usize, units: u64) {
        self.units[group] = self.units[group].saturating_add(units);
    }

    /// Adds so many tokens.
    pub(super) fn add_tokens(&mut self, tokens: u64) {
        self.add_units(SIGNS, tokens.saturating_mul(UNIT));
    }

    /// Both together.
    pub(super) fn plus(mut self, other: TextTokens) -> TextTokens {
        for (group, units) in other.units.into_iter().enumerate() {
            self.add_units(group, units);
        }
        self
    }

    /// All of them, rounded up.
    pub(super) fn total(self) -> u64 {
        self.units.into_iter().fold(0, u64::saturating_add).div_ceil(UNIT)
    }

    /// All of them, by group: words, signs, other alphabets, syllables.
    pub(super) fn by_group(self) -> [f32; GROUPS] {
        self.units.map(|units| units as f32 / UNIT as f32)
    }
}

fn is_unbroken(text: &[u8]) -> bool {
    // Its beginning tells, and prose has a space in it.
    let Some(beginning) = text.get(..UNBROKEN_BYTES_MIN) else { return false };
    let small = beginning.iter().filter(|byte| byte.is_ascii_lowercase()).count();
    let is_plain = |byte: &u8| byte.is_ascii_graphic();
    small * 2 < beginning.len() && beginning.iter().all(is_plain) && !text.contains(&b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> u64 {
        let mut tokens = TextTokens::default();
        tokens.add(text, None);
        tokens.total()
    }

    #[test]
    fn words_signs_and_characters_of_all_lengths_count_for_what_they_are() {
        assert_eq!(tokens(""), 0);
        assert!((9..=12).contains(&tokens("The quick brown fox jumps over the lazy dog.")));
        assert!((4..=7).contains(&tokens("Быстрая лиса прыгает")));
        assert!((4..=7).contains(&tokens("敏捷的狐狸跳过")));
        assert_eq!(tokens(&" ".repeat(10_000)), 0);
    }

    #[test]
    fn what_is_no_language_costs_more_than_what_is() {
        let base64 = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAA".repeat(10);
        let prose = "the little fox goes to the large river and ".repeat(20);
        assert!(tokens(&base64) > base64.len() as u64 * 6 / 10);
        assert!(tokens(&prose) < prose.len() as u64 * 3 / 10);
    }
}
