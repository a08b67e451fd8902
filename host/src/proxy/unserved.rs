//! Requests that were understood and that nobody has served: what is left of them, and what to tell their callers.

use crate::dialect::library::Library;
use crate::dialect::plain;
use crate::dialect::preference::Preference;
use crate::dialect::static_answer::{StaticAnswer, static_answer};
use crate::observe::metrics::RequestOutcome;
use crate::policy::Record;
use crate::proxy::allowance_left::tell_what_is_left;
use crate::proxy::answer::answer;
use crate::proxy::attempt::{Attempted, Elsewhere, EndedElsewhere};
use crate::proxy::body::Body;
use crate::proxy::completion::Completion;
use crate::proxy::refusal::advice::Audience;
use crate::proxy::refusal::{OfSeveral, Refusal, RefusalKind};
use crate::proxy::respond::{RETRY_AFTER_MAX, SHOULD_RETRY, lower_wait, raise_wait};
use crate::proxy::target::Target;
use crate::proxy::trace::RequestTrace;
use crate::proxy::worker::Worker;
use crate::runtime::clock::Clock;
use crate::spool::Spool;
use crate::upstream::circuit::Refused;
use crate::upstream::said::fitting;
use crate::upstream::scope::Protects;
use http::{HeaderMap, HeaderValue, Response, header};
use spillway_resilience::{Consequence, Hears, Rejected, ShedSettings};
use spillway_sdk::{Fault, Phase, Verdict};
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How much longer than its circuit a job waits whose call has just failed.
const PROBE_TURN: Duration = Duration::from_millis(500);

/// A request that was understood, and that nobody has served.
#[derive(Debug)]
pub(crate) struct Unserved {
    /// What to tell the caller, unless the provider's own answer does.
    pub refusal: Refusal,
    /// How the request ended.
    pub outcome: RequestOutcome,
    /// The attempt of which the caller hears.
    last: Option<Failed>,
    /// Whether a call was made at all.
    was_called: bool,
    target: Rc<Target>,
    /// What became of it at each target of its route.
    tried: Vec<Tried>,
    pub trace: RequestTrace,
}

/// What became of a request at one target of its route.
#[derive(Debug)]
pub(crate) struct Tried {
    label: Arc<str>,
    /// It is asked as the so-many-th: of the keys of one target each is asked by itself.
    position: usize,
    /// A status, or the code of a refusal.
    what: Cow<'static, str>,
    /// When it may go better there, as far as that is known.
    wait: Option<Duration>,
    /// Whether trying again there is of no use.
    is_final: bool,
}

impl Tried {
    /// Notes what became of a request at one of several targets. Of what one has said twice, the last counts.
    pub(crate) fn note(tried: &mut Vec<Tried>, target: &Target, last: Option<&Failed>, blocked: &Blocked) {
        let Some(standing) = &target.standing else { return };
        let status = last.and_then(|failed| failed.attempted.record.status);
        let noted = Tried {
            label: Arc::clone(&standing.label),
            position: standing.position,
            what: match status {
                Some(status) if blocked.was_sent => Cow::Owned(status.to_string()),
                _ => Cow::Borrowed(blocked.refusal.code()),
            },
            wait: blocked.refusal.retry_after,
            // What is the caller's own affair, such as a key that is refused, is so the next time.
            is_final: last
                .is_some_and(|Failed { consequence, .. }| consequence.is_final || consequence.hears == Hears::Answer)
                || blocked.refusal.is_final_for_now(),
        };
        match tried.iter_mut().find(|before| before.position == noted.position) {
            Some(before) => *before = noted,
            None => tried.push(noted),
        }
    }

    /// A target was not asked, since its context is too small for the request.
    pub(crate) fn too_small(label: Arc<str>, position: usize) -> Tried {
        Tried { label, position, what: Cow::Borrowed("its context is too small"), wait: None, is_final: true }
    }

    /// All of them in a few words. A target is named once, with what was said last of its keys.
    fn list(tried: &[Tried]) -> String {
        let last = |(index, tried_last): &(usize, &Tried)| {
            !tried[index + 1..].iter().any(|later: &Tried| later.label == tried_last.label)
        };
        let named = tried.iter().enumerate().filter(last);
        let words: Vec<String> = named.map(|(_, tried)| format!("{} ({})", tried.label, tried.what)).collect();
        words.join(", ")
    }

