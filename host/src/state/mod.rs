//! What outlives a restart besides the spool.

pub mod circuit_file;
mod json_file;
pub mod steady;
