//! What is known of a relayed connection while it lasts, and what is settled at its end.

use crate::dialect::{Dialect, EventKind, Usage, upgrade};
use crate::keys::table::Key;
use crate::observe::metrics::OpenSocket;
use crate::proxy::app::App;
use crate::proxy::completion::{Completion, End};
use crate::proxy::upgrade::ending::{Cause, Meaning, Past, Side};
use crate::proxy::upgrade::frames::{Frames, Messages, Told};
use crate::proxy::upgrade::inflate::{Form, Inflate};
use crate::proxy::upgrade::pump::Stop;
use http::HeaderValue;
use spillway_sdk::ProviderError;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A relayed connection.
#[derive(Debug)]
pub(super) struct Session {
    completion: Completion,
    began: Instant,
    /// What it speaks, for the log.
    protocol: String,
    /// Where it speaks in frames: the caller's and the provider's.
    frames: Option<(Frames, Frames)>,
    /// Bytes that were passed on from the caller, and from the provider.
    bytes: (u64, u64),
    used: Usage,
    /// Who has said goodbye first, and with which code.
    goodbye: Option<(Side, Option<u16>)>,
    /// Whether the provider has said goodbye, first or in answer.
    has_provider_closed: bool,
    /// The side that has stopped first, and how.
    cause: Option<Cause>,
    /// Whether it is known that the provider serves.
    is_proven: bool,
    /// The error that the provider has told instead.
    error: Option<ProviderError>,
    _open: OpenSocket,
}

/// Nothing is left to be relayed, whatever the other direction does.
#[derive(Debug)]
pub(super) struct Over;

impl Session {
    /// Begins behind a handshake in which both have agreed on this protocol, and on this form of its messages.
    pub(super) fn begin(protocol: &HeaderValue, form: Form, mut completion: Completion) -> Session {
        if let Some(circuits) = &mut completion.circuits {
            // Whoever leaves now has not waited in vain.
            circuits.answered();
        }
        if let Some(limits) = &mut completion.charges.upstream {
            limits.lasts();
        }
        let messages = match form {
            _ if completion.target.request.dialect == Dialect::Other => Messages::Unread,
            Form::Plain => Messages::Plain,
            Form::Deflated { begins_anew } => Messages::Deflated(Inflate::new(begins_anew)),
            Form::Unknown => Messages::Unread,
        };
        let in_frames = upgrade::is_websocket(protocol);
        Session {
            began: Instant::now(),
            protocol: String::from_utf8_lossy(protocol.as_bytes()).into_owned(),
            frames: in_frames.then(|| (Frames::new(Messages::Unread), Frames::new(messages))),
            bytes: (0, 0),
            used: Usage::default(),
            goodbye: None,
            has_provider_closed: false,
            cause: None,
            is_proven: false,
            error: None,
            _open: completion.target.upstream.metrics.open_socket(),
            completion,
        }
    }

    /// Whether it speaks in frames, where a side that sends no more has left.
    pub(super) fn is_websocket(&self) -> bool {
        self.frames.is_some()
    }

    /// How long it may be silent in both directions.
    pub(super) fn idle_timeout(&self) -> Duration {
        self.completion.worker.app.config.server.socket_idle_timeout
    }

    /// The key that its caller has shown.
    pub(super) fn key(&self) -> Option<Arc<Key>> {
        self.completion.target.request.caller.key.clone()
    }

    pub(super) fn app(&self) -> Arc<App> {
        Arc::clone(&self.completion.worker.app)
    }

    /// These bytes of this side were passed on.
    pub(super) fn passed(&mut self, from: Side, bytes: &[u8]) {
        let count = match from {
            Side::Caller => &mut self.bytes.0,
            Side::Provider => &mut self.bytes.1,
        };
        *count = count.saturating_add(bytes.len() as u64);
        let Some((of_caller, of_provider)) = &mut self.frames else {
            // Of another protocol nothing is known but that something comes.
            if from == Side::Provider {
                self.proves();
            }
            return;
        };
        let frames = if from == Side::Caller { of_caller } else { of_provider };
        let (goodbye, has_provider_closed) = (&mut self.goodbye, &mut self.has_provider_closed);
        let completion = &mut self.completion;
        let (mut serves, mut error) = (false, None);
        let used = &mut self.used;
        frames.read(bytes, |told| match told {
            Told::Close(code) => {
                goodbye.get_or_insert((from, code));
                *has_provider_closed |= from == Side::Provider;
            }
            Told::Message => serves |= from == Side::Provider,
            Told::Json(json) => {
                let dialect = completion.target.request.dialect;
                if let Some(usage) = dialect.read_message_usage(json) {
                    completion.uses(usage);
                    *used = used.plus(usage);
                }
                match dialect.read_message(json) {
                    EventKind::Error(told) if !serves => error = Some(told),
                    EventKind::Preamble | EventKind::Error(_) => {}
                    EventKind::Content | EventKind::Finished(_) | EventKind::Complete | EventKind::End => {
                        serves = true;
                    }
                }
            }
        });
        if let Some(error) = error.filter(|_| !self.is_proven) {
            self.error.get_or_insert(error);
        }
        if serves {
            self.proves();
        }
    }

