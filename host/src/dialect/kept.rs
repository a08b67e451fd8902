//! Stand-in until the real one is merged.
use super::Dialect;
use std::borrow::Cow;
pub(crate) fn references<'r>(_: Dialect, path: &'r str, body: &'r [u8]) -> Vec<Cow<'r, str>> {
    let mut found: Vec<Cow<'r, str>> = path.split('/').filter(|p| p.starts_with("resp_")).map(Cow::Borrowed).collect();
    if let Some(at) = memchr::memmem::find(body, b"\"previous_response_id\":\"") {
        let rest = String::from_utf8_lossy(&body[at + 24..]).into_owned();
        found.push(Cow::Owned(rest.split('"').next().unwrap_or_default().to_owned()));
    }
    found
}
pub(crate) fn made(_: Dialect, json: &[u8], mut f: impl FnMut(&str)) {
    if let Some(at) = memchr::memmem::find(json, b"\"id\":\"resp_") {
        let rest = String::from_utf8_lossy(&json[at + 6..]).into_owned();
        f(rest.split('"').next().unwrap_or_default());
    }
}
