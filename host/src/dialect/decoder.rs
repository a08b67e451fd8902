//! A body that comes compressed, decoded piece by piece as it arrives, so that it can be read while what came is passed
//! on.

use super::compression::{BROTLI_BUFFER_BYTES, Coding};
use brotli_decompressor::{BrotliDecoderParameter, DecompressorWriter};
use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use std::fmt;
use std::io::{self, Write};

/// Most that one piece of an answer may decode to, as it arrives. Providers' answers are text, of which a piece becomes
/// ten times as long; what becomes more is meant to do harm, or says nothing. It is passed on, and no longer read.
pub(crate) const PIECE_BYTES_MAX: usize = 4 << 20;

/// Most that is decoded of one answer: what is larger is passed on, and no longer read.
pub(crate) const DECODED_BYTES_MAX: usize = 256 << 20;

/// Decodes one body. What cannot be decoded, or becomes more than it may, is given up: it is not known what follows.
pub(crate) struct Decoder {
    form: Form,
    decoded: usize,
}

enum Form {
    Gzip(MultiGzDecoder<Bounded>),
    /// Some servers leave out the wrapper that belongs to it, which two bytes tell.
    Deflate(Vec<u8>),
    Zlib(ZlibDecoder<Bounded>),
    Unwrapped(DeflateDecoder<Bounded>),
    Brotli(Box<DecompressorWriter<Bounded>>),
    GivenUp,
}

