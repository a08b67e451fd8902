//! What is counted of one upstream, of the models there, and of those who use them.

use super::cells::Cells;
use super::figures::{ModelFigures, Share, TenantFigures};
use super::histogram::{DURATIONS, Histogram, TIMES};
use super::names::{Named, Room};
use super::pool::PoolMetrics;
use super::words::{CallFault, RequestOutcome, SocketEnd, WaitedFor};
use crate::dialect::Usage;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use spillway_resilience::CircuitState;
use spillway_sdk::Class;
use std::sync::Arc;
use std::time::Duration;

/// Statuses of an answer that is what was asked for.
const SERVED: std::ops::Range<u16> = 200..300;

/// Whom a figure is about: the labels beside the upstream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct About<'a> {
    /// The model that was asked for.
    pub model: Option<&'a str>,
    /// The name of the tenant that asked.
    pub tenant: Option<&'a str>,
}

/// How a request has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended<'a> {
    pub about: About<'a>,
    pub outcome: RequestOutcome,
    /// The status that its caller saw; 0 if there was none.
    pub status: u16,
    /// From its arrival to its end.
    pub took: Duration,
    /// From its arrival to its first content, if it came.
    pub first_content: Option<Duration>,
    /// What it waited for limits, lanes and circuits.
    pub waited: Duration,
    /// Calls beyond the first at the same target.
    pub retries: u32,
    /// How often another target was called.
    pub fallbacks: u32,
}

/// What is counted of one upstream. Names become labels as soon as the upstream has served them, and not before: what
/// callers invent is refused, and takes nobody's place.
#[derive(Debug)]
pub(crate) struct UpstreamMetrics {
    pub(super) name: Box<str>,
    pub(super) models: Named<ModelFigures>,
    pub(super) tenants: Arc<Named<TenantFigures>>,
    share_room: Arc<Room>,
    counts: Cells,
    pub(super) waits: Box<[Histogram]>,
    pub(super) retries_per_request: Histogram,
    pub(super) fallbacks_per_request: Histogram,
    pub(super) unanswered: Histogram,
    pub(super) overhead: Arc<Histogram>,
    /// Connections to it.
    pub(crate) pool: Arc<PoolMetrics>,
    pub(super) rare: Rare,
}

/// What is counted seldom enough to be counted in one place.
#[derive(Debug)]
pub(super) struct Rare {
    pub(super) sockets: Vec<Counter>,
    pub(super) sockets_open: Gauge,
    pub(super) transitions: [Counter; 3],
    pub(super) state: Gauge,
}

/// What all upstreams have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) tenants: Arc<Named<TenantFigures>>,
    pub(super) model_room: Arc<Room>,
    pub(super) share_room: Arc<Room>,
    pub(super) overhead: Arc<Histogram>,
}

const RETRIES: usize = 0;
const HEDGES: usize = 1;
const PROMPTS_COUNTED: usize = 2;
const PROMPTS_ESTIMATED: usize = 3;

impl UpstreamMetrics {
    pub(super) fn new(name: &str, common: Common, rare: Rare) -> UpstreamMetrics {
        let Common { tenants, model_room, share_room, overhead } = common;
        UpstreamMetrics {
            name: name.into(),
            models: Named::new(model_room, |_| ModelFigures::new(&share_room)),
            tenants,
            share_room,
            counts: Cells::new(PROMPTS_ESTIMATED + 1),
            waits: WaitedFor::ALL.iter().map(|_| Histogram::new(&DURATIONS)).collect(),
            retries_per_request: Histogram::new(&TIMES),
            fallbacks_per_request: Histogram::new(&TIMES),
            unanswered: Histogram::new(&DURATIONS),
            overhead,
            pool: Arc::default(),
            rare,
        }
    }

    /// Counts a request that was refused before anybody knew whom it is about.
    pub(crate) fn refused_unread(&self, outcome: RequestOutcome) {
        self.models.at(None, |model| model.request(outcome));
    }

    /// Counts a request that has ended.
    pub(crate) fn ended(&self, ended: &Ended<'_>) {
        let About { model, tenant } = ended.about;
        let is_served = ended.outcome == RequestOutcome::Answered && SERVED.contains(&ended.status);
        let of_model = |model: &ModelFigures| {
            model.request(ended.outcome);
            if is_served {
                model.request_duration.observe(ended.took);
            }
            if let Some(first_content) = ended.first_content {
                model.request_first_content.observe(first_content);
            }
        };
        let of_tenant = |tenant: &TenantFigures| {
            tenant.request(ended.outcome, ended.waited);
            if is_served {
                tenant.request_duration.observe(ended.took);
            }
        };
        match is_served {
            true => {
                self.models.at_own(model, |_| ModelFigures::new(&self.share_room), of_model);
                self.tenants.at_own(tenant, TenantFigures::new, of_tenant);
            }
            false => {
                self.models.at(model, of_model);
                self.tenants.at(tenant, of_tenant);
                self.unanswered.observe(ended.took);
            }
        }
        self.retries_per_request.count(ended.retries.into());
        self.fallbacks_per_request.count(ended.fallbacks.into());
    }

