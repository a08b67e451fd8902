//! Spillway: a local proxy that keeps applications standing when an LLM provider fails, throttles or runs dry.
//!
//! Begin with [`request`]: it is the life of one request, from top to bottom. Every decision it makes is a value of
//! the crate `spillway-resilience` or an answer of a policy; ARCHITECTURE.md has the map.

pub mod admin;
pub mod cli;
pub mod config;
pub mod dialect;
pub mod downstream;
pub mod jobs;
pub mod observe;
pub mod policy;
pub mod proxy;
pub mod runtime;
pub mod spool;
pub mod start;
pub mod state;
pub mod tenants;
pub mod upstream;
