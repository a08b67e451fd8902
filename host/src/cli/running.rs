//! The Spillway that runs, asked at its admin address.

use crate::admin::status::Status;
use crate::config::Config;
use crate::policy::PolicyStatus;
use crate::runtime::port::local;
use crate::start::command::ADMIN_VARIABLE;
use crate::upstream::client::Trust;
use bytes::Bytes;
use reqwest::{Client, StatusCode, redirect};
use rustls::pki_types::CertificateDer;
use serde::{Serialize, Serializer};
use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// How long the admin address may take to accept a connection, and how long it may take for the whole answer. It is this
/// machine's, and waits a second at most, for the disk of the queue.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer read: 256 policies with all their examples are far smaller. One that is larger is no Spillway's.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// The variable with the token that is shown to a Spillway that asks for one.
const TOKEN_VARIABLE: &str = "SPILLWAY_ADMIN_TOKEN";

/// Where a running Spillway is asked.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct AdminArgument {
    /// The running Spillway's admin address; by default what SPILLWAY_ADMIN says, or else the configuration's. One on
    /// another machine is shown the token that SPILLWAY_ADMIN_TOKEN holds.
    #[arg(long, value_name = "ADDRESS", value_parser = AdminAddress::parse, env = ADMIN_VARIABLE, hide_env = true)]
    admin: Option<AdminAddress>,
}

/// The admin address of a running Spillway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AdminAddress {
    /// Without a path.
    url: String,
    /// Whose certificates are believed there, besides those that the system believes.
    authorities: Vec<CertificateDer<'static>>,
}

impl AdminAddress {
    /// As it is said, or printed: `127.0.0.1:4142`, `localhost:4142`, `http://127.0.0.1:4142/`, `https://spillway:4142`.
    pub(super) fn parse(said: &str) -> Result<AdminAddress, String> {
        let bare = said.trim_end_matches('/');
        if bare.starts_with("https://") {
            let url = bare.parse::<http::Uri>().ok().filter(|url| url.path() == "/" && url.port().is_some());
            let url = url.map(|_| AdminAddress { url: bare.to_owned(), authorities: Vec::new() });
            return url.ok_or_else(|| "say it with its port, as https://spillway.example:4142".to_owned());
        }
        let bare = bare.strip_prefix("http://").unwrap_or(bare);
        let bare = bare.strip_prefix("localhost:").map_or_else(|| bare.to_owned(), |port| format!("127.0.0.1:{port}"));
        let address = bare.parse::<SocketAddr>().map(AdminAddress::from);
        address.map_err(|_| format!("say it as {}, or as https://NAME:PORT", SocketAddr::from(([127, 0, 0, 1], 4142))))
    }

    /// That of a configuration, as this machine reaches it.
    pub(super) fn of(config: &Config) -> AdminAddress {
        let local = local(config.admin.listen);
        match config.admin.speaks_tls() {
            true => AdminAddress { url: config.server.tls.url(local), authorities: config.server.tls.chain() },
            false => local.into(),
        }
    }
}

impl From<SocketAddr> for AdminAddress {
    fn from(address: SocketAddr) -> AdminAddress {
        AdminAddress { url: format!("http://{address}"), authorities: Vec::new() }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.strip_prefix("http://").unwrap_or(&self.url))
    }
}

impl Serialize for AdminAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl AdminArgument {
    pub(super) fn address(&self, config: &Config) -> AdminAddress {
        self.admin.clone().unwrap_or_else(|| AdminAddress::of(config))
    }
}

/// Why nothing is known of a running Spillway.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    /// No connection can be made.
    #[error("no Spillway answers at {0}: nobody listens there ({1})")]
    Nobody(AdminAddress, String),
    /// Whoever listens is no Spillway.
    #[error("whoever listens at {0} does not answer as a Spillway ({1}); name the right address with --admin")]
    Stranger(AdminAddress, String),
    /// It asks for a token, or for another one.
    #[error("the Spillway at {0} does not take what it is shown: {1} (the token is read of {TOKEN_VARIABLE})")]
    NoToken(AdminAddress, String),
    /// Somebody listens and does not answer in time.
    #[error(
        "whoever listens at {0} does not answer within {limit} s; if it is a Spillway, its machine has too much to do \
         or its process is stopped: ask again, and look at its log",
        limit = TIMEOUT.as_secs()
    )]
    Slow(AdminAddress),
    /// It cannot be asked at all.
    #[error("the system refuses what it takes to ask {0}: {1}")]
    System(AdminAddress, String),
}

/// What the running Spillway has said of itself.
#[derive(Debug)]
pub(super) struct Told {
    /// As it came: JSON.
    pub(super) text: String,
    pub(super) status: Status,
}

/// How the Spillway that runs stands.
///
/// # Errors
/// When nobody answers there, or nobody who is a Spillway.
pub(super) fn status(admin: &AdminAddress) -> Result<Told, Unanswered> {
    let stranger = |why: String| Unanswered::Stranger(admin.clone(), why);
    let body = get(admin, "/status")?;
    let status = serde_json::from_slice(&body).map_err(|error| stranger(error.to_string()))?;
    let text = String::from_utf8(body.into()).map_err(|error| stranger(error.to_string()))?;
    Ok(Told { text, status })
}

/// The policies of the Spillway that runs; `None` when none runs.
///
/// # Errors
/// When somebody listens there who does not answer as a Spillway.
pub(super) fn policies(admin: &AdminAddress) -> Result<Option<Vec<PolicyStatus>>, Unanswered> {
    match status(admin) {
        Ok(told) => Ok(Some(told.status.policies)),
        Err(Unanswered::Nobody(..)) => Ok(None),
        Err(unanswered) => Err(unanswered),
    }
}

