use super::*;
use crate::dialect::Dialect;
use crate::policy;
use spillway_resilience::{
    AdaptiveLimitSettings, BreakerKind, BreakerSettings, FairQueueSettings, HedgeSettings, PacerSettings,
    RetryBudgetSettings, RetrySettings,
};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

fn mistakes(text: &str) -> Vec<String> {
    parse(text, Path::new("")).expect_err("a wrong configuration").iter().map(ToString::to_string).collect()
}

#[test]
fn an_empty_file_serves_the_three_providers() {
    let config = parse("", Path::new("")).expect("the defaults");
    assert_eq!(config.upstreams.keys().collect::<Vec<_>>(), ["anthropic", "gemini", "openai"]);
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:4141");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:4142");
}

#[test]
fn every_mistake_is_listed_with_its_line_and_path() {
    let text = r#"
[server]
listen = "4141"
request_timeout = 30

[upstreams.openai]
url = "ftp://example"
polcy = "mine"

[upstreams.openai.breaker]
failure_rate = 1.5
cooldown = "10s"
cooldown_max = "2s"

[upstreams.mine]
dialect = "grok"

[spool]
max_size = "12 parsecs"
"#;
    let found = mistakes(text);
    for expected in [
        "line 3: server.listen: expected an address",
        "line 4: server.request_timeout: expected a duration with its unit",
        "line 7: upstreams.openai.url: \"ftp://example\" must begin with http",
        "line 8: upstreams.openai.polcy: unknown key; did you mean `policy`?",
        "line 11: upstreams.openai.breaker.failure_rate: must be from 0 to 1",
        "upstreams.openai.breaker.cooldown",
        "line 15: upstreams.mine.url: missing",
        "line 16: upstreams.mine.dialect: must be openai, anthropic, gemini, ollama or other",
        "line 19: spool.max_size: expected a size with its unit",
    ] {
        assert!(found.iter().any(|mistake| mistake.contains(expected)), "no `{expected}` in {found:#?}");
    }
    assert_eq!(found.len(), 9, "{found:#?}");
}

#[test]
fn a_breaker_is_adaptive_unless_it_is_called_plain_or_has_a_plain_ones_keys() {
    let kind = |lines: &str| {
        let text = format!("[upstreams.openai.breaker]\n{lines}\n");
        parse(&text, Path::new("")).expect("valid").upstreams["openai"].clone()
    };
    let adaptive = [kind(""), kind("kind = \"adaptive\""), kind("ramp = \"1s\"\nprobe_interval = \"2s\"")];
    for upstream in adaptive {
        assert_eq!(upstream.breaker.kind, BreakerKind::Adaptive);
        let settings = upstream.breaker_settings();
        assert_eq!((settings.consecutive_failures, settings.failure_rate), (None, None));
    }
    for lines in ["kind = \"plain\"", "cooldown = \"1s\"", "failure_rate = 0.4", "consecutive_failures = 5"] {
        let upstream = kind(lines);
        let settings = upstream.breaker_settings();
        assert_eq!((upstream.breaker.kind, settings.surprise), (BreakerKind::Plain, None), "{lines}");
        assert_eq!(settings.consecutive_failures, Some(BreakerSettings::DEFAULT_CONSECUTIVE_FAILURES));
    }
}

#[test]
fn what_belongs_to_the_other_kind_of_breaker_is_a_mistake() {
    let found = mistakes("[upstreams.openai.breaker]\nkind = \"adaptive\"\nfailure_rate = 0.5\n");
    assert!(found.len() == 1 && found[0].contains("failure_rate") && found[0].contains("plain"), "{found:?}");
    let found = mistakes("[upstreams.openai.breaker]\nwindow = 10\nminimum_requests = 5\nprobe_interval = \"1s\"\n");
    assert!(found.len() == 1 && found[0].contains("probe_interval"), "{found:?}");
    let found = mistakes("[upstreams.openai.breaker]\nkind = \"clever\"\n");
    assert!(found.len() == 1 && found[0].contains("adaptive or plain"), "{found:?}");
}

#[test]
fn a_wrong_backoff_and_a_reserved_name_are_mistakes() {
    let found = mistakes(
        "[upstreams.chat]\nurl = \"http://h\"\n[upstreams.openai.retry]\nbackoff = \"10s\"\nbackoff_max = \"2s\"\nmax_attempts = 100\n",
    );
    for expected in ["upstreams.chat", "upstreams.openai.retry.backoff", "upstreams.openai.retry.max_attempts"] {
        assert!(found.iter().any(|mistake| mistake.contains(expected)), "no `{expected}` in {found:#?}");
    }
}

