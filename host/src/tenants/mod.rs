//! Who calls, and what its requests may do.

pub mod callers;
pub mod guard;
