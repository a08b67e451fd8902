//! One upstream at run time: its settings, and the state that all workers share.

use crate::circuit::Circuits;
use crate::clock::Clock;
use crate::config::UpstreamConfig;
use crate::metrics::UpstreamMetrics;
use crate::policy::Slot;
use spillway_resilience::{Dimension, Exceeded, Limiter, Reservation, RetryBudget, Settlement, TokenBucket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// One upstream.
#[derive(Debug)]
pub struct Upstream {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its settings.
    pub config: UpstreamConfig,
    /// Its circuits.
    pub circuits: Circuits,
    /// The policy that judges it.
    pub policy: Arc<Slot>,
    /// What it counts.
    pub metrics: Arc<UpstreamMetrics>,
    limiter: Option<Mutex<Limiter>>,
    budget: Mutex<RetryBudget>,
    clock: Clock,
}

impl Upstream {
    /// An upstream at rest.
    pub fn new(
        name: &str,
        config: UpstreamConfig,
        policy: Arc<Slot>,
        metrics: Arc<UpstreamMetrics>,
        clock: Clock,
        circuit_changed: Arc<Notify>,
    ) -> Self {
        let name: Arc<str> = Arc::from(name);
        let now = clock.now();
        let bucket = |per_minute: u64| TokenBucket::new(per_minute, per_minute, now);
        let limits = config.limits;
        let limiter = Limiter::new(limits.requests_per_minute.map(bucket), limits.tokens_per_minute.map(bucket));
        let limited = limits.requests_per_minute.is_some() || limits.tokens_per_minute.is_some();
        let observer = Arc::clone(&metrics);
        Upstream {
            circuits: Circuits::new(Arc::clone(&name), config.breaker, clock, observer, circuit_changed),
            limiter: limited.then(|| Mutex::new(limiter)),
            budget: Mutex::new(RetryBudget::new(config.retry_budget)),
            name,
            config,
            policy,
            metrics,
            clock,
        }
    }

    /// Whether tokens are counted here, so that it pays to ask for usage.
    pub fn counts_tokens(&self) -> bool {
        self.config.limits.tokens_per_minute.is_some()
    }

    /// Reserves a request and its tokens.
    ///
    /// # Errors
    /// When they do not fit, and for how long.
    pub fn reserve(self: &Arc<Self>, tokens: u64) -> Result<Reserved, Exceeded> {
        let reservation = match &self.limiter {
            Some(limiter) => Some(lock(limiter).reserve(tokens, self.clock.now())?),
            None => None,
        };
        Ok(Reserved { upstream: Arc::clone(self), reservation, otherwise: Settlement::Refund })
    }

    /// Tokens left this moment, for the status page; negative when in debt.
    pub fn tokens_available(&self) -> Option<i64> {
        let limiter = self.limiter.as_ref()?;
        lock(limiter).available(Dimension::Tokens, self.clock.now())
    }

    /// The retry budget, shared by all requests to this upstream.
    pub fn budget(&self) -> MutexGuard<'_, RetryBudget> {
        lock(&self.budget)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is locked here are values without half-done states.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A reservation that is settled exactly once, whatever becomes of its request.
#[derive(Debug)]
pub struct Reserved {
    upstream: Arc<Upstream>,
    reservation: Option<Reservation>,
    /// What it is settled with when nobody says better.
    otherwise: Settlement,
}

impl Reserved {
    /// A call goes out: from here on the provider may count it, answered or not.
    pub fn sent(&mut self) {
        self.otherwise = Settlement::AsEstimated;
    }

    /// Settles with what is known of the request's cost.
    pub fn settle(mut self, settlement: Settlement) {
        self.settle_once(settlement);
    }

    fn settle_once(&mut self, settlement: Settlement) {
        if let (Some(reservation), Some(limiter)) = (self.reservation.take(), &self.upstream.limiter) {
            lock(limiter).settle(reservation, settlement, self.upstream.clock.now());
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.settle_once(self.otherwise);
    }
}

#[cfg(test)]
mod tests;
