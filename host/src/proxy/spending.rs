//! What a call is expected to cost, and has cost, for the ledger.

use crate::config::Unpriced;
use crate::dialect::{Operation, Tier, Usage};
use crate::ledger::{Booked, Cost, Hold, Length, Mark, Standing, Subject};
use crate::prices::OwnedQuote;
use crate::proxy::target::Target;
use crate::proxy::worker::Worker;
use spillway_resilience::{Amounts, Asked, Settlement};
use std::rc::Rc;
use std::sync::Arc;

/// What is reserved for a call, and what its tokens cost.
#[derive(Debug)]
pub(crate) struct Expense {
    hold: Hold,
    quote: Option<Rc<OwnedQuote>>,
    reads_answer: bool,
}

/// How a call has ended for which something is reserved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// What it means for limits: whether anybody counts the call.
    pub settlement: Settlement,
    /// What its provider has counted, or what was seen of it.
    pub usage: Option<Usage>,
    /// Whether that is all of it: a stream that was cut has counted less than it has cost.
    pub is_whole: bool,
}

impl Expense {
    /// Reserves what a call to this target may cost; nothing where no ledger is kept. `is_first` for the first call of
    /// its request that anybody counts.
    ///
    /// # Errors
    /// The allowance that is in the way.
    pub(super) fn reserve(worker: &Worker, target: &Target, is_first: bool) -> Result<Option<Expense>, Box<Standing>> {
        let (Some(ledger), Some(books)) = (&worker.app.ledger, &worker.books) else { return Ok(None) };
        let caller = &target.request.caller;
        let Some(payer) = &caller.payer else { return Ok(None) };
        let subject = Subject {
            payer: Arc::clone(payer),
            tenant: caller.name.clone().unwrap_or_default(),
            upstream: Arc::clone(&target.upstream.name),
            model: target.asked_model().unwrap_or_default(),
            label: worker.app.callers.labels.text(caller.label),
        };
        let reads_answer = target.request.operation == Operation::Generate;
        let now_ms = worker.app.clock.unix_ms();
        let quote = if reads_answer { books.quote(&worker.app, &subject, now_ms) } else { None };
        let asked = match reads_answer {
            true => most_of(target, quote.as_deref(), worker.app.config.ledger.unpriced),
            false => Asked { amounts: Amounts { requests: is_first.into(), ..Amounts::default() }, is_unpriced: false },
        };
        let hold = ledger.hold(&books.journal, &subject, &asked, is_first, now_ms)?;
        Ok(Some(Expense { hold, quote, reads_answer }))
    }

    /// The call goes out: from here on its provider may bill it, answered or not.
    pub(super) fn sent(&mut self) {
        self.hold.sent();
    }

    /// Books what a call that goes on has cost so far.
    pub(super) fn book(&mut self, usage: Usage) {
        let cost = self.cost(usage, Mark::Reported);
        self.hold.book(&cost);
    }

    /// Settles it.
    pub(super) fn settle(mut self, ended: &Ended) {
        match (ended.settlement, ended.usage) {
            (Settlement::Refund, _) => self.hold.not_counted(),
            (Settlement::Used(_) | Settlement::AsEstimated, Some(usage)) => {
                let mark = if ended.is_whole { Mark::Reported } else { Mark::Estimated };
                let cost = self.cost(usage, mark);
                self.hold.settle(&cost);
            }
            (Settlement::Used(_) | Settlement::AsEstimated, None) => {
                let mark = if self.reads_answer { Mark::Estimated } else { Mark::Unread };
                self.hold.settle_as_estimated(mark);
            }
        }
    }

    /// What this usage costs, in pico-dollars; `None` where nobody here knows.
    pub(super) fn price_of(&self, usage: &Usage) -> Option<u128> {
        self.quote.as_ref().map(|quote| quote.cost(usage))
    }

    fn cost(&self, usage: Usage, mark: Mark) -> Cost {
        let pico_dollars = self.price_of(&usage).unwrap_or(0);
        Cost {
            booked: Booked { mark, counts: usage.into(), tier: usage.tier.number(), length: Length::of(usage.input) },
            pico_dollars,
        }
    }
}

/// The most that a call to this target may cost.
fn most_of(target: &Target, quote: Option<&OwnedQuote>, unpriced: Unpriced) -> Asked {
    let input = target.estimate.input;
    let output = target.estimate.total.saturating_sub(input);
    let cost_pico_dollars = quote.map_or(0, |quote| quote.upper_bound(input, output, Tier::Standard));
    Asked {
        amounts: Amounts { requests: 1, input_tokens: input, output_tokens: output, cost_pico_dollars },
        is_unpriced: quote.is_none() && unpriced == Unpriced::Refuse,
    }
}
