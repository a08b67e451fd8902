//! The numbers that govern one circuit breaker.

use std::time::Duration;

use crate::Mistake;
use crate::breaker::report::Cause;
use crate::time::share_of;
use crate::window::{Tally, WindowKind};

/// When the probes of an open circuit go out: one after another, each at its time, whether the one before has brought
/// a result or not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeSpacing {
    /// The time from opening to the first probe, and from there to the next; longer than zero.
    pub interval: Duration,
    /// The interval grows by this share, 0 to 1, of the time for which the circuit has been open: so the end of an
    /// outage is noticed within `interval` and that share of its length.
    pub interval_share: f64,
    /// Longest interval; at least `interval`.
    pub interval_max: Duration,
}

impl ProbeSpacing {
    /// Six tenths of a second: an upstream that is back is in use again within one.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_millis(600);
    /// Less than a sixteenth: at fifty requests a second an outage of two minutes then wastes one per cent of them, and
    /// nobody is refused any more a twentieth of its length after its end, since callers wait a second for a probe.
    pub const DEFAULT_INTERVAL_SHARE: f64 = 0.06;
    /// Half a minute: longer would spare little and be noticed.
    pub const DEFAULT_INTERVAL_MAX: Duration = Duration::from_secs(30);

    /// The interval after a probe that goes out when the circuit has been open for so long.
    #[must_use]
    pub fn after(&self, open_for: Duration) -> Duration {
        self.interval.saturating_add(share_of(open_for, self.interval_share)).min(self.interval_max.max(self.interval))
    }
}

impl Default for ProbeSpacing {
    fn default() -> Self {
        Self {
            interval: Self::DEFAULT_INTERVAL,
            interval_share: Self::DEFAULT_INTERVAL_SHARE,
            interval_max: Self::DEFAULT_INTERVAL_MAX,
        }
    }
}

/// What a circuit opens for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerKind {
    /// A total outage, and what a policy says: it does no harm at any failure rate.
    Adaptive,
    /// Failures in a row and rates, by the operator's thresholds, for the upstream as a whole.
    Plain,
}

impl BreakerKind {
    /// The kind in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Adaptive => "adaptive",
            Self::Plain => "plain",
        }
    }
}

/// When a circuit opens, for how long, and what closes it again.
///
/// There are two kinds. [`BreakerSettings::adaptive`] opens for a total outage alone, never for a failure rate, and
/// probes at intervals. The plain one, which is the [`Default`], opens by thresholds and probes after a growing
/// cooldown, as gobreaker and resilience4j do.
///
/// A threshold that is `None` is off. With all of them off, only a policy, a cool-off or an
/// operator opens the circuit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerSettings {
    /// A run of failing requests opens the circuit when its chance, given the share served before it, was below this;
    /// above 0, below 1.
    pub surprise: Option<f64>,
    /// How an open circuit is probed: at intervals, or where this is `None` after a cooldown in a half-open phase.
    pub probe_spacing: Option<ProbeSpacing>,
    /// Failures and overloads without a success between them that open the circuit; at least 1.
    pub consecutive_failures: Option<u32>,
    /// Share of failures and overloads among the window's calls, throttled ones left out, that
    /// opens the circuit; above 0, at most 1. Reaching it is enough.
    pub failure_rate: Option<f64>,
    /// Neither rate is looked at before the window holds this many calls, throttled ones left out;
    /// at least 1.
    pub minimum_requests: u32,
    /// A call is slow when it takes strictly longer than this.
    pub slow_call_duration: Duration,
    /// Share of slow calls that opens the circuit, as for `failure_rate`.
    pub slow_call_rate: Option<f64>,
    /// Which results the rates look at: those of a time between a second and an hour, or the last
    /// so many, between 1 and 1,000.
    pub window: WindowKind,
    /// Calls in flight, at least 1, that open the circuit when none of them ends for
    /// `stall_duration`; `None` is off. Only calls admitted since the circuit closed are looked at,
    /// and a cancelled one is no end.
    pub stalled_calls: Option<u32>,
    /// How long `stalled_calls` may be in flight without an end of any. Longer than a healthy call
    /// takes, its stream included.
    pub stall_duration: Duration,
    /// Probes in flight at once while half-open; at least 1.
    pub probes: u32,
    /// Successful probes that close the circuit; at least 1.
    pub probe_successes: u32,
    /// A probe that has not settled within this time loses its slot to the next call. Not shorter
    /// than an attempt's time-out, or a slow upstream is probed more often than `probes` says.
    pub probe_lease: Duration,
    /// A circuit that finds no verdict within this time of turning half-open opens again, once no
    /// live probe is left.
    pub half_open_max_wait: Duration,
    /// The first opening's cooldown; every further one doubles it.
    pub cooldown: Duration,
    /// Longest cooldown before jitter. It sets the time to recovery: an upstream that comes back
    /// waits this long for the probe that notices.
    pub cooldown_max: Duration,
    /// Share of the cooldown, 0 to 1, up to which chance lengthens it. It never shortens it.
    pub cooldown_jitter: f64,
    /// Once the circuit has stayed closed this long, cooldowns start again at `cooldown`.
    pub sustained_success: Duration,
    /// For this long after its probes closed the circuit only a growing share of the calls passes,
    /// from a tenth to all of them; the first ten always do. Zero is off; at most ten minutes.
    pub ramp: Duration,
    /// Longest time that a `Retry-After`, a cool-off or a policy can keep the circuit open.
    pub open_for_cap: Duration,
}

