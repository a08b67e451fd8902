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
///
/// ```
/// use spillway_sdk::{Class, builtin, testing::exchange};
///
/// // What several cases share is built once.
/// let throttled = exchange().upstream("gateway").status(429);
/// let spent = throttled.clone().body(r#"{"error":{"code":"insufficient_quota"}}"#);
/// assert_eq!(builtin::classify(&throttled.exchange()).class, Class::Throttled);
/// assert_eq!(builtin::classify(&spent.exchange()).class, Class::Exhausted);
/// ```
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
    /// The upstream's name; by default `test`.
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    ///
    /// assert_eq!(exchange().upstream("spot-7").exchange().upstream(), "spot-7");
    /// ```
    #[must_use]
    pub fn upstream(mut self, name: impl Into<String>) -> Self {
        self.upstream = name.into();
        self
    }

    /// The API spoken: `openai`, the default, `anthropic`, `gemini`, `ollama` or `other`.
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    ///
    /// assert_eq!(exchange().dialect("anthropic").exchange().dialect(), "anthropic");
    /// ```
    #[must_use]
    pub fn dialect(mut self, name: impl Into<String>) -> Self {
        self.dialect = name.into();
        self
    }

    /// The model asked for; by default the request names none.
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    ///
    /// let facts = exchange().model("gpt-5-mini");
    /// assert_eq!(facts.exchange().model().as_deref(), Some("gpt-5-mini"));
    /// ```
    #[must_use]
    pub fn model(mut self, name: impl Into<String>) -> Self {
        self.model = Some(name.into());
        self
    }

    /// The caller asked for a stream; the body then is the data of its first telling event.
    ///
    /// ```
    /// use spillway_sdk::{Class, builtin, testing::exchange};
    ///
    /// let facts = exchange().status(200).streaming().body(r#"{"error":{"type":"overloaded_error"}}"#);
    /// assert_eq!(builtin::classify(&facts.exchange()).class, Class::Overloaded);
    /// ```
    #[must_use]
    pub fn streaming(mut self) -> Self {
        self.streaming = true;
        self
    }

    /// Which attempt of the request this is; by default the first, 1.
    ///
    /// ```
    /// use spillway_sdk::{Exchange, testing::exchange};
    /// use std::time::Duration;
    ///
    /// // The policy under test waits a second longer each time.
    /// let wait = |exchange: &Exchange<'_>| Duration::from_secs(exchange.number().into());
    /// assert_eq!(wait(&exchange().number(4).exchange()), Duration::from_secs(4));
    /// ```
    #[must_use]
    pub fn number(mut self, number: u32) -> Self {
        self.number = number;
        self
    }

    /// A response head arrived with this status, before any content: another phase is set after it.
    ///
    /// ```
    /// use spillway_sdk::{Class, Phase, builtin, testing::exchange};
    ///
    /// let facts = exchange().status(529);
    /// assert_eq!(builtin::classify(&facts.exchange()).class, Class::Overloaded);
    /// assert_eq!(facts.exchange().phase(), Phase::BeforeContent);
    /// ```
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self.phase = Phase::BeforeContent;
        self
    }

    /// The attempt ended for want of a whole response. How far it came until then is said with
    /// [`ExchangeBuilder::phase`].
    ///
    /// ```
    /// use spillway_sdk::{Fault, builtin, testing::exchange};
    ///
    /// let facts = exchange().fault(Fault::IdleTimeout);
    /// assert_eq!(builtin::classify(&facts.exchange()).reason, "stream fell silent");
    /// ```
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// How far the attempt came; by default the request was sent, and nothing has arrived.
    ///
    /// ```
    /// use spillway_sdk::{Advice, Fault, Phase, builtin, testing::exchange};
    ///
    /// let facts = exchange().status(200).fault(Fault::Truncated).phase(Phase::Committed);
    /// assert_eq!(builtin::classify(&facts.exchange()).advice, Advice::GiveUp);
    /// ```
    #[must_use]
    pub fn phase(mut self, phase: Phase) -> Self {
        self.phase = phase;
        self
    }

    /// Adds a response header. Its name may be in capitals; of two with the same name, policies see the first value, and
    /// of `set-cookie` none.
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    /// use std::time::Duration;
    ///
    /// let facts = exchange().status(429).header("Retry-After", "7");
    /// assert_eq!(facts.exchange().retry_after(), Some(Duration::from_secs(7)));
    /// ```
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        if !name.eq_ignore_ascii_case("set-cookie") {
            self.headers.push((name.to_ascii_lowercase(), value.into()));
        }
        self
    }

    /// The response's body. Its error, its JSON and the wait it asks for are read from it as the host does; rate limits
    /// are read from the headers.
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    /// use std::time::Duration;
    ///
    /// let facts = exchange().status(429).body(r#"{"error":{"code":429,"details":[{"retryDelay":"37s"}]}}"#);
    /// assert_eq!(facts.exchange().retry_after(), Some(Duration::from_secs(37)));
    /// assert_eq!(facts.exchange().json("/error/code").as_deref(), Some("429"));
    /// ```
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// How long the attempt took; by default 100 ms.
    ///
    /// ```
    /// use spillway_sdk::{Fault, testing::exchange};
    /// use std::time::Duration;
    ///
    /// let facts = exchange().fault(Fault::Reset).elapsed(Duration::from_secs(60));
    /// assert_eq!(facts.exchange().elapsed(), Duration::from_secs(60));
    /// ```
    #[must_use]
    pub fn elapsed(mut self, elapsed: Duration) -> Self {
        self.elapsed = elapsed;
        self
    }

    /// Time from the attempt's beginning to its first content; by default none has arrived.
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    /// use std::time::Duration;
    ///
    /// let facts = exchange().status(200).first_content(Duration::from_secs(12));
    /// assert_eq!(facts.exchange().first_content(), Some(Duration::from_secs(12)));
    /// ```
    #[must_use]
    pub fn first_content(mut self, after: Duration) -> Self {
        self.first_content = Some(after);
        self
    }

    /// Time left to the request's deadline; by default it has none.
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    /// use std::time::Duration;
    ///
    /// let facts = exchange().status(503).remaining(Duration::ZERO);
    /// assert_eq!(facts.exchange().remaining(), Some(Duration::ZERO), "the deadline has passed");
    /// ```
    #[must_use]
    pub fn remaining(mut self, remaining: Duration) -> Self {
        self.remaining = Some(remaining);
        self
    }

    /// The wall-clock time at which the attempt ended, since 1970 UTC; by default the beginning of 2026.
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    /// use std::time::Duration;
    ///
    /// // HTTP dates and other moments are counted from here.
    /// let facts = exchange().unix_time(Duration::from_secs(784_111_777));
    /// let facts = facts.header("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT");
    /// assert_eq!(facts.exchange().retry_after(), Some(Duration::from_secs(10)));
    /// ```
    #[must_use]
    pub fn unix_time(mut self, since_1970: Duration) -> Self {
        self.unix_time = since_1970;
        self
    }

    /// The randomness the policy will be given, at each call the same.
    ///
    /// ```
    /// use spillway_sdk::testing::exchange;
    ///
    /// let facts = exchange().random(41);
    /// assert_eq!((facts.exchange().random(), facts.exchange().random()), (41, 41));
    /// ```
    #[must_use]
    pub fn random(mut self, random: u64) -> Self {
        self.random = random;
        self
    }

    /// The exchange as a policy sees it.
    ///
    /// ```
    /// use spillway_sdk::{Class, builtin, testing::exchange};
    ///
    /// let facts = exchange().status(401); // kept, since the exchange borrows it
    /// let verdict = builtin::classify(&facts.exchange());
    /// assert_eq!(verdict.class, Class::Unauthorized);
    /// ```
    pub fn exchange(&self) -> Exchange<'_> {
        Exchange::new(self)
    }

    fn value_of(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
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
///
/// ```
/// use spillway_sdk::testing::window;
///
/// // What several cases share is built once.
/// let failing = window().calls(20, 12);
/// let recovering = failing.clone().calls(20, 4);
/// assert!(failing.window().failure_rate() > 0.5 && recovering.window().failure_rate() < 0.5);
/// ```
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
    /// The upstream's name; by default `test`.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    ///
    /// assert_eq!(window().upstream("spot-7").window().upstream(), "spot-7");
    /// ```
    #[must_use]
    pub fn upstream(mut self, name: impl Into<String>) -> Self {
        self.upstream = name.into();
        self
    }

    /// The circuit's state; by default closed, as it is whenever a policy is asked to trip it.
    ///
    /// ```
    /// use spillway_sdk::{CircuitState, testing::window};
    ///
    /// let facts = window().state(CircuitState::HalfOpen);
    /// assert_eq!(facts.window().state(), CircuitState::HalfOpen);
    /// ```
    #[must_use]
    pub fn state(mut self, state: CircuitState) -> Self {
        self.state = state;
        self
    }

    /// Length of the sliding window; by default ten seconds.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    /// use std::time::Duration;
    ///
    /// let facts = window().length(Duration::from_secs(60));
    /// assert_eq!(facts.window().length().as_secs(), 60);
    /// ```
    #[must_use]
    pub fn length(mut self, length: Duration) -> Self {
        self.length = length;
        self
    }

    /// How many calls were counted, and how many of them failed.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    ///
    /// let facts = window().calls(8, 6);
    /// assert_eq!((facts.window().requests(), facts.window().failure_rate()), (8, 0.75));
    /// ```
    #[must_use]
    pub fn calls(mut self, requests: u32, failures: u32) -> Self {
        self.requests = requests;
        self.failures = failures;
        self
    }

    /// How many of the failures were overloads; nothing is added to them.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    ///
    /// let facts = window().calls(30, 12).overloads(10);
    /// assert_eq!(facts.window().failures() - facts.window().overloads(), 2, "failures that are none of load");
    /// ```
    #[must_use]
    pub fn overloads(mut self, overloads: u32) -> Self {
        self.overloads = overloads;
        self
    }

    /// How many of the calls were throttled; nothing is added to them.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    ///
    /// let facts = window().calls(40, 0).throttles(30);
    /// assert_eq!((facts.window().throttles(), facts.window().failures()), (30, 0));
    /// ```
    #[must_use]
    pub fn throttles(mut self, throttles: u32) -> Self {
        self.throttles = throttles;
        self
    }

    /// How many of the calls were slow; nothing is added to them.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    ///
    /// let facts = window().calls(10, 0).slow_calls(6);
    /// assert_eq!(facts.window().slow_calls(), 6);
    /// ```
    #[must_use]
    pub fn slow_calls(mut self, slow_calls: u32) -> Self {
        self.slow_calls = slow_calls;
        self
    }

    /// Failures since the last success; by default none, whatever [`WindowBuilder::calls`] says.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    ///
    /// let facts = window().calls(50, 3).consecutive_failures(3);
    /// assert_eq!(facts.window().consecutive_failures(), 3);
    /// ```
    #[must_use]
    pub fn consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = failures;
        self
    }

    /// Calls under way, and the age of the oldest.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    /// use std::time::Duration;
    ///
    /// let facts = window().in_flight(8, Duration::from_secs(45));
    /// let window = facts.window();
    /// assert_eq!((window.in_flight(), window.oldest_in_flight()), (8, Duration::from_secs(45)));
    /// ```
    #[must_use]
    pub fn in_flight(mut self, calls: u32, oldest: Duration) -> Self {
        self.in_flight = calls;
        self.oldest_in_flight = oldest;
        self
    }

    /// The times that [`Window::latency`] is answered from, in any order; exactly, where the host rounds.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    /// use std::time::Duration;
    ///
    /// let facts = window().latencies([9, 1, 3].map(Duration::from_secs));
    /// assert_eq!(facts.window().latency(0.5), Some(Duration::from_secs(3)));
    /// assert_eq!(facts.window().latency(1.0), Some(Duration::from_secs(9)));
    /// ```
    #[must_use]
    pub fn latencies(mut self, durations: impl IntoIterator<Item = Duration>) -> Self {
        self.latencies = durations.into_iter().collect();
        self.latencies.sort_unstable();
        self
    }

    /// Openings since the circuit last stayed closed for a sustained time.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    ///
    /// let facts = window().consecutive_openings(3);
    /// assert_eq!(facts.window().consecutive_openings(), 3);
    /// ```
    #[must_use]
    pub fn consecutive_openings(mut self, openings: u32) -> Self {
        self.consecutive_openings = openings;
        self
    }

    /// The configured thresholds would open the circuit.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    ///
    /// // A test knows no thresholds: however much failed, they are crossed when this says so.
    /// assert!(!window().calls(9, 9).window().thresholds_crossed());
    /// assert!(window().calls(9, 9).thresholds_crossed().window().thresholds_crossed());
    /// ```
    #[must_use]
    pub fn thresholds_crossed(mut self) -> Self {
        self.thresholds_crossed = true;
        self
    }

    /// The randomness the policy will be given, at each call the same.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    ///
    /// let facts = window().random(41);
    /// assert_eq!((facts.window().random(), facts.window().random()), (41, 41));
    /// ```
    #[must_use]
    pub fn random(mut self, random: u64) -> Self {
        self.random = random;
        self
    }

    /// The window as a policy sees it.
    ///
    /// ```
    /// use spillway_sdk::{Window, testing::window};
    ///
    /// let facts = window().calls(5, 5); // kept, since the window borrows it
    /// let trips = |window: &Window<'_>| window.failures() >= 5;
    /// assert!(trips(&facts.window()));
    /// ```
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
    fn headers_are_shown_as_the_host_shows_them() {
        let facts = exchange().status(429).header("Set-Cookie", "s=1").header("X-Region", "north");
        let seen = facts.exchange();
        assert_eq!((seen.header("set-cookie"), seen.header_names()), (None, vec!["x-region".to_owned()]));
        assert_eq!(seen.header_str("X-REGION").as_deref(), Some("north"));
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
