//! What is measured while a world runs.

use std::time::Duration;

use spillway_resilience::Timestamp;

use crate::clients::Request;
use crate::fairness::Fairness;
#[cfg(doc)]
use crate::figure::Figure;
use crate::provider::{Span, duration};
use crate::scenario::{Recovery, Scenario};
use crate::trail::{Trail, Trodden};
use crate::waits::Waits;

/// What one run counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// Requests of users, all of them.
    pub arrived: u64,
    /// Requests that ended with an answer.
    pub served: u64,
    /// Requests that ended without.
    pub unserved: u64,
    /// Requests that arrived after the warm-up, and what became of them.
    pub judged: Judged,
    /// Those of them that no fault is about, in a scenario whose faults are not about all.
    pub untouched: Judged,
    /// Requests that arrived after a fault's end and before the next begin.
    pub after: Judged,
    /// Those of them that came when a protection has had time to notice: see
    /// [`Figure::ServedSoonPercent`].
    pub soon: Judged,
    /// How long those waited that were served, from their arrival on.
    pub waits: Waits,
    /// The same of those whose first call succeeded, made for the first that their caller sent.
    pub first_tokens: Waits,
    /// The same for each request by the order of arrival, so that runs with the same seed can be
    /// compared request by request; [`Run::NOT_AT_ONCE`] for all others.
    pub first_micros: Vec<u32>,
    /// Requests and calls in the time that is looked at, and those calls that served nobody.
    pub requests: u64,
    /// See `requests`.
    pub calls: u64,
    /// See `requests`.
    pub wasted: u64,
    /// Each fault's time to recovery; `None` if the next fault or the end came first.
    pub recoveries: Vec<Option<Duration>>,
    /// What was served after the warm-up, in tokens or requests.
    pub good: u64,
    /// What could have been: see [`Figure::GoodputPercent`].
    pub possible: f64,
    /// See [`Figure::OvershootTokens`].
    pub overshoot: Option<u64>,
    /// See [`Figure::FairnessGap`]; `None` if no two tenants that waited at once each had a turn.
    pub fairness_gap: Option<f64>,
    /// See [`Figure::FalseOpens`]; `None` without a circuit.
    pub false_opens: Option<u32>,
    /// What is told of the targets of a chain; nothing without one.
    pub trodden: Trodden,
    /// Requests, places, reservations and permits that were still held when nothing was left to happen. Anything but 0 is
    /// a leak.
    pub left_over: usize,
}

impl Run {
    /// Stands for the wait of a request that was not served by its first call.
    pub const NOT_AT_ONCE: u32 = u32::MAX;
}

/// Requests, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// How many there were.
    pub requests: u64,
    /// How many were served in the end.
    pub served: u64,
    /// Calls at the provider that were made for them.
    pub calls: u64,
}

impl Judged {
    fn add(&mut self, served: bool, calls: u32) {
        self.requests += 1;
        self.served += u64::from(served);
        self.calls += u64::from(calls);
    }
}

/// Watches one run.
#[derive(Debug)]
pub struct Meter {
    run: Run,
    spans: Vec<Span>,
    recovery: Recovery,
    looked_at: (Timestamp, Timestamp),
    from: Timestamp,
    end: Timestamp,
    in_tokens: bool,
    capacity: f64,
    asked: u64,
    /// Per second: arrivals and users served.
    seconds: Vec<(u32, u32)>,
    fairness: Fairness,
    false_opens: u32,
    /// Whether some requests are such that no fault is about them.
    some_are_untouched: bool,
    trail: Trail,
}

