use super::*;

/// A clock to move, and calls that go out as soon as they may.
struct World {
    pacer: Pacer,
    now: Timestamp,
}

const STEP: Duration = Duration::from_millis(1);

fn at(seconds: f64) -> Timestamp {
    Timestamp::ORIGIN.saturating_add(Duration::from_secs_f64(seconds))
}

fn fresh() -> World {
    World { pacer: Pacer::new(PacerSettings::default(), ServedLog::default()), now: at(100.0) }
}

/// One that has served so many a second for ten seconds.
fn serving(per_second: u32) -> World {
    let mut world = fresh();
    for number in 0..per_second * 10 {
        let ago = f64::from(per_second * 10 - number) / f64::from(per_second);
        world.pacer.served(at(100.0 - ago));
    }
    world
}

/// As the upstream names it.
fn named(pause: Option<Duration>) -> Pause {
    pause.map_or(Pause::Unnamed, Pause::Named)
}

impl World {
    /// The calls that go out in so many seconds, when there is always one that wants to; `served` says what becomes
    /// of each, by the number of those before it in this second.
    fn run(&mut self, for_seconds: u32, pause: Option<Duration>, served: impl Fn(u32) -> bool) -> (u32, u32) {
        let (mut sent, mut answered) = (0, 0);
        for _ in 0..for_seconds {
            let mut this_second = 0;
            for _ in 0..1_000 {
                self.now = self.now.saturating_add(STEP);
                if self.pacer.wait(self.now).is_zero() {
                    self.pacer.sent(self.now);
                    sent += 1;
                    if served(this_second) {
                        self.pacer.served(self.now);
                        answered += 1;
                        this_second += 1;
                    } else {
                        self.pacer.told(named(pause), self.now, self.now, 0);
                    }
                }
            }
        }
        (sent, answered)
    }
}

#[test]
fn until_somebody_says_too_much_nobody_waits() {
    let world = serving(30);
    assert_eq!((world.pacer.wait(world.now), world.pacer.per_second(world.now)), (Duration::ZERO, None));
    assert_eq!(world.pacer.wait_behind(1_000, world.now), Duration::ZERO);
}

#[test]
fn a_named_pause_is_kept_as_named_and_of_several_the_one_that_ends_last() {
    let mut world = serving(10);
    world.pacer.told(named(Some(Duration::from_secs(3))), world.now, world.now, 0);
    world.pacer.told(named(Some(Duration::from_secs(1))), world.now, world.now, 0);
    assert_eq!(world.pacer.paused_until(world.now), Some(at(103.0)));
    assert!(world.pacer.wait(at(102.999)) > Duration::ZERO);
    assert_eq!(world.pacer.wait(at(103.0)), Duration::ZERO);
    world.pacer.told(named(Some(Duration::from_secs(100))), world.now, world.now, u64::MAX);
    let pause = world.pacer.wait(world.now);
    assert!(pause >= Duration::from_secs(100) && pause <= Duration::from_secs(102), "{pause:?}");
}

#[test]
fn a_pause_of_a_day_is_bounded_and_then_one_call_an_interval_goes_out() {
    let mut world = fresh();
    let day = Some(Duration::from_secs(86_400));
    world.pacer.told(named(day), world.now, world.now, 0);
    assert_eq!(world.pacer.wait(world.now), PacerSettings::DEFAULT_NAMED_PAUSE_MAX);
    world.now = world.now.saturating_add(PacerSettings::DEFAULT_NAMED_PAUSE_MAX);
    let (sent, _) = world.run(3_600, day, |_| false);
    assert_eq!(sent, 6, "one each ten minutes");
}

#[test]
fn a_pause_that_a_policy_orders_is_not_bounded() {
    let mut world = fresh();
    world.pacer.told(Pause::Ordered(Duration::from_secs(86_400)), world.now, world.now, 0);
    assert_eq!(world.pacer.wait(world.now), Duration::from_secs(86_400));
}

#[test]
fn calls_go_out_at_the_rate_that_was_served() {
    let mut world = serving(30);
    world.pacer.told(named(Some(Duration::from_secs(1))), world.now, world.now, 0);
    let (sent, _) = world.run(2, None, |_| true);
    assert!((27..=32).contains(&sent), "{sent} in the second after the pause");
}

