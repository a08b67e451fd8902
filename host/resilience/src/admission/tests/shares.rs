//! Groups that have shares of the places, and everybody else.

use super::*;
use crate::fair_queue::Full;
use std::collections::BTreeMap;

const SEARCH: GroupId = GroupId(0);
const CHAT: GroupId = GroupId(1);

/// So many places, of which a half is reserved for one group, and a quarter for another.
fn shared(places: u32, limiter: Limiter) -> AdmissionQueue {
    let mut shares = Shares::default();
    assert_eq!([0.5, 0.25].map(|share| shares.reserve(None, share)), [Ok(SEARCH), Ok(CHAT)]);
    let places = Concurrency::Fixed(Bulkhead::new(places));
    AdmissionQueue::new(limiter, places, FairQueueSettings::default()).with_shares(shares)
}

fn of(group: Option<GroupId>, tenant: u64) -> Demand {
    Demand { group, ..demand(tenant, 1) }
}

fn leave(queue: &mut AdmissionQueue, pass: Pass, now: Timestamp) {
    queue.settle(pass, Settlement::Refund, Feedback::Neutral, now);
}

#[test]
fn others_wait_for_places_that_a_group_does_not_use_and_its_callers_go_past_them() {
    let mut queue = shared(4, Limiter::default());
    let first = passed(queue.enter(of(None, 1), at(0), at(0)));
    let refused = queue.enter(of(None, 1), at(0), at(0)).unwrap_err();
    assert_eq!(refused.obstacle, Obstacle::Reserved { limit: 4, in_flight: 1 });
    let waits = waiting(queue.enter(of(None, 1), at(100), at(0)));
    assert_eq!((queue.next(at(0)), queue.wake_at(at(0))), (None, Some((waits, at(100)))));
    // Without any patience, since nobody is before them who could take those places.
    let searches: Vec<Pass> = (0..2).map(|_| passed(queue.enter(of(Some(SEARCH), 2), at(0), at(0)))).collect();
    let refused = queue.enter(of(Some(SEARCH), 2), at(0), at(0)).unwrap_err();
    assert_eq!(refused.obstacle, Obstacle::Reserved { limit: 4, in_flight: 3 });
    let chat = passed(queue.enter(of(Some(CHAT), 3), at(0), at(0)));
    assert_eq!(queue.next(at(0)), None);
    // What a group gives back stays its own.
    leave(&mut queue, chat, at(1));
    assert_eq!(queue.next(at(1)), None);
    assert_eq!(queue.in_vain(1, None, at(1)).obstacle, Obstacle::Reserved { limit: 4, in_flight: 3 });
    leave(&mut queue, first, at(1));
    assert_eq!(next_passed(&mut queue, at(1)).0, waits);
    let standing: Vec<_> = queue.shares().map(|share| (share.places, share.in_flight)).collect();
    assert_eq!(standing, [(2, 2), (1, 0)]);
    drop(searches);
}

#[test]
fn whoever_is_held_up_by_a_share_keeps_its_turn() {
    let mut queue = shared(4, Limiter::default());
    let general = passed(queue.enter(of(None, 1), at(0), at(0)));
    let searches: Vec<Pass> = (0..2).map(|_| passed(queue.enter(of(Some(SEARCH), 2), at(0), at(0)))).collect();
    let first = waiting(queue.enter(of(None, 1), at(100), at(0)));
    // They need more than their share, and so have their turn behind it.
    let [second, third] = [0, 1].map(|_| waiting(queue.enter(of(Some(SEARCH), 2), at(100), at(0))));
    let mut searches = searches.into_iter();
    for (ends, served) in [(searches.next(), second), (searches.next(), third)] {
        leave(&mut queue, ends.expect("a call"), at(1));
        let (ticket, search) = next_passed(&mut queue, at(1));
        assert_eq!(ticket, served, "a place of the group's goes to the group");
        assert_eq!(queue.next(at(1)), None);
        drop(search);
    }
    leave(&mut queue, general, at(2));
    assert_eq!(next_passed(&mut queue, at(2)).0, first);
}

#[test]
fn those_of_one_group_share_its_places_fairly_among_each_other() {
    let mut queue = shared(4, Limiter::default());
    let _others = passed(queue.enter(of(None, 1), at(0), at(0)));
    let mut searches: Vec<Pass> = (0..2).map(|_| passed(queue.enter(of(Some(SEARCH), 2), at(0), at(0)))).collect();
    let _waits = waiting(queue.enter(of(None, 1), at(100), at(0)));
    let flood: Vec<Ticket> = (0..8).map(|_| waiting(queue.enter(of(Some(SEARCH), 2), at(100), at(0)))).collect();
    let late = waiting(queue.enter(of(Some(SEARCH), 3), at(100), at(0)));
    let mut served = Vec::new();
    for _ in 0..3 {
        leave(&mut queue, searches.remove(0), at(1));
        let (ticket, search) = next_passed(&mut queue, at(1));
        served.push(ticket);
        searches.push(search);
    }
    assert!(served.contains(&late), "a flood of eight keeps one of the same group waiting: {served:?}, {flood:?}");
}

