use super::*;
use crate::time::Timestamp;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

const MINUTE_MICROS: u64 = 60_000_000;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

/// A turn that is answered unless a guard has something against it, and what they have.
fn taken(
    conversation: &mut Conversation,
    turn: OfConversation,
    tokens: u64,
    settings: &RunawaySettings,
) -> Vec<Tripped> {
    let tripped: Vec<Tripped> = conversation.ask(turn, settings).into_iter().flatten().collect();
    if !tripped.iter().any(|tripped| settings.refuses(tripped.guard)) {
        conversation.answered(turn, tokens);
    }
    tripped
}

#[test]
fn a_growing_conversation_is_stopped_behind_its_last_turn_and_told_of_once() {
    let settings = RunawaySettings { max_turns_per_conversation: Some(3), ..RunawaySettings::default() };
    for named in [true, false] {
        let mut conversation = Conversation::default();
        let turn =
            |number: u64| if named { OfConversation::Named } else { OfConversation::Begun { said: 100 * number } };
        for number in 1..=3 {
            assert_eq!(taken(&mut conversation, turn(number), 1, &settings), [], "{number}");
        }
        for (number, is_news) in [(4, true), (5, false), (6, false)] {
            let guard = GuardKind::TurnsPerConversation;
            let tripped = Tripped { guard, figure: 4, limit: 3, is_news };
            assert_eq!(taken(&mut conversation, turn(number), 1, &settings), [tripped], "{number}");
        }
        assert_eq!(conversation.turns(), 3);
    }
}

#[test]
fn what_begins_alike_and_is_no_longer_is_no_turn_and_is_never_stopped() {
    let settings = RunawaySettings {
        max_turns_per_conversation: Some(1),
        max_tokens_per_conversation: Some(10),
        ..RunawaySettings::default()
    };
    let mut conversation = Conversation::default();
    for said in [500, 500, 499, 1] {
        assert_eq!(taken(&mut conversation, OfConversation::Begun { said }, 1_000, &settings), []);
    }
    assert_eq!((conversation.turns(), conversation.tokens()), (1, 1_000));
    assert_eq!(taken(&mut conversation, OfConversation::Begun { said: 501 }, 1_000, &settings).len(), 2);
}

#[test]
fn tokens_stop_a_conversation_when_they_are_spent_and_a_turn_that_failed_is_none() {
    let settings = RunawaySettings {
        max_turns_per_conversation: Some(2),
        max_tokens_per_conversation: Some(1_000),
        ..RunawaySettings::default()
    };
    let mut conversation = Conversation::default();
    assert_eq!(taken(&mut conversation, OfConversation::Named, 999, &settings), []);
    for _ in 0..5 {
        assert_eq!(conversation.ask(OfConversation::Named, &settings), [None, None], "asked, and not answered");
    }
    assert_eq!(taken(&mut conversation, OfConversation::Named, 1, &settings), []);
    let guards: Vec<_> =
        taken(&mut conversation, OfConversation::Named, 1, &settings).iter().map(|each| each.guard).collect();
    assert_eq!(guards, [GuardKind::TurnsPerConversation, GuardKind::TokensPerConversation]);
    assert_eq!((conversation.turns(), conversation.tokens()), (2, 1_000));
}

#[test]
fn whoever_only_watches_goes_on_counting() {
    let settings =
        RunawaySettings { max_turns_per_conversation: Some(2), watch_only: true, ..RunawaySettings::default() };
    let mut conversation = Conversation::default();
    let tripped: Vec<Tripped> =
        (0..5).flat_map(|_| taken(&mut conversation, OfConversation::Named, 1, &settings)).collect();
    assert_eq!(tripped.iter().map(|each| each.figure).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(tripped.iter().filter(|each| each.is_news).count(), 1);
}

#[test]
fn requests_of_one_beginning_and_chance_length_make_few_turns() {
    // A classifier: the same instructions, and each time another text behind them.
    let mut random = 1_u64;
    let mut conversation = Conversation::default();
    for _ in 0..10_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        conversation.answered(OfConversation::Begun { said: 2_000 + (random >> 33) % 3_000 }, 100);
    }
    assert!(conversation.turns() < 30, "{} turns", conversation.turns());
}

/// Asks, and has it answered unless it is one too many; which time it is then.
fn repeated(row: &mut Repetition, request: u64, max: u64, now: Timestamp) -> Option<Tripped> {
    let (of_row, tripped) = row.ask(request, max, now);
    if tripped.is_none() {
        row.answered(of_row, now);
    }
    tripped
}

