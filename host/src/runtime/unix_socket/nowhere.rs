//! No Unix socket. Windows has some, but neither its languages' HTTP clients nor tokio use them.

use std::fs::Metadata;
use std::io;
use std::os::windows::io::{AsSocket, BorrowedSocket};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Listens for connections.
#[derive(Debug)]
pub(crate) enum Listener {}

impl Listener {
    /// The same socket once more.
    ///
    /// # Errors
    /// None: there is nothing to be asked.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        match *self {}
    }
}

/// The same, on a runtime.
#[derive(Debug)]
pub(crate) enum AsyncListener {}

impl AsyncListener {
    /// Listens on the caller's runtime.
    ///
    /// # Errors
    /// None: there is nothing to listen on.
    pub(crate) fn from_std(listener: Listener) -> io::Result<Self> {
        match listener {}
    }

    /// The next connection, and where it comes from.
    ///
    /// # Errors
    /// None: nobody comes.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, ())> {
        match *self {}
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) enum Stream {}

impl Stream {
    /// Writes as much as there is room for.
    ///
    /// # Errors
    /// None: there is nothing to write to.
    pub(crate) fn try_write(&self, _bytes: &[u8]) -> io::Result<usize> {
        match *self {}
    }
}

/// The file of a socket.
#[derive(Debug)]
pub(crate) enum SocketFile {}

/// Answers that there is no such thing here.
///
/// # Errors
/// Always.
pub(crate) fn bind(_path: &Path, _backlog: i32) -> Result<(Listener, SocketFile), String> {
    Err("this system has no Unix sockets that Spillway can use".to_owned())
}

/// Whether what was found is a socket's file: none is.
pub(crate) fn is_one(_found: &Metadata) -> bool {
    false
}

/// Whether a process answers there: none does.
pub(crate) fn is_answered(_path: &Path) -> bool {
    false
}

/// Whether the other end has sent something.
pub(crate) fn poll_peek(stream: &Stream, _context: &mut Context<'_>) -> Poll<io::Result<usize>> {
    match *stream {}
}

/// Whether some process still holds the other end.
pub(crate) fn is_held(stream: &Stream) -> bool {
    match *stream {}
}

impl AsSocket for Stream {
    fn as_socket(&self) -> BorrowedSocket<'_> {
        match *self {}
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match *self {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}
