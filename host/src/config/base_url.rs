//! Where an upstream is.

use http::Uri;
use http::uri::{Authority, Scheme};
use std::fmt;

/// How the hosts of Azure's resources end, as models are reached there.
const AZURES: [&str; 3] = [".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"];

/// Scheme, authority and path prefix of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    scheme: Scheme,
    authority: Authority,
    prefix: String,
}

impl BaseUrl {
    /// Such a one of a host that needs no configuration.
    pub(super) fn https(host: &'static str) -> BaseUrl {
        BaseUrl { scheme: Scheme::HTTPS, authority: Authority::from_static(host), prefix: String::new() }
    }

    /// Parses `http://` or `https://`, a host, perhaps a port, perhaps a path.
    ///
    /// # Errors
    /// What is wrong, in words for the operator.
    pub fn parse(text: &str) -> Result<BaseUrl, String> {
        let uri: Uri = text.parse().map_err(|error| format!("\"{text}\" is no URL: {error}"))?;
        let parts = uri.into_parts();
        let scheme = match parts.scheme {
            Some(scheme) if scheme == Scheme::HTTP || scheme == Scheme::HTTPS => scheme,
            Some(_) | None => return Err(format!("\"{text}\" must begin with http:// or https://")),
        };
        let authority = parts.authority.ok_or_else(|| format!("\"{text}\" names no host"))?;
        if authority.as_str().contains('@') {
            return Err("must hold no user name or password: credentials come with each request, or by `api_key_env` or `api_key_file`".into());
        }
        if authority.host().is_empty() {
            return Err(format!("\"{text}\" names no host"));
        }
        // What follows the host is a colon and a port, which the parser takes whatever it is.
        let port = authority.as_str().get(authority.host().len()..).filter(|rest| !rest.is_empty());
        if port.is_some() && authority.port_u16().is_none_or(|port| port == 0) {
            return Err(format!("\"{text}\" has no port that there is: from 1 to 65535"));
        }
        let path = parts.path_and_query.map(|path| path.as_str().to_owned()).unwrap_or_default();
        if path.contains('?') {
            return Err(format!("\"{text}\" must have no query"));
        }
        Ok(BaseUrl { scheme, authority, prefix: path.trim_end_matches('/').to_owned() })
    }

    /// The URL of a request. `path_and_query` begins with a slash.
    ///
    /// # Errors
    /// When the two together are no URL.
    pub fn join(&self, path_and_query: &str) -> Result<Uri, http::Error> {
        // A base with a version in its path, such as /v1 or /v1beta/openai, stands for the /v1 of the request's.
        let unversioned = path_and_query.strip_prefix("/v1").filter(|rest| rest.starts_with('/'));
        let suffix = unversioned.filter(|_| self.has_version()).unwrap_or(path_and_query);
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(format!("{}{suffix}", self.prefix))
            .build()
    }

    /// The path of a URL, as it was asked for here, behind this base; `None` where the URL is elsewhere. A proxy's callers
    /// write `http` whatever the base has, since they do not reach its host themselves.
    pub fn path_behind<'p>(&self, authority: &Authority, path: &'p str) -> Option<&'p str> {
        let is_here = authority.as_str().eq_ignore_ascii_case(self.authority.as_str());
        path.strip_prefix(&self.prefix).filter(|rest| is_here && rest.starts_with('/'))
    }

    fn has_version(&self) -> bool {
        self.prefix
            .split('/')
            .any(|segment| segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())))
    }

    /// Whether a path that its caller wrote without a version gets one: not where the base has a path of its own
    /// instead, such as `/inference`.
    pub fn adds_version(&self) -> bool {
        self.prefix.is_empty() || self.has_version()
    }

    /// Host and port, as they belong into a `Host` header.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The host, in brackets where it is an address of version 6.
    pub fn host(&self) -> &str {
        self.authority.host()
    }

    /// Whether this is a resource of Azure's.
    pub fn is_azures(&self) -> bool {
        let host = self.host().to_ascii_lowercase();
        AZURES.iter().any(|end| host.strip_suffix(end).is_some_and(|name| !name.is_empty()))
    }

    /// Whether a path stands behind the host.
    pub fn has_path(&self) -> bool {
        !self.prefix.is_empty()
    }

    /// The port; where none is named, the one of the scheme.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.is_encrypted() { 443 } else { 80 })
    }

    /// Whether it is reached through TLS.
    pub fn is_encrypted(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.prefix)
    }
}
