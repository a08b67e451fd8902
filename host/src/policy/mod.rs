//! Policies: WebAssembly modules that judge attempts, and the built-in policy that judges where they do not.
//!
//! A file's way in: `watch` notices it, `provenance` says whether it may serve, `artifact`
//! checks it and makes it a component, `wasm` compiles it and
//! tries it out, `registry` swaps it in. A call's way: `judge`, one per worker, asks the module that
//! serves, and beside it a candidate, if `shadow` has one to compare. `inspect` and `difference` say in words what a
//! file is, and in what two answers differ.

mod artifact;
mod difference;
mod health;
pub(crate) mod inspect;
mod judge;
mod limits;
pub(crate) mod promotion;
mod provenance;
mod record;
mod registry;
mod settings;
mod shadow;
mod status;
mod wasm;
mod watch;

pub use artifact::Sha256Sum;
pub(crate) use artifact::{CONTRACT, CONTRACT_VERSION};
pub(crate) use difference::{change_of, in_words};
pub use judge::Judge;
pub(crate) use judge::{By, Judged};
pub use limits::Limits;
pub(crate) use provenance::SIGNATURE_BYTES;
pub(crate) use provenance::{PublicKey, Trust};
pub use record::Record;
pub use registry::{Registry, Role, Slot};
pub(crate) use settings::{Followed, PolicySettings};
pub(crate) use status::{Comparison, Example, PolicyStatus, ShadowStatus};
pub(crate) use wasm::CallError;
pub use wasm::{Instance, LoadError, Module, Runtime};
pub(crate) use watch::{Bell, watch_folder};
pub(crate) use watch::{PREVIOUS_SUFFIX, ReadError, SHADOW_SUFFIX, place_of, read, signature_of};
