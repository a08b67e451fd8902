use super::*;
use crate::policy::Registry;
use crate::upstream::verdict::consequence;
use spillway_resilience::BreakerKind;
use spillway_sdk::Verdict;

#[derive(Debug, Default)]
struct Transitions(Mutex<Vec<(Protects, CircuitState)>>);

impl Observer for Transitions {
    fn transition(&self, protects: &Protects, transition: &Transition) {
        self.0.lock().unwrap().push((protects.clone(), transition.to));
    }
}

struct Fixture {
    kind: BreakerKind,
    circuits: Circuits,
    judge: Judge,
    slot: Arc<Slot>,
    seen: Arc<Transitions>,
}

impl Fixture {
    fn plain() -> Self {
        let settings = BreakerSettings { consecutive_failures: Some(2), ..BreakerSettings::default() };
        Self::new(BreakerKind::Plain, settings)
    }

    fn adaptive() -> Self {
        Self::new(BreakerKind::Adaptive, BreakerSettings::adaptive())
    }

    fn new(kind: BreakerKind, settings: BreakerSettings) -> Self {
        let clock = Clock::start();
        let seen = Arc::new(Transitions::default());
        let observer: Arc<dyn Observer> = Arc::clone(&seen) as _;
        Fixture {
            kind,
            circuits: Circuits::new("test".into(), settings, false, clock, observer, Arc::default()),
            judge: Judge::new(clock),
            slot: Registry::new(clock).slot("default"),
            seen,
        }
    }

    fn call(&mut self, model: &str, credential: u64, verdict: Verdict) -> bool {
        let subject = Subject { model: Some(model), credential };
        match self.circuits.admit(subject) {
            Err(_) => false,
            Ok(admission) => {
                let consequence = consequence(&verdict, self.kind);
                let policy = (&mut self.judge, &*self.slot);
                self.circuits.settle(admission, subject, &consequence, None, Duration::ZERO, policy);
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
fn a_plain_breaker_refuses_everybody() {
    let mut fixture = Fixture::plain();
    for _ in 0..2 {
        assert!(fixture.call("m", 1, Verdict::failure("down")));
    }
    assert!(!fixture.call("m", 1, Verdict::success()));
    assert!(!fixture.call("other", 2, Verdict::success()));
    assert_eq!(*fixture.seen.0.lock().unwrap(), [(Protects::Upstream, CircuitState::Open)]);
}

#[test]
fn a_spent_quota_refuses_its_credential_and_nobody_else() {
    let mut fixture = Fixture::adaptive();
    assert!(fixture.call("m", 1, Verdict::exhausted("no money").cool_off(HOUR)));
    assert!(!fixture.call("m", 1, Verdict::success()));
    assert!(fixture.call("m", 2, Verdict::success()));
    assert_eq!(*fixture.seen.0.lock().unwrap(), [(Protects::Credential(1), CircuitState::Open)]);
}

#[test]
fn a_model_that_fails_leaves_the_others_alone() {
    let mut fixture = Fixture::adaptive();
    (0..100).for_each(|_| assert!(fixture.call("small", 1, Verdict::success())));
    (0..10).for_each(|_| assert!(fixture.call("small", 1, Verdict::failure("crashed"))));
    assert!(!fixture.call("small", 2, Verdict::success()));
    assert!(fixture.call("large", 1, Verdict::success()));
    let (model, of_caller) = (Protects::Model("small".into()), Protects::ModelOfCredential("small".into(), 1));
    let opened = [(model, CircuitState::Open), (of_caller, CircuitState::Open)];
    assert_eq!(*fixture.seen.0.lock().unwrap(), opened);
}

#[test]
fn a_caller_whose_every_request_fails_leaves_the_others_alone() {
    let mut fixture = Fixture::adaptive();
    for _ in 0..100 {
        assert!(fixture.call("m", 1, Verdict::success()));
    }
    for _ in 0..10 {
        assert!(fixture.call("m", 2, Verdict::failure("status 500")));
        assert!(fixture.call("m", 1, Verdict::success()));
    }
    assert!(!fixture.call("m", 2, Verdict::success()), "none of its own was served");
    assert!(fixture.call("m", 1, Verdict::success()));
    assert!(fixture.call("other", 2, Verdict::success()));
}

#[test]
fn an_upstream_that_cannot_be_reached_refuses_everybody() {
    let mut fixture = Fixture::adaptive();
    (0..100).for_each(|_| assert!(fixture.call("m", 1, Verdict::success())));
    let refused = || Verdict::failure("connection refused").scope(spillway_sdk::Scope::Upstream);
    (0..10).for_each(|_| assert!(fixture.call("m", 1, refused())));
    assert!(!fixture.call("other", 2, Verdict::success()));
}

#[test]
fn a_spent_quota_of_one_model_leaves_its_credentials_other_models_alone() {
    let mut fixture = Fixture::adaptive();
    let spent = Verdict::exhausted("its day").scope(spillway_sdk::Scope::Model).cool_off(HOUR);
    assert!(fixture.call("big", 1, spent));
    assert!(!fixture.call("big", 1, Verdict::success()));
    assert!(fixture.call("small", 1, Verdict::success()));
    assert!(fixture.call("big", 2, Verdict::success()));
}

#[test]
fn only_a_failure_of_a_trusted_upstream_may_be_the_requests_own() {
    let mut fixture = Fixture::adaptive();
    let subject = Subject { model: Some("m"), credential: 1 };
    assert!(fixture.circuits.are_trusted(subject));
    (0..5).for_each(|_| assert!(fixture.call("m", 1, Verdict::failure("status 500"))));
    assert!(!fixture.circuits.are_trusted(subject));
    assert!(fixture.call("m", 1, Verdict::success()));
    assert!(fixture.circuits.are_trusted(subject));
}

#[test]
fn the_callers_own_faults_open_nothing() {
    let mut fixture = Fixture::adaptive();
    for _ in 0..100 {
        assert!(fixture.call("m", 1, Verdict::rejected("bad request")));
        assert!(fixture.call("m", 1, Verdict::unauthorized("wrong key")));
    }
    assert_eq!(fixture.circuits.look().len(), 1, "no circuit came into being for them");
}

#[test]
fn a_dropped_admission_counts_nowhere_and_gives_its_slots_back() {
    let mut fixture = Fixture::adaptive();
    // The model has a circuit of its own by now.
    assert!(fixture.call("m", 1, Verdict::failure("status 500")));
    let admission = fixture.circuits.admit(Subject { model: Some("m"), credential: 1 }).expect("admitted");
    assert_eq!(fixture.in_flight(), 3, "in its own, the model's and that of the model under its credential");
    drop(admission);
    assert_eq!(fixture.in_flight(), 0);
    assert!(fixture.circuits.look().iter().all(|look| look.statistics.consecutive_failures <= 1));
}

#[test]
fn circuits_of_scopes_are_bounded() {
    let mut fixture = Fixture::adaptive();
    for credential in 0..=SCOPED_CIRCUITS_MAX as u64 {
        assert!(fixture.call("m", credential, Verdict::exhausted("spent").cool_off(HOUR)));
    }
    assert_eq!(fixture.circuits.look().len(), 1 + SCOPED_CIRCUITS_MAX);
    assert!(fixture.call("m", u64::MAX, Verdict::success()), "one without a circuit is served");
    assert_eq!(fixture.circuits.state(), CircuitState::Closed);
}
