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
///
/// ```
/// use spillway_sdk::{BODY_PREFIX_BYTES_MAX, testing::exchange};
///
/// let facts = exchange().status(502).body("<html>".repeat(10_000));
/// assert_eq!(facts.exchange().body_prefix(u32::MAX).len(), BODY_PREFIX_BYTES_MAX);
/// ```
pub const BODY_PREFIX_BYTES_MAX: usize = 8 << 10;

/// How far an attempt came before it ended, in the order of time.
///
/// ```
/// use spillway_sdk::{Advice, Fault, Phase, testing::exchange};
///
/// let facts = exchange().fault(Fault::ConnectTimeout).phase(Phase::Connecting);
/// let advice = match facts.exchange().phase() {
///     Phase::Connecting | Phase::BeforeContent => Advice::Retry,
///     Phase::Waiting => Advice::NextUpstream, // the provider may be at work, and charge for it
///     Phase::Committed => Advice::GiveUp,
/// };
/// assert_eq!(advice, Advice::Retry);
/// ```
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
///
/// ```
/// use spillway_sdk::{Fault, testing::exchange};
///
/// let facts = exchange().fault(Fault::Dns);
/// let was_never_asked = match facts.exchange().fault() {
///     Some(Fault::Dns | Fault::ConnectRefused | Fault::ConnectTimeout | Fault::Tls) => true,
///     Some(_) | None => false,
/// };
/// assert!(was_never_asked);
/// ```
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
    /// The attempt was not finished at the request's deadline.
    AttemptTimeout,
    /// The answer ended before it was one: a stream without its terminal event, or a success that holds nothing.
    Truncated,
}

impl Fault {
    /// Every fault, in the contract's order. For tests that leave none out.
    ///
    /// ```
    /// use spillway_sdk::{Fault, builtin, testing::exchange};
    ///
    /// for fault in Fault::ALL {
    ///     let facts = exchange().fault(fault);
    ///     assert_eq!(builtin::classify(&facts.exchange()).reason, fault.as_str());
    /// }
    /// ```
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
            Fault::Truncated => "no whole answer",
        }
    }
}

/// An error in the provider's own words.
///
/// ```
/// use spillway_sdk::testing::exchange;
///
/// let body = r#"{"error":{"code":"too_fast","type":"tokens","message":"Slow down."}}"#;
/// let error = exchange().status(429).body(body).exchange().provider_error().expect("an error");
/// assert_eq!((error.code.as_deref(), error.kind.as_deref()), (Some("too_fast"), Some("tokens")));
/// assert_eq!(error.message, "Slow down.");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderError {
    /// For instance `rate_limit_exceeded`, `insufficient_quota`, `RESOURCE_EXHAUSTED`. A number is written as text.
    pub code: Option<String>,
    /// For instance `overloaded_error`, `invalid_request_error`; for Gemini the quota that was violated.
    pub kind: Option<String>,
    /// What it says to people, cut after [`MESSAGE_BYTES_MAX`](crate::MESSAGE_BYTES_MAX). Empty when it says nothing.
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
///
/// ```
/// use spillway_sdk::{AttemptFacts, testing::exchange};
///
/// let facts: Box<dyn AttemptFacts> = Box::new(exchange().status(503));
/// assert_eq!(facts.status(), Some(503));
/// ```
pub trait AttemptFacts {
    /// The upstream's name in the configuration.
    fn upstream(&self) -> Cow<'_, str>;
    /// The API spoken: `openai`, `anthropic`, `gemini`, `ollama` or `other`.
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
///
/// ```
/// use spillway_sdk::{Exchange, testing::exchange};
///
/// fn is_drained(exchange: &Exchange<'_>) -> bool {
///     exchange.status() == Some(503) && exchange.header_str("x-region-state").as_deref() == Some("drained")
/// }
/// assert!(is_drained(&exchange().status(503).header("x-region-state", "drained").exchange()));
/// ```
#[derive(Clone, Copy)]
pub struct Exchange<'a> {
    facts: &'a Source<'a>,
}