    /// Says in a header which targets were to serve, if there were several.
    pub(crate) fn insert(tried: &[Tried], headers: &mut HeaderMap) {
        if tried.len() > 1
            && let Ok(tried) = HeaderValue::from_str(&Tried::list(tried))
        {
            headers.insert("x-spillway-tried", tried);
        }
    }
}

impl Unserved {
    /// Where an attempt was made, its failure is what the caller hears of, not what kept the next one from being made.
    pub(crate) fn new(
        target: Rc<Target>,
        last: Option<Failed>,
        blocked: Blocked,
        tried: Vec<Tried>,
        mut trace: RequestTrace,
    ) -> Unserved {
        let was_called = blocked.was_sent || last.is_some();
        let Blocked { mut refusal, mut outcome, was_sent: _ } = blocked;
        if let (Some(failed), true) = (&last, outcome != RequestOutcome::Failed) {
            trace.tell(&format!("no retry: {}", refusal.code()));
            refusal.kind = failed.refusal.kind.clone();
            outcome = RequestOutcome::Failed;
        }
        let mut unserved = Unserved { refusal, outcome, last, was_called, target, tried, trace };
        if unserved.is_of_several() {
            // Whoever comes back is served by whichever of them is ready first.
            unserved.refusal.retry_after = unserved.soonest();
            let list = Arc::from(Tried::list(&unserved.tried));
            unserved.refusal.tried = Some(OfSeveral { list, is_final: unserved.is_final_everywhere() });
        }
        unserved
    }

    /// Whether several targets were to serve it.
    fn is_of_several(&self) -> bool {
        self.tried.len() > 1
    }

    /// When the first of its targets may serve; `None` where nobody knows.
    fn soonest(&self) -> Option<Duration> {
        self.tried.iter().filter(|tried| !tried.is_final).map(|tried| tried.wait).min().flatten().or_else(|| {
            let waits = self.tried.iter().filter_map(|tried| tried.wait);
            waits.min().filter(|_| self.tried.iter().all(|tried| tried.is_final))
        })
    }

    /// Whether trying again is of no use with any of its targets.
    fn is_final_everywhere(&self) -> bool {
        self.tried.iter().all(|tried| tried.is_final)
    }

    /// Whether the failure may be this request's own: a healthy upstream answered it with an error.
    pub(crate) fn is_suspect(&self) -> bool {
        self.last.as_ref().is_some_and(|failed| failed.consequence.is_suspect && failed.upstream_is_trusted)
    }

    /// Ends the request without an answer: nobody waits for one.
    pub(crate) fn close(mut self) {
        self.trace.tell(self.refusal.code());
        self.trace.end(self.outcome, self.refusal.status().as_u16());
    }

    /// How long to leave a job alone that was not served.
    ///
    /// What may be the job's own fault, or asks for less load, waits longer each time. What an open circuit explains
    /// waits for that circuit and a moment more, so that another job gets the next probe. What was not called, with no
    /// wait known, waits longer each time as well.
    pub(crate) fn delay(&self, circuit: Option<Duration>, own: Duration) -> Duration {
        let asked = self.refusal.retry_after.unwrap_or_default();
        let asks_for_less = self.last.as_ref().is_some_and(|failed| failed.consequence.asks_for_less);
        match (self.was_called, circuit) {
            (false, _) => self.refusal.retry_after.unwrap_or(own),
            (true, Some(circuit)) if !self.is_suspect() && !asks_for_less => asked.max(circuit + PROBE_TURN),
            (true, _) => asked.max(own),
        }
    }

    /// What the caller gets: what its route answers where nobody serves, if it says something, and else what was said.
    pub(crate) fn into_response(self, worker: &Rc<Worker>) -> Response<Body> {
        match self.static_answer(worker.app.clock) {
            Some(answer) => self.into_static(answer),
            None => {
                let audience = self.caller(worker);
                self.into_what_was_said(worker, audience)
            }
        }
    }

    /// Who waits for it, and whether it would be kept if its caller sent it again with the wish for that.
    fn caller(&self, worker: &Worker) -> Audience {
        let headers = &self.target.request.headers;
        // Who has had that wish has been refused it.
        let may_be_kept = !Preference::read(headers).respond_async
            && self.target.may_be_kept()
            && worker.app.spool.as_ref().is_some_and(Spool::promises);
        Audience::Caller { library: Library::of(headers), may_be_kept }
    }

