//! How many calls may be in flight at once: a fixed bound, and one that finds its own.

use std::time::Duration;

use crate::Mistake;
#[cfg(doc)]
use crate::Outcome;
use crate::time::{Timestamp, micros, mix};

/// A limit is kept in thousandths of a call, so that it can grow by a fraction per answer.
const MILLI: u64 = 1000;

/// All slots are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saturated {
    /// The limit that is reached, in calls.
    pub limit: u32,
}

/// The right to have one call in flight. Hand it back to the value that gave it, whatever became of
/// the call; the caller should wrap it in a guard that releases it as [`Feedback::Neutral`] when
/// dropped. One that is lost takes its slot with it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a slot that is never released is lost"]
pub struct Slot {
    acquired: Timestamp,
    /// Whether it is held by what stands rather than works: see [`AdaptiveLimit::lasts`].
    lasts: bool,
}

impl Slot {
    /// Whether it is held by what [lasts](AdaptiveLimit::lasts).
    #[must_use]
    pub const fn lasts(&self) -> bool {
        self.lasts
    }
}

/// A fixed bound on calls in flight.
#[derive(Clone, Copy, Debug)]
pub struct Bulkhead {
    limit: u32,
    in_flight: u32,
}

impl Bulkhead {
    /// A bound of `limit` calls, at least 1.
    #[must_use]
    pub const fn new(limit: u32) -> Self {
        Self { limit: if limit == 0 { 1 } else { limit }, in_flight: 0 }
    }

    /// Takes a slot.
    ///
    /// # Errors
    ///
    /// All slots are taken. There is no queue here.
    pub fn acquire(&mut self, now: Timestamp) -> Result<Slot, Saturated> {
        self.check()?;
        self.in_flight += 1;
        Ok(Slot { acquired: now, lasts: false })
    }

    /// Whether there is a slot.
    ///
    /// # Errors
    ///
    /// All slots are taken.
    pub const fn check(&self) -> Result<(), Saturated> {
        if self.in_flight < self.limit { Ok(()) } else { Err(Saturated { limit: self.limit }) }
    }

    /// Returns a slot.
    pub const fn release(&mut self, slot: Slot) {
        let Slot { .. } = slot;
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Calls in flight.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Calls allowed in flight.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.limit
    }
}

/// What a call told about the upstream's room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// It was answered.
    Answered {
        /// From sending to the first content. Never the whole duration: that is the length of the
        /// answer, not the upstream's load.
        first_token: Duration,
        /// Tokens of the request, by which the time is normalised.
        input_tokens: u64,
    },
    /// The upstream said that it has too much to do: 429 without a spent quota, 503, 529.
    Overloaded,
    /// The first content did not come in time. An upstream that lets its queue grow instead of
    /// refusing gives no other sign of overload, just as a lost packet is a network's only one. Not for
    /// a call that [hangs alone](crate::Promptness::hangs_alone).
    TimedOut,
    /// Nothing: cancelled, failed for another reason, or never sent.
    Neutral,
}

/// The numbers of an [`AdaptiveLimit`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptiveLimitSettings {
    /// Calls that are always allowed, at least 1.
    pub min_in_flight: u32,
    /// Most calls, at most [`LIMIT_MAX`](Self::LIMIT_MAX).
    pub max_in_flight: u32,
    /// Calls allowed at the start, between `min_in_flight` and `max_in_flight`.
    pub initial: u32,
    /// How many times its baseline the normalised time to first token may be before the limit
    /// shrinks; above 1. `None` looks at overloads alone.
    pub latency_tolerance: Option<f64>,
}

impl AdaptiveLimitSettings {
    /// One call keeps finding out whether the upstream has recovered. More is better only where the
    /// upstream bears more: by simulation, four double what is served (from 23 % to 46 %) of an
    /// upstream with room for five calls of ten seconds each, while in front of one with a single
    /// place already two cost an eighth of it (69 % instead of 80 %), because calls within `min_in_flight` are
    /// sent whatever the upstream says.
    pub const DEFAULT_MIN_IN_FLIGHT: u32 = 1;
    /// More than one process usually has descriptors for: it is for the upstream to set the limit, not for
    /// this number.
    pub const DEFAULT_MAX_IN_FLIGHT: u32 = 10_000;
    /// No bound until the upstream says that it has too much to do: the first decrease starts from
    /// what is in flight then, so it bites however high the limit was.
    pub const DEFAULT_INITIAL: u32 = Self::DEFAULT_MAX_IN_FLIGHT;
    /// Off: one upstream serves models of very different speed, and a slow model that follows a
    /// quick one looks like an overload. Where all models are alike, 2 is a sound value, because the
    /// time to first token of an idle model varies by half.
    pub const DEFAULT_LATENCY_TOLERANCE: Option<f64> = None;
    /// Highest allowed `max_in_flight`.
    pub const LIMIT_MAX: u32 = 1_000_000;

