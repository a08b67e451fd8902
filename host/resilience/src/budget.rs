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

/// Tokens that first requests deposit and retries spend.
///
/// One budget serves everything that repeats work: retries, hedges, and attempts at fallback
/// upstreams. Withdraw when the retry is decided on, before its wait, so that retries waiting in
/// backoff count too. Over any span the retries number at most `ratio` times the first requests
/// plus what was saved up, which never exceeds `capacity`.
#[derive(Clone, Copy, Debug)]
pub struct RetryBudget {
    milli_tokens: u64,
    deposit: u64,
    capacity: u64,
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
        Self { milli_tokens: reserve * MILLI, deposit, capacity: capacity * MILLI }
    }

    /// Notes a first request, whatever becomes of it. Retries deposit nothing.
    pub fn deposit(&mut self) {
        self.milli_tokens = (self.milli_tokens + self.deposit).min(self.capacity);
    }

    /// Takes a token for one retry or hedge; `false` when there is none, and nothing is taken. Work
    /// already in flight is never affected.
    #[must_use]
    pub fn try_withdraw(&mut self) -> bool {
        let left = self.milli_tokens.checked_sub(MILLI);
        self.milli_tokens = left.unwrap_or(self.milli_tokens);
        left.is_some()
    }

    /// Returns the token of a retry that was never sent.
    pub fn refund(&mut self) {
        self.milli_tokens = (self.milli_tokens + MILLI).min(self.capacity);
    }

    /// Whole retries that could be withdrawn now.
    #[must_use]
    pub const fn available(&self) -> u64 {
        self.milli_tokens / MILLI
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(ratio: f64, reserve: u32, capacity: u32) -> RetryBudget {
        RetryBudget::new(RetryBudgetSettings { ratio, reserve, capacity })
    }

    fn withdraw_all(budget: &mut RetryBudget) -> u32 {
        (0..).find(|_| !budget.try_withdraw()).unwrap()
    }

    #[test]
    fn case_28_ten_deposits_at_a_ratio_of_six_tenths_pay_for_six_retries() {
        let mut budget = budget(0.6, 0, 100);
        (0..10).for_each(|_| budget.deposit());
        assert_eq!(withdraw_all(&mut budget), 6);
    }

    #[test]
    fn case_31_a_retry_counts_from_its_decision_and_is_refunded_when_never_sent() {
        let mut budget = budget(0.1, 1, 10);
        assert!(budget.try_withdraw());
        assert!(!budget.try_withdraw(), "the first one still waits in backoff");
        budget.refund();
        assert!(budget.try_withdraw());
    }

    #[test]
    fn case_32_an_empty_budget_refills_with_traffic() {
        let mut budget = budget(0.1, 3, 10);
        assert_eq!(withdraw_all(&mut budget), 3);
        (0..9).for_each(|_| budget.deposit());
        assert!(!budget.try_withdraw());
        budget.deposit();
        assert!(budget.try_withdraw());
    }

    #[test]
    fn amplification_stays_at_a_tenth_in_a_total_outage() {
        let mut budget = RetryBudget::new(RetryBudgetSettings::default());
        let mut retries = 0;
        for _ in 0..10_000 {
            budget.deposit();
            retries += withdraw_all(&mut budget);
        }
        assert_eq!(retries, 1_003, "a tenth of the requests, and the reserve once");
    }

    #[test]
    fn savings_stop_at_the_capacity() {
        let mut budget = budget(1.0, 0, 10);
        (0..1_000).for_each(|_| budget.deposit());
        assert_eq!(budget.available(), 10);
        budget.refund();
        assert_eq!(budget.available(), 10);
        assert_eq!(withdraw_all(&mut budget), 10);
    }

    #[test]
    fn every_mistake_is_listed_and_survived() {
        let broken = RetryBudgetSettings { ratio: f64::NAN, reserve: 5, capacity: 0 };
        let fields: Vec<_> = broken.validate().into_iter().map(|m| m.field).collect();
        assert_eq!(fields, ["ratio", "capacity", "reserve"]);
        let mut budget = RetryBudget::new(broken);
        budget.deposit();
        assert_eq!(withdraw_all(&mut budget), 1);
        assert_eq!(RetryBudgetSettings::default().validate(), []);
    }
}
