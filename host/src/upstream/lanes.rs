//! Lanes: the ways to those parts of an upstream that have said "too much". Whoever has the patience waits in one, and
//! goes out at the rate that is served, instead of being refused or trying again and again.

use crate::runtime::clock::{Clock, random};
use crate::runtime::sync::lock;
use crate::upstream::gate::AdmissionGate;
use crate::upstream::parts::Parts;
use crate::upstream::returns::{Likeness, Returns};
use crate::upstream::said::Said;
use crate::upstream::scope::{Protects, Subject};
use spillway_resilience::{AdmissionQueue, FairQueueSettings, Pacer, PacerSettings, Pause, ServedLog, Timestamp};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// Lanes per upstream. They come into being when somebody says "too much", and go when that is a minute ago. When all
/// are in use, what a further part says is passed on to its callers, as a proxy without lanes would do.
pub(crate) const LANES_MAX: usize = 1_024;

/// The way to one part of an upstream.
#[derive(Debug)]
pub(crate) struct Lane {
    pub protects: Protects,
    /// Where its callers wait.
    pub gate: Arc<AdmissionGate>,
    said: Mutex<Option<Arc<Said>>>,
    returns: Mutex<Returns>,
}

impl Lane {
    /// What the provider said last.
    pub(crate) fn said(&self) -> Option<Arc<Said>> {
        lock(&self.said).clone()
    }
}

/// That an upstream has said "too much" about a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Telling {
    /// For how long nobody shall call.
    pub pause: Pause,
    /// When the call went out.
    pub sent: Timestamp,
    /// Whether no other was under way at the upstream.
    pub was_alone: bool,
}

/// How a lane stands, for the status page.
#[derive(Debug)]
pub(crate) struct LaneLook {
    /// The part of the upstream.
    pub protects: String,
    /// Calls a second that go out.
    pub per_second: Option<f64>,
    /// How much longer nobody goes out.
    pub paused_for: Option<Duration>,
    /// How many wait.
    pub waiting: usize,
}

/// All lanes of one upstream.
#[derive(Debug)]
pub(crate) struct Lanes {
    settings: PacerSettings,
    queue: FairQueueSettings,
    clock: Clock,
    /// Rung when a pause begins, so that it is remembered.
    changed: Arc<Notify>,
    lanes: Parts<Lane>,
}

impl Lanes {
    /// None yet.
    pub(crate) fn new(settings: PacerSettings, queue: FairQueueSettings, clock: Clock, changed: Arc<Notify>) -> Lanes {
        Lanes { settings, queue, clock, changed, lanes: Parts::new(LANES_MAX) }
    }

    /// The lanes that a call has to pass, the widest first.
    pub(crate) fn of(&self, subject: Subject<'_>) -> Vec<Arc<Lane>> {
        let mut lanes = self.lanes.of(subject);
        lanes.reverse();
        lanes
    }

    /// A call has brought its first content.
    pub(crate) fn served(&self, subject: Subject<'_>) {
        for lane in self.of(subject) {
            lane.gate.served();
        }
    }

    /// The suspicion that a call's model has too much to do has come to nothing.
    pub(crate) fn acquit(&self, subject: Subject<'_>) {
        for lane in self.of(subject) {
            lane.gate.acquit();
        }
    }

    /// A part of the upstream has said "too much". `log` tells what was served of late. True if that part has said so
    /// for a while and served nobody meanwhile; `None` if there is no lane for it.
    pub(crate) fn told(
        &self,
        protects: &Protects,
        telling: Telling,
        said: Option<Arc<Said>>,
        log: impl FnOnce() -> ServedLog,
    ) -> Option<bool> {
        self.hear(protects, telling, said, log, random())
    }

    fn hear(
        &self,
        protects: &Protects,
        telling: Telling,
        said: Option<Arc<Said>>,
        log: impl FnOnce() -> ServedLog,
        random: u64,
    ) -> Option<bool> {
        let lane = self.find_or_make(protects, log)?;
        if said.is_some() {
            *lock(&lane.said) = said;
        }
        let Telling { pause, sent, was_alone } = telling;
        let is_fruitless = lane.gate.told(pause, sent, was_alone, random);
        if matches!(pause, Pause::Named(_) | Pause::Ordered(_)) {
            self.changed.notify_waiters();
        }
        Some(is_fruitless)
    }

