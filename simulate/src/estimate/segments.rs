//! In which times a provider behaved otherwise: change points of the shares of what it said.
//!
//! The calls are put into slots of time, and the division of these is found by which their likelihood is greatest, less
//! a price for each change (optimal partitioning; Jackson et al., "An algorithm for optimal partitioning of data on an
//! interval", 2005, with the penalty of the Bayesian information criterion). Then each change is put between the two
//! calls between which it is likeliest.

use std::time::Duration;

use super::{RecordedCall, Said};

/// Slots at most: dividing them costs their square.
const SLOTS_MAX: u32 = 1_000;
/// Shortest slot, in seconds: nobody reacts to what is shorter.
const SLOT_SECONDS_MIN: f64 = 0.25;
/// Figures that each change adds: when it is, and four shares.
const FIGURES_PER_CHANGE: f64 = 5.0;

/// A time in which the shares were the same. Seconds are counted from the begin of all.
#[derive(Clone, Debug)]
pub(super) struct Segment<'a> {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) calls: Vec<&'a RecordedCall>,
}

impl Segment<'_> {
    pub(super) fn count(&self, said: Said) -> usize {
        self.calls.iter().filter(|call| call.said == said).count()
    }
}

/// How often each was said.
type Counts = [u32; Said::KINDS];

/// Divides calls, in the order of their times, into `most` segments at most.
pub(super) fn of<'a>(calls: &[&'a RecordedCall], begins: Duration, most: usize) -> Vec<Segment<'a>> {
    let seconds = |call: &RecordedCall| call.sent.saturating_sub(begins).as_secs_f64();
    let (Some(first), Some(last)) = (calls.first(), calls.last()) else { return Vec::new() };
    let length = seconds(last) - seconds(first);
    let slot = (length / f64::from(SLOTS_MAX)).max(SLOT_SECONDS_MIN);
    // Where nobody called there is no slot: nothing is known of it.
    let mut slots: Vec<(u64, Counts, usize)> = Vec::new();
    for (place, call) in calls.iter().enumerate() {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "there are no more than SLOTS_MAX")]
        let number = ((seconds(call) - seconds(first)) / slot) as u64;
        if slots.last().is_none_or(|(last, ..)| *last != number) {
            slots.push((number, Counts::default(), place));
        }
        if let Some((_, counts, _)) = slots.last_mut() {
            counts[call.said as usize] += 1;
        }
    }
    let counts: Vec<Counts> = slots.iter().map(|(_, counts, _)| *counts).collect();
    let mut price = FIGURES_PER_CHANGE / 2.0 * (calls.len() as f64).max(2.0).ln();
    let mut changes = divide(&counts, price);
    while changes.len() >= most.max(1) {
        price *= 2.0;
        changes = divide(&counts, price);
    }
    let places: Vec<usize> = changes.iter().map(|change| slots[*change].2).collect();
    let sharpened = sharpen(calls, &places, &slots.iter().map(|(.., place)| *place).collect::<Vec<_>>());
    let sharpened = unite(calls, sharpened, price);
    // The provider is taken to have changed halfway between the last call before and the first one after.
    let bounds = std::iter::once(0).chain(sharpened).chain([calls.len()]).collect::<Vec<_>>();
    let time = |place: usize| match (place.checked_sub(1).and_then(|before| calls.get(before)), calls.get(place)) {
        (Some(before), Some(after)) => f64::midpoint(seconds(before), seconds(after)),
        (None, _) => 0.0,
        (Some(before), None) => seconds(before) + 1.0,
    };
    bounds
        .windows(2)
        .filter(|pair| pair[0] < pair[1])
        .map(|pair| Segment { from: time(pair[0]), to: time(pair[1]), calls: calls[pair[0]..pair[1]].to_vec() })
        .collect()
}

