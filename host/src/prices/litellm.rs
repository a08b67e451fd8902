//! LiteLLM's table of prices: one JSON object with a member for each model, and dollars a token under keys that say
//! what the token is, of which tier, and of how long a prompt.

use super::money::{self, RATE_MAX};
use super::price::{Price, Rates, Said, Step};
use crate::dialect::Tier;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};

/// Largest file that is read. LiteLLM's own has 4 MB.
pub(super) const FILE_BYTES_MAX: u64 = 64 << 20;

/// Prices by the name under which LiteLLM knows a model, in small letters.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    prices: HashMap<Box<str>, Price>,
    /// What stands beside the models, about the table itself.
    pub(super) as_of: Option<String>,
}

impl Table {
    /// Reads a table. What is no model, or has no price of tokens, is passed over, and so is one whose tokens all cost
    /// nothing: that is how such tables say that they do not know.
    ///
    /// # Errors
    /// When it is no JSON object, with the line; or holds no price at all.
    pub(super) fn read(text: &str) -> Result<Table, (usize, String)> {
        let models: HashMap<String, &RawValue> =
            serde_json::from_str(text).map_err(|error| (error.line(), format!("no JSON object: {error}")))?;
        let mut table = Table::default();
        for (name, written) in models {
            if name == AS_OF {
                table.as_of = serde_json::from_str(written.get()).ok();
            } else if let Some(price) = price(written) {
                table.prices.insert(name.to_ascii_lowercase().into(), price);
            }
        }
        match table.prices.is_empty() {
            true => Err((1, "none of its members is a model with a price of its tokens".to_owned())),
            false => Ok(table),
        }
    }

    /// The price of the model that is called so.
    pub(super) fn get(&self, name: &str) -> Option<&Price> {
        self.prices.get(name)
    }

    /// How many models it knows.
    pub(super) fn len(&self) -> usize {
        self.prices.len()
    }

    /// All names, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.prices.keys().map(|name| &**name)
    }
}

/// Beside the models: the day on which the table was taken.
const AS_OF: &str = "_as_of";

/// What the price of a token is the price of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Input,
    Output,
    CacheRead,
    CacheWrite5m,
    CacheWrite1h,
    Reasoning,
    AudioInput,
    AudioOutput,
    ImageInput,
    ImageOutput,
}

/// How keys begin, and of which kind of token they speak. Those of longer lifetimes stand before the one they begin
/// with.
const KINDS: [(&str, Kind); 12] = [
    ("input_cost_per_token_cache_hit", Kind::CacheRead),
    ("input_cost_per_token", Kind::Input),
    ("output_cost_per_token", Kind::Output),
    ("cache_read_input_token_cost", Kind::CacheRead),
    ("cache_creation_input_token_cost_above_1hr", Kind::CacheWrite1h),
    ("cache_creation_input_token_cost_above_12hr", Kind::CacheWrite1h),
    ("cache_creation_input_token_cost", Kind::CacheWrite5m),
    ("output_cost_per_reasoning_token", Kind::Reasoning),
    ("input_cost_per_audio_token", Kind::AudioInput),
    ("output_cost_per_audio_token", Kind::AudioOutput),
    ("input_cost_per_image_token", Kind::ImageInput),
    ("output_cost_per_image_token", Kind::ImageOutput),
];

const TIERS: [(&str, Tier); 4] =
    [("_batches", Tier::Batch), ("_flex", Tier::Flex), ("_priority", Tier::Priority), ("_ultrafast", Tier::Ultrafast)];

/// What a key is about: the kind of token, the length above which it holds, and the tier. `None` for all other keys.
fn meaning(key: &str) -> Option<(Kind, u64, Tier)> {
    let (kind, mut rest) = KINDS.iter().find_map(|(begin, kind)| Some((*kind, key.strip_prefix(begin)?)))?;
    let mut above = 0;
    if let Some(length) = rest.strip_prefix("_above_") {
        let (thousands, behind) = length.split_once("k_tokens")?;
        (above, rest) = (thousands.parse::<u64>().ok()?.checked_mul(1_000)?, behind);
    }
    let tier = match rest {
        "" => Tier::Standard,
        _ => TIERS.iter().find(|(word, _)| *word == rest)?.1,
    };
    Some((kind, above, tier))
}

/// What a row says, by tier and length.
#[derive(Default)]
struct Row {
    said: BTreeMap<(Tier, u64), (Said, Images)>,
    makes_images: bool,
    /// What fast mode costs, in thousandths of what is usual.
    fast: Option<u64>,
}

/// Images are no kind of their own here. Where a model makes them, they decide what its tokens cost.
#[derive(Clone, Copy, Default)]
struct Images {
    input: Option<u64>,
    output: Option<u64>,
}

