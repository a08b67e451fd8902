//! One purse for many: what each key and each group may spend, all the way up, and what each has spent.
//!
//! A call is let out by a reservation of the most that it may cost, which is settled once with what it did cost. What an
//! account has used is what was spent and what is reserved, both shown, and nothing else: it refuses if and only if
//! these and what is asked for are more than it allows at that instant.

mod amounts;

pub use amounts::{Amounts, Calendar, Measure, Period, Span};

/// So much of a measure in each window of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// What counts.
    pub measure: Measure,
    /// How much of it.
    pub amount: u128,
    /// In which time. Without meaning for [`Measure::InFlight`].
    pub period: Period,
    /// What becomes of who asks for more.
    pub force: Force,
}

/// What an allowance does about more than it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// Refuses it.
    Refuses,
    /// Tells of it, once in each window.
    Warns,
    /// Tells of each that it would have refused.
    Watches,
}

/// An account of a purse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(u32);

/// What is asked for: the most that a call may cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// As much of each.
    pub amounts: Amounts,
    /// Nobody knows what it costs in money, so that no bound on money can hold.
    pub is_unpriced: bool,
}

/// Which allowance is in the way, and how it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// Whose it is.
    pub account: AccountId,
    /// Its place among that account's.
    pub index: usize,
    /// The allowance.
    pub allowance: Allowance,
    /// What was spent of it.
    pub spent: u128,
    /// What is reserved by calls that are under way.
    pub open: u128,
    /// What was asked for.
    pub asked: u128,
    /// Whether it was refused because what it costs is not known.
    pub is_unpriced: bool,
    /// The second, since 1970, at which it is whole again; `None` where time alone changes nothing.
    pub refills_unix_s: Option<i64>,
}

impl Exhausted {
    /// What is left of it; 0 where more was used than allowed.
    #[must_use]
    pub fn left(&self) -> u128 {
        self.allowance.amount.saturating_sub(self.spent.saturating_add(self.open))
    }

    /// Whether something cheaper may fit: not where it is the number of calls, or where nobody knows what the call costs.
    #[must_use]
    pub const fn may_fit_cheaper(&self) -> bool {
        !self.is_unpriced && !matches!(self.allowance.measure, Measure::InFlight)
    }

    /// Whether it is more than the whole allowance, so that no time will do.
    #[must_use]
    pub fn never_fits(&self) -> bool {
        self.is_unpriced || self.asked > self.allowance.amount
    }
}

/// Something is beyond what an allowance allows that refuses nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// Which, and how it stands.
    pub exhausted: Exhausted,
    /// Whether it is the first time in this window.
    pub is_news: bool,
}

/// A reservation, and what is worth telling of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Reserved {
    /// To be settled once.
    pub reservation: Held,
    /// The first allowance that it is beyond, of those that refuse nobody.
    pub beyond: Option<Beyond>,
}

/// What is reserved for one call. [`Purse::settle`] takes it; one that is lost stays open for ever, and its place in
/// flight with it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what is not settled stays reserved"]
pub struct Held {
    account: AccountId,
    amounts: Amounts,
    starts_unix_s: [i64; Period::ALL.len()],
}

impl Held {
    /// What is reserved.
    #[must_use]
    pub const fn amounts(&self) -> Amounts {
        self.amounts
    }

    /// Whose it is.
    #[must_use]
    pub const fn account(&self) -> AccountId {
        self.account
    }
}

/// What was used of a period's window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// What calls have cost that are settled.
    pub spent: Amounts,
    /// What is reserved by those under way.
    pub open: Amounts,
}

#[derive(Clone, Copy, Debug)]
struct Sum {
    starts_unix_s: i64,
    used: Used,
}

#[derive(Debug)]
struct Account {
    parent: Option<AccountId>,
    allowances: Vec<Allowed>,
    sums: [Sum; Period::ALL.len()],
    in_flight: u64,
}

#[derive(Debug)]
struct Allowed {
    allowance: Allowance,
    /// The window of which was told already that it is used up.
    told: Option<i64>,
}

/// All accounts. Each belongs to another or to none, and what one spends counts for all above it.
#[derive(Debug, Default)]
pub struct Purse {
    accounts: Vec<Account>,
    /// The latest windows seen.
    windows: Option<Calendar>,
}

impl Purse {
    /// Most accounts: what is beyond is more keys than one process serves.
    pub const ACCOUNTS_MAX: usize = 100_000;
    /// Most accounts from one to the top, both counted: each is looked at for each call.
    pub const DEPTH_MAX: usize = 8;
    /// Most allowances of one account.
    pub const ALLOWANCES_MAX: usize = 32;

    /// Opens an account below another. `None` where there are too many, or it would lie too deep.
    pub fn open(&mut self, parent: Option<AccountId>, allowances: &[Allowance]) -> Option<AccountId> {
        let depth = 1 + self.chain(parent).count();
        if self.accounts.len() >= Self::ACCOUNTS_MAX || depth > Self::DEPTH_MAX {
            return None;
        }
        let id = AccountId(u32::try_from(self.accounts.len()).ok()?);
        self.accounts.push(Account::below(parent));
        self.set_allowances(id, allowances);
        Some(id)
    }

