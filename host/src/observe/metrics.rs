//! What Spillway counts, for Prometheus and for its own status page.
//!
//! Every counter of the hot path is found once, at start-up; counting is then one atomic addition.

use crate::observe::recording::Recordings;
use crate::policy::{self, PolicyStatus};
use crate::runtime::tls::served::Served;
use crate::spool::Spool;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use spillway_resilience::CircuitState;
use spillway_sdk::Class;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How a request ended, as its caller saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestOutcome {
    /// The provider's answer, as it was.
    Answered,
    /// The provider's or the network's failure.
    Failed,
    /// Refused at once: the circuit is open.
    CircuitOpen,
    /// Refused: a limit would not let it through while its patience lasts.
    Limited,
    /// Refused at once: Spillway itself has too much in hand.
    Shed,
    /// Put into the spool.
    Spooled,
    /// The caller's own fault, found by Spillway.
    Refused,
    /// A stream that broke after its first content.
    Broken,
    /// The caller went away.
    Abandoned,
    /// A route's static answer, since no target served.
    Degraded,
}

impl RequestOutcome {
    const ALL: [RequestOutcome; 10] = [
        RequestOutcome::Answered,
        RequestOutcome::Failed,
        RequestOutcome::CircuitOpen,
        RequestOutcome::Limited,
        RequestOutcome::Shed,
        RequestOutcome::Spooled,
        RequestOutcome::Refused,
        RequestOutcome::Broken,
        RequestOutcome::Abandoned,
        RequestOutcome::Degraded,
    ];

    /// The metric's label, and the log's word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            RequestOutcome::Answered => "answered",
            RequestOutcome::Failed => "failed",
            RequestOutcome::CircuitOpen => "circuit_open",
            RequestOutcome::Limited => "limited",
            RequestOutcome::Shed => "shed",
            RequestOutcome::Spooled => "spooled",
            RequestOutcome::Refused => "refused",
            RequestOutcome::Broken => "broken",
            RequestOutcome::Abandoned => "abandoned",
            RequestOutcome::Degraded => "degraded",
        }
    }
}

/// How a WebSocket, or another connection that was upgraded, has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketEnd {
    /// By either side, as it should.
    Closed,
    /// By the provider, before its time.
    Broken,
    /// By the caller, before its time.
    Left,
    /// By Spillway: it was silent for too long, or the process has ended.
    Cut,
}

impl SocketEnd {
    const ALL: [SocketEnd; 4] = [SocketEnd::Closed, SocketEnd::Broken, SocketEnd::Left, SocketEnd::Cut];

    const fn as_str(self) -> &'static str {
        match self {
            SocketEnd::Closed => "closed",
            SocketEnd::Broken => "broken",
            SocketEnd::Left => "left",
            SocketEnd::Cut => "cut",
        }
    }
}

