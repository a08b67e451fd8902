//! Which way a connection takes to its upstream: straight, or through the proxy that a company has put there.

use crate::config::{BaseUrl, Proxy, ProxyConfig};
use hyper_util::client::proxy::matcher::Matcher;
use std::net::IpAddr;

/// The variables that name a proxy, in the order in which they are looked at.
const VARIABLES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// The way to one upstream.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// To the upstream itself.
    Straight,
    /// Through a proxy.
    Through(Proxy),
}

impl Way {
    /// The way to an upstream: what is configured, else what the environment says. What is on this machine is never
    /// reached through a proxy.
    pub(crate) fn to(base: &BaseUrl, configured: &ProxyConfig) -> Way {
        let Ok(uri) = base.join("/") else { return Way::Straight };
        if is_of_this_machine(base.host()) {
            return Way::Straight;
        }
        let proxy = match configured {
            ProxyConfig::None => None,
            ProxyConfig::Through(proxy) => Some(proxy.clone()),
            ProxyConfig::OfEnvironment => {
                of_environment(|name| std::env::var(name).ok(), base.port()).intercept(&uri).and_then(Proxy::of)
            }
        };
        proxy.map_or(Way::Straight, Way::Through)
    }
}

/// What the environment says of hosts that are reached at `port`. As curl and Go read them, an exception may name a
/// port, and a domain with or without an asterisk; of two spellings of a variable, one that is empty says nothing.
fn of_environment(variable: impl Fn(&str) -> Option<String>, port: u16) -> Matcher {
    let first =
        |names: [&str; 2]| names.into_iter().filter_map(&variable).find(|value| !value.is_empty()).unwrap_or_default();
    let [https, http, all] =
        [["HTTPS_PROXY", "https_proxy"], ["HTTP_PROXY", "http_proxy"], ["ALL_PROXY", "all_proxy"]].map(first);
    let exceptions = first(["NO_PROXY", "no_proxy"]);
    let exceptions: Vec<&str> =
        exceptions.split(',').filter_map(|exception| exception_at(exception.trim(), port)).collect();
    Matcher::builder().https(https).http(http).all(all).no(exceptions.join(",")).build()
}

/// The host or domain that an entry of `NO_PROXY` excepts at this port.
fn exception_at(exception: &str, port: u16) -> Option<&str> {
    let host = match exception.rsplit_once(':') {
        // More colons make an address of version 6.
        Some((host, named)) if !host.contains(':') || host.ends_with(']') => {
            (named.parse() == Ok(port)).then_some(host)?
        }
        _ => exception,
    };
    Some(host.strip_prefix('*').filter(|domain| domain.starts_with('.')).unwrap_or(host))
}

/// The proxy that programs would take which go by the environment alone, as SDKs do: to them this machine is no
/// exception.
pub(crate) fn proxy_of_environment(base: &BaseUrl, variable: impl Fn(&str) -> Option<String>) -> Option<Proxy> {
    of_environment(variable, base.port()).intercept(&base.join("/").ok()?).and_then(Proxy::of)
}

/// Whether a host is this machine by its very name.
pub(crate) fn is_of_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = bare.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The variables of the environment that should name a proxy, and do not.
pub(crate) fn mistakes_of_environment() -> impl Iterator<Item = &'static str> {
    VARIABLES.into_iter().filter(|name| {
        let value = std::env::var(name).unwrap_or_default();
        !value.is_empty() && Proxy::parse(&value).is_err()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(url: &str) -> BaseUrl {
        BaseUrl::parse(url).expect("a URL")
    }

    #[test]
    fn exceptions_are_read_as_others_read_them() {
        let is_straight = |exceptions: &str, url: &str| {
            let base = base(url);
            let variable = |name: &str| match name {
                "NO_PROXY" => Some(String::new()),
                "no_proxy" => Some(exceptions.to_owned()),
                "ALL_PROXY" => Some("http://proxy.example".to_owned()),
                _ => None,
            };
            let matcher = of_environment(variable, base.port());
            matcher.intercept(&base.join("/").expect("a URL")).is_none()
        };
        for (exceptions, url, expected) in [
            ("", "http://api.corp.example", false),
            ("corp.example", "http://api.corp.example", true),
            (".corp.example", "http://api.corp.example", true),
            ("*.corp.example", "http://api.corp.example", true),
            ("other.example, api.corp.example:8080", "http://api.corp.example:8080", true),
            ("api.corp.example:8080", "http://api.corp.example", false),
            ("api.corp.example:443", "https://api.corp.example", true),
            ("10.0.0.0/8", "http://10.1.2.3:80", true),
            ("*", "https://api.example", true),
        ] {
            assert_eq!(is_straight(exceptions, url), expected, "{exceptions}: {url}");
        }
    }

    #[test]
    fn what_is_on_this_machine_is_reached_straight() {
        let proxy = ProxyConfig::Through(Proxy::parse("http://proxy.example").expect("a proxy"));
        for url in
            ["http://127.0.0.1:8000", "http://localhost", "http://api.localhost", "http://[::1]:80", "http://127.1.2.3"]
        {
            assert!(matches!(Way::to(&base(url), &proxy), Way::Straight), "{url}");
        }
        assert!(matches!(Way::to(&base("https://api.example"), &proxy), Way::Through(_)));
        assert!(matches!(Way::to(&base("https://api.example"), &ProxyConfig::None), Way::Straight));
    }
}
