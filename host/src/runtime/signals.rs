//! What the system and its user tell a process to do.

use std::io;

/// What was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// To end.
    End,
    /// To look at what can be changed while serving.
    #[cfg_attr(windows, expect(dead_code, reason = "Windows has no such word"))]
    Reload,
}

/// The words that are understood: SIGTERM, SIGINT, SIGQUIT and SIGHUP.
#[cfg(unix)]
pub(crate) struct Signals {
    end: [tokio::signal::unix::Signal; 3],
    reload: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Listens from here on, on the runtime of the caller.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn listen() -> io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        let end = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::quit())?];
        Ok(Signals { end, reload: signal(SignalKind::hangup())? })
    }

    /// The next word.
    pub(crate) async fn next(&mut self) -> Word {
        let [terminate, interrupt, quit] = &mut self.end;
        tokio::select! {
            _ = terminate.recv() => Word::End,
            _ = interrupt.recv() => Word::End,
            _ = quit.recv() => Word::End,
            _ = self.reload.recv() => Word::Reload,
        }
    }
}

/// The words that are understood: Ctrl+C, Ctrl+Break, the end of the console window, and that of the system. After one
/// of the last two Windows leaves a process five seconds.
#[cfg(windows)]
pub(crate) struct Signals {
    interrupt: tokio::signal::windows::CtrlC,
    abort: tokio::signal::windows::CtrlBreak,
    close: tokio::signal::windows::CtrlClose,
    shutdown: tokio::signal::windows::CtrlShutdown,
}

#[cfg(windows)]
impl Signals {
    /// Listens from here on, on the runtime of the caller.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn listen() -> io::Result<Signals> {
        use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};
        Ok(Signals { interrupt: ctrl_c()?, abort: ctrl_break()?, close: ctrl_close()?, shutdown: ctrl_shutdown()? })
    }

    /// The next word.
    pub(crate) async fn next(&mut self) -> Word {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.abort.recv() => {}
            _ = self.close.recv() => {}
            _ = self.shutdown.recv() => {}
        }
        Word::End
    }
}
