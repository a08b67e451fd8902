//! `[groups.NAME]`: whose keys spend together, and how much.

use super::allowance::Limit;
use super::guards::{GuardsConfig, OwnGuards};
use super::kind::{Flag, List, Maybe, Number, Text};
use super::ledger::allowances;
use super::reader::Section;
use super::routes::Routes;
use super::section::section;
use spillway_resilience::{Allowance, GroupId, NotReserved, Purse, Shares};
use std::collections::BTreeMap;

section! {
    /// Keys that spend together: a team, an application, an organisation. What a key spends counts for its group and for
    /// all above it, and all of them must allow it.
    pub struct GroupConfig {
        /// The group above it.
        parent: Option<String> = None, Maybe(Text);
        /// What it may spend.
        limits: Vec<Limit> = Vec::new(), List("limits, such as `\"1000 requests per minute\"` and `\"$500 per month\"`", Limit::parse);
        /// Limits that refuse nobody: going beyond one is told once in each of its periods.
        soft_limits: Vec<Limit> = Vec::new(), List("limits", Limit::parse);
        /// The [route](#routesname) along which a call goes on that one of these limits has refused, or one of a group's or
        /// a key's below it for which nothing else is said.
        when_exhausted: Option<String> = None, Maybe(Text), shown as "what the group above says, or else `[ledger]`";
        /// Whether its limits only count and show what they would have refused.
        watch_only: bool = false, Flag;
        /// Share of each upstream's places that is reserved for it and the groups below it. Places are the calls that may
        /// be in flight there at the moment (`max_in_flight`, or what adapting has left of it), and a share is rounded
        /// down to whole ones. What is reserved for a group below is part of it, and all groups together can reserve 0.9
        /// ([ledger.md](ledger.md#a-share-of-an-upstreams-places)).
        reserved_share: f64 = 0.0, Number(0.0..=Shares::RESERVED_MAX);
    }
    tables {
        /// What stops agents that have its keys when they run away.
        guards: OwnGuards;
    }
}

/// Every group, where these guards are in force for all.
pub(super) fn read(section: Section<'_>, routes: &Routes, guards: &GuardsConfig) -> BTreeMap<String, GroupConfig> {
    let named = section.named_sections();
    let names: Vec<String> = named.iter().map(|(name, _)| name.clone()).collect();
    let mut groups: BTreeMap<String, GroupConfig> =
        named.into_iter().map(|(name, section)| (name, GroupConfig::read(section, &names, routes, guards))).collect();
    for name in groups.keys() {
        if depth(&groups, name).is_none() {
            let most = Purse::DEPTH_MAX - RESERVED_DEPTH;
            let said = format!("groups.{name} stands above itself, or below more than {most} others");
            section.mistake("", said);
        }
    }
    ReservedShares::of(&groups, |name, share, why| {
        section.mistake("", format!("groups.{name}.reserved_share: {share} {why}"))
    });
    let in_force: Vec<GuardsConfig> = names.iter().map(|name| guards_of(&groups, name, guards)).collect();
    for (name, in_force) in names.iter().zip(in_force) {
        groups.entry(name.clone()).and_modify(|group| group.guards.in_force = in_force);
    }
    groups
}

/// The guards of a group: what it says itself, and what those above it say, the nearest first.
fn guards_of(groups: &BTreeMap<String, GroupConfig>, name: &str, of_all: &GuardsConfig) -> GuardsConfig {
    let from_it_up: Vec<&GroupConfig> = with_those_above(groups, name).filter_map(|name| groups.get(name)).collect();
    from_it_up.iter().rev().fold(of_all.clone(), |above, group| group.guards.below(&above))
}

/// Which share of each upstream's places is reserved for whom.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReservedShares {
    /// As an upstream begins with them.
    pub shares: Shares,
    /// Whose each is.
    names: Vec<String>,
    /// The nearest group with a share from each group up, where there is one.
    nearest: BTreeMap<String, GroupId>,
}

impl ReservedShares {
    /// Those of these groups. `mistake` is told of each that cannot be reserved, and why.
    pub(super) fn of(groups: &BTreeMap<String, GroupConfig>, mut mistake: impl FnMut(&str, f64, String)) -> Self {
        let mut reserved = ReservedShares::default();
        // Those above before those below them. Those that are above themselves are a mistake already.
        let mut names: Vec<_> = groups.keys().filter_map(|name| Some((depth(groups, name)?, name))).collect();
        names.sort();
        for (_, name) in names {
            let GroupConfig { parent, reserved_share, .. } = &groups[name];
            let above = parent.as_ref().and_then(|parent| reserved.nearest.get(parent)).copied();
            let mut nearest = above;
            if *reserved_share > 0.0 {
                match reserved.shares.reserve(above, *reserved_share) {
                    Ok(own) => {
                        nearest = Some(own);
                        reserved.names.push(name.clone());
                    }
                    Err(why) => mistake(name, *reserved_share, reserved.in_words(above, why)),
                }
            }
            reserved.nearest.extend(nearest.map(|nearest| (name.clone(), nearest)));
        }
        reserved
    }

    fn in_words(&self, above: Option<GroupId>, why: NotReserved) -> String {
        match (why, above) {
            (NotReserved::TooMany, _) => format!("is one too many: {} groups can have one", Shares::GROUPS_MAX),
            (NotReserved::Left(left), Some(above)) => {
                format!("is more than the {left} that is left of the share of groups.{}", self.name(above))
            }
            (NotReserved::Left(left), None) => {
                format!(
                    "is more than the {left} that is left: all groups together can reserve {}",
                    Shares::RESERVED_MAX
                )
            }
        }
    }

