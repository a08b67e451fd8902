//! The life of one request, from top to bottom.

use crate::attempt::{self, Ended, Record};
use crate::body::Body;
use crate::call::{Call, Preference, Route};
use crate::clock::random;
use crate::dialect::Dialect;
use crate::explain::Story;
use crate::jobs;
use crate::metrics::Outcome;
use crate::refusal::{Kind, Refusal};
use crate::served::Served;
use crate::unserved::{Blocked, Failed, Unserved, circuit_open, refusal_for};
use crate::worker::Worker;
use http::{Request, Response};
use hyper::body::Incoming;
use spillway_resilience::{Settlement, Step, next_step};
use spillway_sdk::{Advice, AttemptFacts, Class, Phase, RetryDecision, Verdict};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

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
                return Err(Unserved::new(last, Blocked { refusal, outcome: Outcome::Limited }, story));
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
                return Err(Unserved::new(last, Blocked { refusal, outcome: Outcome::CircuitOpen }, story));
            }
        };

        // Send, hold until first content, classify.
        number += 1;
        reserved.sent();
        let is_probe = admission.is_probe();
        let Ended { record, held, by_caller } = attempt::make(&client, call, number).await;
        if let Some(doing) = by_caller {
            // The permits are dropped here, which counts nowhere: the upstream had no part in it.
            return Err(Unserved::by_caller(call, doing, record.elapsed, story));
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
                // Waiting for a circuit that will still be open is waiting for nothing.
                let blocked = upstream.circuits.blocked_until().map(|until| worker.shared.clock.until(until));
                if let Some(blocked) = blocked.filter(|blocked| *blocked > wait && Instant::now() + *blocked > patience)
                {
                    story.tell("no retry: the circuit is open");
                    failed.refusal.retry_after = Some(blocked);
                    let blocked = Blocked { refusal: failed.refusal.clone(), outcome: Outcome::Failed };
                    return Err(Unserved::new(last, blocked, story));
                }
                if !upstream.budget().try_withdraw() {
                    story.tell("no retry: the retry budget is spent");
                    let blocked = Blocked { refusal: failed.refusal.clone(), outcome: Outcome::Failed };
                    return Err(Unserved::new(last, blocked, story));
                }
                upstream.metrics.retry();
                story.waited("a retry", wait);
                tokio::time::sleep(wait).await;
            }
            Next::GiveUp(wait) => {
                failed.refusal.retry_after = wait.or(failed.refusal.retry_after);
                let blocked = Blocked { refusal: failed.refusal.clone(), outcome: Outcome::Failed };
                return Err(Unserved::new(last, blocked, story));
            }
        }
    }
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