/// Before which slots something changes.
fn divide(slots: &[Counts], price: f64) -> Vec<usize> {
    let mut sums = vec![Counts::default()];
    for slot in slots {
        let mut sum = sums.last().copied().unwrap_or_default();
        sum.iter_mut().zip(slot).for_each(|(sum, count)| *sum += count);
        sums.push(sum);
    }
    let cost = |from: usize, to: usize| {
        let counts: [u32; Said::KINDS] = std::array::from_fn(|kind| sums[to][kind] - sums[from][kind]);
        cost_of(&counts)
    };
    // The least price of the first slots, and where their last part begins.
    let mut best: Vec<(f64, usize)> = vec![(-price, 0)];
    for to in 1..=slots.len() {
        let priced = (0..to).map(|from| (best[from].0 + cost(from, to) + price, from));
        let least = priced.reduce(|least, one| if one.0 < least.0 { one } else { least });
        best.push(least.unwrap_or((0.0, 0)));
    }
    let mut changes = Vec::new();
    let mut at = slots.len();
    while let Some((_, from)) = best.get(at)
        && at > 0
    {
        if *from > 0 {
            changes.push(*from);
        }
        at = *from;
    }
    changes.reverse();
    changes
}

/// How unlikely counts are by their own shares: the logarithm, negated.
fn cost_of(counts: &Counts) -> f64 {
    let all = f64::from(counts.iter().sum::<u32>());
    let counts = counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count));
    -counts.map(|count| count * (count / all).ln()).sum::<f64>()
}

/// Takes changes away that are not worth their price any more: where one lay within a slot, both of its sides had some
/// of the other's calls, until it was moved.
fn unite(calls: &[&RecordedCall], mut changes: Vec<usize>, price: f64) -> Vec<usize> {
    let counts = |from: usize, to: usize| {
        let mut counts = Counts::default();
        calls[from..to].iter().for_each(|call| counts[call.said as usize] += 1);
        counts
    };
    let mut number = 0;
    while let Some(change) = changes.get(number) {
        let from = number.checked_sub(1).map_or(0, |before| changes[before]);
        let to = changes.get(number + 1).copied().unwrap_or(calls.len());
        let apart = cost_of(&counts(from, *change)) + cost_of(&counts(*change, to));
        if cost_of(&counts(from, to)) <= apart + price {
            changes.remove(number);
            // The part before it has grown, and may be united with what is before that.
            number = number.saturating_sub(1);
        } else {
            number += 1;
        }
    }
    changes
}

/// Moves each change, which lies before the call of this place, to where it is likeliest within the slots beside it.
fn sharpen(calls: &[&RecordedCall], places: &[usize], slots: &[usize]) -> Vec<usize> {
    let shares = |from: usize, to: usize| -> [f64; Said::KINDS] {
        let mut counts = [0.5; Said::KINDS];
        calls[from..to].iter().for_each(|call| counts[call.said as usize] += 1.0);
        let all: f64 = counts.iter().sum();
        counts.map(|count| count / all)
    };
    let mut sharpened: Vec<usize> = Vec::new();
    for (number, place) in places.iter().enumerate() {
        let begin = sharpened.last().copied().unwrap_or(0);
        let end = places.get(number + 1).copied().unwrap_or(calls.len());
        let slot = slots.partition_point(|one| one < place);
        let from = slot.checked_sub(1).map_or(begin, |before| slots[before]).max(begin + 1);
        let to = slots.get(slot + 1).copied().unwrap_or(end).min(end.saturating_sub(1));
        if from >= *place || to <= *place {
            sharpened.push(*place);
            continue;
        }
        let (before, after) = (shares(begin, *place), shares(*place, end));
        let mut likelier = 0.0;
        let mut best = (0.0, from);
        for (at, call) in calls.iter().enumerate().take(to).skip(from) {
            let kind = call.said as usize;
            likelier += before[kind].ln() - after[kind].ln();
            if likelier > best.0 {
                best = (likelier, at + 1);
            }
        }
        sharpened.push(best.1);
    }
    sharpened
}
