//! What the figures tell of real traffic, and what callers are told of their limits.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use serde_json::json;
use spillway_tests::asks::{chat, chat_of, chat_stream, chat_with, message};
use spillway_tests::http::{Request, get};
use spillway_tests::provider::{Failure, Provider, fail, healthy, model, respond, stall, stream};
use spillway_tests::spillway::{Setup, Spillway};
use spillway_tests::wait::eventually;
use std::thread;
use std::time::{Duration, Instant};

const NO_RETRIES: &str = "max_attempts = 1";

/// Well above the shortest wait that is told.
const WORTH_TELLING: Duration = Duration::from_millis(20);

fn faults(spillway: &Spillway, fault: &str) -> f64 {
    spillway.metric(&format!("spillway_faults_total{{upstream=\"openai\",fault=\"{fault}\"}}"))
}

fn told(spillway: &Spillway, series: &str) -> f64 {
    spillway.metric(&format!("spillway_{series}"))
}

/// Figures are counted when an answer has ended, which its caller may see a moment before.
fn counts(spillway: &Spillway, series: &str, value: f64) {
    eventually(&format!("{series} is {value}"), || (told(spillway, series) == value).then_some(()));
}

fn by(tenant: &str, request: Request) -> Request {
    request.header("x-spillway-tenant", tenant)
}

#[test]
fn every_timeout_is_told_by_what_was_waited_for() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider)
        .set("upstreams.openai", "first_content_timeout = \"150ms\"\nidle_timeout = \"150ms\"")
        .set("upstreams.openai.retry", NO_RETRIES)
        .set("upstreams.openai.breaker", "watch_only = true")
        .start();
    provider.next(stall());
    assert_eq!(spillway.send(&chat()).status(), 504);
    counts(&spillway, "faults_total{upstream=\"openai\",fault=\"first_byte_timeout\"}", 1.0);
    provider.next(stream().stall());
    assert_eq!(spillway.send(&chat_stream()).status(), 504);
    counts(&spillway, "faults_total{upstream=\"openai\",fault=\"first_content_timeout\"}", 1.0);
    provider.next(healthy().saying("one two three four").after_events(2).stall());
    let (_, mut answer) = spillway.open(&chat_stream());
    assert!(answer.events().1.is_err(), "it breaks off");
    counts(&spillway, "faults_total{upstream=\"openai\",fault=\"idle_timeout\"}", 1.0);
    provider.next(fail(Failure::ServerError));
    assert_eq!(spillway.send(&chat()).status(), 500);
    provider.stop();
    assert_eq!(spillway.send(&chat()).status(), 502);
    counts(&spillway, "faults_total{upstream=\"openai\",fault=\"connect_refused\"}", 1.0);
    // An error by status is no fault, and nothing is told twice.
    let all = told(&spillway, "faults_total{upstream=\"openai\"}");
    assert_eq!((all, faults(&spillway, "reset")), (4.0, 0.0));
    assert_eq!(told(&spillway, "unanswered_duration_seconds_count{upstream=\"openai\"}"), 5.0);
}

#[test]
fn durations_are_told_with_retries_and_without() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).set("upstreams.openai.retry", "max_attempts = 2");
    let spillway = setup.start();
    // It is known once it was served.
    assert_eq!(spillway.send(&chat()).status(), 200);
    counts(&spillway, "request_duration_seconds_count{model=\"mock-small\"}", 1.0);
    provider.next(fail(Failure::ServerError).header("retry-after-ms", "200"));
    assert_eq!(spillway.send(&chat()).status(), 200);
    counts(&spillway, "request_duration_seconds_count{model=\"mock-small\"}", 2.0);
    let seconds = |name: &str| told(&spillway, &format!("{name}_seconds_sum{{upstream=\"openai\"}}"));
    let (whole, alone, waited) = (seconds("request_duration"), seconds("attempt_duration"), seconds("wait"));
    assert!(waited > 0.0 && whole >= alone + waited, "{whole} {alone} {waited}");
    assert!(seconds("request_first_content") >= seconds("first_content") + waited);
    for (series, value) in [
        ("request_retries_sum{upstream=\"openai\"}", 1.0),
        ("request_retries_bucket{upstream=\"openai\",le=\"0.0\"}", 1.0),
        ("request_fallbacks_sum{upstream=\"openai\"}", 0.0),
        // A pause that the provider has named is waited for in a lane.
        ("wait_seconds_count{upstream=\"openai\",waited_for=\"lane\"}", 1.0),
        ("attempt_duration_seconds_count{model=\"mock-small\"}", 2.0),
    ] {
        assert_eq!(told(&spillway, series), value, "{series}");
    }
}

