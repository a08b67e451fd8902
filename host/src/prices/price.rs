//! The price of a model, and what becomes of tokens by it.

use super::money::RATE_MAX;
use super::source::Source;
use crate::dialect::{Tier, Usage};

/// What a token of each kind costs, in pico-dollars, which is micro-dollars per million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Input of no other kind.
    pub input: u64,
    /// Output of no other kind.
    pub output: u64,
    /// Input from a cache.
    pub cache_read: u64,
    /// Input into a cache for minutes.
    pub cache_write_5m: u64,
    /// Input into a cache for an hour or more.
    pub cache_write_1h: u64,
    /// Reasoning.
    pub reasoning: u64,
    /// Sound that was heard.
    pub audio_input: u64,
    /// Sound that was spoken.
    pub audio_output: u64,
}

impl Rates {
    /// What this usage costs, in pico-dollars. Neither the number of tokens nor the rates can be so large that it does
    /// not fit.
    fn cost(&self, usage: &Usage) -> u128 {
        let usage = usage.within_wholes();
        let of_input = usage.cache_read + usage.cache_write_5m + usage.cache_write_1h + usage.audio_input;
        let of_output = usage.reasoning + usage.audio_output;
        let products = [
            (usage.input - of_input, self.input),
            (usage.cache_read, self.cache_read),
            (usage.cache_write_5m, self.cache_write_5m),
            (usage.cache_write_1h, self.cache_write_1h),
            (usage.audio_input, self.audio_input),
            (usage.output - of_output, self.output),
            (usage.reasoning, self.reasoning),
            (usage.audio_output, self.audio_output),
        ];
        products.into_iter().map(|(tokens, rate)| u128::from(tokens) * u128::from(rate)).sum()
    }

    /// The most that so many tokens can cost, of whatever kinds they are.
    fn upper_bound(&self, input: u64, output: u64) -> u128 {
        let of_input = [self.input, self.cache_read, self.cache_write_5m, self.cache_write_1h, self.audio_input];
        let of_output = [self.output, self.reasoning, self.audio_output];
        let dearest = |rates: &[u64]| u128::from(rates.iter().copied().max().unwrap_or_default());
        u128::from(input) * dearest(&of_input) + u128::from(output) * dearest(&of_output)
    }

    pub(super) fn each(self, of: impl Fn(u64) -> u64) -> Rates {
        Rates {
            input: of(self.input),
            output: of(self.output),
            cache_read: of(self.cache_read),
            cache_write_5m: of(self.cache_write_5m),
            cache_write_1h: of(self.cache_write_1h),
            reasoning: of(self.reasoning),
            audio_input: of(self.audio_input),
            audio_output: of(self.audio_output),
        }
    }
}

/// Rates as a file says them: those that it leaves out follow from the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
    pub(super) cache_read: Option<u64>,
    pub(super) cache_write_5m: Option<u64>,
    pub(super) cache_write_1h: Option<u64>,
    pub(super) reasoning: Option<u64>,
    pub(super) audio_input: Option<u64>,
    pub(super) audio_output: Option<u64>,
}

impl Said {
    /// Whether it says what tokens cost at all.
    pub(super) fn is_a_price(&self) -> bool {
        self.input.is_some() || self.output.is_some()
    }

    /// The usual rates. What a file is silent about costs as much as what it is a part of; output that is not said at
    /// all, as with embeddings, costs nothing, since there is none.
    pub(super) fn rates(&self) -> Rates {
        let input = self.input.unwrap_or_default();
        let output = self.output.unwrap_or_default();
        let cache_write_5m = self.cache_write_5m.unwrap_or(input);
        Rates {
            input,
            output,
            cache_read: self.cache_read.unwrap_or(input),
            cache_write_5m,
            cache_write_1h: self.cache_write_1h.unwrap_or(cache_write_5m),
            reasoning: self.reasoning.unwrap_or(output),
            audio_input: self.audio_input.unwrap_or(input),
            audio_output: self.audio_output.unwrap_or(output),
        }
    }

