//! What is known of prices: whether the operator's files can be used, how old the table is that comes along, and which
//! of the models that the configuration names nobody knows the price of.

use super::finding::Finding;
use crate::config::Config;
use crate::prices::{Date, Prices};
use std::collections::BTreeSet;
use std::time::SystemTime;

const AREA: &str = "prices";

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
    let unpriced: BTreeSet<(&str, &str)> = named.filter(is_unpriced).collect();
    findings(&unpriced, Prices::built_in(), config.prices.litellm_file.is_some(), today)
}

fn findings(
    unpriced: &BTreeSet<(&str, &str)>,
    (as_of, models): (Date, usize),
    has_newer: bool,
    today: Date,
) -> Vec<Finding> {
    /// Models that are told. More are told by one who asks `spillway prices`.
    const TOLD_MAX: usize = 5;
    let mut findings = Vec::new();
    if !unpriced.is_empty() {
        let told = unpriced.iter().take(TOLD_MAX).map(|(upstream, model)| format!("{model} at {upstream}"));
        let mut told = told.collect::<Vec<_>>().join(", ");
        if unpriced.len() > TOLD_MAX {
            told.push_str(&format!(", and {} more", unpriced.len() - TOLD_MAX));
        }
        findings.push(Finding::doubtful(
            AREA,
            format!("nobody here knows what this costs: {told}; it counts as tokens, and as no money"),
            "Say it in the file that prices.file names (docs/cost.md), or set free = true in the upstream's prices.",
        ));
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
            let found = findings(&unpriced, (on("2026-11-30"), 1_900), has_newer, on(today));
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
    fn models_that_routes_name_are_looked_for() {
        let text = "[upstreams.vllm]\nurl = \"http://127.0.0.1:1\"\n[upstreams.own]\nurl = \"http://127.0.0.1:2\"\n\
            prices = { free = true }\n[routes.a]\ntargets = [\"vllm/mine\", \"own/mine\", \"openai/gpt-5\"]\n";
        let config = crate::config::look(text, std::path::Path::new("")).expect("valid");
        let found = look(&config);
        assert!(found[0].said.contains(": mine at vllm; it counts"), "{found:?}");
    }
}
