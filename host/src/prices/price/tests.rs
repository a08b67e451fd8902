use super::*;
use proptest::prelude::*;

/// A dollar per million tokens.
const DOLLAR: u64 = 1_000_000;
/// A dollar.
const ONE: u128 = 1_000_000_000_000;

fn quote(price: &Price) -> Quote<'_> {
    Quote { price, factor: Factor::ONE, source: Source::Free }
}

fn step(tier: Tier, above: u64, rates: Rates) -> Step {
    Step { tier, above, rates }
}

/// Claude with its two kinds of written caches, a batch at half the price, and long prompts at twice.
fn claude() -> Price {
    let said = Said {
        input: Some(3 * DOLLAR),
        output: Some(15 * DOLLAR),
        cache_read: Some(DOLLAR * 3 / 10),
        cache_write_5m: Some(DOLLAR * 15 / 4),
        cache_write_1h: Some(6 * DOLLAR),
        ..Said::default()
    };
    let usual = said.rates();
    let half = Said { input: Some(DOLLAR * 3 / 2), output: Some(DOLLAR * 15 / 2), ..Said::default() };
    let long = Said { input: Some(6 * DOLLAR), output: Some(DOLLAR * 45 / 2), ..Said::default() };
    let steps =
        vec![step(Tier::Standard, 200_000, long.rates_beside(&usual)), step(Tier::Batch, 0, half.rates_beside(&usual))];
    Price::of(usual, steps)
}

#[test]
fn each_kind_of_token_costs_what_it_costs() {
    let million = 1_000_000;
    let price = claude();
    let quote = quote(&price);
    let cases = [
        (Usage { input: million / 10, ..Usage::default() }, Tier::Standard, ONE * 3 / 10),
        (Usage { output: million, ..Usage::default() }, Tier::Standard, ONE * 15),
        (Usage { output: million, reasoning: million, ..Usage::default() }, Tier::Standard, ONE * 15),
        (Usage { input: 100_000, cache_read: 100_000, ..Usage::default() }, Tier::Standard, ONE * 3 / 100),
        (Usage { input: 100_000, cache_write_5m: 100_000, ..Usage::default() }, Tier::Standard, ONE * 375 / 1_000),
        (Usage { input: 100_000, cache_write_1h: 100_000, ..Usage::default() }, Tier::Standard, ONE * 6 / 10),
        // All of a prompt costs what the long ones cost, and the answer to it as well.
        (Usage { input: million, ..Usage::default() }, Tier::Standard, ONE * 6),
        (Usage { input: million, cache_read: million, ..Usage::default() }, Tier::Standard, ONE * 6 / 10),
        (Usage { input: 200_000, output: million, ..Usage::default() }, Tier::Standard, ONE * 156 / 10),
        (Usage { input: 200_001, output: million, ..Usage::default() }, Tier::Standard, ONE * 237 / 10 + 6_000_000),
        // What a file does not say of a tier keeps its relation.
        (Usage { input: million, ..Usage::default() }, Tier::Batch, ONE * 15 / 10),
        (Usage { input: million, cache_write_1h: million, ..Usage::default() }, Tier::Batch, ONE * 3),
        // A tier of which nothing is known.
        (Usage { input: million, ..Usage::default() }, Tier::Priority, ONE * 6),
        // A part that is larger than its whole is the whole.
        (Usage { input: 100_000, cache_read: million, ..Usage::default() }, Tier::Standard, ONE * 3 / 100),
    ];
    for (usage, tier, expected) in cases {
        assert_eq!(quote.cost(&usage, tier), expected, "{usage:?} {tier:?}");
    }
}

#[test]
fn what_a_file_leaves_out_costs_as_much_as_what_it_is_a_part_of() {
    let said = Said { input: Some(2), output: Some(8), ..Said::default() };
    let rates = said.rates();
    assert_eq!((rates.cache_read, rates.cache_write_5m, rates.cache_write_1h, rates.audio_input), (2, 2, 2, 2));
    assert_eq!((rates.reasoning, rates.audio_output), (8, 8));
    assert!(!Said { cache_read: Some(1), ..Said::default() }.is_a_price());
    let free = Said { input: Some(0), output: Some(0), ..Said::default() }.rates();
    let dear = Said { input: Some(5), ..Said::default() }.rates_beside(&free);
    assert_eq!((dear.input, dear.cache_read), (5, 0), "nothing keeps no relation");
}

