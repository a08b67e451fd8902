//! What the machine gives: time, locks, counts, files that are written whole, a terminal, and what it can run out of.

pub mod causes;
pub mod clock;
pub(crate) mod durable_file;
pub(crate) mod fingerprint;
#[expect(unreachable_pub, reason = "host/interleavings includes it, and its models see what is public")]
pub(crate) mod gauge;
pub(crate) mod heartbeat;
pub(crate) mod screen;
pub(crate) mod shortage;
pub(crate) mod size;
pub(crate) mod sync;
pub(crate) mod upload;
