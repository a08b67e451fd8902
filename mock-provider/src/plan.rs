//! What is sent, step by step, once a reply has met a request.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{CONTENT_ENCODING, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use tokio::sync::watch;

use super::dialects::Answer;
use super::failures::Failure;
use super::reply::Reply;

/// A door in the way of a reply, closed until the test opens it; clones are the same door.
///
/// With it a test waits on conditions ("the client has seen the first event") and never on time.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Lets everything pass that waits here or comes here later. Opening twice is harmless.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn opened(&self) {
        // Waiting fails only when the sender is gone, and `self` holds it.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// A wait within a reply.
#[derive(Clone, Debug)]
pub(super) enum Pause {
    For(Duration),
    Until(Gate),
    Forever,
}

impl Pause {
    pub(super) async fn wait(self) {
        match self {
            Self::For(duration) => tokio::time::sleep(duration).await,
            Self::Until(gate) => gate.opened().await,
            Self::Forever => std::future::pending().await,
        }
    }
}

/// How a connection is broken on purpose.
#[derive(Clone, Copy, Debug)]
pub(super) enum Break {
    /// An orderly FIN, although the message is not complete.
    Close,
    /// A TCP reset.
    Reset,
}

/// One step of sending a body.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Send(Bytes),
    Hold(Pause),
    /// The dialect's own error event, after which the stream ends without its usual closing.
    ErrorEvent,
    /// The orderly end of a stream that is not whole.
    End,
    Break(Break),
}

/// A reply ready to be sent.
pub(super) struct Plan {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) steps: Vec<Step>,
    /// In bytes; `None` is sent in chunks.
    pub(super) length: Option<u64>,
}

impl Plan {
    /// Joins what the dialect answers with the steps scripted into it.
    pub(super) fn new(mut reply: Reply, answer: Answer) -> Self {
        let Answer { status, headers, mut events, framing } = answer;
        let streamed = framing.is_some();
        if let ([whole], false, false) = (events.as_mut_slice(), streamed, reply.steps.is_empty()) {
            let first_half = whole.split_to(whole.len() / 2);
            events.insert(0, first_half);
        }
        let end = events.len();
        let place = |wanted: Option<usize>| match wanted {
            Some(count) if streamed => count.min(end),
            Some(_) | None => end / 2,
        };
        // Sorting is stable, so what stands at one place keeps the order in which it was written.
        reply.steps.sort_by_key(|(wanted, _)| place(*wanted));

        let mut plan = Self { status: reply.status.unwrap_or(status), headers, steps: Vec::new(), length: None };
        let mut scripted = reply.steps.into_iter().peekable();
        let mut events = events.into_iter();
        'events: for position in 0..=end {
            while let Some((_, step)) = scripted.next_if(|(wanted, _)| place(*wanted) == position) {
                match step {
                    Step::ErrorEvent => {
                        if let Some(framing) = framing {
                            plan.steps.push(Step::Send(framing.error_event(Failure::Overloaded, position)));
                            break 'events;
                        }
                    }
                    Step::End if streamed => break 'events,
                    Step::End => {}
                    Step::Send(_) | Step::Hold(_) | Step::Break(_) => plan.steps.push(step),
                }
            }
            if let Some(event) = events.next().filter(|event| !event.is_empty()) {
                let pace = reply.pace.filter(|_| streamed);
                plan.steps.extend(pace.map(|duration| Step::Hold(Pause::For(duration))));
                plan.steps.push(Step::Send(event));
            }
        }
        if reply.gzipped {
            compress(&mut plan.steps);
            plan.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let sizes = plan.steps.iter().map(|step| match step {
            Step::Send(bytes) => bytes.len() as u64,
            Step::Hold(_) | Step::ErrorEvent | Step::End | Step::Break(_) => 0,
        });
        let length = sizes.sum();
        // An announced length of zero would be a whole answer at once, with no place left to wait or break in.
        plan.length = (!streamed && (length > 0 || plan.steps.is_empty())).then_some(length);

        for name in reply.headers.keys() {
            plan.headers.remove(name);
        }
        plan.headers.extend(reply.headers);
        plan
    }
}

/// Compresses what is sent, so that the reader of each piece has all of it at once.
fn compress(steps: &mut Vec<Step>) {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    for step in steps.iter_mut() {
        if let Step::Send(bytes) = step {
            // Writing into memory does not fail.
            let _ = encoder.write_all(bytes).and_then(|()| encoder.flush());
            *bytes = std::mem::take(encoder.get_mut()).into();
        }
    }
    let broken = steps.iter().any(|step| matches!(step, Step::Break(_)));
    let closing = encoder.finish().unwrap_or_default();
    if !broken && !closing.is_empty() {
        steps.push(Step::Send(closing.into()));
    }
}
