//! Who calls: the tenant whose share and limits a request counts against, its priority, and its credential.

use crate::config::{Config, GroupConfig, GuardsConfig, Quota, ReservedShares, TenantConfig};
use crate::dialect::headers::{self, PRIORITY_HEADER, TENANT_HEADER};
use crate::keys::table::Key;
use crate::ledger::{Ledger, Payer, Terms};
use crate::observe::labels::{Label, Labels};
use crate::runtime::clock::Clock;
use crate::runtime::fingerprint::FingerprintKey;
use crate::tenants::access::Shown;
use crate::tenants::guard::Entrance;
use crate::upstream::gate::AdmissionGate;
use crate::upstream::limiter;
use arc_swap::ArcSwap;
use http::HeaderMap;
use spillway_resilience::{
    AdaptiveLimitSettings, AdmissionQueue, Bulkhead, Concurrency, FairQueueSettings, GroupId, Priority,
    RunawaySettings, Tenant,
};
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Longest name of a tenant that is not configured. A longer one is cut, so that what is logged stays readable.
const NAME_BYTES_MAX: usize = 64;

/// Who made one request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Its share, while others wait too.
    pub tenant: Tenant,
    /// Its tenant's name, when it has one.
    pub name: Option<Arc<str>>,
    /// Before whom it is served.
    pub priority: Priority,
    /// Tells its credential from others.
    pub credential: u64,
    /// Whether it may spend the keys that Spillway has: it has shown the access key or a virtual one, or come through
    /// the Unix socket.
    pub may_spend: bool,
    /// The virtual key that it has shown.
    pub key: Option<Arc<Key>>,
    /// The way past its tenant's own limits, when it has any.
    pub gate: Option<Arc<AdmissionGate>>,
    /// From whose purse it is paid, where a ledger is kept.
    pub payer: Option<Arc<Payer>>,
    /// The nearest of its groups that has a share of upstreams' places.
    pub group: Option<GroupId>,
    /// What it says that its request is for.
    pub label: Label,
    /// What stops it where it runs away, if that differs from what stops everybody.
    pub guards: Option<Arc<RunawaySettings>>,
}

impl Caller {
    /// What it is called where people read it: its tenant's name, or else its credential's fingerprint.
    pub(crate) fn title(&self) -> String {
        self.name.as_deref().map_or_else(|| format!("{:016x}", self.credential), str::to_owned)
    }

    /// What whoever is counted by keys calls it: its key's name, or else its title.
    pub(crate) fn title_of_key(&self) -> String {
        self.key.as_deref().map_or_else(|| self.title(), |key| key.label.to_string())
    }

    /// A conversation of this caller's tenant as a number: two tenants that name theirs alike have two.
    pub(crate) fn of_conversation(&self, conversation: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.tenant.id, conversation).hash(&mut hasher);
        hasher.finish()
    }
}

/// What a caller has shown of its rights.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rights {
    /// Whether it may spend the keys that Spillway has.
    pub may_spend: bool,
    /// The virtual key that it has shown.
    pub key: Option<Arc<Key>>,
}

impl Rights {
    /// Of whoever shows this, and has come in here.
    pub(crate) fn of(shown: Shown, entrance: Entrance) -> Rights {
        let is_at_home = entrance == Entrance::UnixSocket;
        match shown {
            Shown::Key(key) => Rights { may_spend: true, key: Some(key) },
            Shown::AccessKey => Rights { may_spend: true, key: None },
            Shown::Nothing { .. } | Shown::Void(..) => Rights { may_spend: is_at_home, key: None },
        }
    }
}

