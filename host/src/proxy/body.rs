//! Bodies of responses: a whole one, or one that is forwarded from upstream.

use crate::proxy::forward::Forward;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Why a response's body ends early. hyper then aborts the connection, so that no caller takes it for whole.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's answer broke off")]
pub struct Aborted;

/// A response's body.
#[derive(Debug)]
pub enum Body {
    /// Known as a whole.
    Whole(Option<Bytes>),
    /// Arriving from upstream.
    Forward(Box<Forward>),
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
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
            Body::Forward(forward) => Pin::new(forward).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Body::Forward(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Body::Forward(forward) => forward.size_hint(),
        }
    }
}
