//! A scriptable mock provider, and what the end-to-end tests and the demo have in common: a Spillway process to drive,
//! and an HTTP client that sees what other clients hide.

pub mod asks;
pub mod between;
pub mod callers;
pub mod certificates;
pub mod chance;
pub mod clocks;
pub mod http;
pub mod ledger;
pub mod load;
pub mod log;
pub mod provider;
pub mod row;
pub mod setup;
mod socket;
pub mod spillway;
pub mod wait;