    /// The pauses that last, and what was said of each.
    pub(crate) fn pauses(&self) -> Vec<(Protects, Duration, Option<Arc<Said>>)> {
        let left = |lane: &Arc<Lane>| {
            let paused = lane.gate.look(|queue, now| Some(queue.pacer()?.paused_until(now)?.saturating_since(now)))?;
            Some((lane.protects.clone(), paused, lane.said()))
        };
        self.lanes.all().iter().filter_map(left).collect()
    }

    /// Lets a pause go on that began before a restart.
    pub(crate) fn restore(&self, protects: &Protects, left: Duration, said: Option<Arc<Said>>) {
        // What is left was bounded, and spread by chance, when it was named.
        let telling = Telling { pause: Pause::Ordered(left), sent: self.clock.now(), was_alone: false };
        self.hear(protects, telling, said, ServedLog::default, 0);
    }

    /// How long a call has to wait in its lanes, if nobody comes before it.
    pub(crate) fn wait(&self, subject: Subject<'_>) -> Duration {
        let wait = |lane: Arc<Lane>| lane.gate.look(|queue, now| queue.pace_of_next(now));
        self.of(subject).into_iter().map(wait).max().unwrap_or_default()
    }

    /// Whether another turn in one of a call's lanes may be of use: somebody has been served since then, or others wait
    /// as well, whom the lane keeps from calling all at once.
    pub(crate) fn is_of_use(&self, subject: Subject<'_>, since: Timestamp) -> bool {
        let is_of_use = |lane: &Arc<Lane>| {
            lane.gate.look(|queue, _| {
                queue.waiting() > 0 || queue.pacer().is_some_and(|pacer| pacer.has_served_since(since))
            })
        };
        self.of(subject).iter().any(is_of_use)
    }

    /// A request that was refused is left to its caller, who sends it again by itself.
    pub(crate) fn left(&self, subject: Subject<'_>, request: Likeness) {
        let now = self.clock.now();
        for lane in self.of(subject) {
            lock(&lane.returns).left(request, now);
        }
    }

    /// Whether such a request was left to its caller in one of a call's lanes, and nobody has been served there since.
    pub(crate) fn has_come_back(&self, subject: Subject<'_>, request: Likeness) -> bool {
        let has_served_since = |lane: &Lane, moment| {
            lane.gate.look(|queue, _| queue.pacer().is_some_and(|pacer| pacer.has_served_since(moment)))
        };
        let has_come_back = |lane: &Arc<Lane>| {
            let left = lock(&lane.returns).when_left(request);
            left.is_some_and(|left| !has_served_since(lane, left))
        };
        self.of(subject).iter().any(has_come_back)
    }

    /// Ends the lanes in which nobody is paced any more.
    pub(crate) fn tidy(&self) {
        self.lanes.tidy(|lane| lane.gate.rest());
    }

    /// How each lane stands.
    pub(crate) fn look(&self) -> Vec<LaneLook> {
        let look = |lane: &Arc<Lane>| {
            lane.gate.look(|queue, now| LaneLook {
                protects: lane.protects.to_string(),
                per_second: queue.pacer().and_then(|pacer| pacer.per_second(now)),
                paused_for: queue
                    .pacer()
                    .and_then(|pacer| pacer.paused_until(now))
                    .map(|end| end.saturating_since(now)),
                waiting: queue.waiting(),
            })
        };
        let mut looks: Vec<LaneLook> = self.lanes.all().iter().map(look).collect();
        looks.sort_by(|one, other| one.protects.cmp(&other.protects));
        looks
    }

