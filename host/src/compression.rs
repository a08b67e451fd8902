//! Bodies that come compressed: decoded to be read, and passed on as they came.

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header};
use std::borrow::Cow;
use std::io::Read;

/// A body as its reader needs it. What is compressed in a way that is not known here, or not at all, stays as it is; of what
/// decodes to more than `bytes_max`, or breaks off, there is as much as there is.
pub fn decoded<'b>(headers: &HeaderMap, body: &'b [u8], bytes_max: usize) -> Cow<'b, [u8]> {
    let encoding = headers.get(header::CONTENT_ENCODING).map(|encoding| encoding.as_bytes().to_ascii_lowercase());
    match encoding.as_deref() {
        Some(b"gzip" | b"x-gzip") => readable(read(MultiGzDecoder::new(body), bytes_max), body),
        Some(b"deflate") => {
            let wrapped = read(ZlibDecoder::new(body), bytes_max);
            // Some servers leave out the wrapper that belongs to it.
            readable(if wrapped.is_empty() { read(DeflateDecoder::new(body), bytes_max) } else { wrapped }, body)
        }
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
    use std::io::Write;

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
        for headers in [under("identity"), under("br"), HeaderMap::new()] {
            assert!(matches!(decoded(&headers, TEXT, 1_000), Cow::Borrowed(TEXT)));
        }
    }

    #[test]
    fn no_more_is_decoded_than_allowed_and_what_is_damaged_as_far_as_it_goes() {
        let bomb = gzip(&vec![b'x'; 10 << 20]);
        assert_eq!(decoded(&under("gzip"), &bomb, 100).len(), 100);
        let whole = gzip(TEXT);
        assert!(TEXT.starts_with(&decoded(&under("gzip"), &whole[..whole.len() - 9], 1_000)));
        assert_eq!(&*decoded(&under("gzip"), b"no gzip", 1_000), b"no gzip");
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
        raw.write_all(TEXT).expect("written");
        assert_eq!(&*decoded(&under("deflate"), &raw.finish().expect("finished"), 1_000), TEXT);
    }
}
