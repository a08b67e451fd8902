//! Who may serve a request, and what each of them is sent.

use crate::dialect::estimate::Estimate;
use crate::dialect::signature::Signature;
use crate::dialect::{Operation, compression, headers, kept, upgrade, with_model};
use crate::observe::metrics::About;
use crate::observe::recording::Arrival;
use crate::proxy::app::App;
use crate::proxy::candidate::{Candidate, TokensInFlight};
use crate::proxy::chain::{Chains, Plan};
use crate::proxy::makers::{Maker, Makers};
use crate::proxy::permission;
use crate::proxy::refusal::{Refusal, RefusalKind};
use crate::proxy::request::{InboundBody, InboundRequest, READABLE_BYTES_MAX};
use crate::runtime::clock::{milliseconds, wall_unix_ms};
use crate::upstream::Upstream;
use crate::upstream::keys::Key;
use crate::upstream::returns::Likeness;
use crate::upstream::scope::Subject;
use bytes::Bytes;
use http::{HeaderMap, Method, header};
use spillway_resilience::{Demand, Place};
use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// By which a provider that honours it knows a request again: draft-ietf-httpapi-idempotency-key-header.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Those who may serve a request, in the order in which they are asked.
#[derive(Clone, Debug)]
pub(crate) struct Targets {
    first: Rc<Target>,
    /// The others, where a route says who they are.
    plan: Option<Rc<Plan>>,
    asked: Arc<Upstream>,
}

impl Targets {
    /// Those of the route that takes the request, or else the upstream alone that its line asks for.
    ///
    /// # Errors
    /// When none of them can be asked for the request, or its caller may not spend what it would cost, or has shown a key
    /// that is for something else.
    pub(crate) async fn find(
        app: &App,
        mut request: InboundRequest,
        upstream: Arc<Upstream>,
    ) -> Result<Targets, Refusal> {
        let (chains, asked) = (&app.chains, Arc::clone(&upstream));
        let plan = chains.plan(&request, &upstream);
        let route = plan.as_ref().and_then(|plan| plan.chain.name.as_deref());
        permission::check(&request, route.unwrap_or(&asked.name))?;
        let Some(plan) = plan else {
            app.counting.count(&mut request, &upstream).await;
            let mut target = Target::of(Rc::new(request), upstream)?;
            target.makers = chains.makers().cloned();
            return Ok(Targets { first: Rc::new(target), plan: None, asked });
        };
        let chain = &plan.chain;
        if !chain.is_open_to(&request.caller) {
            let route = chain.name.as_deref().unwrap_or(&asked.name).to_owned();
            return Err(RefusalKind::AccessRequired { route }.into());
        }
        for candidate in (0..plan.len()).filter_map(|position| plan.candidate(position)) {
            app.counting.count(&mut request, &candidate.upstream).await;
        }
        let plan = Rc::new(plan);
        Ok(Targets { first: Rc::new(Target::on(&plan, 0, Rc::new(request))?), plan: Some(plan), asked })
    }

    /// The same request along another route, whatever that one takes by itself. Its operator has named the route for
    /// this, so that a key is not asked whether it is for it.
    ///
    /// # Errors
    /// Why it cannot go there.
    pub(crate) fn along(&self, route: &str, chains: &Chains) -> Result<Targets, &'static str> {
        let request = &self.first.request;
        let generates = request.operation == Operation::Generate && request.upgrade.is_none();
        if !generates || !matches!(request.body, InboundBody::Whole(_)) {
            return Err("only what generates, and is held as a whole, can be served by another model");
        }
        if self.plan.as_ref().is_some_and(|plan| plan.chain.name.as_deref() == Some(route)) {
            return Err("it is there already");
        }
        let plan = Rc::new(chains.plan_along(route, request)?);
        let first = Target::on(&plan, 0, Rc::clone(request)).map_err(|refusal| refusal.code())?;
        Ok(Targets { first: Rc::new(first), plan: Some(plan), asked: Arc::clone(&self.asked) })
    }

    /// The upstream that the request's line asks for.
    pub(crate) fn asked(&self) -> &Upstream {
        &self.asked
    }

    /// The one that is asked first. What others say of the request is said of this one.
    pub(crate) fn first(&self) -> &Rc<Target> {
        &self.first
    }

    /// Whether there are others.
    pub(crate) fn is_chain(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| !plan.is_bound())
    }

    /// How many may be asked.
    pub(crate) fn count(&self) -> usize {
        self.plan.as_ref().map_or(1, |plan| plan.len())
    }

    /// The candidate that is asked as the so-many-th; the first is number 0.
    pub(crate) fn candidate(&self, position: usize) -> Option<&Candidate> {
        self.plan.as_ref()?.candidate(position)
    }

    /// What the candidate is sent that is asked as the so-many-th. One that cannot be asked is as good as not there.
    pub(crate) fn at(&self, position: usize) -> Option<Rc<Target>> {
        if position == 0 {
            return Some(Rc::clone(&self.first));
        }
        Target::on(self.plan.as_ref()?, position, Rc::clone(&self.first.request)).ok().map(Rc::new)
    }
}

