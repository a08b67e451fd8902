//! What the providers' own counts teach about estimates: for a model, by how much each kind of content is more or less
//! than it was taken for.
//!
//! A request is a point: so many tokens of words, of signs, and so on, as estimated. What the provider counts is taken
//! for a sum of these, each with a factor, and each answer moves the factors towards what would have been right, those
//! most that had the largest share in it (normalised least mean squares). So a request of prose says nothing about
//! images, and one of both a little about each.
//!
//! Of texts that a tokeniser has counted there is nothing to learn: their factors are 1 and stay as they are, whatever
//! the rest of the request cost. They keep their share, so that such a request says little about the little else in it.

use super::text::GROUPS;
use std::ops::Range;

/// Kinds of content that are told apart: words, signs and digits, other alphabets, syllables and pictures; JSON of tools
/// and their calls; and what is no text, images above all, with what frames messages.
const KINDS: usize = GROUPS + 2;
/// What a factor may be. A tokeniser that makes more of a text, or less, is not one that counts tokens.
const FACTOR_MIN: f32 = 0.2;
const FACTOR_MAX: f32 = 5.0;
/// How far an answer moves the factors towards what would have been right, once many have.
const STEP: f32 = 0.1;
/// The most that one answer can be off, in shares of what was estimated. What is further off was counted with something
/// that nobody here has seen.
const ERROR_MAX: f32 = 0.5;

/// What the input of a request is made of, in tokens as they are estimated before anything is learned.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    total: u64,
    kinds: [f32; KINDS],
    /// Whether its texts were counted by a tokeniser: there is nothing to learn about them.
    is_counted: bool,
    /// Whether this is all that the model is shown.
    is_all: bool,
    /// Bytes of its texts, those of tools included.
    text_bytes: u64,
}

impl Parts {
    /// `percent` is what the model's tokeniser makes of a text, beside the one by which the texts were estimated.
    pub(super) fn new(total: u64, text: [f32; GROUPS], json: f32, percent: u64, media: u64, is_all: bool) -> Parts {
        let of_text = |tokens: f32| tokens * percent as f32 / 100.0;
        let [words, signs, alphabets, syllables] = text.map(of_text);
        let kinds = [words, signs, alphabets, syllables, of_text(json), media as f32];
        Parts { total, kinds, is_counted: false, is_all, text_bytes: 0 }
    }

    /// The same with texts of so many bytes, which were counted by a tokeniser or not.
    pub(super) fn with_texts(self, text_bytes: u64, is_counted: bool) -> Parts {
        Parts { text_bytes, is_counted, ..self }
    }

    /// The same with so many tokens of what could not be read.
    pub(super) fn with_unread(mut self, tokens: u64) -> Parts {
        self.total = self.total.saturating_add(tokens);
        self.is_all = false;
        self
    }

    /// All of it, in tokens.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes of its texts, as they read.
    pub fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// The kinds that are estimated, about which something can be learned.
    fn estimated(&self) -> Range<usize> {
        if self.is_counted { GROUPS..KINDS } else { 0..KINDS }
    }

    /// The share of each kind in all of it; `None` of nothing.
    fn shares(&self) -> Option<[f32; KINDS]> {
        let sum: f32 = self.kinds.iter().sum();
        (sum >= 1.0 && sum.is_finite()).then(|| self.kinds.map(|tokens| tokens / sum))
    }
}

/// What was learned about the estimates of a model's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learned {
    factors: [f32; KINDS],
    answers: u32,
}

impl Default for Learned {
    fn default() -> Self {
        Learned { factors: [1.0; KINDS], answers: 0 }
    }
}

