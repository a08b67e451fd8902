//! The traffic of a lane: requests go out when their time has come, whether or not earlier ones are answered.

use super::board::{Board, Standing};
use super::caller::{Caller, Outcome};
use super::mode::Scenario;
use super::provider::SEED;
use spillway_mock_provider::chance::Chance;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// When each request is due, from the first one on: each at any moment of the part of a second that is its own.
pub(super) fn due(scenario: &Scenario) -> Vec<Duration> {
    let (mut chance, mut from, mut due) = (Chance::seeded(SEED), Duration::ZERO, Vec::new());
    while from < scenario.lasting {
        let part = Duration::from_secs_f64(1.0 / scenario.requests_per_second(from));
        due.push(from + part.mul_f64(chance.fraction()));
        from += part;
    }
    due
}

/// Sends all of them, and notes what becomes of each. They are given up when the set is dropped.
pub(super) fn send(caller: &Caller, board: &Board, due: &[Duration], begins: Instant) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (number, at) in due.iter().enumerate() {
        let (caller, board, due) = (caller.clone(), board.clone(), begins + *at);
        tasks.spawn(async move {
            tokio::time::sleep_until(due.into()).await;
            board.note(number, Standing::Waiting);
            let (end, kept) = match caller.ask(number).await {
                Outcome::Ended(end) => (end, false),
                Outcome::Promised(path) => {
                    board.note(number, Standing::Kept);
                    (caller.fetch(&path).await, true)
                }
            };
            board.note(number, Standing::Ended { end, took: due.elapsed(), kept });
        });
    }
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::mode::Mode;

    #[test]
    fn requests_are_due_in_order_at_their_rate_and_at_the_same_times_in_every_lane() {
        for mode in [Mode::Outage, Mode::Throttled] {
            let scenario = Scenario::new(mode, false);
            let times = due(&scenario);
            assert!(times.is_sorted(), "{mode:?}");
            for second in 0..scenario.lasting.as_secs() {
                let within = times.iter().filter(|at| at.as_secs() == second).count() as f64;
                let [from, until] =
                    [second, second + 1].map(|at| scenario.requests_per_second(Duration::from_secs(at)));
                // One more or less where a part goes across.
                assert!(
                    within >= from.min(until) - 1.0 && within <= from.max(until) + 1.0,
                    "{mode:?}, second {second}"
                );
            }
            assert_eq!(times, due(&scenario), "{mode:?}");
        }
    }
}
