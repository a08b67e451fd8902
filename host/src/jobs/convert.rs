//! Requests and answers as the spool keeps them, and back.

use crate::dialect::Dialect;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Headers as the spool keeps them.
pub(crate) fn stored(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

/// Headers as they were before the spool kept them.
pub(crate) fn headers_of(stored: &[(String, Vec<u8>)]) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(stored.len());
    for (name, value) in stored {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value.as_slice())) {
            headers.append(name, value);
        }
    }
    headers
}

/// The dialect of a job, by the word it was stored with.
pub(crate) fn dialect_of(word: &str) -> Dialect {
    Dialect::from_word(word).unwrap_or(Dialect::Other)
}