    /// Every mistake in these settings; none when they are sound.
    #[must_use]
    pub fn validate(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        Mistake::unless(
            &mut mistakes,
            self.min_in_flight >= 1,
            "min_in_flight",
            "must be at least 1, or a shrunk limit could never grow again".to_owned(),
        );
        Mistake::unless(
            &mut mistakes,
            (self.min_in_flight..=Self::LIMIT_MAX).contains(&self.max_in_flight),
            "max_in_flight",
            format!(
                "{} must lie between min_in_flight ({}) and {}",
                self.max_in_flight,
                self.min_in_flight,
                Self::LIMIT_MAX
            ),
        );
        Mistake::unless(
            &mut mistakes,
            (self.min_in_flight..=self.max_in_flight).contains(&self.initial),
            "initial",
            format!(
                "{} must lie between min_in_flight ({}) and max_in_flight ({})",
                self.initial, self.min_in_flight, self.max_in_flight
            ),
        );
        Mistake::unless(
            &mut mistakes,
            self.latency_tolerance.is_none_or(|tolerance| tolerance > 1.0 && tolerance.is_finite()),
            "latency_tolerance",
            format!("{} must be a number above 1", self.latency_tolerance.unwrap_or_default()),
        );
        mistakes
    }
}

impl Default for AdaptiveLimitSettings {
    fn default() -> Self {
        Self {
            min_in_flight: Self::DEFAULT_MIN_IN_FLIGHT,
            max_in_flight: Self::DEFAULT_MAX_IN_FLIGHT,
            initial: Self::DEFAULT_INITIAL,
            latency_tolerance: Self::DEFAULT_LATENCY_TOLERANCE,
        }
    }
}

/// A bound on calls in flight that follows the upstream: multiplicative decrease (Chiu and Jain,
/// 1989) from what is in flight, as TCP does it (RFC 5681), and an increase by binary search (BIC;
/// Xu, Harfoush and Rhee, 2004).
///
/// - On an overload or a time-out it **halves**: to half of the calls in flight, or of itself if it
///   is less, so that a limit which nobody pressed against bites at once. When first tokens come late
///   it shrinks by a tenth, counted from the same. Both happen at most once per round trip: the calls
///   that were sent before a decrease can neither cause another one nor take it back. Late first
///   tokens count only while half of the limit is in use, since otherwise their cause lies elsewhere;
///   an overload or a time-out counts always, unless no more than `min_in_flight` calls were in flight: so few
///   cannot have been too many.
/// - It **grows** only while at least half of it is in use: a limit that nobody presses against says
///   nothing. Each round trip takes it a good third of the way back to where it was too high, at most
///   multiplying it by e, and beyond that place further by its own square root. So it is back within
///   a few round trips, yet approaches the dangerous place with care; one call per round trip would
///   take minutes where answers do. Decreases that follow each other without growth between them are one
///   piece of news, and the place to return to is that of the first: a short outage does not make
///   the upstream forget its size.
/// - The **baseline** of the time to first token falls with what is seen, and rises only with calls
///   during which never more than `min_in_flight` calls were in flight. So neither load nor a slow drift can
///   raise what is held to be normal, and an upstream that has become slower for good is
///   understood once the limit has shrunk.
#[derive(Clone, Copy, Debug)]
pub struct AdaptiveLimit {
    settings: AdaptiveLimitSettings,
    milli_limit: u64,
    /// Where the limit last was too high; it is approached with care.
    milli_target: u64,
    in_flight: u32,
    /// Those of them that last.
    lasting: u32,
    /// Calls acquired before this instant neither shrink the limit nor let it grow.
    decreased: Option<Timestamp>,
    /// Decreases since the limit last grew.
    decreases_in_a_row: u32,
    /// When more than `min_in_flight` calls were last in flight.
    congested: Option<Timestamp>,
    latency: Latency,
}