    /// The provider's own answer if there is one, with its `Retry-After`; else ours, for this audience.
    pub(crate) fn into_what_was_said(mut self, worker: &Rc<Worker>, audience: Audience) -> Response<Body> {
        let (is_of_several, tried) = (self.is_of_several(), self.refusal.tried.clone());
        let target = Rc::clone(&self.target);
        // A failure that looks like a success must not reach the caller as one, unless it shows that it is none.
        let shows = |failed: &Failed| {
            let held = failed.attempted.response.as_ref();
            held.is_some_and(|held| held.shows_its_failure(&failed.attempted.record))
        };
        let is_final_everywhere = self.is_final_everywhere();
        if let Some(Failed { mut attempted, consequence, .. }) = self.last.take_if(|failed| shows(failed))
            && let Some(held) = attempted.response.take()
        {
            let completion = Completion::of(worker, &target, attempted, RequestOutcome::Failed, self.trace);
            let mut response = answer(held, completion, consequence.is_final);
            let headers = response.headers_mut();
            match self.refusal.retry_after {
                Some(wait) if is_of_several => lower_wait(headers, wait),
                Some(wait) => raise_wait(headers, wait),
                None => {}
            }
            if is_of_several {
                speak_for_all(headers, is_final_everywhere, self.refusal.retry_after);
                insert_tried(headers, tried.as_ref());
            }
            return response;
        }
        let (mut trace, refusal) = (self.trace, self.refusal);
        let wait = refusal.retry_after;
        let lost = matches!(refusal.kind, RefusalKind::Unreachable { fault: Fault::Reset, cause: None, .. })
            && self.outcome == RequestOutcome::Failed
            && !is_of_several;
        target.upstream.metrics.overhead(trace.overhead());
        let (code, reason) = (refusal.code(), refusal.reason());
        trace.tell(code);
        let mut response = refusal.into_response(target.request.dialect, &target.request.id, audience);
        // A connection that is closed shows no status.
        let status = if lost { 0 } else { response.status().as_u16() };
        worker.app.note_refusal((code, status), target.names(), &reason);
        trace.insert_headers(response.headers_mut());
        tell_what_is_left(response.headers_mut(), &target, worker.app.ledger.as_deref());
        if is_of_several {
            speak_for_all(response.headers_mut(), is_final_everywhere, wait);
            insert_tried(response.headers_mut(), tried.as_ref());
        }
        if lost {
            // What callers make of a lost connection is theirs to say: SDKs have a class of their own for it.
            trace.tell("the caller's connection is closed as the provider's was");
            trace.end(self.outcome, 0);
            response.extensions_mut().insert(BreakOff);
            return response;
        }
        trace.end(self.outcome, response.status().as_u16());
        response
    }
}

impl Unserved {
    /// What its route has answered where no target serves. Whoever is refused for its own sake does not get it.
    fn static_answer(&self, clock: Clock) -> Option<StaticAnswer> {
        let (request, standing) = (&self.target.request, self.target.standing.as_ref()?);
        let text = &standing.plan.chain.config.static_answer;
        let is_ours_to_mend =
            matches!(self.outcome, RequestOutcome::Failed | RequestOutcome::CircuitOpen | RequestOutcome::Limited);
        if text.is_empty() || !is_ours_to_mend || self.refusal.is_of_tenant() {
            return None;
        }
        let readable = request.readable()?;
        if plain::wants_more_than_text(&readable) {
            return None;
        }
        let created_unix_s = clock.unix_ms() / 1_000;
        static_answer(request.dialect, &request.path_and_query, &request.parameters, text, &request.id, created_unix_s)
    }

    fn into_static(self, answer: StaticAnswer) -> Response<Body> {
        let mut trace = self.trace;
        trace.tell(self.refusal.code());
        trace.tell("answered with the route's static answer");
        let mut response = Response::new(Body::from(answer.body));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
        headers.insert("x-spillway-degraded", HeaderValue::from_static("static"));
        trace.insert_headers(headers);
        insert_tried(headers, self.refusal.tried.as_ref());
        self.target.upstream.metrics.overhead(trace.overhead());
        trace.end(RequestOutcome::Degraded, response.status().as_u16());
        response
    }
}

/// Says whether a caller should try again by itself: as long as one of several targets may serve then, whatever the
/// first has said of itself.
fn speak_for_all(headers: &mut HeaderMap, is_final: bool, wait: Option<Duration>) {
    if is_final {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    } else if wait.is_none_or(|wait| wait <= RETRY_AFTER_MAX) {
        headers.remove(SHOULD_RETRY);
    }
}

