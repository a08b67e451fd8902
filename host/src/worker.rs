//! What all workers share, and what each has for itself.

use crate::callers::{Callers, FingerprintKey};
use crate::client::Client;
use crate::clock::Clock;
use crate::config::Config;
use crate::guard::Guard;
use crate::metrics::Metrics;
use crate::policy::{Judge, Registry};
use crate::spool::Spool;
use crate::upstream::Upstream;
use spillway_resilience::{Load, ShedSettings};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::{Notify, watch};

/// What all threads share: settings, and state with short locks.
#[derive(Debug)]
pub struct Shared {
    /// The settings.
    pub config: Config,
    /// The clock.
    pub clock: Clock,
    /// The upstreams by name.
    pub upstreams: BTreeMap<String, Arc<Upstream>>,
    /// The policies.
    pub policies: Arc<Registry>,
    /// What is counted.
    pub metrics: Metrics,
    /// Who is let in.
    pub guard: Guard,
    /// Who calls.
    pub callers: Callers,
    /// From which load on what is refused.
    pub shed: ShedSettings,
    /// The durable queue, when it is switched on.
    pub spool: Option<Spool>,
    /// Rung when there is something new for the dispatcher.
    pub spool_bell: Notify,
    /// Rung when some circuit changes its state.
    pub circuit_changed: Arc<Notify>,
    draining: AtomicBool,
    drain: watch::Sender<bool>,
    in_flight: AtomicU64,
    held_bytes: AtomicU64,
    connections: AtomicU64,
    finished: Notify,
}

impl Shared {
    /// Puts the parts together.
    pub fn new(
        config: Config,
        clock: Clock,
        policies: Arc<Registry>,
        spool: Option<Spool>,
        key: FingerprintKey,
    ) -> Self {
        let metrics = Metrics::default();
        let circuit_changed = Arc::new(Notify::new());
        let upstreams = config.upstreams.iter().map(|(name, upstream)| {
            let slot = policies.slot(&upstream.policy);
            let counters = Arc::new(metrics.upstream(name));
            let upstream = Upstream::new(name, upstream.clone(), slot, counters, clock, Arc::clone(&circuit_changed));
            (name.clone(), Arc::new(upstream))
        });
        Shared {
            upstreams: upstreams.collect(),
            guard: Guard { hosts: config.server.allowed_hosts.clone(), origins: config.server.allowed_origins.clone() },
            callers: Callers::new(&config, key, clock),
            shed: ShedSettings::default(),
            config,
            clock,
            policies,
            metrics,
            spool,
            spool_bell: Notify::new(),
            circuit_changed,
            draining: AtomicBool::new(false),
            drain: watch::Sender::new(false),
            in_flight: AtomicU64::new(0),
            held_bytes: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            finished: Notify::new(),
        }
    }

    /// Counts a request as in flight until the returned value is dropped.
    pub fn begin_request(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.metrics.in_flight.inc();
        InFlight(Arc::clone(self))
    }

    /// How full the process is with what it has in hand, and `more_bytes` to come; of a body too large to be taken, as
    /// much as the largest that is.
    pub fn load(&self, more_bytes: u64) -> Load {
        let server = &self.config.server;
        Load {
            in_flight: self.in_flight.load(Ordering::Relaxed),
            in_flight_max: server.in_flight_max,
            memory_bytes: self
                .held_bytes
                .load(Ordering::Relaxed)
                .saturating_add(more_bytes.min(server.body_bytes_max as u64)),
            memory_max_bytes: server.held_bytes_max,
        }
    }

    /// Counts bytes as held until the returned value is dropped.
    pub fn hold(self: &Arc<Self>, bytes: u64) -> HeldBytes {
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        HeldBytes { shared: Arc::clone(self), bytes }
    }

    /// Counts a caller's connection as open until the returned value is dropped.
    pub fn begin_connection(self: &Arc<Self>) -> Connected {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(Arc::clone(self))
    }

    /// Waits until no caller is connected.
    pub async fn disconnected(&self) {
        loop {
            let finished = self.finished.notified();
            tokio::pin!(finished);
            finished.as_mut().enable();
            if self.connections.load(Ordering::Acquire) == 0 {
                return;
            }
            finished.await;
        }
    }

    /// Whether new work is refused because the process is about to end.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Begins to drain: no new connections, no new jobs.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.drain.send_replace(true);
        self.spool_bell.notify_one();
    }

    /// Waits until the process begins to drain.
    pub async fn drain_begun(&self) {
        let mut drain = self.drain.subscribe();
        // The sender lives as long as `self`.
        let _ = drain.wait_for(|draining| *draining).await;
    }

    /// Waits until no request is in flight.
    pub async fn idle(&self) {
        loop {
            let finished = self.finished.notified();
            tokio::pin!(finished);
            finished.as_mut().enable();
            if self.in_flight.load(Ordering::Acquire) == 0 {
                return;
            }
            finished.await;
        }
    }
}

/// A request in flight.
#[derive(Debug)]
pub struct InFlight(Arc<Shared>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.metrics.in_flight.dec();
        if self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 && self.0.is_draining() {
            self.0.finished.notify_waiters();
        }
    }
}

/// Bytes of a request that are held.
#[derive(Debug)]
pub struct HeldBytes {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.shared.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A caller's open connection.
#[derive(Debug)]
pub struct Connected(Arc<Shared>);

impl Drop for Connected {
    fn drop(&mut self) {
        if self.0.connections.fetch_sub(1, Ordering::AcqRel) == 1 && self.0.is_draining() {
            self.0.finished.notify_waiters();
        }
    }
}

/// What one thread has for itself: connections to upstreams, and instances of policies.
#[derive(Debug)]
pub struct Worker {
    /// What it shares.
    pub shared: Arc<Shared>,
    /// Its policy instances. Borrowed for the length of one call, never across an await.
    pub judge: RefCell<Judge>,
    clients: HashMap<Arc<str>, Client>,
}

impl Worker {
    /// A worker without connections or instances yet.
    pub fn new(shared: Arc<Shared>) -> Rc<Self> {
        let client = |upstream: &Arc<Upstream>| (Arc::clone(&upstream.name), Client::new(&upstream.config));
        Rc::new(Worker {
            clients: shared.upstreams.values().map(client).collect(),
            judge: RefCell::new(Judge::new(shared.clock)),
            shared,
        })
    }

    /// This worker's client of an upstream.
    pub fn client(&self, upstream: &Upstream) -> Client {
        match self.clients.get(&upstream.name) {
            Some(client) => client.clone(),
            // Upstreams come from the same configuration as the clients, so this is never reached.
            None => Client::new(&upstream.config),
        }
    }
}
