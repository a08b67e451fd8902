use super::*;
use crate::dialect::{Tier, Usage};
use crate::prices::litellm::Table;
use crate::prices::own::Own;
use std::path::PathBuf;
use std::sync::Arc;

fn on(day: &str) -> Date {
    day.parse().expect("a day")
}

const TODAY: &str = "2026-11-30";

fn sold_by(vendors: &[(&str, Option<&'static str>)]) -> BTreeMap<String, Terms> {
    let terms = |vendor: Option<&'static str>| Terms { vendor: vendor.map(Cow::Borrowed), ..Terms::default() };
    vendors.iter().map(|(name, vendor)| ((*name).to_owned(), terms(*vendor))).collect()
}

fn prices() -> Prices {
    let mut terms = sold_by(&[
        ("openai", Some("openai")),
        ("anthropic", Some("anthropic")),
        ("gemini", Some("gemini")),
        ("vertex", Some("vertex_ai")),
        ("bedrock", Some("bedrock")),
        ("azure", Some("azure")),
        ("openrouter", Some("openrouter")),
        ("groq", Some("groq")),
        ("xai", Some("xai")),
        ("gateway", None),
        ("own", None),
    ]);
    terms.insert("own".to_owned(), Terms { is_free: true, ..Terms::default() });
    Prices::new(terms, Read::default())
}

#[test]
fn what_comes_along_is_read_without_a_mistake() {
    let table = Table::read(include_str!("../table.json")).expect("a table");
    assert!(table.len() > 1_500, "{}", table.len());
    let as_of: Date = table.as_of.as_deref().expect("a day").parse().expect("a day");
    assert!(as_of >= on("2026-11-01"));
    let corrections = Own::read(include_str!("../corrections.toml")).expect("corrections");
    assert!(corrections.rows.iter().all(|row| matches!(row.says, Says::Price(_))));
}

/// In dollars per million tokens, from the providers' pages.
#[test]
fn models_are_known_under_the_names_that_providers_are_sent() {
    let prices = prices();
    for (upstream, model, input, output) in [
        ("openai", "gpt-5", 1.25, 10.0),
        ("openai", "gpt-5-2025-08-07", 1.25, 10.0),
        ("openai", "gpt-5-mini", 0.25, 2.0),
        ("openai", "gpt-4o", 2.5, 10.0),
        ("openai", "gpt-4o-2024-05-13", 5.0, 15.0),
        ("openai", "o3", 2.0, 8.0),
        ("openai", "text-embedding-3-small", 0.02, 0.0),
        ("azure", "gpt-5", 1.25, 10.0),
        ("anthropic", "claude-haiku-4-5", 1.0, 5.0),
        ("anthropic", "claude-haiku-4-5-20251001", 1.0, 5.0),
        ("anthropic", "claude-sonnet-4-5-20250929", 3.0, 15.0),
        ("anthropic", "claude-sonnet-4-20250514", 3.0, 15.0),
        ("anthropic", "claude-opus-4-1", 15.0, 75.0),
        ("anthropic", "claude-opus-5-5", 4.0, 20.0),
        ("vertex", "claude-sonnet-4-5@20250929", 3.0, 15.0),
        ("bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0", 3.0, 15.0),
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", 3.3, 16.5),
        ("gemini", "gemini-2.5-pro", 1.25, 10.0),
        ("gemini", "models/gemini-2.5-flash", 0.3, 2.5),
        ("gemini", "gemini-4-argon", 2.0, 10.0),
        ("openrouter", "anthropic/claude-sonnet-4.5", 3.0, 15.0),
        ("openrouter", "openai/gpt-5:nitro", 1.25, 10.0),
        ("gateway", "gpt-5", 1.25, 10.0),
        ("gateway", "openai/gpt-5", 1.25, 10.0),
        ("nobody", "gpt-5", 1.25, 10.0),
    ] {
        let quote = prices.price(upstream, model, on(TODAY)).unwrap_or_else(|| panic!("{upstream} {model}"));
        let usual = quote.price().usual();
        assert_eq!((usual.input as f64 / 1e6, usual.output as f64 / 1e6), (input, output), "{upstream} {model}");
    }
}

#[test]
fn what_nobody_knows_is_unpriced_and_never_free() {
    let prices = prices();
    for (upstream, model) in [
        ("openai", "gpt-17"),
        ("openai", ""),
        ("gateway", "llama-3.3-70b"),
        ("gateway", "my-deployment"),
        ("openrouter", "qwen/qwen3-32b"),
        ("openai", "free"),
        ("gateway", "some/model:free"),
    ] {
        assert!(prices.price(upstream, model, on(TODAY)).is_none(), "{upstream} {model}");
    }
    for (upstream, model) in [("own", "llama-3.3-70b"), ("openrouter", "qwen/qwen3-32b:free")] {
        let quote = prices.price(upstream, model, on(TODAY)).expect("free");
        assert_eq!(quote.cost(&Usage { input: 1, output: 1, ..Usage::default() }, Tier::Priority), 0);
        assert_eq!(quote.source(), Source::Free);
    }
}

#[test]
fn a_price_that_was_announced_holds_from_its_day_on() {
    let prices = prices();
    let input =
        |model: &str, day: &str| prices.price("gemini", model, on(day)).map(|quote| quote.price().usual().input);
    assert_eq!(input("gemini-4-argon", "2026-11-30"), Some(2_000_000));
    assert_eq!(input("gemini-4-argon", "2026-12-01"), Some(4_000_000));
    let quote = prices.price("gemini", "gemini-4-argon", on("2026-12-01")).expect("a price");
    assert!(quote.source().to_string().ends_with(", valid since 2026-12-01"), "{}", quote.source());
}

#[test]
fn tiers_and_long_prompts_are_known() {
    let prices = prices();
    let cost = |model: &str, input, tier| {
        let quote = prices.price("openai", model, on(TODAY)).expect("a price");
        quote.cost(&Usage { input, ..Usage::default() }, tier) / u128::from(input)
    };
    assert_eq!(cost("gpt-5", 1_000, Tier::Standard), 1_250_000);
    assert_eq!(cost("gpt-5", 1_000, Tier::Flex), 625_000);
    assert_eq!(cost("gpt-5", 1_000, Tier::Batch), 625_000);
    assert_eq!(cost("gpt-5", 1_000, Tier::Priority), 2_500_000);
    assert_eq!(cost("gpt-5.4", 272_000, Tier::Standard), 2_500_000);
    assert_eq!(cost("gpt-5.4", 272_001, Tier::Standard), 5_000_000);
    let quote = prices.price("anthropic", "claude-opus-5-5", on(TODAY)).expect("a price");
    assert_eq!(quote.cost(&Usage { output: 10, ..Usage::default() }, Tier::Fast), 400_000_000);
}

#[test]
fn the_operators_file_comes_first_and_then_litellms() {
    let own = "[[price]]\nmodel = \"gpt-5\"\ninput = 1\noutput = 2\n\
        [[price]]\nmodel = \"deployed\"\nlike = \"gpt-5-mini\"\n[[price]]\nmodel = \"as-agreed\"\nlike = \"gpt-5\"\n\
        [[price]]\nmodel = \"round\"\nlike = \"as-agreed\"\n";
    let litellm = r#"{"gpt-5":{"input_cost_per_token":9e-6},"gpt-5-nano":{"input_cost_per_token":8e-6}}"#;
    let files = Read {
        own: Some((PathBuf::from("prices.toml"), Arc::new(Own::read(own).expect("prices")))),
        litellm: Some((PathBuf::from("l.json"), Arc::new(Table::read(litellm).expect("prices")))),
    };
    let half = Terms { vendor: Some("openai".into()), factor: Factor::of(0.5), is_free: false };
    let prices = Prices::new(BTreeMap::from([("openai".to_owned(), half)]), files);
    let usage = Usage { input: 2, ..Usage::default() };
    let of = |model: &str| {
        let quote = prices.price("openai", model, on(TODAY))?;
        Some((quote.cost(&usage, Tier::Standard) / 2, quote.source().as_str()))
    };
    assert_eq!(of("gpt-5"), Some((1_000_000, "own")), "what was agreed on is what is paid");
    assert_eq!(of("gpt-5-nano"), Some((4_000_000, "litellm")));
    assert_eq!(of("gpt-5-mini"), Some((125_000, "built-in")));
    assert_eq!(of("deployed"), Some((125_000, "built-in")));
    assert_eq!(of("as-agreed"), Some((1_000_000, "own")));
    assert_eq!(of("round"), None, "one step is followed, and no circle");
    assert_eq!(prices.names_with("DEPLOY"), ["deployed"]);
}
