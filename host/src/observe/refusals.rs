//! What was refused of late, for whoever asks how Spillway stands.
//!
//! Refusals of one kind come in crowds, so they are one entry with a count. Nothing is noted of what is served, and what
//! is refused costs a short lock.

use crate::runtime::sync::{Mutex, lock};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::VecDeque;

/// Kinds of refusals that are remembered. A further one takes the place of that which has not come for longest.
const KINDS_MAX: usize = 20;
/// Longest message that is remembered, in characters. Of a longer one the rest is left out.
const MESSAGE_CHARS_MAX: usize = 400;
/// Longest name of a model that is remembered, in characters: callers write what they like.
const MODEL_CHARS_MAX: usize = 100;
/// How keys of providers begin.
const KEY_BEGINNINGS: [&str; 8] = ["sk-", "sk_", "AIza", "gsk_", "xai-", "hf_", "pplx-", "eyJ"];
/// A shorter word is no key, however it begins.
const KEY_CHARS_MIN: usize = 16;

/// Refusals of one kind: of one code and status, at one upstream, for one model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RecentRefusal {
    /// How often it came, as long as it is remembered.
    pub(crate) times: u64,
    pub(crate) first_at_unix_ms: u64,
    pub(crate) last_at_unix_ms: u64,
    /// The word in `x-spillway-refusal`.
    pub(crate) code: Cow<'static, str>,
    /// What its caller saw.
    pub(crate) status: u16,
    /// Empty where it was refused before anybody knew where it goes.
    pub(crate) upstream: String,
    pub(crate) model: Option<String>,
    /// Why the last of them was refused, without what is advised to its caller.
    pub(crate) message: String,
}

/// The refusals of late, the latest last.
#[derive(Debug, Default)]
pub(crate) struct RecentRefusals(Mutex<VecDeque<RecentRefusal>>);

impl RecentRefusals {
    /// Remembers one.
    pub(crate) fn note(
        &self,
        (code, status): (&'static str, u16),
        (upstream, model): (&str, Option<&str>),
        message: &str,
        now_unix_ms: u64,
    ) {
        let model = model.map(|model| fit_to_show(model, MODEL_CHARS_MAX));
        let message = fit_to_show(message, MESSAGE_CHARS_MAX);
        let is_same = |known: &RecentRefusal| {
            known.code == code && known.status == status && known.upstream == upstream && known.model == model
        };
        let mut kinds = lock(&self.0);
        let last = kinds.iter().position(is_same).and_then(|place| kinds.remove(place));
        let before = last.unwrap_or_else(|| RecentRefusal {
            first_at_unix_ms: now_unix_ms,
            code: code.into(),
            status,
            upstream: upstream.to_owned(),
            model,
            ..RecentRefusal::default()
        });
        if kinds.len() >= KINDS_MAX {
            kinds.pop_front();
        }
        let times = before.times.saturating_add(1);
        kinds.push_back(RecentRefusal { times, last_at_unix_ms: now_unix_ms, message, ..before });
    }

    /// All that are remembered, the latest first.
    pub(crate) fn look(&self) -> Vec<RecentRefusal> {
        lock(&self.0).iter().rev().cloned().collect()
    }
}

/// A text of somebody else's as it may be shown: on one line, no longer than that, without anything that a terminal
/// would obey, and without what looks like a provider's key.
pub(crate) fn fit_to_show(text: &str, chars_max: usize) -> String {
    let is_of_word = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
    let mut fit = String::new();
    // Whatever is cut was not looked at: a key that is cut is looked at as far as it is shown.
    let end = text.char_indices().nth(chars_max).map_or(text.len(), |(end, _)| end);
    let (mut rest, is_cut) = (&text[..end], end < text.len());
    while let Some(first) = rest.chars().next() {
        let length = rest.find(|character| is_of_word(character) != is_of_word(first)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(length);
        let is_key = word.len() >= KEY_CHARS_MIN && KEY_BEGINNINGS.iter().any(|beginning| word.starts_with(beginning));
        match is_key {
            true => fit.push_str("[redacted]"),
            false => fit.extend(word.chars().map(|shown| if shown.is_control() { ' ' } else { shown })),
        }
        rest = behind;
    }
    if is_cut {
        fit.push('…');
    }
    fit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(recent: &RecentRefusals, code: &'static str, model: &str, at: u64) {
        recent.note((code, 503), ("openai", Some(model)), &format!("at {at}"), at);
    }

    #[test]
    fn refusals_of_one_kind_are_one_entry_with_the_last_message() {
        let recent = RecentRefusals::default();
        for (code, model, at) in
            [("open", "a", 1), ("open", "b", 2), ("open", "a", 3), ("paced", "a", 4), ("open", "a", 5)]
        {
            refuse(&recent, code, model, at);
        }
        let look = recent.look();
        let told: Vec<_> = look
            .iter()
            .map(|kind| (&*kind.code, kind.model.as_deref(), kind.times, kind.first_at_unix_ms, &*kind.message))
            .collect();
        assert_eq!(
            told,
            [("open", Some("a"), 3, 1, "at 5"), ("paced", Some("a"), 1, 4, "at 4"), ("open", Some("b"), 1, 2, "at 2")]
        );
    }

    #[test]
    fn a_kind_too_many_takes_the_place_of_the_one_that_has_not_come_for_longest() {
        let recent = RecentRefusals::default();
        for at in 0..KINDS_MAX as u64 {
            refuse(&recent, "open", &at.to_string(), at);
        }
        refuse(&recent, "open", "0", 100);
        refuse(&recent, "open", "one more", 101);
        let models: Vec<_> = recent.look().into_iter().filter_map(|kind| kind.model).collect();
        assert_eq!((models.len(), &*models[0], &*models[1]), (KINDS_MAX, "one more", "0"));
        assert!(!models.contains(&"1".to_owned()), "{models:?}");
    }

    #[test]
    fn what_others_say_is_shown_on_one_line_without_keys_and_without_commands_to_a_terminal() {
        let cases = [
            ("plain words", "plain words"),
            ("no sk-proj-0123456789abcdef here, nor AIzaSyA0123456789", "no [redacted] here, nor [redacted]"),
            (
                "the sk-short one and the task-0123456789abcdef stay",
                "the sk-short one and the task-0123456789abcdef stay",
            ),
            ("two\nlines\u{1b}[31m", "two lines [31m"),
            ("ä and ö are letters", "ä and ö are letters"),
        ];
        for (text, shown) in cases {
            assert_eq!(fit_to_show(text, 100), shown);
        }
        assert_eq!(fit_to_show("äöü", 2), "äö…");
        assert_eq!(fit_to_show("sk-0123456789abcdefghi", 18), "[redacted]…");
    }
}
