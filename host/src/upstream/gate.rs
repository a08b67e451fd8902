//! The way to an upstream, or out of a tenant, as requests meet it: the pure [`AdmissionQueue`] behind a short lock,
//! whoever waits at it, and passes that settle themselves.

use crate::runtime::clock::Clock;
use crate::runtime::sync::{Arc, Mutex, MutexGuard, lock};
use spillway_resilience::{
    AdmissionQueue, Ceiling, Demand, Dimension, Entry, Feedback, Leaving, Pass, Pause, Reported, Settlement, Ticket,
    Timestamp, TurnedAway,
};
use std::collections::HashMap;
use std::task::Waker;
use std::time::Duration;

/// One gate.
#[derive(Debug)]
pub struct AdmissionGate {
    state: Mutex<State>,
    clock: Clock,
}

#[derive(Debug)]
struct State {
    queue: AdmissionQueue,
    waiters: HashMap<Ticket, Waiter>,
    /// Whoever is next in turn keeps the time for all: it asks again at this moment if nothing happens before.
    timekeeper: Option<(Ticket, Timestamp)>,
}

#[derive(Debug)]
enum Waiter {
    Waits(Option<Waker>),
    /// Let in, and not yet aware of it.
    LetIn(Pass),
    /// Its patience is over.
    Expired,
}

/// What becomes of whoever asks to be let in.
#[derive(Debug)]
pub enum Admission {
    /// It is in.
    Admitted(AdmissionPermit),
    /// It waits for its turn.
    Waits(Waiting),
}

/// How a waiter stands.
#[derive(Debug)]
pub enum Turn {
    /// It has left the queue.
    Left(Result<AdmissionPermit, TurnedAway>),
    /// It still waits, and its waker is kept. With a time, it is this waiter who must call [`AdmissionGate::let_in`]
    /// then.
    Waits(Option<Timestamp>),
}

impl AdmissionGate {
    /// A gate without anybody at it.
    pub fn new(queue: AdmissionQueue, clock: Clock) -> AdmissionGate {
        let state = State { queue, waiters: HashMap::new(), timekeeper: None };
        AdmissionGate { state: Mutex::new(state), clock }
    }

    /// Asks to be let in, waiting until `deadline` at most.
    ///
    /// # Errors
    /// When there is no room before `deadline`.
    pub fn ask(self: &Arc<Self>, demand: Demand, deadline: Timestamp) -> Result<Admission, TurnedAway> {
        self.ask_again(demand, None, deadline)
    }

    /// As [`AdmissionGate::ask`], for a call that had its turn and was refused: with its `former` ticket it comes
    /// before those of its tenant who came after it.
    ///
    /// # Errors
    /// As there.
    pub fn ask_again(
        self: &Arc<Self>,
        demand: Demand,
        former: Option<Ticket>,
        deadline: Timestamp,
    ) -> Result<Admission, TurnedAway> {
        let (entry, woken) = {
            let mut state = self.lock();
            let now = self.clock.now();
            let entry = state.queue.enter_again(demand, former, deadline, now)?;
            if let Entry::Waiting(ticket) = &entry {
                state.waiters.insert(*ticket, Waiter::Waits(None));
            }
            (entry, state.let_in(now))
        };
        wake(woken);
        Ok(match entry {
            Entry::Passed(pass) => Admission::Admitted(AdmissionPermit::new(Arc::clone(self), pass, None)),
            Entry::Waiting(ticket) => Admission::Waits(Waiting { gate: Arc::clone(self), ticket, demand, left: false }),
        })
    }

    /// Lets in whoever there is room for, and sends away whose patience is over.
    pub fn let_in(&self) {
        let woken = self.lock().let_in(self.clock.now());
        wake(woken);
    }

    /// Takes over what the provider reports of a limit. What was not configured stays unlimited.
    pub fn resync(&self, dimension: Dimension, reported: Reported) {
        self.change(|queue, now| queue.resync(dimension, reported, Ceiling::Configured, now));
    }

    /// Lets nobody in for `reset_in`, because the provider has said that a limit is used up.
    pub fn drain(&self, dimension: Dimension, reset_in: Duration) {
        self.change(|queue, now| queue.drain(dimension, reset_in, now));
    }

    /// A call through this gate has brought its first content.
    pub fn served(&self) {
        self.change(|queue, now| queue.pacer_mut().map(|pacer| pacer.served(now)));
    }

    /// The suspicion that the upstream has too much to do has come to nothing.
    pub fn acquit(&self) {
        self.change(|queue, now| queue.pacer_mut().map(|pacer| pacer.acquit(now)));
    }

    /// The upstream has said "too much" about a call that went out at `sent`, and beside which no other was under way
    /// there if it was alone. True if that has been so for a while and nobody was served meanwhile.
    pub fn told(&self, pause: Pause, sent: Timestamp, was_alone: bool, random: u64) -> bool {
        self.change(|queue, now| {
            queue.pacer_mut().is_some_and(|pacer| {
                match was_alone {
                    true => pacer.told_alone(pause, sent, now, random),
                    false => pacer.told(pause, sent, now, random),
                }
                pacer.is_fruitless(now)
            })
        })
    }

    /// Ends the pacing if nobody has said "too much" for long, and nobody waits. True if nothing is paced here.
    pub fn rest(&self) -> bool {
        self.change(|queue, now| {
            let nobody_waits = queue.waiting() == 0;
            queue.pacer_mut().is_none_or(|pacer| {
                if nobody_waits {
                    pacer.rest(now);
                }
                pacer.per_second(now).is_none() && pacer.paused_until(now).is_none()
            })
        })
    }

