//! A bounded queue that shares tokens fairly between tenants.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::Mistake;
use crate::bucket::TokenBucket;
use crate::shed::Priority;
use crate::time::Timestamp;

mod band;

use band::{Band, Head};

/// The numbers of a [`FairQueue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FairQueueSettings {
    /// Most waiters in the queue, 1 to [`WAITING_MAX`](Self::WAITING_MAX).
    pub max_waiting: u32,
    /// Most waiters of one tenant, at most `max_waiting`.
    pub max_waiting_per_tenant: u32,
    /// For so long, at least, waiters of a lower priority are passed over by those of a higher one
    /// before one of them goes first. Longer than zero.
    pub ageing: Duration,
    /// What a turn costs a tenant's share at least: it takes a place in flight even if the call uses no
    /// tokens, or is refused. At most [`TokenBucket::TOKENS_MAX`].
    pub turn_tokens: u64,
}

impl FairQueueSettings {
    /// Eight thousand held connections: what comes in ten seconds of patience at eight hundred a second.
    pub const DEFAULT_MAX_WAITING: u32 = 8192;
    /// An eighth of the queue, so that it takes eight floods at once to fill it.
    pub const DEFAULT_MAX_WAITING_PER_TENANT: u32 = 1024;
    /// A second: background work proceeds visibly under a steady load of interactive calls, and
    /// costs them at most one place per second.
    pub const DEFAULT_AGEING: Duration = Duration::from_secs(1);
    /// A quarter of what an ordinary small request reserves: calls that cost nothing are shared by turns,
    /// and those that cost more by what they cost.
    pub const DEFAULT_TURN_TOKENS: u64 = 250;
    /// Turns of a higher priority that a lower one sees before it goes first, besides `ageing`: so it
    /// takes at most one turn in ten, however slow the turns are.
    pub const PASSED_OVER_TURNS: u32 = 9;
    /// Highest allowed `max_waiting`: a waiter takes some hundred bytes here and a connection outside.
    pub const WAITING_MAX: u32 = 1_000_000;

    /// Every mistake in these settings; none when they are sound.
    #[must_use]
    pub fn validate(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        Mistake::unless(
            &mut mistakes,
            (1..=Self::WAITING_MAX).contains(&self.max_waiting),
            "max_waiting",
            format!("{} must lie between 1 and {}", self.max_waiting, Self::WAITING_MAX),
        );
        Mistake::unless(
            &mut mistakes,
            (1..=self.max_waiting.max(1)).contains(&self.max_waiting_per_tenant),
            "max_waiting_per_tenant",
            format!("{} must lie between 1 and max_waiting ({})", self.max_waiting_per_tenant, self.max_waiting),
        );
        Mistake::unless(
            &mut mistakes,
            !self.ageing.is_zero(),
            "ageing",
            "must be longer than zero, or priorities mean nothing".to_owned(),
        );
        mistakes
    }
}

impl Default for FairQueueSettings {
    fn default() -> Self {
        Self {
            max_waiting: Self::DEFAULT_MAX_WAITING,
            max_waiting_per_tenant: Self::DEFAULT_MAX_WAITING_PER_TENANT,
            ageing: Self::DEFAULT_AGEING,
            turn_tokens: Self::DEFAULT_TURN_TOKENS,
        }
    }
}

/// Who waits, and how large its share is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Which tenant; the caller numbers them.
    pub id: u64,
    /// Its share relative to the others', 1 to [`WEIGHT_MAX`](Self::WEIGHT_MAX); others are brought
    /// to the nearer end. Within a priority, the weight given last counts for all its waiters.
    pub weight: u32,
}

impl Tenant {
    /// Highest weight: a larger ratio between two tenants is starvation by another name.
    pub const WEIGHT_MAX: u32 = 1000;

    /// A tenant of weight 1.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self { id, weight: 1 }
    }
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Why nobody else may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The whole queue is full.
    Queue,
    /// This tenant has as many waiters as it may have; others may still join.
    Tenant,
}

/// Who leaves the queue, and how.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "whoever waits on the ticket must be told"]
pub enum Turn {
    /// Served: the call may proceed.
    Granted(Granted),
    /// The waiter's deadline has passed; it was not served, and its tenant is not charged.
    Expired {
        /// Its place.
        ticket: Ticket,
        /// How long it has waited.
        waited: Duration,
    },
}

/// A waiter that was served, and charged to its tenant's share. Hand it to
/// [`FairQueue::settle`] when its true cost is known. If it is lost, the estimate stands.
#[derive(Debug, PartialEq, Eq)]
pub struct Granted {
    /// Its place.
    pub ticket: Ticket,
    /// Who was served.
    pub tenant: Tenant,
    /// Its priority.
    pub priority: Priority,
    /// The tokens that were charged.
    pub cost: u64,
    /// How long it has waited.
    pub waited: Duration,
    /// Sum of the weights of the tenants that waited with it.
    weights: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    tenant: Tenant,
    priority: Priority,
    cost: u64,
    deadline: Timestamp,
    joined: Timestamp,
}