impl Meter {
    /// A meter for a run of this length, with these faults of each target. Faults are those of the first one, unless
    /// something else is said.
    #[must_use]
    pub fn new(scenario: &Scenario, spans_of_targets: Vec<Vec<Span>>, length: Duration) -> Self {
        let spans = spans_of_targets.first().cloned().unwrap_or_default();
        let warm = Timestamp::ORIGIN.saturating_add(duration(scenario.warm_up_seconds));
        let end = Timestamp::ORIGIN.saturating_add(length);
        let looked_at = match (spans.first(), spans.last()) {
            (Some(first), Some(last)) => (first.from, last.to),
            (None, _) | (_, None) => (warm, end),
        };
        let provider = &scenario.provider;
        let per_second =
            provider.tokens_per_minute.map_or(provider.calls_per_second, |tokens| f64::from(tokens) / 60.0);
        let largest = scenario.tenants.iter().map(|t| u64::from(t.input_tokens) + u64::from(t.output_tokens_max)).max();
        let whole_seconds = usize::try_from(length.as_secs()).unwrap_or(0);
        Self {
            run: Run::default(),
            spans,
            recovery: scenario.recovery,
            looked_at,
            from: warm,
            end,
            in_tokens: provider.tokens_per_minute.is_some(),
            capacity: per_second * end.saturating_since(warm).as_secs_f64(),
            asked: 0,
            seconds: vec![(0, 0); whole_seconds],
            fairness: Fairness::new(scenario.tenants.iter().map(|tenant| tenant.weight), largest.unwrap_or(0).max(1)),
            false_opens: 0,
            some_are_untouched: scenario.faults.iter().any(|fault| fault.model.is_some() || fault.tenant.is_some()),
            trail: Trail::new(scenario, spans_of_targets),
        }
    }

    fn is_looked_at(&self, at: Timestamp) -> bool {
        self.looked_at.0 <= at && at < self.looked_at.1
    }

    fn second(&mut self, at: Timestamp) -> Option<&mut (u32, u32)> {
        usize::try_from(at.as_micros() / 1_000_000).ok().and_then(|second| self.seconds.get_mut(second))
    }

    /// A user's request arrives that will cost so many tokens. Returns its number.
    pub fn arrival(&mut self, tokens: u64, now: Timestamp) -> usize {
        self.trail.arrival(now);
        let number = self.run.first_micros.len();
        self.run.first_micros.push(Run::NOT_AT_ONCE);
        self.run.arrived += 1;
        self.run.requests += u64::from(self.is_looked_at(now));
        if self.from <= now && now < self.end {
            self.asked += if self.in_tokens { tokens } else { 1 };
        }
        if let Some((arrived, _)) = self.second(now) {
            *arrived += 1;
        }
        number
    }

    /// A call is sent to this target.
    pub fn call(&mut self, target: usize, now: Timestamp) {
        self.trail.call(target, now);
        self.run.calls += u64::from(self.is_looked_at(now));
    }

    /// A call that was sent at `sent` served nobody.
    pub fn wasted(&mut self, sent: Timestamp) {
        self.run.wasted += u64::from(self.is_looked_at(sent));
    }

    /// A call that was sent at `sent` serves its user; the circuit is closed, or is not.
    pub fn served(&mut self, request: &Request, sent: Timestamp, now: Timestamp, closed: bool) {
        self.run.served += 1;
        if self.from <= now && now < self.end {
            self.run.good += if self.in_tokens { request.tokens } else { 1 };
        }
        if let Some((_, served)) = self.second(now) {
            *served += 1;
        }
        self.trail.served(&request.call, request.target, request.arrived >= self.from);
        if self.recovery == Recovery::Circuit {
            self.look_for_recovery(sent, now, closed);
        }
        self.judge(request, true);
        if self.from <= request.arrived {
            let wait = now.saturating_since(request.arrived);
            self.run.waits.add(wait);
            if request.calls == 1 && request.call.caller_retry == 0 {
                self.run.first_tokens.add(wait);
                if let Some(first) = self.run.first_micros.get_mut(request.number) {
                    *first = u32::try_from(wait.as_micros()).unwrap_or(Run::NOT_AT_ONCE - 1);
                }
            }
        }
    }