    /// Changes what an account allows; what it has used stays. Those beyond [`ALLOWANCES_MAX`](Self::ALLOWANCES_MAX)
    /// are left out.
    pub fn set_allowances(&mut self, account: AccountId, allowances: &[Allowance]) {
        if let Some(account) = self.accounts.get_mut(account.0 as usize) {
            let allowances = allowances.iter().take(Self::ALLOWANCES_MAX);
            account.allowances = allowances.map(|allowance| Allowed { allowance: *allowance, told: None }).collect();
        }
    }

    /// A purse with one account, above which there is none.
    #[must_use]
    pub fn of_all(allowances: &[Allowance]) -> (Purse, AccountId) {
        let mut purse = Purse::default();
        let account = AccountId(0);
        purse.accounts.push(Account::below(None));
        purse.set_allowances(account, allowances);
        (purse, account)
    }

    /// Adds what was spent in a period's window before this purse was there, to this account alone. Nothing is added to
    /// a window that is over.
    pub fn restore(&mut self, account: AccountId, period: Period, spent: &Amounts, windows: Calendar) {
        let latest = self.roll(windows);
        let is_over = latest.of(period).starts_unix_s != windows.of(period).starts_unix_s;
        if let (false, Some(account)) = (is_over, self.accounts.get_mut(account.0 as usize)) {
            account.roll(latest);
            let used = &mut account.sums[period.index()].used;
            used.spent = used.spent.plus(spent);
        }
    }

    /// The same, to this account and to all above it.
    pub fn restore_all(&mut self, account: AccountId, period: Period, spent: &Amounts, windows: Calendar) {
        let chain: Vec<AccountId> = self.chain(Some(account)).collect();
        for account in chain {
            self.restore(account, period, spent, windows);
        }
    }

    /// Reserves what is asked for, of the account and of all above it, or of none.
    ///
    /// # Errors
    /// The allowance that is in the way; of several, the one that is for the longest.
    pub fn reserve(&mut self, account: AccountId, asked: &Asked, windows: Calendar) -> Result<Reserved, Exhausted> {
        let windows = self.roll(windows);
        let beyond = self.check(account, asked, windows)?;
        self.each_above(account, |above| {
            above.in_flight += 1;
            for sum in &mut above.sums {
                sum.used.open = sum.used.open.plus(&asked.amounts);
            }
        });
        let starts_unix_s = Period::ALL.map(|period| windows.of(period).starts_unix_s);
        Ok(Reserved { reservation: Held { account, amounts: asked.amounts, starts_unix_s }, beyond })
    }

    /// Settles with what it did cost. That counts in the windows in which it was reserved, as far as they are not over.
    pub fn settle(&mut self, held: Held, spent: &Amounts) {
        let Held { account, amounts, starts_unix_s } = held;
        self.each_above(account, |above| {
            above.in_flight = above.in_flight.saturating_sub(1);
            above.change(&starts_unix_s, |used| {
                used.open = used.open.minus(&amounts);
                used.spent = used.spent.plus(spent);
            });
        });
    }

    /// Counts what was spent beyond any reservation, by a call that goes on for long.
    pub fn spend(&mut self, account: AccountId, spent: &Amounts, windows: Calendar) {
        let windows = self.roll(windows);
        self.each_above(account, |above| {
            above.roll(windows);
            for sum in &mut above.sums {
                sum.used.spent = sum.used.spent.plus(spent);
            }
        });
    }

    /// What was used of a period's window.
    #[must_use]
    pub fn used(&mut self, account: AccountId, period: Period, windows: Calendar) -> Used {
        let windows = self.roll(windows);
        self.accounts.get_mut(account.0 as usize).map_or_else(Used::default, |account| {
            account.roll(windows);
            account.sums[period.index()].used
        })
    }

    /// Calls that are under way, of the account and of all below it.
    #[must_use]
    pub fn in_flight(&self, account: AccountId) -> u64 {
        self.accounts.get(account.0 as usize).map_or(0, |account| account.in_flight)
    }

    /// What an account allows, each with how it stands for who asks for nothing.
    pub fn standing(&mut self, account: AccountId, windows: Calendar) -> impl Iterator<Item = Exhausted> {
        let windows = self.roll(windows);
        let mut found = self.accounts.get_mut(account.0 as usize);
        if let Some(found) = &mut found {
            found.roll(windows);
        }
        found.into_iter().flat_map(move |found| {
            let found = &*found;
            (0..found.allowances.len()).map(move |index| found.look(account, index, &Asked::default(), windows))
        })
    }

    /// The account, and those above it.
    pub fn up_from(&self, account: AccountId) -> impl Iterator<Item = AccountId> {
        self.chain(Some(account))
    }

    /// The same, or none.
    fn chain(&self, first: Option<AccountId>) -> impl Iterator<Item = AccountId> {
        std::iter::successors(first, |id| self.accounts.get(id.0 as usize).and_then(|account| account.parent))
    }

