//! Bodies that come compressed: decoded to be read, and passed on as they came.

use brotli_decompressor::{BrotliDecoderParameter, Decompressor};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, HeaderValue, header};
use ruzstd::decoding::StreamingDecoder;
use std::borrow::Cow;
use std::io::Read;

/// What brotli is decoded through.
pub(super) const BROTLI_BUFFER_BYTES: usize = 4 << 10;
/// Largest window that a body may demand: RFC 9659, section 3.
const ZSTD_WINDOW_BYTES_MAX: u64 = 8 << 20;

/// In what a body comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// In nothing: it reads as it is.
    None,
    Gzip,
    /// With its wrapper or without.
    Deflate,
    Brotli,
    Zstd,
    /// In something that is not known here, or in several.
    Unknown,
}

impl Coding {
    /// Its names, in lower case.
    const NAMES: [(&str, Coding); 6] = [
        ("gzip", Coding::Gzip),
        ("x-gzip", Coding::Gzip),
        ("deflate", Coding::Deflate),
        ("br", Coding::Brotli),
        ("zstd", Coding::Zstd),
        ("identity", Coding::None),
    ];

    fn named(name: &[u8]) -> Coding {
        let is_it = |(known, _): &(&str, Coding)| known.as_bytes().eq_ignore_ascii_case(name.trim_ascii());
        Coding::NAMES.into_iter().find(is_it).map_or(Coding::Unknown, |(_, coding)| coding)
    }

    /// That of a body with this head.
    pub(crate) fn of(headers: &HeaderMap) -> Coding {
        headers.get(header::CONTENT_ENCODING).map_or(Coding::None, |name| Coding::named(name.as_bytes()))
    }

    /// Whether an answer in it can be read piece by piece as it comes. Of zstd nothing is told before a window is full,
    /// which is more than most answers.
    pub(crate) fn is_read_as_it_comes(self) -> bool {
        matches!(self, Coding::None | Coding::Gzip | Coding::Deflate | Coding::Brotli)
    }
}

/// Leaves of the encodings in which a caller takes its answer those that can be read as it comes. Where nothing is left,
/// or nothing can be told, the answer is to come in none. Whoever asks for nothing goes on to do so.
pub(crate) fn ask_for_readable(headers: &mut HeaderMap) {
    let is_readable = |item: &&str| {
        let name = item.split(';').next().unwrap_or_default();
        Coding::named(name.as_bytes()).is_read_as_it_comes()
    };
    let all = || headers.get_all(header::ACCEPT_ENCODING).iter();
    if all().all(|value| value.to_str().is_ok_and(|items| items.split(',').all(|item| is_readable(&item)))) {
        return;
    }
    let items = all().filter_map(|value| value.to_str().ok()).flat_map(|items| items.split(','));
    let kept: Vec<&str> = items.map(str::trim).filter(is_readable).collect();
    let kept = HeaderValue::from_str(&kept.join(", ")).ok().filter(|kept| !kept.is_empty());
    headers.insert(header::ACCEPT_ENCODING, kept.unwrap_or(HeaderValue::from_static("identity")));
}

/// Asks for an answer in no encoding, since its bytes may have to be changed.
pub(crate) fn ask_for_none(headers: &mut HeaderMap) {
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

/// A body as its reader needs it. What is compressed in a way that is not known here, or not at all, stays as it is; of
/// what decodes to more than `bytes_max`, or breaks off, there is as much as there is.
pub(crate) fn decoded<'b>(headers: &HeaderMap, body: &'b [u8], bytes_max: usize) -> Cow<'b, [u8]> {
    match Coding::of(headers) {
        Coding::Gzip => readable(read(MultiGzDecoder::new(body), bytes_max), body),
        Coding::Deflate => {
            let wrapped = read(ZlibDecoder::new(body), bytes_max);
            // Some servers leave out the wrapper that belongs to it.
            readable(if wrapped.is_empty() { read(DeflateDecoder::new(body), bytes_max) } else { wrapped }, body)
        }
        Coding::Brotli => {
            let mut decoder = Decompressor::new(body, BROTLI_BUFFER_BYTES);
            // Beyond what "br" stands for, and a gigabyte for a body of a few bytes: RFC 7932 ends at 16 MiB.
            decoder.set_parameter(BrotliDecoderParameter::BROTLI_DECODER_PARAM_LARGE_WINDOW, 0);
            readable(read(decoder, bytes_max), body)
        }
        Coding::Zstd => match StreamingDecoder::new_with_max_window_size(body, ZSTD_WINDOW_BYTES_MAX) {
            Ok(decoder) => readable(read(decoder, bytes_max), body),
            Err(_) => Cow::Borrowed(body),
        },
        Coding::None | Coding::Unknown => Cow::Borrowed(body),
    }
}

