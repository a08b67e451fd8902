//! Whose purse a call is paid from: all callers together, their groups, and their keys.

use super::calendar::calendar;
use super::left::{Refusing, refills_in_ms, refusing};
use super::whole_seconds;
use crate::config::{Config, Limit, amount_in_words};
use crate::dialect::rate_headers::Tightest;
use crate::runtime::clock::Clock;
use crate::runtime::gauge::Gauge;
use crate::runtime::sync::lock;
use jiff::tz::TimeZone;
use spillway_resilience::{
    AccountId, Allowance, Amounts, Asked, Beyond, Calendar, Exhausted, Force, Held, Measure, Period, Purse, Reserved,
};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;

/// Who pays for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payer {
    account: AccountId,
    /// The key that was shown, as the ledger names it; empty for none.
    pub key: Arc<str>,
    /// The group that it belongs to; empty for none.
    pub group: Arc<str>,
    /// Its own limits, as far as they refuse calls.
    refusing: Box<[Refusing]>,
    /// Who must allow it as well.
    above: Option<Arc<Payer>>,
}

impl Payer {
    /// Who pays for no key and no group of his own.
    fn of_all(account: AccountId, allowances: &[Allowance]) -> Payer {
        let none: Arc<str> = Arc::from("");
        let refusing = refusing(&Whose::Everybodys, allowances);
        Payer { account, key: Arc::clone(&none), group: none, refusing, above: None }
    }

    fn of_group(account: AccountId, name: &Arc<str>, allowances: &[Allowance], above: &Arc<Payer>) -> Payer {
        let refusing = refusing(&Whose::Groups(Arc::clone(name)), allowances);
        Payer {
            account,
            key: Arc::clone(&above.key),
            group: Arc::clone(name),
            refusing,
            above: Some(Arc::clone(above)),
        }
    }

    fn of_key(account: AccountId, key: &Arc<str>, allowances: &[Allowance], above: &Arc<Payer>) -> Payer {
        let refusing = refusing(&Whose::Keys(Arc::clone(key)), allowances);
        let group = Arc::clone(&above.group);
        Payer { account, key: Arc::clone(key), group, refusing, above: Some(Arc::clone(above)) }
    }

    /// All that must allow its calls, itself first.
    fn chain(&self) -> impl Iterator<Item = &Payer> {
        std::iter::successors(Some(self), |payer| payer.above.as_deref())
    }
}

/// Whose allowance something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// All callers'.
    Everybodys,
    /// A group's.
    Groups(Arc<str>),
    /// A key's.
    Keys(Arc<str>),
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whose::Everybodys => f.write_str("all callers together"),
            Whose::Groups(name) => write!(f, "the group {name}"),
            Whose::Keys(name) => write!(f, "the key {name}"),
        }
    }
}

/// An allowance with its owner, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub whose: Whose,
    pub exhausted: Exhausted,
    /// Milliseconds until it is whole again; `None` where time alone changes nothing.
    pub refills_in_ms: Option<u64>,
    /// The route along which a call goes on that it has refused, if its owner says so, or who is above that one.
    pub goes_on_along: Option<Arc<str>>,
}

impl Standing {
    /// How long until more is allowed, at least: a window ends, or a call may. `None` where time alone changes nothing.
    pub(crate) fn ends_after(&self) -> Option<Duration> {
        let exhausted = &self.exhausted;
        match (exhausted.never_fits(), exhausted.allowance.measure, self.refills_in_ms) {
            (true, ..) => None,
            (false, Measure::InFlight, _) => Some(CALL_TAKES),
            (false, _, refills_in_ms) => refills_in_ms.map(Duration::from_millis),
        }
    }
}

/// After how long somebody comes again who was told that too many calls are in flight: one of them may take longer.
const CALL_TAKES: Duration = Duration::from_secs(1);

/// All accounts, behind one short lock: whoever asks several allowances at once has to have them stand still, and what
/// is done under it takes a fraction of a microsecond.
#[derive(Debug)]
pub(crate) struct Accounts {
    state: Mutex<State>,
    zone: TimeZone,
    clock: Clock,
    watch_only: bool,
    everybody: Arc<Payer>,
    groups: BTreeMap<Arc<str>, Arc<Payer>>,
    /// Rung when a call ends for which somebody waits.
    changed: Notify,
    waiting: Arc<Gauge>,
    /// Calls that would have been refused by limits that only watch.
    watched: AtomicU64,
}

#[derive(Debug)]
struct State {
    purse: Purse,
    calendar: Calendar,
    owners: HashMap<AccountId, Whose>,
    keys: HashMap<Arc<str>, KeyAccount>,
    /// Along which routes calls go on that the accounts' allowances have refused.
    ways_on: HashMap<AccountId, Arc<str>>,
}

