//! Who may call now, who waits for its turn, and who is told at once that waiting is of no use.

use std::time::Duration;

use crate::bucket::TokenBucket;
use crate::concurrency::{AdaptiveLimit, Bulkhead, Feedback, Saturated, Slot};
use crate::fair_queue::{FairQueue, FairQueueSettings, Full, Granted, Tenant, Ticket, Turn};
use crate::limiter::{Ceiling, Dimension, Exceeded, Limiter, Reported, Reservation, Settlement};
use crate::pacer::Pacer;
use crate::shares::{GroupId, Places, Room, ShareStanding, Shares};
use crate::shed::Priority;
use crate::time::Timestamp;

mod groups;

use groups::Groups;

/// How many calls may be in flight.
#[derive(Clone, Copy, Debug)]
pub enum Concurrency {
    /// As many as the operator says.
    Fixed(Bulkhead),
    /// As many as the upstream bears.
    Adaptive(AdaptiveLimit),
}

impl Concurrency {
    fn check(&self) -> Result<(), Saturated> {
        match self {
            Self::Fixed(bulkhead) => bulkhead.check(),
            Self::Adaptive(limit) => limit.check(),
        }
    }

    fn acquire(&mut self, now: Timestamp) -> Result<Slot, Saturated> {
        match self {
            Self::Fixed(bulkhead) => bulkhead.acquire(now),
            Self::Adaptive(limit) => limit.acquire(now),
        }
    }

    /// Gives a slot back. `kept` are those that are kept from whoever presses for one.
    fn release(&mut self, slot: Slot, feedback: Feedback, kept: u32, now: Timestamp) -> bool {
        match self {
            Self::Fixed(bulkhead) => {
                bulkhead.release(slot);
                false
            }
            Self::Adaptive(limit) => limit.release_beside(slot, feedback, kept, now),
        }
    }

    /// The places of this moment.
    fn room(&self) -> Room {
        let max = match self {
            Self::Fixed(bulkhead) => bulkhead.limit(),
            Self::Adaptive(limit) => limit.max_in_flight(),
        };
        Room {
            working: Places { limit: self.limit(), taken: self.working() },
            all: Places { limit: max, taken: self.in_flight() },
        }
    }

    fn lasts(&mut self, slot: &mut Slot) {
        if let Self::Adaptive(limit) = self {
            limit.lasts(slot);
        }
    }

    /// Calls in flight.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        match self {
            Self::Fixed(bulkhead) => bulkhead.in_flight(),
            Self::Adaptive(limit) => limit.in_flight(),
        }
    }

    /// Those of them that do not [last](AdaptiveLimit::lasts).
    #[must_use]
    pub const fn working(&self) -> u32 {
        match self {
            Self::Fixed(bulkhead) => bulkhead.in_flight(),
            Self::Adaptive(limit) => limit.working(),
        }
    }

    /// Calls allowed in flight now.
    #[must_use]
    pub fn limit(&self) -> u32 {
        match self {
            Self::Fixed(bulkhead) => bulkhead.limit(),
            Self::Adaptive(limit) => limit.limit(),
        }
    }
}

/// What a call asks for, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Whose share it comes from while others wait.
    pub tenant: Tenant,
    /// Before whom it is served.
    pub priority: Priority,
    /// The upper bound of its tokens, input and output.
    pub tokens: u64,
    /// The nearest group of its caller's that has a [share](Shares) of the places, if any has.
    pub group: Option<GroupId>,
}

/// What stands between a call and its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A limit on requests or tokens.
    Limit(Exceeded),
    /// The limit on calls in flight.
    Saturated(Saturated),
    /// What is left of the calls that may be in flight is reserved for others.
    Reserved {
        /// How many may be in flight.
        limit: u32,
        /// How many are.
        in_flight: u32,
    },
    /// The rate that the upstream bears, or a pause that it has named.
    Paced {
        /// The wait of this call behind those who came first, as far as can be told.
        wait: Duration,
    },
    /// Others have come first, so many of them.
    Queue(usize),
    /// The queue, which is full for this tenant or for all.
    Full(Full),
}

/// A call that is not let in, and does not wait either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnedAway {
    /// What stands in its way.
    pub obstacle: Obstacle,
    /// When to come again: not before its own cost is there, nor before those who wait are served.
    pub retry_after: Duration,
}

