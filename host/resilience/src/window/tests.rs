use super::*;
use proptest::prelude::*;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_micros(millis * 1000)
}

fn window() -> Window {
    Window::new(WindowKind::Time(Duration::from_secs(10)), at(0))
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
    assert_eq!(window.tally(at(10_000)).latencies.quantile(0.5), None);
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
    let mut window = Window::new(WindowKind::Time(Duration::ZERO), at(0));
    let end = Timestamp::from_micros(u64::MAX);
    window.record(Outcome::Failure, Duration::MAX, true, end);
    assert_eq!(window.tally(end).failures, 1);
}

#[test]
fn a_count_window_forgets_the_oldest_result_for_each_new_one() {
    let mut window = Window::new(WindowKind::Count(3), at(0));
    let outcomes = [Outcome::Failure, Outcome::Throttled, Outcome::Overloaded, Outcome::Ignored, Outcome::Success];
    let mut seen = Vec::new();
    for outcome in outcomes {
        window.record(outcome, QUICK, true, at(0));
        let tally = window.tally(at(0));
        seen.push([tally.requests, tally.failures, tally.throttles, tally.overloads, tally.slow_calls]);
    }
    assert_eq!(seen, [[1, 1, 0, 0, 1], [2, 1, 1, 0, 1], [3, 1, 1, 1, 2], [3, 1, 1, 1, 2], [3, 0, 1, 1, 2]]);
}

#[test]
fn a_count_window_keeps_its_results_however_old_they_are() {
    let mut window = Window::new(WindowKind::Count(5), at(0));
    assert_eq!(window.length(at(1_000)), Duration::ZERO);
    window.record(Outcome::Failure, QUICK, false, at(1_000));
    window.record(Outcome::Failure, QUICK, false, at(2_000));
    let much_later = at(1_000_000_000);
    assert_eq!(window.tally(much_later).failures, 2);
    assert_eq!(window.consecutive_failures(much_later), 2);
    assert_eq!(window.length(at(61_000)), Duration::from_secs(60), "since the oldest");
}

#[test]
fn a_run_of_failures_outgrows_a_count_window_and_is_forgotten_when_it_has_left() {
    let mut window = Window::new(WindowKind::Count(3), at(0));
    (0..7).for_each(|_| window.record(Outcome::Failure, QUICK, false, at(0)));
    (0..2).for_each(|_| window.record(Outcome::Throttled, QUICK, false, at(0)));
    assert_eq!(window.consecutive_failures(at(0)), 7);
    window.record(Outcome::Throttled, QUICK, false, at(0));
    assert_eq!(window.consecutive_failures(at(0)), 0);
    window.record(Outcome::Failure, QUICK, false, at(0));
    assert_eq!(window.consecutive_failures(at(0)), 1);
}

#[test]
fn a_count_beyond_the_bounds_is_brought_to_the_nearer_one() {
    for (asked, kept) in [(0, 1), (1, 1), (WindowKind::COUNT_MAX, 1_000), (u32::MAX, 1_000)] {
        let mut window = Window::new(WindowKind::Count(asked), at(0));
        (0..2_000).for_each(|_| window.record(Outcome::Success, Duration::MAX, false, at(0)));
        assert_eq!(window.tally(at(0)).requests, kept);
    }
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
        let mut window = Window::new(WindowKind::Time(Duration::from_secs(10)), at(origin));
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

    /// Against a plain list of every result, of which the last so many are counted afresh.
    #[test]
    fn a_count_window_agrees_with_the_end_of_a_list(
        size in 1_u32..20,
        steps in prop::collection::vec((0_u64..4_000, outcome(), any::<bool>(), 1_u64..10_000_000), 1..100),
    ) {
        let mut window = Window::new(WindowKind::Count(size), at(0));
        let mut list: Vec<(u64, Outcome, bool, u64)> = Vec::new();
        let mut now = 0;
        for (pause, outcome, slow, millis) in steps {
            now += pause;
            window.record(outcome, Duration::from_millis(millis), slow, at(now));
            if outcome != Outcome::Ignored {
                list.push((now, outcome, slow, millis));
            }
            let visible = &list[list.len().saturating_sub(size as usize)..];
            let mut expected = Tally::default();
            visible.iter().for_each(|r| expected.count(r.1, Duration::from_millis(r.3), r.2));
            prop_assert_eq!(window.tally(at(now)), expected);
            let oldest = visible.first().map_or(now, |r| r.0);
            prop_assert_eq!(window.length(at(now)), Duration::from_millis(now - oldest));

            let failed = |outcome| matches!(outcome, Outcome::Failure | Outcome::Overloaded);
            let mut run: Vec<usize> = Vec::new();
            for (index, (_, outcome, ..)) in list.iter().enumerate() {
                if *outcome == Outcome::Success || run.last().is_some_and(|last| index - last > size as usize) {
                    run.clear();
                }
                if failed(*outcome) {
                    run.push(index);
                }
            }
            let remembered = run.last().is_some_and(|last| list.len() - last <= size as usize);
            prop_assert_eq!(window.consecutive_failures(at(now)) as usize, if remembered { run.len() } else { 0 });
        }
    }
}
