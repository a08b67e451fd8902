//! The life of one request, from top to bottom.

use crate::attempt::{self, CallersDoing, Ended, Held, Record};
use crate::body::Body;
use crate::call::{Call, Preference, Route};
use crate::circuit::{Admission, Protects, Refused};
use crate::clock::random;
use crate::dialect::Dialect;
use crate::explain::Story;
use crate::forward::{Affair, Forward};
use crate::headers::strip_hop_by_hop;
use crate::jobs;
use crate::metrics::Outcome;
use crate::refusal::{Kind, Refusal};
use crate::upstream::Reserved;
use crate::worker::Worker;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use spillway_resilience::{Rejected, Settlement, Step, next_step};
use spillway_sdk::{Advice, AttemptFacts, Class, Fault, Phase, RetryDecision, Verdict};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How much longer than its circuit a job waits whose call has just failed.
const PROBE_TURN: Duration = Duration::from_millis(500);

/// Serves one request.
pub async fn serve(worker: Rc<Worker>, request: Request<Incoming>) -> Response<Body> {
    let request_id = request_id(&request);
    let mut story = Story::begin(&request_id, worker.shared.begin_request());
    let (head, body) = request.into_parts();

    // Accept.
    let guess = Dialect::recognise(head.uri.path(), &head.headers).unwrap_or(Dialect::OpenAi);
    if let Err(refusal) = worker.shared.guard.check(&head.headers) {
        return refused(refusal, guess, &request_id, &story);
    }
    if jobs::owns(head.uri.path()) {
        return jobs::serve(&worker.shared, &head)
            .await
            .unwrap_or_else(|refusal| refused(refusal, guess, &request_id, &story));
    }

    // Identify.
    let route = match Route::find(&worker.shared.upstreams, &head) {
        Ok(route) => route,
        Err(refusal) => return refused(refusal, guess, &request_id, &story),
    };
    let preference = Preference::read(&head.headers);
    let (dialect, upstream) = (route.dialect, Arc::clone(&route.upstream));
    let server = &worker.shared.config.server;
    let call = Call::receive(route, head, body, request_id.clone(), server.body_bytes_max, server.request_timeout);
    let call = match call.await {
        Ok(call) => Rc::new(call),
        Err(refusal) => {
            upstream.metrics.request(Outcome::Refused);
            return refused(refusal, dialect, &request_id, &story);
        }
    };
    story.goes_to(&call.upstream, call.asked.model.as_deref());

    // Serve it now, or keep it if the caller likes that better than an error.
    match worker.shared.spool.as_ref().filter(|_| preference.respond_async && call.is_repeatable()) {
        Some(spool) => jobs::serve_or_keep(&worker, spool, &call, preference, story).await,
        None => match attempts(&worker, &call, Instant::now(), story).await {
            Ok(response) => response,
            Err(unserved) => unserved.into_response(&worker, &call),
        },
    }
}

