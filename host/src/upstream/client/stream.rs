//! A stream of bytes to an upstream, whatever it is made of.

use super::trouble::Trouble;
use super::trust::Trust;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use spillway_sdk::Fault;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What can be read and written.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection, encrypted or not, through a proxy or not.
pub(super) type Stream = Box<dyn Io>;

/// Begins TLS with `host`, which messages call `name`.
///
/// # Errors
/// When the other side does not speak it, or its certificate is not believed.
pub(super) async fn encrypted(stream: Stream, host: &str, name: &str, trust: &Trust) -> Result<Stream, Trouble> {
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let server = ServerName::try_from(bare)
        .map_err(|_| Trouble::new(Fault::Tls, format!("{host} is no name that a certificate can be for")))?;
    let connected = TlsConnector::from(trust.config()).connect(server, stream).await;
    connected.map(|stream| Box::new(stream) as Stream).map_err(|error| Trouble::tls(name, error))
}

/// Decides from outside how a connection ends, however deep its socket lies.
#[derive(Clone, Debug, Default)]
pub(crate) struct AbruptEnd(Arc<AtomicBool>);

impl AbruptEnd {
    /// Has the connection reset when it is closed, so that nobody takes what has arrived for all.
    pub(crate) fn reset_on_close(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The socket under all of it.
#[derive(Debug)]
pub(super) struct Bottom {
    stream: TcpStream,
    end: AbruptEnd,
}

impl Bottom {
    /// A socket whose end is decided by this.
    pub(super) fn new(stream: TcpStream, end: AbruptEnd) -> Self {
        Bottom { stream, end }
    }
}

impl Drop for Bottom {
    fn drop(&mut self) {
        if self.end.0.load(Ordering::Relaxed) {
            // Without it the provider finds an end, rather than a connection that was lost.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Bottom {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Bottom {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
