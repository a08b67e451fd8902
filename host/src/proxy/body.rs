//! Bodies of responses: a whole one, or one that arrives from upstream.

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Why a response's body ends early. hyper then aborts the connection, so that no caller takes it for whole.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's answer broke off")]
pub(crate) struct Aborted;

/// A body that arrives while it is sent.
pub(crate) trait Arriving: http_body::Body<Data = Bytes, Error = Aborted> + Unpin + fmt::Debug {
    /// Its caller is given up: it is about to be dropped, for this reason.
    fn give_up(&mut self, why: &'static str);
}

#[derive(Debug)]
pub(crate) enum Body {
    /// Known as a whole.
    Whole(Option<Bytes>),
    /// Arriving from upstream.
    Arriving(Box<dyn Arriving>),
}

impl Body {
    pub(crate) fn empty() -> Self {
        Body::Whole(None)
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Body::Whole(Some(Bytes::from(text)))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Body::Whole(Some(bytes))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        match self.get_mut() {
            Body::Whole(bytes) => {
                Poll::Ready(bytes.take().filter(|bytes| !bytes.is_empty()).map(|b| Ok(Frame::data(b))))
            }
            Body::Arriving(arriving) => Pin::new(&mut **arriving).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Body::Arriving(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Body::Arriving(arriving) => arriving.size_hint(),
        }
    }
}