#[test]
fn a_rate_that_is_known_of_less_than_a_second_grows_faster_than_one_that_is_known_well() {
    let sent_in_two_seconds = |known_for_ms: u64| {
        let mut world = fresh();
        for number in 0..known_for_ms / 20 {
            world.pacer.served(at(100.0 - f64::from(u16::try_from(number * 20).unwrap()) / 1_000.0));
        }
        world.pacer.told(named(None), world.now, world.now, 0);
        let began_at = world.pacer.per_second(world.now).unwrap();
        f64::from(world.run(2, None, |_| true).0) / began_at
    };
    let (little, well) = (sent_in_two_seconds(400), sent_in_two_seconds(2_000));
    assert!(little > 1.3 * well, "{little} and {well}");
}

#[test]
fn what_is_answered_after_the_first_refusal_of_a_burst_tells_the_rate_too() {
    let mut world = fresh();
    world.pacer.told(named(Some(Duration::from_secs(1))), world.now, world.now, 0);
    (0..10).for_each(|_| world.pacer.served(world.now));
    let (sent, _) = world.run(2, None, |_| true);
    assert!((9..=14).contains(&sent), "{sent}");
}

#[test]
fn with_nothing_to_go_by_the_rate_doubles_about_every_second() {
    let mut world = fresh();
    world.pacer.told(named(None), world.now, world.now, 0);
    assert_eq!(world.pacer.wait(world.now), PacerSettings::DEFAULT_GAP_MAX);
    let (sent, _) = world.run(6, None, |_| true);
    assert!((60..=500).contains(&sent), "{sent}");
}

#[test]
fn the_rate_settles_a_little_below_what_the_upstream_bears() {
    for bears in [2, 10, 40, 200] {
        for pause in [None, Some(Duration::from_secs(1))] {
            let mut world = serving(bears);
            world.pacer.told(named(pause), world.now, world.now, 0);
            world.run(30, pause, |before| before < bears);
            let (sent, answered) = world.run(60, pause, |before| before < bears);
            let (sent, answered) = (f64::from(sent) / 60.0, f64::from(answered) / 60.0);
            let most = f64::from(bears);
            assert!(answered >= 0.85 * most, "{answered} of {bears}, {pause:?}");
            assert!(sent - answered <= 0.05 * most + 0.5, "{} refused of {bears}, {pause:?}", sent - answered);
        }
    }
}

/// Thirty a second are borne, and ten more after a pause, of a second, that the upstream names: how many are refused in
/// ten seconds of an upstream whose pacing has just begun.
fn refused_by_a_quota_that_saves_up(mut world: World) -> u32 {
    const PER_SECOND: f64 = 30.0;
    const SAVED: f64 = 10.0;
    let pause = named(Some(Duration::from_secs(1)));
    world.pacer.told(pause, world.now, world.now, 0);
    let (mut tokens, mut refused) = (0.0_f64, 0);
    for _ in 0..10_000 {
        world.now = world.now.saturating_add(STEP);
        tokens = (tokens + PER_SECOND * STEP.as_secs_f64()).min(SAVED);
        if world.pacer.wait(world.now).is_zero() {
            world.pacer.sent(world.now);
            if tokens >= 1.0 {
                tokens -= 1.0;
                world.pacer.served(world.now);
            } else {
                refused += 1;
                world.pacer.told(pause, world.now, world.now, 0);
            }
        }
    }
    refused
}

#[test]
fn a_quota_that_is_used_up_at_once_has_lived_on_what_it_saved_and_is_found_at_the_first_refusal() {
    let refused = refused_by_a_quota_that_saves_up(serving(50));
    assert!(refused <= 2, "{refused}");
}

#[test]
fn after_a_drought_the_rate_is_back_within_seconds() {
    let mut world = serving(50);
    world.pacer.told(named(None), world.now, world.now, 0);
    let (sent, _) = world.run(120, None, |_| false);
    assert!((40..=100).contains(&sent), "{sent} calls in two minutes in which none is served");
    assert!(world.pacer.is_fruitless(world.now));
    world.run(16, None, |_| true);
    assert!(!world.pacer.is_fruitless(world.now));
    let (sent, _) = world.run(1, None, |_| true);
    assert!(sent >= 25, "{sent}");
}

