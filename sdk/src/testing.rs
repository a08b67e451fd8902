//! Exchanges and windows for native unit tests of policies.
//!
//! ```
//! use spillway_sdk::{Class, builtin, testing::exchange};
//!
//! let facts = exchange().status(429).header("retry-after", "2");
//! assert_eq!(builtin::classify(&facts.exchange()).class, Class::Throttled);
//! ```

use crate::{
    AttemptFacts, BODY_PREFIX_BYTES_MAX, CircuitState, Dimension, Exchange, Fault, Phase, ProviderError, RateLimit,
    Window, WindowFacts, body_json, rate_limits, wait,
};
use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When exchanges end that say nothing else: the beginning of 2026, UTC. A test must not depend on when it runs.
const UNIX_TIME: Duration = Duration::from_secs(1_767_225_600);

/// Begins an exchange, a first attempt at the upstream `test` with nothing received yet.
///
/// ```
/// use spillway_sdk::{Fault, testing::exchange};
///
/// let facts = exchange().upstream("local").number(2).fault(Fault::ConnectRefused);
/// assert_eq!(facts.exchange().fault(), Some(Fault::ConnectRefused));
/// ```
pub fn exchange() -> ExchangeBuilder {
    ExchangeBuilder::default()
}

/// Begins a window: closed, ten seconds long and empty.
///
/// ```
/// use spillway_sdk::testing::window;
/// use std::time::Duration;
///
/// let facts = window().calls(20, 12).in_flight(3, Duration::from_secs(4));
/// assert_eq!(facts.window().failures(), 12);
/// ```
pub fn window() -> WindowBuilder {
    WindowBuilder::default()
}

/// Builds what a policy sees of an attempt. See [`exchange`].
#[derive(Clone, Debug)]
pub struct ExchangeBuilder {
    upstream: String,
    dialect: String,
    model: Option<String>,
    streaming: bool,
    number: u32,
    phase: Phase,
    fault: Option<Fault>,
    status: Option<u16>,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    elapsed: Duration,
    first_content: Option<Duration>,
    remaining: Option<Duration>,
    unix_time: Duration,
    random: u64,
}

impl Default for ExchangeBuilder {
    fn default() -> Self {
        ExchangeBuilder {
            upstream: "test".into(),
            dialect: "openai".into(),
            model: None,
            streaming: false,
            number: 1,
            phase: Phase::Waiting,
            fault: None,
            status: None,
            headers: Vec::new(),
            body: Vec::new(),
            elapsed: Duration::from_millis(100),
            first_content: None,
            remaining: None,
            unix_time: UNIX_TIME,
            random: 0x5eed,
        }
    }
}

impl ExchangeBuilder {
    /// The upstream's name.
    #[must_use]
    pub fn upstream(mut self, name: impl Into<String>) -> Self {
        self.upstream = name.into();
        self
    }

    /// The API spoken: `openai`, `anthropic`, `gemini` or `other`.
    #[must_use]
    pub fn dialect(mut self, name: impl Into<String>) -> Self {
        self.dialect = name.into();
        self
    }

    /// The model asked for.
    #[must_use]
    pub fn model(mut self, name: impl Into<String>) -> Self {
        self.model = Some(name.into());
        self
    }

    /// The caller asked for a stream; the body then is the data of its first telling event.
    #[must_use]
    pub fn streaming(mut self) -> Self {
        self.streaming = true;
        self
    }

    /// Which attempt of the request this is.
    #[must_use]
    pub fn number(mut self, number: u32) -> Self {
        self.number = number;
        self
    }

    /// A response head arrived with this status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self.phase = Phase::BeforeContent;
        self
    }

    /// The attempt ended for want of a whole response.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// How far the attempt came.
    #[must_use]
    pub fn phase(mut self, phase: Phase) -> Self {
        self.phase = phase;
        self
    }

    /// Adds a response header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// The response's body. Its error, its JSON and the wait it asks for are read from it as the host does; rate limits
    /// are read from the headers.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// How long the attempt took.
    #[must_use]
    pub fn elapsed(mut self, elapsed: Duration) -> Self {
        self.elapsed = elapsed;
        self
    }

    /// Time from the attempt's beginning to its first content.
    #[must_use]
    pub fn first_content(mut self, after: Duration) -> Self {
        self.first_content = Some(after);
        self
    }

    /// Time left to the request's deadline.
    #[must_use]
    pub fn remaining(mut self, remaining: Duration) -> Self {
        self.remaining = Some(remaining);
        self
    }

    /// The wall-clock time at which the attempt ended, since 1970 UTC; by default the beginning of 2026.
    #[must_use]
    pub fn unix_time(mut self, since_1970: Duration) -> Self {
        self.unix_time = since_1970;
        self
    }

    /// The randomness the policy will be given.
    #[must_use]
    pub fn random(mut self, random: u64) -> Self {
        self.random = random;
        self
    }

    /// The exchange as a policy sees it.
    pub fn exchange(&self) -> Exchange<'_> {
        Exchange::new(self)
    }

    fn value_of(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_slice())
    }

    fn prefix(&self) -> &[u8] {
        &self.body[..self.body.len().min(BODY_PREFIX_BYTES_MAX)]
    }

    fn ended(&self) -> SystemTime {
        UNIX_EPOCH + self.unix_time
    }
}

