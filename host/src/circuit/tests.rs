use super::*;
use crate::policy::Registry;
use spillway_sdk::Verdict;

#[derive(Debug, Default)]
struct Transitions(Mutex<Vec<(Protects, CircuitState)>>);

impl Observer for Transitions {
    fn transition(&self, protects: &Protects, transition: &Transition) {
        self.0.lock().unwrap().push((protects.clone(), transition.to));
    }
}

struct Fixture {
    circuits: Circuits,
    judge: Judge,
    slot: Arc<Slot>,
    seen: Arc<Transitions>,
}

impl Fixture {
    fn new() -> Self {
        let clock = Clock::start();
        let seen = Arc::new(Transitions::default());
        let observer: Arc<dyn Observer> = Arc::clone(&seen) as _;
        let settings = BreakerSettings { consecutive_failures: Some(2), ..BreakerSettings::default() };
        Fixture {
            circuits: Circuits::new("test".into(), settings, false, clock, observer, Arc::default()),
            judge: Judge::new(clock),
            slot: Registry::new(clock).slot("default"),
            seen,
        }
    }

    fn call(&mut self, model: &str, credential: u64, verdict: Verdict) -> bool {
        match self.circuits.admit(Some(model), credential) {
            Err(_) => false,
            Ok(admission) => {
                let outcome = outcome_of(verdict.class);
                self.circuits.settle(admission, &verdict, outcome, Duration::ZERO, &mut self.judge, &self.slot);
                true
            }
        }
    }

    fn in_flight(&self) -> u32 {
        self.circuits.look().iter().map(|look| look.statistics.in_flight).sum()
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn failures_of_the_upstream_refuse_everybody() {
    let mut fixture = Fixture::new();
    for _ in 0..2 {
        assert!(fixture.call("m", 1, Verdict::failure("down")));
    }
    assert!(!fixture.call("m", 1, Verdict::success()));
    assert!(!fixture.call("other", 2, Verdict::success()));
    assert_eq!(*fixture.seen.0.lock().unwrap(), [(Protects::Upstream, CircuitState::Open)]);
}

#[test]
fn a_spent_quota_refuses_its_credential_and_nobody_else() {
    let mut fixture = Fixture::new();
    assert!(fixture.call("m", 1, Verdict::exhausted("no money").cool_off(HOUR)));
    assert!(!fixture.call("m", 1, Verdict::success()));
    assert!(fixture.call("m", 2, Verdict::success()));
    assert_eq!(*fixture.seen.0.lock().unwrap(), [(Protects::Credential(1), CircuitState::Open)]);
}

#[test]
fn a_model_that_fails_leaves_the_others_alone() {
    let mut fixture = Fixture::new();
    for _ in 0..2 {
        assert!(fixture.call("small", 1, Verdict::failure("crashed").scope(Scope::Model)));
    }
    assert!(!fixture.call("small", 1, Verdict::success()));
    assert!(fixture.call("large", 1, Verdict::success()));
}

#[test]
fn the_callers_own_faults_open_nothing() {
    let mut fixture = Fixture::new();
    for _ in 0..100 {
        assert!(fixture.call("m", 1, Verdict::rejected("bad request")));
        assert!(fixture.call("m", 1, Verdict::unauthorized("wrong key")));
    }
    assert_eq!(fixture.circuits.look().len(), 1, "no circuit came into being for them");
}

#[test]
fn a_dropped_admission_counts_nowhere_and_gives_its_slots_back() {
    let mut fixture = Fixture::new();
    // The credential has a circuit of its own by now.
    assert!(fixture.call("m", 1, Verdict::throttled("slow down")));
    let admission = fixture.circuits.admit(Some("m"), 1).expect("admitted");
    assert_eq!(fixture.in_flight(), 2);
    drop(admission);
    assert_eq!(fixture.in_flight(), 0);
    assert!(fixture.circuits.look().iter().all(|look| look.statistics.consecutive_failures == 0));
}

#[test]
fn circuits_of_scopes_are_bounded() {
    let mut fixture = Fixture::new();
    for credential in 0..=SCOPED_CIRCUITS_MAX as u64 {
        assert!(fixture.call("m", credential, Verdict::exhausted("spent").cool_off(HOUR)));
    }
    assert_eq!(fixture.circuits.look().len(), 1 + SCOPED_CIRCUITS_MAX);
    assert!(fixture.call("m", u64::MAX, Verdict::success()), "one without a circuit is served");
    assert_eq!(fixture.circuits.state(), CircuitState::Closed);
}
