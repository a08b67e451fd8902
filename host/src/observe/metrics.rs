//! What Spillway counts, for Prometheus and for its own status page. docs/metrics.md says what each figure answers.
//!
//! Counting is a few atomic additions at places that hardly any other thread uses at the same time, and at most one look
//! for a name among those that have figures of their own. Everything else is done when somebody asks.

mod cells;
mod collectors;
mod exposition;
mod figures;
mod histogram;
mod names;
mod older_text;
mod pool;
mod upstream;
mod words;

pub(crate) use self::pool::{OpenConnection, PoolMetrics};
pub(crate) use self::upstream::{About, Ended, OpenSocket, UpstreamMetrics};
pub(crate) use self::words::{CallFault, Closed, RequestOutcome, SocketEnd, WaitedFor};

use self::collectors::{Certificate, Guards, LabelsLeftOut, Policies, SpoolTroubles};
use self::exposition::Figures;
use self::figures::TenantFigures;
use self::histogram::{Histogram, OVERHEAD};
use self::names::{Named, Room};
use self::upstream::{Common, Rare};
use crate::config::MetricsConfig;
use crate::observe::guards::GuardFindings;
use crate::observe::labels;
use crate::observe::recording::Recordings;
use crate::policy;
use crate::runtime::sync::lock;
use crate::runtime::tls::served::Served;
use crate::spool::Spool;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Most pairs of a model and a tenant whose tokens and costs are counted apart, over all upstreams. Beyond it a tenant
/// counts as "other" at that model.
const SHARES_MAX: usize = 1_000;

type Labels = Vec<(&'static str, String)>;

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    figures: Figures,
    common: Common,
    fallbacks: Family<Labels, Counter>,
    sockets: Family<Labels, Counter>,
    sockets_open: Family<Labels, Gauge>,
    circuit_state: Family<Labels, Gauge>,
    transitions: Family<Labels, Counter>,
    in_flight: Gauge,
    jobs: Family<Labels, Gauge>,
    oldest_job: Gauge,
}