impl BreakerSettings {
    /// One in a hundred thousand: it takes ten failing requests in a row when all was well before, seventeen when half
    /// of them failed, and about a hundred when nothing is known.
    pub const DEFAULT_SURPRISE: f64 = 1e-5;
    /// Half a second from a tenth of the calls to all, for a circuit that others wait for.
    pub const ADAPTIVE_RAMP: Duration = Duration::from_millis(500);

    /// The kind that never does harm: it opens for a total outage, a cool-off or a policy alone.
    #[must_use]
    pub fn adaptive() -> Self {
        Self {
            surprise: Some(Self::DEFAULT_SURPRISE),
            probe_spacing: Some(ProbeSpacing::default()),
            consecutive_failures: None,
            failure_rate: None,
            ramp: Self::ADAPTIVE_RAMP,
            ..Self::default()
        }
    }

    /// Five failures in a row: the usual figure, and 0 false openings in a million calls at 2 %
    /// random errors.
    pub const DEFAULT_CONSECUTIVE_FAILURES: u32 = 5;
    /// Half of the calls: a run of failures is rare when only every other call fails, so the rate
    /// must catch that.
    pub const DEFAULT_FAILURE_RATE: f64 = 0.5;
    /// Below twenty calls a rate is noise.
    pub const DEFAULT_MINIMUM_REQUESTS: u32 = 20;
    /// A minute. It only matters for statistics as long as `slow_call_rate` is off: long answers
    /// are slow by nature.
    pub const DEFAULT_SLOW_CALL_DURATION: Duration = Duration::from_secs(60);
    /// Half a minute of history.
    pub const DEFAULT_WINDOW: Duration = Duration::from_secs(30);
    /// Two minutes: twice what an attempt commonly waits for its first content. It only matters when
    /// `stalled_calls` is set, which is off: long answers are in flight for long by nature.
    pub const DEFAULT_STALL_DURATION: Duration = Duration::from_secs(120);
    /// One probe at a time: what a struggling upstream can bear.
    pub const DEFAULT_PROBES: u32 = 1;
    /// One good answer closes the circuit; a relapse opens it soon enough, for longer.
    pub const DEFAULT_PROBE_SUCCESSES: u32 = 1;
    /// A minute, as long as an attempt commonly waits for its first content.
    pub const DEFAULT_PROBE_LEASE: Duration = Duration::from_secs(60);
    /// Two leases: one lost probe is forgiven.
    pub const DEFAULT_HALF_OPEN_MAX_WAIT: Duration = Duration::from_secs(120);
    /// One second outlasts a hiccup without being noticed.
    pub const DEFAULT_COOLDOWN: Duration = Duration::from_secs(1);
    /// With jitter the longest cooldown is 4.8 s, so that a recovered upstream is back in use
    /// within five. That is paid for with probes: at 50 calls a second that fail within 0.2 s, an
    /// outage of two minutes wastes 0.65 % of them, one of ten minutes 0.48 %, and 0.44 % are the
    /// probes. No rule that probes with callers' requests alone brings the first figure below 0.5 %
    /// without exceeding five seconds: one probe in five seconds is 0.40 %, and the ten calls that
    /// are in flight when the outage begins, with the one whose failure opens the circuit, 0.16 %.
    pub const DEFAULT_COOLDOWN_MAX: Duration = Duration::from_secs(4);
    /// A fifth spreads the probes of many proxies.
    pub const DEFAULT_COOLDOWN_JITTER: f64 = 0.2;
    /// One window's worth of staying closed counts as recovered.
    pub const DEFAULT_SUSTAINED_SUCCESS: Duration = Duration::from_secs(30);
    /// Two seconds split a herd that waited, and are over before a user would notice.
    pub const DEFAULT_RAMP: Duration = Duration::from_secs(2);
    /// A day, the longest period after which providers reset quotas that are worth waiting for.
    pub const DEFAULT_OPEN_FOR_CAP: Duration = Duration::from_secs(24 * 3600);

