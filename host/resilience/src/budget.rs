//! A budget that keeps retries a small share of the traffic, whatever fails.

use crate::Mistake;

/// Tokens are counted in thousandths, so that a ratio of 0.1 adds up without rounding.
const MILLI: u64 = 1000;

/// The numbers of a [`RetryBudget`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudgetSettings {
    /// Retries earned by each first request, 0 to 1, rounded to a thousandth. 0.1 allows one retry
    /// per ten requests.
    pub ratio: f64,
    /// Retries in hand at the start. They are granted once, not per second: a steady drip would
    /// multiply the few calls of a quiet upstream.
    pub reserve: u32,
    /// Most retries that can be saved up, and so the largest burst of retries when an outage
    /// begins.
    pub capacity: u32,
}

impl RetryBudgetSettings {
    /// One retry per ten requests: at most 1.1 upstream calls per request in a total outage.
    pub const DEFAULT_RATIO: f64 = 0.1;
    /// Enough for one request of a fresh process to use its attempts.
    pub const DEFAULT_RESERVE: u32 = 3;
    /// What a hundred good requests earn; more would make the first seconds of an outage costly.
    pub const DEFAULT_CAPACITY: u32 = 10;
    /// Highest allowed `capacity`: a larger one bounds nothing.
    pub const CAPACITY_MAX: u32 = 1_000_000;

    /// Every mistake in these settings; none when they are sound.
    #[must_use]
    pub fn validate(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        Mistake::unless(
            &mut mistakes,
            (0.0..=1.0).contains(&self.ratio),
            "ratio",
            format!("{} must lie between 0 and 1", self.ratio),
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
        Self { ratio: Self::DEFAULT_RATIO, reserve: Self::DEFAULT_RESERVE, capacity: Self::DEFAULT_CAPACITY }
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

/// Tokens that first requests deposit and retries spend.
///
/// One budget serves everything that repeats work: retries, hedges, and attempts at fallback
/// upstreams. It knows no modes: whatever the breaker's state and whatever may spend, each first
/// request deposits. Withdraw when the retry is decided on, before its wait, so that retries waiting in
/// backoff count too. Over any span the retries number at most `ratio` times the first requests
/// plus what was saved up, which never exceeds `capacity`.
#[derive(Clone, Copy, Debug)]
pub struct RetryBudget {
    milli_tokens: u64,
    deposit: u64,
    capacity: u64,
    spent: [u64; Spend::ALL.len()],
}

impl RetryBudget {
    /// A budget holding its reserve. A setting outside its range is brought to the nearer end.
    #[must_use]
    pub fn new(settings: RetryBudgetSettings) -> Self {
        let capacity = u64::from(settings.capacity.clamp(1, RetryBudgetSettings::CAPACITY_MAX));
        let reserve = u64::from(settings.reserve).min(capacity);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number between 0 and 1000; a float that is not a number becomes 0"
        )]
        let deposit = (settings.ratio.clamp(0.0, 1.0) * 1000.0).round() as u64;
        Self { milli_tokens: reserve * MILLI, deposit, capacity: capacity * MILLI, spent: [0; Spend::ALL.len()] }
    }

    /// Notes a first request, whatever becomes of it. Retries deposit nothing.
    pub fn deposit(&mut self) {
        self.milli_tokens = (self.milli_tokens + self.deposit).min(self.capacity);
    }

    /// Takes a token for one piece of repeated work; `false` when there is none, and nothing is
    /// taken. Work already in flight is never affected.
    #[must_use]
    pub fn try_spend(&mut self, spend: Spend) -> bool {
        let Some(left) = self.milli_tokens.checked_sub(MILLI) else {
            return false;
        };
        self.milli_tokens = left;
        self.spent[spend as usize] += 1;
        true
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

#[cfg(test)]
mod tests;
