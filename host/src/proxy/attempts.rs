//! The attempt loop: the order in which a request is let out, sent, judged, and sent again.

use crate::config::Limit;
use crate::observe::metrics::{RequestOutcome, WaitedFor};
use crate::policy::Record;
use crate::proxy::admission::{Obstruction, Tenants, admit};
use crate::proxy::answer::answer;
use crate::proxy::attempt::Attempt;
use crate::proxy::body::Body;
use crate::proxy::completion::Completion;
use crate::proxy::hedge;
use crate::proxy::hold::BufferedResponse;
use crate::proxy::out::{Later, Out, Then, Word};
use crate::proxy::permits::{Charges, Permits};
use crate::proxy::refusal::{Refusal, RefusalKind};
use crate::proxy::retry::{BudgetToken, grant, has_come_back, held_back, next};
use crate::proxy::settle::{billed, settle};
use crate::proxy::target::{Target, Targets};
use crate::proxy::trace::RequestTrace;
use crate::proxy::unserved::{Blocked, Failed, Tried, Unserved, refusal_for};
use crate::proxy::walk::{Past, Stop, Walk};
use crate::proxy::worker::Worker;
use crate::upstream::Upstream;
use crate::upstream::gate::AdmissionPermit;
use crate::upstream::patience::Patience;
use crate::upstream::verdict;
use http::Response;
use spillway_resilience::{FailedAttempt, Hears, Hop, NoHop, Onward, Settlement, Spend, Step, Timestamp, onward};
use spillway_sdk::{Advice, AttemptFacts, Class};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Shortest and longest wait at the limits and in the lanes of a target though another may serve. What is paced gives a turn sooner or
/// later, which costs less than the other's cold cache; and a lane whose turns nobody waits for never learns that it
/// could give more, so that traffic would not return behind a limit.
const PATIENCE_BESIDE_OTHERS_MIN: Duration = Duration::from_millis(50);
const PATIENCE_BESIDE_OTHERS_MAX: Duration = Duration::from_millis(200);
/// Between the two it is this share of the time that the first content takes there anyway, so that nobody waits
/// noticeably longer.
const PATIENCE_BESIDE_OTHERS_SHARE: u32 = 4;

/// The attempt loop: everything between a request that is understood and an answer that is committed.
///
/// As long as there is patience it waits for limits and circuits; after that it gives up at once. It asks one target
/// after the other: each that is left in its turn, without waiting for any, and then those that may serve later. Where an
/// allowance is exhausted whose owner has named a route for that, it goes on along that route, once.
///
/// # Errors
/// When nobody served the request; with what the first target said.
pub(crate) async fn attempts(
    worker: &Rc<Worker>,
    targets: &Targets,
    patience: Patience,
    trace: RequestTrace,
) -> Result<Response<Body>, Unserved> {
    let run = Run {
        worker,
        patience: patience.bounded_by(targets.first().request.deadline),
        came: worker.app.clock.now(),
        charge: None,
        was_counted: false,
        is_booked: false,
        hops: 0,
        token: None,
        refused_at: Vec::new(),
        was_exhausted: false,
        trace,
    };
    along(run, targets).await
}

/// The loop along the targets of one route.
///
/// # Errors
/// When nobody served the request there.
async fn along(mut run: Run<'_>, targets: &Targets) -> Result<Response<Body>, Unserved> {
    let worker = run.worker;
    let (mut walk, mut stop) = Walk::along(targets);
    run.trace.asks(&stop.target);
    let mut word: Option<Word> = None;
    let mut tried = Vec::new();
    loop {
        for (label, position) in walk.too_small.drain(..) {
            run.trace.tell(&format!("{label} passed over: its context is too small"));
            tried.push(Tried::too_small(label, position));
        }
        let Stop { target, past, is_asked_again, .. } = stop;
        let is_patient = is_asked_again || !walk.has_others();
        let approach = Approach { is_patient, walk: &walk, is_fallback: target.stands_in() };
        let out = match run.at(&target, past, approach).await {
            Ok(response) => return Ok(response),
            Err((went_on, out)) => {
                run = went_on;
                out
            }
        };
        // Its call is over, though its word is kept.
        if let Some(standing) = &target.standing {
            standing.in_flight.set(0);
        }
        let Out { last, blocked, then, past } = out;
        if let Some(instead) = run.instead(targets, &blocked.refusal) {
            return Box::pin(along(run, &instead)).await;
        }
        Tried::note(&mut tried, &target, last.as_ref(), &blocked);
        if let Then::Elsewhere { reach, later } = then {
            if let Some(reach) = reach {
                walk.rule_out(&target, reach);
            }
            if let Some(Later { wait, is_backoff }) = later {
                walk.may_serve_later(worker.app.clock.now().saturating_add(wait), is_backoff, Rc::clone(&target), past);
            }
        }
        let kept = Word::after(word.take(), Word { target, last, blocked });
        match if then == Then::Over { None } else { run.next(&mut walk).await } {
            Some(next) => {
                run.trace.goes_on_to(&next.target);
                (stop, word) = (next, Some(kept));
            }
            None => {
                let Word { target, mut last, blocked } = kept;
                if tried.len() > 1 {
                    run.trace.returns_to(&target, last.as_ref().map(|failed| &failed.attempted.judged.by));
                }
                // What is the caller's own affair stays so, whoever else was asked.
                let held = last.as_mut().filter(|failed| failed.consequence.hears == Hears::Answer);
                return match (held.and_then(|failed| failed.attempted.response.take()), last) {
                    (Some(held), Some(Failed { attempted, consequence, .. })) => {
                        let completion =
                            Completion::of(worker, &target, attempted, RequestOutcome::Answered, run.trace);
                        let mut response = answer(held, completion, consequence.is_final);
                        Tried::insert(&tried, response.headers_mut());
                        Ok(response)
                    }
                    (_, last) => Err(Unserved::new(target, last, blocked, tried, run.trace)),
                };
            }
        }
    }
}

