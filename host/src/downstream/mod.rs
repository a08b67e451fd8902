//! Towards callers: their connections, who is let in, and a request from its head to its answer.

pub mod accept;
pub mod connection;
pub mod cors;
pub mod serve;
