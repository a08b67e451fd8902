//! A limit as people write it: `"1000 requests per minute"`, `"$500 per month"`, `"20 calls in flight"`.

use spillway_resilience::{Allowance, Force, Measure, Period};
use std::fmt;

/// Pico-dollars of one dollar.
const DOLLAR: u128 = 1_000_000_000_000;
/// Digits behind a dollar's point that are read: a millionth of a millionth.
const FRACTION_DIGITS: usize = 12;
/// Largest amount that is read, in units or in dollars: no purse and no quota comes near it.
const AMOUNT_MAX: u128 = 1_000_000_000_000_000;
/// What can be written, for whoever has written something else.
const EXAMPLES: &str = "write a limit as \"1000 requests per minute\", \"2_000_000 tokens per day\", \
                        \"500_000 output tokens per hour\", \"$500 per month\", \"$5 in total\" or \"20 calls in flight\"";

/// A limit that refuses whatever is beyond it, unless its place says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What it counts.
    pub measure: Measure,
    /// How much of it; money in pico-dollars.
    pub amount: u128,
    /// In which time. [`Period::Total`] for calls in flight.
    pub period: Period,
}

impl Limit {
    /// Reads a limit.
    ///
    /// # Errors
    /// What cannot be understood, and how limits are written.
    pub fn parse(text: &str) -> Result<Limit, String> {
        let words = text.replace('/', " per ").to_ascii_lowercase();
        let words: Vec<&str> = words.split_whitespace().collect();
        let (period, of_what) = match words.as_slice() {
            [what @ .., "in", "flight"] => (None, what),
            [what @ .., "per", period] => (Some(period_named(period)?), what),
            [what @ .., "in", "total"] => (Some(Period::Total), what),
            _ => return Err(format!("says no time; {EXAMPLES}")),
        };
        let Some((amount, of_what)) = of_what.split_first() else {
            return Err(format!("says no amount; {EXAMPLES}"));
        };
        let (measure, amount) = match (amount.strip_prefix('$'), of_what, period) {
            (Some(dollars), [] | ["usd"], Some(_)) => (Measure::Cost, pico_dollars(dollars)?),
            (None, ["usd" | "dollar" | "dollars"], Some(_)) => (Measure::Cost, pico_dollars(amount)?),
            (None, ["calls" | "call" | "requests" | "request"], None) => (Measure::InFlight, whole(amount)?),
            (None, ["requests" | "request"], Some(_)) => (Measure::Requests, whole(amount)?),
            (None, ["tokens" | "token"], Some(_)) => (Measure::Tokens, whole(amount)?),
            (None, ["input", "tokens"], Some(_)) => (Measure::InputTokens, whole(amount)?),
            (None, ["output", "tokens"], Some(_)) => (Measure::OutputTokens, whole(amount)?),
            _ => return Err(format!("names nothing that is counted; {EXAMPLES}")),
        };
        Ok(Limit { measure, amount, period: period.unwrap_or(Period::Total) })
    }

    /// The same for whoever decides by it.
    pub fn with_force(self, force: Force) -> Allowance {
        let Limit { measure, amount, period } = self;
        Allowance { measure, amount, period, force }
    }
}

impl From<Allowance> for Limit {
    fn from(allowance: Allowance) -> Limit {
        let Allowance { measure, amount, period, .. } = allowance;
        Limit { measure, amount, period }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&amount_in_words(self.measure, self.amount))?;
        match (self.measure, self.period) {
            (Measure::InFlight, _) => Ok(()),
            (_, Period::Total) => f.write_str(" in total"),
            (_, period) => write!(f, " per {}", period.as_str()),
        }
    }
}

/// So much of a measure: `1000 requests`, `$4.20`.
pub fn amount_in_words(measure: Measure, amount: u128) -> String {
    match measure {
        Measure::Cost => dollars_in_words(amount),
        measure => format!("{amount} {}", measure.as_str()),
    }
}

/// Pico-dollars as dollars, with at least two digits behind the point and no zeros behind those.
pub fn dollars_in_words(pico_dollars: u128) -> String {
    let fraction = format!("{:0FRACTION_DIGITS$}", pico_dollars % DOLLAR);
    let digits = fraction.trim_end_matches('0').len().max(2);
    format!("${}.{}", pico_dollars / DOLLAR, &fraction[..digits])
}

