//! From TOML to [`Config`]: which keys there are, what they may hold, and what they default to.

use super::reader::{Document, Section};
use super::upstreams::{fixed_concurrency, upstreams};
use super::{Config, LogFormat, Mistake, Policies, Quota, Server, SpoolConfig, TenantConfig, defaults};
use crate::policy::{PREVIOUS_SUFFIX, PublicKey, SHADOW_SUFFIX, Sha256Sum, Trust};
use spillway_resilience::{Priority, ShedSettings, Tenant};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Parses a configuration. Relative paths in it are relative to `folder`.
///
/// # Errors
/// Every mistake in it.
pub fn parse(text: &str, folder: &Path) -> Result<Config, Vec<Mistake>> {
    let document = Document::new(text);
    let table = document.parse();
    let root = Section::root(&document, &table);
    let config = read(&root, folder);
    root.finish();
    let mistakes = document.into_mistakes();
    if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
}

/// Largest quota per minute that makes sense to write down.
pub(super) const QUOTA_MAX: u64 = 1_000_000_000;

fn read(root: &Section<'_>, folder: &Path) -> Config {
    let (log, recording) = log(root.section("log"), folder);
    let config = Config {
        file: None,
        server: server(root.section("server")),
        admin_listen: admin(root.section("admin")),
        policies: policies(root.section("policies"), folder),
        upstreams: upstreams(root.section("upstreams"), folder),
        tenants: tenants(root.section("tenants")),
        spool: spool(root.section("spool"), folder),
        log,
        recording,
    };
    if config.server.listen == config.admin_listen && config.server.listen.port() != 0 {
        root.mistake("admin", "admin.listen and server.listen are the same address");
    }
    config
}

fn server(section: Option<Section<'_>>) -> Server {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut server = Server {
        listen: fixed_address(defaults::LISTEN),
        workers,
        body_bytes_max: usize::try_from(defaults::BODY_BYTES_MAX).unwrap_or(usize::MAX),
        in_flight_max: defaults::IN_FLIGHT_MAX,
        held_bytes_max: defaults::HELD_BYTES_MAX,
        request_timeout: defaults::REQUEST_TIMEOUT,
        head_timeout: defaults::HEAD_TIMEOUT,
        body_timeout: defaults::BODY_TIMEOUT,
        write_timeout: defaults::WRITE_TIMEOUT,
        keep_alive_timeout: defaults::KEEP_ALIVE_TIMEOUT,
        drain_timeout: defaults::DRAIN_TIMEOUT,
        allowed_hosts: Vec::new(),
        allowed_origins: Vec::new(),
    };
    let Some(section) = section else { return server };
    server.listen = address(&section, "listen", server.listen);
    if let Some(workers) = section.small("workers", 1..=256) {
        server.workers = usize::try_from(workers).unwrap_or(1);
    }
    if let Some(bytes) = section.size("max_body") {
        if bytes == 0 {
            section.mistake("max_body", "must be larger than zero");
        }
        server.body_bytes_max = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    set(&mut server.in_flight_max, section.integer("max_in_flight", 1..=1_000_000));
    set(&mut server.held_bytes_max, section.size("max_held"));
    let room = server.held_bytes_max as f64 * ShedSettings::DEFAULT_NORMAL;
    if room < server.body_bytes_max as f64 {
        section.mistake("max_held", "must leave room for max_body below the share at which requests are shed (85 %)");
    }
    set(&mut server.request_timeout, positive(&section, "request_timeout"));
    set(&mut server.head_timeout, positive(&section, "head_timeout"));
    set(&mut server.body_timeout, positive(&section, "body_timeout"));
    set(&mut server.write_timeout, positive(&section, "write_timeout"));
    set(&mut server.keep_alive_timeout, positive(&section, "keep_alive_timeout"));
    set(&mut server.drain_timeout, section.duration("drain_timeout"));
    server.allowed_hosts = section.strings("allowed_hosts");
    server.allowed_origins = section.strings("allowed_origins");
    section.finish();
    server
}

fn admin(section: Option<Section<'_>>) -> SocketAddr {
    let listen = fixed_address(defaults::ADMIN_LISTEN);
    let Some(section) = section else { return listen };
    let listen = address(&section, "listen", listen);
    section.finish();
    listen
}