/// The id under which the log knows a request: the caller's own, if it is fit for that.
fn request_id(request: &Request<Incoming>) -> String {
    let plain = |id: &&str| {
        (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let given = request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).filter(plain);
    given.map_or_else(|| format!("req_{:016x}", random()), str::to_owned)
}

fn refused(refusal: Refusal, dialect: Dialect, request_id: &str, story: &Story) -> Response<Body> {
    tracing::info!(request_id, code = refusal.code(), why = refusal.message(), "refused");
    let mut response = refusal.into_response(dialect, request_id);
    story.insert_headers(response.headers_mut());
    response
}

/// A request that was understood, and that nobody has served.
#[derive(Debug)]
pub struct Unserved {
    /// What to tell the caller, unless the provider's own answer does.
    pub refusal: Refusal,
    /// The provider's last answer, when it gave one that can be passed on.
    answer: Option<Served>,
    /// How the request ended.
    pub outcome: Outcome,
    /// Whether the failure may be this request's own: a healthy upstream answered it with an error.
    pub suspect: bool,
    /// Whether a call was made at all.
    tried: bool,
    /// Whether the upstream asked for less load.
    throttled: bool,
    /// Why.
    pub story: Story,
}

impl Unserved {
    /// Ends the request without an answer: nobody waits for one.
    pub fn close(mut self) {
        self.story.tell(self.refusal.code());
        self.story.end(self.outcome, self.refusal.status().as_u16());
    }

    /// How long to leave a job alone that was not served.
    ///
    /// What may be the job's own fault, or asks for less load, waits longer each time. What an open circuit explains
    /// waits for that circuit and a moment more, so that another job gets the next probe.
    pub fn delay(&self, circuit: Option<Duration>, own: Duration) -> Duration {
        let asked = self.refusal.retry_after.unwrap_or_default();
        match (self.tried, circuit) {
            (false, _) => asked,
            (true, Some(circuit)) if !self.suspect && !self.throttled => asked.max(circuit + PROBE_TURN),
            (true, _) => asked.max(own),
        }
    }

    /// What the caller gets: the provider's own answer if there is one, with its `Retry-After`; else ours.
    pub fn into_response(self, worker: &Rc<Worker>, call: &Rc<Call>) -> Response<Body> {
        if let Some(answer) = self.answer {
            return answer.forward(worker, call, None, None, self.story);
        }
        let (mut story, refusal) = (self.story, self.refusal);
        call.upstream.metrics.overhead(story.overhead());
        story.tell(refusal.code());
        let mut response = refusal.into_response(call.dialect, &call.request_id);
        story.insert_headers(response.headers_mut());
        story.end(self.outcome, response.status().as_u16());
        response
    }
}

/// The attempt loop: everything between a request that is understood and an answer that is committed.
///
/// Until `patience` it waits for limits and circuits; after that it gives up at once.
///
/// # Errors
/// When nobody served the request.
pub async fn attempts(
    worker: &Rc<Worker>,
    call: &Rc<Call>,
    patience: Instant,
    mut story: Story,
) -> Result<Response<Body>, Unserved> {
    let upstream = &call.upstream;
    let client = worker.client(upstream);
    let patience = patience.min(call.deadline);
    let mut last: Option<Failed> = None;
    let mut number = 0;
    upstream.budget().deposit();
    loop {
        // The limiter: a quota that is overrun is refused by the provider anyway, and costs a call.
        let mut reserved = match upstream.reserve(call.tokens_estimate) {
            Ok(reserved) => reserved,
            Err(exceeded) => {
                if wait_within(patience, exceeded.retry_after, &mut story, "the limit").await {
                    continue;
                }
                let kind = Kind::LimitExceeded {
                    upstream: upstream.name.to_string(),
                    dimension: exceeded.dimension,
                    limit: exceeded.limit,
                };
                let refusal = Refusal::after(kind, exceeded.retry_after);
                return Err(unserved(last, Blocked { refusal, outcome: Outcome::Limited }, story));
            }
        };

        // The breaker, last, after all waits: what waits must not hold a probe.
        let admission = match upstream.circuits.admit(call.asked.model.as_deref(), call.credential) {
            Ok(admission) => admission,
            Err(refused) => {
                reserved.settle(Settlement::Refund);
                let wait = worker.shared.clock.until(refused.rejected.retry_at());
                if wait_for_circuit(patience, wait, call, &mut story).await {
                    continue;
                }
                let refusal = Refusal::after(circuit_open(call, &refused), wait);
                return Err(unserved(last, Blocked { refusal, outcome: Outcome::CircuitOpen }, story));
            }
        };

        // Send, hold until first content, classify.
        number += 1;
        reserved.sent();
        let is_probe = admission.is_probe();
        let Ended { record, held, by_caller } = attempt::make(&client, call, number).await;
        if let Some(doing) = by_caller {
            // The permits are dropped here, which counts nowhere: the upstream had no part in it.
            return Err(abandoned(call, doing, record.elapsed, story));
        }
        let record = Rc::new(record);
        let judged = worker.judge.borrow_mut().classify(&upstream.policy, record.clone());
        story.attempt(&record, &judged);
        upstream.metrics.attempt(judged.verdict.class);
        let verdict = judged.verdict;
        let duration = record.first_content.get().unwrap_or(record.elapsed);

        // Commit.
        if verdict.class == Class::Success
            && let Some(held) = held
        {
            let served = Served { held, record, verdict, outcome: Outcome::Answered };
            return Ok(served.forward(worker, call, Some(admission), Some(reserved), story));
        }

        // Record.
        {
            let mut judge = worker.judge.borrow_mut();
            upstream.circuits.settle(admission, &verdict, duration, &mut judge, &upstream.policy);
        }
        reserved.settle(settlement(&record, &verdict));

        // What is the caller's own affair is answered as it is.
        if is_answer(&verdict)
            && let Some(held) = held
        {
            let served = Served { held, record: Rc::clone(&record), verdict, outcome: Outcome::Answered };
            return Ok(served.forward(worker, call, None, None, story));
        }

        // Again, or out.
        let step =
            if call.is_repeatable() { next(worker, call, &record, &verdict, number) } else { Next::GiveUp(None) };
        let refusal = refusal_for(call, &record, &verdict);
        let failed = last.insert(Failed { held, record, verdict, is_probe, refusal });
        match step {
            Next::RetryAfter(wait) => {
                if !upstream.budget().try_withdraw() {
                    story.tell("no retry: the retry budget is spent");
                    let blocked = Blocked { refusal: failed.refusal.clone(), outcome: Outcome::Failed };
                    return Err(unserved(last, blocked, story));
                }
                upstream.metrics.retry();
                story.waited("a retry", wait);
                tokio::time::sleep(wait).await;
            }
            Next::GiveUp(wait) => {
                failed.refusal.retry_after = wait.or(failed.refusal.retry_after);
                let blocked = Blocked { refusal: failed.refusal.clone(), outcome: Outcome::Failed };
                return Err(unserved(last, blocked, story));
            }
        }
    }
}

/// An attempt that failed, kept in case it remains the last.
struct Failed {
    held: Option<Held>,
    record: Rc<Record>,
    verdict: Verdict,
    is_probe: bool,
    /// What Spillway says of it where its own answer cannot be passed on.
    refusal: Refusal,
}

/// What ended the attempt loop.
struct Blocked {
    refusal: Refusal,
    outcome: Outcome,
}

/// Where an attempt was made, its failure is what the caller hears of, not what kept the next one from being made.
fn unserved(last: Option<Failed>, blocked: Blocked, mut story: Story) -> Unserved {
    let Blocked { mut refusal, mut outcome } = blocked;
    if let (Some(failed), true) = (&last, outcome != Outcome::Failed) {
        story.tell(&format!("no retry: {}", refusal.code()));
        refusal = Refusal { retry_after: refusal.retry_after, kind: failed.refusal.kind.clone() };
        outcome = Outcome::Failed;
    }
    let throttled =
        last.as_ref().is_some_and(|failed| matches!(failed.verdict.class, Class::Throttled | Class::Overloaded));
    let tried = last.is_some();
    let suspect = last.as_ref().is_some_and(|failed| {
        let failing = matches!(failed.verdict.class, Class::Failure | Class::Ignored);
        failing && failed.record.status.is_some() && !failed.is_probe
    });
    let answer = last.and_then(|failed| {
        // A failure that looks like a success must not reach the caller as one.
        let held = failed.held.filter(|held| !held.status.is_success())?;
        Some(Served { held, record: failed.record, verdict: failed.verdict, outcome: Outcome::Failed })
    });
    Unserved { refusal, answer, outcome, suspect, tried, throttled, story }
}

/// The caller has ended its attempt by itself.
fn abandoned(call: &Call, doing: CallersDoing, elapsed: Duration, mut story: Story) -> Unserved {
    let upstream = call.upstream.name.to_string();
    let (kind, outcome) = match doing {
        CallersDoing::BodyBroken => (Kind::BadRequest { reason: "its body broke off".into() }, Outcome::Abandoned),
        CallersDoing::Impatient => (Kind::TimedOut { upstream, fault: Fault::AttemptTimeout }, Outcome::Failed),
    };
    story.waited("an answer, until the caller's own timeout", elapsed);
    let refusal = Refusal::from(kind);
    Unserved { refusal, answer: None, outcome, suspect: false, tried: true, throttled: false, story }
}

/// What follows a failed attempt.
enum Next {
    RetryAfter(Duration),
    /// Nothing here; perhaps later, after this wait.
    GiveUp(Option<Duration>),
}

/// Asks the policy, then the configured backoff. Attempts and deadline bound them both.
fn next(worker: &Worker, call: &Call, record: &Rc<Record>, verdict: &Verdict, number: u32) -> Next {
    let settings = &call.upstream.config.retry;
    let remaining = record.remaining();
    let requested = verdict.cool_off.or_else(|| record.retry_after());
    let advice = match verdict.advice {
        Advice::Retry => spillway_resilience::Advice::Retry,
        Advice::NextUpstream => spillway_resilience::Advice::NextUpstream,
        Advice::GiveUp => spillway_resilience::Advice::GiveUp,
    };
    if verdict.advice == Advice::Retry && number < settings.max_attempts {
        let decision = worker.judge.borrow_mut().backoff(&call.upstream.policy, record.clone(), verdict);
        match decision {
            Some(RetryDecision::After(wait)) if remaining.is_none_or(|remaining| wait < remaining) => {
                return Next::RetryAfter(wait);
            }
            Some(RetryDecision::After(wait) | RetryDecision::SpoolFor(wait)) => return Next::GiveUp(Some(wait)),
            Some(RetryDecision::NextUpstream | RetryDecision::GiveUp) => return Next::GiveUp(None),
            None => {}
        }
    }
    match next_step(settings, number, requested, remaining, advice, random()) {
        Step::RetryAfter(wait) => Next::RetryAfter(wait),
        Step::GiveUp(_) => Next::GiveUp(requested),
    }
}

/// Whether a verdict makes the provider's response the caller's answer, rather than a failure to serve it.
fn is_answer(verdict: &Verdict) -> bool {
    match verdict.class {
        Class::Success | Class::Rejected | Class::Unauthorized => true,
        Class::Ignored => verdict.advice == Advice::GiveUp,
        Class::Failure | Class::Overloaded | Class::Throttled | Class::Exhausted => false,
    }
}

/// What a failed call cost. A provider that refuses does not count; one that fails may have.
fn settlement(record: &Record, verdict: &Verdict) -> Settlement {
    if record.phase == Phase::Connecting {
        return Settlement::Refund;
    }
    match verdict.class {
        Class::Rejected | Class::Unauthorized | Class::Throttled | Class::Exhausted | Class::Overloaded => {
            Settlement::Refund
        }
        Class::Success | Class::Ignored | Class::Failure => Settlement::AsEstimated,
    }
}

/// What Spillway says of a failed attempt where the provider's answer cannot be passed on.
fn refusal_for(call: &Call, record: &Record, verdict: &Verdict) -> Refusal {
    let upstream = call.upstream.name.to_string();
    let kind = match record.fault {
        Some(
            fault @ (Fault::FirstContentTimeout | Fault::IdleTimeout | Fault::AttemptTimeout | Fault::ConnectTimeout),
        ) => Kind::TimedOut { upstream, fault },
        Some(
            fault @ (Fault::Dns
            | Fault::ConnectRefused
            | Fault::Tls
            | Fault::Reset
            | Fault::Protocol
            | Fault::Truncated),
        ) => Kind::Unreachable { upstream, fault },
        None => Kind::JudgedFailed {
            upstream,
            reason: verdict.reason.to_string(),
            status: match verdict.class {
                Class::Throttled | Class::Exhausted => StatusCode::TOO_MANY_REQUESTS,
                Class::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
                Class::Success | Class::Ignored | Class::Failure | Class::Rejected | Class::Unauthorized => {
                    StatusCode::BAD_GATEWAY
                }
            },
        },
    };
    Refusal::after(kind, verdict.cool_off)
}

fn circuit_open(call: &Call, refused: &Refused) -> Kind {
    let cause = match &refused.rejected {
        Rejected::Open { cause, .. } => cause.to_string(),
        Rejected::ProbesInFlight { .. } => "a probe is under way".to_owned(),
    };
    let upstream = match &refused.protects {
        Protects::Upstream => call.upstream.name.to_string(),
        scope => format!("{} for this {scope}", call.upstream.name),
    };
    Kind::CircuitOpen { upstream, cause }
}

/// Sleeps for `wait` if that ends before `patience` does.
async fn wait_within(patience: Instant, wait: Duration, story: &mut Story, what: &str) -> bool {
    let until = Instant::now() + wait;
    if until > patience {
        return false;
    }
    story.waited(what, wait);
    tokio::time::sleep_until(until).await;
    true
}

/// Waits for a circuit: for its cooldown, or for somebody else's probe to close it.
async fn wait_for_circuit(patience: Instant, wait: Duration, call: &Call, story: &mut Story) -> bool {
    let began = Instant::now();
    if began + wait > patience {
        return false;
    }
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = call.upstream.circuits.changed() => {}
    }
    story.waited("the circuit", began.elapsed());
    true
}

/// A response of the provider's that becomes the caller's.
#[derive(Debug)]
struct Served {
    held: Held,
    record: Rc<Record>,
    verdict: Verdict,
    outcome: Outcome,
}

impl Served {
    /// Sends the head, and lets the rest follow.
    fn forward(
        self,
        worker: &Rc<Worker>,
        call: &Rc<Call>,
        admission: Option<Admission>,
        reserved: Option<Reserved>,
        story: Story,
    ) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.held.status;
        let headers = response.headers_mut();
        headers.clone_from(&self.held.headers);
        strip_hop_by_hop(headers);
        story.insert_headers(headers);
        if self.held.splitter.is_some() {
            // Whatever stands between here and the caller must not buffer, and events may come and go on the way.
            headers.remove(header::CONTENT_LENGTH);
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
            headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        }
        call.upstream.metrics.overhead(story.overhead());
        let affair = Affair {
            worker: Rc::clone(worker),
            call: Rc::clone(call),
            record: self.record,
            verdict: self.verdict,
            admission,
            reserved,
            story,
            outcome: self.outcome,
        };
        *response.body_mut() = Body::Forward(Box::new(Forward::new(self.held, affair)));
        response
    }
}
