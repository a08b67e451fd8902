//! From TOML to [`Config`]: which keys there are, what they may hold, and what they default to.

use super::reader::{Document, Section, nearest};
use super::upstreams::{fixed_concurrency, upstreams};
use super::{Config, LogFormat, Mistake, Policies, Quota, Server, SpoolConfig, TenantConfig, UpstreamConfig, defaults};
use crate::policy::{PREVIOUS_SUFFIX, PublicKey, SHADOW_SUFFIX, Sha256Sum, Trust};
use crate::tenants::guard;
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
/// Smallest bound on bodies: below it hardly a question fits with its model and its parameters.
const BODY_BYTES_MIN: u64 = 1 << 10;
/// Smallest spool: a job counts 1 KiB besides its texts, so fewer bytes would keep next to nothing.
const SPOOL_BYTES_MIN: u64 = 1 << 20;
/// Shortest time for which jobs and answers are kept: below it they are gone before anybody has looked again.
const KEPT_MIN: Duration = Duration::from_secs(1);

fn read(root: &Section<'_>, folder: &Path) -> Config {
    let (log, recording) = log(root.section("log"), folder);
    let server = server(root.section("server"));
    let upstreams = upstreams(root.section("upstreams"), folder, server.request_timeout);
    let config = Config {
        file: None,
        admin_listen: admin(root.section("admin")),
        policies: policies(root.section("policies"), folder, &upstreams),
        server,
        upstreams,
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
        max_body: usize::try_from(defaults::BODY_BYTES_MAX).unwrap_or(usize::MAX),
        max_in_flight: defaults::IN_FLIGHT_MAX,
        max_held: defaults::HELD_BYTES_MAX,
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
    if let Some(bytes) = section.size("max_body", BODY_BYTES_MIN) {
        server.max_body = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    set(&mut server.max_in_flight, section.integer("max_in_flight", 1..=1_000_000));
    set(&mut server.max_held, section.size("max_held", BODY_BYTES_MIN));
    let room = server.max_held as f64 * ShedSettings::DEFAULT_NORMAL;
    if room < server.max_body as f64 {
        section.mistake("max_held", "must leave room for max_body below the share at which requests are shed (85 %)");
    }
    set(&mut server.request_timeout, section.positive("request_timeout"));
    set(&mut server.head_timeout, section.positive("head_timeout"));
    set(&mut server.body_timeout, section.positive("body_timeout"));
    set(&mut server.write_timeout, section.positive("write_timeout"));
    set(&mut server.keep_alive_timeout, section.positive("keep_alive_timeout"));
    let drain_timeout = section.duration("drain_timeout");
    if drain_timeout.is_some_and(|longer| longer > server.request_timeout) {
        let said = "must not be longer than server.request_timeout, after which no request is under way any more";
        section.mistake("drain_timeout", said);
    }
    server.drain_timeout = drain_timeout.unwrap_or(server.drain_timeout.min(server.request_timeout));
    server.allowed_hosts = section.strings("allowed_hosts", guard::host);
    server.allowed_origins = section.strings("allowed_origins", guard::origin);
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

fn policies(section: Option<Section<'_>>, folder: &Path, upstreams: &BTreeMap<String, UpstreamConfig>) -> Policies {
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
    let sha256 =
        |text: &str| Sha256Sum::from_hex(text).ok_or(format!("\"{text}\" is no SHA-256: 64 hexadecimal digits"));
    policies.trust.allowed.extend(section.strings("allow", sha256));
    let key = |text: &str| {
        PublicKey::from_hex(text).ok_or(format!("\"{text}\" is no ed25519 public key: 64 hexadecimal digits"))
    };
    policies.trust.signers.extend(section.strings("signers", key));
    let is_file = |name: &str| {
        name.contains('/') || [".wasm", SHADOW_SUFFIX, PREVIOUS_SUFFIX].iter().any(|suffix| name.ends_with(suffix))
    };
    let name = |name: &str| match is_file(name) {
        true => Err(format!("\"{name}\" is no policy's name: a file's without its folder, {SHADOW_SUFFIX} and .wasm")),
        false => known_policy(name, upstreams, &policies.dir).map(|()| name.to_owned()),
    };
    policies.interpreted = section.strings("interpreted", name).into_iter().collect();
    if let Some(settings) = section.section("settings") {
        for (name, table) in settings.named_sections() {
            if let Err(message) = known_policy(&name, upstreams, &policies.dir) {
                table.mistake("", message);
            }
            policies.settings.insert(name, table.to_json().to_string());
        }
    }
    section.finish();
    policies
}

/// Whether what is said about the policy of this name can be of use: an upstream names it, so that it is asked as soon as
/// its file is there, or one of its files lies in the folder, and may be checked, compared or brought back.
fn known_policy(name: &str, upstreams: &BTreeMap<String, UpstreamConfig>, dir: &Path) -> Result<(), String> {
    let named: BTreeSet<&str> = upstreams.values().map(|upstream| upstream.policy.as_str()).collect();
    let has_file =
        || ["", SHADOW_SUFFIX, PREVIOUS_SUFFIX].iter().any(|role| dir.join(format!("{name}{role}.wasm")).exists());
    if named.contains(name) || has_file() {
        return Ok(());
    }
    let named: Vec<&str> = named.into_iter().collect();
    Err(match nearest(name, &named) {
        Some(meant) => format!("no upstream has the policy \"{name}\"; did you mean \"{meant}\"?"),
        None => format!("no upstream has the policy \"{name}\", and {} holds no file of it", dir.display()),
    })
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
        max_in_flight: fixed_concurrency(&section, "max_in_flight"),
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
        max_jobs: defaults::SPOOL_JOBS_MAX,
        max_size: defaults::SPOOL_BYTES_MAX,
        retention: defaults::SPOOL_RETENTION,
        expiry: defaults::SPOOL_EXPIRY,
        max_attempts: defaults::SPOOL_ATTEMPTS_MAX,
        concurrency: defaults::SPOOL_CONCURRENCY,
    };
    let Some(section) = section else { return Some(spool) };
    let enabled = section.boolean("enabled", true);
    if let Some(dir) = section.string("dir") {
        spool.dir = folder.join(dir);
    }
    set(&mut spool.max_jobs, section.integer("max_jobs", 1..=100_000_000));
    set(&mut spool.max_size, section.size("max_size", SPOOL_BYTES_MIN));
    set(&mut spool.retention, section.at_least("retention", KEPT_MIN));
    set(&mut spool.expiry, section.at_least("expiry", KEPT_MIN));
    set(&mut spool.max_attempts, section.small("max_attempts", 1..=1_000));
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