    /// The provider serves: what it does later is said of this connection alone.
    fn proves(&mut self) {
        if !std::mem::replace(&mut self.is_proven, true) {
            self.completion.serves();
        }
    }

    /// It has stood for long enough to tell what it is worth.
    pub(super) fn has_stood(&mut self) {
        match self.error.take().filter(|_| !self.is_proven) {
            Some(error) => {
                self.is_proven = true;
                self.completion.fails(error);
            }
            None => self.proves(),
        }
    }

    /// One direction has ended. The other one may go on, unless a side was lost or has had the last word.
    ///
    /// # Errors
    /// When there is nobody to go on with.
    pub(super) fn stopped(&mut self, sender: Side, stop: &Stop) -> Result<(), Over> {
        let reader = if sender == Side::Caller { Side::Provider } else { Side::Caller };
        match stop {
            Stop::Ended => {
                self.cause.get_or_insert(Cause::Ended(sender));
                // A server that has closed and sends no more waits for nothing: its close was the last word.
                if sender == Side::Provider && self.has_provider_closed { Err(Over) } else { Ok(()) }
            }
            Stop::SenderLost(error) => {
                tracing::debug!(request_id = self.completion.target.request.id, ?sender, %error, "a side was lost");
                // Whoever has sent its last byte before is not missed.
                self.cause.get_or_insert(Cause::Lost(sender));
                Err(Over)
            }
            // One that has left in order takes no more, and what it has sent before is still on its way.
            Stop::ReaderGone(_) if self.cause == Some(Cause::Ended(reader)) => Ok(()),
            Stop::ReaderGone(error) => {
                tracing::debug!(request_id = self.completion.target.request.id, ?reader, %error, "a side takes no more");
                // Its own direction tells how it has left.
                Ok(())
            }
        }
    }

    /// What has ended it, both directions being over.
    pub(super) fn cause(&self) -> Cause {
        self.cause.unwrap_or(Cause::Lost(Side::Provider))
    }

    /// Whether a close of ours may follow what has been passed on to the caller.
    pub(super) fn may_say_goodbye(&self) -> bool {
        let is_between = self.frames.as_ref().is_some_and(|(_, of_provider)| of_provider.is_between_frames());
        is_between && !self.has_provider_closed
    }

    /// Settles all that was held for it, and tells of it.
    pub(super) fn end(mut self, cause: Cause) {
        let meaning = Meaning::of(&Past {
            cause,
            goodbye: self.goodbye,
            has_goodbyes: self.frames.is_some(),
            has_spoken: self.bytes.1 > 0,
            is_proven: self.is_proven,
            error: self.error.take(),
        });
        let metrics = Arc::clone(&self.completion.target.upstream.metrics);
        metrics.socket(meaning.word());
        let said = self.told(cause);
        self.completion.trace.tell(&said);
        let end = match meaning {
            Meaning::Over => End::Whole,
            Meaning::OverUnproven => {
                // What was held of the circuits is dropped, which counts nowhere.
                self.completion.circuits = None;
                End::Whole
            }
            Meaning::Broken(fault) => End::Broken(fault, None),
            Meaning::Failed(error) => End::Failed(error),
            Meaning::Left => End::Abandoned(None),
            Meaning::Cut(why) => End::Abandoned(Some(why)),
        };
        // Its tokens are booked already.
        self.completion.settle(end, None);
    }

    /// What is told of it in the log.
    fn told(&self, cause: Cause) -> String {
        let Session { protocol, bytes: (out, back), used, .. } = self;
        let mut told = format!(
            "{protocol} for {:.1} s, {out} bytes from the caller and {back} to it",
            self.began.elapsed().as_secs_f64()
        );
        if used.total() > 0 {
            told.push_str(&format!(", {} and {} tokens", used.input, used.output));
        }
        let name = |side| if side == Side::Caller { "the caller" } else { "the provider" };
        told.push_str(&match (self.goodbye, cause) {
            (Some((side, Some(code))), _) => format!(", closed by {} with {code}", name(side)),
            (Some((side, None)), _) => format!(", closed by {}", name(side)),
            (None, Cause::Ended(side)) => format!(", ended by {}", name(side)),
            (None, Cause::Lost(side)) => format!(", {} was lost", name(side)),
            (None, Cause::Silence | Cause::Drain | Cause::Revoked) => String::new(),
        });
        told
    }
}
