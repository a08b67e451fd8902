//! A policy's words in those of the core, which says what they mean ([`spillway_resilience::Consequence`]).

use spillway_resilience::{Advice, Class, Hears, RetryDecision, Scope, Verdict};

/// A verdict, as the core knows it.
pub(crate) fn verdict(verdict: &spillway_sdk::Verdict) -> Verdict {
    Verdict {
        class: class(verdict.class),
        scope: match verdict.scope {
            spillway_sdk::Scope::Upstream => Scope::Upstream,
            spillway_sdk::Scope::Model => Scope::Model,
            spillway_sdk::Scope::Credential => Scope::Credential,
        },
        advice: advice(verdict.advice),
        cool_off: verdict.cool_off,
    }
}

pub(crate) const fn class(class: spillway_sdk::Class) -> Class {
    match class {
        spillway_sdk::Class::Success => Class::Success,
        spillway_sdk::Class::Ignored => Class::Ignored,
        spillway_sdk::Class::Failure => Class::Failure,
        spillway_sdk::Class::Overloaded => Class::Overloaded,
        spillway_sdk::Class::Throttled => Class::Throttled,
        spillway_sdk::Class::Exhausted => Class::Exhausted,
        spillway_sdk::Class::Rejected => Class::Rejected,
        spillway_sdk::Class::Unauthorized => Class::Unauthorized,
    }
}

pub(crate) const fn advice(advice: spillway_sdk::Advice) -> Advice {
    match advice {
        spillway_sdk::Advice::Retry => Advice::Retry,
        spillway_sdk::Advice::NextUpstream => Advice::NextUpstream,
        spillway_sdk::Advice::GiveUp => Advice::GiveUp,
    }
}

/// What a policy decides about a retry.
pub(crate) const fn decision(decision: spillway_sdk::RetryDecision) -> RetryDecision {
    match decision {
        spillway_sdk::RetryDecision::After(wait) => RetryDecision::After(wait),
        spillway_sdk::RetryDecision::NextUpstream => RetryDecision::NextUpstream,
        spillway_sdk::RetryDecision::GiveUp => RetryDecision::GiveUp,
        spillway_sdk::RetryDecision::SpoolFor(wait) => RetryDecision::SpoolFor(wait),
    }
}

/// Whether a verdict makes the provider's response the caller's answer, rather than a failure to serve it.
pub(crate) fn is_answer(verdict: &spillway_sdk::Verdict) -> bool {
    class(verdict.class).heard(advice(verdict.advice)) == Hears::Answer
}

/// What a verdict on an answer means where there is nothing special about it, for tests.
#[cfg(test)]
pub(crate) fn consequence(
    of: &spillway_sdk::Verdict,
    breaker: spillway_resilience::BreakerKind,
) -> spillway_resilience::Consequence {
    use std::time::Duration;
    let circumstances = spillway_resilience::Circumstances {
        breaker,
        named: None,
        named_pause_max: Duration::ZERO,
        progress: spillway_resilience::Progress::Answered,
        took: Duration::ZERO,
        quick_attempt_max: Duration::ZERO,
        first_content: spillway_resilience::FirstContent::Missing,
        input_tokens: 0,
        used_tokens: None,
        has_failed_before: false,
        has_come_back: false,
        was_slept_through: false,
        suspects_overload: false,
    };
    spillway_resilience::Consequence::of(verdict(of), &circumstances)
}
