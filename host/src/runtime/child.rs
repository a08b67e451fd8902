//! A command that runs beside us, in our place: it has our terminal, and gets the signals that we get.

use std::ffi::OsString;
use std::io;
use std::process::ExitStatus;
use tokio::process::{Child, Command};

/// A command and what it is told.
#[derive(Clone, Debug)]
pub(crate) struct CommandLine {
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
}

/// The command while it runs.
pub(crate) struct Running {
    child: Child,
    signals: HandedOn,
}

impl CommandLine {
    /// Starts it with these variables beside those that this process has.
    ///
    /// # Errors
    /// When there is no such program, or the system refuses.
    pub(crate) fn start(&self, variables: impl IntoIterator<Item = (String, String)>) -> io::Result<Running> {
        // Listened to before it is there: what comes meanwhile is handed on as well.
        let signals = HandedOn::listen()?;
        let child = Command::new(&self.program).args(&self.arguments).envs(variables).spawn()?;
        Ok(Running { child, signals })
    }
}

impl Running {
    /// Waits until it has ended, and hands on the signals that come until then.
    ///
    /// # Errors
    /// When the system does not tell of its end.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        loop {
            let signal = tokio::select! {
                ended = self.child.wait() => return ended,
                signal = self.signals.next() => signal,
            };
            signal.go_on_to(&self.child);
        }
    }
}

/// A signal that came.
#[cfg(unix)]
struct Came(rustix::process::Signal);

#[cfg(unix)]
impl Came {
    fn go_on_to(self, child: &Child) {
        // It is waited for by whoever calls this, so that its number belongs to nobody else meanwhile.
        if let Some(id) = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) {
            let _ = rustix::process::kill_process(id, self.0);
        }
    }
}

/// What a console has told us, and the command as well.
#[cfg(windows)]
struct Came;

#[cfg(windows)]
impl Came {
    fn go_on_to(self, _child: &Child) {}
}

/// The code with which a process ends that has run this one: its own, and for one that was ended by a signal what shells
/// answer then.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    /// What shells add to the number of the signal.
    const BY_SIGNAL: i32 = 128;
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(windows)]
    let signal: Option<i32> = None;
    let code = status.code().or(signal.map(|signal| BY_SIGNAL + signal)).unwrap_or(1);
    // Windows has codes of 32 bits, of which none that means a failure may become one that means none.
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// The signals that are for the command and not for us.
#[cfg(unix)]
struct HandedOn(Vec<(rustix::process::Signal, tokio::signal::unix::Signal)>);

#[cfg(unix)]
impl HandedOn {
    fn listen() -> io::Result<HandedOn> {
        use rustix::process::Signal;
        use tokio::signal::unix::{SignalKind, signal};
        let all = [
            (Signal::INT, SignalKind::interrupt()),
            (Signal::QUIT, SignalKind::quit()),
            (Signal::HUP, SignalKind::hangup()),
            (Signal::TERM, SignalKind::terminate()),
            (Signal::USR1, SignalKind::user_defined1()),
            (Signal::USR2, SignalKind::user_defined2()),
        ];
        let ignored = ignored_signals();
        let heard = all.into_iter().filter(|(number, _)| ignored >> (number.as_raw() - 1) & 1 == 0);
        heard.map(|(number, kind)| Ok((number, signal(kind)?))).collect::<io::Result<_>>().map(HandedOn)
    }

    /// The next one that the command has not got already.
    async fn next(&mut self) -> Came {
        loop {
            let came = self.0.iter_mut().map(|(number, signal)| {
                let number = *number;
                Box::pin(async move {
                    signal.recv().await;
                    number
                })
            });
            let came: Vec<_> = came.collect();
            if came.is_empty() {
                return std::future::pending().await;
            }
            let (number, ..) = futures_util::future::select_all(came).await;
            if !(comes_of_terminals(number) && is_in_foreground()) {
                return Came(number);
            }
        }
    }
}

/// Signals that whoever started us has had ignored, as `nohup` does, a bit each: the command is to ignore them as well,
/// which it does not once we listen to them. Nothing is known of them but on Linux.
#[cfg(unix)]
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// Whether terminals send it, to all who are in front there.
#[cfg(unix)]
fn comes_of_terminals(signal: rustix::process::Signal) -> bool {
    use rustix::process::Signal;
    [Signal::INT, Signal::QUIT, Signal::HUP].contains(&signal)
}

/// Whether this process, and so the command, belongs to those who are in front in their terminal.
#[cfg(unix)]
fn is_in_foreground() -> bool {
    let terminal = std::fs::File::open("/dev/tty");
    let front = terminal.ok().and_then(|terminal| rustix::termios::tcgetpgrp(terminal).ok());
    front == Some(rustix::process::getpgrp())
}

/// Windows tells all processes of a console by itself; ours has but to go on living.
#[cfg(windows)]
struct HandedOn(super::signals::Signals);

#[cfg(windows)]
impl HandedOn {
    fn listen() -> io::Result<HandedOn> {
        super::signals::Signals::listen().map(HandedOn)
    }

    async fn next(&mut self) -> Came {
        self.0.next().await;
        Came
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> CommandLine {
        CommandLine { program: "sh".into(), arguments: vec!["-c".into(), script.into()] }
    }

    #[tokio::test]
    async fn a_command_ends_as_it_ends_and_by_a_signal_as_in_a_shell() {
        for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("test \"$GIVEN\" = yes", 0)] {
            let mut running = shell(script).start([("GIVEN".to_owned(), "yes".to_owned())]).expect("a shell");
            assert_eq!(running.ended().await.map(exit_code).ok(), Some(code), "{script}");
        }
    }

    #[tokio::test]
    async fn what_does_not_exist_is_told() {
        let missing = CommandLine { program: "/nowhere/at-all".into(), arguments: Vec::new() };
        assert_eq!(missing.start([]).err().map(|error| error.kind()), Some(io::ErrorKind::NotFound));
    }
}
