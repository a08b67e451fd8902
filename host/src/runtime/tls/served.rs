//! What is shown to whoever connects: the pair in force, which can be exchanged while connections are open.

use crate::runtime::tls::pair::{Pair, PairError, PairFiles, PairText};
use arc_swap::ArcSwap;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// HTTP/2, as ALPN names it.
pub(crate) const H2: &[u8] = b"h2";
/// HTTP/1.1, as ALPN names it.
const HTTP_1_1: &[u8] = b"http/1.1";

/// TLS towards callers and operators.
#[derive(Debug)]
pub(crate) struct Served {
    in_force: Arc<InForce>,
    /// Towards callers: HTTP/2, and HTTP/1.1.
    pub callers: Arc<ServerConfig>,
    /// Towards operators: HTTP/1.1.
    pub operators: Arc<ServerConfig>,
}

/// Why there is no TLS.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ServedError {
    /// The pair cannot serve.
    #[error("{0}")]
    Pair(#[from] PairError),
    /// rustls refuses.
    #[error("TLS does not start: {0}")]
    Tls(#[from] rustls::Error),
}

/// The pair that the next handshake shows.
struct InForce(ArcSwap<Pair>);

/// The key has nothing to print.
impl fmt::Debug for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InForce").field(&self.0.load().names).finish()
    }
}

impl ResolvesServerCert for InForce {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().certified))
    }
}

impl Served {
    /// Serves this pair.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub(crate) fn new(pair: Pair) -> Result<Served, ServedError> {
        let in_force = Arc::new(InForce(ArcSwap::from_pointee(pair)));
        let config = |protocols: &[&[u8]]| {
            let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
            let config = config.with_protocol_versions(&[&TLS13, &TLS12])?.with_no_client_auth();
            let mut config = config.with_cert_resolver(Arc::clone(&in_force) as Arc<dyn ResolvesServerCert>);
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            // What a session is resumed by is the caller's to keep: nothing is kept here for it, and no worker waits
            // for another's lock.
            config.ticketer = Ticketer::new()?;
            Ok::<_, rustls::Error>(Arc::new(config))
        };
        let (callers, operators) = (config(&[H2, HTTP_1_1])?, config(&[HTTP_1_1])?);
        Ok(Served { in_force, callers, operators })
    }

    /// Shows this pair from the next handshake on. Connections that are open stay as they are.
    pub(crate) fn replace(&self, pair: Pair) {
        self.in_force.0.store(Arc::new(pair));
    }

    /// The pair that is shown.
    pub(crate) fn pair(&self) -> Arc<Pair> {
        self.in_force.0.load_full()
    }
}

/// What tells a pair of files from another: no bytes of a key.
type Mark = [u8; 32];

fn mark(text: &PairText) -> Mark {
    let [certificate, key] = text.parts();
    let mut hash = Sha256::new();
    hash.update((certificate.len() as u64).to_le_bytes());
    hash.update(certificate);
    hash.update(key);
    hash.finalize().into()
}

/// A pair whose files are read again while it serves.
#[derive(Debug)]
pub(crate) struct FollowedPair {
    files: PairFiles,
    held: Mark,
    /// What the last look found, where it differs from what is held.
    seen: Option<Result<Mark, PairError>>,
    /// What was last told of files that cannot serve.
    told: Option<Result<Mark, PairError>>,
}

/// What a look has found.
#[derive(Debug)]
pub(crate) enum PairLook {
    /// Nothing to tell.
    AsBefore,
    /// Another pair, which can serve.
    Changed(Pair),
    /// What is there cannot serve, or cannot be read. The last pair stays in use.
    Refused(PairError),
    /// What is there is what is in use, after something else was there.
    Back,
}

