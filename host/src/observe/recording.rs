//! Recorded requests: one line per judged attempt, for `spillway policy replay` and `spillway simulate`, and one per
//! request that had none.
//!
//! A line holds what a policy may see and what was decided, and so neither credentials nor prompts nor cookies. It is
//! made and written on a thread of its own: a worker hands over what it has at hand, and never waits. A credential that
//! a provider repeats in its answer is taken out as well.

mod arrival;
mod entry;
mod file;
mod reader;
mod redaction;

pub(crate) use arrival::{Arrival, Unserved};
pub(crate) use entry::{Entry, FORM, Recorded, phase_as_str};
pub(crate) use reader::{Line, read};

use crate::dialect::Dialect;
use crate::dialect::headers;
use crate::policy::Record;
use crate::policy::{By, Judged};
use crate::runtime::clock::{milliseconds, random};
use arrival::UnservedLine;
use bytes::Bytes;
use entry::Octets;
use file::RotatingFile;
use http::{HeaderMap, header};
use prometheus_client::metrics::counter::Counter;
use redaction::Redaction;
use serde_json::Value;
use spillway_sdk::{AttemptFacts, Fault, Phase, ProviderError, RetryDecision, Verdict, body_json, wait};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Attempts that wait to be written: a second's worth for a busy Spillway, and at most some tens of megabytes. Beyond
/// it they are dropped and counted.
const QUEUE_MAX: usize = 1_024;
/// Size from which on the file is put aside and begun anew. One old file is kept, so twice as much lies on disk.
pub(crate) const FILE_BYTES_MAX: u64 = 64 << 20;

/// What became of the attempts to be recorded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recordings {
    /// Lines written.
    pub written: Counter,
    /// Attempts dropped, because the disk was slower than the traffic.
    pub dropped: Counter,
    /// Lines that could not be written.
    pub failed: Counter,
}

/// Takes attempts from workers.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    queue: SyncSender<Message>,
    counts: Recordings,
}

#[derive(Debug)]
enum Message {
    Attempt(Box<Attempt>),
    Unserved(Box<Unserved>),
    Stop,
}

/// The thread that writes; when it is dropped, what was handed over until then is written.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: SyncSender<Message>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The thread is gone already if this fails.
        let _ = self.queue.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Begins to record into this file; what it holds already stays.
///
/// # Errors
/// When it cannot be opened, or no thread be started.
pub(crate) fn start(path: &Path) -> io::Result<(Recorder, Writer)> {
    let file = RotatingFile::open(path, FILE_BYTES_MAX)?;
    let (queue, messages) = sync_channel(QUEUE_MAX);
    let counts = Recordings::default();
    let counted = counts.clone();
    let thread = std::thread::Builder::new().name("recorder".into()).spawn(move || write(file, &messages, &counted))?;
    Ok((Recorder { queue: queue.clone(), counts }, Writer { queue, thread: Some(thread) }))
}

impl Recorder {
    /// What became of the attempts so far.
    pub(crate) fn counts(&self) -> &Recordings {
        &self.counts
    }

    /// Notes a judged attempt. It is recorded when the note is dropped.
    ///
    /// What was sent as a credential, in these headers or in the query of this path, is taken out of it.
    pub(crate) fn note(
        &self,
        request_id: &str,
        (sent, path_and_query): (&HeaderMap, &str),
        record: &Record,
        judged: &Judged,
        arrival: Option<Arrival>,
    ) -> Note {
        let query = path_and_query.split_once('?').map_or("", |(_, query)| query);
        let redaction = Redaction::of(headers::credentials(sent, query));
        let mut note = self.note_of(request_id, redaction, record, judged);
        if let Some(attempt) = &mut note.attempt {
            attempt.arrival = arrival;
        }
        note
    }

    /// Records a request that ended without an attempt.
    pub(crate) fn unserved(&self, unserved: Unserved) {
        self.hand_over(Message::Unserved(Box::new(unserved)));
    }

    fn hand_over(&self, message: Message) {
        if self.queue.try_send(message).is_err() {
            self.counts.dropped.inc();
        }
    }

    fn note_of(&self, request_id: &str, redaction: Redaction, record: &Record, judged: &Judged) -> Note {
        let attempt = Attempt {
            at: UNIX_EPOCH + record.unix_time(),
            request_id: request_id.to_owned(),
            redaction,
            upstream: Arc::clone(&record.upstream),
            dialect: record.dialect,
            model: record.model.as_deref().map(str::to_owned),
            streaming: record.streaming,
            number: record.number,
            phase: record.phase,
            fault: record.fault,
            status: record.status,
            headers: HeaderMap::clone(&record.headers),
            prefix: record.prefix.clone(),
            error: record.error.get().cloned(),
            json: record.json.get().cloned().flatten(),
            elapsed: record.elapsed,
            first_content: record.first_content(),
            remaining: record.remaining(),
            random: random(),
            verdict: judged.verdict.clone(),
            by: Arc::clone(&judged.by),
            backoff: None,
            arrival: None,
        };
        Note { recorder: self.clone(), attempt: Some(Box::new(attempt)) }
    }
}

/// An attempt that is recorded when this is dropped, so that it happens once, however the request goes on.
#[derive(Debug)]
pub(crate) struct Note {
    recorder: Recorder,
    attempt: Option<Box<Attempt>>,
}