impl AttemptFacts for ExchangeBuilder {
    fn upstream(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.upstream)
    }
    fn dialect(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.dialect)
    }
    fn model(&self) -> Option<Cow<'_, str>> {
        self.model.as_deref().map(Cow::Borrowed)
    }
    fn streaming(&self) -> bool {
        self.streaming
    }
    fn number(&self) -> u32 {
        self.number
    }
    fn phase(&self) -> Phase {
        self.phase
    }
    fn fault(&self) -> Option<Fault> {
        self.fault
    }
    fn status(&self) -> Option<u16> {
        self.status
    }
    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.value_of(name).map(Cow::Borrowed)
    }
    fn header_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (name, _) in &self.headers {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }
    fn body_prefix(&self, limit: u32) -> Cow<'_, [u8]> {
        let shown = if self.phase == Phase::Committed { &[] } else { self.prefix() };
        let end = shown.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        Cow::Borrowed(&shown[..end])
    }
    fn body_json(&self, pointer: &str) -> Option<String> {
        if self.phase == Phase::Committed { None } else { body_json::at(&body_json::parse(self.prefix())?, pointer) }
    }
    fn provider_error(&self) -> Option<ProviderError> {
        ProviderError::parse(self.prefix())
    }
    fn retry_after(&self) -> Option<Duration> {
        wait::from_headers(|name| self.value_of(name), self.ended()).or_else(|| wait::from_body(self.prefix()))
    }
    fn rate_limit(&self, dimension: Dimension) -> Option<RateLimit> {
        rate_limits::from_headers(|name| self.value_of(name), self.ended()).get(dimension)
    }
    fn elapsed(&self) -> Duration {
        self.elapsed
    }
    fn first_content(&self) -> Option<Duration> {
        self.first_content
    }
    fn remaining(&self) -> Option<Duration> {
        self.remaining
    }
    fn unix_time(&self) -> Duration {
        self.unix_time
    }
    fn random(&self) -> u64 {
        self.random
    }
}

/// Builds what a policy sees of a circuit. See [`window`].
#[derive(Clone, Debug)]
pub struct WindowBuilder {
    upstream: String,
    state: CircuitState,
    length: Duration,
    requests: u32,
    failures: u32,
    overloads: u32,
    throttles: u32,
    slow_calls: u32,
    consecutive_failures: u32,
    in_flight: u32,
    oldest_in_flight: Duration,
    latencies: Vec<Duration>,
    consecutive_openings: u32,
    thresholds_crossed: bool,
    random: u64,
}

impl Default for WindowBuilder {
    fn default() -> Self {
        WindowBuilder {
            upstream: "test".into(),
            state: CircuitState::Closed,
            length: Duration::from_secs(10),
            requests: 0,
            failures: 0,
            overloads: 0,
            throttles: 0,
            slow_calls: 0,
            consecutive_failures: 0,
            in_flight: 0,
            oldest_in_flight: Duration::ZERO,
            latencies: Vec::new(),
            consecutive_openings: 0,
            thresholds_crossed: false,
            random: 0x5eed,
        }
    }
}

impl WindowBuilder {
    /// The upstream's name.
    #[must_use]
    pub fn upstream(mut self, name: impl Into<String>) -> Self {
        self.upstream = name.into();
        self
    }

    /// The circuit's state.
    #[must_use]
    pub fn state(mut self, state: CircuitState) -> Self {
        self.state = state;
        self
    }

    /// Length of the sliding window.
    #[must_use]
    pub fn length(mut self, length: Duration) -> Self {
        self.length = length;
        self
    }

    /// Calls counted, and failures among them.
    #[must_use]
    pub fn calls(mut self, requests: u32, failures: u32) -> Self {
        self.requests = requests;
        self.failures = failures;
        self
    }

