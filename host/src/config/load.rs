//! From TOML to [`Config`]: which keys there are, what they may hold, and what they default to.

use super::reader::{Document, Section};
use super::{BaseUrl, Config, Limits, LogFormat, Mistake, Policies, Server, SpoolConfig, UpstreamConfig, defaults};
use crate::dialect::Dialect;
use spillway_resilience::{BreakerSettings, RetryBudgetSettings, RetrySettings, WindowKind};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
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

fn read(root: &Section<'_>, folder: &Path) -> Config {
    let config = Config {
        server: server(root.section("server")),
        admin_listen: admin(root.section("admin")),
        policies: policies(root.section("policies"), folder),
        upstreams: upstreams(root.section("upstreams")),
        spool: spool(root.section("spool"), folder),
        log: log(root.section("log")),
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
        request_timeout: defaults::REQUEST_TIMEOUT,
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
    set(&mut server.request_timeout, positive(&section, "request_timeout"));
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
    let mut policies = Policies { dir: folder.join(defaults::POLICY_DIR), settings: BTreeMap::new() };
    let Some(section) = section else { return policies };
    if let Some(dir) = section.string("dir") {
        policies.dir = folder.join(dir);
    }
    if let Some(settings) = section.section("settings") {
        for (name, table) in settings.named_sections() {
            policies.settings.insert(name, table.to_json().to_string());
        }
    }
    section.finish();
    policies
}

/// First words of paths that mean something by themselves.
const RESERVED_NAMES: [&str; 9] =
    ["v1", "v1beta", "spillway", "chat", "responses", "completions", "embeddings", "models", "messages"];

/// The three providers that need no configuration, with whatever the file says on top.
fn upstreams(section: Option<Section<'_>>) -> BTreeMap<String, UpstreamConfig> {
    let known = [
        ("openai", "https://api.openai.com", Dialect::OpenAi),
        ("anthropic", "https://api.anthropic.com", Dialect::Anthropic),
        ("gemini", "https://generativelanguage.googleapis.com", Dialect::Gemini),
    ];
    let mut upstreams: BTreeMap<String, UpstreamConfig> = known
        .into_iter()
        .filter_map(|(name, url, dialect)| Some((name.to_owned(), fresh(BaseUrl::parse(url).ok()?, dialect))))
        .collect();
    let Some(section) = section else { return upstreams };
    for (name, table) in section.named_sections() {
        let existing = upstreams.remove(&name);
        if let Some(upstream) = upstream(&name, &table, existing) {
            upstreams.insert(name, upstream);
        }
        table.finish();
    }
    upstreams
}

fn fresh(base: BaseUrl, dialect: Dialect) -> UpstreamConfig {
    let mut upstream = UpstreamConfig {
        base,
        dialect,
        policy: defaults::POLICY.to_owned(),
        connect_timeout: defaults::CONNECT_TIMEOUT,
        first_content_timeout: defaults::FIRST_CONTENT_TIMEOUT,
        idle_timeout: defaults::IDLE_TIMEOUT,
        breaker: BreakerSettings::default(),
        retry: RetrySettings::default(),
        retry_budget: RetryBudgetSettings::default(),
        limits: Limits { default_output_tokens: defaults::OUTPUT_TOKENS, ..Limits::default() },
    };
    lease_probes(&mut upstream);
    upstream
}

/// A probe must be let finish: it may take as long as any other call.
fn lease_probes(upstream: &mut UpstreamConfig) {
    upstream.breaker.probe_lease = upstream.connect_timeout + upstream.first_content_timeout;
    upstream.breaker.half_open_max_wait = 2 * upstream.breaker.probe_lease;
}

fn upstream(name: &str, section: &Section<'_>, existing: Option<UpstreamConfig>) -> Option<UpstreamConfig> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        section.mistake("", "an upstream's name is part of URLs: it has lower-case letters, digits, - and _ only");
    } else if RESERVED_NAMES.contains(&name) {
        section.mistake("", "the providers' own paths begin with this word: an upstream needs another name");
    }
    let url = section.string("url").and_then(|url| match BaseUrl::parse(&url) {
        Ok(base) => Some(base),
        Err(message) => {
            section.mistake("url", message);
            None
        }
    });
    let dialect = section.string("dialect").and_then(|word| {
        let dialect = Dialect::from_word(&word);
        if dialect.is_none() {
            section.mistake("dialect", format!("must be openai, anthropic, gemini or other, not \"{word}\""));
        }
        dialect
    });
    let mut upstream = match (existing, url) {
        (Some(mut existing), url) => {
            set(&mut existing.base, url);
            existing
        }
        (None, Some(base)) => fresh(base, Dialect::OpenAi),
        (None, None) => {
            if !section.has("url") {
                section.mistake("url", "missing; where is this upstream?");
            }
            // Read on with a stand-in, so that the mistakes below it are reported too.
            fresh(BaseUrl::parse("http://unknown.invalid").ok()?, Dialect::OpenAi)
        }
    };
    set(&mut upstream.dialect, dialect);
    set(&mut upstream.policy, section.string("policy"));
    set(&mut upstream.connect_timeout, positive(section, "connect_timeout"));
    set(&mut upstream.first_content_timeout, positive(section, "first_content_timeout"));
    set(&mut upstream.idle_timeout, positive(section, "idle_timeout"));
    lease_probes(&mut upstream);
    breaker(section.section("breaker"), &mut upstream.breaker);
    retry(section.section("retry"), &mut upstream.retry, &mut upstream.retry_budget);
    limits(section.section("limits"), &mut upstream.limits);
    Some(upstream)
}