    /// Shortest allowed window: its buckets must not be finer than the spacing of calls.
    pub const WINDOW_MIN: Duration = Duration::from_secs(1);
    /// Longest allowed window: older results say nothing about now.
    pub const WINDOW_MAX: Duration = Duration::from_secs(3600);
    /// Largest count window: a rate is then exact to a tenth of a percent, at 16 kB per circuit.
    pub const WINDOW_RESULTS_MAX: u32 = WindowKind::COUNT_MAX;
    /// Longest allowed ramp: an upstream that needs longer is not well.
    pub const RAMP_MAX: Duration = Duration::from_secs(600);
    /// Most probes at once, because each lease is remembered.
    pub const PROBES_MAX: u32 = 100;

    /// Every mistake in these settings; none when they are sound. A breaker made of unsound ones
    /// does not panic, but may open late or never.
    #[must_use]
    pub fn validate(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut unless = |holds, field, message| {
            Mistake::unless(&mut mistakes, holds, field, message);
        };
        let at_least_one = || "must be at least 1".to_owned();
        let not_zero = || "must be longer than zero".to_owned();
        let rate = |rate: Option<f64>| rate.is_none_or(|rate| rate > 0.0 && rate <= 1.0);
        let rate_range = || "must be above 0 and at most 1".to_owned();

        let surprise = self.surprise.is_none_or(|chance| chance > 0.0 && chance < 1.0);
        unless(surprise, "surprise", "must lie between 0 and 1, both excluded".to_owned());
        if let Some(spacing) = &self.probe_spacing {
            unless(!spacing.interval.is_zero(), "probe_interval", not_zero());
            unless(
                (0.0..=1.0).contains(&spacing.interval_share),
                "probe_interval_share",
                "must lie between 0 and 1".to_owned(),
            );
            unless(
                spacing.interval_max >= spacing.interval,
                "probe_interval_max",
                format!("must not be shorter than probe_interval ({:?})", spacing.interval),
            );
        }
        unless(self.consecutive_failures != Some(0), "consecutive_failures", at_least_one());
        unless(rate(self.failure_rate), "failure_rate", rate_range());
        unless(self.minimum_requests > 0, "minimum_requests", at_least_one());
        unless(!self.slow_call_duration.is_zero(), "slow_call_duration", not_zero());
        unless(rate(self.slow_call_rate), "slow_call_rate", rate_range());
        match self.window {
            WindowKind::Time(length) => unless(
                (Self::WINDOW_MIN..=Self::WINDOW_MAX).contains(&length),
                "window",
                format!("must lie between {:?} and {:?}", Self::WINDOW_MIN, Self::WINDOW_MAX),
            ),
            WindowKind::Count(results) => {
                unless(
                    (1..=Self::WINDOW_RESULTS_MAX).contains(&results),
                    "window",
                    format!("must hold between 1 and {} results", Self::WINDOW_RESULTS_MAX),
                );
                unless(
                    self.minimum_requests <= results,
                    "minimum_requests",
                    format!("must not be more than the {results} results that the window holds"),
                );
            }
        }
        unless(self.stalled_calls != Some(0), "stalled_calls", at_least_one());
        unless(!self.stall_duration.is_zero(), "stall_duration", not_zero());
        unless(
            (1..=Self::PROBES_MAX).contains(&self.probes),
            "probes",
            format!("must lie between 1 and {}", Self::PROBES_MAX),
        );
        unless(self.probe_successes > 0, "probe_successes", at_least_one());
        unless(!self.probe_lease.is_zero(), "probe_lease", not_zero());
        unless(!self.half_open_max_wait.is_zero(), "half_open_max_wait", not_zero());
        unless(!self.cooldown.is_zero(), "cooldown", not_zero());
        unless(
            self.cooldown_max >= self.cooldown,
            "cooldown_max",
            format!("must not be shorter than cooldown ({:?})", self.cooldown),
        );
        unless((0.0..=1.0).contains(&self.cooldown_jitter), "cooldown_jitter", "must lie between 0 and 1".to_owned());
        unless(self.ramp <= Self::RAMP_MAX, "ramp", format!("must not be longer than {:?}", Self::RAMP_MAX));
        unless(
            self.open_for_cap >= self.cooldown_max,
            "open_for_cap",
            format!("must not be shorter than cooldown_max ({:?})", self.cooldown_max),
        );
        mistakes
    }

