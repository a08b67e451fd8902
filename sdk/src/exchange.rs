//! What a policy sees of one attempt.

use crate::rate_limits::{Dimension, RateLimit};
use crate::wait;
use memchr::memchr2_iter;
use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

/// Most of a response's body that a policy sees, in bytes.
///
/// Errors are far shorter, and this much is held in memory for every attempt under way.
pub const BODY_PREFIX_BYTES_MAX: usize = 8 << 10;

/// How far an attempt came before it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// No connection, or the request was not fully sent.
    Connecting,
    /// Sent; no response head yet.
    Waiting,
    /// Response head received; no content has reached the caller. Still retryable.
    BeforeContent,
    /// Content has reached the caller. Never retried.
    Committed,
}

/// Why a whole response is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The upstream's name did not resolve.
    Dns,
    /// Nothing listens there.
    ConnectRefused,
    /// No connection within the connect timeout.
    ConnectTimeout,
    /// The TLS handshake or the certificate failed.
    Tls,
    /// The connection was closed or reset before the response was complete.
    Reset,
    /// The peer does not speak HTTP correctly.
    Protocol,
    /// No content within the first-content timeout.
    FirstContentTimeout,
    /// The stream fell silent for longer than the idle timeout.
    IdleTimeout,
    /// The whole attempt took too long.
    AttemptTimeout,
    /// The stream ended without its terminal event.
    Truncated,
}

impl Fault {
    /// Every fault, in the contract's order.
    pub const ALL: [Fault; 10] = [
        Fault::Dns,
        Fault::ConnectRefused,
        Fault::ConnectTimeout,
        Fault::Tls,
        Fault::Reset,
        Fault::Protocol,
        Fault::FirstContentTimeout,
        Fault::IdleTimeout,
        Fault::AttemptTimeout,
        Fault::Truncated,
    ];

    /// A few plain words, for logs and error messages.
    ///
    /// ```
    /// assert_eq!(spillway_sdk::Fault::ConnectRefused.as_str(), "connection refused");
    /// ```
    pub const fn as_str(self) -> &'static str {
        match self {
            Fault::Dns => "name did not resolve",
            Fault::ConnectRefused => "connection refused",
            Fault::ConnectTimeout => "connect timeout",
            Fault::Tls => "TLS failed",
            Fault::Reset => "connection lost",
            Fault::Protocol => "broken HTTP",
            Fault::FirstContentTimeout => "no content in time",
            Fault::IdleTimeout => "stream fell silent",
            Fault::AttemptTimeout => "attempt took too long",
            Fault::Truncated => "stream cut short",
        }
    }
}

/// An error in the provider's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderError {
    /// For instance `rate_limit_exceeded`, `insufficient_quota`, `RESOURCE_EXHAUSTED`. A number is written as text.
    pub code: Option<String>,
    /// For instance `overloaded_error`, `invalid_request_error`; for Gemini the quota that was violated.
    pub kind: Option<String>,
    /// What it says to people, cut after [`MESSAGE_BYTES_MAX`](crate::MESSAGE_BYTES_MAX).
    pub message: String,
}

impl ProviderError {
    /// Whether the error's code or kind is one of `words`, letter by letter.
    ///
    /// Providers disagree on which of the two fields carries the telling word, so both are looked at.
    ///
    /// ```
    /// use spillway_sdk::ProviderError;
    ///
    /// let error = ProviderError { kind: Some("overloaded_error".into()), ..ProviderError::default() };
    /// assert!(error.is_any(&["slow_down", "overloaded_error"]));
    /// assert!(!error.is_any(&["overloaded"]));
    /// ```
    // Policies ask this for long lists of words, which inlining would compare one by one.
    #[inline(never)]
    pub fn is_any<T: AsRef<str>>(&self, words: &[T]) -> bool {
        [&self.code, &self.kind].into_iter().flatten().any(|said| words.iter().any(|word| said == word.as_ref()))
    }