    /// The latest windows, this one included.
    fn roll(&mut self, windows: Calendar) -> Calendar {
        let latest = self.windows.map_or(windows, |known| known.latest(windows));
        self.windows = Some(latest);
        latest
    }

    /// Whether all from this account on allow it; and the first of those that refuse nobody which it is beyond.
    fn check(&mut self, account: AccountId, asked: &Asked, windows: Calendar) -> Result<Option<Beyond>, Exhausted> {
        let (mut refused, mut beyond): (Option<Exhausted>, Option<(AccountId, usize)>) = (None, None);
        let mut next = Some(account);
        while let Some(id) = next
            && let Some(above) = self.accounts.get_mut(id.0 as usize)
        {
            above.roll(windows);
            next = above.parent;
            for (index, Allowed { allowance, .. }) in above.allowances.iter().enumerate() {
                if !above.is_beyond(allowance, asked) {
                    continue;
                }
                match allowance.force {
                    Force::Refuses => {
                        let found = above.look(id, index, asked, windows);
                        if refused.is_none_or(|worst| worst.is_sooner_over_than(&found)) {
                            refused = Some(found);
                        }
                    }
                    Force::Warns | Force::Watches => beyond = beyond.or(Some((id, index))),
                }
            }
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
        Ok(beyond.and_then(|(id, index)| {
            let account = self.accounts.get_mut(id.0 as usize)?;
            let exhausted = account.look(id, index, asked, windows);
            let window = windows.of(exhausted.allowance.period).starts_unix_s;
            let told = account.allowances[index].told.replace(window);
            Some(Beyond { exhausted, is_news: told != Some(window) })
        }))
    }

    /// Changes the account and all above it.
    fn each_above(&mut self, account: AccountId, mut change: impl FnMut(&mut Account)) {
        let mut next = Some(account);
        while let Some(above) = next.and_then(|id| self.accounts.get_mut(id.0 as usize)) {
            change(above);
            next = above.parent;
        }
    }
}

impl Account {
    fn below(parent: Option<AccountId>) -> Account {
        let sums = [Sum { starts_unix_s: i64::MIN, used: Used::default() }; Period::ALL.len()];
        Account { parent, allowances: Vec::new(), sums, in_flight: 0 }
    }

    fn roll(&mut self, windows: Calendar) {
        for (sum, period) in self.sums.iter_mut().zip(Period::ALL) {
            let starts_unix_s = windows.of(period).starts_unix_s;
            if sum.starts_unix_s != starts_unix_s {
                *sum = Sum { starts_unix_s, used: Used::default() };
            }
        }
    }

    /// Changes what was used, in those of the windows with these starts that are not over.
    fn change(&mut self, starts_unix_s: &[i64; Period::ALL.len()], mut change: impl FnMut(&mut Used)) {
        for (sum, start) in self.sums.iter_mut().zip(starts_unix_s) {
            if sum.starts_unix_s == *start {
                change(&mut sum.used);
            }
        }
    }

    /// What was spent of an allowance, and what is reserved.
    fn used(&self, allowance: &Allowance) -> (u128, u128) {
        let Used { spent, open } = &self.sums[allowance.period.index()].used;
        match allowance.measure {
            Measure::InFlight => (0, self.in_flight.into()),
            measure => (spent.of(measure), open.of(measure)),
        }
    }

    /// Whether this is more than is allowed.
    fn is_beyond(&self, allowance: &Allowance, asked: &Asked) -> bool {
        let (spent, open) = self.used(allowance);
        let used = spent.saturating_add(open);
        let is_unpriced = asked.is_unpriced && allowance.measure == Measure::Cost;
        match (allowance.measure, asked.amounts.of(allowance.measure)) {
            (Measure::InFlight, _) => used >= allowance.amount,
            // What asks for nothing takes nothing that is used up.
            (_, asked) => is_unpriced || asked > 0 && used.saturating_add(asked) > allowance.amount,
        }
    }

    fn look(&self, account: AccountId, index: usize, asked: &Asked, windows: Calendar) -> Exhausted {
        let allowance = self.allowances[index].allowance;
        let (spent, open) = self.used(&allowance);
        let ends_unix_s = windows.of(allowance.period).ends_unix_s;
        let is_refilled = allowance.measure != Measure::InFlight && allowance.period != Period::Total;
        Exhausted {
            account,
            index,
            allowance,
            spent,
            open,
            asked: asked.amounts.of(allowance.measure),
            is_unpriced: asked.is_unpriced && allowance.measure == Measure::Cost,
            refills_unix_s: is_refilled.then_some(ends_unix_s),
        }
    }
}

impl Exhausted {
    /// Whether `other` is in the way for longer.
    fn is_sooner_over_than(&self, other: &Exhausted) -> bool {
        let over = |one: &Exhausted| match (one.never_fits(), one.allowance.measure, one.refills_unix_s) {
            (true, ..) => (2, 0),
            (false, Measure::InFlight, _) => (0, 0),
            (false, _, Some(refills_unix_s)) => (1, refills_unix_s),
            (false, _, None) => (2, 0),
        };
        over(self) < over(other)
    }
}

#[cfg(test)]
mod tests;
