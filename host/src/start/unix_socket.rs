//! The Unix socket: made so that its owner alone ever reaches it, and removed at the end.

use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Its owner alone may connect.
const MODE: u32 = 0o600;

/// The socket's file, which is removed when this is dropped, if it is still the one that was made.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

/// Listens on a file. One that a process has left which is gone is replaced.
///
/// # Errors
/// Why that is not possible, in words for the operator.
pub(super) fn bind(path: &Path, backlog: i32) -> Result<(UnixListener, SocketFile), String> {
    make_room(path)?;
    listen(path, backlog).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "its folder does not exist".to_owned(),
        io::ErrorKind::AddrInUse => "another process has just made a file of that name".to_owned(),
        _ => error.to_string(),
    })
}

fn listen(path: &Path, backlog: i32) -> io::Result<(UnixListener, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // Linux makes the file with the mode that the socket has; elsewhere that is no error that matters.
    let _ = fchmod(&socket, Mode::from_raw_mode(MODE));
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
    if !metadata.file_type().is_socket() {
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

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
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
        drop(UnixListener::bind(&path).expect("left behind"));
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
