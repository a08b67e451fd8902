use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const NEVER: Timestamp = Timestamp::from_micros(u64::MAX);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn always(_: u64) -> bool {
    true
}

fn up_to(tokens: u64) -> impl Fn(u64) -> bool {
    move |cost| cost <= tokens
}

fn queue() -> FairQueue {
    FairQueue::new(FairQueueSettings {
        max_waiting: 10_000,
        max_waiting_per_tenant: 10_000,
        turn_tokens: 0,
        ..FairQueueSettings::default()
    })
}

fn join(queue: &mut FairQueue, tenant: u64, cost: u64) -> Ticket {
    queue.push(Tenant::new(tenant), Priority::Normal, cost, None, NEVER, at(0)).unwrap()
}

fn join_often(queue: &mut FairQueue, times: u32, tenant: u64, cost: u64) {
    for _ in 0..times {
        join(queue, tenant, cost);
    }
}

fn granted(turn: Option<Turn>) -> Granted {
    match turn {
        Some(Turn::Granted(granted)) => granted,
        other => panic!("nobody was served: {other:?}"),
    }
}

fn tenants(queue: &mut FairQueue, turns: usize) -> Vec<u64> {
    (0..turns).map(|_| granted(queue.next(at(0), always)).tenant.id).collect()
}

#[test]
fn one_tenants_flood_never_delays_another_by_more_than_its_turn() {
    let mut queue = queue();
    join_often(&mut queue, 1000, 1, 100);
    tenants(&mut queue, 10);
    join_often(&mut queue, 3, 2, 100);
    let turns = tenants(&mut queue, 6);
    assert_eq!(turns.iter().filter(|tenant| **tenant == 2).count(), 3, "{turns:?}");
}

#[test]
fn tokens_are_shared_not_requests() {
    let mut queue = queue();
    for _ in 0..200 {
        join(&mut queue, 1, 1000);
        join(&mut queue, 2, 10);
    }
    let turns = tenants(&mut queue, 202);
    assert!(turns.iter().filter(|tenant| **tenant == 1).count() <= 3, "200 small ones cost as much as two large ones");
}

#[test]
fn weights_share_in_proportion() {
    let mut queue = queue();
    for _ in 0..100 {
        for (id, weight) in [(1, 3), (2, 1)] {
            queue.push(Tenant { id, weight }, Priority::Normal, 10, None, NEVER, at(0)).unwrap();
        }
    }
    let turns = tenants(&mut queue, 40);
    let heavy = turns.iter().filter(|tenant| **tenant == 1).count();
    assert!((29..=31).contains(&heavy), "{heavy}");
}

/// In all three, one tenant weighs as much as ten others together, so every second turn is its own.
#[test]
fn a_heavy_tenant_takes_its_turns_one_by_one() {
    for used in [100, 50, 10] {
        let mut queue = queue();
        for id in 0..11 {
            let tenant = Tenant { id, weight: if id == 0 { 10 } else { 1 } };
            for _ in 0..40 {
                queue.push(tenant, Priority::Normal, 100, None, NEVER, at(0)).unwrap();
            }
        }
        let mut ahead = 0_i64;
        for _ in 0..70 {
            let granted = granted(queue.next(at(0), always));
            ahead += if granted.tenant.id == 0 { 1 } else { -1 };
            queue.settle(granted, used);
            assert!(ahead.abs() <= 2, "{ahead} turns ahead when {used} of 100 are used");
        }
    }
}

#[test]
fn a_pause_earns_no_credit() {
    let mut queue = queue();
    // The first tenant overruns, and waits far ahead of its share.
    join(&mut queue, 1, 10);
    let beside = join(&mut queue, 2, 10);
    let overrun = granted(queue.next(at(0), up_to(10)));
    queue.settle(overrun, 510);
    assert!(queue.cancel(beside));
    join_often(&mut queue, 20, 1, 10);
    join(&mut queue, 3, 10);
    assert_eq!(tenants(&mut queue, 1), [3]);
    // The third is gone, and the first is next though nothing is free yet.
    assert_eq!(queue.next(at(0), up_to(0)), None);
    join_often(&mut queue, 20, 3, 10);
    let turns = tenants(&mut queue, 8);
    assert!((3..=5).contains(&turns.iter().filter(|tenant| **tenant == 3).count()), "{turns:?}");
}

