//! Who has signed a certificate that nobody here believes: a company that reads what goes out is known by that name.

use rustls::CertificateError;
use rustls::OtherError;
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::sync::Arc;

/// The attributes of a name that people know an authority by, in the order in which they are looked for: its common
/// name, and its organisation (RFC 5280, appendix A.1). Each is an object identifier as DER writes it.
const ATTRIBUTES: [[u8; 5]; 2] = [[0x06, 0x03, 0x55, 0x04, 0x03], [0x06, 0x03, 0x55, 0x04, 0x0a]];
/// Longest name that is told, in characters: RFC 5280 allows no longer ones.
const NAME_MAX: usize = 64;

/// A certificate whose authority is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) struct UnknownAuthority {
    /// What it calls its authority, which anybody could: to be shown to people, and believed by nobody.
    name: Option<String>,
}

impl UnknownAuthority {
    /// Of a chain, as it was shown.
    pub(super) fn of(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> UnknownAuthority {
        // The last one was signed by whoever is to be trusted.
        let last = intermediates.last().unwrap_or(end_entity);
        let parsed = webpki::EndEntityCert::try_from(last).ok();
        UnknownAuthority { name: parsed.and_then(|certificate| name_in(certificate.issuer())) }
    }

    /// The same as a verifier says it.
    pub(super) fn into_error(self) -> rustls::Error {
        CertificateError::Other(OtherError(Arc::new(self))).into()
    }

    /// The one that an error is about.
    pub(crate) fn in_error(error: &CertificateError) -> Option<&UnknownAuthority> {
        let CertificateError::Other(other) = error else { return None };
        other.0.downcast_ref()
    }
}

impl fmt::Display for UnknownAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("certificate signed by an unknown authority")?;
        match &self.name {
            Some(name) => write!(f, " (it calls itself \"{name}\")"),
            None => Ok(()),
        }
    }
}

/// The name in a distinguished name that people know it by. It is whatever its maker liked, so that nothing but plain
/// characters of it is kept.
fn name_in(distinguished: &[u8]) -> Option<String> {
    ATTRIBUTES.iter().find_map(|attribute| {
        let at = memchr::memmem::find(distinguished, attribute)? + attribute.len();
        // The kind of string, its length, and the string, which is shorter than what would need a longer length.
        let (&length, rest) = distinguished.get(at + 1..)?.split_first()?;
        let text = String::from_utf8_lossy(rest.get(..usize::from(length))?);
        let plain: String = text.chars().filter(|c| !c.is_control() && *c != '"').take(NAME_MAX).collect();
        (!plain.trim().is_empty()).then_some(plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_known_by_its_common_name_or_else_by_its_organisation() {
        let attribute = |kind: u8, text: &[u8]| {
            let length = u8::try_from(text.len()).expect("short");
            [&[0x31, 0, 0x30, 0, 0x06, 0x03, 0x55, 0x04, kind, 0x0c, length][..], text].concat()
        };
        let both = [attribute(0x0a, b"Corp Ltd"), attribute(0x03, b"Corp Root")].concat();
        assert_eq!(name_in(&both).as_deref(), Some("Corp Root"));
        assert_eq!(name_in(&attribute(0x0a, b"Corp Ltd")).as_deref(), Some("Corp Ltd"));
        assert_eq!(name_in(&attribute(0x03, b"a\x1b[31m\"b\n")).as_deref(), Some("a[31mb"));
        for nameless in [&[][..], &attribute(0x05, b"serial"), &attribute(0x03, b"")] {
            assert_eq!(name_in(nameless), None);
        }
        let mut cut = attribute(0x03, b"Corp Root");
        cut.truncate(cut.len() - 1);
        assert_eq!(name_in(&cut), None);
    }
}
