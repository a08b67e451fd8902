//! The change to another protocol on the same connection (RFC 9110, section 7.8), and what SDKs put into its headers.

use http::header::{self, HeaderMap, HeaderValue};

/// Among the subprotocols of a WebSocket a page names its key, since it can set no other header: OpenAI's SDKs do.
const KEY: &str = "openai-insecure-api-key.";

/// So does it name the account that is charged.
const ACCOUNTS: [&str; 2] = ["openai-organization.", "openai-project."];

/// What a connection to the next hop alone may become. Who asks for it asks the hop, and gets HTTP/1.1, which is always
/// right: Java's client asks with its every first request.
const OF_THE_HOP: [&str; 3] = ["h2c", "http", "tls"];

/// The protocol that a request's headers ask for, if they ask for one that is relayed: for one alone, since of several a
/// server would take what suits it.
pub(crate) fn protocol(headers: &HeaderMap) -> Option<&HeaderValue> {
    let listed = |name, word: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|listed: &str| listed.trim().eq_ignore_ascii_case(word))
    };
    let mut protocols = headers.get_all(header::UPGRADE).iter();
    let (protocol, None) = (protocols.next()?, protocols.next()) else { return None };
    let (name, version) =
        protocol.to_str().ok().map(|said| said.trim().split_once('/').unwrap_or((said.trim(), "1")))?;
    let is_of_the_hop = OF_THE_HOP.iter().any(|known| name.eq_ignore_ascii_case(known));
    let is_one = is_token(name) && is_token(version);
    (listed(header::CONNECTION, "upgrade") && is_one && !is_of_the_hop).then_some(protocol)
}

/// Whether this is one word, as headers have them (RFC 9110, section 5.6.2).
fn is_token(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Whether this is the protocol of WebSockets, whose frames can be read.
pub(crate) fn is_websocket(protocol: &HeaderValue) -> bool {
    protocol.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket")
}

/// Asks for this protocol, or agrees to it, on the next connection.
pub(crate) fn insert(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// The keys among a WebSocket's subprotocols.
pub(crate) fn keys(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    subprotocols(headers).filter_map(|name| name.strip_prefix(KEY))
}

/// Removes those keys from a WebSocket's subprotocols of which `is_unwanted` says so. The others stay, in their order.
pub(crate) fn remove_keys(headers: &mut HeaderMap, is_unwanted: impl Fn(&str) -> bool) {
    remove(headers, |name| name.strip_prefix(KEY).is_some_and(&is_unwanted));
}

/// Removes everything by which a provider could know the caller from a WebSocket's subprotocols.
pub(super) fn remove_callers(headers: &mut HeaderMap) {
    remove(headers, |name| name.starts_with(KEY) || ACCOUNTS.iter().any(|account| name.starts_with(account)));
}

fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

fn remove(headers: &mut HeaderMap, is_unwanted: impl Fn(&str) -> bool) {
    if !subprotocols(headers).any(&is_unwanted) {
        return;
    }
    let kept: Vec<&str> = subprotocols(headers).filter(|name| !is_unwanted(name)).collect();
    let kept = HeaderValue::from_str(&kept.join(", ")).ok().filter(|kept| !kept.is_empty());
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if let Some(kept) = kept {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::headers::tests::map;

    #[test]
    fn another_protocol_is_asked_for_in_two_headers() {
        let cases = [
            (&[("connection", "Upgrade"), ("upgrade", "websocket")][..], Some("websocket")),
            (&[("connection", "keep-alive, upgrade"), ("upgrade", "WebSocket")], Some("WebSocket")),
            (&[("connection", "keep-alive"), ("connection", "UPGRADE"), ("upgrade", "tcp")], Some("tcp")),
            (&[("connection", "upgrade"), ("upgrade", "SPDY/3.1")], Some("SPDY/3.1")),
            (&[("connection", "keep-alive"), ("upgrade", "websocket")], None),
            (&[("connection", "upgrade")], None),
            (&[("connection", "upgrade"), ("upgrade", "")], None),
            // What a client of HTTP/2 asks of its next hop is for that hop to decide.
            (&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c")], None),
            (&[("connection", "Upgrade"), ("upgrade", "HTTP/2.0")], None),
            (&[("connection", "Upgrade"), ("upgrade", "TLS/1.0")], None),
            // Nor does it get through beside another one.
            (&[("connection", "Upgrade"), ("upgrade", "websocket, h2c")], None),
            (&[("connection", "Upgrade"), ("upgrade", "h2c;x")], None),
            (&[("connection", "Upgrade"), ("upgrade", "\"h2c\"")], None),
            (&[("connection", "Upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")], None),
        ];
        for (pairs, expected) in cases {
            let headers = map(pairs);
            assert_eq!(protocol(&headers).map(|value| value.to_str().expect("text")), expected, "{pairs:?}");
        }
    }

    #[test]
    fn a_key_among_the_subprotocols_is_found_and_taken_out_alone() {
        let offered = "realtime, openai-insecure-api-key.sk-1, openai-organization.org-1, openai-beta.realtime-v1";
        let with = || map(&[("sec-websocket-protocol", offered), ("sec-websocket-key", "x")]);
        assert_eq!(keys(&with()).collect::<Vec<_>>(), ["sk-1"]);
        let mut headers = with();
        remove_keys(&mut headers, |key| key == "sk-2");
        assert_eq!(headers, with(), "another key stays, to the letter");
        remove_keys(&mut headers, |key| key == "sk-1");
        let left = "realtime, openai-organization.org-1, openai-beta.realtime-v1";
        assert_eq!(headers, map(&[("sec-websocket-key", "x"), ("sec-websocket-protocol", left)]));
        remove_callers(&mut headers);
        assert_eq!(headers["sec-websocket-protocol"], "realtime, openai-beta.realtime-v1");
        let mut alone = map(&[("sec-websocket-protocol", "openai-insecure-api-key.sk-1")]);
        remove_callers(&mut alone);
        assert_eq!(alone, HeaderMap::new());
    }
}
