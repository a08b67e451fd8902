//! `[groups.NAME]`: whose keys spend together, and how much.

use super::allowance::Limit;
use super::kind::{Flag, List, Maybe, Text};
use super::ledger::allowances;
use super::reader::Section;
use super::section::section;
use spillway_resilience::{Allowance, Purse};
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
        /// Whether its limits only count and show what they would have refused.
        watch_only: bool = false, Flag;
    }
}

/// Every group.
pub(super) fn read(section: Section<'_>) -> BTreeMap<String, GroupConfig> {
    let named = section.named_sections();
    let names: Vec<String> = named.iter().map(|(name, _)| name.clone()).collect();
    let groups: BTreeMap<String, GroupConfig> =
        named.into_iter().map(|(name, section)| (name, GroupConfig::read(section, &names))).collect();
    for name in groups.keys() {
        if depth(&groups, name).is_none() {
            let most = Purse::DEPTH_MAX - RESERVED_DEPTH;
            let said = format!("groups.{name} stands above itself, or below more than {most} others");
            section.mistake("", said);
        }
    }
    groups
}

/// Places in the tree that are not for groups: all callers together, and a key.
const RESERVED_DEPTH: usize = 2;

/// How many groups there are from this one to the top; `None` where that has no end, or one that is too far.
fn depth(groups: &BTreeMap<String, GroupConfig>, name: &str) -> Option<usize> {
    let above = |name: &&str| groups.get(*name)?.parent.as_deref();
    let depth = std::iter::successors(Some(name), above).take(Purse::DEPTH_MAX).count();
    (depth <= Purse::DEPTH_MAX - RESERVED_DEPTH).then_some(depth)
}

impl GroupConfig {
    fn read(section: Section<'_>, names: &[String]) -> GroupConfig {
        let mut group = GroupConfig::fresh(section.folder());
        group.take(&section);
        if let Some(parent) = &group.parent
            && !names.contains(parent)
        {
            section.mistake("parent", format!("there is no [groups.{parent}]"));
        }
        section.finish();
        group
    }

    /// What it may spend. Where `watch_only`, it refuses nobody.
    pub fn allowances(&self, watch_only: bool) -> Vec<Allowance> {
        allowances(&self.limits, &self.soft_limits, self.watch_only || watch_only)
    }
}
