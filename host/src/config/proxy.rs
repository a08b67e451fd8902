//! The proxy on the way to an upstream.

use super::kind::Kind;
use super::reader::Section;
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use serde_json::json;
use std::fmt;
use toml::Value;

/// The proxy on the way to an upstream. What is on this machine is never reached through one.
#[derive(Clone, Debug)]
pub enum ProxyConfig {
    /// The one that `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` name, if they do.
    OfEnvironment,
    /// None, whatever the environment says.
    None,
    /// This one.
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

    /// The proxy that somebody else has found for a request.
    pub(crate) fn of(intercept: Intercept) -> Option<Proxy> {
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

/// The URL of a proxy; an empty one switches off what the environment says.
pub(super) struct ProxyUrl;

impl Kind<ProxyConfig> for ProxyUrl {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<ProxyConfig> {
        let url = section.string(key)?;
        if url.is_empty() {
            return Some(ProxyConfig::None);
        }
        Proxy::parse(&url).map(ProxyConfig::Through).map_err(|message| section.mistake(key, message)).ok()
    }

    /// With asterisks in place of credentials.
    fn write(&self, value: &ProxyConfig) -> Option<Value> {
        match value {
            ProxyConfig::OfEnvironment => None,
            ProxyConfig::None => Some("".into()),
            ProxyConfig::Through(proxy) => {
                let has_credentials = proxy.authorization().is_some() || proxy.name_and_password().is_some();
                let url = proxy.to_string();
                Some(if has_credentials { url.replacen("://", "://***:***@", 1) } else { url }.into())
            }
        }
    }

    fn words(&self) -> String {
        "URL, with http, https, socks5 or socks5h; `\"\"`: none".to_owned()
    }

    fn schema(&self) -> serde_json::Value {
        json!({"type": "string"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
