//! Policies: WebAssembly modules that judge attempts, and the built-in policy that judges where they do not.
//!
//! A file's way in: `watch` notices it, `artifact` checks it and makes it a component, `wasm` compiles it and
//! tries it out, `registry` swaps it in. A call's way: `judge`, one per worker, asks the module that serves.

mod artifact;
mod judge;
mod registry;
mod wasm;
mod watch;

pub use judge::{Judge, Judged};
pub use registry::{PolicyStatus, Registry, Slot};
pub use wasm::{CallError, Instance, LoadError, Module, Runtime};
pub use watch::Watcher;
