//! Compressed bodies: whatever one claims to be, it takes no more memory than its reader allows.

use crate::dialect::compression::decoded;
use http::{HeaderMap, HeaderValue, header};

/// So much is decoded at most.
const BYTES_MAX: usize = 64 << 10;

/// What must hold of any bytes that come under any encoding.
pub fn check(bytes: &[u8]) {
    for encoding in ["gzip", "x-gzip", "deflate", "br", "zstd", "identity", "other"] {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        let read = decoded(&headers, bytes, BYTES_MAX);
        assert!(&*read == bytes || read.len() <= BYTES_MAX, "{encoding}: {} bytes", read.len());
        // A tighter bound cuts it, and changes nothing else.
        let less = decoded(&headers, bytes, BYTES_MAX / 2);
        assert!(read.starts_with(&less) || &*less == bytes, "{encoding}");
    }
}
