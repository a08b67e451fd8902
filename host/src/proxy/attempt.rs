//! One call to one upstream: sent within its timeouts, and held until its first content says what it is worth.

use crate::observe::metrics::CallFault;
use crate::observe::recording::Note;
use crate::policy::{Judged, Record};
use crate::proxy::hold::{Begun, BufferedResponse, hold, is_nothing, json_of_event, prefix_of};
use crate::proxy::permits::Permits;
use crate::proxy::request::InboundBody;
use crate::proxy::target::Target;
use crate::proxy::worker::Worker;
use crate::runtime::causes::ErrorChain;
use crate::runtime::shortage::Shortage;
use crate::runtime::upload::Passing;
use crate::upstream::client::{Client, Connection, RequestBody, Switched, Trouble};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::Full;
use spillway_sdk::{AttemptFacts, Fault, Phase};
use std::cell::{Cell, OnceCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// For so long after the moment that its caller has announced a call goes on: the caller shall leave by itself, and
/// find its own timeout and no answer of ours. SDKs announce whole seconds, and begin to count before we do.
const CALLERS_GRACE: Duration = Duration::from_secs(2);

/// What can end an attempt in which the upstream has no part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    /// Its caller did not finish sending its body.
    BodyBroken,
    /// Its caller did not send its body in time.
    BodyLate,
    /// Its caller announced that it would not wait for longer.
    Impatient,
    /// This machine lacks something for it.
    Short(Shortage),
}

/// An attempt that has come as far as its first content, or failed before.
#[derive(Debug)]
pub(crate) struct Attempted {
    /// What policies may see of it.
    pub record: Rc<Record>,
    /// Its response, when one came.
    pub response: Option<BufferedResponse>,
    /// What it was judged to be.
    pub judged: Judged,
    /// What is recorded of it, where that is switched on.
    pub note: Option<Note>,
}

/// An attempt that ended without any doing of the upstream's.
#[derive(Debug)]
pub(crate) struct EndedElsewhere {
    /// What ended it.
    pub what: Elsewhere,
    /// How long it took.
    pub elapsed: Duration,
}

/// Why an attempt has no response.
enum NoResponse {
    Fault(Fault),
    /// With what was in the way of a connection.
    Unconnected(Trouble),
    /// With what has ended the connection.
    Lost(Fault, ErrorChain),
    Elsewhere(Elsewhere),
}

impl From<Fault> for NoResponse {
    fn from(fault: Fault) -> Self {
        NoResponse::Fault(fault)
    }
}

/// How far an attempt has come, kept outside of its future so that it survives a timeout.
#[derive(Debug)]
struct SoFar {
    phase: Cell<Phase>,
    head: OnceCell<(StatusCode, Rc<HeaderMap>)>,
    /// What is known of a body that passes through.
    body: Arc<Passing>,
}

/// What an attempt is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    pub worker: &'a Worker,
    /// Over whose connections.
    pub client: &'a Client,
    pub target: &'a Target,
    /// 1 for the first at this target.
    pub number: u32,
}

