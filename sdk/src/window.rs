//! What a policy sees of a circuit.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// How a circuit stands: closed lets calls flow, open refuses them, half-open lets a few through as probes.
///
/// ```
/// use spillway_sdk::{CircuitState, testing::window};
///
/// let facts = window().state(CircuitState::HalfOpen);
/// let refuses = match facts.window().state() {
///     CircuitState::Closed => false,
///     CircuitState::Open | CircuitState::HalfOpen => true,
/// };
/// assert!(refuses);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CircuitState {
    /// Calls flow.
    Closed,
    /// Calls are refused.
    Open,
    /// A few calls flow as probes; the others are refused.
    HalfOpen,
}

/// Where a [`Window`] takes its facts from: the host in production, a builder in native tests.
///
/// Policies never implement or name this; they use [`Window`].
///
/// ```
/// use spillway_sdk::{WindowFacts, testing::window};
///
/// let facts: Box<dyn WindowFacts> = Box::new(window().calls(20, 12));
/// assert_eq!(facts.failures(), 12);
/// ```
pub trait WindowFacts {
    /// The upstream's name in the configuration.
    fn upstream(&self) -> Cow<'_, str>;
    /// The circuit's state.
    fn state(&self) -> CircuitState;
    /// Length of the sliding window.
    fn length(&self) -> Duration;
    /// Calls counted.
    fn requests(&self) -> u32;
    /// Failures among the calls counted, overloads included.
    fn failures(&self) -> u32;
    /// Overloads among the failures.
    fn overloads(&self) -> u32;
    /// Throttled calls among the calls counted.
    fn throttles(&self) -> u32;
    /// Slow calls among the calls counted.
    fn slow_calls(&self) -> u32;
    /// Failures since the last success.
    fn consecutive_failures(&self) -> u32;
    /// Calls under way.
    fn in_flight(&self) -> u32;
    /// Age of the oldest call under way.
    fn oldest_in_flight(&self) -> Duration;
    /// Time to first content below which the given share of calls stayed.
    fn latency(&self, quantile: f32) -> Option<Duration>;
    /// Openings since the circuit last stayed closed for a sustained time.
    fn consecutive_openings(&self) -> u32;
    /// Whether the configured thresholds would open the circuit.
    fn thresholds_crossed(&self) -> bool;
    /// Fresh randomness.
    fn random(&self) -> u64;
}

/// What a [`Window`] holds. A policy's module has one source of facts: naming it, rather than any, keeps the
/// getters that the policy never calls out of the module.
#[cfg(target_arch = "wasm32")]
type Source<'a> = crate::guest::Lent<'a, crate::guest::bindings::spillway::policy::host::Window>;
#[cfg(not(target_arch = "wasm32"))]
type Source<'a> = dyn WindowFacts + 'a;

/// A circuit's sliding window, as a policy sees it.
///
/// The circuit is an upstream's, or that of one model, of one credential, or of one model under one credential there.
///
/// ```
/// use spillway_sdk::testing::window;
/// use std::time::Duration;
///
/// let facts = window().calls(4, 1).latencies([1, 2, 3, 40].map(Duration::from_secs));
/// let window = facts.window();
/// assert_eq!(window.failure_rate(), 0.25);
/// assert_eq!(window.latency(1.0), Some(Duration::from_secs(40)));
/// ```
#[derive(Clone, Copy)]
pub struct Window<'a> {
    facts: &'a Source<'a>,
}

impl<'a> Window<'a> {
    /// Shows `facts` to a policy. This is for the host: tests call [`WindowBuilder::window`].
    ///
    /// [`WindowBuilder::window`]: crate::testing::WindowBuilder::window
    ///
    /// ```
    /// use spillway_sdk::{Window, testing::window};
    ///
    /// let facts = window().calls(20, 12);
    /// assert_eq!(Window::new(&facts).failures(), 12);
    /// ```
    pub fn new(facts: &'a Source<'a>) -> Self {
        Window { facts }
    }

