//! What outlives a restart besides the spool.

pub(crate) mod circuit_file;
mod json_file;
pub(crate) mod maker_file;
pub(crate) mod steady;