/// Where a target stands in a route.
#[derive(Debug)]
pub(crate) struct Standing {
    pub plan: Rc<Plan>,
    /// It is asked as the so-many-th.
    pub position: usize,
    pub label: Arc<str>,
    pub place: Place,
    /// Whether its answers are less than what was asked for.
    pub degraded: bool,
    pub in_flight: TokensInFlight,
}

/// An upstream, and what it is sent of a request.
#[derive(Debug)]
pub(crate) struct Target {
    /// What the caller wants.
    pub request: Rc<InboundRequest>,
    /// Who shall serve it.
    pub upstream: Arc<Upstream>,
    /// The model that is asked for there, when one is named.
    pub model: Option<Arc<str>>,
    /// Path and query, as the upstream knows them.
    pub path_and_query: String,
    /// The headers that go there.
    pub headers: HeaderMap,
    /// The fingerprint of the credential in them.
    pub credential: u64,
    /// The key of Spillway's own in them, if it is one.
    pub key: Option<Arc<Key>>,
    /// What is sent in the body's place: it names another model.
    pub body: Option<Bytes>,
    /// What is sent in the body's place, so that a stream reports usage for which the caller did not ask.
    pub body_demanding_usage: Option<Bytes>,
    /// Whether that is what is sent.
    pub demands_usage: Cell<bool>,
    /// What it is expected to cost there.
    pub estimate: Estimate,
    /// Where it stands in a route, if it is one's.
    pub standing: Option<Standing>,
    /// Where what its answers have made is remembered, if anybody may have to know it.
    pub makers: Option<Arc<Makers>>,
}

impl Target {
    /// The upstream, and the model that the caller has named: what a refusal is about.
    pub(crate) fn names(&self) -> (&str, Option<&str>) {
        (&self.upstream.name, self.request.parameters.model.as_deref())
    }

    /// The model that is asked for there: the route's, or the caller's.
    pub(crate) fn asked_model(&self) -> Option<Arc<str>> {
        self.model.clone().or_else(|| self.request.parameters.model.as_deref().map(Arc::from))
    }

