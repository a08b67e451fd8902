//! Looking for the price of a model: in the operator's own file, in a file of LiteLLM's form, and in what comes along.

use super::built_in::{BUILT_IN, BuiltIn};
use super::date::Date;
use super::files::Read;
use super::names::names;
use super::own::{Asked, Row, Says};
use super::price::{Factor, Price, Quote, Rates};
use super::source::Source;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

/// What OpenRouter puts behind the name of a model that costs nothing.
const FREE_VARIANT: &str = ":free";

static FREE: LazyLock<Price> = LazyLock::new(|| Price::of(Rates::default(), Vec::new()));

/// On which terms an upstream sells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Whose prices it asks, as LiteLLM's table calls them; `None` where that is not known.
    pub(crate) vendor: Option<Cow<'static, str>>,
    /// What the prices of tables are multiplied by there. What the operator's own file says is what is paid.
    pub(crate) factor: Factor,
    /// Whether nothing costs anything there.
    pub(crate) is_free: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Terms { vendor: None, factor: Factor::ONE, is_free: false }
    }
}

/// All prices that are known, and on which terms each upstream sells. It never changes: what is read anew is another
/// one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prices {
    terms: BTreeMap<String, Terms>,
    files: Read,
}

impl Prices {
    /// Of these upstreams, by what was read of the operator's files.
    pub(crate) fn new(terms: BTreeMap<String, Terms>, files: Read) -> Prices {
        Prices { terms, files }
    }

    /// The same terms with other files.
    pub(crate) fn with_files(&self, files: Read) -> Prices {
        Prices { terms: self.terms.clone(), files }
    }

    /// What a model costs at an upstream on a day: `model` is the name that the provider is sent. `None` where nobody
    /// here knows; then it is unpriced, and not free.
    pub(crate) fn price(&self, upstream: &str, model: &str, at: Date) -> Option<Quote<'_>> {
        let of_nobody = Terms::default();
        let terms = self.terms.get(upstream).unwrap_or(&of_nobody);
        let vendor = terms.vendor.as_deref();
        if terms.is_free || vendor == Some("openrouter") && model.ends_with(FREE_VARIANT) {
            return Some(Quote { price: &FREE, factor: Factor::ONE, source: Source::Free });
        }
        let asked = Asked { upstream, vendor, at };
        let names = names(vendor, model);
        if let Some((file, own)) = &self.files.own
            && let Some(row) = own.find(&names, asked, true)
        {
            return self.of_row(file, row, asked, terms.factor);
        }
        self.of_tables(&names, asked, terms.factor)
    }

    fn of_row<'p>(&'p self, file: &'p Path, row: &'p Row, asked: Asked<'_>, factor: Factor) -> Option<Quote<'p>> {
        let own = |row: &'p Row| Source::Own { file, line: row.line, valid_from: row.valid_from() };
        match &row.says {
            Says::Price(price) => Some(Quote { price, factor: Factor::ONE, source: own(row) }),
            Says::Like(other) => {
                let names = names(asked.vendor, other);
                let (_, of_file) = self.files.own.as_ref()?;
                if let Some(Row { says: Says::Price(price), .. }) = of_file.find(&names, asked, false) {
                    return Some(Quote { price, factor: Factor::ONE, source: own(row) });
                }
                self.of_tables(&names, asked, factor)
            }
        }
    }

    fn of_tables(&self, names: &[Cow<'_, str>], asked: Asked<'_>, factor: Factor) -> Option<Quote<'_>> {
        if let Some((file, table)) = &self.files.litellm
            && let Some(price) = names.iter().find_map(|name| table.get(name))
        {
            return Some(Quote { price, factor, source: Source::LiteLlm { file } });
        }
        let BuiltIn { corrections, table, as_of } = &*BUILT_IN;
        let as_of = *as_of;
        if let Some(row) = corrections.find(names, asked, false)
            && let Says::Price(price) = &row.says
        {
            let source = Source::BuiltIn { as_of, valid_from: row.valid_from() };
            return Some(Quote { price, factor, source });
        }
        let price = names.iter().find_map(|name| table.get(name))?;
        Some(Quote { price, factor, source: Source::BuiltIn { as_of, valid_from: None } })
    }

    /// On which terms an upstream sells.
    pub(crate) fn terms(&self, upstream: &str) -> Option<&Terms> {
        self.terms.get(upstream)
    }

    /// When the table that comes along was taken, and how many models it knows.
    pub(crate) fn built_in() -> (Date, usize) {
        (BUILT_IN.as_of, BUILT_IN.table.len())
    }

    /// Names of models in whatever is known here that hold this text, in order, and each once.
    pub(crate) fn names_with(&self, text: &str) -> Vec<String> {
        let text = text.to_ascii_lowercase();
        let of_own = self.files.own.iter().flat_map(|(_, own)| own.rows.iter().map(Row::model));
        let of_litellm = self.files.litellm.iter().flat_map(|(_, table)| table.names());
        let of_built_in = BUILT_IN.table.names().chain(BUILT_IN.corrections.rows.iter().map(Row::model));
        let all = of_own.chain(of_litellm).chain(of_built_in).filter(|name| name.contains(&text));
        let all: std::collections::BTreeSet<&str> = all.collect();
        all.into_iter().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests;
