//! Takes a caller's credentials out of what a provider answered: some repeat the key that they refuse.

use std::borrow::Cow;

/// What stands in a credential's place.
const IN_ITS_PLACE: &[u8] = b"[redacted]";
/// A shorter credential protects nothing, and could be part of any word.
const SECRET_BYTES_MIN: usize = 8;

/// The credentials of one request.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Redaction(Vec<Vec<u8>>);

impl std::fmt::Debug for Redaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Redaction").field(&self.0.len()).finish()
    }
}

impl Redaction {
    /// Of these credentials, as they stand in headers and query.
    pub(super) fn of<'a>(credentials: impl Iterator<Item = &'a [u8]>) -> Self {
        // Behind the scheme, as in `Bearer sk-…`.
        let secret = |value: &'a [u8]| value.rsplit(|byte| *byte == b' ').next().unwrap_or(value);
        let long = credentials.map(secret).filter(|secret| secret.len() >= SECRET_BYTES_MIN);
        Redaction(long.map(<[u8]>::to_vec).collect())
    }

    /// The bytes without any credential in them.
    pub(super) fn apply<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        let mut clean = Cow::Borrowed(bytes);
        for secret in &self.0 {
            let places: Vec<usize> = memchr::memmem::find_iter(&clean, secret).collect();
            if places.is_empty() {
                continue;
            }
            let mut rest = 0;
            let mut without = Vec::with_capacity(clean.len());
            for at in places {
                without.extend_from_slice(&clean[rest..at]);
                without.extend_from_slice(IN_ITS_PLACE);
                rest = at + secret.len();
            }
            without.extend_from_slice(&clean[rest..]);
            clean = Cow::Owned(without);
        }
        clean
    }

    /// As [`Redaction::apply`], for text.
    pub(super) fn text(&self, text: String) -> String {
        match self.apply(text.as_bytes()) {
            Cow::Borrowed(_) => text,
            Cow::Owned(clean) => String::from_utf8_lossy(&clean).into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_out_wherever_they_stand() {
        let redaction = Redaction::of([&b"Bearer sk-12345678"[..], b"AIza-abcdef", b"short"].into_iter());
        let text = "no sk-12345678, no AIza-abcdef, no sk-12345678; a short word stays".to_owned();
        assert_eq!(redaction.text(text), "no [redacted], no [redacted], no [redacted]; a short word stays");
        assert_eq!(redaction.apply(b"nothing"), Cow::Borrowed(b"nothing"));
        assert!(!format!("{redaction:?}").contains("12345678"));
    }

    #[test]
    fn a_credential_within_the_word_for_it_does_no_harm() {
        let redaction = Redaction::of([&b"redacted"[..], b"[redacted]"].into_iter());
        assert_eq!(&*redaction.apply(b"redacted"), b"[redacted]");
    }
}
