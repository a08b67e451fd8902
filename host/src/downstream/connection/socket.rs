//! A caller's socket: hyper reads and writes through it, and on the way it notes for how long the caller has been
//! silent, in which direction.

use crate::downstream::connection::encrypted::Written;
use crate::downstream::connection::stream::Stream;
use crate::runtime::upload::UnderWay;
use crate::tenants::origin::Origin;
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What a caller sends before the first request over HTTP/2 (RFC 9113, section 3.4): 24 bytes, and the head of a frame.
const PREFACE_BYTES: usize = 24 + 9;

/// A connection as far as its bytes are concerned, shared by hyper and by whoever watches over it. One thread has it,
/// and none of its borrows lasts longer than a call of the system.
#[derive(Debug)]
pub(crate) struct Line {
    stream: RefCell<Stream>,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether requests come over it side by side, by HTTP/2.
    pub is_http2: bool,
    /// What each request under way holds while it lasts.
    under_way: Arc<UnderWay>,
    /// What has not come of that with which HTTP/2 begins, in bytes.
    preface_left: Cell<usize>,
    /// When the last request ended, or the connection began.
    idle_since: Cell<Instant>,
    /// When the first byte of a head came whose last has not come.
    head_since: Cell<Option<Instant>>,
    /// Since when no more can be written.
    blocked_since: Cell<Option<Instant>>,
    /// Whether more has come than was asked for.
    is_ahead: Cell<bool>,
    /// Whether the caller sends no more.
    has_ended: Cell<bool>,
    /// Whether our own last byte is sent.
    has_shut: Cell<bool>,
    /// Whether the caller takes back more requests than anybody has a reason to.
    is_flooded: Cell<bool>,
}

/// What a connection is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing, since then.
    Idle(Instant),
    /// The head of a request, since then.
    Head(Instant),
    /// A request, its answer, or what is left of its body.
    Request,
}

impl Line {
    /// A connection that has just begun.
    pub(crate) fn new(stream: Stream, origin: Origin) -> Rc<Self> {
        let is_http2 = stream.is_http2();
        Rc::new(Line {
            origin,
            is_http2,
            stream: RefCell::new(stream),
            under_way: Arc::default(),
            preface_left: Cell::new(if is_http2 { PREFACE_BYTES } else { 0 }),
            idle_since: Cell::new(Instant::now()),
            head_since: Cell::new(None),
            blocked_since: Cell::new(None),
            is_ahead: Cell::new(false),
            has_ended: Cell::new(false),
            has_shut: Cell::new(false),
            is_flooded: Cell::new(false),
        })
    }

    /// A request has come. It is under way for as long as what is returned lives; those that come side by side share it.
    pub(crate) fn begin(&self) -> Arc<UnderWay> {
        self.head_since.set(None);
        self.idle_since.set(Instant::now());
        Arc::clone(&self.under_way)
    }

    /// The request that was under way has ended.
    pub(crate) fn ended_one(&self) {
        self.idle_since.set(Instant::now());
        self.is_ahead.set(false);
    }

    /// What it is in the middle of.
    pub(crate) fn stage(&self) -> Stage {
        // One is ours.
        match (Arc::strong_count(&self.under_way) > 1, self.head_since.get()) {
            (true, _) => Stage::Request,
            (false, Some(since)) => Stage::Head(since),
            (false, None) => Stage::Idle(self.idle_since.get()),
        }
    }

    /// Since when it has been of no use to anybody.
    pub(crate) fn unused_since(&self) -> Option<Instant> {
        match self.stage() {
            Stage::Idle(since) if self.blocked_since.get().is_none() => Some(since),
            Stage::Idle(_) | Stage::Head(_) | Stage::Request => None,
        }
    }

    /// Since when no more can be written of what is ready.
    pub(crate) fn blocked_since(&self) -> Option<Instant> {
        self.blocked_since.get()
    }

    /// The caller takes back more requests than anybody has a reason to.
    pub(crate) fn flood(&self) {
        self.is_flooded.set(true);
    }

    /// Whether it does.
    pub(crate) fn is_flooded(&self) -> bool {
        self.is_flooded.get()
    }

