use super::*;
use spillway_sdk::rate_limits::from_headers;

const MINUTE: Option<Duration> = Some(Duration::from_secs(60));
/// 2026-11-30T07:00:00Z.
const NOW_UNIX_S: u64 = 1_796_022_000;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW_UNIX_S)
}

fn left(counted: Counted, limit: u64, remaining: u64, reset_ms: u64) -> Left<'static> {
    let told = Told::new(counted.unit().unwrap_or("requests"), counted, limit, MINUTE);
    Left { told: Cow::Owned(told), remaining, reset: Duration::from_millis(reset_ms) }
}

fn tightest<'a>(left: &[Left<'a>]) -> Tightest<'a> {
    let mut tightest = Tightest::default();
    left.iter().cloned().for_each(|left| tightest.take(left));
    tightest
}

fn told(dialect: Dialect, provider: &[(&'static str, &'static str)], left: &[Left<'_>]) -> Vec<(String, String)> {
    let mut headers = HeaderMap::new();
    for (name, value) in provider {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    tightest(left).tell(&mut headers, dialect, now);
    let text = |value: &HeaderValue| value.to_str().expect("text").to_owned();
    let mut told: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    told.sort();
    told
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn openais_headers_and_the_ietfs_tell_what_is_left() {
    let left = [left(Counted::Requests, 100, 40, 36_000), left(Counted::Tokens, 90_000, 89_000, 667)];
    assert_eq!(
        told(Dialect::OpenAi, &[], &left),
        pairs(&[
            ("ratelimit", "\"requests\";r=40;t=36, \"tokens\";r=89000;t=1"),
            ("ratelimit-policy", "\"requests\";q=100;w=60, \"tokens\";q=90000;qu=\"tokens\";w=60"),
            ("x-ratelimit-limit-requests", "100"),
            ("x-ratelimit-limit-tokens", "90000"),
            ("x-ratelimit-remaining-requests", "40"),
            ("x-ratelimit-remaining-tokens", "89000"),
            ("x-ratelimit-reset-requests", "36s"),
            ("x-ratelimit-reset-tokens", "667ms"),
        ])
    );
}

#[test]
fn anthropics_headers_name_the_moment_and_never_too_early() {
    let left = [left(Counted::OutputTokens, 1_000, 10, 59_400)];
    assert_eq!(
        told(Dialect::Anthropic, &[], &left),
        pairs(&[
            ("anthropic-ratelimit-output-tokens-limit", "1000"),
            ("anthropic-ratelimit-output-tokens-remaining", "10"),
            ("anthropic-ratelimit-output-tokens-reset", "2026-11-30T07:01:00Z"),
            ("ratelimit", "\"output-tokens\";r=10;t=60"),
            ("ratelimit-policy", "\"output-tokens\";q=1000;qu=\"output-tokens\";w=60"),
        ])
    );
}

#[test]
fn other_apis_have_the_ietfs_headers_only() {
    for dialect in [Dialect::Gemini, Dialect::Ollama, Dialect::Other] {
        let told = told(dialect, &[], &[left(Counted::Requests, 5, 1, 1_000)]);
        let names: Vec<_> = told.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["ratelimit", "ratelimit-policy"], "{dialect:?}");
    }
}

#[test]
fn the_smaller_of_both_is_told_and_the_providers_is_kept_where_ours_is() {
    let provider = [
        ("x-ratelimit-limit-requests", "500"),
        ("x-ratelimit-remaining-requests", "499"),
        ("x-ratelimit-reset-requests", "120ms"),
        ("x-ratelimit-remaining-tokens", "7"),
    ];
    let left = [left(Counted::Requests, 100, 40, 36_000), left(Counted::Tokens, 90_000, 8, 1)];
    let told = told(Dialect::OpenAi, &provider, &left);
    let value = |name: &str| told.iter().find(|(known, _)| known == name).map(|(_, value)| &**value);
    for (name, expected) in [
        ("x-ratelimit-limit-requests", Some("100")),
        ("x-ratelimit-remaining-requests", Some("40")),
        ("x-spillway-upstream-ratelimit-limit-requests", Some("500")),
        ("x-spillway-upstream-ratelimit-remaining-requests", Some("499")),
        ("x-spillway-upstream-ratelimit-reset-requests", Some("120ms")),
        ("x-ratelimit-remaining-tokens", Some("7")),
        ("x-ratelimit-limit-tokens", None),
        ("x-spillway-upstream-ratelimit-remaining-tokens", None),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
}

#[test]
fn of_several_limits_on_the_same_the_one_with_the_least_left_is_told() {
    let told_of_day = Told::new("requests", Counted::Requests, 10_000, Some(Duration::from_secs(86_400)));
    let day = Left { told: Cow::Owned(told_of_day), ..left(Counted::Requests, 10_000, 3, 40_000_000) };
    let told = told(Dialect::OpenAi, &[], &[left(Counted::Requests, 100, 40, 1_000), day]);
    let remaining = told.iter().find(|(name, _)| name == "x-ratelimit-remaining-requests");
    assert_eq!(remaining.map(|(_, value)| &**value), Some("3"));
    let reset = told.iter().find(|(name, _)| name == "x-ratelimit-reset-requests");
    assert_eq!(reset.map(|(_, value)| &**value), Some("11h6m40s"));
}

#[test]
fn a_limit_that_is_never_refilled_has_neither_window_nor_time() {
    let limit = Told::new("team \"a\\b\" é", Counted::Microdollars, 5_000_000, None);
    let total = [Left { told: Cow::Owned(limit), remaining: 1_250_000, reset: Duration::ZERO }];
    let told = told(Dialect::OpenAi, &[], &total);
    let [(_, limits), (_, policies)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(policies, r#""team \"a\\b\" ";q=5000000;qu="microdollars""#);
    assert_eq!(limits, r#""team \"a\\b\" ";r=1250000"#);
}

#[test]
fn of_each_thing_that_is_counted_one_limit_is_told() {
    let many: Vec<_> = (0..40).map(|n| left(Counted::Requests, 100, n, 1_000)).rev().collect();
    let told = told(Dialect::Other, &[], &[many, vec![left(Counted::Tokens, 9, 9, 1_000)]].concat());
    let (_, limits) = told.iter().find(|(name, _)| name == "ratelimit").expect("it is told");
    assert_eq!(limits, "\"requests\";r=0;t=1, \"tokens\";r=9;t=1");
}

#[test]
fn what_is_told_is_read_as_it_was_meant() {
    for (dialect, resets) in [
        (Dialect::OpenAi, [1, 999, 1_000, 61_000, 4_000_000]),
        (Dialect::Anthropic, [1, 1_000, 61_000, 90_000, 4_000_000]),
    ] {
        for reset_ms in resets {
            let mut headers = HeaderMap::new();
            tightest(&[left(Counted::Tokens, 1_000, 12, reset_ms)]).tell(&mut headers, dialect, now);
            let read = from_headers(|name| headers.get(name).map(HeaderValue::as_bytes), now()).tokens;
            let read = read.expect("it is read");
            let reset_ms_read = read.reset.expect("a reset").as_millis();
            assert_eq!((read.limit, read.remaining), (1_000, 12));
            let late = reset_ms_read - u128::from(reset_ms);
            assert!(late < 1_000, "{dialect:?}: {reset_ms} ms read as {reset_ms_read}");
        }
    }
}
