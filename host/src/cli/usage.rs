//! `spillway usage`: what was spent, by whom and on what.

use super::with_config;
use crate::config::{Config, Purpose, dollars_in_words};
use crate::keys::file::KeyFile;
use crate::ledger::{Dimension, Line, Name, Question, Store, Sums, ask, folder};
use crate::runtime::screen::{self, ASIDE, COMMAND, DOUBTFUL, styled};
use comfy_table::CellAlignment;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `spillway usage …`
#[derive(Debug, clap::Args)]
pub struct UsageArguments {
    /// The configuration; spillway.toml is read if it exists.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// By what it is divided: key, group, tenant, upstream, model, label, day.
    #[arg(long, value_name = "WHAT", value_delimiter = ',', value_parser = dimension, default_value = "model")]
    by: Vec<Dimension>,
    /// From when on: so long ago (12h, 7d), or a day such as 2026-12-01, in UTC.
    #[arg(long, value_name = "WHEN", value_parser = moment, default_value = "30d")]
    since: SystemTime,
    /// Up to when, written alike; up to now otherwise.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    until: Option<SystemTime>,
    /// Answer as JSON.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Answer as comma-separated values.
    #[arg(long)]
    csv: bool,
}

fn dimension(word: &str) -> Result<Dimension, String> {
    let known = Dimension::ALL.into_iter().find(|dimension| dimension.as_str() == word);
    known.ok_or_else(|| {
        let words: Vec<&str> = Dimension::ALL.iter().map(|dimension| dimension.as_str()).collect();
        format!("it is divided by {}", words.join(", "))
    })
}

fn moment(text: &str) -> Result<SystemTime, String> {
    if let Ok(moment) = humantime::parse_rfc3339_weak(&format!("{text} 00:00:00")) {
        return Ok(moment);
    }
    let ago = humantime::parse_duration(text).ok().and_then(|ago| SystemTime::now().checked_sub(ago));
    ago.ok_or_else(|| "write how long ago, such as 12h or 7d, or a day, such as 2026-12-01".to_owned())
}

/// Shows it. Exit codes: 0 if there is a ledger, 1 if there is none or it cannot be read, 2 for what is to be mended in
/// arguments and configuration.
pub fn run(arguments: &UsageArguments) -> ExitCode {
    with_config(arguments.config.as_deref(), Purpose::Look, |config| show(arguments, &config))
}

fn show(arguments: &UsageArguments, config: &Config) -> ExitCode {
    let (prices, why_not) = config.read_prices();
    if let Some(why) = why_not {
        screen::complain(&format!("spillway: {why}\n"));
        return ExitCode::from(2);
    }
    let folder = folder(config);
    let question = Question {
        since_unix_s: unix_s(arguments.since),
        until_unix_s: arguments.until.map_or(i64::MAX, unix_s),
        by: arguments.by.clone(),
    };
    let asked = Store::look(&folder).and_then(|store| store.map(|store| ask(&store, &question, &prices)).transpose());
    match asked {
        Ok(Some(lines)) => {
            let keys = KeyNames::of(config);
            screen::print(&match (arguments.json, arguments.csv) {
                (true, _) => format!("{:#}\n", as_json(&question, &lines, &keys)),
                (false, true) => csv(&question, &lines, &keys),
                (false, false) => page(&question, &lines, &keys),
            });
            ExitCode::SUCCESS
        }
        Ok(None) => {
            screen::complain(&format!(
                "spillway: there is no ledger in {}. What is spent is kept where something is limited by it ({}), or \
                 with enabled = true in [ledger].\n",
                folder.display(),
                styled(COMMAND, "[ledger], [groups], spillway key")
            ));
            ExitCode::FAILURE
        }
        Err(error) => {
            screen::complain(&format!("spillway: the ledger in {} cannot be read: {error}.\n", folder.display()));
            ExitCode::FAILURE
        }
    }
}

fn unix_s(moment: SystemTime) -> i64 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

type Lines = BTreeMap<Vec<String>, Line>;

/// What people call keys, by their ids, which is all that the ledger knows.
struct KeyNames(HashMap<String, String>);

/// What a column is called that has the names of keys.
const KEY_NAME: &str = "key_name";

