//! `[prices]`: the operator's own prices; and `[upstreams.NAME.prices]`: on which terms an upstream sells.

use super::Purpose;
use super::kind::{FileOrNone, Flag, Maybe, Number, Text};
use super::reader::Section;
use super::section::section;
use crate::dialect::Dialect;
use crate::prices::{self, Factor, PriceFiles, Terms};
use std::borrow::Cow;
use std::path::PathBuf;

section! {
    /// What tokens cost. Without a word here it is what a table says that comes along; `spillway prices` shows it.
    pub struct PricesConfig {
        /// Prices of your own, which come first: a TOML file with a table `[[price]]` for each model. It is read again
        /// when it changes.
        file: Option<PathBuf> = None, FileOrNone;
        /// LiteLLM's `model_prices_and_context_window.json`, which comes second: newer than what comes along, and wider.
        /// It is read again when it changes.
        litellm_file: Option<PathBuf> = None, FileOrNone;
    }
}

section! {
    /// On which terms an upstream sells.
    pub struct UpstreamPrices {
        /// Whether nothing costs anything there, as on a machine of your own.
        free: bool = false, Flag;
        /// What the prices of tables are multiplied by there: a discount, or what a gateway adds. Your own file says what
        /// is paid.
        factor: f64 = 1.0, Number(0.0..=Factor::MAX);
        /// Whose prices hold there, as LiteLLM's table calls them, such as `groq` or `azure`.
        vendor: Option<String> = None, Maybe(Text), shown as "by the host in `url`";
    }
}

impl PricesConfig {
    pub(super) fn read(section: Section<'_>) -> PricesConfig {
        let mut prices = PricesConfig::fresh(section.folder());
        prices.take(&section);
        if section.purpose() == Purpose::Serve {
            let of = |own: &Option<PathBuf>, litellm: &Option<PathBuf>| {
                PriceFiles { own: own.clone(), litellm: litellm.clone() }.read().err()
            };
            for (key, mistakes) in
                [("file", of(&prices.file, &None)), ("litellm_file", of(&None, &prices.litellm_file))]
            {
                if let Some(mistakes) = mistakes {
                    section.mistake(key, mistakes.to_string());
                }
            }
        }
        section.finish();
        prices
    }

    /// Where the operator's prices stand.
    pub(crate) fn files(&self) -> PriceFiles {
        PriceFiles { own: self.file.clone(), litellm: self.litellm_file.clone() }
    }
}

impl UpstreamPrices {
    pub(super) fn read(section: Section<'_>) -> UpstreamPrices {
        let mut prices = UpstreamPrices::fresh(section.folder());
        prices.take(&section);
        if prices.free && (section.has("factor") || section.has("vendor")) {
            section.mistake("free", "where nothing costs anything, factor and vendor mean nothing; leave them out");
        }
        section.finish();
        prices
    }

    /// The terms at an upstream that speaks this dialect at this host.
    pub(crate) fn terms(&self, host: &str, dialect: Dialect) -> Terms {
        let by_host = || prices::vendor(host, dialect).map(Cow::Borrowed);
        Terms {
            vendor: self.vendor.clone().map(Cow::Owned).or_else(by_host),
            factor: Factor::of(self.factor),
            is_free: self.free,
        }
    }
}
