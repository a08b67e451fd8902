//! Reads what providers report about their limits in the headers of every answer.

use crate::wait;
use std::time::{Duration, SystemTime};

/// What a limit counts.
///
/// ```
/// use spillway_sdk::rate_limits::RateLimits;
/// use spillway_sdk::{Dimension, RateLimit};
///
/// let tokens = RateLimit { limit: 30_000, remaining: 0, reset: None };
/// let limits = RateLimits { requests: None, tokens: Some(tokens) };
/// let spent = |dimension| limits.get(dimension).is_some_and(|limit| limit.remaining == 0);
/// assert!(spent(Dimension::Tokens) && !spent(Dimension::Requests));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// Requests.
    Requests,
    /// Tokens, input and output together.
    Tokens,
}

/// One limit as its provider sees it.
///
/// ```
/// use spillway_sdk::{RateLimit, testing::exchange};
///
/// let facts = exchange()
///     .header("x-ratelimit-limit-requests", "500")
///     .header("x-ratelimit-remaining-requests", "20");
/// let nearly_spent = |limit: RateLimit| limit.remaining * 10 < limit.limit;
/// assert!(facts.exchange().requests_limit().is_some_and(nearly_spent));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// What the limit allows, usually per minute.
    pub limit: u64,
    /// What is left of it. Zero when it is used up.
    pub remaining: u64,
    /// The time from the attempt's end until all of it is there again, zero when that moment has passed; `None` when
    /// the provider does not say. It is no wait: some of it is there sooner.
    pub reset: Option<Duration>,
}

/// The limits that an answer reports, as [`from_headers`] reads them.
///
/// ```
/// use spillway_sdk::{RateLimit, rate_limits::RateLimits};
///
/// let limits = RateLimits { requests: Some(RateLimit { limit: 500, remaining: 0, reset: None }), tokens: None };
/// let any_is_spent = [limits.requests, limits.tokens].into_iter().flatten().any(|limit| limit.remaining == 0);
/// assert!(any_is_spent);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// The limit on requests.
    pub requests: Option<RateLimit>,
    /// The limit on tokens, input and output together.
    pub tokens: Option<RateLimit>,
}

impl RateLimits {
    /// The limit on `dimension`.
    ///
    /// ```
    /// use spillway_sdk::rate_limits::RateLimits;
    /// use spillway_sdk::{Dimension, RateLimit};
    ///
    /// let requests = RateLimit { limit: 500, remaining: 20, reset: None };
    /// let limits = RateLimits { requests: Some(requests), tokens: None };
    /// assert_eq!(limits.get(Dimension::Requests), Some(requests));
    /// assert_eq!(limits.get(Dimension::Tokens), None);
    /// ```
    pub fn get(&self, dimension: Dimension) -> Option<RateLimit> {
        match dimension {
            Dimension::Requests => self.requests,
            Dimension::Tokens => self.tokens,
        }
    }
}

