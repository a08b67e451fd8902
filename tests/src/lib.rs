//! What the end-to-end tests and the demo have in common: a Spillway process to drive, the mock provider, and an HTTP
//! client that sees what other clients hide.

pub mod asks;
pub mod between;
pub mod callers;
pub mod certificates;
pub mod chance;
pub mod clocks;
pub mod commands;
pub mod http;
pub mod ledger;
pub mod load;
pub mod log;
pub mod row;
pub mod setup;
mod socket;
pub mod spillway;
pub mod terminal;
pub mod wait;

pub use spillway_mock_provider as provider;
