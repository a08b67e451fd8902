//! Who may spend the keys that Spillway has, and who may call at all from other machines: whoever shows the access key.

use crate::config::Secret;
use crate::dialect::headers::{self, ACCESS_KEY_HEADER, CREDENTIALS, MAY_SPEND_HEADER};
use crate::dialect::{query, upgrade};
use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac;
use std::sync::Arc;

/// Begins what a key is shown in, in `Authorization`.
const BEARER: &[u8] = b"bearer ";

/// The access key, if there is one. It is taken from wherever SDKs put an API key, so that an application needs nothing
/// but another base URL and another key.
#[derive(Debug)]
pub(crate) struct Access {
    expected: Option<ArcSwap<Keys>>,
}

/// The key that is in force, and the one before it: who still shows that one may not spend, and it is no provider's to
/// see.
#[derive(Debug)]
struct Keys {
    current: Expected,
    former: Option<Expected>,
}

impl Keys {
    /// Whether this shows either of them.
    fn are_in(&self, value: &HeaderValue) -> bool {
        self.current.is_in(value) || self.former.as_ref().is_some_and(|former| former.is_in(value))
    }

    /// Whether this is either of them.
    fn are(&self, shown: &[u8]) -> bool {
        self.current.is(shown) || self.former.as_ref().is_some_and(|former| former.is(shown))
    }
}

/// What the access key is compared with.
///
/// Only hashes are compared, and those in constant time, so that how long it takes says nothing about how much of a
/// guess was right, or how long the key is.
#[derive(Clone)]
struct Expected {
    hash: hmac::Key,
    tag: hmac::Tag,
}

impl Expected {
    fn of(secret: &Secret) -> Expected {
        // The hash needs no key of its own to hide what is compared.
        let hash = hmac::Key::new(hmac::HMAC_SHA256, b"spillway access key");
        Expected { tag: hmac::sign(&hash, secret.expose().as_bytes()), hash }
    }

    fn is(&self, shown: &[u8]) -> bool {
        hmac::verify(&self.hash, shown, self.tag.as_ref()).is_ok()
    }

    /// Whether this is the value of a header that shows it, behind a scheme or not.
    fn is_in(&self, value: &HeaderValue) -> bool {
        let value = value.as_bytes().trim_ascii();
        let scheme = value.get(..BEARER.len()).filter(|scheme| scheme.eq_ignore_ascii_case(BEARER));
        self.is(scheme.map_or(value, |scheme| value[scheme.len()..].trim_ascii_start()))
    }

    /// Whether this parameter of a query shows it.
    fn is_in_query(&self, pair: &str) -> bool {
        let value = pair.split_once('=').map(|(_, value)| query::decoded(value));
        headers::is_credential(pair) && value.is_some_and(|value| self.is(value.as_bytes()))
    }
}

/// Nothing of the key is printed.
impl std::fmt::Debug for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Expected(..)")
    }
}

impl Access {
    /// With this access key; without one, nobody shows it.
    pub(crate) fn new(key: Option<&Secret>) -> Access {
        let keys = |key| Keys { current: Expected::of(key), former: None };
        Access { expected: key.map(|key| ArcSwap::from_pointee(keys(key))) }
    }

    /// Whoever wants to spend shows this key from here on, and no longer the one before.
    pub(crate) fn replace(&self, key: &Secret) {
        if let Some(expected) = &self.expected {
            let former = Some(expected.load().current.clone());
            expected.store(Arc::new(Keys { current: Expected::of(key), former }));
        }
    }

    /// Whether the access key is shown in headers or query, wherever [`Access::take`] takes it from.
    pub(crate) fn is_shown(&self, headers: &HeaderMap, query: &str) -> bool {
        let Some(expected) = &self.expected else { return false };
        let expected = &expected.load().current;
        let ours = HeaderName::from_static(ACCESS_KEY_HEADER);
        let mut values = [&ours].into_iter().chain(&CREDENTIALS).flat_map(|name| headers.get_all(name));
        values.any(|value| expected.is_in(value))
            || query.split('&').any(|pair| expected.is_in_query(pair))
            || upgrade::keys(headers).any(|key| expected.is(key.as_bytes()))
    }

    /// Whether the access key is shown. It is taken out of headers and query, wherever it stands in them, so that it
    /// goes no further, wherever the request goes. So is what only Spillway itself may say.
    pub(crate) fn take(&self, headers: &mut HeaderMap, path_and_query: &mut String) -> bool {
        headers.remove(MAY_SPEND_HEADER);
        let Some(expected) = &self.expected else {
            headers.remove(ACCESS_KEY_HEADER);
            return false;
        };
        let expected = expected.load();
        let mut is_shown = headers.get_all(ACCESS_KEY_HEADER).iter().any(|value| expected.current.is_in(value));
        // Whatever is said there is said to Spillway.
        headers.remove(ACCESS_KEY_HEADER);
        for name in &CREDENTIALS {
            is_shown |= take_from(headers, name, &expected);
        }
        is_shown |= upgrade::keys(headers).any(|key| expected.current.is(key.as_bytes()));
        upgrade::remove_keys(headers, |key| expected.are(key.as_bytes()));
        query::remove(path_and_query, |pair| {
            let is_current = expected.current.is_in_query(pair);
            is_shown |= is_current;
            is_current || expected.former.as_ref().is_some_and(|former| former.is_in_query(pair))
        });
        is_shown
    }
}

