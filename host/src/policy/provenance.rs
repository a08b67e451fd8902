//! Which files may serve at all, where the operator says more than "whatever lies in the folder".

use super::artifact::Sha256Sum;
use hex::FromHex;
use ring::signature::{ED25519, UnparsedPublicKey};
use std::collections::BTreeSet;
use std::fmt;

/// Bytes of an ed25519 public key (RFC 8032).
pub(super) const PUBLIC_KEY_BYTES: usize = 32;
/// Bytes of an ed25519 signature.
pub(crate) const SIGNATURE_BYTES: usize = 64;

/// Whom the operator trusts with a policy. By default whoever can write to the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Hashes of the files that may serve; empty: any.
    pub allowed: BTreeSet<Sha256Sum>,
    /// Keys of which one must have signed the file; empty: none needs to.
    pub signers: Vec<PublicKey>,
}

/// An ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub [u8; PUBLIC_KEY_BYTES]);

impl PublicKey {
    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<PublicKey> {
        FromHex::from_hex(text).ok().map(PublicKey)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// Why a file may not serve. Written for whoever dropped it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// Its hash is not among those allowed.
    #[error("its hash {0} is not among [policies] allow; add it there if this is the file you mean")]
    NotAllowed(Sha256Sum),
    /// A signature is required, and there is none.
    #[error("it is not signed, and [policies] signers requires it: put its signature beside it, with `{}`", how_to_sign(.0))]
    Unsigned(String),
    /// What lies beside it cannot be a signature.
    #[error(
        "its signature {file}.sig has {bytes} bytes, and an ed25519 signature has {SIGNATURE_BYTES}: raw, neither in hexadecimal nor in base64, and without a line's end; make it with `{}`",
        how_to_sign(file)
    )]
    Malformed {
        file: String,
        /// What its signature has.
        bytes: u64,
    },
    /// The signature is none of the keys'.
    #[error("its signature was made by none of the keys in [policies] signers, or for another file")]
    BadSignature,
}

impl Trust {
    /// Whether this file may serve. `name` is the file's, and `signature` what lies beside it.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, name: &str, bytes: &[u8], signature: Option<&[u8]>) -> Result<(), Untrusted> {
        if !self.allowed.is_empty() {
            let sha256 = Sha256Sum::of(bytes);
            if !self.allowed.contains(&sha256) {
                return Err(Untrusted::NotAllowed(sha256));
            }
        }
        if self.signers.is_empty() {
            return Ok(());
        }
        let signature = signature.ok_or_else(|| Untrusted::Unsigned(name.to_owned()))?;
        if signature.len() != SIGNATURE_BYTES {
            return Err(Untrusted::Malformed { file: name.to_owned(), bytes: signature.len() as u64 });
        }
        let signed = |key: &PublicKey| UnparsedPublicKey::new(&ED25519, key.0).verify(bytes, signature).is_ok();
        if self.signers.iter().any(signed) { Ok(()) } else { Err(Untrusted::BadSignature) }
    }
}

/// The command that signs a policy file.
fn how_to_sign(file: &str) -> String {
    format!("openssl pkeyutl -sign -rawin -inkey key.pem -in {file} -out {file}.sig")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{Ed25519KeyPair, KeyPair};

    const FILE: &[u8] = b"\0asm, let us say";

    fn pair(seed: u8) -> (Ed25519KeyPair, PublicKey) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed of 32 bytes");
        let public = PublicKey(pair.public_key().as_ref().try_into().expect("32 bytes"));
        (pair, public)
    }

    #[test]
    fn without_demands_every_file_serves() {
        assert_eq!(Trust::default().check("a.wasm", FILE, None), Ok(()));
    }

    #[test]
    fn only_allowed_hashes_serve_where_some_are_listed() {
        let trust = Trust { allowed: BTreeSet::from([Sha256Sum::of(FILE)]), ..Trust::default() };
        assert_eq!(trust.check("a.wasm", FILE, None), Ok(()));
        let other = trust.check("a.wasm", b"another", None).expect_err("not listed");
        assert!(other.to_string().contains(&Sha256Sum::of(b"another").to_string()), "{other}");
    }

    #[test]
    fn only_files_that_a_known_key_has_signed_serve_where_keys_are_listed() {
        let ((ours, known), (theirs, _)) = (pair(1), pair(2));
        let trust = Trust { signers: vec![pair(3).1, known], ..Trust::default() };
        assert_eq!(trust.check("a.wasm", FILE, Some(ours.sign(FILE).as_ref())), Ok(()));
        assert_eq!(trust.check("a.wasm", FILE, Some(theirs.sign(FILE).as_ref())), Err(Untrusted::BadSignature));
        assert_eq!(trust.check("a.wasm", b"another", Some(ours.sign(FILE).as_ref())), Err(Untrusted::BadSignature));
        let unsigned = trust.check("a.wasm", FILE, None).expect_err("no signature");
        assert!(unsigned.to_string().contains("-in a.wasm -out a.wasm.sig"), "{unsigned}");
    }

    #[test]
    fn a_signature_of_another_length_is_told_what_is_wrong_with_it() {
        let trust = Trust { signers: vec![pair(1).1], ..Trust::default() };
        let with_line_end = [pair(1).0.sign(FILE).as_ref(), b"\n"].concat();
        for wrong in [b"".as_slice(), b"short", &with_line_end] {
            let error = trust.check("a.wasm", FILE, Some(wrong)).expect_err("no signature");
            let text = error.to_string();
            assert!(text.contains(&format!("a.wasm.sig has {} bytes", wrong.len())), "{text}");
            assert!(text.contains("openssl pkeyutl -sign -rawin -inkey key.pem -in a.wasm -out a.wasm.sig"), "{text}");
        }
    }

    #[test]
    fn a_key_is_exactly_64_hexadecimal_digits() {
        let digits = "00ff".repeat(16);
        for good in [digits.clone(), digits.to_uppercase()] {
            let key = PublicKey::from_hex(&good).expect("a key");
            assert_eq!(format!("{key:?}"), format!("PublicKey({digits})"));
        }
        for wrong in [&digits[1..], &format!("{digits}0"), &digits.replace('f', "g"), &digits.replace("00", "+1")] {
            assert_eq!(PublicKey::from_hex(wrong), None, "{wrong}");
        }
    }
}
