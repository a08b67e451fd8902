//! A candidate beside the policy that serves: asked the same questions on live traffic, heard by nobody, and compared.

use super::difference::{change_of, in_words};
use super::status::{Comparison, Example};
use crate::runtime::clock::wall_unix_ms;
use spillway_sdk::{AttemptFacts, ProviderError, RetryDecision, TripDecision, Verdict};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::runtime::sync::lock;

/// Kinds of disagreement that are counted apart. Further ones count as [`OTHER_KINDS`].
const KINDS_MAX: usize = 64;
const OTHER_KINDS: &str = "other kinds";
/// Bytes of a model's name and of an error code that are kept. Callers and providers choose them.
const NAME_BYTES_MAX: usize = 128;
/// The last examples kept.
const EXAMPLES_MAX: usize = 16;

/// How a candidate's answers compare with those that counted.
#[derive(Debug, Default)]
pub struct Ledger {
    agreed: AtomicU64,
    unanswered: AtomicU64,
    disagreements: Mutex<Disagreements>,
}

#[derive(Debug, Default)]
struct Disagreements {
    by_kind: BTreeMap<String, u64>,
    examples: VecDeque<Example>,
}

impl Ledger {
    /// Counts a question to which the candidate gave no answer.
    pub fn unanswered(&self) {
        self.unanswered.fetch_add(1, Relaxed);
    }

    /// Compares what two policies say of an attempt's end.
    pub fn classified(&self, facts: &dyn AttemptFacts, active: &Verdict, shadow: &Verdict) {
        let Some(change) = change_of(active, shadow) else {
            self.agreed.fetch_add(1, Relaxed);
            return;
        };
        let kind = format!("classify: {change}");
        self.disagreed(kind, Some(facts), in_words(active), in_words(shadow));
    }

    /// Compares what two policies say of the wait before a retry.
    pub fn backed_off(&self, facts: &dyn AttemptFacts, active: Option<RetryDecision>, shadow: Option<RetryDecision>) {
        self.compare(
            "backoff",
            Some(facts),
            active.map(|decision| format!("{decision:?}")),
            shadow.map(|decision| format!("{decision:?}")),
        );
    }

    /// Compares what two policies say about opening a circuit.
    pub fn tripped(&self, active: Option<TripDecision>, shadow: Option<TripDecision>) {
        self.compare(
            "trip",
            None,
            active.map(|decision| format!("{decision:?}")),
            shadow.map(|decision| format!("{decision:?}")),
        );
    }

    fn compare(&self, hook: &str, facts: Option<&dyn AttemptFacts>, active: Option<String>, shadow: Option<String>) {
        if active == shadow {
            self.agreed.fetch_add(1, Relaxed);
            return;
        }
        let word = |answer: Option<String>| answer.unwrap_or_else(|| "left open".to_owned());
        let (active, shadow) = (word(active), word(shadow));
        // The figures in an answer differ each time; their kind is the word before them.
        let kind = |answer: &str| answer.split('(').next().unwrap_or_default().to_owned();
        self.disagreed(format!("{hook}: {} -> {}", kind(&active), kind(&shadow)), facts, active, shadow);
    }

    fn disagreed(&self, kind: String, facts: Option<&dyn AttemptFacts>, active: String, shadow: String) {
        let example = Example {
            at_unix_ms: wall_unix_ms(),
            kind: kind.clone(),
            upstream: facts.map(|facts| facts.upstream().into_owned()),
            model: facts.and_then(|facts| facts.model().map(|model| clipped(&model))),
            status: facts.and_then(AttemptFacts::status),
            fault: facts.and_then(AttemptFacts::fault).map(|fault| fault.as_str().into()),
            error_code: facts.and_then(AttemptFacts::provider_error).and_then(error_code),
            active,
            shadow,
        };
        let mut disagreements = lock(&self.disagreements);
        let known = disagreements.by_kind.len() < KINDS_MAX || disagreements.by_kind.contains_key(&kind);
        *disagreements.by_kind.entry(if known { kind } else { OTHER_KINDS.to_owned() }).or_default() += 1;
        if disagreements.examples.len() == EXAMPLES_MAX {
            disagreements.examples.pop_front();
        }
        disagreements.examples.push_back(example);
    }

