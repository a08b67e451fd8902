//! What is kept of a key: its SHA-256, from which nobody can tell the key. And how keys are made.

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::fmt;
use subtle::ConstantTimeEq;

/// What keys of Spillway's begin with: by it a scanner finds one that has been published by mistake, and Spillway one
/// that it does not know.
pub(crate) const KEY_PREFIX: &str = "sk-spillway-";
/// Random bytes of a key, written as hexadecimal digits. Nobody finds one by trying.
const KEY_RANDOM_BYTES: usize = 24;
/// Random bytes of a key's public name.
const ID_RANDOM_BYTES: usize = 4;
/// What a key's public name begins with.
const ID_PREFIX: &str = "k_";
/// Shortest key that is taken over from elsewhere: whatever is shorter can be guessed by who tries.
pub(crate) const KEY_BYTES_MIN: usize = 16;
/// Longest key. A longer credential is somebody else's, and is not looked up.
pub(crate) const KEY_BYTES_MAX: usize = 512;
/// Characters of a key that are shown, by which its owner knows it again.
const ENDS_CHARS: usize = 4;

/// A key's SHA-256, as LiteLLM keeps it as well. It is written as 64 hexadecimal digits.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct KeyDigest([u8; SHA256_OUTPUT_LEN]);

impl KeyDigest {
    /// Of what somebody shows.
    pub(crate) fn of(shown: &[u8]) -> KeyDigest {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest(&SHA256, shown).as_ref());
        KeyDigest(bytes)
    }

    /// Under what it is looked for, among others of which few begin alike. What is found has to be compared.
    pub(crate) fn place(&self) -> u64 {
        self.0.first_chunk().copied().map_or(0, u64::from_le_bytes)
    }
}

/// In constant time, so that how long it takes says nothing about how much of a guess was right.
impl PartialEq for KeyDigest {
    fn eq(&self, other: &KeyDigest) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyDigest {}

impl From<KeyDigest> for String {
    fn from(digest: KeyDigest) -> String {
        hex::encode(digest.0)
    }
}

impl TryFrom<String> for KeyDigest {
    type Error = String;

    fn try_from(text: String) -> Result<KeyDigest, String> {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        hex::decode_to_slice(text.trim(), &mut bytes)
            .map_err(|_| format!("a SHA-256 has {} hexadecimal digits", 2 * SHA256_OUTPUT_LEN))?;
        Ok(KeyDigest(bytes))
    }
}

/// Nothing of it is printed: it would let who has guessed a key know that he is right.
impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(..)")
    }
}

/// A new key, which nobody else has.
///
/// # Errors
/// When the system has no randomness.
pub(crate) fn new_key() -> Result<String, String> {
    Ok(format!("{KEY_PREFIX}{}", random_digits::<KEY_RANDOM_BYTES>()?))
}

/// A new public name of a key.
///
/// # Errors
/// When the system has no randomness.
pub(crate) fn new_id() -> Result<String, String> {
    Ok(format!("{ID_PREFIX}{}", random_digits::<ID_RANDOM_BYTES>()?))
}

fn random_digits<const BYTES: usize>() -> Result<String, String> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "this system gives no random numbers".to_owned())?;
    Ok(hex::encode(bytes))
}

/// Whether this is the form of a key's public name.
pub(crate) fn is_id(text: &str) -> bool {
    let digits = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.len() <= 32 && text.strip_prefix(ID_PREFIX).is_some_and(digits)
}

/// The end of a key, by which its owner knows it again.
pub(crate) fn ends_of(key: &str) -> String {
    let begins = key.char_indices().rev().nth(ENDS_CHARS - 1).map_or(0, |(at, _)| at);
    key[begins..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_any_other_implementation_and_can_be_read_again() {
        let digest = KeyDigest::of(b"sk-1234");
        // As `printf sk-1234 | sha256sum` has it, and LiteLLM.
        let written = "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b";
        assert_eq!(String::from(digest), written);
        assert!(KeyDigest::try_from(written.to_owned()).expect("a digest") == digest);
        assert!(KeyDigest::of(b"sk-1235") != digest);
        for wrong in ["", "88dc", "sk-1234", &written[1..]] {
            assert!(KeyDigest::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
        assert_eq!(format!("{digest:?}"), "KeyDigest(..)");
    }

    #[test]
    fn no_two_keys_are_alike_and_each_is_known_by_its_end() {
        let (one, other) = (new_key().expect("a key"), new_key().expect("a key"));
        assert_ne!(one, other);
        assert_eq!(one.len(), KEY_PREFIX.len() + 2 * KEY_RANDOM_BYTES);
        assert_eq!(ends_of(&one), one[one.len() - 4..]);
        assert_eq!((ends_of("abc").as_str(), ends_of("").as_str(), ends_of("aöüß1").as_str()), ("abc", "", "öüß1"));
        let id = new_id().expect("an id");
        assert!(is_id(&id) && !is_id(&one) && !is_id("k_") && !is_id("k_xyz"), "{id}");
    }
}