/// How a request comes to a target.
#[derive(Clone, Copy)]
struct Approach<'a> {
    /// Whether it waits there for what is in the way.
    is_patient: bool,
    /// Which knows who else may be asked.
    walk: &'a Walk<'a>,
    /// Whether it stands in for another.
    is_fallback: bool,
}

/// A request on its way through the loop.
struct Run<'a> {
    worker: &'a Rc<Worker>,
    patience: Patience,
    came: Timestamp,
    /// What it has taken of its tenant's limits: once, however many attempts it takes; the dearest of them counts.
    charge: Option<AdmissionPermit>,
    was_counted: bool,
    /// Whether the ledger has counted the request already, by a call that has failed.
    is_booked: bool,
    /// How often it has gone on to another target after a call.
    hops: u32,
    /// What is paid for the call that follows there.
    token: Option<BudgetToken>,
    /// Where it was refused what another target may take.
    refused_at: Vec<usize>,
    /// Whether an allowance was exhausted already for which it went along another route.
    was_exhausted: bool,
    trace: RequestTrace,
}

impl Run<'_> {
    /// Has one target serve.
    ///
    /// # Errors
    /// Why it has not.
    async fn at(
        mut self,
        target: &Rc<Target>,
        past: Past,
        Approach { is_patient, walk, is_fallback }: Approach<'_>,
    ) -> Result<Response<Body>, (Self, Out)> {
        let (worker, clock) = (self.worker, self.worker.app.clock);
        let (upstream, subject) = (&*target.upstream, target.subject());
        let client = worker.client(upstream);
        let patience = match is_patient {
            true => self.patience,
            false => self.patience.at_most(patience_beside_others(upstream)),
        };
        let mut last: Option<Failed> = None;
        let Past { attempts: mut number, mut has_failed, mut places } = past;

        // What a caller repeats is a retry like ours.
        if target.request.has_come_back() && number == 0 {
            let wait = held_back(target, clock);
            if !wait.is_zero() {
                clock.sleep(wait).await;
                self.trace.waited(WaitedFor::Retry, wait, upstream);
            }
        }

        // A retry that was decided on, and not sent yet.
        let mut retry: Option<BudgetToken> = None;
        loop {
            // Wait for whatever is in the way.
            let tenant =
                Tenants { patience: self.patience.limits, charge: &mut self.charge, is_first: !self.is_booked };
            let admitted = admit(worker, target, patience, tenant, &mut places, &mut self.trace).await;
            let permits = match admitted {
                Ok(permits) => permits,
                Err(Obstruction::OfUpstream(blocked)) => {
                    if target.standing.is_some() {
                        self.trace.tell(&format!("{} passed over: {}", target.label(), blocked.refusal.code()));
                    }
                    // Whoever has not waited here yet may do so when nobody else is left.
                    let wait = blocked.refusal.retry_after.unwrap_or_default();
                    let later = (!is_patient).then_some(Later { wait, is_backoff: false });
                    let then = Then::Elsewhere { reach: None, later };
                    return Err((
                        self,
                        Out { last, blocked, then, past: Past { attempts: number, has_failed, places } },
                    ));
                }
                // What an upstream said is no reason any more.
                Err(Obstruction::OfTenant(blocked)) => return Err((self, Out::over(None, blocked))),
            };

            // A fallback is paid by whoever serves it.
            if let Some(token) = self.token.take_if(|token| !token.is_of(upstream)) {
                drop(token);
                if !upstream.experience().budget.try_spend(Spend::Fallback, clock.now()) {
                    let refusal = Refusal::from(RefusalKind::NoBudget { upstream: upstream.name.to_string() });
                    let blocked = Blocked::before_sending(refusal, RequestOutcome::Failed);
                    self.trace.tell(&format!("no fallback to {}: its retry budget is spent", target.label()));
                    let then = Then::Elsewhere { reach: None, later: None };
                    return Err((
                        self,
                        Out { last, blocked, then, past: Past { attempts: number, has_failed, places } },
                    ));
                }
                self.token = Some(BudgetToken::of(&target.upstream, Spend::Fallback));
            }

            // Send, hold until first content, classify.
            if let Some(standing) = &target.standing {
                standing.plan.sent_to(standing.position);
                standing.in_flight.set(target.estimate.total);
            }
            if let Some(charge) = &mut self.charge {
                charge.sent();
            }
            for token in [retry.take(), self.token.take()].into_iter().flatten() {
                token.sent();
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
                    return Err((self, Out::over(None, blocked)));
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
                if let Some(standing) = &target.standing {
                    self.trace.served_by(standing);
                    standing.plan.served_at(standing.position, &self.refused_at);
                }
                let Permits { limits, circuits, expense, .. } = permits;
                let completion = Completion {
                    circuits: Some(circuits),
                    charges: Charges { upstream: Some(limits), tenant: self.charge, expense },
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
            self.is_booked |= billed(&attempted.record, &consequence) != Settlement::Refund;
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

            // What is the caller's own affair is answered as it is, unless another target may see it otherwise. What one
            // that stands in for another has against the request is no news of the one that was meant.
            let is_callers_affair = consequence.hears == Hears::Answer;
            let may_go_on = walk.has_others() && verdict.advice == Advice::NextUpstream && target.is_repeatable();
            if is_callers_affair
                && !may_go_on
                && !is_fallback
                && let Some(held) = attempted.response.take()
            {
                let outcome = RequestOutcome::Answered;
                let completion = Completion::of(worker, target, attempted, outcome, self.trace);
                return Ok(answer(held, completion, consequence.is_final));
            }

            // Again, elsewhere, or out.
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
                is_repeated_by_its_caller: target.request.is_repeated_by_its_caller(),
                has_come_back: has_come_back(target, consequence.pacing),
                is_no_evidence: verdict.class == Class::Ignored,
            };
            let refusal = refusal_for(target, record, verdict, consequence.hears);
            let took = record.elapsed;
            let step = match is_callers_affair {
                true => {
                    if let Some(standing) =
                        target.standing.as_ref().filter(|_| is_fallback || refuses_all(target, record))
                    {
                        self.refused_at.push(standing.position);
                    }
                    Step::NextUpstream { hint: None }
                }
                false => next(worker, target, &mut attempted, &failed),
            };
            let mut onward = self.onward(target, step, number, took, walk);
            let upstream_is_trusted = !is_probe && upstream.circuits.are_trusted(subject);
            let failed = last.insert(Failed { attempted, consequence, upstream_is_trusted, refusal });
            let lane = upstream.lanes.wait(subject);
            let mut hint = None;
            let mut later = None;
            match (onward, step) {
                (Onward::Next, Step::Paced) => later = Some(Later { wait: lane, is_backoff: false }),
                (Onward::Next, Step::RetryAfter(wait)) => {
                    later = Some(Later { wait: wait.max(lane), is_backoff: true })
                }
                (_, Step::NextUpstream { hint: wait } | Step::GiveUp { hint: wait, .. }) => hint = wait,
                (Onward::Here(_), Step::Paced) => {
                    self.trace.tell("waits for its turn");
                    continue;
                }
                (Onward::Here(_), Step::RetryAfter(wait)) => {
                    match grant(target, number, wait, patience.circuits, clock) {
                        Ok((token, wait)) => {
                            retry = Some(token);
                            if !wait.is_zero() {
                                self.trace.waited(WaitedFor::Retry, wait, upstream);
                                clock.sleep(wait).await;
                            }
                            continue;
                        }
                        Err(no_retry) => {
                            self.trace.tell(&format!("no retry: {}", no_retry.as_str()));
                            hint = no_retry.wait();
                            // What is no chance here may be served elsewhere.
                            onward = self.onward(target, Step::NextUpstream { hint }, number, took, walk);
                        }
                    }
                }
            }
            let then = match onward {
                Onward::Next => Then::Elsewhere { reach: Some(consequence.reach), later },
                Onward::Here(no_hop) => {
                    if !matches!(no_hop, NoHop::NoOthers | NoHop::OfNoUse) {
                        self.trace.tell(&format!("no fallback: {}", no_hop.as_str()));
                    }
                    Then::Over
                }
            };
            // What is told to the caller is never less than what it would wait here.
            let own = Some(lane).filter(|wait| !wait.is_zero());
            failed.refusal.retry_after = hint.or(failed.refusal.retry_after).max(own);
            let blocked = Blocked { refusal: failed.refusal.clone(), outcome: RequestOutcome::Failed, was_sent: true };
            return Err((self, Out { last, blocked, then, past: Past { attempts: number, has_failed, places } }));
        }
    }
}