#[test]
fn case_38_a_dropped_waiter_takes_nothing_and_keeps_everybody_elses_order() {
    let order = |cancelled: Option<usize>| {
        let mut queue = queue();
        let tickets: Vec<Ticket> = (0..12).map(|n| join(&mut queue, n % 3, 10)).collect();
        if let Some(index) = cancelled {
            assert!(queue.cancel(tickets[index]));
            assert!(!queue.cancel(tickets[index]), "a ticket leaves once");
        }
        let turns: Vec<Ticket> = std::iter::from_fn(|| match queue.next(at(0), up_to(10)) {
            Some(Turn::Granted(granted)) => Some(granted.ticket),
            Some(Turn::Expired { .. }) | None => None,
        })
        .collect();
        (tickets, turns)
    };
    let (tickets, undisturbed) = order(None);
    assert_eq!(undisturbed.len(), 12);
    for (index, cancelled) in tickets.iter().enumerate() {
        let (_, turns) = order(Some(index));
        assert_eq!(turns.len(), 11);
        for tenant in 0..3 {
            let of = |turns: &[Ticket]| -> Vec<Ticket> {
                turns.iter().filter(|t| t.0 % 3 == tenant && *t != cancelled).copied().collect()
            };
            assert_eq!(of(&turns), of(&undisturbed));
        }
        assert!(turns.chunks(3).take(3).all(|round| round.len() == 3), "{turns:?}");
    }
}

#[test]
fn a_large_request_is_not_overtaken_for_its_size() {
    let mut queue = queue();
    join(&mut queue, 1, 500);
    join(&mut queue, 1, 1);
    assert_eq!(queue.next(at(0), up_to(499)), None);
    assert_eq!(granted(queue.next(at(0), up_to(500))).cost, 500);
    assert_eq!(granted(queue.next(at(0), up_to(1))).cost, 1);
    assert!(queue.is_empty());
}

#[test]
fn a_waiter_whose_patience_ends_is_handed_out_as_expired_and_not_charged() {
    let mut queue = queue();
    let ticket = queue.push(Tenant::new(1), Priority::Normal, 50, None, at(5), at(1)).unwrap();
    join(&mut queue, 1, 50);
    assert_eq!(queue.next_deadline(), Some(at(5)));
    assert_eq!(queue.next(at(4), up_to(0)), None);
    let expired = Turn::Expired { ticket, waited: Duration::from_secs(4) };
    assert_eq!(queue.next(at(5), always), Some(expired), "even when there are tokens: nobody waits for it");
    assert_eq!(queue.next_deadline(), Some(NEVER));
    assert_eq!(queue.len(), 1);
}

#[test]
fn the_highest_priority_goes_first_and_a_low_one_never_starves() {
    let mut queue = queue();
    for _ in 0..100 {
        queue.push(Tenant::new(1), Priority::Low, 1, None, NEVER, at(0)).unwrap();
        queue.push(Tenant::new(2), Priority::High, 1, None, NEVER, at(0)).unwrap();
        queue.push(Tenant::new(3), Priority::Normal, 1, None, NEVER, at(0)).unwrap();
    }
    let mut turn = |now| granted(queue.next(now, up_to(1))).priority;
    assert!((0..12).all(|_| turn(at(0)) == Priority::High));
    let aged: Vec<Priority> = (0..4).map(|_| turn(at(1))).collect();
    assert_eq!(aged[2..], [Priority::High; 2], "one each, then the order is strict again");
    assert!(aged[..2].contains(&Priority::Low) && aged[..2].contains(&Priority::Normal));
}

#[test]
fn however_slow_the_turns_are_a_low_priority_gets_one_in_ten_of_them() {
    let mut queue = queue();
    for _ in 0..100 {
        queue.push(Tenant::new(1), Priority::Low, 1, None, NEVER, at(0)).unwrap();
        queue.push(Tenant::new(2), Priority::Normal, 1, None, NEVER, at(0)).unwrap();
    }
    let low = (0..100).filter(|turn| granted(queue.next(at(5 * turn), always)).priority == Priority::Low).count();
    assert_eq!(low, 10);
}