fn breaker(section: Option<Section<'_>>, settings: &mut BreakerSettings) {
    let Some(section) = section else { return };
    if let Some(count) = section.small("consecutive_failures", 0..=1_000_000) {
        settings.consecutive_failures = (count > 0).then_some(count);
    }
    if let Some(rate) = section.share("failure_rate") {
        settings.failure_rate = (rate > 0.0).then_some(rate);
    }
    set(&mut settings.minimum_requests, section.small("minimum_requests", 1..=1_000_000));
    if let Some(rate) = section.share("slow_call_rate") {
        settings.slow_call_rate = (rate > 0.0).then_some(rate);
    }
    set(&mut settings.slow_call_duration, positive(&section, "slow_call_duration"));
    set(&mut settings.window, positive(&section, "window").map(WindowKind::Time));
    set(&mut settings.probes, section.small("probes", 1..=BreakerSettings::PROBES_MAX));
    set(&mut settings.probe_successes, section.small("probe_successes", 1..=1_000));
    set(&mut settings.cooldown_base, positive(&section, "cooldown"));
    set(&mut settings.cooldown_cap, positive(&section, "cooldown_max"));
    set(&mut settings.cooldown_jitter, section.share("cooldown_jitter"));
    for mistake in settings.validate() {
        let key = match mistake.field {
            "cooldown_base" => "cooldown",
            "cooldown_cap" => "cooldown_max",
            field => field,
        };
        section.mistake(key, mistake.message);
    }
    section.finish();
}

fn retry(section: Option<Section<'_>>, settings: &mut RetrySettings, budget: &mut RetryBudgetSettings) {
    let Some(section) = section else { return };
    set(&mut settings.max_attempts, section.small("max_attempts", 1..=RetrySettings::MAX_ATTEMPTS_MAX));
    set(&mut settings.backoff.base, positive(&section, "backoff"));
    set(&mut settings.backoff.cap, positive(&section, "backoff_max"));
    set(&mut budget.ratio, section.share("budget_ratio"));
    for mistake in settings.validate() {
        let key = match mistake.field {
            "base" => "backoff",
            "cap" => "backoff_max",
            field => field,
        };
        section.mistake(key, mistake.message);
    }
    section.finish();
}

fn limits(section: Option<Section<'_>>, limits: &mut Limits) {
    let Some(section) = section else { return };
    const MOST: u64 = 1_000_000_000;
    limits.requests_per_minute = section.integer("requests_per_minute", 1..=MOST);
    limits.tokens_per_minute = section.integer("tokens_per_minute", 1..=MOST);
    set(&mut limits.default_output_tokens, section.integer("default_output_tokens", 0..=MOST));
    section.finish();
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

fn log(section: Option<Section<'_>>) -> LogFormat {
    let Some(section) = section else { return LogFormat::Text };
    let format = match section.string("format").as_deref() {
        None | Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(other) => {
            section.mistake("format", format!("must be text or json, not \"{other}\""));
            LogFormat::Text
        }
    };
    section.finish();
    format
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn positive(section: &Section<'_>, key: &'static str) -> Option<Duration> {
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
