//! A model of the breaker that keeps everything in lists and counts afresh each time, to be held
//! against the real one.

use super::*;

/// Settings, with the rates as whole percents, so that the model compares whole numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) settings: BreakerSettings,
    pub(super) failure_percent: Option<u32>,
    pub(super) slow_percent: Option<u32>,
}

/// A result that was counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    at: Timestamp,
    pub(super) outcome: Outcome,
    pub(super) slow: bool,
}

impl Counted {
    pub(super) fn failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failure | Outcome::Overloaded)
    }

    pub(super) fn throttled(&self) -> bool {
        self.outcome == Outcome::Throttled
    }
}

/// What happened to the calls of one closed phase.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Passed,
    HeldBack,
    Ended(Outcome),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    granted: Timestamp,
    settled: bool,
}

#[derive(Debug)]
pub(super) enum Phase {
    Closed { after_probes: bool, events: Vec<(Timestamp, Event)> },
    Open { until: Timestamp, cause: Cause },
    HalfOpen { probes: Vec<Probe>, successes: u32 },
    ForcedOpen,
    Disabled,
}

/// The model's permit: the number of the phase it was issued in, and the probe's place in the list.
#[derive(Debug)]
pub(super) struct Pass {
    phase: u32,
    probe: Option<usize>,
}

impl Pass {
    pub(super) fn is_probe(&self) -> bool {
        self.probe.is_some()
    }
}

#[derive(Debug)]
pub(super) struct Model {
    rules: Rules,
    pub(super) phase: Phase,
    /// Phases before this one.
    number: u32,
    /// When the phase began.
    since: Timestamp,
    pub(super) openings: u32,
    /// Everything counted since the window was last emptied, the oldest first.
    results: Vec<Counted>,
    /// When that was.
    emptied: Timestamp,
}

impl Model {
    pub(super) fn new(rules: Rules, now: Timestamp) -> Self {
        let phase = Phase::Closed { after_probes: false, events: Vec::new() };
        Self { rules, phase, number: 0, since: now, openings: 0, results: Vec::new(), emptied: now }
    }