impl KeyNames {
    /// None where the file cannot be read: `spillway key ls` says why.
    fn of(config: &Config) -> KeyNames {
        let keys = KeyFile::at(config.key_file()).read().unwrap_or_default();
        KeyNames(keys.into_iter().filter_map(|key| Some((key.id, key.name?))).collect())
    }

    fn of_key(&self, id: &str) -> Option<&str> {
        self.0.get(id).map(String::as_str)
    }

    /// A value as people read it.
    fn titled(&self, dimension: Dimension, value: &str) -> String {
        match (dimension == KEY, self.of_key(value)) {
            _ if value.is_empty() => "–".to_owned(),
            (true, Some(name)) => format!("{name} ({value})"),
            _ => value.to_owned(),
        }
    }
}

const KEY: Dimension = Dimension::Of(Name::Key);

fn total(lines: &Lines) -> Line {
    let mut total = Line::default();
    lines.values().for_each(|line| total.add(line));
    total
}

/// The dearest first, and of what costs alike the one with more tokens.
fn by_cost(lines: &Lines) -> Vec<(&Vec<String>, &Line)> {
    let mut sorted: Vec<_> = lines.iter().collect();
    sorted.sort_by_key(|(_, line)| {
        std::cmp::Reverse((line.pico_dollars, line.sums.counts.input + line.sums.counts.output))
    });
    sorted
}

fn page(question: &Question, lines: &Lines, keys: &KeyNames) -> String {
    let names = question.by.iter().map(|dimension| dimension.as_str());
    let mut table = screen::table(names.chain(["requests", "input", "cached", "output", "cost", ""]));
    let first_number = question.by.len();
    for column in first_number..first_number + 5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut row = |names: Vec<String>, line: &Line| {
        let counts = &line.sums.counts;
        let figures = [
            line.sums.requests.to_string(),
            counts.input.to_string(),
            counts.cache_read.to_string(),
            counts.output.to_string(),
            dollars_in_words(rounded(line.pico_dollars)),
            doubts(line),
        ];
        table.add_row(names.into_iter().chain(figures));
    };
    for (names, line) in by_cost(lines) {
        let titled = question.by.iter().zip(names).map(|(dimension, name)| keys.titled(*dimension, name));
        row(titled.collect(), line);
    }
    if lines.len() != 1 {
        let names = std::iter::once(styled(ASIDE, "all")).chain((1..question.by.len()).map(|_| String::new()));
        row(names.collect(), &total(lines));
    }
    format!("{}\n", table.trim_fmt())
}

/// Money to the hundredth of a cent: finer is read by nobody.
fn rounded(pico_dollars: u128) -> u128 {
    const STEP: u128 = 100_000_000;
    (pico_dollars.saturating_add(STEP / 2)) / STEP * STEP
}

/// What of a line is not known for certain.
fn doubts(line: &Line) -> String {
    let mut doubts = Vec::new();
    if line.estimated.calls > 0 {
        let share = 100.0 * line.estimated.calls as f64 / line.sums.calls.max(1) as f64;
        doubts.push(format!("{share:.1} % estimated"));
    }
    if line.unpriced.calls > 0 {
        doubts.push(format!("{} without a price", screen::counted(line.unpriced.calls, "call")));
    }
    if doubts.is_empty() { String::new() } else { styled(DOUBTFUL, doubts.join(", ")) }
}

/// What a column holds of a line.
type Figure = fn(&Line) -> Value;

/// The columns of what programs read, with what each holds of a line.
const COLUMNS: [(&str, Figure); 18] = [
    ("requests", |line| line.sums.requests.into()),
    ("calls", |line| line.sums.calls.into()),
    ("input_tokens", |line| line.sums.counts.input.into()),
    ("output_tokens", |line| line.sums.counts.output.into()),
    ("cache_read_tokens", |line| line.sums.counts.cache_read.into()),
    ("cache_write_5m_tokens", |line| line.sums.counts.cache_write_5m.into()),
    ("cache_write_1h_tokens", |line| line.sums.counts.cache_write_1h.into()),
    ("reasoning_tokens", |line| line.sums.counts.reasoning.into()),
    ("audio_input_tokens", |line| line.sums.counts.audio_input.into()),
    ("audio_output_tokens", |line| line.sums.counts.audio_output.into()),
    ("cost_usd", |line| dollars_in_words(line.pico_dollars).trim_start_matches('$').into()),
    ("estimated_calls", |line| line.estimated.calls.into()),
    ("estimated_input_tokens", |line| line.estimated.counts.input.into()),
    ("estimated_output_tokens", |line| line.estimated.counts.output.into()),
    ("estimated_cost_usd", |line| dollars_in_words(line.estimated_pico_dollars).trim_start_matches('$').into()),
    ("unpriced_calls", |line| line.unpriced.calls.into()),
    ("unpriced_input_tokens", |line| line.unpriced.counts.input.into()),
    ("unpriced_output_tokens", |line| line.unpriced.counts.output.into()),
];

