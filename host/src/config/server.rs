//! `[server]`: where callers reach Spillway, and how much and how long it bears with them.

use super::TlsConfig;
use super::forwarded::{ForwardedHeader, network};
use super::kind::{Address, FileOrNone, Flag, List, Maybe, Size, Time, Whole, Word};
use super::reader::Section;
use super::secret::{Named, NamedSecret, OneSecret, Secret};
use super::section::section;
use crate::runtime::{port, unix_socket};
use http::Uri;
use http::uri::{Authority, Parts};
use ipnet::IpNet;
use spillway_resilience::ShedSettings;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Smallest bound on bodies: below it hardly a question fits with its model and its parameters.
const BODY_MIN_BYTES: u64 = 1 << 10;
/// Shortest access key: whatever is shorter can be guessed by a process that tries.
const ACCESS_KEY_BYTES_MIN: usize = 16;
/// The setting that ends every request.
pub(super) const REQUEST_TIMEOUT: &str = "server.request_timeout";

section! {
    /// Where callers reach Spillway, and how much and how long it bears with them.
    pub struct Server {
        /// Where callers reach Spillway. A loopback address is reached by this machine's own processes alone. Any other,
        /// such as `"0.0.0.0:4141"`, takes a key that every caller shows on every path, and one of `[server.tls]`,
        /// `behind_tls_proxy` and `plaintext`.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 4141)), Address;
        /// Whether other machines may call, though nothing on the way here is encrypted, neither prompts nor
        /// credentials: for a network of containers, or another one that is trusted.
        // Whoever listens elsewhere by mistake should not find out from a stranger's bill.
        plaintext: bool = false, Flag;
        /// Whether a proxy speaks TLS to callers, and passes on to Spillway what they send: one of `trusted_proxies`.
        /// What comes from elsewhere is refused.
        behind_tls_proxy: bool = false, Flag;
        /// The addresses of proxies in front of Spillway, such as `"10.0.0.0/8"`. They alone are believed in whose name
        /// they ask.
        trusted_proxies: Vec<IpNet> = Vec::new(), List("addresses and networks", network);
        /// The header in which they say so. In it the last address counts that is none of theirs.
        forwarded_header: ForwardedHeader = ForwardedHeader::XForwardedFor,
            Word(&ForwardedHeader::ALL, ForwardedHeader::as_str);
        /// A Unix socket beside it, which belongs to this user alone (mode 0600). Whoever reaches it may spend the keys
        /// that Spillway has, and may give any `Host`.
        unix_socket: Option<PathBuf> = None, FileOrNone;
        /// The key that whoever spends Spillway's own keys shows in the place of a provider's, in a variable of the
        /// environment; 16 characters or more. It goes no further.
        access_key_env: Option<NamedSecret> = None, Maybe(OneSecret(Named::Variable));
        /// The same in a file, which is read again when it changes.
        access_key_file: Option<NamedSecret> = None, Maybe(OneSecret(Named::File));
        /// Worker threads, each with a listener of its own.
        workers: usize = std::thread::available_parallelism().map_or(1, usize::from), Whole(1..=256),
            shown as "one per core";
        /// Largest request body held; larger ones get a 413.
        // Anthropic refuses larger messages anyway.
        max_body: usize = 32 << 20, Size(BODY_MIN_BYTES);
        /// Most requests in hand. Those of low priority are shed from 70 % of it on, normal ones from 85 %.
        // Far more than providers serve one customer at once, far below what a process may have open.
        max_in_flight: u64 = 10_000, Whole(1..=1_000_000);
        /// Most bytes of request bodies in hand, with the same shares; room for `max_body` must be left below 85 %.
        // Room for a thousand large conversations, in a fraction of a laptop's memory.
        max_held: u64 = 1 << 30, Size(BODY_MIN_BYTES);
        /// Longest life of a request, which the SDKs' own timeout headers shorten.
        // The timeout that the official SDKs use.
        request_timeout: Duration = Duration::from_secs(600), Time::POSITIVE;
        /// How long the head of a request may take, from its first byte on.
        head_timeout: Duration = Duration::from_secs(30), Time::POSITIVE;
        /// Longest silence of a caller within the body of its request; then a 408.
        // What nginx gives it.
        body_timeout: Duration = Duration::from_secs(60), Time::POSITIVE;
        /// How long a caller may take nothing of an answer of which more is ready; then its connection is cut.
        // What nginx gives it, and long enough for whoever thinks about what it has read.
        write_timeout: Duration = Duration::from_secs(60), Time::POSITIVE;
        /// How long a WebSocket, or another connection that was upgraded, may be silent in both directions; then it is
        /// closed. `request_timeout` does not end it.
        // Providers end a session within an hour themselves, and clients keep one open while nobody speaks.
        socket_idle_timeout: Duration = Duration::from_secs(60 * 60), Time::POSITIVE;
        /// How long a connection may lie unused.
        // Longer than any client is known to keep one (Java's did for 20 minutes), so that none is closed under a
        // request.
        keep_alive_timeout: Duration = Duration::from_secs(30 * 60), Time::POSITIVE;
        /// How long requests in flight may take to finish after a termination signal; not longer than
        /// `request_timeout`.
        drain_timeout: Duration = Duration::from_secs(30), Time::ANY;
        /// `Host` names accepted besides the loopback's. Where other machines may call and none is listed, any is.
        allowed_hosts: Vec<String> = Vec::new(), List("host names", host);
        /// `Origin`s of web pages that may call.
        // No page has a reason to spend the user's key.
        allowed_origins: Vec<String> = Vec::new(), List("origins", origin);
    }
    tables {
        /// TLS for callers.
        tls: TlsConfig;
    }
}

