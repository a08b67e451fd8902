//! One record per request that says why it ended as it did. It becomes one line of the log, and a few headers.

use crate::observe::metrics::{About, Ended, RequestOutcome, UpstreamMetrics, WaitedFor};
use crate::observe::recording::{Arrival, FORM, Recorder, Unserved};
use crate::policy::Record;
use crate::policy::{By, Judged};
use crate::proxy::attempt::{Attempted, Elsewhere, EndedElsewhere};
use crate::proxy::target::{Standing, Target};
use crate::runtime::causes::ErrorChain;
use crate::runtime::clock::milliseconds;
use crate::spool::JobId;
use crate::upstream::Upstream;
use http::{HeaderMap, HeaderValue};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why a request ended as it did, written while it lives.
#[derive(Debug)]
pub(crate) struct RequestTrace {
    request_id: String,
    /// The address of its caller, where other machines call.
    caller: Option<IpAddr>,
    began: Instant,
    upstream: String,
    model: Option<String>,
    /// What its caller says that it is for.
    label: Arc<str>,
    route: Option<RouteTrace>,
    /// Whom its route stands in for, since what that one costs was more than is allowed.
    instead_of: Option<Arc<str>>,
    /// What happened, in a few words each.
    steps: String,
    attempts: u32,
    judged_by: Option<Arc<By>>,
    /// Time spent upstream and waiting: all the rest is Spillway's own.
    elsewhere: Duration,
    /// Time spent waiting for limits, lanes and circuits.
    waited: Duration,
    /// Time from its arrival to its first content.
    first_content: Option<Duration>,
    /// Calls beyond the first at the same target, and calls of another target.
    retries: u32,
    fallbacks: u32,
    /// Which of a route's targets was called last.
    called_last: Option<Arc<str>>,
    /// The name of the tenant that asks.
    tenant: Option<Arc<str>>,
    /// Where the end is counted; a job's is not, since its request was counted when it was kept.
    counted: Option<Arc<UpstreamMetrics>>,
    /// Where its end is recorded if it ends without an attempt, and how it came.
    recorded: Option<(Recorder, Arrival)>,
    ended: bool,
}

/// What is told of a request that a route has taken.
#[derive(Debug)]
struct RouteTrace {
    name: Arc<str>,
    /// The target that was asked last.
    target: Arc<str>,
    /// For whom it stood in, if it did.
    fallback_from: Option<Arc<str>>,
    /// Whether its answer is less than what was asked for.
    degraded: bool,
}

impl RouteTrace {
    /// Of a target that is a route's.
    fn of(standing: &Standing) -> Option<RouteTrace> {
        let (name, target) = (Arc::clone(standing.plan.chain.name.as_ref()?), Arc::clone(&standing.label));
        Some(RouteTrace { name, target, fallback_from: None, degraded: false })
    }
}

impl RequestTrace {
    /// Begins with the request's arrival.
    pub(crate) fn begin(request_id: &str) -> RequestTrace {
        RequestTrace {
            request_id: request_id.to_owned(),
            caller: None,
            began: Instant::now(),
            upstream: String::new(),
            model: None,
            label: Arc::default(),
            route: None,
            instead_of: None,
            steps: String::new(),
            attempts: 0,
            judged_by: None,
            elsewhere: Duration::ZERO,
            waited: Duration::ZERO,
            first_content: None,
            retries: 0,
            fallbacks: 0,
            called_last: None,
            tenant: None,
            counted: None,
            recorded: None,
            ended: false,
        }
    }

    /// From which address it comes, where that tells its callers apart.
    pub(crate) fn comes_from(&mut self, caller: Option<IpAddr>) {
        self.caller = caller;
    }

    /// Where the request goes. From here on its end is counted there.
    pub(crate) fn goes_to(&mut self, target: &Target) {
        self.upstream = target.upstream.name.to_string();
        self.model.clone_from(&target.request.parameters.model);
        self.tenant.clone_from(&target.request.caller.name);
        self.counted = Some(Arc::clone(&target.upstream.metrics));
    }

    /// What its caller says that it is for.
    pub(crate) fn is_for(&mut self, label: Arc<str>) {
        self.label = label;
    }

    /// If the request ends without an attempt, that is recorded here.
    pub(crate) fn is_recorded(&mut self, recorder: Option<&Recorder>, target: &Target) {
        self.recorded = recorder.and_then(|recorder| Some((recorder.clone(), target.arrival()?)));
    }