    pub(super) fn state(&self) -> CircuitState {
        match self.phase {
            Phase::Closed { .. } | Phase::Disabled => CircuitState::Closed,
            Phase::Open { .. } | Phase::ForcedOpen => CircuitState::Open,
            Phase::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    /// Lets time pass: openings are forgotten at the moment that the circuit has been closed for
    /// long enough.
    pub(super) fn pass(&mut self, now: Timestamp) {
        let closed = matches!(self.phase, Phase::Closed { .. });
        if closed && now.saturating_since(self.since) >= self.rules.settings.sustained_success {
            self.openings = 0;
        }
    }

    fn enter(&mut self, phase: Phase, cause: Cause, now: Timestamp) -> Transition {
        let from = self.state();
        let until = if let Phase::Open { until, .. } = phase { Some(until) } else { None };
        self.phase = phase;
        self.number += 1;
        self.since = now;
        Transition { from, to: self.state(), cause, until, at: now, would: false }
    }

    fn open(&mut self, cause: Cause, until: Timestamp, now: Timestamp) -> Transition {
        self.openings += 1;
        self.enter(Phase::Open { until, cause }, cause, now)
    }

    fn close(&mut self, after_probes: bool, cause: Cause, now: Timestamp) -> Transition {
        self.results.clear();
        self.emptied = now;
        let transition = self.enter(Phase::Closed { after_probes, events: Vec::new() }, cause, now);
        self.pass(now);
        transition
    }

    fn cooldown_end(&self, now: Timestamp) -> Timestamp {
        let mut cooldown = self.rules.settings.cooldown;
        for _ in 0..self.openings {
            cooldown = (cooldown * 2).min(self.rules.settings.cooldown_max);
        }
        now.saturating_add(cooldown)
    }

    fn lease_end(&self, probe: &Probe) -> Timestamp {
        probe.granted.saturating_add(self.rules.settings.probe_lease)
    }

    /// The ends of the leases that run.
    fn running_leases(&self, now: Timestamp) -> Vec<Timestamp> {
        let Phase::HalfOpen { probes, .. } = &self.phase else { return Vec::new() };
        let open = probes.iter().filter(|probe| !probe.settled);
        open.map(|probe| self.lease_end(probe)).filter(|end| *end > now).collect()
    }

    /// Why the circuit opens now by time alone, if it does.
    fn overdue(&self, now: Timestamp) -> Option<Cause> {
        let settings = &self.rules.settings;
        match &self.phase {
            Phase::Closed { events, .. } => {
                let enough = settings.stalled_calls?;
                let (mut in_flight, mut quiet_since) = (0, self.since);
                for (at, event) in events {
                    match event {
                        Event::Passed => {
                            quiet_since = if in_flight < enough { *at } else { quiet_since };
                            in_flight += 1;
                        }
                        Event::HeldBack => {}
                        Event::Ended(outcome) => {
                            quiet_since = if *outcome == Outcome::Ignored { quiet_since } else { *at };
                            in_flight -= 1;
                        }
                    }
                }
                let stalls = in_flight >= enough && now.saturating_since(quiet_since) >= settings.stall_duration;
                stalls.then_some(Cause::InFlightStall { in_flight })
            }
            Phase::HalfOpen { .. } => {
                let late = now.saturating_since(self.since) >= settings.half_open_max_wait;
                (late && self.running_leases(now).is_empty()).then_some(Cause::HalfOpenTimedOut)
            }
            Phase::Open { .. } | Phase::ForcedOpen | Phase::Disabled => None,
        }
    }

    /// Whether the ramp holds back a call that arrives now: the first ten calls and the shares that
    /// the arrivals earn, this one's included, must pay for every call that passes.
    fn held_back(&self, now: Timestamp) -> bool {
        const MILLION: u128 = 1_000_000;
        let ramp = self.rules.settings.ramp;
        let Phase::Closed { after_probes: true, events } = &self.phase else { return false };
        let earns = |at: Timestamp| {
            let passed = at.saturating_since(self.since);
            MILLION / 10 + MILLION * 9 / 10 * passed.as_micros() / ramp.as_micros()
        };
        if now.saturating_since(self.since) >= ramp {
            return false;
        }
        let (mut earned, mut spent) = (10 * MILLION + earns(now), MILLION);
        for (at, event) in events {
            match event {
                Event::Passed => (earned, spent) = (earned + earns(*at), spent + MILLION),
                Event::HeldBack => earned += earns(*at),
                Event::Ended(_) => {}
            }
        }
        earned < spent
    }

    /// Whether a call could pass now, but for a ramp.
    pub(super) fn look(&self, now: Timestamp) -> Result<(), Rejected> {
        let settings = &self.rules.settings;
        let refuse = |until, cause| Err(Rejected::Open { until, cause, transition: None });
        if let Some(cause) = self.overdue(now) {
            return refuse(self.cooldown_end(now), cause);
        }
        match &self.phase {
            Phase::Open { until, cause } if now < *until => refuse(*until, *cause),
            Phase::ForcedOpen => refuse(now.saturating_add(settings.cooldown_max), Cause::Operator),
            Phase::HalfOpen { .. } => {
                let leases = self.running_leases(now);
                let late = now.saturating_since(self.since) >= settings.half_open_max_wait;
                let soon = now.saturating_add(settings.cooldown);
                match leases.iter().min() {
                    Some(end) if late || leases.len() == settings.probes as usize => {
                        Err(Rejected::ProbesInFlight { retry_at: soon.min(*end) })
                    }
                    Some(_) | None => Ok(()),
                }
            }
            Phase::Closed { .. } | Phase::Open { .. } | Phase::Disabled => Ok(()),
        }
    }

    pub(super) fn admit(&mut self, now: Timestamp) -> Result<(Pass, Option<Transition>), Rejected> {
        if let Some(opened) = self.poll(now) {
            let until = opened.until.unwrap();
            return Err(Rejected::Open { until, cause: opened.cause, transition: Some(opened) });
        }
        self.look(now)?;
        let half_opens = matches!(self.phase, Phase::Open { .. })
            .then(|| self.enter(Phase::HalfOpen { probes: Vec::new(), successes: 0 }, Cause::CooldownElapsed, now));
        let held_back = self.held_back(now);
        let mut pass = Pass { phase: self.number, probe: None };
        match &mut self.phase {
            Phase::Closed { events, .. } if held_back => {
                events.push((now, Event::HeldBack));
                return Err(Rejected::Ramping { retry_at: now.saturating_add(self.rules.settings.ramp) });
            }
            Phase::Closed { events, .. } => events.push((now, Event::Passed)),
            Phase::HalfOpen { probes, .. } => {
                pass.probe = Some(probes.len());
                probes.push(Probe { granted: now, settled: false });
            }
            Phase::Open { .. } | Phase::ForcedOpen | Phase::Disabled => {}
        }
        Ok((pass, half_opens))
    }

    pub(super) fn poll(&mut self, now: Timestamp) -> Option<Transition> {
        let cause = self.overdue(now)?;
        Some(self.open(cause, self.cooldown_end(now), now))
    }

    pub(super) fn settle(
        &mut self,
        pass: &Pass,
        outcome: Outcome,
        took: Duration,
        asked: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Transition> {
        let latest = now.saturating_add(self.rules.settings.open_for_cap);
        let asked = asked.filter(|until| *until > now).map(|until| until.min(latest));
        if let (Phase::Open { until, .. }, Some(asked)) = (&mut self.phase, asked) {
            *until = asked.max(*until);
        }
        if pass.phase != self.number {
            return None;
        }
        if let Some(probe) = pass.probe {
            return self.settle_probe(probe, outcome, asked, now);
        }
        let slow = took > self.rules.settings.slow_call_duration;
        if outcome != Outcome::Ignored {
            self.results.push(Counted { at: now, outcome, slow });
        }
        let Phase::Closed { events, .. } = &mut self.phase else { return None };
        events.push((now, Event::Ended(outcome)));
        if let Some(until) = asked {
            return Some(self.open(Cause::CoolOff, until, now));
        }
        let harmless = outcome == Outcome::Ignored || (outcome == Outcome::Success && !slow);
        let cause = if harmless { None } else { self.crossed(now) };
        cause.map(|cause| self.open(cause, self.cooldown_end(now), now))
    }

    fn settle_probe(
        &mut self,
        place: usize,
        outcome: Outcome,
        asked: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Transition> {
        let settings = self.rules.settings;
        let cooldown_end = self.cooldown_end(now);
        let Phase::HalfOpen { probes, successes } = &mut self.phase else { unreachable!("only it has probes") };
        probes[place].settled = true;
        let lease_end = probes[place].granted.saturating_add(settings.probe_lease);
        if probes[place + 1..].iter().any(|later| later.granted >= lease_end) {
            return None;
        }
        match (outcome, asked) {
            (
                Outcome::Failure
                | Outcome::FailedAgain
                | Outcome::FailedOnReturn
                | Outcome::Overloaded
                | Outcome::Throttled,
                asked,
            ) => {
                let until = asked.unwrap_or(cooldown_end).max(cooldown_end);
                return Some(self.open(Cause::ProbeFailed, until, now));
            }
            (Outcome::Success | Outcome::FailedElsewhere | Outcome::Overdue | Outcome::Ignored, Some(until)) => {
                return Some(self.open(Cause::CoolOff, until, now));
            }
            (Outcome::Success | Outcome::FailedElsewhere, None) => *successes += 1,
            (Outcome::Overdue | Outcome::Ignored, None) => {}
        }
        if *successes == settings.probe_successes {
            return Some(self.close(true, Cause::ProbeSucceeded, now));
        }
        self.poll(now)
    }

    pub(super) fn force_open(&mut self, now: Timestamp) -> Option<Transition> {
        self.command(Phase::ForcedOpen, now)
    }

    pub(super) fn disable(&mut self, now: Timestamp) -> Option<Transition> {
        // To say it again changes nothing, so the calls in flight are still those of this phase.
        if matches!(self.phase, Phase::Disabled) { None } else { self.command(Phase::Disabled, now) }
    }

    fn command(&mut self, phase: Phase, now: Timestamp) -> Option<Transition> {
        Some(self.enter(phase, Cause::Operator, now)).filter(|transition| transition.from != transition.to)
    }

    pub(super) fn reset(&mut self, now: Timestamp) -> Option<Transition> {
        self.openings = 0;
        Some(self.close(false, Cause::Operator, now)).filter(|transition| transition.from != transition.to)
    }

    /// Whether result number `index` is in view of `now`, when `count` results have been counted.
    fn in_view(&self, index: usize, count: usize, now: Timestamp) -> bool {
        match self.rules.settings.window {
            WindowKind::Time(length) => {
                let tenth = |at: Timestamp| at.saturating_since(self.emptied).as_micros() / (length.as_micros() / 10);
                tenth(now) - tenth(self.results[index].at) < 10
            }
            WindowKind::Count(size) => index + size as usize >= count,
        }
    }

    pub(super) fn consecutive_failures(&self, now: Timestamp) -> u32 {
        let (mut run, mut last) = (0, None);
        for (index, result) in self.results.iter().enumerate() {
            if result.failed() {
                let goes_on = last.is_some_and(|last| self.in_view(last, index, result.at));
                run = if goes_on { run + 1 } else { 1 };
                last = Some(index);
            } else if !result.throttled() {
                run = 0;
            }
        }
        if last.is_some_and(|last| self.in_view(last, self.results.len(), now)) { run } else { 0 }
    }

    /// The results in view that are as asked.
    pub(super) fn count(&self, now: Timestamp, is: impl Fn(&Counted) -> bool) -> u32 {
        let results = self.results.iter().enumerate();
        let in_view = results.filter(|(index, _)| self.in_view(*index, self.results.len(), now));
        in_view.map(|(_, result)| u32::from(is(result))).sum()
    }

    pub(super) fn crossed(&self, now: Timestamp) -> Option<Cause> {
        let run = self.consecutive_failures(now);
        if self.rules.settings.consecutive_failures.is_some_and(|limit| run >= limit) {
            return Some(Cause::ConsecutiveFailures(run));
        }
        let requests = self.count(now, |result| !result.throttled());
        if requests < self.rules.settings.minimum_requests {
            return None;
        }
        let failures = self.count(now, Counted::failed);
        if self.rules.failure_percent.is_some_and(|percent| failures * 100 >= requests * percent) {
            return Some(Cause::FailureRate { failures, requests });
        }
        let slow_calls = self.count(now, |result| result.slow && !result.throttled());
        let reached = self.rules.slow_percent.is_some_and(|percent| slow_calls * 100 >= requests * percent);
        reached.then_some(Cause::SlowCallRate { slow_calls, requests })
    }
}