    /// Whether one of `phrases` stands anywhere in the error's code, kind or message, in capitals or not.
    ///
    /// For providers that say in a sentence what others say in a code.
    ///
    /// ```
    /// use spillway_sdk::ProviderError;
    ///
    /// let error = ProviderError { message: "Your credit balance is too low".into(), ..ProviderError::default() };
    /// assert!(error.mentions(&["CREDIT BALANCE"]));
    /// ```
    #[inline(never)]
    pub fn mentions<T: AsRef<str>>(&self, phrases: &[T]) -> bool {
        let texts = [self.code.as_deref(), self.kind.as_deref(), Some(self.message.as_str())];
        texts.into_iter().flatten().any(|text| phrases.iter().any(|phrase| contains(text, phrase.as_ref())))
    }
}

/// Whether `phrase` stands in `text`, whatever the case of its ASCII letters. Most of a text does not begin like the
/// phrase, and is passed over several bytes at a time.
pub(crate) fn contains(text: &str, phrase: &str) -> bool {
    let (text, phrase) = (text.as_bytes(), phrase.as_bytes());
    let Some(first) = phrase.first() else { return true };
    let beginnings = memchr2_iter(first.to_ascii_lowercase(), first.to_ascii_uppercase(), text);
    beginnings.map_while(|at| text.get(at..at + phrase.len())).any(|there| there.eq_ignore_ascii_case(phrase))
}

/// Where an [`Exchange`] takes its facts from: the host in production, a builder in native tests.
///
/// Policies never implement or name this; they use [`Exchange`].
pub trait AttemptFacts {
    /// The upstream's name in the configuration.
    fn upstream(&self) -> Cow<'_, str>;
    /// The API spoken: `openai`, `anthropic`, `gemini` or `other`.
    fn dialect(&self) -> Cow<'_, str>;
    /// The model asked for.
    fn model(&self) -> Option<Cow<'_, str>>;
    /// Whether the caller asked for a stream.
    fn streaming(&self) -> bool;
    /// 1 for the first attempt.
    fn number(&self) -> u32;
    /// How far it came.
    fn phase(&self) -> Phase;
    /// Why a whole response is missing.
    fn fault(&self) -> Option<Fault>;
    /// The response's status.
    fn status(&self) -> Option<u16>;
    /// First value of a response header; `name` is lower case.
    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>>;
    /// Names of all response headers.
    fn header_names(&self) -> Vec<String>;
    /// At most `limit` bytes of the response body.
    fn body_prefix(&self, limit: u32) -> Cow<'_, [u8]>;
    /// What stands at a JSON Pointer in the body, or in the stream's error event.
    fn body_json(&self, pointer: &str) -> Option<String>;
    /// The provider's own error.
    fn provider_error(&self) -> Option<ProviderError>;
    /// The wait the provider asked for.
    fn retry_after(&self) -> Option<Duration>;
    /// A limit that the answer's headers report.
    fn rate_limit(&self, dimension: Dimension) -> Option<RateLimit>;
    /// Since the attempt began.
    fn elapsed(&self) -> Duration;
    /// From the attempt's beginning to its first content.
    fn first_content(&self) -> Option<Duration>;
    /// Time left to the request's deadline.
    fn remaining(&self) -> Option<Duration>;
    /// When the attempt ended, since 1970 UTC.
    fn unix_time(&self) -> Duration;
    /// Fresh randomness.
    fn random(&self) -> u64;
}

/// What an [`Exchange`] holds. A policy's module has one source of facts: naming it, rather than any, keeps the
/// getters that the policy never calls out of the module.
#[cfg(target_arch = "wasm32")]
type Source<'a> = crate::guest::Lent<'a, crate::guest::bindings::spillway::policy::host::Attempt>;
#[cfg(not(target_arch = "wasm32"))]
type Source<'a> = dyn AttemptFacts + 'a;

/// One attempt at one upstream, as a policy sees it.
///
/// Each method asks the host for one fact, so a policy pays only for what it looks at. There is no way from here
/// to credentials, cookies or prompts.
#[derive(Clone, Copy)]
pub struct Exchange<'a> {
    facts: &'a Source<'a>,
}

impl<'a> Exchange<'a> {
    /// Shows `facts` to a policy.
    pub fn new(facts: &'a Source<'a>) -> Self {
        Exchange { facts }
    }

