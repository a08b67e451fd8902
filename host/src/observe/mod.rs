//! What is told of the traffic: metrics, the log, and recorded requests.

pub mod log;
pub(crate) mod metrics;
pub(crate) mod recording;
pub(crate) mod refusals;