/// Takes the values of a header away that show a key, and says whether one of them shows the current one; those that do
/// not stay.
fn take_from(headers: &mut HeaderMap, name: &HeaderName, expected: &Keys) -> bool {
    if !headers.get_all(name).iter().any(|value| expected.are_in(value)) {
        return false;
    }
    let is_shown = headers.get_all(name).iter().any(|value| expected.current.is_in(value));
    let others: Vec<HeaderValue> =
        headers.get_all(name).iter().filter(|value| !expected.are_in(value)).cloned().collect();
    headers.remove(name);
    for other in others {
        headers.append(name, other);
    }
    is_shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-spillway-0123/456";

    fn access() -> Access {
        Access::new(Some(&Secret::parse(KEY).expect("a secret")))
    }

    /// What is left of a request with this header and this path, and whether the key was shown.
    fn taken(access: &Access, pairs: &[(&'static str, &str)], path: &str) -> (bool, String, String) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
        }
        let mut path = path.to_owned();
        let query = path.split_once('?').map_or("", |(_, query)| query);
        let was_shown = access.is_shown(&headers, query);
        let is_shown = access.take(&mut headers, &mut path);
        assert_eq!(is_shown, was_shown, "{pairs:?} {path}");
        let left: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
        (is_shown, left.join(", "), path)
    }

    #[test]
    fn the_key_is_found_wherever_sdks_put_one_and_goes_no_further() {
        let bearer = format!("Bearer {KEY}");
        let cases = [
            ("authorization", bearer.as_str()),
            ("authorization", &format!("bearer  {KEY}")),
            ("authorization", KEY),
            ("x-api-key", KEY),
            ("api-key", KEY),
            ("x-goog-api-key", KEY),
            (ACCESS_KEY_HEADER, KEY),
            (ACCESS_KEY_HEADER, &bearer),
            ("sec-websocket-protocol", &format!("openai-insecure-api-key.{KEY}")),
        ];
        for (name, value) in cases {
            let (is_shown, left, path) = taken(&access(), &[(name, value)], "/v1/models?a=b");
            assert_eq!((is_shown, left.as_str(), path.as_str()), (true, "", "/v1/models?a=b"), "{name}: {value}");
        }
        for query in ["key=sk-spillway-0123/456", "%6Bey=sk-spillway%2D0123%2f456", "access_token=sk-spillway-0123/456"]
        {
            let (is_shown, _, path) = taken(&access(), &[], &format!("/v1/models?a=b&{query}&c"));
            assert_eq!((is_shown, path.as_str()), (true, "/v1/models?a=b&c"), "{query}");
        }
    }

    #[test]
    fn a_credential_of_the_callers_own_stays_beside_it() {
        let all = [
            ("authorization", "Bearer sk-own"),
            ("authorization", "Bearer sk-spillway-0123/456"),
            ("x-api-key", "sk-own"),
            (ACCESS_KEY_HEADER, KEY),
        ];
        let (is_shown, left, path) = taken(&access(), &all, "/p?key=own");
        assert_eq!((is_shown, path.as_str()), (true, "/p?key=own"));
        assert!(left.contains("authorization: Bearer sk-own") && left.contains("x-api-key: sk-own"), "{left}");
        assert!(!left.contains("spillway"), "{left}");
    }

    #[test]
    fn what_is_only_like_the_key_is_none_and_what_is_said_to_spillway_alone_is_not_passed_on() {
        for wrong in ["sk-spillway-0123/45", "sk-spillway-0123/4567", "SK-SPILLWAY-0123/456", "", "Bearer"] {
            let (is_shown, left, _) = taken(&access(), &[("authorization", wrong)], "/p");
            assert_eq!((is_shown, left), (false, format!("authorization: {wrong}")));
        }
        for access in [access(), Access::new(None)] {
            let pairs = [(ACCESS_KEY_HEADER, "wrong"), (MAY_SPEND_HEADER, "1"), ("x-api-key", "own")];
            let (is_shown, left, path) = taken(&access, &pairs, "/p?key=");
            assert_eq!((is_shown, left.as_str(), path.as_str()), (false, "x-api-key: own", "/p?key="));
        }
    }

    #[test]
    fn a_key_that_has_been_replaced_is_shown_in_vain() {
        let access = access();
        access.replace(&Secret::parse("another-access-key").expect("a secret"));
        let (is_shown, headers, path) = taken(&access, &[("api-key", KEY)], &format!("/p?key={KEY}"));
        assert!(!is_shown && !headers.contains(KEY) && !path.contains(KEY), "no provider's to see: {headers} {path}");
        assert!(taken(&access, &[("api-key", "another-access-key")], "/p").0);
        assert!(!format!("{access:?}").contains("another"));
    }
}