    /// It is this target that is asked first.
    pub(crate) fn asks(&mut self, target: &Target) {
        if *self.upstream != *target.upstream.name {
            self.upstream = target.upstream.name.to_string();
        }
        self.route = target.standing.as_ref().and_then(RouteTrace::of);
    }

    /// The request goes on to another target. It stays counted where it went first.
    pub(crate) fn goes_on_to(&mut self, target: &Target) {
        self.tell(&format!("on to {}", target.label()));
        self.asks(target);
    }

    /// The request goes along another route, in the place of this target, which costs more than is allowed.
    pub(crate) fn goes_instead_of(&mut self, target: &Target) {
        self.instead_of = Some(Arc::clone(target.label()));
    }

    /// This target has served it.
    pub(crate) fn served_by(&mut self, standing: &Standing) {
        let Some(route) = &mut self.route else { return };
        let falls_back_from = standing.plan.falls_back_from(standing.position);
        route.fallback_from = self.instead_of.as_ref().or(falls_back_from).cloned();
        route.degraded = standing.degraded;
        if let Some(from) = &route.fallback_from {
            standing.plan.chain.metrics.fallback(from, &standing.label);
        }
    }

    /// Its caller hears what this target has said, by this judgement, although others were asked after it.
    pub(crate) fn returns_to(&mut self, target: &Target, judged_by: Option<&Arc<By>>) {
        self.asks(target);
        self.judged_by = judged_by.cloned();
    }

    /// The request is a job's.
    pub(crate) fn serves(&mut self, job: JobId, upstream: &str, model: Option<&str>) {
        self.upstream = upstream.to_owned();
        self.model = model.map(str::to_owned);
        self.tell(&format!("{job} taken from the spool"));
    }

    /// An attempt ended, one way or the other.
    ///
    /// # Errors
    /// As it has ended itself.
    pub(crate) fn attempted<P>(
        &mut self,
        ended: Result<(Attempted, P), EndedElsewhere>,
    ) -> Result<(Attempted, P), EndedElsewhere> {
        match &ended {
            Ok((attempted, _)) => self.attempt(&attempted.record, &attempted.judged),
            Err(ended) => self.attempt_ended(ended.what, ended.elapsed),
        }
        ended
    }

    /// An attempt ended, and this is what it was worth.
    fn attempt(&mut self, record: &Record, judged: &Judged) {
        self.called(record.elapsed);
        self.judged_by = Some(Arc::clone(&judged.by));
        let verdict = &judged.verdict;
        let mut step =
            format!("attempt {} {} in {} ms", self.attempts, verdict.class.as_str(), record.elapsed.as_millis());
        step.push_str(&in_brackets(&why(&verdict.reason, record.cause.as_ref()), &self.steps));
        self.tell(&step);
    }

    /// A call was made, and has taken so long.
    fn called(&mut self, elapsed: Duration) {
        self.elsewhere += elapsed;
        let here = self.route.as_ref().map(|route| &route.target);
        match self.called_last.as_ref() == here {
            _ if self.attempts == 0 => {}
            true => self.retries += 1,
            false => self.fallbacks += 1,
        }
        if self.called_last.as_ref() != here {
            self.called_last = here.cloned();
        }
        self.attempts += 1;
    }

    /// An attempt ended without any doing of the upstream's.
    fn attempt_ended(&mut self, what: Elsewhere, elapsed: Duration) {
        self.called(elapsed);
        let by = match what {
            Elsewhere::BodyBroken | Elsewhere::BodyLate | Elsewhere::Impatient => "by its caller".to_owned(),
            Elsewhere::Short(shortage) => format!("because {shortage},"),
        };
        self.tell(&format!("attempt {} ended {by} after {} ms", self.attempts, elapsed.as_millis()));
    }

    /// The request waited for something at this upstream.
    pub(crate) fn waited(&mut self, waited_for: WaitedFor, wait: Duration, upstream: &Upstream) {
        self.elsewhere += wait;
        if waited_for != WaitedFor::Retry {
            self.waited += wait;
        }
        upstream.metrics.waited(waited_for, wait);
        self.tell(&format!("waited {} ms for {}", wait.as_millis(), waited_for.in_words()));
    }

    /// The first content is on its way to the caller.
    pub(crate) fn content_began(&mut self) {
        self.first_content = Some(self.began.elapsed());
    }

    /// Something happened that explains the end.
    pub(crate) fn tell(&mut self, what: &str) {
        if !self.steps.is_empty() {
            self.steps.push_str("; ");
        }
        self.steps.push_str(what);
    }

