//! Routes at run time: which requests each takes, who may serve them there, and where conversations are.

use crate::config::{Config, RouteConfig, UpstreamConfig};
use crate::dialect::{Dialect, Operation, conversation, kept};
use crate::observe::metrics::{Metrics, RouteMetrics};
use crate::proxy::candidate::{self, Candidate, CandidateLook};
use crate::proxy::makers::{Maker, Makers};
use crate::proxy::request::InboundRequest;
use crate::runtime::clock::{Clock, random};
use crate::runtime::fingerprint::FingerprintKey;
use crate::runtime::sync::lock;
use crate::tenants::callers::Caller;
use crate::upstream::Upstream;
use spillway_resilience::{Affinity, AffinitySettings, ChainSettings, Timestamp, order};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// All routes, in the order in which they take requests.
#[derive(Debug)]
pub(crate) struct Chains {
    routes: Vec<Arc<Chain>>,
    /// Upstreams with keys of their own, each as a chain of these.
    own: BTreeMap<Arc<str>, Arc<Chain>>,
    /// Who has made what a later request may name.
    makers: Arc<Makers>,
}

impl Chains {
    pub(crate) fn new(
        config: &Config,
        upstreams: &BTreeMap<String, Arc<Upstream>>,
        metrics: &Metrics,
        key: FingerprintKey,
        clock: Clock,
    ) -> Chains {
        let names = upstreams.values().map(|upstream| Arc::clone(&upstream.name));
        let makers = Arc::new(Makers::new(key, names, clock));
        let chain = |name: Option<&str>, config: &RouteConfig| {
            let metrics = metrics.route(name.unwrap_or_default());
            Arc::new(Chain::new(name, config, upstreams, Arc::clone(&makers), metrics, clock))
        };
        let with_keys = upstreams.values().filter(|upstream| upstream.config.has_keys());
        let alone = |upstream: &Arc<Upstream>| {
            let name = Arc::clone(&upstream.name);
            (name, chain(None, &RouteConfig::to_one(&upstream.name)))
        };
        Chains {
            routes: config.routes.iter().map(|(name, config)| chain(Some(name), config)).collect(),
            own: with_keys.map(alone).collect(),
            makers,
        }
    }

    /// Who serves a request in which order; `None` for the upstream alone that its line asks for, with the caller's own
    /// credential.
    pub(crate) fn plan(&self, request: &InboundRequest, upstream: &Upstream) -> Option<Plan> {
        if self.routes.is_empty() && self.own.is_empty() {
            return None;
        }
        // A path that names another upstream than the API's own asks for that one.
        if *upstream.name == *request.dialect.as_str() {
            let takes = self.routes.iter().find(|chain| chain.takes(request));
            if let Some(plan) = takes.map(|chain| chain.plan(request)).or_else(|| self.of_maker(request)) {
                return Some(plan);
            }
        }
        let own = self.own.get(&upstream.name).filter(|_| request.caller.may_spend);
        own.map(|own| own.plan(request))
    }

    /// Who serves a request along a route that would not take it by itself.
    ///
    /// # Errors
    /// Why nobody can.
    pub(crate) fn plan_along(&self, route: &str, request: &InboundRequest) -> Result<Plan, &'static str> {
        let chain = self.routes.iter().find(|chain| chain.name.as_deref() == Some(route));
        let chain = chain.ok_or("there is no such route")?;
        if chain.dialect != request.dialect {
            return Err("its targets speak another API");
        }
        if !chain.is_open_to(&request.caller) {
            return Err("its caller may not spend the keys of its targets");
        }
        let body = request.readable();
        let references = kept::references(request.dialect, request.path(), body.as_deref().unwrap_or_default());
        let maker = references.iter().rev().find_map(|reference| self.makers.of(reference));
        let serves_there = maker.and_then(|maker| chain.at(&maker, request.parameters.model.as_deref())).is_some();
        if !references.is_empty() && !serves_there {
            return Err("it names what lives at a provider that is not one of its targets");
        }
        Ok(chain.plan(request))
    }

    /// Where what the path of a request is about was made, if some route has made it.
    fn of_maker(&self, request: &InboundRequest) -> Option<Plan> {
        if request.operation == Operation::Generate {
            return None;
        }
        let references = kept::references(request.dialect, request.path(), b"");
        let maker = references.iter().rev().find_map(|reference| self.makers.of(reference))?;
        // Who may use it is asked of the strictest of those routes that could have made it.
        let (open, closed): (Vec<_>, Vec<_>) = self.routes.iter().partition(|chain| chain.config.open_to_local);
        closed.into_iter().chain(open).find_map(|chain| Some(chain.only(chain.at(&maker, None)?, None)))
    }

    /// Where it is remembered who has made what. Where there is no route, nobody but one can have.
    pub(crate) fn makers(&self) -> Option<&Arc<Makers>> {
        (!self.routes.is_empty()).then_some(&self.makers)
    }

    /// Whether a request may have to be sent to whoever has made what it names. Where nobody but one can have made
    /// anything, nothing needs to be remembered.
    pub(crate) fn need_makers(config: &Config) -> bool {
        let has_several_keys = |upstream: &UpstreamConfig| upstream.api_keys().nth(1).is_some();
        config.routes.iter().next().is_some() || config.upstreams.values().any(has_several_keys)
    }

    /// All that is remembered of who has made what.
    pub(crate) fn all_makers(&self) -> &Arc<Makers> {
        &self.makers
    }

    /// When whoever may serve what goes to this upstream otherwise could be called; `None` for now.
    pub(crate) fn blocked_until(&self, upstream: &Upstream) -> Option<Timestamp> {
        let own = upstream.circuits.blocked_until()?;
        let chains = self.routes.iter().filter(|chain| *upstream.name == *chain.dialect.as_str());
        let others = chains.flat_map(|chain| &chain.candidates);
        others.map(|candidate| candidate.upstream.circuits.blocked_until()).chain([Some(own)]).min().flatten()
    }

    pub(crate) fn routes(&self) -> impl Iterator<Item = &Arc<Chain>> {
        self.routes.iter()
    }
}