fn period_named(word: &str) -> Result<Period, String> {
    let named = Period::ALL.into_iter().find(|period| *period != Period::Total && period.as_str() == word);
    named.ok_or_else(|| format!("{word:?} is no time; there are minute, hour, day and month, and \"in total\""))
}

fn whole(text: &str) -> Result<u128, String> {
    let digits: String = text.chars().filter(|letter| *letter != '_').collect();
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|number| is_number && (1..=AMOUNT_MAX).contains(number));
    number.ok_or_else(|| format!("{text:?} is no whole number from 1 to {AMOUNT_MAX}; {EXAMPLES}"))
}

fn pico_dollars(text: &str) -> Result<u128, String> {
    let wrong =
        || format!("{text:?} is no amount of dollars above 0, with at most {FRACTION_DIGITS} digits behind the point");
    let digits: String = text.chars().filter(|letter| *letter != '_').collect();
    let (dollars, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(dollars) || !are_digits(fraction) || fraction.len() > FRACTION_DIGITS || dollars.len() > 15 {
        return Err(wrong());
    }
    let dollars: u128 = if dollars.is_empty() { 0 } else { dollars.parse().map_err(|_| wrong())? };
    let fraction: u128 = format!("{fraction:0<FRACTION_DIGITS$}").parse().map_err(|_| wrong())?;
    let amount = dollars.saturating_mul(DOLLAR).saturating_add(fraction);
    if amount == 0 { Err(wrong()) } else { Ok(amount) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limit(measure: Measure, amount: u128, period: Period) -> Limit {
        Limit { measure, amount, period }
    }

    #[test]
    fn a_limit_is_read_as_people_write_it_and_written_so_again() {
        use Measure as M;
        use Period as P;
        for (text, expected, written) in [
            ("1000 requests per minute", limit(M::Requests, 1_000, P::Minute), "1000 requests per minute"),
            ("1 Request/Hour", limit(M::Requests, 1, P::Hour), "1 requests per hour"),
            ("2_000_000 tokens per day", limit(M::Tokens, 2_000_000, P::Day), "2000000 tokens per day"),
            ("5 input tokens per month", limit(M::InputTokens, 5, P::Month), "5 input tokens per month"),
            ("5 output tokens in total", limit(M::OutputTokens, 5, P::Total), "5 output tokens in total"),
            ("$500 per month", limit(M::Cost, 500 * DOLLAR, P::Month), "$500.00 per month"),
            ("$0.000_000_000_001/day", limit(M::Cost, 1, P::Day), "$0.000000000001 per day"),
            ("$.5 in total", limit(M::Cost, DOLLAR / 2, P::Total), "$0.50 in total"),
            ("12.345 USD per day", limit(M::Cost, 12_345 * DOLLAR / 1_000, P::Day), "$12.345 per day"),
            ("20 calls in flight", limit(M::InFlight, 20, P::Total), "20 calls in flight"),
        ] {
            assert_eq!(Limit::parse(text), Ok(expected), "{text}");
            assert_eq!(expected.to_string(), written);
            assert_eq!(Limit::parse(written), Ok(expected), "{written}");
        }
    }

    #[test]
    fn what_cannot_be_understood_says_how_limits_are_written() {
        for (text, said) in [
            ("", "says no time"),
            ("per day", "says no amount"),
            ("1000 requests", "says no time"),
            ("1000 requests per week", "\"week\" is no time"),
            ("1000 apples per day", "names nothing that is counted"),
            ("0 requests per day", "is no whole number"),
            ("-5 tokens per day", "is no whole number"),
            ("1.5 tokens per day", "is no whole number"),
            ("$0 per day", "is no amount of dollars"),
            ("$1e3 per day", "is no amount of dollars"),
            ("$1.0000000000001 per day", "is no amount of dollars"),
            ("$5 in flight", "names nothing that is counted"),
            ("tokens per day", "names nothing that is counted"),
        ] {
            let error = Limit::parse(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_as_the_same(
            measure in 0..Measure::ALL.len(),
            amount in 1u128..1_000_000_000_000_000,
            period in 0..Period::ALL.len(),
        ) {
            let (measure, period) = (Measure::ALL[measure], Period::ALL[period]);
            let period = if measure == Measure::InFlight { Period::Total } else { period };
            let limit = limit(measure, amount, period);
            prop_assert_eq!(Limit::parse(&limit.to_string()), Ok(limit));
        }

        #[test]
        fn no_text_is_too_odd_to_be_read(text in "\\PC{0,40}") {
            let _ = Limit::parse(&text);
        }
    }
}
