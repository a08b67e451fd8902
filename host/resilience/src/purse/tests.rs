use super::*;
use proptest::prelude::*;

const DAY_S: i64 = 86_400;

/// The windows of a second, by a calendar whose months have thirty days.
fn at(unix_s: i64) -> Calendar {
    let window = |length: i64| {
        let starts_unix_s = unix_s.div_euclid(length) * length;
        Span { starts_unix_s, ends_unix_s: starts_unix_s + length }
    };
    Calendar::new(window(60), window(3_600), window(DAY_S), window(30 * DAY_S))
}

fn allowance(measure: Measure, amount: u128, period: Period) -> Allowance {
    Allowance { measure, amount, period, force: Force::Refuses }
}

fn tokens(input_tokens: u64, output_tokens: u64) -> Asked {
    Asked { amounts: Amounts { requests: 1, input_tokens, output_tokens, cost_pico_dollars: 0 }, is_unpriced: false }
}

fn costs(cost_pico_dollars: u128) -> Asked {
    Asked { amounts: Amounts { requests: 1, cost_pico_dollars, ..Amounts::default() }, is_unpriced: false }
}

/// A purse with a team, and a key of it.
fn family(team: &[Allowance], key: &[Allowance]) -> (Purse, AccountId, AccountId) {
    let mut purse = Purse::default();
    let team = purse.open(None, team).expect("room");
    let key = purse.open(Some(team), key).expect("room");
    (purse, team, key)
}

fn held(purse: &mut Purse, account: AccountId, asked: Asked, unix_s: i64) -> Held {
    purse.reserve(account, &asked, at(unix_s)).expect("there is room").reservation
}

#[test]
fn all_up_the_chain_must_allow_it_and_who_is_in_the_way_for_longest_is_named() {
    let day = allowance(Measure::Tokens, 100, Period::Day);
    let (mut purse, team, key) = family(&[day], &[allowance(Measure::Requests, 1, Period::Minute)]);
    let first = held(&mut purse, key, tokens(30, 30), 0);
    let refused = purse.reserve(key, &tokens(30, 30), at(1)).expect_err("both refuse");
    assert_eq!((refused.account, refused.allowance, refused.refills_unix_s), (team, day, Some(DAY_S)));
    assert_eq!((refused.spent, refused.open, refused.asked, refused.left()), (0, 60, 60, 40));
    purse.settle(first, &Amounts { requests: 1, input_tokens: 30, output_tokens: 5, ..Amounts::default() });
    let refused = purse.reserve(key, &tokens(30, 30), at(2)).expect_err("the key has had its request");
    assert_eq!((refused.account, refused.refills_unix_s), (key, Some(60)));
    let _ = held(&mut purse, key, tokens(30, 30), 60);
    let refused = purse.reserve(key, &tokens(3, 3), at(120)).expect_err("35 were spent and 60 are reserved");
    assert_eq!((refused.spent, refused.open, refused.left()), (35, 60, 5));
}

#[test]
fn what_is_refused_reserves_nothing_anywhere() {
    let (mut purse, team, key) = family(&[allowance(Measure::Cost, 10, Period::Month)], &[]);
    assert!(purse.reserve(key, &costs(11), at(0)).is_err());
    for account in [team, key] {
        assert_eq!(purse.used(account, Period::Month, at(0)), Used::default());
        assert_eq!(purse.in_flight(account), 0);
    }
}

#[test]
fn a_period_ends_with_its_window_and_is_not_granted_again_when_a_clock_goes_back() {
    let (mut purse, _, key) = family(&[], &[allowance(Measure::Requests, 1, Period::Day)]);
    let ask = |purse: &mut Purse, unix_s| purse.reserve(key, &tokens(1, 1), at(unix_s)).is_ok();
    assert!(ask(&mut purse, 0) && !ask(&mut purse, DAY_S - 1));
    assert!(ask(&mut purse, DAY_S), "another day");
    assert!(!ask(&mut purse, 0) && !ask(&mut purse, DAY_S), "the same days once more");
    assert!(ask(&mut purse, 5 * DAY_S) && !ask(&mut purse, 2 * DAY_S) && !ask(&mut purse, 5 * DAY_S + 1));
}