/// What is not what its head says stays as it is: that is not nothing.
fn readable(decoded: Vec<u8>, body: &[u8]) -> Cow<'_, [u8]> {
    if decoded.is_empty() { Cow::Borrowed(body) } else { Cow::Owned(decoded) }
}

fn read(decoder: impl Read, bytes_max: usize) -> Vec<u8> {
    let mut decoded = Vec::new();
    // An end that is missing or damaged does not take away what came before.
    let _ = decoder.take(bytes_max as u64).read_to_end(&mut decoded);
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use http::HeaderValue;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write;

    /// As any compressor would write it that does not look for repetitions: RFC 7932, section 9.
    const BROTLI: &[u8] = b"\x0b\x05\x80{\"error\":1}\x03";
    const TEXT: &[u8] = b"{\"model\":\"m\"} and so on, and so on, and so on";

    fn under(encoding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(encoding))])
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).expect("written");
        encoder.finish().expect("finished")
    }

    #[test]
    fn an_answer_is_asked_for_as_its_caller_takes_it_as_far_as_it_can_be_read() {
        let cases: [(&[&str], &[&str]); 10] = [
            (&[], &[]),
            (&["gzip, deflate, br"], &["gzip, deflate, br"]),
            (&["gzip, deflate, br, zstd"], &["gzip, deflate, br"]),
            (&["GZIP;q=1.0,identity;q=0"], &["GZIP;q=1.0,identity;q=0"]),
            (&["gzip", "br"], &["gzip", "br"]),
            (&["gzip, compress;q=0.5, *;q=0.1"], &["gzip"]),
            (&["dcb", "gzip;q=0.5"], &["gzip;q=0.5"]),
            (&["*"], &["identity"]),
            (&[""], &["identity"]),
            (&["caf\u{e9}"], &["identity"]),
        ];
        for (asked, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in asked {
                headers.append(header::ACCEPT_ENCODING, HeaderValue::from_str(value).expect("a value"));
            }
            ask_for_readable(&mut headers);
            let kept: Vec<&str> =
                headers.get_all(header::ACCEPT_ENCODING).iter().map(|value| value.to_str().expect("text")).collect();
            assert_eq!(kept, expected, "{asked:?}");
        }
    }

    #[test]
    fn what_is_compressed_is_decoded_and_what_is_not_stays() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(TEXT).expect("written");
        assert_eq!(&*decoded(&under("GZIP"), &gzip(TEXT), 1_000), TEXT);
        assert_eq!(&*decoded(&under("deflate"), &zlib.finish().expect("finished"), 1_000), TEXT);
        assert_eq!(&*decoded(&under("br"), BROTLI, 1_000), b"{\"error\":1}");
        let zstd = compress_to_vec(TEXT, CompressionLevel::Fastest);
        assert_eq!(&*decoded(&under("zstd"), &zstd, 1_000), TEXT);
        for headers in [under("identity"), under("lzw"), HeaderMap::new()] {
            assert!(matches!(decoded(&headers, TEXT, 1_000), Cow::Borrowed(TEXT)));
        }
    }

    #[test]
    fn a_body_that_demands_more_memory_than_its_encoding_allows_stays_as_it_is() {
        // The first byte of a large window; a frame's head that asks for a window of 1 GiB.
        let (brotli, zstd) = ([0x11, 0x1E, 0, 0, 0, 0, 0, 0], [0x28, 0xB5, 0x2F, 0xFD, 0, 0xA0, 0, 0, 0]);
        assert_eq!(&*decoded(&under("br"), &brotli, 1 << 20), brotli);
        assert_eq!(&*decoded(&under("zstd"), &zstd, 1 << 20), zstd);
    }

    #[test]
    fn no_more_is_decoded_than_allowed_and_what_is_damaged_as_far_as_it_goes() {
        let large = vec![b'x'; 10 << 20];
        assert_eq!(decoded(&under("gzip"), &gzip(&large), 100).len(), 100);
        assert_eq!(decoded(&under("zstd"), &compress_to_vec(&large[..], CompressionLevel::Fastest), 100).len(), 100);
        let whole = gzip(TEXT);
        assert!(TEXT.starts_with(&decoded(&under("gzip"), &whole[..whole.len() - 9], 1_000)));
        for encoding in ["gzip", "deflate", "br", "zstd"] {
            assert_eq!(&*decoded(&under(encoding), b"\xff\xffno such", 1_000), b"\xff\xffno such", "{encoding}");
        }
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
        raw.write_all(TEXT).expect("written");
        assert_eq!(&*decoded(&under("deflate"), &raw.finish().expect("finished"), 1_000), TEXT);
    }
}