/// Takes what is decoded, up to the bound of a piece.
#[derive(Default)]
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, decoded: &[u8]) -> io::Result<usize> {
        let room = PIECE_BYTES_MAX - self.0.len();
        if room < decoded.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(decoded);
        Ok(decoded.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Decoder {
    /// For a body with this head; `None` for one that is not compressed, or in a way that cannot be read as it comes.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Box<Decoder>> {
        let form = match Coding::of(headers) {
            Coding::Gzip => Form::Gzip(MultiGzDecoder::new(Bounded::default())),
            Coding::Deflate => Form::Deflate(Vec::new()),
            Coding::Brotli => {
                let mut decoder = DecompressorWriter::new(Bounded::default(), BROTLI_BUFFER_BYTES);
                // As in `compression`.
                decoder.set_parameter(BrotliDecoderParameter::BROTLI_DECODER_PARAM_LARGE_WINDOW, 0);
                Form::Brotli(Box::new(decoder))
            }
            Coding::None | Coding::Zstd | Coding::Unknown => return None,
        };
        Some(Box::new(Decoder { form, decoded: 0 }))
    }

    /// What the next piece of the body decodes to, as far as it can be told so far.
    pub(crate) fn decode(&mut self, piece: &[u8]) -> Bytes {
        if let Form::Deflate(begun) = &mut self.form {
            begun.extend_from_slice(piece);
            let [first, second, ..] = begun[..] else { return Bytes::new() };
            let begun = std::mem::take(begun);
            let is_wrapped = first & 0x0f == 8 && (u16::from(first) << 8 | u16::from(second)) % 31 == 0;
            self.form = match is_wrapped {
                true => Form::Zlib(ZlibDecoder::new(Bounded::default())),
                false => Form::Unwrapped(DeflateDecoder::new(Bounded::default())),
            };
            return self.write(&begun);
        }
        self.write(piece)
    }

    /// Whether something came that is not decoded.
    pub(crate) fn has_given_up(&self) -> bool {
        matches!(self.form, Form::GivenUp)
    }

    fn write(&mut self, piece: &[u8]) -> Bytes {
        let (written, output) = match &mut self.form {
            Form::Gzip(decoder) => (decoder.write_all(piece).and_then(|()| decoder.flush()), decoder.get_mut()),
            Form::Zlib(decoder) => (decoder.write_all(piece).and_then(|()| decoder.flush()), decoder.get_mut()),
            Form::Unwrapped(decoder) => (decoder.write_all(piece).and_then(|()| decoder.flush()), decoder.get_mut()),
            Form::Brotli(decoder) => (decoder.write_all(piece), decoder.get_mut()),
            Form::Deflate(_) | Form::GivenUp => return Bytes::new(),
        };
        let decoded = Bytes::from(std::mem::take(&mut output.0));
        self.decoded += decoded.len();
        if written.is_err() || self.decoded > DECODED_BYTES_MAX {
            self.form = Form::GivenUp;
        }
        decoded
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("decoded", &self.decoded).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use http::{HeaderValue, header};
    use proptest::prelude::*;

    fn of(encoding: &'static str) -> Option<Box<Decoder>> {
        Decoder::of(&HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(encoding))]))
    }

    /// Events, each flushed by itself, as servers do it that stream.
    fn flushed(events: &[&str], encoding: &str) -> Vec<Vec<u8>> {
        fn pieces<W: Write>(mut encoder: W, events: &[&str], taken: impl Fn(&mut W) -> Vec<u8>) -> (Vec<Vec<u8>>, W) {
            let of = |event: &&str| {
                encoder.write_all(event.as_bytes()).expect("memory");
                encoder.flush().expect("memory");
                taken(&mut encoder)
            };
            (events.iter().map(of).collect(), encoder)
        }
        let (mut all, end) = match encoding {
            "gzip" => {
                let encoder = GzEncoder::new(Vec::new(), Compression::default());
                let (all, encoder) = pieces(encoder, events, |encoder| std::mem::take(encoder.get_mut()));
                (all, encoder.finish().expect("memory"))
            }
            "zlib" => {
                let encoder = ZlibEncoder::new(Vec::new(), Compression::default());
                let (all, encoder) = pieces(encoder, events, |encoder| std::mem::take(encoder.get_mut()));
                (all, encoder.finish().expect("memory"))
            }
            _ => {
                let encoder = DeflateEncoder::new(Vec::new(), Compression::default());
                let (all, encoder) = pieces(encoder, events, |encoder| std::mem::take(encoder.get_mut()));
                (all, encoder.finish().expect("memory"))
            }
        };
        all.push(end);
        all
    }

    const EVENTS: [&str; 3] = ["data: {\"a\":1}\n\n", "data: {\"a\":2}\n\n", "data: [DONE]\n\n"];

    #[test]
    fn an_event_that_was_flushed_is_read_as_soon_as_it_comes() {
        for (name, encoding) in [("gzip", "gzip"), ("zlib", "deflate"), ("raw", "deflate")] {
            let mut decoder = of(encoding).expect("known");
            let pieces = flushed(&EVENTS, name);
            for (piece, event) in pieces.iter().zip(EVENTS) {
                assert_eq!(decoder.decode(piece), event, "{name}");
            }
            assert_eq!(decoder.decode(&pieces[3]), "", "{name}");
            assert!(!decoder.has_given_up(), "{name}");
        }
    }

    #[test]
    fn brotli_is_read_as_it_comes_and_what_cannot_be_read_so_has_no_decoder() {
        // As in `compression`: metadata and one block that is not compressed.
        let body = [0x0b, 0x05, 0x80, b'{', b'"', b'e', b'r', b'r', b'o', b'r', b'"', b':', b'1', b'}', 0x03];
        let mut decoder = of("br").expect("known");
        let decoded: Vec<u8> = body.iter().flat_map(|byte| decoder.decode(&[*byte])).collect();
        assert_eq!((decoded.as_slice(), decoder.has_given_up()), (&b"{\"error\":1}"[..], false));
        for encoding in ["identity", "zstd", "gzip, br", "lzw"] {
            assert!(of(encoding).is_none(), "{encoding}");
        }
        assert!(Decoder::of(&HeaderMap::new()).is_none());
    }

    #[test]
    fn what_is_damaged_or_becomes_too_large_is_given_up_and_read_as_far_as_it_went() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        (0..64).for_each(|_| encoder.write_all(&vec![b' '; 1 << 20]).expect("memory"));
        let bomb = encoder.finish().expect("memory");
        assert!(bomb.len() < 100_000);
        let mut decoder = of("gzip").expect("known");
        assert!(decoder.decode(&bomb).len() <= PIECE_BYTES_MAX);
        assert!(decoder.has_given_up() && decoder.decode(&bomb).is_empty());

        let mut decoder = of("gzip").expect("known");
        assert_eq!(decoder.decode(&flushed(&EVENTS, "gzip")[0]), EVENTS[0]);
        decoder.decode(&[0xff; 40]);
        assert!(decoder.has_given_up());
        for encoding in ["gzip", "deflate", "br"] {
            let mut decoder = of(encoding).expect("known");
            decoder.decode(b"\xff\xffno such, and long enough to be told so");
            assert!(decoder.has_given_up(), "{encoding}");
        }
    }

    proptest! {
        #[test]
        fn however_a_body_arrives_it_decodes_to_the_same(cuts in prop::collection::vec(0usize..200, 0..8), kind in 0usize..3) {
            let (name, encoding) = [("gzip", "gzip"), ("zlib", "deflate"), ("raw", "deflate")][kind];
            let body = flushed(&EVENTS, name).concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let mut decoder = of(encoding).expect("known");
            let decoded: Vec<u8> = cuts.windows(2).flat_map(|cut| decoder.decode(&body[cut[0]..cut[1]])).collect();
            prop_assert_eq!(decoded, EVENTS.concat().into_bytes());
            prop_assert!(!decoder.has_given_up());
        }

        #[test]
        fn whatever_comes_is_survived(body in prop::collection::vec(any::<u8>(), 0..400), kind in 0usize..3) {
            let mut decoder = of(["gzip", "deflate", "br"][kind]).expect("known");
            for piece in body.chunks(37) {
                prop_assert!(decoder.decode(piece).len() <= PIECE_BYTES_MAX);
            }
        }
    }
}
