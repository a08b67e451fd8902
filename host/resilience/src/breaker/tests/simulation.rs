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
    probes: u64,
    time_to_recovery: Duration,
}

/// A steady stream of requests, each failing within 0.2 s until the upstream is back.
fn outage(settings: BreakerSettings, interval: Duration, shortest: Duration, seed: u64) -> Outage {
    let mut random = Random(seed);
    let start = Timestamp::from_micros(random.next() % 1_000_000);
    let mut breaker = Breaker::new(settings, start);
    let end = start.saturating_add(shortest + Duration::from_micros(random.next() % 30_000_000));
    let mut in_flight = std::collections::VecDeque::new();
    let mut outage = Outage { requests: 0, calls: 0, probes: 0, time_to_recovery: Duration::ZERO };
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
            outage.probes += if permit.is_probe() { during } else { 0 };
            in_flight.push_back((now.saturating_add(QUICK), permit));
        }
        now = now.saturating_add(interval);
    }
}

struct Cost {
    /// Calls, as a share of the requests during the outages.
    wasted: f64,
    /// Those of them that were probes.
    probes: f64,
    /// The 95th percentile.
    time_to_recovery: Duration,
}

/// The cost of so many outages, each up to half a minute longer than the shortest.
fn cost(settings: BreakerSettings, rate: u64, shortest: u64, seeds: u64) -> Cost {
    let interval = Duration::from_micros(1_000_000 / rate);
    let outages: Vec<Outage> = (1..=seeds).map(|seed| outage(settings, interval, seconds(shortest), seed)).collect();
    let sum = |of: fn(&Outage) -> u64| outages.iter().map(of).sum::<u64>() as f64;
    let requests = sum(|outage| outage.requests);
    let (wasted, probes) = (sum(|outage| outage.calls) / requests, sum(|outage| outage.probes) / requests);
    let mut recoveries: Vec<Duration> = outages.iter().map(|o| o.time_to_recovery).collect();
    recoveries.sort_unstable();
    let time_to_recovery = recoveries[recoveries.len() * 95 / 100];
    println!("{rate}/s: {:.3} % wasted, {:.3} % probes, {time_to_recovery:?}", wasted * 100.0, probes * 100.0);
    Cost { wasted, probes, time_to_recovery }
}

#[test]
fn a_total_outage_wastes_little_and_is_over_within_five_seconds() {
    // What was in flight when the circuit opened weighs more the fewer the requests are and the
    // shorter the outage is.
    for (rate, shortest, seeds, wasted_most) in
        [(50, 120, 60, 0.0067), (50, 600, 20, 0.005), (100, 120, 30, 0.005), (200, 120, 20, 0.005)]
    {
        let cost = cost(BreakerSettings::default(), rate, shortest, seeds);
        assert!(cost.wasted <= wasted_most, "{}", cost.wasted);
        assert!(cost.probes <= 0.005, "{}", cost.probes);
        assert!(cost.time_to_recovery <= seconds(5), "{:?}", cost.time_to_recovery);
    }
}

/// At 50 requests a second ten calls are in flight when the first failure returns. They and one
/// probe in five seconds, the fewest that notice a recovery in time, are more than 0.5 % of two
/// minutes' requests. So the defaults keep the time to recovery.
#[test]
fn no_cooldown_has_both_figures_in_short_outages_at_fifty_requests_a_second() {
    let keen = |millis| {
        let cooldown = Duration::from_millis(millis);
        let settings = BreakerSettings { consecutive_failures: Some(1), cooldown, ..plain() };
        cost(BreakerSettings { cooldown_max: cooldown, ..settings }, 50, 120, 60)
    };
    let prompt = keen(4_900);
    assert!(prompt.time_to_recovery <= seconds(5) && prompt.wasted > 0.005, "even if the first failure opens");
    let thrifty = keen(5_900);
    assert!(thrifty.time_to_recovery > seconds(5) && thrifty.wasted <= 0.005);
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