#[test]
fn one_who_comes_behind_others_is_told_what_they_take() {
    let mut world = serving(10);
    world.pacer.told(named(Some(Duration::from_secs(2))), world.now, world.now, 0);
    let wait = world.pacer.wait_behind(20, world.now).as_secs_f64();
    // Two seconds of pause, and twenty calls at ten a second, or a quarter faster.
    assert!((3.6..4.0).contains(&wait), "{wait}");
}

#[test]
fn who_comes_before_any_rate_is_known_is_told_no_more_than_it_takes_to_find_one() {
    const OTHERS: u16 = 40;
    let mut world = fresh();
    world.pacer.told(named(Some(Duration::from_secs(2))), world.now, world.now, 0);
    let told = world.pacer.wait_behind(OTHERS.into(), world.now);
    let began = world.now;
    let mut left = u32::from(OTHERS);
    while left > 0 {
        left = left.saturating_sub(world.run(1, None, |_| true).1);
    }
    let took = world.now.saturating_since(began);
    assert!(told <= took && took <= told + Duration::from_secs(3), "told {told:?}, and it took {took:?}");
}

#[test]
fn those_who_come_when_a_spent_quota_is_there_again_do_not_all_go_out_at_once() {
    const QUOTA: Duration = Duration::from_secs(600);
    let mut world = serving(10);
    world.pacer.told(named(Some(QUOTA)), world.now, world.now, 0);
    world.now = world.now.saturating_add(QUOTA);
    world.pacer.rest(world.now);
    assert!(world.pacer.per_second(world.now).is_some_and(|rate| rate < 20.0), "one finds out for all");
    world.now = world.now.saturating_add(STEP);
    world.pacer.sent(world.now);
    world.pacer.served(world.now);
    assert_eq!(world.pacer.per_second(world.now), None, "it was no rate");
}

#[test]
fn what_began_at_nothing_finds_a_rate_within_seconds_though_each_refusal_names_a_pause() {
    let mut world = fresh();
    let pause = Some(Duration::from_secs(1));
    world.pacer.told(named(pause), world.now, world.now, 0);
    // Ten a second and no more.
    let (mut served, mut last) = (0, world.now);
    for _ in 0..14_000 {
        world.now = world.now.saturating_add(STEP);
        if world.pacer.wait(world.now).is_zero() {
            world.pacer.sent(world.now);
            if world.now.saturating_since(last) >= Duration::from_millis(100) {
                (served, last) = (served + 1, world.now);
                world.pacer.served(world.now);
            } else {
                world.pacer.told(named(pause), world.now, world.now, 0);
            }
        }
    }
    assert!(served >= 80, "{served} of 140");
}

/// Fifty a second were served when these were told a second apart; then the suspicion comes to nothing, and every call
/// is served. The rate five seconds later.
fn after_acquittal(pauses: [Pause; 8]) -> f64 {
    let mut world = serving(50);
    for pause in pauses {
        world.pacer.told(pause, world.now, world.now, 0);
        world.now = world.now.saturating_add(Duration::from_millis(1_001));
    }
    assert!(world.pacer.per_second(world.now) < Some(5.0));
    world.pacer.acquit(world.now);
    for _ in 0..5_000 {
        world.now = world.now.saturating_add(STEP);
        if world.pacer.wait(world.now).is_zero() {
            world.pacer.sent(world.now);
            world.pacer.served(world.now);
        }
    }
    world.pacer.per_second(world.now).unwrap()
}

#[test]
fn what_was_paced_for_a_suspicion_that_came_to_nothing_goes_out_faster_and_faster() {
    let per_second = after_acquittal([Pause::Suspected; 8]);
    assert!(per_second > 50.0, "{per_second}");
}

#[test]
fn what_was_said_is_paced_whatever_was_suspected() {
    let mut pauses = [Pause::Suspected; 8];
    pauses[3] = Pause::Unnamed;
    let per_second = after_acquittal(pauses);
    assert!(per_second < 25.0, "{per_second}");
}

#[test]
fn it_is_over_when_nobody_has_said_too_much_for_a_minute_and_not_before() {
    let mut world = serving(10);
    world.pacer.told(named(None), world.now, world.now, 0);
    world.pacer.rest(at(159.0));
    assert!(world.pacer.per_second(at(159.0)).is_some());
    world.pacer.rest(at(160.0));
    assert_eq!(world.pacer.per_second(at(160.0)), None);
}

