//! The upstream: a queue of work, a quota, and times in which it is not itself.

use std::time::Duration;

use spillway_resilience::{Outcome, Timestamp, TokenBucket};

use crate::random::Random;
use crate::scenario::{self, Fault, Scenario};

/// What the provider will answer, known at the moment of the call because nothing that comes later
/// changes it.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// When it is there.
    pub at: Timestamp,
    /// What it says about the provider.
    pub outcome: Outcome,
    /// The wait it asks for, in whole seconds as the header does.
    pub retry_after: Option<Duration>,
}

/// One occurrence of a fault.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Begin.
    pub from: Timestamp,
    /// End, excluded.
    pub to: Timestamp,
    fault: Fault,
}

/// All occurrences of all faults in order of time, their ends drawn at random.
#[must_use]
pub fn spans(scenario: &Scenario, random: &mut Random) -> Vec<Span> {
    let mut spans = Vec::new();
    for fault in &scenario.faults {
        for number in 0..fault.repeat {
            let shift = f64::from(number) * fault.every_seconds;
            let to = fault.to_seconds + fault.to_jitter_seconds * random.unit();
            spans.push(Span { from: instant(fault.from_seconds + shift), to: instant(to + shift), fault: *fault });
        }
    }
    spans
}

/// Seconds as a duration; one that cannot be expressed is as good as endless.
pub(crate) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

fn instant(seconds: f64) -> Timestamp {
    Timestamp::ORIGIN.saturating_add(duration(seconds))
}

/// One upstream.
#[derive(Debug)]
pub struct Provider {
    settings: scenario::Provider,
    spans: Vec<Span>,
    /// The first span that is not over.
    next: usize,
    /// When the work accepted so far is done.
    busy_until: Timestamp,
    quota: Option<TokenBucket>,
    /// The quota without enforcement: its debt is what callers demanded beyond it.
    ledger: Option<TokenBucket>,
    overshoot: u64,
    random: Random,
}

impl Provider {
    /// An idle provider with a full quota.
    #[must_use]
    pub fn new(settings: scenario::Provider, spans: Vec<Span>, random: Random) -> Self {
        let quota = settings
            .tokens_per_minute
            .map(|rate| TokenBucket::new(u64::from(settings.burst_tokens), u64::from(rate), Timestamp::ORIGIN));
        Self { settings, spans, next: 0, busy_until: Timestamp::ORIGIN, quota, ledger: quota, overshoot: 0, random }
    }

    /// Takes a call whose output is bounded so that it costs `most` tokens, and which will cost
    /// `tokens`.
    pub fn call(&mut self, most: u64, tokens: u64, now: Timestamp) -> Answer {
        // Each call draws the same number of times, whatever becomes of it.
        let (fails_today, fails_by_fault) = (self.random.unit(), self.random.unit());
        let spread = 0.5 + self.random.unit();
        let refusal = |outcome, wait: Option<Duration>| Answer {
            at: now.saturating_add(duration(self.settings.refusal_seconds)),
            outcome,
            retry_after: wait
                .map(|wait| Duration::from_secs(wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX))),
        };

