//! What the kernel knows of a caller that TCP alone does not tell: whether some process still holds the other end of a
//! connection that sends no more, and how much of what we have sent has not been read.
//!
//! Where callers are on this machine, the other end is a socket of the same kernel, and Linux tells of it by
//! sock_diag(7) within microseconds. Where nobody tells, the answer is `None`. A caller on another machine, or in
//! another container, has no socket here: once it sends no more, it is taken for gone, and of what it has not read that
//! is counted which has not reached it.

use tokio::net::TcpStream;

/// What is said of a socket.
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nobody says anything here"))]
enum Look {
    /// It is there.
    Socket {
        /// What was received and not read.
        unread_bytes: u32,
        /// What was written and not acknowledged.
        unsent_bytes: u32,
        /// The file that holds it; 0 when nobody does.
        inode: u32,
    },
    /// There is none.
    None,
}

/// Whether some process holds the other end. One that has only closed its sending half still does.
pub(super) fn is_held(stream: &TcpStream) -> Option<bool> {
    let (ours, theirs) = (stream.local_addr().ok()?, stream.peer_addr().ok()?);
    match system::look(theirs, ours)? {
        Look::Socket { inode, .. } => Some(inode != 0),
        Look::None => Some(false),
    }
}

/// How many bytes that were written to a connection its caller has not read, in whichever kernel buffer they lie.
pub(super) fn unread_bytes(stream: &TcpStream) -> Option<u64> {
    let (ours, theirs) = (stream.local_addr().ok()?, stream.peer_addr().ok()?);
    let Look::Socket { unsent_bytes, .. } = system::look(ours, theirs)? else { return None };
    let unread_bytes = match system::look(theirs, ours)? {
        Look::Socket { unread_bytes, .. } => unread_bytes,
        Look::None => 0,
    };
    Some(u64::from(unsent_bytes) + u64::from(unread_bytes))
}

#[cfg(target_os = "linux")]
mod system {
    use super::Look;
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};
    use std::net::{IpAddr, SocketAddr};

    /// The sizes and numbers of linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h and linux/socket.h.
    const HEADER_BYTES: usize = 16;
    const REQUEST_BYTES: u32 = 16 + 56;
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const NLMSG_ERROR: u16 = 2;
    const IPPROTO_TCP: u8 = 6;
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    const ENOENT: i32 = 2;
    /// More than an answer about one socket without extensions.
    const ANSWER_BYTES_MAX: usize = 512;

    /// Asks for the socket at `local` that is connected with `remote`.
    pub(super) fn look(local: SocketAddr, remote: SocketAddr) -> Option<Look> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let asked = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG)).ok()?;
        send(&asked, &question(local, remote), SendFlags::empty()).ok()?;
        // The kernel answers within the call that asks.
        let mut answer = [0; ANSWER_BYTES_MAX];
        let (length, _) = recv(&asked, &mut answer, RecvFlags::DONTWAIT).ok()?;
        read(answer.get(..length)?)
    }

    fn question(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
        let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
        let address = |address: IpAddr| match address {
            IpAddr::V4(address) => [&address.octets()[..], &[0; 12]].concat(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let parts: [&[u8]; 11] = [
            // struct nlmsghdr: length, type, flags, sequence, port.
            &REQUEST_BYTES.to_ne_bytes(),
            &SOCK_DIAG_BY_FAMILY.to_ne_bytes(),
            &NLM_F_REQUEST.to_ne_bytes(),
            &[0; 8],
            // struct inet_diag_req_v2: family, protocol, extensions, padding, states.
            &[family, IPPROTO_TCP, 0, 0],
            &u32::MAX.to_ne_bytes(),
            // struct inet_diag_sockid: ports, addresses, interface, and no cookie.
            &[local.port().to_be_bytes(), remote.port().to_be_bytes()].concat(),
            &address(local.ip()),
            &address(remote.ip()),
            &[0; 4],
            &[u8::MAX; 8],
        ];
        parts.concat()
    }

    /// Reads struct nlmsghdr and struct inet_diag_msg behind it, or struct nlmsgerr.
    fn read(answer: &[u8]) -> Option<Look> {
        let body = answer.get(HEADER_BYTES..)?;
        let u32_at = |at: usize| Some(u32::from_ne_bytes(body.get(at..at + 4)?.try_into().ok()?));
        match u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?) {
            SOCK_DIAG_BY_FAMILY => {
                Some(Look::Socket { unread_bytes: u32_at(56)?, unsent_bytes: u32_at(60)?, inode: u32_at(68)? })
            }
            NLMSG_ERROR if u32_at(0)? == ENOENT.wrapping_neg().cast_unsigned() => Some(Look::None),
            _ => None,
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::Look;
    use std::net::SocketAddr;

    pub(super) fn look(_local: SocketAddr, _remote: SocketAddr) -> Option<Look> {
        None
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::net::Shutdown;
    use std::time::Duration;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    async fn pair(address: &str) -> (TcpStream, std::net::TcpStream) {
        let listener = TcpListener::bind(address).await.expect("a listener");
        let theirs = std::net::TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        (listener.accept().await.expect("accepted").0, theirs)
    }

    #[tokio::test]
    async fn who_sends_no_more_is_told_from_who_has_gone() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (mut ours, theirs) = pair(address).await;
            assert_eq!(is_held(&ours), Some(true), "{address}");
            theirs.shutdown(Shutdown::Write).expect("shut down");
            assert_eq!(ours.read(&mut [0]).await.expect("an end"), 0, "{address}");
            assert_eq!(is_held(&ours), Some(true), "{address}: half of it is open");
            drop(theirs);
            assert_eq!(is_held(&ours), Some(false), "{address}");
        }
    }

    #[tokio::test]
    async fn what_is_not_read_is_counted_wherever_it_lies() {
        let (ours, mut theirs) = pair("127.0.0.1:0").await;
        let mut written = 0;
        while let Ok(bytes) = ours.try_write(&[7; 64 << 10]) {
            written += bytes as u64;
            if written > 64 << 20 {
                break;
            }
        }
        // What has arrived counts on both ends until its receipt is acknowledged, which may take a moment.
        let comes_to = async |bytes: u64| {
            while unread_bytes(&ours) != Some(bytes) {
                tokio::task::yield_now().await;
            }
        };
        let deadline = Duration::from_secs(20);
        timeout(deadline, comes_to(written)).await.expect("all that was written");
        std::io::Read::read_exact(&mut theirs, &mut [0; 1_000]).expect("read");
        timeout(deadline, comes_to(written - 1_000)).await.expect("less what was read");
    }
}