/// What a key's record says of its spending.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    /// The group that it belongs to.
    pub group: Option<&'a str>,
    /// What it may spend.
    pub limits: &'a [Limit],
    /// Beyond what it is told.
    pub soft: &'a [Limit],
    /// The route along which its calls go on.
    pub when_exhausted: Option<&'a str>,
}

#[derive(Debug)]
struct KeyAccount {
    payer: Arc<Payer>,
    allowances: Vec<Allowance>,
}

impl Accounts {
    /// The accounts of a configuration, of which nothing is spent yet.
    pub(super) fn new(config: &Config, clock: Clock) -> Accounts {
        let ledger = &config.ledger;
        let (mut purse, root) = Purse::of_all(&ledger.allowances());
        let (mut owners, mut ways_on) = (HashMap::new(), HashMap::new());
        let everybody = Arc::new(Payer::of_all(root, &ledger.allowances()));
        owners.insert(root, Whose::Everybodys);
        let mut groups: BTreeMap<Arc<str>, Arc<Payer>> = BTreeMap::new();
        // The configuration has no circles, and nothing too deep: each round opens those whose parents are there.
        for _ in 0..Purse::DEPTH_MAX {
            for (name, group) in &config.groups {
                let name: Arc<str> = Arc::from(name.as_str());
                let above = match &group.parent {
                    Some(parent) => groups.get(parent.as_str()),
                    None => Some(&everybody),
                };
                let allowances = group.allowances(ledger.watch_only);
                if let (false, Some(above)) = (groups.contains_key(&name), above)
                    && let Some(account) = purse.open(Some(above.account), &allowances)
                {
                    owners.insert(account, Whose::Groups(Arc::clone(&name)));
                    ways_on.extend(group.when_exhausted.as_deref().map(|route| (account, Arc::from(route))));
                    let payer = Payer::of_group(account, &name, &allowances, above);
                    groups.insert(name, Arc::new(payer));
                }
            }
        }
        let zone = ledger.time_zone.rules.clone();
        let calendar = calendar(&zone, whole_seconds(clock.unix_ms()));
        ways_on.extend(ledger.when_exhausted.as_deref().map(|route| (everybody.account, Arc::from(route))));
        Accounts {
            state: Mutex::new(State { purse, calendar, owners, keys: HashMap::new(), ways_on }),
            zone,
            clock,
            watch_only: ledger.watch_only,
            everybody,
            groups,
            changed: Notify::new(),
            waiting: Arc::default(),
            watched: AtomicU64::new(0),
        }
    }

    /// Who pays for those that belong nowhere.
    pub(crate) fn everybody(&self) -> &Arc<Payer> {
        &self.everybody
    }

    /// Who pays for a group's calls.
    pub(crate) fn group(&self, name: &str) -> Option<&Arc<Payer>> {
        self.groups.get(name)
    }

    /// Who pays for a key's calls: the key, its group if there is one of that name, and all above. What it may spend is
    /// what was said last; what it has spent stays, wherever it moves.
    pub(crate) fn key(&self, key: &Arc<str>, terms: Terms<'_>) -> Arc<Payer> {
        let Terms { group, limits, soft, when_exhausted } = terms;
        let allowances = crate::config::allowances(limits, soft, self.watch_only);
        let above = group.and_then(|group| self.groups.get(group)).unwrap_or(&self.everybody);
        let mut state = lock(&self.state);
        let State { purse, owners, keys, calendar, ways_on } = &mut *state;
        if let Some(known) = keys.get_mut(key)
            && known.payer.group == above.group
        {
            if known.allowances != allowances {
                let account = known.payer.account;
                purse.set_allowances(account, &allowances);
                known.payer = Arc::new(Payer::of_key(account, key, &allowances, above));
                known.allowances = allowances;
            }
            say_way_on(ways_on, known.payer.account, when_exhausted);
            return Arc::clone(&known.payer);
        }
        let Some(account) = purse.open(Some(above.account), &allowances) else {
            tracing::error!(%key, "there are more keys than accounts can be kept for; its own limits do not hold");
            return Arc::clone(above);
        };
        if let Some(known) = keys.get(key) {
            for period in Period::ALL {
                let spent = purse.used(known.payer.account, period, *calendar).spent;
                purse.restore(account, period, &spent, *calendar);
            }
        }
        owners.insert(account, Whose::Keys(Arc::clone(key)));
        say_way_on(ways_on, account, when_exhausted);
        let payer = Arc::new(Payer::of_key(account, key, &allowances, above));
        keys.insert(Arc::clone(key), KeyAccount { payer: Arc::clone(&payer), allowances });
        payer
    }

