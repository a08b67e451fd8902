//! Who may spend the keys that Spillway has, and who may call at all: whoever shows the access key, or a virtual key.

use crate::config::Secret;
use crate::dialect::headers::{self, ACCESS_KEY_HEADER, CREDENTIALS, KEY_ID_HEADER, MAY_SPEND_HEADER};
use crate::dialect::{query, upgrade};
use crate::keys::digest::{KEY_BYTES_MAX, KeyDigest};
use crate::keys::table::{Found, Key, KeyTable, Void};
use crate::tenants::guard::Entrance;
use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::sync::Arc;

/// The access key, if there is one, and the virtual keys. They are taken from wherever SDKs put an API key, so that an
/// application needs nothing but another base URL and another key.
#[derive(Debug)]
pub(crate) struct Access {
    access_key: Option<ArcSwap<AccessKeys>>,
    /// All virtual keys.
    pub keys: KeyTable,
    /// Whether everybody shows one of either.
    is_required: bool,
}

/// The access key that is in force, and the one before it: who still shows that one may not spend, and it is no
/// provider's to see.
///
/// Only hashes are compared, and those in constant time, so that how long it takes says nothing about how much of a
/// guess was right.
#[derive(Clone, Debug)]
struct AccessKeys {
    current: KeyDigest,
    former: Option<KeyDigest>,
    /// The length of the longer one.
    bytes_max: usize,
}

/// What a request shows that is Spillway's.
#[derive(Clone, Debug)]
pub(crate) enum Shown {
    /// Nothing.
    Nothing {
        /// Whether it shows something else instead.
        has_credential: bool,
    },
    /// The access key.
    AccessKey,
    /// A virtual key that counts.
    Key(Arc<Key>),
    /// A virtual key that does not, or something that only looks like one, and why.
    Void(Option<Arc<Key>>, Void),
}

/// What was found of a request's credentials.
#[derive(Debug)]
pub(crate) struct Look {
    pub shown: Shown,
    /// Whether any of them is Spillway's, and has to be taken away.
    has_ours: bool,
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    /// It shows nothing, and every caller shows a key.
    KeyRequired,
    /// What it shows counts for nothing.
    KeyRefused,
    /// It comes from where other machines call, and does not show the access key.
    Stranger,
}

/// What one text is, that stands where an API key goes.
enum One {
    Another,
    AccessKey,
    FormerAccessKey,
    Key(Arc<Key>),
    Void(Option<Arc<Key>>, Void),
}

impl Shown {
    /// What is in force for whoever shows several: a virtual key says most about who it is.
    fn rank(&self) -> u8 {
        match self {
            Shown::Nothing { .. } => 0,
            Shown::Void(..) => 1,
            Shown::AccessKey => 2,
            Shown::Key(_) => 3,
        }
    }
}

impl Access {
    /// With this access key, without which nobody shows it, and no virtual key yet.
    pub(crate) fn new(access_key: Option<&Secret>, is_required: bool) -> Access {
        let keys = |key: &Secret| {
            let bytes_max = key.expose().len();
            AccessKeys { current: KeyDigest::of(key.expose().as_bytes()), former: None, bytes_max }
        };
        let access_key = access_key.map(|key| ArcSwap::from_pointee(keys(key)));
        Access { access_key, keys: KeyTable::default(), is_required }
    }

    /// Whoever wants to spend shows this access key from here on, and no longer the one before.
    pub(crate) fn replace(&self, key: &Secret) {
        if let Some(keys) = &self.access_key {
            let before = keys.load();
            let bytes_max = key.expose().len().max(before.bytes_max);
            let current = KeyDigest::of(key.expose().as_bytes());
            keys.store(Arc::new(AccessKeys { current, former: Some(before.current), bytes_max }));
        }
    }

    /// Whether everybody shows a key.
    pub(crate) fn is_required(&self) -> bool {
        self.is_required
    }

    /// What is shown in headers or query, wherever [`Access::take`] takes it from.
    pub(crate) fn look(&self, headers: &HeaderMap, query: &str, now_unix_ms: impl Fn() -> u64) -> Look {
        let mut look = Look { shown: Shown::Nothing { has_credential: false }, has_ours: false };
        if self.is_idle() {
            return look;
        }
        let now_unix_ms = now_unix_ms();
        let ours = HeaderName::from_static(ACCESS_KEY_HEADER);
        let values = [&ours].into_iter().chain(&CREDENTIALS).flat_map(|name| headers.get_all(name));
        for value in values {
            look.take(self.one(behind_scheme(value), now_unix_ms));
        }
        let in_query = query.split('&').filter(|pair| headers::is_credential(pair));
        for (_, value) in in_query.filter_map(|pair| pair.split_once('=')) {
            look.take(self.one(query::decoded(value).as_bytes(), now_unix_ms));
        }
        for key in upgrade::keys(headers) {
            look.take(self.one(key.as_bytes(), now_unix_ms));
        }
        look
    }