impl<'a> Exchange<'a> {
    /// Shows `facts` to a policy. This is for the host: tests call [`ExchangeBuilder::exchange`].
    ///
    /// [`ExchangeBuilder::exchange`]: crate::testing::ExchangeBuilder::exchange
    ///
    /// ```
    /// use spillway_sdk::{Exchange, testing::exchange};
    ///
    /// let facts = exchange().status(529);
    /// assert_eq!(Exchange::new(&facts).status(), Some(529));
    /// ```
    pub fn new(facts: &'a Source<'a>) -> Self {
        Exchange { facts }
    }

    /// The upstream's name in the configuration.
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    ///
    /// // One policy for several upstreams, some of which are machines that come and go.
    /// let facts = exchange().upstream("spot-7").status(502);
    /// assert!(facts.exchange().upstream().starts_with("spot-"));
    /// ```
    pub fn upstream(&self) -> Cow<'a, str> {
        self.facts.upstream()
    }

    /// The API spoken: `openai`, `anthropic`, `gemini`, `ollama` or `other`. Later hosts may know more.
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    ///
    /// // Gemini refuses a wrong key with 400 where others say 401.
    /// let facts = exchange().dialect("gemini").status(400);
    /// assert!(facts.exchange().dialect() == "gemini" && facts.exchange().status() == Some(400));
    /// ```
    pub fn dialect(&self) -> Cow<'a, str> {
        self.facts.dialect()
    }

    /// The model that was asked for; `None` when the request names none, or is not understood.
    ///
    /// ```
    /// use spillway_sdk::{Scope, testing::exchange};
    ///
    /// // The adapters of one base model run on the same machine: where one fails, all do.
    /// let facts = exchange().model("base:support-agent").status(503);
    /// let is_adapter = facts.exchange().model().is_some_and(|model| model.starts_with("base:"));
    /// assert_eq!(if is_adapter { Scope::Upstream } else { Scope::Model }, Scope::Upstream);
    /// ```
    pub fn model(&self) -> Option<Cow<'a, str>> {
        self.facts.model()
    }

    /// Whether the caller asked for a stream.
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    ///
    /// // A stream that begins with 200 can still say in its first event that it failed.
    /// let facts = exchange().status(200).streaming().body(r#"{"error":{"code":"server_error"}}"#);
    /// let failed = facts.exchange().streaming() && facts.exchange().provider_error().is_some();
    /// assert!(failed);
    /// ```
    pub fn streaming(&self) -> bool {
        self.facts.streaming()
    }

    /// Which attempt of the request this is; 1 for the first.
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    /// use std::time::Duration;
    ///
    /// let facts = exchange().number(3).status(500);
    /// let wait = Duration::from_secs(2) * facts.exchange().number();
    /// assert_eq!(wait, Duration::from_secs(6));
    /// ```
    pub fn number(&self) -> u32 {
        self.facts.number()
    }

    /// How far the attempt came.
    ///
    /// ```
    /// use spillway_sdk::{Fault, Phase, testing::exchange};
    ///
    /// let facts = exchange().fault(Fault::Reset).phase(Phase::Connecting);
    /// let may_have_cost = facts.exchange().phase() != Phase::Connecting;
    /// assert!(!may_have_cost, "the provider never had the whole request");
    /// ```
    pub fn phase(&self) -> Phase {
        self.facts.phase()
    }

    /// Why there is no whole response; `None` when nothing broke.
    ///
    /// ```
    /// use spillway_sdk::{Fault, testing::exchange};
    ///
    /// let facts = exchange().fault(Fault::Truncated);
    /// let reason = facts.exchange().fault().map_or("whole", Fault::as_str);
    /// assert_eq!(reason, "no whole answer");
    /// ```
    pub fn fault(&self) -> Option<Fault> {
        self.facts.fault()
    }

    /// The response's status; `None` when no response head arrived.
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    ///
    /// // Cloudflare's own statuses: it stands before the provider, and got no answer from it.
    /// let facts = exchange().status(522);
    /// assert!(matches!(facts.exchange().status(), Some(520..=527)));
    /// ```
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

    /// Names of all response headers but cookies, lower case, each once.
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    ///
    /// let facts = exchange().status(502).header("Server", "gate").header("X-Gate-Error", "no route");
    /// let said_by_the_gate = facts.exchange().header_names().iter().any(|name| name.starts_with("x-gate-"));
    /// assert!(said_by_the_gate, "and not by the provider behind it");
    /// ```
    pub fn header_names(&self) -> Vec<String> {
        self.facts.header_names()
    }

    /// The first bytes of the response's body: at most `limit`, and at most [`BODY_PREFIX_BYTES_MAX`]. For a stream,
    /// its events as they arrived. Empty once content has reached the caller.
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

    /// The wait the provider asked for, in its headers or its body, counted from the attempt's end; at most a day
    /// ([`wait::WAIT_MAX`]).
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

    /// The limit on requests, as the answer's headers report it; `None` when they report none.
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

    /// The limit on tokens, input and output together, as the answer's headers report it; `None` when they report none.
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    /// use std::time::Duration;
    ///
    /// let facts = exchange()
    ///     .header("x-ratelimit-limit-tokens", "30000")
    ///     .header("x-ratelimit-remaining-tokens", "0")
    ///     .header("x-ratelimit-reset-tokens", "6s");
    /// let spent = facts.exchange().tokens_limit().filter(|tokens| tokens.remaining == 0);
    /// assert_eq!(spent.and_then(|tokens| tokens.reset), Some(Duration::from_secs(6)));
    /// ```
    pub fn tokens_limit(&self) -> Option<RateLimit> {
        self.facts.rate_limit(Dimension::Tokens)
    }

    /// The time from the answer until the moment that a reset header names, in any form that providers use (see
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
        let sent = || {
            let (date, age) = (self.header("date"), self.header("age"));
            let header = |name: &str| if name == "date" { date.as_deref() } else { age.as_deref() };
            wait::sent_at(header, SystemTime::UNIX_EPOCH + self.unix_time())
        };
        wait::reset_since(&self.header_str(name)?, sent)
    }

    /// How long the attempt took, from its beginning to its end.
    ///
    /// ```
    /// use spillway_sdk::{Fault, testing::exchange};
    /// use std::time::Duration;
    ///
    /// // A gate that cuts every call after a minute; a second try would be cut as well.
    /// let facts = exchange().fault(Fault::Reset).elapsed(Duration::from_millis(60_040));
    /// assert_eq!(facts.exchange().elapsed().as_secs(), 60);
    /// ```
    pub fn elapsed(&self) -> Duration {
        self.facts.elapsed()
    }

    /// The time from the attempt's beginning to its first content; `None` when none has arrived.
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    /// use std::time::Duration;
    ///
    /// // It answered, but so late that its callers had better been served elsewhere.
    /// let facts = exchange().status(200).first_content(Duration::from_secs(12));
    /// assert!(facts.exchange().first_content().is_some_and(|after| after > Duration::from_secs(10)));
    /// ```
    pub fn first_content(&self) -> Option<Duration> {
        self.facts.first_content()
    }

    /// Time left to the request's deadline, zero when it has passed; `None` when the request has no deadline.
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    /// use std::time::Duration;
    ///
    /// let facts = exchange().status(503).remaining(Duration::from_secs(3));
    /// let worth_a_wait = facts.exchange().remaining().is_none_or(|left| left > Duration::from_secs(5));
    /// assert!(!worth_a_wait);
    /// ```
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
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    /// use std::time::Duration;
    ///
    /// let facts = exchange().random(1_250);
    /// let jitter = Duration::from_millis(facts.exchange().random() % 1_000);
    /// assert_eq!(jitter, Duration::from_millis(250));
    /// ```
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
