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

pub(crate) use error::{Bound, EnqueueError, OpenError, StoreError};
pub(crate) use job::{CancelOutcome, ClaimedJob, JobId, JobState, JobView, Lease, NewJob, StoredResponse};
pub(crate) use store::{ENQUEUE_DEADLINE, Spool, SpoolSettings, Survey, survey};
