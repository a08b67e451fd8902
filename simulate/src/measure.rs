//! What is measured while a world runs.

use std::time::Duration;

use spillway_resilience::{CircuitState, Timestamp, Transition};

use crate::fairness::Fairness;
#[cfg(doc)]
use crate::figure::Figure;
use crate::provider::{Span, duration};
use crate::scenario::{Recovery, Scenario};

/// What one run counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// Requests of users, all of them.
    pub arrived: u64,
    /// Requests that ended with an answer.
    pub served: u64,
    /// Requests that ended without.
    pub unserved: u64,
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
    /// Requests, places, reservations and permits that were still held when nothing was left to happen. Anything but 0 is
    /// a leak.
    pub left_over: usize,
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
}

impl Meter {
    /// A meter for a run of this length with these faults.
    #[must_use]
    pub fn new(scenario: &Scenario, spans: Vec<Span>, length: Duration) -> Self {
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
        }
    }

    fn is_looked_at(&self, at: Timestamp) -> bool {
        self.looked_at.0 <= at && at < self.looked_at.1
    }

    fn second(&mut self, at: Timestamp) -> Option<&mut (u32, u32)> {
        usize::try_from(at.as_micros() / 1_000_000).ok().and_then(|second| self.seconds.get_mut(second))
    }

    /// A user's request arrives that will cost so many tokens.
    pub fn arrival(&mut self, tokens: u64, now: Timestamp) {
        self.run.arrived += 1;
        self.run.requests += u64::from(self.is_looked_at(now));
        if self.from <= now && now < self.end {
            self.asked += if self.in_tokens { tokens } else { 1 };
        }
        if let Some((arrived, _)) = self.second(now) {
            *arrived += 1;
        }
    }

    /// A call is sent.
    pub fn call(&mut self, now: Timestamp) {
        self.run.calls += u64::from(self.is_looked_at(now));
    }

    /// A call that was sent at `sent` served nobody.
    pub fn wasted(&mut self, sent: Timestamp) {
        self.run.wasted += u64::from(self.is_looked_at(sent));
    }

    /// A call that was sent at `sent` serves its user; the circuit is closed, or is not.
    pub fn served(&mut self, tokens: u64, sent: Timestamp, now: Timestamp, closed: bool) {
        self.run.served += 1;
        if self.from <= now && now < self.end {
            self.run.good += if self.in_tokens { tokens } else { 1 };
        }
        if let Some((_, served)) = self.second(now) {
            *served += 1;
        }
        if self.recovery == Recovery::Circuit {
            self.look_for_recovery(sent, now, closed);
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
    pub fn unserved(&mut self) {
        self.run.unserved += 1;
    }

    /// The circuit changed its state because of a call that was sent at `sent`.
    pub fn transition(&mut self, transition: Transition, sent: Timestamp) {
        let opened = transition.from == CircuitState::Closed && transition.to == CircuitState::Open;
        let ill = |span: &Span| span.from <= sent && sent < span.to;
        self.false_opens += u32::from(opened && !self.spans.iter().any(ill));
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
        self.run.recoveries.resize(self.spans.len(), None);
        self.run.possible = self.capacity.min(self.asked as f64);
        self.run.overshoot = overshoot;
        self.run.fairness_gap = self.fairness.gap;
        self.run.false_opens = circuit.then_some(self.false_opens);
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

    /// A minute with a fault from 10 s to 20 s; all arrivals but those of `bad` seconds are served.
    fn recovery(bad: std::ops::Range<u64>) -> Option<Duration> {
        let text = "name = 'a'\nseconds = 60\nrecovery = 'baseline'\n[[tenants]]\nrequests_per_second = 10\n\
                    [[faults]]\nfrom_seconds = 10\nto_seconds = 20\nfailure_rate = 1\n";
        let scenario = Scenario::read(text).unwrap();
        let spans = crate::provider::spans(&scenario, &mut crate::random::Random::new(1));
        let mut meter = Meter::new(&scenario, spans, Duration::from_secs(60));
        for second in 0..60 {
            let now = Timestamp::from_micros(second * 1_000_000);
            meter.arrival(0, now);
            if !bad.contains(&second) {
                meter.served(0, now, now, true);
            }
        }
        meter.finish(None, false).recoveries[0]
    }

    #[test]
    fn the_baseline_is_reached_when_the_last_bad_spell_ends() {
        assert_eq!(recovery(10..20), Some(Duration::ZERO));
        assert_eq!(recovery(10..25), Some(Duration::from_secs(5)));
        assert_eq!(recovery(40..42), Some(Duration::from_secs(22)), "it swung back");
        assert_eq!(recovery(10..55), None);
    }
}
