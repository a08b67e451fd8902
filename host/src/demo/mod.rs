//! `spillway demo`: the same traffic to the same provider in three lanes side by side, one of them through a real
//! Spillway, while something is wrong with the provider.
//!
//! Nothing of it is scripted but what is wrong: the provider is a mock in this process, one for each lane, and all
//! figures are measured by the clients and counted by the mock. The command line tells it ([`Audience`]).

pub(crate) mod board;
mod caller;
pub(crate) mod comparison;
pub(crate) mod figures;
mod luck;
pub(crate) mod mode;
mod process;
mod provider;
pub(crate) mod report;
mod retry;
pub(crate) mod stage;
mod traffic;
pub(crate) mod words;
