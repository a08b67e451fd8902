//! The circuit breaker: closed, open, half-open.

mod closed;
mod expectation;
mod half_open;
mod permit;
mod report;
mod results;
mod settings;
mod snapshot;
mod trials;

use crate::backoff::exponential;
use crate::balance::Standing;
use crate::in_flight::InFlight;
use crate::time::{Timestamp, share_of, uniform_below};
use crate::window::Window;
use closed::Closed;
use expectation::Expectation;
use half_open::HalfOpen;

pub use permit::{Admitted, Pending, Permit, Recorded, TripDecision};
pub use report::{Cause, CircuitState, Mode, Rejected, Transition, WindowStatistics};
pub use settings::{BreakerKind, BreakerSettings, ProbeSpacing};
pub use snapshot::Snapshot;

/// One circuit: closed, open or half-open.
///
/// A call asks [`Breaker::admit`], runs, and hands its [`Permit`] back to [`Breaker::record`].
/// Three rules keep the machine free of the usual defects:
///
/// - **Generations.** Every change of state, a reset included, starts a new generation, and nothing
///   else does. A permit carries the generation it was issued in, so that a long stream which ends
///   after the circuit has moved on decides nothing. The only thing that a late result may do is
///   move the deadline of an open circuit further out.
/// - **Leases.** A probe holds its slot for a bounded time. One that never settles delays recovery;
///   it cannot prevent it.
/// - **Neutral results.** A cancelled call, or one whose failure is not the upstream's, returns its
///   slot and counts nowhere.
#[derive(Clone, Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    state: State,
    /// Whether the state is only what it would be, and every call passes.
    watching: bool,
    generation: u64,
    /// Openings since the circuit last stayed closed for the sustained time, as of the last
    /// opening or command.
    openings: u32,
    window: Window,
    expectation: Expectation,
    /// Whether the last failure took so long that callers who wait for the circuit would be a herd.
    slow_failure: bool,
    in_flight: InFlight,
}

#[derive(Clone, Debug)]
enum State {
    Closed(Closed),
    Open { since: Timestamp, until: Timestamp, cause: Cause, random: u64, probing: u32 },
    HalfOpen(HalfOpen),
    ForcedOpen,
    Disabled,
}

/// What would become of a call that asked now.
enum Gate {
    Pass,
    FirstProbe {
        random: u64,
        cause: Cause,
    },
    Probe,
    /// Open, and it is time for another of the spaced probes.
    SpacedProbe {
        next: Timestamp,
    },
    /// Half-open without a verdict, or closed without an end of any call, for too long: the circuit
    /// opens.
    Open {
        cause: Cause,
        random: u64,
    },
    Refuse(Rejected),
}

impl Breaker {
    /// A closed circuit that has seen nothing. The settings should have passed
    /// [`BreakerSettings::validate`].
    #[must_use]
    pub fn new(settings: BreakerSettings, now: Timestamp) -> Self {
        Self {
            settings,
            state: State::Closed(Closed::new(now)),
            watching: false,
            generation: 0,
            openings: 0,
            window: Window::new(settings.window, now),
            expectation: Expectation::new(now),
            slow_failure: false,
            in_flight: InFlight::new(now),
        }
    }

    /// A closed circuit for a part of what this one protects: it expects of the part what this one has seen of the
    /// whole.
    #[must_use]
    pub fn for_a_part(&self, now: Timestamp) -> Self {
        Self { expectation: self.expectation, watching: self.watching, ..Self::new(self.settings, now) }
    }

    /// Whether repeating a failed request makes sense: not when so many attempts have failed in a row that, by what was
    /// served before, the chance of it was less than `chance`.
    #[must_use]
    pub fn may_repeat(&self, chance: f64) -> bool {
        self.expectation.may_repeat(chance)
    }

    /// The share of requests that were served of late; that of a healthy upstream while little is known.
    #[must_use]
    pub fn served_share(&self) -> f64 {
        self.expectation.share()
    }

