use super::*;
use crate::config::parse;
use crate::metrics::Metrics;
use crate::policy::{Judge, Registry};
use spillway_sdk::Verdict;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const TOKENS: u64 = 1_000_000;

fn upstream() -> (Arc<Upstream>, Clock) {
    let clock = Clock::start();
    let text = format!("[upstreams.openai.limits]\ntokens_per_minute = {TOKENS}\nrequests_per_minute = {TOKENS}\n");
    let config = parse(&text, Path::new("")).expect("valid").upstreams.remove("openai").expect("an upstream");
    let slot = Registry::new(clock).slot("default");
    let metrics = Arc::new(Metrics::default().upstream("openai"));
    (Arc::new(Upstream::new("openai", config, slot, metrics, clock, Arc::default())), clock)
}

/// Gives way once, as every await point of a request can.
async fn await_point() {
    let mut passed = false;
    std::future::poll_fn(|_| if std::mem::replace(&mut passed, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// What a request holds on its way, with an await point behind each step.
async fn request(upstream: &Arc<Upstream>, judge: &mut Judge, credential: u64, verdict: &Verdict) {
    await_point().await;
    let Ok(reserved) = upstream.reserve(10) else { return };
    await_point().await;
    let Ok(admission) = upstream.circuits.admit(Some("model"), credential) else { return };
    await_point().await;
    upstream.circuits.settle(admission, verdict, Duration::ZERO, judge, &upstream.policy);
    await_point().await;
    reserved.settle(Settlement::Used(0));
    await_point().await;
}

#[test]
fn case_40_a_million_requests_dropped_at_any_await_point_leave_nothing_behind() {
    let (upstream, clock) = upstream();
    let mut judge = Judge::new(clock);
    let verdicts = [Verdict::success(), Verdict::throttled("slow down"), Verdict::rejected("bad"), Verdict::success()];
    let mut context = Context::from_waker(Waker::noop());
    let mut random = fastrand::Rng::with_seed(40);
    for _ in 0..1_000_000 {
        let verdict = &verdicts[random.usize(..verdicts.len())];
        let mut request = pin!(request(&upstream, &mut judge, random.u64(..4), verdict));
        for _ in 0..random.usize(..8) {
            if request.as_mut().poll(&mut context).is_ready() {
                break;
            }
        }
    }
    let in_flight: u32 = upstream.circuits.look().iter().map(|look| look.statistics.in_flight).sum();
    assert_eq!(in_flight, 0, "every permit came back");
    assert_eq!(upstream.tokens_available(), i64::try_from(TOKENS).ok(), "every token came back");
}

#[test]
fn a_reservation_that_is_dropped_before_its_call_costs_nothing_and_after_it_its_estimate() {
    let (upstream, _) = upstream();
    drop(upstream.reserve(600_000).expect("it fits"));
    let mut sent = upstream.reserve(600_000).expect("it fits again");
    sent.sent();
    drop(sent);
    let refused = upstream.reserve(600_000).map(drop).expect_err("what was sent may have been counted");
    assert_eq!(refused.limit, TOKENS);
}
