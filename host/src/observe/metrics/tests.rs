use super::*;
use crate::config::parse;
use crate::dialect::Usage;
use crate::runtime::clock::Clock;
use spillway_sdk::Class;
use std::path::Path;
use std::time::Instant;

fn metrics(models: usize, tenants: usize) -> Metrics {
    let text = format!("[metrics]\nmax_models = {models}\nmax_tenants = {tenants}");
    let config = parse(&text, Path::new("")).expect("valid");
    Metrics::new(&config.metrics, ["shop"])
}

fn served<'a>(model: &'a str, tenant: &'a str) -> Ended<'a> {
    Ended {
        about: About { model: Some(model), tenant: Some(tenant) },
        outcome: RequestOutcome::Answered,
        status: 200,
        took: Duration::from_millis(1_500),
        first_content: Some(Duration::from_millis(300)),
        waited: Duration::ZERO,
        retries: 1,
        fallbacks: 0,
    }
}

fn used(input: u64, output: u64) -> Usage {
    Usage { input, output, ..Usage::default() }
}

fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn a_request_that_was_served_is_told_by_model_tenant_and_outcome_with_its_durations() {
    let metrics = metrics(10, 10);
    let upstream = metrics.upstream("openai");
    upstream.attempt(Some("small"), Class::Failure, Some(CallFault::Reset));
    upstream.attempt(Some("small"), Class::Success, None);
    upstream.first_content(Some("small"), Duration::from_millis(200));
    upstream.answered(Some("small"), Duration::from_millis(1_400));
    upstream.uses(About { model: Some("small"), tenant: Some("shop") }, &used(70, 7));
    upstream.waited(WaitedFor::Lane, Duration::from_millis(30));
    upstream.ended(&served("small", "shop"));
    let text = metrics.text(0);
    for (series, expected) in [
        ("requests_total{upstream=\"openai\",model=\"small\",outcome=\"answered\"}", 1.0),
        ("attempts_total{upstream=\"openai\",model=\"small\",class=\"success\"}", 1.0),
        // Nobody knew then that there is such a model.
        ("faults_total{upstream=\"openai\",model=\"other\",fault=\"reset\"}", 1.0),
        ("request_duration_seconds_sum{upstream=\"openai\",model=\"small\"}", 1.5),
        ("request_duration_seconds_bucket{le=\"1.4\",upstream=\"openai\",model=\"small\"}", 0.0),
        ("request_duration_seconds_bucket{le=\"1.7\",upstream=\"openai\",model=\"small\"}", 1.0),
        ("request_first_content_seconds_sum{upstream=\"openai\",model=\"small\"}", 0.3),
        ("attempt_duration_seconds_sum{upstream=\"openai\",model=\"small\"}", 1.4),
        ("first_content_seconds_count{upstream=\"openai\",model=\"small\"}", 1.0),
        ("wait_seconds_count{upstream=\"openai\",waited_for=\"lane\"}", 1.0),
        ("request_retries_sum{upstream=\"openai\"}", 1.0),
        ("tokens_total{upstream=\"openai\",model=\"small\",tenant=\"shop\",direction=\"input\"}", 70.0),
        ("tenant_requests_total{tenant=\"shop\",outcome=\"answered\"}", 1.0),
        ("tenant_wait_seconds_count{tenant=\"shop\"}", 1.0),
    ] {
        assert_eq!(value(&text, &format!("spillway_{series}")), Some(expected), "{series}\n{text}");
    }
}

#[test]
fn names_that_were_never_served_are_no_labels() {
    let metrics = metrics(10, 10);
    let upstream = metrics.upstream("openai");
    let ended = Ended { status: 404, ..served("invented", "stranger") };
    upstream.attempt(Some("invented"), Class::Rejected, None);
    upstream.ended(&ended);
    let text = metrics.text(0);
    assert!(!text.contains("invented") && !text.contains("stranger"), "{text}");
    let series = "spillway_requests_total{upstream=\"openai\",model=\"other\",outcome=\"answered\"}";
    assert_eq!(value(&text, series), Some(1.0));
    assert_eq!(value(&text, "spillway_unanswered_duration_seconds_count{upstream=\"openai\"}"), Some(1.0));
}