    /// The rates of another tier, or of long prompts. What a file is silent about keeps its relation to what it is a
    /// part of.
    pub(super) fn rates_beside(&self, usual: &Rates) -> Rates {
        let (input, output) = (self.input.unwrap_or(usual.input), self.output.unwrap_or(usual.output));
        let of_input = |said: Option<u64>, part: u64| said.unwrap_or_else(|| in_relation(part, usual.input, input));
        let of_output = |said: Option<u64>, part: u64| said.unwrap_or_else(|| in_relation(part, usual.output, output));
        Rates {
            input,
            output,
            cache_read: of_input(self.cache_read, usual.cache_read),
            cache_write_5m: of_input(self.cache_write_5m, usual.cache_write_5m),
            cache_write_1h: of_input(self.cache_write_1h, usual.cache_write_1h),
            reasoning: of_output(self.reasoning, usual.reasoning),
            audio_input: of_input(self.audio_input, usual.audio_input),
            audio_output: of_output(self.audio_output, usual.audio_output),
        }
    }
}

/// What stands to `other` as `part` stands to `whole`.
fn in_relation(part: u64, whole: u64, other: u64) -> u64 {
    let product = u128::from(part) * u128::from(other);
    match u128::from(whole) {
        0 => part,
        whole => u64::try_from((product + whole / 2) / whole).unwrap_or(RATE_MAX).min(RATE_MAX),
    }
}

/// Rates that hold for a tier, and for prompts above a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) tier: Tier,
    /// Input tokens, cached ones included, above which they hold for all tokens of a request.
    pub(super) above: u64,
    pub(super) rates: Rates,
}

/// The price of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    usual: Rates,
    /// What differs from that. In the order of tiers and then of lengths.
    others: Box<[Step]>,
}

impl Price {
    /// These rates, and what differs from them in other tiers and above some lengths. Of two that stand for the same
    /// the later one counts.
    pub(super) fn of(usual: Rates, others: Vec<Step>) -> Price {
        let mut steps: Vec<Step> = Vec::with_capacity(others.len());
        for other in others {
            match steps.iter_mut().find(|step| (step.tier, step.above) == (other.tier, other.above)) {
                Some(step) => *step = other,
                None => steps.push(other),
            }
        }
        steps.sort_by_key(|step| (step.tier, step.above));
        Price { usual, others: steps.into() }
    }

    /// The rates by which a request with so many input tokens is charged. A tier of which nothing is known costs what
    /// is usual.
    fn rates(&self, tier: Tier, input: u64) -> &Rates {
        let of = |tier: Tier| {
            let steps = self.others.iter().filter(move |step| step.tier == tier && step.holds(input));
            steps.map(|step| &step.rates).next_back()
        };
        of(tier).or_else(|| of(Tier::Standard)).unwrap_or(&self.usual)
    }

    /// All rates by which a request may be charged that has at most so many input tokens and asks for this tier. It may
    /// be served at the usual one all the same.
    fn possible(&self, tier: Tier, input: u64) -> impl Iterator<Item = &Rates> {
        let is_possible = move |step: &&Step| (step.tier == tier || step.tier == Tier::Standard) && step.holds(input);
        std::iter::once(&self.usual).chain(self.others.iter().filter(is_possible).map(|step| &step.rates))
    }

    /// The usual rates, of short prompts.
    pub fn usual(&self) -> &Rates {
        &self.usual
    }

    /// What differs from the usual: for a tier, above so many input tokens, these rates.
    pub fn others(&self) -> impl Iterator<Item = (Tier, u64, &Rates)> {
        self.others.iter().map(|step| (step.tier, step.above, &step.rates))
    }
}

impl Step {
    fn holds(&self, input: u64) -> bool {
        // What holds from the first token on holds for an empty prompt as well.
        self.above == 0 || input > self.above
    }
}