#[derive(Clone, Debug, Default)]
struct Lane {
    band: Band,
    /// Since when, and how often, it was passed over while it waited: nobody is passed over by
    /// somebody for whom the tokens are only gathering.
    passed_over: Option<(Timestamp, u32)>,
}

/// Requests that wait for tokens, in the order in which they should get them.
///
/// - **Priorities** are strict, tempered by ageing: the highest priority with waiters is served,
///   unless a lower one was passed over for `ageing` and for
///   [`PASSED_OVER_TURNS`](FairQueueSettings::PASSED_OVER_TURNS); then that one is served once. So a
///   low priority is slow under load and never starved. Strict order was preferred to weights between
///   priorities because it needs no tuning: an interactive call goes first.
/// - **Tenants** of one priority share its tokens by weight, whatever the number and the size of
///   their requests; a turn counts as `turn_tokens` at least. While a tenant has waiters, what it got
///   lies within twice the largest request of its share. A tenant without waiters saves nothing up.
/// - **Within one tenant and priority** the order is that of arrival.
/// - **A large request is never overtaken for its size**: while the next one does not fit, nobody
///   is served, and the tokens gather for it.
///
/// Every operation costs O(log n).
#[derive(Clone, Debug)]
pub struct FairQueue {
    settings: FairQueueSettings,
    lanes: [Lane; Priority::ALL.len()],
    waiters: BTreeMap<u64, Waiter>,
    deadlines: BTreeSet<(Timestamp, u64)>,
    per_tenant: BTreeMap<u64, u32>,
    waiting_tokens: u64,
    next_ticket: u64,
}

impl FairQueue {
    /// An empty queue. Settings out of range are brought to the nearer end.
    #[must_use]
    pub fn new(settings: FairQueueSettings) -> Self {
        let max_waiting = settings.max_waiting.clamp(1, FairQueueSettings::WAITING_MAX);
        let max_waiting_per_tenant = settings.max_waiting_per_tenant.clamp(1, max_waiting);
        Self {
            settings: FairQueueSettings {
                max_waiting,
                max_waiting_per_tenant,
                turn_tokens: settings.turn_tokens.min(TokenBucket::TOKENS_MAX),
                ..settings
            },
            lanes: std::array::from_fn(|_| Lane::default()),
            waiters: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            per_tenant: BTreeMap::new(),
            waiting_tokens: 0,
            next_ticket: 0,
        }
    }

    /// Its numbers, within their bounds.
    pub(crate) const fn settings(&self) -> FairQueueSettings {
        self.settings
    }

    /// Joins the queue for `cost` tokens, at most [`TokenBucket::TOKENS_MAX`], until `deadline`. Somebody who had a
    /// turn that came to nothing comes, with its `former` ticket, before those of its tenant and priority who joined
    /// later.
    ///
    /// # Errors
    ///
    /// Which bound is reached. Waiters whose deadline has passed count until
    /// [`next`](Self::next) has handed them out.
    pub fn push(
        &mut self,
        tenant: Tenant,
        priority: Priority,
        cost: u64,
        former: Option<Ticket>,
        deadline: Timestamp,
        now: Timestamp,
    ) -> Result<Ticket, Full> {
        if self.len() >= self.settings.max_waiting as usize {
            return Err(Full::Queue);
        }
        if self.per_tenant.get(&tenant.id).is_some_and(|count| *count >= self.settings.max_waiting_per_tenant) {
            return Err(Full::Tenant);
        }
        // A ticket that still waits is another's.
        let ticket = match former {
            Some(Ticket(former)) if !self.waiters.contains_key(&former) && former < self.next_ticket => Ticket(former),
            Some(_) | None => Ticket(self.next_ticket),
        };
        self.join(ticket, tenant, priority, cost, deadline, now);
        Ok(ticket)
    }

    /// Joins the queue with this ticket, which nobody has in it, whatever its bounds: for whoever waits in another one
    /// with it as well.
    pub(crate) fn join(
        &mut self,
        Ticket(ticket): Ticket,
        tenant: Tenant,
        priority: Priority,
        cost: u64,
        deadline: Timestamp,
        now: Timestamp,
    ) {
        let tenant = Tenant { weight: tenant.weight.clamp(1, Tenant::WEIGHT_MAX), ..tenant };
        *self.per_tenant.entry(tenant.id).or_default() += 1;
        self.next_ticket = self.next_ticket.max(ticket + 1);
        let cost = cost.min(TokenBucket::TOKENS_MAX);
        // At most a million waiters of at most a trillion tokens: the sum fits.
        self.waiting_tokens += cost;
        self.waiters.insert(ticket, Waiter { tenant, priority, cost, deadline, joined: now });
        self.deadlines.insert((deadline, ticket));
        let lane = &mut self.lanes[priority.rank()];
        if lane.band.is_empty() {
            lane.passed_over = None;
        }
        lane.band.push(tenant.id, tenant.weight, ticket, cost.max(self.settings.turn_tokens));
    }

