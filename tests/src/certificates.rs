//! Certificates for servers in tests, and the mistakes that are made with them.
#![expect(clippy::panic, reason = "a certificate that cannot be made fails its test, and panics are how tests fail")]

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::atomic::{AtomicU32, Ordering};

/// A certificate and its key, as a server shows them.
#[derive(Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// As a file holds it.
    pub pem: String,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// An authority that nobody knows until it is named.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, as a file holds it.
    pub pem: String,
}

impl Authority {
    /// A new one.
    pub fn new() -> Authority {
        let (params, key) = (as_authority(&[]), key());
        let certificate = params.self_signed(&key).unwrap_or_else(|error| panic!("no authority: {error}"));
        Authority { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// A certificate for this name, that is valid for long.
    pub fn certify(&self, name: &str) -> Identity {
        self.certify_until(name, 2096)
    }

    /// A certificate for this name, up to the end of November of this year.
    pub fn certify_until(&self, name: &str, year: i32) -> Identity {
        let mut params = named(&[name]);
        params.not_before = date_time_ymd(2016, 1, 1);
        params.not_after = date_time_ymd(year, 11, 30);
        let key = key();
        let signed = params.signed_by(&key, &self.issuer).unwrap_or_else(|error| panic!("no certificate: {error}"));
        identity(signed, &key)
    }
}

impl Default for Authority {
    fn default() -> Self {
        Authority::new()
    }
}

/// What `openssl req -x509` makes: it is its own authority, and its server shows it as its own.
pub fn self_signed(name: &str) -> Identity {
    let (params, key) = (as_authority(&[name]), key());
    let signed = params.self_signed(&key).unwrap_or_else(|error| panic!("no certificate: {error}"));
    identity(signed, &key)
}

fn as_authority(names: &[&str]) -> CertificateParams {
    let mut params = named(names);
    // Two of the same name would be taken for one, with a wrong signature.
    static AUTHORITIES: AtomicU32 = AtomicU32::new(0);
    let number = AUTHORITIES.fetch_add(1, Ordering::Relaxed);
    params.distinguished_name.push(DnType::CommonName, format!("Authority {number} of a test"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn named(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).unwrap_or_else(|error| panic!("no names: {error}"))
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap_or_else(|error| panic!("no key: {error}"))
}

fn identity(certificate: rcgen::Certificate, key: &KeyPair) -> Identity {
    Identity {
        certificate: certificate.der().clone(),
        pem: certificate.pem(),
        key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
    }
}
