//! Whether a limit on calls explains how many of them were refused.

use super::{RecordedCall, Said};

/// Calls that a slot of time holds on average: with fewer, chance hides what a limit does.
const CALLS_PER_SLOT: f64 = 20.0;
/// Shortest slot, in seconds.
const SLOT_SECONDS_MIN: f64 = 1.0;
/// Slots in which somebody was refused, at least: fewer can look like anything.
const SLOTS_MIN: usize = 5;
/// A limit explains the answers if it leaves this share of the squared errors that chance leaves.
const ERRORS_LEFT_MAX: f64 = 0.5;

/// The calls a second of a limit that explains how many of these, in the order of their times, were told that there are
/// too many; `None` where nobody was, or where each call having had the same chance explains it as well.
pub(super) fn explains(calls: &[&RecordedCall]) -> Option<f64> {
    let (first, last) = (calls.first()?.sent, calls.last()?.sent);
    let length = last.saturating_sub(first).as_secs_f64();
    let slot = (CALLS_PER_SLOT * length / calls.len() as f64).max(SLOT_SECONDS_MIN);
    let mut slots: Vec<(f64, f64, u64)> = Vec::new();
    for call in calls {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "there are fewer than calls")]
        let number = (call.sent.saturating_sub(first).as_secs_f64() / slot) as u64;
        if slots.last().is_none_or(|(.., last)| *last != number) {
            slots.push((0.0, 0.0, number));
        }
        if let Some((all, answered, _)) = slots.last_mut() {
            *all += 1.0;
            *answered += f64::from(u8::from(call.said != Said::TooMuch));
        }
    }
    // The last slot may not be whole.
    slots.pop();
    slots.retain(|(all, answered, _)| answered < all);
    if slots.len() < SLOTS_MIN {
        return None;
    }
    let sum = |of: fn(&(f64, f64, u64)) -> f64| slots.iter().map(of).sum::<f64>();
    let (share, limit) = (sum(|slot| slot.1) / sum(|slot| slot.0), sum(|slot| slot.1) / slots.len() as f64);
    let by_chance: f64 = slots.iter().map(|(all, answered, _)| (answered - all * share).powi(2)).sum();
    let by_limit: f64 = slots.iter().map(|(all, answered, _)| (answered - all.min(limit)).powi(2)).sum();
    // Where the same number comes in each slot both explain the same, and only chance varies.
    let expected: f64 = slots.iter().map(|(all, ..)| all * share * (1.0 - share)).sum();
    (limit > 0.0 && by_limit <= ERRORS_LEFT_MAX * by_chance.max(expected)).then_some(limit / slot)
}
