//! Prices as the operator writes them: a TOML file with a table `[[price]]` for each model, in dollars per million
//! tokens. The corrections of the table that comes along are written the same way.

use super::date::Date;
use super::money;
use super::price::{Price, Said, Step};
use crate::dialect::Tier;
use std::borrow::Cow;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Largest file that is read.
pub(super) const FILE_BYTES_MAX: u64 = 4 << 20;
/// Most prices that a file may have: each is looked at for each request.
const ROWS_MAX: usize = 1_000;

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Line in the file, from 1.
    pub(crate) line: usize,
    /// What is wrong, and what would be right.
    pub(crate) message: String,
}

/// All prices of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    pub(super) rows: Vec<Row>,
}

/// A price, and of what it is one.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) line: usize,
    /// A model's name in small letters; with an asterisk at its end, all that begin so.
    model: String,
    upstream: Option<String>,
    vendor: Option<String>,
    valid_from: Option<Date>,
    pub(super) says: Says,
}

/// What a row says.
#[derive(Clone, Debug)]
pub(super) enum Says {
    /// This is the price.
    Price(Price),
    /// It costs what this model costs.
    Like(String),
}

/// For whom a price is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) upstream: &'a str,
    pub(super) vendor: Option<&'a str>,
    pub(super) at: Date,
}

impl Own {
    /// The row that counts for a model with these names, the most exact of which comes first.
    ///
    /// A row that names the model comes before one that names its beginning, and a longer beginning before a shorter
    /// one; one for this upstream or vendor before one for all; the one that is valid since later; and of two that are
    /// alike the later one. `Like` is not followed where a price is looked for that another row points to.
    pub(super) fn find(&self, names: &[Cow<'_, str>], asked: Asked<'_>, follows_likes: bool) -> Option<&Row> {
        let rank = |row: &&Row| {
            let (is_named, exactness) = row.matches(names)?;
            Some((is_named, exactness, row.upstream.is_some(), row.vendor.is_some(), row.valid_from))
        };
        let is_meant = |row: &&Row| row.is_for(asked) && (follows_likes || matches!(row.says, Says::Price(_)));
        let ranked = self.rows.iter().filter(is_meant).filter_map(|row| Some((rank(&row)?, row)));
        ranked.max_by_key(|(rank, _)| *rank).map(|(_, row)| row)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Every mistake in it.
    pub(super) fn read(text: &str) -> Result<Own, Vec<Mistake>> {
        let mut reader = Reader { text, mistakes: Vec::new() };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            reader.note(&error.span().unwrap_or_default(), error.message());
        }
        let mut own = Own::default();
        for (key, value) in table.get_ref() {
            match (&**key.get_ref(), value.get_ref()) {
                ("price", DeValue::Array(rows)) => {
                    for row in rows.iter() {
                        own.rows.extend(reader.row(row));
                    }
                }
                ("price", _) => reader.note(&value.span(), "each price begins with [[price]]"),
                (other, _) => reader.note(&key.span(), format!("unknown: {other}; each price begins with [[price]]")),
            }
        }
        if own.rows.len() > ROWS_MAX {
            let place = own.rows.get(ROWS_MAX).map_or(1, |row| row.line);
            let message = format!("more than {ROWS_MAX} prices; a name with * at its end stands for all that begin so");
            reader.mistakes.push(Mistake { line: place, message });
        }
        reader.mistakes.sort_by_key(|mistake| mistake.line);
        if reader.mistakes.is_empty() { Ok(own) } else { Err(reader.mistakes) }
    }
}

impl Row {
    fn is_for(&self, asked: Asked<'_>) -> bool {
        self.upstream.as_deref().is_none_or(|upstream| upstream == asked.upstream)
            && self.vendor.as_deref().is_none_or(|vendor| asked.vendor == Some(vendor))
            && self.valid_from.is_none_or(|from| from <= asked.at)
    }