    /// The upstream's name in the configuration.
    pub fn upstream(&self) -> Cow<'a, str> {
        self.facts.upstream()
    }

    /// The API spoken: `openai`, `anthropic`, `gemini` or `other`.
    pub fn dialect(&self) -> Cow<'a, str> {
        self.facts.dialect()
    }

    /// The model that was asked for, when the request names one.
    pub fn model(&self) -> Option<Cow<'a, str>> {
        self.facts.model()
    }

    /// Whether the caller asked for a stream.
    pub fn streaming(&self) -> bool {
        self.facts.streaming()
    }

    /// Which attempt of the request this is; 1 for the first.
    pub fn number(&self) -> u32 {
        self.facts.number()
    }

    /// How far the attempt came.
    pub fn phase(&self) -> Phase {
        self.facts.phase()
    }

    /// Why a whole response is missing; `None` when one arrived.
    pub fn fault(&self) -> Option<Fault> {
        self.facts.fault()
    }

    /// The response's status; `None` when no response head arrived.
    pub fn status(&self) -> Option<u16> {
        self.facts.status()
    }

    /// Whether a response arrived with a status from 200 to 299.
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    ///
    /// assert!(exchange().status(204).exchange().is_success_status());
    /// assert!(!exchange().exchange().is_success_status(), "nothing has arrived");
    /// ```
    pub fn is_success_status(&self) -> bool {
        matches!(self.status(), Some(200..=299))
    }

    /// First value of a response header, as bytes: they need not be UTF-8. `name` is lower case. Cookies are never
    /// shown.
    ///
    /// ```
    /// let facts = spillway_sdk::testing::exchange().status(500).header("x-should-retry", "false");
    /// assert_eq!(facts.exchange().header("x-should-retry").as_deref(), Some(&b"false"[..]));
    /// ```
    pub fn header(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.facts.header(name)
    }

    /// First value of a response header, when it is UTF-8.
    ///
    /// ```
    /// let facts = spillway_sdk::testing::exchange().status(503).header("x-region", "north");
    /// assert_eq!(facts.exchange().header_str("x-region").as_deref(), Some("north"));
    /// ```
    pub fn header_str(&self, name: &str) -> Option<Cow<'a, str>> {
        match self.facts.header(name)? {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
        }
    }

    /// Names of all response headers, lower case, each once.
    pub fn header_names(&self) -> Vec<String> {
        self.facts.header_names()
    }

    /// The first bytes of the response's body: at most `limit`, and at most [`BODY_PREFIX_BYTES_MAX`]; empty once
    /// content has reached the caller.
    ///
    /// ```
    /// let facts = spillway_sdk::testing::exchange().status(502).body("<html>bad gateway</html>");
    /// assert_eq!(&*facts.exchange().body_prefix(6), b"<html>");
    /// ```
    pub fn body_prefix(&self, limit: u32) -> Cow<'a, [u8]> {
        self.facts.body_prefix(limit)
    }

    /// What stands at a JSON Pointer (RFC 6901) in the response's body, or in the error event of its stream.
    ///
    /// A string comes without its quotes, another value as JSON. `None` when there is nothing or a null, when the body
    /// is not JSON, once content has reached the caller, and when the body is longer than [`BODY_PREFIX_BYTES_MAX`]:
    /// what was cut off is not JSON any more.
    ///
    /// ```
    /// let facts = spillway_sdk::testing::exchange().status(429).body(r#"{"error":{"code":"busy","queue":[7,9]}}"#);
    /// let exchange = facts.exchange();
    /// assert_eq!(exchange.json("/error/code").as_deref(), Some("busy"));
    /// assert_eq!(exchange.json("/error/queue").as_deref(), Some("[7,9]"));
    /// assert_eq!(exchange.json("/error/queue/1").as_deref(), Some("9"));
    /// assert_eq!(exchange.json("/error/param"), None);
    /// ```
    pub fn json(&self, pointer: &str) -> Option<String> {
        self.facts.body_json(pointer)
    }

    /// The provider's own error, read from the response's body or from an event of its stream, in any of the shapes
    /// that providers use.
    ///
    /// ```
    /// let facts = spillway_sdk::testing::exchange().status(429).body(r#"{"error":{"code":"slow_down"}}"#);
    /// let error = facts.exchange().provider_error().expect("an error");
    /// assert!(error.is_any(&["slow_down"]));
    /// ```
    pub fn provider_error(&self) -> Option<ProviderError> {
        self.facts.provider_error()
    }

    /// The wait the provider asked for, from any of its headers or its body; at most a day ([`wait::WAIT_MAX`]).
    ///
    /// [`wait::WAIT_MAX`]: crate::wait::WAIT_MAX
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let facts = spillway_sdk::testing::exchange().status(429).header("retry-after-ms", "1500");
    /// assert_eq!(facts.exchange().retry_after(), Some(Duration::from_millis(1_500)));
    /// ```
    pub fn retry_after(&self) -> Option<Duration> {
        self.facts.retry_after()
    }

    /// The limit on requests, as the answer's headers report it.
    ///
    /// ```
    /// let facts = spillway_sdk::testing::exchange()
    ///     .status(429)
    ///     .header("x-ratelimit-limit-requests", "500")
    ///     .header("x-ratelimit-remaining-requests", "0");
    /// let limit = facts.exchange().requests_limit().expect("a limit");
    /// assert_eq!((limit.limit, limit.remaining, limit.reset), (500, 0, None));
    /// ```
    pub fn requests_limit(&self) -> Option<RateLimit> {
        self.facts.rate_limit(Dimension::Requests)
    }

    /// The limit on tokens, input and output together, as the answer's headers report it.
    pub fn tokens_limit(&self) -> Option<RateLimit> {
        self.facts.rate_limit(Dimension::Tokens)
    }

    /// The time from the attempt's end until the moment that a reset header names, in any form that providers use (see
    /// [`wait::reset`]). For limits that [`Exchange::requests_limit`] and [`Exchange::tokens_limit`] do not know:
    /// `anthropic-ratelimit-input-tokens-reset`, `x-ratelimit-reset`, `ratelimit-reset` and the like.
    ///
    /// [`wait::reset`]: crate::wait::reset
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let facts = spillway_sdk::testing::exchange()
    ///     .unix_time(Duration::from_secs(1_755_780_000))
    ///     .header("anthropic-ratelimit-input-tokens-reset", "2025-08-21T12:40:59Z");
    /// let reset = facts.exchange().reset("anthropic-ratelimit-input-tokens-reset");
    /// assert_eq!(reset, Some(Duration::from_secs(59)));
    /// ```
    pub fn reset(&self, name: &str) -> Option<Duration> {
        wait::reset(&self.header_str(name)?, SystemTime::UNIX_EPOCH + self.unix_time())
    }

    /// How long the attempt took, from its beginning to its end.
    pub fn elapsed(&self) -> Duration {
        self.facts.elapsed()
    }

    /// From the attempt's beginning to its first content; `None` when none has arrived.
    pub fn first_content(&self) -> Option<Duration> {
        self.facts.first_content()
    }

    /// Time left to the request's deadline; `None` when it has none.
    pub fn remaining(&self) -> Option<Duration> {
        self.facts.remaining()
    }

    /// The wall-clock time at which the attempt ended, since 1970-01-01 00:00 UTC. For quotas that reset at a time of
    /// day; durations are [`Exchange::elapsed`] and [`Exchange::first_content`].
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let facts = spillway_sdk::testing::exchange().unix_time(Duration::from_secs(1_767_260_000));
    /// let hour_of_day = facts.exchange().unix_time().as_secs() / 3_600 % 24;
    /// assert_eq!(hour_of_day, 9);
    /// ```
    pub fn unix_time(&self) -> Duration {
        self.facts.unix_time()
    }

    /// A random number, uniform over all 64 bits and new at each call. Good for jitter, not for secrets.
    pub fn random(&self) -> u64 {
        self.facts.random()
    }
}

impl fmt::Debug for Exchange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("upstream", &self.upstream())
            .field("number", &self.number())
            .field("phase", &self.phase())
            .field("fault", &self.fault())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn a_phrase_is_found_wherever_it_stands_in_capitals_or_not() {
        let text = "The modem says: MODEL is Overloaded";
        for phrase in ["", "the", "The modem", "model is overloaded", "OVERLOADED", "d", text] {
            assert!(contains(text, phrase), "{phrase}");
        }
        for phrase in ["models", "overloaded.", "x", "The modem says: MODEL is Overloaded, today"] {
            assert!(!contains(text, phrase), "{phrase}");
        }
        assert!(!contains("", "a"));
    }
}
