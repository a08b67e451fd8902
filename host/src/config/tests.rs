use super::*;

fn mistakes(text: &str) -> Vec<String> {
    parse(text, Path::new("")).expect_err("a wrong configuration").iter().map(ToString::to_string).collect()
}

#[test]
fn an_empty_file_serves_the_three_providers() {
    let config = parse("", Path::new("")).expect("the defaults");
    assert_eq!(config.upstreams.keys().collect::<Vec<_>>(), ["anthropic", "gemini", "openai"]);
    assert_eq!(config.server.listen.to_string(), defaults::LISTEN);
    assert_eq!(config.admin_listen.to_string(), defaults::ADMIN_LISTEN);
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
        "line 16: upstreams.mine.dialect: must be openai, anthropic, gemini or other",
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
        assert_eq!(upstream.breaker_kind, BreakerKind::Adaptive);
        assert_eq!((upstream.breaker.consecutive_failures, upstream.breaker.failure_rate), (None, None));
    }
    for lines in ["kind = \"plain\"", "cooldown = \"1s\"", "failure_rate = 0.4", "consecutive_failures = 5"] {
        let upstream = kind(lines);
        assert_eq!((upstream.breaker_kind, upstream.breaker.surprise), (BreakerKind::Plain, None), "{lines}");
        assert_eq!(upstream.breaker.consecutive_failures, Some(BreakerSettings::DEFAULT_CONSECUTIVE_FAILURES));
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
    assert_eq!(config.spool.expect("a spool").retention, Duration::from_secs(7 * 24 * 3600));
}

#[test]
fn a_syntax_error_does_not_hide_the_other_mistakes() {
    let found = mistakes("[server]\nworkers = 0\nlisten = \n");
    assert!(found.iter().any(|mistake| mistake.starts_with("line 3")), "{found:?}");
    assert!(found.iter().any(|mistake| mistake.contains("server.workers")), "{found:?}");
}

#[test]
fn an_address_that_others_can_reach_is_refused() {
    let found = mistakes("[server]\nlisten = \"0.0.0.0:4141\"\n");
    assert!(found[0].contains("loopback"), "{found:?}");
}

#[test]
fn an_upstream_keeps_its_defaults_where_the_file_is_silent() {
    let config = parse("[upstreams.openai]\nurl = \"http://127.0.0.1:9/v1\"\n", Path::new("")).expect("valid");
    let openai = &config.upstreams["openai"];
    assert_eq!(openai.dialect, Dialect::OpenAi);
    assert_eq!(openai.policy, defaults::POLICY);
    assert_eq!(openai.connect_timeout, defaults::CONNECT_TIMEOUT);
}

#[test]
fn a_policys_table_becomes_its_json() {
    let text = "[upstreams.openai]\npolicy = \"slow\"\n[policies.settings.slow]\nslow_ms = 300\nquantile = 0.5\ncodes = [\"a\"]\n";
    let config = parse(text, Path::new("")).expect("valid");
    assert_eq!(config.policies.settings["slow"], r#"{"codes":["a"],"quantile":0.5,"slow_ms":300}"#);
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
    assert_eq!(config.spool.expect("a spool").dir, Path::new("/etc/spillway/data"));
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

#[test]
fn the_documented_configuration_is_the_default_one() {
    let reference = include_str!("../../../docs/configuration.md");
    let example = reference.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    // What is shown but is no default: a tenant, and the number of this machine's cores.
    let example = example.replace("workers = 2 ", "# ");
    let mut shown = parse(&example, Path::new("")).expect("a valid example");
    shown.tenants.clear();
    let default = parse("", Path::new("")).expect("the defaults");
    let (shown, default) = (format!("{shown:#?}"), format!("{default:#?}"));
    let differs = shown.lines().zip(default.lines()).find(|(shown, default)| shown != default);
    assert_eq!(differs, None);
    assert_eq!(shown.len(), default.len());
}
