//! A caller's stream of bytes: over TCP, encrypted or not, or over the Unix socket.

use crate::downstream::connection::encrypted::{Encrypted, Written};
use crate::downstream::connection::peer;
use crate::runtime::unix_socket;
use crate::tenants::guard::Entrance;
use crate::upstream::client::keepalive;
use socket2::SockRef;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A caller's stream of bytes.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Through the port.
    Tcp(TcpStream),
    /// Through the port, encrypted.
    Tls(Box<Encrypted>),
    /// Through the file.
    Unix(unix_socket::Stream),
}

impl Stream {
    /// Through which it has come in; `port` is what the port is.
    pub(crate) fn entrance(&self, port: Entrance) -> Entrance {
        match self {
            Stream::Tcp(_) | Stream::Tls(_) => port,
            Stream::Unix(_) => Entrance::UnixSocket,
        }
    }

    /// Whether it speaks HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        match self {
            Stream::Tls(stream) => stream.is_http2(),
            Stream::Tcp(_) | Stream::Unix(_) => false,
        }
    }

    /// The connection that the kernel has, if it is one over TCP.
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Stream::Tcp(stream) => Some(stream),
            Stream::Tls(stream) => Some(stream.tcp()),
            Stream::Unix(_) => None,
        }
    }

    /// Has what is written sent at once: delayed acknowledgements and Nagle's algorithm together would cost each small
    /// event 40 ms.
    pub(crate) fn send_at_once(&self) {
        if let Some(stream) = self.tcp() {
            let _ = stream.set_nodelay(true);
        }
    }

    /// Has a caller on another machine noticed that is gone without a word, though nobody sends anything: what goes on
    /// for it is paid for. One on this machine cannot go without one.
    pub(crate) fn ask_whether_it_lives(&self) {
        if let Some(stream) = self.tcp() {
            // Without it such a caller is noticed when its answer cannot be sent.
            let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive());
        }
    }

    /// Whether the caller has sent something, or that it sends no more: then there are 0 bytes.
    pub(crate) fn poll_peek(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(stream) => stream.poll_peek(context, &mut ReadBuf::new(&mut [0])),
            Stream::Tls(stream) => stream.poll_peek(context),
            Stream::Unix(stream) => unix_socket::poll_peek(stream, context),
        }
    }

    /// Whether some process still holds the other end, if that can be told. One that has only closed its sending half
    /// still does.
    pub(crate) fn is_held(&self) -> Option<bool> {
        match self {
            Stream::Tcp(stream) => peer::is_held(stream),
            Stream::Tls(stream) => peer::is_held(stream.tcp()),
            Stream::Unix(stream) => Some(unix_socket::is_held(stream)),
        }
    }

    /// How much of what was written the caller has not read, if that can be told. Of a Unix socket nobody tells: whoever
    /// makes no room there for as long as the timeout counts as one that reads nothing.
    pub(crate) fn unread_bytes(&self) -> Option<u64> {
        match self {
            Stream::Tcp(stream) => peer::unread_bytes(stream),
            Stream::Tls(stream) => peer::unread_bytes(stream.tcp()),
            Stream::Unix(_) => None,
        }
    }

    /// What has become of what was just written, or of what had waited before it.
    pub(crate) fn written(&mut self, written: &Poll<io::Result<usize>>) -> Written {
        match self {
            Stream::Tls(stream) => stream.written(),
            Stream::Tcp(_) | Stream::Unix(_) => Written { moves: written.is_ready(), waits: written.is_pending() },
        }
    }

    /// Writes as much as there is room for.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_write(bytes),
            Stream::Tls(stream) => stream.try_write(bytes),
            Stream::Unix(stream) => stream.try_write(bytes),
        }
    }

    /// Ends one direction, or both, for whoever holds it.
    ///
    /// # Errors
    /// When it has ended already.
    pub(crate) fn shut(&mut self, how: Shutdown) -> io::Result<()> {
        if let Stream::Tls(stream) = self {
            stream.say_end();
        }
        self.socket().shutdown(how)
    }

    /// Has it reset when it is closed.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        self.socket().set_linger(Some(Duration::ZERO))
    }

    fn socket(&self) -> SockRef<'_> {
        match self {
            Stream::Tcp(stream) => SockRef::from(stream),
            Stream::Tls(stream) => SockRef::from(stream.tcp()),
            Stream::Unix(stream) => SockRef::from(stream),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, into),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_read(context, into),
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_write(context, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(context, pieces),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Tcp(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
            Stream::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_flush(context),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(context),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::io::Write;

    fn pair() -> (Stream, std::os::unix::net::UnixStream) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("set");
        (Stream::Unix(unix_socket::Stream::from_std(ours).expect("a stream")), theirs)
    }

    #[tokio::test]
    async fn who_sends_no_more_through_the_unix_socket_is_told_from_who_has_gone() {
        let (mut ours, mut theirs) = pair();
        assert_eq!(ours.is_held(), Some(true));
        theirs.write_all(b"a").expect("written");
        assert_eq!(poll_fn(|context| ours.poll_peek(context)).await.expect("a byte"), 1);
        assert_eq!(poll_fn(|context| ours.poll_peek(context)).await.expect("the same byte"), 1);
        theirs.shutdown(Shutdown::Write).expect("shut down");
        assert_eq!(ours.is_held(), Some(true), "half of it is open");
        drop(theirs);
        assert_eq!(ours.is_held(), Some(false));
    }

    #[tokio::test]
    async fn an_end_is_seen_when_it_comes() {
        let (mut ours, theirs) = pair();
        let peeked = poll_fn(|context| ours.poll_peek(context));
        tokio::pin!(peeked);
        tokio::select! {
            biased;
            _ = &mut peeked => panic!("there is nothing yet"),
            () = std::future::ready(()) => {}
        }
        theirs.shutdown(Shutdown::Write).expect("shut down");
        assert_eq!(peeked.await.expect("an end"), 0);
    }
}
