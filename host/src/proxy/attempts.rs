//! The attempt loop: the order in which a request is let out, sent, judged, and sent again.

use crate::observe::metrics::RequestOutcome;
use crate::policy::Record;
use crate::proxy::admission::{Obstruction, Places, admit};
use crate::proxy::answer::answer;
use crate::proxy::attempt::Attempt;
use crate::proxy::body::Body;
use crate::proxy::completion::Completion;
use crate::proxy::hedge;
use crate::proxy::hold::BufferedResponse;
use crate::proxy::permits::{Charges, Permits};
use crate::proxy::retry::{RetryToken, grant, held_back, next};
use crate::proxy::settle::settle;
use crate::proxy::target::{Target, Targets};
use crate::proxy::trace::RequestTrace;
use crate::proxy::unserved::{Blocked, Failed, Unserved, refusal_for};
use crate::proxy::worker::Worker;
use crate::upstream::gate::AdmissionPermit;
use crate::upstream::patience::Patience;
use crate::upstream::verdict;
use http::Response;
use spillway_resilience::{FailedAttempt, Hears, Settlement, Step, Timestamp};
use spillway_sdk::{AttemptFacts, Class};
use std::cell::Cell;
use std::rc::Rc;

/// The attempt loop: everything between a request that is understood and an answer that is committed.
///
/// As long as there is patience it waits for limits and circuits; after that it gives up at once. It asks one target
/// after the other, as far as their policies say that another one may do better.
///
/// # Errors
/// When nobody served the request; with what the first target said.
pub(crate) async fn attempts(
    worker: &Rc<Worker>,
    targets: &Targets,
    patience: Patience,
    trace: RequestTrace,
) -> Result<Response<Body>, Unserved> {
    let mut target = Rc::clone(targets.first());
    let mut others = targets.others();
    let mut first: Option<(Rc<Target>, Out)> = None;
    let mut run = Run {
        worker,
        patience: patience.bounded_by(target.request.deadline),
        came: worker.app.clock.now(),
        charge: None,
        was_counted: false,
        trace,
    };
    loop {
        let out = match run.at(&target).await {
            Ok(response) => return Ok(response),
            Err((went_on, out)) => {
                run = went_on;
                out
            }
        };
        let next = if out.may_be_served_elsewhere { others.next() } else { None };
        if let Some((first, out)) = &first
            && next.is_none()
        {
            run.trace.returns_to(&first.upstream, out.last.as_ref().map(|failed| &failed.attempted.judged.by));
        }
        let (asked_first, out) = first.take().unwrap_or((target, out));
        match next {
            Some(next) => {
                run.trace.goes_on_to(&next.upstream);
                first = Some((asked_first, out));
                target = next;
            }
            None => return Err(Unserved::new(asked_first, out.last, out.blocked, run.trace)),
        }
    }
}

/// Why a target has not served.
#[derive(Debug)]
struct Out {
    /// What its last attempt came to, if one was made.
    last: Option<Failed>,
    blocked: Blocked,
    /// Whether another target may do better.
    may_be_served_elsewhere: bool,
}

impl Out {
    fn of(last: Option<Failed>, blocked: Blocked) -> Out {
        Out { last, blocked, may_be_served_elsewhere: false }
    }
}

/// A request on its way through the loop.
struct Run<'a> {
    worker: &'a Rc<Worker>,
    patience: Patience,
    came: Timestamp,
    /// What it has taken of its tenant's limits: once, however many attempts it takes; the dearest of them counts.
    charge: Option<AdmissionPermit>,
    was_counted: bool,
    trace: RequestTrace,
}

