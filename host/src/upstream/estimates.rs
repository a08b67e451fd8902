//! What an upstream's own counts have taught about the estimates of requests to it, model by model.

use crate::dialect::estimate::learned::{Learned, Parts};
use crate::runtime::sync::lock;
use std::collections::HashMap;
use std::sync::Mutex;

/// Most models of an upstream whose estimates are corrected. Those that come later are estimated as they are: callers
/// choose names, and what is learned is worth the most where most requests go.
const MODELS_MAX: usize = 256;

/// What was learned, by the model's name as the provider is sent it.
#[derive(Debug, Default)]
pub(crate) struct Estimates {
    by_model: Mutex<HashMap<Box<str>, Learned>>,
}

impl Estimates {
    /// The estimate of this input, in tokens.
    pub(crate) fn expect(&self, model: Option<&str>, parts: &Parts) -> u64 {
        let learned = lock(&self.by_model).get(model.unwrap_or_default()).copied();
        learned.unwrap_or_default().expect(parts)
    }

    /// The provider has counted so many tokens of input in this.
    pub(crate) fn learn(&self, model: Option<&str>, parts: &Parts, counted: u64) {
        let model = model.unwrap_or_default();
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
        let estimates = Estimates::default();
        for model in 0..MODELS_MAX + 1 {
            estimates.learn(Some(&model.to_string()), &parts, parts.total() * 2);
        }
        assert!(estimates.expect(Some("0"), &parts) > parts.total());
        assert_eq!(estimates.expect(Some("other"), &parts), parts.total());
        assert_eq!(estimates.expect(Some(&MODELS_MAX.to_string()), &parts), parts.total(), "one too many");
        assert_eq!(estimates.expect(None, &parts), parts.total());
    }
}
