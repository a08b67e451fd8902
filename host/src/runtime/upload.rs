//! The body of a request on its way in: how long its caller may take over it, and what becomes of what nobody reads.
//!
//! A body that nobody wants is read and dropped behind the answer, within bounds: many clients read no answer before
//! they have sent all, and closing a connection on which something unread has come takes the answer away from them.

use bytes::Bytes;
use http::{Request, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

/// How much is read of what nobody wants: several times the largest body that is taken, a fraction of a second's work.
pub(crate) const UNWANTED_BYTES_MAX: u64 = 256 << 20;
/// For how long it is read.
pub(crate) const UNWANTED_TIMEOUT: Duration = Duration::from_secs(30);
/// For how long its sender may be silent in between.
pub(crate) const UNWANTED_SILENCE: Duration = Duration::from_secs(5);

/// What a body must bring on average for each second that is waited for it, beyond the timeout: little enough for any
/// line that a request with an image gets through, and too much for one that keeps its place by a byte now and then.
const BYTES_PER_SECOND_MIN: u64 = 1 << 10;

/// A request that is under way on a connection. All that belongs to it holds a share.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    has_more: AtomicBool,
    given_up: OnceLock<&'static str>,
}

impl UnderWay {
    /// Whether more of its body may come.
    pub(crate) fn has_more(&self) -> bool {
        self.has_more.load(Ordering::Relaxed)
    }

    /// Says why its connection is about to be closed. The first reason stays.
    pub(crate) fn give_up(&self, why: &'static str) {
        let _ = self.given_up.set(why);
    }

    /// Why its connection is being closed, unless its caller has left.
    pub(crate) fn given_up(&self) -> Option<&'static str> {
        self.given_up.get().copied()
    }
}

/// A request's body.
#[derive(Debug)]
pub(crate) struct Upload {
    /// `None` when it has ended.
    incoming: Option<Incoming>,
    pace: Pace,
    /// Since when somebody has waited for more of it.
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether its sender waits to be told to send it.
    waits_for_word: bool,
    under_way: Option<Arc<UnderWay>>,
    passing: Option<Arc<Passing>>,
}

impl Upload {
    /// The body of this request. Its caller may be silent within it for so long.
    pub(crate) fn of(request: Request<Incoming>, timeout: Duration, under_way: Arc<UnderWay>) -> Request<Upload> {
        let (head, incoming) = request.into_parts();
        let has_more = !incoming.is_end_stream();
        under_way.has_more.store(has_more, Ordering::Relaxed);
        let upload = Upload {
            incoming: has_more.then_some(incoming),
            pace: Pace { timeout, received_bytes: 0, waited: Duration::ZERO },
            waiting_since: None,
            timer: None,
            waits_for_word: head.headers.contains_key(header::EXPECT),
            under_way: has_more.then_some(under_way),
            passing: None,
        };
        Request::from_parts(head, upload)
    }

    /// Tells this of its way.
    pub(crate) fn told_to(mut self, passing: Arc<Passing>) -> Self {
        self.passing = Some(passing);
        self
    }

    /// Its caller has sent something, or its end.
    fn moved(&mut self) {
        if let Some(since) = self.waiting_since.take() {
            self.pace.waited += since.elapsed();
        }
        if let Some(passing) = &self.passing {
            passing.moved();
        }
    }

    /// Nothing more comes.
    fn ended(&mut self) {
        self.incoming = None;
        if let Some(under_way) = self.under_way.take() {
            under_way.has_more.store(false, Ordering::Relaxed);
        }
    }

    /// Nothing has come, and somebody waits for it.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let timer = if self.waiting_since.is_none() {
            let now = Instant::now();
            let until = now + self.pace.patience();
            self.waiting_since = Some(now);
            if let Some(passing) = &self.passing {
                passing.waits();
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
            timer.as_mut().reset(until);
            timer
        } else if let Some(timer) = &mut self.timer {
            timer
        } else {
            return Poll::Pending;
        };
        timer.as_mut().poll(context)
    }
}