    /// Time that Spillway itself has taken so far.
    pub(crate) fn overhead(&self) -> Duration {
        self.began.elapsed().saturating_sub(self.elsewhere)
    }

    /// Says the essence in response headers.
    pub(crate) fn insert_headers(&self, headers: &mut HeaderMap) {
        let mut insert = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        insert("x-spillway-request-id", &self.request_id);
        if !self.upstream.is_empty() {
            insert("x-spillway-upstream", &self.upstream);
            insert("x-spillway-attempts", &self.attempts.to_string());
        }
        if let Some(route) = &self.route {
            insert("x-spillway-route", &route.name);
            insert("x-spillway-target", &route.target);
            if let Some(from) = &route.fallback_from {
                insert("x-spillway-fallback-from", from);
            }
            if route.degraded {
                insert("x-spillway-degraded", &route.target);
            }
        }
        if let Some(by) = &self.judged_by {
            insert("x-spillway-policy", &by.label);
        }
        insert("server-timing", &format!("spillway;dur={:.3}", self.overhead().as_secs_f64() * 1e3));
    }

    /// Ends: counted, with a line in the log, once.
    pub(crate) fn end(&mut self, outcome: RequestOutcome, status: u16) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let took = self.began.elapsed();
        if let Some(metrics) = &self.counted {
            metrics.ended(&Ended {
                about: About { model: self.model.as_deref(), tenant: self.tenant.as_deref() },
                outcome,
                status,
                took,
                first_content: self.first_content,
                waited: self.waited,
                retries: self.retries,
                fallbacks: self.fallbacks,
            });
        }
        let duration_ms = milliseconds(took);
        if let Some((recorder, arrival)) = self.recorded.take().filter(|_| self.attempts == 0) {
            recorder.unserved(Unserved {
                form: FORM,
                request_id: self.request_id.clone(),
                upstream: self.upstream.clone(),
                model: self.model.clone(),
                arrival,
                outcome: outcome.as_str().to_owned(),
                ended_after_ms: duration_ms,
            });
        }
        let (request_id, upstream, model) = (&*self.request_id, &*self.upstream, self.model.as_deref());
        let (attempts, why) = (self.attempts, &*self.steps);
        let policy = self.judged_by.as_ref().map(|by| &*by.label);
        let policy_sha256 = self.judged_by.as_ref().and_then(|by| by.sha256).map(tracing::field::display);
        let outcome = outcome.as_str();
        let route = self.route.as_ref().map(|route| &*route.name);
        let target = self.route.as_ref().map(|route| &*route.target);
        let label = Some(&*self.label).filter(|label| !label.is_empty());
        let fallback_from = self.route.as_ref().and_then(|route| route.fallback_from.as_deref());
        tracing::info!(
            request_id,
            caller = self.caller.map(tracing::field::display),
            upstream,
            model,
            route,
            target,
            fallback_from,
            label,
            outcome,
            status,
            attempts,
            duration_ms,
            policy,
            policy_sha256,
            why,
            "request"
        );
    }
}

impl Drop for RequestTrace {
    /// A trace that nobody has ended is that of a caller who went away.
    fn drop(&mut self) {
        if !self.upstream.is_empty() {
            self.end(RequestOutcome::Abandoned, 0);
        }
    }
}

/// What is said of an attempt behind its result, after these steps. Attempts that fail alike would fill a line with the
/// same sentence, so only what stands there whole is said once.
fn in_brackets(why: &str, steps: &str) -> String {
    let said = format!(" ({why})");
    match why {
        "" => String::new(),
        _ if steps.contains(&said) => " (likewise)".to_owned(),
        _ => said,
    }
}

/// Why an attempt is worth what it is: a policy's reason, and what was in the way, which mostly begins with the same
/// words.
fn why(reason: &str, cause: Option<&ErrorChain>) -> String {
    let Some(cause) = cause else { return reason.to_owned() };
    let cause = cause.to_string();
    match cause.strip_prefix("the ").unwrap_or(&cause).starts_with(reason) {
        true => cause,
        false => format!("{reason}: {cause}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_said_whole_is_said_to_be_alike() {
        let steps = "attempt 1 failure in 503 ms (connection refused by 127.0.0.1:9)";
        for (why, said) in [
            ("", ""),
            ("connection refused by 127.0.0.1:9", " (likewise)"),
            ("503", " (503)"),
            ("connection refused", " (connection refused)"),
        ] {
            assert_eq!(in_brackets(why, steps), said);
        }
    }
}