#[test]
fn a_row_is_broken_by_another_request_and_by_a_pause_but_not_by_a_refusal() {
    let mut row = Repetition::default();
    let mut figure = |request, seconds| repeated(&mut row, request, 2, at(seconds)).map(|tripped| tripped.figure);
    assert_eq!([figure(7, 0), figure(7, 1), figure(7, 2), figure(7, 3)], [None, None, Some(3), Some(3)]);
    assert_eq!([figure(8, 4), figure(7, 5), figure(7, 6), figure(7, 7)], [None, None, None, Some(3)]);
    let gap = Repetition::GAP_MAX.as_secs();
    assert_eq!([figure(7, 7 + gap), figure(7, 8 + 2 * gap)], [Some(3), None]);
}

#[test]
fn what_got_no_answer_is_no_repetition_and_what_is_asked_side_by_side_is_one() {
    let mut row = Repetition::default();
    for second in 0..10 {
        assert_eq!(row.ask(7, 1, at(second)).1, None, "none was answered");
    }
    let side_by_side: Vec<OfRow> = (0..10).map(|_| row.ask(7, 2, at(10)).0).collect();
    side_by_side.into_iter().for_each(|of_row| row.answered(of_row, at(11)));
    assert_eq!(repeated(&mut row, 7, 2, at(12)), None);
    let tripped = row.ask(7, 2, at(13)).1.expect("one too many");
    assert_eq!((tripped.figure, tripped.limit, tripped.is_news), (3, 2, true));
    assert!(!row.ask(7, 2, at(14)).1.expect("one too many").is_news);
}

#[test]
fn an_answer_that_comes_after_something_else_was_asked_counts_for_nothing() {
    let mut row = Repetition::default();
    let (slow, _) = row.ask(7, 1, at(0));
    row.ask(8, 1, at(1));
    row.answered(slow, at(2));
    assert_eq!(row.ask(8, 1, at(3)).1, None);
    assert_eq!(row.ask(7, 1, at(4)).1, None);
}

/// Tells after how many requests of `tokens` there is an alarm, if there is one.
fn alarm(growth: &mut Growth, tokens: impl Fn(u64) -> u64, requests: u64) -> Option<u64> {
    (0..requests).find(|number| growth.note(tokens(*number), 4.0).is_some())
}

#[test]
fn growth_is_told_once_and_again_only_after_it_has_gone() {
    let mut growth = Growth::default();
    assert_eq!(alarm(&mut growth, |number| 1_000 + number % 7 * 100, 500), None);
    assert_eq!(growth.usual_max(4.0), None);
    let after = alarm(&mut growth, |_| 20_000, 40).expect("an alarm");
    assert!((3..20).contains(&after), "after {after}");
    let max = growth.usual_max(4.0).expect("it is alarmed");
    assert!((4_000..12_000).contains(&max), "{max}");
    assert_eq!(alarm(&mut growth, |_| 20_000, 40), None);
    assert_eq!(alarm(&mut growth, |_| 1_000, 40), None);
    assert!(alarm(&mut growth, |_| 20_000, 40).is_some());
}

#[test]
fn one_large_request_little_traffic_and_small_requests_are_no_alarm() {
    let mut growth = Growth::default();
    assert_eq!(alarm(&mut growth, |number| if number == 200 { 100_000 } else { 1_000 }, 400), None);
    // Half a habit.
    let mut growth = Growth::default();
    assert_eq!(alarm(&mut growth, |number| if number < 30 { 1_000 } else { 100_000 }, 60), None);
    // From nothing to next to nothing.
    let mut growth = Growth::default();
    assert_eq!(alarm(&mut growth, |number| if number < 200 { 20 } else { 1_000 }, 400), None);
}

#[test]
fn an_agents_sessions_are_no_alarm_and_one_that_never_ends_is() {
    // Each session grows from six thousand tokens to eighty thousand, with small requests for titles between.
    let mut growth = Growth::default();
    let session = |number: u64| if number % 9 == 8 { 400 } else { 6_000 + number % 40 * 1_900 };
    assert_eq!(alarm(&mut growth, session, 4_000), None);
    let endless = |number: u64| (80_000 + number * 8_000).min(1_000_000);
    assert!(alarm(&mut growth, endless, 500).is_some());
}

#[test]
fn what_has_grown_for_good_becomes_usual() {
    let mut growth = Growth::default();
    assert_eq!(alarm(&mut growth, |_| 1_000, 300), None);
    assert!(alarm(&mut growth, |_| 16_000, 40).is_some());
    alarm(&mut growth, |_| 16_000, 1_000);
    assert_eq!(growth.usual_max(4.0), None);
    assert_eq!(alarm(&mut growth, |_| 16_000, 1_000), None);
}

