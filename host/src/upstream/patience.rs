//! Waiting at a gate.

use crate::runtime::clock::Clock;
use crate::upstream::gate::{Admission, AdmissionGate, AdmissionPermit, Turn};
use spillway_resilience::{Demand, Ticket, TurnedAway};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// Until when a request waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// For limits and for a place in flight.
    pub limits: Instant,
    /// For circuits.
    pub circuits: Instant,
}

impl Patience {
    /// For whoever has a better alternative to waiting.
    pub(crate) fn none() -> Patience {
        Patience::until(Instant::now())
    }

    /// For whoever said how long it would wait.
    pub(crate) fn until(instant: Instant) -> Patience {
        Patience { limits: instant, circuits: instant }
    }

    /// At limits no longer than for this while from now, and at circuits not at all.
    pub(crate) fn at_most(self, at_limits: Duration) -> Patience {
        let now = Instant::now();
        Patience { limits: self.limits.min(now + at_limits), circuits: self.circuits.min(now) }
    }

    /// But no longer than until then.
    pub(crate) fn bounded_by(self, deadline: Instant) -> Patience {
        Patience { limits: self.limits.min(deadline), circuits: self.circuits.min(deadline) }
    }

    /// For whoever waits at limits for so long, and at circuits for that long. That an upstream is down is said as soon
    /// as the next probe has shown it.
    pub(crate) fn of(at_limits: Duration, at_circuits: Duration) -> Patience {
        let now = Instant::now();
        Patience { limits: now + at_limits, circuits: now + at_circuits }
    }
}

/// Goes through a gate, waiting for its turn until `patience` ends. Whoever drops the future gives its place up.
///
/// # Errors
/// When there is no room before `patience` ends; at once, if that is certain from the beginning.
pub(crate) async fn enter(
    gate: &Arc<AdmissionGate>,
    demand: Demand,
    patience: Instant,
    clock: Clock,
) -> Result<AdmissionPermit, TurnedAway> {
    enter_again(gate, demand, None, patience, clock).await
}

/// As [`enter`], for a call that had its turn and was refused; see [`AdmissionGate::ask_again`].
///
/// # Errors
/// As there.
pub(crate) async fn enter_again(
    gate: &Arc<AdmissionGate>,
    demand: Demand,
    former: Option<Ticket>,
    patience: Instant,
    clock: Clock,
) -> Result<AdmissionPermit, TurnedAway> {
    let mut waiting = match gate.ask_again(demand, former, clock.at(patience))? {
        Admission::Admitted(permit) => return Ok(permit),
        Admission::Waits(waiting) => waiting,
    };
    let mut timer = pin!(None);
    let mut set_for = None;
    poll_fn(|context| {
        loop {
            let wake_at = match waiting.turn(context.waker()) {
                Turn::Left(outcome) => return Poll::Ready(outcome),
                // Somebody else keeps the time, and wakes this one when its turn has come.
                Turn::Waits(None) => return Poll::Pending,
                Turn::Waits(Some(wake_at)) => wake_at,
            };
            if set_for.replace(wake_at) != Some(wake_at) {
                timer.set(Some(clock.sleep_until(wake_at)));
            }
            if let Some(timer) = timer.as_mut().as_pin_mut() {
                ready!(timer.poll(context));
            }
            // What has ended is not polled again.
            (set_for, _) = (None, timer.set(None));
            waiting.gate().let_in();
        }
    })
    .await
}
