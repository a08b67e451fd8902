//! What is told of the traffic: metrics, the log, and recorded requests.

pub(crate) mod guards;
pub(crate) mod labels;
pub mod log;
pub(crate) mod metrics;
pub(crate) mod recording;
pub(crate) mod refusals;