    /// Adds what was spent before this process, by a key or by none, in a group or in none.
    pub(super) fn restore(&self, key: &str, group: &str, period: Period, spent: &Amounts) {
        let mut state = self.at_present();
        let State { purse, keys, calendar, .. } = &mut *state;
        let account = match (keys.get(key), self.groups.get(group)) {
            (Some(known), _) => known.payer.account,
            (None, Some(group)) => group.account,
            (None, None) => self.everybody.account,
        };
        purse.restore_all(account, period, spent, *calendar);
    }

    /// The windows of this moment.
    pub(super) fn calendar(&self) -> Calendar {
        self.at_present().calendar
    }

    /// Reserves at this moment what a call may cost, of all that must allow it.
    ///
    /// # Errors
    /// The allowance that is in the way.
    pub(super) fn reserve(&self, payer: &Payer, asked: &Asked, now_ms: u64) -> Result<Held, Box<Standing>> {
        let mut state = self.at(now_ms);
        let State { purse, calendar, owners, ways_on, .. } = &mut *state;
        match purse.reserve(payer.account, asked, *calendar) {
            Ok(Reserved { reservation, beyond }) => {
                let beyond = beyond.map(|beyond| (self.owned(owners, beyond.exhausted), beyond));
                drop(state);
                if let Some((standing, beyond)) = beyond {
                    self.tell(&standing, &beyond);
                }
                Ok(reservation)
            }
            Err(exhausted) => {
                let way_on = || purse.up_from(exhausted.account).find_map(|account| ways_on.get(&account).cloned());
                let goes_on_along = exhausted.may_fit_cheaper().then(way_on).flatten();
                Err(Box::new(Standing { goes_on_along, ..self.owned(owners, exhausted) }))
            }
        }
    }

    /// Settles a reservation with what its call has cost.
    pub(super) fn settle(&self, held: Held, spent: &Amounts) {
        lock(&self.state).purse.settle(held, spent);
        if self.waiting.count() > 0 {
            self.changed.notify_waiters();
        }
    }

    /// Counts what a call that goes on has cost so far.
    pub(super) fn spend(&self, account: AccountId, spent: &Amounts) {
        let mut state = self.at_present();
        let State { purse, calendar, .. } = &mut *state;
        purse.spend(account, spent, *calendar);
    }

    /// Waits until some call has ended. One that ends at the same moment may be missed.
    pub(crate) async fn changed(&self) {
        let _counted = self.waiting.begin();
        self.changed.notified().await;
    }

    /// How all allowances stand, each with its owner; everybody's first.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        let mut state = self.at_present();
        let State { purse, calendar, owners, .. } = &mut *state;
        let mut accounts: Vec<AccountId> = owners.keys().copied().collect();
        accounts.sort();
        let mut standings = Vec::new();
        for account in accounts {
            standings.extend(purse.standing(account, *calendar).map(|exhausted| self.owned(owners, exhausted)));
        }
        standings
    }

    /// What is left of all limits that a payer's calls must pass; where there is none, nobody is asked.
    pub(crate) fn left_of<'a>(&self, payer: &'a Payer, tightest: &mut Tightest<'a>) {
        if payer.chain().all(|payer| payer.refusing.is_empty()) {
            return;
        }
        let now_ms = self.clock.unix_ms();
        let mut state = self.at(now_ms);
        let State { purse, calendar, .. } = &mut *state;
        for payer in payer.chain() {
            let mut limits = payer.refusing.iter().peekable();
            for standing in purse.standing(payer.account, *calendar) {
                let limit = limits.next_if(|limit| limit.index == standing.index);
                if let Some(left) = limit.and_then(|limit| limit.left(&standing, now_ms)) {
                    tightest.take(left);
                }
            }
        }
    }

    /// Calls that would have been refused by limits that only watch.
    pub(crate) fn watched(&self) -> u64 {
        self.watched.load(Ordering::Relaxed)
    }

    /// The accounts, with the windows of this moment.
    fn at_present(&self) -> MutexGuard<'_, State> {
        self.at(self.clock.unix_ms())
    }

    /// The accounts, with the windows of this moment, which is the present one.
    fn at(&self, now_ms: u64) -> MutexGuard<'_, State> {
        let now_s = whole_seconds(now_ms);
        let mut state = lock(&self.state);
        if now_s >= state.calendar.of(Period::Minute).ends_unix_s {
            state.calendar = calendar(&self.zone, now_s);
        }
        state
    }

    fn owned(&self, owners: &HashMap<AccountId, Whose>, exhausted: Exhausted) -> Standing {
        let whose = owners.get(&exhausted.account).cloned().unwrap_or(Whose::Everybodys);
        let refills_in_ms = refills_in_ms(&exhausted, self.clock.unix_ms());
        Standing { whose, exhausted, refills_in_ms, goes_on_along: None }
    }

    fn tell(&self, Standing { whose, exhausted, .. }: &Standing, beyond: &Beyond) {
        let Exhausted { allowance, spent, open, .. } = exhausted;
        let limit = Limit::from(*allowance);
        if allowance.force == Force::Watches {
            self.watched.fetch_add(1, Ordering::Relaxed);
        }
        if beyond.is_news {
            let used = amount_in_words(allowance.measure, spent.saturating_add(*open));
            match allowance.force {
                Force::Watches => tracing::warn!(%whose, %limit, used, "a limit would refuse calls, and only watches"),
                Force::Warns | Force::Refuses => tracing::warn!(%whose, %limit, used, "a soft limit is passed"),
            }
        }
    }
}