    /// Why what is under way ends, unless its caller has left.
    pub(crate) fn given_up(&self) -> Option<&'static str> {
        self.under_way.given_up()
    }

    /// Says to those who hold what is under way why it ends.
    pub(crate) fn give_up(&self, why: &'static str) {
        self.under_way.give_up(why);
    }

    /// Whether the caller may still be sending, after our last byte, what nobody has read.
    pub(crate) fn is_talked_over(&self) -> bool {
        let has_more = self.under_way.has_more() || matches!(self.stage(), Stage::Head(_));
        self.has_shut.get() && !self.has_ended.get() && has_more
    }

    /// Whether the caller sends no more while it is answered. What it sends in the meantime is left for later.
    pub(crate) fn poll_ended(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_ended.get() {
            return Poll::Ready(Ok(()));
        }
        // What lies before an end hides it, until it is read.
        if self.is_ahead.get() {
            return Poll::Pending;
        }
        match ready!(self.stream.borrow_mut().poll_peek(context))? {
            0 => Poll::Ready(Ok(())),
            _ => {
                self.is_ahead.set(true);
                Poll::Pending
            }
        }
    }

    /// Whether the caller sends no more.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    /// Whether some process still holds the other end, if that can be told.
    pub(crate) fn is_held(&self) -> Option<bool> {
        self.stream.borrow().is_held()
    }

    /// How much of what was written the caller has not read, if that can be told.
    pub(crate) fn unread_bytes(&self) -> Option<u64> {
        self.stream.borrow().unread_bytes()
    }

    /// Closes it from outside. Whoever serves it sees its end.
    pub(crate) fn close(&self) {
        // This fails only for a connection that is closed already.
        let _ = self.stream.borrow_mut().shut(Shutdown::Both);
    }

    /// Has it reset when it is closed, so that nobody takes what has arrived for all, and the kernel keeps nothing that
    /// nobody reads.
    pub(crate) fn reset_on_close(&self) {
        // Without it the caller finds an end in the middle of its answer.
        let _ = self.stream.borrow().reset_on_close();
    }

    /// Sends last words, and then no more; no words where the end of an answer has not been sent.
    pub(crate) fn end_with(&self, words: &[u8]) {
        let mut stream = self.stream.borrow_mut();
        if self.blocked_since.get().is_none() {
            // Whoever has no room for them does not hear them.
            let _ = stream.try_write(words);
        }
        let _ = stream.shut(Shutdown::Write);
        self.has_shut.set(true);
    }

    /// Reads on.
    pub(crate) fn poll_read(&self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (before, room) = (into.filled().len(), into.remaining());
        ready!(Pin::new(&mut *self.stream.borrow_mut()).poll_read(context, into))?;
        self.is_ahead.set(false);
        let read = into.filled().len() - before;
        if read == 0 && room > 0 {
            self.has_ended.set(true);
        } else if self.is_http2 {
            // Requests tell themselves when they come; frames come without any as well.
            self.preface_left.set(self.preface_left.get().saturating_sub(read));
            let begins = self.preface_left.get() > 0;
            self.head_since.set(begins.then(|| self.head_since.get().unwrap_or_else(Instant::now)));
        } else if matches!(self.stage(), Stage::Idle(_)) {
            self.head_since.set(Some(Instant::now()));
        }
        Poll::Ready(Ok(()))
    }

    /// Something was written, or waits for the kernel to have room.
    fn note_write(&self, written: Written) {
        if written.moves {
            self.blocked_since.set(None);
        }
        if written.waits && self.blocked_since.get().is_none() {
            self.blocked_since.set(Some(Instant::now()));
        }
    }
}

/// hyper's way to the line.
#[derive(Debug)]
pub(super) struct Socket(pub(super) Rc<Line>);

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read(context, into)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut stream = self.0.stream.borrow_mut();
        let written = Pin::new(&mut *stream).poll_write(context, bytes);
        self.0.note_write(stream.written(&written));
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut stream = self.0.stream.borrow_mut();
        let written = Pin::new(&mut *stream).poll_write_vectored(context, pieces);
        self.0.note_write(stream.written(&written));
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.0.stream.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = self.0.stream.borrow_mut();
        let flushed = Pin::new(&mut *stream).poll_flush(context);
        if let Stream::Tls(stream) = &mut *stream {
            self.0.note_write(stream.written());
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.has_shut.set(true);
        Pin::new(&mut *self.0.stream.borrow_mut()).poll_shutdown(context)
    }
}
