//! From the name of a host to a connection: every address gets its share of the time (RFC 8305), and what has failed is
//! tried last for a while.

use super::trouble::Trouble;
use crate::runtime::clock::Clock;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use spillway_resilience::Timestamp;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{sleep, timeout};

/// How long an address has before the next one is tried beside it (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;
/// How long an address that has failed, or was silent while another answered, is tried last.
const FAILED_FOR: Duration = Duration::from_secs(60);
/// Addresses of which it is known that they have failed. Beyond that it is forgotten of all.
const FAILED_MAX: usize = 64;

/// How long a lookup may take before addresses that were found earlier are used (RFC 8767, section 5).
const LOOKUP_PATIENCE: Duration = Duration::from_millis(1_800);
/// How long addresses are used whose name does not resolve any more, as when a name server is out (RFC 8767). The
/// system does not tell that from a name that is gone, so it is no longer than that.
const FOUND_FOR: Duration = Duration::from_secs(60 * 60);

/// A connection on which nothing was received for so long is asked whether it still exists, and again every few
/// seconds. Linux goes by `ACKNOWLEDGED_WITHIN` as to how often.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMES: u32 = 3;
/// How long what was sent may stay unacknowledged before its connection counts as lost (RFC 5482). The kernel counts
/// the time in which a peer has no room for more as well, and one that is slow to read an upload has not gone. Other
/// systems go by their own count of what was sent again.
#[cfg(target_os = "linux")]
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(60);

/// What is known of the addresses of a host.
#[derive(Debug)]
pub(super) struct Addresses {
    host: String,
    port: u16,
    clock: Clock,
    found: RefCell<Option<(Vec<SocketAddr>, Timestamp)>>,
    failed: RefCell<HashMap<SocketAddr, Timestamp>>,
}

impl Addresses {
    /// Of a host of which nothing is known yet.
    pub(super) fn of(host: &str, port: u16, clock: Clock) -> Addresses {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Addresses { host, port, clock, found: RefCell::default(), failed: RefCell::default() }
    }

    /// A connection to the host.
    ///
    /// # Errors
    /// When its name does not resolve, or none of its addresses can be connected to.
    pub(super) async fn connect(&self) -> Result<TcpStream, Trouble> {
        let now = self.clock.now();
        let addresses = ordered(self.resolve(now).await?, |address| {
            self.failed.borrow().get(address).is_some_and(|until| *until > now)
        });
        let (connected, failed) = race(&addresses).await;
        self.remember(&failed);
        let stream = connected.map_err(|error| Trouble::connecting(&self.to_string(), error))?;
        // A system that does not know one of these does without.
        let _ = prepare(&stream);
        Ok(stream)
    }

    /// One address of the host, for a proxy that takes only one: of version 4 if there is one, which every proxy can
    /// reach.
    ///
    /// # Errors
    /// When the name does not resolve.
    pub(super) async fn first(&self) -> Result<SocketAddr, Trouble> {
        let addresses = self.resolve(self.clock.now()).await?;
        let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
        first.copied().ok_or_else(|| Trouble::name(&self.host, io::Error::other("it has no address")))
    }

    async fn resolve(&self, now: Timestamp) -> Result<Vec<SocketAddr>, Trouble> {
        let found = self.found.borrow().clone().filter(|(_, at)| now.saturating_since(*at) < FOUND_FOR);
        let lookup = lookup_host((&*self.host, self.port));
        let looked_up = match found {
            None => lookup.await,
            Some(_) => timeout(LOOKUP_PATIENCE, lookup).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        };
        let resolved = looked_up.and_then(|addresses| {
            let addresses: Vec<_> = addresses.take(ADDRESSES_MAX).collect();
            if addresses.is_empty() { Err(io::Error::other("it has no address")) } else { Ok(addresses) }
        });
        match (resolved, found) {
            (Ok(addresses), _) => {
                *self.found.borrow_mut() = Some((addresses.clone(), now));
                Ok(addresses)
            }
            (Err(error), Some((addresses, _))) => {
                tracing::warn!(host = self.host, %error, "the name did not resolve; the addresses that it had are used");
                Ok(addresses)
            }
            (Err(error), None) => Err(Trouble::name(&self.host, error)),
        }
    }

    fn remember(&self, failed: &[SocketAddr]) {
        let mut known = self.failed.borrow_mut();
        if known.len() + failed.len() > FAILED_MAX {
            known.clear();
        }
        let until = self.clock.now().saturating_add(FAILED_FOR);
        known.extend(failed.iter().map(|address| (*address, until)));
    }
}

impl std::fmt::Display for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The order in which addresses are tried: as the system gave them, by turns of both families, and last those that have
/// failed.
fn ordered(addresses: Vec<SocketAddr>, has_failed: impl Fn(&SocketAddr) -> bool) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let longer = first.len().max(second.len());
    let turns = (0..longer).flat_map(|turn| [first.get(turn), second.get(turn)]).flatten().copied();
    let (failed, good): (Vec<_>, Vec<_>) = turns.partition(has_failed);
    [good, failed].concat()
}