#[test]
fn waits_are_told_by_tenant_and_by_what_was_waited_for() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider)
        .set("upstreams.openai.concurrency", "max_in_flight = 1\nadaptive = false")
        .set("tenants.shop", "weight = 2")
        .start();
    let gate = provider.gate();
    provider.next(healthy().hold_head(&gate));
    thread::scope(|scope| {
        let first = scope.spawn(|| spillway.send(&chat()).status());
        provider.wait_for_requests(1);
        let second = scope.spawn(|| spillway.send(&by("shop", chat())).status());
        eventually("the second waits", || (spillway.upstream("openai")["limits"]["waiting"] == 1).then_some(()));
        // A wait that nobody notices is not told, and nothing else here takes as long as one that is.
        let waiting = Instant::now();
        eventually("it has waited for long enough to be told", || (waiting.elapsed() >= WORTH_TELLING).then_some(()));
        gate.open();
        assert_eq!((first.join().expect("sent"), second.join().expect("sent")), (200, 200));
    });
    counts(&spillway, "tenant_requests_total{tenant=\"shop\",outcome=\"answered\"}", 1.0);
    counts(&spillway, "tenant_requests_total{tenant=\"none\",outcome=\"answered\"}", 1.0);
    // On a busy machine whoever has not waited may have been held up for a moment.
    assert!(told(&spillway, "wait_seconds_count{waited_for=\"upstream_limit\"}") >= 1.0);
    assert!(told(&spillway, "tenant_wait_seconds_sum{tenant=\"shop\"}") > 0.0);
    let by_others = told(&spillway, "tenant_wait_seconds_sum{tenant=\"none\"}");
    assert!(by_others < told(&spillway, "tenant_wait_seconds_sum{tenant=\"shop\"}"), "{by_others}");
}

#[test]
fn connections_are_told_as_new_and_reused_busy_and_idle() {
    let provider = Provider::start();
    // One worker, so that there is one pool.
    let spillway = Setup::with(&provider).set("server", "workers = 1").start();
    for _ in 0..3 {
        assert_eq!(spillway.send(&chat()).status(), 200);
        counts(&spillway, "connections{upstream=\"openai\",state=\"idle\"}", 1.0);
    }
    assert_eq!(told(&spillway, "connections_taken_total{upstream=\"openai\",connection=\"new\"}"), 1.0);
    assert_eq!(told(&spillway, "connections_taken_total{upstream=\"openai\",connection=\"reused\"}"), 2.0);
    let gate = provider.gate();
    provider.next(healthy().hold_head(&gate));
    thread::scope(|scope| {
        let held = scope.spawn(|| spillway.send(&chat()).status());
        provider.wait_for_requests(4);
        assert_eq!(told(&spillway, "connections{upstream=\"openai\",state=\"busy\"}"), 1.0);
        assert_eq!(told(&spillway, "connections{upstream=\"openai\",state=\"idle\"}"), 0.0);
        gate.open();
        assert_eq!(held.join().expect("sent"), 200);
    });
}

#[test]
fn models_have_labels_once_they_were_served_and_only_as_many_as_may() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("metrics", "max_models = 2\nmax_tenants = 0").start();
    provider.when(model("invented"), respond(400));
    assert_eq!(spillway.send(&chat_of("invented")).status(), 400);
    for name in ["one", "two", "three"] {
        assert_eq!(spillway.send(&by(name, chat_of(name))).status(), 200);
    }
    let answered = |model: &str| format!("requests_total{{model=\"{model}\",outcome=\"answered\"}}");
    for (name, value) in [("one", 1.0), ("two", 1.0), ("three", 0.0), ("invented", 0.0), ("other", 2.0)] {
        counts(&spillway, &answered(name), value);
    }
    assert_eq!(told(&spillway, "tenant_requests_total{tenant=\"other\",outcome=\"answered\"}"), 3.0);
}

#[test]
fn whoever_asks_for_the_older_text_gets_it() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let kind = |accept: &str| {
        let answer = spillway.admin(&get("/metrics").header("accept", accept));
        answer.header("content-type").unwrap_or_default().to_owned()
    };
    assert!(kind("text/plain").starts_with("text/plain; version=0.0.4"));
    let older = spillway.admin(&get("/metrics").header("accept", "text/plain")).text();
    assert!(older.contains("# TYPE spillway_requests_total counter\n") && !older.contains("# EOF"), "{older}");
    // What Prometheus says.
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5";
    assert!(kind(prometheus).starts_with("application/openmetrics-text"));
}

