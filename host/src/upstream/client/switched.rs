//! A connection to an upstream that speaks another protocol from here on (RFC 9110, section 15.2.2).

use super::stream::AbruptEnd;
use crate::runtime::causes::ErrorChain;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection whose upstream has agreed to speak another protocol over it. It is nobody else's from here on.
#[derive(Debug)]
pub(crate) struct Switched {
    connection: OnUpgrade,
    /// How it ends.
    pub end: AbruptEnd,
}

impl Switched {
    /// The connection under this answer, where it says that it switches.
    pub(crate) fn of(response: &mut Response<Incoming>) -> Option<Switched> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return None;
        }
        let end = response.extensions_mut().remove::<AbruptEnd>().unwrap_or_default();
        Some(Switched { connection: hyper::upgrade::on(response), end })
    }

    /// Its bytes, beginning with those that have come behind the answer's head.
    ///
    /// # Errors
    /// When it was lost in the meantime.
    pub(crate) async fn bytes(self) -> Result<impl AsyncRead + AsyncWrite + Unpin, ErrorChain> {
        self.connection.await.map(TokioIo::new).map_err(ErrorChain::of)
    }
}
