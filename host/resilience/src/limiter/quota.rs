//! One limit as two parties see it: we, who count what we send, and the provider, who reports what
//! is left.

use std::time::Duration;

use super::{Ceiling, LimitStanding, Limiter, Reported};
use crate::bucket::{TokenBucket, Wait};
use crate::time::{Timestamp, micros};

/// A limit of one dimension. What both views hold is granted, and nothing while it is drained.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quota {
    own: TokenBucket,
    configured: TokenBucket,
    provider: Option<ProviderView>,
    drained_until: Timestamp,
}

impl Quota {
    pub(super) fn new(own: TokenBucket) -> Self {
        Self { own, configured: own, provider: None, drained_until: Timestamp::ORIGIN }
    }

    /// For a limit that nobody has configured: only the provider's view holds it back.
    pub(super) fn unlimited(now: Timestamp) -> Self {
        Self::new(TokenBucket::new(TokenBucket::TOKENS_MAX, TokenBucket::TOKENS_MAX, now))
    }

    /// Whether `cost` is granted; else the wait, and the limit that refuses longest.
    pub(super) fn check(&self, cost: u64, now: Timestamp) -> Result<(), (Duration, u64)> {
        let own = self.own.check(cost, now).err().map(|Wait(wait)| wait);
        let drained = Some(self.drained_until.saturating_since(now)).filter(|wait| !wait.is_zero());
        let own = own.max(drained).map(|wait| (wait, self.own.refill_per_minute()));
        let provider = self.provider.and_then(|view| view.wait(cost, now).map(|wait| (wait, view.limit)));
        own.max(provider).map_or(Ok(()), Err)
    }

    /// The time in which `amount` is refilled.
    pub(super) fn time_for(&self, amount: u64) -> Duration {
        let micros = u128::from(amount) * 60_000_000 / u128::from(self.own.refill_per_minute());
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    pub(super) fn charge(&mut self, cost: u64, now: Timestamp) {
        self.own.charge(cost, now);
        if let Some(view) = &mut self.provider {
            view.charged = view.charged.saturating_add(cost);
        }
    }

    /// Returns what reservation number `id` did not use. A report that is younger than the
    /// reservation has taken it into account already.
    pub(super) fn give_back(&mut self, amount: u64, id: u64, now: Timestamp) {
        self.own.give_back(amount, now);
        if let Some(view) = &mut self.provider
            && id >= view.next_id
        {
            view.charged = view.charged.saturating_sub(amount);
        }
    }

    pub(super) fn resync(&mut self, reported: Reported, ceiling: Ceiling, next_id: u64, now: Timestamp) {
        let limit = reported.limit.clamp(1, TokenBucket::TOKENS_MAX);
        let (capacity, rate) = match ceiling {
            Ceiling::Configured => {
                (limit.min(self.configured.capacity()), limit.min(self.configured.refill_per_minute()))
            }
            Ceiling::Provider => (limit, limit),
        };
        self.own.resize(capacity, rate, now);
        self.provider = Some(ProviderView {
            limit,
            remaining: reported.remaining.min(limit),
            charged: 0,
            since: now,
            reset_in: reported.reset_in.min(Limiter::RESET_MAX),
            next_id,
        });
    }

    pub(super) fn drain(&mut self, reset_in: Duration, now: Timestamp) {
        self.own.drain(now);
        self.drained_until = self.drained_until.max(now.saturating_add(reset_in.min(Limiter::RESET_MAX)));
    }

    /// How it stands: what could be granted now, and when all of it could.
    pub(super) fn standing(&self, now: Timestamp) -> LimitStanding {
        let limit = self.own.capacity();
        let remaining = u64::try_from(self.available(now)).unwrap_or(0).min(limit);
        let reset_in = self.check(limit, now).err().map_or(Duration::ZERO, |(wait, _)| wait);
        LimitStanding { limit, remaining, reset_in }
    }

    /// Whole tokens that could be granted now; negative is debt.
    pub(super) fn available(&self, now: Timestamp) -> i64 {
        let own = self.own.available(now);
        let left = self.provider.and_then(|view| view.available(now)).map_or(own, |left| left.min(own));
        if now < self.drained_until { left.min(0) } else { left }
    }
}

/// What the provider reported, and what was sent since. It refills in a straight line, from what
/// was left to the whole limit at the reset: exactly so for the token buckets of the large
/// providers. After the reset it says nothing more.
#[derive(Clone, Copy, Debug)]
struct ProviderView {
    limit: u64,
    remaining: u64,
    charged: u64,
    since: Timestamp,
    reset_in: Duration,
    /// Reservations with a lower number were made before the report.
    next_id: u64,
}

impl ProviderView {
    fn available(&self, now: Timestamp) -> Option<i64> {
        let elapsed = now.saturating_since(self.since);
        if elapsed >= self.reset_in {
            return None;
        }
        let gained = u128::from(self.limit - self.remaining) * u128::from(micros(elapsed))
            / u128::from(micros(self.reset_in).max(1));
        let held = i128::from(self.remaining) + i128::try_from(gained).unwrap_or(i128::MAX);
        let left = held - i128::from(self.charged);
        Some(i64::try_from(left).unwrap_or(if left < 0 { i64::MIN } else { i64::MAX }))
    }

    /// How long until `cost` fits; `None` when it does.
    fn wait(&self, cost: u64, now: Timestamp) -> Option<Duration> {
        // A cost above the limit waits for the whole of it, as in the own bucket.
        let needed = cost.min(self.limit);
        if self.available(now)? >= i64::try_from(needed).unwrap_or(i64::MAX) {
            return None;
        }
        // Something is missing, and without a refill it comes all at once, at the reset.
        let missing = (u128::from(needed) + u128::from(self.charged)).saturating_sub(u128::from(self.remaining));
        let refill = u128::from(self.limit - self.remaining);
        let reset = micros(self.reset_in);
        let after = if refill == 0 { u128::from(reset) } else { (missing * u128::from(reset)).div_ceil(refill) };
        let after = u64::try_from(after).unwrap_or(reset).min(reset);
        let at = self.since.saturating_add(Duration::from_micros(after));
        Some(at.saturating_since(now).max(Duration::from_micros(1)))
    }
}