#[test]
fn a_set_of_guards_has_those_it_was_made_of() {
    for guard in GuardKind::ALL {
        assert!(!GuardSet::NONE.has(guard));
        assert!(GuardSet::of(&[guard, GuardKind::Repeats]).has(guard));
        assert_eq!(RunawaySettings::DEFAULT_WARN_ONLY.has(guard), guard == GuardKind::Growth);
    }
    assert!(GuardKind::ALL.is_sorted(), "the order in which they are declared");
}

proptest! {
    #[test]
    fn an_hour_is_what_a_list_of_all_minutes_says(
        steps in prop::collection::vec((0_u64..200, 0_u64..5_000, 1_u64..20_000), 1..80),
    ) {
        let mut hour = Hour::default();
        let mut noted: Vec<(u64, u64)> = Vec::new();
        let mut now = 0;
        for (seconds, amount, limit) in steps {
            now += seconds * 1_000_000;
            let minute = now / MINUTE_MICROS;
            hour.add(amount, Timestamp::from_micros(now));
            noted.push((minute, amount));
            let within = |minute: u64| -> u64 {
                noted.iter().filter(|(noted, _)| noted + 60 > minute).map(|(_, amount)| amount).sum()
            };
            let used = within(minute);
            prop_assert_eq!(hour.used(Timestamp::from_micros(now)), used);
            let wait = hour.until_below(limit, Timestamp::from_micros(now));
            let then = now + u64::try_from(wait.as_micros()).expect("an hour");
            prop_assert!(within(then / MINUTE_MICROS) < limit);
            if used >= limit {
                prop_assert!(within((then - 1) / MINUTE_MICROS) >= limit, "it is the soonest");
            } else {
                prop_assert_eq!(then / MINUTE_MICROS, minute);
            }
        }
    }

    #[test]
    fn a_row_is_what_a_list_of_all_requests_says(
        steps in prop::collection::vec((0_u64..3, 0_u64..700, any::<bool>()), 1..60), max in 1_u64..4,
    ) {
        let mut row = Repetition::default();
        // Each with when it came, and whether it was answered.
        let (mut seen, mut now): (Vec<(u64, u64, bool)>, u64) = (Vec::new(), 0);
        for (request, seconds, is_answered) in steps {
            now += seconds;
            let mut after = now;
            let in_row = seen.iter().rev().take_while(|(before, then, _)| {
                let goes_on = *before == request && after - then <= Repetition::GAP_MAX.as_secs();
                after = *then;
                goes_on
            });
            let answered = in_row.filter(|(_, _, is_answered)| *is_answered).count() as u64;
            let (of_row, tripped) = row.ask(request, max, at(now));
            prop_assert_eq!(tripped.map(|tripped| tripped.figure), (answered >= max).then_some(answered + 1));
            if is_answered {
                row.answered(of_row, at(now));
            }
            seen.push((request, now, is_answered));
        }
    }

    #[test]
    fn whoever_was_about_lately_is_remembered_and_there_are_never_too_many(
        steps in prop::collection::vec((0_u64..40, 0_u64..20), 1..300), capacity in 2_usize..20,
    ) {
        let ttl = Duration::from_secs(60);
        let mut recent: Recent<u64> = Recent::new(capacity, ttl);
        // By whom, when and in which order last, and how often without a pause.
        let mut model: BTreeMap<u64, (u64, usize, u64)> = BTreeMap::new();
        let mut now = 0;
        for (order, (id, seconds)) in steps.into_iter().enumerate() {
            now += seconds;
            let before = model.get(&id).copied().filter(|(then, _, _)| now - then < ttl.as_secs());
            let between = before.map(|(_, last, _)| {
                model.iter().filter(|(other, (_, at, _))| **other != id && *at > last).count()
            });
            let count = recent.of(id, at(now));
            *count += 1;
            let times = match (before, between) {
                (Some((_, _, times)), Some(between)) if between < capacity / 2 => {
                    prop_assert_eq!(*count, times + 1, "it was about before {} others", between);
                    times + 1
                }
                // It may be forgotten, and may be not; if it is over, it is.
                (Some((_, _, times)), _) => {
                    prop_assert!(*count == 1 || *count == times + 1);
                    *count
                }
                (None, _) => {
                    prop_assert_eq!(*count, 1);
                    1
                }
            };
            model.insert(id, (now, order, times));
            prop_assert!(recent.len() <= capacity.max(2));
        }
    }
}
