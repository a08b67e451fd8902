//! Whatever happens in whatever order, the promises of the breaker hold.

use super::*;

#[derive(Clone, Debug)]
pub(super) enum Action {
    Admit,
    Settle(prop::sample::Index, Outcome, Option<u64>),
    Pass(u64),
    Poll,
    ForceOpen,
    Disable,
    Reset,
    Restart,
}

pub(super) fn action() -> impl Strategy<Value = Action> {
    let outcome = prop_oneof![
        2 => Just(Outcome::Success),
        4 => Just(Outcome::Failure),
        1 => Just(Outcome::Overloaded),
        1 => Just(Outcome::Throttled),
        2 => Just(Outcome::Ignored),
    ];
    let wait = prop::option::weighted(0.1, 0_u64..20);
    prop_oneof![
        30 => Just(Action::Admit),
        25 => (any::<prop::sample::Index>(), outcome, wait)
            .prop_map(|(index, outcome, wait)| Action::Settle(index, outcome, wait)),
        10 => prop_oneof![0_u64..100, 0_u64..5_000, 0_u64..100_000].prop_map(Action::Pass),
        5 => Just(Action::Poll),
        1 => Just(Action::ForceOpen),
        1 => Just(Action::Disable),
        3 => Just(Action::Reset),
        2 => Just(Action::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_order_of_events_leaks_a_permit_exceeds_the_probes_or_wedges(
        probes in 1_u32..4,
        probe_successes in 1_u32..3,
        count in prop::option::of(1_u32..30),
        stalled_calls in prop::option::of(1_u32..5),
        steps in prop::collection::vec(action(), 1..150),
    ) {
        let defaults = BreakerSettings::default();
        let settings = BreakerSettings {
            probes,
            probe_successes,
            window: count.map_or(defaults.window, WindowKind::Count),
            minimum_requests: count.unwrap_or(defaults.minimum_requests),
            stalled_calls,
            ..defaults
        };
        let mut circuit = Circuit::new(settings);
        let mut outstanding: Vec<Permit> = Vec::new();
        for step in steps {
            let restarts = matches!(step, Action::Restart);
            let (before, generation) = (circuit.state(), circuit.breaker.generation);
            let reported = circuit.transitions.len();
            match step {
                Action::Admit => {
                    let expected = circuit.breaker.peek(circuit.now);
                    match (circuit.try_admit(), expected) {
                        (Ok(permit), Ok(())) => outstanding.push(permit),
                        (Err(refused), Err(expected)) => {
                            prop_assert_eq!(refused.retry_at(), expected.retry_at());
                            prop_assert!(refused.retry_at() > circuit.now);
                        }
                        (Err(Rejected::Ramping { retry_at }), Ok(())) => {
                            prop_assert!(retry_at > circuit.now);
                        }
                        (answer, expected) => prop_assert!(false, "{:?} {:?}", answer, expected),
                    }
                }
                Action::Settle(index, outcome, wait) => {
                    if !outstanding.is_empty() {
                        let permit = outstanding.swap_remove(index.index(outstanding.len()));
                        let until = wait.map(|wait| circuit.now.saturating_add(seconds(wait)));
                        circuit.settle_with(permit, outcome, QUICK, until);
                    }
                }
                Action::Pass(millis) => circuit.pass(Duration::from_millis(millis)),
                Action::Poll => {
                    let transition = circuit.breaker.poll(circuit.now);
                    circuit.transitions.extend(transition);
                    prop_assert_eq!(circuit.breaker.poll(circuit.now), None);
                }
                Action::Restart => {
                    let wait = |circuit: &Circuit| {
                        let refused = circuit.breaker.peek(circuit.now).err();
                        refused.map(|refused| refused.retry_at().saturating_since(circuit.now))
                    };
                    let (earlier, mode) = (wait(&circuit), circuit.breaker.mode());
                    let snapshot = circuit.breaker.snapshot(circuit.now);
                    circuit.restart();
                    outstanding.clear();
                    let kept = if before == CircuitState::Open { earlier } else { None };
                    prop_assert_eq!((wait(&circuit), circuit.breaker.mode()), (kept, mode));
                    prop_assert_eq!(circuit.breaker.snapshot(circuit.now).openings, snapshot.openings);
                }
                Action::ForceOpen => {
                    let transition = circuit.breaker.force_open(circuit.now);
                    circuit.transitions.extend(transition);
                }
                Action::Disable => {
                    let transition = circuit.breaker.disable(circuit.now);
                    circuit.transitions.extend(transition);
                }
                Action::Reset => {
                    let transition = circuit.breaker.reset(circuit.now);
                    circuit.transitions.extend(transition);
                }
            }

            prop_assert_eq!(circuit.in_flight() as usize, outstanding.len());
            let new = &circuit.transitions[reported..];
            let changes = usize::from(before != circuit.state() && !restarts);
            prop_assert_eq!(new.len(), changes, "each change is reported once");
            if let [transition] = new {
                prop_assert_eq!((transition.from, transition.to), (before, circuit.state()));
                prop_assert!(circuit.breaker.generation > generation);
            }
            if let State::HalfOpen(half_open) = &circuit.breaker.state {
                prop_assert!(half_open.live(circuit.now) <= probes as usize);
            }
        }

        // However it stands, an upstream that is well is back in use after a bounded time.
        if circuit.breaker.mode() != Mode::Normal {
            let _ = circuit.breaker.reset(circuit.now);
        }
        for _ in 0..10 {
            circuit.pass(seconds(200));
            for _ in 0..3 {
                if let Ok(permit) = circuit.try_admit() {
                    circuit.settle(permit, Outcome::Success);
                }
            }
        }
        prop_assert_eq!(circuit.state(), CircuitState::Closed);
    }
}
