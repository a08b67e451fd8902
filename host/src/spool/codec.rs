//! How a request and an answer are laid out before they are sealed: each part behind its length.
//!
//! All numbers are little-endian. The layout is versioned by the seal's first byte.

use super::job::{NewJob, StoredResponse};

type Headers = Vec<(String, Vec<u8>)>;

/// Bytes of a length prefix.
const LENGTH_BYTES: usize = 4;

/// The parts of a [`NewJob`] that are kept sealed.
pub(super) struct Payload {
    pub(super) method: String,
    pub(super) path_and_query: String,
    pub(super) headers: Headers,
    pub(super) body: Vec<u8>,
}

/// The bytes that [`encode_payload`] will produce, without producing them.
pub(super) fn payload_bytes(job: &NewJob) -> usize {
    2 * LENGTH_BYTES + job.method.len() + job.path_and_query.len() + headers_bytes(&job.headers) + job.body.len()
}

/// The bytes that [`encode_response`] will produce, without producing them.
pub(super) fn response_bytes(response: &StoredResponse) -> usize {
    size_of::<u16>() + headers_bytes(&response.headers) + response.body.len()
}

fn headers_bytes(headers: &Headers) -> usize {
    let each = headers.iter().map(|(name, value)| 2 * LENGTH_BYTES + name.len() + value.len());
    LENGTH_BYTES + each.sum::<usize>()
}

/// Lays out the sealed parts of a job; `None` when a part is longer than a length can say (4 GiB).
pub(super) fn encode_payload(job: &NewJob) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(payload_bytes(job));
    put(&mut out, job.method.as_bytes())?;
    put(&mut out, job.path_and_query.as_bytes())?;
    put_headers(&mut out, &job.headers)?;
    out.extend_from_slice(&job.body);
    Some(out)
}

/// Reads what [`encode_payload`] wrote; `None` for anything else.
pub(super) fn decode_payload(mut bytes: &[u8]) -> Option<Payload> {
    Some(Payload {
        method: take_text(&mut bytes)?,
        path_and_query: take_text(&mut bytes)?,
        headers: take_headers(&mut bytes)?,
        body: bytes.to_vec(),
    })
}

/// Lays out an answer; `None` when a part is longer than a length can say (4 GiB).
pub(super) fn encode_response(response: &StoredResponse) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(response_bytes(response));
    out.extend_from_slice(&response.status.to_le_bytes());
    put_headers(&mut out, &response.headers)?;
    out.extend_from_slice(&response.body);
    Some(out)
}

/// Reads what [`encode_response`] wrote; `None` for anything else.
pub(super) fn decode_response(mut bytes: &[u8]) -> Option<StoredResponse> {
    let (status, rest) = bytes.split_first_chunk()?;
    bytes = rest;
    Some(StoredResponse {
        status: u16::from_le_bytes(*status),
        headers: take_headers(&mut bytes)?,
        body: bytes.to_vec(),
    })
}

fn put_length(out: &mut Vec<u8>, length: usize) -> Option<()> {
    out.extend_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
    Some(())
}

fn put(out: &mut Vec<u8>, part: &[u8]) -> Option<()> {
    put_length(out, part.len())?;
    out.extend_from_slice(part);
    Some(())
}

fn put_headers(out: &mut Vec<u8>, headers: &Headers) -> Option<()> {
    put_length(out, headers.len())?;
    for (name, value) in headers {
        put(out, name.as_bytes())?;
        put(out, value)?;
    }
    Some(())
}

fn take_length(bytes: &mut &[u8]) -> Option<usize> {
    let (length, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    usize::try_from(u32::from_le_bytes(*length)).ok()
}

fn take(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let length = take_length(bytes)?;
    let (part, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(part.to_vec())
}

fn take_text(bytes: &mut &[u8]) -> Option<String> {
    String::from_utf8(take(bytes)?).ok()
}

fn take_headers(bytes: &mut &[u8]) -> Option<Headers> {
    let count = take_length(bytes)?;
    // A damaged count must not reserve memory, so the list grows as headers are really found.
    let mut headers = Vec::new();
    for _ in 0..count {
        headers.push((take_text(bytes)?, take(bytes)?));
    }
    Some(headers)
}
