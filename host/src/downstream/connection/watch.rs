//! Watches over a connection while hyper serves it: for how long its caller may be silent in which direction, and
//! whether it has left.

use crate::config::Server;
use crate::downstream::connection::socket::{Line, Stage};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// How often, while a caller takes nothing, it is looked whether it has read what lies in the kernel's buffers. They
/// hold megabytes, and have no room for more until a third of that is read.
const LOOKS_PER_TIMEOUT: u32 = 4;

/// A caller that sends no more may have left or wait for its answer. It is looked whether somebody still holds the
/// other end, at first soon, because a process that closes both halves takes a moment for it, and then each second.
const FIRST_LOOK_AFTER: Duration = Duration::from_millis(10);
const LOOK_EVERY_MAX: Duration = Duration::from_secs(1);

/// How long a connection may be silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// Between two requests.
    unused: Duration,
    /// From the first byte of a head to its last.
    head: Duration,
    /// While more is ready than the caller takes.
    pub(super) write: Duration,
}

impl Timeouts {
    pub(super) fn of(server: &Server) -> Self {
        Timeouts { unused: server.keep_alive_timeout, head: server.head_timeout, write: server.write_timeout }
    }
}

/// How a connection ends.
pub(super) enum End {
    /// By itself.
    Closed(hyper::Result<()>),
    /// The caller has left while it was served.
    Left,
    /// Nobody uses it.
    Unused,
    /// A head has begun, and is not complete in time.
    HeadLate,
    /// The caller takes nothing of its answer.
    StoppedReading,
    /// The caller begins requests by the hundred and takes them back.
    Flooded,
}

/// Watches over a connection while hyper serves it.
///
/// hyper asks an answer's body for more only while the caller takes what it has got, so whatever bounds that must not
/// hang on the body. And it sees no difference between a caller that has left and one that only sends no more.
pub(super) struct Watch<'a> {
    line: &'a Line,
    timeouts: Timeouts,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires. It is set anew when it must fire sooner, and otherwise when it has fired.
    fires: Instant,
    had_request: bool,
    /// The next look at a caller that sends no more, and how long after that the next one is.
    look: Option<(Instant, Duration)>,
    /// Whether it was seen to wait all the same.
    was_held: bool,
    blocked: Option<Blocked>,
}

impl<'a> Watch<'a> {
    pub(super) fn over(line: &'a Line, timeouts: Timeouts) -> Self {
        let fires = Instant::now() + timeouts.unused;
        let timer = Box::pin(sleep_until(fires));
        Watch { line, timeouts, timer, fires, had_request: false, look: None, was_held: false, blocked: None }
    }

