//! The configuration: one TOML file, all of it optional, parsed once into values that cannot be wrong.

mod load;
mod reader;
mod upstreams;

pub use load::parse;
pub use reader::Mistake;

use crate::dialect::Dialect;
use crate::policy::{self, Trust};
use crate::upstream::client::Proxy;
use http::Uri;
use http::uri::{Authority, Scheme};
use rustls::pki_types::CertificateDer;
use spillway_resilience::{
    AdaptiveLimitSettings, BreakerKind, BreakerSettings, FairQueueSettings, HedgeSettings, PacerSettings, Priority,
    RetryBudgetSettings, RetrySettings,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file that is read when none is named, if it exists.
pub const DEFAULT_FILE: &str = "spillway.toml";

/// Every default in one place, with its unit and the reason for its value.
pub mod defaults {
    use std::time::Duration;

    /// Where callers reach Spillway.
    pub const LISTEN: &str = "127.0.0.1:4141";
    /// Where operators reach Spillway.
    pub const ADMIN_LISTEN: &str = "127.0.0.1:4142";
    /// Largest request body held. Anthropic refuses larger messages anyway.
    pub const BODY_BYTES_MAX: u64 = 32 << 20;
    /// Requests in hand: far more than providers serve one customer at once, far below what a process may have open.
    pub const IN_FLIGHT_MAX: u64 = 10_000;
    /// Bytes of request bodies in hand: room for a thousand large conversations, in a fraction of a laptop's memory.
    pub const HELD_BYTES_MAX: u64 = 1 << 30;
    /// How long a live request waits for limits to let it through: shorter than people's patience, and longer than
    /// most of the waits that a provider's 429 would name.
    pub const PATIENCE: Duration = Duration::from_secs(10);
    /// How long a live request waits at an open circuit for a probe to show whether the upstream is back: as long as an
    /// outage that is over may go unnoticed, so that nobody is refused for one.
    pub const CIRCUIT_PATIENCE: Duration = Duration::from_secs(1);
    /// Longest life of a request: the timeout that the official SDKs use.
    pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(600);
    /// How long the head of a request may take from its first byte to its last.
    pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
    /// Longest silence of a caller within the body of its request: what nginx gives it.
    pub const BODY_TIMEOUT: Duration = Duration::from_secs(60);
    /// How long a caller may take nothing of an answer of which more is ready: what nginx gives it, and long enough for
    /// whoever thinks about what it has read.
    pub const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
    /// How long a connection may lie unused. Longer than any client is known to keep one (Java's did for 20 minutes), so
    /// that none is closed under a request.
    pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(30 * 60);
    /// How long in-flight requests may take to finish after a termination signal.
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
    /// The official SDKs give a connection five seconds.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
    /// Reasoning models think for minutes before their first content.
    pub const FIRST_CONTENT_TIMEOUT: Duration = Duration::from_secs(300);
    /// Longest silence between two pieces of an answer.
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
    /// Output tokens reserved for a request that names no maximum.
    pub const OUTPUT_TOKENS: u64 = 1_024;
    /// Jobs kept in the spool.
    pub const SPOOL_JOBS_MAX: u64 = 100_000;
    /// Bytes kept in the spool.
    pub const SPOOL_BYTES_MAX: u64 = 4 << 30;
    /// How long answers and dead letters are kept.
    pub const SPOOL_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);
    /// How long a job may wait to be served before it expires.
    pub const SPOOL_EXPIRY: Duration = Duration::from_secs(24 * 60 * 60);
    /// Calls of one job that may fail before it is dead.
    pub const SPOOL_ATTEMPTS_MAX: u32 = 8;
    /// Jobs being served at once; live traffic should not notice the spool.
    pub const SPOOL_CONCURRENCY: u32 = 4;
    /// Where the spool lives, relative to the configuration file.
    pub const DATA_DIR: &str = "spillway-data";
    /// Where policies are dropped, relative to the configuration file.
    pub const POLICY_DIR: &str = "policies";
    /// Where compiled policies are kept, relative to the configuration file.
    pub const POLICY_CACHE_DIR: &str = "spillway-data/policy-cache";
    /// The policy of an upstream that names none.
    pub const POLICY: &str = "default";
}