#[test]
fn places_of_an_upper_group_are_shared_fairly_by_all_its_members_also_those_of_groups_below() {
    let mut shares = Shares::default();
    let [upper, lower] =
        [(None, 0.5), (Some(GroupId(0)), 0.25)].map(|(above, share)| shares.reserve(above, share).ok());
    let places = Concurrency::Fixed(Bulkhead::new(4));
    let mut queue = AdmissionQueue::new(Limiter::default(), places, FairQueueSettings::default()).with_shares(shares);
    let _others = [0, 1].map(|_| passed(queue.enter(of(None, 1), at(0), at(0))));
    // One on the lower group's own place, and one on that which the upper one has beside it.
    let mut calls: Vec<Pass> = (0..2).map(|_| passed(queue.enter(of(lower, 2), at(0), at(0)))).collect();
    let _waits = waiting(queue.enter(of(None, 1), at(100), at(0)));
    let flood: Vec<Ticket> = (0..8).map(|_| waiting(queue.enter(of(lower, 2), at(100), at(0)))).collect();
    let late = waiting(queue.enter(of(upper, 3), at(100), at(0)));
    let mut served = Vec::new();
    for _ in 0..3 {
        leave(&mut queue, calls.remove(0), at(1));
        let (ticket, call) = next_passed(&mut queue, at(1));
        served.push(ticket);
        calls.push(call);
    }
    assert!(served.contains(&late), "a flood of a lower group goes before one of the upper: {served:?}, {flood:?}");
}

#[test]
fn tokens_are_reserved_for_nobody_so_that_nobody_overtakes_who_waits_for_them() {
    let bucket = TokenBucket::new(60, 60, at(0));
    let mut queue = shared(8, Limiter::new(None, Some(bucket)));
    let _most = passed(queue.enter(Demand { tokens: 50, ..of(None, 1) }, at(0), at(0)));
    let large = waiting(queue.enter(Demand { tokens: 40, ..of(None, 1) }, at(1_000), at(0)));
    let small = waiting(queue.enter(Demand { tokens: 5, ..of(Some(SEARCH), 2) }, at(1_000), at(0)));
    assert_eq!((queue.next(at(0)), queue.wake_at(at(0))), (None, Some((large, at(30)))));
    assert_eq!(next_passed(&mut queue, at(30)).0, large);
    assert_eq!(next_passed(&mut queue, at(35)).0, small);
}

#[test]
fn whoever_waits_for_tokens_beside_one_that_is_held_up_keeps_the_time() {
    let bucket = TokenBucket::new(60, 60, at(0));
    let mut queue = shared(4, Limiter::new(None, Some(bucket)));
    let _general = passed(queue.enter(Demand { tokens: 60, ..of(None, 1) }, at(0), at(0)));
    let _held_up = waiting(queue.enter(of(None, 1), at(1_000), at(1)));
    let search = waiting(queue.enter(Demand { tokens: 10, ..of(Some(SEARCH), 2) }, at(1_000), at(1)));
    let behind = waiting(queue.enter(Demand { tokens: 1, ..of(Some(CHAT), 3) }, at(1_000), at(1)));
    assert_eq!((queue.next(at(1)), queue.wake_at(at(1))), (None, Some((search, at(10)))));
    assert_eq!(next_passed(&mut queue, at(10)).0, search);
    assert_eq!(queue.wake_at(at(10)), Some((behind, at(11))));
    assert_eq!(next_passed(&mut queue, at(11)).0, behind);
}

#[test]
fn a_limit_that_was_shrunk_grows_again_though_a_group_leaves_its_share_free() {
    let mut shares = Shares::default();
    shares.reserve(None, 0.8).expect("a share");
    let settings = AdaptiveLimitSettings { min_in_flight: 1, max_in_flight: 20, initial: 20, latency_tolerance: None };
    let adaptive = Concurrency::Adaptive(AdaptiveLimit::new(settings));
    let mut queue = AdmissionQueue::new(Limiter::default(), adaptive, FairQueueSettings::default()).with_shares(shares);
    let of_group = Demand { group: Some(SEARCH), ..demand(2, 1) };
    let passes: Vec<Pass> = (0..20).map(|_| passed(queue.enter(of_group, at(0), at(0)))).collect();
    for pass in passes {
        queue.settle(pass, Settlement::Refund, Feedback::Overloaded, at(1));
    }
    assert_eq!(queue.concurrency().limit(), 10);
    for second in 2..400 {
        // Others take what is open to them, a fifth.
        let mut calls = Vec::new();
        while let Ok(Entry::Passed(call)) = queue.enter(demand(1, 1), at(second), at(second)) {
            calls.push(call);
        }
        for call in calls {
            let answered = Feedback::Answered { first_token: Duration::from_millis(1), input_tokens: 1 };
            queue.settle(call, Settlement::Refund, answered, at(second));
        }
    }
    assert_eq!(queue.concurrency().limit(), 20);
}

