//! `[labels]`: by what callers may have their cost told apart.

use super::kind::{List, Whole};
use super::reader::Section;
use super::section::section;

/// Most keys of labels: a request carries a number for each.
pub const KEYS_MAX: usize = 8;
/// Most values of one key: all of them may become series of a metric.
const VALUES_MAX: u64 = 10_000;
/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 32;

section! {
    /// Labels that callers put on their requests, to see what pays for what: `x-spillway-label: feature=search,
    /// prompt=v12`. The header goes no further than Spillway.
    pub struct LabelsConfig {
        /// The keys that are told apart. Where none are listed, those are that come first, `max_keys` of them.
        keys: Vec<String> = Vec::new(), List("keys", key);
        /// Most keys that are told apart. Others are left out, and counted.
        max_keys: usize = 4, Whole(1..=KEYS_MAX as u64);
        /// Most values of each key that are told apart, those that come first. The rest is `other`.
        max_values: usize = 100, Whole(1..=VALUES_MAX);
    }
}

impl LabelsConfig {
    pub(super) fn read(section: Section<'_>) -> LabelsConfig {
        let mut labels = LabelsConfig::fresh(section.folder());
        labels.take(&section);
        if labels.keys.len() > KEYS_MAX {
            section.mistake("keys", format!("must be {KEYS_MAX} at most"));
        }
        if !labels.keys.is_empty() {
            labels.max_keys = labels.keys.len().min(KEYS_MAX);
        }
        section.finish();
        labels
    }
}

/// Whether a text can be the key of a label: small letters, digits, `_`, `-` and `.`, and not too long.
pub fn is_label_key(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.');
    (1..=KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits)
}

fn key(text: &str) -> Result<String, String> {
    match is_label_key(text) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "\"{text}\" is no key of a label: 1 to {KEY_BYTES_MAX} small letters, digits, `_`, `-` and `.`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use std::path::Path;

    #[test]
    fn keys_are_listed_or_come_first() {
        let labels = |text: &str| parse(text, Path::new("")).map(|config| config.labels);
        let some = labels("[labels]\nkeys = [\"feature\", \"prompt\"]").expect("a configuration");
        assert_eq!((some.keys.len(), some.max_keys), (2, 2));
        assert_eq!(labels("").expect("a configuration").max_keys, 4);
        for wrong in ["keys = [\"Feature\"]", "keys = [\"\"]", "keys = [\"a b\"]", "max_values = 0", "max_keys = 9"] {
            assert_eq!(labels(&format!("[labels]\n{wrong}")).expect_err(wrong).len(), 1, "{wrong}");
        }
    }
}
