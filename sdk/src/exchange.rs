//! What a policy sees of one attempt.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

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
    /// For instance `rate_limit_exceeded`, `insufficient_quota`, `RESOURCE_EXHAUSTED`.
    pub code: Option<String>,
    /// For instance `overloaded_error`, `invalid_request_error`.
    pub kind: Option<String>,
    /// What it says to people; truncated by the host.
    pub message: String,
}

impl ProviderError {
    /// Whether the error's code or kind is one of `words`.
    ///
    /// Providers disagree on which of the two fields carries the telling word, so both are looked at.
    pub fn is_any(&self, words: &[&str]) -> bool {
        [&self.code, &self.kind].into_iter().flatten().any(|said| words.contains(&said.as_str()))
    }
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
    /// The provider's own error.
    fn provider_error(&self) -> Option<ProviderError>;
    /// The wait the provider asked for.
    fn retry_after(&self) -> Option<Duration>;
    /// Since the attempt began.
    fn elapsed(&self) -> Duration;
    /// From the attempt's beginning to its first content.
    fn first_content(&self) -> Option<Duration>;
    /// Time left to the request's deadline.
    fn remaining(&self) -> Option<Duration>;
    /// Fresh randomness.
    fn random(&self) -> u64;
}

/// One attempt at one upstream, as a policy sees it.
///
/// Each method asks the host for one fact, so a policy pays only for what it looks at. There is no way from here
/// to credentials, cookies or prompts.
#[derive(Clone, Copy)]
pub struct Exchange<'a> {
    facts: &'a dyn AttemptFacts,
}

impl<'a> Exchange<'a> {
    /// Shows `facts` to a policy.
    pub fn new(facts: &'a dyn AttemptFacts) -> Self {
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
    pub fn is_success_status(&self) -> bool {
        matches!(self.status(), Some(200..=299))
    }

    /// First value of a response header, as bytes: they need not be UTF-8. `name` is lower case.
    pub fn header(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.facts.header(name)
    }

    /// First value of a response header, when it is UTF-8.
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

    /// At most `limit` bytes of the response body, within the host's own bound (8 KiB); empty once committed.
    pub fn body_prefix(&self, limit: u32) -> Cow<'a, [u8]> {
        self.facts.body_prefix(limit)
    }

    /// The provider's own error, parsed from the response's body or from an event of its stream.
    pub fn provider_error(&self) -> Option<ProviderError> {
        self.facts.provider_error()
    }

    /// The wait the provider asked for, from any of its headers or its body.
    pub fn retry_after(&self) -> Option<Duration> {
        self.facts.retry_after()
    }

    /// Time since the attempt began.
    pub fn elapsed(&self) -> Duration {
        self.facts.elapsed()
    }

    /// From the attempt's beginning to its first content.
    pub fn first_content(&self) -> Option<Duration> {
        self.facts.first_content()
    }

    /// Time left to the request's deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.facts.remaining()
    }

    /// Fresh randomness, uniform over all 64 bits.
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