#[test]
fn what_was_reserved_before_a_window_counts_in_the_one_before() {
    let (mut purse, _, key) = family(&[], &[allowance(Measure::Tokens, 10, Period::Minute)]);
    let before = held(&mut purse, key, tokens(5, 5), 59);
    let after = held(&mut purse, key, tokens(5, 5), 60);
    purse.settle(before, &Amounts { input_tokens: 1_000, ..Amounts::default() });
    let used = purse.used(key, Period::Minute, at(60));
    assert_eq!((used.spent.of(Measure::Tokens), used.open.of(Measure::Tokens)), (0, 10));
    assert_eq!(purse.used(key, Period::Hour, at(60)).spent.of(Measure::Tokens), 1_000);
    purse.settle(after, &Amounts::default());
    assert_eq!(purse.in_flight(key), 0);
}

#[test]
fn so_many_calls_are_in_flight_and_no_more() {
    let in_flight = allowance(Measure::InFlight, 2, Period::Total);
    let (mut purse, team, key) = family(&[in_flight], &[]);
    let one = held(&mut purse, key, tokens(1, 1), 0);
    let _two = held(&mut purse, team, tokens(1, 1), 0);
    let refused = purse.reserve(key, &tokens(1, 1), at(0)).expect_err("two are there");
    assert_eq!((refused.open, refused.left(), refused.refills_unix_s), (2, 0, None));
    purse.settle(one, &Amounts::default());
    assert!(purse.reserve(key, &tokens(1, 1), at(0)).is_ok());
}

#[test]
fn bounds_that_warn_or_watch_refuse_nobody_and_tell_once_in_a_window() {
    for force in [Force::Warns, Force::Watches] {
        let soft = Allowance { force, ..allowance(Measure::Requests, 1, Period::Day) };
        let (mut purse, team, key) = family(&[soft], &[]);
        let told = |purse: &mut Purse, unix_s| {
            purse.reserve(key, &tokens(1, 1), at(unix_s)).expect("nobody is refused").beyond
        };
        assert_eq!(told(&mut purse, 0), None);
        let beyond = told(&mut purse, 1).expect("it is told");
        assert_eq!((beyond.exhausted.account, beyond.is_news), (team, true));
        assert!(!told(&mut purse, 2).expect("it is beyond").is_news);
        assert_eq!(told(&mut purse, DAY_S), None);
        assert!(told(&mut purse, DAY_S).expect("it is beyond").is_news, "another day");
    }
}

#[test]
fn where_money_is_bounded_what_has_no_price_is_refused() {
    let unpriced = Asked { is_unpriced: true, ..tokens(1, 1) };
    let (mut purse, _, key) = family(&[allowance(Measure::Cost, 10, Period::Total)], &[]);
    let refused = purse.reserve(key, &unpriced, at(0)).expect_err("its cost is not known");
    assert!(refused.is_unpriced && refused.never_fits());
    let (mut purse, _, key) = family(&[allowance(Measure::Tokens, 10, Period::Total)], &[]);
    assert!(purse.reserve(key, &unpriced, at(0)).is_ok());
}

#[test]
fn what_was_spent_before_a_restart_is_restored_unless_its_window_is_over() {
    let (mut purse, team, key) = family(&[allowance(Measure::Cost, 10, Period::Day)], &[]);
    let spent = costs(7).amounts;
    for account in [team, key] {
        purse.restore(account, Period::Day, &spent, at(0));
    }
    assert!(purse.reserve(key, &costs(4), at(0)).is_err() && purse.reserve(key, &costs(3), at(0)).is_ok());
    assert_eq!(purse.used(key, Period::Day, at(DAY_S)), Used::default());
    purse.restore(key, Period::Day, &spent, at(0));
    assert_eq!(purse.used(key, Period::Day, at(DAY_S)), Used::default(), "that day is over");
}

#[test]
fn there_are_only_so_many_accounts_above_one_another() {
    let mut purse = Purse::default();
    let mut last = None;
    for _ in 0..Purse::DEPTH_MAX {
        last = Some(purse.open(last, &[]).expect("room"));
    }
    assert_eq!(purse.open(last, &[]), None);
    assert!(purse.open(None, &[]).is_some());
}

