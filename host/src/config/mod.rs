//! The configuration: one TOML file, all of it optional, parsed once into values that cannot be wrong.
//!
//! Each section is one file, in which each key is declared once: [`section`] says how, `kind` what a key can hold.
//! `reader` reads TOML and keeps every mistake; `show`, `schema` and `reference` are made of the declarations.

mod admin;
mod allowance;
mod base_url;
mod breaker;
mod concurrency;
mod declared;
mod doubts;
mod followed_secret;
mod forwarded;
mod groups;
mod guards;
mod hedge;
mod keys;
mod kind;
mod labels;
mod ledger;
mod limits;
mod live;
mod log;
mod metrics;
mod pacing;
mod path_template;
mod pattern;
mod policies;
mod prices;
mod proxy;
mod reach;
mod reader;
mod reference;
mod retry;
mod routes;
mod schema;
mod secret;
mod section;
mod server;
mod show;
mod spool;
mod tenants;
mod tls;
mod upstream;

pub use admin::{Admin, AdminToken, AdminTokens, Role};
pub use allowance::{Limit, amount_in_words, dollars_in_words};
pub use base_url::BaseUrl;
pub use breaker::BreakerConfig;
pub use concurrency::ConcurrencyConfig;
pub(crate) use declared::declared;
pub use followed_secret::{FollowedSecret, Look};
pub use forwarded::ForwardedHeader;
pub use groups::GroupConfig;
pub(crate) use groups::ReservedShares;
pub use guards::{GuardsConfig, OwnGuards};
pub use hedge::HedgeConfig;
pub use keys::KeysConfig;
pub use labels::{KEY_BYTES_MAX, KEYS_MAX, LabelsConfig, is_label_key};
pub(crate) use ledger::allowances;
pub use ledger::{LedgerConfig, Unpriced, Zone};
pub use limits::{Limits, Quota};
pub use live::LivePolicies;
pub use log::{LogConfig, LogFormat};
pub use metrics::MetricsConfig;
pub use pacing::PacingConfig;
pub use path_template::PathTemplate;
pub use pattern::Pattern;
pub use policies::Policies;
pub use prices::{PricesConfig, UpstreamPrices};
pub use proxy::{Proxy, ProxyConfig, ProxyKind};
pub use reader::Mistake;
pub use reference::reference;
pub use retry::RetryConfig;
pub use routes::{HeaderPattern, Ranks, RouteConfig, Routes, TargetConfig};
pub use schema::schema;
pub use secret::{NamedSecret, Secret, SecretSource};
pub use server::Server;
pub use show::Shown;
pub use spool::SpoolConfig;
pub use tenants::TenantConfig;
pub use tls::TlsConfig;
pub(crate) use upstream::known_url;
pub use upstream::{DEFAULT_POLICY, UpstreamConfig};

use crate::prices::{Prices, Terms};
use reader::{Document, Section};
use section::{Description, Table, Tables};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The file that is read when none is named, if it exists.
pub const DEFAULT_FILE: &str = "spillway.toml";

/// The name of the file of virtual keys in the data folder, unless another is named.
const KEY_FILE_NAME: &str = "keys.json";

/// Everything Spillway is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from, if any.
    pub file: Option<PathBuf>,
    /// The data plane.
    pub server: Server,
    /// The control plane.
    pub admin: Admin,
    /// Policies and their settings.
    pub policies: Policies,
    /// Upstreams by name. Never empty.
    pub upstreams: BTreeMap<String, UpstreamConfig>,
    /// Chains of targets, in the order in which they take requests.
    pub routes: Routes,
    /// Tenants by name, for those whose share differs from everybody's.
    pub tenants: BTreeMap<String, TenantConfig>,
    /// What is spent, and may be.
    pub ledger: LedgerConfig,
    /// Whose keys spend together.
    pub groups: BTreeMap<String, GroupConfig>,
    /// What tokens cost.
    pub prices: PricesConfig,
    /// Virtual keys.
    pub keys: KeysConfig,
    /// What stops agents that run away.
    pub guards: GuardsConfig,
    /// By what callers may have their cost told apart.
    pub labels: LabelsConfig,
    /// The durable queue, which may be switched off.
    pub spool: SpoolConfig,
    /// What the figures tell apart.
    pub metrics: MetricsConfig,
    /// What is said and recorded.
    pub log: LogConfig,
}