#[test]
fn a_factor_is_on_each_rate() {
    let price = claude();
    let quote = Quote { factor: Factor::of(0.9), ..quote(&price) };
    let usage = Usage { input: 100_000, output: 100_000, ..Usage::default() };
    assert_eq!(quote.cost(&usage, Tier::Standard), ONE * (3 + 15) / 10 * 9 / 10);
    assert_eq!(Factor::of(0.9).get(), 0.9);
    assert_eq!((Factor::of(-1.0).get(), Factor::of(1e9).get(), Factor::of(f64::NAN).get()), (0.0, Factor::MAX, 0.0));
}

fn any_rates(most: u64) -> impl Strategy<Value = Rates> {
    prop::array::uniform8(0..=most).prop_map(|rates| {
        let [input, output, cache_read, cache_write_5m, cache_write_1h, reasoning, audio_input, audio_output] = rates;
        Rates { input, output, cache_read, cache_write_5m, cache_write_1h, reasoning, audio_input, audio_output }
    })
}

fn any_tier() -> impl Strategy<Value = Tier> {
    (0..Tier::ALL.len()).prop_map(|at| Tier::ALL[at])
}

fn any_price() -> impl Strategy<Value = Price> {
    let step = (any_tier(), prop_oneof![Just(0), 1..1_000u64], any_rates(RATE_MAX));
    let step = step.prop_map(|(tier, above, rates)| Step { tier, above, rates });
    (any_rates(RATE_MAX), prop::collection::vec(step, 0..5)).prop_map(|(usual, steps)| Price::of(usual, steps))
}

fn any_usage(most: u64) -> impl Strategy<Value = Usage> {
    prop::array::uniform8(0..=most).prop_map(|counts| {
        let [input, output, cache_read, cache_write_5m, cache_write_1h, reasoning, audio_input, audio_output] = counts;
        Usage {
            input,
            output,
            cache_read,
            cache_write_5m,
            cache_write_1h,
            reasoning,
            audio_input,
            audio_output,
            tier: Tier::Standard,
        }
    })
}

proptest! {
    #[test]
    fn nothing_is_too_large(price in any_price(), usage in any_usage(u64::MAX), tier in any_tier(), factor in 0.0..200.0) {
        let quote = Quote { factor: Factor::of(factor), ..quote(&price) };
        let cost = quote.cost(&usage, tier);
        prop_assert!(cost <= quote.upper_bound(usage.input, usage.output, tier));
        let all = Usage { input: u64::MAX, output: u64::MAX, ..usage };
        prop_assert!(quote.cost(&all, tier) <= quote.upper_bound(u64::MAX, u64::MAX, tier));
    }

    #[test]
    fn no_answer_costs_more_than_its_upper_bound(
        price in any_price(), usage in any_usage(2_000), more in 0..1_000u64, tier in any_tier()
    ) {
        let quote = quote(&price);
        let bound = quote.upper_bound(usage.input + more, usage.output + more, tier);
        prop_assert!(quote.cost(&usage, tier) <= bound);
        prop_assert!(quote.cost(&usage, Tier::Standard) <= bound, "it was served as usual");
        prop_assert!(bound <= quote.upper_bound(usage.input + more + 1, usage.output + more, tier));
    }

    #[test]
    fn costs_add_up_where_no_length_changes_the_price(
        rates in any_rates(RATE_MAX), one in any_usage(u64::MAX / 4), other in any_usage(u64::MAX / 4)
    ) {
        let price = Price::of(rates, Vec::new());
        let quote = quote(&price);
        let (one, other) = (one.within_wholes(), other.within_wholes());
        let of = |usage: Usage| quote.cost(&usage, Tier::Standard);
        prop_assert_eq!(of(one.plus(other)), of(one) + of(other));
    }

    #[test]
    fn more_of_a_kind_never_costs_less(rates in any_rates(RATE_MAX), usage in any_usage(u64::MAX / 4), more in 0..u64::MAX / 4) {
        let price = Price::of(rates, Vec::new());
        let quote = quote(&price);
        let usage = usage.within_wholes();
        let of = |usage: Usage| quote.cost(&usage, Tier::Standard);
        let input = usage.input + more;
        for grown in [
            Usage { input, ..usage },
            Usage { input, cache_read: usage.cache_read + more, ..usage },
            Usage { input, cache_write_1h: usage.cache_write_1h + more, ..usage },
            Usage { input, audio_input: usage.audio_input + more, ..usage },
            Usage { output: usage.output + more, ..usage },
            Usage { output: usage.output + more, reasoning: usage.reasoning + more, ..usage },
        ] {
            prop_assert!(of(grown) >= of(usage));
        }
    }
}
