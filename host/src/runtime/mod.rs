//! What the machine gives: time, locks, counts, files that are written whole, and what it can run out of.

pub mod causes;
pub mod clock;
pub(crate) mod durable_file;
pub mod gauge;
pub mod heartbeat;
pub mod shortage;
pub mod size;
pub mod sync;
pub mod upload;
