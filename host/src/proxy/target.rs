//! Who may serve a request, and what each of them is sent.

use crate::dialect::estimate::Estimate;
use crate::dialect::{Operation, headers};
use crate::proxy::refusal::{Refusal, RefusalKind};
use crate::proxy::request::{InboundBody, InboundRequest};
use crate::upstream::Upstream;
use crate::upstream::scope::Subject;
use bytes::Bytes;
use http::{HeaderMap, Method};
use spillway_resilience::Demand;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// By which a provider that honours it knows a request again: draft-ietf-httpapi-idempotency-key-header.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Those who may serve a request, in the order in which they are asked.
#[derive(Clone, Debug)]
pub(crate) struct Targets {
    first: Rc<Target>,
    others: Vec<Arc<Upstream>>,
}

impl Targets {
    /// Of a request, this upstream and then these.
    ///
    /// # Errors
    /// When the first cannot be asked for it.
    pub(crate) fn of(
        request: InboundRequest,
        upstream: Arc<Upstream>,
        others: Vec<Arc<Upstream>>,
    ) -> Result<Targets, Refusal> {
        Ok(Targets { first: Rc::new(Target::of(Rc::new(request), upstream)?), others })
    }

    /// The one that is asked first. What others say of the request is said of this one.
    pub(crate) fn first(&self) -> &Rc<Target> {
        &self.first
    }

    /// The others, each made ready when it is reached. One that speaks another API, or cannot be asked for this request,
    /// is passed over.
    pub(crate) fn others(&self) -> impl Iterator<Item = Rc<Target>> {
        let speaks = self.first.upstream.config.dialect;
        let others = self.others.iter().filter(move |upstream| upstream.config.dialect == speaks);
        others.filter_map(|upstream| {
            let target = Target::of(Rc::clone(&self.first.request), Arc::clone(upstream));
            target.ok().map(Rc::new)
        })
    }
}

/// An upstream, and what it is sent of a request.
#[derive(Debug)]
pub(crate) struct Target {
    /// What the caller wants.
    pub request: Rc<InboundRequest>,
    /// Who shall serve it.
    pub upstream: Arc<Upstream>,
    /// Path and query, as the upstream knows them.
    pub path_and_query: String,
    /// The headers that go there.
    pub headers: HeaderMap,
    /// What is sent in the body's place, so that a stream reports usage for which the caller did not ask.
    pub body_demanding_usage: Option<Bytes>,
    /// Whether that is what is sent.
    pub demands_usage: Cell<bool>,
    /// What it is expected to cost there.
    pub estimate: Estimate,
}

impl Target {
    /// What this upstream is sent of a request.
    ///
    /// # Errors
    /// When path and base address make no URL.
    pub(crate) fn of(request: Rc<InboundRequest>, upstream: Arc<Upstream>) -> Result<Target, Refusal> {
        let config = &upstream.config;
        let mut path_and_query = config.dialect.canonical_path(request.path(), config.url.adds_version());
        path_and_query.push_str(&request.path_and_query[request.path().len()..]);
        config
            .url
            .join(&path_and_query)
            .map_err(|error| RefusalKind::BadRequest { reason: format!("its path is no URL's: {error}") })?;
        let (mut estimate, mut body_demanding_usage) = (Estimate::default(), None);
        let is_held = matches!(request.body, InboundBody::Whole(_)) && request.operation == Operation::Generate;
        if let (true, InboundBody::Whole(bytes)) = (is_held, &request.body) {
            let (limits, input) = (&config.limits, request.input_tokens);
            let (output_default, context) = (limits.default_output_tokens, limits.context_tokens);
            estimate = Estimate::bounded(request.dialect, &request.parameters, input, output_default, context);
            if request.parameters.usage_withheld && upstream.asks_for_usage() {
                body_demanding_usage = request.dialect.demand_usage(bytes);
            }
        }
        Ok(Target {
            headers: headers::for_upstream(&request.headers, config.url.authority().as_str(), is_held),
            path_and_query,
            demands_usage: Cell::new(body_demanding_usage.is_some()),
            body_demanding_usage,
            estimate,
            upstream,
            request,
        })
    }

    /// By what a call there is told from others.
    pub(crate) fn subject(&self) -> Subject<'_> {
        let request = &self.request;
        Subject { model: request.parameters.model.as_deref(), credential: request.caller.credential }
    }

    /// Where a credential may stand in what is sent.
    pub(crate) fn sent(&self) -> (&HeaderMap, &str) {
        (&self.headers, &self.path_and_query)
    }

    /// What it asks of limits.
    pub(crate) fn demand(&self) -> Demand {
        let caller = &self.request.caller;
        Demand { tenant: caller.tenant, priority: caller.priority, tokens: self.estimate.total }
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

    /// Whether the request carries a key by which its provider knows it again, and does it once.
    fn has_honoured_key(&self) -> bool {
        self.upstream.config.honours_idempotency_keys && self.request.headers.contains_key(IDEMPOTENCY_KEY)
    }
}