/// One route.
#[derive(Debug)]
pub(crate) struct Chain {
    /// Its name; without one, it is not a route's but an upstream alone, with several keys perhaps.
    pub name: Option<Arc<str>>,
    pub config: RouteConfig,
    /// The API that all of its targets speak.
    dialect: Dialect,
    /// Who may serve, those first that are asked first. A target stands here once for each of its keys.
    candidates: Vec<Candidate>,
    /// Whether there are equals among them, between whom conversations are told apart.
    has_equals: bool,
    affinity: Mutex<Affinity>,
    makers: Arc<Makers>,
    pub metrics: RouteMetrics,
    clock: Clock,
}

/// In which order the candidates of a chain are asked for one request.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub chain: Arc<Chain>,
    /// Never empty.
    order: Vec<usize>,
    /// By which its conversation is known.
    conversation: Option<u64>,
    /// Who would be asked if all were well.
    preferred: usize,
}

impl Plan {
    /// Who is asked as the so-many-th.
    pub(crate) fn candidate(&self, position: usize) -> Option<&Candidate> {
        self.chain.candidates.get(*self.order.get(position)?)
    }

    /// How many may serve it.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether nobody but the first may serve it.
    pub(crate) fn is_bound(&self) -> bool {
        self.order.len() == 1
    }

    /// Whom this one stands in for, if it is not who would be asked if all were well.
    pub(crate) fn falls_back_from(&self, position: usize) -> Option<&Arc<str>> {
        let (preferred, serves) = (&self.chain.candidates[self.preferred], self.candidate(position)?);
        (serves.rank > preferred.rank || serves.label != preferred.label && position > 0).then_some(&preferred.label)
    }

    /// The request is sent there: its conversation stays, unless another one serves it in the end.
    pub(crate) fn sent_to(&self, position: usize) {
        if let (Some(conversation), Some(candidate)) = (self.conversation, self.order.get(position)) {
            lock(&self.chain.affinity).served(conversation, *candidate, self.chain.clock.now());
        }
    }

    /// The request was served there, after these had refused what that one took.
    pub(crate) fn served_at(&self, position: usize, refused_at: &[usize]) {
        if let Some(candidate) = self.candidate(position) {
            candidate.has_served();
        }
        for candidate in refused_at.iter().filter_map(|position| self.candidate(*position)) {
            candidate.has_refused();
        }
    }
}

impl Chain {
    fn new(
        name: Option<&str>,
        config: &RouteConfig,
        upstreams: &BTreeMap<String, Arc<Upstream>>,
        makers: Arc<Makers>,
        metrics: RouteMetrics,
        clock: Clock,
    ) -> Chain {
        let candidates = candidate::all_of(&config.targets, upstreams);
        let has_equals = candidates.windows(2).any(|two| two[0].rank == two[1].rank);
        let affinity = AffinitySettings { ttl: config.affinity_ttl, ..AffinitySettings::default() };
        Chain {
            name: name.map(Arc::from),
            dialect: candidates.first().map_or(Dialect::Other, |first| first.upstream.config.dialect),
            config: config.clone(),
            candidates,
            has_equals,
            affinity: Mutex::new(Affinity::new(affinity)),
            makers,
            metrics,
            clock,
        }
    }

