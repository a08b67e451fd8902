//! `[ledger]`: what is spent, what all callers together may spend, and by which calendar.

use super::allowance::Limit;
use super::kind::{Flag, List, Maybe, Parsed, Text, Time, Word};
use super::reader::Section;
use super::routes::Routes;
use super::section::section;
use jiff::tz::TimeZone;
use spillway_resilience::{Allowance, Force};
use std::fmt;
use std::time::Duration;

/// Shortest time for which single entries are kept: a month's limit looks back so far.
const RETENTION_MIN: Duration = Duration::from_secs(32 * 24 * 60 * 60);

section! {
    /// What is spent, by whom and on what, kept in the data folder ([ledger.md](ledger.md)). It is kept where anything
    /// is limited by it, here, by [groups](#groupsname) or by keys; `enabled` keeps it otherwise, too.
    pub struct LedgerConfig {
        /// Whether it is kept though nothing is limited by it.
        enabled: bool = false, Flag;
        /// What all callers may spend together.
        limits: Vec<Limit> = Vec::new(), List("limits, such as `\"$20 per day\"`", Limit::parse);
        /// Limits that refuse nobody: going beyond one is told once in each of its periods.
        soft_limits: Vec<Limit> = Vec::new(), List("limits", Limit::parse);
        /// The [route](#routesname) along which a call goes on that one of these limits has refused, or one of a group's or
        /// a key's for which nothing else is said: to a cheaper model, say. Limits on calls in flight refuse as ever.
        when_exhausted: Option<String> = None, Maybe(Text), shown as "it is refused";
        /// Whether all limits of the ledger only count and show what they would have refused, those of groups and keys
        /// too.
        watch_only: bool = false, Flag;
        /// The time zone by which days and months begin.
        time_zone: Zone = Zone::default(), Parsed("name of a time zone, such as `\"Europe/Berlin\"`", Zone::parse);
        /// What becomes of calls for a model without a price, where money is limited.
        unpriced: Unpriced = Unpriced::Refuse, Word(&Unpriced::ALL, Unpriced::as_str);
        /// How long single entries are kept. Older ones are kept as one sum for each key and model.
        retention: Duration = Duration::from_secs(400 * 24 * 60 * 60), Time::from(RETENTION_MIN);
    }
}

/// What becomes of calls for a model without a price, where money is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpriced {
    /// They are refused: nobody can say what they cost.
    Refuse,
    /// They are let out, and count for nothing where money is limited.
    Allow,
}

impl Unpriced {
    const ALL: [Unpriced; 2] = [Unpriced::Refuse, Unpriced::Allow];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Unpriced::Refuse => "refuse",
            Unpriced::Allow => "allow",
        }
    }
}

/// A time zone, with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    name: String,
    /// Its rules.
    pub rules: TimeZone,
}

impl Zone {
    fn parse(name: &str) -> Result<Zone, String> {
        let rules = TimeZone::get(name).map_err(|_| "is no time zone; one is named \"Europe/Berlin\" or \"UTC\"")?;
        Ok(Zone { name: name.to_owned(), rules })
    }
}

impl Default for Zone {
    fn default() -> Zone {
        Zone { name: "UTC".to_owned(), rules: TimeZone::UTC }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl LedgerConfig {
    pub(super) fn read(section: Section<'_>, routes: &Routes) -> LedgerConfig {
        let mut ledger = LedgerConfig::fresh(section.folder());
        ledger.take(&section);
        routes.expect(&section, "when_exhausted", ledger.when_exhausted.as_deref());
        section.finish();
        ledger
    }

    /// What all callers may spend together.
    pub fn allowances(&self) -> Vec<Allowance> {
        allowances(&self.limits, &self.soft_limits, self.watch_only)
    }
}

/// What is limited by `limits`, and told of by `soft` ones.
pub(crate) fn allowances(limits: &[Limit], soft: &[Limit], watch_only: bool) -> Vec<Allowance> {
    let force = if watch_only { Force::Watches } else { Force::Refuses };
    let limits = limits.iter().map(|limit| limit.with_force(force));
    limits.chain(soft.iter().map(|limit| limit.with_force(Force::Warns))).collect()
}