#[test]
fn a_retention_of_a_week_is_a_week() {
    let config = parse("[spool]\nretention = \"168h\"\n", Path::new("")).expect("valid");
    assert_eq!(config.spool().expect("a spool").retention, Duration::from_secs(7 * 24 * 3600));
}

#[test]
fn a_syntax_error_does_not_hide_the_other_mistakes() {
    let found = mistakes("[server]\nworkers = 0\nlisten = \n");
    assert!(found.iter().any(|mistake| mistake.starts_with("line 3")), "{found:?}");
    assert!(found.iter().any(|mistake| mistake.contains("server.workers")), "{found:?}");
}

#[test]
fn an_address_that_others_can_reach_is_refused() {
    let found = mistakes("[server]\nlisten = \"0.0.0.0:4141\"\n[admin]\nlisten = \"0.0.0.0:4142\"\n");
    assert!(
        found[0].contains("reached by other machines") && found[1].contains("within (`spillway status`)"),
        "{found:?}"
    );
}

#[test]
fn an_upstream_keeps_its_defaults_where_the_file_is_silent() {
    let config = parse("[upstreams.openai]\nurl = \"http://127.0.0.1:9/v1\"\n", Path::new("")).expect("valid");
    let openai = &config.upstreams["openai"];
    assert_eq!(openai.dialect, Dialect::OpenAi);
    assert_eq!(openai.policy, DEFAULT_POLICY);
    assert_eq!(openai.connect_timeout, Duration::from_secs(5));
}

