//! `[upstreams.NAME.breaker]`: what circuits open for, and when they close again.

use super::kind::{Flag, Share, Time, TimeOrCount, Whole, Word, ZeroIsOff};
use super::reader::Section;
use super::section::section;
use super::server::REQUEST_TIMEOUT;
use spillway_resilience::{BreakerKind, BreakerSettings, ProbeSpacing, WindowKind};
use std::time::Duration;

/// Most results, calls or failures that a threshold can name.
const COUNT_MAX: u64 = 1_000_000;

section! {
    /// What circuits open for, and when they close again.
    ///
    /// A breaker of kind `adaptive` opens for a total outage and what a policy says, never for a failure rate: what is
    /// served at a rate of 30 % would be lost too. Whoever wants the breaker of the textbooks all the same chooses
    /// `kind = "plain"`, or sets any of the keys that only that has. It counts for the upstream as a whole, refuses at
    /// once, and behaves as gobreaker and resilience4j document theirs.
    pub struct BreakerConfig {
        /// What circuits open for: a total outage alone, or the thresholds below.
        kind: BreakerKind = BreakerKind::Adaptive, Word(&[BreakerKind::Adaptive, BreakerKind::Plain], BreakerKind::as_str),
            shown as "`\"adaptive\"`, unless a key is set that only a plain one has";
        /// While open, a call goes out so often to see whether the provider is back. Adaptive only.
        probe_interval: Duration = ProbeSpacing::DEFAULT_INTERVAL, Time::POSITIVE;
        /// The interval grows by this share of the outage's age. Adaptive only.
        probe_interval_share: f64 = ProbeSpacing::DEFAULT_INTERVAL_SHARE, Share;
        /// Longest such interval. Adaptive only.
        probe_interval_max: Duration = ProbeSpacing::DEFAULT_INTERVAL_MAX, Time::POSITIVE;
        /// After closing, the time from a tenth of the calls to all of them.
        ramp: Duration = BreakerSettings::ADAPTIVE_RAMP, Time::ANY, shown as "`\"500ms\"`; plain: `\"2s\"`";
        /// Share of slow calls in the window that opens the circuit.
        slow_call_rate: Option<f64> = None, ZeroIsOff(Share);
        /// A call is slow when it takes longer; not longer than `first_content_timeout`.
        slow_call_duration: Duration = BreakerSettings::DEFAULT_SLOW_CALL_DURATION, Time::POSITIVE;
        /// So many calls in flight for `stall_duration`, of which none ends, open the circuit.
        stalled_calls: Option<u32> = None, ZeroIsOff(Whole(0..=COUNT_MAX));
        /// See `stalled_calls`; not longer than `server.request_timeout`.
        stall_duration: Duration = BreakerSettings::DEFAULT_STALL_DURATION, Time::POSITIVE;
        /// Requests that fail one after another open the circuit. Plain only.
        consecutive_failures: Option<u32> = Some(BreakerSettings::DEFAULT_CONSECUTIVE_FAILURES),
            ZeroIsOff(Whole(0..=COUNT_MAX));
        /// Share of failures in the window that opens the circuit; reaching it is enough. Plain only.
        failure_rate: Option<f64> = Some(BreakerSettings::DEFAULT_FAILURE_RATE), ZeroIsOff(Share);
        /// Calls that the window must hold before a rate is looked at. Plain only.
        minimum_requests: u32 = BreakerSettings::DEFAULT_MINIMUM_REQUESTS, Whole(1..=COUNT_MAX);
        /// What the rates look at: the calls of a time from 1s to 1h, or the last 1 to 1000. Plain only.
        window: WindowKind = WindowKind::Time(BreakerSettings::DEFAULT_WINDOW), TimeOrCount;
        /// Probes at once, when half-open. Plain only.
        probes: u32 = BreakerSettings::DEFAULT_PROBES, Whole(1..=u64::from(BreakerSettings::PROBES_MAX));
        /// Successful probes that close the circuit; one failure opens it again. Plain only.
        probe_successes: u32 = BreakerSettings::DEFAULT_PROBE_SUCCESSES, Whole(1..=1_000);
        /// How long the circuit stays open before it is probed. It doubles with each opening in a row. Plain only.
        cooldown: Duration = BreakerSettings::DEFAULT_COOLDOWN, Time::POSITIVE;
        /// Longest cooldown before jitter; not shorter than `cooldown`. Plain only.
        cooldown_max: Duration = BreakerSettings::DEFAULT_COOLDOWN_MAX, Time::POSITIVE;
        /// Share of the cooldown up to which chance lengthens it. Plain only.
        cooldown_jitter: f64 = BreakerSettings::DEFAULT_COOLDOWN_JITTER, Share;
        /// Report what circuits would do, and let every call pass.
        watch_only: bool = false, Flag;
    }
    keys in force Self::has;
}

