//! Stand-in until the real one is merged.
use super::Dialect;
use http::HeaderMap;
pub(crate) fn conversation(_: Dialect, headers: &HeaderMap, _: &[u8]) -> Option<[u8; 32]> {
    headers.get("x-session-id").map(|value| {
        let mut hash = [0; 32];
        for (i, b) in value.as_bytes().iter().enumerate() {
            hash[i % 32] ^= b.rotate_left(i as u32 % 8);
        }
        hash
    })
}
