//! Those who wait for a place and are of a group that has a share of the places.

use std::collections::BTreeMap;

use super::Demand;
use crate::fair_queue::{FairQueue, FairQueueSettings, Granted, Ticket, Turn};
use crate::shares::{GroupId, Right, Room, Shares};
use crate::time::Timestamp;

/// Shares of the places, and whoever waits of the groups that have them.
///
/// Whoever waits of a group stands in several queues with one ticket: in that of all, and in those of its group and of
/// the groups above it. It leaves all of them when its turn has come in one, and is charged in that one alone. So what a
/// group is served of its share costs it no turn among all, and its members have their share of it among each other.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    pub(super) shares: Shares,
    /// Of each group whoever waits of it, and of those below it.
    queues: Vec<FairQueue>,
    /// Of which group a waiter is; those who are of none are not here.
    waiters: BTreeMap<Ticket, GroupId>,
}

/// In a group's queue nobody's patience ends: it ends in the queue of all, which everybody stands in.
const NEVER: Timestamp = Timestamp::from_micros(u64::MAX);

impl Groups {
    pub(super) fn new(shares: Shares, settings: FairQueueSettings) -> Self {
        let queues = (0..shares.len()).map(|_| FairQueue::new(settings)).collect();
        Self { shares, queues, waiters: BTreeMap::new() }
    }

    /// Whether there is a place for a call of this group.
    pub(super) fn has_place_for(&self, group: Option<GroupId>, room: &Room) -> bool {
        self.shares.right(group, &self.shares.claims(room)).is_some()
    }

    /// Whether there is a place for whoever has this ticket.
    pub(super) fn has_place_for_waiter(&self, ticket: Ticket, room: &Room) -> bool {
        self.has_place_for(self.waiters.get(&ticket).copied(), room)
    }

    /// Whether a call of this group, which comes now, takes a place that is reserved for it, and nobody of any group
    /// waits before it who has such a place and lacks something else.
    pub(super) fn takes_reserved_place(&mut self, group: Option<GroupId>, room: &Room, now: Timestamp) -> bool {
        let right = self.shares.right(group, &self.shares.claims(room));
        matches!(right, Some(Right::Groups(_))) && self.head(room, now).is_none()
    }

    /// Somebody waits in the queue of all, with this ticket.
    pub(super) fn wait(&mut self, ticket: Ticket, demand: &Demand, now: Timestamp) {
        let Some(group) = demand.group else { return };
        self.waiters.insert(ticket, group);
        for group in self.shares.chain(Some(group)) {
            self.queues[group.index()].join(ticket, demand.tenant, demand.priority, demand.tokens, NEVER, now);
        }
    }

    /// Whoever has this ticket waits no more. Answers of which group it was.
    pub(super) fn forget(&mut self, ticket: Ticket) -> Option<GroupId> {
        let group = self.waiters.remove(&ticket);
        for group in self.shares.chain(group) {
            self.queues[group.index()].cancel(ticket);
        }
        group
    }

    /// Whose turn it is to take a place that is reserved for its group, in the queue of which group, and what it costs.
    /// Of several groups the one whose first waiter came first.
    pub(super) fn head(&mut self, room: &Room, now: Timestamp) -> Option<(GroupId, Ticket, u64)> {
        let claims = self.shares.claims(room);
        let queues = self.queues.iter_mut().enumerate().map(|(index, queue)| (GroupId::at(index), queue));
        let heads = queues.filter(|(group, _)| claims.is_granted(*group)).filter_map(|(group, queue)| {
            let (ticket, cost) = queue.head(now)?;
            Some((group, ticket, cost))
        });
        heads.min_by_key(|(_, ticket, _)| *ticket)
    }

    /// Serves the first in a group's queue, and charges it there alone.
    pub(super) fn serve(&mut self, group: GroupId, now: Timestamp) -> Option<Granted> {
        match self.queues[group.index()].next(now, |_| true)? {
            Turn::Granted(granted) => Some(granted),
            Turn::Expired { .. } => None,
        }
    }

    /// Corrects the share of a group's queue that a call has had.
    pub(super) fn settle(&mut self, group: GroupId, granted: Granted, actual: u64) {
        self.queues[group.index()].settle(granted, actual);
    }
}