/// What the prices of an upstream are multiplied by: a discount, or what a gateway adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    thousandths: u32,
}

impl Factor {
    /// As the price is.
    pub const ONE: Factor = Factor { thousandths: 1_000 };
    /// The largest that is taken. No price with it is too large to be counted with.
    pub const MAX: f64 = 100.0;

    /// To three decimals. What is no number, or outside of 0 to [`Factor::MAX`], is the nearest that is inside.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies between 0 and 100,000")]
    pub fn of(number: f64) -> Factor {
        Factor { thousandths: (number.clamp(0.0, Factor::MAX) * 1_000.0).round() as u32 }
    }

    /// As it is written.
    pub fn get(self) -> f64 {
        f64::from(self.thousandths) / 1_000.0
    }

    /// A rate with it, rounded to the nearest pico-dollar a token.
    fn times(self, rate: u64) -> u64 {
        let product = u128::from(rate) * u128::from(self.thousandths);
        u64::try_from((product + 500) / 1_000).unwrap_or(u64::MAX)
    }

    fn rates(self, rates: &Rates) -> Rates {
        if self == Factor::ONE { *rates } else { rates.each(|rate| self.times(rate)) }
    }
}

/// The price of a model at an upstream on a day, and where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Quote<'p> {
    pub(super) price: &'p Price,
    pub(super) factor: Factor,
    pub(super) source: Source<'p>,
}

/// A quote that outlives the prices it comes from.
#[derive(Clone, Debug)]
pub(crate) struct OwnedQuote {
    price: Price,
    factor: Factor,
}

impl OwnedQuote {
    /// As [`Quote::cost`], at the tier of the usage.
    pub(crate) fn cost(&self, usage: &Usage) -> u128 {
        self.quote().cost(usage, usage.tier)
    }

    /// As [`Quote::upper_bound`].
    pub(crate) fn upper_bound(&self, input: u64, output: u64, tier: Tier) -> u128 {
        self.quote().upper_bound(input, output, tier)
    }

    fn quote(&self) -> Quote<'_> {
        Quote { price: &self.price, factor: self.factor, source: Source::Free }
    }
}

impl<'p> Quote<'p> {
    /// The same for longer than the prices live.
    pub(crate) fn to_owned(self) -> OwnedQuote {
        OwnedQuote { price: self.price.clone(), factor: self.factor }
    }

    /// What this usage costs at this tier, in pico-dollars. The whole prompt decides about the price of long ones.
    pub fn cost(&self, usage: &Usage, tier: Tier) -> u128 {
        self.cost_of_sum(usage, tier, usage.input)
    }

    /// What the usage of several requests costs together, whose prompts were about so long.
    pub(crate) fn cost_of_sum(&self, usage: &Usage, tier: Tier, prompt_tokens: u64) -> u128 {
        self.factor.rates(self.price.rates(tier, prompt_tokens)).cost(usage)
    }

    /// The most that a request can cost, in pico-dollars, that has at most so many tokens and asks for this tier,
    /// whatever kinds of tokens they turn out to be: all of its input written into a cache, say.
    pub fn upper_bound(&self, input: u64, output: u64, tier: Tier) -> u128 {
        let possible = self.price.possible(tier, input);
        possible.map(|rates| self.factor.rates(rates).upper_bound(input, output)).max().unwrap_or_default()
    }

    /// Rates of this price, with the upstream's factor.
    pub fn with_factor(&self, rates: &Rates) -> Rates {
        self.factor.rates(rates)
    }

    /// The price, without the upstream's factor.
    pub fn price(&self) -> &'p Price {
        self.price
    }

    /// The upstream's factor.
    pub fn factor(&self) -> Factor {
        self.factor
    }

    /// Where it comes from.
    pub fn source(&self) -> Source<'p> {
        self.source
    }
}

#[cfg(test)]
mod tests;
