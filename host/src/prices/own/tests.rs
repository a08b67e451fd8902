use super::*;
use crate::prices::names::names;

const FILE: &str = r#"
# What we have agreed on.
[[price]]
model = "gpt-5*"
input = 1.25
output = "10"

[[price]]
model = "gpt-5"
input = 1
output = 8.5
cache_read = 0.1
batch = { input = 0.5, output = 4.25 }
above = { tokens = 272_000, input = 2 }

[[price]]
model = "GPT-5"
valid_from = 2026-11-01
input = 0.9
output = 8

[[price]]
model = "gpt-5"
upstream = "mine"
input = 0
output = 0

[[price]]
model = "my-deployment"
like = "gpt-5"

[[price]]
model = "gemini-4*"
vendor = "gemini"
input = 4
output = 20
"#;

fn on(day: &str) -> Date {
    day.parse().expect("a day")
}

#[test]
fn the_row_that_says_most_about_a_model_counts() {
    let own = Own::read(FILE).expect("prices");
    let line = |upstream: &str, vendor: Option<&str>, model: &str, day: &str| {
        let asked = Asked { upstream, vendor, at: on(day) };
        own.find(&names(vendor, model), asked, true).map(|row| row.line)
    };
    let openai = Some("openai");
    assert_eq!(line("openai", openai, "gpt-5", "2026-10-31"), Some(8));
    assert_eq!(line("openai", openai, "gpt-5", "2026-11-01"), Some(16), "valid since that day");
    assert_eq!(line("openai", openai, "gpt-5-2025-08-07", "2026-11-01"), Some(16), "a day belongs to the same model");
    assert_eq!(line("openai", openai, "gpt-5-mini", "2026-11-01"), Some(3), "its beginning is named");
    assert_eq!(line("mine", None, "openai/gpt-5", "2026-11-01"), Some(22));
    assert_eq!(line("openai", openai, "my-deployment", "2026-11-01"), Some(28));
    assert_eq!(line("openai", openai, "gemini-4-argon", "2026-11-01"), None, "another vendor's");
    assert_eq!(line("google", Some("gemini"), "gemini-4-argon", "2026-11-01"), Some(32));
    assert_eq!(line("openai", openai, "gpt-4o", "2026-11-01"), None);
    let asked = Asked { upstream: "openai", vendor: openai, at: on("2026-11-01") };
    assert!(own.find(&names(openai, "my-deployment"), asked, false).is_none());
}

#[test]
fn a_price_is_read_to_the_last_digit_with_all_that_belongs_to_it() {
    let own = Own::read(FILE).expect("prices");
    let Says::Price(price) = &own.rows[1].says else { panic!("a price") };
    let usual = price.usual();
    assert_eq!((usual.input, usual.output, usual.cache_read), (1_000_000, 8_500_000, 100_000));
    let others: Vec<_> = price.others().map(|(tier, above, rates)| (tier, above, rates.input, rates.output)).collect();
    assert_eq!(others, [(Tier::Standard, 272_000, 2_000_000, 8_500_000), (Tier::Batch, 0, 500_000, 4_250_000)]);
    let Says::Price(price) = &own.rows[0].says else { panic!("a price") };
    assert_eq!((price.usual().input, price.usual().output), (1_250_000, 10_000_000));
}

#[test]
fn every_mistake_has_its_line_and_what_would_be_right() {
    for (text, line, words) in [
        ("[[price]]\ninput = 1\noutput = 2\n", 1, "model is missing"),
        ("[[price]]\nmodel = \"m\"\n", 1, "no price"),
        ("[[price]]\nmodel = \"m\"\ninput = -1\noutput = 1\n", 3, "input: expected dollars per million"),
        ("[[price]]\nmodel = \"m\"\ninput = true\noutput = 1\n", 3, "input: expected dollars per million"),
        ("[[price]]\nmodel = \"m\"\ninput = inf\noutput = 1\n", 3, "input: expected dollars per million"),
        ("[[price]]\nmodel = \"m\"\ninput = 0x10\noutput = 1\n", 3, "input: expected dollars per million"),
        ("[[price]]\nmodel = \"m\"\ninput = 2000000\noutput = 1\n", 3, "to a million"),
        ("[[price]]\nmodel = \"m*x\"\ninput = 1\n", 1, "at the end only"),
        ("[[price]]\nmodel = \"m\"\nlike = \"n\"\ninput = 1\n", 1, "nothing else may say a price"),
        ("[[price]]\nmodel = \"m\"\ninput = 1\noutptu = 2\n", 4, "unknown: outptu"),
        ("[[price]]\nmodel = \"m\"\ninput = 1\nvalid_from = 2026-13-01\n", 4, ""),
        ("[[price]]\nmodel = \"m\"\ninput = 1\nvalid_from = \"soon\"\n", 4, "expected a day"),
        ("[[price]]\nmodel = \"m\"\ninput = 1\nbatch = 2\n", 4, "expected what input and output cost"),
        ("[[price]]\nmodel = \"m\"\ninput = 1\nabove = { input = 2 }\n", 4, "expected tokens"),
        ("[[price]]\nmodel = \"m\"\ninput = 1\nabove = { tokens = 9, inptu = 2 }\n", 4, "unknown: inptu"),
        ("price = 1\n", 1, "begins with [[price]]"),
        ("[prices]\n", 1, "unknown: prices"),
        ("[[price]\n", 1, ""),
    ] {
        let mistakes = Own::read(text).expect_err(text);
        assert!(mistakes.iter().any(|one| one.line == line && one.message.contains(words)), "{text}: {mistakes:?}");
    }
    let both = Own::read("[[price]]\ninput = 1\n[[price]]\nmodel = \"m\"\n").expect_err("two mistakes");
    assert_eq!(both.iter().map(|one| one.line).collect::<Vec<_>>(), [1, 3]);
    let many = "[[price]]\nmodel = \"m\"\ninput = 1\n".repeat(ROWS_MAX + 1);
    assert!(Own::read(&many).expect_err("too many")[0].message.contains("more than 1000"));
    assert!(Own::read("").expect("no prices at all").rows.is_empty());
}
