//! An allowance in the words of headers, in which callers are told what is left of it.

use crate::dialect::rate_headers::{Counted, Left, Told};
use spillway_resilience::{Allowance, Exhausted, Force, Measure, Period};
use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

const PICODOLLARS_PER_MICRODOLLAR: u128 = 1_000_000;

/// One of an account's allowances that refuse calls: of no others is told, since they keep nobody from anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusing {
    /// Its place among its account's.
    pub index: usize,
    allowance: Allowance,
    told: Told,
}

/// Those of an account's allowances that refuse calls.
pub(super) fn refusing(whose: &dyn Display, allowances: &[Allowance]) -> Box<[Refusing]> {
    let refusing = allowances.iter().enumerate().filter(|(_, allowance)| allowance.force == Force::Refuses);
    refusing.map(|(index, allowance)| Refusing { index, allowance: *allowance, told: told(whose, allowance) }).collect()
}

impl Refusing {
    /// What is left of it; `None` where something else has taken its place meanwhile.
    pub(super) fn left(&self, standing: &Exhausted, now_ms: u64) -> Option<Left<'_>> {
        (standing.allowance == self.allowance).then(|| Left {
            told: Cow::Borrowed(&self.told),
            remaining: counted(self.allowance.measure, standing.left()).1,
            reset: Duration::from_millis(refills_in_ms(standing, now_ms).unwrap_or(0)),
        })
    }
}

/// Milliseconds until an allowance is whole again; `None` where time alone changes nothing.
pub(super) fn refills_in_ms(standing: &Exhausted, now_ms: u64) -> Option<u64> {
    let until = |unix_s: i64| u64::try_from(unix_s).unwrap_or(0).saturating_mul(1_000).saturating_sub(now_ms);
    standing.refills_unix_s.map(until)
}

fn told(whose: &dyn Display, allowance: &Allowance) -> Told {
    let &Allowance { measure, amount, period, .. } = allowance;
    let (counted, limit) = counted(measure, amount);
    let (window, within) = match (measure, window(period)) {
        (Measure::InFlight, _) => (None, String::new()),
        (_, None) => (None, " in total".to_owned()),
        (_, Some(window)) => (Some(window), format!(" per {}", period.as_str())),
    };
    Told::new(&format!("{whose}: {}{within}", measure.as_str()), counted, limit, window)
}

/// As what headers count a measure, and this much of it.
fn counted(measure: Measure, amount: u128) -> (Counted, u64) {
    let (counted, amount) = match measure {
        Measure::Requests => (Counted::Requests, amount),
        Measure::InputTokens => (Counted::InputTokens, amount),
        Measure::OutputTokens => (Counted::OutputTokens, amount),
        Measure::Tokens => (Counted::Tokens, amount),
        Measure::Cost => (Counted::Microdollars, amount / PICODOLLARS_PER_MICRODOLLAR),
        Measure::InFlight => (Counted::InFlight, amount),
    };
    (counted, u64::try_from(amount).unwrap_or(u64::MAX))
}

/// How long a period is, a month as long as most are.
const fn window(period: Period) -> Option<Duration> {
    const DAY_S: u64 = 24 * 3_600;
    match period {
        Period::Minute => Some(Duration::from_secs(60)),
        Period::Hour => Some(Duration::from_secs(3_600)),
        Period::Day => Some(Duration::from_secs(DAY_S)),
        Period::Month => Some(Duration::from_secs(30 * DAY_S)),
        Period::Total => None,
    }
}
