//! What the ledger answers: sums by key, group, model and so on.

use super::entry::{Length, Mark, Name};
use super::store::{SUMS, Store, Sums};
use crate::dialect::Tier;
use crate::prices::{Date, Prices};
use rusqlite::Connection;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
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
    let mut lines: BTreeMap<Vec<String>, Line> = BTreeMap::new();
    for (group, sums) in sums(connection, &by, question.since_unix_s..question.until_unix_s)? {
        let word = |(dimension, number): (&Dimension, &i64)| match dimension {
            Dimension::Of(_) => name(*number).to_owned(),
            Dimension::Day => day(*number),
        };
        let line = lines.entry(question.by.iter().zip(&group).map(word).collect()).or_default();
        let priced = priced(&group[by.len()..], sums, name);
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
    for (group, sums) in sums(connection, &["key", "grp"], since_unix_s..i64::MAX)? {
        let [key, owner, of_one_price @ ..] = &group[..] else { continue };
        see(name(*key), name(*owner), priced(of_one_price, sums, name));
    }
    Ok(())
}

/// What has one price has these in common.
const OF_ONE_PRICE: &str = "start / 86400, upstream, model, tier, length, mark";
const COLUMNS_OF_ONE_PRICE: usize = 6;

/// What was spent within these seconds, in sums of what has these columns in common, and one price.
///
/// SQLite would sort all entries to group them, which takes it three times as long as to read them.
fn sums(connection: &Connection, by: &[&str], within: Range<i64>) -> rusqlite::Result<HashMap<Vec<i64>, Sums>> {
    let divided: String = by.iter().map(|column| format!("{column}, ")).collect();
    let mut found = connection
        .prepare(&format!("SELECT {divided}{OF_ONE_PRICE}, {SUMS} FROM spent WHERE start >= ?1 AND start < ?2"))?;
    let mut rows = found.query([within.start, within.end])?;
    let mut all: HashMap<Vec<i64>, Sums> = HashMap::new();
    let mut group = vec![0; by.len() + COLUMNS_OF_ONE_PRICE];
    while let Some(row) = rows.next()? {
        for (column, number) in group.iter_mut().enumerate() {
            *number = row.get(column)?;
        }
        let more = Sums::of_row(row, group.len())?;
        match all.get_mut(&group) {
            Some(sums) => sums.add(&more),
            None => drop(all.insert(group.clone(), more)),
        }
    }
    Ok(all)
}

/// Of a group by [`OF_ONE_PRICE`].
fn priced<'n>(group: &[i64], sums: Sums, name: impl Fn(i64) -> &'n str) -> Priced<'n> {
    let column = |column: usize| group.get(column).copied().unwrap_or_default();
    Priced {
        at_unix_s: column(0).saturating_mul(86_400),
        upstream: name(column(1)),
        model: name(column(2)),
        tier: u8::try_from(column(3)).unwrap_or_default(),
        length: Length::of_number(u8::try_from(column(4)).unwrap_or_default()),
        mark: Mark::ALL.into_iter().find(|mark| mark.number() == column(5)).unwrap_or(Mark::Unread),
        sums,
    }
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
