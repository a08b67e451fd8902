//! One direction of a relay: what is read is written before more is read, so that whoever does not read stops whoever
//! sends.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};

/// Most that is held of one direction. What is beyond it waits in the kernel's buffers, and then at its sender.
const HELD_BYTES_MAX: usize = 16 << 10;

/// How a direction has ended.
#[derive(Debug)]
pub(super) enum Stop {
    /// Its sender sends no more, and its reader knows.
    Ended,
    /// Its sender was lost.
    SenderLost(io::Error),
    /// Its reader takes no more.
    ReaderGone(io::Error),
}

/// What both directions tell whoever watches over them.
#[derive(Debug)]
pub(super) struct Movement {
    /// When something last moved, in either direction.
    moved: Cell<Instant>,
}

impl Movement {
    /// It begins now.
    pub(super) fn begin() -> Movement {
        Movement { moved: Cell::new(Instant::now()) }
    }

    fn note(&self) {
        self.moved.set(Instant::now());
    }

    /// Waits until nothing has moved for so long.
    pub(super) async fn silence(&self, timeout: std::time::Duration) {
        loop {
            let until = self.moved.get() + timeout;
            if Instant::now() >= until {
                return;
            }
            sleep_until(until).await;
        }
    }
}

/// One direction.
pub(super) struct Pump<'a> {
    pub(super) movement: &'a Movement,
    /// Whether something was read that is not written, or not all of it.
    pub(super) is_midway: &'a Cell<bool>,
}

impl Pump<'_> {
    /// Relays bytes until one side ends it, beginning with what has been read before. `passed` sees what was written.
    pub(super) async fn run<R, W>(self, mut from: R, to: &mut W, ahead: &[u8], mut passed: impl FnMut(&[u8])) -> Stop
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if !ahead.is_empty() {
            if let Err(error) = self.write(to, ahead).await {
                return Stop::ReaderGone(error);
            }
            passed(ahead);
        }
        let mut held = vec![0; HELD_BYTES_MAX];
        loop {
            let read = match from.read(&mut held).await {
                Ok(0) => 0,
                Ok(read) => read,
                // Many servers close without the goodbye of TLS.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
                Err(error) => return Stop::SenderLost(error),
            };
            self.movement.note();
            if read == 0 {
                // Whoever is gone already needs not be told.
                let _ = to.shutdown().await;
                return Stop::Ended;
            }
            let Some(piece) = held.get(..read) else { continue };
            if let Err(error) = self.write(to, piece).await {
                return Stop::ReaderGone(error);
            }
            passed(piece);
        }
    }

    async fn write<W: AsyncWrite + Unpin>(&self, to: &mut W, mut bytes: &[u8]) -> io::Result<()> {
        self.is_midway.set(true);
        while !bytes.is_empty() {
            let written = to.write(bytes).await?;
            if written == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            self.movement.note();
            bytes = bytes.get(written..).unwrap_or_default();
        }
        to.flush().await?;
        self.is_midway.set(false);
        Ok(())
    }
}