    /// Whether a request that shows this is let in.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn admit(&self, shown: &Shown, entrance: Entrance) -> Result<(), Turned> {
        match shown {
            Shown::AccessKey | Shown::Key(_) => Ok(()),
            Shown::Void(..) => Err(Turned::KeyRefused),
            Shown::Nothing { has_credential: true } if self.is_required => Err(Turned::KeyRefused),
            Shown::Nothing { has_credential: false } if self.is_required => Err(Turned::KeyRequired),
            Shown::Nothing { .. } if entrance == Entrance::Network => Err(Turned::Stranger),
            Shown::Nothing { .. } => Ok(()),
        }
    }

    /// Takes out of headers and query whatever of Spillway's a look has found, wherever it stands in them, so that it
    /// goes no further, wherever the request goes. So is what only Spillway itself may say.
    pub(crate) fn take(&self, look: &Look, headers: &mut HeaderMap, path_and_query: &mut String) {
        headers.remove(MAY_SPEND_HEADER);
        headers.remove(KEY_ID_HEADER);
        // Whatever is said there is said to Spillway.
        headers.remove(ACCESS_KEY_HEADER);
        if !look.has_ours {
            return;
        }
        // Whatever it counts for, it is no provider's to see.
        let is_ours = |shown: &[u8]| !matches!(self.one(shown, 0), One::Another);
        for name in &CREDENTIALS {
            take_from(headers, name, |value| is_ours(behind_scheme(value)));
        }
        upgrade::remove_keys(headers, |key| is_ours(key.as_bytes()));
        query::remove(path_and_query, |pair| {
            let value = pair.split_once('=').map(|(_, value)| query::decoded(value));
            headers::is_credential(pair) && value.is_some_and(|value| is_ours(value.as_bytes()))
        });
    }

    /// Whether nobody can show anything.
    fn is_idle(&self) -> bool {
        self.access_key.is_none() && !self.is_required && self.keys.is_empty()
    }

    fn one(&self, shown: &[u8], now_unix_ms: u64) -> One {
        let access_key = self.access_key.as_ref().map(|keys| keys.load());
        let bytes_max = access_key.as_ref().map_or(KEY_BYTES_MAX, |keys| keys.bytes_max.max(KEY_BYTES_MAX));
        // What is longer than any key is not worth a hash.
        if shown.is_empty() || shown.len() > bytes_max {
            return One::Another;
        }
        let digest = KeyDigest::of(shown);
        if let Some(keys) = &access_key {
            if keys.current == digest {
                return One::AccessKey;
            }
            if keys.former == Some(digest) {
                return One::FormerAccessKey;
            }
        }
        match std::str::from_utf8(shown).map(|text| self.keys.find(text, &digest, now_unix_ms)) {
            Ok(Found::Key(key)) => One::Key(key),
            Ok(Found::Void(key, void)) => One::Void(key, void),
            Ok(Found::Nothing) | Err(_) => One::Another,
        }
    }
}

impl Look {
    fn take(&mut self, one: One) {
        let shown = match one {
            One::Another => {
                if let Shown::Nothing { has_credential } = &mut self.shown {
                    *has_credential = true;
                }
                return;
            }
            // It counts for as much as nothing.
            One::FormerAccessKey => Shown::Nothing { has_credential: true },
            One::AccessKey => Shown::AccessKey,
            One::Key(key) => Shown::Key(key),
            One::Void(key, void) => Shown::Void(key, void),
        };
        self.has_ours = true;
        if shown.rank() >= self.shown.rank() && !matches!(self.shown, Shown::Key(_)) {
            self.shown = shown;
        }
    }
}

/// What a header's value shows, behind a scheme or not.
fn behind_scheme(value: &HeaderValue) -> &[u8] {
    let value = value.as_bytes().trim_ascii();
    let scheme = value.iter().position(|byte| *byte == b' ');
    scheme.map_or(value, |end| value[end..].trim_ascii_start())
}

/// Takes the values of a header away that are unwanted; the others stay.
fn take_from(headers: &mut HeaderMap, name: &HeaderName, is_unwanted: impl Fn(&HeaderValue) -> bool) {
    if !headers.get_all(name).iter().any(&is_unwanted) {
        return;
    }
    let others: Vec<HeaderValue> = headers.get_all(name).iter().filter(|value| !is_unwanted(value)).cloned().collect();
    headers.remove(name);
    for other in others {
        headers.append(name, other);
    }
}

#[cfg(test)]
mod tests;
