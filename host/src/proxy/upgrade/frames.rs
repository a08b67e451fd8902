//! Reads a WebSocket's frames beside their way (RFC 6455, section 5): where one ends, what a close says, and the
//! messages that are JSON. It holds no byte up, and what it does not understand it reads no further.

use crate::proxy::upgrade::inflate::Inflate;
use std::io::Cursor;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Largest message that is read; a larger one is passed on like all others, and what it says is not known. An answer's
/// last message repeats what was asked, tools included, and is some hundred kilobytes long at most.
pub(super) const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// What of a message's memory is kept for the next one.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Longest head of a frame: two bytes, eight of length, four of mask.
const HEAD_BYTES_MAX: usize = 14;
/// Longest payload of a frame that is about the connection.
const CONTROL_BYTES_MAX: u64 = 125;

/// What has been read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told<'a> {
    /// A message that is an object of JSON, as it seems.
    Json(&'a [u8]),
    /// A message of which nothing is known.
    Message,
    /// The sender closes, with this code if it says one.
    Close(Option<u16>),
}

/// How a direction's messages can be read.
#[derive(Debug)]
pub(super) enum Messages {
    /// Not at all: nobody needs to know, or they are in a form of which nothing is known.
    Unread,
    /// As they are.
    Plain,
    /// Compressed, those that say so (RFC 7692).
    Deflated(Inflate),
}

/// Reads one direction.
#[derive(Debug)]
pub(super) struct Frames {
    at: At,
    messages: Messages,
    /// The message under way.
    message: Message,
}

/// Where in a frame.
#[derive(Debug)]
enum At {
    /// In its head, of which so much has come.
    Head([u8; HEAD_BYTES_MAX], usize),
    /// In its payload.
    Payload(Payload),
    /// It is none that anybody knows.
    Lost,
}

#[derive(Debug)]
struct Payload {
    kind: Kind,
    left: u64,
    mask: Option<[u8; 4]>,
    /// So many bytes of it have come, for the mask.
    position: usize,
}

#[derive(Debug)]
enum Kind {
    /// Part of a message, its last one perhaps.
    Data { is_last: bool },
    /// The beginning of a close, with as much of its code as has come.
    Close([u8; 2]),
    /// Pings and pongs.
    Other,
}

/// What is held of a message.
#[derive(Debug, Default)]
struct Message {
    bytes: Vec<u8>,
    is_deflated: bool,
    /// It is too large, or no JSON, or cannot be inflated.
    is_unread: bool,
}

impl Frames {
    /// Reads frames, and of their messages what can be read.
    pub(super) fn new(messages: Messages) -> Frames {
        Frames { at: At::Head([0; HEAD_BYTES_MAX], 0), messages, message: Message::default() }
    }

    /// Whether all frames that have begun are whole, so that another one may follow.
    pub(super) fn is_between_frames(&self) -> bool {
        matches!(self.at, At::Head(_, 0))
    }

    /// Reads what has passed, and tells what it makes of it.
    pub(super) fn read(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Told<'_>)) {
        while !bytes.is_empty() {
            match &mut self.at {
                At::Lost => return,
                At::Head(head, length) => {
                    let before = *length;
                    let come = bytes.len().min(HEAD_BYTES_MAX - before);
                    head[before..before + come].copy_from_slice(&bytes[..come]);
                    let mut cursor = Cursor::new(&head[..before + come]);
                    match FrameHeader::parse(&mut cursor) {
                        Ok(None) => {
                            *length = before + come;
                            bytes = &bytes[come..];
                        }
                        Ok(Some((header, left))) => {
                            // It ends behind what was known of it: else it would have been whole before.
                            let own = usize::try_from(cursor.position()).unwrap_or(0).saturating_sub(before);
                            bytes = bytes.get(own..).unwrap_or_default();
                            self.at = self.begin(&header, left);
                            self.end_if_whole(&mut tell);
                        }
                        Err(_) => self.at = At::Lost,
                    }
                }
                At::Payload(payload) => {
                    let come = usize::try_from(payload.left).unwrap_or(usize::MAX).min(bytes.len());
                    let (own, rest) = bytes.split_at(come);
                    payload.left -= come as u64;
                    match &mut payload.kind {
                        Kind::Data { .. } => self.message.take(own, &mut self.messages),
                        Kind::Close(code) => {
                            let mask = payload.mask.unwrap_or_default();
                            for (at, byte) in (payload.position..code.len()).zip(own) {
                                code[at] = byte ^ mask[at % mask.len()];
                            }
                        }
                        Kind::Other => {}
                    }
                    payload.position = payload.position.saturating_add(come);
                    bytes = rest;
                    self.end_if_whole(&mut tell);
                }
            }
        }
    }

