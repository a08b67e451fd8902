//! When an official SDK tries again: `openai` and `anthropic` for Python, with their defaults.

use std::time::Duration;

/// How often they try again.
const RETRIES: u32 = 2;
/// Before the first retry; doubled with each one.
const FIRST_WAIT_S: f64 = 0.5;
/// However often doubled.
const WAIT_MAX_S: f64 = 8.0;
/// This share of a wait is taken off by chance, at most.
const JITTER: f64 = 0.25;
/// Waits that an answer names are obeyed up to this one.
const NAMED_WAIT_MAX_S: f64 = 60.0;

/// What an SDK reads of an answer that holds no completion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Said {
    /// The status; `None` if there was no answer.
    pub status: Option<u16>,
    /// The header `x-should-retry`.
    pub should_retry: Option<bool>,
    /// The wait that `retry-after-ms` or `retry-after` names, in seconds.
    pub retry_after_s: Option<f64>,
}

/// How long until the next call; `None` is that there will be none. `jitter` is a random number from 0 to 1.
pub(super) fn wait(said: Said, retries_before: u32, jitter: f64) -> Option<Duration> {
    let repeatable = said.status.is_none_or(|status| matches!(status, 408 | 409 | 429 | 500..));
    if retries_before >= RETRIES || !said.should_retry.unwrap_or(repeatable) {
        return None;
    }
    let doubled = FIRST_WAIT_S * f64::from(1_u32 << retries_before);
    let own = doubled.min(WAIT_MAX_S) * (1.0 - JITTER * jitter);
    let named = said.retry_after_s.filter(|seconds| *seconds > 0.0 && *seconds <= NAMED_WAIT_MAX_S);
    Some(Duration::from_secs_f64(named.unwrap_or(own)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_as_the_official_sdks_do() {
        let said = |status| Said { status, should_retry: None, retry_after_s: None };
        let named = |seconds| Said { retry_after_s: Some(seconds), ..said(Some(429)) };
        let told = |should_retry, status| Said { should_retry: Some(should_retry), ..said(Some(status)) };
        for (what, said, retries_before, jitter, wait_ms) in [
            ("a failure", said(Some(500)), 0, 0.0, Some(500)),
            ("a failure, with jitter", said(Some(503)), 0, 1.0, Some(375)),
            ("a second failure", said(Some(500)), 1, 0.0, Some(1_000)),
            ("a third failure", said(Some(500)), 2, 0.0, None),
            ("a lost connection", said(None), 0, 0.0, Some(500)),
            ("a mistake of the caller's", said(Some(400)), 0, 0.0, None),
            ("a named wait", named(2.5), 0, 1.0, Some(2_500)),
            ("the longest named wait", named(60.0), 0, 0.0, Some(60_000)),
            ("too long a named wait", named(61.0), 0, 0.0, Some(500)),
            ("a named wait of nothing", named(0.0), 0, 0.0, Some(500)),
            ("not a number", named(f64::NAN), 0, 0.0, Some(500)),
            ("not to be repeated", told(false, 503), 0, 0.0, None),
            ("to be repeated all the same", told(true, 400), 0, 0.0, Some(500)),
        ] {
            assert_eq!(wait(said, retries_before, jitter), wait_ms.map(Duration::from_millis), "{what}");
        }
    }
}
