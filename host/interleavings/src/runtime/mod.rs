//! What the included files find in place of the host's own.

pub mod clock;
pub mod sync;