#[test]
fn beyond_the_bounds_all_is_other_and_nothing_is_lost() {
    let metrics = metrics(3, 2);
    let upstreams = [metrics.upstream("one"), metrics.upstream("two")];
    for n in 0..40 {
        let (model, tenant) = (format!("m{}", n % 5), format!("t{}", n % 4));
        let upstream = &upstreams[n % 2];
        upstream.attempt(Some(&model), Class::Success, None);
        upstream.ended(&served(&model, &tenant));
        upstream.uses(About { model: Some(&model), tenant: Some(&tenant) }, &used(1, 0));
    }
    let text = metrics.text(0);
    let sum = |prefix: &str, with: &str| -> f64 {
        let lines = text.lines().filter(|line| line.starts_with(prefix) && line.contains(with));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    };
    for (name, with) in [("requests_total", "answered"), ("attempts_total", "success"), ("tokens_total", "input")] {
        assert_eq!(sum(&format!("spillway_{name}"), with), 40.0, "{name}");
    }
    let models: std::collections::BTreeSet<_> = text
        .lines()
        .filter(|line| line.starts_with("spillway_attempts_total"))
        .filter_map(|line| line.split("upstream=").nth(1)?.split(",class").next())
        .collect();
    assert_eq!(models.len(), 3 + 2 * 2, "three names, and two shared ones at each upstream: {models:?}");
    assert_eq!(sum("spillway_tenant_requests_total{tenant=\"other\"", "answered"), 20.0);
}

/// The largest exposition that the default bounds allow stays small enough to be asked for every few seconds.
#[test]
fn a_scrape_of_a_thousand_series_is_bounded() {
    let metrics = metrics(50, 50);
    let upstreams = [metrics.upstream("one"), metrics.upstream("two"), metrics.upstream("three")];
    for n in 0..60_000_usize {
        let (model, tenant) = (format!("model-{}", n % 60), format!("tenant-{}", n / 60 % 60));
        let upstream = &upstreams[n % 3];
        upstream.attempt(Some(&model), Class::Success, None);
        upstream.first_content(Some(&model), Duration::from_millis(n as u64 % 700));
        upstream.answered(Some(&model), Duration::from_millis(n as u64 % 7_000));
        upstream.uses(About { model: Some(&model), tenant: Some(&tenant) }, &used(1, 1));
        upstream.ended(&served(&model, &tenant));
    }
    let began = Instant::now();
    let text = metrics.text(0);
    let (took, lines) = (began.elapsed(), text.lines().count());
    println!("{lines} lines, {} bytes, in {took:?}", text.len());
    assert!(text.ends_with("# EOF\n"));
    let shares = text.lines().filter(|line| line.starts_with("spillway_tokens_total")).count() / 2;
    assert!((1_000..=1_000 + 56 * 2).contains(&shares), "{shares}");
    assert!(lines < 40_000 && text.len() < 5_000_000, "{lines} lines, {} bytes", text.len());
}

/// What stands in docs/metrics.md is what is told, no more and no less.
#[test]
fn every_metric_is_documented_and_nothing_else_is() {
    let page = include_str!("../../../../docs/metrics.md");
    let mut metrics = metrics(10, 10);
    metrics.show_log(&Counter::default());
    metrics.show_policies(Arc::new(policy::Registry::new(Clock::start())));
    metrics.show_recordings(&Recordings::default());
    metrics.show_guards(Arc::default());
    let labels = parse("", Path::new("")).expect("the defaults").labels;
    metrics.show_labels(Arc::new(labels::Labels::new(&labels)));
    let _upstream = metrics.upstream("openai");
    metrics.route("chain").fallback("first", "second");
    metrics.show_jobs(&BTreeMap::from([("queued", 1)]), Duration::ZERO);
    let text = metrics.text(0);
    let mut told: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
        // Only where there is a spool.
        .chain(["spillway_spool_troubles".to_owned()])
        .collect();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `spillway_")?.split_once('`'));
    let mut documented: Vec<String> = rows.map(|(name, _)| format!("spillway_{name}")).collect();
    told.sort();
    documented.sort();
    assert_eq!(told, documented);
}
