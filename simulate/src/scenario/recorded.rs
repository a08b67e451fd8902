//! Arrivals that were recorded, in place of those that are drawn.

use std::sync::Arc;

use spillway_resilience::Timestamp;

/// One recorded request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When it came.
    pub at: Timestamp,
    /// Whose it is: the number of a tenant of the scenario.
    pub tenant: usize,
    /// Which model it asks for, by its place among the recorded ones.
    pub model: usize,
    /// What it may cost at most, in tokens.
    pub tokens_max: u64,
    /// What it does cost, in tokens.
    pub tokens: u64,
}

/// Recorded traffic: the same requests come in every run. Cloning it copies nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The requests in the order of their arrival.
    pub arrivals: Arc<[Arrival]>,
    /// The models that they ask for.
    pub models: Arc<[String]>,
}