    /// The upstream's name in the configuration.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    ///
    /// // One policy for several upstreams, some of which are machines that come and go.
    /// let facts = window().upstream("spot-7").calls(5, 5);
    /// assert!(facts.window().upstream().starts_with("spot-"));
    /// ```
    pub fn upstream(&self) -> Cow<'a, str> {
        self.facts.upstream()
    }

    /// How the circuit stands. [`Policy::trip`](crate::Policy::trip) is asked only while it is closed.
    ///
    /// ```
    /// use spillway_sdk::{CircuitState, testing::window};
    ///
    /// assert_eq!(window().window().state(), CircuitState::Closed);
    /// ```
    pub fn state(&self) -> CircuitState {
        self.facts.state()
    }

    /// Length of the sliding window; for one that holds a number of calls, the age of the oldest of them.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    /// use std::time::Duration;
    ///
    /// let facts = window().length(Duration::from_secs(20)).calls(50, 0);
    /// let window = facts.window();
    /// assert_eq!(f64::from(window.requests()) / window.length().as_secs_f64(), 2.5, "calls per second");
    /// ```
    pub fn length(&self) -> Duration {
        self.facts.length()
    }

    /// How many calls ended within the window and were counted, throttled ones included. Ignored, rejected and
    /// unauthorized calls are not counted: they say nothing about the upstream's health.
    ///
    /// ```
    /// use spillway_sdk::{Window, testing::window};
    ///
    /// // Three calls that failed are no outage yet.
    /// let is_outage = |window: &Window<'_>| window.requests() >= 20 && window.failure_rate() > 0.9;
    /// assert!(!is_outage(&window().calls(3, 3).window()));
    /// assert!(is_outage(&window().calls(20, 20).window()));
    /// ```
    pub fn requests(&self) -> u32 {
        self.facts.requests()
    }

    /// How many of the counted calls failed, overloads included.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    ///
    /// let facts = window().calls(1_000, 40);
    /// let many = facts.window().failures() >= 40;
    /// assert!(many, "even where they are a small share");
    /// ```
    pub fn failures(&self) -> u32 {
        self.facts.failures()
    }

    /// Failures per request, from 0 to 1; 0 when nothing was counted.
    ///
    /// Throttled calls are among the requests. The operator's thresholds leave them out, and see a higher rate.
    ///
    /// ```
    /// assert_eq!(spillway_sdk::testing::window().calls(8, 2).window().failure_rate(), 0.25);
    /// ```
    pub fn failure_rate(&self) -> f64 {
        let requests = self.requests();
        if requests == 0 { 0.0 } else { f64::from(self.failures()) / f64::from(requests) }
    }

    /// How many of the failures were overloads.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    ///
    /// let facts = window().calls(30, 12).overloads(11);
    /// let broken = facts.window().failures() - facts.window().overloads();
    /// assert_eq!(broken, 1, "it is busy rather than down");
    /// ```
    pub fn overloads(&self) -> u32 {
        self.facts.overloads()
    }

    /// How many calls met a rate limit or a spent quota. They count as requests, and not as failures.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    ///
    /// let facts = window().calls(40, 0).throttles(30);
    /// let (throttles, requests) = (facts.window().throttles(), facts.window().requests());
    /// assert!(throttles * 2 > requests, "most calls are in vain");
    /// ```
    pub fn throttles(&self) -> u32 {
        self.facts.throttles()
    }

    /// How many calls took longer than the configured slow-call duration. Throttled calls are left out.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    ///
    /// let facts = window().calls(10, 0).slow_calls(6);
    /// assert!(facts.window().slow_calls() * 2 > facts.window().requests());
    /// ```
    pub fn slow_calls(&self) -> u32 {
        self.facts.slow_calls()
    }

    /// How many calls failed since the last success, overloads included.
    ///
    /// ```
    /// use spillway_sdk::{TripDecision, testing::window};
    ///
    /// let facts = window().calls(50, 3).consecutive_failures(3);
    /// let decision = (facts.window().consecutive_failures() >= 3).then_some(TripDecision::Open);
    /// assert_eq!(decision, Some(TripDecision::Open));
    /// ```
    pub fn consecutive_failures(&self) -> u32 {
        self.facts.consecutive_failures()
    }

    /// How many calls are under way.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    /// use std::time::Duration;
    ///
    /// let facts = window().calls(4, 0).in_flight(32, Duration::from_secs(1));
    /// let piles_up = facts.window().in_flight() > 4 * facts.window().requests();
    /// assert!(piles_up);
    /// ```
    pub fn in_flight(&self) -> u32 {
        self.facts.in_flight()
    }

    /// Age of the oldest call under way, counted up to 255 s and at most a second too low; zero when none is under way.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    /// use std::time::Duration;
    ///
    /// // Nothing has failed yet, and yet nothing comes back.
    /// let facts = window().in_flight(8, Duration::from_secs(45));
    /// assert!(facts.window().oldest_in_flight() > Duration::from_secs(30));
    /// ```
    pub fn oldest_in_flight(&self) -> Duration {
        self.facts.oldest_in_flight()
    }

    /// Time to first content below which the given share (0 to 1) of the window's calls stayed, at most a quarter too
    /// high; a call that brought no content counts with its whole duration. `None` when the window is empty.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    /// use std::time::Duration;
    ///
    /// let facts = window().calls(4, 0).latencies([1, 2, 2, 40].map(Duration::from_secs));
    /// let usual = facts.window().latency(0.5).expect("a window that is not empty");
    /// assert_eq!(usual, Duration::from_secs(2), "one slow call is not a slow provider");
    /// ```
    pub fn latency(&self, quantile: f32) -> Option<Duration> {
        self.facts.latency(quantile)
    }

    /// How often the circuit opened since it last stayed closed for a sustained time.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    /// use std::time::Duration;
    ///
    /// let facts = window().consecutive_openings(3);
    /// let rest = Duration::from_secs(30) * (1 + facts.window().consecutive_openings());
    /// assert_eq!(rest, Duration::from_secs(120), "longer each time");
    /// ```
    pub fn consecutive_openings(&self) -> u32 {
        self.facts.consecutive_openings()
    }

    /// Whether the thresholds in the operator's configuration would open the circuit now.
    ///
    /// ```
    /// use spillway_sdk::{TripDecision, testing::window};
    /// use std::time::Duration;
    ///
    /// // When to open is the operator's decision, and for how long the policy's.
    /// let facts = window().calls(20, 12).thresholds_crossed();
    /// let five_minutes = TripDecision::OpenFor(Duration::from_secs(300));
    /// assert_eq!(facts.window().thresholds_crossed().then_some(five_minutes), Some(five_minutes));
    /// ```
    pub fn thresholds_crossed(&self) -> bool {
        self.facts.thresholds_crossed()
    }

    /// A random number, uniform over all 64 bits and new at each call. Good for jitter, not for secrets.
    ///
    /// ```
    /// use spillway_sdk::testing::window;
    /// use std::time::Duration;
    ///
    /// let facts = window().random(1_250);
    /// let rest = Duration::from_secs(30) + Duration::from_millis(facts.window().random() % 1_000);
    /// assert_eq!(rest, Duration::from_millis(30_250));
    /// ```
    pub fn random(&self) -> u64 {
        self.facts.random()
    }
}

impl fmt::Debug for Window<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window")
            .field("upstream", &self.upstream())
            .field("state", &self.state())
            .field("requests", &self.requests())
            .field("failures", &self.failures())
            .field("consecutive_failures", &self.consecutive_failures())
            .finish_non_exhaustive()
    }
}