    pub(super) fn poll<C>(&mut self, connection: Pin<&mut C>, context: &mut Context<'_>) -> Poll<End>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        if let Poll::Ready(result) = connection.poll(context) {
            return Poll::Ready(End::Closed(result));
        }
        let has_request = self.line.stage() == Stage::Request;
        if std::mem::replace(&mut self.had_request, has_request) && !has_request {
            self.line.ended_one();
        }
        if self.line.is_flooded() {
            return Poll::Ready(End::Flooded);
        }
        // Over HTTP/2 hyper reads all the time, and sees itself when the caller sends no more: nobody waits then.
        if has_request
            && !self.line.is_http2
            && self.look.is_none()
            && let Poll::Ready(ended) = self.line.poll_ended(context)
        {
            if ended.is_err() || !self.is_held(Instant::now()) {
                return Poll::Ready(End::Left);
            }
            tracing::debug!("a caller sends no more, and waits for its answer");
        }
        self.note_blocked();
        loop {
            if let Some(due) = self.due().filter(|due| *due < self.fires) {
                self.set_timer(due);
            }
            ready!(self.timer.as_mut().poll(context));
            let now = Instant::now();
            if let Some(end) = self.look(now) {
                return Poll::Ready(end);
            }
            // A request may end without any word to this.
            self.set_timer(self.due().unwrap_or(now + self.timeouts.unused));
        }
    }

    fn set_timer(&mut self, fires: Instant) {
        self.fires = fires;
        self.timer.as_mut().reset(fires);
    }

    fn note_blocked(&mut self) {
        match (self.line.blocked_since(), &self.blocked) {
            (Some(since), Some(blocked)) if blocked.since == since => {}
            (Some(since), _) => self.blocked = Some(Blocked::new(since, self.timeouts.write)),
            (None, Some(_)) => self.blocked = None,
            (None, None) => {}
        }
    }

    /// When there is something to decide.
    fn due(&self) -> Option<Instant> {
        let silence = match self.line.stage() {
            // Of an answer that is still on its way, the caller's reading decides.
            Stage::Idle(_) | Stage::Head(_) if self.blocked.is_some() => None,
            Stage::Idle(since) => Some(since + self.timeouts.unused),
            Stage::Head(since) => Some(since + self.timeouts.head),
            Stage::Request => self.look.map(|(next, _)| next),
        };
        let blocked = self.blocked.as_ref().map(|blocked| blocked.look_at);
        silence.into_iter().chain(blocked).min()
    }

    /// Decides whether it ends.
    fn look(&mut self, now: Instant) -> Option<End> {
        if let Some(blocked) = self.blocked.as_mut().filter(|blocked| now >= blocked.look_at)
            && blocked.has_stopped(now, self.line.unread_bytes(), self.timeouts.write)
        {
            return Some(End::StoppedReading);
        }
        match (self.line.stage(), self.look) {
            (Stage::Idle(_) | Stage::Head(_), _) if self.blocked.is_some() => None,
            (Stage::Idle(since), _) if now >= since + self.timeouts.unused => Some(End::Unused),
            (Stage::Head(since), _) if now >= since + self.timeouts.head => Some(End::HeadLate),
            (Stage::Request, Some((next, _))) if now >= next && !self.is_held(now) => Some(End::Left),
            _ => None,
        }
    }

    /// Whether a caller that sends no more still waits for its answer. Where nobody can tell, it has left: this is what
    /// it almost always means, and what goes on for nobody is paid for. One that was seen to wait goes on waiting until
    /// it is seen to have left.
    fn is_held(&mut self, now: Instant) -> bool {
        let after = self.look.map_or(FIRST_LOOK_AFTER, |(_, after)| (after * 2).min(LOOK_EVERY_MAX));
        self.look = Some((now + after, after));
        self.was_held = self.line.is_held().unwrap_or(self.was_held);
        self.was_held
    }
}

/// A caller that takes nothing of what is ready for it.
#[derive(Debug)]
struct Blocked {
    since: Instant,
    /// When it was last seen to have read something.
    read_at: Instant,
    /// What it had not read by then.
    unread_bytes: Option<u64>,
    /// When to look again.
    look_at: Instant,
}

impl Blocked {
    fn new(since: Instant, timeout: Duration) -> Self {
        Blocked { since, read_at: since, unread_bytes: None, look_at: since + timeout / LOOKS_PER_TIMEOUT }
    }

    /// Whether it has read nothing for as long as the timeout. What it reads is seen in what lies unread in the kernel;
    /// where nobody tells how much that is, a caller that does not make room for more counts as one that reads nothing.
    fn has_stopped(&mut self, now: Instant, unread_bytes: Option<u64>, timeout: Duration) -> bool {
        if let (Some(before), Some(unread)) = (self.unread_bytes, unread_bytes)
            && unread < before
        {
            self.read_at = now;
        }
        // What was read before the first look nobody knows.
        if self.unread_bytes.is_none() && unread_bytes.is_some() {
            self.read_at = now;
        }
        self.unread_bytes = unread_bytes.or(self.unread_bytes);
        let over = self.read_at + timeout;
        self.look_at = over.min(now + timeout / LOOKS_PER_TIMEOUT);
        now >= over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_reads_however_little_has_not_stopped() {
        let (since, timeout) = (Instant::now(), Duration::from_secs(60));
        let at = |seconds: u64| since + Duration::from_secs(seconds);
        let mut blocked = Blocked::new(since, timeout);
        let mut looks = Vec::new();
        let mut look = |unread: Option<u64>| {
            let now = blocked.look_at;
            looks.push(now);
            blocked.has_stopped(now, unread, timeout)
        };
        for unread in [5_000, 5_000, 4_999, 4_999, 4_998, 4_998, 4_998, 4_998] {
            assert!(!look(Some(unread)), "{unread}");
        }
        assert!(look(Some(4_998)), "nothing for a minute");
        assert_eq!(looks, [15, 30, 45, 60, 75, 90, 105, 120, 135].map(at));
    }

    #[test]
    fn where_nobody_tells_what_is_read_room_for_more_decides() {
        let (since, timeout) = (Instant::now(), Duration::from_secs(60));
        let mut blocked = Blocked::new(since, timeout);
        let stopped: Vec<bool> = (0..4).map(|_| blocked.has_stopped(blocked.look_at, None, timeout)).collect();
        assert_eq!(stopped, [false, false, false, true]);
    }
}
