//! What is told of the traffic: metrics, the log, and recorded requests.

pub mod log;
pub mod metrics;
pub mod recording;
