//! `[upstreams.NAME]`: the three providers that need no configuration, and whatever the file says of them and of
//! others.

use super::kind::{Flag, Kind, Parsed, Text, Time, Word};
use super::path_template::{self, PathTemplate, Template};
use super::prices::UpstreamPrices;
use super::proxy::ProxyUrl;
use super::reader::Section;
use super::secret::{Named, NamedSecret, Secrets};
use super::section::section;
use super::server::REQUEST_TIMEOUT;
use super::{BaseUrl, BreakerConfig, ConcurrencyConfig, HedgeConfig, Limits, PacingConfig, ProxyConfig, RetryConfig};
use crate::dialect::Dialect;
use crate::dialect::auth::Auth;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use spillway_resilience::{BreakerKind, BreakerSettings};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Value;

/// The policy of an upstream that names none.
pub const DEFAULT_POLICY: &str = "default";

/// How long a live request waits at an open circuit for a probe to show whether the upstream is back: as long as an
/// outage that is over may go unnoticed, so that nobody is refused for one.
const CIRCUIT_PATIENCE: Duration = Duration::from_secs(1);

/// First words of paths that mean something by themselves.
const RESERVED_NAMES: [&str; 9] =
    ["v1", "v1beta", "spillway", "chat", "responses", "completions", "embeddings", "models", "messages"];

/// The providers that need no configuration: their names, hosts and APIs.
const KNOWN: [(&str, &str, Dialect); 3] = [
    ("openai", "api.openai.com", Dialect::OpenAi),
    ("anthropic", "api.anthropic.com", Dialect::Anthropic),
    ("gemini", "generativelanguage.googleapis.com", Dialect::Gemini),
];

/// Where an upstream of this name is that needs no configuration.
pub(crate) fn known_url(name: &str) -> Option<BaseUrl> {
    KNOWN.into_iter().find(|(known, ..)| *known == name).map(|(_, host, _)| BaseUrl::https(host))
}