    /// How well it serves. What is older than a minute says nothing against it.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        self.expectation.standing(now)
    }

    /// Whether the last failure was a slow one, as those of an upstream are that has too much to do and does not say
    /// so: whoever waits for its circuit to close adds to that.
    #[must_use]
    pub const fn fails_slowly(&self) -> bool {
        self.slow_failure
    }

    /// Requests that failed since the last one was served.
    #[must_use]
    pub const fn failing_requests_in_a_row(&self) -> u32 {
        self.expectation.requests_in_a_row()
    }

    /// Asks for one call. Ask last, after all waits, so that no probe's slot is held by a call that
    /// is not made.
    ///
    /// # Errors
    ///
    /// Why not, and when to ask again. A refused call needs no settling.
    pub fn admit(&mut self, now: Timestamp) -> Result<Admitted, Rejected> {
        let (lease, transition, would_be_refused) = match self.enter_gate(now) {
            Ok((lease, transition)) => (lease, transition, false),
            Err(rejected) if self.watching => (None, rejected.transition(), true),
            Err(rejected) => return Err(rejected),
        };
        self.in_flight.start(now);
        let permit = Permit { generation: self.generation, admitted: now, sent: now, lease, would_be_refused };
        Ok(Admitted { permit, transition })
    }

    /// The lease of a probe, and the transition that the call caused.
    fn enter_gate(&mut self, now: Timestamp) -> Result<(Option<u64>, Option<Transition>), Rejected> {
        let transition = match self.gate(now) {
            Gate::Refuse(rejected) => return Err(rejected),
            Gate::Open { cause, random } => {
                let until = self.cooldown_end(now, random);
                let transition = Some(self.open(cause, until, now, random));
                return Err(Rejected::Open { until, cause, transition });
            }
            Gate::FirstProbe { random, cause } => {
                let half_open = State::HalfOpen(HalfOpen::new(now, random, cause));
                Some(self.enter(half_open, Cause::CooldownElapsed, None, now))
            }
            Gate::SpacedProbe { next } => {
                if let State::Open { until, probing, .. } = &mut self.state {
                    *until = next;
                    *probing = probing.saturating_add(1);
                }
                return Ok((Some(SPACED), None));
            }
            Gate::Pass | Gate::Probe => None,
        };
        let ramp = self.settings.ramp;
        let lease = match &mut self.state {
            State::HalfOpen(half_open) => Some(half_open.grant(self.settings.probe_lease, now)),
            State::Closed(closed) => {
                if !closed.climb(ramp, now) {
                    return Err(Rejected::Ramping { retry_at: now.saturating_add(ramp) });
                }
                closed.start(&self.settings, now);
                None
            }
            State::Open { .. } | State::ForcedOpen | State::Disabled => None,
        };
        Ok((lease, transition))
    }

    /// Whether a call can pass now, changing nothing: to look before queueing. It answers as
    /// [`admit`](Self::admit) would, but for a ramp: that counts the calls which ask for admission,
    /// so nobody should be kept from asking by it.
    ///
    /// # Errors
    ///
    /// Why a call would be refused, and when to ask again.
    pub fn peek(&self, now: Timestamp) -> Result<(), Rejected> {
        if self.watching {
            return Ok(());
        }
        match self.gate(now) {
            Gate::Pass | Gate::FirstProbe { .. } | Gate::Probe | Gate::SpacedProbe { .. } => Ok(()),
            Gate::Refuse(rejected) => Err(rejected),
            Gate::Open { cause, random } => {
                Err(Rejected::Open { until: self.cooldown_end(now, random), cause, transition: None })
            }
        }
    }

    /// Opens the circuit if time alone demands it: calls in flight that stall, or probes without a
    /// verdict. [`admit`](Self::admit) sees to that too; a caller that polls, say once a second,
    /// learns of it while no call comes. Cheap, and harmless at any time.
    #[must_use = "a transition is reported only once"]
    pub fn poll(&mut self, now: Timestamp) -> Option<Transition> {
        match self.gate(now) {
            Gate::Open { cause, random } => {
                let until = self.cooldown_end(now, random);
                Some(self.open(cause, until, now, random))
            }
            Gate::Pass | Gate::FirstProbe { .. } | Gate::Probe | Gate::SpacedProbe { .. } | Gate::Refuse(_) => None,
        }
    }

    /// Everything has stood still until now, the calls in flight included, as when a machine sleeps: that none of them
    /// has ended meanwhile is no stall, and that no probe has is no verdict.
    pub fn woken(&mut self, now: Timestamp) {
        match &mut self.state {
            State::Closed(closed) => closed.woken(now),
            State::HalfOpen(half_open) => half_open.since = half_open.since.max(now),
            State::Open { .. } | State::ForcedOpen | State::Disabled => {}
        }
    }

    /// When a refused call may try again; `None` when calls pass now or only an operator can let
    /// them. Asking earlier or later is harmless.
    #[must_use]
    pub fn next_wakeup(&self, now: Timestamp) -> Option<Timestamp> {
        match self.mode() {
            Mode::Normal => self.peek(now).err().map(|rejected| rejected.retry_at()),
            Mode::ForcedOpen | Mode::Disabled | Mode::WatchOnly => None,
        }
    }

    /// Moves the deadline of an open circuit further out, at most `open_for_cap` from now: for what is learned about it
    /// without a permit. Anything but an open circuit is left alone.
    pub fn extend(&mut self, open_until: Timestamp, now: Timestamp) {
        let latest = now.saturating_add(self.settings.open_for_cap);
        if let State::Open { until, .. } = &mut self.state {
            *until = (*until).max(open_until.min(latest));
        }
    }

    /// Refuses every call until [`reset`](Self::reset) or [`disable`](Self::disable). Calls in
    /// flight are let finish. Like the other operator's commands it returns a transition only if
    /// the state as callers see it changed.
    #[must_use = "a transition is reported only once"]
    pub fn force_open(&mut self, now: Timestamp) -> Option<Transition> {
        self.command(State::ForcedOpen, false, now)
    }

    /// Lets every call pass until [`reset`](Self::reset) or [`force_open`](Self::force_open).
    /// Results are counted and open nothing. Said again, it changes nothing.
    #[must_use = "a transition is reported only once"]
    pub fn disable(&mut self, now: Timestamp) -> Option<Transition> {
        // A new generation would leave the calls in flight out of the count.
        if self.mode() == Mode::Disabled {
            return None;
        }
        self.command(State::Disabled, false, now)
    }

    /// Closes the circuit, forgets what it has seen, and leaves it to itself again.
    #[must_use = "a transition is reported only once"]
    pub fn reset(&mut self, now: Timestamp) -> Option<Transition> {
        self.start_afresh(false, now)
    }

    /// Lets every call pass until another command, and reports what the breaker would have done by
    /// itself, beginning closed and with nothing seen, as transitions marked
    /// [`would`](Transition::would): to try settings on real traffic. A call that would have been
    /// refused counts nowhere, as if it had not been made.
    #[must_use = "a transition is reported only once"]
    pub fn watch_only(&mut self, now: Timestamp) -> Option<Transition> {
        self.start_afresh(true, now)
    }

    fn start_afresh(&mut self, watching: bool, now: Timestamp) -> Option<Transition> {
        self.openings = 0;
        self.window = Window::new(self.settings.window, now);
        self.expectation = Expectation::new(now);
        self.command(State::Closed(Closed::new(now)), watching, now)
    }

    fn command(&mut self, state: State, watching: bool, now: Timestamp) -> Option<Transition> {
        let from = self.state();
        // Only a closed circuit knows how long it has been closed.
        self.openings = self.consecutive_openings(now);
        self.watching = watching;
        let transition = Transition { from, would: false, ..self.enter(state, Cause::Operator, None, now) };
        (from != transition.to).then_some(transition)
    }

    /// Whether calls pass. A circuit whose cooldown is over is open until a call comes to probe.
    #[must_use]
    pub const fn state(&self) -> CircuitState {
        if self.watching { CircuitState::Closed } else { self.would_be_state() }
    }

    /// How the circuit would stand if it were left to itself; it differs from
    /// [`state`](Self::state) in [`Mode::WatchOnly`] only.
    #[must_use]
    pub const fn would_be_state(&self) -> CircuitState {
        match self.state {
            State::Closed(_) | State::Disabled => CircuitState::Closed,
            State::Open { .. } | State::ForcedOpen => CircuitState::Open,
            State::HalfOpen(_) => CircuitState::HalfOpen,
        }
    }

    /// Who decides about the circuit.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        match self.state {
            State::Closed(_) | State::Open { .. } | State::HalfOpen(_) if self.watching => Mode::WatchOnly,
            State::Closed(_) | State::Open { .. } | State::HalfOpen(_) => Mode::Normal,
            State::ForcedOpen => Mode::ForcedOpen,
            State::Disabled => Mode::Disabled,
        }
    }

    /// What the circuit has seen within its window. An open circuit still shows what opened it;
    /// closing starts afresh.
    #[must_use]
    pub fn statistics(&self, now: Timestamp) -> WindowStatistics {
        let tally = self.window.tally(now);
        let consecutive_failures = self.window.consecutive_failures(now);
        WindowStatistics {
            state: self.state(),
            length: self.window.length(now),
            requests: tally.requests,
            failures: tally.failures,
            overloads: tally.overloads,
            throttles: tally.throttles,
            slow_calls: tally.slow_calls,
            consecutive_failures,
            in_flight: self.in_flight.count(),
            oldest_in_flight: self.in_flight.oldest(now),
            latencies: tally.latencies,
            consecutive_openings: self.consecutive_openings(now),
            thresholds_crossed: self.surprise().or_else(|| self.settings.crossed(consecutive_failures, &tally)),
        }
    }

    /// The run of failures, if that is a surprise and so opens the circuit.
    fn surprise(&self) -> Option<Cause> {
        let surprise = self.settings.surprise.is_some_and(|chance| self.expectation.is_surprise(chance));
        surprise.then(|| Cause::NoneServed(self.expectation.requests_in_a_row()))
    }

    fn gate(&self, now: Timestamp) -> Gate {
        match &self.state {
            State::Closed(closed) => match closed.stalled(&self.settings, now) {
                Some(in_flight) => Gate::Open { cause: Cause::InFlightStall { in_flight }, random: chance(now) },
                None => Gate::Pass,
            },
            State::Disabled => Gate::Pass,
            State::ForcedOpen => Gate::Refuse(Rejected::Open {
                until: now.saturating_add(self.settings.cooldown_max),
                cause: Cause::Operator,
                transition: None,
            }),
            State::Open { since, until, random, cause, .. } if now >= *until => match &self.settings.probe_spacing {
                Some(spacing) => {
                    Gate::SpacedProbe { next: now.saturating_add(spacing.after(now.saturating_since(*since))) }
                }
                None => Gate::FirstProbe { random: *random, cause: *cause },
            },
            State::Open { until, probing, .. } if *probing > 0 => {
                Gate::Refuse(Rejected::ProbesInFlight { retry_at: *until })
            }
            State::Open { until, cause, .. } => {
                Gate::Refuse(Rejected::Open { until: *until, cause: *cause, transition: None })
            }
            State::HalfOpen(half_open) => self.half_open_gate(half_open, now),
        }
    }

    fn half_open_gate(&self, half_open: &HalfOpen, now: Timestamp) -> Gate {
        let timed_out = now.saturating_since(half_open.since) >= self.settings.half_open_max_wait;
        let slots = if timed_out { 0 } else { self.settings.probes.max(1) as usize };
        if half_open.live(now) < slots {
            return Gate::Probe;
        }
        match half_open.next_end(now) {
            // A probe under way is never thrown away: its verdict is awaited, for its lease at
            // most.
            Some(lease_end) => {
                let soon = now.saturating_add(self.settings.cooldown);
                Gate::Refuse(Rejected::ProbesInFlight { retry_at: lease_end.min(soon) })
            }
            // The random number already made one cooldown of its high bits; the low ones are still
            // unused.
            None => Gate::Open { cause: Cause::HalfOpenTimedOut, random: half_open.random.rotate_left(u64::BITS / 2) },
        }
    }

    fn consecutive_openings(&self, now: Timestamp) -> u32 {
        match self.state {
            State::Closed(Closed { since, .. }) if now.saturating_since(since) >= self.settings.sustained_success => 0,
            State::Closed(_) | State::Open { .. } | State::HalfOpen(_) | State::ForcedOpen | State::Disabled => {
                self.openings
            }
        }
    }

    /// When a cooldown that began now would end.
    fn cooldown_end(&self, now: Timestamp, random: u64) -> Timestamp {
        let settings = &self.settings;
        let openings = self.consecutive_openings(now);
        let cooldown = match &settings.probe_spacing {
            Some(spacing) => spacing.interval,
            None => exponential(settings.cooldown, settings.cooldown_max, openings),
        };
        let jitter = uniform_below(share_of(cooldown, settings.cooldown_jitter), random);
        now.saturating_add(cooldown.saturating_add(jitter))
    }

    fn open(&mut self, cause: Cause, until: Timestamp, now: Timestamp, random: u64) -> Transition {
        self.openings = self.consecutive_openings(now).saturating_add(1);
        self.enter(State::Open { since: now, until, cause, random, probing: 0 }, cause, Some(until), now)
    }

    fn enter(&mut self, state: State, cause: Cause, until: Option<Timestamp>, now: Timestamp) -> Transition {
        let from = self.would_be_state();
        self.state = state;
        self.generation = self.generation.wrapping_add(1);
        Transition { from, to: self.would_be_state(), cause, until, at: now, would: self.watching }
    }
}

/// The lease of a spaced probe: it has none that ends, since another one goes out beside it when it is time.
const SPACED: u64 = 0;

/// Chance for a cooldown where the caller hands in none: the microsecond at which something is
/// noticed, scattered over 64 bits by the finalizer of the SplitMix64 generator.
const fn chance(now: Timestamp) -> u64 {
    let mut bits = now.as_micros();
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests;
