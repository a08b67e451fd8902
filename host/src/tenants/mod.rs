//! Who calls, and what its requests may do.

pub mod callers;
pub mod fingerprint;
pub mod guard;
