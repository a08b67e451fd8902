//! The Unix socket: made so that its owner alone ever reaches it, and removed at the end. Where there is none, its types
//! have no values, so that whoever handles one needs not know.

#[cfg(windows)]
mod nowhere;
#[cfg(unix)]
mod unix;

#[cfg(windows)]
pub(crate) use nowhere::{AsyncListener, Listener, Stream, bind, is_answered, is_held, is_one, poll_peek};
#[cfg(unix)]
pub(crate) use unix::{AsyncListener, Listener, Stream, bind, is_answered, is_held, is_one, poll_peek};

/// Whether this system has Unix sockets that Spillway can use.
pub(crate) const EXIST: bool = cfg!(unix);