    fn begin(&mut self, header: &FrameHeader, left: u64) -> At {
        let kind = match header.opcode {
            OpCode::Data(Data::Text | Data::Binary) => {
                self.message.begin(header.rsv1, header.mask.is_some(), &self.messages);
                Kind::Data { is_last: header.is_final }
            }
            OpCode::Data(Data::Continue) => Kind::Data { is_last: header.is_final },
            OpCode::Control(Control::Close) if left <= CONTROL_BYTES_MAX => Kind::Close([0; 2]),
            OpCode::Control(Control::Ping | Control::Pong) if left <= CONTROL_BYTES_MAX => Kind::Other,
            OpCode::Data(Data::Reserved(_)) | OpCode::Control(_) => return At::Lost,
        };
        At::Payload(Payload { kind, left, mask: header.mask, position: 0 })
    }

    fn end_if_whole(&mut self, tell: &mut impl FnMut(Told<'_>)) {
        let At::Payload(Payload { kind, left: 0, position, .. }) = &self.at else { return };
        match kind {
            Kind::Data { is_last: true } => tell(self.message.end(&mut self.messages)),
            Kind::Close(code) => tell(Told::Close((*position >= code.len()).then(|| u16::from_be_bytes(*code)))),
            Kind::Data { is_last: false } | Kind::Other => {}
        }
        self.at = At::Head([0; HEAD_BYTES_MAX], 0);
    }
}

impl Message {
    /// A message begins. One that is masked is a caller's, whose own affair it is.
    fn begin(&mut self, is_deflated: bool, is_masked: bool, messages: &Messages) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        self.is_deflated = is_deflated;
        self.is_unread = is_masked
            || match messages {
                Messages::Unread => true,
                Messages::Plain => is_deflated,
                Messages::Deflated(inflate) => is_deflated && inflate.is_lost(),
            };
    }

    fn take(&mut self, piece: &[u8], messages: &mut Messages) {
        if self.is_unread {
            return;
        }
        match messages {
            // What the messages after it repeat is in this one, whatever it is: it is inflated to its end.
            Messages::Deflated(inflate) if self.is_deflated => {
                self.is_unread = !inflate.read(piece, &mut self.bytes, MESSAGE_BYTES_MAX);
            }
            Messages::Deflated(_) | Messages::Plain | Messages::Unread => {
                // Blanks in front are not kept, so that nobody makes us look at them again with each piece.
                let piece = if self.bytes.is_empty() { piece.trim_ascii_start() } else { piece };
                self.is_unread = self.bytes.len() + piece.len() > MESSAGE_BYTES_MAX;
                if !self.is_unread {
                    self.bytes.extend_from_slice(piece);
                }
                self.is_unread |= self.bytes.first().is_some_and(|first| *first != b'{');
            }
        }
    }

    fn end(&mut self, messages: &mut Messages) -> Told<'_> {
        if let (Messages::Deflated(inflate), true, false) = (messages, self.is_deflated, self.is_unread) {
            self.is_unread = !inflate.end(&mut self.bytes, MESSAGE_BYTES_MAX);
        }
        let is_json = !self.is_unread && self.bytes.trim_ascii_start().starts_with(b"{");
        // What follows without a beginning of its own is part of nothing.
        self.is_unread = true;
        if is_json { Told::Json(&self.bytes) } else { Told::Message }
    }
}

#[cfg(test)]
mod tests;