    /// The first threshold that these counts reach, in the order of the fields.
    pub(super) fn crossed(&self, consecutive_failures: u32, tally: &Tally) -> Option<Cause> {
        if self.consecutive_failures.is_some_and(|limit| consecutive_failures >= limit) {
            return Some(Cause::ConsecutiveFailures(consecutive_failures));
        }
        let requests = tally.rated();
        if requests < self.minimum_requests.max(1) {
            return None;
        }
        // The quotient is rounded just as the decimal in the configuration was, so that 7 of 100
        // reaches 0.07.
        let reaches =
            |count: u32, rate: Option<f64>| rate.is_some_and(|rate| f64::from(count) / f64::from(requests) >= rate);
        let failures = tally.failed();
        if reaches(failures, self.failure_rate) {
            return Some(Cause::FailureRate { failures, requests });
        }
        let slow_calls = tally.slow_calls;
        reaches(slow_calls, self.slow_call_rate).then_some(Cause::SlowCallRate { slow_calls, requests })
    }
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            surprise: None,
            probe_spacing: None,
            consecutive_failures: Some(Self::DEFAULT_CONSECUTIVE_FAILURES),
            failure_rate: Some(Self::DEFAULT_FAILURE_RATE),
            minimum_requests: Self::DEFAULT_MINIMUM_REQUESTS,
            slow_call_duration: Self::DEFAULT_SLOW_CALL_DURATION,
            slow_call_rate: None,
            window: WindowKind::Time(Self::DEFAULT_WINDOW),
            stalled_calls: None,
            stall_duration: Self::DEFAULT_STALL_DURATION,
            probes: Self::DEFAULT_PROBES,
            probe_successes: Self::DEFAULT_PROBE_SUCCESSES,
            probe_lease: Self::DEFAULT_PROBE_LEASE,
            half_open_max_wait: Self::DEFAULT_HALF_OPEN_MAX_WAIT,
            cooldown: Self::DEFAULT_COOLDOWN,
            cooldown_max: Self::DEFAULT_COOLDOWN_MAX,
            cooldown_jitter: Self::DEFAULT_COOLDOWN_JITTER,
            sustained_success: Self::DEFAULT_SUSTAINED_SUCCESS,
            ramp: Self::DEFAULT_RAMP,
            open_for_cap: Self::DEFAULT_OPEN_FOR_CAP,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_sound() {
        assert_eq!(BreakerSettings::default().validate(), []);
        assert_eq!(BreakerSettings::adaptive().validate(), []);
    }

    #[test]
    fn every_mistake_is_listed_at_once() {
        let broken = BreakerSettings {
            surprise: Some(0.0),
            probe_spacing: Some(ProbeSpacing {
                interval: Duration::ZERO,
                interval_share: 2.0,
                interval_max: Duration::ZERO,
            }),
            consecutive_failures: Some(0),
            failure_rate: Some(f64::NAN),
            minimum_requests: 0,
            slow_call_duration: Duration::ZERO,
            slow_call_rate: Some(1.5),
            window: WindowKind::Time(Duration::ZERO),
            stalled_calls: Some(0),
            stall_duration: Duration::ZERO,
            probes: 0,
            probe_successes: 0,
            probe_lease: Duration::ZERO,
            half_open_max_wait: Duration::ZERO,
            cooldown: Duration::ZERO,
            cooldown_max: Duration::from_secs(1),
            cooldown_jitter: -0.1,
            sustained_success: Duration::ZERO,
            ramp: Duration::MAX,
            open_for_cap: Duration::ZERO,
        };
        let fields: Vec<_> = broken.validate().iter().map(|mistake| mistake.field).collect();
        let all = "surprise probe_interval probe_interval_share consecutive_failures failure_rate minimum_requests slow_call_duration \
                   slow_call_rate window stalled_calls stall_duration probes probe_successes probe_lease half_open_max_wait \
                   cooldown cooldown_jitter ramp open_for_cap";
        assert_eq!(fields, all.split_whitespace().collect::<Vec<_>>());
        let few = BreakerSettings { window: WindowKind::Count(10), ..BreakerSettings::default() };
        assert_eq!(few.validate().iter().map(|mistake| mistake.field).collect::<Vec<_>>(), ["minimum_requests"]);
        for count in [0, BreakerSettings::WINDOW_RESULTS_MAX + 1] {
            let settings = BreakerSettings { window: WindowKind::Count(count), minimum_requests: 1, ..few };
            assert!(settings.validate().iter().any(|mistake| mistake.field == "window"), "{count}");
        }
        let shrinking = BreakerSettings { cooldown: Duration::from_secs(9), ..BreakerSettings::default() };
        assert_eq!(shrinking.validate()[0].to_string(), "cooldown_max: must not be shorter than cooldown (9s)");
    }
}