/// Connects to the first address that answers. Each one is tried a moment after the one before it, or at once when that
/// has failed, and goes on until one has won. Answers also which have failed, or were silent for longer than the
/// winner.
async fn race(addresses: &[SocketAddr]) -> (io::Result<TcpStream>, Vec<SocketAddr>) {
    let mut waiting = addresses.iter().copied();
    let mut running = FuturesUnordered::new();
    let (mut tried, mut failed) = (Vec::new(), Vec::new());
    let mut telling: Option<io::Error> = None;
    loop {
        let next = waiting.next();
        if let Some(address) = next {
            tried.push(address);
            running.push(async move { (address, TcpStream::connect(address).await) });
        }
        let more = waiting.len() > 0;
        tokio::select! {
            ended = running.next() => match ended {
                Some((address, Ok(stream))) => {
                    // Those before it had longer.
                    let before = tried.into_iter().take_while(|tried| *tried != address);
                    let silent: Vec<_> = before.filter(|tried| !failed.contains(tried)).collect();
                    return (Ok(stream), [failed, silent].concat());
                }
                Some((address, Err(why))) => {
                    failed.push(address);
                    if telling.as_ref().is_none_or(|told| tells(&why) >= tells(told)) {
                        telling = Some(why);
                    }
                }
                None => return (Err(telling.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into())), failed),
            },
            () = sleep(ATTEMPT_DELAY), if more => {}
        }
    }
}

/// How much the failure of one address tells, where others have failed in other ways. A machine without version 6 of
/// the protocol has no address of its own to call such addresses from, which tells nothing of those of version 4.
fn tells(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => 0,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => 1,
        io::ErrorKind::TimedOut => 2,
        io::ErrorKind::ConnectionRefused => 3,
        _ => 4,
    }
}

/// When a connection on which nothing is received is asked whether it still exists.
pub(crate) fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY).with_retries(KEEPALIVE_TIMES)
}

/// Small writes leave at once, and a peer that is gone is noticed though nobody sends anything.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive())?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(ACKNOWLEDGED_WITHIN))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::shortage::Shortage;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Instant;
    use tokio::net::{TcpListener, TcpSocket};

    fn v4(last: u8) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(192, 0, 2, last), 443))
    }

    fn v6(last: u16) -> SocketAddr {
        SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last), 443))
    }

    #[test]
    fn families_take_turns_and_what_has_failed_comes_last() {
        let all = || vec![v6(1), v6(2), v4(1), v4(2), v4(3)];
        assert_eq!(ordered(all(), |_| false), [v6(1), v4(1), v6(2), v4(2), v4(3)]);
        assert_eq!(ordered(all(), SocketAddr::is_ipv6), [v4(1), v4(2), v4(3), v6(1), v6(2)]);
        assert_eq!(ordered(vec![v4(2), v4(1)], |address| *address == v4(2)), [v4(1), v4(2)]);
        assert_eq!(ordered(vec![], |_| false), []);
    }

    /// An address that says nothing: its queue of connections is full, so that the system drops those that come.
    async fn silent(ip: [u8; 4], port: u16) -> (TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from((ip, port))).expect("a free port");
        let listener = socket.listen(0).expect("it listens");
        let address = listener.local_addr().expect("it has an address");
        let mut filling = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
            filling.push(stream.expect("its queue has room"));
        }
        (listener, filling)
    }

    #[tokio::test]
    async fn a_silent_address_gets_its_share_and_the_next_one_is_tried_beside_it() {
        let (dead, _filling) = silent([127, 0, 0, 1], 0).await;
        let dead = dead.local_addr().expect("it has an address");
        let live = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let live = live.local_addr().expect("it has an address");
        let began = Instant::now();
        let (connected, failed) = race(&[dead, live]).await;
        assert_eq!(connected.expect("the second answers").peer_addr().expect("it is connected"), live);
        assert_eq!(failed, [dead]);
        assert!(began.elapsed() >= ATTEMPT_DELAY);
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_followed_at_once() {
        let refusing = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("an address");
        let live = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = live.local_addr().expect("it has an address");
        let began = Instant::now();
        let (connected, failed) = race(&[refusing, address]).await;
        assert!(connected.is_ok());
        assert_eq!(failed, [refusing]);
        assert!(began.elapsed() < ATTEMPT_DELAY);
        let (connected, failed) = race(&[refusing]).await;
        assert_eq!(connected.expect_err("nobody is there").kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(failed, [refusing]);
    }

    #[test]
    fn of_several_failures_the_most_telling_is_told() {
        let of = |kind: io::ErrorKind| tells(&kind.into());
        let (no_version_6, unreachable) = (of(io::ErrorKind::AddrNotAvailable), of(io::ErrorKind::NetworkUnreachable));
        let (timed_out, refused) = (of(io::ErrorKind::TimedOut), of(io::ErrorKind::ConnectionRefused));
        let no_descriptors = tells(&Shortage::no_descriptors());
        assert!(
            no_version_6 < unreachable && unreachable < timed_out && timed_out < refused && refused < no_descriptors
        );
    }

    #[tokio::test]
    async fn a_connection_is_asked_whether_it_lives_and_its_silence_is_bounded() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it has an address").port();
        let stream = Addresses::of("localhost", port, Clock::start()).connect().await.expect("it is there");
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().expect("it can be asked") && stream.nodelay().expect("it can be asked"));
        #[cfg(unix)]
        assert_eq!(socket.tcp_keepalive_time().expect("it can be asked"), KEEPALIVE_AFTER);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().expect("it can be asked"), Some(ACKNOWLEDGED_WITHIN));
    }

    #[tokio::test]
    async fn addresses_that_were_found_serve_on_when_their_name_resolves_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let addresses = Addresses::of("no-such-name.invalid", address.port(), Clock::start());
        let trouble = addresses.connect().await.expect_err("it does not resolve");
        assert_eq!(trouble.fault, spillway_sdk::Fault::Dns);
        *addresses.found.borrow_mut() = Some((vec![address], addresses.clock.now()));
        assert!(addresses.connect().await.is_ok());
    }
}
