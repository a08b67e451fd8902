//! In what two answers differ, said in the same words wherever policies are compared.

use spillway_sdk::Verdict;

/// What changes from one verdict to another; `None` when both have the same effect.
///
/// Reasons are words for people: two policies agree that say the same thing differently.
pub(crate) fn change_of(from: &Verdict, to: &Verdict) -> Option<String> {
    let class = from.class.as_str();
    if from.class != to.class {
        Some(format!("{class} -> {}", to.class.as_str()))
    } else if from.scope != to.scope {
        Some(format!("{class} of {} -> of {}", from.scope.as_str(), to.scope.as_str()))
    } else if from.advice != to.advice {
        Some(format!("{class}, {} -> {}", from.advice.as_str(), to.advice.as_str()))
    } else {
        (from.cool_off != to.cool_off).then(|| format!("{class}, cool-off differs"))
    }
}

/// The effect of a verdict in one line. Its reason is left out: it may hold a provider's words.
pub(crate) fn in_words(verdict: &Verdict) -> String {
    let mut words = format!("{} of {}, {}", verdict.class.as_str(), verdict.scope.as_str(), verdict.advice.as_str());
    if let Some(cool_off) = verdict.cool_off {
        words.push_str(&format!(", cool-off {} ms", cool_off.as_millis()));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_sdk::{Advice, Scope};
    use std::time::Duration;

    #[test]
    fn the_weightiest_difference_is_named() {
        let failure = Verdict::failure("one");
        let cases = [
            (Verdict::failure("two"), None),
            (Verdict::throttled("x"), Some("failure -> throttled")),
            (Verdict::failure("").scope(Scope::Upstream), Some("failure of model -> of upstream")),
            (Verdict::failure("").advice(Advice::GiveUp), Some("failure, retry -> give up")),
            (Verdict::failure("").cool_off(Duration::from_secs(1)), Some("failure, cool-off differs")),
        ];
        for (other, expected) in cases {
            assert_eq!(change_of(&failure, &other).as_deref(), expected);
        }
    }
}