    fn find_or_make(&self, protects: &Protects, log: impl FnOnce() -> ServedLog) -> Option<Arc<Lane>> {
        let make = || {
            let pacer = Pacer::new(self.settings, log().of(|key| protects.has_key(key)));
            let gate = Arc::new(AdmissionGate::new(AdmissionQueue::paced(pacer, self.queue), self.clock));
            Lane { protects: protects.clone(), gate, said: Mutex::default(), returns: Mutex::default() }
        };
        self.lanes.find_or_make(protects, make, |lane| lane.gate.rest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Subject<'_> = Subject { model: Some("big"), credential: 7 };
    const OTHER_MODEL: Subject<'_> = Subject { model: Some("small"), ..CALL };
    const OTHER_KEY: Subject<'_> = Subject { credential: 8, ..CALL };
    const PAUSE: Duration = Duration::from_secs(5);

    fn lanes(clock: Clock) -> Lanes {
        Lanes::new(PacerSettings::default(), FairQueueSettings::default(), clock, Arc::default())
    }

    fn tell(lanes: &Lanes, protects: &Protects) -> Option<bool> {
        let telling = Telling { pause: Pause::Named(PAUSE), sent: lanes.clock.now(), was_alone: false };
        lanes.told(protects, telling, None, ServedLog::default)
    }

    fn of_call() -> Protects {
        Protects::ModelOfCredential("big".into(), 7)
    }

    #[test]
    fn nobody_waits_where_nobody_has_said_too_much() {
        let lanes = lanes(Clock::start());
        assert!(lanes.of(CALL).is_empty());
        assert_eq!(lanes.wait(CALL), Duration::ZERO);
    }

    #[test]
    fn a_limit_of_one_model_under_one_key_makes_only_its_callers_wait() {
        let lanes = lanes(Clock::start());
        assert!(tell(&lanes, &of_call()).is_some());
        assert!(lanes.wait(CALL) >= PAUSE, "{:?}", lanes.wait(CALL));
        assert_eq!((lanes.wait(OTHER_MODEL), lanes.wait(OTHER_KEY)), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn a_limit_of_a_key_makes_all_of_its_callers_wait_and_no_others() {
        let lanes = lanes(Clock::start());
        assert!(tell(&lanes, &Protects::Credential(7)).is_some());
        assert!(lanes.wait(CALL) >= PAUSE && lanes.wait(OTHER_MODEL) >= PAUSE);
        assert_eq!(lanes.wait(OTHER_KEY), Duration::ZERO);
    }

    #[test]
    fn the_widest_lane_is_passed_first() {
        let lanes = lanes(Clock::start());
        for protects in [of_call(), Protects::Upstream, Protects::Credential(7)] {
            assert!(tell(&lanes, &protects).is_some());
        }
        let passed: Vec<Protects> = lanes.of(CALL).iter().map(|lane| lane.protects.clone()).collect();
        assert_eq!(passed, [Protects::Upstream, Protects::Credential(7), of_call()]);
    }

    #[test]
    fn a_pause_goes_on_where_it_was_after_a_restart() {
        let before = lanes(Clock::start());
        assert!(tell(&before, &of_call()).is_some());
        let after = lanes(Clock::start());
        for (protects, left, said) in before.pauses() {
            after.restore(&protects, left, said);
        }
        let (before, after) = (before.wait(CALL), after.wait(CALL));
        assert!(after > before.mul_f64(0.9) && after < before.mul_f64(1.004), "{before:?} and {after:?}");
    }

    #[test]
    fn who_was_left_to_its_caller_has_come_back_until_somebody_is_served() {
        let lanes = lanes(Clock::start());
        let (request, other) = (Likeness::of(7, "/", b"a"), Likeness::of(7, "/", b"b"));
        lanes.left(CALL, request);
        assert!(!lanes.has_come_back(CALL, request), "there is no lane in which anybody was refused");
        assert!(tell(&lanes, &of_call()).is_some());
        assert!(!lanes.has_come_back(CALL, request));
        lanes.left(CALL, request);
        assert!(lanes.has_come_back(CALL, request));
        assert!(!lanes.has_come_back(CALL, other) && !lanes.has_come_back(OTHER_KEY, request));
        lanes.served(CALL);
        assert!(!lanes.has_come_back(CALL, request));
    }

    #[test]
    fn a_lane_stays_while_its_pause_lasts() {
        let lanes = lanes(Clock::start());
        assert!(tell(&lanes, &of_call()).is_some());
        lanes.tidy();
        assert_eq!(lanes.of(CALL).len(), 1);
    }

    #[test]
    fn when_all_lanes_are_in_use_what_is_said_is_passed_on() {
        let lanes = lanes(Clock::start());
        for credential in 0..LANES_MAX as u64 {
            assert!(tell(&lanes, &Protects::Credential(credential)).is_some());
        }
        let one_too_many = Protects::Credential(LANES_MAX as u64);
        assert_eq!(tell(&lanes, &one_too_many), None);
        assert!(tell(&lanes, &Protects::Credential(7)).is_some(), "those that are there go on");
    }
}