#[test]
fn nobody_is_passed_over_while_tokens_gather_for_a_higher_priority() {
    let mut queue = queue();
    queue.push(Tenant::new(1), Priority::Low, 1, None, NEVER, at(0)).unwrap();
    queue.push(Tenant::new(2), Priority::High, 5_000, None, NEVER, at(0)).unwrap();
    for second in 1..5 {
        assert_eq!(queue.next(at(second), up_to(1_000 * second)), None);
    }
    assert_eq!(granted(queue.next(at(5), up_to(5_000))).priority, Priority::High);
}

#[test]
fn calls_that_use_no_tokens_are_shared_by_turns() {
    for cost in [0, 1_000] {
        let mut queue = FairQueue::new(FairQueueSettings::default());
        for (tenant, cost) in [(1, 0), (2, cost)] {
            join_often(&mut queue, 20, tenant, cost);
        }
        let mut turns = Vec::new();
        for _ in 0..12 {
            let call = granted(queue.next(at(0), always));
            turns.push(call.tenant.id);
            // Whatever it cost is given back: it was refused.
            queue.settle(call, 0);
        }
        assert!(turns.iter().filter(|tenant| **tenant == 2).count() >= 2, "{turns:?}");
    }
}

#[test]
fn bounds_hold_for_the_queue_and_for_each_tenant() {
    let mut queue =
        FairQueue::new(FairQueueSettings { max_waiting: 3, max_waiting_per_tenant: 2, ..FairQueueSettings::default() });
    let mut push = |tenant| queue.push(Tenant::new(tenant), Priority::Low, 1, None, NEVER, at(0)).map(|_| ());
    assert_eq!([push(1), push(1), push(1)], [Ok(()), Ok(()), Err(Full::Tenant)]);
    assert_eq!([push(2), push(2)], [Ok(()), Err(Full::Queue)]);
    assert_eq!(granted(queue.next(at(0), up_to(1))).tenant.id, 1);
    assert!(queue.push(Tenant::new(3), Priority::Low, 1, None, NEVER, at(0)).is_ok());
}

#[test]
fn an_overrun_is_held_against_the_tenant_even_after_a_pause() {
    let mut queue = queue();
    join(&mut queue, 1, 10);
    let first = granted(queue.next(at(0), up_to(10)));
    for _ in 0..200 {
        join(&mut queue, 2, 10);
    }
    queue.settle(first, 500);
    join_often(&mut queue, 200, 1, 10);
    let turns = tenants(&mut queue, 45);
    assert!(turns.iter().filter(|tenant| **tenant == 1).count() <= 2, "{turns:?}");
}

#[test]
fn what_was_never_sent_is_given_back() {
    let served_next = |settled: bool| {
        let mut queue = queue();
        for _ in 0..10 {
            join(&mut queue, 1, 100);
            join(&mut queue, 2, 100);
        }
        let first = granted(queue.next(at(0), up_to(100)));
        if settled {
            queue.settle(first, 0);
        }
        tenants(&mut queue, 1)[0]
    };
    assert_eq!((served_next(false), served_next(true)), (2, 1));
}

#[test]
fn tenants_that_have_left_are_forgotten() {
    let mut queue = queue();
    for tenant in 0..20_000 {
        join(&mut queue, tenant, tenant % 7 + 1);
        assert_eq!(granted(queue.next(at(0), up_to(10))).tenant.id, tenant);
    }
    let band = &queue.lanes[Priority::Normal.rank()].band;
    assert!(band.remembered() <= 4096, "{}", band.remembered());
    assert!(queue.per_tenant.is_empty() && queue.deadlines.is_empty());
}

