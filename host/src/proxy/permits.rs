//! What a request holds of limits and circuits, each to be settled once.

use crate::upstream::circuit::CircuitPermits;
use crate::upstream::gate::AdmissionPermit;
use spillway_resilience::{Feedback, Settlement};

/// What a call holds while it is under way. Dropped with it, it counts nowhere but in the limits, since the provider
/// may bill what nobody waits for any more.
#[derive(Debug)]
pub(crate) struct Permits {
    /// Its quota and its place in flight.
    pub limits: AdmissionPermit,
    /// Its way through the circuits.
    pub circuits: CircuitPermits,
    /// Its turns in lanes, which tell whether another call is under way there. Nothing is reserved by them.
    pub turns: Vec<AdmissionPermit>,
}

/// What a request has taken of limits: its upstream's, and its tenant's. Dropped, each is settled as it stands.
#[derive(Debug, Default)]
pub(crate) struct Charges {
    /// The upstream's.
    pub upstream: Option<AdmissionPermit>,
    /// The tenant's, when it has limits of its own.
    pub tenant: Option<AdmissionPermit>,
}

impl Charges {
    /// Takes what was used from both while the call goes on.
    pub(crate) fn book(&self, tokens: u64) {
        for permit in [&self.upstream, &self.tenant].into_iter().flatten() {
            permit.book(tokens);
        }
    }

    /// Settles both with the same cost.
    pub(crate) fn settle(self, settlement: Settlement, feedback: Feedback) {
        for permit in [self.upstream, self.tenant].into_iter().flatten() {
            // Only a refusal before the first content can be excused.
            let _ = permit.settle(settlement, feedback);
        }
    }
}