#[test]
fn no_amount_overflows() {
    let most =
        Amounts { requests: u64::MAX, input_tokens: u64::MAX, output_tokens: u64::MAX, cost_pico_dollars: u128::MAX };
    let (mut purse, _, key) = family(&[allowance(Measure::Cost, u128::MAX, Period::Total)], &[]);
    let asked = Asked { amounts: most, is_unpriced: false };
    let one = held(&mut purse, key, asked, 0);
    let two = held(&mut purse, key, asked, 0);
    purse.settle(one, &most);
    purse.settle(two, &most);
    assert!(purse.reserve(key, &asked, at(0)).is_ok(), "what cannot be told apart is no more than the most");
}

/// What a plain reading of the rules says: everything that was ever spent or reserved, summed anew for each question.
#[derive(Default)]
struct Plainly {
    /// Who, in which windows, how much.
    spent: Vec<(AccountId, Calendar, Amounts)>,
    open: Vec<(AccountId, Calendar, Amounts, u64)>,
}

impl Plainly {
    fn used(&self, below: &[AccountId], allowance: &Allowance, windows: Calendar) -> u128 {
        let is_in = |account: &AccountId, then: &Calendar| {
            below.contains(account) && then.of(allowance.period) == windows.of(allowance.period)
        };
        if allowance.measure == Measure::InFlight {
            return self.open.iter().filter(|(account, ..)| below.contains(account)).count() as u128;
        }
        let spent = self.spent.iter().filter(|(account, then, _)| is_in(account, then)).map(|(.., amounts)| amounts);
        let open =
            self.open.iter().filter(|(account, then, ..)| is_in(account, then)).map(|(_, _, amounts, _)| amounts);
        spent.chain(open).map(|amounts| amounts.of(allowance.measure)).sum()
    }
}

#[derive(Clone, Debug)]
enum Happens {
    Asks { who: usize, input: u64, output: u64, cost: u128 },
    Ends { which: usize, share: u64 },
    Passes { seconds: i64 },
    Dies,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        6 => (0usize..5, 0u64..40, 0u64..40, 0u128..60)
            .prop_map(|(who, input, output, cost)| Happens::Asks { who, input, output, cost }),
        5 => (any::<usize>(), 0u64..=100).prop_map(|(which, share)| Happens::Ends { which, share }),
        2 => (-200i64..7_000).prop_map(|seconds| Happens::Passes { seconds }),
        1 => Just(Happens::Dies),
    ]
}

fn allowances() -> impl Strategy<Value = Vec<Allowance>> {
    let one = (0..Measure::ALL.len(), 1u128..200, 0..Period::ALL.len()).prop_map(|(measure, amount, period)| {
        let (measure, period) = (Measure::ALL[measure], Period::ALL[period]);
        allowance(measure, if measure == Measure::InFlight { amount % 5 + 1 } else { amount }, period)
    });
    prop::collection::vec(one, 0..3)
}

/// Who stands above whom: an organisation, two teams, a key of each.
const PARENTS: [Option<usize>; 5] = [None, Some(0), Some(0), Some(1), Some(2)];

struct Run {
    purse: Purse,
    ids: Vec<AccountId>,
    allowances: Vec<Vec<Allowance>>,
    plainly: Plainly,
    held: Vec<(Held, u64)>,
    /// The latest windows: time that goes back changes none.
    windows: Calendar,
    unix_s: i64,
    next: u64,
}

impl Run {
    fn new(allowances: Vec<Vec<Allowance>>) -> Run {
        let (mut purse, ids) = Run::open(&allowances);
        let _ = purse.used(ids[0], Period::Total, at(0));
        let plainly = Plainly::default();
        Run { purse, ids, allowances, plainly, held: Vec::new(), windows: at(0), unix_s: 0, next: 0 }
    }

    fn open(allowances: &[Vec<Allowance>]) -> (Purse, Vec<AccountId>) {
        let (mut purse, mut ids) = (Purse::default(), Vec::new());
        for (parent, allowances) in PARENTS.iter().zip(allowances) {
            ids.push(purse.open(parent.map(|parent| ids[parent]), allowances).expect("room"));
        }
        (purse, ids)
    }

    /// The accounts that count for this one.
    fn below(&self, account: usize) -> Vec<AccountId> {
        let is_below = |mut one: usize| loop {
            if one == account {
                return true;
            }
            match PARENTS[one] {
                Some(parent) => one = parent,
                None => return false,
            }
        };
        (0..PARENTS.len()).filter(|one| is_below(*one)).map(|one| self.ids[one]).collect()
    }

