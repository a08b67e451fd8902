//! Whatever happens in whatever order, the breaker does what its model does.

use super::model::{Counted, Model, Pass, Phase, Rules};
use super::*;

/// All times are multiples of this, so that deadlines are often met exactly; it divides the tenth
/// of every window.
const TICK: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
enum Step {
    Admit,
    Settle {
        which: Which,
        ending: Ending,
    },
    /// An admission and its settlement at once.
    Call(Ending),
    PassTicks(u32),
    PassMicrosecond,
    /// Time passes until a refused call may ask again.
    AwaitRetry,
    /// The same, but for a microsecond.
    AlmostAwaitRetry,
    Poll,
    ForceOpen,
    Disable,
    Reset,
}

#[derive(Clone, Debug)]
enum Which {
    Newest,
    Any(prop::sample::Index),
}

#[derive(Clone, Copy, Debug)]
struct Ending {
    outcome: Outcome,
    took: Duration,
    /// Ticks from now at which the provider wants to be called again; they may be over.
    asked: Option<i32>,
}

fn ending() -> impl Strategy<Value = Ending> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Success),
        6 => Just(Outcome::Failure),
        1 => Just(Outcome::Overloaded),
        1 => Just(Outcome::Throttled),
        2 => Just(Outcome::Ignored),
    ];
    let slow = BreakerSettings::DEFAULT_SLOW_CALL_DURATION;
    let took = prop_oneof![4 => Just(QUICK), 1 => Just(slow), 2 => Just(slow + Duration::from_micros(1))];
    let asked = prop::option::weighted(0.08, prop_oneof![-5..30, -5..400]);
    (outcome, took, asked).prop_map(|(outcome, took, asked)| Ending { outcome, took, asked })
}

fn step() -> impl Strategy<Value = Step> {
    let which = prop_oneof![Just(Which::Newest), any::<prop::sample::Index>().prop_map(Which::Any)];
    prop_oneof![
        24 => Just(Step::Admit),
        16 => (which, ending()).prop_map(|(which, ending)| Step::Settle { which, ending }),
        24 => ending().prop_map(Step::Call),
        8 => prop_oneof![4 => 1_u32..6, 3 => 1_u32..60, 1 => 1_u32..600].prop_map(Step::PassTicks),
        1 => Just(Step::PassMicrosecond),
        16 => Just(Step::AwaitRetry),
        2 => Just(Step::AlmostAwaitRetry),
        4 => Just(Step::Poll),
        1 => Just(Step::ForceOpen),
        1 => Just(Step::Disable),
        2 => Just(Step::Reset),
    ]
}

/// Thresholds low enough to be met often; stalls and ramps are mostly off.
fn rules() -> impl Strategy<Value = Rules> {
    let window = prop_oneof![
        (1_u64..20).prop_map(|length| WindowKind::Time(seconds(length))),
        (1_u32..12).prop_map(WindowKind::Count)
    ];
    let percent = || prop::option::of(1_u32..=100);
    let closing = (prop::option::of(1_u32..6), percent(), percent(), 1_u32..8, window);
    let probing = (1_u32..4, 1_u32..4, 1_u32..100, 1_u32..200);
    let opening = (1_u32..20, 1_u32..12, 0_u32..300, 0_u32..200);
    let rare = (prop::option::weighted(0.2, 1_u32..5), 1_u32..60, prop::option::weighted(0.15, 1_u32..100));
    (closing, probing, opening, rare).prop_map(|(closing, probing, opening, rare)| {
        let (consecutive_failures, failure_percent, slow_percent, minimum_requests, window) = closing;
        let (probes, probe_successes, lease, half_open_max_wait) = probing;
        let (cooldown, growth, sustained, open_for) = opening;
        let (stalled_calls, stall, ramp) = rare;
        let minimum_requests = match window {
            WindowKind::Time(_) => minimum_requests,
            WindowKind::Count(size) => minimum_requests.min(size),
        };
        let rate = |percent: Option<u32>| percent.map(|percent| f64::from(percent) / 100.0);
        let settings = BreakerSettings {
            consecutive_failures,
            failure_rate: rate(failure_percent),
            minimum_requests,
            slow_call_rate: rate(slow_percent),
            window,
            stalled_calls,
            stall_duration: TICK * stall,
            probes,
            probe_successes,
            probe_lease: TICK * lease,
            half_open_max_wait: TICK * half_open_max_wait,
            cooldown: TICK * cooldown,
            cooldown_max: TICK * cooldown * growth,
            cooldown_jitter: 0.0,
            sustained_success: TICK * sustained,
            ramp: TICK * ramp.unwrap_or(0),
            open_for_cap: TICK * (cooldown * growth + open_for),
            ..BreakerSettings::default()
        };
        Rules { settings, failure_percent, slow_percent }
    })
}