    /// Whose share it is.
    pub(crate) fn name(&self, group: GroupId) -> &str {
        self.names.get(group.index()).map_or("", String::as_str)
    }

    /// The nearest group with a share, from this one up.
    pub(crate) fn nearest(&self, group: &str) -> Option<GroupId> {
        self.nearest.get(group).copied()
    }
}

/// Places in the tree that are not for groups: all callers together, and a key.
const RESERVED_DEPTH: usize = 2;

/// How many groups there are from this one to the top; `None` where that has no end, or one that is too far.
fn depth(groups: &BTreeMap<String, GroupConfig>, name: &str) -> Option<usize> {
    let depth = with_those_above(groups, name).count();
    (depth <= Purse::DEPTH_MAX - RESERVED_DEPTH).then_some(depth)
}

/// A group and those above it, the nearest first; no more of them than there may be in a tree.
fn with_those_above<'g>(groups: &'g BTreeMap<String, GroupConfig>, name: &'g str) -> impl Iterator<Item = &'g str> {
    let above = |name: &&'g str| groups.get(*name)?.parent.as_deref();
    std::iter::successors(Some(name), above).take(Purse::DEPTH_MAX)
}

impl GroupConfig {
    fn read(section: Section<'_>, names: &[String], routes: &Routes, guards: &GuardsConfig) -> GroupConfig {
        let mut group = GroupConfig::fresh(section.folder());
        group.take(&section);
        if let Some(parent) = &group.parent
            && !names.contains(parent)
        {
            section.mistake("parent", format!("there is no [groups.{parent}]"));
        }
        routes.expect(&section, "when_exhausted", group.when_exhausted.as_deref());
        group.guards = OwnGuards::read(section.section("guards"), guards);
        section.finish();
        group
    }

    /// What it may spend. Where `watch_only`, it refuses nobody.
    pub fn allowances(&self, watch_only: bool) -> Vec<Allowance> {
        allowances(&self.limits, &self.soft_limits, self.watch_only || watch_only)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;
    use std::path::Path;

    #[test]
    fn a_group_has_its_own_share_of_places_or_the_nearest_above_it() {
        let text = "[groups.acme]\nreserved_share = 0.6\n[groups.ads]\nparent = \"search\"\n\
                    [groups.search]\nparent = \"acme\"\nreserved_share = 0.2\n[groups.chat]\nparent = \"acme\"\n\
                    [groups.others]\n[groups.guests]\nparent = \"others\"\nreserved_share = 0.3\n";
        let reserved = parse(text, Path::new("")).expect("valid").reserved_shares();
        let nearest = |group| reserved.nearest(group).map(|nearest| reserved.name(nearest).to_owned());
        for (group, of) in [
            ("acme", Some("acme")),
            ("search", Some("search")),
            ("ads", Some("search")),
            ("chat", Some("acme")),
            ("others", None),
            ("guests", Some("guests")),
            ("nobodys", None),
        ] {
            assert_eq!(nearest(group).as_deref(), of, "{group}");
        }
    }

    #[test]
    fn a_route_that_is_named_for_when_limits_are_exhausted_is_there() {
        let route = "[routes.cheap]\nmodel = \"cheap\"\ntargets = [\"openai\"]\n";
        let config = parse(&format!("{route}[groups.a]\nwhen_exhausted = \"cheap\"\n"), Path::new("")).expect("valid");
        assert_eq!((config.groups["a"].when_exhausted.as_deref(), config.doubts()), (Some("cheap"), Vec::new()));
        for (text, said) in [
            (
                "[groups.a]\nwhen_exhausted = \"cheep\"\n",
                "groups.a.when_exhausted: there is no [routes.cheep]; did you mean cheap?",
            ),
            ("[ledger]\nwhen_exhausted = \"none\"\n", "ledger.when_exhausted: there is no [routes.none]"),
        ] {
            let mistakes = parse(&format!("{route}{text}"), Path::new("")).expect_err(said);
            assert!(mistakes.iter().any(|mistake| mistake.to_string().contains(said)), "{mistakes:?}");
        }
        let text = "[routes.cheap]\ntargets = [\"openai\"]\n[ledger]\nwhen_exhausted = \"cheap\"\n";
        let doubts = parse(text, Path::new("")).expect("valid").doubts();
        assert!(doubts.iter().any(|doubt| doubt.starts_with("ledger.when_exhausted: routes.cheap takes everything")));
    }

    #[test]
    fn more_than_can_be_reserved_is_a_mistake_that_says_what_is_left() {
        for (text, said) in [
            (
                "[groups.a]\nreserved_share = 0.5\n[groups.b]\nreserved_share = 0.6\n",
                "groups.b.reserved_share: 0.6 is more than the 0.4 that is left: all groups together can reserve 0.9",
            ),
            (
                "[groups.a]\nreserved_share = 0.5\n[groups.b]\nparent = \"a\"\nreserved_share = 0.6\n",
                "groups.b.reserved_share: 0.6 is more than the 0.5 that is left of the share of groups.a",
            ),
            ("[groups.a]\nreserved_share = 1\n", "groups.a.reserved_share: 1 must lie between 0 and 0.9"),
            ("[groups.a]\nreserved_share = -0.1\n", "groups.a.reserved_share: -0.1 must lie between 0 and 0.9"),
        ] {
            let mistakes = parse(text, Path::new("")).expect_err(said);
            assert!(mistakes.iter().any(|mistake| mistake.to_string().contains(said)), "{mistakes:?}");
        }
    }
}