/// All tenants that are configured. Whoever is none of them has a share like everybody's, by the name it gives, or
/// else by its credential.
#[derive(Debug)]
pub(crate) struct Callers {
    key: FingerprintKey,
    configured: BTreeMap<String, Configured>,
    /// Who pays for those that belong nowhere.
    everybody: Option<Arc<Payer>>,
    ledger: Option<Arc<Ledger>>,
    /// Which groups have a share of upstreams' places.
    reserved: ReservedShares,
    /// The guards that are in force for all, and those of each group.
    guards: GuardsConfig,
    guards_of_groups: BTreeMap<String, GuardsConfig>,
    /// What is known of each key, by its id.
    of_keys: ArcSwap<HashMap<String, OfKey>>,
    /// Whether whoever says of which tenant it is is believed: not where it has to show that.
    are_believed: bool,
    /// What requests may be labelled with.
    pub labels: Arc<Labels>,
}

/// What follows from a key and the configuration together.
#[derive(Clone, Debug)]
struct OfKey {
    /// Who pays for it, where that is kept.
    payer: Option<Arc<Payer>>,
    /// What stops it where it runs away, if that differs from what stops everybody.
    guards: Option<Arc<RunawaySettings>>,
}

#[derive(Debug)]
struct Configured {
    name: Arc<str>,
    config: TenantConfig,
    tenant: Tenant,
    gate: Option<Arc<AdmissionGate>>,
    payer: Option<Arc<Payer>>,
    guards: Option<Arc<RunawaySettings>>,
}

impl Callers {
    /// The tenants of a configuration.
    pub(crate) fn new(config: &Config, key: FingerprintKey, clock: Clock, ledger: Option<Arc<Ledger>>) -> Self {
        let everybody = ledger.as_ref().map(|ledger| Arc::clone(ledger.accounts.everybody()));
        let of_all = config.guards.settings();
        let configured = config.tenants.iter().map(|(name, config)| {
            let limited = config.quota() != Quota::default() || config.max_in_flight.is_some();
            let gate = limited.then(|| {
                let bulkhead = Bulkhead::new(config.max_in_flight.unwrap_or(AdaptiveLimitSettings::LIMIT_MAX));
                let limiter = limiter(config.quota(), clock);
                // One tenant alone waits here, so its share of the queue is all of it.
                let queue = FairQueueSettings {
                    max_waiting_per_tenant: FairQueueSettings::DEFAULT_MAX_WAITING,
                    ..FairQueueSettings::default()
                };
                Arc::new(AdmissionGate::new(AdmissionQueue::new(limiter, Concurrency::Fixed(bulkhead), queue), clock))
            });
            let tenant = Tenant { id: key.of_tenant(name), weight: config.weight };
            let group = config.group.as_deref().zip(ledger.as_ref());
            let payer = group.and_then(|(group, ledger)| ledger.accounts.group(group)).or(everybody.as_ref()).cloned();
            let guards = config.guards.in_force.settings();
            let guards = (guards != of_all).then(|| Arc::new(guards));
            let configured =
                Configured { name: Arc::from(name.as_str()), config: config.clone(), tenant, gate, payer, guards };
            (name.clone(), configured)
        });
        let configured = configured.collect();
        let labels = Arc::new(Labels::new(&config.labels));
        let are_believed = !config.keys.required;
        let guards = config.guards.clone();
        let of_group = |(name, group): (&String, &GroupConfig)| (name.clone(), group.guards.in_force.clone());
        let guards_of_groups = config.groups.iter().map(of_group).collect();
        let (reserved, of_keys) = (config.reserved_shares(), ArcSwap::default());
        Callers {
            key,
            configured,
            everybody,
            ledger,
            reserved,
            guards,
            guards_of_groups,
            of_keys,
            are_believed,
            labels,
        }
    }