#[test]
fn a_tenant_with_limits_is_told_what_is_left_of_them_in_the_apis_own_headers() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).set("tenants.shop", "requests_per_minute = 5\ntokens_per_minute = 100000");
    let spillway = setup.start();
    provider.always(
        healthy()
            .usage(10, 10)
            .header("x-ratelimit-limit-requests", "500")
            .header("x-ratelimit-remaining-requests", "499")
            .header("x-ratelimit-reset-requests", "120ms"),
    );
    let capped = || chat_with(json!({"max_completion_tokens": 100}));
    let others = spillway.send(&capped());
    assert_eq!(others.header("x-ratelimit-remaining-requests"), Some("499"), "the provider's own, untouched");
    assert_eq!(
        (others.header("ratelimit"), others.header("x-spillway-upstream-ratelimit-limit-requests")),
        (None, None)
    );

    let answer = spillway.send(&by("shop", capped()));
    for (name, value) in [
        ("x-ratelimit-limit-requests", "5"),
        ("x-ratelimit-remaining-requests", "4"),
        ("x-ratelimit-reset-requests", "12s"),
        ("x-spillway-upstream-ratelimit-limit-requests", "500"),
        ("x-spillway-upstream-ratelimit-remaining-requests", "499"),
        ("x-ratelimit-limit-tokens", "100000"),
        ("ratelimit-policy", "\"requests per minute\";q=5;w=60, \"tokens per minute\";q=100000;qu=\"tokens\";w=60"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name} of {:?}", answer.head);
    }
    let tokens: u64 = answer.header("x-ratelimit-remaining-tokens").and_then(|left| left.parse().ok()).expect("tokens");
    assert!((99_000..99_900).contains(&tokens), "its estimate is taken off: {tokens}");

    let anthropics = spillway.send(&by("shop", message()));
    assert_eq!(anthropics.header("anthropic-ratelimit-requests-remaining"), Some("3"));
    assert_eq!(anthropics.header("x-ratelimit-limit-tokens"), None);
    for _ in 0..3 {
        assert_eq!(spillway.send(&by("shop", capped())).status(), 200);
    }
}

#[test]
fn a_refusal_tells_what_is_left_as_well() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).set("tenants.shop", "requests_per_minute = 1");
    let spillway = setup.set("upstreams.openai.limits", "patience = \"0s\"").start();
    assert_eq!(spillway.send(&by("shop", chat())).status(), 200);
    let refused = spillway.send(&by("shop", chat()));
    assert_eq!((refused.status(), &*refused.at("/error/code")), (429, "rate_limit_exceeded"));
    assert_eq!(refused.header("x-ratelimit-limit-requests"), Some("1"));
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
    let wait: u64 = refused.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a wait");
    let reset = refused.header("x-ratelimit-reset-requests").map(str::to_owned);
    assert!(
        [format!("{wait}s"), format!("{}m{}s", wait / 60, wait % 60)].contains(&reset.clone().unwrap_or_default()),
        "{reset:?} {wait}"
    );
}

#[test]
fn of_all_that_a_group_may_spend_and_of_what_stands_above_it_the_tightest_is_told() {
    let provider = Provider::start();
    let setup = Setup::with(&provider)
        .set("ledger", "limits = [\"1000 requests per day\", \"$5 per day\"]\nunpriced = \"allow\"")
        .set("groups.search", "limits = [\"10 requests per hour\", \"20 calls in flight\"]")
        .set("tenants.shop", "group = \"search\"");
    let spillway = setup.start();
    let answer = spillway.send(&by("shop", chat()));
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("10"));
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("9"));
    let policies = [
        "\"the group search: requests per hour\";q=10;w=3600",
        "\"all callers together: cost per day\";q=5000000;qu=\"microdollars\";w=86400",
        "\"the group search: calls in flight\";q=20;qu=\"concurrent-requests\"",
    ];
    assert_eq!(answer.header("ratelimit-policy"), Some(&*policies.join(", ")));
    let limits = answer.header("ratelimit").unwrap_or_default();
    assert!(limits.starts_with("\"the group search: requests per hour\";r=9;t="), "{limits}");
}

#[test]
fn what_tokens_cost_is_told_where_a_ledger_is_kept_and_what_has_no_price_is_told_apart() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("ledger", "enabled = true").start();
    provider.always(healthy().usage(600_000, 1_000));
    for name in ["gpt-4o", "mock-small"] {
        assert_eq!(spillway.send(&by("shop", chat_of(name))).status(), 200);
        counts(&spillway, &format!("tokens_total{{model=\"{name}\",tenant=\"shop\",direction=\"input\"}}"), 600_000.0);
    }
    counts(&spillway, "unpriced_tokens_total{model=\"mock-small\",tenant=\"shop\"}", 601_000.0);
    assert_eq!(told(&spillway, "unpriced_tokens_total{model=\"gpt-4o\"}"), 0.0);
    let cost = told(&spillway, "cost_dollars_total{model=\"gpt-4o\",tenant=\"shop\"}");
    // It has cost 2.50 dollars a million for years, and answers four times that.
    assert!((cost - 1.51).abs() < 1e-6, "{cost}");
}
