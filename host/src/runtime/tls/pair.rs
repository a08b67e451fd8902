//! A certificate and its key, as PEM files hold them: whether they can serve, for which names, and until when.

use crate::runtime::private;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Largest file that is read: a chain of certificates has some kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most certificates in a file. Chains have two or three; a file with more is a list of authorities.
const CHAIN_MAX: usize = 16;
/// From how long before its end on a certificate is said to end: what renews it by itself does so earlier.
pub(crate) const EXPIRES_SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Which of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The certificate's.
    Certificate,
    /// The key's.
    Key,
}

/// Why a pair cannot serve, in words that hold nothing of the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct PairError {
    /// Which file it is about.
    pub part: Part,
    /// What is wrong with it, beginning with the file's name, and what to do.
    pub message: String,
}

/// Where a pair lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PairFiles {
    /// The certificate, and those below it that lead to its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What lies there, unread.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PairText {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// Nothing of the key is printed.
impl fmt::Debug for PairText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairText(..)")
    }
}

impl PairText {
    /// The certificate's bytes, and the key's.
    pub(crate) fn parts(&self) -> [&[u8]; 2] {
        [&self.certificate, &self.key]
    }
}

/// A pair that can serve.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    /// As rustls shows it.
    pub certified: Arc<CertifiedKey>,
    /// For whom the certificate speaks: names, with or without a star at the beginning, and addresses.
    pub names: Vec<String>,
    /// When it ends.
    pub not_after: SystemTime,
}

impl PairFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// When one of them cannot be read, or is far too large.
    pub(crate) fn read(&self) -> Result<PairText, PairError> {
        let of = |part, path: &Path| {
            bytes_of(path).map_err(|why| PairError { part, message: format!("cannot read {}: {why}", path.display()) })
        };
        Ok(PairText { certificate: of(Part::Certificate, &self.certificate)?, key: of(Part::Key, &self.key)? })
    }

    /// Reads both files, and says whether they can serve at this time.
    ///
    /// # Errors
    /// What is wrong with them, and what to do.
    pub(crate) fn load(&self, now: SystemTime) -> Result<Pair, PairError> {
        self.parse(&self.read()?, now)
    }

    /// Whether what was read of these files can serve at this time.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub(crate) fn parse(&self, text: &PairText, now: SystemTime) -> Result<Pair, PairError> {
        let of_certificate = |why: String| PairError {
            part: Part::Certificate,
            message: format!("{} {why}", self.certificate.display()),
        };
        let of_key = |why: String| PairError { part: Part::Key, message: format!("{} {why}", self.key.display()) };
        let chain = chain(&text.certificate).map_err(of_certificate)?;
        let (names, not_after) = chain
            .first()
            .map_or_else(|| Err("holds no certificate".to_owned()), |first| about(first, now))
            .map_err(of_certificate)?;
        let key = key(&text.key).map_err(of_key)?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            // A kind of key that does not tell is believed.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(_) => return Err(of_key(self.other_key(&certified))),
        }
        Ok(Pair { certified: Arc::new(certified), names, not_after })
    }

    /// Whose key it is, if it is not that of the first certificate.
    fn other_key(&self, certified: &CertifiedKey) -> String {
        let fits = |certificate: &CertificateDer<'static>| {
            CertifiedKey::new(vec![certificate.clone()], Arc::clone(&certified.key)).keys_match().is_ok()
        };
        let certificate = self.certificate.display();
        match certified.cert.iter().position(fits) {
            Some(place) => format!(
                "is the key of certificate {} in {certificate}: put that one first, and below it those that lead to \
                 its authority",
                place + 1
            ),
            None => format!(
                "is not the key of the certificate in {certificate}: name the one that the certificate was made for, \
                 or have a certificate made for this one"
            ),
        }
    }

    /// What can be meant, and mostly is not, a sentence each. What cannot be read has none.
    pub(crate) fn doubts(&self, now: SystemTime) -> Vec<String> {
        let mut doubts = Vec::new();
        if private::is_open_to_all(&self.key).unwrap_or(false) {
            let key = self.key.display();
            doubts.push(format!(
                "{key} can be read by every user of this machine, who can then speak in its name: {}",
                private::HOW_TO_SHUT_FILE
            ));
        }
        if let Ok(pair) = self.load(now) {
            let certificate = self.certificate.display();
            if pair.left(now) < EXPIRES_SOON {
                doubts.push(format!("{certificate} {}: {RENEW}", pair.end(now)));
            }
            if pair.names.is_empty() {
                doubts
                    .push(format!("{certificate} names nobody (it has no subjectAltName), so that callers refuse it"));
            }
        }
        doubts
    }
}

/// What is done about a certificate that ends.
const RENEW: &str = "have it renewed, and write the new one into the same files; it is followed without a restart";

impl Pair {
    /// How long it is still valid; nothing once it has ended.
    pub(crate) fn left(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }

    /// When it ends, as part of a sentence.
    pub(crate) fn end(&self, now: SystemTime) -> String {
        let days = self.left(now).as_secs() / (24 * 60 * 60);
        let date = httpdate::fmt_http_date(self.not_after);
        match self.not_after > now {
            true if days == 1 => format!("expires on {date}, in 1 day"),
            true => format!("expires on {date}, in {days} days"),
            false => format!("has expired on {date}"),
        }
    }