impl Learned {
    /// The estimate of this input, in tokens, by what was learned.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is positive, and a `u64` saturates"
    )]
    pub fn expect(&self, parts: &Parts) -> u64 {
        match (self.answers, parts.shares()) {
            (0, _) | (_, None) => parts.total,
            (_, Some(shares)) => (parts.total as f64 * f64::from(self.factor(parts, &shares))).ceil() as u64,
        }
    }

    fn factor(&self, parts: &Parts, shares: &[f32; KINDS]) -> f32 {
        let (counted, estimated) = shares.split_at(parts.estimated().start);
        let factors = &self.factors[parts.estimated()];
        counted.iter().sum::<f32>() + factors.iter().zip(estimated).map(|(factor, share)| factor * share).sum::<f32>()
    }

    /// The provider has counted so many tokens of input in this. What was not all in the request teaches nothing, and
    /// so does an answer that counts none.
    pub fn learn(&mut self, parts: &Parts, counted: u64) {
        let Some(shares) = parts.shares().filter(|_| parts.is_all && counted > 0 && parts.total > 0) else { return };
        self.answers = self.answers.saturating_add(1);
        let right = counted as f32 / parts.total as f32;
        let error = (right - self.factor(parts, &shares)).clamp(-ERROR_MAX, ERROR_MAX);
        // The first answers count for more, as in a mean.
        let step = STEP.max(1.0 / (self.answers as f32 + 1.0));
        let norm: f32 = shares.iter().map(|share| share * share).sum();
        let estimated = self.factors.iter_mut().zip(shares).skip(parts.estimated().start);
        for (factor, share) in estimated {
            *factor = (*factor + step * error * share / norm).clamp(FACTOR_MIN, FACTOR_MAX);
        }
    }

    /// From how many answers.
    pub fn answers(&self) -> u32 {
        self.answers
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "these counts are small")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(words: f32, syllables: f32, media: u64) -> Parts {
        let text = [words, 0.0, 0.0, syllables];
        Parts::new((words + syllables) as u64 + media, text, 0.0, 100, media, true)
    }

    #[test]
    fn nothing_is_changed_before_anything_is_learned() {
        assert_eq!(Learned::default().expect(&parts(100.0, 20.0, 7)), 127);
        assert_eq!(Learned::default().expect(&Parts::default()), 0);
    }

    #[test]
    fn each_kind_learns_from_what_it_is_in() {
        let mut learned = Learned::default();
        for round in 0..200u64 {
            // A tokeniser that makes half as much again of words, two thirds of syllables, and takes images as they are.
            let prose = parts(1_000.0 + round as f32, 0.0, 10);
            learned.learn(&prose, (1_500.0 + 1.5 * round as f32) as u64 + 10);
            learned.learn(&parts(50.0, 900.0, 10), 75 + 600 + 10);
            learned.learn(&parts(20.0, 0.0, 1_500), 30 + 1_500);
        }
        for (request, counted) in [
            (parts(2_000.0, 0.0, 10), 3_010.0),
            (parts(0.0, 3_000.0, 10), 2_010.0),
            (parts(10.0, 0.0, 3_000), 3_015.0),
            (parts(500.0, 500.0, 500), 1_583.0),
        ] {
            let expected = learned.expect(&request) as f64;
            assert!((expected / counted - 1.0).abs() < 0.05, "{expected} for {counted}");
        }
    }

    #[test]
    fn what_was_not_all_in_the_request_teaches_nothing() {
        let mut learned = Learned::default();
        let elsewhere = Parts { is_all: false, ..parts(100.0, 0.0, 0) };
        learned.learn(&elsewhere, 10_000);
        learned.learn(&parts(100.0, 0.0, 0).with_unread(3), 10_000);
        learned.learn(&parts(100.0, 0.0, 0), 0);
        learned.learn(&Parts { is_all: true, ..Parts::default() }, 5);
        assert_eq!(learned, Learned::default());
    }

    #[test]
    fn texts_that_were_counted_are_right_whatever_was_learned_and_the_rest_learns_as_ever() {
        let counted = |words: f32, media| parts(words, 0.0, media).with_texts(0, true);
        let mut learned = Learned::default();
        for _ in 0..200 {
            // Images are more than they were taken for; the words beside them are what they are.
            learned.learn(&counted(200.0, 800), 200 + 1_200);
        }
        assert!((595..=605).contains(&learned.expect(&counted(0.0, 400))), "{}", learned.expect(&counted(0.0, 400)));
        assert_eq!(learned.expect(&counted(1_000.0, 0)), 1_000);
        let by_part = parts(1_000.0, 0.0, 0);
        assert_eq!(learned.expect(&by_part), 1_000, "nothing was learned about words");
        for _ in 0..50 {
            learned.learn(&by_part, 2_000);
        }
        assert!(learned.expect(&by_part) > 1_900);
        assert_eq!(learned.expect(&counted(1_000.0, 0)), 1_000);
    }

    #[test]
    fn one_answer_that_makes_no_sense_does_little_and_is_made_good() {
        let mut learned = Learned::default();
        let prose = parts(1_000.0, 0.0, 0);
        for _ in 0..50 {
            learned.learn(&prose, 1_200);
        }
        learned.learn(&prose, u64::MAX);
        assert!(learned.expect(&prose) <= 1_260, "{}", learned.expect(&prose));
        for _ in 0..50 {
            learned.learn(&prose, 1_200);
        }
        assert!((1_195..=1_205).contains(&learned.expect(&prose)));
    }

    proptest! {
        #[test]
        fn no_count_makes_an_estimate_absurd(
            answers in prop::collection::vec((0.0..1e6f32, 0.0..1e6f32, 0..1_000_000u64, any::<u64>()), 0..50),
        ) {
            let mut learned = Learned::default();
            for (words, syllables, media, counted) in answers {
                let request = parts(words, syllables, media);
                learned.learn(&request, counted);
                let expected = learned.expect(&request);
                prop_assert!(expected <= request.total() * 6 + 1 && expected >= request.total() / 6);
            }
        }
    }
}
