//! Spillway: a local proxy that keeps applications standing when an LLM provider fails, throttles or runs dry.
//!
//! Begin with `downstream/serve.rs` and `proxy/attempts.rs`: they are the life of one request, from top to bottom.
//! Every decision in it is a value of the crate `spillway-resilience` or an answer of a policy; ARCHITECTURE.md has the
//! map.
//!
//! What is public is what the program, its tests and its benches need.

pub(crate) mod admin;
pub mod cli;
pub mod config;
mod demo;
pub mod dialect;
pub(crate) mod downstream;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod ledger;
pub mod observe;
pub mod policy;
pub mod prices;
pub(crate) mod proxy;
pub mod runtime;
pub(crate) mod spool;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod tenants;
pub(crate) mod upstream;