section! {
    /// One provider, or one server of your own. `openai`, `anthropic` and `gemini` are there without being named;
    /// others need a `url`.
    pub struct UpstreamConfig {
        /// Where it is, with a path perhaps, and without credentials.
        // A stand-in, so that mistakes beside a missing one are reported too.
        url: BaseUrl = BaseUrl::https("unknown.invalid"), Parsed("URL, with http or https", BaseUrl::parse),
            shown as "where openai, anthropic and gemini are; others must say it";
        /// The API it speaks.
        dialect: Dialect = Dialect::OpenAi, Word(&Dialect::ALL, Dialect::as_str),
            shown as "that of openai, anthropic and gemini; of others `\"openai\"`";
        /// Keys that Spillway has for it, in variables of the environment. Several take turns: one serves while another
        /// rests.
        api_key_env: Vec<NamedSecret> = Vec::new(), Secrets(Named::Variable);
        /// The same in files, which are read again when they change; together with those of `api_key_env`.
        api_key_file: Vec<NamedSecret> = Vec::new(), Secrets(Named::File);
        /// Where it looks for such a key: behind `Authorization: Bearer`, in one of these headers, or in the query, as
        /// `key`.
        auth: Auth = Auth::Bearer, Word(&Auth::ALL, Auth::as_str),
            shown as "`\"api-key\"` at Azure, else by `dialect`: `\"bearer\"`, Anthropic's `\"x-api-key\"`, Gemini's \
                `\"x-goog-api-key\"`";
        /// The form of its paths that generate, where they differ from the API's own: `{model}` is the target's model,
        /// `{operation}` what follows the version in the API's path, such as `chat/completions`, or Gemini's method.
        path: Option<PathTemplate> = None, Template,
            shown as "none; for a resource of Azure's without a path in its `url`, that of its deployments";
        /// The proxy on the way to it. What is on this machine is never reached through one.
        proxy: ProxyConfig = ProxyConfig::OfEnvironment, ProxyUrl,
            shown as "what `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say";
        /// Certificates in PEM that are believed there, beside what the system or `SSL_CERT_FILE` trusts.
        ca_file: Option<Authorities> = None, PemFile;
        /// The policy that judges it.
        policy: String = DEFAULT_POLICY.to_owned(), Text;
        /// Longest time to a connection, TLS included; not longer than `server.request_timeout`.
        // What the official SDKs give it.
        connect_timeout: Duration = Duration::from_secs(5), Time::POSITIVE;
        /// Longest time from sending a request to the first content of its answer; not longer than
        /// `server.request_timeout`.
        // Reasoning models think for minutes before their first content.
        first_content_timeout: Duration = Duration::from_secs(300), Time::POSITIVE;
        /// Longest silence between two pieces of an answer; not longer than `server.request_timeout`.
        idle_timeout: Duration = Duration::from_secs(120), Time::POSITIVE;
        /// After how long a silence something is written into a stream that has begun which readers of its API pass
        /// over: a comment, or a blank line in Gemini's. Nothing is written into Ollama's, into what is not read, and
        /// into what comes compressed; `idle_timeout` goes on.
        // Most clients wait for longer than any provider is silent, and no comment is safe with all of them.
        keep_alive: Duration = Duration::ZERO, Time::POSITIVE_OR_NONE;
        /// Whether streams are asked to report their usage where tokens are limited. A server that refuses is not asked
        /// again.
        ask_for_usage: bool = true, Flag;
        /// Whether it does a request once that comes again with the same `Idempotency-Key`, so that what creates
        /// something can be repeated.
        honours_idempotency_keys: bool = false, Flag;
    }
    tables {
        /// What circuits open for.
        breaker: BreakerConfig;
        /// Whether and when a failed attempt is followed by another.
        retry: RetryConfig;
        /// How calls go out once the provider has said "too much".
        pacing: PacingConfig;
        /// Whether and when a call that is late gets a second one beside it.
        hedge: HedgeConfig;
        /// What the provider's quota allows.
        limits: Limits;
        /// How many calls may be in flight.
        concurrency: ConcurrencyConfig;
        /// On which terms it sells.
        prices: UpstreamPrices;
    }
}

/// The providers that need no configuration, and those that the file names. No request lives longer than
/// `request_timeout`.
pub(super) fn read(section: Section<'_>, request_timeout: Duration) -> BTreeMap<String, UpstreamConfig> {
    let known = KNOWN.map(|(name, ..)| (name.to_owned(), section.empty(name)));
    let sections: BTreeMap<String, Section<'_>> = known.into_iter().chain(section.named_sections()).collect();
    let read = |(name, section): (String, _)| {
        let upstream = UpstreamConfig::read(&name, section, request_timeout);
        (name, upstream)
    };
    sections.into_iter().map(read).collect()
}