#[test]
fn the_largest_costs_and_weights_neither_overflow_nor_wrap() {
    let mut queue = queue();
    for id in 0..100 {
        queue.push(Tenant { id, weight: u32::MAX }, Priority::High, u64::MAX, None, NEVER, at(0)).unwrap();
        queue.push(Tenant { id, weight: 0 }, Priority::High, u64::MAX, None, NEVER, at(0)).unwrap();
    }
    for _ in 0..200 {
        let granted = granted(queue.next(at(0), always));
        queue.settle(granted, u64::MAX);
    }
    assert!(queue.is_empty());
}

#[test]
fn every_mistake_is_listed() {
    let broken =
        FairQueueSettings { max_waiting: 0, max_waiting_per_tenant: 5, ageing: Duration::ZERO, turn_tokens: 0 };
    let fields: Vec<_> = broken.validate().into_iter().map(|m| m.field).collect();
    assert_eq!(fields, ["max_waiting", "max_waiting_per_tenant", "ageing"]);
    assert_eq!(FairQueueSettings::default().validate(), []);
}

#[derive(Clone, Debug)]
enum Action {
    Push { tenant: u64, cost: u64 },
    Cancel(prop::sample::Index),
    Serve { used_percent: u64 },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => (0_u64..8, 1_u64..=LARGEST).prop_map(|(tenant, cost)| Action::Push { tenant, cost }),
        1 => any::<prop::sample::Index>().prop_map(Action::Cancel),
        3 => (0_u64..=100).prop_map(|used_percent| Action::Serve { used_percent }),
    ]
}

const LARGEST: u64 = 100;
const WEIGHTS: [u32; 8] = [1, 1, 2, 3, 5, 8, 50, 100];

/// A tenant's account in the fluid model: since it began to wait without a break, what it got and
/// what an infinitely divisible service would have given it.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    waiting: usize,
    served: f64,
    share: f64,
}