impl FollowedPair {
    /// Loads the pair that lies in these files, and follows them from here on.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub(crate) fn load(files: PairFiles, now: SystemTime) -> Result<(FollowedPair, Pair), PairError> {
        let text = files.read()?;
        let pair = files.parse(&text, now)?;
        Ok((FollowedPair { files, held: mark(&text), seen: None, told: None }, pair))
    }

    /// Reads both files again, and compares them as a whole. What differs counts once two looks in a row agree on it,
    /// since one file is written after the other, and may be looked at while it is written.
    pub(crate) fn look(&mut self, now: SystemTime) -> PairLook {
        let found = self.files.read();
        let marked = found.as_ref().map(mark).map_err(Clone::clone);
        if marked.as_ref() == Ok(&self.held) {
            self.seen = None;
            return if self.told.take().is_some() { PairLook::Back } else { PairLook::AsBefore };
        }
        if self.seen.as_ref() != Some(&marked) {
            self.seen = Some(marked);
            return PairLook::AsBefore;
        }
        match found.and_then(|text| Ok((mark(&text), self.files.parse(&text, now)?))) {
            Ok((mark, pair)) => {
                self.held = mark;
                (self.seen, self.told) = (None, None);
                PairLook::Changed(pair)
            }
            // One that is not valid yet may be, the next time.
            Err(_) if self.told.as_ref() == Some(&marked) => PairLook::AsBefore,
            Err(error) => {
                self.told = Some(marked);
                PairLook::Refused(error)
            }
        }
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use spillway_tests::certificates::{Authority, Identity};
    use std::fs;
    use std::path::Path;
    use std::time::Duration;
    use tempfile::TempDir;

    fn write(folder: &Path, identity: &Identity) {
        fs::write(folder.join("certificate"), &identity.pem).expect("written");
        fs::write(folder.join("key"), &identity.key_pem).expect("written");
    }

    fn follow(identity: &Identity) -> (FollowedPair, TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), identity);
        let [certificate, key] = ["certificate", "key"].map(|name| folder.path().join(name));
        let (followed, pair) = FollowedPair::load(PairFiles { certificate, key }, SystemTime::now()).expect("a pair");
        assert_eq!(pair.names, ["localhost"]);
        (followed, folder)
    }

    #[test]
    fn a_pair_that_has_changed_counts_once_two_looks_agree_on_it() {
        let authority = Authority::new();
        let (mut followed, folder) = follow(&authority.certify("localhost"));
        let now = SystemTime::now();
        assert!(matches!(followed.look(now), PairLook::AsBefore));
        // One file after the other.
        let renewed = authority.certify("renewed");
        fs::write(folder.path().join("certificate"), &renewed.pem).expect("written");
        assert!(matches!(followed.look(now), PairLook::AsBefore));
        write(folder.path(), &renewed);
        assert!(matches!(followed.look(now), PairLook::AsBefore));
        assert!(matches!(followed.look(now), PairLook::Changed(pair) if pair.names == ["renewed"]));
        assert!(matches!(followed.look(now), PairLook::AsBefore));
    }

    #[test]
    fn what_cannot_serve_is_told_once_until_it_can_or_is_what_it_was() {
        let authority = Authority::new();
        let first = authority.certify("localhost");
        let (mut followed, folder) = follow(&first);
        let now = SystemTime::now();
        fs::remove_file(folder.path().join("key")).expect("removed");
        assert!(matches!(followed.look(now), PairLook::AsBefore));
        assert!(matches!(followed.look(now), PairLook::Refused(error) if error.message.contains("cannot read")));
        assert!(matches!(followed.look(now), PairLook::AsBefore));
        write(folder.path(), &first);
        assert!(matches!(followed.look(now), PairLook::Back));
        // One that is not valid yet is taken when it is.
        let later = authority.certify_from("localhost", 2090);
        write(folder.path(), &later);
        assert!(matches!(followed.look(now), PairLook::AsBefore));
        assert!(matches!(followed.look(now), PairLook::Refused(error) if error.message.contains("not valid before")));
        assert!(matches!(followed.look(now), PairLook::AsBefore));
        let then = now + Duration::from_secs(65 * 366 * 24 * 60 * 60);
        assert!(matches!(followed.look(then), PairLook::Changed(_)));
    }

    #[test]
    fn nothing_of_a_key_is_printed() {
        let (followed, _folder) = follow(&Authority::new().certify("localhost"));
        let text = followed.files.read().expect("two files");
        assert_eq!(format!("{text:?}"), "PairText(..)");
    }
}