    /// Who made a request with these headers and this query, and these rights.
    ///
    /// A tenant's configured priority is also the highest that its requests may ask for, and so is a key's. Whoever
    /// shows a key is of the key's tenant, whatever else it says.
    pub(crate) fn identify(&self, headers: &HeaderMap, query: &str, rights: Rights) -> Caller {
        let Rights { may_spend, key } = rights;
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let credential = self.key.of_credential(headers::credential(headers, query));
        let label = self.labels.intern(headers);
        let asked = text(PRIORITY_HEADER)
            .and_then(|word| Priority::ALL.into_iter().find(|priority| priority.as_str().eq_ignore_ascii_case(word)));
        let of_key = key.as_ref().and_then(|key| key.priority);
        let priority = |of_tenant: Option<Priority>| {
            // The lowest of those that bind it: the order is that of service.
            let highest = of_tenant.max(of_key);
            asked.or(highest).unwrap_or_default().max(highest.unwrap_or(Priority::High))
        };
        let said = match &key {
            Some(key) => tenant_of(key),
            None => text(TENANT_HEADER).filter(|name| self.are_believed && !name.is_empty()),
        };
        let configured = said.and_then(|name| self.configured.get(name));
        let (tenant, name) = match (configured, said, &key) {
            (Some(Configured { name, tenant, .. }), _, _) => (*tenant, Some(Arc::clone(name))),
            (None, Some(name), _) => {
                let name = name.get(..name.floor_char_boundary(NAME_BYTES_MAX)).unwrap_or(name);
                (Tenant::new(self.key.of_tenant(name)), Some(Arc::from(name)))
            }
            (None, None, Some(key)) => (Tenant::new(self.key.of_key(key.id())), Some(Arc::clone(&key.label))),
            (None, None, None) => (Tenant::new(credential), None),
        };
        let (payer, guards) = self.payer_and_guards(key.as_deref(), configured);
        Caller {
            tenant,
            name,
            priority: priority(configured.and_then(|tenant| tenant.config.priority)),
            credential,
            may_spend,
            gate: configured.and_then(|tenant| tenant.gate.clone()),
            payer,
            group: self.group(key.as_deref(), configured),
            label,
            guards,
            key,
        }
    }

    /// Who pays, the key that was shown or else the group of the tenant; and what stops whoever it is.
    fn payer_and_guards(
        &self,
        key: Option<&Key>,
        tenant: Option<&Configured>,
    ) -> (Option<Arc<Payer>>, Option<Arc<RunawaySettings>>) {
        let of_tenant = || tenant.and_then(|tenant| tenant.payer.clone()).or_else(|| self.everybody.clone());
        match key.and_then(|key| self.of_keys.load().get(key.id()).cloned()) {
            Some(OfKey { payer, guards }) => (payer.or_else(of_tenant), guards),
            None => (of_tenant(), tenant.and_then(|tenant| tenant.guards.clone())),
        }
    }

    /// The nearest group with a share of places: that of the key that was shown, or else of the tenant.
    fn group(&self, key: Option<&Key>, tenant: Option<&Configured>) -> Option<GroupId> {
        let group = match key {
            Some(key) => key.record.group.as_deref(),
            None => tenant.and_then(|tenant| tenant.config.group.as_deref()),
        };
        self.reserved.nearest(group?)
    }

    /// These are the keys from here on: what stops each, and what it may spend, where that is kept. Answers those whose
    /// limits do not hold, because it is not.
    pub(crate) fn take_keys(&self, keys: &[Arc<Key>]) -> Vec<Arc<Key>> {
        let of_key = |key: &Arc<Key>| {
            let payer = self.ledger.as_ref().map(|ledger| {
                let (limits, soft) = key.limits();
                let (group, when_exhausted) = (key.record.group.as_deref(), key.record.when_exhausted.as_deref());
                ledger.accounts.key(&Arc::from(key.id()), Terms { group, limits, soft, when_exhausted })
            });
            (key.id().to_owned(), OfKey { payer, guards: self.guards_of(key) })
        };
        self.of_keys.store(Arc::new(keys.iter().map(of_key).collect()));
        let is_unheld = |key: &&Arc<Key>| self.ledger.is_none() && key.has_limits();
        keys.iter().filter(is_unheld).map(Arc::clone).collect()
    }

