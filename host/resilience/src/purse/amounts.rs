//! What a call costs, and in what an allowance counts it.

/// What calls cost, or may cost: each of it counts for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Requests.
    pub requests: u64,
    /// Tokens of prompts, cached ones included.
    pub input_tokens: u64,
    /// Tokens of answers, reasoning included.
    pub output_tokens: u64,
    /// Money, in millionths of a millionth of a dollar: what a token costs at a price of one micro-dollar per million.
    pub cost_pico_dollars: u128,
}

impl Amounts {
    /// How much it is in one measure. [`Measure::InFlight`] is no amount: it is 0.
    #[must_use]
    pub fn of(&self, measure: Measure) -> u128 {
        match measure {
            Measure::Requests => self.requests.into(),
            Measure::InputTokens => self.input_tokens.into(),
            Measure::OutputTokens => self.output_tokens.into(),
            Measure::Tokens => u128::from(self.input_tokens) + u128::from(self.output_tokens),
            Measure::Cost => self.cost_pico_dollars,
            Measure::InFlight => 0,
        }
    }

    /// Both together, each at most as large as can be written.
    #[must_use]
    pub fn plus(&self, other: &Amounts) -> Amounts {
        Amounts {
            requests: self.requests.saturating_add(other.requests),
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cost_pico_dollars: self.cost_pico_dollars.saturating_add(other.cost_pico_dollars),
        }
    }

    /// What is left without the other, each at least 0.
    #[must_use]
    pub fn minus(&self, other: &Amounts) -> Amounts {
        Amounts {
            requests: self.requests.saturating_sub(other.requests),
            input_tokens: self.input_tokens.saturating_sub(other.input_tokens),
            output_tokens: self.output_tokens.saturating_sub(other.output_tokens),
            cost_pico_dollars: self.cost_pico_dollars.saturating_sub(other.cost_pico_dollars),
        }
    }
}

/// What an allowance counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Requests, however many attempts they take.
    Requests,
    /// Tokens of prompts.
    InputTokens,
    /// Tokens of answers.
    OutputTokens,
    /// Both.
    Tokens,
    /// Money, in pico-dollars.
    Cost,
    /// Calls that are under way at the same time.
    InFlight,
}

impl Measure {
    /// All of them.
    pub const ALL: [Measure; 6] = [
        Measure::Requests,
        Measure::InputTokens,
        Measure::OutputTokens,
        Measure::Tokens,
        Measure::Cost,
        Measure::InFlight,
    ];

    /// Its words, as a limit is written: `"1000 requests per minute"`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Measure::Requests => "requests",
            Measure::InputTokens => "input tokens",
            Measure::OutputTokens => "output tokens",
            Measure::Tokens => "tokens",
            Measure::Cost => "cost",
            Measure::InFlight => "calls in flight",
        }
    }
}

/// Over which time an allowance counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// Each minute of the clock.
    Minute,
    /// Each hour of the clock.
    Hour,
    /// Each day of the calendar.
    Day,
    /// Each month of the calendar.
    Month,
    /// For ever.
    Total,
}

impl Period {
    /// All of them, shortest first.
    pub const ALL: [Period; 5] = [Period::Minute, Period::Hour, Period::Day, Period::Month, Period::Total];

    /// Its place in [`Period::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Period::Minute => 0,
            Period::Hour => 1,
            Period::Day => 2,
            Period::Month => 3,
            Period::Total => 4,
        }
    }

    /// Its word, as a limit is written: `"per minute"`, `"in total"`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Period::Minute => "minute",
            Period::Hour => "hour",
            Period::Day => "day",
            Period::Month => "month",
            Period::Total => "total",
        }
    }
}

/// The part of a period's time in which something falls: this minute, this month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first second, since 1970.
    pub starts_unix_s: i64,
    /// The first second behind it.
    pub ends_unix_s: i64,
}

/// The window of each period in which a moment falls, by whatever calendar the caller goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar([Span; Period::ALL.len()]);

impl Calendar {
    /// These of minute, hour, day and month. There is one window in total.
    #[must_use]
    pub const fn new(minute: Span, hour: Span, day: Span, month: Span) -> Calendar {
        Calendar([minute, hour, day, month, Span { starts_unix_s: i64::MIN, ends_unix_s: i64::MAX }])
    }

    /// That of a period.
    #[must_use]
    pub const fn of(&self, period: Period) -> Span {
        self.0[period.index()]
    }

    /// The later one of each: a window that has begun never comes back, whatever a clock says.
    #[must_use]
    pub(super) fn latest(self, other: Calendar) -> Calendar {
        let mut latest = self;
        for (window, other) in latest.0.iter_mut().zip(other.0) {
            if other.starts_unix_s > window.starts_unix_s {
                *window = other;
            }
        }
        latest
    }
}