    /// Whether a request is as the route says.
    fn takes(&self, request: &InboundRequest) -> bool {
        let RouteConfig { path, model, tenant, headers, .. } = &self.config;
        let any = |patterns: &[crate::config::Pattern], text: Option<&str>| {
            patterns.is_empty() || text.is_some_and(|text| patterns.iter().any(|pattern| pattern.fits(text)))
        };
        let header = |name| request.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        // What does not generate names no model, and is for those routes that take any.
        self.dialect == request.dialect
            && (request.operation == Operation::Generate || model.is_empty())
            && any(model, request.parameters.model.as_deref())
            && any(tenant, request.caller.name.as_deref())
            && (path.is_empty() || any(path, Some(&self.dialect.canonical_path(request.path(), true))))
            && headers.iter().all(|wanted| header(&wanted.name).any(|value| wanted.value.fits(value)))
    }

    /// What bounds its fallbacks.
    pub(crate) fn settings(&self) -> ChainSettings {
        self.config.chain()
    }

    /// Whether whoever is served by it spends keys that are not his own.
    fn spends_keys(&self) -> bool {
        self.candidates.iter().any(Candidate::spends_a_key)
    }

    /// Whether it may serve this caller: its own credential is spent, or he may spend what is.
    pub(crate) fn is_open_to(&self, caller: &Caller) -> bool {
        !self.spends_keys() || self.config.open_to_local || caller.may_spend
    }

    /// Where it is remembered who has made what, if there is more than one who could.
    pub(crate) fn makers(&self) -> Option<&Arc<Makers>> {
        (self.name.is_some() || self.candidates.len() > 1).then_some(&self.makers)
    }

    /// How its candidates stand.
    pub(crate) fn look(&self) -> Vec<CandidateLook> {
        let affinity = lock(&self.affinity);
        let look = |(index, candidate): (usize, &Candidate)| candidate.look(affinity.conversations(index));
        self.candidates.iter().enumerate().map(look).collect()
    }

    /// This candidate and no other.
    fn only(self: &Arc<Self>, candidate: usize, conversation: Option<u64>) -> Plan {
        Plan { chain: Arc::clone(self), order: vec![candidate], conversation, preferred: candidate }
    }

    /// In which order its candidates are asked for a request.
    fn plan(self: &Arc<Self>, request: &InboundRequest) -> Plan {
        if self.candidates.len() <= 1 {
            return self.only(0, None);
        }
        let readable = request.readable();
        let body = readable.as_deref().unwrap_or_default();
        let conversation = (self.has_equals && self.config.affinity)
            .then(|| conversation::conversation(request.dialect, request.path(), &request.headers, body))
            .flatten()
            .map(|hash| request.caller.of_conversation(&hash));
        let pinned = conversation.and_then(|known| lock(&self.affinity).pinned(known, self.clock.now()));

        // What lives at a provider is known to its maker alone.
        let references = kept::references(request.dialect, request.path(), body);
        if !references.is_empty() {
            let maker = references.iter().rev().find_map(|reference| self.makers.of(reference));
            return self.only(
                maker.and_then(|maker| self.at(&maker, request.parameters.model.as_deref())).or(pinned).unwrap_or(0),
                conversation,
            );
        }
        let candidates: Vec<spillway_resilience::Candidate> = {
            let affinity = lock(&self.affinity);
            let look =
                |(index, candidate): (usize, &Candidate)| candidate.in_order(request, affinity.conversations(index));
            self.candidates.iter().enumerate().map(look).collect()
        };
        let mut order = order(&candidates, pinned, random());
        if request.operation != Operation::Generate {
            // Whatever it does, elsewhere it would be done to something else: only the keys of the first target change.
            let first = &self.candidates[0].label;
            order.retain(|index| self.candidates[*index].label == *first);
        }
        let preferred = order.iter().copied().min_by_key(|index| self.candidates[*index].rank).unwrap_or(0);
        Plan { chain: Arc::clone(self), order, conversation, preferred }
    }

    /// The candidate that has made something; else one at the same upstream, with the same key if there is one, since
    /// keys and models are replaced.
    fn at(&self, maker: &Maker, asked: Option<&str>) -> Option<usize> {
        let is_there = |candidate: &Candidate| *candidate.upstream.name == *maker.upstream;
        let had_key = |candidate: &Candidate| candidate.key().is_none_or(|key| key.fingerprint == maker.credential);
        let had_model = |candidate: &Candidate| self.makers.model(candidate.model.as_deref().or(asked)) == maker.model;
        let find = |fits: &dyn Fn(&Candidate) -> bool| {
            self.candidates.iter().position(|candidate| is_there(candidate) && fits(candidate))
        };
        find(&|candidate| had_key(candidate) && had_model(candidate))
            .or_else(|| find(&had_key))
            .or_else(|| find(&|_| true))
    }
}
