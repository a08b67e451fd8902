//! Requests that are kept and served later.

pub mod convert;
pub mod drain;
pub mod keep;
pub mod preference;
pub mod questions;
