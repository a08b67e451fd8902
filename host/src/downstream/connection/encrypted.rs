//! A caller's stream of bytes behind TLS.
//!
//! What the kernel shows of such a connection are records: whether a caller sends no more stands in one of them, and
//! what was written may lie encrypted before a kernel that has no room.

use crate::runtime::tls::served::H2;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What has become of bytes that were to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// Whether the kernel has taken some.
    pub moves: bool,
    /// Whether some wait for it to have room.
    pub waits: bool,
}

/// The connection below TLS. What the kernel takes is seen only here: above, TLS takes some kilobytes at once.
#[derive(Debug)]
pub(crate) struct Kernel {
    tcp: TcpStream,
    written: Written,
}

impl Kernel {
    /// A connection that has just begun.
    pub(crate) fn new(tcp: TcpStream) -> Kernel {
        Kernel { tcp, written: Written::default() }
    }

    fn note(&mut self, written: &Poll<io::Result<usize>>) {
        self.written = Written { moves: self.written.moves || written.is_ready(), waits: written.is_pending() };
    }
}

impl AsyncRead for Kernel {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, into)
    }
}

impl AsyncWrite for Kernel {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(context, bytes);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(context, pieces);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

/// A caller's connection whose handshake is done.
#[derive(Debug)]
pub(crate) struct Encrypted {
    tls: TlsStream<Kernel>,
    /// What was read so as to see whether there is more: the first byte of what comes next.
    ahead: Option<u8>,
}

impl Encrypted {
    /// A connection whose handshake is done.
    pub(crate) fn new(tls: TlsStream<Kernel>) -> Encrypted {
        Encrypted { tls, ahead: None }
    }

    /// The connection that the kernel has.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tls.get_ref().0.tcp
    }

    /// Whether caller and Spillway have agreed on HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        self.tls.get_ref().1.alpn_protocol() == Some(H2)
    }

    /// What has become of what was written since this was asked last.
    pub(crate) fn written(&mut self) -> Written {
        let kernel = self.tls.get_mut().0;
        Written { moves: std::mem::take(&mut kernel.written.moves), ..kernel.written }
    }

    /// Whether the caller has sent something, or that it sends no more: then there are 0 bytes.
    pub(crate) fn poll_peek(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.ahead.is_none() {
            let mut byte = [0];
            let mut into = ReadBuf::new(&mut byte);
            ready!(Pin::new(&mut self.tls).poll_read(context, &mut into))?;
            self.ahead = into.filled().first().copied();
        }
        Poll::Ready(Ok(usize::from(self.ahead.is_some())))
    }

    /// Writes as much as there is room for.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(written) = Pin::new(&mut self.tls).poll_write(&mut context, bytes) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let _ = Pin::new(&mut self.tls).poll_flush(&mut context);
        written
    }

    /// Says that nothing more is sent, as far as there is room for that.
    pub(crate) fn say_end(&mut self) {
        self.tls.get_mut().1.send_close_notify();
        // A caller that has no room sees the connection end without it, as one that was cut off.
        let _ = Pin::new(&mut self.tls).poll_flush(&mut Context::from_waker(Waker::noop()));
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if into.remaining() > 0
            && let Some(byte) = self.ahead.take()
        {
            into.put_slice(&[byte]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.tls).poll_read(context, into)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(context)
    }
}