impl Server {
    /// Reads it. `are_keys_required` says that whoever calls shows a key of `[keys]` in any case.
    pub(super) fn read(section: Section<'_>, are_keys_required: bool) -> Server {
        let mut server = Server::fresh(section.folder());
        server.take(&section);
        server.tls = TlsConfig::read(section.section("tls"));
        let room = server.max_held as f64 * ShedSettings::DEFAULT_NORMAL;
        if room < server.max_body as f64 {
            section.mistake(
                "max_held",
                "must be larger: 85 % of it must hold a body of max_body, since requests are refused from there on",
            );
        }
        if server.drain_timeout > server.request_timeout {
            if section.has_taken("drain_timeout") {
                let said =
                    "must not be longer than server.request_timeout, after which no request is under way any more";
                section.mistake("drain_timeout", said);
            }
            server.drain_timeout = server.request_timeout;
        }
        if server.access_key_env.is_some() && server.access_key_file.is_some() {
            section.mistake("access_key_file", "there is one access key, and `access_key_env` names it");
        }
        if server.unix_socket.is_some() && !unix_socket::EXIST {
            let said = "this system has no Unix sockets that Spillway can use: callers come through `listen`, and show \
                        an access key (`access_key_env` or `access_key_file`) to spend keys of Spillway's own";
            section.mistake("unix_socket", said);
            server.unix_socket = None;
        }
        for (key, named) in [("access_key_env", &server.access_key_env), ("access_key_file", &server.access_key_file)] {
            let secret = named.as_ref().and_then(|named| named.secret.as_ref());
            if let Some(Err(message)) = secret.map(Server::check_access_key) {
                section.mistake(key, message);
            }
        }
        // What is wrong with a key is said of the key alone.
        let has_said_key = section.has("access_key_env") || section.has("access_key_file");
        server.check_reach(&section, has_said_key || are_keys_required);
        section.finish();
        server
    }

    /// Where this machine's own processes reach it: a wildcard address is none to connect to.
    pub fn local_address(&self) -> SocketAddr {
        port::local(self.listen)
    }

    /// Whether anybody can show that he may spend keys of Spillway's own.
    pub fn has_access(&self) -> bool {
        self.access_key().is_some() || self.unix_socket.is_some()
    }

    /// The key that whoever spends Spillway's own keys must show, if there is one.
    pub fn access_key(&self) -> Option<&NamedSecret> {
        self.access_key_env.as_ref().or(self.access_key_file.as_ref())
    }

    /// Whether a secret is fit for an access key.
    ///
    /// # Errors
    /// Why it is not, in words for the operator that hold nothing of it.
    pub fn check_access_key(secret: &Secret) -> Result<(), String> {
        match secret.expose().len() {
            ACCESS_KEY_BYTES_MIN.. => Ok(()),
            _ => Err(format!(
                "is too short for an access key: it must have {ACCESS_KEY_BYTES_MIN} characters or more, such as \
                 `openssl rand -hex 24` makes them"
            )),
        }
    }
}

