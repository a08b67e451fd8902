//! Spillway: a local proxy that keeps applications standing when an LLM provider fails, throttles or runs dry.
//!
//! Begin with [`request`]: it is the life of one request, from top to bottom. Every decision it makes is a value of
//! the crate `spillway-resilience` or an answer of a policy; ARCHITECTURE.md has the map.

pub mod admin;
pub mod attempt;
pub mod body;
pub mod call;
pub mod callers;
pub mod circuit;
pub mod cli;
pub mod client;
pub mod clock;
pub mod compression;
pub mod config;
pub mod connection;
pub mod consequence;
pub mod cors;
pub mod dialect;
pub mod dispatch;
pub mod door;
pub mod estimate;
pub mod events;
pub mod explain;
pub mod forward;
pub mod gauge;
pub mod guard;
pub mod headers;
pub mod heartbeat;
pub mod hedge;
pub mod jobs;
pub mod json_end;
pub mod lanes;
pub mod log;
pub mod memory;
pub mod metrics;
pub mod parts;
pub mod patience;
pub mod policy;
pub mod recording;
pub mod refusal;
pub mod request;
pub mod said;
pub mod scope;
pub mod served;
pub mod server;
pub mod shortage;
pub mod size;
pub mod spool;
pub mod sse;
pub mod steady;
pub mod sync;
pub mod unserved;
pub mod upkeep;
pub mod upload;
pub mod upstream;
pub mod worker;
