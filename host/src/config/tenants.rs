//! `[tenants.NAME]`: shares and limits of those who call.

use super::concurrency::IN_FLIGHT;
use super::groups::GroupConfig;
use super::guards::{GuardsConfig, OwnGuards};
use super::kind::{Maybe, Text, Whole, Word};
use super::limits::{QUOTA_MAX, Quota};
use super::reader::Section;
use super::section::section;
use spillway_resilience::{Priority, Tenant};
use std::collections::BTreeMap;

section! {
    /// A tenant's share, and its own limits over all upstreams together. Only those that differ need an entry. A tenant
    /// is named in the header `x-spillway-tenant`; without one, each credential is a tenant of its own.
    pub struct TenantConfig {
        /// Its share relative to others', while they wait for the same upstream.
        weight: u32 = 1, Whole(1..=u64::from(Tenant::WEIGHT_MAX));
        /// The priority of its requests, and the highest that they may ask for.
        priority: Option<Priority> = None, Maybe(Word(&Priority::ALL, Priority::as_str)),
            shown as "normal, and any may be asked for";
        /// Requests per minute.
        requests_per_minute: Option<u64> = None, Maybe(Whole(1..=QUOTA_MAX));
        /// Tokens per minute, input and output together.
        tokens_per_minute: Option<u64> = None, Maybe(Whole(1..=QUOTA_MAX));
        /// The [group](#groupsname) that pays for its requests.
        group: Option<String> = None, Maybe(Text);
        /// Most calls of its own in flight.
        max_in_flight: Option<u32> = None, Maybe(IN_FLIGHT);
    }
    tables {
        /// What stops its agents when they run away.
        guards: OwnGuards;
    }
}

/// Every tenant of whom something is said.
pub(super) fn read(
    section: Section<'_>,
    groups: &BTreeMap<String, GroupConfig>,
    guards: &GuardsConfig,
) -> BTreeMap<String, TenantConfig> {
    let named = section.named_sections();
    let read = |(name, section): (String, _)| (name.clone(), TenantConfig::read(&name, section, groups, guards));
    named.into_iter().map(read).collect()
}

impl TenantConfig {
    fn read(
        name: &str,
        section: Section<'_>,
        groups: &BTreeMap<String, GroupConfig>,
        guards: &GuardsConfig,
    ) -> TenantConfig {
        let plain = name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') && name == name.trim();
        if name.is_empty() || !plain {
            section.mistake("", "a tenant is named in a header: its name has visible ASCII characters only");
        }
        let mut tenant = TenantConfig::fresh(section.folder());
        tenant.take(&section);
        if let Some(group) = &tenant.group
            && !groups.contains_key(group)
        {
            section.mistake("group", format!("there is no [groups.{group}]"));
        }
        let of_group = tenant.group.as_ref().and_then(|group| groups.get(group));
        let above = of_group.map_or(guards, |group| &group.guards.in_force);
        tenant.guards = OwnGuards::read(section.section("guards"), above);
        section.finish();
        tenant
    }

    /// What it may use of all upstreams together.
    pub fn quota(&self) -> Quota {
        Quota { requests_per_minute: self.requests_per_minute, tokens_per_minute: self.tokens_per_minute }
    }
}