#[test]
fn a_policys_table_becomes_its_json() {
    let text = "[upstreams.openai]\npolicy = \"slow\"\n[policies.settings.slow]\nslow_ms = 300\nquantile = 0.5\ncodes = [\"a\"]\n";
    let config = parse(text, Path::new("")).expect("valid");
    assert_eq!(config.policies.settings_of("slow"), r#"{"codes":["a"],"quantile":0.5,"slow_ms":300}"#);
}

#[test]
fn a_policy_that_carries_an_interpreter_is_named_without_its_files_ending() {
    let text = "[policies]\ninterpreted = [\"mine\"]\n[upstreams.openai]\npolicy = \"mine\"\n";
    let config = parse(text, Path::new("")).expect("valid");
    assert_eq!(config.policies.limits_of("mine"), policy::Limits::INTERPRETED);
    assert_eq!(config.policies.limits_of("yours"), policy::Limits::STANDARD);
    let found = mistakes("[policies]\ninterpreted = [\"mine.shadow\", \"mine.wasm\"]\n");
    for (mistake, file) in found.iter().zip(["mine.shadow", "mine.wasm"]) {
        let said = format!("line 2: policies.interpreted: \"{file}\" is no policy's name");
        assert!(mistake.contains(&said), "{found:?}");
    }
    assert_eq!(found.len(), 2);
}

/// One wrong line, where it stands, and what is said of it.
fn assert_mistake(text: &str, said: &str) {
    let found = mistakes(text);
    assert!(found.len() == 1 && found[0].contains(said), "{text}\nshould be told `{said}`, and is told {found:#?}");
}

#[test]
fn an_upstream_has_a_host_and_a_port_that_there_is() {
    for url in ["http://h:0", "http://h:99999", "http://h:", "https://[::1]:70000/v1", "http://h:443x/v1", "http://:80"]
    {
        let found = mistakes(&format!("[upstreams.mine]\nurl = \"{url}\"\n"));
        assert!(found.len() == 1 && found[0].starts_with("line 2: upstreams.mine.url: "), "{url}: {found:?}");
    }
    assert_mistake("[upstreams.mine]\nurl = \"http://h:99999\"\n", "has no port that there is: from 1 to 65535");
    for url in ["http://h:1", "https://[::1]:65535/v1", "http://h"] {
        assert!(BaseUrl::parse(url).is_ok(), "{url}");
    }
}

#[test]
fn a_size_or_a_time_too_small_to_be_of_use_is_a_mistake() {
    for (section, line, said) in [
        ("spool", "max_size = \"1B\"", "line 2: spool.max_size: must be 1MiB or more"),
        ("spool", "retention = \"1ms\"", "line 2: spool.retention: must be 1s or longer"),
        ("spool", "expiry = \"0s\"", "line 2: spool.expiry: must be 1s or longer"),
        ("server", "max_body = \"0B\"", "line 2: server.max_body: must be 1KiB or more"),
        ("server", "max_held = \"1B\"", "line 2: server.max_held: must be 1KiB or more"),
        ("server", "request_timeout = \"1ns\"", "line 2: server.request_timeout: must be 1ms or longer"),
        ("upstreams.openai", "connect_timeout = \"5us\"", "line 2: upstreams.openai.connect_timeout: must be 1ms"),
        ("upstreams.openai.limits", "patience = \"1ns\"", "line 2: upstreams.openai.limits.patience: must be 1ms"),
        ("upstreams.openai.pacing", "named_pause_max = \"0s\"", "named_pause_max: must be 1ms or longer"),
    ] {
        assert_mistake(&format!("[{section}]\n{line}\n"), said);
    }
    for text in ["[server]\ndrain_timeout = \"0s\"\n", "[upstreams.openai.limits]\npatience = \"0s\"\n"] {
        assert!(parse(text, Path::new("")).is_ok(), "none at all is a choice: {text}");
    }
}

#[test]
fn what_ends_first_bounds_what_lies_within_it() {
    for (section, line, said) in [
        (
            "upstreams.openai",
            "connect_timeout = \"200s\"",
            "connect_timeout: must not be longer than server.request_timeout",
        ),
        (
            "upstreams.openai",
            "first_content_timeout = \"300s\"",
            "must not be longer than server.request_timeout (30s)",
        ),
        ("upstreams.openai", "idle_timeout = \"31s\"", "line 4: upstreams.openai.idle_timeout: must not be longer"),
        (
            "upstreams.openai.limits",
            "patience = \"1m\"",
            "line 4: upstreams.openai.limits.patience: must not be longer",
        ),
        ("upstreams.openai.retry", "backoff_max = \"1m\"", "line 4: upstreams.openai.retry.backoff_max: must not be"),
        (
            "upstreams.openai.hedge",
            "delay_min = \"40s\"",
            "delay_min: must not be longer than first_content_timeout (30s)",
        ),
        ("upstreams.openai.breaker", "slow_call_duration = \"60s\"", "longer than first_content_timeout (30s)"),
        (
            "upstreams.openai.breaker",
            "stall_duration = \"60s\"",
            "stall_duration: must not be longer than server.request",
        ),
    ] {
        assert_mistake(&format!("[server]\nrequest_timeout = \"30s\"\n[{section}]\n{line}\n"), said);
    }
    assert_mistake("[server]\ndrain_timeout = \"11m\"\n", "line 2: server.drain_timeout: must not be longer");
}

#[test]
fn a_default_that_is_longer_than_what_was_set_around_it_is_shortened() {
    let text = "[server]\nrequest_timeout = \"4s\"\n[upstreams.openai.limits]\n[upstreams.mine]\nurl = \"http://h\"\n";
    let config = parse(text, Path::new("")).expect("nothing is said that is wrong");
    assert_eq!(config.server.drain_timeout, Duration::from_secs(4));
    for upstream in config.upstreams.values() {
        let inner = [upstream.connect_timeout, upstream.first_content_timeout, upstream.idle_timeout];
        assert!(inner.iter().all(|inner| *inner == Duration::from_secs(4)), "{inner:?}");
        assert_eq!(upstream.limits.patience, Duration::from_secs(4));
    }
}

#[test]
fn a_default_bound_that_is_shorter_than_what_was_set_is_lengthened_and_one_that_was_set_is_a_mistake() {
    for (set, bound) in [
        ("breaker.cooldown = '15m'", "breaker.cooldown_max = '1m'"),
        ("breaker.probe_interval = '15m'", "breaker.probe_interval_max = '1m'"),
        ("retry.backoff = '5m'", "retry.backoff_max = '1m'"),
    ] {
        let text = format!("server.request_timeout = '1h'\n[upstreams.openai]\n{set}\n");
        parse(&text, Path::new("")).unwrap_or_else(|mistakes| panic!("{set}: {mistakes:?}"));
        assert_mistake(&format!("{text}{bound}\n"), "must not be shorter than");
    }
}

#[test]
fn hosts_and_origins_are_written_as_they_are_compared() {
    for (origin, said) in [
        ("https://app.example/", "did you mean \"https://app.example\"?"),
        ("https://app.example/page", "did you mean \"https://app.example\"?"),
        ("https://App.example:443", "did you mean \"https://app.example\"?"),
        ("app.example", "is no origin: scheme and host, such as"),
        ("https://*.example", "is no origin: scheme and host, such as"),
        ("*", "is no origin: scheme and host, such as"),
    ] {
        let text = format!("[server]\nallowed_origins = [\n  \"http://localhost:3000\",\n  \"{origin}\",\n]\n");
        assert_mistake(&text, said);
        assert_mistake(&text, &format!("line 4: server.allowed_origins: \"{origin}\""));
    }
    for (host, said) in [
        ("https://proxy.internal", "such as \"proxy.internal\""),
        ("proxy.example:4141", "such as \"proxy.example\""),
        ("*.internal", "is no host name alone"),
        ("proxy.internal/", "is no host name alone"),
        ("", "is no host name alone"),
    ] {
        assert_mistake(&format!("[server]\nallowed_hosts = [\"{host}\"]\n"), said);
    }
    let text = "[server]\nallowed_hosts = [\"Proxy.internal\", \"10.0.0.1\", \"[fe80::1]\"]\n\
        allowed_origins = [\"https://app.example\", \"http://localhost:3000\", \"null\", \"chrome-extension://abc\"]\n";
    assert!(parse(text, Path::new("")).is_ok());
}

#[test]
fn what_is_said_about_a_policy_that_nobody_asks_is_a_mistake() {
    let used = "[upstreams.openai]\npolicy = \"latency-trip\"\n";
    let settings = |name: &str| format!("{used}[policies.settings.{name}]\nslow_ms = 1\n");
    assert_mistake(&settings("latency-tripp"), "line 3: policies.settings.latency-tripp: no upstream has the policy");
    assert_mistake(&settings("latency-tripp"), "did you mean \"latency-trip\"?");
    assert_mistake(&settings("other"), "no upstream has the policy \"other\", and policies holds no file of it");
    assert_mistake("[policies]\ninterpreted = [\"other\"]\n", "line 2: policies.interpreted: no upstream has");
    // Its file may still come.
    assert!(parse(&settings("latency-trip"), Path::new("")).is_ok());
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("policies")).expect("a folder");
    for (name, file) in [("first", "first.wasm"), ("second", "second.shadow.wasm"), ("third", "third.previous.wasm")] {
        assert!(parse(&settings(name), folder.path()).is_err());
        std::fs::write(folder.path().join("policies").join(file), "").expect("a file");
        assert!(parse(&settings(name), folder.path()).is_ok(), "it may be checked, tried or brought back: {file}");
    }
}

