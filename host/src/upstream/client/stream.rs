//! A stream of bytes to an upstream, whatever it is made of.

use super::trouble::Trouble;
use super::trust::Trust;
use rustls::pki_types::ServerName;
use spillway_sdk::Fault;
use tokio::io::{AsyncRead, AsyncWrite};
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
