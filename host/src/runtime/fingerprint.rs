//! Fingerprints of credentials: by them circuits, limits and shares tell callers apart without knowing what they hold.
//! And of what lives at providers, so that its maker is known without its name.

use crate::runtime::clock::random;
use hex::FromHex;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes of a key: as many as the hash has, more of which would add nothing (RFC 2104, section 3).
const KEY_BYTES: usize = 32;

/// Makes fingerprints: numbers that tell credentials apart and say nothing else about them to whoever does not have
/// this key. It is kept as 64 hexadecimal digits.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FingerprintKey {
    bytes: [u8; KEY_BYTES],
    /// The same, worked into the hash beforehand, which halves what a fingerprint costs.
    hmac: hmac::Key,
}

impl FingerprintKey {
    /// A key that no other process has.
    pub fn generate() -> Self {
        let mut bytes = [0; KEY_BYTES];
        if SystemRandom::new().fill(&mut bytes).is_err() {
            // A system without randomness has no TLS either; then the key is at least no other process's.
            bytes.chunks_exact_mut(size_of::<u64>()).for_each(|part| part.copy_from_slice(&random().to_ne_bytes()));
        }
        FingerprintKey::from_bytes(bytes)
    }

    pub(crate) fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        FingerprintKey { bytes, hmac: hmac::Key::new(hmac::HMAC_SHA256, &bytes) }
    }

    /// Of a request's credential. Requests without one have a fingerprint in common.
    pub(crate) fn of_credential(&self, credential: Option<&[u8]>) -> u64 {
        match credential {
            Some(credential) => self.of("credential:", credential),
            None => self.of("none", &[]),
        }
    }

    /// Of a tenant that gives its name. It is none that a credential has.
    pub(crate) fn of_tenant(&self, name: &str) -> u64 {
        self.of("tenant:", name.as_bytes())
    }

    /// Of a virtual key, by its public name. It is none that a tenant has.
    pub(crate) fn of_key(&self, id: &str) -> u64 {
        self.of("key:", id.as_bytes())
    }

    /// Of what something is called that lives at a provider, or of a signature.
    pub(crate) fn of_reference(&self, reference: &str) -> u64 {
        self.of("reference:", reference.as_bytes())
    }

    fn of(&self, kind: &str, what: &[u8]) -> u64 {
        let mut context = hmac::Context::with_key(&self.hmac);
        context.update(kind.as_bytes());
        context.update(what);
        let tag = context.sign();
        // A hash of 32 bytes has eight.
        tag.as_ref().first_chunk().copied().map_or(0, u64::from_le_bytes)
    }
}

impl PartialEq for FingerprintKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl From<FingerprintKey> for String {
    fn from(key: FingerprintKey) -> String {
        hex::encode(key.bytes)
    }
}

impl TryFrom<String> for FingerprintKey {
    type Error = String;

    fn try_from(text: String) -> Result<FingerprintKey, String> {
        let bytes =
            FromHex::from_hex(text).map_err(|error| format!("the fingerprints' key cannot be read: {error}"))?;
        Ok(FingerprintKey::from_bytes(bytes))
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> FingerprintKey {
        FingerprintKey::from_bytes([byte; KEY_BYTES])
    }

    #[test]
    fn a_fingerprint_is_of_use_only_with_its_key_and_the_same_after_a_restart() {
        let one = key(1).of_credential(Some(b"secret"));
        assert_ne!(one, key(2).of_credential(Some(b"secret")));
        let kept = serde_json::to_string(&key(1)).expect("JSON");
        let read: FingerprintKey = serde_json::from_str(&kept).expect("a key");
        assert_eq!(one, read.of_credential(Some(b"secret")));
        // HMAC-SHA256 of "credential:secret" with 32 bytes of 1, as any other implementation has it.
        assert_eq!(one, 0x6e3f_1e7e_de4e_0a45);
        assert!(serde_json::from_str::<FingerprintKey>("\"0011\"").is_err(), "too short");
        assert_eq!(format!("{:?}", key(1)), "FingerprintKey(..)");
    }

    #[test]
    fn no_tenants_name_and_no_reference_stands_for_a_credential() {
        let key = key(1);
        let credential = |text: &[u8]| key.of_credential(Some(text));
        let none = key.of_credential(None);
        let references = [key.of_reference(""), key.of_reference("a")];
        let all = [credential(b""), credential(b"a"), key.of_tenant("a"), key.of_tenant("none"), none];
        let all = [&all[..], &references].concat();
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one), "{index}");
        }
    }
}
