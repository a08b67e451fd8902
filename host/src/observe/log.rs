//! The log: lines are handed to a thread that writes them, so that no request waits for whoever reads it.
//!
//! A disk that is full, a pipe that nobody reads or whose reader has gone costs lines, which are counted, and nothing
//! else. `tracing-appender` does nearly that; but its end prints to standard output, which may be the same pipe, and it
//! wakes its thread for every line.

mod terminal;

use crate::config::LogFormat;
use anstream::{AutoStream, ColorChoice};
use prometheus_client::metrics::counter::Counter;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use terminal::ForTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait to be written. Those that find no room are lost.
const LINES_MAX: usize = 8_192;
/// Written at once, if so much waits.
const BATCH_BYTES: usize = 64 << 10;
/// After each batch, so that a thread that logs much need not wake ours for each line.
const LULL: Duration = Duration::from_millis(5);
/// How long the last lines may take at the end.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// Where a reader that is slow has asked not to be waited for, it is asked again so often.
const ASK_AGAIN: Duration = Duration::from_millis(10);

enum Message {
    Line(Vec<u8>),
    /// All before it shall be written, and this told.
    End(SyncSender<()>),
}

/// The log of this process. Dropped, it writes what still waits.
#[derive(Debug)]
pub struct Log {
    writer: LineWriter,
    /// Whether people read it as it is written: in a terminal, and in words.
    is_for_people: bool,
    has_colours: bool,
}

impl Log {
    /// Sends everything that is logged to standard error, in this format and as detailed as `SPILLWAY_LOG` says.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(format: LogFormat) -> io::Result<Log> {
        let is_terminal = io::stderr().is_terminal();
        let mut log = Log::to(io::stderr())?;
        log.has_colours = is_terminal && AutoStream::choice(&io::stderr()) != ColorChoice::Never;
        log.is_for_people = is_terminal && format == LogFormat::Text;
        log.take_all(format, "info");
        Ok(log)
    }

    /// The same into a file.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(crate) fn to_file(file: File, format: LogFormat) -> io::Result<Log> {
        let log = Log::to(file)?;
        log.take_all(format, "info");
        Ok(log)
    }

    /// The same beside a command whose standard error it shares: only where `SPILLWAY_LOG` asks for it.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(crate) fn beside_command(format: LogFormat) -> io::Result<Log> {
        let log = Log::to(io::stderr())?;
        log.take_all(format, "off");
        Ok(log)
    }

    /// Has everything that is logged from here on come here, as detailed as `SPILLWAY_LOG` says, or else this.
    fn take_all(&self, format: LogFormat, otherwise: &str) {
        let filter = EnvFilter::try_from_env("SPILLWAY_LOG").unwrap_or_else(|_| EnvFilter::new(otherwise));
        // File events are logged by who tells us of them; a log that lies in a folder that is watched would feed on
        // itself.
        let filter = "notify=info".parse().into_iter().fold(filter, EnvFilter::add_directive);
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(self.writer.clone())
            .with_ansi(self.has_colours)
            .with_target(false);
        match format {
            LogFormat::Text if self.is_for_people => lines.event_format(ForTerminal).init(),
            LogFormat::Text => lines.init(),
            LogFormat::Json => lines.json().flatten_event(true).init(),
        }
    }

    fn to(mut target: impl Write + Send + 'static) -> io::Result<Log> {
        let (sender, receiver) = sync_channel(LINES_MAX);
        let lost = Counter::default();
        let counted = lost.clone();
        thread::Builder::new().name("log".into()).spawn(move || write_all(&receiver, &mut target, &counted))?;
        Ok(Log { writer: LineWriter { sender, lost }, is_for_people: false, has_colours: false })
    }

    /// Whether people read it as it is written: in a terminal, and in words.
    pub(crate) fn is_for_people(&self) -> bool {
        self.is_for_people
    }

    /// Hands over a text for people, whole lines in styles. It stands between the lines that were logged before and
    /// behind it.
    pub(crate) fn print(&self, text: &str) {
        let text = if self.has_colours { text.to_owned() } else { anstream::adapter::strip_str(text).to_string() };
        // It is handed over, never written here, and so cannot fail.
        let _ = self.writer.clone().write_all(text.as_bytes());
    }

    /// How many lines were lost.
    pub fn lost(&self) -> Counter {
        self.writer.lost.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let until = Instant::now() + END_TIMEOUT;
        let (written, told) = sync_channel(1);
        let mut end = Message::End(written);
        while let Err(TrySendError::Full(back)) = self.writer.sender.try_send(end) {
            if Instant::now() >= until {
                return;
            }
            end = back;
            thread::sleep(ASK_AGAIN);
        }
        let _ = told.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

/// Hands lines over. It never fails and never waits.
#[derive(Clone, Debug)]
struct LineWriter {
    sender: SyncSender<Message>,
    lost: Counter,
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.sender.try_send(Message::Line(line.to_vec())).is_err() {
            self.lost.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        self.clone()
    }
}

fn write_all(lines: &Receiver<Message>, target: &mut impl Write, lost: &Counter) {
    let mut batch = Vec::new();
    while let Ok(mut message) = lines.recv() {
        let (mut count, mut end) = (0, None);
        loop {
            match message {
                Message::Line(line) => {
                    batch.extend_from_slice(&line);
                    count += 1;
                }
                Message::End(told) => end = Some(told),
            }
            if end.is_some() || batch.len() >= BATCH_BYTES {
                break;
            }
            match lines.try_recv() {
                Ok(next) => message = next,
                Err(_) => break,
            }
        }
        if write_patiently(target, &batch).is_err() {
            lost.inc_by(count);
        }
        batch.clear();
        if let Some(told) = end {
            let _ = told.send(());
            continue;
        }
        thread::sleep(LULL);
    }
}

/// As `write_all`, of a target that may say that it would have to wait.
fn write_patiently(target: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match target.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(ASK_AGAIN),
            Err(error) => return Err(error),
        }
    }
    target.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::sync::{Arc, Mutex};

    fn log(to: &Log, line: &str) {
        to.writer.clone().write_all(line.as_bytes()).expect("never fails");
    }

    /// Writes into memory, as soon as it is let.
    struct Gated(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().expect("whole").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_in_order_and_the_last_ones_at_the_end() {
        let (open, gate) = channel();
        drop(open);
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let to = Log::to(Gated(gate, Arc::clone(&written))).expect("a thread");
        let lines: Vec<String> = (0..1_000).map(|number| format!("line {number}\n")).collect();
        lines.iter().for_each(|line| log(&to, line));
        drop(to);
        assert_eq!(String::from_utf8_lossy(&written.lock().expect("whole")), lines.concat());
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_that_are_counted_and_no_time() {
        let (open, gate) = channel::<()>();
        let to = Log::to(Gated(gate, Arc::default())).expect("a thread");
        let many = 2 * LINES_MAX as u64 + BATCH_BYTES as u64;
        (0..many).for_each(|_| log(&to, "\n"));
        let lost = to.lost().get();
        assert!(lost > 0 && lost < many, "{lost} of {many}");
        drop(open);
    }

    #[test]
    fn what_cannot_be_written_is_lost_and_counted() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let to = Log::to(Full).expect("a thread");
        (0..5).for_each(|_| log(&to, "\n"));
        let lost = to.lost();
        drop(to);
        assert_eq!(lost.get(), 5);
    }
}
