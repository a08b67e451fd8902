//! Bodies of responses: a whole one, or one that arrives from upstream.

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite};

/// Why a response's body ends early. hyper then aborts the connection, so that no caller takes it for whole.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's answer broke off")]
pub(crate) struct Aborted {
    /// Whether the connection is reset, as the upstream's was. Some libraries wait for the rest of a body for as long as
    /// they may, where the connection behind it is closed in an orderly way.
    pub resets: bool,
}

/// A body that arrives while it is sent.
pub(crate) trait Arriving: http_body::Body<Data = Bytes, Error = Aborted> + Unpin + fmt::Debug {
    /// Its caller is given up: it is about to be dropped, for this reason.
    fn give_up(&mut self, why: &'static str);
}

/// What a connection becomes behind a head that says that it switches protocols.
pub(crate) trait Switching: fmt::Debug {
    /// Has the connection until its end: what comes from the caller, beginning with what has come ahead of it, and what
    /// goes there. Answers how the caller is to be left.
    fn run(self: Box<Self>, from_caller: CallersBytes, to_caller: BytesToCaller, ahead: Bytes) -> Run;
}

pub(crate) type CallersBytes = Box<dyn AsyncRead + Unpin>;
pub(crate) type BytesToCaller = Box<dyn AsyncWrite + Unpin>;
pub(crate) type Run = Pin<Box<dyn Future<Output = Parting>>>;

/// How a caller's connection is to be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    /// Closed as usual.
    Close,
    /// Reset: it was cut off, and nobody shall take what has arrived for all.
    Reset,
}

#[derive(Debug)]
pub(crate) enum Body {
    /// Known as a whole.
    Whole(Option<Bytes>),
    /// Arriving from upstream.
    Arriving(Box<dyn Arriving>),
    /// None: behind the head the connection speaks another protocol, which is relayed.
    Switched(Box<dyn Switching>),
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
            Body::Switched(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Body::Arriving(_) => false,
            Body::Switched(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Body::Arriving(arriving) => arriving.size_hint(),
            Body::Switched(_) => SizeHint::with_exact(0),
        }
    }
}