    /// The model that is asked for there, and the tenant that asks: whom its figures are about.
    pub(crate) fn about(&self) -> About<'_> {
        About { model: self.model.as_deref(), tenant: self.request.caller.name.as_deref() }
    }

    /// How its request came, for whoever records it; `None` for a job's.
    pub(crate) fn arrival(&self) -> Option<Arrival> {
        let request = &self.request;
        let came_unix_ms = request.came_unix_ms?;
        let caller = &request.caller;
        let so_far = Duration::from_millis(wall_unix_ms().saturating_sub(came_unix_ms));
        let allowed = request.deadline.saturating_duration_since(Instant::now()) + so_far;
        Some(Arrival {
            came_unix_ms,
            tenant: caller.title(),
            tokens_max: self.estimate.total,
            has_come_back: request.has_come_back(),
            allowed_ms: milliseconds(allowed),
        })
    }

    /// What an upstream is sent of a request that no route takes: the caller's own words with the caller's own
    /// credential.
    ///
    /// # Errors
    /// When path and base address make no URL.
    fn of(request: Rc<InboundRequest>, upstream: Arc<Upstream>) -> Result<Target, Refusal> {
        let context_tokens = upstream.config.limits.context_tokens;
        Target::new(request, upstream, None, Credential::Callers, context_tokens)
    }

    /// What the candidate is sent that a route asks as the so-many-th.
    fn on(plan: &Rc<Plan>, position: usize, request: Rc<InboundRequest>) -> Result<Target, Refusal> {
        let Some(candidate) = plan.candidate(position) else {
            return Err(RefusalKind::BadRequest { reason: "its route has no target".into() }.into());
        };
        let credential = match candidate.key() {
            Some(key) => Credential::Key(key),
            None if candidate.takes_callers_credential() => Credential::Callers,
            None => Credential::None,
        };
        let (upstream, model) = (Arc::clone(&candidate.upstream), candidate.model.clone());
        let mut target = Target::new(request, upstream, model, credential, candidate.context_tokens)?;
        target.makers = plan.chain.makers().cloned();
        target.standing = Some(Standing {
            plan: Rc::clone(plan),
            position,
            label: Arc::clone(&candidate.label),
            place: candidate.place,
            degraded: candidate.degraded,
            in_flight: candidate.in_flight(),
        });
        Ok(target)
    }

    fn new(
        request: Rc<InboundRequest>,
        upstream: Arc<Upstream>,
        model: Option<Arc<str>>,
        credential: Credential,
        context_tokens: Option<u64>,
    ) -> Result<Target, Refusal> {
        let config = &upstream.config;
        let is_held = matches!(request.body, InboundBody::Whole(_)) && request.operation == Operation::Generate;
        let query = &request.path_and_query[request.path().len()..];
        // Where another credential takes its caller's place, what that one has signed counts for nothing.
        let signature = match credential {
            Credential::Callers => Signature::of(&request.headers, query.trim_start_matches('?')),
            Credential::None | Credential::Key(_) => None,
        };
        let host = config.url.authority().as_str();
        let mut headers = headers::for_upstream(&request.headers, host, is_held, signature);
        if let Some(protocol) = &request.upgrade {
            upgrade::insert(&mut headers, protocol.clone());
        }
        let mut path = match signature {
            Some(_) => request.path().to_owned(),
            None => config.dialect.canonical_path(request.path(), config.url.adds_version()),
        };
        let mut body = None;
        if let Some(model) = &model
            && let Some((named, changed)) = for_model(&request, &path, model, &mut headers)?
        {
            if signature.is_some() {
                return Err(signed("the model that its route names cannot be put into it"));
            }
            (path, body) = (named, Some(changed));
        }
        if let Some(name) = signature.and_then(|signature| signature.lacks(&headers)) {
            return Err(signed(&format!(
                "the header {name}, which it covers, goes no further than Spillway; add it behind the signature"
            )));
        }
        let mut path_and_query = match &config.path {
            _ if signature.is_some() => path + query,
            Some(template) if request.operation == Operation::Generate => {
                let asked = model.as_deref().or(request.parameters.model.as_deref());
                template.path(&path, query.strip_prefix('?'), asked).unwrap_or_else(|| path + query)
            }
            Some(template) => template.kept_path(&path).unwrap_or(path) + query,
            None => path + query,
        };
        let (fingerprint, key) = match credential {
            Credential::Callers => (request.caller.credential, None),
            Credential::None => {
                headers::remove_callers(&mut headers, &mut path_and_query);
                (0, None)
            }
            Credential::Key(key) => {
                key.place(&mut headers, &mut path_and_query);
                (key.fingerprint, Some(key))
            }
        };
        config
            .url
            .join(&path_and_query)
            .map_err(|error| RefusalKind::BadRequest { reason: format!("its path is no URL's: {error}") })?;
        let (mut estimate, mut body_demanding_usage) = (Estimate::default(), None);
        if let (true, InboundBody::Whole(bytes)) = (is_held, &request.body) {
            let output_default = config.limits.default_output_tokens;
            let sent = model.as_deref().or(request.parameters.model.as_deref());
            estimate = Estimate::bounded(
                request.dialect,
                &request.parameters,
                upstream.estimates.expect(sent, &request.input),
                output_default,
                context_tokens,
            );
            if request.parameters.usage_withheld
                && upstream.asks_for_usage(request.caller.payer.is_some())
                && signature.is_none()
            {
                body_demanding_usage = request.dialect.demand_usage(body.as_ref().unwrap_or(bytes));
            }
            // Usage is taken out of a stream, and a key out of what is said of it, which needs its bytes as they read.
            if body_demanding_usage.is_some() || key.is_some() {
                compression::ask_for_none(&mut headers);
            }
        }
        let own_model = || request.parameters.model.as_deref().map(Arc::from);
        Ok(Target {
            model: model.or_else(own_model),
            headers,
            credential: fingerprint,
            key,
            path_and_query,
            body,
            demands_usage: Cell::new(body_demanding_usage.is_some()),
            body_demanding_usage,
            estimate,
            standing: None,
            makers: None,
            upstream,
            request,
        })
    }

    /// What it is called: as in its route, or by its upstream.
    pub(crate) fn label(&self) -> &Arc<str> {
        self.standing.as_ref().map_or(&self.upstream.name, |standing| &standing.label)
    }

    /// Whether it stands in for another target of its route.
    pub(crate) fn stands_in(&self) -> bool {
        self.standing.as_ref().is_some_and(|standing| standing.plan.falls_back_from(standing.position).is_some())
    }

    /// Remembers what an answer of its has made there, as far as it says so: an event of a stream, or a piece of a body.
    pub(crate) fn remember(&self, answer: &[u8], is_event: bool) {
        let Some(makers) = self.makers.as_ref().filter(|_| !self.request.path().ends_with("/content")) else { return };
        let json = if is_event { self.request.dialect.data(answer) } else { Cow::Borrowed(answer) };
        kept::made(self.request.dialect, &json, |reference| {
            let (upstream, model) = (Arc::clone(&self.upstream.name), makers.model(self.model.as_deref()));
            let maker = Maker { upstream, credential: self.credential, model };
            makers.note(reference, &maker);
        });
    }

    /// By what a call there is told from others.
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject { model: self.model.as_deref(), credential: self.credential }
    }

    /// By what a request is known that comes again without saying so; `None` of one whose body is not at hand.
    pub(crate) fn likeness(&self) -> Option<Likeness> {
        let InboundBody::Whole(body) = &self.request.body else { return None };
        Some(Likeness::of(self.credential, self.request.path(), body))
    }

    /// Where a credential may stand in what is sent.
    pub(crate) fn sent(&self) -> (&HeaderMap, &str) {
        (&self.headers, &self.path_and_query)
    }

    /// What it asks of limits.
    pub(crate) fn demand(&self) -> Demand {
        let caller = &self.request.caller;
        Demand { tenant: caller.tenant, priority: caller.priority, tokens: self.estimate.total, group: caller.group }
    }

    /// The bytes that are sent, where they are held.
    pub(crate) fn bytes(&self) -> Option<&Bytes> {
        let InboundBody::Whole(own) = &self.request.body else { return None };
        let demanding = self.body_demanding_usage.as_ref().filter(|_| self.demands_usage.get());
        Some(demanding.or(self.body.as_ref()).unwrap_or(own))
    }

    /// Whether another attempt can be made: the body is at hand, and repeating it means the same.
    pub(crate) fn is_repeatable(&self) -> bool {
        let request = &self.request;
        match request.body {
            InboundBody::Whole(_) => {
                let once = request.parameters.creates && !self.has_honoured_key();
                request.operation == Operation::Generate && !once
                    || matches!(request.method, Method::GET | Method::HEAD)
            }
            InboundBody::Streaming(_) => false,
        }
    }

    /// Whether it can be served later, with nobody connected.
    pub(crate) fn may_be_kept(&self) -> bool {
        self.is_repeatable() && self.request.upgrade.is_none()
    }

    /// Whether the request carries a key by which its provider knows it again, and does it once.
    fn has_honoured_key(&self) -> bool {
        self.upstream.config.honours_idempotency_keys && self.request.headers.contains_key(IDEMPOTENCY_KEY)
    }
}