/// Everything Spillway is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from, if any.
    pub file: Option<PathBuf>,
    /// The data plane.
    pub server: Server,
    /// Where the control plane listens.
    pub admin_listen: SocketAddr,
    /// Policies and their settings.
    pub policies: Policies,
    /// Upstreams by name. Never empty.
    pub upstreams: BTreeMap<String, UpstreamConfig>,
    /// Tenants by name, for those whose share differs from everybody's.
    pub tenants: BTreeMap<String, TenantConfig>,
    /// The durable queue; `None` when switched off.
    pub spool: Option<SpoolConfig>,
    /// How to log.
    pub log: LogFormat,
    /// Where judged attempts are recorded, for `spillway policy replay`; `None`: nowhere.
    pub recording: Option<PathBuf>,
}

/// The data plane's settings.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where callers reach Spillway.
    pub listen: SocketAddr,
    /// Worker threads, each with a listener of its own.
    pub workers: usize,
    /// Largest request body held, in bytes.
    pub max_body: usize,
    /// Most requests in hand. Those of low priority are refused from 70 % of it on, normal ones from 85 %.
    pub max_in_flight: u64,
    /// Most bytes of request bodies in hand, with the same shares.
    pub max_held: u64,
    /// Longest life of a request.
    pub request_timeout: Duration,
    /// How long the head of a request may take.
    pub head_timeout: Duration,
    /// Longest silence within the body of a request.
    pub body_timeout: Duration,
    /// How long a caller may take nothing of its answer.
    pub write_timeout: Duration,
    /// How long a connection may lie unused.
    pub keep_alive_timeout: Duration,
    /// How long in-flight requests may take to finish after a termination signal.
    pub drain_timeout: Duration,
    /// `Host` names accepted besides the loopback's.
    pub allowed_hosts: Vec<String>,
    /// `Origin`s accepted; none by default, because no page has a reason to spend the user's key.
    pub allowed_origins: Vec<String>,
}

/// Where policies come from and what they are told.
#[derive(Clone, Debug)]
pub struct Policies {
    /// The folder that is watched.
    pub dir: PathBuf,
    /// Which files in it may serve.
    pub trust: Trust,
    /// Where compiled policies are kept; `None` when they are compiled at every start.
    pub cache_dir: Option<PathBuf>,
    /// The policies that carry an interpreter, and may be as large as that takes.
    pub interpreted: BTreeSet<String>,
    /// Each policy's own table, as JSON, by the policy's name.
    pub settings: BTreeMap<String, String>,
}

impl Policies {
    /// How large the policy of this name may be.
    pub fn limits_of(&self, name: &str) -> policy::Limits {
        if self.interpreted.contains(name) { policy::Limits::INTERPRETED } else { policy::Limits::STANDARD }
    }

    /// The policies about which something is said.
    pub(crate) fn named(&self) -> impl Iterator<Item = &String> {
        self.interpreted.iter().chain(self.settings.keys())
    }
}

/// One provider, or one server of one's own.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// Where it is.
    pub base: BaseUrl,
    /// The API it speaks.
    pub dialect: Dialect,
    /// The proxy on the way to it.
    pub proxy: ProxyConfig,
    /// Certificates that are believed there, beside what the system believes.
    pub authorities: Vec<CertificateDer<'static>>,
    /// The policy that judges it.
    pub policy: String,
    /// Longest time to a connection, TLS included.
    pub connect_timeout: Duration,
    /// Longest time from sending a request to the first content of its answer.
    pub first_content_timeout: Duration,
    /// Longest silence within an answer.
    pub idle_timeout: Duration,
    /// Whether streams may be asked to report their usage where tokens are limited.
    pub ask_for_usage: bool,
    /// Whether it does a request once that comes again with the same `Idempotency-Key`.
    pub honours_idempotency_keys: bool,
    /// What its circuits open for.
    pub breaker_kind: BreakerKind,
    /// When its circuits open and close.
    pub breaker: BreakerSettings,
    /// Whether its circuits only report what they would do, and let every call pass.
    pub watch_only: bool,
    /// Whether and when a failed attempt is followed by another.
    pub retry: RetrySettings,
    /// How many retries all requests together may cause.
    pub retry_budget: RetryBudgetSettings,
    /// How many hedges all requests together may cause.
    pub hedge_budget: RetryBudgetSettings,
    /// How calls go out once the provider has said "too much".
    pub pacing: PacerSettings,
    /// Whether and when a call that is late gets a second one beside it.
    pub hedge: HedgeSettings,
    /// What the provider's quota allows.
    pub limits: Limits,
    /// How many calls may be in flight.
    pub concurrency: ConcurrencyConfig,
}

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

