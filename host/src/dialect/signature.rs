//! Requests that are signed as a whole: AWS's Signature Version 4, as Bedrock and what imitates it ask for it. The
//! signature covers method, path, query, body and the headers that it names, so nothing of those may be changed on the
//! way.

use http::header::{self, HeaderMap, HeaderName};

/// How an authorization begins that is such a signature: `AWS4-HMAC-SHA256`, and `AWS4-ECDSA-P256-SHA256` where it holds
/// in several regions.
const SCHEME: &[u8] = b"AWS4-";

/// Parameters by which a signature stands in the query instead, with what it is checked by.
const PARAMETERS: [&str; 3] = ["X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token"];

/// What a request's signature says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signature<'r> {
    /// The names of the headers that it covers, in lower case, with semicolons between.
    covered: &'r str,
}

impl<'r> Signature<'r> {
    /// The signature of a request; `None` for one that is not signed.
    pub(crate) fn of(headers: &'r HeaderMap, query: &'r str) -> Option<Signature<'r>> {
        let in_header = || {
            let value = headers.get(header::AUTHORIZATION)?.as_bytes();
            value.starts_with(SCHEME).then(|| field(value, "SignedHeaders=").unwrap_or_default())
        };
        let in_query = || {
            let value = |name| parameter(query, name);
            value(PARAMETERS[0])?;
            // The semicolons between the names stand encoded there, and so no header but `host` is looked at: SDKs sign
            // no other in a query.
            Some(value("X-Amz-SignedHeaders").filter(|names| !names.contains('%')).unwrap_or_default())
        };
        in_header().or_else(in_query).map(|covered| Signature { covered })
    }

    /// Whether it covers this header.
    pub(crate) fn covers(self, name: &HeaderName) -> bool {
        self.names().any(|covered| covered.eq_ignore_ascii_case(name.as_str()))
    }

    /// The first header that it covers and that is not there: without it the signature is wrong. The host is always
    /// there, as that of whoever the request goes to.
    pub(crate) fn lacks(self, headers: &HeaderMap) -> Option<&'r str> {
        self.names().find(|name| !name.eq_ignore_ascii_case("host") && !headers.contains_key(*name))
    }

    fn names(self) -> impl Iterator<Item = &'r str> {
        self.covered.split(';').filter(|name| !name.is_empty())
    }
}

/// By which its signer is known: the id of its access key. The signature itself is another for each request.
pub(crate) fn signer(authorization: &[u8]) -> Option<&[u8]> {
    if !authorization.starts_with(SCHEME) {
        return None;
    }
    let scope = field(authorization, "Credential=")?;
    scope.split('/').next().map(str::as_bytes).filter(|id| !id.is_empty())
}

/// Whether a parameter of the query belongs to a signature that stands there.
pub(crate) fn is_of_signature(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    PARAMETERS.contains(&name)
}

/// What an authorization says behind `name`.
fn field<'a>(authorization: &'a [u8], name: &str) -> Option<&'a str> {
    let text = str::from_utf8(authorization).ok()?;
    let fields = text.split_once(' ')?.1;
    fields.split(',').find_map(|field| field.trim().strip_prefix(name))
}

/// The value of a parameter, as it is written.
fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261130/eu-west-1/bedrock/aws4_request, \
                          SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_signature_says_which_headers_it_covers() {
        let signed = headers(&[("authorization", SIGNED), ("content-type", "application/json")]);
        let signature = Signature::of(&signed, "").expect("signed");
        assert!(signature.covers(&header::CONTENT_TYPE) && signature.covers(&header::HOST));
        assert!(!signature.covers(&header::ACCEPT));
        assert_eq!(signature.lacks(&signed), Some("x-amz-date"));
        let whole = headers(&[("authorization", SIGNED), ("content-type", "a/b"), ("x-amz-date", "20261130T020000Z")]);
        assert_eq!(signature.lacks(&whole), None);
    }

    #[test]
    fn a_signature_may_stand_in_the_query_and_what_is_none_is_none() {
        let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-SignedHeaders=host&X-Amz-Signature=ab";
        assert!(Signature::of(&HeaderMap::new(), query).is_some_and(|signature| signature.covers(&header::HOST)));
        let none = [("", ""), ("Bearer sk-1", ""), ("Basic AWS4-", ""), ("", "X-Amz-Date=1&x=X-Amz-Signature=2")];
        for (authorization, query) in none {
            let of = headers(&[("authorization", authorization)]);
            assert_eq!(Signature::of(&of, query), None, "{authorization}{query}");
        }
        for damaged in ["AWS4-", "AWS4-HMAC-SHA256", "AWS4-X SignedHeaders", "AWS4-X ,,;=;SignedHeaders=;;"] {
            let of = headers(&[("authorization", damaged)]);
            assert!(Signature::of(&of, "").is_some_and(|signature| signature.lacks(&of).is_none()), "{damaged}");
        }
    }

    #[test]
    fn a_signer_is_the_same_for_each_of_its_requests() {
        assert_eq!(signer(SIGNED.as_bytes()), Some(&b"AKIDEXAMPLE"[..]));
        for other in ["Bearer Credential=x", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=/a", "AWS4-X Signature=1"]
        {
            assert_eq!(signer(other.as_bytes()), None, "{other}");
        }
        assert!(is_of_signature("X-Amz-Signature=ab") && !is_of_signature("X-Amz-Date=1"));
    }
}
