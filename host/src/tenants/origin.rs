//! Where a request comes from: through which entrance, and from which address, behind proxies too.

use crate::config::{ForwardedHeader, Server};
use crate::tenants::guard::{Entrance, Unwelcome};
use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;
use std::net::IpAddr;

/// Most addresses that are read of a header, from its end on. Each is one proxy's word; a request through more of them
/// has come from the last that was read.
const HOPS_MAX: usize = 32;

/// By which proxies say for whom they ask, and how they were reached. It is said to Spillway, and names machines and
/// people of the operator's, whom no provider has a use for.
static SAID_BY_PROXIES: [HeaderName; 7] = [
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-real-ip"),
];

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Through which it has come in.
    pub entrance: Entrance,
    /// The address at the other end, an IPv4 address as such; `None` through the Unix socket.
    pub peer: Option<IpAddr>,
}

/// The proxies in front of Spillway.
#[derive(Clone, Debug)]
pub(crate) struct Proxies {
    trusted: Vec<IpNet>,
    header: HeaderName,
    is_forwarded: bool,
    /// Whether nobody else is let in through the port.
    alone: bool,
}

impl Proxies {
    /// Those of a configuration.
    pub(crate) fn of(server: &Server) -> Proxies {
        Proxies {
            trusted: server.trusted_proxies.clone(),
            header: HeaderName::from_static(server.forwarded_header.as_str()),
            is_forwarded: server.forwarded_header == ForwardedHeader::Forwarded,
            alone: server.behind_tls_proxy,
        }
    }

    /// Takes what proxies have said out of headers, where there are any.
    pub(crate) fn take(&self, headers: &mut HeaderMap) {
        if !self.trusted.is_empty() {
            SAID_BY_PROXIES.iter().for_each(|name| drop(headers.remove(name)));
        }
    }

    /// The address of whoever has sent a request with these headers: the nearest that is no trusted proxy's, as far as
    /// trusted proxies say so; `None` through the Unix socket.
    ///
    /// # Errors
    /// When it comes from elsewhere than a proxy, where nothing else may.
    pub(crate) fn address(&self, origin: Origin, headers: &HeaderMap) -> Result<Option<IpAddr>, Unwelcome> {
        let Some(peer) = origin.peer else { return Ok(None) };
        if !self.trusts(peer) {
            return match self.alone {
                true => Err(Unwelcome::Forbidden(format!(
                    "it comes from {peer}, and server.behind_tls_proxy lets in only what comes from an address of \
                     server.trusted_proxies; send it to the proxy, or list its address there if this is the proxy"
                ))),
                false => Ok(Some(peer)),
            };
        }
        let mut nearest = peer;
        let lines = headers.get_all(&self.header).iter().rev();
        let hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')).take(HOPS_MAX);
        for said in hops {
            // Whatever stands before what no proxy writes is anybody's.
            let Some(address) = self.read(said) else { break };
            nearest = address;
            if !self.trusts(address) {
                break;
            }
        }
        Ok(Some(nearest))
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// The address that an entry of the header says.
    fn read(&self, entry: &[u8]) -> Option<IpAddr> {
        let entry = std::str::from_utf8(entry).ok()?.trim();
        if !self.is_forwarded {
            return address(entry);
        }
        let said = entry.split(';').find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            name.trim().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
        });
        said.and_then(address)
    }
}

/// An address as proxies write it: with a port or without, an IPv6 address in brackets or not.
fn address(text: &str) -> Option<IpAddr> {
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => text,
    };
    let alone = bare.parse::<IpAddr>().ok();
    let address = alone.or_else(|| bare.rsplit_once(':')?.0.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::from));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn proxies(header: ForwardedHeader, alone: bool) -> Proxies {
        Proxies {
            trusted: ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().expect("a network")).to_vec(),
            header: HeaderName::from_static(header.as_str()),
            is_forwarded: header == ForwardedHeader::Forwarded,
            alone,
        }
    }

    fn from(proxies: &Proxies, peer: &str, lines: &[&'static str]) -> Option<String> {
        let origin = Origin { entrance: Entrance::Network, peer: Some(peer.parse().expect("an address")) };
        let headers = lines.iter().map(|line| (proxies.header.clone(), HeaderValue::from_static(line))).collect();
        let address = proxies.address(origin, &headers).ok()?;
        address.map(|address| address.to_string())
    }

    #[test]
    fn the_last_address_counts_that_is_no_proxys_of_ours() {
        let by = proxies(ForwardedHeader::XForwardedFor, false);
        for (peer, lines, address) in [
            ("203.0.113.9", &["198.51.100.1"][..], "203.0.113.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["1.1.1.1, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", &["1.1.1.1", "198.51.100.1,10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("fd00::1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("fd00::1", &["2001:db8::1"], "2001:db8::1"),
            ("fd00::1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            // What no proxy writes hides whatever stands before it.
            ("10.0.0.1", &["198.51.100.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1, evil, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &[""], "10.0.0.1"),
        ] {
            assert_eq!(from(&by, peer, lines).as_deref(), Some(address), "{peer} {lines:?}");
        }
    }

    #[test]
    fn the_other_header_says_it_in_other_words() {
        let by = proxies(ForwardedHeader::Forwarded, false);
        for (line, address) in [
            ("for=198.51.100.1", "198.51.100.1"),
            ("For=\"[2001:db8::1]:4711\";proto=https;by=10.0.0.1", "2001:db8::1"),
            ("for=1.1.1.1, proto=https; for=198.51.100.1, for=10.0.0.2", "198.51.100.1"),
            ("for=1.1.1.1, for=_hidden", "10.0.0.1"),
            ("for=\"1.1.1.1, for=198.51.100.1", "198.51.100.1"),
        ] {
            assert_eq!(from(&by, "10.0.0.1", &[line]).as_deref(), Some(address), "{line}");
        }
        let headers = [("x-forwarded-for", "1.1.1.1")];
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let origin = Origin { entrance: Entrance::Network, peer: Some(IpAddr::from([10, 0, 0, 1])) };
        assert_eq!(by.address(origin, &headers.collect()), Ok(origin.peer), "nobody has asked for that one");
    }

    #[test]
    fn where_a_proxy_alone_may_come_nobody_else_does_but_through_the_unix_socket() {
        let by = proxies(ForwardedHeader::XForwardedFor, true);
        assert_eq!(from(&by, "10.0.0.1", &["198.51.100.1"]).as_deref(), Some("198.51.100.1"));
        assert_eq!(from(&by, "203.0.113.9", &["10.0.0.1"]), None);
        let socket = Origin { entrance: Entrance::UnixSocket, peer: None };
        assert_eq!(by.address(socket, &HeaderMap::new()), Ok(None));
    }
}
