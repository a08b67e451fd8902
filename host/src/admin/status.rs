//! The status: how everything stands, as the admin address writes it and the command line reads it.

use crate::policy::PolicyStatus;
use crate::proxy::app::App;
use crate::proxy::chain::Chain;
use crate::runtime::clock::milliseconds;
use crate::spool::Spool;
use crate::upstream::Upstream;
use crate::upstream::circuit::CircuitLook;
use crate::upstream::client::Way;
use crate::upstream::gate::AdmissionGate;
use crate::upstream::lanes::LaneLook;
use serde::{Deserialize, Serialize};
use spillway_resilience::{Dimension, Mode};
use std::borrow::Cow;
use std::time::Duration;

/// How long the status waits for the spool's counts, on a disk that hangs.
const COUNT_TIMEOUT: Duration = Duration::from_secs(1);

/// All there is to see. Policies are what tells a Spillway from others who answer; whatever else an older or a newer
/// one does not say is left empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    #[serde(default)]
    version: String,
    #[serde(default)]
    uptime_ms: u64,
    /// Whether it ends as soon as what is in flight has ended.
    #[serde(default)]
    draining: bool,
    /// Requests.
    #[serde(default)]
    in_flight: u64,
    /// Bytes of requests and answers in memory.
    #[serde(default)]
    held_bytes: u64,
    #[serde(default)]
    upstreams: Vec<UpstreamStatus>,
    /// In the order in which they take requests.
    #[serde(default)]
    routes: Vec<RouteStatus>,
    /// Those that have limits of their own.
    #[serde(default)]
    tenants: Vec<TenantStatus>,
    pub(crate) policies: Vec<PolicyStatus>,
    /// `None` where no spool is configured.
    #[serde(default)]
    queue: Option<QueueStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct UpstreamStatus {
    name: String,
    url: String,
    /// The proxy through which it is reached.
    proxy: Option<String>,
    dialect: Cow<'static, str>,
    /// The name of the policy that judges it.
    policy: String,
    limits: LimitsStatus,
    /// The parts that have said "too much".
    pacing: Vec<LaneStatus>,
    breakers: Vec<CircuitStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct RouteStatus {
    name: String,
    /// Those who may serve, once for each of their keys.
    targets: Vec<TargetStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct TargetStatus {
    target: String,
    /// 0 for those who are asked first; those of the same are equals.
    rank: u32,
    weight: u32,
    /// The name of the variable or file that holds its key, if it has one of its own.
    key: Option<String>,
    degraded: bool,
    tokens_in_flight: u64,
    /// Conversations that stay with it.
    conversations: u64,
    /// Of its requests of late, whatever model is the caller's own, to a hundredth.
    served_share: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct TenantStatus {
    name: String,
    limits: LimitsStatus,
}

/// What is left of limits. Where calls took more than was estimated, less than nothing is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct LimitsStatus {
    requests_available: Option<i64>,
    tokens_available: Option<i64>,
    in_flight: u32,
    max_in_flight: u32,
    /// Requests in the queue for them.
    waiting: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct LaneStatus {
    /// The part of the upstream.
    scope: String,
    /// To a hundredth.
    calls_per_second: Option<f64>,
    /// How much longer nobody goes out.
    paused_for_ms: Option<u64>,
    waiting: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct CircuitStatus {
    scope: String,
    state: String,
    /// Who decides about it.
    mode: Cow<'static, str>,
    /// Why it is open.
    cause: Option<String>,
    probe_possible_in_ms: Option<u64>,
    consecutive_openings: u32,
    window: WindowStatus,
}

/// What a circuit has seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct WindowStatus {
    length_ms: u64,
    requests: u32,
    failures: u32,
    overloads: u32,
    throttles: u32,
    slow_calls: u32,
    consecutive_failures: u32,
    in_flight: u32,
    first_content_p50_ms: Option<u64>,
    first_content_p95_ms: Option<u64>,
}

/// How the spool stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum QueueStatus {
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
struct CountsStatus {
    /// Everything that is not as it should be, one sentence each.
    troubles: Vec<String>,
    queued: u64,
    running: u64,
    done: u64,
    dead: u64,
    cancelled: u64,
    expired: u64,
    /// Bytes kept for all of them.
    stored_bytes: u64,
    /// `None` when none waits.
    oldest_queued_age_ms: Option<u64>,
}

impl Status {
    /// How everything stands at this moment.
    pub(super) async fn of(app: &App) -> Status {
        let queue = match &app.spool {
            None => None,
            Some(spool) => Some(QueueStatus::of(spool, app.clock.unix_ms()).await),
        };
        let tenants = app.callers.gates();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: app.clock.now().as_micros() / 1_000,
            draining: app.is_draining(),
            in_flight: app.requests_in_flight(),
            held_bytes: app.bytes_held(),
            upstreams: app.upstreams.values().map(|upstream| UpstreamStatus::of(upstream)).collect(),
            routes: app.chains.routes().map(|chain| RouteStatus::of(chain)).collect(),
            tenants: tenants
                .map(|(name, gate)| TenantStatus { name: name.to_owned(), limits: LimitsStatus::of(gate) })
                .collect(),
            policies: app.policies.status(),
            queue,
        }
    }
}

impl UpstreamStatus {
    fn of(upstream: &Upstream) -> UpstreamStatus {
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
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Dashboards and scripts read it, so its keys, their order and what is null where nothing is known stay as they
    /// are.
    #[test]
    fn it_is_read_and_written_with_the_keys_that_others_rely_on() {
        let limits = json!({"requests_available": -3, "tokens_available": null, "in_flight": 2, "max_in_flight": 8, "waiting": 1});
        let window = json!({
            "length_ms": 30_000, "requests": 20, "failures": 9, "overloads": 1, "throttles": 2, "slow_calls": 3,
            "consecutive_failures": 4, "in_flight": 5, "first_content_p50_ms": 310, "first_content_p95_ms": null,
        });
        let rejected = json!({"sha256": null, "reason": "the file is empty", "at_unix_ms": 7});
        let example = json!({
            "at_unix_ms": 8, "kind": "classify: failure -> throttled", "upstream": "openai", "model": "gpt-5", "status": 429,
            "fault": null, "error_code": "rate_limit_exceeded", "active": "failure of model", "shadow": "throttled of model",
        });
        let shadow = json!({
            "sha256": "ab", "version": "0.2.0", "state": "comparing", "quarantined_after": null, "calls": 9, "faults": 0,
            "last_fault": null,
            "comparison": {
                "agreed": 8, "disagreed": 1, "unanswered": 0, "by_kind": {"classify: failure -> throttled": 1},
                "examples": [example],
            },
            "rejected": null,
        });
        let status = json!({
            "version": "0.1.0", "uptime_ms": 1_200, "draining": false, "in_flight": 3, "held_bytes": 4_096,
            "upstreams": [{
                "name": "openai", "url": "https://api.openai.com", "proxy": null, "dialect": "openai", "policy": "default",
                "limits": limits,
                "pacing": [{"scope": "model gpt-5", "calls_per_second": 1.25, "paused_for_ms": 900, "waiting": 6}],
                "breakers": [{
                    "scope": "upstream", "state": "open", "mode": "normal", "cause": "ten failures in a row",
                    "probe_possible_in_ms": 450, "consecutive_openings": 1, "window": window,
                }],
            }],
            "routes": [{"name": "chat", "targets": [{
                "target": "openai/gpt-5", "rank": 0, "weight": 1, "key": "OPENAI_API_KEY", "degraded": false,
                "tokens_in_flight": 1_024, "conversations": 12, "served_share": 0.97,
            }]}],
            "tenants": [{"name": "batch", "limits": limits}],
            "policies": [{
                "name": "default", "source": "module", "state": "serving", "quarantined_after": null, "sha256": "cd",
                "version": "0.1.0", "summary": "judges", "hooks": ["classify", "trip"], "swaps": 1, "calls": 10, "faults": 1,
                "last_fault": "it trapped", "rejected": rejected, "shadow": shadow,
            }],
            "queue": {
                "troubles": [], "queued": 1, "running": 2, "done": 3, "dead": 4, "cancelled": 5, "expired": 6,
                "stored_bytes": 7, "oldest_queued_age_ms": null,
            },
        });
        let mut uncounted = status.clone();
        uncounted["queue"] = json!({"error": "its disk does not answer", "troubles": ["nothing can be kept"]});
        let mut without = status.clone();
        without["queue"] = Value::Null;
        for status in [status, uncounted, without] {
            let text = serde_json::to_string_pretty(&status).expect("JSON");
            let read: Status = serde_json::from_str(&text).expect("a status");
            assert_eq!(serde_json::to_string_pretty(&read).expect("JSON"), text);
        }
    }

    #[test]
    fn what_another_version_does_not_say_is_left_empty_but_without_policies_it_is_no_spillways() {
        let sparse =
            json!({"policies": [{"name": "default", "state": "asleep", "mood": "fine"}], "queue": {"queued": 1}});
        let status: Status = serde_json::from_value(sparse).expect("a status");
        assert_eq!((&*status.policies[0].name, &*status.policies[0].state), ("default", "asleep"));
        assert!(serde_json::from_value::<Status>(json!({"version": "0.1.0"})).is_err());
    }
}