type Labels = Vec<(&'static str, String)>;

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    attempts: Family<Labels, Counter>,
    retries: Family<Labels, Counter>,
    hedges: Family<Labels, Counter>,
    fallbacks: Family<Labels, Counter>,
    tokens: Family<Labels, Counter>,
    sockets: Family<Labels, Counter>,
    sockets_open: Family<Labels, Gauge>,
    circuit_state: Family<Labels, Gauge>,
    transitions: Family<Labels, Counter>,
    first_content: Family<Labels, Histogram>,
    overhead: Histogram,
    in_flight: Gauge,
    jobs: Family<Labels, Gauge>,
    oldest_job: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        // From a tenth of a millisecond (Spillway's own work) and a millisecond (an answer) up to ten minutes.
        let seconds = || Histogram::new((0..20).map(|power| 0.001 * f64::from(1u32 << power)));
        let overhead = Histogram::new((0..16).map(|power| 0.000_01 * f64::from(1u32 << power)));
        let mut metrics = Metrics {
            registry: Registry::with_prefix("spillway"),
            requests: Family::default(),
            attempts: Family::default(),
            retries: Family::default(),
            hedges: Family::default(),
            fallbacks: Family::default(),
            tokens: Family::default(),
            sockets: Family::default(),
            sockets_open: Family::default(),
            circuit_state: Family::default(),
            transitions: Family::default(),
            first_content: Family::new_with_constructor(seconds),
            overhead,
            in_flight: Gauge::default(),
            jobs: Family::default(),
            oldest_job: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("requests", "Requests by upstream and outcome", metrics.requests.clone());
        registry.register("attempts", "Upstream calls by verdict", metrics.attempts.clone());
        registry.register("retries", "Upstream calls beyond a request's first", metrics.retries.clone());
        registry.register("hedges", "Second calls beside one that was late", metrics.hedges.clone());
        registry.register("fallbacks", "Answers of another target than a route's first", metrics.fallbacks.clone());
        registry.register("tokens", "Tokens as reported by upstreams, by direction", metrics.tokens.clone());
        registry.register("sockets", "Upgraded connections that have ended, by how", metrics.sockets.clone());
        registry.register("sockets_open", "Upgraded connections, such as WebSockets", metrics.sockets_open.clone());
        registry.register("circuit_state", "0 closed, 1 half-open, 2 open", metrics.circuit_state.clone());
        registry.register("circuit_transitions", "Changes of circuit state", metrics.transitions.clone());
        registry.register_with_unit(
            "first_content",
            "From sending a call to its first content",
            Unit::Seconds,
            metrics.first_content.clone(),
        );
        registry.register_with_unit(
            "overhead",
            "Time a request spent in Spillway rather than upstream, to the head of its answer",
            Unit::Seconds,
            metrics.overhead.clone(),
        );
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
}

/// Reads the policies when they are asked for: which module serves changes while the process lives.
#[derive(Debug)]
struct Policies(Arc<policy::Registry>);

impl Collector for Policies {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        type Figure = fn(&PolicyStatus) -> u64;
        let counters: [(&str, &str, Figure); 3] = [
            ("policy_calls", "Calls of a policy's hooks since it serves", |status| status.calls),
            ("policy_faults", "Calls of a policy that gave no answer", |status| status.faults),
            ("policy_swaps", "How often something else took over under a policy's name", |status| status.swaps),
        ];
        let policies = self.0.status();
        for (name, help, figure) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for status in &policies {
                let labels =
                    [("policy", status.name.as_str()), ("sha256", status.sha256.as_deref().unwrap_or(&status.source))];
                let counter = ConstCounter::new(figure(status));
                counter.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// Reads how the spool stands when it is asked for.
#[derive(Debug)]
struct SpoolTroubles(Spool);

impl Collector for SpoolTroubles {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "What is wrong with the spool, as /readyz tells it: so many lines";
        let encoder = encoder.encode_descriptor("spool_troubles", help, None, MetricType::Gauge)?;
        let count = i64::try_from(self.0.troubles().len()).unwrap_or(i64::MAX);
        ConstGauge::new(count).encode(encoder)
    }
}

/// Reads how long the certificate is still valid when it is asked for.
#[derive(Debug)]
struct Certificate(Arc<Served>);

impl Collector for Certificate {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "How long the certificate that callers are shown is still valid; 0 once it has expired";
        let unit = Some(&Unit::Seconds);
        let encoder = encoder.encode_descriptor("tls_certificate_left", help, unit, MetricType::Gauge)?;
        let left = self.0.pair().left(SystemTime::now());
        ConstGauge::new(i64::try_from(left.as_secs()).unwrap_or(i64::MAX)).encode(encoder)
    }
}

fn labels(upstream: &str, name: &'static str, value: &str) -> Labels {
    vec![("upstream", upstream.to_owned()), (name, value.to_owned())]
}

impl Metrics {
    /// Shows the policies too.
    pub(crate) fn show_policies(&mut self, policies: Arc<policy::Registry>) {
        self.registry.register_collector(Box::new(Policies(policies)));
    }

    /// Shows how long the certificate is still valid too.
    pub(crate) fn show_certificate(&mut self, tls: Arc<Served>) {
        self.registry.register_collector(Box::new(Certificate(tls)));
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
    pub(crate) fn upstream(&self, upstream: &str) -> UpstreamMetrics {
        let only = || vec![("upstream", upstream.to_owned())];
        let counter = |family: &Family<Labels, Counter>, labels| family.get_or_create(&labels).clone();
        let state = self.circuit_state.get_or_create(&only()).clone();
        state.set(0);
        UpstreamMetrics {
            requests: RequestOutcome::ALL
                .map(|outcome| counter(&self.requests, labels(upstream, "outcome", outcome.as_str()))),
            attempts: Class::ALL.map(|class| counter(&self.attempts, labels(upstream, "class", class.as_str()))),
            retries: counter(&self.retries, only()),
            hedges: counter(&self.hedges, only()),
            tokens: ["input", "output"]
                .map(|direction| counter(&self.tokens, labels(upstream, "direction", direction))),
            transitions: ["closed", "half_open", "open"]
                .map(|to| counter(&self.transitions, labels(upstream, "to", to))),
            sockets: SocketEnd::ALL.map(|end| counter(&self.sockets, labels(upstream, "end", end.as_str()))),
            sockets_open: self.sockets_open.get_or_create(&only()).clone(),
            first_content: self.first_content.get_or_create(&only()).clone(),
            overhead: self.overhead.clone(),
            state,
        }
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

    /// Everything, as Prometheus reads it. The requests in flight are counted elsewhere, because they are waited for.
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

/// The counters of one upstream.
#[derive(Debug)]
pub(crate) struct UpstreamMetrics {
    requests: [Counter; 10],
    attempts: [Counter; 8],
    retries: Counter,
    hedges: Counter,
    tokens: [Counter; 2],
    sockets: [Counter; 4],
    sockets_open: Gauge,
    transitions: [Counter; 3],
    first_content: Histogram,
    overhead: Histogram,
    state: Gauge,
}

impl UpstreamMetrics {
    /// Counts a request that has ended.
    pub(crate) fn request(&self, outcome: RequestOutcome) {
        self.requests[outcome as usize].inc();
    }

    /// Counts a call and its verdict.
    pub(crate) fn attempt(&self, class: Class) {
        self.attempts[class as usize].inc();
    }

    /// Counts a call beyond a request's first.
    pub(crate) fn retry(&self) {
        self.retries.inc();
    }

    /// Counts a second call beside one that is late.
    pub(crate) fn hedge(&self) {
        self.hedges.inc();
    }

    /// Counts tokens as the provider reported them.
    pub(crate) fn tokens(&self, input: u64, output: u64) {
        self.tokens[0].inc_by(input);
        self.tokens[1].inc_by(output);
    }

    /// Counts a connection that was upgraded as open until the returned value is dropped.
    pub(crate) fn open_socket(&self) -> OpenSocket {
        self.sockets_open.inc();
        OpenSocket(self.sockets_open.clone())
    }

    /// Counts a connection that was upgraded and has ended.
    pub(crate) fn socket(&self, end: SocketEnd) {
        self.sockets[end as usize].inc();
    }

    /// Notes that a circuit has changed its state. `is_whole` says that it is the upstream's own.
    pub(crate) fn transition(&self, to: CircuitState, is_whole: bool) {
        let (index, value) = match to {
            CircuitState::Closed => (0, 0),
            CircuitState::HalfOpen => (1, 1),
            CircuitState::Open => (2, 2),
        };
        self.transitions[index].inc();
        if is_whole {
            self.state.set(value);
        }
    }

    /// Notes the time to first content of a call.
    pub(crate) fn first_content(&self, duration: Duration) {
        self.first_content.observe(duration.as_secs_f64());
    }

    /// Notes the time that a request spent in Spillway itself.
    pub(crate) fn overhead(&self, duration: Duration) {
        self.overhead.observe(duration.as_secs_f64());
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
