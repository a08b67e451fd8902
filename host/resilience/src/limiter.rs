//! Reserving requests and tokens before a call, and settling the difference after it.

use std::time::Duration;

use crate::bucket::{TokenBucket, Wait};
use crate::time::Timestamp;

/// Which limit refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// Requests per minute.
    Requests,
    /// Tokens per minute, input and output together.
    Tokens,
}

impl Dimension {
    /// What is counted, as one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
        }
    }
}

/// A reservation that does not fit yet. When both limits refuse, the one with the longer wait is
/// named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Which limit.
    pub dimension: Dimension,
    /// After this time the reservation would fit if nobody else took anything.
    pub retry_after: Duration,
    /// The limit itself, per minute.
    pub limit: u64,
}

/// What was taken for one call. Settle it exactly once, whatever became of the call:
/// [`Limiter::settle`] consumes it.
///
/// One that is lost costs its estimate, no more: the buckets refill with time.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an unsettled reservation keeps tokens that the call may not have used"]
pub struct Reservation {
    tokens: u64,
}

impl Reservation {
    /// The tokens reserved.
    #[must_use]
    pub const fn tokens(&self) -> u64 {
        self.tokens
    }
}

/// What a call turned out to cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// This many tokens, as the provider reported. More than reserved becomes debt, less is given
    /// back.
    Used(u64),
    /// Nothing: the call was never sent, or the provider does not count it. Its request is given
    /// back too.
    Refund,
    /// Unknown: the provider may have counted the call, so the estimate stands.
    AsEstimated,
}

/// Limits on requests and on tokens, each optional; without both, everything is admitted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limiter {
    /// Requests; each call costs one.
    pub requests: Option<TokenBucket>,
    /// Tokens, input and output together.
    pub tokens: Option<TokenBucket>,
}

impl Limiter {
    /// Takes one request and `tokens` tokens (the upper bound of what the call may use), or nothing
    /// at all.
    ///
    /// # Errors
    ///
    /// Which limit refused and how long to wait.
    pub fn reserve(&mut self, tokens: u64, now: Timestamp) -> Result<Reservation, Exceeded> {
        let requests = refusal(Dimension::Requests, self.requests, 1, now);
        let exceeded = refusal(Dimension::Tokens, self.tokens, tokens, now);
        if let Some(longest) = requests.into_iter().chain(exceeded).max_by_key(|e| e.retry_after) {
            return Err(longest);
        }
        self.each(|bucket, cost| bucket.charge(cost, now), tokens);
        Ok(Reservation { tokens })
    }

    /// Corrects what was taken to what was used.
    pub fn settle(&mut self, reservation: Reservation, actual: Settlement, now: Timestamp) {
        let reserved = reservation.tokens;
        match actual {
            Settlement::AsEstimated => {}
            Settlement::Refund => self.each(|bucket, cost| bucket.give_back(cost, now), reserved),
            Settlement::Used(used) => {
                if let Some(bucket) = &mut self.tokens {
                    bucket.charge(used.saturating_sub(reserved), now);
                    bucket.give_back(reserved.saturating_sub(used), now);
                }
            }
        }
    }

    fn each(&mut self, mut act: impl FnMut(&mut TokenBucket, u64), tokens: u64) {
        if let Some(bucket) = &mut self.requests {
            act(bucket, 1);
        }
        if let Some(bucket) = &mut self.tokens {
            act(bucket, tokens);
        }
    }
}

fn refusal(dimension: Dimension, bucket: Option<TokenBucket>, cost: u64, now: Timestamp) -> Option<Exceeded> {
    let bucket = bucket?;
    let Wait(retry_after) = bucket.check(cost, now).err()?;
    Some(Exceeded { dimension, retry_after, limit: bucket.refill_per_minute() })
}

#[cfg(test)]
mod tests;
