//! What the ledger answers: sums by key, group, model and so on.

use super::entry::{Length, Mark, Name};
use super::store::{SUMMED, Store, Sums};
use crate::dialect::Tier;
use crate::prices::{Date, Prices};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

/// A sum that has one price: of one model at one upstream, in one day.
#[derive(Debug)]
pub(crate) struct Priced<'r> {
    /// A second of that day.
    pub at_unix_s: i64,
    pub upstream: &'r str,
    pub model: &'r str,
    pub tier: u8,
    /// How long its prompts were.
    pub length: Length,
    pub mark: Mark,
    pub sums: Sums,
}

impl Priced<'_> {
    /// What it has cost, in pico-dollars; `None` without a price, or where nothing of it is read.
    pub(crate) fn cost(&self, prices: &Prices) -> Option<u128> {
        let day = UNIX_EPOCH + Duration::from_secs(self.at_unix_s.max(0).cast_unsigned());
        let usage = self.sums.counts.at(Tier::of_number(self.tier));
        let quote = prices.price(self.upstream, self.model, Date::of(day)).filter(|_| self.mark != Mark::Unread)?;
        Some(quote.cost_of_sum(&usage, usage.tier, self.length.tokens_above()))
    }
}

/// By what a report is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dimension {
    /// By what calls have in common.
    Of(Name),
    /// By the day in which they fell, in UTC.
    Day,
}

impl Dimension {
    /// All of them.
    pub(crate) const ALL: [Dimension; 7] = [
        Dimension::Of(Name::Key),
        Dimension::Of(Name::Group),
        Dimension::Of(Name::Tenant),
        Dimension::Of(Name::Upstream),
        Dimension::Of(Name::Model),
        Dimension::Of(Name::Label),
        Dimension::Day,
    ];

    /// Its word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Dimension::Of(name) => name.as_str(),
            Dimension::Day => "day",
        }
    }

    /// What SQLite groups by.
    fn column(self) -> &'static str {
        match self {
            Dimension::Of(Name::Key) => "key",
            Dimension::Of(Name::Group) => "grp",
            Dimension::Of(Name::Tenant) => "tenant",
            Dimension::Of(Name::Upstream) => "upstream",
            Dimension::Of(Name::Model) => "model",
            Dimension::Of(Name::Label) => "label",
            Dimension::Day => "start / 86400 * 86400",
        }
    }
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// From this second on.
    pub since_unix_s: i64,
    /// Up to this one, which is left out.
    pub until_unix_s: i64,
    pub by: Vec<Dimension>,
}

/// A line of its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// All of it.
    pub sums: Sums,
    /// The part of it that was estimated, since nobody has counted it.
    pub estimated: Sums,
    /// What it has cost, as far as it has a price.
    pub pico_dollars: u128,
    /// Of these, what was estimated.
    pub estimated_pico_dollars: u128,
    /// The part that has no price, or is not read.
    pub unpriced: Sums,
}

/// Answers a question: a line for each combination of what it is divided by.
///
/// # Errors
/// When the ledger cannot be read.
pub(crate) fn ask(
    store: &Store,
    question: &Question,
    prices: &Prices,
) -> rusqlite::Result<BTreeMap<Vec<String>, Line>> {
    let connection = store.connection();
    let names = names(connection)?;
    let name = |number: i64| names.get(&number).map_or("", String::as_str);
    let by: Vec<&str> = question.by.iter().map(|dimension| dimension.column()).collect();
    let divided: String = by.iter().map(|column| format!("{column}, ")).collect();
    let columns = format!("{divided}start / 86400, upstream, model, tier, length, mark");
    let places: Vec<String> = (1..=by.len() + 6).map(|place| place.to_string()).collect();
    let mut found = connection.prepare(&format!(
        "SELECT {columns}, {SUMMED} FROM spent WHERE start >= ?1 AND start < ?2 GROUP BY {}",
        places.join(", ")
    ))?;
    let mut rows = found.query([question.since_unix_s, question.until_unix_s])?;
    let mut lines: BTreeMap<Vec<String>, Line> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let mut key = Vec::with_capacity(by.len());
        for (place, dimension) in question.by.iter().enumerate() {
            let number: i64 = row.get(place)?;
            key.push(match dimension {
                Dimension::Of(_) => name(number).to_owned(),
                Dimension::Day => day(number),
            });
        }
        let priced = priced(row, by.len(), name)?;
        let line = lines.entry(key).or_default();
        line.sums.add(&priced.sums);
        let is_estimated = matches!(priced.mark, Mark::Estimated | Mark::Killed);
        if is_estimated {
            line.estimated.add(&priced.sums);
        }
        match priced.cost(prices) {
            Some(cost) => {
                line.pico_dollars = line.pico_dollars.saturating_add(cost);
                if is_estimated {
                    line.estimated_pico_dollars = line.estimated_pico_dollars.saturating_add(cost);
                }
            }
            None => line.unpriced.add(&priced.sums),
        }
    }
    Ok(lines)
}

/// Shows what was spent since a second, by key and group.
pub(super) fn spent_since(
    store: &Store,
    since_unix_s: i64,
    mut see: impl FnMut(&str, &str, Priced<'_>),
) -> rusqlite::Result<()> {
    let connection = store.connection();
    let names = names(connection)?;
    let name = |number: i64| names.get(&number).map_or("", String::as_str);
    let mut found = connection.prepare(&format!(
        "SELECT key, grp, start / 86400, upstream, model, tier, length, mark, {SUMMED} FROM spent WHERE start >= ?1 \
         GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"
    ))?;
    let mut rows = found.query([since_unix_s])?;
    while let Some(row) = rows.next()? {
        see(name(row.get(0)?), name(row.get(1)?), priced(row, 2, name)?);
    }
    Ok(())
}

/// Of the columns from `first` on.
fn priced<'n>(row: &rusqlite::Row<'_>, first: usize, name: impl Fn(i64) -> &'n str) -> rusqlite::Result<Priced<'n>> {
    let number: i64 = row.get(first + 5)?;
    Ok(Priced {
        at_unix_s: row.get::<_, i64>(first)?.saturating_mul(86_400),
        upstream: name(row.get(first + 1)?),
        model: name(row.get(first + 2)?),
        tier: row.get(first + 3)?,
        length: Length::of_number(row.get(first + 4)?),
        mark: Mark::ALL.into_iter().find(|mark| mark.number() == number).unwrap_or(Mark::Unread),
        sums: Sums::of_row(row, first + 6)?,
    })
}

fn names(connection: &Connection) -> rusqlite::Result<BTreeMap<i64, String>> {
    let mut found = connection.prepare("SELECT number, text FROM name")?;
    let names = found.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    names.collect()
}

/// A day as it is written; empty for what is older than single entries are kept.
fn day(unix_s: i64) -> String {
    let date = jiff::Timestamp::from_second(unix_s).ok().filter(|_| unix_s > 0);
    date.map_or_else(String::new, |at| at.strftime("%Y-%m-%d").to_string())
}