    /// Whether it speaks for this address.
    pub(crate) fn names_address(&self, address: IpAddr) -> bool {
        self.names.iter().any(|name| name.parse() == Ok(address))
    }
}

/// All of a file. What is no file, such as a pipe, could be waited for without end, and could not be read again.
fn bytes_of(path: &Path) -> Result<Vec<u8>, String> {
    let says = |error: std::io::Error| error.to_string();
    if !path.metadata().map_err(says)?.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(says)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(says)?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(format!("it has more than {FILE_BYTES_MAX} bytes")),
        false => Ok(bytes),
    }
}

/// Whether a PEM file has a section whose name ends so.
fn has_section(bytes: &[u8], name: &str) -> bool {
    let end = format!("{name}-----");
    let begins = |line: &[u8]| line.starts_with(b"-----BEGIN ") && line.trim_ascii_end().ends_with(end.as_bytes());
    bytes.split(|byte| *byte == b'\n').any(begins)
}

/// What to do with a file that is no PEM.
const NO_PEM: &str = "is no PEM file, which is text with a line -----BEGIN …-----";

fn chain(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| format!("is damaged: {error}; copy it anew"))?;
    if chain.len() > CHAIN_MAX {
        return Err(format!(
            "holds {} certificates: it should hold Spillway's own, and below it those that lead to its authority",
            chain.len()
        ));
    }
    if !chain.is_empty() {
        return Ok(chain);
    }
    Err(match () {
        () if has_section(bytes, "CERTIFICATE REQUEST") => {
            "holds a request for a certificate: name the certificate that the authority has made of it".to_owned()
        }
        () if has_section(bytes, "PRIVATE KEY") => {
            "holds a key, and no certificate: are server.tls.certificate and server.tls.key swapped?".to_owned()
        }
        () if bytes.trim_ascii().is_empty() => "is empty".to_owned(),
        () if has_section(bytes, "") => "holds no certificate (-----BEGIN CERTIFICATE-----)".to_owned(),
        () => format!("{NO_PEM}: `openssl x509 -inform der -in FILE -out certificate.pem` makes one of a DER file"),
    })
}

fn key(bytes: &[u8]) -> Result<Arc<dyn SigningKey>, String> {
    // The older form says it in a line of its own.
    let is_encrypted =
        has_section(bytes, "ENCRYPTED PRIVATE KEY") || memchr::memmem::find(bytes, b"Proc-Type: 4,ENCRYPTED").is_some();
    if is_encrypted {
        return Err(format!(
            "is encrypted, and nobody is there who could be asked for its password: `openssl pkey -in FILE -out \
             key.pem` writes one that is not; {}",
            private::HOW_TO_SHUT_FILE
        ));
    }
    let key = PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => match () {
            () if has_section(bytes, "CERTIFICATE") => {
                "holds a certificate, and no key: are server.tls.certificate and server.tls.key swapped?".to_owned()
            }
            () if has_section(bytes, "PUBLIC KEY") => {
                "holds a public key: name the private one, which was made with it".to_owned()
            }
            () if bytes.trim_ascii().is_empty() => "is empty".to_owned(),
            () if has_section(bytes, "") => "holds no private key (-----BEGIN PRIVATE KEY-----)".to_owned(),
            () => format!("{NO_PEM}: `openssl pkey -inform der -in FILE -out key.pem` makes one of a DER file"),
        },
        // What it says of a damaged line may hold the line.
        _ => "is damaged; copy it anew".to_owned(),
    })?;
    any_supported_type(&key).map_err(|_| {
        "holds a kind of key that does not serve here: RSA of 2048 to 8192 bits, ECDSA over P-256 or P-384, and Ed25519 \
         do"
        .to_owned()
    })
}

/// For whom a certificate speaks, and when it ends, if it is valid at this time.
fn about(certificate: &CertificateDer<'_>, now: SystemTime) -> Result<(Vec<String>, SystemTime), String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| "holds no X.509 certificate".to_owned())?;
    let (not_before, not_after) = (parsed.validity().not_before, parsed.validity().not_after);
    let (from, until) = (time_of(not_before.timestamp()), time_of(not_after.timestamp()));
    if now < from {
        return Err(format!(
            "is not valid before {}, and this machine's clock says {}: set the clock, or wait",
            httpdate::fmt_http_date(from),
            httpdate::fmt_http_date(now)
        ));
    }
    if now > until {
        return Err(format!("has expired on {}: {RENEW}", httpdate::fmt_http_date(until)));
    }
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.into_iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(address) => address_of(address).map(|address| address.to_string()),
        _ => None,
    });
    Ok((names.collect(), until))
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// A time in seconds since 1970. What is before that, or beyond what dates are written for, is cut.
fn time_of(unix_s: i64) -> SystemTime {
    /// The last second of the year 9999, after which no date can be written.
    const LAST_S: u64 = 253_402_300_799;
    UNIX_EPOCH + Duration::from_secs(u64::try_from(unix_s).unwrap_or(0).min(LAST_S))
}