impl AdaptiveLimit {
    /// Decreases without growth between them after which a further overload is no longer
    /// [excused](Self::release). Three bring the calls in flight down to an eighth, which any upstream
    /// that works at all should bear.
    pub const EXCUSED_DECREASES: u32 = 3;

    /// A limit at `initial`. Settings out of range are brought to the nearer end.
    #[must_use]
    pub fn new(settings: AdaptiveLimitSettings) -> Self {
        let min_in_flight = settings.min_in_flight.clamp(1, AdaptiveLimitSettings::LIMIT_MAX);
        let max_in_flight = settings.max_in_flight.clamp(min_in_flight, AdaptiveLimitSettings::LIMIT_MAX);
        let initial = settings.initial.clamp(min_in_flight, max_in_flight);
        Self {
            settings: AdaptiveLimitSettings { min_in_flight, max_in_flight, initial, ..settings },
            milli_limit: u64::from(initial) * MILLI,
            milli_target: u64::from(initial) * MILLI,
            in_flight: 0,
            lasting: 0,
            decreased: None,
            decreases_in_a_row: 0,
            congested: None,
            latency: Latency::default(),
        }
    }

    /// Takes a slot.
    ///
    /// # Errors
    ///
    /// All slots are taken. There is no queue here.
    pub fn acquire(&mut self, now: Timestamp) -> Result<Slot, Saturated> {
        self.check()?;
        self.in_flight += 1;
        self.note_congestion(now);
        Ok(Slot { acquired: now, lasts: false })
    }

    /// Whether there is a slot.
    ///
    /// # Errors
    ///
    /// All slots are taken.
    pub fn check(&self) -> Result<(), Saturated> {
        let (limit, max) = (self.limit(), self.settings.max_in_flight);
        if self.working() >= limit {
            return Err(Saturated { limit });
        }
        if self.in_flight >= max { Err(Saturated { limit: max }) } else { Ok(()) }
    }

    /// What holds this slot stays for long and mostly rests, as an open WebSocket does. It counts against `max_in_flight`
    /// and no more against the limit that is found: that would be filled by those who rest, and nobody who works would
    /// be left to let it grow.
    pub const fn lasts(&mut self, slot: &mut Slot) {
        if !slot.lasts {
            slot.lasts = true;
            self.lasting += 1;
        }
    }

    /// Calls in flight that do not [last](Self::lasts).
    #[must_use]
    pub const fn working(&self) -> u32 {
        self.in_flight.saturating_sub(self.lasting)
    }

    /// Returns a slot, and learns from what became of the call.
    ///
    /// It is true for an overload that is excused: the limit deals with it, so nobody else should
    /// hold it against the upstream. A circuit should take it for [`Outcome::Throttled`], or the load
    /// that the caller itself let through would open it. An overload is no longer excused when
    /// [`EXCUSED_DECREASES`](Self::EXCUSED_DECREASES) in a row have not helped, or when no more than
    /// `min_in_flight` calls were in flight; then the upstream is not overloaded by this caller, but ill.
    pub fn release(&mut self, slot: Slot, feedback: Feedback, now: Timestamp) -> bool {
        self.release_beside(slot, feedback, 0, now)
    }

    /// As [`release`](Self::release), where so many slots are kept from those who press: a limit is in use if half of
    /// what they may take is, or it would never grow again while those for whom the rest is kept are silent.
    pub fn release_beside(&mut self, slot: Slot, feedback: Feedback, kept: u32, now: Timestamp) -> bool {
        self.note_congestion(now);
        let used = (u64::from(self.working()) * 2 + u64::from(kept)) * MILLI >= self.milli_limit;
        let stale = self.decreased.is_some_and(|decreased| slot.acquired <= decreased);
        let excused = match feedback {
            Feedback::Answered { first_token, input_tokens } => {
                let normalised = normalise(first_token, input_tokens);
                let alone = self.congested.is_none_or(|congested| congested < slot.acquired);
                let late = self.latency.observe(normalised, alone, self.settings.latency_tolerance);
                if used && !stale {
                    if late {
                        self.decrease(9, 10, now);
                    } else {
                        self.increase();
                    }
                }
                false
            }
            Feedback::Overloaded | Feedback::TimedOut => {
                let decreased = !stale && self.decrease(1, 2, now);
                let helps = self.decreases_in_a_row <= Self::EXCUSED_DECREASES;
                helps && (stale || decreased) && feedback == Feedback::Overloaded
            }
            Feedback::Neutral => false,
        };
        self.in_flight = self.in_flight.saturating_sub(1);
        self.lasting = self.lasting.saturating_sub(u32::from(slot.lasts));
        excused
    }

