//! What keeps a caller waiting while its stream is silent: something that every reader of the API passes over.

use crate::dialect::Dialect;
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// Keeps one stream alive towards its caller. The provider's own silence is measured elsewhere, and not ended by it.
pub(super) struct KeepAlive {
    dialect: Dialect,
    every: Duration,
    due: Pin<Box<Sleep>>,
    /// Whether an event had an id.
    shows_ids: bool,
}

impl KeepAlive {
    /// For a stream in which something is written after each such silence; `None` where that is switched off, or nothing
    /// is safe.
    pub(super) fn of(dialect: Dialect, every: Duration) -> Option<KeepAlive> {
        let is_safe = !every.is_zero() && comment(dialect, false).is_some();
        is_safe.then(|| KeepAlive {
            dialect,
            every,
            due: Box::pin(sleep_until(Instant::now() + every)),
            shows_ids: false,
        })
    }

    /// An event is passed on.
    pub(super) fn saw(&mut self, event: &[u8]) {
        self.shows_ids |= event.split(|byte| matches!(byte, b'\n' | b'\r')).any(|line| line.starts_with(b"id:"));
    }

    /// Something came from the provider.
    pub(super) fn heard(&mut self) {
        self.due.as_mut().reset(Instant::now() + self.every);
    }

    /// What is to be written, as soon as the silence was long enough. It is left out where an event is half written.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, is_between_events: bool) -> Poll<Bytes> {
        while self.due.as_mut().poll(context).is_ready() {
            self.heard();
            if is_between_events && let Some(comment) = comment(self.dialect, self.shows_ids) {
                return Poll::Ready(Bytes::from_static(comment.as_bytes()));
            }
        }
        Poll::Pending
    }
}

/// What readers of this API pass over between two events. Google's break on a comment, and OpenAI's for Python on a blank
/// line once an event had an id. Ollama's take each line for JSON, and what others do is not known.
fn comment(dialect: Dialect, shows_ids: bool) -> Option<&'static str> {
    match dialect {
        Dialect::Gemini => Some("\n"),
        Dialect::OpenAi | Dialect::Anthropic if shows_ids => Some(": keep-alive\n"),
        Dialect::OpenAi | Dialect::Anthropic => Some(": keep-alive\n\n"),
        Dialect::Ollama | Dialect::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    const EVERY: Duration = Duration::from_millis(5);

    async fn next(keep_alive: &mut KeepAlive) -> Bytes {
        poll_fn(|context| keep_alive.poll(context, true)).await
    }

    #[tokio::test]
    async fn after_each_silence_something_is_written_that_is_safe_for_the_api() {
        for (dialect, plain, behind_ids) in [
            (Dialect::OpenAi, ": keep-alive\n\n", ": keep-alive\n"),
            (Dialect::Anthropic, ": keep-alive\n\n", ": keep-alive\n"),
            (Dialect::Gemini, "\n", "\n"),
        ] {
            let began = Instant::now();
            let mut keep_alive = KeepAlive::of(dialect, EVERY).expect("safe");
            keep_alive.saw(b"data: {\"id\":\"id: 1\"}\n\n");
            assert_eq!(next(&mut keep_alive).await, plain, "{dialect:?}");
            keep_alive.saw(b"id: 7\ndata: {}\n\n");
            assert_eq!(next(&mut keep_alive).await, behind_ids, "{dialect:?}");
            assert!(began.elapsed() >= 2 * EVERY);
        }
        for dialect in [Dialect::Ollama, Dialect::Other] {
            assert!(KeepAlive::of(dialect, EVERY).is_none(), "{dialect:?}");
        }
        assert!(KeepAlive::of(Dialect::OpenAi, Duration::ZERO).is_none());
    }

    #[tokio::test]
    async fn nothing_is_written_into_an_event_and_what_comes_begins_the_silence_anew() {
        let mut keep_alive = KeepAlive::of(Dialect::OpenAi, EVERY).expect("safe");
        let inside = poll_fn(|context| keep_alive.poll(context, false));
        assert!(tokio::time::timeout(4 * EVERY, inside).await.is_err());
        let heard = Instant::now();
        keep_alive.heard();
        next(&mut keep_alive).await;
        assert!(heard.elapsed() >= EVERY);
    }
}
