//! What is known of prices: whether the operator's files can be used, how old the table is that comes along, and of
//! which models nobody knows the price: of those that the configuration names, and of those that were used of late.

use super::finding::Finding;
use crate::config::Config;
use crate::ledger::{Dimension, Name, Question, Store, ask, folder};
use crate::prices::{Date, Prices};
use crate::runtime::clock::wall_unix_ms;
use crate::runtime::screen::counted;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

const AREA: &str = "prices";
/// How long ago a model was used at most, that is told of.
const OF_LATE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Reads the files as the proxy would.
pub(super) fn look(config: &Config) -> Vec<Finding> {
    let (prices, why_not) = config.read_prices();
    if let Some(why) = why_not {
        let next = "Mend the file that prices names. A Spillway that runs keeps the last prices that it could read.";
        return vec![Finding::broken(AREA, why, next)];
    }
    let today = Date::of(SystemTime::now());
    let targets = config.routes.iter().flat_map(|(_, route)| route.targets.targets());
    let named = targets.filter_map(|target| Some((&*target.upstream, target.model.as_deref()?)));
    let is_unpriced = |(upstream, model): &(&str, &str)| prices.price(upstream, model, today).is_none();
    let mut unpriced: BTreeSet<(&str, &str)> = named.filter(is_unpriced).collect();
    let (used, unreadable) = match used_without_a_price(&folder(config), &prices) {
        Ok(used) => (used, None),
        Err(why) => {
            let said = format!("{why}; so nobody knows what was used without a price");
            let next = "Ask as the user whose Spillway keeps it.";
            (Vec::new(), Some(Finding::doubtful(AREA, said, next)))
        }
    };
    // What is used is told with how much it was.
    unpriced
        .retain(|(upstream, model)| !used.iter().any(|used| (&*used.upstream, &*used.model) == (*upstream, *model)));
    let found = findings(&unpriced, &used, Prices::built_in(), config.prices.litellm_file.is_some(), today);
    found.into_iter().chain(unreadable).collect()
}

/// What was used at an upstream and has no price.
#[derive(Debug)]
struct Used {
    upstream: String,
    model: String,
    calls: u64,
    tokens: u64,
}

/// What was used within [`OF_LATE`] and has no price, most tokens first; nothing where there is no ledger. What was not
/// read is no model's that anybody could say a price for.
fn used_without_a_price(folder: &Path, prices: &Prices) -> Result<Vec<Used>, String> {
    let since_unix_s = (wall_unix_ms() / 1_000).saturating_sub(OF_LATE.as_secs());
    let question = Question {
        since_unix_s: i64::try_from(since_unix_s).unwrap_or(i64::MAX),
        until_unix_s: i64::MAX,
        by: vec![Dimension::Of(Name::Upstream), Dimension::Of(Name::Model)],
    };
    let asked = Store::look(folder).and_then(|store| store.map(|store| ask(&store, &question, prices)).transpose());
    let lines = asked.map_err(|error| format!("the ledger in {} cannot be read: {error}", folder.display()))?;
    let used = lines.unwrap_or_default().into_iter().filter_map(|(names, line)| {
        let [upstream, model] = names.try_into().ok()?;
        let counts = &line.unpriced.counts;
        let tokens = counts.input.saturating_add(counts.output);
        (tokens > 0).then_some(Used { upstream, model, calls: line.unpriced.calls, tokens })
    });
    let mut used: Vec<Used> = used.collect();
    used.sort_by_key(|used| Reverse(used.tokens));
    Ok(used)
}

/// The first of what is to be told, and how many there are beside these. All of them are told by one who asks
/// `spillway usage`, or `spillway prices`.
fn told<T>(all: impl ExactSizeIterator<Item = T>, tell: impl Fn(T) -> String) -> String {
    const TOLD_MAX: usize = 5;
    let more = all.len().saturating_sub(TOLD_MAX);
    let first = all.take(TOLD_MAX).map(tell).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{first}, and {more} more") } else { first }
}