#[test]
fn a_key_that_stands_twice_is_named() {
    assert_mistake("[server]\nworkers = 1\nworkers = 2\n", "line 3: duplicate key `workers`");
    assert_mistake("[server]\nworkers = 1\n[admin]\n[server]\nmax_body = \"1MiB\"\n", "line 4: duplicate key `server`");
}

#[test]
fn paths_are_relative_to_the_files_folder() {
    let config = parse("[spool]\ndir = \"data\"\n", Path::new("/etc/spillway")).expect("valid");
    assert_eq!(config.spool().expect("a spool").dir, Path::new("/etc/spillway/data"));
    assert_eq!(config.policies.dir, Path::new("/etc/spillway/policies"));
}

#[test]
fn a_base_url_and_a_path_share_their_v1() {
    let cases = [
        ("http://host", "/v1/models", "http://host/v1/models"),
        ("http://host/v1", "/v1/models", "http://host/v1/models"),
        ("http://host/v1/", "/models", "http://host/v1/models"),
        ("http://host:81/api", "/v1/models?x=1", "http://host:81/api/v1/models?x=1"),
        ("http://host/v1beta/openai", "/v1/chat/completions", "http://host/v1beta/openai/chat/completions"),
    ];
    for (base, path, expected) in cases {
        let joined = BaseUrl::parse(base).expect("a base URL").join(path).expect("a URL");
        assert_eq!(joined.to_string(), expected);
    }
}

