//! How the ledger stands.

use crate::config::{Limit, amount_in_words};
use crate::ledger::{Ledger, Standing};
use serde::{Deserialize, Serialize};
use spillway_resilience::{Exhausted, Force, Measure};

/// Pico-dollars of a dollar: figures are in dollars.
const DOLLAR: f64 = 1e12;

/// What is spent, and may be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LedgerStatus {
    /// All limits, everybody's first.
    pub(crate) limits: Vec<LimitStatus>,
    /// Calls that limits which only watch would have refused.
    pub(crate) would_have_refused: u64,
    /// Why nothing is written at present, if so.
    pub(crate) trouble: Option<String>,
    /// Entries that a disk has not taken, and that are lost.
    pub(crate) lost: u64,
}

/// How a limit stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LimitStatus {
    /// Whose it is.
    pub(crate) of: String,
    /// As it is written.
    pub(crate) limit: String,
    /// Whether it refuses, warns or watches.
    pub(crate) force: String,
    /// How much it allows; money in dollars.
    pub(crate) amount: f64,
    /// What was spent of it by calls that have ended.
    pub(crate) spent: f64,
    /// What is reserved by those under way; of calls in flight, how many there are.
    pub(crate) open: f64,
    /// What is left, in words.
    pub(crate) left: String,
    /// Until it is whole again; `None` where time alone changes nothing.
    pub(crate) refills_in_ms: Option<u64>,
}

impl LedgerStatus {
    pub(super) fn of(ledger: &Ledger) -> LedgerStatus {
        LedgerStatus {
            limits: ledger.accounts.standings().iter().map(LimitStatus::of).collect(),
            would_have_refused: ledger.accounts.watched(),
            trouble: ledger.trouble(),
            lost: ledger.lost(),
        }
    }
}

impl LimitStatus {
    fn of(Standing { whose, exhausted, refills_in_ms, .. }: &Standing) -> LimitStatus {
        let Exhausted { allowance, spent, open, .. } = exhausted;
        let figure = |amount: u128| match allowance.measure {
            Measure::Cost => amount as f64 / DOLLAR,
            _ => amount as f64,
        };
        LimitStatus {
            of: whose.to_string(),
            limit: Limit::from(*allowance).to_string(),
            force: match allowance.force {
                Force::Refuses => "refuses",
                Force::Warns => "warns",
                Force::Watches => "watches",
            }
            .to_owned(),
            amount: figure(allowance.amount),
            spent: figure(*spent),
            open: figure(*open),
            left: amount_in_words(allowance.measure, exhausted.left()),
            refills_in_ms: *refills_in_ms,
        }
    }
}