fn findings(
    unpriced: &BTreeSet<(&str, &str)>,
    used: &[Used],
    (as_of, models): (Date, usize),
    has_newer: bool,
    today: Date,
) -> Vec<Finding> {
    const NEXT: &str = "Say it in the file that prices.file names (docs/cost.md), or set free = true in the upstream's \
                        prices; `spillway prices MODEL` shows what is known.";
    let mut findings = Vec::new();
    if !used.is_empty() {
        let days = OF_LATE.as_secs() / 86_400;
        let told = told(used.iter(), |Used { upstream, model, calls, tokens }| {
            format!("{model} at {upstream} ({}, {tokens} tokens)", counted(*calls, "call"))
        });
        let said = format!("within {days} days this was used, and nobody here knows what it costs: {told}");
        findings.push(Finding::doubtful(AREA, said, NEXT));
    }
    if !unpriced.is_empty() {
        let told = told(unpriced.iter(), |(upstream, model)| format!("{model} at {upstream}"));
        let said = format!("nobody here knows what this costs: {told}; it counts as tokens, and as no money");
        findings.push(Finding::doubtful(AREA, said, NEXT));
    }
    let days = today.days_since(as_of);
    if as_of.is_old(today) && !has_newer {
        findings.push(Finding::doubtful(
            AREA,
            format!("the table that comes along is {days} days old, and providers change prices every few months"),
            "Name a newer copy of LiteLLM's model_prices_and_context_window.json in prices.litellm_file.",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::well(AREA, format!("{models} models are known, by a table of {as_of}")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Verdict;

    fn on(day: &str) -> Date {
        day.parse().expect("a day")
    }

    #[test]
    fn what_has_no_price_is_told_by_name_and_a_table_that_is_old_by_its_age() {
        let told = |unpriced: &[(&'static str, &'static str)], today: &str, has_newer| {
            let unpriced = unpriced.iter().copied().collect();
            let found = findings(&unpriced, &[], (on("2026-11-30"), 1_900), has_newer, on(today));
            found.into_iter().map(|finding| (finding.verdict, finding.said)).collect::<Vec<_>>()
        };
        let all_well = told(&[], "2026-12-24", false);
        assert_eq!(all_well, [(Verdict::Well, "1900 models are known, by a table of 2026-11-30".to_owned())]);
        let [(Verdict::Doubtful, said)] = &told(&[("vllm", "mine")], "2026-12-24", false)[..] else {
            panic!("doubtful")
        };
        assert!(said.contains("mine at vllm"), "{said}");
        let [(Verdict::Doubtful, said)] = &told(&[], "2027-11-30", false)[..] else { panic!("doubtful") };
        assert!(said.contains("365 days old"), "{said}");
        assert_eq!(told(&[], "2027-11-30", true)[0].0, Verdict::Well);
        let many = ["a", "b", "c", "d", "e", "f", "g"].map(|model| ("u", model));
        assert!(told(&many, "2026-12-24", false)[0].1.contains("e at u, and 2 more"));
    }

    #[test]
    fn what_was_used_without_a_price_is_told_with_how_much_it_was() {
        let used = |model: &str, calls, tokens| Used { upstream: "u".into(), model: model.into(), calls, tokens };
        let told = |used: &[Used]| {
            let found = findings(&BTreeSet::new(), used, (on("2026-11-30"), 1_900), false, on("2026-12-24"));
            assert_eq!(found.len(), 1, "{found:?}");
            (found[0].verdict, found[0].said.clone(), found[0].next.clone().unwrap_or_default())
        };
        let (verdict, said, next) = told(&[used("mine", 1, 70)]);
        assert!(verdict == Verdict::Doubtful && said.ends_with(": mine at u (1 call, 70 tokens)"), "{said}");
        assert!(next.contains("prices.file") && next.contains("`spillway prices"), "{next}");
        let many = ["a", "b", "c", "d", "e", "f", "g"].map(|model| used(model, 2, 5));
        assert!(told(&many).1.ends_with("e at u (2 calls, 5 tokens), and 2 more"));
    }

    #[test]
    fn models_that_routes_name_are_looked_for() {
        let text = "[upstreams.vllm]\nurl = \"http://127.0.0.1:1\"\n[upstreams.own]\nurl = \"http://127.0.0.1:2\"\n\
            prices = { free = true }\n[routes.a]\ntargets = [\"vllm/mine\", \"own/mine\", \"openai/gpt-5\"]\n";
        let config = crate::config::look(text, std::path::Path::new("")).expect("valid");
        let found = look(&config);
        assert!(found[0].said.contains(": mine at vllm; it counts"), "{found:?}");
    }
}
