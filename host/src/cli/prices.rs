//! `spillway prices`: what a model costs, and who says so.

use super::with_config;
use crate::config::{Config, Purpose};
use crate::dialect::Tier;
use crate::prices::{Date, Dollars, Factor, Prices, Quote, Rates, Source};
use crate::runtime::screen::{self, ASIDE, COMMAND, DOUBTFUL, HEADING, counted, styled};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

/// Names that are told where none is meant exactly.
const NAMES_MAX: usize = 12;
/// Tokens for which prices are said.
const MILLION: u128 = 1_000_000;

/// `spillway prices …`
#[derive(Debug, clap::Args)]
pub struct PricesArguments {
    /// The model, as the provider is sent it.
    model: Option<String>,
    /// The configuration; spillway.toml is read if it exists.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What it costs at this upstream alone.
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// What it costs on this day, such as 2026-12-01, instead of today.
    #[arg(long, value_name = "DAY")]
    at: Option<Date>,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Shows it. Exit codes: 0 if the price is known, 1 if nobody knows it, 2 for what is to be mended in arguments and
/// configuration.
pub fn run(arguments: &PricesArguments) -> ExitCode {
    with_config(arguments.config.as_deref(), Purpose::Look, |config| show(arguments, &config))
}

fn show(arguments: &PricesArguments, config: &Config) -> ExitCode {
    let (prices, why_not) = config.read_prices();
    if let Some(why) = why_not {
        screen::complain(&format!("spillway: {why}\n"));
        return ExitCode::from(2);
    }
    if let Some(name) = arguments.upstream.as_ref().filter(|name| !config.upstreams.contains_key(*name)) {
        let known = config.upstreams.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        screen::complain(&format!(
            "spillway: the configuration has no upstream \"{name}\"; --upstream takes one of {known}\n"
        ));
        return ExitCode::from(2);
    }
    let today = Date::of(SystemTime::now());
    let Some(model) = &arguments.model else {
        screen::print(&match arguments.json {
            true => pretty(&tables_as_json(&prices, config)),
            false => tables(&prices, config, today),
        });
        return ExitCode::SUCCESS;
    };
    let at = arguments.at.unwrap_or(today);
    let meant = config.upstreams.keys().filter(|name| arguments.upstream.as_ref().is_none_or(|only| only == *name));
    let found = by_price(&prices, meant.map(String::as_str), model, at);
    if arguments.json {
        let all: Vec<Value> = found.iter().map(|(upstreams, quote)| as_json(upstreams, quote)).collect();
        screen::print(&pretty(&json!({"model": model, "at": at.to_string(), "unit": UNIT, "prices": all})));
    } else if found.is_empty() {
        screen::print(&unpriced(&prices, model));
    } else {
        let pages = found.iter().map(|(upstreams, quote)| page(model, upstreams, quote, today));
        screen::print(&pages.collect::<Vec<_>>().join("\n"));
    }
    if found.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What programs are told prices in.
const UNIT: &str = "micro-dollars per million tokens";

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// The price at each of these upstreams; those at which it is the same are told together.
fn by_price<'p, 'u>(
    prices: &'p Prices,
    upstreams: impl Iterator<Item = &'u str>,
    model: &str,
    at: Date,
) -> Vec<(Vec<&'u str>, Quote<'p>)> {
    let mut found: Vec<(Vec<&str>, Quote<'_>)> = Vec::new();
    for upstream in upstreams {
        let Some(quote) = prices.price(upstream, model, at) else { continue };
        let is_same = |(_, other): &&mut (Vec<&str>, Quote<'_>)| {
            (other.price(), other.factor(), other.source()) == (quote.price(), quote.factor(), quote.source())
        };
        match found.iter_mut().find(is_same) {
            Some((upstreams, _)) => upstreams.push(upstream),
            None => found.push((vec![upstream], quote)),
        }
    }
    found
}

/// What a kind of token is called, what it costs, and what it costs where nothing is said of it.
type Column = (&'static str, fn(&Rates) -> u64, fn(&Rates) -> u64);

const COLUMNS: [Column; 8] = [
    ("INPUT", |rates| rates.input, |_| u64::MAX),
    ("CACHE READ", |rates| rates.cache_read, |rates| rates.input),
    ("WRITE 5m", |rates| rates.cache_write_5m, |rates| rates.input),
    ("WRITE 1h", |rates| rates.cache_write_1h, |rates| rates.cache_write_5m),
    ("AUDIO IN", |rates| rates.audio_input, |rates| rates.input),
    ("OUTPUT", |rates| rates.output, |_| u64::MAX),
    ("REASONING", |rates| rates.reasoning, |rates| rates.output),
    ("AUDIO OUT", |rates| rates.audio_output, |rates| rates.output),
];

fn page(model: &str, upstreams: &[&str], quote: &Quote<'_>, today: Date) -> String {
    let mut text = format!("{} at {}\n", styled(HEADING, model), upstreams.join(", "));
    if quote.source() != Source::Free {
        let rows: Vec<(String, Rates)> =
            rows(quote).into_iter().map(|(tier, above, rates)| (title(tier, above), rates)).collect();
        let shown: Vec<&Column> = COLUMNS
            .iter()
            .filter(|(_, rate, otherwise)| rows.iter().any(|(_, rates)| rate(rates) != otherwise(rates)))
            .collect();
        let header = ["$ PER MILLION"].into_iter().chain(shown.iter().map(|(name, ..)| *name));
        let mut table = screen::table(header);
        for (title, rates) in &rows {
            let cells = shown.iter().map(|(_, rate, _)| per_million(rate(rates)));
            table.add_row([title.clone()].into_iter().chain(cells));
        }
        text.push_str(&format!("{table}\n"));
    }
    if quote.factor() != Factor::ONE {
        text.push_str(&format!("with the upstream's factor of {}\n", quote.factor().get()));
    }
    text.push_str(&styled(ASIDE, quote.source()));
    // Of a copy of LiteLLM's table its file says how old it is; the operator's own prices are as old as he lets them be.
    let of_file = |file: &Path| Some(Date::of(file.metadata().ok()?.modified().ok()?));
    let as_of = match quote.source() {
        Source::BuiltIn { as_of, .. } => Some(as_of),
        Source::LiteLlm { file } => of_file(file),
        Source::Own { .. } | Source::Free => None,
    };
    text.push_str(&as_of.map(|as_of| age(as_of, today)).unwrap_or_default());
    text.push('\n');
    text
}

/// How old a table is, with a word where it may be too old.
fn age(as_of: Date, today: Date) -> String {
    let said = format!(" ({} old)", counted(today.days_since(as_of).into(), "day"));
    match as_of.is_old(today) {
        false => styled(ASIDE, said),
        true => format!("{}; prices.litellm_file names a newer table", styled(DOUBTFUL, said)),
    }
}

fn rows(quote: &Quote<'_>) -> Vec<(Tier, u64, Rates)> {
    let usual = (Tier::Standard, 0, quote.with_factor(quote.price().usual()));
    let others = quote.price().others().map(|(tier, above, rates)| (tier, above, quote.with_factor(rates)));
    [usual].into_iter().chain(others).collect()
}

fn title(tier: Tier, above: u64) -> String {
    let tier = tier.as_str();
    if above == 0 { tier.to_owned() } else { format!("{tier}, above {} k tokens", above / 1_000) }
}

fn per_million(rate: u64) -> String {
    Dollars(u128::from(rate) * MILLION).to_string().trim_start_matches('$').to_owned()
}

fn as_json(upstreams: &[&str], quote: &Quote<'_>) -> Value {
    let rates = rows(quote).into_iter().map(|(tier, above, rates)| {
        json!({
            "tier": tier.as_str(),
            "above_input_tokens": above,
            "input": rates.input,
            "output": rates.output,
            "cache_read": rates.cache_read,
            "cache_write_5m": rates.cache_write_5m,
            "cache_write_1h": rates.cache_write_1h,
            "reasoning": rates.reasoning,
            "audio_input": rates.audio_input,
            "audio_output": rates.audio_output,
        })
    });
    json!({
        "upstreams": upstreams,
        "source": quote.source().as_str(),
        "said_by": quote.source().to_string(),
        "factor": quote.factor().get(),
        "rates": rates.collect::<Vec<_>>(),
    })
}

fn unpriced(prices: &Prices, model: &str) -> String {
    let mut text = format!(
        "{} is {}: nobody here knows what it costs, so it counts as tokens and as no money.\n",
        styled(HEADING, model),
        styled(DOUBTFUL, "unpriced"),
    );
    let similar = prices.names_with(model);
    if !similar.is_empty() {
        let more = similar.len().saturating_sub(NAMES_MAX);
        let mut told = similar.into_iter().take(NAMES_MAX).collect::<Vec<_>>().join(", ");
        if more > 0 {
            told.push_str(&format!(", and {more} more"));
        }
        text.push_str(&screen::wrapped("Known are: ", 11, &told, screen::columns()));
    }
    text.push_str(&format!(
        "Say what it costs in the file that {} names:\n\n  [[price]]\n  model = \"{model}\"\n  input = 1.25   # dollars \
         per million tokens\n  output = 10\n",
        styled(COMMAND, "prices.file"),
    ));
    text
}

fn tables(prices: &Prices, config: &Config, today: Date) -> String {
    let mut rows = screen::table(["TABLE", "WHAT IT IS"]);
    let file =
        |file: &Option<PathBuf>| file.as_ref().map_or_else(|| "none".to_owned(), |file| file.display().to_string());
    rows.add_row(["prices.file".to_owned(), file(&config.prices.file)]);
    rows.add_row(["prices.litellm_file".to_owned(), file(&config.prices.litellm_file)]);
    let (as_of, models) = Prices::built_in();
    rows.add_row(["built in".to_owned(), format!("{models} models, of {as_of}{}", age(as_of, today))]);
    let mut upstreams = screen::table(["UPSTREAM", "WHOSE PRICES", "TERMS"]);
    for name in config.upstreams.keys() {
        let terms = prices.terms(name).cloned().unwrap_or_default();
        let vendor = terms.vendor.as_deref().unwrap_or("not known: by the model's name alone").to_owned();
        let said = match (terms.is_free, terms.factor) {
            (true, _) => "free".to_owned(),
            (false, Factor::ONE) => "as they are".to_owned(),
            (false, factor) => format!("times {}", factor.get()),
        };
        upstreams.add_row([name.clone(), vendor, said]);
    }
    format!("{rows}\n\n{upstreams}\n\nWhat a model costs: {}\n", styled(COMMAND, "spillway prices MODEL"))
}

fn tables_as_json(prices: &Prices, config: &Config) -> Value {
    let (as_of, models) = Prices::built_in();
    let upstreams = config.upstreams.keys().map(|name| {
        let terms = prices.terms(name).cloned().unwrap_or_default();
        (name.clone(), json!({"vendor": terms.vendor, "factor": terms.factor.get(), "free": terms.is_free}))
    });
    json!({
        "file": config.prices.file,
        "litellm_file": config.prices.litellm_file,
        "built_in": {"as_of": as_of.to_string(), "models": models},
        "upstreams": upstreams.collect::<serde_json::Map<_, _>>(),
    })
}
