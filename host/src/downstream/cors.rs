//! What a web page needs so as to read our answers, where its origin is allowed: the protocol that browsers call CORS.
//!
//! To a page we are the server, whoever has made the answer, so what is said here stands in place of what a provider
//! has said about pages of its own customers.

use crate::proxy::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request};

/// For how long a browser may remember what it was told, in seconds: as long as Chrome does at most.
const REMEMBERED_S: u16 = 7_200;

/// By which Chrome asks before a page reaches an address of this machine.
const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// What a browser asks before it sends a page's request is answered here: it carries no credential, so that no provider
/// could answer it. That the page's origin is allowed is known by now.
pub(crate) fn preflight(head: &request::Parts, methods: &'static str) -> Option<Response<Body>> {
    let asks = head.method == Method::OPTIONS
        && head.headers.contains_key(header::ORIGIN)
        && head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !asks {
        return None;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    // Each API has headers of its own, and each SDK some more.
    if let Some(asked) = head.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    if head.headers.contains_key(REQUEST_PRIVATE_NETWORK) {
        headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(REMEMBERED_S));
    Some(response)
}

/// Lets pages of this origin read an answer, its headers included.
pub(crate) fn open_to(origin: HeaderValue, headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    // Whoever keeps answers must not show this one to pages of another origin.
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_provider_says_of_pages_is_neither_doubled_nor_lost() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("x-request-id"));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        open_to(HeaderValue::from_static("https://app.example"), &mut headers);
        let all = |name| headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("")).collect::<Vec<_>>();
        assert_eq!(all(header::ACCESS_CONTROL_ALLOW_ORIGIN), ["https://app.example"]);
        assert_eq!(all(header::ACCESS_CONTROL_EXPOSE_HEADERS), ["x-request-id", "*"]);
        assert_eq!(all(header::VARY), ["accept-encoding", "origin"]);
    }
}
