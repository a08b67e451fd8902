//! A token bucket that may carry debt.

use std::time::Duration;

use crate::time::Timestamp;

/// Levels are kept in millionths of a token.
const MICRO: i64 = 1_000_000;

/// `rate` tokens per minute are `rate / 60` micro-tokens per microsecond; the division's remainder
/// is carried over.
const SIXTIETHS: u64 = 60;

/// How long until a refused cost would be admitted if nothing else took tokens meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait(pub Duration);

/// A quantity that refills with time, is taken in advance and corrected afterwards.
///
/// A cost is admitted when the bucket holds it, or, if it exceeds the capacity, when the bucket is
/// full; the bucket then goes into debt and admits nothing until the debt is repaid. So nothing
/// starves, and an overshoot is never forgiven. Arithmetic is on integers: levels do not drift, and
/// the wait of a refusal is exact to the microsecond.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    capacity: u64,
    refill_per_minute: u64,
    /// Micro-tokens; negative is debt.
    level: i64,
    /// Refill not yet worth a micro-token, in sixtieths of one.
    remainder: u128,
    updated: Timestamp,
}

impl TokenBucket {
    /// Highest capacity, rate, and amount in tokens; larger ones count as this. It keeps
    /// micro-tokens within an `i64`, and no provider's quota comes near it.
    pub const TOKENS_MAX: u64 = 1_000_000_000_000;

    /// A full bucket. `capacity` is the largest burst and `refill_per_minute` the steady rate, both
    /// in tokens and within 1 and [`TOKENS_MAX`](Self::TOKENS_MAX); others are brought to the
    /// nearer end.
    #[must_use]
    pub fn new(capacity: u64, refill_per_minute: u64, now: Timestamp) -> Self {
        let capacity = capacity.clamp(1, Self::TOKENS_MAX);
        Self {
            capacity,
            refill_per_minute: refill_per_minute.clamp(1, Self::TOKENS_MAX),
            level: micro(capacity),
            remainder: 0,
            updated: now,
        }
    }

    /// Whether `cost` tokens are there. None is taken.
    ///
    /// # Errors
    ///
    /// The wait after which this cost would be admitted.
    pub fn check(&self, cost: u64, now: Timestamp) -> Result<(), Wait> {
        let current = self.at(now);
        let missing = micro(cost.min(self.capacity)).saturating_sub(current.level);
        let Ok(missing @ 1..) = u128::try_from(missing) else {
            return Ok(());
        };
        let sixtieths = missing.saturating_mul(u128::from(SIXTIETHS)).saturating_sub(current.remainder);
        let micros = sixtieths.div_ceil(u128::from(self.refill_per_minute));
        Err(Wait(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))))
    }

    /// Takes `amount` tokens whether or not they are there, for a cost that turned out higher than
    /// reserved. Debt is bounded by [`TOKENS_MAX`](Self::TOKENS_MAX).
    pub fn charge(&mut self, amount: u64, now: Timestamp) {
        *self = self.at(now);
        self.level = self.level.saturating_sub(micro(amount)).max(-micro(Self::TOKENS_MAX));
    }

    /// Returns `amount` tokens that were taken and not used. The bucket never holds more than its
    /// capacity.
    pub fn give_back(&mut self, amount: u64, now: Timestamp) {
        self.level = self.level.saturating_add(micro(amount));
        *self = self.at(now);
    }

    /// Empties the bucket, because the provider says that nothing is left. Debt stays.
    pub fn drain(&mut self, now: Timestamp) {
        *self = self.at(now);
        if self.level >= 0 {
            self.level = 0;
            self.remainder = 0;
        }
    }

    /// Changes the capacity and the rate, within the same range as [`new`](Self::new) takes. What
    /// the bucket holds stays, up to the new capacity; debt stays whole.
    pub fn resize(&mut self, capacity: u64, refill_per_minute: u64, now: Timestamp) {
        *self = self.at(now);
        self.capacity = capacity.clamp(1, Self::TOKENS_MAX);
        self.refill_per_minute = refill_per_minute.clamp(1, Self::TOKENS_MAX);
        *self = self.at(now);
    }

    /// One of `shares` equal parts (0 counts as 1) of this bucket as it stands: capacity, rate and
    /// level, each rounded down, though capacity and rate not below 1.
    ///
    /// For replicas that share one bucket in a store and lose the store: each goes on with its part,
    /// and together they admit no more than the whole would have. When the store is back, charge
    /// its bucket with what each part has admitted, so that nothing is granted twice.
    #[must_use]
    pub fn split(&self, shares: u32, now: Timestamp) -> Self {
        let shares = shares.max(1);
        let current = self.at(now);
        let part = Self::new(current.capacity / u64::from(shares), current.refill_per_minute / u64::from(shares), now);
        Self { level: current.level.div_euclid(i64::from(shares)).min(part.level), ..part }
    }

    /// Whole tokens in the bucket; negative is debt.
    #[must_use]
    pub fn available(&self, now: Timestamp) -> i64 {
        self.at(now).level.div_euclid(MICRO)
    }

    /// Largest burst, in tokens.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Steady rate, in tokens per minute.
    #[must_use]
    pub const fn refill_per_minute(&self) -> u64 {
        self.refill_per_minute
    }

    /// The bucket as it stands at `now`; unchanged when `now` lies behind an earlier call's.
    fn at(&self, now: Timestamp) -> Self {
        let elapsed = now.as_micros().saturating_sub(self.updated.as_micros());
        let sixtieths = u128::from(elapsed) * u128::from(self.refill_per_minute) + self.remainder;
        let (gained, rest) = by_sixty(sixtieths);
        let gained = i64::try_from(gained).unwrap_or(i64::MAX);
        let level = self.level.saturating_add(gained);
        let full = micro(self.capacity);
        Self {
            level: level.min(full),
            remainder: if level < full { rest } else { 0 },
            updated: self.updated.max(now),
            ..*self
        }
    }
}

/// Quotient and remainder by sixty. Almost every dividend fits 64 bits, where a division costs
/// much less.
fn by_sixty(sixtieths: u128) -> (u128, u128) {
    match u64::try_from(sixtieths) {
        Ok(small) => (u128::from(small / SIXTIETHS), u128::from(small % SIXTIETHS)),
        Err(_) => (sixtieths / u128::from(SIXTIETHS), sixtieths % u128::from(SIXTIETHS)),
    }
}

fn micro(tokens: u64) -> i64 {
    let tokens = tokens.min(TokenBucket::TOKENS_MAX);
    i64::try_from(tokens).unwrap_or(i64::MAX).saturating_mul(MICRO)
}

#[cfg(test)]
mod tests;