    /// Counts a call, its verdict, and what was wrong with it.
    pub(crate) fn attempt(&self, model: Option<&str>, class: Class, fault: Option<CallFault>) {
        let of_model = |model: &ModelFigures| {
            model.attempt(class);
            if let Some(fault) = fault {
                model.fault(fault);
            }
        };
        match class {
            Class::Success => self.models.at_own(model, |_| ModelFigures::new(&self.share_room), of_model),
            _ => self.models.at(model, of_model),
        }
    }

    /// Counts what was wrong with an answer after its first content.
    pub(crate) fn broke(&self, model: Option<&str>, fault: CallFault) {
        self.models.at(model, |model| model.fault(fault));
    }

    /// Notes the time to first content of a call.
    pub(crate) fn first_content(&self, model: Option<&str>, duration: Duration) {
        self.models.at(model, |model| model.first_content.observe(duration));
    }

    /// Notes the time that a call took to the end of its answer, which has come as a whole.
    pub(crate) fn answered(&self, model: Option<&str>, duration: Duration) {
        self.models.at(model, |model| model.attempt_duration.observe(duration));
    }

    /// Notes what a request has waited for at this upstream.
    pub(crate) fn waited(&self, waited_for: WaitedFor, wait: Duration) {
        if let Some(waits) = self.waits.get(waited_for as usize) {
            waits.observe(wait);
        }
    }

    /// Counts a call beyond a request's first.
    pub(crate) fn retry(&self) {
        self.counts.add(RETRIES, 1);
    }

    /// Counts a second call beside one that is late.
    pub(crate) fn hedge(&self) {
        self.counts.add(HEDGES, 1);
    }

    pub(super) fn retries_and_hedges(&self) -> (u64, u64) {
        (self.counts.sum(RETRIES), self.counts.sum(HEDGES))
    }

    /// Counts a prompt that was to be counted by the upstream's tokeniser: whether it was, or goes by its estimate.
    pub(crate) fn prompt(&self, is_counted: bool) {
        self.counts.add(if is_counted { PROMPTS_COUNTED } else { PROMPTS_ESTIMATED }, 1);
    }

    /// Prompts that were counted, and those that were to be and went by their estimate.
    pub(super) fn prompts_counted_and_estimated(&self) -> (u64, u64) {
        (self.counts.sum(PROMPTS_COUNTED), self.counts.sum(PROMPTS_ESTIMATED))
    }

    /// Counts tokens as the provider reported them.
    pub(crate) fn uses(&self, about: About<'_>, usage: &Usage) {
        self.share(about, |share| share.uses(usage));
    }

    /// Counts what a call has cost, in pico-dollars: tokens times micro-dollars per million tokens.
    pub(crate) fn cost(&self, about: About<'_>, pico_dollars: u128) {
        self.share(about, |share| share.cost(pico_dollars));
    }

    /// Counts tokens whose price nobody knows.
    pub(crate) fn unpriced(&self, about: About<'_>, usage: &Usage) {
        self.share(about, |share| share.unpriced(usage.total()));
    }

    /// Whoever has used tokens has been served.
    fn share(&self, about: About<'_>, count: impl FnOnce(&Share)) {
        self.models.at(about.model, |model| model.shares.at_own(about.tenant, Share::new, count));
    }

    /// Counts a connection that was upgraded as open until the returned value is dropped.
    pub(crate) fn open_socket(&self) -> OpenSocket {
        self.rare.sockets_open.inc();
        OpenSocket(self.rare.sockets_open.clone())
    }

    /// Counts a connection that was upgraded and has ended.
    pub(crate) fn socket(&self, end: SocketEnd) {
        if let Some(counter) = self.rare.sockets.get(end as usize) {
            counter.inc();
        }
    }

    /// Notes that a circuit has changed its state. `is_whole` says that it is the upstream's own.
    pub(crate) fn transition(&self, to: CircuitState, is_whole: bool) {
        let (index, value) = match to {
            CircuitState::Closed => (0, 0),
            CircuitState::HalfOpen => (1, 1),
            CircuitState::Open => (2, 2),
        };
        self.rare.transitions[index].inc();
        if is_whole {
            self.rare.state.set(value);
        }
    }

    /// Notes the time that a request spent in Spillway itself.
    pub(crate) fn overhead(&self, duration: Duration) {
        self.overhead.observe(duration);
    }
}

/// A connection that was upgraded, counted as open while this lives.
#[derive(Debug)]
pub(crate) struct OpenSocket(Gauge);

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.dec();
    }
}