fn price(written: &RawValue) -> Option<Price> {
    let fields: HashMap<String, &RawValue> = serde_json::from_str(written.get()).ok()?;
    let mut row = Row::default();
    for (key, value) in fields {
        row.take(&key, value.get());
    }
    row.price()
}

impl Row {
    fn take(&mut self, key: &str, value: &str) {
        match key {
            "mode" => self.makes_images |= value == "\"image_generation\"",
            "provider_specific_entry" => {
                let entry: Option<HashMap<String, &RawValue>> = serde_json::from_str(value).ok();
                let fast = entry.and_then(|entry| money::thousandths(entry.get("fast")?.get()));
                self.fast = fast.or(self.fast);
            }
            "tiered_pricing" => self.take_ranges(value),
            _ => {
                if let (Some((kind, above, tier)), Some(rate)) = (meaning(key), money::per_token(value)) {
                    self.set((tier, above), kind, rate);
                }
            }
        }
    }

    /// Prices by the length of the prompt, as a list of ranges.
    fn take_ranges(&mut self, value: &str) {
        let ranges: Vec<HashMap<String, &RawValue>> = serde_json::from_str(value).unwrap_or_default();
        for range in ranges {
            let begins = range.get("range").and_then(|range| serde_json::from_str::<[f64; 2]>(range.get()).ok());
            let Some([from, _]) = begins.filter(|[from, _]| *from >= 0.0) else { continue };
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a number of tokens, not below 0"
            )]
            let from = from as u64;
            for (key, value) in &range {
                if let (Some((kind, 0, Tier::Standard)), Some(rate)) = (meaning(key), money::per_token(value.get())) {
                    self.set((Tier::Standard, from), kind, rate);
                }
            }
        }
    }

    fn set(&mut self, place: (Tier, u64), kind: Kind, rate: u64) {
        let (said, images) = self.said.entry(place).or_default();
        let field = match kind {
            Kind::Input => &mut said.input,
            Kind::Output => &mut said.output,
            Kind::CacheRead => &mut said.cache_read,
            Kind::CacheWrite5m => &mut said.cache_write_5m,
            Kind::CacheWrite1h => &mut said.cache_write_1h,
            Kind::Reasoning => &mut said.reasoning,
            Kind::AudioInput => &mut said.audio_input,
            Kind::AudioOutput => &mut said.audio_output,
            Kind::ImageInput => &mut images.input,
            Kind::ImageOutput => &mut images.output,
        };
        // Two words for the same differ by mistake alone: the dearer one is no disappointment.
        *field = (*field).max(Some(rate));
    }

    fn price(mut self) -> Option<Price> {
        for (said, images) in self.said.values_mut() {
            if self.makes_images {
                (said.input, said.output) = (said.input.max(images.input), said.output.max(images.output));
            } else {
                said.output = said.output.or(images.output);
            }
        }
        let said = |place: (Tier, u64)| self.said.get(&place).map(|(said, _)| *said).filter(Said::is_a_price);
        let usual = said((Tier::Standard, 0))?.rates();
        if usual == Rates::default() {
            return None;
        }
        let mut steps: Vec<Step> = Vec::new();
        for (tier, above) in self.said.keys().copied().filter(|place| *place != (Tier::Standard, 0)) {
            let Some(said) = said((tier, above)) else { continue };
            let of_tier = Row::said_of(&steps, tier).unwrap_or(usual);
            steps.push(Step { tier, above, rates: said.rates_beside(&of_tier) });
        }
        if let Some(fast) = self.fast {
            let times = |rate: u64| (u128::from(rate) * u128::from(fast)).div_ceil(1_000);
            let rates = usual.each(|rate| u64::try_from(times(rate)).unwrap_or(RATE_MAX).min(RATE_MAX));
            steps.push(Step { tier: Tier::Fast, above: 0, rates });
        }
        Some(Price::of(usual, steps))
    }

    /// The rates of a tier for short prompts, if they are known already: they come first in the order of places.
    fn said_of(steps: &[Step], tier: Tier) -> Option<Rates> {
        steps.iter().find(|step| step.tier == tier && step.above == 0).map(|step| step.rates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_say_what_a_token_is_of_which_tier_and_of_how_long_a_prompt() {
        use Tier::{Batch, Flex, Priority, Standard};
        for (key, expected) in [
            ("input_cost_per_token", Some((Kind::Input, 0, Standard))),
            ("output_cost_per_token_batches", Some((Kind::Output, 0, Batch))),
            ("input_cost_per_token_above_200k_tokens", Some((Kind::Input, 200_000, Standard))),
            ("cache_read_input_token_cost_above_272k_tokens_priority", Some((Kind::CacheRead, 272_000, Priority))),
            ("cache_creation_input_token_cost", Some((Kind::CacheWrite5m, 0, Standard))),
            ("cache_creation_input_token_cost_above_1hr", Some((Kind::CacheWrite1h, 0, Standard))),
            (
                "cache_creation_input_token_cost_above_1hr_above_200k_tokens",
                Some((Kind::CacheWrite1h, 200_000, Standard)),
            ),
            (
                "cache_creation_input_token_cost_above_12hr_above_272k_tokens_flex",
                Some((Kind::CacheWrite1h, 272_000, Flex)),
            ),
            ("output_cost_per_reasoning_token", Some((Kind::Reasoning, 0, Standard))),
            ("input_cost_per_token_cache_hit", Some((Kind::CacheRead, 0, Standard))),
            ("input_cost_per_audio_token", Some((Kind::AudioInput, 0, Standard))),
            ("input_cost_per_audio_per_second", None),
            ("input_cost_per_token_balanced", None),
            ("input_cost_per_token_above_many_tokens", None),
            ("max_input_tokens", None),
        ] {
            assert_eq!(meaning(key), expected, "{key}");
        }
    }

    fn one(row: &str) -> Option<Price> {
        let table = Table::read(&format!("{{\"sample_spec\":{{}},\"M\":{row}}}")).ok()?;
        table.get("m").cloned()
    }

    #[test]
    fn a_row_is_read_with_all_that_it_says() {
        let price =
            one(r#"{"input_cost_per_token":1e-06,"output_cost_per_token":0.000002,"cache_read_input_token_cost":1e-7,
                "input_cost_per_token_batches":5e-07,"output_cost_per_token_batches":1e-06,
                "input_cost_per_token_above_200k_tokens":2e-06,"max_tokens":8,"mode":"chat",
                "provider_specific_entry":{"us":1.1,"fast":2.5},"supports_vision":true}"#)
            .expect("a price");
        let usual = price.usual();
        assert_eq!((usual.input, usual.output, usual.cache_read), (1_000_000, 2_000_000, 100_000));
        let others: Vec<_> = price.others().map(|(tier, above, rates)| (tier, above, *rates)).collect();
        let [long, batch, fast] = others[..] else { panic!("{others:?}") };
        assert_eq!((long.0, long.1, long.2.input, long.2.cache_read), (Tier::Standard, 200_000, 2_000_000, 200_000));
        assert_eq!(long.2.output, 2_000_000);
        assert_eq!((batch.0, batch.1, batch.2.input, batch.2.cache_read), (Tier::Batch, 0, 500_000, 50_000));
        assert_eq!((fast.0, fast.2.input, fast.2.output), (Tier::Fast, 2_500_000, 5_000_000));
    }

    #[test]
    fn ranges_are_lengths() {
        let price = one(
            r#"{"tiered_pricing":[{"input_cost_per_token":5e-08,"output_cost_per_token":4e-07,"range":[0,256000.0]},
                {"input_cost_per_token":2.5e-07,"output_cost_per_token":2e-06,"range":[256000.0,1e6]},{"range":"x"}]}"#,
        )
        .expect("a price");
        assert_eq!(price.usual().input, 50_000);
        let others: Vec<_> = price.others().map(|(_, above, rates)| (above, rates.output)).collect();
        assert_eq!(others, [(256_000, 2_000_000)]);
    }

    #[test]
    fn images_are_what_the_tokens_of_a_model_cost_that_makes_them() {
        let made = r#"{"mode":"image_generation","input_cost_per_token":5e-7,"output_cost_per_token":3e-6,
            "output_cost_per_image_token":6e-5}"#;
        assert_eq!(one(made).expect("a price").usual().output, 60_000_000);
        let alone = r#"{"input_cost_per_token":5e-6,"output_cost_per_image_token":4e-5}"#;
        assert_eq!(one(alone).expect("a price").usual().output, 40_000_000);
        let chat = r#"{"mode":"chat","output_cost_per_token":3e-6,"output_cost_per_image_token":6e-5}"#;
        assert_eq!(one(chat).expect("a price").usual().output, 3_000_000);
    }

    #[test]
    fn what_has_no_price_of_tokens_is_none() {
        for row in [
            "{}",
            "[]",
            "7",
            r#"{"input_cost_per_token":0,"output_cost_per_token":0.0}"#,
            r#"{"input_cost_per_token":"1e-6"}"#,
            r#"{"input_cost_per_token":-1e-6}"#,
            r#"{"input_cost_per_second":1e-6}"#,
            r#"{"cache_read_input_token_cost":1e-6}"#,
        ] {
            assert_eq!(one(row), None, "{row}");
        }
        assert!(matches!(Table::read("{\n\"a\":\n}"), Err((3, _))));
        assert!(matches!(Table::read("[]"), Err((1, _))));
        assert!(Table::read("{}").is_err());
    }
}