    /// Leaves the queue unserved; everybody else keeps their order, and nothing is charged. `false`
    /// when the ticket has left already.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        let Some(waiter) = self.forget(ticket.0) else {
            return false;
        };
        self.lanes[waiter.priority.rank()].band.remove(waiter.tenant.id, ticket.0);
        true
    }

    /// Who leaves the queue next: first whoever waited in vain, then the next in turn if what it costs
    /// `fits`. Call it until it answers `None`.
    pub fn next(&mut self, now: Timestamp, fits: impl FnOnce(u64) -> bool) -> Option<Turn> {
        if let Some((deadline, ticket)) = self.deadlines.first().copied()
            && deadline <= now
        {
            let joined = self.waiters.get(&ticket).map_or(now, |waiter| waiter.joined);
            self.cancel(Ticket(ticket));
            return Some(Turn::Expired { ticket: Ticket(ticket), waited: now.saturating_since(joined) });
        }
        let rank = self.rank_in_turn(now)?;
        let head: Head = self.lanes[rank].band.head()?;
        if !fits(self.waiters.get(&head.ticket)?.cost) {
            return None;
        }
        let weights = self.serve(rank, head, now);
        let waiter = self.forget(head.ticket)?;
        Some(Turn::Granted(Granted {
            ticket: Ticket(head.ticket),
            tenant: waiter.tenant,
            priority: waiter.priority,
            cost: waiter.cost,
            waited: now.saturating_since(waiter.joined),
            weights,
        }))
    }

    /// Whose turn it is, and what it costs.
    pub fn head(&mut self, now: Timestamp) -> Option<(Ticket, u64)> {
        let rank = self.rank_in_turn(now)?;
        let head = self.lanes[rank].band.head()?;
        Some((Ticket(head.ticket), self.waiters.get(&head.ticket)?.cost))
    }

    /// Corrects a tenant's share to what its call used: zero when it was never sent, or refused.
    pub fn settle(&mut self, granted: Granted, actual: u64) {
        let counted = |tokens: u64| i128::from(tokens.min(TokenBucket::TOKENS_MAX).max(self.settings.turn_tokens));
        let excess = counted(actual) - counted(granted.cost);
        let band = &mut self.lanes[granted.priority.rank()].band;
        band.correct(granted.tenant.id, granted.tenant.weight, granted.weights, excess);
    }

    /// How many leave before somebody of this tenant who joined now, by fair shares: all of them, or as many as
    /// its own waiters and itself have rounds.
    #[must_use]
    pub fn ahead_of(&self, tenant: u64) -> usize {
        let own = self.per_tenant.get(&tenant).copied().unwrap_or(0) as usize;
        let others = self.per_tenant.len() - usize::from(own > 0);
        self.len().min(own.saturating_add((own + 1).saturating_mul(others)))
    }

    /// When the next waiter's patience ends, so that [`next`](Self::next) should be called though
    /// no tokens have come.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Tokens that all waiters want together.
    #[must_use]
    pub const fn waiting_tokens(&self) -> u64 {
        self.waiting_tokens
    }

    /// Waiters in the queue.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// The lower priority that was passed over longest, if that was too long; else the highest.
    fn rank_in_turn(&self, now: Timestamp) -> Option<usize> {
        let waiting = || (0..self.lanes.len()).filter(|rank| !self.lanes[*rank].band.is_empty());
        let highest = waiting().next()?;
        let overdue = |rank: &usize| {
            let (since, turns) = self.lanes[*rank].passed_over?;
            let too_long =
                now.saturating_since(since) >= self.settings.ageing && turns >= FairQueueSettings::PASSED_OVER_TURNS;
            too_long.then_some((since, *rank))
        };
        let aged = waiting().filter(|rank| *rank > highest).filter_map(|rank| overdue(&rank)).min();
        Some(aged.map_or(highest, |(_, rank)| rank))
    }

    /// Serves the head of a lane, and notes whom it passes over.
    fn serve(&mut self, rank: usize, head: Head, now: Timestamp) -> u64 {
        self.lanes[rank].passed_over = None;
        for lane in self.lanes.iter_mut().skip(rank + 1).filter(|lane| !lane.band.is_empty()) {
            let (since, turns) = lane.passed_over.unwrap_or((now, 0));
            lane.passed_over = Some((since, turns.saturating_add(1)));
        }
        self.lanes[rank].band.serve(head)
    }

    /// Takes a waiter out of everything but its band.
    fn forget(&mut self, ticket: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&ticket)?;
        self.deadlines.remove(&(waiter.deadline, ticket));
        self.waiting_tokens -= waiter.cost;
        if let Some(count) = self.per_tenant.get_mut(&waiter.tenant.id) {
            *count -= 1;
            if *count == 0 {
                self.per_tenant.remove(&waiter.tenant.id);
            }
        }
        Some(waiter)
    }
}

#[cfg(test)]
mod tests;
