//! What must hold of everything that reads other people's bytes: streams, bodies, requests, errors, compressed bodies.
//! Each file says it of one of them, as a function of any bytes, and a binary of the same name hands it to libFuzzer.
//!
//! The files that are looked at are the host's own, included by path: there is no copy that could stray from what runs,
//! and nothing else of the host is compiled with a fuzzer's counters in it.

#[expect(dead_code, reason = "the rest of the host uses more of it")]
#[path = "../../../host/src/dialect/mod.rs"]
mod dialect;

pub mod bodies;
pub mod compressed;
pub mod errors;
pub mod requests;
pub mod sse;

mod message;
mod splits;
