//! Encryption of what is stored: ChaCha20-Poly1305 (RFC 8439) with one key for the whole folder.
//!
//! A sealed record is a version byte, a random 96-bit nonce and the ciphertext with its tag. The
//! record's purpose and its job's id are authenticated with it, so that no record can stand in for
//! another. Random nonces are safe for some 2^32 records under one key: at that number the chance of
//! any repetition is still only 2^-33.
//!
//! The key lies beside the data unless the caller supplies one. In the folder it protects copies and
//! backups of the database; only a key kept elsewhere protects against a reader of the whole folder.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::SystemRandom;

use super::job::{JobId, random_bytes};

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;

/// The layout of a sealed record and of what is inside.
const VERSION: u8 = 1;

const HEAD_BYTES: usize = 1 + NONCE_LEN;

/// By how much a sealed record is longer than what it holds: version, nonce and tag.
pub(super) const SEAL_BYTES: usize = HEAD_BYTES + 16;

/// What a record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Request,
    Response,
    KeyCheck,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Request => b"spillway spool request",
            Self::Response => b"spillway spool response",
            Self::KeyCheck => b"spillway spool key check",
        }
    }
}

/// Why a record could not be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SealError {
    #[error("the system's random generator failed")]
    Random,
    #[error("the record cannot be sealed")]
    Seal,
    #[error("the record does not open with this key")]
    Open,
}

/// A key as it lies in its file. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key([u8; KEY_BYTES]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl Key {
    /// A new random key.
    pub(super) fn generate() -> Result<Self, SealError> {
        random_bytes(&SystemRandom::new()).map(Self).ok_or(SealError::Random)
    }

    /// Reads the key in the file at `path`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if it holds none.
    pub(super) fn load(path: &Path) -> io::Result<Self> {
        let mut bytes = Vec::with_capacity(KEY_BYTES + 1);
        // One more than there should be, and not all of whatever else may lie there.
        File::open(path)?.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        let key = bytes.as_slice().try_into().map_err(|_| {
            let found = if bytes.len() > KEY_BYTES { "more".to_owned() } else { bytes.len().to_string() };
            let problem = format!("a key has {KEY_BYTES} bytes and this file has {found}; bring back the right file");
            io::Error::new(io::ErrorKind::InvalidData, problem)
        })?;
        Ok(Self(key))
    }

    /// What the file holds.
    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// A sealer with this key.
    pub(super) fn sealer(&self) -> Sealer {
        Sealer::from_key(&self.0)
    }
}

/// Seals and opens records. Its `Debug` shows nothing of the key.
#[derive(Clone)]
pub(crate) struct Sealer {
    key: LessSafeKey,
    generator: SystemRandom,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    /// A sealer with a key that the caller keeps; the folder then holds none.
    #[must_use]
    pub(crate) fn from_key(key: &[u8; KEY_BYTES]) -> Self {
        #[expect(clippy::expect_used, reason = "a key is refused for its length only, and the length is in the type")]
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("a key of 32 bytes");
        Self { key: LessSafeKey::new(key), generator: SystemRandom::new() }
    }

    /// Seals `plain` for one purpose of one job.
    pub(super) fn seal(&self, purpose: Purpose, id: JobId, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce: [u8; NONCE_LEN] = random_bytes(&self.generator).ok_or(SealError::Random)?;
        let mut sealed = Vec::with_capacity(plain.len() + SEAL_BYTES);
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                associated_data(purpose, id),
                &mut sealed[HEAD_BYTES..],
            )
            .map_err(|_| SealError::Seal)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what [`Sealer::seal`] made for the same purpose and job, and gives `read` the content.
    ///
    /// # Errors
    /// [`SealError::Open`] for a record of another key, job, purpose or version, and for any change
    /// to it.
    pub(super) fn open<T>(
        &self,
        purpose: Purpose,
        id: JobId,
        mut sealed: Vec<u8>,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, SealError> {
        let (head, content) = sealed.split_first_chunk_mut::<HEAD_BYTES>().ok_or(SealError::Open)?;
        let [VERSION, nonce @ ..] = *head else {
            return Err(SealError::Open);
        };
        let plain = self
            .key
            .open_in_place(Nonce::assume_unique_for_key(nonce), associated_data(purpose, id), content)
            .map_err(|_| SealError::Open)?;
        Ok(read(plain))
    }
}

fn associated_data(purpose: Purpose, id: JobId) -> Aad<Vec<u8>> {
    Aad::from([purpose.label(), id.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> JobId {
        JobId::from_bytes([byte; 16])
    }

    fn opens(sealer: &Sealer, purpose: Purpose, id: JobId, sealed: Vec<u8>) -> bool {
        sealer.open(purpose, id, sealed, |_| ()).is_ok()
    }

    #[test]
    fn what_was_sealed_opens_to_the_same_bytes_and_never_looks_the_same_twice() {
        let sealer = Sealer::from_key(&[7; KEY_BYTES]);
        let first = sealer.seal(Purpose::Request, id(1), b"secret").unwrap();
        let second = sealer.seal(Purpose::Request, id(1), b"secret").unwrap();
        assert_ne!(first, second);
        assert_eq!(first.len(), b"secret".len() + SEAL_BYTES);
        let plain = sealer.open(Purpose::Request, id(1), first, <[u8]>::to_vec);
        assert_eq!(plain.unwrap(), b"secret");
    }

    #[test]
    fn a_record_opens_only_for_its_own_key_job_and_purpose() {
        let sealer = Sealer::from_key(&[7; KEY_BYTES]);
        let sealed = sealer.seal(Purpose::Request, id(1), b"secret").unwrap();
        assert!(opens(&sealer, Purpose::Request, id(1), sealed.clone()));
        assert!(!opens(&sealer, Purpose::Request, id(2), sealed.clone()));
        assert!(!opens(&sealer, Purpose::Response, id(1), sealed.clone()));
        let other = Sealer::from_key(&[8; KEY_BYTES]);
        assert!(!opens(&other, Purpose::Request, id(1), sealed));
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let sealer = Sealer::from_key(&[7; KEY_BYTES]);
        let sealed = sealer.seal(Purpose::Response, id(1), b"secret").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!opens(&sealer, Purpose::Response, id(1), changed), "bit {bit}");
        }
        for length in 0..sealed.len() {
            let cut = sealed[..length].to_vec();
            assert!(!opens(&sealer, Purpose::Response, id(1), cut), "length {length}");
        }
    }

    #[test]
    fn the_key_is_not_in_the_debug_output() {
        assert_eq!(format!("{:?}", Sealer::from_key(&[7; KEY_BYTES])), "Sealer { .. }");
        assert_eq!(format!("{:?}", Key([7; KEY_BYTES])), "Key { .. }");
    }
}