/// The name of a host alone, as a `Host` header has it without its port.
fn host(text: &str) -> Result<String, String> {
    let plain = |authority: Authority| authority.as_str() == authority.host() && !text.contains(['*', '@']);
    if text.parse().is_ok_and(plain) {
        return Ok(text.to_owned());
    }
    let meant = text.parse::<Uri>().ok().and_then(|uri| Some(uri.authority()?.host().to_owned()));
    let example = meant.filter(|host| host != text && !host.is_empty() && !host.contains('*'));
    let example = example.unwrap_or_else(|| "proxy.internal".to_owned());
    Err(format!("\"{text}\" is no host name alone, without scheme, port and wildcards, such as \"{example}\""))
}

/// An origin as browsers write it, since it is compared letter by letter.
fn origin(text: &str) -> Result<String, String> {
    let (scheme, authority) = match text.parse::<Uri>().map(Uri::into_parts) {
        // What pages send that have no origin, such as a file's.
        _ if text == "null" => return Ok(text.to_owned()),
        Ok(Parts { scheme: Some(scheme), authority: Some(authority), .. }) if !text.contains(['*', '@']) => {
            (scheme, authority)
        }
        Ok(_) | Err(_) => {
            return Err(format!("\"{text}\" is no origin: scheme and host, such as \"https://app.example\""));
        }
    };
    let own_port = match scheme.as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let port = authority.port_u16().filter(|port| Some(*port) != own_port);
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let written = format!("{scheme}://{}{port}", authority.host()).to_ascii_lowercase();
    match written == text {
        true => Ok(written),
        false => Err(format!("\"{text}\" is no origin as browsers send it; did you mean \"{written}\"?")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Secret, parse};
    use super::Server;
    use crate::runtime::unix_socket;
    use std::fs;
    use std::path::Path;

    /// A variable that cargo sets for every test, with what is too short for an access key.
    const SHORT: &str = "CARGO_PKG_NAME";

    fn mistakes(text: &str, folder: &Path) -> Vec<String> {
        let text = format!("[server]\n{text}");
        parse(&text, folder).expect_err("a wrong configuration").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn there_is_one_access_key_and_it_cannot_be_guessed() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("long"), "canary-0123456789\n").expect("written");
        let config = parse("[server]\naccess_key_file = \"long\"", folder.path()).expect("a configuration");
        let key = config.server.access_key().expect("an access key");
        assert_eq!(key.secret.as_ref().map(Secret::expose), Some("canary-0123456789"));
        assert!(!format!("{config:?}").contains("canary"));
        let found = mistakes(&format!("access_key_env = \"{SHORT}\"\naccess_key_file = \"long\""), folder.path());
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[0].starts_with("line 2: server.access_key_env: is too short"), "{}", found[0]);
        assert!(found[1].starts_with("line 3: server.access_key_file: there is one access key"), "{}", found[1]);
        let found = mistakes("access_key_env = \"SPILLWAY_UNSET\"", folder.path());
        assert!(found[0].contains("is not set"), "{}", found[0]);
    }

    #[test]
    fn this_machines_own_processes_reach_a_wildcard_by_the_loopback() {
        for (listen, local) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("[::1]:1", "[::1]:1"),
            ("0.0.0.0:2", "127.0.0.1:2"),
            ("[::]:3", "[::1]:3"),
            ("10.1.2.3:4", "10.1.2.3:4"),
        ] {
            let server = Server { listen: listen.parse().expect("an address"), ..Server::fresh(Path::new("")) };
            assert_eq!(server.local_address().to_string(), local);
        }
    }

    #[test]
    fn the_unix_socket_lies_where_the_file_does_and_nowhere_where_there_are_none() {
        let socket = |text: &str| {
            let config = parse(&format!("[server]\n{text}"), Path::new("/etc/spillway")).expect("a configuration");
            config.server.unix_socket
        };
        assert_eq!(socket("unix_socket = \"\""), None);
        assert_eq!(socket(""), None);
        let named = "unix_socket = \"run/spillway.sock\"";
        if unix_socket::EXIST {
            assert_eq!(socket(named), Some("/etc/spillway/run/spillway.sock".into()));
        } else {
            let found = mistakes(named, Path::new("/etc/spillway"));
            assert!(found.concat().contains("this system has no Unix sockets"), "{found:?}");
        }
    }
}
