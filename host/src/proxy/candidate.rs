//! A target of a route with one of its keys, and how it stands.

use crate::config::{Ranks, TargetConfig};
use crate::proxy::request::InboundRequest;
use crate::upstream::Upstream;
use crate::upstream::keys::Key;
use crate::upstream::scope::Subject;
use spillway_resilience::{Place, Standing};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// So many requests in a row that a target has refused and another has taken are no chance: the others come first, until
/// it serves one again.
const REFUSALS_MAX: u32 = 3;

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
        let input = self.upstream.estimates.parts(&request.input).total();
        self.context_tokens.is_some_and(|context| input.saturating_add(output) > context)
    }

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
    pub(super) fn in_order(&self, request: &InboundRequest, conversations: u64) -> spillway_resilience::Candidate {
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

    /// Whether it spends a key of its upstream's.
    pub(super) fn spends_a_key(&self) -> bool {
        self.key.is_some()
    }

    /// It has served a request.
    pub(super) fn has_served(&self) {
        self.refused_in_a_row.store(0, Ordering::Relaxed);
    }

    /// It has refused a request that another has taken.
    pub(super) fn has_refused(&self) {
        self.refused_in_a_row.fetch_add(1, Ordering::Relaxed);
    }

    /// How it stands.
    pub(super) fn look(&self, conversations: u64) -> CandidateLook {
        let key = self.key();
        let subject =
            Subject { model: self.model.as_deref(), credential: key.as_ref().map_or(0, |key| key.fingerprint) };
        CandidateLook {
            label: Arc::clone(&self.label),
            rank: self.rank,
            weight: self.weight,
            key: key.map(|key| Arc::clone(&key.name)),
            degraded: self.degraded,
            tokens_in_flight: self.tokens_in_flight.load(Ordering::Relaxed),
            conversations,
            served_share: self.upstream.circuits.served_share(subject),
        }
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

/// All targets of a route, once for each of their keys.
pub(super) fn all_of(targets: &Ranks, upstreams: &BTreeMap<String, Arc<Upstream>>) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::new();
    for (rank, equals) in targets.0.iter().enumerate() {
        // A target's weight is shared by its keys, so that it weighs the same however many it has.
        let keys = equals.iter().filter_map(|target| upstreams.get(&target.upstream)).map(key_count);
        let shares = keys.fold(1, least_common_multiple);
        for target in equals {
            // The configuration was checked: every upstream is there.
            let Some(upstream) = upstreams.get(&target.upstream) else { continue };
            let share = target.weight * shares / key_count(upstream);
            candidates.extend(candidates_of(target, rank, share, upstream, upstreams, targets));
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
    candidates
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
    all: &Ranks,
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
