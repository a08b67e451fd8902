//! Bodies that come compressed: decoded to be read, and passed on as they came.

use brotli_decompressor::{BrotliDecoderParameter, Decompressor};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header};
use ruzstd::decoding::StreamingDecoder;
use std::borrow::Cow;
use std::io::Read;

const BROTLI_BUFFER_BYTES: usize = 4 << 10;
/// Largest window that a body may demand: RFC 9659, section 3.
const ZSTD_WINDOW_BYTES_MAX: u64 = 8 << 20;

/// A body as its reader needs it. What is compressed in a way that is not known here, or not at all, stays as it is; of
/// what decodes to more than `bytes_max`, or breaks off, there is as much as there is.
pub(crate) fn decoded<'b>(headers: &HeaderMap, body: &'b [u8], bytes_max: usize) -> Cow<'b, [u8]> {
    let encoding = headers.get(header::CONTENT_ENCODING).map(|encoding| encoding.as_bytes().to_ascii_lowercase());
    match encoding.as_deref() {
        Some(b"gzip" | b"x-gzip") => readable(read(MultiGzDecoder::new(body), bytes_max), body),
        Some(b"deflate") => {
            let wrapped = read(ZlibDecoder::new(body), bytes_max);
            // Some servers leave out the wrapper that belongs to it.
            readable(if wrapped.is_empty() { read(DeflateDecoder::new(body), bytes_max) } else { wrapped }, body)
        }
        Some(b"br") => {
            let mut decoder = Decompressor::new(body, BROTLI_BUFFER_BYTES);
            // Beyond what "br" stands for, and a gigabyte for a body of a few bytes: RFC 7932 ends at 16 MiB.
            decoder.set_parameter(BrotliDecoderParameter::BROTLI_DECODER_PARAM_LARGE_WINDOW, 0);
            readable(read(decoder, bytes_max), body)
        }
        Some(b"zstd") => match StreamingDecoder::new_with_max_window_size(body, ZSTD_WINDOW_BYTES_MAX) {
            Ok(decoder) => readable(read(decoder, bytes_max), body),
            Err(_) => Cow::Borrowed(body),
        },
        Some(_) | None => Cow::Borrowed(body),
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
