//! Outages in simulated time: what the default settings cost and how fast they recover.

use super::*;

/// The constants are those of Knuth's MMIX generator; the high bits are random enough for a
/// simulation.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ (self.0 >> 32)
    }

    fn chance(&mut self, percent: u64) -> bool {
        (self.next() >> 20) % 100 < percent
    }
}

struct Outage {
    requests: u64,
    calls: u64,
    time_to_recovery: Duration,
}

/// A steady stream of requests, each failing within 0.2 s until the upstream is back.
fn outage(interval: Duration, seed: u64) -> Outage {
    let mut random = Random(seed);
    let start = Timestamp::from_micros(random.next() % 1_000_000);
    let mut breaker = Breaker::new(BreakerSettings::default(), start);
    let end = start.saturating_add(seconds(120) + Duration::from_micros(random.next() % 30_000_000));
    let mut in_flight = std::collections::VecDeque::new();
    let mut outage = Outage { requests: 0, calls: 0, time_to_recovery: Duration::ZERO };
    let mut now = start;
    loop {
        while let Some((done, permit)) = in_flight.pop_front() {
            if done > now {
                in_flight.push_front((done, permit));
                break;
            }
            let outcome = if done < end { Outcome::Failure } else { Outcome::Success };
            let recorded = breaker.record(permit, outcome, QUICK, None, done, random.next());
            if let Some(pending) = recorded.judgement {
                let _ = breaker.judge(pending, None, done, random.next());
            }
        }
        if now >= end && breaker.state() == CircuitState::Closed {
            outage.time_to_recovery = now.saturating_since(end);
            return outage;
        }
        let during = u64::from(now < end);
        outage.requests += during;
        if let Ok(Admitted { permit, .. }) = breaker.admit(now) {
            outage.calls += during;
            in_flight.push_back((now.saturating_add(QUICK), permit));
        }
        now = now.saturating_add(interval);
    }
}

#[test]
fn a_total_outage_wastes_little_and_is_over_within_five_seconds() {
    // What was in flight when the circuit opened weighs more the fewer requests there are.
    for (rate, wasted_most) in [(50, 0.0075), (100, 0.005), (200, 0.005)] {
        let interval = Duration::from_millis(1000 / rate);
        let outages: Vec<Outage> = (1..=30).map(|seed| outage(interval, seed)).collect();
        let sum = |of: fn(&Outage) -> u64| outages.iter().map(of).sum::<u64>() as f64;
        let wasted = sum(|outage| outage.calls) / sum(|outage| outage.requests);
        let mut recoveries: Vec<Duration> = outages.iter().map(|o| o.time_to_recovery).collect();
        recoveries.sort_unstable();
        let (median, p95) = (recoveries[14], recoveries[28]);
        println!("{rate}/s: {:.2} % wasted, recovery {median:?} / {p95:?}", wasted * 100.0);
        assert!(wasted <= wasted_most, "{wasted}");
        assert!(p95 <= seconds(5), "{p95:?}");
    }
}

#[test]
fn random_errors_of_two_percent_never_open_the_circuit() {
    let mut random = Random(1);
    let mut circuit = Circuit::new(BreakerSettings::default());
    let mut failures = 0;
    for _ in 0..1_000_000 {
        circuit.pass(Duration::from_millis(20));
        let failed = random.chance(2);
        failures += u32::from(failed);
        circuit.call(if failed { Outcome::Failure } else { Outcome::Success });
    }
    assert!((19_000..21_000).contains(&failures), "{failures}");
    assert_eq!(circuit.transitions, []);
}
