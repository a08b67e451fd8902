//! What a process writes on standard error, kept so that tests can wait for a line of it.

use crate::wait::DEADLINE;
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Lines kept; the oldest are forgotten first. More than any test causes, little enough for a demo that runs all day.
const LINES_MAX: usize = 10_000;

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    ended: bool,
}

/// The lines so far; clones are the same log.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<(Mutex<Lines>, Condvar)>);

impl Log {
    /// Reads lines from a thread of its own until the writer is gone.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn follow(writer: impl Read + Send + 'static) -> std::io::Result<Log> {
        let log = Log::default();
        let kept = log.clone();
        std::thread::Builder::new().name("log".into()).spawn(move || {
            for line in BufReader::new(writer).lines() {
                let Ok(line) = line else { break };
                kept.change(|lines| {
                    lines.lines.push_back(line);
                    if lines.lines.len() > LINES_MAX {
                        lines.lines.pop_front();
                    }
                });
            }
            kept.change(|lines| lines.ended = true);
        })?;
        Ok(log)
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        // Lines are whole whenever the lock is free.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Lines)) {
        change(&mut self.lock());
        self.0.1.notify_all();
    }

    /// The first line that contains all of these words; `None` when the deadline passes or the writer ends without one.
    pub fn find(&self, words: &[&str], deadline: Duration) -> Option<String> {
        let first =
            |lines: &Lines| lines.lines.iter().find(|line| words.iter().all(|word| line.contains(word))).cloned();
        let waiting =
            self.0.1.wait_timeout_while(self.lock(), deadline, |lines| !lines.ended && first(lines).is_none());
        let (lines, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        first(&lines)
    }

    /// As [`Log::find`], for JSON lines.
    ///
    /// # Panics
    /// When no such line comes within [`DEADLINE`].
    #[track_caller]
    #[expect(clippy::panic, reason = "a wait in vain is a failed test, and panics are how tests fail")]
    pub fn wait_for(&self, words: &[&str]) -> Value {
        match self.find(words, DEADLINE) {
            Some(line) => serde_json::from_str(&line).unwrap_or(Value::String(line)),
            None => panic!("no line of the log has {words:?}. The log:\n{}", self.text()),
        }
    }

    /// Everything so far.
    pub fn text(&self) -> String {
        let lines = self.lock();
        lines.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
