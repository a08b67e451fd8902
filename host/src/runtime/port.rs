//! Listening on a port, also for several workers.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

/// Listens on an address that nobody else listens on. `backlog` connections may wait to be accepted.
///
/// # Errors
/// When it is taken, or not ours to take.
pub(crate) fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    open(address, backlog, Sharing::Alone)
}

/// Whether an address can be listened on at this moment: it is taken for that moment, and nobody can come.
///
/// # Errors
/// When it is taken, or not ours to take.
pub(crate) fn try_out(address: SocketAddr) -> io::Result<()> {
    bound(address, Sharing::Alone).map(drop)
}

/// Why the system lets nobody have an address, where it says no more than that.
pub(crate) const WHY_NOT_PERMITTED: &str = if cfg!(windows) {
    "another program may have it for itself alone, or Windows keeps it back (netsh interface ipv4 show \
     excludedportrange tcp)"
} else {
    "ports below 1024 need privileges"
};

/// The command by which a user finds out who listens on a port.
pub(crate) fn who_listens(port: u16) -> String {
    if cfg!(windows) {
        format!("netstat -ano -p TCP | findstr :{port}")
    } else if cfg!(target_os = "linux") {
        format!("ss -ltnp 'sport = :{port}'")
    } else {
        format!("lsof -nP -iTCP:{port} -sTCP:LISTEN")
    }
}

/// Where this machine's own processes reach an address that is listened on: a wildcard is none to connect to.
pub(crate) fn local(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Listens on an address for so many workers, each with a listener of its own; with port 0 all have the one that the
/// system has chosen. Linux gives each a queue of its own, which it fills evenly (SO_REUSEPORT). Elsewhere that option
/// means something else or does not exist, and all of them take from one queue.
///
/// # Errors
/// When it is taken, or not ours to take.
pub(crate) fn listen_for(workers: usize, address: SocketAddr, backlog: i32) -> io::Result<Vec<TcpListener>> {
    if cfg!(target_os = "linux") { queues(workers, address, backlog) } else { one_queue(workers, address, backlog) }
}

/// Listens once more where somebody listens, and takes from the same queue.
///
/// # Errors
/// When the system refuses.
pub(crate) fn share(listener: &TcpListener) -> io::Result<TcpListener> {
    let other = listener.try_clone()?;
    // Unix has the two in common whether they wait; it does no harm to say so again.
    other.set_nonblocking(true)?;
    Ok(other)
}

/// A queue for each of them.
fn queues(workers: usize, mut address: SocketAddr, backlog: i32) -> io::Result<Vec<TcpListener>> {
    // With SO_REUSEPORT a second Spillway would share the port in silence: it is first tried without.
    drop(TcpListener::bind(address)?);
    let mut listeners = Vec::with_capacity(workers);
    for _ in 0..workers {
        let listener = open(address, backlog, Sharing::WithWorkers)?;
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// One queue for all of them.
fn one_queue(workers: usize, address: SocketAddr, backlog: i32) -> io::Result<Vec<TcpListener>> {
    let listener = open(address, backlog, Sharing::Alone)?;
    let mut listeners = (1..workers).map(|_| share(&listener)).collect::<io::Result<Vec<_>>>()?;
    listeners.push(listener);
    Ok(listeners)
}

/// Who else listens on an address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    WithWorkers,
}

fn open(address: SocketAddr, backlog: i32, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = bound(address, sharing)?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

fn bound(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A port whose last connections have just ended can be used again. Windows allows that anyway, and means another
    // thing by the option: to take a port from whoever has it.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    #[cfg(target_os = "linux")]
    socket.set_reuse_port(sharing != Sharing::Alone)?;
    #[cfg(not(target_os = "linux"))]
    let _ = sharing;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpStream};
    use std::time::{Duration, Instant};

    /// How long a test waits before it fails. Only a failing one waits as long.
    const DEADLINE: Duration = Duration::from_secs(20);
    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn whoever_comes_is_accepted_by_one_of_the_workers() {
        for listeners in [listen_for(3, ANY, 8).expect("a port"), one_queue(3, ANY, 8).expect("a port")] {
            let address = listeners[0].local_addr().expect("an address");
            assert!(listeners.iter().all(|one| one.local_addr().expect("an address") == address));
            assert_eq!(listeners.len(), 3);
            let _caller = TcpStream::connect(address).expect("somebody listens");
            let accepted = || listeners.iter().filter(|one| one.accept().is_ok()).count();
            // What has connected may reach its queue a moment later.
            let give_up_at = Instant::now() + DEADLINE;
            let mut looks = std::iter::repeat_with(accepted).take_while(|_| Instant::now() < give_up_at);
            assert_eq!(looks.find(|count| *count > 0), Some(1));
        }
    }

    #[test]
    fn a_port_that_is_taken_is_not_shared_in_silence() {
        let taken = listen_for(2, ANY, 8).expect("a port");
        let address = taken[0].local_addr().expect("an address");
        for refused in [listen(address, 8).map(drop), listen_for(2, address, 8).map(drop)] {
            assert_eq!(refused.expect_err("it is taken").kind(), io::ErrorKind::AddrInUse);
        }
    }
}
