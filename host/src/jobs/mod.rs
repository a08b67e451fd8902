//! Requests that are kept and served later.

pub mod drain;
pub mod keep;