/// The right to one call. Settle it exactly once, whatever became of the call.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a pass that is never settled keeps its slot for good"]
pub struct Pass {
    reservation: Reservation,
    slot: Slot,
    /// Among whose calls it counts.
    group: Option<GroupId>,
    /// Its turn, if it had to wait for one.
    turn: Option<Granted>,
    /// In the queue of which group it had that; `None` for the queue of all.
    turn_in: Option<GroupId>,
}

impl Pass {
    /// The tokens reserved.
    #[must_use]
    pub const fn tokens(&self) -> u64 {
        self.reservation.tokens()
    }
}

/// What becomes of a call that asks to be let in.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// It may proceed.
    Passed(Pass),
    /// It waits; [`AdmissionQueue::next`] will name this ticket.
    Waiting(Ticket),
}

/// Who leaves the queue, and how.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "whoever waits on the ticket must be told"]
pub enum Leaving {
    /// Its call may proceed.
    Passed {
        /// Its place.
        ticket: Ticket,
        /// Its right to one call.
        pass: Pass,
        /// How long it has waited.
        waited: Duration,
    },
    /// Its patience is over.
    Expired {
        /// Its place.
        ticket: Ticket,
        /// How long it has waited.
        waited: Duration,
    },
}

/// The way to one upstream, or out of one tenant: limits on requests, tokens and calls in flight, and
/// the queue of those who wait for them.
///
/// - Nobody overtakes: whoever comes while others wait, waits behind them, in the fair order of
///   [`FairQueue`].
/// - Nobody waits in vain: a call whose own cost cannot be there before its deadline is turned away
///   at once.
/// - A call takes everything or nothing, and whatever it took comes back when it is settled.
/// - Where groups have [shares](Shares) of the places, whoever is first and waits for nothing but a place that is not
///   reserved keeps its turn, and does not hold up those who may take one that is reserved for them.
///
/// Call [`next`](Self::next) until it answers `None` after everything that may let somebody in: a
/// settled pass, a cancelled ticket, a report of the provider's, and when
/// [`wake_at`](Self::wake_at) has come.
#[derive(Clone, Debug)]
pub struct AdmissionQueue {
    limiter: Limiter,
    concurrency: Concurrency,
    pacer: Option<Pacer>,
    queue: FairQueue,
    /// Where groups have shares of the places.
    groups: Option<Box<Groups>>,
}

impl AdmissionQueue {
    /// The wait suggested when all slots are taken: any of the calls in flight may end within it, and
    /// `Retry-After` cannot say less.
    pub const SATURATED_RETRY_AFTER: Duration = Duration::from_secs(1);

    /// An empty queue in front of these limits.
    #[must_use]
    pub fn new(limiter: Limiter, concurrency: Concurrency, queue: FairQueueSettings) -> Self {
        Self { limiter, concurrency, pacer: None, queue: FairQueue::new(queue), groups: None }
    }

    /// The same, in which groups have these shares of the places, and with the same settings for their queues.
    #[must_use]
    pub fn with_shares(self, shares: Shares) -> Self {
        let groups = (!shares.is_empty()).then(|| Box::new(Groups::new(shares, self.queue.settings())));
        Self { groups, ..self }
    }

    /// A queue that paces calls at the rate which the upstream bears, and limits nothing else.
    #[must_use]
    pub fn paced(pacer: Pacer, queue: FairQueueSettings) -> Self {
        let unlimited = Concurrency::Fixed(Bulkhead::new(u32::MAX));
        Self { pacer: Some(pacer), ..Self::new(Limiter::new(None, None), unlimited, queue) }
    }

    /// Lets a call in, or lets it wait for its turn until `deadline`.
    ///
    /// # Errors
    ///
    /// What stands in its way, when it cannot be served before `deadline` or the queue is full.
    /// Nothing is taken then.
    pub fn enter(&mut self, demand: Demand, deadline: Timestamp, now: Timestamp) -> Result<Entry, TurnedAway> {
        self.enter_again(demand, None, deadline, now)
    }

