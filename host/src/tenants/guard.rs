//! Keeps web pages away: none of them has a reason to spend the user's key.
//!
//! A page can send requests to the loopback interface (cross-site POST), and by DNS rebinding under a name of its own.
//! The first shows in `Origin`, or where a browser sends none (an image, a script, a link) in `Sec-Fetch-Site`; the
//! second in `Host`.

use crate::config::{BaseUrl, Server};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Uri, header};

/// Through which a request comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// The port, which every process on this machine reaches, and every web page in a browser on it.
    Port,
    /// The port, which other machines reach as well. Whoever comes through it shows the access key, so that no page
    /// gets anything by a name of its own.
    Network,
    /// The Unix socket, which its owner's processes alone reach.
    UnixSocket,
}

impl Entrance {
    /// What the port is that a configuration listens on.
    pub(crate) fn of_port(server: &Server) -> Entrance {
        if server.is_beyond_this_machine() { Entrance::Network } else { Entrance::Port }
    }
}

/// Why a request is not let in, in words for whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unwelcome {
    /// It does not say where it was sent.
    Malformed(&'static str),
    /// It comes from where none should come from.
    Forbidden(String),
}

/// Which hosts and origins are let in, besides the loopback's own names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    /// Additional `Host` names, without port. Where other machines call, none is any: what they call this one by is
    /// known to them alone.
    pub hosts: Vec<String>,
    /// Additional `Origin`s, in full.
    pub origins: Vec<String>,
    /// Where upstreams are. Whoever has Spillway for its proxy writes their whole URL, which no page can do.
    pub upstreams: Vec<BaseUrl>,
}

impl Guard {
    /// Lets the request pass, or says why not. No name is resolved to a Unix socket, so that any `Host` is right there;
    /// a page may still be behind whoever passes its request on. Beside a whole URL `Host` says nothing.
    ///
    /// # Errors
    /// What names the header and the setting that would allow it.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap, entrance: Entrance) -> Result<(), Unwelcome> {
        let is_upstreams =
            |authority| self.upstreams.iter().any(|url| url.path_behind(authority, uri.path()).is_some());
        match entrance {
            Entrance::Port | Entrance::Network if uri.authority().is_some_and(is_upstreams) => {}
            Entrance::Port => self.check_host(headers, false)?,
            Entrance::Network => self.check_host(headers, self.hosts.is_empty())?,
            Entrance::UnixSocket => {}
        }
        self.check_page(headers)
    }

    fn check_host(&self, headers: &HeaderMap, is_any_right: bool) -> Result<(), Unwelcome> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()),
            (None, _) => return Err(Unwelcome::Malformed("it has no Host header")),
            (Some(_), Some(_)) => return Err(Unwelcome::Malformed("it has more than one Host header")),
        };
        let Some(host) = host else { return Err(Unwelcome::Malformed("its Host header is no host name")) };
        if !is_any_right && !self.knows(host.host()) {
            return Err(Unwelcome::Forbidden(format!(
                "it was sent to the name {}, which server.allowed_hosts does not list; add it there if this Spillway \
                 is meant",
                host.host()
            )));
        }
        Ok(())
    }

    fn check_page(&self, headers: &HeaderMap) -> Result<(), Unwelcome> {
        for origin in headers.get_all(header::ORIGIN) {
            if !self.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
                return Err(Unwelcome::Forbidden(format!(
                    "a web page of {} sent it, which server.allowed_origins does not list; add that origin there if \
                     its pages may call",
                    origin.to_str().unwrap_or("an origin that is no text")
                )));
            }
        }
        if !headers.contains_key(header::ORIGIN) && is_a_pages_doing(headers) {
            return Err(Unwelcome::Forbidden(
                "a web page sent it without saying which one (Sec-Fetch-Site); one whose origin \
                 server.allowed_origins lists must fetch it in cors mode"
                    .into(),
            ));
        }
        Ok(())
    }

    /// The origin of the page that may read the answer.
    pub(crate) fn page<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        self.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then_some(origin)
    }

    fn knows(&self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.eq_ignore_ascii_case("localhost")
            || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            || self.hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
    }
}

