//! Routes at run time: which requests each takes, who may serve them there, and where conversations are.

use crate::config::{Config, RouteConfig, TargetConfig, UpstreamConfig};
use crate::dialect::{Dialect, Operation, conversation, kept};
use crate::observe::metrics::{Metrics, RouteMetrics};
use crate::proxy::makers::{Maker, Makers};
use crate::proxy::request::InboundRequest;
use crate::runtime::clock::{Clock, random};
use crate::runtime::fingerprint::FingerprintKey;
use crate::runtime::sync::lock;
use crate::upstream::Upstream;
use crate::upstream::keys::Key;
use crate::upstream::scope::Subject;
use spillway_resilience::{Affinity, AffinitySettings, ChainSettings, Place, Standing, Timestamp, order};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// So many requests in a row that a target has refused and another has taken are no chance: the others come first, until
/// it serves one again.
const REFUSALS_MAX: u32 = 3;

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

/// A target with one of its keys.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// 0 for those who are asked first.
    pub rank: u32,
    weight: u32,
    pub upstream: Arc<Upstream>,
    /// The model that is asked for there; `None` is the caller's own.
    pub model: Option<Arc<str>>,
    /// Which of its upstream's keys it spends, if that has any.
    key: Option<usize>,
    /// Most tokens that a prompt and its answer can have together there.
    pub context_tokens: Option<u64>,
    /// Whether its answers are less than what was asked for.
    pub degraded: bool,
    /// As it is called in the configuration.
    pub label: Arc<str>,
    /// What it shares with others, and what not.
    pub place: Place,
    tokens_in_flight: Arc<AtomicU64>,
    /// Requests since the last one it served that it has refused and another has taken.
    refused_in_a_row: AtomicU32,
}

/// How a candidate stands, for whoever looks at it.
pub(crate) struct CandidateLook {
    pub label: Arc<str>,
    pub rank: u32,
    pub weight: u32,
    /// The name of the variable or file that holds its key.
    pub key: Option<Arc<str>>,
    pub degraded: bool,
    pub tokens_in_flight: u64,
    pub conversations: u64,
    pub served_share: f64,
}

impl Candidate {
    /// The key that it spends; `None` where its upstream has none of its own.
    pub(crate) fn key(&self) -> Option<Arc<Key>> {
        self.upstream.keys.current().get(self.key?).cloned()
    }

    /// Whether it is sent the credential that the caller has shown: it was meant for those who are asked first.
    pub(crate) fn takes_callers_credential(&self) -> bool {
        self.key.is_none() && self.rank == 0
    }

    /// What a request would have in flight there.
    pub(crate) fn in_flight(&self) -> TokensInFlight {
        TokensInFlight { of: Arc::clone(&self.tokens_in_flight), tokens: Cell::new(0) }
    }

    /// Whether a request has no room in its context, as far as that is known: its prompt, and the answer that it wants.
    pub(crate) fn is_too_small_for(&self, request: &InboundRequest) -> bool {
        // Several answers or prompts have a context each, and are too different to be told apart here.
        let is_one = request.parameters.alternatives <= 1 && request.parameters.prompts <= 1;
        let output = request.parameters.output_tokens_max.filter(|_| is_one).unwrap_or(0);
        self.context_tokens.is_some_and(|context| request.input_tokens.saturating_add(output) > context)
    }
}

/// What one request has in flight at a candidate: nothing, until it is called.
#[derive(Debug)]
pub(crate) struct TokensInFlight {
    of: Arc<AtomicU64>,
    tokens: Cell<u64>,
}

impl TokensInFlight {
    /// It is so many from here on.
    pub(crate) fn set(&self, tokens: u64) {
        self.of.fetch_add(tokens, Ordering::Relaxed);
        self.of.fetch_sub(self.tokens.replace(tokens), Ordering::Relaxed);
    }
}

