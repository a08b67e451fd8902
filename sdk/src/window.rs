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

/// A circuit's sliding window, as a policy sees it.
#[derive(Clone, Copy)]
pub struct Window<'a> {
    facts: &'a dyn WindowFacts,
}

impl<'a> Window<'a> {
    /// Shows `facts` to a policy.
    pub fn new(facts: &'a dyn WindowFacts) -> Self {
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

    /// Length of the sliding window.
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

    /// Failures since the last success.
    pub fn consecutive_failures(&self) -> u32 {
        self.facts.consecutive_failures()
    }

    /// Calls under way.
    pub fn in_flight(&self) -> u32 {
        self.facts.in_flight()
    }

    /// Age of the oldest call under way.
    pub fn oldest_in_flight(&self) -> Duration {
        self.facts.oldest_in_flight()
    }

    /// Duration below which the given share (0 to 1) of the window's calls stayed; `None` when it is empty.
    ///
    /// For answers that stream this is the time to first content.
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

    /// Fresh randomness, uniform over all 64 bits.
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