#[test]
fn credentials_in_a_url_are_refused() {
    assert!(BaseUrl::parse("https://user:secret@host").is_err_and(|message| !message.contains("secret")));
}

/// A configuration of which nearly everything is something else than usual.
const UNUSUAL: &str = r#"
[server]
listen = "[::1]:1"
plaintext = true
workers = 3
max_body = "1025B"
max_held = "3MiB"
max_in_flight = 7
request_timeout = "1h1s"
drain_timeout = "0s"
allowed_hosts = ["Proxy.internal"]
allowed_origins = ["null", "https://app.example"]
[admin]
listen = "127.0.0.1:0"
[policies]
dir = "p"
cache_dir = ""
allow = ["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]
signers = ["d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"]
interpreted = ["mine"]
[policies.settings.mine]
"a key" = [1, 1.5, nan, true, 1979-05-27, { deep = { er = "two\nlines \u007f \\ \"" } }]
large = 9223372036854775807
[policies.settings.mine.table]
of = { its = "own" }
[upstreams.mine]
url = "http://localhost:8000/v1"
dialect = "other"
policy = "mine"
proxy = ""
connect_timeout = "1001us"
ask_for_usage = false
honours_idempotency_keys = true
[upstreams.mine.breaker]
kind = "plain"
window = 100
failure_rate = 0
consecutive_failures = 0
slow_call_rate = 0.25
stalled_calls = 4
watch_only = true
[upstreams.mine.retry]
max_attempts = 1
budget_ratio = 0.001
[upstreams.mine.hedge]
enabled = true
max_hedges = 5
[upstreams.mine.limits]
requests_per_minute = 1
context_tokens = 8192
patience = "0s"
max_waiting = 10
[upstreams.mine.concurrency]
adaptive = false
max_in_flight = 2
[upstreams.openai]
auth = "query"
path = "/v2/{model}/{operation}?a=b"
[upstreams.openai.breaker]
probe_interval = "700ms"
ramp = "0s"
[upstreams.openai.concurrency]
latency_tolerance = 1.5
[tenants."a. \"b\""]
[tenants.batch]
priority = "low"
tokens_per_minute = 5
[spool]
enabled = false
max_size = "3000000B"
[log]
format = "json"
requests = "requests.jsonl"
"#;

fn shown(text: &str) -> Shown {
    Shown::parse(text.to_owned(), Path::new("/etc/spillway")).expect("a valid configuration")
}

/// Asserts that two texts mean the same, each in its folder.
fn assert_same(one: (&str, &str), other: (&str, &str)) {
    let meant = |(text, folder): (&str, &str)| match parse(text, Path::new(folder)) {
        Ok(config) => format!("{config:#?}"),
        Err(mistakes) => panic!("{mistakes:#?}\n{text}"),
    };
    let (one, other) = (meant(one), meant(other));
    let differs = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    assert_eq!(differs, None);
    assert_eq!(one.lines().count(), other.lines().count());
}

#[test]
fn what_is_shown_means_what_the_file_means() {
    for text in ["", UNUSUAL] {
        let file = (text, "/etc/spillway");
        // All of it is shown, so it means the same wherever it is kept.
        assert_same(file, (&shown(text).in_force(), "/elsewhere"));
        assert_same(file, (&shown(text).as_said(), "/etc/spillway"));
    }
}

#[test]
fn what_is_in_force_is_told_from_what_the_file_says() {
    let text = "[server]\nworkers = 3\n[upstreams.openai.retry]\n[tenants.batch]\n";
    let in_force = shown(text).in_force();
    let line = |begins: &str| in_force.lines().find(|line| line.starts_with(begins)).expect("a line");
    assert_eq!(line("workers"), "workers = 3");
    assert!(line("max_body").ends_with(" # default"), "{in_force}");
    assert_eq!(line("# context_tokens"), "# context_tokens is not set");
    assert_eq!(
        shown(text).as_said(),
        "[server]\nworkers = 3\n\n[upstreams.openai.retry]\n\n[tenants.batch]\n",
        "nothing but that"
    );
}

#[test]
fn a_proxys_credentials_are_never_shown() {
    for scheme in ["http", "socks5h"] {
        let text = format!("[upstreams.openai]\nproxy = \"{scheme}://Aladdin:sesame@proxy.example:3128\"\n");
        for shown in [shown(&text).in_force(), shown(&text).as_said()] {
            assert!(shown.contains(&format!("proxy = \"{scheme}://***:***@proxy.example:3128\"")), "{shown}");
            assert!(!shown.contains("sesame") && !shown.contains("Aladdin"), "{shown}");
            assert!(parse(&shown, Path::new("")).is_ok(), "it can be checked all the same");
        }
    }
    let text = "[upstreams.openai]\nproxy = \"https://proxy.example\"\n";
    assert!(shown(text).as_said().contains("\"https://proxy.example:443\""));
}

#[test]
fn the_reference_is_what_the_code_says_about_its_keys() {
    let (written, made) = (include_str!("../../../docs/configuration.md"), reference());
    let differs = written.lines().zip(made.lines()).find(|(written, made)| written != made);
    let remedy = "make it anew: cargo run --release -p spillway config reference > docs/configuration.md";
    assert_eq!(differs, None, "{remedy}");
    assert!(written == made, "{remedy}");
}

#[test]
fn whatever_can_be_configured_is_in_the_reference_in_the_schema_and_in_what_is_in_force() {
    // Either kind of breaker has keys of its own.
    let plain = format!(
        "[upstreams.openai.breaker]\nkind = \"plain\"\n[tenants.openai]\n[groups.openai]\n[routes.openai]\n\
         targets = [\"openai\"]\n[admin.tokens.openai]\nsha256 = \"{}\"\n",
        "0".repeat(64)
    );
    let shown = sections(&(shown(&plain).in_force() + &shown("").in_force()));
    let schema = schema();
    let (mut section, mut keys) = (String::new(), 0);
    for line in reference().lines() {
        if let Some(path) = line.strip_prefix("## `[").and_then(|rest| rest.strip_suffix("]`")) {
            section = path.to_owned();
        }
        let Some(key) = line.strip_prefix("| `").and_then(|rest| Some(rest.split_once('`')?.0)) else { continue };
        // The commands that the introduction lists.
        if section.is_empty() {
            continue;
        }
        keys += 1;
        let keys_shown = &shown[&section.replace("NAME", "openai")];
        assert!(keys_shown.contains(key), "{section}.{key} is not shown");
        let mut place = &schema;
        for name in section.split('.') {
            place = if name == "NAME" { &place["additionalProperties"] } else { &place["properties"][name] };
            assert_eq!(place["type"], "object", "{section}");
        }
        assert_eq!(place["additionalProperties"], false, "{section}");
        assert!(place["properties"][key]["description"].is_string(), "{section}.{key} is not in the schema");
    }
    assert!(keys > 80, "{keys} keys");
}

/// The keys of each section of a text as it is shown, those included that are not set.
type Sections = HashMap<String, BTreeSet<String>>;

fn sections(text: &str) -> Sections {
    let mut sections = Sections::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(path) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = path.to_owned();
        }
        let key = line.split_once(" = ").map(|(key, _)| key);
        let key = key.or_else(|| line.strip_prefix("# ")?.strip_suffix(" is not set"));
        sections.entry(section.clone()).or_default().extend(key.map(str::to_owned));
    }
    sections
}