/// Whether a request without an origin is some page's nonetheless, by what its browser says. What people do themselves
/// is `none`, and a link that somebody follows on another page of this machine (`same-site`) does no harm.
fn is_a_pages_doing(headers: &HeaderMap) -> bool {
    let says = |name: &str, word: &str| headers.get(name).is_some_and(|value| value.as_bytes() == word.as_bytes());
    let site = "sec-fetch-site";
    says(site, "cross-site") || says(site, "same-site") && !says("sec-fetch-mode", "navigate")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn verdict(pairs: &[(header::HeaderName, &'static str)]) -> Result<(), u16> {
        verdict_at(Entrance::Port, pairs)
    }

    fn verdict_at(entrance: Entrance, pairs: &[(header::HeaderName, &'static str)]) -> Result<(), u16> {
        let guard = Guard {
            hosts: vec!["proxy.internal".into()],
            origins: vec!["https://app.example".into()],
            ..Guard::default()
        };
        verdict_of(&guard, entrance, pairs)
    }

    fn verdict_of(guard: &Guard, entrance: Entrance, pairs: &[(header::HeaderName, &'static str)]) -> Result<(), u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_static(value));
        }
        guard.check(&Uri::from_static("/v1/models"), &headers, entrance).map_err(|unwelcome| match unwelcome {
            Unwelcome::Malformed(_) => 400,
            Unwelcome::Forbidden(_) => 403,
        })
    }

    #[test]
    fn through_the_unix_socket_any_name_passes_and_no_page_does() {
        use header::{HOST, ORIGIN};
        let verdict = |pairs| verdict_at(Entrance::UnixSocket, pairs);
        assert_eq!(verdict(&[]), Ok(()));
        assert_eq!(verdict(&[(HOST, "evil.example")]), Ok(()));
        assert_eq!(verdict(&[(HOST, "localhost"), (ORIGIN, "https://evil.example")]), Err(403));
        assert_eq!(verdict(&[(HOST, "localhost"), (ORIGIN, "https://app.example")]), Ok(()));
    }

    #[test]
    fn other_machines_call_this_one_what_they_like_unless_names_are_listed_and_no_page_passes() {
        use header::{HOST, HeaderName, ORIGIN};
        const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
        let (any, listed) = (
            Guard { origins: vec!["https://app.example".into()], ..Guard::default() },
            Guard { hosts: vec!["spillway".into()], ..Guard::default() },
        );
        let cases = [
            (&any, &[(HOST, "spillway:4141")][..], Ok(())),
            (&any, &[(HOST, "10.1.2.3:4141")], Ok(())),
            (&any, &[], Err(400)),
            (&any, &[(HOST, "one"), (HOST, "two")], Err(400)),
            (&any, &[(HOST, "spillway"), (ORIGIN, "https://evil.example")], Err(403)),
            (&any, &[(HOST, "spillway"), (ORIGIN, "http://spillway")], Err(403)),
            (&any, &[(HOST, "spillway"), (ORIGIN, "https://app.example")], Ok(())),
            (&any, &[(HOST, "spillway"), (SITE, "cross-site")], Err(403)),
            (&listed, &[(HOST, "spillway:4141")], Ok(())),
            (&listed, &[(HOST, "localhost:4141")], Ok(())),
            (&listed, &[(HOST, "evil.example")], Err(403)),
        ];
        for (guard, pairs, expected) in cases {
            assert_eq!(verdict_of(guard, Entrance::Network, pairs), expected, "{pairs:?}");
        }
    }

    #[test]
    fn whoever_has_spillway_for_its_proxy_asks_for_upstreams_and_for_nothing_else() {
        let guard =
            Guard { upstreams: vec![BaseUrl::parse("https://api.example/base").expect("a URL")], ..Guard::default() };
        let of_api = [(header::HOST, HeaderValue::from_static("api.example"))];
        let of_page = [of_api[0].clone(), (header::ORIGIN, HeaderValue::from_static("http://api.example"))];
        let verdict = |uri: &'static str, headers: &[(header::HeaderName, HeaderValue)]| {
            let headers = headers.iter().cloned().collect();
            guard.check(&Uri::from_static(uri), &headers, Entrance::Port).is_ok()
        };
        assert!(verdict("http://api.example/base/v1/models", &of_api) && verdict("http://API.example/base/x", &of_api));
        let others = [
            "/base/v1/models",
            "http://api.example/v1",
            "http://api.example:8080/base/x",
            "http://evil.example/base/x",
        ];
        for other in others {
            assert!(!verdict(other, &of_api), "{other}");
        }
        assert!(!verdict("http://api.example/base/v1/models", &of_page));
    }

    #[test]
    fn only_known_names_and_origins_pass() {
        use header::{HOST, HeaderName, ORIGIN};
        const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
        const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
        let cases = [
            (&[(HOST, "127.0.0.1:4141")][..], Ok(())),
            (&[(HOST, "localhost:4141")], Ok(())),
            (&[(HOST, "[::1]:4141")], Ok(())),
            (&[(HOST, "proxy.internal")], Ok(())),
            (&[(HOST, "evil.example")], Err(403)),
            (&[(HOST, "127.0.0.1.evil.example")], Err(403)),
            (&[(HOST, "localhost"), (ORIGIN, "https://evil.example")], Err(403)),
            (&[(HOST, "localhost"), (ORIGIN, "null")], Err(403)),
            (&[(HOST, "localhost"), (ORIGIN, "https://app.example")], Ok(())),
            (&[(HOST, "localhost"), (SITE, "cross-site")], Err(403)),
            (&[(HOST, "localhost"), (SITE, "cross-site"), (MODE, "navigate")], Err(403)),
            (&[(HOST, "localhost"), (SITE, "cross-site"), (ORIGIN, "https://app.example")], Ok(())),
            (&[(HOST, "localhost"), (SITE, "same-site"), (MODE, "no-cors")], Err(403)),
            (&[(HOST, "localhost"), (SITE, "same-site"), (MODE, "navigate")], Ok(())),
            (&[(HOST, "localhost"), (SITE, "none"), (MODE, "navigate")], Ok(())),
            (&[(HOST, "localhost"), (SITE, "same-origin")], Ok(())),
            (&[], Err(400)),
            (&[(HOST, "localhost"), (HOST, "localhost")], Err(400)),
        ];
        for (pairs, expected) in cases {
            assert_eq!(verdict(pairs), expected, "{pairs:?}");
        }
    }
}
