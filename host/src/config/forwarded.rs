//! For whom proxies in front of Spillway ask, and which are believed.

use ipnet::IpNet;
use std::net::IpAddr;

/// In which header a trusted proxy says for whom it asks. One that is not asked for may be the caller's own doing, since
/// proxies pass on what they do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, as nearly all write it.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl ForwardedHeader {
    /// Both.
    pub const ALL: [ForwardedHeader; 2] = [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            ForwardedHeader::XForwardedFor => "x-forwarded-for",
            ForwardedHeader::Forwarded => "forwarded",
        }
    }
}

/// An address, or a network of addresses.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    network.map(|network| network.trunc()).ok_or_else(|| {
        format!("\"{text}\" is neither an address nor a network, such as \"10.0.0.7\" or \"10.0.0.0/8\"")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_an_address_or_several() {
        for (text, written) in [("10.0.0.7", "10.0.0.7/32"), ("10.1.2.3/8", "10.0.0.0/8"), ("fd00::/8", "fd00::/8")] {
            assert_eq!(network(text).map(|network| network.to_string()), Ok(written.to_owned()));
        }
        for wrong in ["", "localhost", "10.0.0.0/33", "10.0.0.*"] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
    }
}
