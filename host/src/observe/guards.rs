//! What the guards against runaway agents have found: counts, and the last of each, for whoever asks how Spillway
//! stands.

use crate::observe::refusals::fit_to_show;
use crate::runtime::sync::{Mutex, lock};
use serde::{Deserialize, Serialize};
use spillway_resilience::{GuardKind, Tripped};
use std::borrow::Cow;

/// Longest name of a caller that is shown, in characters.
const CALLER_CHARS_MAX: usize = 80;

/// What one guard has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct GuardFinding {
    /// Its key in the configuration.
    pub(crate) guard: Cow<'static, str>,
    /// Requests that it has refused.
    pub(crate) refused: u64,
    /// Requests, or alarms, that it has only warned of.
    pub(crate) would_have_refused: u64,
    /// When it last found something; 0 for never.
    pub(crate) last_at_unix_ms: u64,
    /// Of whom that was: the key's name, or else the tenant's, or the credential's fingerprint.
    pub(crate) caller: String,
    /// What it was.
    pub(crate) message: String,
}

/// What all guards have found.
#[derive(Debug, Default)]
pub(crate) struct GuardFindings(Mutex<[GuardFinding; GuardKind::ALL.len()]>);

impl GuardFindings {
    /// Notes something that a guard has against a request of this caller, and whether it was refused for that. Answers
    /// how often it has been so.
    pub(crate) fn note(&self, tripped: &Tripped, is_refused: bool, caller: &str, now_unix_ms: u64) -> u64 {
        let message = found(tripped);
        let mut all = lock(&self.0);
        let Some(finding) = all.get_mut(tripped.guard as usize) else { return 0 };
        let count = if is_refused { &mut finding.refused } else { &mut finding.would_have_refused };
        *count = count.saturating_add(1);
        let times = *count;
        finding.last_at_unix_ms = now_unix_ms;
        finding.caller = fit_to_show(caller, CALLER_CHARS_MAX);
        finding.message = message;
        times
    }

    /// Of each guard that has found something, in their order.
    pub(crate) fn look(&self) -> Vec<GuardFinding> {
        self.all().filter(|finding| finding.last_at_unix_ms > 0).collect()
    }

    /// Of each guard, in their order.
    pub(crate) fn all(&self) -> impl Iterator<Item = GuardFinding> {
        let all = lock(&self.0).clone();
        let named = GuardKind::ALL.into_iter().zip(all);
        named.map(|(guard, finding)| GuardFinding { guard: guard.as_str().into(), ..finding })
    }
}

/// What a guard has found, as a part of a sentence about the request.
pub(crate) fn found(tripped: &Tripped) -> String {
    let Tripped { guard, figure, limit, .. } = tripped;
    match guard {
        GuardKind::TokensPerRequest => format!(
            "it may cost {figure} tokens, its input and the most that may be answered together, and one request may \
             cost {limit}"
        ),
        GuardKind::TurnsPerConversation => format!("it is turn {figure} of its conversation, which may have {limit}"),
        GuardKind::TokensPerConversation => {
            format!("its conversation has used {figure} tokens, and gets no further turn from {limit} on")
        }
        GuardKind::TokensPerHour => {
            format!("its caller has used {figure} tokens within an hour, and gets nothing more from {limit} on")
        }
        GuardKind::Repeats => {
            format!("the same request has come {figure} times in a row, and may come {limit} times")
        }
        GuardKind::Growth => format!(
            "it costs about {figure} tokens, as its caller's requests do of late, far more than the {limit} that were \
             usual"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_guard_the_counts_and_the_last_are_known() {
        let findings = GuardFindings::default();
        let note = |guard, figure, is_refused, at| {
            let tripped = Tripped { guard, figure, limit: 3, is_news: true };
            findings.note(&tripped, is_refused, "shop\n", at)
        };
        let times = [
            (GuardKind::Repeats, 4, true, 10),
            (GuardKind::Repeats, 5, false, 11),
            (GuardKind::TokensPerRequest, 9, false, 12),
        ]
        .map(|(guard, figure, is_refused, at)| note(guard, figure, is_refused, at));
        assert_eq!(times, [1, 1, 1]);
        let look = findings.look();
        let told: Vec<_> = look.iter().map(|each| (&*each.guard, each.refused, each.would_have_refused)).collect();
        assert_eq!(told, [("max_tokens_per_request", 0, 1), ("max_repeats", 1, 1)]);
        assert_eq!((look[1].last_at_unix_ms, &*look[1].caller), (11, "shop "));
        assert_eq!(look[1].message, "the same request has come 5 times in a row, and may come 3 times");
    }
}