fn policies(section: Option<Section<'_>>, folder: &Path) -> Policies {
    let mut policies = Policies {
        dir: folder.join(defaults::POLICY_DIR),
        trust: Trust::default(),
        cache_dir: Some(folder.join(defaults::POLICY_CACHE_DIR)),
        interpreted: BTreeSet::new(),
        settings: BTreeMap::new(),
    };
    let Some(section) = section else { return policies };
    if let Some(dir) = section.string("dir") {
        policies.dir = folder.join(dir);
    }
    if let Some(dir) = section.string("cache_dir") {
        // An empty name switches the cache off.
        policies.cache_dir = (!dir.is_empty()).then(|| folder.join(dir));
    }
    for text in section.strings("allow") {
        match Sha256Sum::from_hex(&text) {
            Some(sha256) => drop(policies.trust.allowed.insert(sha256)),
            None => section.mistake("allow", format!("\"{text}\" is no SHA-256: 64 hexadecimal digits")),
        }
    }
    for text in section.strings("signers") {
        match PublicKey::from_hex(&text) {
            Some(key) => policies.trust.signers.push(key),
            None => section.mistake("signers", format!("\"{text}\" is no ed25519 public key: 64 hexadecimal digits")),
        }
    }
    policies.interpreted = section.strings("interpreted").into_iter().collect();
    let is_file = |name: &&String| {
        name.contains('/') || [".wasm", SHADOW_SUFFIX, PREVIOUS_SUFFIX].iter().any(|suffix| name.ends_with(suffix))
    };
    for file in policies.interpreted.iter().filter(is_file) {
        let said = format!("\"{file}\" is no policy's name: a file's without its folder, {SHADOW_SUFFIX} and .wasm");
        section.mistake("interpreted", said);
    }
    if let Some(settings) = section.section("settings") {
        for (name, table) in settings.named_sections() {
            policies.settings.insert(name, table.to_json().to_string());
        }
    }
    section.finish();
    policies
}

fn tenants(section: Option<Section<'_>>) -> BTreeMap<String, TenantConfig> {
    let named = section.as_ref().map(Section::named_sections).unwrap_or_default();
    named.into_iter().map(|(name, section)| (name.clone(), tenant(&name, section))).collect()
}

fn tenant(name: &str, section: Section<'_>) -> TenantConfig {
    let plain = name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') && name == name.trim();
    if name.is_empty() || !plain {
        section.mistake("", "a tenant is named in a header: its name has visible ASCII characters only");
    }
    let mut tenant = TenantConfig {
        weight: 1,
        priority: None,
        quota: quota(&section),
        in_flight_max: fixed_concurrency(&section, "max_in_flight"),
    };
    set(&mut tenant.weight, section.small("weight", 1..=Tenant::WEIGHT_MAX));
    if let Some(word) = section.string("priority") {
        tenant.priority = Priority::ALL.into_iter().find(|priority| priority.as_str() == word);
        if tenant.priority.is_none() {
            section.mistake("priority", format!("must be high, normal or low, not \"{word}\""));
        }
    }
    section.finish();
    tenant
}

/// Requests and tokens per minute.
pub(super) fn quota(section: &Section<'_>) -> Quota {
    Quota {
        requests_per_minute: section.integer("requests_per_minute", 1..=QUOTA_MAX),
        tokens_per_minute: section.integer("tokens_per_minute", 1..=QUOTA_MAX),
    }
}

fn spool(section: Option<Section<'_>>, folder: &Path) -> Option<SpoolConfig> {
    let mut spool = SpoolConfig {
        dir: folder.join(defaults::DATA_DIR),
        jobs_max: defaults::SPOOL_JOBS_MAX,
        bytes_max: defaults::SPOOL_BYTES_MAX,
        retention: defaults::SPOOL_RETENTION,
        expiry: defaults::SPOOL_EXPIRY,
        attempts_max: defaults::SPOOL_ATTEMPTS_MAX,
        concurrency: defaults::SPOOL_CONCURRENCY,
    };
    let Some(section) = section else { return Some(spool) };
    let enabled = section.boolean("enabled", true);
    if let Some(dir) = section.string("dir") {
        spool.dir = folder.join(dir);
    }
    set(&mut spool.jobs_max, section.integer("max_jobs", 1..=100_000_000));
    set(&mut spool.bytes_max, section.size("max_size"));
    set(&mut spool.retention, positive(&section, "retention"));
    set(&mut spool.expiry, positive(&section, "expiry"));
    set(&mut spool.attempts_max, section.small("max_attempts", 1..=1_000));
    set(&mut spool.concurrency, section.small("concurrency", 1..=1_000));
    section.finish();
    enabled.then_some(spool)
}

fn log(section: Option<Section<'_>>, folder: &Path) -> (LogFormat, Option<PathBuf>) {
    let Some(section) = section else { return (LogFormat::Text, None) };
    let format = match section.string("format").as_deref() {
        None | Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(other) => {
            section.mistake("format", format!("must be text or json, not \"{other}\""));
            LogFormat::Text
        }
    };
    // As with other names of files, an empty one switches it off.
    let requests = section.string("requests").filter(|file| !file.is_empty());
    section.finish();
    (format, requests.map(|file| folder.join(file)))
}

pub(super) fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

pub(super) fn positive(section: &Section<'_>, key: &'static str) -> Option<Duration> {
    let duration = section.duration(key)?;
    if duration.is_zero() {
        section.mistake(key, "must be longer than zero");
        return None;
    }
    Some(duration)
}

fn address(section: &Section<'_>, key: &'static str, default: SocketAddr) -> SocketAddr {
    let Some(text) = section.string(key) else { return default };
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => address,
        Ok(_) => {
            // Whoever reaches Spillway spends the keys that pass through it.
            section.mistake(key, "must be a loopback address: Spillway has no access control for others yet");
            default
        }
        Err(_) => {
            section
                .mistake(key, format!("expected an address and a port, such as \"127.0.0.1:4141\", found \"{text}\""));
            default
        }
    }
}

fn fixed_address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)))
}