#[test]
fn a_queue_without_shares_knows_no_groups() {
    let mut queue = queue(1).with_shares(Shares::default());
    let _one = passed(queue.enter(of(Some(SEARCH), 1), at(0), at(0)));
    assert_eq!((queue.shares().count(), queue.groups.is_none()), (0, true));
}

#[test]
fn bounds_of_the_queue_hold_for_those_of_groups_too() {
    let settings = FairQueueSettings { max_waiting: 1, max_waiting_per_tenant: 1, ..FairQueueSettings::default() };
    let mut shares = Shares::default();
    shares.reserve(None, 0.5).expect("a share");
    let mut queue =
        AdmissionQueue::new(Limiter::default(), Concurrency::Fixed(Bulkhead::new(1)), settings).with_shares(shares);
    let one = passed(queue.enter(of(Some(SEARCH), 1), at(0), at(0)));
    let ticket = waiting(queue.enter(of(Some(SEARCH), 1), at(9), at(0)));
    let refused = queue.enter(of(Some(SEARCH), 2), at(9), at(0)).unwrap_err();
    assert_eq!(refused.obstacle, Obstacle::Full(Full::Queue));
    leave(&mut queue, one, at(1));
    assert_eq!(next_passed(&mut queue, at(1)).0, ticket);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Enter { group: Option<usize>, tenant: u64, priority: Priority, patience_s: u64 },
    End { which: usize, feedback: Feedback },
    Lasts(usize),
    Cancel(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let priority = prop::sample::select(Priority::ALL.to_vec());
    let answered = Feedback::Answered { first_token: Duration::from_millis(1), input_tokens: 1 };
    let feedback = prop::sample::select(vec![answered, Feedback::Overloaded, Feedback::Neutral]);
    prop_oneof![
        5 => (prop::option::of(0..GROUPS.len()), 0..4_u64, priority, 0..30_u64).prop_map(
            |(group, tenant, priority, patience_s)| Step::Enter { group, tenant, priority, patience_s }
        ),
        4 => (0..50_usize, feedback).prop_map(|(which, feedback)| Step::End { which, feedback }),
        1 => (0..50_usize).prop_map(Step::Lasts),
        1 => (0..50_usize).prop_map(Step::Cancel),
        1 => (0..20_u64).prop_map(Step::Wait),
    ]
}

/// A group, one below it, and another; with their shares in hundredths.
const GROUPS: [(Option<usize>, u32); 3] = [(None, 40), (Some(0), 20), (None, 30)];

/// A call as somebody would count it who knows the rule and nothing of queues.
#[derive(Clone, Copy, Debug)]
struct Known {
    group: Option<usize>,
    lasts: bool,
}

/// Whether a call of a group may go, beside these, where there may be so many at once: there is a place, and behind it
/// as many are free as are to stay so, or it is for one like it that a place was kept.
fn may_go(group: Option<usize>, calls: &[Known], limit: u32) -> bool {
    let kept = |calls: &[Known]| {
        let of = |group: usize| calls.iter().filter(|call| call.group == Some(group)).count();
        let left = |index: usize, in_flight: usize| {
            (limit * GROUPS[index].1 / 100).saturating_sub(u32::try_from(in_flight).unwrap())
        };
        left(0, of(0) + of(1)).max(left(1, of(1))) + left(2, of(2))
    };
    let behind = [calls, &[Known { group, lasts: false }]].concat();
    let taken = u32::try_from(calls.len()).unwrap();
    taken < limit && (taken + 1 + kept(&behind) <= limit || kept(&behind) < kept(calls))
}

const MAX_IN_FLIGHT: u32 = 12;

/// The same where some places are for calls that work, and more for all.
fn has_right(group: Option<usize>, calls: &[Known], limit: u32) -> bool {
    let working: Vec<Known> = calls.iter().copied().filter(|call| !call.lasts).collect();
    may_go(group, &working, limit) && may_go(group, calls, MAX_IN_FLIGHT)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Calls of groups and of nobody's, which come, end, stay, and give up waiting, while the limit shrinks and grows:
    /// nobody gets a place without a right to it, nobody waits who has one, nobody is overtaken by those of its own
    /// group, tenant and priority, and when all is over every place is back.
    #[test]
    fn whoever_has_a_right_to_a_place_gets_it_and_nobody_else_does(steps in prop::collection::vec(step(), 1..150)) {
        let mut shares = Shares::default();
        for (parent, hundredths) in GROUPS {
            shares.reserve(parent.map(GroupId::at), f64::from(hundredths) / 100.0).expect("a share");
        }
        let settings =
            AdaptiveLimitSettings { max_in_flight: MAX_IN_FLIGHT, initial: 8, ..AdaptiveLimitSettings::default() };
        let adaptive = Concurrency::Adaptive(AdaptiveLimit::new(settings));
        let mut queue =
            AdmissionQueue::new(Limiter::default(), adaptive, FairQueueSettings::default()).with_shares(shares);
        let mut now = at(0);
        let mut calls: Vec<(Pass, Known)> = Vec::new();
        let mut waiters: BTreeMap<Ticket, (Option<usize>, u64, Priority)> = BTreeMap::new();
        let known = |calls: &[(Pass, Known)]| calls.iter().map(|(_, known)| *known).collect::<Vec<_>>();
        for step in steps {
            match step {
                Step::Enter { group, tenant, priority, patience_s } => {
                    let demand = Demand { tenant: Tenant::new(tenant), priority, tokens: 1, group: group.map(GroupId::at) };
                    let deadline = now.saturating_add(Duration::from_secs(patience_s));
                    let has_right = has_right(group, &known(&calls), queue.concurrency().limit());
                    match queue.enter(demand, deadline, now) {
                        Ok(Entry::Passed(pass)) => {
                            prop_assert!(has_right, "{:?} has got in beside {:?}", group, known(&calls));
                            calls.push((pass, Known { group, lasts: false }));
                        }
                        Ok(Entry::Waiting(ticket)) => {
                            waiters.insert(ticket, (group, tenant, priority));
                        }
                        Err(away) => {
                            prop_assert!(patience_s == 0 && !has_right, "{:?} is turned away: {:?}", group, away);
                        }
                    }
                }
                Step::End { which, feedback } if !calls.is_empty() => {
                    let (pass, _) = calls.swap_remove(which % calls.len());
                    queue.settle(pass, Settlement::Refund, feedback, now);
                }
                Step::Lasts(which) if !calls.is_empty() => {
                    let index = which % calls.len();
                    let (pass, known) = &mut calls[index];
                    queue.lasts(pass);
                    known.lasts = true;
                }
                Step::Cancel(which) if !waiters.is_empty() => {
                    let ticket = *waiters.keys().nth(which % waiters.len()).expect("a waiter");
                    waiters.remove(&ticket);
                    prop_assert!(queue.cancel(ticket));
                }
                Step::End { .. } | Step::Lasts(_) | Step::Cancel(_) => {}
                Step::Wait(seconds) => now = now.saturating_add(Duration::from_secs(seconds)),
            }
            loop {
                let beside = known(&calls);
                let limit = queue.concurrency().limit();
                match queue.next(now) {
                    Some(Leaving::Passed { ticket, pass, .. }) => {
                        let (group, tenant, priority) = waiters.remove(&ticket).expect("it waits");
                        prop_assert!(has_right(group, &beside, limit), "{:?} has got in beside {:?}", group, beside);
                        let before = waiters.iter().find(|(_, other)| **other == (group, tenant, priority));
                        prop_assert!(before.is_none_or(|(other, _)| *other > ticket), "it has overtaken its like");
                        calls.push((pass, Known { group, lasts: false }));
                    }
                    Some(Leaving::Expired { ticket, .. }) => prop_assert!(waiters.remove(&ticket).is_some()),
                    None => break,
                }
            }
            let (in_flight, limit) = (known(&calls), queue.concurrency().limit());
            for (group, ..) in waiters.values() {
                prop_assert!(!has_right(*group, &in_flight, limit), "{:?} waits beside {:?} of {}", group, in_flight, limit);
            }
            prop_assert_eq!((queue.waiting(), queue.concurrency().in_flight() as usize), (waiters.len(), calls.len()));
            // Somebody keeps the time for those who wait, until the next patience ends at the latest.
            prop_assert_eq!(queue.wake_at(now).is_some(), !waiters.is_empty());
        }
        for (pass, _) in calls {
            queue.settle(pass, Settlement::Refund, Feedback::Neutral, now);
        }
        prop_assert_eq!(queue.concurrency().in_flight(), 0);
        prop_assert!(queue.shares().all(|share| share.in_flight == 0), "a place is still counted as a group's");
    }
}
