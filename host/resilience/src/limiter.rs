//! Reserving requests and tokens before a call, and settling the difference after it.

use std::time::Duration;

use crate::bucket::TokenBucket;
use crate::time::Timestamp;

mod outstanding;
mod quota;

use outstanding::Outstanding;
use quota::Quota;

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
/// [`Limiter::settle`] of the limiter that gave it consumes it.
///
/// One that is lost costs its estimate, no more: the buckets refill with time, and it expires.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an unsettled reservation keeps tokens that the call may not have used"]
pub struct Reservation {
    id: u64,
    tokens: u64,
}

impl Reservation {
    /// Its number, which its limiter gives to no other.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// The tokens reserved.
    #[must_use]
    pub const fn tokens(&self) -> u64 {
        self.tokens
    }
}

/// What a provider says about one of its limits in the headers of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// The limit, per minute; 0 counts as 1.
    pub limit: u64,
    /// What is left of it; at most the limit.
    pub remaining: u64,
    /// The time until all of it is there again, at most [`Limiter::RESET_MAX`].
    pub reset_in: Duration,
}

/// How far a provider's report may move the own limit. Downwards it always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceiling {
    /// Up to the limit configured: part of the quota is kept for others.
    Configured,
    /// Up to the provider's limit, whatever is configured. Sensible only for limits per minute.
    Provider,
}

/// How a limit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitStanding {
    /// The limit itself: its largest burst, which is what it refills in a minute.
    pub limit: u64,
    /// What is left of it, down to nothing where calls took more than was there.
    pub remaining: u64,
    /// The time until all of it is there again, if nobody takes anything.
    pub reset_in: Duration,
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
///
/// Each limit has two views: the own bucket, and what the provider reported last
/// ([`resync`](Self::resync)). Only what both hold is granted.
#[derive(Clone, Debug, Default)]
pub struct Limiter {
    requests: Option<Quota>,
    tokens: Option<Quota>,
    outstanding: Outstanding,
}

impl Limiter {
    /// After this time a reservation can no longer be settled, and its estimate stands: longer than
    /// any answer takes, and by then the buckets have long refilled what it took.
    pub const RESERVATION_LIFETIME: Duration = Duration::from_secs(3600);
    /// Most reservations between the oldest unsettled one and the newest. At the bound the oldest
    /// expires early. It bounds what lost reservations cost to 4 MiB.
    pub const OUTSTANDING_MAX: usize = 1 << 18;
    /// Longest time that a report or a drain has effect: a reset in the far future is more likely a
    /// misreading than a quota, and a daily quota is at most a day from its reset.
    pub const RESET_MAX: Duration = Duration::from_secs(24 * 3600);

    /// A limiter with these buckets: requests, of which each call costs one, and tokens, input and
    /// output together.
    #[must_use]
    pub fn new(requests: Option<TokenBucket>, tokens: Option<TokenBucket>) -> Self {
        Self { requests: requests.map(Quota::new), tokens: tokens.map(Quota::new), outstanding: Outstanding::default() }
    }

    /// Takes one request and `tokens` tokens (the upper bound of what the call may use), or nothing
    /// at all.
    ///
    /// # Errors
    ///
    /// Which limit refused and how long to wait.
    pub fn reserve(&mut self, tokens: u64, now: Timestamp) -> Result<Reservation, Exceeded> {
        self.check(tokens, now)?;
        Ok(self.take(tokens, now))
    }

    /// What [`reserve`](Self::reserve) would answer, taking nothing.
    ///
    /// # Errors
    ///
    /// Which limit would refuse and how long to wait.
    pub fn check(&self, tokens: u64, now: Timestamp) -> Result<(), Exceeded> {
        let requests = refusal(Dimension::Requests, self.requests.as_ref(), 1, now);
        let exceeded = refusal(Dimension::Tokens, self.tokens.as_ref(), tokens, now);
        requests.into_iter().chain(exceeded).max_by_key(|e| e.retry_after).map_or(Ok(()), Err)
    }

    /// How long these limits take to let so many requests and tokens through, beginning with nothing:
    /// what whoever comes behind a queue of them must expect.
    #[must_use]
    pub fn time_for(&self, requests: u64, tokens: u64) -> Duration {
        let time = |quota: Option<&Quota>, amount| quota.map_or(Duration::ZERO, |quota| quota.time_for(amount));
        time(self.requests.as_ref(), requests).max(time(self.tokens.as_ref(), tokens))
    }

