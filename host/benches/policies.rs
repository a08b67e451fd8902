//! What policies cost: a question to the judge as every attempt asks it, in Wasm and native; loading, starting, swapping.
//!
//! `cargo xtask bench` runs it. Figures of one run are comparable with each other, not with those of other machines.
#![allow(missing_docs, reason = "a benchmark")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot be set up fails by panicking")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue};
use latency_trip::LatencyTrip;
use local_model::LocalModel;
use spillway::dialect::Dialect;
use spillway::policy::Record;
use spillway::policy::{Judge, Limits, Registry, Role, Runtime, Sha256Sum, Slot};
use spillway::runtime::clock::Clock;
use spillway_sdk::testing::window;
use spillway_sdk::{Advice, AttemptFacts, Exchange, Phase, Policy, Verdict, WindowFacts};
use spillway_tests::spillway::policy_file;
use std::cell::{Cell, OnceCell};
use std::fs;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The policies that come with Spillway.
const SHIPPED: [&str; 3] = ["default", "error-in-success", "latency-trip"];
/// Written between two calls to empty the processor's caches, as a proxy's other work does: larger than they are.
const CACHES_BYTES: usize = 8 << 20;
/// Policies in the folder at a start.
const CACHED: usize = 10;

fn file(name: &str) -> Vec<u8> {
    fs::read(policy_file(name)).unwrap()
}

/// A judge, and a slot in which `policy` serves; the built-in one where there is none.
fn serving(runtime: &Runtime, policy: Option<&str>) -> (Judge, Arc<Slot>) {
    let clock = Clock::start();
    let registry = Registry::new(clock);
    let slot = registry.slot("p");
    if let Some(name) = policy {
        let file = file(name);
        let sha256 = Sha256Sum::of(&file);
        registry.install("p", Role::Active, sha256, runtime.load(&file, sha256, name, "{}", Limits::STANDARD).unwrap());
    }
    (Judge::new(clock), slot)
}

/// What the proxy shows a policy of an answer with ten headers.
fn answered(status: u16, body: String) -> Rc<dyn AttemptFacts> {
    let headers = [
        ("date", "Fri, 20 Nov 2026 10:00:00 GMT"),
        ("content-type", "application/json"),
        ("x-request-id", "req_0123456789abcdef"),
        ("openai-processing-ms", "12"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "8ms"),
        ("retry-after", "2"),
        ("server", "cloudflare"),
        ("cf-ray", "0123456789abcdef-FRA"),
    ];
    let headers = headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let now = Instant::now();
    Rc::new(Record {
        upstream: Arc::from("openai"),
        dialect: Dialect::OpenAi,
        model: Some("gpt-4.1-mini".into()),
        streaming: false,
        number: 1,
        phase: Phase::BeforeContent,
        fault: None,
        cause: None,
        status: Some(status),
        headers: Rc::new(HeaderMap::from_iter(headers)),
        prefix: body.into(),
        // A body is parsed once per attempt, whoever asks; so the first question of all pays for it, and here none does.
        error: OnceCell::new(),
        json: OnceCell::new(),
        elapsed: Duration::from_millis(300),
        first_content: Cell::new(None),
        began: now,
        deadline: now,
    })
}

/// A rate limit whose body has a kibibyte.
fn throttled() -> Rc<dyn AttemptFacts> {
    let message = "Rate limit reached. ".repeat(47);
    let error = serde_json::json!({"error": {"message": message, "type": "tokens", "param": null,
                                             "code": "rate_limit_exceeded"}});
    answered(429, error.to_string())
}

fn success() -> Rc<dyn AttemptFacts> {
    answered(200, "x".repeat(1_024))
}

/// A local server that is not ready yet.
fn loading_its_model() -> Rc<dyn AttemptFacts> {
    let error = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
    answered(503, error.to_owned())
}