    /// What stops a key, if that differs from what stops everybody: its own bounds, then its tenant's guards, then its
    /// group's.
    fn guards_of(&self, key: &Key) -> Option<Arc<RunawaySettings>> {
        let tenant = tenant_of(key).and_then(|name| self.configured.get(name)).map(|tenant| &tenant.config.guards);
        let group = key.record.group.as_ref().and_then(|group| self.guards_of_groups.get(group));
        let of_others = match (tenant, group) {
            (Some(tenant), Some(group)) => tenant.below(group).settings(),
            (Some(tenant), None) => tenant.in_force.settings(),
            (None, group) => group.unwrap_or(&self.guards).settings(),
        };
        let guards = key.record.guards(of_others);
        (guards != self.guards.settings()).then(|| Arc::new(guards))
    }

    /// The tenants with limits of their own, for the status page.
    pub(crate) fn gates(&self) -> impl Iterator<Item = (&str, &AdmissionGate)> {
        self.configured.values().filter_map(|tenant| Some((&*tenant.name, &**tenant.gate.as_ref()?)))
    }
}

/// The tenant that a key names; without one its group is it.
fn tenant_of(key: &Key) -> Option<&str> {
    key.record.tenant.as_deref().or(key.record.group.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::keys::record::KeyRecord;
    use crate::keys::record::tests::record;
    use crate::keys::table::KeyTable;
    use http::{HeaderName, HeaderValue};
    use std::path::Path;

    fn callers() -> Callers {
        let text = "[tenants.batch]\nweight = 3\npriority = \"normal\"\nmax_in_flight = 2\n[tenants.shop]\n";
        let config = parse(text, Path::new("")).expect("valid");
        Callers::new(&config, FingerprintKey::from_bytes([1; 32]), Clock::start(), None)
    }

    fn caller(pairs: &[(&'static str, &'static str)]) -> Caller {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        callers().identify(&headers, "", Rights::default())
    }

    #[test]
    fn a_configured_tenant_has_its_weight_its_limits_and_its_priority() {
        let batch = caller(&[(TENANT_HEADER, "batch")]);
        assert_eq!((batch.tenant.weight, batch.priority, batch.gate.is_some()), (3, Priority::Normal, true));
        let shop = caller(&[(TENANT_HEADER, "shop")]);
        assert_eq!((shop.tenant.weight, shop.priority, shop.gate.is_some()), (1, Priority::Normal, false));
        assert_ne!(batch.tenant.id, shop.tenant.id);
    }

    #[test]
    fn a_request_may_ask_for_less_than_its_tenants_priority_and_not_for_more() {
        let of = |tenant, priority| caller(&[(TENANT_HEADER, tenant), (PRIORITY_HEADER, priority)]).priority;
        assert_eq!(of("batch", "low"), Priority::Low);
        assert_eq!(of("batch", "high"), Priority::Normal);
        assert_eq!(of("shop", "High"), Priority::High);
        assert_eq!(of("unknown", "high"), Priority::High);
        assert_eq!(of("unknown", "urgent"), Priority::Normal);
    }

    #[test]
    fn whoever_names_no_tenant_is_known_by_its_credential() {
        let with = |key| caller(&[("authorization", key)]).tenant.id;
        assert_eq!(with("Bearer one"), with("Bearer one"));
        assert_ne!(with("Bearer one"), with("Bearer two"));
        let named = caller(&[("authorization", "Bearer one"), (TENANT_HEADER, "elsewhere")]);
        assert_ne!(named.tenant.id, with("Bearer one"));
        assert_eq!(named.name.as_deref(), Some("elsewhere"));
    }

    #[test]
    fn whoever_shows_a_key_is_of_the_keys_tenant_and_no_more_important_than_that() {
        let table = KeyTable::default();
        let text = |text: &str| Some(text.to_owned());
        table.replace(vec![
            record("k_1", "one"),
            KeyRecord { name: text("two"), ..record("k_2", "two") },
            KeyRecord { group: text("batch"), priority: text("high"), ..record("k_3", "three") },
            KeyRecord { group: text("batch"), tenant: text("shop"), priority: text("low"), ..record("k_4", "four") },
            KeyRecord { group: text("elsewhere"), ..record("k_5", "five") },
        ]);
        let callers = callers();
        let with = |id, priority| {
            let mut headers = HeaderMap::new();
            headers.insert(TENANT_HEADER, HeaderValue::from_static("batch"));
            headers.insert(PRIORITY_HEADER, HeaderValue::from_static(priority));
            let key = table.of_id(id, 0).expect("a key");
            callers.identify(&headers, "", Rights { may_spend: true, key: Some(key) })
        };
        for (id, asks, name, priority, has_gate) in [
            ("k_1", "high", "k_1", Priority::High, false),
            ("k_1", "unsaid", "k_1", Priority::Normal, false),
            ("k_2", "low", "two", Priority::Low, false),
            ("k_3", "high", "batch", Priority::Normal, true),
            ("k_3", "unsaid", "batch", Priority::Normal, true),
            ("k_4", "high", "shop", Priority::Low, false),
            ("k_4", "unsaid", "shop", Priority::Low, false),
            ("k_5", "high", "elsewhere", Priority::High, false),
        ] {
            let caller = with(id, asks);
            assert_eq!((caller.name.as_deref(), caller.priority), (Some(name), priority), "{id} asks for {asks}");
            assert_eq!((caller.gate.is_some(), caller.may_spend), (has_gate, true), "{id}");
        }
        assert_ne!(with("k_1", "low").tenant.id, with("k_2", "low").tenant.id);
    }

    #[test]
    fn a_caller_has_the_share_of_places_of_its_keys_group_or_else_of_its_tenants() {
        let text = "[groups.search]\nreserved_share = 0.3\n[groups.ads]\nparent = \"search\"\n[groups.chat]\n\
                    [tenants.crawler]\ngroup = \"ads\"\n[tenants.chatter]\ngroup = \"chat\"\n";
        let config = parse(text, Path::new("")).expect("valid");
        // No ledger is kept here.
        let callers = Callers::new(&config, FingerprintKey::from_bytes([1; 32]), Clock::start(), None);
        let table = KeyTable::default();
        let text = |text: &str| Some(text.to_owned());
        table.replace(vec![
            KeyRecord { group: text("ads"), ..record("k_1", "one") },
            KeyRecord { tenant: text("crawler"), ..record("k_2", "two") },
        ]);
        for (id, tenant, has_share) in [
            (Some("k_1"), "", true),
            (Some("k_2"), "", false),
            (None, "crawler", true),
            (None, "chatter", false),
            (None, "nobody", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TENANT_HEADER, HeaderValue::from_str(tenant).expect("a header"));
            let key = id.map(|id| table.of_id(id, 0).expect("a key"));
            let caller = callers.identify(&headers, "", Rights { may_spend: true, key });
            assert_eq!(caller.group.is_some(), has_share, "{id:?} {tenant}");
        }
    }

    #[test]
    fn where_keys_are_demanded_nobody_says_which_tenant_he_is() {
        let text = "[keys]\nrequired = true\n[tenants.batch]\nmax_in_flight = 2\n";
        let config = parse(text, Path::new("")).expect("valid");
        let callers = Callers::new(&config, FingerprintKey::from_bytes([1; 32]), Clock::start(), None);
        let mut headers = HeaderMap::new();
        headers.insert(TENANT_HEADER, HeaderValue::from_static("batch"));
        let caller = callers.identify(&headers, "", Rights { may_spend: true, key: None });
        assert_eq!((caller.name, caller.gate.is_some()), (None, false));
    }
}
