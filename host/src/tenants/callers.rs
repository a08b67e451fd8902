//! Who calls: the tenant whose share and limits a request counts against, its priority, and its credential.

use crate::config::{Config, Quota, TenantConfig};
use crate::dialect::headers::{self, PRIORITY_HEADER, TENANT_HEADER};
use crate::ledger::{Ledger, Payer};
use crate::runtime::clock::Clock;
use crate::runtime::fingerprint::FingerprintKey;
use crate::upstream::gate::AdmissionGate;
use crate::upstream::limiter;
use http::HeaderMap;
use spillway_resilience::{
    AdaptiveLimitSettings, AdmissionQueue, Bulkhead, Concurrency, FairQueueSettings, Priority, Tenant,
};
use std::collections::BTreeMap;
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
    /// Whether it may spend the keys that Spillway has: it has shown the access key, or come through the Unix socket.
    pub may_spend: bool,
    /// The way past its tenant's own limits, when it has any.
    pub gate: Option<Arc<AdmissionGate>>,
    /// From whose purse it is paid, where a ledger is kept.
    pub payer: Option<Arc<Payer>>,
}

impl Caller {
    /// A conversation of this caller's tenant as a number: two tenants that name theirs alike have two.
    pub(crate) fn of_conversation(&self, conversation: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.tenant.id, conversation).hash(&mut hasher);
        hasher.finish()
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
}

#[derive(Debug)]
struct Configured {
    name: Arc<str>,
    config: TenantConfig,
    tenant: Tenant,
    gate: Option<Arc<AdmissionGate>>,
    payer: Option<Arc<Payer>>,
}

impl Callers {
    /// The tenants of a configuration.
    pub(crate) fn new(config: &Config, key: FingerprintKey, clock: Clock, ledger: Option<Arc<Ledger>>) -> Self {
        let everybody = ledger.as_ref().map(|ledger| Arc::clone(ledger.accounts.everybody()));
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
            (name.clone(), Configured { name: Arc::from(name.as_str()), config: config.clone(), tenant, gate, payer })
        });
        let configured = configured.collect();
        Callers { key, configured, everybody }
    }

    /// Who made a request with these headers and this query, and may spend Spillway's keys or not.
    ///
    /// A tenant's configured priority is also the highest that its requests may ask for.
    pub(crate) fn identify(&self, headers: &HeaderMap, query: &str, may_spend: bool) -> Caller {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let credential = self.key.of_credential(headers::credential(headers, query));
        let asked = text(PRIORITY_HEADER)
            .and_then(|word| Priority::ALL.into_iter().find(|priority| priority.as_str().eq_ignore_ascii_case(word)));
        let Some(name) = text(TENANT_HEADER).filter(|name| !name.is_empty()) else {
            let tenant = Tenant::new(credential);
            let priority = asked.unwrap_or_default();
            let payer = self.everybody.clone();
            return Caller { tenant, name: None, priority, credential, may_spend, gate: None, payer };
        };
        match self.configured.get(name) {
            Some(Configured { name, config, tenant, gate, payer }) => {
                let highest = config.priority.unwrap_or(Priority::High);
                Caller {
                    tenant: *tenant,
                    name: Some(Arc::clone(name)),
                    priority: asked.or(config.priority).unwrap_or_default().max(highest),
                    credential,
                    may_spend,
                    gate: gate.clone(),
                    payer: payer.clone(),
                }
            }
            None => {
                // Header values that are text are ASCII, so any byte is a boundary.
                let name: &str = name.get(..NAME_BYTES_MAX).unwrap_or(name);
                Caller {
                    tenant: Tenant::new(self.key.of_tenant(name)),
                    name: Some(Arc::from(name)),
                    priority: asked.unwrap_or_default(),
                    credential,
                    may_spend,
                    gate: None,
                    payer: self.everybody.clone(),
                }
            }
        }
    }

    /// The tenants with limits of their own, for the status page.
    pub(crate) fn gates(&self) -> impl Iterator<Item = (&str, &AdmissionGate)> {
        self.configured.values().filter_map(|tenant| Some((&*tenant.name, &**tenant.gate.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
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
        callers().identify(&headers, "", false)
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
}