impl Drop for TokensInFlight {
    fn drop(&mut self) {
        self.set(0);
    }
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
            candidate.refused_in_a_row.store(0, Ordering::Relaxed);
        }
        for candidate in refused_at.iter().filter_map(|position| self.candidate(*position)) {
            candidate.refused_in_a_row.fetch_add(1, Ordering::Relaxed);
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
        let mut candidates: Vec<Candidate> = Vec::new();
        for (rank, equals) in config.targets.0.iter().enumerate() {
            // A target's weight is shared by its keys, so that it weighs the same however many it has.
            let keys = equals.iter().filter_map(|target| upstreams.get(&target.upstream)).map(key_count);
            let shares = keys.fold(1, least_common_multiple);
            for target in equals {
                // The configuration was checked: every upstream is there.
                let Some(upstream) = upstreams.get(&target.upstream) else { continue };
                let share = target.weight * shares / key_count(upstream);
                candidates.extend(candidates_of(target, rank, share, upstream, upstreams, &config.targets));
            }
        }
        // Shares keep their proportions where the largest would be too large.
        let heaviest = candidates.iter().map(|candidate| candidate.weight).max().unwrap_or(1);
        let weight_max = spillway_resilience::Candidate::WEIGHT_MAX;
        if heaviest > weight_max {
            for candidate in &mut candidates {
                let scaled = u64::from(candidate.weight) * u64::from(weight_max) / u64::from(heaviest);
                candidate.weight = u32::try_from(scaled).unwrap_or(weight_max).max(1);
            }
        }
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
    pub(crate) fn spends_keys(&self) -> bool {
        self.candidates.iter().any(|candidate| candidate.key.is_some())
    }

    /// Where it is remembered who has made what, if there is more than one who could.
    pub(crate) fn makers(&self) -> Option<&Arc<Makers>> {
        (self.name.is_some() || self.candidates.len() > 1).then_some(&self.makers)
    }

    /// How its candidates stand.
    pub(crate) fn look(&self) -> Vec<CandidateLook> {
        let affinity = lock(&self.affinity);
        let look = |(index, candidate): (usize, &Candidate)| {
            let key = candidate.key();
            let model = candidate.model.as_deref();
            let subject = Subject { model, credential: key.as_ref().map_or(0, |key| key.fingerprint) };
            CandidateLook {
                label: Arc::clone(&candidate.label),
                rank: candidate.rank,
                weight: candidate.weight,
                key: key.map(|key| Arc::clone(&key.name)),
                degraded: candidate.degraded,
                tokens_in_flight: candidate.tokens_in_flight.load(Ordering::Relaxed),
                conversations: affinity.conversations(index),
                served_share: candidate.upstream.circuits.served_share(subject),
            }
        };
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
            let look = |(index, candidate): (usize, &Candidate)| candidate.look(request, affinity.conversations(index));
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

impl Candidate {
    /// By what a call of a request there is told from others.
    fn subject<'a>(&'a self, request: &'a InboundRequest) -> Subject<'a> {
        let credential = match self.key() {
            Some(key) => key.fingerprint,
            None if self.takes_callers_credential() => request.caller.credential,
            None => 0,
        };
        Subject { model: self.model.as_deref().or(request.parameters.model.as_deref()), credential }
    }

    /// Whether a circuit keeps the request from it.
    pub(crate) fn is_shut(&self, request: &InboundRequest) -> bool {
        self.upstream.circuits.call_blocked_until(self.subject(request)).is_some()
    }

    /// What matters of it for the order.
    fn look(&self, request: &InboundRequest, conversations: u64) -> spillway_resilience::Candidate {
        let subject = self.subject(request);
        spillway_resilience::Candidate {
            rank: self.rank,
            weight: self.weight,
            tokens_in_flight: self.tokens_in_flight.load(Ordering::Relaxed),
            conversations,
            standing: match self.refused_in_a_row.load(Ordering::Relaxed) {
                // Whatever it refuses there: a key, a model or a parameter, it serves as few as one that fails.
                REFUSALS_MAX.. => Standing { served_share: 0.0, doublings: 0 },
                _ => self.upstream.circuits.standing(subject),
            },
            is_degraded: self.degraded,
        }
    }
}

/// As how many candidates a target at this upstream stands.
fn key_count(upstream: &Arc<Upstream>) -> u32 {
    u32::try_from(upstream.keys.current().len()).unwrap_or(u32::MAX).max(1)
}

fn least_common_multiple(one: u32, other: u32) -> u32 {
    let (mut divisor, mut rest) = (one, other);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    // Beyond what weights can be, shares need not be exact.
    (one / divisor).saturating_mul(other).min(spillway_resilience::Candidate::WEIGHT_MAX)
}

/// A target, once for each of its keys.
fn candidates_of(
    target: &TargetConfig,
    rank: usize,
    weight: u32,
    upstream: &Arc<Upstream>,
    upstreams: &BTreeMap<String, Arc<Upstream>>,
    all: &crate::config::Ranks,
) -> Vec<Candidate> {
    let keys: Vec<Option<usize>> = match upstream.keys.current().len() {
        0 => vec![None],
        count => (0..count).map(Some).collect(),
    };
    let model_index = all.targets().position(|other| other.model == target.model);
    let candidate = |key| Candidate {
        rank: u32::try_from(rank).unwrap_or(u32::MAX),
        weight,
        upstream: Arc::clone(upstream),
        model: target.model.as_deref().map(Arc::from),
        key,
        context_tokens: target.context_tokens.or(upstream.config.limits.context_tokens),
        degraded: target.degraded,
        label: Arc::from(target.to_string()),
        place: Place {
            upstream: upstreams.keys().position(|name| *name == target.upstream).unwrap_or_default(),
            model: model_index.unwrap_or_default(),
            key: key.unwrap_or_default(),
        },
        tokens_in_flight: Arc::default(),
        refused_in_a_row: AtomicU32::new(0),
    };
    keys.into_iter().map(candidate).collect()
}