impl Note {
    /// Adds what was answered when a retry was due.
    pub(crate) fn backed_off(&mut self, decision: Option<RetryDecision>) {
        if let Some(attempt) = &mut self.attempt {
            attempt.backoff = Some(decision);
        }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.recorder.hand_over(Message::Attempt(attempt));
        }
    }
}

/// What a worker hands over. Everything that costs time is left to the writer.
#[derive(Debug)]
struct Attempt {
    at: SystemTime,
    request_id: String,
    redaction: Redaction,
    upstream: Arc<str>,
    dialect: Dialect,
    model: Option<String>,
    streaming: bool,
    number: u32,
    phase: Phase,
    fault: Option<Fault>,
    status: Option<u16>,
    headers: HeaderMap,
    prefix: Bytes,
    /// `None` when it was not read yet.
    error: Option<Option<ProviderError>>,
    /// The body's, or that of a stream's error event.
    json: Option<Value>,
    elapsed: Duration,
    first_content: Option<Duration>,
    remaining: Option<Duration>,
    random: u64,
    verdict: Verdict,
    by: Arc<By>,
    backoff: Option<Option<RetryDecision>>,
    /// Absent for a job's attempts.
    arrival: Option<Arrival>,
}

impl Attempt {
    fn into_entry(self) -> Entry {
        let header = |name: &str| self.headers.get(name).map(|value| value.as_bytes());
        let retry_after = wait::from_headers(header, self.at).or_else(|| wait::from_body(&self.prefix));
        let redaction = &self.redaction;
        let error = self.error.unwrap_or_else(|| ProviderError::parse(&self.prefix)).map(|error| ProviderError {
            code: error.code.map(|code| redaction.text(code)),
            kind: error.kind.map(|kind| redaction.text(kind)),
            message: redaction.text(error.message),
        });
        let event = self
            .json
            .filter(|json| self.phase != Phase::Committed && body_json::parse(&self.prefix).as_ref() != Some(json));
        // What is no JSON any more without its credential was a credential for the most part.
        let event = event.and_then(|event| body_json::parse(&redaction.apply(event.to_string().as_bytes())));
        let reason = redaction.text(self.verdict.reason.into_owned());
        let verdict = Verdict { reason: reason.into(), ..self.verdict };
        // A policy sees the first value of each header, and no cookies.
        let seen = self.headers.keys().filter(|name| *name != header::SET_COOKIE);
        let headers = seen.filter_map(|name| {
            let value = self.headers.get(name)?;
            Some((name.as_str().to_owned(), Octets::of(&redaction.apply(value.as_bytes()))))
        });
        Entry {
            form: FORM,
            unix_ms: milliseconds(self.at.duration_since(UNIX_EPOCH).unwrap_or_default()),
            request_id: self.request_id,
            upstream: self.upstream.to_string(),
            dialect: self.dialect.as_str().to_owned(),
            model: self.model,
            streaming: self.streaming,
            number: self.number,
            phase: phase_as_str(self.phase).to_owned(),
            fault: self.fault.map(|fault| fault.as_str().to_owned()),
            status: self.status,
            headers: headers.collect(),
            event,
            body: Octets::of(&redaction.apply(&self.prefix)),
            provider_error: error.map(Into::into),
            retry_after_ms: retry_after.map(milliseconds),
            elapsed_ms: milliseconds(self.elapsed),
            first_content_ms: self.first_content.map(milliseconds),
            remaining_ms: self.remaining.map(milliseconds),
            random: self.random,
            verdict: (&verdict).into(),
            judged_by: self.by.label.clone(),
            sha256: self.by.sha256.map(|sha256| sha256.to_string()),
            backoff: self.backoff.map(Into::into),
            arrival: self.arrival,
        }
    }
}

/// Writes what comes until it is told to stop, and flushes whenever nothing more waits.
fn write(mut file: RotatingFile, messages: &Receiver<Message>, counts: &Recordings) {
    let mut failing = false;
    let mut note_result = |result: io::Result<()>| match result {
        Ok(()) => {
            if std::mem::take(&mut failing) {
                tracing::info!("requests are recorded again");
            }
            true
        }
        Err(error) => {
            // Said once, not once a line.
            if !std::mem::replace(&mut failing, true) {
                tracing::error!(%error, "requests cannot be recorded; it is tried again with each");
            }
            false
        }
    };
    loop {
        let message = match messages.try_recv() {
            Ok(message) => message,
            Err(TryRecvError::Empty) => {
                note_result(file.flush());
                match messages.recv() {
                    Ok(message) => {
                        note_result(file.follow());
                        message
                    }
                    Err(_) => return,
                }
            }
            Err(TryRecvError::Disconnected) => Message::Stop,
        };
        let line = match message {
            Message::Attempt(attempt) => serde_json::to_vec(&attempt.into_entry()),
            Message::Unserved(unserved) => serde_json::to_vec(&UnservedLine { unserved: *unserved }),
            Message::Stop => {
                note_result(file.flush());
                return;
            }
        };
        let line = line.map_err(io::Error::from);
        match note_result(line.and_then(|line| file.append(line))) {
            true => counts.written.inc(),
            false => counts.failed.inc(),
        };
    }
}

#[cfg(test)]
mod tests;