impl Attempt<'_> {
    /// Makes it, over a connection that was used before if there is one: sends the request, holds the response, has it
    /// judged and learns from it. Answers what came of it, and what it still holds. `heard` tells from outside whether
    /// the head of an answer has come.
    ///
    /// # Errors
    /// When it ended without any doing of the upstream's.
    pub(crate) async fn make(
        self,
        connection: Option<Connection>,
        mut permits: Permits,
        heard: &Cell<bool>,
    ) -> Result<(Attempted, Permits), EndedElsewhere> {
        let Attempt { worker, client, target, number } = self;
        permits.limits.sent();
        if let Some(expense) = &mut permits.expense {
            expense.sent();
        }
        permits.circuits.sent();
        // If it fails here, the permits are dropped, which counts nowhere: the upstream had no part in it.
        let (record, response) = send(client, connection, target, number, heard).await?;
        let record = Rc::new(record);
        let facts = Rc::clone(&record) as Rc<dyn AttemptFacts>;
        let judged = match &response {
            // What it means that a provider switches stands in HTTP, and is no policy's to say.
            Some(held) if held.switched.is_some() => worker.judge.borrow().success(),
            _ => worker.judge.borrow_mut().classify(&target.upstream.policy, facts),
        };
        let fault = record.fault.map(|fault| CallFault::of(fault, record.phase));
        target.upstream.metrics.attempt(target.model.as_deref(), judged.verdict.class, fault);
        target.upstream.learn(&record, &judged.verdict);
        let note = worker
            .app
            .recorder
            .as_ref()
            .map(|recorder| recorder.note(&target.request.id, target.sent(), &record, &judged, target.arrival()));
        Ok((Attempted { record, response, judged, note }, permits))
    }
}

/// Sends a call, and holds its response, within its timeouts.
async fn send(
    client: &Client,
    connection: Option<Connection>,
    target: &Target,
    number: u32,
    heard: &Cell<bool>,
) -> Result<(Record, Option<BufferedResponse>), EndedElsewhere> {
    let began = Instant::now();
    let progress = SoFar { phase: Cell::new(Phase::Connecting), head: OnceCell::new(), body: Passing::new(began) };
    let grace = if target.request.deadline_is_callers { CALLERS_GRACE } else { Duration::ZERO };
    let mut begun = pin!(begin(client, connection, target, &progress, heard));
    let outcome = loop {
        // What a caller takes to send a body that passes through is its own, as it is with one that is held.
        let took = progress.body.took();
        let (timeout, deadline) =
            (began + took + target.upstream.config.first_content_timeout, target.request.deadline + took + grace);
        match timeout_at(timeout.min(deadline), begun.as_mut()).await {
            Ok(outcome) => break outcome,
            Err(_) if progress.body.took() > took => {}
            Err(_) => {
                break Err(match (deadline < timeout, target.request.deadline_is_callers) {
                    (true, true) => NoResponse::Elsewhere(Elsewhere::Impatient),
                    (true, false) => NoResponse::Fault(Fault::AttemptTimeout),
                    (false, _) => NoResponse::Fault(Fault::FirstContentTimeout),
                });
            }
        }
    };
    let elapsed = began.elapsed();
    let (status, headers) = match progress.head.get() {
        Some((status, headers)) => (Some(status.as_u16()), Rc::clone(headers)),
        None => (None, Rc::default()),
    };
    let mut record = Record {
        upstream: Arc::clone(&target.upstream.name),
        dialect: target.request.dialect,
        model: target.model.clone(),
        streaming: target.request.parameters.streaming,
        number,
        phase: progress.phase.get(),
        fault: None,
        cause: None,
        status,
        headers,
        prefix: Bytes::new(),
        json: OnceCell::new(),
        error: OnceCell::new(),
        elapsed,
        first_content: Cell::new(None),
        began,
        deadline: target.request.deadline,
    };
    match outcome {
        Ok(Begun { held, error, fault }) => {
            record.first_content.set(held.has_content.then_some(elapsed));
            record.prefix = prefix_of(&held);
            record.fault = fault.or_else(|| is_nothing(target, &held, &record.prefix).then_some(Fault::Truncated));
            record.cause = held.cause.clone();
            record.streaming |= held.splitter.is_some();
            if held.splitter.is_some() {
                // A stream's error is an event of it, the last one held; its beginning as a whole is no JSON.
                let event = if error.is_some() { held.events().back() } else { None };
                let _ = record.json.set(event.and_then(|event| json_of_event(target.request.dialect, event)));
                let _ = record.error.set(error);
            }
            Ok((record, Some(held)))
        }
        Err(NoResponse::Fault(fault)) => {
            record.fault = Some(fault);
            Ok((record, None))
        }
        Err(NoResponse::Lost(fault, cause)) => {
            (record.fault, record.cause) = (Some(fault), Some(cause));
            Ok((record, None))
        }
        Err(NoResponse::Unconnected(trouble)) => {
            record.fault = Some(trouble.fault);
            record.cause = Some(ErrorChain::of(trouble));
            Ok((record, None))
        }
        Err(NoResponse::Elsewhere(what)) => Err(EndedElsewhere { what, elapsed }),
    }
}

