use super::*;
use crate::config::parse;
use crate::observe::metrics::Metrics;
use crate::policy::{Judge, Registry};
use crate::upstream::gate::{Admission, AdmissionPermit, Turn};
use crate::upstream::verdict::consequence;
use http::{HeaderMap, HeaderName, HeaderValue};
use spillway_resilience::{BreakerKind, Demand, Feedback, Priority, Settlement, Tenant, Timestamp};
use std::cell::RefCell;
use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

const TOKENS: u64 = 1_000_000;
const NEVER: Timestamp = Timestamp::from_micros(u64::MAX);

fn upstream(more: &str) -> (Arc<Upstream>, Clock) {
    let clock = Clock::start();
    let text = format!(
        "[upstreams.openai.limits]\ntokens_per_minute = {TOKENS}\nrequests_per_minute = {TOKENS}\n\
         [upstreams.openai.concurrency]\n{more}\n"
    );
    let mut config = parse(&text, Path::new("")).expect("valid");
    let slot = Registry::new(clock).slot("default");
    let metrics = Metrics::new(&config.metrics, []).upstream("openai");
    let config = config.upstreams.remove("openai").expect("an upstream");
    let fingerprints = FingerprintKey::from_bytes([1; 32]);
    let (shares, circuit_changed) = (Shares::default(), Arc::default());
    let common = Common { fingerprints: &fingerprints, shares: &shares, circuit_changed: &circuit_changed, clock };
    (Arc::new(Upstream::new("openai", config, slot, metrics, common)), clock)
}

fn demand(tenant: u64, tokens: u64) -> Demand {
    Demand { tenant: Tenant::new(tenant), priority: Priority::Normal, tokens, group: None }
}

fn available(upstream: &Upstream, dimension: Dimension) -> Option<i64> {
    upstream.gate.look(|queue, now| queue.limiter().available(dimension, now))
}

/// Gives way once, as every await point of a request can.
async fn await_point() {
    let mut passed = false;
    poll_fn(|_| if std::mem::replace(&mut passed, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

async fn enter(upstream: &Upstream, demand: Demand) -> Option<AdmissionPermit> {
    match upstream.gate.ask(demand, NEVER).ok()? {
        Admission::Admitted(permit) => Some(permit),
        Admission::Waits(mut waiting) => {
            poll_fn(|context| match waiting.turn(context.waker()) {
                Turn::Left(outcome) => Poll::Ready(outcome.ok()),
                Turn::Waits(_) => Poll::Pending,
            })
            .await
        }
    }
}

/// What a request holds on its way, with an await point behind each step.
async fn request(upstream: Arc<Upstream>, judge: Rc<RefCell<Judge>>, tenant: u64, verdict: Verdict) {
    await_point().await;
    let Some(permit) = enter(&upstream, demand(tenant, 10)).await else { return };
    await_point().await;
    let subject = Subject { model: Some("model"), credential: tenant };
    let Ok(admission) = upstream.circuits.admit(subject) else { return };
    await_point().await;
    let consequence = consequence(&verdict, BreakerKind::Adaptive);
    let policy = &*upstream.policy;
    let none = Duration::ZERO;
    upstream.circuits.settle(admission, subject, &consequence, None, none, (&mut judge.borrow_mut(), policy));
    await_point().await;
    permit.settle(Settlement::Used(0), Feedback::Neutral);
    await_point().await;
}

#[test]
fn case_40_a_million_requests_dropped_at_any_await_point_leave_nothing_behind() {
    let (upstream, clock) = upstream("max_in_flight = 2\nadaptive = false");
    let judge = Rc::new(RefCell::new(Judge::new(clock)));
    let verdicts = [Verdict::success(), Verdict::failure("status 500"), Verdict::rejected("bad"), Verdict::success()];
    let mut context = Context::from_waker(Waker::noop());
    let mut random = fastrand::Rng::with_seed(40);
    // A few at a time, so that some wait for a place while others leave theirs.
    let mut under_way: [Option<Pin<Box<dyn Future<Output = ()>>>>; 5] = Default::default();
    let (mut begun, mut have_waited) = (0, 0);
    while begun < 1_000_000 {
        let place = &mut under_way[random.usize(..5)];
        match place {
            Some(request) if random.u8(..8) > 0 => {
                if request.as_mut().poll(&mut context).is_ready() {
                    *place = None;
                }
            }
            Some(_) => *place = None,
            None => {
                begun += 1;
                let verdict = verdicts[random.usize(..verdicts.len())].clone();
                *place = Some(Box::pin(request(Arc::clone(&upstream), Rc::clone(&judge), random.u64(..4), verdict)));
            }
        }
        have_waited += upstream.gate.look(|queue, _| usize::from(queue.waiting() > 0));
    }
    assert!(have_waited > 100_000, "the queue was hardly used: {have_waited}");
    under_way = Default::default();
    drop(under_way);
    let in_flight: u32 = upstream.circuits.look().iter().map(|look| look.statistics.in_flight).sum();
    assert_eq!(in_flight, 0, "every permit came back");
    assert_eq!(upstream.gate.look(|queue, _| (queue.waiting(), queue.concurrency().in_flight())), (0, 0));
    assert_eq!(available(&upstream, Dimension::Tokens), i64::try_from(TOKENS).ok(), "every token came back");
}

#[test]
fn a_pass_that_is_dropped_before_its_call_costs_nothing_and_after_it_its_estimate() {
    let (upstream, clock) = upstream("");
    let enter = || match upstream.gate.ask(demand(1, 600_000), clock.now()) {
        Ok(Admission::Admitted(permit)) => Ok(permit),
        other => Err(Box::new(other)),
    };
    drop(enter().expect("it fits"));
    let mut sent = enter().expect("it fits again");
    sent.sent();
    drop(sent);
    assert!(enter().is_err_and(|other| other.is_err()), "what was sent may have been counted");
}

fn answer_with(headers: &[(&'static str, &'static str)]) -> Record {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    Record { headers: Rc::new(map), ..Record::for_tests() }
}

#[test]
fn a_provider_that_reports_less_than_we_believe_is_believed() {
    let (upstream, _) = upstream("");
    let report = answer_with(&[
        ("x-ratelimit-limit-tokens", "1000000"),
        ("x-ratelimit-remaining-tokens", "4000"),
        ("x-ratelimit-reset-tokens", "60s"),
    ]);
    upstream.learn(&report, &Verdict::success());
    let left = available(&upstream, Dimension::Tokens).expect("a figure");
    assert!((4_000..5_000).contains(&left), "{left}");
    assert_eq!(available(&upstream, Dimension::Requests), i64::try_from(TOKENS).ok(), "of requests it said nothing");
}

#[test]
fn a_report_of_a_smaller_limit_is_another_models() {
    let (upstream, _) = upstream("");
    let report = answer_with(&[("x-ratelimit-limit-tokens", "30000"), ("x-ratelimit-remaining-tokens", "0")]);
    upstream.learn(&report, &Verdict::success());
    assert_eq!(available(&upstream, Dimension::Tokens), i64::try_from(TOKENS).ok());
}

#[test]
fn a_refused_call_closes_the_door_for_as_long_as_it_says() {
    let (upstream, clock) = upstream("");
    let report = answer_with(&[("x-ratelimit-limit-tokens", "1000000"), ("x-ratelimit-remaining-tokens", "0")]);
    upstream.learn(&report, &Verdict::throttled("429").cool_off(Duration::from_secs(7)));
    let away = upstream.gate.ask(demand(1, 1), clock.now()).expect_err("nothing is left");
    assert!((6..=7).contains(&away.retry_after.as_secs()), "{away:?}");
}
