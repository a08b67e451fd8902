//! The status: how everything stands, as the admin address writes it and the command line reads it.

mod ledger;

pub(crate) use ledger::{LedgerStatus, LimitStatus};

use crate::config::ReservedShares;
use crate::keys::summary::KeysSummary;
use crate::observe::guards::GuardFinding;
use crate::observe::refusals::{RecentRefusal, fit_to_show};
use crate::policy::PolicyStatus;
use crate::proxy::app::App;
use crate::proxy::chain::Chain;
use crate::runtime::clock::{milliseconds, wall_unix_ms};
use crate::runtime::tls::served::Served;
use crate::spool::Spool;
use crate::upstream::Upstream;
use crate::upstream::circuit::CircuitLook;
use crate::upstream::client::Way;
use crate::upstream::gate::AdmissionGate;
use crate::upstream::lanes::LaneLook;
use serde::{Deserialize, Serialize};
use spillway_resilience::{Dimension, Mode};
use std::borrow::Cow;
use std::time::{Duration, SystemTime};

/// How long the status waits for the spool's counts, on a disk that hangs.
pub(crate) const COUNT_TIMEOUT: Duration = Duration::from_secs(1);
/// As much as is shown of what a provider has said, in characters. Of a longer message the rest is left out.
const SAID_CHARS_MAX: usize = 300;

/// All there is to see. Policies are what tells a Spillway from others who answer; whatever else an older or a newer
/// one does not say is left empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    #[serde(default)]
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) uptime_ms: u64,
    /// Whether it ends as soon as what is in flight has ended.
    #[serde(default)]
    pub(crate) draining: bool,
    /// Requests.
    #[serde(default)]
    pub(crate) in_flight: u64,
    /// Bytes of requests and answers in memory.
    #[serde(default)]
    pub(crate) held_bytes: u64,
    #[serde(default)]
    pub(crate) upstreams: Vec<UpstreamStatus>,
    /// In the order in which they take requests.
    #[serde(default)]
    pub(crate) routes: Vec<RouteStatus>,
    /// Those that have limits of their own.
    #[serde(default)]
    pub(crate) tenants: Vec<TenantStatus>,
    /// `None` where none is kept.
    #[serde(default)]
    pub(crate) ledger: Option<LedgerStatus>,
    /// `None` where there is none, and none is demanded.
    #[serde(default)]
    pub(crate) keys: Option<KeysStatus>,
    pub(crate) policies: Vec<PolicyStatus>,
    /// `None` where no spool is configured.
    #[serde(default)]
    pub(crate) queue: Option<QueueStatus>,
    /// Where callers reach it.
    #[serde(default)]
    pub(crate) listen: String,
    /// The certificate that callers are shown; `None` where TLS is not spoken.
    #[serde(default)]
    pub(crate) certificate: Option<CertificateStatus>,
    /// The file of its configuration; `None` where it runs by the defaults.
    #[serde(default)]
    pub(crate) configuration: Option<String>,
    /// What its clock says, by which refusals are dated.
    #[serde(default)]
    pub(crate) now_unix_ms: u64,
    /// The latest first.
    #[serde(default)]
    pub(crate) refusals: Vec<RecentRefusal>,
    /// What guards against runaway agents have found, of each that has found something.
    #[serde(default)]
    pub(crate) guards: Vec<GuardFinding>,
}

/// Virtual keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct KeysStatus {
    /// Whether every caller shows one.
    pub(crate) required: bool,
    #[serde(flatten)]
    pub(crate) summary: KeysSummary,
}

/// The certificate that callers are shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CertificateStatus {
    /// For whom it speaks.
    pub(crate) names: Vec<String>,
    /// How long it is still valid, in seconds; 0 once it has expired.
    pub(crate) left_s: u64,
}

