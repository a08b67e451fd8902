//! The upstream: a queue of work, limits, and times in which it is not itself.

mod latency;
mod limit;
mod load;

pub use latency::Latencies;

use std::time::Duration;

use spillway_resilience::{Outcome, Timestamp, TokenBucket};

use crate::protection::Call;
use crate::random::Random;
use crate::scenario::{self, Fault, Scenario};
use limit::Limit;
use load::Load;

/// What the provider will answer, known at the moment of the call because nothing that comes later
/// changes it.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// When it is there; [`Reply::NEVER`] if it never comes.
    pub at: Timestamp,
    /// What it says about the provider.
    pub outcome: Outcome,
    /// The wait it asks for, in whole seconds as the header does.
    pub retry_after: Option<Duration>,
}

impl Reply {
    /// The time of an answer that never comes.
    pub const NEVER: Timestamp = Timestamp::from_micros(u64::MAX);
}

/// What a fault makes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Failure,
    Nothing,
    Overload,
    TooMuch,
}

/// One occurrence of a fault.
#[derive(Clone, Debug)]
pub struct Span {
    /// Begin.
    pub from: Timestamp,
    /// End, excluded.
    pub to: Timestamp,
    /// When it begins to fade.
    fading_from: Timestamp,
    /// The only model that it is about.
    model: Option<usize>,
    fault: Fault,
    limit: Option<Limit>,
}

impl Span {
    /// Whether it is about calls of this tenant for this model.
    #[must_use]
    pub fn is_about(&self, tenant: usize, model: usize) -> bool {
        self.model.is_none_or(|one| one == model) && self.fault.tenant.is_none_or(|one| one == tenant)
    }

    /// What a call is answered by it, with this chance of it.
    fn says(&mut self, chance: f64, now: Timestamp) -> Option<Said> {
        let strength = self.strength(now);
        let fault = &self.fault;
        let mut below = 0.0;
        for (rate, said) in [
            (fault.failure_rate, Said::Failure),
            (fault.timeout_rate, Said::Nothing),
            (fault.overloaded_rate, Said::Overload),
            (fault.throttled_rate, Said::TooMuch),
        ] {
            below += rate;
            if chance < strength * below {
                return Some(said);
            }
        }
        self.limit.as_mut().and_then(|limit| limit.take(now).err()).map(|_| Said::TooMuch)
    }

    /// How much of it is left, from 1 to 0.
    fn strength(&self, now: Timestamp) -> f64 {
        if now <= self.fading_from {
            return 1.0;
        }
        self.to.saturating_since(now).as_secs_f64() / self.to.saturating_since(self.fading_from).as_secs_f64()
    }
}

