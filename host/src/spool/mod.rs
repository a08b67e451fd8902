//! The durable spool: requests that wait on disk until their upstream can serve them.
//!
//! What [`Spool::enqueue`] has returned for is on disk and synced, and ends in a visible terminal
//! state, whatever happens to the process. Delivery is at least once: a process that dies while it
//! runs a job may run it again. `store` is the only module that knows SQLite, `seal` the only one
//! that knows the cipher; everything written is sealed first.

mod codec;
mod error;
mod job;
mod seal;
mod store;

pub use error::{Bound, EnqueueError, NoRoom, OpenError, StoreError};
pub use job::{
    CancelOutcome, ClaimedJob, Counts, JobId, JobState, JobView, Lease, NewJob, ParseJobIdError, StoredResponse,
};
pub use seal::{KEY_BYTES, Sealer};
pub use store::{CRASHES_MAX, ENQUEUE_DEADLINE, FirstOpening, GROUP_MAX, Spool, SpoolSettings};