/// The breaker, its model, and the calls in flight.
struct Pair {
    circuit: Circuit,
    model: Model,
    in_flight: Vec<(Permit, Pass)>,
}

impl Pair {
    fn new(rules: Rules) -> Self {
        let circuit = Circuit::new(rules.settings);
        let model = Model::new(rules, circuit.now);
        Self { circuit, model, in_flight: Vec::new() }
    }

    fn pass(&mut self, time: Duration) {
        self.circuit.pass(time);
        self.model.pass(self.circuit.now);
    }

    /// Whether a call was admitted.
    fn admit(&mut self) -> bool {
        let now = self.circuit.now;
        match (self.circuit.breaker.admit(now), self.model.admit(now)) {
            (Ok(admitted), Ok((pass, transition))) => {
                assert_eq!(admitted.transition, transition);
                assert_eq!(admitted.permit.is_probe(), pass.is_probe());
                self.in_flight.push((admitted.permit, pass));
                true
            }
            (Err(refused), Err(expected)) => {
                assert_eq!(refused, expected);
                false
            }
            (answer, expected) => panic!("{answer:?}, but the model says {expected:?}"),
        }
    }

    fn settle(&mut self, which: &Which, ending: Ending) {
        let Some(last) = self.in_flight.len().checked_sub(1) else { return };
        let index = match which {
            Which::Newest => last,
            Which::Any(index) => index.index(last + 1),
        };
        let (permit, pass) = self.in_flight.remove(index);
        let now = self.circuit.now;
        let asked = ending.asked.map(|ticks| {
            let distance = TICK * ticks.unsigned_abs();
            let since_origin = now.saturating_since(Timestamp::ORIGIN);
            let asked = if ticks < 0 { since_origin - distance } else { since_origin + distance };
            Timestamp::ORIGIN.saturating_add(asked)
        });
        self.circuit.settle_with(permit, ending.outcome, ending.took, asked);
        let reported = std::mem::take(&mut self.circuit.transitions);
        let expected = self.model.settle(&pass, ending.outcome, ending.took, asked, now);
        assert_eq!(reported, Vec::from_iter(expected));
    }

    fn take(&mut self, step: &Step) {
        let now = self.circuit.now;
        let until_retry =
            self.model.look(now).map_or_else(|refused| refused.retry_at().saturating_since(now), |()| TICK);
        let Self { circuit: Circuit { breaker, .. }, model, .. } = self;
        match step {
            Step::Admit => {
                self.admit();
            }
            Step::Settle { which, ending } => self.settle(which, *ending),
            Step::Call(ending) => {
                if self.admit() {
                    self.settle(&Which::Newest, *ending);
                }
            }
            Step::PassTicks(ticks) => self.pass(TICK * *ticks),
            Step::PassMicrosecond => self.pass(Duration::from_micros(1)),
            Step::AwaitRetry => self.pass(until_retry),
            Step::AlmostAwaitRetry => self.pass(until_retry - Duration::from_micros(1)),
            Step::Poll => assert_eq!(breaker.poll(now), model.poll(now)),
            Step::ForceOpen => assert_eq!(breaker.force_open(now), model.force_open(now)),
            Step::Disable => assert_eq!(breaker.disable(now), model.disable(now)),
            Step::Reset => assert_eq!(breaker.reset(now), model.reset(now)),
        }
    }

    /// Compares all that can be seen of the two.
    fn compare(&self) {
        let Self { circuit: Circuit { breaker, now, .. }, model, in_flight } = self;
        assert_eq!(breaker.state(), model.state());
        assert_eq!(breaker.peek(*now), model.look(*now));
        let by_itself = !matches!(model.phase, Phase::ForcedOpen | Phase::Disabled);
        let wakeup = model.look(*now).err().filter(|_| by_itself).map(|refused| refused.retry_at());
        assert_eq!(breaker.next_wakeup(*now), wakeup);

        let seen = breaker.statistics(*now);
        assert_eq!(seen.in_flight as usize, in_flight.len());
        assert_eq!(seen.consecutive_openings, model.openings);
        assert_eq!(seen.consecutive_failures, model.consecutive_failures(*now));
        assert_eq!(seen.thresholds_crossed, model.crossed(*now));
        let count = |is: fn(&Counted) -> bool| model.count(*now, is);
        assert_eq!(seen.requests, count(|_| true));
        assert_eq!(seen.failures, count(|result| result.outcome == Outcome::Failure));
        assert_eq!(seen.overloads, count(|result| result.outcome == Outcome::Overloaded));
        assert_eq!(seen.throttles, count(Counted::throttled));
        assert_eq!(seen.slow_calls, count(|result| result.slow && !result.throttled()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn the_breaker_does_what_a_model_does_that_counts_everything_afresh(
        rules in rules(),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut pair = Pair::new(rules);
        for step in &steps {
            pair.take(step);
            pair.compare();
        }
    }
}