impl Run<'_> {
    /// Where the request goes on that an allowance has refused, if a route is named for that.
    fn instead(&mut self, targets: &Targets, refusal: &Refusal) -> Option<Targets> {
        let RefusalKind::Exhausted { standing } = &refusal.kind else { return None };
        let route = standing.goes_on_along.as_deref().filter(|_| !self.was_exhausted)?;
        self.was_exhausted = true;
        let (limit, whose) = (Limit::from(standing.exhausted.allowance), &standing.whose);
        self.trace.tell(&format!("the limit of {limit} for {whose} does not allow it"));
        match targets.along(route, &self.worker.app.chains) {
            Ok(instead) => {
                self.trace.tell(&format!("on along the route {route}"));
                self.trace.goes_instead_of(targets.first());
                // What was taken for a call at those goes back, and their places mean others here.
                (self.token, self.refused_at) = (None, Vec::new());
                Some(instead)
            }
            Err(why) => {
                self.trace.tell(&format!("not along the route {route}: {why}"));
                None
            }
        }
    }

    /// Whether a failure is followed by a call at another target.
    fn onward(&mut self, target: &Target, step: Step, attempts: u32, took: Duration, walk: &Walk<'_>) -> Onward {
        let (Some(standing), Some(following)) = (&target.standing, walk.following()) else {
            return Onward::Here(NoHop::NoOthers);
        };
        let now = self.worker.app.clock.now();
        // One that was not spent goes back before the next is taken.
        self.token = None;
        let hop = Hop {
            step,
            attempts,
            standing: target.upstream.circuits.standing(target.subject()),
            hops: self.hops,
            has_others: true,
            since_arrival: now.saturating_since(self.came),
            took,
        };
        let onward = onward(&standing.plan.chain.settings(), &hop, &mut following.experience().budget, now);
        if onward == Onward::Next {
            self.hops += 1;
            self.token = Some(BudgetToken::of(following, Spend::Fallback));
        }
        onward
    }

    /// Who is asked next. What has failed is repeated only where it would be without a route.
    async fn next(&mut self, walk: &mut Walk<'_>) -> Option<Stop> {
        let clock = self.worker.app.clock;
        loop {
            let stop = walk.next()?;
            let Some(not_before) = stop.not_before else { return Some(stop) };
            let wait = clock.until(not_before);
            // What was taken for a call elsewhere goes back before one is asked for.
            self.token = None;
            match grant(&stop.target, stop.past.attempts, wait, self.patience.circuits, clock) {
                Ok((token, wait)) => {
                    self.token = Some(token);
                    if !wait.is_zero() {
                        clock.sleep(wait).await;
                        self.trace.waited(WaitedFor::Retry, wait, &stop.target.upstream);
                    }
                    return Some(stop);
                }
                Err(no_retry) => self.trace.tell(&format!("no retry: {}", no_retry.as_str())),
            }
        }
    }
}

/// How long a request waits at limits where another target may serve.
fn patience_beside_others(upstream: &Upstream) -> Duration {
    let usual = upstream.circuits.usual_first_content().unwrap_or_default();
    (usual / PATIENCE_BESIDE_OTHERS_SHARE).clamp(PATIENCE_BESIDE_OTHERS_MIN, PATIENCE_BESIDE_OTHERS_MAX)
}

/// Whether what a target has refused is refused to whoever asks: a key of Spillway's own, or a model that the route
/// names. A prompt may be too long for one that serves others well, and a caller's own key or model is its own affair.
fn refuses_all(target: &Target, record: &Record) -> bool {
    let candidate = target.standing.as_ref().and_then(|standing| standing.plan.candidate(standing.position));
    match record.status {
        Some(401 | 403) => target.key.is_some(),
        Some(404) => candidate.is_some_and(|candidate| candidate.model.is_some()),
        _ => false,
    }
}

/// Whether a strict server refuses a request for a field that we have put into it.
fn refuses_what_we_ask_for(target: &Target, record: &Record) -> bool {
    target.demands_usage.get() && memchr::memmem::find(&record.prefix, b"stream_options").is_some()
}

#[cfg(test)]
mod tests;
