//! What all threads share.

use crate::config::Config;
use crate::ledger::Ledger;
use crate::observe::metrics::Metrics;
use crate::observe::recording::Recorder;
use crate::observe::refusals::RecentRefusals;
use crate::policy::Registry;
use crate::prices::Prices;
use crate::proxy::chain::Chains;
use crate::proxy::counting::Counting;
use crate::proxy::load_share::{HeldBytes, LoadShare};
use crate::runtime::clock::Clock;
use crate::runtime::fingerprint::FingerprintKey;
use crate::runtime::gauge::{Counted, Gauge};
use crate::runtime::tls::served::Served;
use crate::spool::Spool;
use crate::tenants::access::Access;
use crate::tenants::callers::Callers;
use crate::tenants::failures::FailedAuthentications;
use crate::tenants::guard::Guard;
use crate::tenants::origin::Proxies;
use crate::tenants::runaway::RunawayGuards;
use crate::upstream::{Common, Upstream};
use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;
use spillway_resilience::{Load, ShedSettings};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Notify, watch};

/// What all threads share: settings, and state with short locks.
#[derive(Debug)]
pub(crate) struct App {
    pub config: Config,
    pub clock: Clock,
    pub upstreams: BTreeMap<String, Arc<Upstream>>,
    /// Who may serve which requests, where routes say so.
    pub chains: Chains,
    pub policies: Arc<Registry>,
    pub metrics: Metrics,
    /// What was refused of late.
    pub refusals: RecentRefusals,
    pub guard: Guard,
    /// The proxies in front of Spillway, who are believed in whose name they ask.
    pub proxies: Proxies,
    pub callers: Callers,
    /// Who may spend the keys that Spillway has, and who may call at all.
    pub access: Access,
    /// What tokens cost, by the files as they were last read.
    pub prices: ArcSwap<Prices>,
    /// Who shows keys that count for nothing.
    pub failures: FailedAuthentications,
    /// Against agents that run away.
    pub runaway: RunawayGuards,
    /// Where texts are counted, for upstreams that have a tokeniser.
    pub counting: Counting,
    /// From which load on what is refused.
    pub shed: ShedSettings,
    /// What is spent, where that is kept.
    pub ledger: Option<Arc<Ledger>>,
    /// The durable queue, when it is switched on.
    pub spool: Option<Spool>,
    /// Takes down what policies judge, when that is switched on.
    pub recorder: Option<Recorder>,
    /// Rung when there is something new for the dispatcher.
    pub spool_bell: Notify,
    /// Rung when some circuit changes its state.
    pub circuit_changed: Arc<Notify>,
    draining: AtomicBool,
    drain: watch::Sender<bool>,
    end: watch::Sender<bool>,
    sockets_end: watch::Sender<bool>,
    /// Jobs that are being served.
    leases: Arc<Gauge>,
    requests: Arc<Gauge>,
    held: Arc<HeldBytes>,
    connections: Arc<Gauge>,
    /// Rung when there is no room for a caller's connection, and some worker may have one that nobody uses.
    pub crowded: Notify,
    /// What the process has to work with.
    pub means: Means,
}

/// Where things are written that are to last, as far as they are.
#[derive(Debug, Default)]
pub(crate) struct Stores {
    pub ledger: Option<Arc<Ledger>>,
    pub spool: Option<Spool>,
    pub recorder: Option<Recorder>,
}

/// What the process has to work with.
#[derive(Debug)]
pub(crate) struct Means {
    /// Lines of the log that were lost.
    pub log_lines_lost: Counter,
    /// Connections of callers for which there are descriptors, theirs and those of their calls.
    pub connections_max: u64,
    /// Where callers reach it.
    pub listen: SocketAddr,
    /// TLS towards callers and operators, where a certificate is configured.
    pub tls: Option<Arc<Served>>,
}