impl Run<'_> {
    /// Has one target serve.
    ///
    /// # Errors
    /// Why it has not.
    async fn at(mut self, target: &Rc<Target>) -> Result<Response<Body>, (Self, Out)> {
        let (worker, clock) = (self.worker, self.worker.app.clock);
        let (upstream, subject) = (&*target.upstream, target.subject());
        let client = worker.client(upstream);
        let mut last: Option<Failed> = None;
        let mut number = 0;
        // A request counts one failure at most: its retries are no independent evidence.
        let mut has_failed = false;
        // Where it has waited before, so that a call that is refused keeps its place.
        let mut places = Places::default();

        // What a caller repeats is a retry like ours.
        if target.request.has_come_back() {
            let wait = held_back(target, clock);
            if !wait.is_zero() {
                clock.sleep(wait).await;
                self.trace.waited("a retry", wait);
            }
        }

        // A retry that was decided on, and not sent yet.
        let mut retry: Option<RetryToken<'_>> = None;
        loop {
            // Wait for whatever is in the way.
            let admitted = admit(target, self.patience, &mut self.charge, &mut places, clock, &mut self.trace).await;
            let permits = match admitted {
                Ok(permits) => permits,
                Err(Obstruction::OfUpstream(blocked)) => return Err((self, Out::of(last, blocked))),
                // What an upstream said is no reason any more.
                Err(Obstruction::OfTenant(blocked)) => return Err((self, Out::of(None, blocked))),
            };

            // Send, hold until first content, classify.
            if let Some(charge) = &mut self.charge {
                charge.sent();
            }
            if let Some(retry) = retry.take() {
                retry.sent();
            }
            number += 1;
            let connection = client.reuse(target.is_repeatable());
            let attempt = Attempt { worker, client: &client, target, number };
            let ended = match hedge::Plan::of(target, connection.as_ref()) {
                None => self.trace.attempted(attempt.make(connection, permits, &Cell::default()).await),
                Some(plan) => hedge::race(attempt, plan, connection, permits, &mut self.trace).await,
            };
            let (mut attempted, permits) = match ended {
                Ok(attempted) => attempted,
                Err(ended) => {
                    let body_timeout = worker.app.config.server.body_timeout;
                    let blocked = Blocked::elsewhere(target, ended, body_timeout);
                    return Err((self, Out::of(None, blocked)));
                }
            };

            // A request that is taken without the question for usage tells that the question was the mistake.
            if target.body_demanding_usage.is_some()
                && !target.demands_usage.get()
                && attempted.judged.verdict.class == Class::Success
            {
                upstream.stop_asking_for_usage();
            }

            // Commit.
            if attempted.judged.verdict.class == Class::Success
                && let Some(held) = attempted.response.take()
            {
                let Permits { limits, circuits } = permits;
                let completion = Completion {
                    circuits: Some(circuits),
                    charges: Charges { upstream: Some(limits), tenant: self.charge },
                    has_failed,
                    ..Completion::of(worker, target, attempted, RequestOutcome::Answered, self.trace)
                };
                return Ok(answer(held, completion, false));
            }

            // Settle.
            let is_probe = permits.circuits.is_probe();
            let consequence = settle(worker, target, &attempted, permits, has_failed);
            has_failed |= consequence.request_has_failed;
            self.was_counted |= consequence.settlement != Settlement::Refund;
            if let (false, Some(charge)) = (self.was_counted, &mut self.charge) {
                charge.not_counted();
            }

            // What we have added ourselves must not be its caller's mistake.
            let (record, verdict) = (&attempted.record, &attempted.judged.verdict);
            if verdict.class == Class::Rejected && refuses_what_we_ask_for(target, record) {
                target.demands_usage.set(false);
                self.trace.tell("again without asking for usage, which this upstream seems not to know");
                continue;
            }

            // What is the caller's own affair is answered as it is.
            if consequence.hears == Hears::Answer
                && let Some(held) = attempted.response.take()
            {
                let outcome = RequestOutcome::Answered;
                let completion = Completion::of(worker, target, attempted, outcome, self.trace);
                return Ok(answer(held, completion, consequence.is_final));
            }

            // Again, or out.
            let is_repeatable = target.is_repeatable() || target.request.parameters.creates && consequence.is_untouched;
            let failed = FailedAttempt {
                number,
                took: record.elapsed,
                requested_wait: verdict.cool_off.or_else(|| record.retry_after()),
                remaining: record.remaining(),
                advice: verdict::advice(verdict.advice),
                // Where part of an answer has come, another one would be made and paid for that its caller has not
                // asked for.
                may_repeat: is_repeatable && !attempted.response.as_ref().is_some_and(BufferedResponse::is_part),
                pacing: consequence.pacing,
                is_turn_of_use: consequence.pacing.is_some() && upstream.lanes.is_of_use(subject, self.came),
            };
            let refusal = refusal_for(target, record, verdict, consequence.hears);
            let step = next(worker, target, &mut attempted, &failed);
            let upstream_is_trusted = !is_probe && upstream.circuits.are_trusted(subject);
            let failed = last.insert(Failed { attempted, consequence, upstream_is_trusted, refusal });
            let (hint, may_be_served_elsewhere) = match step {
                Step::Paced => {
                    self.trace.tell("waits for its turn");
                    continue;
                }
                Step::RetryAfter(wait) => match grant(target, number, wait, self.patience.circuits, clock) {
                    Ok((token, wait)) => {
                        retry = Some(token);
                        if !wait.is_zero() {
                            self.trace.waited("a retry", wait);
                            clock.sleep(wait).await;
                        }
                        continue;
                    }
                    Err(no_retry) => {
                        self.trace.tell(&format!("no retry: {}", no_retry.as_str()));
                        (no_retry.wait(), false)
                    }
                },
                Step::NextUpstream { hint } => (hint, true),
                Step::GiveUp { hint, .. } => (hint, false),
            };
            // What is told to the caller is never less than what it would wait here.
            let own = Some(upstream.lanes.wait(subject)).filter(|wait| !wait.is_zero());
            failed.refusal.retry_after = hint.or(failed.refusal.retry_after).max(own);
            let blocked = Blocked { refusal: failed.refusal.clone(), outcome: RequestOutcome::Failed, was_sent: true };
            return Err((self, Out { last, blocked, may_be_served_elsewhere }));
        }
    }
}

/// Whether a strict server refuses a request for a field that we have put into it.
fn refuses_what_we_ask_for(target: &Target, record: &Record) -> bool {
    target.demands_usage.get() && memchr::memmem::find(&record.prefix, b"stream_options").is_some()
}

#[cfg(test)]
mod tests;
