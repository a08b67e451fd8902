//! What comes before the first request of an encrypted connection.

use crate::downstream::connection::encrypted::{Encrypted, Kernel};
use crate::runtime::complaint::Complaint;
use crate::runtime::tls::served::Served;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

/// Most handshakes under way at a worker: some megabytes of what callers send there. Another one takes the place of the
/// one that has lasted for longest, which is the most likely to be nobody's.
const HANDSHAKES_MAX: usize = 512;

/// The first byte of a handshake (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// What a caller hears that speaks HTTP without TLS. It has named no API yet in whose words to say more.
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: application/json\r\n\
    x-spillway-refusal: spillway_tls\r\n\
    content-length: 177\r\n\r\n\
    {\"error\":{\"message\":\"This Spillway speaks TLS, and was called without: say https:// in place of http:// in \
    the base URL.\",\"type\":\"invalid_request_error\",\"code\":\"spillway_tls\"}}\n";
/// For how long such a caller is listened to, so that it can read that, and how much of what it says is dropped.
const PLAIN_HTTP_TIMEOUT: Duration = Duration::from_secs(2);
const PLAIN_HTTP_BYTES_MAX: usize = 64 << 10;

/// A worker's handshakes, by the order in which they began.
#[derive(Debug, Default)]
pub(crate) struct Handshakes {
    began: Cell<u64>,
    under_way: RefCell<BTreeMap<u64, Rc<Notify>>>,
    complaint: RefCell<Complaint>,
}

/// A handshake's place among the others, until it is dropped.
struct Place<'a> {
    handshakes: &'a Handshakes,
    number: u64,
    is_taken: Rc<Notify>,
}

impl Handshakes {
    fn begin(&self) -> Place<'_> {
        let number = self.began.get();
        self.began.set(number + 1);
        let mut under_way = self.under_way.borrow_mut();
        if under_way.len() >= HANDSHAKES_MAX
            && let Some((_, longest)) = under_way.pop_first()
        {
            longest.notify_one();
        }
        let is_taken = Rc::<Notify>::default();
        under_way.insert(number, Rc::clone(&is_taken));
        Place { handshakes: self, number, is_taken }
    }

    /// Agrees with a caller on keys, within this time; `None` if that fails, and the connection is closed.
    pub(super) async fn agree(&self, tcp: TcpStream, tls: &Served, time: Duration) -> Option<Encrypted> {
        let place = self.begin();
        let agreed = tokio::select! {
            agreed = timeout(time, agree(tcp, tls)) => agreed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            () = place.is_taken.notified() => Err(io::Error::other("another handshake has taken its place")),
        };
        agreed.inspect_err(|error| self.tell(error)).ok().flatten()
    }

    /// Whoever connects and fails may do so many times a second.
    fn tell(&self, error: &io::Error) {
        if let Some(unsaid) = self.complaint.borrow_mut().is_due(std::time::Instant::now()) {
            tracing::info!(%error, unsaid, "a caller could not agree on TLS; does it know the certificate's authority?");
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.handshakes.under_way.borrow_mut().remove(&self.number);
    }
}

/// Agrees on keys with a caller that speaks TLS; `None` with one that leaves, or that does not.
async fn agree(tcp: TcpStream, tls: &Served) -> io::Result<Option<Encrypted>> {
    let mut first = [0];
    if tcp.peek(&mut first).await? == 0 {
        return Ok(None);
    }
    // The method of a request.
    if first[0] != HANDSHAKE_RECORD && first[0].is_ascii_uppercase() {
        refuse_plain(tcp).await;
        return Ok(None);
    }
    let tls = TlsAcceptor::from(Arc::clone(&tls.callers)).accept(Kernel::new(tcp)).await?;
    Ok(Some(Encrypted::new(tls)))
}

/// Tells who speaks no TLS that it should, and listens on for a moment: a connection that is closed while something
/// unread comes is reset, and the words with it.
async fn refuse_plain(mut tcp: TcpStream) {
    let until = Instant::now() + PLAIN_HTTP_TIMEOUT;
    if tcp.try_write(PLAIN_HTTP).is_err() {
        return;
    }
    // It may have closed it itself.
    let _ = socket2::SockRef::from(&tcp).shutdown(Shutdown::Write);
    let (mut dropped, mut piece) = (0, [0; 4 << 10]);
    while dropped < PLAIN_HTTP_BYTES_MAX
        && let Ok(Ok(read)) = timeout_at(until, tcp.read(&mut piece)).await
        && read > 0
    {
        dropped += read;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_without_tls_is_as_long_as_it_says() {
        let said = std::str::from_utf8(PLAIN_HTTP).expect("text");
        let (head, body) = said.split_once("\r\n\r\n").expect("a head");
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{} bytes: {head}", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{body}");
    }

    #[tokio::test]
    async fn a_handshake_too_many_takes_the_place_of_the_longest() {
        let handshakes = Handshakes::default();
        let mut places: Vec<_> = (0..HANDSHAKES_MAX).map(|_| handshakes.begin()).collect();
        places.push(handshakes.begin());
        places[0].is_taken.notified().await;
        assert_eq!(handshakes.under_way.borrow().len(), HANDSHAKES_MAX);
        drop(places);
        assert!(handshakes.under_way.borrow().is_empty());
    }
}