impl App {
    pub(crate) fn new(
        config: Config,
        clock: Clock,
        policies: Arc<Registry>,
        Stores { ledger, spool, recorder }: Stores,
        key: FingerprintKey,
        means: Means,
    ) -> Self {
        let mut metrics = Metrics::new(&config.metrics, config.tenants.keys().map(String::as_str));
        metrics.show_log(&means.log_lines_lost);
        metrics.show_policies(Arc::clone(&policies));
        if let Some(tls) = &means.tls {
            metrics.show_certificate(Arc::clone(tls));
        }
        if let Some(spool) = &spool {
            metrics.show_spool(spool.clone());
        }
        if let Some(recorder) = &recorder {
            metrics.show_recordings(recorder.counts());
        }
        let (prices, why_not) = config.read_prices();
        if let Some(why) = why_not {
            tracing::error!(why, "a file of prices cannot be used; what comes along takes its place");
        }
        let runaway = RunawayGuards::new(config.guards.settings());
        metrics.show_guards(Arc::clone(&runaway.findings));
        let callers = Callers::new(&config, key.clone(), clock, ledger.clone());
        metrics.show_labels(Arc::clone(&callers.labels));
        let circuit_changed = Arc::new(Notify::new());
        let shares = config.reserved_shares().shares;
        let upstreams = config.upstreams.iter().map(|(name, upstream)| {
            let slot = policies.slot(&upstream.policy);
            let counters = metrics.upstream(name);
            let (fingerprints, shares, circuit_changed) = (&key, &shares, &circuit_changed);
            let common = Common { fingerprints, shares, circuit_changed, clock };
            let upstream = Upstream::new(name, upstream.clone(), slot, counters, common);
            (name.clone(), Arc::new(upstream))
        });
        let upstreams = upstreams.collect();
        App {
            chains: Chains::new(&config, &upstreams, &metrics, key, clock),
            upstreams,
            guard: Guard {
                hosts: config.server.allowed_hosts.clone(),
                origins: config.server.allowed_origins.clone(),
                upstreams: config.upstreams.values().map(|upstream| upstream.url.clone()).collect(),
            },
            proxies: Proxies::of(&config.server),
            callers,
            access: Access::new(
                config.server.access_key().and_then(|named| named.secret.as_ref()),
                config.keys.required,
            ),
            failures: FailedAuthentications::new(clock),
            runaway,
            prices: ArcSwap::from_pointee(prices),
            counting: Counting::default(),
            shed: ShedSettings::default(),
            held: Arc::new(HeldBytes::of_at_most(config.server.max_held)),
            config,
            clock,
            policies,
            metrics,
            refusals: RecentRefusals::default(),
            ledger,
            spool,
            recorder,
            spool_bell: Notify::new(),
            circuit_changed,
            draining: AtomicBool::new(false),
            drain: watch::Sender::new(false),
            end: watch::Sender::new(false),
            sockets_end: watch::Sender::new(false),
            leases: Arc::default(),
            requests: Arc::default(),
            connections: Arc::default(),
            crowded: Notify::new(),
            means,
        }
    }

    /// Remembers a refusal: its code, with the status that its caller sees, the upstream and the model that it is about,
    /// as far as they are known, and why.
    pub(crate) fn note_refusal(&self, seen: (&'static str, u16), of: (&str, Option<&str>), message: &str) {
        self.refusals.note(seen, of, message, self.clock.unix_ms());
    }

    /// Counts a request as in flight until the returned value is dropped.
    pub(crate) fn begin_request(&self) -> Counted {
        self.requests.begin()
    }

    /// How many requests are in flight.
    pub(crate) fn requests_in_flight(&self) -> u64 {
        self.requests.count()
    }

    /// How full the process is with what it has in hand, and `more_bytes` to come; of a body too large to be taken, as
    /// much as the largest that is.
    pub(crate) fn load(&self, more_bytes: u64) -> Load {
        let server = &self.config.server;
        Load {
            // The one that asks is none of those in its way.
            in_flight: self.requests.count().saturating_sub(1),
            max_in_flight: server.max_in_flight,
            held_bytes: self.held.bytes().saturating_add(more_bytes.min(server.max_body as u64)),
            max_held_bytes: server.max_held,
        }
    }

    /// Bytes of request bodies in hand.
    pub(crate) fn bytes_held(&self) -> u64 {
        self.held.bytes()
    }

    /// Counts a request as in hand until the returned value is dropped; none of its bytes at first.
    pub(crate) fn take_on(&self) -> LoadShare {
        LoadShare::of(self.begin_request(), &self.held)
    }

    /// Counts a caller's connection as open until the returned value is dropped.
    pub(crate) fn begin_connection(&self) -> Counted {
        self.connections.begin()
    }

    /// Whether there are more callers' connections than there are descriptors for.
    pub(crate) fn has_too_many_connections(&self) -> bool {
        self.connections.count() > self.means.connections_max
    }

    /// Waits until no caller is connected.
    pub(crate) async fn disconnected(&self) {
        self.connections.until_none().await;
    }

    /// Whether new work is refused because the process is about to end.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Begins to drain: no new connections, no new jobs.
    pub(crate) fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.drain.send_replace(true);
        self.spool_bell.notify_one();
    }

    /// Waits until the process begins to drain.
    pub(crate) async fn drain_begun(&self) {
        let mut drain = self.drain.subscribe();
        // The sender lives as long as `self`.
        let _ = drain.wait_for(|draining| *draining).await;
    }

    /// Has connections that were upgraded say goodbye: by themselves they may never end.
    pub(crate) fn end_sockets(&self) {
        self.sockets_end.send_replace(true);
    }

    /// Waits until upgraded connections are to end.
    pub(crate) async fn sockets_end(&self) {
        let mut end = self.sockets_end.subscribe();
        // The sender lives as long as `self`.
        let _ = end.wait_for(|ending| *ending).await;
    }

    /// Counts a job as being served until the returned value is dropped.
    pub(crate) fn begin_lease(&self) -> Counted {
        self.leases.begin()
    }

    /// Has the jobs that are still being served given back, and waits until they are.
    pub(crate) async fn end_leases(&self) {
        self.end.send_replace(true);
        self.leases.until_none().await;
    }

    /// Waits until jobs are to be given back.
    pub(crate) async fn leases_end(&self) {
        let mut end = self.end.subscribe();
        // The sender lives as long as `self`.
        let _ = end.wait_for(|ending| *ending).await;
    }

    /// Waits until no request is in flight.
    pub(crate) async fn idle(&self) {
        self.requests.until_none().await;
    }
}
