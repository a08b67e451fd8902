//! Which headers pass through a proxy, and which do not.

use super::signature::{Signature, is_of_signature, signer};
use super::{compression, query, upgrade};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

/// The header in which a caller names its tenant.
pub(crate) const TENANT_HEADER: &str = "x-spillway-tenant";
/// The header in which a caller says how much its request matters.
pub(crate) const PRIORITY_HEADER: &str = "x-spillway-priority";

/// The header in which a caller names the conversation that a request belongs to.
pub(crate) const CONVERSATION_HEADER: &str = "x-spillway-conversation";
/// The header in which a caller says what a request is for, by which its cost is told from others'.
pub(crate) const LABEL_HEADER: &str = "x-spillway-label";

/// The header in which a caller shows the access key, where its own credential stands in the usual place.
pub(crate) const ACCESS_KEY_HEADER: &str = "x-spillway-access-key";

/// The mark of a job whose caller might spend Spillway's own keys. It stands in what the spool keeps alone: whoever sends
/// it has said nothing.
pub(crate) const MAY_SPEND_HEADER: &str = "x-spillway-may-spend";

/// The mark of a job whose caller has shown a virtual key, with that key's id. As with [`MAY_SPEND_HEADER`], whoever sends
/// it has said nothing.
pub(crate) const KEY_ID_HEADER: &str = "x-spillway-key-id";

/// The header of a key of Anthropic's.
pub(crate) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The header of a key of Azure's.
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("api-key");
/// The header of a key of Google's.
pub(crate) const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// How this Spillway calls itself in `Via`. A request that carries it has been here before; one that carries
/// another Spillway's name has merely come through two of them.
fn via() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| format!("1.1 spillway-{:08x}", RandomState::new().hash_one("via") >> 32))
}

/// Headers about one connection rather than about the message (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Headers in which callers speak to Spillway.
const OURS: [HeaderName; 8] = [
    HeaderName::from_static("prefer"),
    HeaderName::from_static(TENANT_HEADER),
    HeaderName::from_static(PRIORITY_HEADER),
    HeaderName::from_static(CONVERSATION_HEADER),
    HeaderName::from_static(LABEL_HEADER),
    HeaderName::from_static(ACCESS_KEY_HEADER),
    HeaderName::from_static(MAY_SPEND_HEADER),
    HeaderName::from_static(KEY_ID_HEADER),
];

/// Those of them that Spillway alone may say, or hear: they go no further although a signature covers them.
const OURS_ALONE: [&str; 3] = [ACCESS_KEY_HEADER, MAY_SPEND_HEADER, KEY_ID_HEADER];

/// Headers that hold a caller's credential, one per API.
pub(crate) static CREDENTIALS: [HeaderName; 4] = [header::AUTHORIZATION, X_API_KEY, API_KEY, X_GOOG_API_KEY];

/// Parameters of the query that hold one: Google's, and that of Azure's API management.
const CREDENTIAL_PARAMETERS: [&str; 3] = ["key", "access_token", "subscription-key"];

/// Whether a parameter of the query holds one.
pub(crate) fn is_credential(pair: &str) -> bool {
    CREDENTIAL_PARAMETERS.contains(&&*query::name(pair))
}

/// Headers by which a provider knows the caller's own account, besides its credential. With the key of another account
/// they are refused, or would charge somebody else.
static ACCOUNTS: [HeaderName; 11] = [
    header::COOKIE,
    HeaderName::from_static("openai-organization"),
    HeaderName::from_static("openai-project"),
    HeaderName::from_static("chatgpt-account-id"),
    HeaderName::from_static("x-goog-user-project"),
    HeaderName::from_static("x-amz-security-token"),
    // Keys of gateways between.
    HeaderName::from_static("ocp-apim-subscription-key"),
    HeaderName::from_static("cf-aig-authorization"),
    HeaderName::from_static("helicone-auth"),
    HeaderName::from_static("x-litellm-api-key"),
    HeaderName::from_static("x-portkey-api-key"),
];

/// Removes what speaks of the connection the message came over.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// What goes upstream of a request's headers.
///
/// `whole` says that the body is held, and that its answer is read: then its length is known anew, and the answer comes
/// in no encoding but those that can be read. What a signature covers stays as it is.
pub(crate) fn for_upstream(
    incoming: &HeaderMap,
    host: &str,
    whole: bool,
    signature: Option<Signature<'_>>,
) -> HeaderMap {
    let mut headers = incoming.clone();
    strip_hop_by_hop(&mut headers);
    // Spillway answers `Expect` itself, and the others speak to Spillway.
    for name in [header::EXPECT, header::HOST].into_iter().chain(OURS) {
        let is_covered = signature.is_some_and(|signature| signature.covers(&name));
        if !is_covered || name == header::HOST || OURS_ALONE.contains(&name.as_str()) {
            headers.remove(name);
        }
    }
    if signature.is_none() {
        // Whoever fetches a job's answer later may not take it as its request would have.
        if incoming.contains_key("prefer") {
            compression::ask_for_none(&mut headers);
        }
        if whole {
            headers.remove(header::CONTENT_LENGTH);
            compression::ask_for_readable(&mut headers);
        }
    }
    if let Ok(host) = HeaderValue::from_str(host) {
        headers.insert(header::HOST, host);
    }
    headers.append(header::VIA, HeaderValue::from_static(via()));
    headers
}

