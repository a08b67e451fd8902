//! The upstreams of a configuration: the three that need none, and whatever the file says of them and of others.

use super::load::{QUOTA_MAX, quota, set};
use super::reader::Section;
use super::{BaseUrl, ConcurrencyConfig, Limits, ProxyConfig, UpstreamConfig, defaults};
use crate::dialect::Dialect;
use crate::upstream::client::{Proxy, certificates_in};
use rustls::pki_types::CertificateDer;
use spillway_resilience::{
    AdaptiveLimitSettings, BreakerKind, BreakerSettings, FairQueueSettings, HedgeSettings, PacerSettings, ProbeSpacing,
    RetryBudgetSettings, RetrySettings, WindowKind,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// First words of paths that mean something by themselves.
const RESERVED_NAMES: [&str; 9] =
    ["v1", "v1beta", "spillway", "chat", "responses", "completions", "embeddings", "models", "messages"];

/// The setting that ends every request.
const REQUEST_TIMEOUT: &str = "server.request_timeout";

/// The three providers that need no configuration, with whatever the file says on top. No request lives longer than
/// `request_timeout`.
pub(super) fn upstreams(
    section: Option<Section<'_>>,
    folder: &Path,
    request_timeout: Duration,
) -> BTreeMap<String, UpstreamConfig> {
    let known = [
        ("openai", "https://api.openai.com", Dialect::OpenAi),
        ("anthropic", "https://api.anthropic.com", Dialect::Anthropic),
        ("gemini", "https://generativelanguage.googleapis.com", Dialect::Gemini),
    ];
    let mut upstreams: BTreeMap<String, UpstreamConfig> = known
        .into_iter()
        .filter_map(|(name, url, dialect)| {
            Some((name.to_owned(), fresh(BaseUrl::parse(url).ok()?, dialect, request_timeout)))
        })
        .collect();
    let Some(section) = section else { return upstreams };
    for (name, table) in section.named_sections() {
        let existing = upstreams.remove(&name);
        if let Some(upstream) = upstream(&name, &table, folder, existing, request_timeout) {
            upstreams.insert(name, upstream);
        }
        table.finish();
    }
    upstreams
}

fn fresh(base: BaseUrl, dialect: Dialect, request_timeout: Duration) -> UpstreamConfig {
    let mut upstream = UpstreamConfig {
        base,
        dialect,
        proxy: ProxyConfig::OfEnvironment,
        authorities: Vec::new(),
        policy: defaults::POLICY.to_owned(),
        connect_timeout: defaults::CONNECT_TIMEOUT.min(request_timeout),
        first_content_timeout: defaults::FIRST_CONTENT_TIMEOUT.min(request_timeout),
        idle_timeout: defaults::IDLE_TIMEOUT.min(request_timeout),
        ask_for_usage: true,
        honours_idempotency_keys: false,
        breaker_kind: BreakerKind::Adaptive,
        breaker: BreakerSettings::adaptive(),
        watch_only: false,
        retry: RetrySettings::default(),
        retry_budget: RetryBudgetSettings::default(),
        hedge_budget: RetryBudgetSettings::for_hedges(),
        pacing: PacerSettings::default(),
        hedge: HedgeSettings::default(),
        limits: Limits { patience: defaults::PATIENCE.min(request_timeout), ..Limits::default() },
        concurrency: ConcurrencyConfig::Adaptive(AdaptiveLimitSettings::default()),
    };
    lease_probes(&mut upstream);
    upstream
}

/// A probe must be let finish: it may take as long as any other call.
fn lease_probes(upstream: &mut UpstreamConfig) {
    upstream.breaker.probe_lease = upstream.connect_timeout + upstream.first_content_timeout;
    upstream.breaker.half_open_max_wait = 2 * upstream.breaker.probe_lease;
}

fn upstream(
    name: &str,
    section: &Section<'_>,
    folder: &Path,
    existing: Option<UpstreamConfig>,
    request_timeout: Duration,
) -> Option<UpstreamConfig> {
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
        (None, Some(base)) => fresh(base, Dialect::OpenAi, request_timeout),
        (None, None) => {
            if !section.has("url") {
                section.mistake("url", "missing; where is this upstream?");
            }
            // Read on with a stand-in, so that the mistakes below it are reported too.
            fresh(BaseUrl::parse("http://unknown.invalid").ok()?, Dialect::OpenAi, request_timeout)
        }
    };
    set(&mut upstream.dialect, dialect);
    set(&mut upstream.proxy, proxy(section));
    set(&mut upstream.authorities, authorities(section, folder));
    set(&mut upstream.policy, section.string("policy"));
    let outer = (REQUEST_TIMEOUT, request_timeout);
    section.within("connect_timeout", &mut upstream.connect_timeout, outer);
    section.within("first_content_timeout", &mut upstream.first_content_timeout, outer);
    section.within("idle_timeout", &mut upstream.idle_timeout, outer);
    upstream.ask_for_usage = section.boolean("ask_for_usage", upstream.ask_for_usage);
    upstream.honours_idempotency_keys = section.boolean("honours_idempotency_keys", upstream.honours_idempotency_keys);
    breaker(section.section("breaker"), &mut upstream, request_timeout);
    lease_probes(&mut upstream);
    retry(section.section("retry"), &mut upstream.retry, &mut upstream.retry_budget, outer);
    let first_content = ("first_content_timeout", upstream.first_content_timeout);
    hedge(section.section("hedge"), &mut upstream.hedge, &mut upstream.hedge_budget, first_content);
    pacing(section.section("pacing"), &mut upstream.pacing);
    limits(section.section("limits"), &mut upstream.limits, outer);
    concurrency(section.section("concurrency"), &mut upstream.concurrency);
    Some(upstream)
}

