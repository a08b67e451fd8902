//! Certificates for servers in tests, and the mistakes that are made with them.
#![expect(clippy::panic, reason = "a certificate that cannot be made fails its test, and panics are how tests fail")]

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A certificate and its key, as a server shows them.
#[derive(Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// As a file holds it.
    pub pem: String,
    pub(crate) key: PrivateKeyDer<'static>,
    /// The key, as a file holds it.
    pub key_pem: String,
}

/// An authority that nobody knows until it is named.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, as a file holds it.
    pub pem: String,
}

impl Authority {
    /// What a client needs that believes this authority, and speaks these protocols.
    pub fn client(&self, protocols: &[&[u8]]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let added = CertificateDer::from_pem_slice(self.pem.as_bytes()).map(|certificate| roots.add(certificate));
        assert!(matches!(added, Ok(Ok(()))), "the authority's own certificate is none");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap_or_else(|error| panic!("no TLS: {error}"));
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }

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

    /// A certificate for this name, from the beginning of this year on.
    pub fn certify_from(&self, name: &str, year: i32) -> Identity {
        self.certify_within(name, |params| params.not_before = date_time_ymd(year, 1, 1))
    }

    /// A certificate for this name, up to the end of November of this year.
    pub fn certify_until(&self, name: &str, year: i32) -> Identity {
        self.certify_within(name, |params| params.not_after = date_time_ymd(year, 11, 30))
    }

    /// A certificate for this name that ends in so many days.
    pub fn certify_for_days(&self, name: &str, days: u64) -> Identity {
        let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let until = today + Duration::from_secs(days * 24 * 60 * 60);
        self.certify_within(name, |params| params.not_after = date_time_ymd(1970, 1, 1) + until)
    }

    fn certify_within(&self, name: &str, set: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = named(&[name]);
        params.not_before = date_time_ymd(2016, 1, 1);
        params.not_after = date_time_ymd(2096, 11, 30);
        set(&mut params);
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
        key_pem: key.serialize_pem(),
    }
}
