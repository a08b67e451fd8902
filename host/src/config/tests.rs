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
    let text = "[policies.settings.slow]\nslow_ms = 300\nquantile = 0.5\ncodes = [\"a\"]\n";
    let config = parse(text, Path::new("")).expect("valid");
    assert_eq!(config.policies.settings["slow"], r#"{"codes":["a"],"quantile":0.5,"slow_ms":300}"#);
}

#[test]
fn a_policy_that_carries_an_interpreter_is_named_without_its_files_ending() {
    let config = parse("[policies]\ninterpreted = [\"mine\"]\n", Path::new("")).expect("valid");
    assert_eq!(config.policies.limits_of("mine"), policy::Limits::INTERPRETED);
    assert_eq!(config.policies.limits_of("yours"), policy::Limits::STANDARD);
    let found = mistakes("[policies]\ninterpreted = [\"mine.shadow\", \"mine.wasm\"]\n");
    for (mistake, file) in found.iter().zip(["mine.shadow", "mine.wasm"]) {
        let said = format!("line 2: policies.interpreted: \"{file}\" is no policy's name");
        assert!(mistake.contains(&said), "{found:?}");
    }
    assert_eq!(found.len(), 2);
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
fn the_readmes_configuration_is_the_default_one() {
    let readme = include_str!("../../../README.md");
    let example = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    // What is shown but is no default: a policy's settings, a tenant, and the number of this machine's cores.
    let example = example.replace("workers = 2 ", "# ").replace("slow_ms = 10000", "");
    let mut shown = parse(&example, Path::new("")).expect("a valid example");
    shown.policies.settings.clear();
    shown.tenants.clear();
    let default = parse("", Path::new("")).expect("the defaults");
    let (shown, default) = (format!("{shown:#?}"), format!("{default:#?}"));
    let differs = shown.lines().zip(default.lines()).find(|(shown, default)| shown != default);
    assert_eq!(differs, None);
    assert_eq!(shown.len(), default.len());
}
