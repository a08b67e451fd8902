//! Which setting to change, if any, and by how much that helps.

use super::{Change, Outcome, Way};
use crate::comparison::{Rule, Trial, worse_by};

/// In what a change is better or worse, and by how much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gain {
    /// In what.
    pub rule: Rule,
    /// Points of the share served, per cent of the calls an answer costs, or seconds of the wait; positive where the
    /// change is better.
    pub by: f64,
    /// By so much it may be off, by chance.
    pub chance: f64,
}

/// What to do about the settings in force.
#[derive(Clone, Debug, PartialEq)]
pub enum Advice {
    /// To make this change, for the first gain; the others are what it brings or costs beside.
    Change(Box<Change>, Vec<Gain>),
    /// To leave them.
    Leave,
}

/// What a change can be recommended for, what counts most first.
const REASONS: [Rule; 3] = [Rule::ServedPercent, Rule::CallsPerServed, Rule::WaitP95Seconds];
/// A wait that is shorter by less than this share is not worth a change.
const WAIT_SHARE_MIN: f64 = 0.1;

/// The change that helps most: by the share served, else by what an answer costs, else by the wait. What differs by no
/// more than the comparison's rules allow, or by what may be chance, is no difference; and a change that is recommended
/// for less than the share served must not be worse in anything.
#[must_use]
pub fn advise(outcomes: &[Outcome], retries: u32) -> Advice {
    let in_force = outcomes.iter().find(|one| one.lane.way == Way::InForce && one.lane.retries == retries);
    let Some(in_force) = in_force else { return Advice::Leave };
    for reason in REASONS {
        let gain_of = |outcome: &Outcome| {
            let Way::Changed(change) = &outcome.lane.way else { return None };
            let gains: Vec<Gain> =
                REASONS.into_iter().filter_map(|rule| gain(rule, &outcome.trial, &in_force.trial)).collect();
            let gain = *gains.iter().find(|gain| gain.rule == reason)?;
            let is_shorter_by_little = reason == Rule::WaitP95Seconds
                && gain.by < WAIT_SHARE_MIN * in_force.trial.figures.get(Rule::WaitP95Seconds.figure())?;
            let harms = reason != Rule::ServedPercent && gains.iter().any(|gain| is_harm(*gain));
            (is_difference(gain) && !is_shorter_by_little && !harms).then(|| (gain, change.clone(), gains))
        };
        let helpful: Vec<(Gain, Box<Change>, Vec<Gain>)> = outcomes.iter().filter_map(gain_of).collect();
        let most = helpful.iter().map(|(gain, ..)| gain.by).fold(0.0, f64::max);
        // Of those that help as much, the first: defaults are tried before what goes beyond them.
        let best = helpful.into_iter().find(|(gain, ..)| gain.by >= most - allowed(reason));
        if let Some((first, change, gains)) = best {
            let beside =
                gains.into_iter().filter(|gain| gain.rule != reason && (is_difference(*gain) || is_harm(*gain)));
            return Advice::Change(change, std::iter::once(first).chain(beside).collect());
        }
    }
    Advice::Leave
}

/// By how many points no proxy serves more than the settings in force, if that is no chance and more than nothing by the
/// comparison's rules.
#[must_use]
pub fn lost_to_no_proxy(outcomes: &[Outcome], retries: u32) -> Option<f64> {
    let of = |way: Way| outcomes.iter().find(|one| one.lane.way == way && one.lane.retries == retries);
    let (in_force, direct) = (of(Way::InForce)?, of(Way::Direct)?);
    gain(Rule::ServedPercent, &direct.trial, &in_force.trial).filter(|gain| is_difference(*gain)).map(|gain| gain.by)
}

fn gain(rule: Rule, changed: &Trial, in_force: &Trial) -> Option<Gain> {
    let (worse, chance) = worse_by(rule, changed, in_force)?;
    Some(Gain { rule, by: -worse, chance })
}

/// What the comparison lets pass as none.
fn allowed(rule: Rule) -> f64 {
    Rule::ALLOWED.into_iter().find(|(one, _)| *one == rule).map_or(0.0, |(_, allowed)| allowed)
}

/// The same, and chance.
fn within(gain: Gain) -> f64 {
    allowed(gain.rule) + 2.0 * gain.chance
}

fn is_difference(gain: Gain) -> bool {
    gain.by > within(gain)
}

fn is_harm(gain: Gain) -> bool {
    -gain.by > within(gain)
}
