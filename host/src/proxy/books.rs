//! What a worker needs to keep the ledger: its journal, and the prices that it has looked up.

use crate::ledger::{Journal, Subject};
use crate::prices::{Date, OwnedQuote, Prices};
use crate::proxy::app::App;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// Most prices that a worker remembers. Beyond it all are looked up again.
const REMEMBERED_MAX: usize = 1_024;

/// An upstream and a model.
type About = (Arc<str>, Arc<str>);

/// One worker's.
#[derive(Debug)]
pub(crate) struct Books {
    pub journal: Rc<Journal>,
    quotes: RefCell<Quotes>,
}

#[derive(Debug, Default)]
struct Quotes {
    /// By which prices, and of which day, they are.
    prices: Option<(Arc<Prices>, Date)>,
    found: HashMap<About, Option<Rc<OwnedQuote>>>,
}

impl Books {
    pub(super) fn new(journal: Rc<Journal>) -> Books {
        Books { journal, quotes: RefCell::default() }
    }

    /// What the tokens of a call cost at this moment; `None` where nobody here knows.
    pub(super) fn quote(&self, app: &App, subject: &Subject, now_ms: u64) -> Option<Rc<OwnedQuote>> {
        let today = Date::of(UNIX_EPOCH + Duration::from_millis(now_ms));
        let prices = app.prices.load();
        let mut quotes = self.quotes.borrow_mut();
        let are_current =
            quotes.prices.as_ref().is_some_and(|(known, day)| Arc::ptr_eq(known, &prices) && *day == today);
        if !are_current || quotes.found.len() >= REMEMBERED_MAX {
            *quotes = Quotes { prices: Some((Arc::clone(&prices), today)), found: HashMap::new() };
        }
        let about = (Arc::clone(&subject.upstream), Arc::clone(&subject.model));
        let found = quotes.found.entry(about).or_insert_with_key(|(upstream, model)| {
            prices.price(upstream, model, today).map(|quote| Rc::new(quote.to_owned()))
        });
        found.clone()
    }
}
