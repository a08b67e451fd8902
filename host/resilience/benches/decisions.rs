//! What a decision costs: one admission and its record, alone and with two cores at the same breaker and limiter.
//!
//! `cargo xtask bench` runs it. Figures of one run are comparable with each other, not with those of other machines.

use criterion::{Criterion, criterion_group, criterion_main};
use spillway_resilience::{
    AdaptiveLimit, AdaptiveLimitSettings, AdmissionQueue, Advice, Breaker, BreakerKind, BreakerSettings, Circumstances,
    Class, Concurrency, Consequence, Demand, Entry, FairQueueSettings, Feedback, FirstContent, Limiter, Outcome,
    Priority, Progress, RetryBudget, RetryBudgetSettings, Scope, Settlement, Spend, Tenant, Timestamp, TokenBucket,
    Verdict,
};
use std::hint::black_box;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Calls arrive this far apart, so that the window rotates as it does under a thousand requests a second.
const SPACING_MICROS: u64 = 1_000;

/// A clock that is moved by hand: reading the system's would cost as much as a decision.
struct Steps(u64);

impl Steps {
    fn next(&mut self) -> Timestamp {
        self.0 += SPACING_MICROS;
        Timestamp::from_micros(self.0)
    }
}

const SERVED: Verdict =
    Verdict { class: Class::Success, scope: Scope::Upstream, advice: Advice::GiveUp, cool_off: None };

const CIRCUMSTANCES: Circumstances = Circumstances {
    breaker: BreakerKind::Adaptive,
    named: None,
    named_pause_max: Duration::from_secs(600),
    progress: Progress::Answered,
    took: Duration::from_secs(1),
    quick_attempt_max: Duration::from_secs(10),
    first_content: FirstContent::After(Duration::from_millis(300)),
    input_tokens: 400,
    used_tokens: Some(900),
    has_failed_before: false,
    has_come_back: false,
    was_slept_through: false,
    suspects_overload: false,
};

fn breaker() -> Breaker {
    Breaker::new(BreakerSettings::default(), Timestamp::ORIGIN)
}

fn limiter() -> Limiter {
    let bucket = |per_minute| Some(TokenBucket::new(per_minute, per_minute, Timestamp::ORIGIN));
    Limiter::new(bucket(1_000_000_000), bucket(1_000_000_000_000))
}

fn admission() -> AdmissionQueue {
    let concurrency = Concurrency::Adaptive(AdaptiveLimit::new(AdaptiveLimitSettings::default()));
    AdmissionQueue::new(limiter(), concurrency, FairQueueSettings::default())
}

/// One call's worth of admission: let in at once, since there is room, and settled as answered.
fn enter_and_settle(admission: &mut AdmissionQueue, now: Timestamp) {
    let demand = Demand { tenant: Tenant::new(7), priority: Priority::Normal, tokens: black_box(1_200), group: None };
    if let Ok(Entry::Passed(pass)) = admission.enter(demand, now.saturating_add(Duration::from_secs(10)), now) {
        let feedback = Feedback::Answered { first_token: Duration::from_millis(300), input_tokens: 400 };
        black_box(admission.settle(pass, Settlement::Used(900), feedback, now));
    }
}

/// One call's worth of breaker: admitted, and recorded as a quick success.
fn admit_and_record(breaker: &mut Breaker, now: Timestamp) {
    if let Ok(admitted) = breaker.admit(now) {
        let recorded = breaker.record(admitted.permit, Outcome::Success, Duration::from_millis(300), None, now, 7);
        black_box(recorded.judgement.is_some());
    }
}

/// One call's worth of limiter: reserved by estimate, settled by usage.
fn reserve_and_settle(limiter: &mut Limiter, now: Timestamp) {
    if let Ok(reservation) = limiter.reserve(black_box(1_200), now) {
        limiter.settle(reservation, Settlement::Used(900), now);
    }
}

fn alone(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("alone");
    let (mut core, mut steps) = (breaker(), Steps(0));
    group.bench_function("breaker: admit and record a success", |bencher| {
        bencher.iter(|| admit_and_record(&mut core, steps.next()));
    });
    let (mut core, mut steps) = (breaker(), Steps(0));
    group.bench_function("breaker: admit and record a failure, judged", |bencher| {
        bencher.iter(|| {
            let now = steps.next();
            let Ok(admitted) = core.admit(now) else { return };
            let took = Duration::from_millis(300);
            let recorded = core.record(admitted.permit, Outcome::Throttled, took, None, now, 7);
            if let Some(pending) = recorded.judgement {
                black_box(core.judge(pending, None, now, 7));
            }
        });
    });
    let (mut core, mut steps) = (limiter(), Steps(0));
    group.bench_function("limiter: reserve and settle", |bencher| {
        bencher.iter(|| reserve_and_settle(&mut core, steps.next()));
    });
    let (mut core, mut steps) = (admission(), Steps(0));
    group.bench_function("admission queue: enter and settle", |bencher| {
        bencher.iter(|| enter_and_settle(&mut core, steps.next()));
    });
    group.bench_function("consequence: of a success", |bencher| {
        bencher.iter(|| Consequence::of(black_box(SERVED), black_box(&CIRCUMSTANCES)));
    });
    let mut budget = RetryBudget::new(RetryBudgetSettings::default(), Timestamp::ORIGIN);
    group.bench_function("retry budget: deposit and withdraw", |bencher| {
        bencher.iter(|| {
            budget.earn(1.0);
            black_box(budget.try_spend(Spend::Retry, Timestamp::ORIGIN))
        });
    });
    group.finish();
}

/// Wall-clock time of `count` calls on each of two threads that share what they call.
fn of_two_threads<T: Send>(shared: &Mutex<T>, count: u64, call: impl Fn(&mut T, Timestamp) + Sync) -> Duration {
    let barrier = Barrier::new(2);
    let run = || {
        let mut steps = Steps(0);
        barrier.wait();
        let began = Instant::now();
        for _ in 0..count {
            let now = steps.next();
            // A panic in the other thread ends the benchmark anyway.
            let mut value = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            call(&mut value, now);
        }
        began.elapsed()
    };
    thread::scope(|scope| {
        let other = scope.spawn(run);
        let own = run();
        other.join().unwrap_or(own).max(own)
    })
}

fn contended(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("two cores behind one lock");
    let shared = Mutex::new(breaker());
    group.bench_function("breaker: admit and record a success", |bencher| {
        bencher.iter_custom(|count| of_two_threads(&shared, count, admit_and_record));
    });
    let shared = Mutex::new(limiter());
    group.bench_function("limiter: reserve and settle", |bencher| {
        bencher.iter_custom(|count| of_two_threads(&shared, count, reserve_and_settle));
    });
    let shared = Mutex::new(admission());
    group.bench_function("admission queue: enter and settle", |bencher| {
        bencher.iter_custom(|count| of_two_threads(&shared, count, enter_and_settle));
    });
    group.finish();
}

criterion_group!(benches, alone, contended);
criterion_main!(benches);
