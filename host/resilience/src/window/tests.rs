use super::*;
use proptest::prelude::*;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_micros(millis * 1000)
}

fn window() -> Window {
    Window::new(Duration::from_secs(10), at(0))
}

const QUICK: Duration = Duration::from_millis(20);

#[test]
fn each_outcome_is_counted_under_its_own_name() {
    let mut window = window();
    for outcome in [Outcome::Success, Outcome::Failure, Outcome::Overloaded, Outcome::Throttled, Outcome::Ignored] {
        window.record(outcome, QUICK, true, at(0));
    }
    let tally = window.tally(at(0));
    let counts = [tally.requests, tally.failures, tally.overloads, tally.throttles];
    assert_eq!(counts, [4, 1, 1, 1]);
    assert_eq!((tally.slow_calls, tally.rated(), tally.failed()), (3, 3, 2));
    assert_eq!(window.consecutive_failures(at(0)), 2);
}

#[test]
fn a_result_leaves_the_window_within_its_length() {
    let mut window = window();
    window.record(Outcome::Failure, QUICK, false, at(999));
    assert_eq!(window.tally(at(9_999)).failures, 1);
    assert_eq!(window.consecutive_failures(at(9_999)), 1);
    assert_eq!(window.tally(at(10_000)).failures, 0);
    assert_eq!(window.consecutive_failures(at(10_000)), 0);
    assert_eq!(window.quantile(0.5, at(10_000)), None);
}

#[test]
fn a_silence_of_whole_turns_brings_nothing_back() {
    let mut window = window();
    window.record(Outcome::Failure, QUICK, false, at(0));
    for turns in 1..4 {
        assert_eq!(window.tally(at(turns * 10_000)), Tally::default());
    }
    window.record(Outcome::Success, QUICK, false, at(30_000));
    assert_eq!(window.tally(at(30_000)).requests, 1);
}

#[test]
fn a_clock_that_steps_back_neither_loses_nor_revives_results() {
    let mut window = window();
    window.record(Outcome::Failure, QUICK, false, at(25_000));
    window.record(Outcome::Failure, QUICK, false, at(3_000));
    for now in [at(3_000), at(25_000)] {
        assert_eq!(window.tally(now).failures, 2);
        assert_eq!(window.consecutive_failures(now), 2);
    }
}

#[test]
fn a_window_of_no_length_and_the_end_of_time_are_survived() {
    let mut window = Window::new(Duration::ZERO, at(0));
    let end = Timestamp::from_micros(u64::MAX);
    window.record(Outcome::Failure, Duration::MAX, true, end);
    assert_eq!(window.tally(end).failures, 1);
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Success),
        Just(Outcome::Failure),
        Just(Outcome::Overloaded),
        Just(Outcome::Throttled),
        Just(Outcome::Ignored),
    ]
}

proptest! {
    /// Against a plain list of every result, counted afresh each time.
    #[test]
    fn a_window_agrees_with_a_list_of_results(
        origin in 0_u64..100_000,
        steps in prop::collection::vec(
            (0_u64..4_000, outcome(), any::<bool>(), 1_u64..100_000),
            1..150,
        ),
    ) {
        const BUCKET_MILLIS: u64 = 1_000;
        let mut window = Window::new(Duration::from_secs(10), at(origin));
        let mut list: Vec<(u64, Outcome, bool, u64)> = Vec::new();
        let mut now = origin;
        for (pause, outcome, slow, millis) in steps {
            now += pause;
            window.record(outcome, Duration::from_millis(millis), slow, at(now));
            list.push((now, outcome, slow, millis));

            let bucket = |time: u64| (time - origin) / BUCKET_MILLIS;
            let counted = list.iter().filter(|r| r.1 != Outcome::Ignored);
            let visible: Vec<_> = counted.filter(|r| bucket(r.0) + 10 > bucket(now)).collect();
            let count = |wanted: &dyn Fn(Outcome, bool) -> bool| {
                u32::try_from(visible.iter().filter(|r| wanted(r.1, r.2)).count()).unwrap()
            };
            let mut latencies = Histogram::default();
            visible.iter().for_each(|r| latencies.record(Duration::from_millis(r.3)));
            let expected = Tally {
                requests: count(&|_, _| true),
                failures: count(&|outcome, _| outcome == Outcome::Failure),
                overloads: count(&|outcome, _| outcome == Outcome::Overloaded),
                throttles: count(&|outcome, _| outcome == Outcome::Throttled),
                slow_calls: count(&|outcome, slow| slow && outcome != Outcome::Throttled),
                latencies,
            };
            prop_assert_eq!(window.tally(at(now)), expected);

            let failed = |outcome| matches!(outcome, Outcome::Failure | Outcome::Overloaded);
            let mut run: Vec<u64> = Vec::new();
            for (time, outcome, ..) in &list {
                if run.last().is_some_and(|last| bucket(*last) + 10 <= bucket(*time)) {
                    run.clear();
                }
                if failed(*outcome) {
                    run.push(*time);
                } else if *outcome == Outcome::Success {
                    run.clear();
                }
            }
            prop_assert_eq!(window.consecutive_failures(at(now)) as usize, run.len());
        }
    }
}