/// An empty one switches off what the environment says.
fn proxy(section: &Section<'_>) -> Option<ProxyConfig> {
    let url = section.string("proxy")?;
    if url.is_empty() {
        return Some(ProxyConfig::None);
    }
    match Proxy::parse(&url) {
        Ok(proxy) => Some(ProxyConfig::Through(proxy)),
        Err(message) => {
            section.mistake("proxy", message);
            None
        }
    }
}

fn authorities(section: &Section<'_>, folder: &Path) -> Option<Vec<CertificateDer<'static>>> {
    let file = section.string("ca_file").filter(|file| !file.is_empty())?;
    match certificates_in(&folder.join(file)) {
        Ok(certificates) => Some(certificates),
        Err(message) => {
            section.mistake("ca_file", message);
            None
        }
    }
}

/// What only a plain breaker has, and what only an adaptive one.
const PLAIN_KEYS: [&str; 9] = [
    "consecutive_failures",
    "failure_rate",
    "minimum_requests",
    "window",
    "probes",
    "probe_successes",
    "cooldown",
    "cooldown_max",
    "cooldown_jitter",
];
const ADAPTIVE_KEYS: [&str; 3] = ["probe_interval", "probe_interval_share", "probe_interval_max"];

/// The kind that is named, or else the one whose keys are there.
fn breaker_kind(section: &Section<'_>) -> BreakerKind {
    let has = |keys: &[&'static str]| keys.iter().copied().filter(|key| section.has(key)).collect::<Vec<_>>();
    let (kind, strangers) = match section.string("kind").as_deref() {
        Some("adaptive") => (BreakerKind::Adaptive, has(&PLAIN_KEYS)),
        Some("plain") => (BreakerKind::Plain, has(&ADAPTIVE_KEYS)),
        None if !has(&PLAIN_KEYS).is_empty() => (BreakerKind::Plain, has(&ADAPTIVE_KEYS)),
        None => (BreakerKind::Adaptive, Vec::new()),
        Some(other) => {
            section.mistake("kind", format!("must be adaptive or plain, not \"{other}\""));
            (BreakerKind::Adaptive, Vec::new())
        }
    };
    for key in strangers {
        let (word, other) = match kind {
            BreakerKind::Adaptive => ("adaptive", "plain"),
            BreakerKind::Plain => ("plain", "adaptive"),
        };
        section.mistake(key, format!("means nothing to a breaker of kind \"{word}\"; it is for kind = \"{other}\""));
    }
    kind
}

fn breaker(section: Option<Section<'_>>, upstream: &mut UpstreamConfig, request_timeout: Duration) {
    let Some(section) = section else { return };
    upstream.breaker_kind = breaker_kind(&section);
    let first_content = ("first_content_timeout", upstream.first_content_timeout);
    let settings = &mut upstream.breaker;
    *settings = match upstream.breaker_kind {
        BreakerKind::Adaptive => BreakerSettings::adaptive(),
        BreakerKind::Plain => BreakerSettings::default(),
    };
    let on = |share: f64| (share > 0.0).then_some(share);
    if let Some(count) = section.small("consecutive_failures", 0..=1_000_000) {
        settings.consecutive_failures = (count > 0).then_some(count);
    }
    if let Some(rate) = section.share("failure_rate") {
        settings.failure_rate = on(rate);
    }
    set(&mut settings.minimum_requests, section.small("minimum_requests", 1..=1_000_000));
    if let Some(rate) = section.share("slow_call_rate") {
        settings.slow_call_rate = on(rate);
    }
    section.within("slow_call_duration", &mut settings.slow_call_duration, first_content);
    set(
        &mut settings.window,
        section.duration_or_count("window").map(|window| match window {
            Ok(duration) => WindowKind::Time(duration),
            Err(results) => WindowKind::Count(results),
        }),
    );
    if let Some(calls) = section.small("stalled_calls", 0..=1_000_000) {
        settings.stalled_calls = (calls > 0).then_some(calls);
    }
    section.within("stall_duration", &mut settings.stall_duration, (REQUEST_TIMEOUT, request_timeout));
    set(&mut settings.probes, section.small("probes", 1..=BreakerSettings::PROBES_MAX));
    set(&mut settings.probe_successes, section.small("probe_successes", 1..=1_000));
    set(&mut settings.cooldown, section.positive("cooldown"));
    set(&mut settings.cooldown_max, section.positive("cooldown_max"));
    set(&mut settings.cooldown_jitter, section.share("cooldown_jitter"));
    // A plain breaker has no spacing, and a key that sets one has been called a mistake by now.
    let mut elsewhere = ProbeSpacing::default();
    let spacing = settings.probe_spacing.as_mut().unwrap_or(&mut elsewhere);
    set(&mut spacing.interval, section.positive("probe_interval"));
    set(&mut spacing.interval_share, section.share("probe_interval_share"));
    set(&mut spacing.interval_max, section.positive("probe_interval_max"));
    set(&mut settings.ramp, section.duration("ramp"));
    upstream.watch_only = section.boolean("watch_only", false);
    for mistake in settings.validate() {
        section.mistake(mistake.field, mistake.message);
    }
    section.finish();
}

fn retry(
    section: Option<Section<'_>>,
    settings: &mut RetrySettings,
    budget: &mut RetryBudgetSettings,
    outer: (&str, Duration),
) {
    let Some(section) = section else { return };
    set(&mut settings.max_attempts, section.small("max_attempts", 1..=RetrySettings::MAX_ATTEMPTS_MAX));
    section.within("backoff", &mut settings.backoff.base, outer);
    section.within("backoff_max", &mut settings.backoff.cap, outer);
    set(&mut settings.quick_attempt_max, section.positive("quick_attempt_max"));
    set(&mut budget.ratio, section.number("budget_ratio"));
    set(&mut budget.floor, section.number("budget_floor"));
    for mistake in settings.validate().into_iter().chain(budget.validate()) {
        let key = match mistake.field {
            "ratio" => "budget_ratio",
            "floor" => "budget_floor",
            field => field,
        };
        section.mistake(key, mistake.message);
    }
    section.finish();
}

fn hedge(
    section: Option<Section<'_>>,
    settings: &mut HedgeSettings,
    budget: &mut RetryBudgetSettings,
    outer: (&str, Duration),
) {
    let Some(section) = section else { return };
    settings.enabled = section.boolean("enabled", settings.enabled);
    set(&mut settings.max_hedges, section.small("max_hedges", 1..=HedgeSettings::HEDGES_MAX));
    section.within("delay_min", &mut settings.delay_min, outer);
    set(&mut budget.ratio, section.share("budget_ratio"));
    section.finish();
}

fn pacing(section: Option<Section<'_>>, settings: &mut PacerSettings) {
    let Some(section) = section else { return };
    set(&mut settings.named_pause_max, section.positive("named_pause_max"));
    section.finish();
}

fn limits(section: Option<Section<'_>>, limits: &mut Limits, outer: (&str, Duration)) {
    let Some(section) = section else { return };
    limits.quota = quota(&section);
    set(&mut limits.default_output_tokens, section.integer("default_output_tokens", 0..=QUOTA_MAX));
    limits.context_tokens = section.integer("context_tokens", 1..=QUOTA_MAX);
    // No patience at all is a choice.
    if section.duration("patience") == Some(Duration::ZERO) {
        limits.patience = Duration::ZERO;
    } else {
        section.within("patience", &mut limits.patience, outer);
    }
    set(&mut limits.queue.max_waiting, section.small("max_waiting", 1..=FairQueueSettings::WAITING_MAX));
    let per_tenant = section.small("max_waiting_per_tenant", 1..=FairQueueSettings::WAITING_MAX);
    // Whoever shortens the queue has not asked for a longer share of it.
    limits.queue.max_waiting_per_tenant =
        per_tenant.unwrap_or(limits.queue.max_waiting_per_tenant.min(limits.queue.max_waiting));
    for mistake in limits.queue.validate() {
        section.mistake(mistake.field, mistake.message);
    }
    section.finish();
}

fn concurrency(section: Option<Section<'_>>, concurrency: &mut ConcurrencyConfig) {
    let Some(section) = section else { return };
    let mut settings = AdaptiveLimitSettings::default();
    if let Some(max) = fixed_concurrency(&section, "max_in_flight") {
        (settings.max_in_flight, settings.initial) = (max, max);
    }
    set(&mut settings.min_in_flight, fixed_concurrency(&section, "min_in_flight"));
    let adaptive = section.boolean("adaptive", true);
    if let Some(tolerance) = section.number("latency_tolerance") {
        settings.latency_tolerance = (tolerance != 0.0).then_some(tolerance);
    }
    for mistake in settings.validate() {
        let key = match mistake.field {
            "initial" => "max_in_flight",
            field => field,
        };
        section.mistake(key, mistake.message);
    }
    *concurrency =
        if adaptive { ConcurrencyConfig::Adaptive(settings) } else { ConcurrencyConfig::Fixed(settings.max_in_flight) };
    section.finish();
}

/// A fixed bound on calls in flight.
pub(super) fn fixed_concurrency(section: &Section<'_>, key: &'static str) -> Option<u32> {
    section.small(key, 1..=AdaptiveLimitSettings::LIMIT_MAX)
}
