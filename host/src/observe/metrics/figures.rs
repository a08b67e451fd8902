//! What is counted under each label: of a model at an upstream, of a tenant, and of a tenant's use of a model.

use super::cells::Cells;
use super::histogram::{DURATIONS, Histogram};
use super::names::{Named, Room};
use super::words::{CallFault, Direction, RequestOutcome, TokenPart};
use crate::dialect::Usage;
use spillway_sdk::Class;
use std::sync::Arc;
use std::time::Duration;

/// What is counted of one model at one upstream.
#[derive(Debug)]
pub(super) struct ModelFigures {
    /// Outcomes of requests, classes of calls, and their faults.
    counts: Cells,
    /// From a request's arrival to the end of its answer.
    pub(super) request_duration: Histogram,
    /// From a request's arrival to its first content.
    pub(super) request_first_content: Histogram,
    /// From sending the call that answered to the end of the answer.
    pub(super) attempt_duration: Histogram,
    /// From sending the call that answered to its first content.
    pub(super) first_content: Histogram,
    /// What each tenant uses of it.
    pub(super) shares: Named<Share>,
}

const ATTEMPTS: usize = RequestOutcome::ALL.len();
const FAULTS: usize = ATTEMPTS + Class::ALL.len();

impl ModelFigures {
    /// All zero. `room` is for all shares of all models.
    pub(super) fn new(room: &Arc<Room>) -> ModelFigures {
        ModelFigures {
            counts: Cells::new(FAULTS + CallFault::ALL.len()),
            request_duration: Histogram::new(&DURATIONS),
            request_first_content: Histogram::new(&DURATIONS),
            attempt_duration: Histogram::new(&DURATIONS),
            first_content: Histogram::new(&DURATIONS),
            shares: Named::new(Arc::clone(room), Share::new),
        }
    }

    pub(super) fn request(&self, outcome: RequestOutcome) {
        self.counts.add(outcome as usize, 1);
    }

    pub(super) fn attempt(&self, class: Class) {
        self.counts.add(ATTEMPTS + class as usize, 1);
    }

    pub(super) fn fault(&self, fault: CallFault) {
        self.counts.add(FAULTS + fault as usize, 1);
    }

    pub(super) fn requests(&self, outcome: RequestOutcome) -> u64 {
        self.counts.sum(outcome as usize)
    }

    pub(super) fn attempts(&self, class: Class) -> u64 {
        self.counts.sum(ATTEMPTS + class as usize)
    }

    pub(super) fn faults(&self, fault: CallFault) -> u64 {
        self.counts.sum(FAULTS + fault as usize)
    }
}

/// What is counted of one tenant, whoever served it.
#[derive(Debug)]
pub(super) struct TenantFigures {
    outcomes: Cells,
    /// From a request's arrival to the end of its answer.
    pub(super) request_duration: Histogram,
    /// What each request waited for limits, lanes and circuits together.
    pub(super) wait: Histogram,
}

impl TenantFigures {
    /// All zero.
    pub(super) fn new(_: &str) -> TenantFigures {
        TenantFigures {
            outcomes: Cells::new(RequestOutcome::ALL.len()),
            request_duration: Histogram::new(&DURATIONS),
            wait: Histogram::new(&DURATIONS),
        }
    }

    pub(super) fn request(&self, outcome: RequestOutcome, waited: Duration) {
        self.outcomes.add(outcome as usize, 1);
        self.wait.observe(waited);
    }

    pub(super) fn requests(&self, outcome: RequestOutcome) -> u64 {
        self.outcomes.sum(outcome as usize)
    }
}

/// What one tenant uses of one model at one upstream.
#[derive(Debug)]
pub(super) struct Share(Cells);

const PARTS: usize = Direction::ALL.len();
const COST_NANODOLLARS: usize = PARTS + TokenPart::ALL.len();
const UNPRICED: usize = COST_NANODOLLARS + 1;
/// Pico-dollars in a nano-dollar. Costs are summed up in nano-dollars: a request that is cheaper than a micro-dollar
/// still counts, and 64 bits hold 18 billion dollars.
const PICODOLLARS_PER_NANODOLLAR: u128 = 1_000;

impl Share {
    /// All zero.
    pub(super) fn new(_: &str) -> Share {
        Share(Cells::new(UNPRICED + 1))
    }

    /// Whether it has counted nothing.
    pub(super) fn is_unused(&self) -> bool {
        (0..=UNPRICED).all(|index| self.0.sum(index) == 0)
    }

    pub(super) fn uses(&self, usage: &Usage) {
        let directions = [(Direction::Input, usage.input), (Direction::Output, usage.output)];
        let parts = [
            (TokenPart::CacheRead, usage.cache_read),
            (TokenPart::CacheWrite5m, usage.cache_write_5m),
            (TokenPart::CacheWrite1h, usage.cache_write_1h),
            (TokenPart::Reasoning, usage.reasoning),
            (TokenPart::AudioInput, usage.audio_input),
            (TokenPart::AudioOutput, usage.audio_output),
        ];
        let directions = directions.map(|(direction, count)| (direction as usize, count));
        let parts = parts.map(|(part, count)| (PARTS + part as usize, count));
        for (index, count) in directions.into_iter().chain(parts).filter(|(_, count)| *count > 0) {
            self.0.add(index, count);
        }
    }

    pub(super) fn cost(&self, picodollars: u128) {
        let nanodollars = (picodollars + PICODOLLARS_PER_NANODOLLAR / 2) / PICODOLLARS_PER_NANODOLLAR;
        self.0.add(COST_NANODOLLARS, u64::try_from(nanodollars).unwrap_or(u64::MAX));
    }

    pub(super) fn unpriced(&self, tokens: u64) {
        self.0.add(UNPRICED, tokens);
    }

    pub(super) fn tokens_of(&self, direction: Direction) -> u64 {
        self.0.sum(direction as usize)
    }

    pub(super) fn tokens_of_part(&self, part: TokenPart) -> u64 {
        self.0.sum(PARTS + part as usize)
    }

    #[expect(clippy::cast_precision_loss, reason = "figures are floats where they are shown")]
    pub(super) fn dollars(&self) -> f64 {
        self.0.sum(COST_NANODOLLARS) as f64 / 1e9
    }

    pub(super) fn tokens_unpriced(&self) -> u64 {
        self.0.sum(UNPRICED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_token_is_counted_in_its_place() {
        let share = Share::new("");
        let usage = Usage {
            input: 100,
            output: 50,
            cache_read: 1,
            cache_write_5m: 2,
            cache_write_1h: 3,
            reasoning: 4,
            audio_input: 5,
            audio_output: 6,
            ..Usage::default()
        };
        share.uses(&usage);
        share.uses(&usage);
        assert_eq!([Direction::Input, Direction::Output].map(|direction| share.tokens_of(direction)), [200, 100]);
        let parts: Vec<u64> = TokenPart::ALL.iter().map(|part| share.tokens_of_part(*part)).collect();
        assert_eq!(parts, [2, 4, 6, 8, 10, 12]);
    }

    #[test]
    fn a_million_requests_of_a_tenth_of_a_microdollar_cost_ten_cents() {
        let share = Share::new("");
        (0..1_000_000).for_each(|_| share.cost(100_000));
        assert!((share.dollars() - 0.1).abs() < 1e-12, "{}", share.dollars());
    }
}