    /// As [`enter`](Self::enter), for a call that had its turn and was refused by an upstream that says "too much":
    /// with its old ticket it comes before those of its tenant who came after it.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn enter_again(
        &mut self,
        demand: Demand,
        former: Option<Ticket>,
        deadline: Timestamp,
        now: Timestamp,
    ) -> Result<Entry, TurnedAway> {
        let Demand { tenant, priority, group, .. } = demand;
        let tokens = demand.tokens.min(TokenBucket::TOKENS_MAX);
        let ahead = match former {
            _ if self.goes_past_those_who_wait(group, now) => None,
            Some(_) => Some(0),
            None => Some(self.queue.ahead_of(tenant.id)),
        };
        let Some(obstacle) = self.obstacle_behind(ahead, group, tokens, now) else {
            let pass = self.take(tokens, now).map_err(|obstacle| self.turn_away(obstacle, tokens))?;
            return Ok(Entry::Passed(self.counted(pass, group)));
        };
        if now.saturating_add(obstacle.least_wait()) >= deadline {
            return Err(self.turn_away(obstacle, tokens));
        }
        match self.queue.push(tenant, priority, tokens, former, deadline, now) {
            Ok(ticket) => {
                if let Some(groups) = &mut self.groups {
                    groups.wait(ticket, &demand, now);
                }
                Ok(Entry::Waiting(ticket))
            }
            Err(full) => Err(self.turn_away(Obstacle::Full(full), tokens)),
        }
    }

    /// Who leaves the queue next: first whoever waited in vain, then the next in turn if there is room
    /// for it, or else the first of a group for which there is room that is reserved.
    pub fn next(&mut self, now: Timestamp) -> Option<Leaving> {
        let is_held_up = self.is_head_held_up(now);
        let (limiter, concurrency) = (&self.limiter, &self.concurrency);
        let paced = !self.pace(self.is_alone_among(1), now).is_zero();
        let fits = |cost| !paced && concurrency.check().is_ok() && limiter.check(cost, now).is_ok();
        match self.queue.next(now, |cost| !is_held_up && fits(cost)) {
            Some(Turn::Expired { ticket, waited }) => {
                self.forget_group_of(ticket);
                Some(Leaving::Expired { ticket, waited })
            }
            Some(Turn::Granted(granted)) => {
                let group = self.forget_group_of(granted.ticket);
                self.pass_to(group, granted, None, now)
            }
            None if is_held_up => {
                let groups = self.groups.as_mut()?;
                let (of, _, cost) = groups.head(&concurrency.room(), now)?;
                if !fits(cost) {
                    return None;
                }
                let granted = groups.serve(of, now)?;
                let group = groups.forget(granted.ticket);
                self.queue.cancel(granted.ticket);
                self.pass_to(group, granted, Some(of), now)
            }
            None => None,
        }
    }

    /// Lets somebody out of the queue for whom there is room, as has just been looked at.
    fn pass_to(
        &mut self,
        group: Option<GroupId>,
        turn: Granted,
        turn_in: Option<GroupId>,
        now: Timestamp,
    ) -> Option<Leaving> {
        let (ticket, waited) = (turn.ticket, turn.waited);
        // There is room, so this cannot fail.
        let pass = self.take(turn.cost, now).ok()?;
        let pass = self.counted(Pass { turn: Some(turn), turn_in, ..pass }, group);
        Some(Leaving::Passed { ticket, pass, waited })
    }

    /// Leaves the queue; everybody else keeps their order. `false` when the ticket has left already.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        self.forget_group_of(ticket);
        self.queue.cancel(ticket)
    }

    /// When [`next`](Self::next) may have somebody to name though nothing is settled until then, and
    /// whose turn it is; `None` when nobody waits.
    pub fn wake_at(&mut self, now: Timestamp) -> Option<(Ticket, Timestamp)> {
        let deadline = self.queue.next_deadline()?;
        let (mut ticket, mut cost) = self.queue.head(now)?;
        if self.concurrency.check().is_err() {
            return Some((ticket, deadline));
        }
        if let Some(groups) = &mut self.groups
            && !groups.has_place_for_waiter(ticket, &self.concurrency.room())
        {
            // Whoever is first waits for a call to end; who is let in before needs the time that its tokens take.
            let Some((_, first, its_cost)) = groups.head(&self.concurrency.room(), now) else {
                return Some((ticket, deadline));
            };
            (ticket, cost) = (first, its_cost);
        }
        let paced = self.pace(self.is_alone_among(1), now);
        let wait =
            self.limiter.check(cost, now).err().map_or(Duration::ZERO, |exceeded| exceeded.retry_after).max(paced);
        Some((ticket, deadline.min(now.saturating_add(wait))))
    }

    /// Gives back what a call took and did not use, and learns from what became of it. True for an overload that a
    /// circuit should not hold against the upstream, because the limit deals with it: see [`AdaptiveLimit::release`].
    pub fn settle(&mut self, pass: Pass, settlement: Settlement, feedback: Feedback, now: Timestamp) -> bool {
        let Pass { reservation, slot, group, turn, turn_in } = pass;
        if let Some(turn) = turn {
            let used = match settlement {
                Settlement::Used(tokens) => tokens,
                Settlement::Refund => 0,
                Settlement::AsEstimated => turn.cost,
            };
            match self.groups.as_mut().zip(turn_in) {
                Some((groups, of)) => groups.settle(of, turn, used),
                None => self.queue.settle(turn, used),
            }
        }
        self.limiter.settle(reservation, settlement, now);
        let mut kept = 0;
        if let Some(groups) = &mut self.groups {
            kept = groups.shares.claims(&self.concurrency.room()).kept();
            groups.shares.left(group, slot.lasts());
        }
        self.concurrency.release(slot, feedback, kept, now)
    }

    /// Takes tokens of a call that goes on: see [`Limiter::charge`].
    pub fn charge(&mut self, tokens: u64, now: Timestamp) {
        self.limiter.charge(tokens, now);
    }

    /// A call has become something that stays for long: see [`AdaptiveLimit::lasts`].
    pub fn lasts(&mut self, pass: &mut Pass) {
        let lasted = pass.slot.lasts();
        self.concurrency.lasts(&mut pass.slot);
        if let Some(groups) = &mut self.groups
            && pass.slot.lasts() != lasted
        {
            groups.shares.lasts(pass.group);
        }
    }

    /// What stands in the way of a call that comes now, and before whose turn so many others have theirs; `None` where
    /// they do not matter.
    fn obstacle_behind(
        &self,
        ahead: Option<usize>,
        group: Option<GroupId>,
        tokens: u64,
        now: Timestamp,
    ) -> Option<Obstacle> {
        if let Err(exceeded) = self.limiter.check(tokens, now) {
            return Some(Obstacle::Limit(exceeded));
        }
        if let Err(saturated) = self.concurrency.check() {
            return Some(Obstacle::Saturated(saturated));
        }
        if let Some(groups) = &self.groups
            && !groups.has_place_for(group, &self.concurrency.room())
        {
            return Some(Obstacle::Reserved { limit: self.concurrency.limit(), in_flight: self.concurrency.working() });
        }
        let ahead = ahead?;
        if let Some(pacer) = &self.pacer {
            let wait = if self.is_alone_among(0) { pacer.wait_alone(now) } else { pacer.wait_behind(ahead, now) };
            if !wait.is_zero() {
                return Some(Obstacle::Paced { wait });
            }
        }
        (!self.queue.is_empty()).then(|| Obstacle::Queue(self.queue.len()))
    }

    /// What whoever has waited in vain for so many tokens is told, for a call of this group.
    #[must_use]
    pub fn in_vain(&self, tokens: u64, group: Option<GroupId>, now: Timestamp) -> TurnedAway {
        let obstacle = self.obstacle_behind(Some(self.queue.len()), group, tokens, now);
        self.turn_away(obstacle.unwrap_or(Obstacle::Queue(self.queue.len())), tokens)
    }

    /// Whether whoever is first in turn waits for nothing but a place that is not reserved for others.
    fn is_head_held_up(&mut self, now: Timestamp) -> bool {
        let Some(groups) = &self.groups else { return false };
        let head = self.queue.head(now);
        head.is_some_and(|(ticket, _)| !groups.has_place_for_waiter(ticket, &self.concurrency.room()))
    }

    /// Whether a call that comes now, of this group, waits behind nobody, since there is a place that is reserved for it
    /// and whoever is first in turn must not take that.
    fn goes_past_those_who_wait(&mut self, group: Option<GroupId>, now: Timestamp) -> bool {
        self.is_head_held_up(now)
            && self
                .groups
                .as_mut()
                .is_some_and(|groups| groups.takes_reserved_place(group, &self.concurrency.room(), now))
    }

    /// Whoever has this ticket waits no more. Answers of which group it was.
    fn forget_group_of(&mut self, ticket: Ticket) -> Option<GroupId> {
        self.groups.as_mut().and_then(|groups| groups.forget(ticket))
    }

    /// How the shares of groups stand.
    pub fn shares(&self) -> impl Iterator<Item = ShareStanding> {
        let limit = self.concurrency.limit();
        self.groups.iter().flat_map(move |groups| groups.shares.standing(limit))
    }

    /// See [`Limiter::resync`].
    pub fn resync(&mut self, dimension: Dimension, reported: Reported, ceiling: Ceiling, now: Timestamp) {
        self.limiter.resync(dimension, reported, ceiling, now);
    }

    /// See [`Limiter::drain`].
    pub fn drain(&mut self, dimension: Dimension, reset_in: Duration, now: Timestamp) {
        self.limiter.drain(dimension, reset_in, now);
    }

    /// What finds the upstream's rate, where this queue has it.
    pub const fn pacer_mut(&mut self) -> Option<&mut Pacer> {
        self.pacer.as_mut()
    }

    /// As [`pacer_mut`](Self::pacer_mut), to look at.
    #[must_use]
    pub const fn pacer(&self) -> Option<&Pacer> {
        self.pacer.as_ref()
    }

    /// The limits on requests and tokens.
    #[must_use]
    pub const fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// The limit on calls in flight.
    #[must_use]
    pub const fn concurrency(&self) -> &Concurrency {
        &self.concurrency
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// For how long the pace would keep a call that came now and before all who wait.
    #[must_use]
    pub fn pace_of_next(&self, now: Timestamp) -> Duration {
        self.pace(self.is_alone_among(0), now)
    }

    /// Whether no call is under way, and no more than so many wait.
    fn is_alone_among(&self, waiting: usize) -> bool {
        self.queue.len() <= waiting && self.concurrency.in_flight() == 0
    }

    /// How long the pace keeps a call that comes before all others.
    fn pace(&self, is_alone: bool, now: Timestamp) -> Duration {
        let wait = |pacer: &Pacer| if is_alone { pacer.wait_alone(now) } else { pacer.wait(now) };
        self.pacer.as_ref().map_or(Duration::ZERO, wait)
    }

    fn take(&mut self, tokens: u64, now: Timestamp) -> Result<Pass, Obstacle> {
        let slot = self.concurrency.acquire(now).map_err(Obstacle::Saturated)?;
        match self.limiter.reserve(tokens, now) {
            Ok(reservation) => {
                if let Some(pacer) = &mut self.pacer {
                    pacer.sent(now);
                }
                Ok(Pass { reservation, slot, group: None, turn: None, turn_in: None })
            }
            Err(exceeded) => {
                self.concurrency.release(slot, Feedback::Neutral, 0, now);
                Err(Obstacle::Limit(exceeded))
            }
        }
    }

    /// A call that is let in counts among those of its group.
    fn counted(&mut self, pass: Pass, group: Option<GroupId>) -> Pass {
        if let Some(groups) = &mut self.groups {
            groups.shares.taken(group);
        }
        Pass { group, ..pass }
    }

    fn turn_away(&self, obstacle: Obstacle, tokens: u64) -> TurnedAway {
        let behind = u64::try_from(self.queue.len()).unwrap_or(u64::MAX);
        let others = match behind {
            0 => Duration::ZERO,
            _ => self.limiter.time_for(behind + 1, self.queue.waiting_tokens().saturating_add(tokens)),
        };
        let least = match obstacle {
            Obstacle::Limit(exceeded) => exceeded.retry_after,
            Obstacle::Paced { wait } => wait,
            Obstacle::Saturated(_) | Obstacle::Reserved { .. } | Obstacle::Queue(_) | Obstacle::Full(_) => {
                Self::SATURATED_RETRY_AFTER
            }
        };
        TurnedAway { obstacle, retry_after: least.max(others) }
    }
}

impl Obstacle {
    /// The time for which the call cannot be let in, whatever others do.
    const fn least_wait(&self) -> Duration {
        match self {
            Self::Limit(exceeded) => exceeded.retry_after,
            Self::Paced { wait } => *wait,
            Self::Saturated(_) | Self::Reserved { .. } | Self::Queue(_) | Self::Full(_) => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests;
