//! The parts of an upstream of which something can be said apart from the whole.

use spillway_resilience::Reach;

use crate::protection::Call;

/// A model, or a model as far as one credential is concerned. A tenant stands for its credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    /// A model.
    Model(usize),
    /// A model of a tenant.
    ModelOf(usize, usize),
}

impl Part {
    /// The model that a call asks for.
    pub(super) const fn model(call: &Call) -> Self {
        Self::Model(call.model)
    }

    /// The model that a call asks for, under its tenant's credential.
    pub(super) const fn model_of_tenant(call: &Call) -> Self {
        Self::ModelOf(call.model, call.tenant)
    }

    /// The part of a call's that a consequence reaches; `None` for the upstream as a whole. Nothing is said here of a
    /// credential as a whole.
    pub(super) const fn reached(call: &Call, reach: Reach) -> Option<Self> {
        match reach {
            Reach::Upstream | Reach::Credential => None,
            Reach::Model => Some(Self::model(call)),
            Reach::ModelOfCredential => Some(Self::model_of_tenant(call)),
        }
    }

    /// The parts that a call belongs to, the widest first: it goes through their lanes in this order.
    pub(super) const fn widest_first(call: &Call) -> [Self; 2] {
        [Self::model(call), Self::model_of_tenant(call)]
    }

    /// The same, the narrowest first: it asks their circuits in this order.
    pub(super) const fn narrowest_first(call: &Call) -> [Self; 2] {
        [Self::model_of_tenant(call), Self::model(call)]
    }

    /// The number by which answers to such calls are remembered.
    pub(super) const fn key(call: &Call) -> u64 {
        (call.model as u64) << u32::BITS | call.tenant as u64
    }

    /// Whether a call with this [key](Self::key) belongs to it.
    pub(super) const fn has_key(self, key: u64) -> bool {
        match self {
            Self::Model(model) => key >> u32::BITS == model as u64,
            Self::ModelOf(model, tenant) => key == (model as u64) << u32::BITS | tenant as u64,
        }
    }
}