impl Metrics {
    /// Nothing counted yet. The tenants that are named here have figures of their own in any case.
    pub(crate) fn new<'a>(config: &MetricsConfig, tenants: impl IntoIterator<Item = &'a str>) -> Metrics {
        let of_tenants = Named::new(Room::of(config.max_tenants), TenantFigures::new);
        for tenant in tenants {
            of_tenants.reserve(tenant, TenantFigures::new);
        }
        let (of_tenants, overhead) = (Arc::new(of_tenants), Arc::new(Histogram::new(&OVERHEAD)));
        let common = Common {
            tenants: Arc::clone(&of_tenants),
            model_room: Room::of(config.max_models),
            share_room: Room::of(SHARES_MAX),
            overhead: Arc::clone(&overhead),
        };
        let figures = Figures { upstreams: Arc::new(Mutex::default()), tenants: of_tenants, overhead };
        let mut metrics = Metrics {
            registry: Registry::with_prefix("spillway"),
            figures: figures.clone(),
            common,
            fallbacks: Family::default(),
            sockets: Family::default(),
            sockets_open: Family::default(),
            circuit_state: Family::default(),
            transitions: Family::default(),
            in_flight: Gauge::default(),
            jobs: Family::default(),
            oldest_job: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register_collector(Box::new(figures));
        registry.register("fallbacks", "Answers of another target than a route's first", metrics.fallbacks.clone());
        registry.register("sockets", "Upgraded connections that have ended, by how", metrics.sockets.clone());
        registry.register("sockets_open", "Upgraded connections, such as WebSockets", metrics.sockets_open.clone());
        registry.register("circuit_state", "0 closed, 1 half-open, 2 open", metrics.circuit_state.clone());
        registry.register("circuit_transitions", "Changes of circuit state", metrics.transitions.clone());
        registry.register("in_flight", "Requests being served", metrics.in_flight.clone());
        registry.register("jobs", "Jobs in the spool by state", metrics.jobs.clone());
        registry.register_with_unit(
            "oldest_job_age",
            "Age of the oldest job that waits",
            Unit::Seconds,
            metrics.oldest_job.clone(),
        );
        metrics
    }

    /// Shows the policies too.
    pub(crate) fn show_policies(&mut self, policies: Arc<policy::Registry>) {
        self.registry.register_collector(Box::new(Policies(policies)));
    }

    /// Shows how long the certificate is still valid too.
    pub(crate) fn show_certificate(&mut self, tls: Arc<Served>) {
        self.registry.register_collector(Box::new(Certificate(tls)));
    }

    /// Shows what the guards against runaway agents have found too.
    pub(crate) fn show_guards(&mut self, findings: Arc<GuardFindings>) {
        self.registry.register_collector(Box::new(Guards(findings)));
    }

    /// Shows what was wrong with labels too.
    pub(crate) fn show_labels(&mut self, labels: Arc<labels::Labels>) {
        self.registry.register_collector(Box::new(LabelsLeftOut(labels)));
    }

    /// Shows what is wrong with the spool too.
    pub(crate) fn show_spool(&mut self, spool: Spool) {
        self.registry.register_collector(Box::new(SpoolTroubles(spool)));
    }

    /// Shows what became of the attempts to be recorded too.
    pub(crate) fn show_recordings(&mut self, counts: &Recordings) {
        let Recordings { written, dropped, failed } = counts.clone();
        for (name, help, counter) in [
            ("recordings_written", "Judged attempts that were recorded", written),
            ("recordings_dropped", "Judged attempts not recorded, because the disk was too slow", dropped),
            ("recordings_failed", "Judged attempts not recorded, because they could not be written", failed),
        ] {
            self.registry.register(name, help, counter);
        }
    }

    /// Shows what was lost of the log too.
    pub(crate) fn show_log(&mut self, lost: &Counter) {
        self.registry.register(
            "log_lines_lost",
            "Lines of the log that nobody took, or that could not be written",
            lost.clone(),
        );
    }

    /// The counters of one upstream.
    pub(crate) fn upstream(&self, upstream: &str) -> Arc<UpstreamMetrics> {
        let only = || vec![("upstream", upstream.to_owned())];
        let with = |name: &'static str, value: &str| vec![("upstream", upstream.to_owned()), (name, value.to_owned())];
        let state = self.circuit_state.get_or_create(&only()).clone();
        state.set(0);
        let sockets = SocketEnd::ALL.iter().map(|end| self.sockets.get_or_create(&with("end", end.as_str())).clone());
        let rare = Rare {
            sockets: sockets.collect(),
            sockets_open: self.sockets_open.get_or_create(&only()).clone(),
            transitions: ["closed", "half_open", "open"]
                .map(|to| self.transitions.get_or_create(&with("to", to)).clone()),
            state,
        };
        let metrics = Arc::new(UpstreamMetrics::new(upstream, self.common.clone(), rare));
        lock(&self.figures.upstreams).push(Arc::clone(&metrics));
        metrics
    }

    /// What a route counts.
    pub(crate) fn route(&self, route: &str) -> RouteMetrics {
        RouteMetrics { route: route.to_owned(), fallbacks: self.fallbacks.clone() }
    }

    /// Shows how many jobs stand where.
    pub(crate) fn show_jobs(&self, by_state: &BTreeMap<&'static str, u64>, oldest: Duration) {
        for (state, count) in by_state {
            let labels = vec![("state", (*state).to_owned())];
            self.jobs.get_or_create(&labels).set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        self.oldest_job.set(i64::try_from(oldest.as_secs()).unwrap_or(i64::MAX));
    }

    /// As [`Metrics::text`], in the form from before OpenMetrics.
    pub(crate) fn older_text(&self, in_flight: u64) -> String {
        older_text::older_text(&self.text(in_flight))
    }

    /// Everything, as OpenMetrics. The requests in flight are counted elsewhere, because they are waited for.
    pub(crate) fn text(&self, in_flight: u64) -> String {
        self.in_flight.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// What one route counts.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    route: String,
    fallbacks: Family<Labels, Counter>,
}

impl RouteMetrics {
    /// Counts an answer of one target in place of another's.
    pub(crate) fn fallback(&self, from: &str, to: &str) {
        let labels = vec![("route", self.route.clone()), ("from", from.to_owned()), ("to", to.to_owned())];
        self.fallbacks.get_or_create(&labels).inc();
    }
}

#[cfg(test)]
mod tests;
