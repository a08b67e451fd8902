//! One upstream at run time: its settings, and the state that all workers share.

pub(crate) mod announce;
pub(crate) mod circuit;
pub(crate) mod client;
pub(crate) mod estimates;
#[expect(unreachable_pub, reason = "host/interleavings includes it, and its models see what is public")]
pub(crate) mod gate;
pub(crate) mod keys;
pub(crate) mod lanes;
pub(crate) mod parts;
pub(crate) mod patience;
pub(crate) mod returns;
pub(crate) mod said;
pub(crate) mod scope;
pub(crate) mod verdict;

use crate::config::{Quota, UpstreamConfig};
use crate::observe::metrics::UpstreamMetrics;
use crate::policy::Record;
use crate::policy::Slot;
use crate::runtime::clock::Clock;
use crate::runtime::fingerprint::FingerprintKey;
use crate::runtime::sync::lock;
use crate::upstream::announce::Announcer;
use crate::upstream::circuit::Circuits;
use crate::upstream::client::{Client, Trust, Way};
use crate::upstream::estimates::Estimates;
use crate::upstream::gate::AdmissionGate;
use crate::upstream::keys::Keys;
use crate::upstream::lanes::Lanes;
use crate::upstream::scope::Subject;
use spillway_resilience::{
    AdaptiveLimit, AdmissionQueue, Bulkhead, Concurrency, Dimension, Limiter, LoadTrial, Promptness, Reported,
    RetryBudget, ServedLog, Shares, Timestamp, TokenBucket,
};
use spillway_sdk::{Class, Verdict, rate_limits};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;

/// What a reported limit is taken to need for its reset when its provider does not say: limits count minutes.
const RESET_UNKNOWN: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Upstream {
    /// Its name in the configuration.
    pub name: Arc<str>,
    pub config: UpstreamConfig,
    /// The keys that Spillway has for it.
    pub keys: Keys,
    /// Its limits, and whoever waits for them.
    pub gate: Arc<AdmissionGate>,
    pub circuits: Circuits,
    /// The ways to those parts of it that have said "too much".
    pub lanes: Lanes,
    /// How the input of requests to it is estimated, and what its counts have taught about that.
    pub estimates: Estimates,
    /// Whose certificates are believed there.
    pub trust: Trust,
    /// The policy that judges it.
    pub policy: Arc<Slot>,
    pub metrics: Arc<UpstreamMetrics>,
    clock: Clock,
    experience: Mutex<Experience>,
    /// It has refused a request for the field that asks for usage.
    refuses_usage: AtomicBool,
}

/// What the calls to one upstream have taught, and what that allows.
#[derive(Debug)]
pub(crate) struct Experience {
    /// What answers have earned for retries.
    pub budget: RetryBudget,
    /// What they have earned for hedges.
    pub hedge_budget: RetryBudget,
    /// To which models retries do harm.
    pub trial: LoadTrial,
    /// When answers came, and to whom.
    pub served: ServedLog,
    /// How soon they came.
    pub promptness: Promptness,
}

/// What all upstreams have in common.
#[derive(Debug)]
pub(crate) struct Common<'a> {
    pub fingerprints: &'a FingerprintKey,
    /// Which shares of their places are reserved.
    pub shares: &'a Shares,
    /// Rung when some circuit changes its state.
    pub circuit_changed: &'a Arc<Notify>,
    pub clock: Clock,
}

impl Upstream {
    /// An upstream at rest.
    pub(crate) fn new(
        name: &str,
        config: UpstreamConfig,
        policy: Arc<Slot>,
        metrics: Arc<UpstreamMetrics>,
        Common { fingerprints, shares, circuit_changed, clock }: Common<'_>,
    ) -> Self {
        let circuit_changed = || Arc::clone(circuit_changed);
        let name: Arc<str> = Arc::from(name);
        let concurrency = match config.concurrency.adaptive {
            true => Concurrency::Adaptive(AdaptiveLimit::new(config.concurrency.settings())),
            false => Concurrency::Fixed(Bulkhead::new(config.concurrency.max_in_flight)),
        };
        let limiter = limiter(config.limits.quota(), clock);
        let queue = AdmissionQueue::new(limiter, concurrency, config.limits.queue()).with_shares(shares.clone());
        let observer = Arc::new(Announcer { upstream: Arc::clone(&name), metrics: Arc::clone(&metrics) });
        let (settings, watch_only) = (config.breaker_settings(), config.breaker.watch_only);
        Upstream {
            keys: Keys::of(&config, fingerprints),
            lanes: Lanes::new(config.pacing.settings(), config.limits.queue(), clock, circuit_changed()),
            circuits: Circuits::new(Arc::clone(&name), settings, watch_only, clock, observer, circuit_changed()),
            gate: Arc::new(AdmissionGate::new(queue, clock)),
            experience: Mutex::new(Experience {
                budget: RetryBudget::new(config.retry.budget(), clock.now()),
                hedge_budget: RetryBudget::new(config.hedge.budget(), clock.now()),
                trial: LoadTrial::new(clock.now()),
                served: ServedLog::default(),
                promptness: Promptness::default(),
            }),
            refuses_usage: AtomicBool::new(false),
            estimates: Estimates::by(config.limits.tokenizer),
            trust: Trust::with(config.authorities()),
            clock,
            name,
            config,
            policy,
            metrics,
        }
    }