        while self.spans.get(self.next).is_some_and(|span| span.to <= now) {
            self.next += 1;
        }
        let span = self.spans.get(self.next).filter(|span| span.from <= now);
        if let Some(span) = span {
            if span.fault.quota_exhausted {
                return refusal(Outcome::Throttled, Some(span.to.saturating_since(now)));
            }
            if fails_by_fault < span.fault.failure_rate {
                return refusal(Outcome::Failure, None);
            }
        }
        if fails_today < self.settings.failure_rate {
            return refusal(Outcome::Failure, None);
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.charge(tokens, now);
            self.overshoot = self.overshoot.max(ledger.available(now).min(0).unsigned_abs());
        }
        if let Some(quota) = &mut self.quota {
            if let Err(wait) = quota.check(most, now) {
                return refusal(Outcome::Throttled, Some(wait.0));
            }
            quota.charge(tokens, now);
        }
        if self.busy_until.saturating_since(now) > duration(self.settings.backlog_seconds_max) {
            return refusal(Outcome::Overloaded, None);
        }
        let speed = span.map_or(1.0, |span| span.fault.speed);
        self.busy_until = self.worked_off(self.busy_until.max(now), 1.0 / self.settings.calls_per_second);
        let latency = duration(self.settings.latency_seconds * spread / speed);
        Answer { at: self.busy_until.saturating_add(latency), outcome: Outcome::Success, retry_after: None }
    }

    /// The most tokens that callers ever demanded beyond the quota; `None` without one.
    #[must_use]
    pub fn overshoot(&self) -> Option<u64> {
        self.ledger.map(|_| self.overshoot)
    }

    /// When work begun at `at` is done that takes so many seconds at full speed.
    fn worked_off(&self, mut at: Timestamp, mut seconds: f64) -> Timestamp {
        for span in self.spans.iter().skip(self.next) {
            for (end, speed) in [(span.from, 1.0), (span.to, span.fault.speed)] {
                let room = end.saturating_since(at).as_secs_f64() * speed;
                if seconds <= room {
                    return at.saturating_add(duration(seconds / speed));
                }
                seconds -= room;
                at = at.max(end);
            }
        }
        at.saturating_add(duration(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(settings: &str) -> Provider {
        let head = "name = 'test'\nseconds = 1000\n[[tenants]]\nrequests_per_second = 1\n";
        let scenario = Scenario::read(&format!("{head}{settings}")).unwrap();
        let mut random = Random::new(1);
        let spans = spans(&scenario, &mut random);
        Provider::new(scenario.provider, spans, random)
    }

    #[test]
    fn work_queues_up_and_beyond_its_bound_calls_are_refused() {
        let mut provider = provider("[provider]\ncalls_per_second = 1\nlatency_seconds = 0\nbacklog_seconds_max = 2\n");
        let answers: Vec<_> = (0..5).map(|_| provider.call(0, 0, Timestamp::ORIGIN)).collect();
        let done: Vec<_> = answers.iter().take(3).map(|answer| answer.at).collect();
        assert_eq!(done, [instant(1.0), instant(2.0), instant(3.0)]);
        assert_eq!(answers[3].outcome, Outcome::Overloaded);
    }

    #[test]
    fn a_slow_time_stretches_the_work_that_falls_into_it() {
        let fault = "[provider]\ncalls_per_second = 0.1\nlatency_seconds = 0\n\
                     [[faults]]\nfrom_seconds = 4\nto_seconds = 8\nspeed = 0.5\n";
        // Ten seconds of work: four before, two within four, four after.
        assert_eq!(provider(fault).call(0, 0, Timestamp::ORIGIN).at, instant(12.0));
    }

    #[test]
    fn a_spent_quota_names_the_whole_seconds_until_its_end() {
        let mut provider = provider("[[faults]]\nfrom_seconds = 10\nto_seconds = 100\nquota_exhausted = true\n");
        assert_eq!(provider.call(0, 0, instant(9.0)).outcome, Outcome::Success);
        let refused = provider.call(0, 0, instant(39.5));
        assert_eq!((refused.outcome, refused.retry_after), (Outcome::Throttled, Some(Duration::from_secs(61))));
        assert_eq!(provider.call(0, 0, instant(100.0)).outcome, Outcome::Success);
    }

    #[test]
    fn tokens_beyond_the_quota_are_refused_and_noted() {
        let mut provider = provider("[provider]\ntokens_per_minute = 60\nburst_tokens = 100\n");
        let outcomes: Vec<_> = (0..3).map(|_| provider.call(60, 50, Timestamp::ORIGIN).outcome).collect();
        assert_eq!(outcomes, [Outcome::Success, Outcome::Throttled, Outcome::Throttled]);
        assert_eq!(provider.overshoot(), Some(50));
    }
}