/// All occurrences of all of a provider's faults in order of time, their ends drawn at random.
#[must_use]
pub fn spans(scenario: &Scenario, faults: &[Fault], random: &mut Random) -> Vec<Span> {
    let mut spans = Vec::new();
    for fault in faults {
        for number in 0..fault.repeat {
            let shift = f64::from(number) * fault.every_seconds;
            let to = shift + fault.to_seconds + fault.to_jitter_seconds * random.unit();
            spans.push(Span {
                from: instant(fault.from_seconds + shift),
                to: instant(to),
                fading_from: instant(to - fault.recovers_over_seconds),
                model: fault.model.as_deref().map(|model| scenario.model_index(Some(model))),
                fault: fault.clone(),
                limit: fault.limit_per_second.map(|rate| {
                    // What comes at once within a second passes.
                    Limit::new(rate, rate.max(1.0), duration(fault.retry_after_seconds.unwrap_or(0.0)))
                }),
            });
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
    limit: Option<Limit>,
    load: Option<Load>,
    random: Random,
}

impl Provider {
    /// An idle provider with a full quota.
    #[must_use]
    pub fn new(settings: scenario::Provider, spans: Vec<Span>, random: Random) -> Self {
        let quota = settings
            .tokens_per_minute
            .map(|rate| TokenBucket::new(u64::from(settings.burst_tokens), u64::from(rate), Timestamp::ORIGIN));
        let retry_after = duration(settings.limit_retry_after_seconds);
        let limit = settings.limit_per_second.map(|rate| Limit::new(rate, settings.limit_burst, retry_after));
        let load = settings.worsens_beyond_per_second.map(Load::new);
        let busy_until = Timestamp::ORIGIN;
        Self { settings, spans, next: 0, busy_until, quota, ledger: quota, overshoot: 0, limit, load, random }
    }

    /// Takes a call that will cost `tokens`.
    pub fn call(&mut self, call: &Call, tokens: u64, now: Timestamp) -> Reply {
        // Each call draws the same number of times, whatever becomes of it.
        let (fails_today, fails_by_fault) = (self.random.unit(), self.random.unit());
        let (fails_by_load, spread) = (self.random.unit(), 0.5 + self.random.unit());
        let refusal = |outcome, wait: Option<Duration>| Reply {
            at: now.saturating_add(duration(self.settings.refusal_seconds)),
            outcome,
            retry_after: wait
                .map(|wait| Duration::from_secs(wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX))),
        };
        let hangs = Reply { at: Reply::NEVER, outcome: Outcome::Failure, retry_after: None };

        while self.spans.get(self.next).is_some_and(|span| span.to <= now) {
            self.next += 1;
        }
        let next = self.next;
        let mut begun = self.spans.iter_mut().skip(next).take_while(|span| span.from <= now);
        let span = begun.find(|span| now < span.to && span.is_about(call.tenant, call.model));
        let mut speed = 1.0;
        if let Some(span) = span {
            if span.fault.quota_exhausted {
                return refusal(Outcome::Throttled, Some(span.to.saturating_since(now)));
            }
            let named = span.fault.retry_after_seconds.map(duration);
            match span.says(fails_by_fault, now) {
                Some(Said::Failure) => return refusal(Outcome::Failure, None),
                Some(Said::Nothing) => return hangs,
                Some(Said::Overload) => return refusal(Outcome::Overloaded, named),
                Some(Said::TooMuch) => return refusal(Outcome::Throttled, named),
                None => speed = span.fault.speed,
            }
        }
        if fails_today < self.settings.failure_rate {
            return refusal(Outcome::Failure, None);
        }
        if fails_today < self.settings.failure_rate + self.settings.timeout_rate {
            return hangs;
        }
        if now >= instant(self.settings.bounds_from_seconds) {
            if let Some(Err(wait)) = self.limit.as_mut().map(|limit| limit.take(now)) {
                return refusal(Outcome::Throttled, Some(wait));
            }
            if self.load.as_mut().is_some_and(|load| fails_by_load >= load.take(now)) {
                return refusal(self.settings.worsens_says.outcome(), None);
            }
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.charge(tokens, now);
            self.overshoot = self.overshoot.max(ledger.available(now).min(0).unsigned_abs());
        }
        if let Some(quota) = &mut self.quota {
            if let Err(wait) = quota.check(call.tokens_max, now) {
                return refusal(Outcome::Throttled, Some(wait.0));
            }
            quota.charge(tokens, now);
        }
        if self.busy_until.saturating_since(now) > duration(self.settings.backlog_seconds_max) {
            return refusal(Outcome::Overloaded, None);
        }
        self.busy_until = self.worked_off(self.busy_until.max(now), 1.0 / self.settings.calls_per_second);
        let usual = match &self.settings.latencies {
            Some(measured) => measured.at(spread - 0.5),
            None => self.settings.latency_seconds * spread,
        };
        let latency = duration(usual / speed);
        Reply { at: self.busy_until.saturating_add(latency), outcome: Outcome::Success, retry_after: None }
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

    fn call(tokens_max: u64) -> Call {
        Call { tokens_max, ..Call::plain(0, Timestamp::ORIGIN) }
    }

    fn provider(settings: &str) -> Provider {
        let head = "name = 'test'\nseconds = 1000\n[[tenants]]\nrequests_per_second = 1\n";
        let scenario = Scenario::read(&format!("{head}{settings}")).unwrap();
        let mut random = Random::new(1);
        let spans = spans(&scenario, &scenario.faults, &mut random);
        Provider::new(scenario.provider, spans, random)
    }

    #[test]
    fn work_queues_up_and_beyond_its_bound_calls_are_refused() {
        let mut provider = provider("[provider]\ncalls_per_second = 1\nlatency_seconds = 0\nbacklog_seconds_max = 2\n");
        let answers: Vec<_> = (0..5).map(|_| provider.call(&call(0), 0, Timestamp::ORIGIN)).collect();
        let done: Vec<_> = answers.iter().take(3).map(|answer| answer.at).collect();
        assert_eq!(done, [instant(1.0), instant(2.0), instant(3.0)]);
        assert_eq!(answers[3].outcome, Outcome::Overloaded);
    }

    #[test]
    fn a_slow_time_stretches_the_work_that_falls_into_it() {
        let fault = "[provider]\ncalls_per_second = 0.1\nlatency_seconds = 0\n\
                     [[faults]]\nfrom_seconds = 4\nto_seconds = 8\nspeed = 0.5\n";
        // Ten seconds of work: four before, two within four, four after.
        assert_eq!(provider(fault).call(&call(0), 0, Timestamp::ORIGIN).at, instant(12.0));
    }

    #[test]
    fn a_spent_quota_names_the_whole_seconds_until_its_end() {
        let mut provider = provider("[[faults]]\nfrom_seconds = 10\nto_seconds = 100\nquota_exhausted = true\n");
        assert_eq!(provider.call(&call(0), 0, instant(9.0)).outcome, Outcome::Success);
        let refused = provider.call(&call(0), 0, instant(39.5));
        assert_eq!((refused.outcome, refused.retry_after), (Outcome::Throttled, Some(Duration::from_secs(61))));
        assert_eq!(provider.call(&call(0), 0, instant(100.0)).outcome, Outcome::Success);
    }

    #[test]
    fn tokens_beyond_the_quota_are_refused_and_noted() {
        let mut provider = provider("[provider]\ntokens_per_minute = 60\nburst_tokens = 100\n");
        let outcomes: Vec<_> = (0..3).map(|_| provider.call(&call(60), 50, Timestamp::ORIGIN).outcome).collect();
        assert_eq!(outcomes, [Outcome::Success, Outcome::Throttled, Outcome::Throttled]);
        assert_eq!(provider.overshoot(), Some(50));
    }

    /// How many of a thousand calls at this time have each outcome, and how many hang.
    fn shares(provider: &mut Provider, call: &Call, seconds: f64) -> (usize, usize, usize) {
        let replies: Vec<Reply> = (0..1_000).map(|_| provider.call(call, 0, instant(seconds))).collect();
        let hung = replies.iter().filter(|reply| reply.at == Reply::NEVER).count();
        let good = replies.iter().filter(|reply| reply.outcome == Outcome::Success).count();
        (good, 1_000 - good - hung, hung)
    }

    #[test]
    fn a_share_fails_and_another_share_hangs() {
        let mut provider = provider("[provider]\nfailure_rate = 0.2\ntimeout_rate = 0.3\n");
        let (good, failed, hung) = shares(&mut provider, &call(0), 0.0);
        assert!((450..550).contains(&good) && (160..240).contains(&failed), "{good} {failed} {hung}");
    }

    #[test]
    fn a_fault_may_be_about_one_tenant_or_one_model() {
        let fault = "[[faults]]\nfrom_seconds = 0\nto_seconds = 100\nfailure_rate = 1\n";
        let other = "model = 'small'\n[[tenants]]\nrequests_per_second = 1\nmodel = 'large'\n";
        let failed = |fault: &str, tenant: usize, model: usize| {
            let mut provider = provider(&format!("{other}{fault}"));
            shares(&mut provider, &Call { tenant, model, ..call(0) }, 1.0).1
        };
        let by_model = format!("{fault}model = 'large'\n");
        assert_eq!([failed(&by_model, 0, 0), failed(&by_model, 1, 1)], [0, 1_000]);
        let by_tenant = format!("{fault}tenant = 1\n");
        assert_eq!([failed(&by_tenant, 0, 0), failed(&by_tenant, 1, 0)], [0, 1_000]);
    }

    #[test]
    fn a_slow_recovery_fails_less_and_less() {
        let fault = "[[faults]]\nfrom_seconds = 10\nto_seconds = 30\nrecovers_over_seconds = 10\nfailure_rate = 1\n";
        let failed: Vec<usize> =
            [19.0, 25.0, 29.0].into_iter().map(|at| shares(&mut provider(fault), &call(0), at).1).collect();
        assert!(failed[0] == 1_000 && (450..550).contains(&failed[1]) && (70..130).contains(&failed[2]), "{failed:?}");
    }

    #[test]
    fn a_limit_and_a_load_too_many_begin_when_they_should_and_say_what_they_should() {
        let limited = "[provider]\nlimit_per_second = 30\nlimit_burst = 10\nbounds_from_seconds = 5\n";
        let mut limit = provider(limited);
        assert_eq!(shares(&mut limit, &call(0), 4.0).0, 1_000);
        assert_eq!(shares(&mut limit, &call(0), 5.0).0, 10);
        let refused = limit.call(&call(0), 0, instant(5.0));
        assert_eq!((refused.outcome, refused.retry_after), (Outcome::Throttled, Some(Duration::from_secs(1))));
        for (says, outcome) in [("overloaded", Outcome::Overloaded), ("failure", Outcome::Failure)] {
            let worsens = format!("[provider]\nworsens_beyond_per_second = 40\nworsens_says = '{says}'\n");
            let mut worsens = provider(&worsens);
            let good = shares(&mut worsens, &call(0), 0.0).0;
            assert!((60..100).contains(&good), "40 + 40^2 * (1/41^2 + 1/42^2 + ...): {good}");
            assert_eq!(worsens.call(&call(0), 0, instant(0.0)).outcome, outcome);
        }
    }
}