impl CertificateStatus {
    fn of(tls: &Served) -> CertificateStatus {
        let pair = tls.pair();
        CertificateStatus { names: pair.names.clone(), left_s: pair.left(SystemTime::now()).as_secs() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct UpstreamStatus {
    pub(crate) name: String,
    pub(crate) url: String,
    /// The proxy through which it is reached.
    pub(crate) proxy: Option<String>,
    pub(crate) dialect: Cow<'static, str>,
    /// The name of the policy that judges it.
    pub(crate) policy: String,
    pub(crate) limits: LimitsStatus,
    /// Places that are reserved for groups.
    pub(crate) reserved: Vec<ReservedStatus>,
    /// The parts that have said "too much".
    pub(crate) pacing: Vec<LaneStatus>,
    pub(crate) breakers: Vec<CircuitStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RouteStatus {
    pub(crate) name: String,
    /// Those who may serve, once for each of their keys.
    pub(crate) targets: Vec<TargetStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TargetStatus {
    pub(crate) target: String,
    /// 0 for those who are asked first; those of the same are equals.
    pub(crate) rank: u32,
    pub(crate) weight: u32,
    /// The name of the variable or file that holds its key, if it has one of its own.
    pub(crate) key: Option<String>,
    pub(crate) degraded: bool,
    pub(crate) tokens_in_flight: u64,
    /// Conversations that stay with it.
    pub(crate) conversations: u64,
    /// Of its requests of late, whatever model is the caller's own, to a hundredth.
    pub(crate) served_share: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TenantStatus {
    pub(crate) name: String,
    pub(crate) limits: LimitsStatus,
}

/// What is left of limits. Where calls took more than was estimated, less than nothing is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LimitsStatus {
    pub(crate) requests_available: Option<i64>,
    pub(crate) tokens_available: Option<i64>,
    pub(crate) in_flight: u32,
    pub(crate) max_in_flight: u32,
    /// Requests in the queue for them.
    pub(crate) waiting: usize,
}

/// The places of an upstream that are reserved for a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ReservedStatus {
    pub(crate) group: String,
    /// Of as many as may be in flight at the moment.
    pub(crate) places: u32,
    /// Calls of the group and of those below it, which may be more.
    pub(crate) in_flight: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LaneStatus {
    /// The part of the upstream.
    pub(crate) scope: String,
    /// To a hundredth.
    pub(crate) calls_per_second: Option<f64>,
    /// How much longer nobody goes out.
    pub(crate) paused_for_ms: Option<u64>,
    pub(crate) waiting: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CircuitStatus {
    pub(crate) scope: String,
    pub(crate) state: String,
    /// Who decides about it.
    pub(crate) mode: Cow<'static, str>,
    /// Why it is open, or was until a call went out to see.
    pub(crate) cause: Option<String>,
    pub(crate) probe_possible_in_ms: Option<u64>,
    pub(crate) consecutive_openings: u32,
    pub(crate) window: WindowStatus,
    /// How long it has not been closed; `None` where it is, and where it was opened before a restart.
    pub(crate) open_for_ms: Option<u64>,
    /// Why it was opened then, whatever has kept it open since.
    pub(crate) opened_because: Option<String>,
    /// What the provider last said that counts against it.
    pub(crate) said: Option<SaidStatus>,
}

/// What a provider has said, as far as it may be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SaidStatus {
    pub(crate) status: u16,
    pub(crate) message: String,
}

/// What a circuit has seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WindowStatus {
    pub(crate) length_ms: u64,
    pub(crate) requests: u32,
    pub(crate) failures: u32,
    pub(crate) overloads: u32,
    pub(crate) throttles: u32,
    pub(crate) slow_calls: u32,
    pub(crate) consecutive_failures: u32,
    pub(crate) in_flight: u32,
    pub(crate) first_content_p50_ms: Option<u64>,
    pub(crate) first_content_p95_ms: Option<u64>,
}

/// How the spool stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum QueueStatus {
    /// It cannot be counted.
    Uncounted {
        error: String,
        /// Everything that is not as it should be, one sentence each.
        troubles: Vec<String>,
    },
    Counted(CountsStatus),
}

/// How many jobs stand where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CountsStatus {
    /// Everything that is not as it should be, one sentence each.
    pub(crate) troubles: Vec<String>,
    pub(crate) queued: u64,
    pub(crate) running: u64,
    pub(crate) done: u64,
    pub(crate) dead: u64,
    pub(crate) cancelled: u64,
    pub(crate) expired: u64,
    /// Bytes kept for all of them.
    pub(crate) stored_bytes: u64,
    /// `None` when none waits.
    pub(crate) oldest_queued_age_ms: Option<u64>,
}

impl Status {
    /// How everything stands at this moment.
    pub(super) async fn of(app: &App) -> Status {
        let queue = match &app.spool {
            None => None,
            Some(spool) => Some(QueueStatus::of(spool, app.clock.unix_ms()).await),
        };
        let tenants = app.callers.gates();
        let reserved = app.config.reserved_shares();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: app.clock.now().as_micros() / 1_000,
            draining: app.is_draining(),
            in_flight: app.requests_in_flight(),
            held_bytes: app.bytes_held(),
            upstreams: app.upstreams.values().map(|upstream| UpstreamStatus::of(upstream, &reserved)).collect(),
            routes: app.chains.routes().map(|chain| RouteStatus::of(chain)).collect(),
            tenants: tenants
                .map(|(name, gate)| TenantStatus { name: name.to_owned(), limits: LimitsStatus::of(gate) })
                .collect(),
            ledger: app.ledger.as_deref().map(LedgerStatus::of),
            keys: KeysStatus::of(app),
            policies: app.policies.status(),
            queue,
            listen: app.means.listen.to_string(),
            certificate: app.means.tls.as_deref().map(CertificateStatus::of),
            configuration: app.config.file.as_ref().map(|file| file.display().to_string()),
            now_unix_ms: app.clock.unix_ms(),
            refusals: app.refusals.look(),
            guards: app.runaway.findings.look(),
        }
    }
}

impl KeysStatus {
    fn of(app: &App) -> Option<KeysStatus> {
        let (keys, required) = (app.access.keys.all(), app.access.is_required());
        let summary = || KeysSummary::of(keys.iter().map(|key| &key.record), wall_unix_ms());
        (required || !keys.is_empty()).then(|| KeysStatus { required, summary: summary() })
    }
}

impl UpstreamStatus {
    fn of(upstream: &Upstream, reserved: &ReservedShares) -> UpstreamStatus {
        UpstreamStatus {
            name: upstream.name.to_string(),
            url: upstream.config.url.to_string(),
            proxy: match upstream.way() {
                Way::Straight => None,
                Way::Through(proxy) => Some(proxy.to_string()),
            },
            dialect: upstream.config.dialect.as_str().into(),
            policy: upstream.policy.name().to_owned(),
            limits: LimitsStatus::of(&upstream.gate),
            reserved: upstream.gate.look(|queue, _| {
                let standing = queue.shares().map(|share| ReservedStatus {
                    group: reserved.name(share.group).to_owned(),
                    places: share.places,
                    in_flight: share.in_flight,
                });
                standing.collect()
            }),
            pacing: upstream.lanes.look().into_iter().map(LaneStatus::of).collect(),
            breakers: upstream.circuits.look().into_iter().map(CircuitStatus::of).collect(),
        }
    }
}

impl RouteStatus {
    fn of(chain: &Chain) -> RouteStatus {
        let targets = chain.look().into_iter().map(|look| TargetStatus {
            target: look.label.to_string(),
            rank: look.rank,
            weight: look.weight,
            key: look.key.map(|name| name.to_string()),
            degraded: look.degraded,
            tokens_in_flight: look.tokens_in_flight,
            conversations: look.conversations,
            served_share: (look.served_share * 100.0).round() / 100.0,
        });
        RouteStatus { name: chain.name.as_deref().unwrap_or_default().to_owned(), targets: targets.collect() }
    }
}

impl LimitsStatus {
    fn of(gate: &AdmissionGate) -> LimitsStatus {
        gate.look(|queue, now| LimitsStatus {
            requests_available: queue.limiter().available(Dimension::Requests, now),
            tokens_available: queue.limiter().available(Dimension::Tokens, now),
            in_flight: queue.concurrency().in_flight(),
            max_in_flight: queue.concurrency().limit(),
            waiting: queue.waiting(),
        })
    }
}

impl LaneStatus {
    fn of(look: LaneLook) -> LaneStatus {
        LaneStatus {
            scope: look.protects,
            calls_per_second: look.per_second.map(|rate| (rate * 100.0).round() / 100.0),
            paused_for_ms: look.paused_for.map(milliseconds),
            waiting: look.waiting,
        }
    }
}

impl CircuitStatus {
    fn of(look: CircuitLook) -> CircuitStatus {
        let seen = look.statistics;
        let quantile_ms = |quantile| seen.latency(quantile).map(milliseconds);
        CircuitStatus {
            scope: look.protects,
            state: look.state.to_string(),
            mode: match look.mode {
                Mode::Normal => "normal",
                Mode::ForcedOpen => "forced open",
                Mode::Disabled => "disabled",
                Mode::WatchOnly => "watch only",
            }
            .into(),
            cause: look.cause,
            probe_possible_in_ms: look.reopens_in.map(milliseconds),
            consecutive_openings: seen.consecutive_openings,
            window: WindowStatus {
                length_ms: milliseconds(seen.length),
                requests: seen.requests,
                failures: seen.failures,
                overloads: seen.overloads,
                throttles: seen.throttles,
                slow_calls: seen.slow_calls,
                consecutive_failures: seen.consecutive_failures,
                in_flight: seen.in_flight,
                first_content_p50_ms: quantile_ms(0.5),
                first_content_p95_ms: quantile_ms(0.95),
            },
            open_for_ms: look.opened.map(|opened| milliseconds(opened.ago)),
            opened_because: look.opened.map(|opened| opened.cause.to_string()),
            said: look.said.map(|said| SaidStatus {
                status: said.status.as_u16(),
                message: fit_to_show(&said.message, SAID_CHARS_MAX),
            }),
        }
    }
}

impl QueueStatus {
    async fn of(spool: &Spool, now_ms: u64) -> QueueStatus {
        let troubles = spool.troubles();
        let error = match tokio::time::timeout(COUNT_TIMEOUT, spool.counts()).await {
            Err(_) => "its disk does not answer".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(counts)) => {
                return QueueStatus::Counted(CountsStatus {
                    troubles,
                    queued: counts.queued,
                    running: counts.leased,
                    done: counts.done,
                    dead: counts.dead,
                    cancelled: counts.cancelled,
                    expired: counts.expired,
                    stored_bytes: counts.stored_bytes,
                    oldest_queued_age_ms: counts.oldest_queued_age_ms(now_ms),
                });
            }
        };
        QueueStatus::Uncounted { error, troubles }
    }
}

#[cfg(test)]
mod tests;