/// What a configuration is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To serve by it, or to say whether that is possible: the secrets that it names are read.
    Serve,
    /// For what it says: a shell in which somebody asks for that need not have the secrets.
    Look,
}

/// Parses a configuration by which to serve. Relative paths in it are relative to `folder`.
///
/// # Errors
/// Every mistake in it.
pub fn parse(text: &str, folder: &Path) -> Result<Config, Vec<Mistake>> {
    parse_for(Purpose::Serve, text, folder)
}

/// The same for what it says: the secrets that it names are not read.
///
/// # Errors
/// Every other mistake in it.
#[cfg(test)]
pub(crate) fn look(text: &str, folder: &Path) -> Result<Config, Vec<Mistake>> {
    parse_for(Purpose::Look, text, folder)
}

fn parse_for(purpose: Purpose, text: &str, folder: &Path) -> Result<Config, Vec<Mistake>> {
    let document = Document::new(text, folder, purpose);
    let table = document.parse();
    let root = Section::root(&document, &table);
    let config = Config::read(&root);
    root.finish();
    let mistakes = document.into_mistakes();
    if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
}

impl Config {
    fn read(root: &Section<'_>) -> Config {
        let log = LogConfig::read(root.section("log"));
        let keys = KeysConfig::read(root.section("keys"));
        let server = Server::read(root.section("server"), keys.required);
        let upstreams = upstream::read(root.section("upstreams"), server.request_timeout);
        let spool = SpoolConfig::read(root.section("spool"));
        // Whoever only looks may be about to make the first key. A disk is asked only where that matters.
        let has_access = server.has_access()
            || root.purpose() == Purpose::Look
            || upstreams.values().any(UpstreamConfig::has_keys) && has_keys(&keys, &spool);
        let guards = GuardsConfig::read(root.section("guards"));
        let routes = Routes::read(root.section("routes"), &upstreams, has_access);
        let groups = groups::read(root.section("groups"), &routes, &guards);
        let config = Config {
            file: None,
            admin: Admin::read(root.section("admin"), server.tls.is_on()),
            policies: Policies::read(root.section("policies"), &upstreams),
            server,
            upstreams,
            tenants: tenants::read(root.section("tenants"), &groups, &guards),
            ledger: LedgerConfig::read(root.section("ledger"), &routes),
            routes,
            groups,
            prices: PricesConfig::read(root.section("prices")),
            keys,
            guards,
            labels: LabelsConfig::read(root.section("labels")),
            spool,
            metrics: MetricsConfig::read(root.section("metrics")),
            log,
        };
        let (listen, admin) = (config.server.listen, config.admin.listen);
        let is_within = listen.ip() == admin.ip() || listen.ip().is_unspecified();
        if is_within && listen.port() == admin.port() && listen.port() != 0 {
            root.mistake("admin", "admin.listen and server.listen are the same address; give one of them another port");
        }
        config
    }

    /// Whether what is spent is kept: it is asked for, or something is limited by it.
    pub fn keeps_ledger(&self) -> bool {
        let LedgerConfig { enabled, limits, soft_limits, .. } = &self.ledger;
        *enabled || !limits.is_empty() || !soft_limits.is_empty() || !self.groups.is_empty() || self.keys.required
    }

    /// Which share of each upstream's places is reserved for whom.
    pub(crate) fn reserved_shares(&self) -> ReservedShares {
        // It was checked when it was read.
        ReservedShares::of(&self.groups, |_, _, _| {})
    }

