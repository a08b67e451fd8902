//! Requests and answers as they are written in HTTP/1: what a fuzzer can change, and what people can read.

use http::{HeaderMap, HeaderName, HeaderValue};

/// A message, taken apart.
#[derive(Debug)]
pub(crate) struct Message<'m> {
    /// The words of the first line.
    pub(crate) line: Vec<&'m str>,
    /// Those headers that can be.
    pub(crate) headers: HeaderMap,
    /// What stands behind the first empty line.
    pub(crate) body: &'m [u8],
}

impl<'m> Message<'m> {
    /// Takes any bytes apart. What is no text, or no header, is left out.
    pub(crate) fn read(bytes: &'m [u8]) -> Message<'m> {
        let mut rest = bytes;
        let mut next_line = || {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let (line, behind) = end.map_or((rest, &b""[..]), |end| (&rest[..end], &rest[end + 1..]));
            rest = behind;
            line.strip_suffix(b"\r").unwrap_or(line)
        };
        let line = str::from_utf8(next_line()).unwrap_or_default().split(' ').collect();
        let mut headers = HeaderMap::new();
        loop {
            let header = next_line();
            if header.is_empty() {
                break;
            }
            let Some(colon) = header.iter().position(|byte| *byte == b':') else { continue };
            let value = HeaderValue::from_bytes(header[colon + 1..].trim_ascii());
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&header[..colon]), value) {
                headers.append(name, value);
            }
        }
        Message { line, headers, body: rest }
    }
}
