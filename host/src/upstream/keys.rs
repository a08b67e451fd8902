//! The keys that Spillway has for an upstream: who they are told apart by, and how a request gets one.

use crate::config::{Secret, SecretSource, UpstreamConfig};
use crate::dialect::auth::{Auth, Credential};
use crate::runtime::fingerprint::FingerprintKey;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use std::sync::Arc;

/// A key of Spillway's own for an upstream.
#[derive(Debug)]
pub(crate) struct Key {
    /// The variable or file that it stands in, for people.
    pub name: Arc<str>,
    /// Tells it from others, and outlives restarts; the same as of a caller who sends this key itself.
    pub fingerprint: u64,
    credential: Credential,
}

impl Key {
    /// Puts it into a request, in the place of everything by which the provider could know the caller.
    pub(crate) fn place(&self, headers: &mut HeaderMap, path_and_query: &mut String) {
        self.credential.place(headers, path_and_query);
    }

    /// What a provider has said, with asterisks in place of the key; `None` where it does not stand there.
    pub(crate) fn covered(&self, said: &[u8]) -> Option<Bytes> {
        self.credential.covered(said)
    }

    /// Covers it likewise in the headers of an answer.
    pub(crate) fn cover(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            let covered = self.covered(value.as_bytes());
            if let Some(covered) = covered.and_then(|covered| HeaderValue::from_bytes(&covered).ok()) {
                *value = covered;
            }
        }
    }
}

/// The keys that Spillway has for an upstream. They are read without a lock, and replaced one by one when their files
/// change: their number and order stay as the configuration names them.
#[derive(Debug)]
pub(crate) struct Keys {
    auth: Auth,
    fingerprints: FingerprintKey,
    sources: Vec<SecretSource>,
    current: ArcSwap<Vec<Arc<Key>>>,
}

impl Keys {
    /// Those that the configuration names, as they were read with it.
    pub(crate) fn of(config: &UpstreamConfig, fingerprints: &FingerprintKey) -> Keys {
        let keys = Keys {
            auth: config.auth,
            fingerprints: fingerprints.clone(),
            sources: config.api_keys().map(|named| named.source.clone()).collect(),
            current: ArcSwap::default(),
        };
        let read = config.api_keys().filter_map(|named| keys.key(&named.source, named.secret.as_ref()?));
        keys.current.store(Arc::new(read.map(Arc::new).collect()));
        keys
    }

    /// Those that are in force; none where none are configured.
    pub(crate) fn current(&self) -> Arc<Vec<Arc<Key>>> {
        self.current.load_full()
    }

    /// Puts another secret in the place of one key. Whoever holds that one still sends it.
    pub(crate) fn replace(&self, index: usize, secret: &Secret) {
        let Some(key) = self.sources.get(index).and_then(|source| self.key(source, secret)) else { return };
        let mut keys = Vec::clone(&self.current.load());
        if let Some(place) = keys.get_mut(index) {
            *place = Arc::new(key);
        }
        self.current.store(Arc::new(keys));
    }

    /// A secret as its key. What [`Secret`] takes can stand in a header, so that there is always one.
    fn key(&self, source: &SecretSource, secret: &Secret) -> Option<Key> {
        let credential = Credential::new(self.auth, secret.expose())?;
        let fingerprint = self.fingerprints.of_credential(Some(credential.as_bytes()));
        Some(Key { name: Arc::from(source.to_string()), fingerprint, credential })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use std::fs;
    use std::path::Path;

    fn keys(text: &str, folder: &Path) -> Keys {
        let config = parse(&format!("[upstreams.openai]\n{text}"), folder).expect("a configuration");
        Keys::of(&config.upstreams["openai"], &FingerprintKey::from_bytes([1; 32]))
    }

    #[test]
    fn a_key_is_the_caller_who_sends_it_himself_and_shows_nothing_of_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("one"), "sk-canary-1").expect("written");
        fs::write(folder.path().join("two"), "sk-canary-2").expect("written");
        let keys = keys("api_key_file = [\"one\", \"two\"]", folder.path());
        let current = keys.current();
        let as_callers = |text: &[u8]| FingerprintKey::from_bytes([1; 32]).of_credential(Some(text));
        let fingerprints: Vec<u64> = current.iter().map(|key| key.fingerprint).collect();
        assert_eq!(fingerprints, [as_callers(b"Bearer sk-canary-1"), as_callers(b"Bearer sk-canary-2")]);
        assert!(current[0].name.ends_with("one") && current[1].name.ends_with("two"));
        assert!(!format!("{keys:?}").contains("canary"));
    }

    #[test]
    fn a_key_is_replaced_in_its_place_and_whoever_has_it_in_hand_keeps_it() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("one"), "sk-1").expect("written");
        fs::write(folder.path().join("two"), "sk-2").expect("written");
        let keys = keys("api_key_file = [\"one\", \"two\"]", folder.path());
        let before = keys.current();
        keys.replace(1, &Secret::parse("sk-3").expect("a secret"));
        keys.replace(2, &Secret::parse("sk-4").expect("a secret"));
        let sent = |keys: &[Arc<Key>]| -> Vec<String> {
            let sent = keys.iter().map(|key| {
                let mut headers = HeaderMap::new();
                key.place(&mut headers, &mut String::new());
                headers["authorization"].to_str().expect("text").to_owned()
            });
            sent.collect()
        };
        assert_eq!(sent(&keys.current()), ["Bearer sk-1", "Bearer sk-3"]);
        assert_eq!(sent(&before), ["Bearer sk-1", "Bearer sk-2"]);
        assert_eq!((&before[1].name, before[0].fingerprint), (&keys.current()[1].name, keys.current()[0].fingerprint));
        assert_ne!(before[1].fingerprint, keys.current()[1].fingerprint);
    }

    #[test]
    fn an_upstream_has_no_keys_unless_it_is_given_some() {
        let keys = keys("", Path::new(""));
        assert!(keys.current().is_empty());
    }
}