fn as_json(question: &Question, lines: &Lines, keys: &KeyNames) -> Value {
    let figures = |line: &Line| COLUMNS.map(|(name, of)| (name.to_owned(), of(line)));
    let row = |(names, line): (&Vec<String>, &Line)| {
        let names = question.by.iter().zip(names).flat_map(|(dimension, name)| {
            let title = (*dimension == KEY).then(|| (KEY_NAME.to_owned(), keys.of_key(name).into()));
            let name = if name.is_empty() { Value::Null } else { name.as_str().into() };
            std::iter::once((dimension.as_str().to_owned(), name)).chain(title)
        });
        names.chain(figures(line)).collect::<Map<String, Value>>()
    };
    let rows: Vec<_> = by_cost(lines).into_iter().map(row).collect();
    json!({"usage": rows, "total": Map::from_iter(figures(&total(lines)))})
}

fn csv(question: &Question, lines: &Lines, keys: &KeyNames) -> String {
    let names = question
        .by
        .iter()
        .flat_map(|dimension| std::iter::once(dimension.as_str()).chain((*dimension == KEY).then_some(KEY_NAME)));
    let header: Vec<&str> = names.chain(COLUMNS.map(|(name, _)| name)).collect();
    let mut text = header.join(",") + "\r\n";
    for (names, line) in by_cost(lines) {
        let figures = COLUMNS.iter().map(|(_, of)| match of(line) {
            Value::String(text) => text,
            number => number.to_string(),
        });
        let names = question.by.iter().zip(names).flat_map(|(dimension, name)| {
            let title = (*dimension == KEY).then(|| quoted(keys.of_key(name).unwrap_or_default()));
            std::iter::once(quoted(name)).chain(title)
        });
        let row: Vec<String> = names.chain(figures).collect();
        text.push_str(&(row.join(",") + "\r\n"));
    }
    text
}

/// A value as RFC 4180 has it. Spreadsheets take some beginnings for formulas, which a name must not become.
fn quoted(name: &str) -> String {
    let name = if name.starts_with(['=', '+', '-', '@', '\t']) { format!("'{name}") } else { name.to_owned() };
    if name.contains([',', '"', '\r', '\n']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name }
}

impl Line {
    fn add(&mut self, other: &Line) {
        let Line { sums, estimated, pico_dollars, estimated_pico_dollars, unpriced } = other;
        let add = |mine: &mut Sums, sums: &Sums| mine.add(sums);
        add(&mut self.sums, sums);
        add(&mut self.estimated, estimated);
        add(&mut self.unpriced, unpriced);
        self.pico_dollars = self.pico_dollars.saturating_add(*pico_dollars);
        self.estimated_pico_dollars = self.estimated_pico_dollars.saturating_add(*estimated_pico_dollars);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_so_long_ago_or_a_day() {
        assert_eq!(unix_s(moment("2026-12-01").expect("a day")), 1_796_083_200);
        let ago = SystemTime::now().duration_since(moment("7d").expect("a span")).expect("before");
        assert!(ago.as_secs().abs_diff(7 * 86_400) <= 1, "{ago:?}");
        assert!(moment("yesterday").is_err() && moment("").is_err());
    }

    #[test]
    fn a_name_is_a_value_and_no_formula() {
        assert_eq!(quoted("gpt-5"), "gpt-5");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(quoted("=1+1"), "'=1+1");
    }

    #[test]
    fn money_is_shown_to_the_hundredth_of_a_cent() {
        assert_eq!(dollars_in_words(rounded(1_234_567_890_123)), "$1.2346");
        assert_eq!(dollars_in_words(rounded(49_999_999)), "$0.00");
    }
}
