//! What is reserved for one call, until it is known what it has cost: settled once, whatever becomes of the call.

use super::accounts::{Payer, Standing};
use super::entry::{Booked, Counts, Length, Mark, Name};
use super::journal::{Going, Journal};
use super::{Ledger, whole_seconds};
use spillway_resilience::{Amounts, Asked, Held};
use std::rc::Rc;
use std::sync::Arc;

/// What a call is about, as the ledger names it. Empty names are none.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub payer: Arc<Payer>,
    pub tenant: Arc<str>,
    pub upstream: Arc<str>,
    pub model: Arc<str>,
    pub label: Arc<str>,
}

impl Subject {
    fn names(&self) -> [&Arc<str>; Name::COUNT] {
        let Subject { payer, tenant, upstream, model, label } = self;
        [&payer.key, &payer.group, tenant, upstream, model, label]
    }
}

/// What a call has cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    pub booked: Booked,
    /// In money, as far as it has a price.
    pub pico_dollars: u128,
}

impl Cost {
    fn amounts(&self, requests: u64) -> Amounts {
        let Counts { input, output, .. } = self.booked.counts;
        Amounts { requests, input_tokens: input, output_tokens: output, cost_pico_dollars: self.pico_dollars }
    }
}

/// A call's reservation. Dropped before the call goes out, or behind a call that nobody counts, it costs nothing;
/// behind any other call, what was estimated.
#[derive(Debug)]
pub(crate) struct Hold {
    ledger: Arc<Ledger>,
    journal: Rc<Journal>,
    number: u64,
    /// `None` once it is settled.
    held: Option<Held>,
    is_first: bool,
    is_counted: bool,
    /// Whether anything was booked of it already.
    is_booked: bool,
}

impl Hold {
    /// Reserves at this moment what a call may cost, and writes it down. `is_first` for the first call of its request:
    /// the others are no requests.
    ///
    /// # Errors
    /// The allowance that is in the way.
    pub(super) fn new(
        ledger: &Arc<Ledger>,
        journal: &Rc<Journal>,
        subject: &Subject,
        asked: &Asked,
        is_first: bool,
        now_ms: u64,
    ) -> Result<Hold, Box<Standing>> {
        let held = ledger.accounts.reserve(&subject.payer, asked, now_ms)?;
        let Amounts { input_tokens, output_tokens, .. } = held.amounts();
        let number = journal.open(&Going {
            at_unix_s: whole_seconds(now_ms),
            names: subject.names(),
            is_first,
            input: input_tokens,
            output: output_tokens,
        });
        Ok(Hold {
            ledger: Arc::clone(ledger),
            journal: Rc::clone(journal),
            number,
            held: Some(held),
            is_first,
            is_counted: false,
            is_booked: false,
        })
    }

    /// A call goes out: from here on its provider may bill it, answered or not.
    pub(crate) fn sent(&mut self) {
        self.is_counted = true;
    }

    /// The call has ended, and nobody bills it.
    pub(crate) fn not_counted(&mut self) {
        self.is_counted = false;
    }

    /// Books what a call that goes on has cost so far. What is booked so is not told again at its end.
    pub(crate) fn book(&mut self, cost: &Cost) {
        if let Some(held) = &self.held {
            self.is_booked = true;
            self.ledger.accounts.spend(held.account(), &cost.amounts(0));
            self.journal.book(self.number, self.ledger.unix_s(), cost.booked);
        }
    }

    /// Settles with what the call has cost.
    pub(crate) fn settle(mut self, cost: &Cost) {
        self.settle_once(Some(cost));
    }

    /// Settles by what is known: what was estimated for a call that was made and not counted, nothing for one that
    /// nobody bills. `mark` says why it is not known better.
    pub(crate) fn settle_as_estimated(mut self, mark: Mark) {
        self.settle_by_estimate(mark);
    }

    fn settle_by_estimate(&mut self, mark: Mark) {
        let Some(held) = &self.held else { return };
        let estimated = held.amounts();
        let is_known = self.is_booked || !self.is_counted;
        let counts = match is_known {
            true => Counts::default(),
            false => Counts { input: estimated.input_tokens, output: estimated.output_tokens, ..Counts::default() },
        };
        let cost = Cost {
            booked: Booked {
                mark: if self.is_booked { Mark::Reported } else { mark },
                counts,
                tier: 0,
                length: Length::of(counts.input),
            },
            pico_dollars: if is_known { 0 } else { estimated.cost_pico_dollars },
        };
        self.settle_once(self.is_counted.then_some(&cost));
    }

    fn settle_once(&mut self, cost: Option<&Cost>) {
        if let Some(held) = self.held.take() {
            let spent = cost.map_or_else(Amounts::default, |cost| cost.amounts(self.is_first.into()));
            self.ledger.accounts.settle(held, &spent);
            self.journal.close(self.number, cost.map(|cost| cost.booked));
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.settle_by_estimate(Mark::Estimated);
    }
}