/// Says which targets were to serve.
fn insert_tried(headers: &mut HeaderMap, tried: Option<&OfSeveral>) {
    if let Some(tried) = tried.and_then(|tried| HeaderValue::from_str(&tried.list).ok()) {
        headers.insert("x-spillway-tried", tried);
    }
}

/// Marks a response that is not sent: its connection is closed instead, as the provider has closed its own.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the provider has closed the connection without an answer, and so do we")]
pub(crate) struct BreakOff;

/// An attempt that failed, kept in case it remains the last.
#[derive(Debug)]
pub(crate) struct Failed {
    pub attempted: Attempted,
    pub consequence: Consequence,
    /// Whether the upstream is known to serve others, so that the failure may be the request's own: its circuits are
    /// closed, and the call was no probe.
    pub upstream_is_trusted: bool,
    /// What Spillway says of it where its own answer cannot be passed on.
    pub refusal: Refusal,
}

/// What ended the attempt loop.
#[derive(Debug)]
pub(crate) struct Blocked {
    pub refusal: Refusal,
    /// How the request has ended, unless an attempt was made.
    pub outcome: RequestOutcome,
    /// Whether it was a call that it ended with.
    pub was_sent: bool,
}

impl Blocked {
    /// Nothing was sent.
    pub(crate) fn before_sending(refusal: Refusal, outcome: RequestOutcome) -> Blocked {
        Blocked { refusal, outcome, was_sent: false }
    }

    /// An attempt has ended without any doing of the upstream's.
    pub(crate) fn elsewhere(target: &Target, ended: EndedElsewhere, body_timeout: Duration) -> Blocked {
        let EndedElsewhere { what, elapsed: _ } = ended;
        let upstream = target.upstream.name.to_string();
        let (kind, outcome) = match what {
            Elsewhere::BodyBroken => {
                (RefusalKind::BadRequest { reason: "its body broke off".into() }, RequestOutcome::Abandoned)
            }
            Elsewhere::BodyLate => (RefusalKind::BodyLate { timeout: body_timeout }, RequestOutcome::Refused),
            Elsewhere::Impatient => (RefusalKind::Impatient { upstream }, RequestOutcome::Failed),
            Elsewhere::Short(shortage) => (RefusalKind::Short { shortage }, RequestOutcome::Shed),
        };
        let wait = matches!(what, Elsewhere::Short(_)).then_some(ShedSettings::DEFAULT_RETRY_AFTER_MIN);
        Blocked { refusal: Refusal::after(kind, wait), outcome, was_sent: true }
    }
}

/// What Spillway says of a failed attempt where the provider's answer cannot be passed on.
pub(crate) fn refusal_for(target: &Target, record: &Record, verdict: &Verdict, hears: Hears) -> Refusal {
    let upstream = target.upstream.name.to_string();
    // What was in the way of a connection is a sentence for whoever asked. Of one that was there the fault says enough,
    // and the log the rest.
    let cause = record.cause.clone().filter(|_| record.phase == Phase::Connecting);
    let kind = match record.fault {
        Some(
            fault @ (Fault::FirstContentTimeout | Fault::IdleTimeout | Fault::AttemptTimeout | Fault::ConnectTimeout),
        ) => RefusalKind::TimedOut { upstream, fault, cause },
        Some(
            fault @ (Fault::Dns
            | Fault::ConnectRefused
            | Fault::Tls
            | Fault::Reset
            | Fault::Protocol
            | Fault::Truncated),
        ) => RefusalKind::Unreachable { upstream, fault, cause },
        None => RefusalKind::JudgedFailed { upstream, reason: verdict.reason.to_string(), status: fitting(hears) },
    };
    Refusal::after(kind, verdict.cool_off)
}

/// What Spillway says where a circuit refuses.
pub(crate) fn circuit_open(target: &Target, refused: &Refused) -> RefusalKind {
    let cause = match &refused.rejected {
        Rejected::Open { cause, .. } => cause.to_string(),
        Rejected::ProbesInFlight { .. } => "a probe is under way".to_owned(),
        Rejected::Ramping { .. } => "it has just closed, and lets a growing share of calls through".to_owned(),
    };
    RefusalKind::CircuitOpen { upstream: named(target, &refused.protects), cause, said: refused.said.clone() }
}

/// The upstream, or the part of it, in words.
pub(crate) fn named(target: &Target, protects: &Protects) -> String {
    match protects {
        Protects::Upstream => target.upstream.name.to_string(),
        part => format!("{} for this {part}", target.upstream.name),
    }
}