    /// What tokens cost by it, and why a file of prices is not used, if it is not.
    pub(crate) fn read_prices(&self) -> (Prices, Option<String>) {
        let terms = |(name, upstream): (&String, &UpstreamConfig)| -> (String, Terms) {
            (name.clone(), upstream.prices.terms(upstream.url.host(), upstream.dialect))
        };
        let terms = self.upstreams.iter().map(terms).collect();
        match self.prices.files().read() {
            Ok(read) => (Prices::new(terms, read), None),
            Err(mistakes) => (Prices::new(terms, Default::default()), Some(mistakes.to_string())),
        }
    }

    /// Where virtual keys are kept.
    pub fn key_file(&self) -> PathBuf {
        key_file(&self.keys, &self.spool)
    }

    /// Whether anybody can show that he may spend keys of Spillway's own.
    pub fn has_access(&self) -> bool {
        self.server.has_access() || has_keys(&self.keys, &self.spool)
    }

    /// The durable queue, if there is one.
    pub fn spool(&self) -> Option<&SpoolConfig> {
        Some(&self.spool).filter(|spool| spool.enabled)
    }
}

/// Where virtual keys are kept.
fn key_file(keys: &KeysConfig, spool: &SpoolConfig) -> PathBuf {
    keys.file.clone().unwrap_or_else(|| spool.dir.join(KEY_FILE_NAME))
}

/// Whether there are virtual keys, or are to be.
fn has_keys(keys: &KeysConfig, spool: &SpoolConfig) -> bool {
    keys.required || key_file(keys, spool).exists()
}

/// The sections, in the order in which people read them.
impl Table for Config {
    fn describe() -> Description {
        let tables = vec![
            ("server", Server::describe()),
            ("admin", Admin::describe()),
            ("policies", Policies::describe()),
            ("upstreams", BTreeMap::<String, UpstreamConfig>::describe()),
            ("routes", Routes::describe()),
            ("tenants", BTreeMap::<String, TenantConfig>::describe()),
            ("ledger", LedgerConfig::describe()),
            ("groups", BTreeMap::<String, GroupConfig>::describe()),
            ("prices", PricesConfig::describe()),
            ("keys", KeysConfig::describe()),
            ("guards", GuardsConfig::describe()),
            ("labels", LabelsConfig::describe()),
            ("spool", SpoolConfig::describe()),
            ("metrics", MetricsConfig::describe()),
            ("log", LogConfig::describe()),
        ];
        Description { doc: String::new(), keys: Vec::new(), tables: Tables::These(tables) }
    }

    fn entries(&self) -> Vec<(Cow<'_, str>, Option<toml::Value>)> {
        Vec::new()
    }

    fn tables(&self) -> Vec<(Cow<'_, str>, &dyn Table)> {
        vec![
            ("server".into(), &self.server),
            ("admin".into(), &self.admin),
            ("policies".into(), &self.policies),
            ("upstreams".into(), &self.upstreams),
            ("routes".into(), &self.routes),
            ("tenants".into(), &self.tenants),
            ("ledger".into(), &self.ledger),
            ("groups".into(), &self.groups),
            ("prices".into(), &self.prices),
            ("keys".into(), &self.keys),
            ("guards".into(), &self.guards),
            ("labels".into(), &self.labels),
            ("spool".into(), &self.spool),
            ("metrics".into(), &self.metrics),
            ("log".into(), &self.log),
        ]
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
    pub fn load(file: Option<&Path>, purpose: Purpose) -> Result<Config, ConfigError> {
        let (path, text) = match text_of(file)? {
            Some((path, text)) => (Some(path), text),
            None => (None, String::new()),
        };
        let folder = path.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        match parse_for(purpose, &text, folder) {
            Ok(config) => Ok(Config { file: path, ..config }),
            Err(mistakes) => Err(ConfigError::Wrong { path: path.unwrap_or(DEFAULT_FILE.into()), mistakes }),
        }
    }
}

/// The file that is named, or else [`DEFAULT_FILE`] if it exists, with its text.
fn text_of(file: Option<&Path>) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let path = match file {
        Some(path) => path,
        None if Path::new(DEFAULT_FILE).exists() => Path::new(DEFAULT_FILE),
        None => return Ok(None),
    };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.to_owned(), text))),
        Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests;
