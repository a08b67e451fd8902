//! Inflates a WebSocket's compressed messages (RFC 7692), so that they can be read beside their way.

use flate2::{Decompress, FlushDecompress, Status};
use http::HeaderMap;
use http::header::SEC_WEBSOCKET_EXTENSIONS;

/// What a sender leaves out at the end of each message.
const TRAILER: [u8; 4] = [0, 0, 0xff, 0xff];

/// What is inflated at once.
const PIECE_BYTES: usize = 4 << 10;

/// Inflates the messages of one direction.
#[derive(Debug)]
pub(super) struct Inflate {
    stream: Decompress,
    /// Whether each message stands for itself.
    begins_anew: bool,
    /// What the messages to come repeat is not known any more.
    is_lost: bool,
}

/// How a server's messages come, by its answer to the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As they are.
    Plain,
    /// Compressed, each by itself if `begins_anew`.
    Deflated { begins_anew: bool },
    /// In a form of which nothing is known.
    Unknown,
}

impl Form {
    /// As both sides have agreed upon.
    pub(super) fn of(headers: &HeaderMap) -> Form {
        let mut agreed = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter().flat_map(|value| match value.to_str() {
            Ok(text) => text.split(',').map(str::trim).filter(|one| !one.is_empty()).collect(),
            Err(_) => vec![""],
        });
        match (agreed.next(), agreed.next()) {
            (None, _) => Form::Plain,
            (Some(only), None) => {
                let mut parts = only.split(';').map(str::trim);
                match parts.next() {
                    Some("permessage-deflate") => {
                        let begins_anew = parts.any(|part| part == "server_no_context_takeover");
                        Form::Deflated { begins_anew }
                    }
                    _ => Form::Unknown,
                }
            }
            (Some(_), Some(_)) => Form::Unknown,
        }
    }
}

impl Inflate {
    /// For a direction in which nothing has come yet.
    pub(super) fn new(begins_anew: bool) -> Inflate {
        Inflate { stream: Decompress::new(false), begins_anew, is_lost: false }
    }

    /// Whether nothing that comes can be read any more.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Inflates a piece of a message behind what is there of it. False when it cannot be, or would be more than this.
    pub(super) fn read(&mut self, mut piece: &[u8], into: &mut Vec<u8>, bytes_max: usize) -> bool {
        loop {
            let room = into.capacity() - into.len();
            if room < PIECE_BYTES {
                into.reserve(PIECE_BYTES);
            }
            let (read, written) = (self.stream.total_in(), self.stream.total_out());
            let inflated = self.stream.decompress_vec(piece, into, FlushDecompress::Sync);
            let read = usize::try_from(self.stream.total_in() - read).unwrap_or(usize::MAX);
            piece = piece.get(read..).unwrap_or_default();
            let stands_still = read == 0 && self.stream.total_out() == written;
            match inflated {
                Ok(Status::Ok | Status::BufError) if into.len() <= bytes_max => {}
                // A message has no end of its own inside of it, and one that is too large is not inflated for nobody.
                Ok(_) | Err(_) => return self.lose(),
            }
            let is_full = into.len() == into.capacity();
            if piece.is_empty() && !is_full {
                return true;
            }
            if stands_still && !is_full {
                return self.lose();
            }
        }
    }

    /// Ends a message. False as in [`Inflate::read`].
    pub(super) fn end(&mut self, into: &mut Vec<u8>, bytes_max: usize) -> bool {
        let is_whole = self.read(&TRAILER, into, bytes_max);
        if self.begins_anew {
            self.stream.reset(false);
            self.is_lost = false;
        }
        is_whole
    }

    /// The rest of this message is not read, and where messages repeat each other, nor are those that follow.
    fn lose(&mut self) -> bool {
        self.is_lost = !self.begins_anew;
        if self.begins_anew {
            self.stream.reset(false);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};
    use http::HeaderValue;

    /// Messages as a sender compresses them.
    fn deflated(messages: &[&[u8]], begins_anew: bool) -> Vec<Vec<u8>> {
        let mut stream = Compress::new(Compression::default(), false);
        let deflate = |message: &&[u8]| {
            let mut bytes = Vec::with_capacity(message.len() + 1_024);
            stream.compress_vec(message, &mut bytes, FlushCompress::Sync).expect("room");
            if begins_anew {
                stream.reset();
            }
            bytes.truncate(bytes.len() - TRAILER.len());
            bytes
        };
        messages.iter().map(deflate).collect()
    }

    #[test]
    fn messages_are_inflated_in_any_pieces_whether_or_not_they_repeat_each_other() {
        let long = b"{\"usage\":1}".repeat(4_000);
        let messages: [&[u8]; 4] = [b"{\"type\":\"a\"}", b"{\"type\":\"a\"}", &long, b"{}"];
        for begins_anew in [true, false] {
            for size in [1, 3, 4_096] {
                let mut inflate = Inflate::new(begins_anew);
                for (compressed, message) in deflated(&messages, begins_anew).iter().zip(messages) {
                    let mut read = Vec::new();
                    assert!(compressed.chunks(size).all(|piece| inflate.read(piece, &mut read, 1 << 20)));
                    assert!(inflate.end(&mut read, 1 << 20));
                    assert_eq!(read, message, "{begins_anew} {size}");
                }
            }
        }
    }

    #[test]
    fn what_would_become_too_large_is_not_inflated_and_what_repeats_it_is_lost() {
        let bomb = vec![b'{'; 64 << 20];
        for begins_anew in [true, false] {
            let messages = deflated(&[&bomb, b"{}"], begins_anew);
            let mut inflate = Inflate::new(begins_anew);
            let mut read = Vec::new();
            assert!(!inflate.read(&messages[0], &mut read, 1 << 10));
            assert!(read.capacity() <= 64 << 10, "{}", read.capacity());
            assert_eq!(inflate.is_lost(), !begins_anew);
            if begins_anew {
                read.clear();
                assert!(inflate.read(&messages[1], &mut read, 1 << 10) && inflate.end(&mut read, 1 << 10));
                assert_eq!(read, b"{}");
            }
        }
        let mut inflate = Inflate::new(false);
        assert!(!inflate.read(b"\xff\xff\xff\xff", &mut Vec::new(), 1 << 10) && inflate.is_lost());
    }

    #[test]
    fn how_messages_come_is_what_both_sides_agree_upon() {
        for (agreed, form) in [
            (&[][..], Form::Plain),
            (&["permessage-deflate"], Form::Deflated { begins_anew: false }),
            (&["permessage-deflate; server_max_window_bits=12"], Form::Deflated { begins_anew: false }),
            (
                &["permessage-deflate; client_no_context_takeover; server_no_context_takeover"],
                Form::Deflated { begins_anew: true },
            ),
            (&["permessage-bzip2"], Form::Unknown),
            (&["permessage-deflate, x-other"], Form::Unknown),
            (&["permessage-deflate", "x-other"], Form::Unknown),
        ] {
            let mut headers = HeaderMap::new();
            for value in agreed {
                headers.append(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(value));
            }
            assert_eq!(Form::of(&headers), form, "{agreed:?}");
        }
    }
}