/// What only a plain breaker has, and what only an adaptive one.
const PLAIN_KEYS: [&str; 9] = [
    "consecutive_failures",
    "failure_rate",
    "minimum_requests",
    "window",
    "probes",
    "probe_successes",
    "cooldown",
    "cooldown_max",
    "cooldown_jitter",
];
const ADAPTIVE_KEYS: [&str; 3] = ["probe_interval", "probe_interval_share", "probe_interval_max"];

/// The other kind, and the keys that only that has.
fn other(kind: BreakerKind) -> (BreakerKind, &'static [&'static str]) {
    match kind {
        BreakerKind::Adaptive => (BreakerKind::Plain, &PLAIN_KEYS),
        BreakerKind::Plain => (BreakerKind::Adaptive, &ADAPTIVE_KEYS),
    }
}

impl BreakerConfig {
    /// `first_content` and `request` are the longest that a call and a request may take.
    pub(super) fn read(section: Section<'_>, first_content: (&str, Duration), request: Duration) -> BreakerConfig {
        let mut breaker = BreakerConfig::fresh(section.folder());
        breaker.take(&section);
        // The kind is the one that is named, or else the one whose keys are there.
        if !section.has_taken("kind") && PLAIN_KEYS.iter().any(|key| section.has(key)) {
            breaker.kind = BreakerKind::Plain;
        }
        if breaker.kind == BreakerKind::Plain && !section.has_taken("ramp") {
            breaker.ramp = BreakerSettings::DEFAULT_RAMP;
        }
        let (kind, (other, strangers)) = (breaker.kind.as_str(), other(breaker.kind));
        // A kind that there is not has been called a mistake by now.
        let is_known = section.has_taken("kind") || !section.has("kind");
        for key in strangers.iter().filter(|key| is_known && section.has(key)) {
            let other = other.as_str();
            section
                .mistake(key, format!("means nothing to a breaker of kind \"{kind}\"; it is for kind = \"{other}\""));
        }
        section.within("slow_call_duration", &mut breaker.slow_call_duration, first_content);
        section.within("stall_duration", &mut breaker.stall_duration, (REQUEST_TIMEOUT, request));
        section.no_shorter("cooldown_max", &mut breaker.cooldown_max, breaker.cooldown);
        section.no_shorter("probe_interval_max", &mut breaker.probe_interval_max, breaker.probe_interval);
        section.mistakes(breaker.settings().validate());
        section.finish();
        breaker
    }

    /// Whether a key means anything to a breaker of this kind.
    fn has(&self, key: &str) -> bool {
        !other(self.kind).1.contains(&key)
    }

    /// As the core takes them, but for how long a probe may take, which other sections say.
    pub(super) fn settings(&self) -> BreakerSettings {
        let BreakerConfig { ramp, slow_call_rate, slow_call_duration, stalled_calls, stall_duration, .. } = *self;
        match self.kind {
            BreakerKind::Adaptive => BreakerSettings {
                probe_spacing: Some(ProbeSpacing {
                    interval: self.probe_interval,
                    interval_share: self.probe_interval_share,
                    interval_max: self.probe_interval_max,
                }),
                ramp,
                slow_call_rate,
                slow_call_duration,
                stalled_calls,
                stall_duration,
                ..BreakerSettings::adaptive()
            },
            BreakerKind::Plain => BreakerSettings {
                ramp,
                slow_call_rate,
                slow_call_duration,
                stalled_calls,
                stall_duration,
                consecutive_failures: self.consecutive_failures,
                failure_rate: self.failure_rate,
                minimum_requests: self.minimum_requests,
                window: self.window,
                probes: self.probes,
                probe_successes: self.probe_successes,
                cooldown: self.cooldown,
                cooldown_max: self.cooldown_max,
                cooldown_jitter: self.cooldown_jitter,
                ..BreakerSettings::default()
            },
        }
    }
}
