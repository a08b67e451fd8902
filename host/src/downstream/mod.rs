//! Towards callers: their connections, who is let in, and a request from its head to its answer.

pub(crate) mod accept;
pub(crate) mod connection;
pub(crate) mod cors;
pub(crate) mod serve;
