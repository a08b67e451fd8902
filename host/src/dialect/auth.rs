//! Where an API looks for its key: how a key of Spillway's own takes the place of what a caller has sent.

use super::{Dialect, headers, query};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::fmt;

/// A shorter key protects nothing, and could be part of any word.
const COVERED_BYTES_MIN: usize = 8;

/// Where an API looks for its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// In `Authorization`, behind the word `Bearer`: OpenAI's, and most others'.
    Bearer,
    /// In `x-api-key`: Anthropic's.
    XApiKey,
    /// In `api-key`: Azure's.
    ApiKey,
    /// In `x-goog-api-key`: Google's.
    XGoogApiKey,
    /// In the query, as `key`: Google's as well.
    Query,
}

impl Auth {
    /// All of them.
    pub const ALL: [Auth; 5] = [Auth::Bearer, Auth::XApiKey, Auth::ApiKey, Auth::XGoogApiKey, Auth::Query];

    /// The word used in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Auth::Bearer => "bearer",
            Auth::XApiKey => "x-api-key",
            Auth::ApiKey => "api-key",
            Auth::XGoogApiKey => "x-goog-api-key",
            Auth::Query => "query",
        }
    }

    /// What the first provider of this API reads.
    pub const fn of(dialect: Dialect) -> Auth {
        match dialect {
            Dialect::OpenAi | Dialect::Ollama | Dialect::Other => Auth::Bearer,
            Dialect::Anthropic => Auth::XApiKey,
            Dialect::Gemini => Auth::XGoogApiKey,
        }
    }
}

/// A key of Spillway's own, as its provider is shown it.
#[derive(Clone)]
pub(crate) enum Credential {
    /// In this header.
    Header(HeaderName, HeaderValue),
    /// In the query, encoded.
    Parameter(String),
}

impl Credential {
    /// A key that is shown in this way; `None` where it is no text that a header can hold.
    pub(crate) fn new(auth: Auth, secret: &str) -> Option<Credential> {
        let (name, text) = match auth {
            Auth::Bearer => (header::AUTHORIZATION, format!("Bearer {secret}")),
            Auth::XApiKey => (headers::X_API_KEY, secret.to_owned()),
            Auth::ApiKey => (headers::API_KEY, secret.to_owned()),
            Auth::XGoogApiKey => (headers::X_GOOG_API_KEY, secret.to_owned()),
            Auth::Query => return Some(Credential::Parameter(query::encoded(secret))),
        };
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(Credential::Header(name, value))
    }

    /// As [`headers::credential`] finds it in a request, so that whoever sends the same key is told to be the same.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Credential::Header(_, value) => value.as_bytes(),
            Credential::Parameter(key) => key.as_bytes(),
        }
    }

    /// What a provider has said, with asterisks in place of the key, if it stands there: some repeat the key that they
    /// refuse. It is as long as before.
    pub(crate) fn covered(&self, said: &[u8]) -> Option<Bytes> {
        // Behind the scheme, as in `Bearer sk-…`.
        let key = self.as_bytes().rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        if key.len() < COVERED_BYTES_MIN || memchr::memmem::find(said, key).is_none() {
            return None;
        }
        let mut covered = said.to_vec();
        for at in memchr::memmem::find_iter(said, key) {
            covered[at..at + key.len()].fill(b'*');
        }
        Some(covered.into())
    }

    /// Puts it in the place of whatever the caller has sent of that kind.
    pub(crate) fn place(&self, headers: &mut HeaderMap, path_and_query: &mut String) {
        headers::remove_callers(headers, path_and_query);
        match self {
            Credential::Header(name, value) => {
                headers.insert(name, value.clone());
            }
            Credential::Parameter(key) => {
                path_and_query.push(if path_and_query.contains('?') { '&' } else { '?' });
                path_and_query.push_str("key=");
                path_and_query.push_str(key);
            }
        }
    }
}

/// Nothing of the key is printed.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request with everything in it by which a caller can be known to a provider.
    fn of_caller() -> (HeaderMap, String) {
        let mut headers = HeaderMap::new();
        for name in [
            "authorization",
            "x-api-key",
            "api-key",
            "x-goog-api-key",
            "cookie",
            "openai-organization",
            "openai-project",
            "x-goog-user-project",
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("callers"));
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("callers again"));
        }
        headers.append("anthropic-version", HeaderValue::from_static("2023-06-01"));
        (headers, "/v1/models/g:generateContent?key=callers&alt=sse&%6Bey=callers&access_token=callers".to_owned())
    }

    #[test]
    fn a_key_of_ours_takes_the_place_of_everything_by_which_the_caller_is_known() {
        let cases = [
            (Auth::Bearer, Some(("authorization", "Bearer sk-ours"))),
            (Auth::XApiKey, Some(("x-api-key", "sk-ours"))),
            (Auth::ApiKey, Some(("api-key", "sk-ours"))),
            (Auth::XGoogApiKey, Some(("x-goog-api-key", "sk-ours"))),
            (Auth::Query, None),
        ];
        for (auth, expected) in cases {
            let (mut headers, mut path_and_query) = of_caller();
            let credential = Credential::new(auth, "sk-ours").expect("header text");
            credential.place(&mut headers, &mut path_and_query);
            let mut left: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
            left.retain(|(name, _)| *name != "anthropic-version");
            assert_eq!(left, expected.into_iter().collect::<Vec<_>>(), "{auth:?}");
            let query = if auth == Auth::Query { "?alt=sse&key=sk-ours" } else { "?alt=sse" };
            assert_eq!(path_and_query, format!("/v1/models/g:generateContent{query}"), "{auth:?}");
            let found = headers::credentials(&headers, &path_and_query[path_and_query.find('?').unwrap_or(0) + 1..]);
            assert_eq!(found.collect::<Vec<_>>(), [credential.as_bytes()], "{auth:?}");
            let shown = format!("{credential:?} {headers:?}");
            assert!(!shown.contains("sk-ours"), "{shown}");
        }
    }

    #[test]
    fn a_key_in_the_query_is_encoded_and_begins_one_where_there_is_none() {
        let mut path = "/v1/models".to_owned();
        let credential = Credential::new(Auth::Query, "a&b=c/d").expect("any text");
        credential.place(&mut HeaderMap::new(), &mut path);
        assert_eq!(path, "/v1/models?key=a%26b%3Dc%2Fd");
    }

    #[test]
    fn a_key_that_a_provider_repeats_is_covered() {
        let said = b"Incorrect API key provided: sk-secret-1. sk-secret-1 is unknown.";
        for auth in Auth::ALL {
            let of = |secret| Credential::new(auth, secret).expect("header text").covered(said);
            let covered = of("sk-secret-1").expect("it stands there");
            assert_eq!(&covered[..], b"Incorrect API key provided: ***********. *********** is unknown.", "{auth:?}");
            assert_eq!((of("sk-secret-2"), of("key")), (None, None), "{auth:?}");
        }
    }

    #[test]
    fn what_no_header_can_hold_is_no_key() {
        assert!(Credential::new(Auth::Bearer, "one\ntwo").is_none());
    }
}