    /// Calls allowed in flight now.
    #[must_use]
    pub fn limit(&self) -> u32 {
        u32::try_from(self.milli_limit / MILLI).unwrap_or(u32::MAX)
    }

    /// Calls in flight.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Calls that may be in flight, those that [last](Self::lasts) included.
    #[must_use]
    pub const fn max_in_flight(&self) -> u32 {
        self.settings.max_in_flight
    }

    fn note_congestion(&mut self, now: Timestamp) {
        if self.working() > self.settings.min_in_flight {
            self.congested = Some(now);
        }
    }

    fn increase(&mut self) {
        let max = u64::from(self.settings.max_in_flight) * MILLI;
        let per_round_trip = if self.milli_limit < self.milli_target {
            ((self.milli_target - self.milli_limit) / 2).clamp(MILLI, self.milli_limit)
        } else {
            (self.milli_limit * MILLI).isqrt()
        };
        // A round trip is one limit's worth of answers.
        let step = (per_round_trip * MILLI / self.milli_limit).max(1);
        self.milli_limit = (self.milli_limit + step).min(max);
        self.decreases_in_a_row = 0;
    }

    /// Shrinks the limit to a share of the calls in flight; not if they are too few to matter.
    fn decrease(&mut self, numerator: u64, denominator: u64, now: Timestamp) -> bool {
        if self.working() <= self.settings.min_in_flight {
            return false;
        }
        let min = u64::from(self.settings.min_in_flight) * MILLI;
        let from = self.milli_limit.min(u64::from(self.working()) * MILLI);
        if self.decreases_in_a_row == 0 {
            self.milli_target = from;
        }
        self.milli_limit = (from * numerator / denominator).max(min);
        self.decreased = Some(now);
        self.decreases_in_a_row = self.decreases_in_a_row.saturating_add(1);
        true
    }
}

/// Microseconds to the first token per thousand tokens. The fixed cost of a call counts as a
/// thousand tokens, so that short requests do not look slow.
fn normalise(first_token: Duration, input_tokens: u64) -> u64 {
    const FIXED_COST_TOKENS: u128 = 1000;
    let weighted = u128::from(micros(first_token)) * 1000 / (u128::from(input_tokens) + FIXED_COST_TOKENS);
    u64::try_from(weighted).unwrap_or(u64::MAX)
}

/// The normalised time to first token, smoothed, and what it is when there is no load.
#[derive(Clone, Copy, Debug, Default)]
struct Latency {
    smoothed: u64,
    samples: u32,
    baseline: Option<u64>,
}

impl Latency {
    /// Answers before a smoothed value counts: one lucky or unlucky call says nothing.
    const SAMPLES_MIN: u32 = 8;
    /// Weight of a new sample: one part in this many.
    const SMOOTHING: u64 = 8;

    /// Notes a sample; whether first tokens come too late.
    fn observe(&mut self, sample: u64, alone: bool, tolerance: Option<f64>) -> bool {
        self.smoothed = if self.samples == 0 { sample } else { mix(self.smoothed, sample, Self::SMOOTHING) };
        self.samples = self.samples.saturating_add(1);
        if alone && let Some(baseline) = self.baseline {
            self.baseline = Some(mix(baseline, sample.max(baseline), Self::SMOOTHING));
        }
        if self.samples < Self::SAMPLES_MIN {
            return false;
        }
        let baseline = self.baseline.map_or(self.smoothed, |baseline| baseline.min(self.smoothed));
        self.baseline = Some(baseline);
        #[expect(clippy::cast_precision_loss, reason = "a comparison of ratios needs no more than 52 bits")]
        tolerance.is_some_and(|tolerance| self.smoothed as f64 > baseline.max(1) as f64 * tolerance)
    }
}

#[cfg(test)]
mod tests;
