//! Who calls, and what its requests may do.

pub(crate) mod access;
pub(crate) mod callers;
pub(crate) mod failures;
pub(crate) mod guard;
pub(crate) mod origin;
pub(crate) mod runaway;
