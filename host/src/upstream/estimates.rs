//! What an upstream's own counts have taught about the estimates of requests to it, model by model.

use crate::dialect::estimate::Input;
use crate::dialect::estimate::learned::{Learned, Parts};
use crate::dialect::estimate::tokenizer::{Tokenizer, Vocabulary};
use crate::runtime::sync::lock;
use std::collections::HashMap;
use std::sync::Mutex;

/// Most models of an upstream whose estimates are corrected. Those that come later are estimated as they are: callers
/// choose names, and what is learned is worth the most where most requests go.
const MODELS_MAX: usize = 256;

/// How the input of requests to an upstream is estimated.
#[derive(Debug, Default)]
pub(crate) struct Estimates {
    /// What counts its texts, where that is configured.
    pub vocabulary: Option<Vocabulary>,
    /// What was learned, by the model's name as the provider is sent it.
    by_model: Mutex<HashMap<Box<str>, Learned>>,
}

impl Estimates {
    /// With this tokeniser, loaded and ready.
    pub(crate) fn by(tokenizer: Option<Tokenizer>) -> Estimates {
        Estimates { vocabulary: tokenizer.and_then(Tokenizer::vocabulary), ..Estimates::default() }
    }

    /// What an input is made of here.
    pub(crate) fn parts<'i>(&self, input: &'i Input) -> &'i Parts {
        input.by(self.vocabulary.map(|vocabulary| vocabulary.tokenizer))
    }

    /// The estimate of this input, in tokens.
    pub(crate) fn expect(&self, model: Option<&str>, input: &Input) -> u64 {
        let learned = lock(&self.by_model).get(model.unwrap_or_default()).copied();
        learned.unwrap_or_default().expect(self.parts(input))
    }

    /// The provider has counted so many tokens of input in this.
    pub(crate) fn learn(&self, model: Option<&str>, input: &Input, counted: u64) {
        let (model, parts) = (model.unwrap_or_default(), self.parts(input));
        let mut by_model = lock(&self.by_model);
        if let Some(learned) = by_model.get_mut(model) {
            learned.learn(parts, counted);
        } else if by_model.len() < MODELS_MAX {
            by_model.entry(model.into()).or_default().learn(parts, counted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::dialect::estimate::Estimate;

    #[test]
    fn models_learn_for_themselves_and_only_so_many_of_them() {
        let body = br#"{"model":"m","messages":[{"role":"user","content":"the quick brown fox jumps over it"}]}"#;
        let asked = Dialect::OpenAi.read_request("/v1/chat/completions", body);
        let parts = Estimate::parts(Dialect::OpenAi, &asked, body);
        let input = Input::of(parts);
        let estimates = Estimates::default();
        for model in 0..MODELS_MAX + 1 {
            estimates.learn(Some(&model.to_string()), &input, parts.total() * 2);
        }
        assert!(estimates.expect(Some("0"), &input) > parts.total());
        assert_eq!(estimates.expect(Some("other"), &input), parts.total());
        assert_eq!(estimates.expect(Some(&MODELS_MAX.to_string()), &input), parts.total(), "one too many");
        assert_eq!(estimates.expect(None, &input), parts.total());
    }
    #[cfg(feature = "tokenizer")]
    #[test]
    fn an_upstream_with_a_tokeniser_goes_by_what_it_has_counted_where_it_has() {
        let body = br#"{"model":"m","messages":[{"role":"user","content":"the quick brown fox jumps over it"}]}"#;
        let asked = Dialect::OpenAi.read_request("/v1/chat/completions", body);
        let estimates = Estimates::by(Some(Tokenizer::O200k));
        let mut input = Input::of(Estimate::parts(Dialect::OpenAi, &asked, body));
        let estimated = input.parts.total();
        assert_eq!(estimates.expect(None, &input), estimated, "nobody has counted it yet");
        let counted = Estimate::counted(Dialect::OpenAi, &asked, body, estimates.vocabulary.expect("loaded"));
        input.count(Tokenizer::O200k, counted);
        // Seven words, the message's frame and the answer's.
        assert_eq!(estimates.expect(None, &input), 7 + 4 + 3);
        for _ in 0..100 {
            estimates.learn(None, &input, 28);
        }
        assert!(estimates.expect(None, &input) <= 28, "what is no text may be more than it was taken for");
        assert_eq!(Estimates::default().expect(None, &input), estimated, "another upstream's tokeniser is none of its");
    }
}