/// Why a body is not whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// It broke off.
    #[error("{0}")]
    Broken(hyper::Error),
    /// It did not come in time.
    #[error("it did not come in time")]
    Late {
        /// Longest silence within it.
        timeout: Duration,
    },
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let this = self.get_mut();
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(incoming).poll_frame(context) else {
            ready!(this.poll_patience(context));
            if let Some(passing) = &this.passing {
                passing.end(Passing::LATE);
            }
            // Dropped at once: the answer says that the connection is closed, and what still comes is read behind it.
            this.incoming = None;
            return Poll::Ready(Some(Err(UploadError::Late { timeout: this.pace.timeout })));
        };
        this.moved();
        match frame {
            Some(Ok(frame)) => {
                this.pace.received_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                if let Some(passing) = &this.passing {
                    passing.end(Passing::BROKEN);
                }
                this.ended();
                Poll::Ready(Some(Err(UploadError::Broken(error))))
            }
            None => {
                this.ended();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or(SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.incoming.as_ref().is_some_and(Incoming::is_end_stream) {
            self.ended();
        }
        // Whoever waits for a word before it sends takes the answer for it, and sends nothing.
        if !self.waits_for_word
            && let (Some(incoming), Some(under_way)) = (self.incoming.take(), self.under_way.take())
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(drop_unwanted(incoming, under_way));
        }
    }
}

/// Reads what nobody wants, within bounds. A connection on which all of it was read can be used again; another one is
/// closed.
async fn drop_unwanted(mut incoming: Incoming, under_way: Arc<UnderWay>) {
    let (until, mut bytes) = (Instant::now() + UNWANTED_TIMEOUT, 0);
    while bytes <= UNWANTED_BYTES_MAX
        && let Ok(Some(Ok(frame))) = timeout_at(until.min(Instant::now() + UNWANTED_SILENCE), incoming.frame()).await
    {
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    under_way.has_more.store(false, Ordering::Relaxed);
}

/// How long a caller may take over a body: silent for no longer than the timeout, and beyond it in all for as long as
/// what has come is worth. Only the time counts in which somebody waits for more.
#[derive(Clone, Copy, Debug)]
struct Pace {
    timeout: Duration,
    received_bytes: u64,
    waited: Duration,
}

impl Pace {
    /// How long to wait for the next piece.
    fn patience(&self) -> Duration {
        let worth = Duration::from_millis(self.received_bytes.saturating_mul(1_000) / BYTES_PER_SECOND_MIN);
        (self.timeout + worth).saturating_sub(self.waited).min(self.timeout)
    }
}

/// What is known of a body that passes through, for whoever waits for the answer to it.
#[derive(Debug)]
pub(crate) struct Passing {
    began: Instant,
    /// When it last moved, since then.
    moved_ms: AtomicU64,
    state: AtomicU8,
}

impl Passing {
    const MOVES: u8 = 0;
    const WAITS: u8 = 1;
    const BROKEN: u8 = 2;
    const LATE: u8 = 3;

    /// One that begins to be sent.
    pub(crate) fn new(began: Instant) -> Arc<Self> {
        Arc::new(Passing { began, moved_ms: AtomicU64::new(0), state: AtomicU8::new(Passing::MOVES) })
    }

    fn moved(&self) {
        self.moved_ms.store(crate::runtime::clock::milliseconds(self.began.elapsed()), Ordering::Relaxed);
        self.state.store(Passing::MOVES, Ordering::Relaxed);
    }

    fn waits(&self) {
        self.state.store(Passing::WAITS, Ordering::Relaxed);
    }

    fn end(&self, how: u8) {
        self.state.store(how, Ordering::Relaxed);
    }

    /// For how long its caller has been sending it, as far as is known: whoever waits for an answer to it has begun to
    /// wait then.
    pub(crate) fn took(&self) -> Duration {
        match self.state.load(Ordering::Relaxed) {
            Passing::WAITS => self.began.elapsed(),
            _ => Duration::from_millis(self.moved_ms.load(Ordering::Relaxed)),
        }
    }

    /// Whether its caller has broken it off.
    pub(crate) fn is_broken(&self) -> bool {
        self.state.load(Ordering::Relaxed) == Passing::BROKEN
    }

    /// Whether its caller has not sent it in time.
    pub(crate) fn is_late(&self) -> bool {
        self.state.load(Ordering::Relaxed) == Passing::LATE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_body_may_take_long_and_silence_and_drips_may_not() {
        let (timeout, second) = (Duration::from_secs(60), Duration::from_secs(1));
        let patience = |received_bytes, waited| Pace { timeout, received_bytes, waited }.patience();
        assert_eq!(patience(0, Duration::ZERO), timeout);
        // 30 MiB at 4 KiB a second, most of which is waiting.
        assert_eq!(patience(30 << 20, 7_680 * second), timeout);
        // But nobody may be silent for longer, however much has come.
        assert_eq!(patience(1 << 40, Duration::ZERO), timeout);
        // A byte a second.
        assert_eq!(patience(30, 30 * second), 30 * second + Duration::from_millis(29));
        assert_eq!(patience(61, 61 * second), Duration::ZERO);
    }
}