    /// Whether it names one of these names rather than their beginning, and how exactly.
    fn matches(&self, names: &[Cow<'_, str>]) -> Option<(bool, usize)> {
        match self.model.strip_suffix('*') {
            Some(beginning) => names.iter().any(|name| name.starts_with(beginning)).then_some((false, beginning.len())),
            None => names.iter().position(|name| **name == *self.model).map(|at| (true, names.len() - at)),
        }
    }

    /// The model's name as the file has it, in small letters.
    pub(super) fn model(&self) -> &str {
        &self.model
    }

    /// The first day on which it is the price, if one is named.
    pub(super) fn valid_from(&self) -> Option<Date> {
        self.valid_from
    }
}

/// Reads TOML and keeps every mistake.
struct Reader<'t> {
    text: &'t str,
    mistakes: Vec<Mistake>,
}

/// The keys of a table of rates.
const RATES: &str = "input, output, cache_read, cache_write_5m, cache_write_1h, reasoning, audio_input, audio_output";

impl Reader<'_> {
    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        1 + before.bytes().filter(|byte| *byte == b'\n').count()
    }

    fn note(&mut self, span: &Range<usize>, message: impl Into<String>) {
        let line = self.line(span);
        self.mistakes.push(Mistake { line, message: message.into() });
    }

    fn row(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Row> {
        let DeValue::Table(table) = value.get_ref() else {
            self.note(&value.span(), "each price begins with [[price]]");
            return None;
        };
        let (mut model, mut upstream, mut vendor, mut like, mut valid_from) = (None, None, None, None, None);
        let (mut usual, mut tiers, mut lengths) = (Said::default(), Vec::new(), Vec::new());
        for (key, value) in table {
            let name = &**key.get_ref();
            match name {
                "model" => model = self.text_of(name, value),
                "upstream" => upstream = self.text_of(name, value),
                "vendor" => vendor = self.text_of(name, value),
                "like" => like = self.text_of(name, value),
                "valid_from" => valid_from = self.date(value),
                "above" => lengths = self.lengths(value),
                _ if self.take_rate(&mut usual, name, value) => {}
                _ => match Tier::from_word(name).filter(|tier| *tier != Tier::Standard) {
                    Some(tier) => tiers.extend(self.rates(value).map(|said| (tier, said))),
                    None => self.note(
                        &key.span(),
                        format!(
                            "unknown: {name}; a price has model, upstream, vendor, valid_from, like, {RATES}, above, \
                             flex, batch, priority, fast, ultrafast"
                        ),
                    ),
                },
            }
        }
        let place = value.span();
        let Some(model) = model else {
            self.note(&place, "model is missing: the name that the provider is sent, such as model = \"gpt-5\"");
            return None;
        };
        if model.trim_end_matches('*').contains('*') || model.ends_with("**") {
            self.note(&place, "model: an asterisk may stand at the end only");
        }
        let says = match (like, usual.is_a_price()) {
            (Some(like), false) if tiers.is_empty() && lengths.is_empty() => Says::Like(like),
            (Some(_), _) => {
                self.note(&place, "like says that it costs what another model costs: nothing else may say a price");
                return None;
            }
            (None, false) => {
                self.note(&place, "no price: input and output are missing, in dollars per million tokens");
                return None;
            }
            (None, true) => {
                let usual = usual.rates();
                let of_tiers = tiers.into_iter().map(|(tier, said): (Tier, Said)| (tier, 0, said));
                let of_lengths = lengths.into_iter().map(|(above, said): (u64, Said)| (Tier::Standard, above, said));
                let step =
                    |(tier, above, said): (Tier, u64, Said)| Step { tier, above, rates: said.rates_beside(&usual) };
                Says::Price(Price::of(usual, of_tiers.chain(of_lengths).map(step).collect()))
            }
        };
        let line = self.line(&place);
        Some(Row { line, model: model.to_ascii_lowercase(), upstream, vendor, valid_from, says })
    }

    fn text_of(&mut self, name: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
        match value.get_ref() {
            DeValue::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
            _ => {
                self.note(&value.span(), format!("{name}: expected a text in quotes"));
                None
            }
        }
    }

    fn date(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Date> {
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Datetime(date) => date.to_string(),
            _ => String::new(),
        };
        text.parse().map_err(|message: String| self.note(&value.span(), format!("valid_from: {message}"))).ok()
    }

    /// Prices above some lengths: one table, or a list of them.
    fn lengths(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<(u64, Said)> {
        match value.get_ref() {
            DeValue::Array(all) => all.iter().filter_map(|one| self.length(one)).collect(),
            _ => self.length(value).into_iter().collect(),
        }
    }

    fn length(&mut self, value: &Spanned<DeValue<'_>>) -> Option<(u64, Said)> {
        let DeValue::Table(table) = value.get_ref() else {
            self.note(&value.span(), "above: expected a table, such as { tokens = 200_000, input = 5, output = 20 }");
            return None;
        };
        let tokens = match table.get("tokens").map(Spanned::get_ref) {
            Some(DeValue::Integer(number)) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let said = self.rates_of(table, Some("tokens"));
        match tokens.filter(|tokens| *tokens > 0) {
            Some(tokens) if said.is_a_price() => Some((tokens, said)),
            _ => {
                self.note(
                    &value.span(),
                    "above: expected tokens, above which it holds, and what input and output cost",
                );
                None
            }
        }
    }

    fn rates(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Said> {
        let said = match value.get_ref() {
            DeValue::Table(table) => self.rates_of(table, None),
            _ => Said::default(),
        };
        if !said.is_a_price() {
            self.note(&value.span(), "expected what input and output cost, such as { input = 1.25, output = 10 }");
            return None;
        }
        Some(said)
    }

    fn rates_of(&mut self, table: &DeTable<'_>, beside: Option<&str>) -> Said {
        let mut said = Said::default();
        for (key, value) in table {
            let name = &**key.get_ref();
            if Some(name) != beside && !self.take_rate(&mut said, name, value) {
                self.note(&key.span(), format!("unknown: {name}; there are {RATES}"));
            }
        }
        said
    }

    /// Takes a rate, if this is the name of one.
    fn take_rate(&mut self, said: &mut Said, name: &str, value: &Spanned<DeValue<'_>>) -> bool {
        let field = match name {
            "input" => &mut said.input,
            "output" => &mut said.output,
            "cache_read" => &mut said.cache_read,
            "cache_write_5m" => &mut said.cache_write_5m,
            "cache_write_1h" => &mut said.cache_write_1h,
            "reasoning" => &mut said.reasoning,
            "audio_input" => &mut said.audio_input,
            "audio_output" => &mut said.audio_output,
            _ => return false,
        };
        // As it is written, so that no digit of it is lost.
        *field = match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => money::per_million(number.as_str()),
            DeValue::Float(number) => money::per_million(number.as_str()),
            DeValue::String(text) => money::per_million(text.trim().trim_start_matches('$')),
            _ => None,
        };
        if field.is_none() {
            let expected = "expected dollars per million tokens, such as 1.25, from 0 to a million";
            self.note(&value.span(), format!("{name}: {expected}"));
        }
        true
    }
}

#[cfg(test)]
mod tests;