impl UpstreamConfig {
    /// How long a live request waits at an open circuit. A plain breaker refuses at once, as it is known for.
    pub fn circuit_patience(&self) -> Duration {
        match self.breaker_kind {
            BreakerKind::Adaptive => defaults::CIRCUIT_PATIENCE,
            BreakerKind::Plain => Duration::ZERO,
        }
    }
}

/// Requests and tokens per minute, each without limit when `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Requests per minute.
    pub requests_per_minute: Option<u64>,
    /// Tokens per minute, input and output together.
    pub tokens_per_minute: Option<u64>,
}

/// A quota, mirrored so that it is not overrun, and how it is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The quota.
    pub quota: Quota,
    /// Output tokens reserved for a request that names no maximum.
    pub default_output_tokens: u64,
    /// Most tokens that input and output of a request can have together; by what is known of its model when `None`.
    pub context_tokens: Option<u64>,
    /// How long a live request waits for quota and for a place in flight.
    pub patience: Duration,
    /// Who waits, and how many.
    pub queue: FairQueueSettings,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            quota: Quota::default(),
            default_output_tokens: defaults::OUTPUT_TOKENS,
            context_tokens: None,
            patience: defaults::PATIENCE,
            queue: FairQueueSettings::default(),
        }
    }
}

/// How many calls may be in flight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ConcurrencyConfig {
    /// So many.
    Fixed(u32),
    /// As many as the upstream bears.
    Adaptive(AdaptiveLimitSettings),
}

/// One tenant's share, and its own limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantConfig {
    /// Its share relative to others', while they wait for the same upstream.
    pub weight: u32,
    /// The priority of its requests, and the highest they may ask for.
    pub priority: Option<Priority>,
    /// What it may use of all upstreams together.
    pub quota: Quota,
    /// Most calls of its own in flight.
    pub max_in_flight: Option<u32>,
}

/// The durable queue's settings.
#[derive(Clone, Debug)]
pub struct SpoolConfig {
    /// Its folder.
    pub dir: PathBuf,
    /// Most jobs kept.
    pub max_jobs: u64,
    /// Most bytes kept.
    pub max_size: u64,
    /// How long answers and dead letters are kept.
    pub retention: Duration,
    /// How long a job may wait to be served.
    pub expiry: Duration,
    /// Calls of one job that may fail before it is dead.
    pub max_attempts: u32,
    /// Jobs being served at once.
    pub concurrency: u32,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Scheme, authority and path prefix of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    scheme: Scheme,
    authority: Authority,
    prefix: String,
}

impl BaseUrl {
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
            return Err("must hold no user name or password: credentials come with each request".into());
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

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file was read, and is wrong.
    #[error("{}", list(path, mistakes))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong with it.
        mistakes: Vec<Mistake>,
    },
}

fn list(path: &Path, mistakes: &[Mistake]) -> String {
    let mut text = match mistakes.len() {
        1 => format!("{} has a mistake:", path.display()),
        count => format!("{} has {count} mistakes:", path.display()),
    };
    for mistake in mistakes {
        text.push_str(&format!("\n  {mistake}"));
    }
    text
}

impl Config {
    /// Reads `file`; without one, [`DEFAULT_FILE`] if it exists, else the defaults.
    ///
    /// Relative paths in a file are relative to the folder it lies in.
    ///
    /// # Errors
    /// When the file cannot be read or has mistakes; all of them are listed.
    pub fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
        let default = Path::new(DEFAULT_FILE);
        let path = match file {
            Some(path) => path,
            None if default.exists() => default,
            None => {
                return parse("", Path::new(""))
                    .map_err(|mistakes| ConfigError::Wrong { path: default.into(), mistakes });
            }
        };
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.into(), source })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let config = parse(&text, folder).map_err(|mistakes| ConfigError::Wrong { path: path.into(), mistakes })?;
        Ok(Config { file: Some(path.to_owned()), ..config })
    }
}

#[cfg(test)]
mod tests;