    /// Whether a plain reading refuses this.
    fn refuses(&self, who: usize, asked: &Amounts) -> bool {
        std::iter::successors(Some(who), |one| PARENTS[*one]).any(|one| {
            self.allowances[one].iter().any(|allowance| {
                let used = self.plainly.used(&self.below(one), allowance, self.windows);
                let asked = asked.of(allowance.measure);
                match allowance.measure {
                    Measure::InFlight => used >= allowance.amount,
                    _ => asked > 0 && used + asked > allowance.amount,
                }
            })
        })
    }

    fn go(&mut self, event: Happens) {
        match event {
            Happens::Asks { who, input, output, cost } => {
                let amounts =
                    Amounts { requests: 1, input_tokens: input, output_tokens: output, cost_pico_dollars: cost };
                let refuses = self.refuses(who, &amounts);
                let asked = Asked { amounts, is_unpriced: false };
                match self.purse.reserve(self.ids[who], &asked, at(self.unix_s)) {
                    Ok(reserved) => {
                        assert!(!refuses, "{asked:?} is let out, and should not be");
                        self.next += 1;
                        self.plainly.open.push((self.ids[who], self.windows, amounts, self.next));
                        self.held.push((reserved.reservation, self.next));
                    }
                    Err(exhausted) => {
                        assert!(refuses, "{asked:?} is refused, and should not be: {exhausted:?}");
                        let below = self.below(self.ids.iter().position(|id| *id == exhausted.account).expect("known"));
                        let used = self.plainly.used(&below, &exhausted.allowance, self.windows);
                        assert_eq!(exhausted.spent + exhausted.open, used, "what it says of itself is so");
                    }
                }
            }
            Happens::Ends { which, share } if !self.held.is_empty() => {
                let (held, id) = self.held.swap_remove(which % self.held.len());
                let place = self.plainly.open.iter().position(|(.., open)| *open == id).expect("it is open");
                let (account, then, amounts, _) = self.plainly.open.swap_remove(place);
                let spent = Amounts { output_tokens: amounts.output_tokens * share / 100, ..amounts };
                self.plainly.spent.push((account, then, spent));
                self.purse.settle(held, &spent);
            }
            Happens::Passes { seconds } => {
                self.unix_s += seconds;
                self.windows = self.windows.latest(at(self.unix_s));
                // A time that it never saw cannot have ended anything.
                let _ = self.purse.used(self.ids[0], Period::Total, at(self.unix_s));
            }
            Happens::Dies => self.die(),
            Happens::Ends { .. } => {}
        }
    }

    /// The process is killed, and another one takes over: what was under way is booked as it was estimated, and the sums
    /// are restored from the ledger.
    fn die(&mut self) {
        let open = std::mem::take(&mut self.plainly.open);
        self.plainly.spent.extend(open.into_iter().map(|(account, then, amounts, _)| (account, then, amounts)));
        self.held.clear();
        let (purse, ids) = Run::open(&self.allowances);
        assert_eq!(ids, self.ids);
        self.purse = purse;
        for (who, id) in self.ids.iter().enumerate() {
            let below = self.below(who);
            for period in Period::ALL {
                let here =
                    self.plainly.spent.iter().filter(|(account, then, _)| {
                        below.contains(account) && then.of(period) == self.windows.of(period)
                    });
                let spent = here.fold(Amounts::default(), |sum, (.., amounts)| sum.plus(amounts));
                self.purse.restore(*id, period, &spent, self.windows);
            }
        }
    }

    /// Nothing is overspent: no call has cost more than it had reserved.
    fn check(&self) {
        for (who, allowances) in self.allowances.iter().enumerate() {
            for allowance in allowances {
                let used = self.plainly.used(&self.below(who), allowance, self.windows);
                assert!(used <= allowance.amount, "{allowance:?} is overspent: {used}");
            }
        }
    }
}

proptest! {
    // 4,000 runs of up to 500 steps: more than a million.
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn whatever_happens_in_whichever_order_nothing_is_overspent_and_nothing_refused_wrongly(
        allowances in prop::collection::vec(allowances(), PARENTS.len()),
        events in prop::collection::vec(happens(), 200..500),
    ) {
        let mut run = Run::new(allowances);
        for event in events {
            run.go(event);
            run.check();
        }
    }
}
