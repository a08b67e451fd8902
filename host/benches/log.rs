//! What a request's line in the log costs whoever logs it, beside what it costs to put it into words there and then.
//!
//! Its standard error is the log, so that is for elsewhere: `cargo bench -p spillway --bench log 2>/dev/null`.
#![allow(missing_docs, reason = "criterion's macros make functions that nobody reads about")]

use criterion::{Criterion, criterion_group, criterion_main};
use spillway::config::LogFormat;
use spillway::observe::log::Log;
use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

/// As many as find room while they wait to be written.
const AT_ONCE: u64 = 2_000;

fn log_a_request(number: u64) {
    tracing::info!(
        request_id = black_box("req_0123456789abcdef"),
        upstream = black_box("openai"),
        model = black_box(Some("gpt-4.1-mini")),
        outcome = black_box("answered"),
        status = black_box(200_u16),
        attempts = black_box(1_u32),
        duration_ms = number,
        policy = black_box(Some("built-in")),
        why = black_box("attempt 1 success in 1234 ms"),
        "request"
    );
}

/// Logs in bursts, which the thread that writes has the time for in between.
fn in_bursts(count: u64) -> Duration {
    let mut took = Duration::ZERO;
    let mut left = count;
    while left > 0 {
        let burst = left.min(AT_ONCE);
        let began = Instant::now();
        (0..burst).for_each(log_a_request);
        took += began.elapsed();
        left -= burst;
        std::thread::sleep(Duration::from_millis(40));
    }
    took
}

fn a_request_is_logged(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a request is logged");
    for (name, json) in [("as text, in words at once", false), ("as JSON, in words at once", true)] {
        let lines = tracing_subscriber::fmt().with_writer(io::sink).with_ansi(false).with_target(false);
        let subscriber: Box<dyn tracing::Subscriber + Send + Sync> =
            if json { Box::new(lines.json().flatten_event(true).finish()) } else { Box::new(lines.finish()) };
        tracing::subscriber::with_default(subscriber, || {
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|count| {
                    let began = Instant::now();
                    (0..count).for_each(log_a_request);
                    began.elapsed()
                })
            });
        });
    }
    let Ok(log) = Log::start(LogFormat::Json) else { return };
    group.bench_function("handed over", |bencher| bencher.iter_custom(in_bursts));
    println!("lines lost meanwhile: {}", log.lost().get());
}

criterion_group!(benches, a_request_is_logged);
criterion_main!(benches);
