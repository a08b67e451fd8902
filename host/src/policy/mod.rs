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
pub mod inspect;
mod judge;
mod limits;
pub mod promotion;
mod provenance;
mod record;
mod registry;
mod settings;
mod shadow;
mod status;
mod wasm;
mod watch;

pub use artifact::{ArtifactError, Sha256Sum};
pub(crate) use artifact::{CONTRACT, CONTRACT_VERSION};
pub use difference::{change_of, in_words};
pub use judge::{By, Judge, Judged};
pub use limits::Limits;
pub(crate) use provenance::SIGNATURE_BYTES;
pub use provenance::{PublicKey, Trust};
pub use record::Record;
pub use registry::{Registry, Role, Slot};
pub use settings::{Followed, PolicySettings};
pub use status::PolicyStatus;
pub(crate) use status::{Comparison, Example, ShadowStatus};
pub use wasm::{CallError, Instance, LoadError, Module, Runtime};
pub use watch::{Bell, watch_folder};
pub(crate) use watch::{PREVIOUS_SUFFIX, ReadError, SHADOW_SUFFIX, Stamp, place_of, read, signature_of};