fn calls(criterion: &mut Criterion) {
    let runtime = Runtime::start(None).unwrap();
    let mut group = criterion.benchmark_group("a question to the judge");
    for (who, policy) in [("native", None), ("Wasm", Some("default"))] {
        let (mut judge, slot) = serving(&runtime, policy);
        for (what, facts) in [("a success", success()), ("a rate limit", throttled())] {
            let by = judge.classify(&slot, Rc::clone(&facts)).by;
            assert_eq!(by.sha256.is_some(), policy.is_some(), "{who} answers");
            group.bench_function(format!("classify {what}, {who}"), |bencher| {
                bencher.iter(|| black_box(judge.classify(&slot, Rc::clone(&facts))));
            });
        }
    }
    // In a proxy, a request's other work is done between two calls.
    for (who, policy) in [("native", None), ("Wasm", Some("default"))] {
        let (mut judge, slot) = serving(&runtime, policy);
        let (facts, mut caches) = (success(), vec![0_u8; CACHES_BYTES]);
        group.bench_function(format!("classify a success with cold caches, {who}"), |bencher| {
            let empty_caches = || black_box(&mut caches).iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
            let classify = |()| black_box(judge.classify(&slot, Rc::clone(&facts)));
            bencher.iter_batched(empty_caches, classify, BatchSize::PerIteration);
        });
    }
    let (facts, verdict) = (loading_its_model(), Verdict::ignored("the model is loading").advice(Advice::Retry));
    let native = LocalModel::default();
    group.bench_function("backoff, native", |bencher| {
        bencher.iter(|| black_box(native.backoff(&Exchange::new(&*facts), &verdict)));
    });
    let (mut judge, slot) = serving(&runtime, Some("local-model"));
    assert!(judge.backoff(&slot, Rc::clone(&facts), &verdict).is_some());
    group.bench_function("backoff, Wasm", |bencher| {
        bencher.iter(|| black_box(judge.backoff(&slot, Rc::clone(&facts), &verdict)));
    });
    let window = window().calls(100, 0).latencies((1..=100).map(Duration::from_millis));
    let native = LatencyTrip::default();
    group.bench_function("trip, native", |bencher| bencher.iter(|| black_box(native.trip(&window.window()))));
    let (mut judge, slot) = serving(&runtime, Some("latency-trip"));
    let seen: Rc<dyn WindowFacts> = Rc::new(window);
    group.bench_function("trip, Wasm", |bencher| bencher.iter(|| black_box(judge.trip(&slot, Rc::clone(&seen)))));
    group.finish();
}

fn loading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("loading");
    group.sample_size(10);
    let bare = Runtime::start(None).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let dir = cache.path().join("cache");
    let caching = Runtime::start(Some(&dir)).unwrap();
    for name in SHIPPED {
        let file = file(name);
        let sha256 = Sha256Sum::of(&file);
        let label = format!("{name}, {} KiB", file.len() / 1_024);
        group.bench_function(format!("{label}, compiled"), |bencher| {
            bencher.iter(|| bare.load(&file, sha256, name, "{}", Limits::STANDARD).unwrap());
        });
        caching.load(&file, sha256, name, "{}", Limits::STANDARD).unwrap();
        group.bench_function(format!("{label}, from the cache"), |bencher| {
            bencher.iter(|| caching.load(&file, sha256, name, "{}", Limits::STANDARD).unwrap());
        });
    }
    group.finish();
}

/// Ten policies that differ in a byte which means nothing, so that each has a file of its own in the cache.
fn ten_files() -> Vec<(Vec<u8>, Sha256Sum)> {
    let files = (0..CACHED).map(|index| {
        let mut file = file(SHIPPED[index % SHIPPED.len()]);
        // A custom section without a name that holds one byte.
        file.extend([0, 2, 0, u8::try_from(index).unwrap()]);
        let sha256 = Sha256Sum::of(&file);
        (file, sha256)
    });
    files.collect()
}

fn starting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("starting");
    group.sample_size(10);
    let cache = tempfile::tempdir().unwrap();
    let dir = cache.path().join("cache");
    let files = ten_files();
    let start = || {
        let runtime = Runtime::start(Some(&dir)).unwrap();
        let load =
            |(file, sha256): &(Vec<u8>, Sha256Sum)| runtime.load(file, *sha256, "p", "{}", Limits::STANDARD).unwrap();
        files.iter().map(load).collect::<Vec<_>>()
    };
    start();
    group.bench_function("with ten policies in the cache", |bencher| bencher.iter(start));
    group.finish();
}

fn swapping(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("swapping");
    group.sample_size(20);
    let file = file("default");
    let sha256 = Sha256Sum::of(&file);
    let clock = Clock::start();
    let registry = Registry::new(clock);
    let (slot, facts) = (registry.slot("p"), success());
    let mut judge = Judge::new(clock);
    // What a worker pays for the first question after a swap: an instance.
    let cache = tempfile::tempdir().unwrap();
    let dir = cache.path().join("cache");
    let caching = Runtime::start(Some(&dir)).unwrap();
    group.bench_function("installing, and a worker's first question to what is new", |bencher| {
        let module = || caching.load(&file, sha256, "p", "{}", Limits::STANDARD).unwrap();
        bencher.iter_batched(
            module,
            |module| {
                registry.install("p", Role::Active, sha256, module);
                black_box(judge.classify(&slot, Rc::clone(&facts)))
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, calls, loading, starting, swapping);
criterion_main!(benches);
