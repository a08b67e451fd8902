//! The Unix socket, where there is one.

use crate::runtime::file_identity::FileId;
use rustix::fs::{Mode, fchmod};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;

/// Listens for connections.
pub(crate) type Listener = std::os::unix::net::UnixListener;
/// The same, on a runtime.
pub(crate) type AsyncListener = tokio::net::UnixListener;
/// A connection.
pub(crate) type Stream = tokio::net::UnixStream;

/// Its owner alone may connect.
const MODE: u32 = 0o600;

/// The socket's file, which is removed when this is dropped, if it is still the one that was made.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: FileId,
}

/// Listens on a file. One that a process has left which is gone is replaced.
///
/// # Errors
/// Why that is not possible, in words for the operator.
pub(crate) fn bind(path: &Path, backlog: i32) -> Result<(Listener, SocketFile), String> {
    make_room(path)?;
    listen(path, backlog).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "its folder does not exist".to_owned(),
        io::ErrorKind::AddrInUse => "another process has just made a file of that name".to_owned(),
        _ => error.to_string(),
    })
}

fn listen(path: &Path, backlog: i32) -> io::Result<(Listener, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // Linux makes the file with the mode that the socket has; elsewhere that is no error that matters.
    let _ = fchmod(&socket, Mode::RUSR | Mode::WUSR);
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile { identity: identity(path)?, path: path.to_owned() };
    // Until it listens, nobody can connect, whatever the mode.
    if fs::symlink_metadata(path)?.permissions().mode() & 0o777 != MODE {
        fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    }
    socket.listen(backlog)?;
    Ok((socket.into(), file))
}

/// Removes the file of a process that is gone: nobody answers there.
fn make_room(path: &Path) -> Result<(), String> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if !is_one(&metadata) {
        return Err("there is a file of that name which is no socket; it is left alone".to_owned());
    }
    let connect = || -> io::Result<()> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // One that has no room for another caller is alive, and not waited for.
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    match connect() {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| format!("what a process has left there cannot be removed: {error}"))
        }
        Ok(()) => {
            Err("a process answers there; is another Spillway running? Stop it, or choose another file".to_owned())
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err("a process listens there and is busy; is another Spillway running?".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// That of the file itself: a link in its place is another.
fn identity(path: &Path) -> io::Result<FileId> {
    fs::symlink_metadata(path).map(|found| FileId::of_metadata(&found))
}

/// Whether what was found is a socket's file.
pub(crate) fn is_one(found: &fs::Metadata) -> bool {
    found.file_type().is_socket()
}

/// Whether a process answers there.
pub(crate) fn is_answered(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

/// Whether the other end has sent something, or that it sends no more: then there are 0 bytes.
pub(crate) fn poll_peek(stream: &Stream, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut byte = [0];
    loop {
        ready!(stream.poll_read_ready(context))?;
        let peek = || Ok(recv(stream, &mut byte, RecvFlags::PEEK).map(|(length, _)| length)?);
        match stream.try_io(Interest::READABLE, peek) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            peeked => return Poll::Ready(peeked),
        }
    }
}

/// Whether some process still holds the other end. One that has only closed its sending half still does.
pub(crate) fn is_held(stream: &Stream) -> bool {
    // Nothing is sent, and the kernel says whether it could be.
    send(stream, &[], SendFlags::empty()).is_ok()
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn its_file_belongs_to_its_owner_alone_and_goes_with_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("spillway.sock");
        let (listener, file) = bind(&path, 1).expect("it listens");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o7777, MODE);
        UnixStream::connect(&path).expect("connected");
        drop((listener, file));
        assert!(!path.exists());
    }

    #[test]
    fn what_a_dead_process_has_left_is_replaced_and_what_lives_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("spillway.sock");
        drop(Listener::bind(&path).expect("left behind"));
        let (_listener, file) = bind(&path, 1).expect("replaced");
        assert!(bind(&path, 1).is_err_and(|why| why.contains("a process answers there")));
        // Whoever has taken its place keeps it.
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "something else").expect("written");
        drop(file);
        assert!(bind(&path, 1).is_err_and(|why| why.contains("no socket")));
        assert_eq!(fs::read_to_string(&path).expect("left alone"), "something else");
        let missing = folder.path().join("none").join("spillway.sock");
        assert!(bind(&missing, 1).is_err_and(|why| why.contains("folder")));
    }
}