    fn judge(&mut self, request: &Request, served: bool) {
        let Request { arrived, calls, ref call, .. } = *request;
        if arrived < self.from {
            return;
        }
        self.run.judged.add(served, calls);
        if self.some_are_untouched && !self.spans.iter().any(|span| span.is_about(call.tenant, call.model)) {
            self.run.untouched.add(served, calls);
        }
        let over = self.spans.partition_point(|span| span.to <= arrived);
        let ill = self.spans.get(over).is_some_and(|span| span.from <= arrived);
        if let Some(span) = over.checked_sub(1).and_then(|last| self.spans.get(last))
            && !ill
        {
            self.run.after.add(served, calls);
            let grace = NOTICED_WITHIN.max(span.to.saturating_since(span.from).mul_f64(NOTICED_WITHIN_SHARE));
            if arrived >= span.to.saturating_add(grace) {
                self.run.soon.add(served, calls);
            }
        }
    }

    fn look_for_recovery(&mut self, sent: Timestamp, now: Timestamp, closed: bool) {
        while let Some(next) = self.spans.get(self.run.recoveries.len() + 1)
            && next.from <= now
        {
            self.run.recoveries.push(None);
        }
        if let Some(span) = self.spans.get(self.run.recoveries.len())
            && closed
            && sent >= span.to
        {
            self.run.recoveries.push(Some(now.saturating_since(span.to)));
        }
    }

    /// A user's request ends unserved.
    pub fn unserved(&mut self, request: &Request) {
        self.run.unserved += 1;
        self.judge(request, false);
    }

    /// A closed circuit opened because of a call that was sent at `sent`.
    pub fn opened(&mut self, sent: Timestamp) {
        let ill = |span: &Span| span.from <= sent && sent < span.to;
        self.false_opens += u32::from(!self.spans.iter().any(ill));
    }

    /// A tenant's waiting requests become one more or one fewer.
    pub fn waiting(&mut self, tenant: usize, more: bool) {
        self.fairness.waiting(tenant, more);
    }

    /// A tenant whose turn it was is granted so many tokens.
    pub fn granted(&mut self, tenant: usize, tokens: u64) {
        self.fairness.granted(tenant, tokens);
    }

    /// Of what a tenant was granted in its turn, so many tokens were not used.
    pub fn given_back(&mut self, tenant: usize, tokens: u64) {
        self.fairness.given_back(tenant, tokens);
    }

    /// What the run counted; `circuit` says whether there was one.
    #[must_use]
    pub fn finish(mut self, overshoot: Option<u64>, circuit: bool) -> Run {
        if self.recovery == Recovery::Baseline {
            let ends: Vec<Timestamp> = self.spans.iter().map(|span| span.to).collect();
            self.run.recoveries = ends.into_iter().map(|end| self.baseline_after(end)).collect();
        }
        // From a fault that lasts to the end nobody can recover.
        let over = self.spans.iter().filter(|span| span.to < self.end).count();
        self.run.recoveries.resize(over, None);
        self.run.possible = self.capacity.min(self.asked as f64);
        self.run.overshoot = overshoot;
        self.run.fairness_gap = self.fairness.gap;
        self.run.false_opens = circuit.then_some(self.false_opens);
        self.run.trodden = self.trail.finish(self.end);
        self.run
    }

    /// The last bad spell counts, not the first good one: a system that swings back has not
    /// recovered.
    fn baseline_after(&self, end: Timestamp) -> Option<Duration> {
        let first = usize::try_from(end.as_micros().div_ceil(1_000_000)).ok()?;
        // Whoever arrives in the last second is answered after it.
        let seconds = self.seconds.get(first..self.seconds.len().saturating_sub(1))?;
        let mut windows = seconds.windows(BASELINE_SECONDS);
        let count = windows.len();
        let good_since = windows.rposition(is_below_baseline).map_or(0, |last| last + 1);
        if good_since >= count {
            return None;
        }
        let second = u64::try_from(first + good_since).ok()?;
        Some(Timestamp::from_micros(second.saturating_mul(1_000_000)).saturating_since(end))
    }
}