/// Removes everything by which a provider could know the caller: its credentials, wherever an API puts them, and what
/// names its account. It goes out without any then, or [with one of ours](super::auth::Credential::place).
pub(crate) fn remove_callers(headers: &mut HeaderMap, path_and_query: &mut String) {
    for name in CREDENTIALS.iter().chain(&ACCOUNTS) {
        headers.remove(name);
    }
    upgrade::remove_callers(headers);
    query::remove(path_and_query, |pair| is_credential(pair) || is_of_signature(pair));
}

/// Whether the request has already passed through a Spillway, so that forwarding it may never end.
pub(crate) fn is_loop(headers: &HeaderMap) -> bool {
    let names = headers.get_all(header::VIA).iter().filter_map(|names| names.to_str().ok());
    names.flat_map(|names| names.split(',')).any(|name| name.trim() == via())
}

/// The credential of a request. Google's may also stand in the query, as `key`; of a signature it is who has signed.
/// Requests without any share one: to the provider they are one caller.
pub(crate) fn credential<'a>(headers: &'a HeaderMap, query: &'a str) -> Option<&'a [u8]> {
    credentials(headers, query).next().map(|shown| signer(shown).unwrap_or(shown))
}

/// Every credential of a request, for who has to keep them out of something.
pub(crate) fn credentials<'a>(headers: &'a HeaderMap, query: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let in_headers = CREDENTIALS.iter().flat_map(|name| headers.get_all(name)).map(HeaderValue::as_bytes);
    let in_query = query.split('&').filter(|pair| is_credential(pair)).filter_map(|pair| pair.split_once('='));
    let in_query = in_query.map(|(_, value)| value.as_bytes());
    in_headers.chain(in_query).chain(upgrade::keys(headers).map(str::as_bytes))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// These headers, in this order.
    pub(in crate::dialect) fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_connection_names_is_dropped_with_it() {
        let mut headers =
            map(&[("connection", "close, x-private"), ("x-private", "1"), ("x-public", "2"), ("te", "trailers")]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("x-public", "2")]));
    }

    #[test]
    fn credentials_and_unknown_headers_pass_and_ours_do_not() {
        let incoming = map(&[
            ("authorization", "Bearer sk-1"),
            ("x-stainless-lang", "python"),
            ("prefer", "respond-async"),
            (TENANT_HEADER, "shop"),
            (PRIORITY_HEADER, "high"),
            (ACCESS_KEY_HEADER, "sk-spillway"),
            ("expect", "100-continue"),
            ("host", "127.0.0.1:4141"),
            ("content-length", "3"),
            ("accept-encoding", "gzip, compress"),
        ]);
        let headers = for_upstream(&incoming, "api.example", true, None);
        let expected = map(&[
            ("authorization", "Bearer sk-1"),
            ("x-stainless-lang", "python"),
            ("accept-encoding", "identity"),
            ("host", "api.example"),
            ("via", via()),
        ]);
        assert_eq!(headers, expected);
        assert!(is_loop(&headers));
        assert!(!is_loop(&incoming));
        let asked = |whole| {
            let incoming = map(&[("accept-encoding", "gzip, compress")]);
            for_upstream(&incoming, "api.example", whole, None).remove("accept-encoding")
        };
        assert_eq!(asked(true).expect("a header"), "gzip");
        assert_eq!(asked(false).expect("a header"), "gzip, compress");
    }

    #[test]
    fn what_a_signature_covers_stays_as_it_is_but_for_the_access_key() {
        let signed = "AWS4-HMAC-SHA256 Credential=AKID/d/r/s/aws4_request, SignedHeaders=accept-encoding;host;prefer;\
                      x-spillway-access-key;x-spillway-tenant, Signature=ab";
        let incoming = map(&[
            ("authorization", signed),
            ("accept-encoding", "compress"),
            ("prefer", "wait=1"),
            (TENANT_HEADER, "shop"),
            (PRIORITY_HEADER, "high"),
            (ACCESS_KEY_HEADER, "sk-spillway"),
            ("host", "127.0.0.1:4141"),
        ]);
        let signature = Signature::of(&incoming, "").expect("signed");
        let headers = for_upstream(&incoming, "api.example", true, Some(signature));
        let expected = map(&[
            ("authorization", signed),
            ("accept-encoding", "compress"),
            ("prefer", "wait=1"),
            (TENANT_HEADER, "shop"),
            ("host", "api.example"),
            ("via", via()),
        ]);
        assert_eq!(headers, expected);
        assert_eq!(signature.lacks(&headers), Some(ACCESS_KEY_HEADER));
        assert_eq!(credential(&incoming, ""), Some(&b"AKID"[..]));
    }

    #[test]
    fn a_credential_is_found_wherever_an_api_puts_it() {
        let find = |pairs, query: &'static str| credential(&map(pairs), query).map(<[u8]>::to_vec);
        assert_eq!(find(&[("authorization", "Bearer one")], ""), Some(b"Bearer one".to_vec()));
        assert_eq!(find(&[("x-api-key", "two")], ""), Some(b"two".to_vec()));
        assert_eq!(find(&[], "alt=sse&key=three"), Some(b"three".to_vec()));
        assert_eq!(find(&[], "%6Bey=three"), Some(b"three".to_vec()));
        assert_eq!(find(&[("x-other", "four")], "alt=sse"), None);
    }
}