fn serve_fluid(accounts: &mut [Account; 8], tokens: f64) {
    let total: u32 = (0..8).filter(|t| accounts[*t].waiting > 0).map(|t| WEIGHTS[t]).sum();
    for (account, weight) in accounts.iter_mut().zip(WEIGHTS).filter(|(account, _)| account.waiting > 0) {
        account.share += tokens * f64::from(weight) / f64::from(total);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Tenants that always wait (each has another request queued while one is served), with any
    /// weights, costs and corrections, against the fluid model.
    #[test]
    fn backlogged_tenants_stay_within_twice_the_largest_request_of_their_share(
        heavy in 1_u32..200,
        light in prop::collection::vec(1_u32..8, 1..30),
        requests in prop::collection::vec((1_u64..=LARGEST, 0_u64..=LARGEST), 300),
        backlog in 2_u64..5,
    ) {
        let weights: Vec<u32> = std::iter::once(heavy).chain(light).collect();
        let mut queue = queue();
        let push = |queue: &mut FairQueue, id: usize, cost| {
            let tenant = Tenant { id: u64::try_from(id).unwrap(), weight: weights[id] };
            queue.push(tenant, Priority::Normal, cost, None, NEVER, at(0)).unwrap();
        };
        for id in 0..weights.len() {
            (0..backlog).for_each(|_| push(&mut queue, id, LARGEST - u64::try_from(id).unwrap()));
        }
        let total_weight = f64::from(weights.iter().sum::<u32>());
        let mut served = vec![0.0; weights.len()];
        for (cost, used) in requests {
            let granted = granted(queue.next(at(0), always));
            let id = usize::try_from(granted.tenant.id).unwrap();
            let used = used.min(granted.cost);
            served[id] += f64::from(u32::try_from(used).unwrap());
            queue.settle(granted, used);
            push(&mut queue, id, cost);
            let total: f64 = served.iter().sum();
            for (got, weight) in served.iter().zip(&weights) {
                let share = total * f64::from(*weight) / total_weight;
                prop_assert!((got - share).abs() <= 200.0, "{got} of a share of {share}: {served:?}");
            }
        }
    }

    /// Tenants of one weight that come one after another and wait ever after, requests of one size, and
    /// calls that end much later, in any order, for less than they reserved: a turn never goes to anybody
    /// but the one furthest behind, so between two turns nobody gets ahead by more than a request of each.
    #[test]
    fn what_comes_back_late_puts_no_tenant_ahead_by_more_than_a_request_of_each(
        apart in 1_usize..20,
        steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), 0..=LARGEST), 50..300),
    ) {
        const TENANTS: usize = 4;
        let mut queue = queue();
        let mut got = [0_i64; TENANTS];
        let mut calls: Vec<Granted> = Vec::new();
        // The greatest lead of each tenant over each other, after one of its own turns.
        let mut leads = [[None::<i64>; TENANTS]; TENANTS];
        for (step, (ends, which, used)) in steps.into_iter().enumerate() {
            if step % apart == 0 && step / apart < TENANTS {
                join_often(&mut queue, 2, u64::try_from(step / apart).unwrap(), LARGEST);
            }
            if ends && !calls.is_empty() {
                let call = calls.swap_remove(which.index(calls.len()));
                got[usize::try_from(call.tenant.id).unwrap()] -= i64::try_from(LARGEST - used).unwrap();
                queue.settle(call, used);
                // Somebody looks whose turn it is while nothing fits.
                prop_assert_eq!(queue.next(at(0), |_| false), None);
                continue;
            }
            let call = granted(queue.next(at(0), always));
            join(&mut queue, call.tenant.id, LARGEST);
            let one = usize::try_from(call.tenant.id).unwrap();
            calls.push(call);
            got[one] += i64::try_from(LARGEST).unwrap();
            for other in (0..=(step / apart).min(TENANTS - 1)).filter(|other| *other != one) {
                let now = got[one] - got[other];
                let lead = leads[one][other].map_or(now, |lead| lead.max(now));
                leads[one][other] = Some(lead);
                let gap = lead + leads[other][one].unwrap_or(-lead);
                prop_assert!(gap <= 200, "{one} and {other}: {gap}");
            }
        }
    }

    /// Tenants that come, cancel and go: the queue never loses or doubles anybody, and whoever
    /// waits without a break is not behind its share.
    #[test]
    fn coming_and_going_leaves_nobody_behind(steps in prop::collection::vec(action(), 1..400)) {
        let mut queue = queue();
        let mut accounts = [Account::default(); 8];
        let mut waiting: BTreeMap<Ticket, usize> = BTreeMap::new();
        let leave = |accounts: &mut [Account; 8], tenant: usize| {
            accounts[tenant].waiting -= 1;
            if accounts[tenant].waiting == 0 {
                accounts[tenant] = Account::default();
            }
        };
        for step in steps {
            match step {
                Action::Push { tenant, cost } => {
                    let index = usize::try_from(tenant).unwrap();
                    let tenant = Tenant { id: tenant, weight: WEIGHTS[index] };
                    waiting.insert(queue.push(tenant, Priority::Normal, cost, None, NEVER, at(0)).unwrap(), index);
                    accounts[index].waiting += 1;
                }
                Action::Cancel(index) if !waiting.is_empty() => {
                    let (ticket, tenant) = waiting.iter().nth(index.index(waiting.len())).map(|(k, v)| (*k, *v)).unwrap();
                    waiting.remove(&ticket);
                    prop_assert!(queue.cancel(ticket));
                    leave(&mut accounts, tenant);
                }
                Action::Serve { used_percent } if !waiting.is_empty() => {
                    let granted = granted(queue.next(at(0), always));
                    let tenant = waiting.remove(&granted.ticket).unwrap();
                    let oldest = waiting.iter().find(|(_, t)| **t == tenant).map(|(ticket, _)| *ticket);
                    prop_assert!(oldest.is_none_or(|ticket| ticket > granted.ticket), "order within a tenant");
                    let used = granted.cost * used_percent / 100;
                    let tokens = f64::from(u32::try_from(used).unwrap());
                    queue.settle(granted, used);
                    serve_fluid(&mut accounts, tokens);
                    accounts[tenant].served += tokens;
                    leave(&mut accounts, tenant);
                    for account in &accounts {
                        prop_assert!(account.share - account.served <= 200.0, "{accounts:?}");
                    }
                }
                Action::Cancel(_) | Action::Serve { .. } => prop_assert_eq!(queue.next(at(0), always), None),
            }
            prop_assert_eq!(queue.len(), waiting.len());
        }
    }
}