/// Along this route calls go on that the account's allowances have refused, from here on, or along none.
fn say_way_on(ways_on: &mut HashMap<AccountId, Arc<str>>, account: AccountId, route: Option<&str>) {
    match route {
        Some(route) if ways_on.get(&account).is_none_or(|known| **known != *route) => {
            ways_on.insert(account, Arc::from(route));
        }
        Some(_) => {}
        None => drop(ways_on.remove(&account)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use std::path::Path;

    /// Beyond each limit of one.
    const TWO: Asked = Asked {
        amounts: Amounts { requests: 2, input_tokens: 2, output_tokens: 2, cost_pico_dollars: 2 },
        is_unpriced: false,
    };

    /// Everybody goes along `last`, the group `acme` along `spare`; `search` lies below it, and `alone` below none.
    fn accounts(limits: &str, of: &str) -> Accounts {
        let groups = ["acme", "search", "alone"].map(|name| {
            let limits = if name == of { limits } else { "" };
            let more = match name {
                "acme" => "when_exhausted = \"spare\"",
                "search" => "parent = \"acme\"",
                _ => "",
            };
            format!("[groups.{name}]\nlimits = [{limits}]\n{more}\n")
        });
        let route = |name: &str| format!("[routes.{name}]\nmodel = \"{name}\"\ntargets = [\"openai\"]\n");
        let of_all = if of == "all" { limits } else { "" };
        let ledger = format!("[ledger]\nlimits = [{of_all}]\nwhen_exhausted = \"last\"\n");
        let text = groups.concat() + &route("spare") + &route("last") + &ledger;
        Accounts::new(&parse(&text, Path::new("")).expect("valid"), Clock::start())
    }

    fn refused(accounts: &Accounts, payer: &Payer, asked: &Asked) -> Standing {
        let now_ms = accounts.clock.unix_ms();
        // One call is in flight.
        let _held = accounts.reserve(payer, &Asked::default(), now_ms).expect("it asks for nothing");
        *accounts.reserve(payer, asked, now_ms).expect_err("its limit is exhausted")
    }

    #[test]
    fn whoever_is_refused_goes_along_the_route_of_the_nearest_that_names_one_from_whose_limit_it_is() {
        for (of, payer, route) in [
            ("search", "search", "spare"),
            ("acme", "search", "spare"),
            ("acme", "acme", "spare"),
            ("alone", "alone", "last"),
            // It is everybody's limit, of which acme's route says nothing.
            ("all", "search", "last"),
        ] {
            let accounts = accounts("\"2 requests per day\", \"1 tokens in total\"", of);
            let payer = accounts.group(payer).expect("a group");
            let standing = refused(&accounts, payer, &TWO);
            assert_eq!(standing.goes_on_along.as_deref(), Some(route), "{of}: {standing:?}");
        }
    }

    #[test]
    fn what_no_model_could_be_cheaper_for_is_refused() {
        for (limit, is_unpriced, goes_on) in [
            ("$0.000000000001 in total", false, true),
            ("1 tokens in total", false, true),
            ("1 output tokens per day", false, true),
            ("1 requests per minute", false, true),
            ("1 calls in flight", false, false),
            ("$1 in total", true, false),
        ] {
            let accounts = accounts(&format!("\"{limit}\""), "search");
            let payer = accounts.group("search").expect("a group");
            let standing = refused(&accounts, payer, &Asked { is_unpriced, ..TWO });
            assert_eq!(standing.goes_on_along.is_some(), goes_on, "{limit}: {standing:?}");
        }
    }

    #[test]
    fn a_key_says_for_its_own_limits_where_its_calls_go_on_and_may_change_its_mind() {
        let accounts = accounts("", "");
        let limits = [Limit::parse("1 tokens in total").expect("a limit")];
        let id = Arc::from("k_1");
        let mut terms = Terms { group: Some("search"), limits: &limits, soft: &[], when_exhausted: None };
        for (says, route) in [(None, "spare"), (Some("own"), "own"), (Some("other"), "other"), (None, "spare")] {
            terms.when_exhausted = says;
            let payer = accounts.key(&id, terms);
            let standing = refused(&accounts, &payer, &TWO);
            assert_eq!(standing.goes_on_along.as_deref(), Some(route), "{says:?}");
        }
    }
}
