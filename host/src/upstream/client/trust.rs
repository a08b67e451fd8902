//! Whose certificates are believed, and connections on which they were shown.

use super::issuer::UnknownAuthority;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::{Arc, OnceLock};

/// How calls to an upstream begin TLS. Its clones share sessions, so that every worker can resume what one has begun.
#[derive(Clone, Debug)]
pub(crate) struct Trust(Arc<ClientConfig>);

impl Trust {
    /// What the system believes, and beside it these authorities.
    pub(crate) fn with(authorities: &[CertificateDer<'static>]) -> Trust {
        static OF_SYSTEM: OnceLock<Trust> = OnceLock::new();
        if authorities.is_empty() {
            return OF_SYSTEM.get_or_init(|| Trust::of(system().certificates.clone())).clone();
        }
        Trust::of(system().certificates.iter().chain(authorities).cloned().collect())
    }

    fn of(certificates: Vec<CertificateDer<'static>>) -> Trust {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().cloned());
        if system().has_none {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let (Ok(builder), Ok(verifier)) = (builder, verifier) else {
            // There are no roots, since those that are named cannot be read: nobody is believed.
            return Trust(Arc::new(
                ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
            ));
        };
        let verifier = Verifier { chains: verifier, believed: certificates };
        Trust(Arc::new(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()))
    }

    /// The settings, for a connection.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }
}

/// What the system believes, read once.
struct System {
    certificates: Vec<CertificateDer<'static>>,
    mistakes: Vec<String>,
    /// Whether it has no store, and nobody has named another.
    has_none: bool,
}

/// The operating system's trust store, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` name in its place.
fn system() -> &'static System {
    static SYSTEM: OnceLock<System> = OnceLock::new();
    SYSTEM.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut mistakes: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let is_named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some());
        let has_none = found.certs.is_empty() && !is_named;
        if has_none {
            mistakes.push("no certificate of an authority was found; Mozilla's list is used".to_owned());
        } else if found.certs.is_empty() {
            mistakes.push("SSL_CERT_FILE and SSL_CERT_DIR name no certificate of an authority".to_owned());
        }
        System { certificates: found.certs, mistakes, has_none }
    })
}

/// What could not be read of what the system believes.
pub(crate) fn mistakes_of_system() -> &'static [String] {
    &system().mistakes
}

/// Believes chains that end in a trusted authority, and beside them a certificate that is itself trusted.
///
/// One that was made by `openssl req -x509` is both: it calls itself an authority, and a server shows it as its own.
/// The rules for chains have no place for that; whoever has named this very certificate as trusted means it.
#[derive(Debug)]
struct Verifier {
    chains: Arc<WebPkiServerVerifier>,
    believed: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = self.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verdict {
            // Whether the certificate is valid today was found before this was.
            Err(error) if is_authority_itself(&error) && self.believed.iter().any(|known| known == end_entity) => {
                rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            // Nobody has named it, and that is what can be mended.
            Err(error) if is_authority_itself(&error) || is_of_nobody_known(&error) => {
                Err(UnknownAuthority::of(end_entity, intermediates).into_error())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

fn is_of_nobody_known(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))
}

fn is_authority_itself(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref::<webpki::Error>(), Some(webpki::Error::CaUsedAsEndEntity))
}