#[test]
fn the_log_tells_a_rate_from_few_answers_and_from_many() {
    let rate = |per_second: u32| serving(per_second).pacer.served.rate(at(100.0));
    for per_second in [1, 5, 30, 200, 1_000] {
        let told = rate(per_second);
        let off = (told / f64::from(per_second) - 1.0).abs();
        assert!(off < 0.15, "{told} instead of {per_second}");
    }
    assert!(ServedLog::default().rate(at(1.0)) < f64::EPSILON);
}

#[test]
fn every_mistake_is_listed() {
    let broken = PacerSettings {
        pause_jitter: 2.0,
        gap_max: Duration::ZERO,
        fruitless_share: f64::NAN,
        fruitless_gap_max: Duration::ZERO,
        ..PacerSettings::default()
    };
    let fields: Vec<_> = broken.validate().into_iter().map(|mistake| mistake.field).collect();
    assert_eq!(fields, ["pause_jitter", "gap_max", "fruitless_share"]);
    assert_eq!(PacerSettings::default().validate(), []);
}

#[test]
fn it_is_known_whether_anybody_was_served_since_a_moment() {
    let mut pacer = Pacer::new(PacerSettings::default(), ServedLog::default());
    assert!(!pacer.has_served_since(Timestamp::ORIGIN));
    let served = Timestamp::from_micros(5_000_000);
    pacer.served(served);
    assert!(pacer.has_served_since(served));
    assert!(!pacer.has_served_since(served.saturating_add(Duration::from_micros(1))));
}

#[test]
fn a_limit_that_was_lifted_is_found_within_seconds() {
    let mut world = serving(10);
    world.pacer.told(named(Some(Duration::from_secs(1))), world.now, world.now, 0);
    world.run(30, Some(Duration::from_secs(1)), |before| before < 10);
    let (_, answered) = world.run(20, Some(Duration::from_secs(1)), |before| before < 100);
    let (_, then) = world.run(10, Some(Duration::from_secs(1)), |before| before < 100);
    assert!(answered > 300 && then > 700, "{answered} in the first twenty seconds, {then} in the ten after them");
}

#[test]
fn a_call_beside_which_there_is_no_other_waits_for_a_pause_and_for_no_rate() {
    let mut world = fresh();
    world.pacer.sent(world.now);
    world.pacer.told_alone(named(Some(Duration::from_millis(300))), world.now, world.now, 0);
    assert_eq!(world.pacer.wait_alone(world.now), Duration::from_millis(300));
    world.now = world.now.saturating_add(Duration::from_millis(300));
    assert_eq!(world.pacer.wait_alone(world.now), Duration::ZERO);
    world.pacer.sent(world.now);
    world.pacer.served(world.now);
    assert_eq!(world.pacer.wait_alone(world.now), Duration::ZERO);
    assert!(world.pacer.wait(world.now) > Duration::from_millis(100), "beside others it would have to wait");
}

#[test]
fn who_calls_alone_and_in_vain_waits_for_as_long_again_and_for_a_second_at_most() {
    let mut world = fresh();
    let mut gaps = Vec::new();
    for _ in 0..5 {
        let sent = world.now;
        world.pacer.sent(sent);
        world.pacer.told_alone(Pause::Unnamed, sent, world.now, 0);
        let gap = world.pacer.wait_alone(world.now);
        gaps.push(gap.as_millis());
        world.now = world.now.saturating_add(gap);
    }
    assert_eq!(gaps, [250, 250, 500, 1_000, 1_000]);
    world.pacer.told(Pause::Unnamed, world.now, world.now, 0);
    assert_eq!(world.pacer.wait_alone(world.now), world.pacer.wait(world.now), "a crowd has been refused");
}

#[test]
fn who_goes_out_alone_leaves_no_debt_to_others() {
    let mut world = fresh();
    world.pacer.told_alone(named(Some(Duration::from_millis(100))), world.now, world.now, 0);
    world.now = world.now.saturating_add(Duration::from_millis(100));
    for _ in 0..7 {
        assert_eq!(world.pacer.wait_alone(world.now), Duration::ZERO);
        world.pacer.sent(world.now);
        world.pacer.served(world.now);
    }
    assert!(world.pacer.wait(world.now) <= Duration::from_secs(1), "{:?}", world.pacer.wait(world.now));
}
