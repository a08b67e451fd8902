//! Which way a connection takes to its upstream: straight, or through the proxy that a company has put there.

use crate::config::{BaseUrl, ProxyConfig};
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use std::fmt;
use std::net::IpAddr;

/// The variables that name a proxy, in the order in which they are looked at.
const VARIABLES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// The way to one upstream.
#[derive(Clone, Debug)]
pub enum Way {
    /// To the upstream itself.
    Straight,
    /// Through a proxy.
    Through(Proxy),
}

/// A proxy on the way.
#[derive(Clone, Debug)]
pub struct Proxy {
    intercept: Intercept,
    kind: ProxyKind,
}

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP, within TLS or not.
    Http {
        /// Whether the way to the proxy itself is encrypted.
        tls: bool,
    },
    /// SOCKS 5.
    Socks {
        /// Whether names are resolved here rather than there.
        resolves_here: bool,
    },
}

impl Way {
    /// The way to an upstream: what is configured, else what the environment says. What is on this machine is never
    /// reached through a proxy.
    pub fn to(base: &BaseUrl, configured: &ProxyConfig) -> Way {
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

impl Proxy {
    /// Reads the URL of a proxy, with credentials or without.
    ///
    /// # Errors
    /// What is wrong with it, in words for the operator. They do not hold what was read, which may be a password.
    pub fn parse(url: &str) -> Result<Proxy, String> {
        let any = Uri::from_static("https://any.invalid");
        let intercept = Matcher::builder().all(url).build().intercept(&any);
        intercept.and_then(Proxy::of).ok_or_else(|| {
            "expected the URL of a proxy, such as \"http://proxy.example:3128\" or \"socks5h://localhost:1080\""
                .to_owned()
        })
    }

    fn of(intercept: Intercept) -> Option<Proxy> {
        let kind = match intercept.uri().scheme_str()? {
            "http" => ProxyKind::Http { tls: false },
            "https" => ProxyKind::Http { tls: true },
            "socks5" => ProxyKind::Socks { resolves_here: true },
            "socks5h" => ProxyKind::Socks { resolves_here: false },
            _ => return None,
        };
        // A port of 0 leads nowhere.
        intercept.uri().port_u16().is_none_or(|port| port != 0).then_some(Proxy { intercept, kind })
    }

    /// What it speaks.
    pub fn kind(&self) -> ProxyKind {
        self.kind
    }

    /// Where it is, without credentials.
    pub fn uri(&self) -> &Uri {
        self.intercept.uri()
    }

    /// Its host.
    pub fn host(&self) -> &str {
        self.uri().host().unwrap_or_default()
    }

    /// Its port; where none is named, the one that its scheme is known for.
    pub fn port(&self) -> u16 {
        self.uri().port_u16().unwrap_or(match self.kind {
            ProxyKind::Http { tls: false } => 80,
            ProxyKind::Http { tls: true } => 443,
            ProxyKind::Socks { .. } => 1080,
        })
    }

    /// What an HTTP proxy is shown to let us through.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.intercept.basic_auth()
    }

    /// The name and the password that a SOCKS proxy is shown.
    pub fn name_and_password(&self) -> Option<(&str, &str)> {
        self.intercept.raw_auth()
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.uri().scheme_str().unwrap_or_default();
        write!(f, "{scheme}://{}:{}", self.host(), self.port())
    }
}

/// What the environment says of hosts that are reached at `port`. As curl and Go read them, an exception may name a port, and
/// a domain with or without an asterisk; of two spellings of a variable, one that is empty says nothing.
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

/// Whether a host is this machine by its very name.
fn is_of_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = bare.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The variables of the environment that should name a proxy, and do not.
pub fn mistakes_of_environment() -> impl Iterator<Item = &'static str> {
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
    fn proxies_are_known_by_their_urls() {
        let of = |url: &str| Proxy::parse(url).map(|proxy| (proxy.kind(), proxy.to_string()));
        let http = |tls| ProxyKind::Http { tls };
        assert_eq!(of("http://proxy.example:3128"), Ok((http(false), "http://proxy.example:3128".into())));
        assert_eq!(of("proxy.example:3128"), Ok((http(false), "http://proxy.example:3128".into())));
        assert_eq!(of("https://proxy.example"), Ok((http(true), "https://proxy.example:443".into())));
        let socks = |resolves_here| ProxyKind::Socks { resolves_here };
        assert_eq!(of("socks5://proxy.example"), Ok((socks(true), "socks5://proxy.example:1080".into())));
        assert_eq!(of("socks5h://proxy.example"), Ok((socks(false), "socks5h://proxy.example:1080".into())));
        for wrong in ["", "ftp://proxy.example", "socks4://proxy.example", "http://proxy.example:0", "not a URL"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn credentials_are_used_and_never_shown() {
        let proxy = Proxy::parse("http://Aladdin:open%20sesame@proxy.example").expect("a proxy");
        assert_eq!(proxy.authorization().expect("credentials"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(!format!("{proxy} {proxy:?}").contains("sesame"));
        let mistake = Proxy::parse("gopher://Aladdin:sesame@proxy.example").expect_err("no proxy");
        assert!(!mistake.contains("sesame"));
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