    /// Corrects what was taken to what was used. `false` when the reservation has expired: then
    /// nothing changes, since a refund would come on top of what time has refilled.
    pub fn settle(&mut self, reservation: Reservation, actual: Settlement, now: Timestamp) -> bool {
        let Reservation { id, tokens: reserved } = reservation;
        if !self.outstanding.close(id, now) {
            return false;
        }
        match actual {
            Settlement::AsEstimated => {}
            Settlement::Refund => self.each(|quota, cost| quota.give_back(cost, id, now), reserved),
            Settlement::Used(used) => {
                if let Some(quota) = &mut self.tokens {
                    if used > reserved {
                        quota.charge(used - reserved, now);
                    } else {
                        quota.give_back(reserved - used, id, now);
                    }
                }
            }
        }
        true
    }

    /// Takes tokens that a call has used beyond its reservation, while it goes on. They may become a debt.
    pub fn charge(&mut self, tokens: u64, now: Timestamp) {
        if let Some(quota) = &mut self.tokens {
            quota.charge(tokens, now);
        }
    }

    /// Takes over what the provider reports. Until its reset no more is granted than the report and
    /// the own bucket both hold; calls sent since the provider wrote it are known to the own bucket
    /// alone. A limit that was not configured is learned from it.
    pub fn resync(&mut self, dimension: Dimension, reported: Reported, ceiling: Ceiling, now: Timestamp) {
        let next_id = self.outstanding.next_id();
        self.quota(dimension, now).resync(reported, ceiling, next_id, now);
    }

    /// Admits nothing for `reset_in`, at most [`RESET_MAX`](Self::RESET_MAX), because the provider
    /// has refused a call for this limit. The own bucket is emptied. Of several resets the latest
    /// counts.
    pub fn drain(&mut self, dimension: Dimension, reset_in: Duration, now: Timestamp) {
        self.quota(dimension, now).drain(reset_in, now);
    }

    /// What could be granted now; negative is debt, and `None` means without limit.
    #[must_use]
    pub fn available(&self, dimension: Dimension, now: Timestamp) -> Option<i64> {
        let quota = match dimension {
            Dimension::Requests => &self.requests,
            Dimension::Tokens => &self.tokens,
        };
        quota.map(|quota| quota.available(now))
    }

    /// How a limit stands now; `None` without one.
    #[must_use]
    pub fn standing(&self, dimension: Dimension, now: Timestamp) -> Option<LimitStanding> {
        let quota = match dimension {
            Dimension::Requests => &self.requests,
            Dimension::Tokens => &self.tokens,
        };
        quota.map(|quota| quota.standing(now))
    }

    /// Reservations that are not settled, lost ones included until they expire.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    fn take(&mut self, tokens: u64, now: Timestamp) -> Reservation {
        self.each(|quota, cost| quota.charge(cost, now), tokens);
        Reservation { id: self.outstanding.issue(now), tokens }
    }

    fn quota(&mut self, dimension: Dimension, now: Timestamp) -> &mut Quota {
        let quota = match dimension {
            Dimension::Requests => &mut self.requests,
            Dimension::Tokens => &mut self.tokens,
        };
        quota.get_or_insert_with(|| Quota::unlimited(now))
    }

    fn each(&mut self, mut act: impl FnMut(&mut Quota, u64), tokens: u64) {
        if let Some(quota) = &mut self.requests {
            act(quota, 1);
        }
        if let Some(quota) = &mut self.tokens {
            act(quota, tokens);
        }
    }
}

/// One of several limiters refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its place among them, from 0.
    pub limiter: usize,
    /// Why.
    pub exceeded: Exceeded,
}

/// Takes from all limiters (a tenant's and a target's, say) or from none. The reservations are in
/// the order of the limiters; each is settled with its own.
///
/// # Errors
///
/// The limiter with the longest wait.
pub fn reserve_all<const N: usize>(
    limiters: [&mut Limiter; N],
    tokens: u64,
    now: Timestamp,
) -> Result<[Reservation; N], Refused> {
    let refusals = limiters.iter().enumerate().filter_map(|(index, limiter)| {
        let exceeded = limiter.check(tokens, now).err()?;
        Some(Refused { limiter: index, exceeded })
    });
    if let Some(longest) = refusals.max_by_key(|refused| refused.exceeded.retry_after) {
        return Err(longest);
    }
    Ok(limiters.map(|limiter| limiter.take(tokens, now)))
}

fn refusal(dimension: Dimension, quota: Option<&Quota>, cost: u64, now: Timestamp) -> Option<Exceeded> {
    let (retry_after, limit) = quota?.check(cost, now).err()?;
    Some(Exceeded { dimension, retry_after, limit })
}

#[cfg(test)]
mod tests;