impl UpstreamConfig {
    fn read(name: &str, section: Section<'_>, request_timeout: Duration) -> UpstreamConfig {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            section.mistake("", "an upstream's name is part of URLs: it has lower-case letters, digits, - and _ only");
        } else if RESERVED_NAMES.contains(&name) {
            section.mistake("", "the providers' own paths begin with this word: an upstream needs another name");
        }
        let mut upstream = UpstreamConfig::fresh(section.folder());
        match KNOWN.into_iter().find(|(known, ..)| *known == name) {
            Some((_, host, dialect)) => (upstream.url, upstream.dialect) = (BaseUrl::https(host), dialect),
            None if !section.has("url") => {
                section.mistake("url", "missing; where is this upstream? Such as \"https://api.example.com/v1\"")
            }
            None => {}
        }
        upstream.take(&section);
        upstream.settle_by_host(&section);
        let request = (REQUEST_TIMEOUT, request_timeout);
        section.within("connect_timeout", &mut upstream.connect_timeout, request);
        section.within("first_content_timeout", &mut upstream.first_content_timeout, request);
        section.within("idle_timeout", &mut upstream.idle_timeout, request);
        let first_content = ("first_content_timeout", upstream.first_content_timeout);
        upstream.breaker = BreakerConfig::read(section.section("breaker"), first_content, request_timeout);
        upstream.retry = RetryConfig::read(section.section("retry"), request);
        upstream.hedge = HedgeConfig::read(section.section("hedge"), first_content);
        upstream.pacing = PacingConfig::read(section.section("pacing"));
        upstream.limits = Limits::read(section.section("limits"), request);
        upstream.concurrency = ConcurrencyConfig::read(section.section("concurrency"));
        upstream.prices = UpstreamPrices::read(section.section("prices"));
        section.finish();
        upstream
    }

    /// What follows from where it is and what it speaks, where the document does not say it.
    fn settle_by_host(&mut self, section: &Section<'_>) {
        let is_azures = self.url.is_azures();
        if !section.has("auth") {
            self.auth = if is_azures { Auth::ApiKey } else { Auth::of(self.dialect) };
        }
        if !section.has("path") && is_azures && !self.url.has_path() && self.dialect == Dialect::OpenAi {
            self.path = PathTemplate::parse(path_template::AZURE).ok();
        }
        if self.dialect == Dialect::Other && self.path.is_some() {
            section
                .mistake("path", "has no use where `dialect` is \"other\": what passes through unread keeps its path");
        }
    }

    /// The keys that Spillway has for it, in the order in which the document names them.
    pub fn api_keys(&self) -> impl Iterator<Item = &NamedSecret> {
        self.api_key_env.iter().chain(&self.api_key_file)
    }

    /// Whether Spillway has any for it.
    pub fn has_keys(&self) -> bool {
        self.api_keys().next().is_some()
    }

    /// When its circuits open and close. A probe must be let finish: it may take as long as any other call.
    pub fn breaker_settings(&self) -> BreakerSettings {
        let probe_lease = self.connect_timeout + self.first_content_timeout;
        BreakerSettings { probe_lease, half_open_max_wait: 2 * probe_lease, ..self.breaker.settings() }
    }

    /// How long a live request waits at an open circuit. A plain breaker refuses at once, as it is known for.
    pub fn circuit_patience(&self) -> Duration {
        match self.breaker.kind {
            BreakerKind::Adaptive => CIRCUIT_PATIENCE,
            BreakerKind::Plain => Duration::ZERO,
        }
    }

    /// Certificates that are believed there, beside what the system believes.
    pub fn authorities(&self) -> &[CertificateDer<'static>] {
        self.ca_file.as_ref().map_or(&[], |authorities| &authorities.certificates)
    }
}

/// Certificates, and the file they came from.
#[derive(Clone, Debug)]
pub struct Authorities {
    file: PathBuf,
    certificates: Vec<CertificateDer<'static>>,
}

/// A file of certificates in PEM; an empty name is none.
struct PemFile;

impl Kind<Option<Authorities>> for PemFile {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<Option<Authorities>> {
        let name = section.string(key)?;
        if name.is_empty() {
            return Some(None);
        }
        let file = section.folder().join(name);
        match certificates_in(&file) {
            Ok(certificates) => Some(Some(Authorities { file, certificates })),
            Err(message) => {
                section.mistake(key, message);
                None
            }
        }
    }

    fn write(&self, value: &Option<Authorities>) -> Option<Value> {
        let file = value.as_ref().map(|authorities| authorities.file.to_string_lossy().into_owned());
        Some(file.unwrap_or_default().into())
    }

    fn words(&self) -> String {
        "path; `\"\"`: none".to_owned()
    }

    fn schema(&self) -> serde_json::Value {
        json!({"type": "string"})
    }
}

/// The certificates in a file in PEM.
fn certificates_in(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    if certificates.is_empty() {
        return Err(format!("{} holds no certificate in PEM", file.display()));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests;
