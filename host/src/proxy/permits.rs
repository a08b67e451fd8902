//! What a request holds of limits and circuits, each to be settled once.

use crate::dialect::Usage;
use crate::proxy::spending::{Ended, Expense};
use crate::upstream::circuit::CircuitPermits;
use crate::upstream::gate::AdmissionPermit;
use spillway_resilience::Feedback;

/// What a call holds while it is under way. Dropped with it, it counts nowhere but in the limits, since the provider
/// may bill what nobody waits for any more.
#[derive(Debug)]
pub(crate) struct Permits {
    /// Its quota and its place in flight.
    pub limits: AdmissionPermit,
    /// Its way through the circuits.
    pub circuits: CircuitPermits,
    /// What it may cost, where a ledger is kept.
    pub expense: Option<Expense>,
    /// Its turns in lanes, which tell whether another call is under way there. Nothing is reserved by them.
    pub turns: Vec<AdmissionPermit>,
}

/// What a request has taken of limits: its upstream's, its tenant's, and what is reserved for it in the ledger. Dropped,
/// each is settled as it stands.
#[derive(Debug, Default)]
pub(crate) struct Charges {
    /// The upstream's.
    pub upstream: Option<AdmissionPermit>,
    /// The tenant's, when it has limits of its own.
    pub tenant: Option<AdmissionPermit>,
    /// The ledger's, where one is kept.
    pub expense: Option<Expense>,
}

impl Charges {
    /// Takes what was used from all while the call goes on.
    pub(crate) fn book(&mut self, usage: Usage) {
        for permit in [&self.upstream, &self.tenant].into_iter().flatten() {
            permit.book(usage.total());
        }
        if let Some(expense) = &mut self.expense {
            expense.book(usage);
        }
    }

    /// Settles all with the same cost.
    pub(crate) fn settle(self, ended: &Ended, feedback: Feedback) {
        for permit in [self.upstream, self.tenant].into_iter().flatten() {
            // Only a refusal before the first content can be excused.
            let _ = permit.settle(ended.settlement, feedback);
        }
        if let Some(expense) = self.expense {
            expense.settle(ended);
        }
    }
}
