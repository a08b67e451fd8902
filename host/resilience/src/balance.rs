//! In which order the places are asked that may serve a request.

/// How well a place has served of late: see [`Breaker::standing`](crate::Breaker::standing).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// The share of requests that it serves, 0 to 1.
    pub served_share: f64,
    /// How often [trials](Self::TRIAL_PERIOD) of it were doubled since the last attempt that failed.
    pub doublings: u32,
}

impl Standing {
    /// Nothing is known against it.
    pub const GOOD: Self = Self { served_share: 1.0, doublings: 0 };
    /// Whoever serves less than nine tenths is doubtful. One failure in ten is healed by a retry there, which keeps the
    /// prompt cache.
    pub const DOUBTFUL_BELOW: f64 = 0.9;
    /// By so much another must serve more, so that two that fail alike do not change places with each request.
    pub const CLEARLY_BETTER_BY: f64 = 0.05;
    /// One request in so many asks a doubtful place in its turn, so that its recovery is seen; after one that it serves,
    /// twice as many do, as soon as those before would have failed if they failed; until all do again or one fails. So
    /// who is back after an outage has all of its traffic after some forty requests, and half of the calls failing costs
    /// four calls in a hundred requests.
    pub const TRIAL_PERIOD: u64 = 20;

    /// Whether it fails so many that others come first.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.served_share < Self::DOUBTFUL_BELOW
    }

    fn is_clearly_worse_than(&self, other: &Self) -> bool {
        self.served_share + Self::CLEARLY_BETTER_BY < other.served_share
    }

    /// Whether it is asked in its turn though it is doubtful, for a draw below [`TRIAL_PERIOD`](Self::TRIAL_PERIOD).
    fn is_tried(&self, draw: u64) -> bool {
        1_u64.checked_shl(self.doublings).is_none_or(|tried| draw < tried)
    }
}

/// A place where a request may be served, as far as it matters for whether it is asked before another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Its place in the chain. Those of a lower rank come first; those of the same are equals.
    pub rank: u32,
    /// How much it bears beside its equals, 1 to [`WEIGHT_MAX`](Self::WEIGHT_MAX). What lies outside is brought to the
    /// nearer end.
    pub weight: u32,
    /// Tokens of the calls that are in flight there.
    pub tokens_in_flight: u64,
    /// Conversations that are pinned to it.
    pub conversations: u64,
    /// How well it serves such requests.
    pub standing: Standing,
    /// Whether it only stands in, with less than was asked for. Nobody is taken to it for the doubts about another.
    pub is_degraded: bool,
}

impl Candidate {
    /// Highest weight. It leaves the random number enough bits for everything that is drawn from it.
    pub const WEIGHT_MAX: u32 = 1_000;

    fn weight(&self) -> u32 {
        self.weight.clamp(1, Self::WEIGHT_MAX)
    }

    /// What decides who is less loaded: tokens in flight, then conversations, each by weight.
    fn is_less_loaded_than(&self, other: &Self) -> bool {
        let by_weight = |load: u64, whose: &Self| u128::from(load) * u128::from(whose.weight());
        let of = |load: fn(&Self) -> u64| (by_weight(load(self), other), by_weight(load(other), self));
        let (own_tokens, its_tokens) = of(|candidate| candidate.tokens_in_flight);
        let (own_conversations, its_conversations) = of(|candidate| candidate.conversations);
        (own_tokens, own_conversations) < (its_tokens, its_conversations)
    }

    /// Whether this one steps behind another that comes after it.
    fn yields_to(&self, other: &Self) -> bool {
        self.standing.is_doubtful()
            && self.standing.is_clearly_worse_than(&other.standing)
            && (self.is_degraded || !other.is_degraded)
    }
}

/// The order in which candidates are asked, as their indices. `pinned` is where the request's conversation is.
///
/// 1. Lower ranks come first. Among equals it is the pinned one, then the less loaded of two that are drawn by weight
///    ("power of two choices"), then the others by load. Where nothing tells two apart, the first drawn comes first.
/// 2. A candidate that [fails many](Standing::DOUBTFUL_BELOW) steps behind every later one that is clearly better,
///    pinned or not, of its own rank or a later one. [Few requests](Standing::TRIAL_PERIOD) ask it in its turn all the
///    same, and the more of them the more it serves.
#[must_use]
pub fn order(candidates: &[Candidate], pinned: Option<usize>, random: u64) -> Vec<usize> {
    let mut dice = Dice(random);
    let trial = dice.below(Standing::TRIAL_PERIOD);
    let mut by_rank: Vec<(usize, &Candidate)> = candidates.iter().enumerate().collect();
    by_rank.sort_by_key(|(_, candidate)| candidate.rank);
    for equals in by_rank.chunk_by_mut(|(_, one), (_, other)| one.rank == other.rank) {
        let place = pinned.and_then(|pinned| equals.iter().position(|(index, _)| *index == pinned));
        let (first, rest) = equals.split_at_mut(usize::from(place.is_some()));
        if let (Some(place), [first]) = (place, first)
            && let Some(pinned) = place.checked_sub(1).and_then(|place| rest.get_mut(place))
        {
            std::mem::swap(first, pinned);
        }
        balance(rest, &mut dice);
    }
    let mut order: Vec<(usize, &Candidate)> = Vec::with_capacity(by_rank.len());
    for (index, candidate) in by_rank.into_iter().rev() {
        let is_tried = candidate.standing.is_tried(trial);
        let behind = order.iter().rposition(|(_, other)| !is_tried && candidate.yields_to(other));
        order.insert(behind.map_or(0, |last| last + 1), (index, candidate));
    }
    order.into_iter().map(|(index, _)| index).collect()
}

/// Puts the less loaded of two choices first, and the others behind it by load.
fn balance(equals: &mut [(usize, &Candidate)], dice: &mut Dice) {
    let Some(one) = draw(equals, None, dice) else { return };
    let chosen = match draw(equals, Some(one), dice) {
        Some(other) if is_less_loaded(equals, other, one) => other,
        Some(_) | None => one,
    };
    equals.swap(0, chosen);
    if let [_, rest @ ..] = equals {
        rest.sort_by(|(_, one), (_, other)| other.is_less_loaded_than(one).cmp(&one.is_less_loaded_than(other)));
    }
}

fn is_less_loaded(equals: &[(usize, &Candidate)], one: usize, other: usize) -> bool {
    equals.get(one).zip(equals.get(other)).is_some_and(|((_, one), (_, other))| one.is_less_loaded_than(other))
}

/// One of them by weight, other than `but`; `None` if there is none.
fn draw(equals: &[(usize, &Candidate)], but: Option<usize>, dice: &mut Dice) -> Option<usize> {
    let eligible = || equals.iter().enumerate().filter(|(place, _)| Some(*place) != but);
    let total: u64 = eligible().map(|(_, (_, candidate))| u64::from(candidate.weight())).sum();
    let mut left = dice.below(total);
    eligible().find_map(|(place, (_, candidate))| {
        let weight = u64::from(candidate.weight());
        if left < weight {
            return Some(place);
        }
        left -= weight;
        None
    })
}

/// Several draws from one random number, each of which takes the bits that it needs off its top.
struct Dice(u64);

impl Dice {
    /// A number below `bound`, uniform but for what matters to nobody; 0 where the bound is.
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what the next draw is made from")]
    fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.0) * u128::from(bound);
        self.0 = product as u64;
        (product >> 64) as u64
    }
}

#[cfg(test)]
mod tests;