/// From how long after a fault's end on its effects should be over: what is promised after a short
/// one,
const NOTICED_WITHIN: Duration = Duration::from_secs(1);
/// and after a long one, as a share of its length.
const NOTICED_WITHIN_SHARE: f64 = 0.05;

/// Recovery to the baseline is looked for in windows of this length: long enough that chance alone
/// rarely makes one look bad.
const BASELINE_SECONDS: usize = 10;

fn is_below_baseline(window: &[(u32, u32)]) -> bool {
    let (arrived, served) = window.iter().fold((0, 0), |sum, second| (sum.0 + second.0, sum.1 + second.1));
    f64::from(served) < 0.95 * f64::from(arrived)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Clients;
    use crate::random::Random;

    /// A minute with a fault from 10 s to 20 s; all arrivals but those of `bad` seconds are served.
    fn recovery(bad: std::ops::Range<u64>) -> Option<Duration> {
        let text = "name = 'a'\nseconds = 60\nrecovery = 'baseline'\n[[tenants]]\nrequests_per_second = 10\n\
                    [[faults]]\nfrom_seconds = 10\nto_seconds = 20\nfailure_rate = 1\n";
        let scenario = Scenario::read(text).unwrap();
        let spans = crate::provider::spans(&scenario, &scenario.faults, &mut Random::new(1));
        let mut meter = Meter::new(&scenario, vec![spans], Duration::from_secs(60));
        for second in 0..60 {
            let now = Timestamp::from_micros(second * 1_000_000);
            let request = request(&scenario, now, 1);
            let _ = meter.arrival(0, now);
            if !bad.contains(&second) {
                meter.served(&request, now, now, true);
            }
        }
        meter.finish(None, false).recoveries[0]
    }

    fn request(scenario: &Scenario, now: Timestamp, calls: u32) -> Request {
        Request { calls, ..Clients::new(scenario, 0, Random::new(1)).request(0, now) }
    }

    #[test]
    fn each_request_is_judged_by_its_arrival_and_has_its_calls_counted() {
        let text = "name = 'a'\nseconds = 200\nwarm_up_seconds = 5\n[[tenants]]\nrequests_per_second = 1\n\
                    [[faults]]\nfrom_seconds = 10\nto_seconds = 110\nfailure_rate = 1\n";
        let scenario = Scenario::read(text).unwrap();
        let spans = crate::provider::spans(&scenario, &scenario.faults, &mut Random::new(1));
        let mut meter = Meter::new(&scenario, vec![spans], Duration::from_secs(200));
        let at = |seconds: u64| Timestamp::from_micros(seconds * 1_000_000);
        for (arrived, calls, served_at) in
            [(4, 1, Some(4)), (6, 1, Some(7)), (109, 3, Some(112)), (110, 2, None), (114, 0, None), (115, 1, Some(116))]
        {
            let request = request(&scenario, at(arrived), calls);
            match served_at {
                Some(now) => meter.served(&request, at(now), at(now), true),
                None => meter.unserved(&request),
            }
        }
        let run = meter.finish(None, false);
        assert_eq!(run.judged, Judged { requests: 5, served: 3, calls: 7 }, "without the warm-up");
        assert_eq!(run.after, Judged { requests: 3, served: 1, calls: 3 });
        assert_eq!(run.soon, Judged { requests: 1, served: 1, calls: 1 }, "5 % of 100 s later");
        assert_eq!(run.untouched, Judged::default());
        let longest = |waits: &Waits| waits.percentile_seconds(100).unwrap().round();
        assert_eq!([longest(&run.waits), longest(&run.first_tokens)], [3.0, 1.0]);
    }

    #[test]
    fn the_baseline_is_reached_when_the_last_bad_spell_ends() {
        assert_eq!(recovery(10..20), Some(Duration::ZERO));
        assert_eq!(recovery(10..25), Some(Duration::from_secs(5)));
        assert_eq!(recovery(40..42), Some(Duration::from_secs(22)), "it swung back");
        assert_eq!(recovery(10..55), None);
    }
}