/// One policy of the Spillway that runs; the outer `None` when none runs.
pub(super) fn policy(admin: &AdminAddress, name: &str) -> Result<Option<Option<PolicyStatus>>, Unanswered> {
    Ok(policies(admin)?.map(|policies| policies.into_iter().find(|policy| policy.name == name)))
}

/// What lies there.
fn get(admin: &AdminAddress, path: &str) -> Result<Bytes, Unanswered> {
    let system = |error: &dyn Error| Unanswered::System(admin.clone(), root_cause(error));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| system(&error))?;
    let client = client(TIMEOUT, &admin.authorities).map_err(|error| system(&*error))?;
    runtime.block_on(fetch(&client, admin, path))
}

async fn fetch(client: &Client, admin: &AdminAddress, path: &str) -> Result<Bytes, Unanswered> {
    let failed = |error: reqwest::Error| match () {
        () if error.is_timeout() => Unanswered::Slow(admin.clone()),
        () if error.is_connect() => Unanswered::Nobody(admin.clone(), root_cause(&error)),
        () => Unanswered::Stranger(admin.clone(), root_cause(&error)),
    };
    let mut request = client.get(format!("{}{path}", admin.url));
    if let Ok(token) = std::env::var(TOKEN_VARIABLE) {
        request = request.bearer_auth(token.trim());
    }
    let mut response = request.send().await.map_err(failed)?;
    let status = response.status();
    let wants_token = status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN;
    if !status.is_success() && !wants_token {
        return Err(Unanswered::Stranger(admin.clone(), format!("its status is {status}")));
    }
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(failed)? {
        body.extend_from_slice(&piece);
        if body.len() > ANSWER_BYTES_MAX {
            let why = format!("its answer is larger than {ANSWER_BYTES_MAX} bytes");
            return Err(Unanswered::Stranger(admin.clone(), why));
        }
    }
    if wants_token {
        let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        return Err(Unanswered::NoToken(admin.clone(), said["detail"].as_str().unwrap_or("no word of why").to_owned()));
    }
    Ok(body.into())
}

/// Asks nobody else than it was told to: through no proxy, whatever the environment names, and following no redirect.
/// It takes so long at most to be connected, and for the whole answer.
fn client(timeout: Duration, authorities: &[CertificateDer<'static>]) -> Result<Client, Box<dyn Error>> {
    // It builds no client without a TLS configuration, and would look for one that the process has installed.
    let tls = (*Trust::with(authorities).config()).clone();
    let client = Client::builder().tls_backend_preconfigured(tls).no_proxy().redirect(redirect::Policy::none());
    Ok(client.connect_timeout(timeout).timeout(timeout).build()?)
}

/// What an error comes from: those in front of it say which step failed, which nobody here asks about.
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let said = cause.to_string();
    // The number of the system's error says nothing that its words do not.
    said.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    /// Somebody who answers one request with this, and then closes.
    fn somebody(answer: &'static str) -> AdminAddress {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        thread::spawn(move || {
            let Ok((mut caller, _)) = listener.accept() else { return };
            let _ = caller.read(&mut [0; 4_096]);
            let _ = caller.write_all(answer.as_bytes());
        });
        address.into()
    }

    #[test]
    fn an_address_is_understood_as_it_is_printed() {
        for said in ["127.0.0.1:4142", "http://127.0.0.1:4142", "http://127.0.0.1:4142/", "localhost:4142"] {
            assert_eq!(AdminAddress::parse(said), Ok(SocketAddr::from(([127, 0, 0, 1], 4142)).into()), "{said}");
        }
        let said = AdminAddress::parse("https://spillway.example:4142/").map(|address| address.to_string());
        assert_eq!(said.as_deref(), Ok("https://spillway.example:4142"));
        for wrong in ["example.com:80", "https://spillway.example", "https://spillway.example:4142/status"] {
            assert!(AdminAddress::parse(wrong).is_err_and(|said| said.contains(":4142")), "{wrong}");
        }
    }

    #[test]
    fn who_does_not_answer_as_a_spillway_is_told_apart_from_nobody() {
        let closed =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|closed| closed.local_addr()).expect("a port");
        let closed = AdminAddress::from(closed);
        assert!(matches!(status(&closed), Err(Unanswered::Nobody(address, _)) if address == closed));
        for (answer, why) in [
            ("SSH-2.0-OpenSSH_9.2\r\n", "HTTP"),
            ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "its status is 404"),
            ("HTTP/1.1 302 Found\r\nlocation: http://example.org/\r\ncontent-length: 0\r\n\r\n", "its status is 302"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "policies"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", ""),
            ("", ""),
        ] {
            let told = status(&somebody(answer)).err();
            assert!(matches!(&told, Some(Unanswered::Stranger(_, said)) if said.contains(why)), "{answer}: {told:?}");
        }
    }

    #[test]
    fn who_accepts_and_says_nothing_is_slow() {
        // Its backlog takes the connection, and nobody ever reads from it.
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = AdminAddress::from(silent.local_addr().expect("its address"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = client(Duration::from_millis(50), &[]).expect("a client");
        let told = runtime.block_on(fetch(&client, &address, "/status"));
        assert!(matches!(&told, Err(Unanswered::Slow(slow)) if *slow == address), "{told:?}");
    }

    #[test]
    fn an_answer_without_end_is_not_read_to_its_end() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        thread::spawn(move || {
            let Ok((mut caller, _)) = listener.accept() else { return };
            let _ = caller.read(&mut [0; 4_096]);
            let _ = caller.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while caller.write_all(&[b' '; 64 << 10]).is_ok() {}
        });
        assert!(matches!(status(&address.into()), Err(Unanswered::Stranger(_, why)) if why.contains("larger than")));
    }
}
