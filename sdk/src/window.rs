//! What a policy sees of a circuit.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// The three states of a circuit: closed lets traffic flow, open refuses it, half-open lets probes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CircuitState {
    /// Traffic flows.
    Closed,
    /// Traffic is refused.
    Open,
    /// A bounded number of probes flows.
    HalfOpen,
}

/// Where a [`Window`] takes its facts from: the host in production, a builder in native tests.
///
/// Policies never implement or name this; they use [`Window`].
pub trait WindowFacts {
    /// The upstream's name in the configuration.
    fn upstream(&self) -> Cow<'_, str>;
    /// The circuit's state.
    fn state(&self) -> CircuitState;
    /// Length of the sliding window.
    fn length(&self) -> Duration;
    /// Calls counted.
    fn requests(&self) -> u32;
    /// Failures among them, overloads included.
    fn failures(&self) -> u32;
    /// Overloads among them.
    fn overloads(&self) -> u32;
    /// Throttled calls among them.
    fn throttles(&self) -> u32;
    /// Slow calls among them.
    fn slow_calls(&self) -> u32;
    /// Failures since the last success.
    fn consecutive_failures(&self) -> u32;
    /// Calls under way.
    fn in_flight(&self) -> u32;
    /// Age of the oldest call under way.
    fn oldest_in_flight(&self) -> Duration;
    /// Duration below which the given share of calls stayed.
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
/// The circuit is an upstream's, or that of one model or one credential there.
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
    /// Shows `facts` to a policy.
    pub fn new(facts: &'a Source<'a>) -> Self {
        Window { facts }
    }

    /// The upstream's name in the configuration.
    pub fn upstream(&self) -> Cow<'a, str> {
        self.facts.upstream()
    }

    /// The circuit's state.
    pub fn state(&self) -> CircuitState {
        self.facts.state()
    }

    /// Length of the sliding window; for one that holds a number of calls, the age of the oldest.
    pub fn length(&self) -> Duration {
        self.facts.length()
    }

    /// Calls that ended within the window and were counted.
    pub fn requests(&self) -> u32 {
        self.facts.requests()
    }

    /// Failures among them, overloads included.
    pub fn failures(&self) -> u32 {
        self.facts.failures()
    }

    /// Failures per request, from 0 to 1; 0 when nothing was counted.
    ///
    /// ```
    /// assert_eq!(spillway_sdk::testing::window().calls(8, 2).window().failure_rate(), 0.25);
    /// ```
    pub fn failure_rate(&self) -> f64 {
        let requests = self.requests();
        if requests == 0 { 0.0 } else { f64::from(self.failures()) / f64::from(requests) }
    }

    /// Overloads among the failures.
    pub fn overloads(&self) -> u32 {
        self.facts.overloads()
    }

    /// Calls that met a rate limit; they are no failures.
    pub fn throttles(&self) -> u32 {
        self.facts.throttles()
    }

    /// Calls slower than the configured slow-call duration.
    pub fn slow_calls(&self) -> u32 {
        self.facts.slow_calls()
    }

    /// Failures since the last success, overloads included.
    pub fn consecutive_failures(&self) -> u32 {
        self.facts.consecutive_failures()
    }

    /// Calls under way.
    pub fn in_flight(&self) -> u32 {
        self.facts.in_flight()
    }

    /// Age of the oldest call under way, counted up to 255 s; zero when there is none.
    pub fn oldest_in_flight(&self) -> Duration {
        self.facts.oldest_in_flight()
    }

    /// Time to first content below which the given share (0 to 1) of the window's calls stayed, at most a quarter too
    /// high; `None` when the window is empty.
    pub fn latency(&self, quantile: f32) -> Option<Duration> {
        self.facts.latency(quantile)
    }

    /// Openings since the circuit last stayed closed for a sustained time.
    pub fn consecutive_openings(&self) -> u32 {
        self.facts.consecutive_openings()
    }

    /// Whether the thresholds in the operator's configuration would open the circuit now.
    pub fn thresholds_crossed(&self) -> bool {
        self.facts.thresholds_crossed()
    }

    /// A random number, uniform over all 64 bits and new at each call. Good for jitter, not for secrets.
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
