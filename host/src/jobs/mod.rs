//! Requests that are kept and served later.

pub(crate) mod convert;
pub(crate) mod drain;
pub(crate) mod keep;
pub(crate) mod questions;
