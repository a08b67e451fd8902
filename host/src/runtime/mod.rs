//! What the machine gives: time, locks, counts, files that are written whole, a terminal, and what it can run out of.

pub(crate) mod boot;
pub mod causes;
pub(crate) mod child;
pub mod clock;
pub(crate) mod complaint;
pub(crate) mod descriptors;
pub(crate) mod durable_file;
pub(crate) mod file_identity;
pub(crate) mod fingerprint;
pub(crate) mod free_space;
#[expect(unreachable_pub, reason = "host/interleavings includes it, and its models see what is public")]
pub(crate) mod gauge;
pub(crate) mod heartbeat;
pub(crate) mod open;
pub(crate) mod owner;
pub(crate) mod permission;
pub(crate) mod port;
pub(crate) mod private;
pub(crate) mod screen;
pub(crate) mod shortage;
pub(crate) mod signals;
pub(crate) mod size;
pub(crate) mod sync;
pub(crate) mod thread_time;
pub(crate) mod tls;
pub(crate) mod unix_socket;
pub(crate) mod upload;