    /// A client of it, without connections yet.
    pub(crate) fn client(&self) -> Client {
        Client::of(&self.config, self.trust.clone(), self.clock, Arc::clone(&self.metrics.pool))
    }

    /// The way to it.
    pub(crate) fn way(&self) -> Way {
        Way::to(&self.config.url, &self.config.proxy)
    }

    /// Whether streams are asked to report their usage: tokens are counted here or, as `are_counted` says, by whoever
    /// pays for them, and the upstream bears the question.
    pub(crate) fn asks_for_usage(&self, are_counted: bool) -> bool {
        let counts_tokens = are_counted || self.config.limits.quota().tokens_per_minute.is_some();
        counts_tokens && self.config.ask_for_usage && !self.refuses_usage.load(Ordering::Relaxed)
    }

    /// It does not bear the question, until the next start.
    pub(crate) fn stop_asking_for_usage(&self) {
        self.refuses_usage.store(true, Ordering::Relaxed);
    }

    /// Corrects the configured limits by what the provider reports in an answer.
    ///
    /// A report about a smaller limit than the configured one is left alone: it is the limit of one model or key among
    /// several, or else the configuration is too hopeful, and then refused calls will tell.
    pub(crate) fn learn(&self, record: &Record, verdict: &Verdict) {
        let quota = self.config.limits.quota();
        if quota.requests_per_minute.is_none() && quota.tokens_per_minute.is_none() {
            return;
        }
        let header = |name: &str| record.headers.get(name).map(|value| value.as_bytes());
        let reported = rate_limits::from_headers(header, SystemTime::now());
        let dimensions = [
            (Dimension::Requests, quota.requests_per_minute, reported.requests),
            (Dimension::Tokens, quota.tokens_per_minute, reported.tokens),
        ];
        for (dimension, configured, reported) in dimensions {
            let (Some(configured), Some(reported)) = (configured, reported) else { continue };
            if reported.limit < configured {
                continue;
            }
            let reset_in = reported.reset.unwrap_or(RESET_UNKNOWN);
            self.gate.resync(dimension, Reported { limit: reported.limit, remaining: reported.remaining, reset_in });
            // A reset tells when all is there again; when some of it is, only the refusal's own wait tells.
            if let (Class::Throttled, 0, Some(wait)) = (verdict.class, reported.remaining, verdict.cool_off) {
                self.gate.drain(dimension, wait);
            }
        }
    }

    /// What its calls have taught, behind a lock.
    pub(crate) fn experience(&self) -> MutexGuard<'_, Experience> {
        lock(&self.experience)
    }

    /// A call has brought its first content, after so long. `first_sent` is when it went out, if it was its request's
    /// first and its caller has not come back with it.
    pub(crate) fn served(&self, subject: Subject<'_>, first_content: Duration, first_sent: Option<Timestamp>) {
        let (now, model) = (self.clock.now(), subject.model_key());
        let acquitted = {
            let mut experience = self.experience();
            let Experience { budget, hedge_budget, trial, served, promptness } = &mut *experience;
            budget.earn(trial.factor());
            hedge_budget.earn(1.0);
            served.served(subject.key(), now);
            promptness.answered(first_content, now);
            first_sent.is_some_and(|sent| trial.observe(model, sent, true, now))
        };
        self.lanes.served(subject);
        if acquitted {
            self.lanes.acquit(subject);
        }
    }

    /// A request's first call, which went out at `sent`, has failed, and its caller has not come back with it.
    pub(crate) fn first_failed(&self, subject: Subject<'_>, sent: Timestamp) {
        let now = self.clock.now();
        let acquitted = self.experience().trial.observe(subject.model_key(), sent, false, now);
        if acquitted {
            self.lanes.acquit(subject);
        }
    }
}

/// The buckets of a quota: a minute's worth may come at once, as providers allow it.
pub(crate) fn limiter(quota: Quota, clock: Clock) -> Limiter {
    let now = clock.now();
    let bucket = |per_minute: u64| TokenBucket::new(per_minute, per_minute, now);
    Limiter::new(quota.requests_per_minute.map(bucket), quota.tokens_per_minute.map(bucket))
}

#[cfg(test)]
mod tests;