/// What would break the signature of a request is not done.
fn signed(why: &str) -> Refusal {
    let reason = format!("its caller has signed it as a whole (AWS Signature Version 4), so that {why}");
    RefusalKind::BadRequest { reason }.into()
}

/// With what a call is authorised.
enum Credential {
    /// With what its caller has shown.
    Callers,
    /// With nothing: what its caller has shown was meant for somebody else.
    None,
    /// With a key of the upstream's own.
    Key(Arc<Key>),
}

/// Path and body of a request for a model that its caller has not named: `None` where they can go as they came, since
/// the model is the caller's, or the provider will say what is wrong with the body.
///
/// # Errors
/// When a body that came compressed is too large to be changed.
fn for_model(
    request: &InboundRequest,
    path: &str,
    model: &str,
    headers: &mut HeaderMap,
) -> Result<Option<(String, Bytes)>, Refusal> {
    let InboundBody::Whole(bytes) = &request.body else { return Ok(None) };
    if request.parameters.model.as_deref() == Some(model) {
        return Ok(None);
    }
    match request.readable() {
        None => Ok(None),
        Some(Cow::Borrowed(_)) => Ok(with_model(path, bytes, model)),
        Some(Cow::Owned(decoded)) if decoded.len() >= READABLE_BYTES_MAX => {
            let reason = "its model cannot be changed, since it came compressed and is too large to be read";
            Err(RefusalKind::BadRequest { reason: reason.to_owned() }.into())
        }
        // What was compressed is sent as it reads.
        Some(Cow::Owned(decoded)) => {
            let changed = with_model(path, &Bytes::from(decoded), model);
            if changed.is_some() {
                headers.remove(header::CONTENT_ENCODING);
            }
            Ok(changed)
        }
    }
}