    /// What the gate looks like this moment.
    pub fn look<T>(&self, at: impl FnOnce(&AdmissionQueue, Timestamp) -> T) -> T {
        let now = self.clock.now();
        at(&self.lock().queue, now)
    }

    fn change<T>(&self, change: impl FnOnce(&mut AdmissionQueue, Timestamp) -> T) -> T {
        let (outcome, woken) = {
            let mut state = self.lock();
            let now = self.clock.now();
            (change(&mut state.queue, now), state.let_in(now))
        };
        wake(woken);
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// Names whoever leaves, and who keeps the time for those that stay. The wakers are for after the lock.
    fn let_in(&mut self, now: Timestamp) -> Vec<Waker> {
        let mut woken = Vec::new();
        while let Some(leaving) = self.queue.next(now) {
            let (ticket, outcome) = match leaving {
                Leaving::Passed { ticket, pass, .. } => (ticket, Waiter::LetIn(pass)),
                Leaving::Expired { ticket, .. } => (ticket, Waiter::Expired),
            };
            if let Some(Waiter::Waits(waker)) = self.waiters.insert(ticket, outcome) {
                woken.extend(waker);
            }
        }
        let timekeeper = self.queue.wake_at(now);
        if timekeeper != self.timekeeper
            && let Some((ticket, _)) = timekeeper
            && let Some(Waiter::Waits(waker)) = self.waiters.get_mut(&ticket)
        {
            woken.extend(waker.take());
        }
        self.timekeeper = timekeeper;
        woken
    }
}

fn wake(woken: Vec<Waker>) {
    woken.into_iter().for_each(Waker::wake);
}

/// A place in the queue. Dropped, it is given up, and nobody else loses theirs.
#[derive(Debug)]
pub struct Waiting {
    gate: Arc<AdmissionGate>,
    ticket: Ticket,
    demand: Demand,
    left: bool,
}

impl Waiting {
    /// How this waiter stands. `waker` is woken when that changes.
    pub fn turn(&mut self, waker: &Waker) -> Turn {
        let mut state = self.gate.lock();
        match state.waiters.remove(&self.ticket) {
            Some(Waiter::LetIn(pass)) => {
                self.left = true;
                drop(state);
                Turn::Left(Ok(AdmissionPermit::new(Arc::clone(&self.gate), pass, Some(self.ticket))))
            }
            // Whoever has left cannot ask again, so a missing waiter is one that has expired.
            Some(Waiter::Expired) | None => {
                self.left = true;
                let Demand { tokens, group, .. } = self.demand;
                Turn::Left(Err(state.queue.in_vain(tokens, group, self.gate.clock.now())))
            }
            Some(Waiter::Waits(_)) => {
                state.waiters.insert(self.ticket, Waiter::Waits(Some(waker.clone())));
                let timekeeper = state.timekeeper.filter(|(ticket, _)| *ticket == self.ticket);
                Turn::Waits(timekeeper.map(|(_, wake_at)| wake_at))
            }
        }
    }

    /// Its gate.
    pub fn gate(&self) -> &AdmissionGate {
        &self.gate
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        let woken = {
            let mut state = self.gate.lock();
            let now = self.gate.clock.now();
            match state.waiters.remove(&self.ticket) {
                Some(Waiter::LetIn(pass)) => {
                    state.queue.settle(pass, Settlement::Refund, Feedback::Neutral, now);
                }
                Some(Waiter::Waits(_)) => {
                    state.queue.cancel(self.ticket);
                }
                Some(Waiter::Expired) | None => {}
            }
            state.let_in(now)
        };
        wake(woken);
    }
}

/// The right to one call, which is settled exactly once, whatever becomes of it.
#[derive(Debug)]
pub struct AdmissionPermit {
    gate: Arc<AdmissionGate>,
    pass: Option<Pass>,
    /// The place in the queue in which it waited.
    ticket: Option<Ticket>,
    /// What it is settled with when nobody says better.
    otherwise: Settlement,
}

impl AdmissionPermit {
    fn new(gate: Arc<AdmissionGate>, pass: Pass, ticket: Option<Ticket>) -> AdmissionPermit {
        AdmissionPermit { gate, pass: Some(pass), ticket, otherwise: Settlement::Refund }
    }

    /// The place in the queue in which it waited, if it had to.
    pub fn ticket(&self) -> Option<Ticket> {
        self.ticket
    }

    /// A call goes out: from here on the provider may count it, answered or not.
    pub fn sent(&mut self) {
        self.otherwise = Settlement::AsEstimated;
    }

    /// The call has become something that stays for long: see [`AdmissionQueue::lasts`].
    pub fn lasts(&mut self) {
        if let Some(pass) = &mut self.pass {
            self.gate.change(|queue, _| queue.lasts(pass));
        }
    }

    /// The call that went out has ended, and nobody counted it.
    pub fn not_counted(&mut self) {
        self.otherwise = Settlement::Refund;
    }

    /// Takes tokens that the call has used beyond its estimate while it goes on: one may last for an hour.
    pub fn book(&self, tokens: u64) {
        self.gate.change(|queue, now| queue.charge(tokens, now));
    }

    /// Settles with what is known of the call's cost, and of the upstream's room. True for an overload that is excused:
    /// see [`AdmissionQueue::settle`].
    pub fn settle(mut self, settlement: Settlement, feedback: Feedback) -> bool {
        self.settle_once(settlement, feedback)
    }

    fn settle_once(&mut self, settlement: Settlement, feedback: Feedback) -> bool {
        let settle = |pass| self.gate.change(|queue, now| queue.settle(pass, settlement, feedback, now));
        self.pass.take().is_some_and(settle)
    }
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        self.settle_once(self.otherwise, Feedback::Neutral);
    }
}

#[cfg(test)]
mod tests;