/// Sends the request, and holds the response until it is clear what it is.
async fn begin(
    client: &Client,
    mut used_before: Option<Connection>,
    target: &Target,
    progress: &SoFar,
    heard: &Cell<bool>,
) -> Result<Begun, NoResponse> {
    let mut unsent: Option<Box<Request<RequestBody>>> = None;
    let mut response = loop {
        let was_used_before = used_before.is_some();
        let connection = match used_before.take() {
            Some(connection) => connection,
            None => client.connect().await.map_err(|trouble| match trouble.shortage {
                Some(shortage) => NoResponse::Elsewhere(Elsewhere::Short(shortage)),
                None => NoResponse::Unconnected(trouble),
            })?,
        };
        progress.phase.set(Phase::Waiting);
        let request = match unsent.take() {
            Some(request) => *request,
            None => request(target, &progress.body)?,
        };
        let unanswered = match connection.send(request).await {
            Ok(response) => break response,
            Err(unanswered) => unanswered,
        };
        if was_used_before && (unanswered.unsent.is_some() || unanswered.was_closed_as_unused && target.is_repeatable())
        {
            client.was_closed_under_call();
            progress.phase.set(Phase::Connecting);
            unsent = unanswered.unsent;
            continue;
        }
        return Err(match unanswered.shortage {
            _ if progress.body.is_broken() => NoResponse::Elsewhere(Elsewhere::BodyBroken),
            _ if progress.body.is_late() => NoResponse::Elsewhere(Elsewhere::BodyLate),
            Some(shortage) => NoResponse::Elsewhere(Elsewhere::Short(shortage)),
            None => NoResponse::Lost(unanswered.fault, unanswered.cause),
        });
    };
    heard.set(true);
    if let Some(trouble) = client.refused_by_proxy(response.status()) {
        progress.phase.set(Phase::Connecting);
        return Err(NoResponse::Unconnected(trouble));
    }
    progress.phase.set(Phase::BeforeContent);
    let switched = Switched::of(&mut response);
    if switched.is_some() && target.request.upgrade.is_none() {
        // Nobody has asked for another protocol, and nobody here speaks it.
        return Err(NoResponse::Fault(Fault::Protocol));
    }
    let (mut head, body) = response.into_parts();
    if let Some(key) = &target.key {
        key.cover(&mut head.headers);
    }
    // The future is polled once, so nobody has set it before.
    let headers = Rc::new(head.headers);
    let _ = progress.head.set((head.status, Rc::clone(&headers)));
    let mut begun = hold(target, head.status, headers, body).await;
    begun.held.switched = switched;
    Ok(begun)
}

fn request(target: &Target, passing: &Arc<Passing>) -> Result<Request<RequestBody>, Fault> {
    let body = match &target.request.body {
        InboundBody::Whole(bytes) => RequestBody::Whole(Full::new(target.bytes().unwrap_or(bytes).clone())),
        // Taken by the first attempt; a second one never comes.
        InboundBody::Streaming(body) => match body.take() {
            Some(body) => RequestBody::Streaming(body.told_to(Arc::clone(passing))),
            None => RequestBody::Whole(Full::default()),
        },
    };
    // Whoever made the target has made sure that these parts make a request.
    let uri = target.upstream.config.url.join(&target.path_and_query).map_err(|_| Fault::Protocol)?;
    let mut request = Request::new(body);
    *request.method_mut() = target.request.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = target.headers.clone();
    Ok(request)
}