    /// How they compare so far, the latest example last.
    pub(crate) fn comparison(&self) -> Comparison {
        let disagreements = lock(&self.disagreements);
        Comparison {
            agreed: self.agreed.load(Relaxed),
            unanswered: self.unanswered.load(Relaxed),
            disagreed: disagreements.by_kind.values().sum(),
            by_kind: disagreements.by_kind.clone(),
            examples: disagreements.examples.iter().cloned().collect(),
        }
    }
}

fn clipped(name: &str) -> String {
    name[..name.floor_char_boundary(NAME_BYTES_MAX)].to_owned()
}

/// The provider's code for an error, or the kind it gives. What is no identifier but a text is left out.
fn error_code(error: ProviderError) -> Option<String> {
    let is_identifier = |code: &String| {
        code.len() <= NAME_BYTES_MAX
            && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte))
    };
    [error.code, error.kind].into_iter().flatten().find(is_identifier)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_sdk::testing::exchange;
    use std::time::Duration;

    #[test]
    fn answers_that_mean_the_same_agree_whatever_their_reasons() {
        let ledger = Ledger::default();
        ledger.classified(&exchange().status(500), &Verdict::failure("one"), &Verdict::failure("two"));
        let seen = ledger.comparison();
        assert_eq!((seen.agreed, seen.disagreed), (1, 0));
    }

    #[test]
    fn disagreements_are_counted_by_kind_with_the_last_examples() {
        let ledger = Ledger::default();
        let facts = exchange().status(429).body(r#"{"error":{"code":"rate_limit_exceeded","message":"secret words"}}"#);
        for _ in 0..EXAMPLES_MAX + 5 {
            ledger.classified(&facts, &Verdict::failure("x"), &Verdict::throttled("y"));
        }
        ledger.classified(&facts, &Verdict::throttled("x"), &Verdict::throttled("x").cool_off(Duration::from_secs(1)));
        ledger.tripped(Some(TripDecision::Open), None);
        let seen = ledger.comparison();
        assert_eq!(seen.by_kind["classify: failure -> throttled"], (EXAMPLES_MAX + 5) as u64);
        assert_eq!(seen.by_kind["classify: throttled, cool-off differs"], 1);
        assert_eq!(seen.by_kind["trip: Open -> left open"], 1);
        assert_eq!(seen.examples.len(), EXAMPLES_MAX);
        let first = &seen.examples[0];
        assert_eq!((first.status, first.error_code.as_deref()), (Some(429), Some("rate_limit_exceeded")));
        assert!(!format!("{:?}", seen.examples).contains("secret words"));
    }

    #[test]
    fn examples_hold_nothing_that_callers_or_providers_have_written_freely() {
        let ledger = Ledger::default();
        let body = r#"{"error":{"code":"my secret words","type":"server_error","message":"secret words"}}"#;
        let facts = exchange().status(500).model("é".repeat(NAME_BYTES_MAX)).body(body);
        let quoted = |text: &'static str| Verdict::failure(text).cool_off(Duration::from_secs(2));
        ledger.classified(&facts, &quoted("secret words"), &Verdict::throttled("secret words"));
        let seen = ledger.comparison();
        let example = &seen.examples[0];
        assert_eq!(
            (&*example.active, &*example.shadow),
            ("failure of model, retry, cool-off 2000 ms", "throttled of model, retry")
        );
        assert_eq!(example.model.as_deref(), Some(&*"é".repeat(NAME_BYTES_MAX / 2)));
        assert_eq!(example.error_code.as_deref(), Some("server_error"));
        assert!(!format!("{seen:?}").contains("secret words"), "{seen:?}");
    }

    #[test]
    fn questions_without_an_answer_are_neither_agreed_nor_disagreed() {
        let ledger = Ledger::default();
        ledger.unanswered();
        let seen = ledger.comparison();
        assert_eq!((seen.agreed, seen.disagreed, seen.unanswered), (0, 0, 1));
    }

    #[test]
    fn kinds_beyond_the_bound_are_counted_together() {
        let ledger = Ledger::default();
        for number in 0..KINDS_MAX + 10 {
            ledger.disagreed(format!("kind {number}"), None, String::new(), String::new());
        }
        let seen = ledger.comparison();
        assert_eq!(seen.by_kind.len(), KINDS_MAX + 1);
        assert_eq!(seen.by_kind[OTHER_KINDS], 10);
    }
}
