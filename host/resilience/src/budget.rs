//! A budget that lets retries heal random failures, and gives none to an upstream that serves nobody.

use crate::Mistake;
use crate::time::{Timestamp, micros};
use std::time::Duration;

/// Tokens are counted in thousandths, so that a ratio of 0.1 adds up without rounding.
const MILLI: u64 = 1000;

/// The numbers of a [`RetryBudget`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudgetSettings {
    /// Retries earned by each answer, 0 to [`RATIO_MAX`](Self::RATIO_MAX), rounded to a thousandth.
    pub ratio: f64,
    /// Retries earned by a second, whatever fails, 0 to [`FLOOR_MAX`](Self::FLOOR_MAX), rounded to a
    /// thousandth.
    pub floor: f64,
    /// Retries in hand at the start.
    pub reserve: u32,
    /// Most retries that can be saved up, and so the largest burst of retries when an outage
    /// begins.
    pub capacity: u32,
}

impl RetryBudgetSettings {
    /// Ten retries per answer. Four attempts per request need 0.4 retries per answer when 30 % fail, 3 when 70 %
    /// do, and 7 at 90 %; an upstream that serves nobody earns none.
    pub const DEFAULT_RATIO: f64 = 10.0;
    /// One a second: what a lone caller needs, and two per cent of fifty requests a second.
    pub const DEFAULT_FLOOR: f64 = 1.0;
    /// Enough for five requests of a fresh process to use their attempts.
    pub const DEFAULT_RESERVE: u32 = 20;
    /// What fails within a second at a hundred requests a second. An outage does not use it up: there retries end with
    /// the first failures in a row ([`Breaker::may_repeat`](crate::Breaker::may_repeat)).
    pub const DEFAULT_CAPACITY: u32 = 100;
    /// Highest allowed `ratio`: as many as a request has attempts.
    pub const RATIO_MAX: f64 = 20.0;
    /// Highest allowed `floor`: ten times Finagle's.
    pub const FLOOR_MAX: f64 = 100.0;
    /// Highest allowed `capacity`: a larger one bounds nothing.
    pub const CAPACITY_MAX: u32 = 1_000_000;

    /// A tenth of the answers, for hedges: they are sent beside calls that may well succeed.
    pub const HEDGE_RATIO: f64 = 0.1;

    /// A budget for hedges, which are to stay a small share of the traffic, whatever is slow.
    #[must_use]
    pub const fn for_hedges() -> Self {
        Self { ratio: Self::HEDGE_RATIO, floor: 0.0, reserve: 3, capacity: 10 }
    }

    /// Every mistake in these settings; none when they are sound.
    #[must_use]
    pub fn validate(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        Mistake::unless(
            &mut mistakes,
            (0.0..=Self::RATIO_MAX).contains(&self.ratio),
            "ratio",
            format!("{} must lie between 0 and {}", self.ratio, Self::RATIO_MAX),
        );
        Mistake::unless(
            &mut mistakes,
            (0.0..=Self::FLOOR_MAX).contains(&self.floor),
            "floor",
            format!("{} must lie between 0 and {}", self.floor, Self::FLOOR_MAX),
        );
        Mistake::unless(
            &mut mistakes,
            (1..=Self::CAPACITY_MAX).contains(&self.capacity),
            "capacity",
            format!("{} must lie between 1 and {}", self.capacity, Self::CAPACITY_MAX),
        );
        Mistake::unless(
            &mut mistakes,
            self.reserve <= self.capacity,
            "reserve",
            format!("{} must not exceed capacity ({})", self.reserve, self.capacity),
        );
        mistakes
    }
}

impl Default for RetryBudgetSettings {
    fn default() -> Self {
        Self {
            ratio: Self::DEFAULT_RATIO,
            floor: Self::DEFAULT_FLOOR,
            reserve: Self::DEFAULT_RESERVE,
            capacity: Self::DEFAULT_CAPACITY,
        }
    }
}

/// What a token is spent on. All cost the same; they are counted apart so that a metric can tell
/// them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spend {
    /// Another attempt at the same upstream.
    Retry,
    /// An attempt at the next upstream of the chain.
    Fallback,
    /// A second call beside one in flight.
    Hedge,
}

impl Spend {
    /// Everything that a token can be spent on.
    pub const ALL: [Self; 3] = [Self::Retry, Self::Fallback, Self::Hedge];

