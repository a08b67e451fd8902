//! The beginning of a stream of events, held through its preamble.

use super::{BufferedResponse, PREAMBLE_HOLD, frame_until};
use crate::dialect::compression::Coding;
use crate::dialect::decoder::Decoder;
use crate::dialect::events::is_whole;
use crate::dialect::sse::{Framing, Splitter};
use crate::dialect::{Dialect, EventKind, Operation};
use crate::proxy::target::Target;
use crate::runtime::causes::ErrorChain;
use crate::upstream::client::fault_of;
use bytes::Bytes;
use http::{HeaderMap, header};
use spillway_sdk::{Fault, ProviderError};
use std::collections::VecDeque;
use tokio::time::Instant;

/// Most of a stream that is held while it says nothing. Beyond it the stream is taken for content.
const PREAMBLE_BYTES_MAX: usize = 64 << 10;

/// What cuts the body, if it is a stream of events that can be read as it comes.
pub(super) fn splitter(dialect: Dialect, headers: &HeaderMap) -> Option<Splitter> {
    let framing = dialect.framing();
    let is_stream = framing.is_of(headers.get(header::CONTENT_TYPE)?.as_bytes());
    let is_readable = is_stream && Coding::of(headers).is_read_as_it_comes();
    is_readable.then(|| Splitter::new(framing, Decoder::of(headers)))
}

/// What the beginning of a stream says.
pub(super) enum Beginning {
    /// It has begun, with an answer or with an error.
    Telling(Option<ProviderError>),
    /// It has ended, and was no answer.
    OfNothing(Fault),
    /// It contradicts its head, and is a body.
    NoStream,
}

/// Holds a stream through its preamble, up to the event that is content or an error.
pub(super) async fn hold_stream(target: &Target, held: &mut BufferedResponse, mut splitter: Splitter) -> Beginning {
    let is_compressed = splitter.is_compressed();
    let framing = target.request.dialect.framing();
    let mut bytes = 0;
    let mut release: Option<Instant> = None;
    let beginning = loop {
        let Some(body) = held.rest.as_mut() else { break Beginning::Telling(None) };
        let frame = match frame_until(release, body).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => {
                let fault = fault_of(&error);
                held.cause = Some(ErrorChain::of(error));
                break ended(target, held, &mut splitter, Some(fault));
            }
            Ok(None) => break ended(target, held, &mut splitter, None),
            Err(_) => {
                held.has_content = false;
                break Beginning::Telling(None);
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        bytes += data.len();
        if is_compressed {
            held.arrived.push_back(data.clone());
        }
        splitter.push(data);
        let events = if is_compressed { &mut held.decoded } else { &mut held.arrived };
        if framing == Framing::Events && begins_as_body(events, splitter.pending()) {
            if !is_compressed {
                held.arrived.push_back(splitter.take_rest());
            }
            return Beginning::NoStream;
        }
        let mut telling = None;
        while telling.is_none()
            && let Some(event) = splitter.next_event()
        {
            // Whoever reads of a refused key must not read the key.
            let covered = target.key.as_ref().and_then(|key| key.covered(&event));
            let event = covered.unwrap_or(event);
            telling = tells(target, target.request.dialect.read_event(&event));
            events.push_back(event);
        }
        if let Some(beginning) = telling {
            break beginning;
        }
        if bytes > PREAMBLE_BYTES_MAX || splitter.overflowed() {
            break Beginning::Telling(None);
        }
        if !events.is_empty() {
            release.get_or_insert_with(|| Instant::now() + PREAMBLE_HOLD);
        }
    };
    held.splitter = Some(splitter);
    beginning
}

/// Whether what a head calls a stream of events begins as JSON or a page does, and as no event can.
fn begins_as_body(arrived: &VecDeque<Bytes>, pending: &[u8]) -> bool {
    let mut bytes = arrived.iter().flatten().chain(pending);
    matches!(bytes.find(|byte| !byte.is_ascii_whitespace()), Some(b'{' | b'[' | b'<'))
}

/// What an event says of the stream that it is the first one of to tell anything.
fn tells(target: &Target, kind: EventKind) -> Option<Beginning> {
    match kind {
        EventKind::Preamble if target.request.operation == Operation::Generate => None,
        EventKind::End if target.request.operation == Operation::Generate => {
            Some(Beginning::OfNothing(Fault::Truncated))
        }
        EventKind::Error(error) => Some(Beginning::Telling(Some(error))),
        EventKind::Preamble | EventKind::Content | EventKind::Finished(_) | EventKind::Complete | EventKind::End => {
            Some(Beginning::Telling(None))
        }
    }
}

/// A stream has ended, or broken off, before it told anything.
fn ended(target: &Target, held: &mut BufferedResponse, splitter: &mut Splitter, broken: Option<Fault>) -> Beginning {
    held.rest = None;
    let rest = splitter.take_rest();
    // The blank line behind the last event may be missing, which does not make it say less.
    let whole = is_whole(target.request.dialect, &rest);
    let kind = if whole { target.request.dialect.read_event(&rest) } else { EventKind::Preamble };
    // Half an event would make nonsense of what we say of the break.
    if !rest.is_empty() && (whole || broken.is_none()) {
        let events = if splitter.is_compressed() { &mut held.decoded } else { &mut held.arrived };
        events.push_back(rest);
    }
    match (kind, broken) {
        (EventKind::Error(error), _) => Beginning::Telling(Some(error)),
        (EventKind::Finished(_) | EventKind::Complete, _) => Beginning::Telling(None),
        (EventKind::Preamble | EventKind::Content | EventKind::End, Some(fault)) => {
            held.broken = Some(fault);
            Beginning::OfNothing(fault)
        }
        (EventKind::Preamble | EventKind::Content | EventKind::End, None) => match target.request.operation {
            Operation::Generate => Beginning::OfNothing(Fault::Truncated),
            Operation::PassThrough => Beginning::Telling(None),
        },
    }
}
