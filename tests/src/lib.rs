//! What the end-to-end tests and the demo have in common: a Spillway process to drive, the mock provider, and an HTTP
//! client that sees what other clients hide.
//!
//! The harness is Linux's; a Windows build is driven by it from there, under Wine. What unit tests need is everywhere.

#[cfg(target_os = "linux")]
pub mod asks;
pub mod between;
#[cfg(target_os = "linux")]
pub mod callers;
pub mod certificates;
pub mod chance;
#[cfg(target_os = "linux")]
pub mod clocks;
#[cfg(target_os = "linux")]
pub mod commands;
#[cfg(target_os = "linux")]
pub mod disk;
#[cfg(target_os = "linux")]
pub mod http;
#[cfg(target_os = "linux")]
pub mod http2;
#[cfg(target_os = "linux")]
pub mod ledger;
#[cfg(target_os = "linux")]
pub mod load;
#[cfg(target_os = "linux")]
pub mod log;
#[cfg(target_os = "linux")]
pub mod row;
#[cfg(target_os = "linux")]
pub mod setup;
#[cfg(target_os = "linux")]
mod socket;
#[cfg(target_os = "linux")]
pub mod spillway;
#[cfg(target_os = "linux")]
pub mod terminal;
pub mod wait;
#[cfg(target_os = "linux")]
pub mod wire;

pub use spillway_mock_provider as provider;