    /// What it is, as one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Fallback => "fallback",
            Self::Hedge => "hedge",
        }
    }
}

/// Tokens that answers earn and retries spend.
///
/// One budget serves everything that repeats work: retries, hedges, and attempts at fallback
/// upstreams. It is paid for by what is served, as gRPC's retry throttling is (gRFC A6), so that a share of
/// failures is healed whatever it is, while a dead upstream soon gets no retries but the floor's. Withdraw
/// when the retry is decided on, before its wait, so that retries waiting in backoff count too. Over any span
/// the retries number at most `ratio` times the answers, the floor's share of the time, and what was
/// saved up, which never exceeds `capacity`.
#[derive(Clone, Copy, Debug)]
pub struct RetryBudget {
    milli_tokens: u64,
    milli_per_answer: u64,
    milli_per_second: u64,
    /// Until when the floor has been paid out.
    paid_until: Timestamp,
    capacity: u64,
    spent: [u64; Spend::ALL.len()],
}

impl RetryBudget {
    /// A budget holding its reserve. A setting outside its range is brought to the nearer end.
    #[must_use]
    pub fn new(settings: RetryBudgetSettings, now: Timestamp) -> Self {
        let capacity = u64::from(settings.capacity.clamp(1, RetryBudgetSettings::CAPACITY_MAX));
        let reserve = u64::from(settings.reserve).min(capacity);
        Self {
            milli_tokens: reserve * MILLI,
            milli_per_answer: thousandths(settings.ratio.clamp(0.0, RetryBudgetSettings::RATIO_MAX)),
            milli_per_second: thousandths(settings.floor.clamp(0.0, RetryBudgetSettings::FLOOR_MAX)),
            paid_until: now,
            capacity: capacity * MILLI,
            spent: [0; Spend::ALL.len()],
        }
    }

    /// Notes an answer, which earns `share` (0 to 1) of the usual: less where retries are found to do harm.
    pub fn earn(&mut self, share: f64) {
        let earned = if share >= 1.0 {
            self.milli_per_answer
        } else {
            thousandths(share.max(0.0)) * self.milli_per_answer / MILLI
        };
        self.milli_tokens = (self.milli_tokens + earned).min(self.capacity);
    }

    /// Takes a token for one piece of repeated work; `false` when there is none, and nothing is
    /// taken. Work already in flight is never affected.
    #[must_use]
    pub fn try_spend(&mut self, spend: Spend, now: Timestamp) -> bool {
        self.pay_floor(now);
        let Some(left) = self.milli_tokens.checked_sub(MILLI) else {
            return false;
        };
        self.milli_tokens = left;
        self.spent[spend as usize] += 1;
        true
    }

    fn pay_floor(&mut self, now: Timestamp) {
        let passed = micros(now.saturating_since(self.paid_until));
        let earned = u128::from(passed) * u128::from(self.milli_per_second) / 1_000_000;
        let earned = u64::try_from(earned).unwrap_or(u64::MAX);
        if earned > 0 {
            self.milli_tokens = self.milli_tokens.saturating_add(earned).min(self.capacity);
            // What is less than a thousandth goes on counting.
            let paid = u128::from(earned) * 1_000_000 / u128::from(self.milli_per_second.max(1));
            let paid = Duration::from_micros(u64::try_from(paid).unwrap_or(u64::MAX));
            self.paid_until = self.paid_until.saturating_add(paid);
        }
    }

    /// Returns the token of work that was never sent.
    pub fn refund(&mut self, spend: Spend) {
        self.milli_tokens = (self.milli_tokens + MILLI).min(self.capacity);
        let spent = &mut self.spent[spend as usize];
        *spent = spent.saturating_sub(1);
    }

    /// Tokens spent on this since the start, refunds deducted.
    #[must_use]
    pub const fn spent(&self, spend: Spend) -> u64 {
        self.spent[spend as usize]
    }

    /// Whole retries that could be withdrawn now.
    #[must_use]
    pub const fn available(&self) -> u64 {
        self.milli_tokens / MILLI
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number between 0 and 100,000; a float that is not a number becomes 0"
)]
fn thousandths(value: f64) -> u64 {
    (value * 1000.0).round() as u64
}

#[cfg(test)]
mod tests;