    /// Overloads among the failures.
    #[must_use]
    pub fn overloads(mut self, overloads: u32) -> Self {
        self.overloads = overloads;
        self
    }

    /// Throttled calls.
    #[must_use]
    pub fn throttles(mut self, throttles: u32) -> Self {
        self.throttles = throttles;
        self
    }

    /// Slow calls.
    #[must_use]
    pub fn slow_calls(mut self, slow_calls: u32) -> Self {
        self.slow_calls = slow_calls;
        self
    }

    /// Failures since the last success.
    #[must_use]
    pub fn consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = failures;
        self
    }

    /// Calls under way, and the age of the oldest.
    #[must_use]
    pub fn in_flight(mut self, calls: u32, oldest: Duration) -> Self {
        self.in_flight = calls;
        self.oldest_in_flight = oldest;
        self
    }

    /// The durations that [`Window::latency`] is answered from.
    #[must_use]
    pub fn latencies(mut self, durations: impl IntoIterator<Item = Duration>) -> Self {
        self.latencies = durations.into_iter().collect();
        self.latencies.sort_unstable();
        self
    }

    /// Openings since the circuit last stayed closed.
    #[must_use]
    pub fn consecutive_openings(mut self, openings: u32) -> Self {
        self.consecutive_openings = openings;
        self
    }

    /// The configured thresholds would open the circuit.
    #[must_use]
    pub fn thresholds_crossed(mut self) -> Self {
        self.thresholds_crossed = true;
        self
    }

    /// The randomness the policy will be given.
    #[must_use]
    pub fn random(mut self, random: u64) -> Self {
        self.random = random;
        self
    }

    /// The window as a policy sees it.
    pub fn window(&self) -> Window<'_> {
        Window::new(self)
    }
}

impl WindowFacts for WindowBuilder {
    fn upstream(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.upstream)
    }
    fn state(&self) -> CircuitState {
        self.state
    }
    fn length(&self) -> Duration {
        self.length
    }
    fn requests(&self) -> u32 {
        self.requests
    }
    fn failures(&self) -> u32 {
        self.failures
    }
    fn overloads(&self) -> u32 {
        self.overloads
    }
    fn throttles(&self) -> u32 {
        self.throttles
    }
    fn slow_calls(&self) -> u32 {
        self.slow_calls
    }
    fn consecutive_failures(&self) -> u32 {
        self.consecutive_failures
    }
    fn in_flight(&self) -> u32 {
        self.in_flight
    }
    fn oldest_in_flight(&self) -> Duration {
        self.oldest_in_flight
    }
    fn latency(&self, quantile: f32) -> Option<Duration> {
        let last = self.latencies.len().checked_sub(1)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into a handful of test values"
        )]
        let index = (quantile.clamp(0.0, 1.0) * last as f32).round() as usize;
        self.latencies.get(index).copied()
    }
    fn consecutive_openings(&self) -> u32 {
        self.consecutive_openings
    }
    fn thresholds_crossed(&self) -> bool {
        self.thresholds_crossed
    }
    fn random(&self) -> u64 {
        self.random
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_shown_as_far_as_the_host_shows_it() {
        let long = format!(r#"{{"error":{{"code":"x","message":"{}"}}}}"#, "m".repeat(BODY_PREFIX_BYTES_MAX));
        let facts = exchange().status(500).body(long);
        let seen = facts.exchange();
        assert_eq!(seen.body_prefix(u32::MAX).len(), BODY_PREFIX_BYTES_MAX);
        assert_eq!((seen.json("/error/code"), seen.provider_error()), (None, None), "what was cut off is no JSON");
    }

    #[test]
    fn once_content_has_reached_the_caller_no_body_is_shown() {
        let facts = exchange().status(200).phase(Phase::Committed).body(r#"{"a":1}"#);
        assert_eq!((facts.exchange().json("/a"), facts.exchange().body_prefix(9).len()), (None, 0));
    }

    #[test]
    fn waits_until_a_moment_count_from_the_attempts_end() {
        let facts = exchange()
            .status(429)
            .unix_time(Duration::from_secs(784_111_777))
            .header("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT")
            .header("anthropic-ratelimit-tokens-limit", "80000")
            .header("anthropic-ratelimit-tokens-remaining", "0")
            .header("anthropic-ratelimit-tokens-reset", "1994-11-06T08:50:37Z");
        let seen = facts.exchange();
        assert_eq!(seen.retry_after(), Some(Duration::from_secs(10)));
        assert_eq!(seen.tokens_limit().and_then(|tokens| tokens.reset), Some(Duration::from_secs(60)));
    }
}