/// Reads `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` (OpenAI, Azure, and those who speak like them) and
/// `anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`, with resets in any form that [`wait::reset`] reads.
///
/// A limit is reported when both its size and what remains of it can be read; a reset that cannot be read is left out.
/// Moments are turned into durations from when the response was sent (see [`wait::sent_at`]).
///
/// ```
/// use spillway_sdk::rate_limits::from_headers;
/// use std::time::SystemTime;
///
/// let headers = [("x-ratelimit-limit-tokens", "30000"), ("x-ratelimit-remaining-tokens", "12")];
/// let header = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_bytes());
/// let limits = from_headers(header, SystemTime::now());
/// assert_eq!(limits.tokens.map(|tokens| tokens.remaining), Some(12));
/// assert_eq!(limits.requests, None);
/// ```
pub fn from_headers<'a>(header: impl Fn(&str) -> Option<&'a [u8]>, now: SystemTime) -> RateLimits {
    let text = |name: &str| header(name).and_then(|value| std::str::from_utf8(value).ok()).map(str::trim);
    let number = |name: &str| text(name)?.parse::<u64>().ok();
    let read = |names: [&str; 3]| {
        let [limit, remaining, reset] = names;
        let reset = text(reset).and_then(|value| wait::reset_since(value, || wait::sent_at(&header, now)));
        Some(RateLimit { limit: number(limit)?, remaining: number(remaining)?, reset })
    };
    RateLimits {
        requests: read(["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"])
            .or_else(|| {
                read([
                    "anthropic-ratelimit-requests-limit",
                    "anthropic-ratelimit-requests-remaining",
                    "anthropic-ratelimit-requests-reset",
                ])
            }),
        tokens: read(["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"]).or_else(
            || {
                read([
                    "anthropic-ratelimit-tokens-limit",
                    "anthropic-ratelimit-tokens-remaining",
                    "anthropic-ratelimit-tokens-reset",
                ])
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &str)]) -> RateLimits {
        let now = humantime::parse_rfc3339("2025-08-21T12:40:00Z").unwrap();
        from_headers(|name| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_bytes()), now)
    }

    #[test]
    fn openais_headers_are_read_with_their_durations() {
        let limits = read(&[
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "499"),
            ("x-ratelimit-reset-requests", "120ms"),
            ("x-ratelimit-limit-tokens", "30000"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ]);
        let requests = RateLimit { limit: 500, remaining: 499, reset: Some(Duration::from_millis(120)) };
        let tokens = RateLimit { limit: 30_000, remaining: 0, reset: Some(Duration::from_secs(360)) };
        assert_eq!(limits, RateLimits { requests: Some(requests), tokens: Some(tokens) });
    }

    #[test]
    fn anthropics_headers_are_read_with_their_moments() {
        let tokens = |reset| {
            read(&[
                ("anthropic-ratelimit-tokens-limit", "80000"),
                ("anthropic-ratelimit-tokens-remaining", "79000"),
                ("anthropic-ratelimit-tokens-reset", reset),
            ])
            .tokens
        };
        let expected = |reset| Some(RateLimit { limit: 80_000, remaining: 79_000, reset });
        assert_eq!(tokens("2025-08-21T12:40:59Z"), expected(Some(Duration::from_secs(59))));
        assert_eq!(tokens("2025-08-21T12:39:59Z"), expected(Some(Duration::ZERO)));
        assert_eq!(tokens("soon"), expected(None));
    }

    #[test]
    fn a_moment_is_as_far_off_as_its_senders_clock_says() {
        let headers = [
            ("anthropic-ratelimit-tokens-limit", "80000"),
            ("anthropic-ratelimit-tokens-remaining", "79000"),
            ("anthropic-ratelimit-tokens-reset", "2025-08-22T13:40:59Z"),
            ("date", "Fri, 22 Aug 2025 13:40:00 GMT"),
        ];
        assert_eq!(read(&headers).tokens.and_then(|tokens| tokens.reset), Some(Duration::from_secs(59)));
    }

    #[test]
    fn azures_resets_are_seconds_without_a_unit() {
        let reset = |reset| {
            let limits = [("x-ratelimit-limit-tokens", "30000"), ("x-ratelimit-remaining-tokens", "12")];
            read(&[limits[0], limits[1], ("x-ratelimit-reset-tokens", reset)]).tokens.and_then(|tokens| tokens.reset)
        };
        assert_eq!((reset("27"), reset("-1")), (Some(Duration::from_secs(27)), None));
    }

    #[test]
    fn half_a_report_is_none() {
        assert_eq!(read(&[("x-ratelimit-limit-tokens", "80000")]), RateLimits::default());
        assert_eq!(
            read(&[("x-ratelimit-limit-tokens", "many"), ("x-ratelimit-remaining-tokens", "1")]),
            RateLimits::default()
        );
    }
}
