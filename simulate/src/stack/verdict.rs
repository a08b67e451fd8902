//! How an answer is judged: as the proxy's built-in policy would, by its outcome alone.

use spillway_resilience::{Advice, Class, Outcome, Scope, Verdict};

use crate::protection::Answer;

/// The judgement of an answer.
pub(super) fn verdict(answer: &Answer) -> Verdict {
    let (class, scope, advice) = match answer.outcome {
        Outcome::Success => (Class::Success, Scope::Upstream, Advice::GiveUp),
        Outcome::Overloaded => (Class::Overloaded, Scope::Model, Advice::Retry),
        Outcome::Throttled => (Class::Throttled, Scope::Model, Advice::Retry),
        // Whoever has kept a call for so long is not asked the same again.
        Outcome::Failure if answer.timed_out => (Class::Failure, Scope::Model, Advice::NextUpstream),
        Outcome::Failure => (Class::Failure, Scope::Model, Advice::Retry),
        // No provider answers so.
        Outcome::FailedAgain
        | Outcome::FailedOnReturn
        | Outcome::FailedElsewhere
        | Outcome::Overdue
        | Outcome::Ignored => (Class::Ignored, Scope::Upstream, Advice::GiveUp),
    };
    Verdict { class, scope, advice, cool_off: answer.retry_after }
}
