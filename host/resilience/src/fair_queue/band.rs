//! The order of service within one band: worst-case fair weighted queueing over tenants.

use std::collections::{BTreeMap, BTreeSet};

/// Virtual time counts tokens per unit of weight, in fractions this fine: a division by a sum of
/// weights rounds by less than a millionth of a token.
const FRACTION_BITS: u32 = 20;

/// One tenant's waiters, and how much of its share it has had.
#[derive(Clone, Debug)]
struct Flow {
    weight: u32,
    /// The virtual time from which its first waiter is due. Ahead of the band's virtual time means
    /// that the tenant has had more than its share.
    start: i128,
    /// Cost by ticket; tickets rise, so that the first one came first.
    waiters: BTreeMap<u64, u64>,
    place: Place,
}

/// Under which key a flow is found in the band's indices.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// No waiters; kept while it is ahead of its share.
    Idle(i128),
    /// Ahead of its share: not due before this virtual time.
    Early(i128),
    /// Due; served in the order of this virtual finish time.
    Due(i128),
}

/// The tenants that wait in one band.
///
/// The algorithm is WF2Q+ (Bennett and Zhang, "Hierarchical Packet Fair Queueing Algorithms", 1996):
/// among the tenants that are not ahead of their share, the one whose first request would be
/// finished first under ideal sharing is next. It is deficit round robin with a quantum of one
/// token and the empty rounds skipped, so that a heavy tenant's turn is no longer than a request,
/// and each operation costs O(log n) whatever the costs are.
#[derive(Clone, Debug, Default)]
pub(super) struct Band {
    virtual_time: i128,
    /// Sum of the weights of the tenants that wait.
    weights: u64,
    flows: BTreeMap<u64, Flow>,
    idle: BTreeSet<(i128, u64)>,
    early: BTreeSet<(i128, u64)>,
    due: BTreeSet<(i128, u64)>,
}

/// The waiter that is next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) tenant: u64,
    pub(super) ticket: u64,
    pub(super) cost: u64,
}

impl Band {
    /// Tenants without waiters whose excess is remembered. At the bound, the one with the least
    /// excess is forgiven.
    const IDLE_MAX: usize = 4096;

    pub(super) fn is_empty(&self) -> bool {
        self.weights == 0
    }

    /// Adds a waiter behind those of the same tenant. The newest weight of a tenant counts.
    pub(super) fn push(&mut self, tenant: u64, weight: u32, ticket: u64, cost: u64) {
        let now = self.virtual_time;
        self.update(tenant, weight, now, |flow| {
            if flow.waiters.is_empty() {
                // Silence earns no credit, and an excess is not forgotten by pausing.
                flow.start = flow.start.max(now);
            }
            flow.weight = weight;
            flow.waiters.insert(ticket, cost);
        });
    }

    /// Takes a waiter out without charging its tenant.
    pub(super) fn remove(&mut self, tenant: u64, ticket: u64) {
        if let Some(weight) = self.flows.get(&tenant).map(|flow| flow.weight) {
            self.update(tenant, weight, self.virtual_time, |flow| {
                flow.waiters.remove(&ticket);
            });
        }
    }

    /// Who is next.
    pub(super) fn head(&mut self) -> Option<Head> {
        // Nobody is due before a tenant that is further behind. Only tokens given back can make one so
        // that is not due itself: they take virtual time back, but not from those that were due before.
        let due = self.due.first().and_then(|(_, tenant)| self.flows.get(tenant));
        if let Some((earliest, _)) = self.early.first()
            && due.is_none_or(|due| *earliest < due.start)
        {
            self.virtual_time = self.virtual_time.max(*earliest);
        }
        while let Some((start, tenant)) = self.early.first().copied()
            && start <= self.virtual_time
        {
            self.early.remove(&(start, tenant));
            if let Some(flow) = self.flows.get_mut(&tenant) {
                let finish = flow.finish();
                flow.place = Place::Due(finish);
                self.due.insert((finish, tenant));
            }
        }
        let (_, tenant) = *self.due.first()?;
        let (ticket, cost) = self.flows.get(&tenant)?.waiters.first_key_value()?;
        Some(Head { tenant, ticket: *ticket, cost: *cost })
    }

    /// Serves the waiter that [`head`](Self::head) named, and charges its tenant. Answers with the
    /// sum of the weights that it was shared out by.
    pub(super) fn serve(&mut self, head: Head) -> u64 {
        let weights = self.weights;
        self.virtual_time += per_weight(i128::from(head.cost), weights);
        if let Some(weight) = self.flows.get(&head.tenant).map(|flow| flow.weight) {
            self.update(head.tenant, weight, self.virtual_time, |flow| {
                flow.waiters.remove(&head.ticket);
                flow.start += per_weight(i128::from(head.cost), u64::from(flow.weight));
            });
        }
        weights
    }

    /// Charges `excess` more tokens to a tenant that was served before, when the weights were
    /// `weights` in sum; less than zero gives tokens back.
    pub(super) fn correct(&mut self, tenant: u64, weight: u32, weights: u64, excess: i128) {
        let now = self.virtual_time;
        self.virtual_time += per_weight(excess, weights);
        if excess > 0 || self.flows.contains_key(&tenant) {
            self.update(tenant, weight, now, |flow| flow.start += per_weight(excess, u64::from(flow.weight)));
        }
    }

    /// Changes a flow, which is new at `start` when unknown, and finds its place in the indices
    /// again.
    fn update(&mut self, tenant: u64, weight: u32, start: i128, change: impl FnOnce(&mut Flow)) {
        let flow = self.flows.entry(tenant).or_insert_with(|| Flow {
            weight,
            start,
            waiters: BTreeMap::new(),
            place: Place::Idle(start),
        });
        match flow.place {
            Place::Idle(key) => self.idle.remove(&(key, tenant)),
            Place::Early(key) => self.early.remove(&(key, tenant)),
            Place::Due(key) => self.due.remove(&(key, tenant)),
        };
        if !flow.waiters.is_empty() {
            self.weights -= u64::from(flow.weight);
        }
        change(flow);
        flow.place = if flow.waiters.is_empty() {
            self.idle.insert((flow.start, tenant));
            Place::Idle(flow.start)
        } else {
            self.weights += u64::from(flow.weight);
            // Whether it is due is for `head` to say, against the virtual time of that moment.
            self.early.insert((flow.start, tenant));
            Place::Early(flow.start)
        };
        self.forget();
    }

    /// Drops idle tenants that are no longer ahead of their share.
    fn forget(&mut self) {
        while let Some((start, tenant)) = self.idle.first().copied()
            && (start <= self.virtual_time || self.idle.len() > Self::IDLE_MAX)
        {
            self.idle.remove(&(start, tenant));
            self.flows.remove(&tenant);
        }
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.flows.len()
    }
}

impl Flow {
    /// The virtual time at which its first waiter would be finished under ideal sharing.
    fn finish(&self) -> i128 {
        let cost = self.waiters.first_key_value().map_or(0, |(_, cost)| *cost);
        self.start + per_weight(i128::from(cost), u64::from(self.weight))
    }
}

fn per_weight(tokens: i128, weight: u64) -> i128 {
    (tokens << FRACTION_BITS) / i128::from(weight.max(1))
}