#[test]
fn the_core_is_told_its_own_defaults_where_the_file_is_silent() {
    let openai = &parse("", Path::new("")).expect("the defaults").upstreams["openai"];
    let lease = openai.connect_timeout + openai.first_content_timeout;
    let probed = BreakerSettings { probe_lease: lease, half_open_max_wait: 2 * lease, ..BreakerSettings::adaptive() };
    assert_eq!(openai.breaker_settings(), probed);
    assert_eq!(openai.retry.settings(), RetrySettings::default());
    assert_eq!(openai.retry.budget(), RetryBudgetSettings::default());
    assert_eq!(openai.hedge.settings(), HedgeSettings::default());
    assert_eq!(openai.hedge.budget(), RetryBudgetSettings::for_hedges());
    assert_eq!(openai.pacing.settings(), PacerSettings::default());
    assert_eq!(openai.limits.queue(), FairQueueSettings::default());
    assert_eq!(openai.concurrency.settings(), AdaptiveLimitSettings::default());
    let plain = parse("[upstreams.openai.breaker]\nkind = \"plain\"\n", Path::new("")).expect("valid");
    let plain = plain.upstreams["openai"].breaker_settings();
    assert_eq!(plain, BreakerSettings { probe_lease: lease, half_open_max_wait: 2 * lease, ..Default::default() });
}
