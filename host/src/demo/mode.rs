//! What is shown: what is wrong with the provider, and when.

use clap::ValueEnum;
use std::time::Duration;

/// What is wrong with the provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// The provider answers 503 to everything for a while
    #[default]
    Outage,
    /// Half of the calls fail for a while
    Partial,
    /// The application asks for more than the provider's limit for a while, which answers 429 to the rest
    Throttled,
    /// The outage once more, and Spillway has a second provider to ask
    Fallback,
    /// The provider puts errors under status 200; a policy that knows it is dropped in while traffic flows
    Swap,
}

/// How the provider behaves while something is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Trouble {
    /// 503 to everything.
    Away,
    /// Half of the calls get a 500, by [luck](super::luck).
    HalfFails,
    /// It limits, all the time, and in the trouble's time the application asks for more than that. 429 with `Retry-After`
    /// to what goes beyond.
    Burst {
        /// Calls a second that are served.
        limit_per_second: f64,
    },
    /// Half of the calls get an error under status 200, by the same luck.
    HalfFailsUnder200,
}

/// Requests a second in each lane, background requests among them. A second Spillway, three lanes and their providers
/// are little work at this rate, also for two slow cores, and it makes some hundred requests in the short form.
const REQUESTS_PER_SECOND: f64 = 24.0;
/// The same before and after a burst.
const CALM_PER_SECOND: f64 = 16.0;
/// The same in a burst.
const BURST_PER_SECOND: f64 = 64.0;
/// Calls a second that a provider serves that limits: half of a burst, and twice of what is asked at other times.
const LIMIT_PER_SECOND: f64 = 32.0;
/// Each request whose number is a multiple of this is a background request: nobody waits for it.
const BACKGROUND_EVERY: usize = 6;
/// The part of the time after which something goes wrong, until which all is well.
const TROUBLE_FROM: f64 = 0.2;
/// The part of the time after which all is well again. Less than half of the requests meet the trouble, so that what half
/// of them get is what they get on a good day, in every lane.
const TROUBLE_UNTIL: f64 = 0.65;
/// The same of a burst. Whoever waits in turn behind a limit waits beyond its end.
const BURST_UNTIL: f64 = 0.26;
/// The part of the time after which the policy is dropped in. What is wrong stays until the end there.
const SWAP_AT: f64 = 0.6;

/// One demo, with all times from the first request on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scenario {
    /// What is shown.
    pub mode: Mode,
    /// From the first request to the last.
    pub lasting: Duration,
    /// What is wrong.
    pub trouble: Trouble,
    /// When it begins.
    pub trouble_from: Duration,
    /// When it ends.
    pub trouble_until: Duration,
    /// When the policy is dropped in.
    pub swap_at: Option<Duration>,
}

impl Scenario {
    /// A demo of a minute, or of a quarter of that. The last seconds of either are for what is still open when the last
    /// request has gone out.
    pub(crate) fn new(mode: Mode, fast: bool) -> Scenario {
        let lasting = Duration::from_secs(if fast { 12 } else { 54 });
        let (trouble, until) = match mode {
            Mode::Outage | Mode::Fallback => (Trouble::Away, TROUBLE_UNTIL),
            Mode::Partial => (Trouble::HalfFails, TROUBLE_UNTIL),
            Mode::Throttled => (Trouble::Burst { limit_per_second: LIMIT_PER_SECOND }, BURST_UNTIL),
            Mode::Swap => (Trouble::HalfFailsUnder200, 1.0),
        };
        Scenario {
            mode,
            lasting,
            trouble,
            trouble_from: lasting.mul_f64(TROUBLE_FROM),
            trouble_until: lasting.mul_f64(until),
            swap_at: (mode == Mode::Swap).then(|| lasting.mul_f64(SWAP_AT)),
        }
    }

    /// Requests a second at this moment, in each lane.
    pub(crate) fn requests_per_second(&self, at: Duration) -> f64 {
        match self.trouble {
            Trouble::Away | Trouble::HalfFails | Trouble::HalfFailsUnder200 => REQUESTS_PER_SECOND,
            Trouble::Burst { .. } if self.is_in_trouble(at) => BURST_PER_SECOND,
            Trouble::Burst { .. } => CALM_PER_SECOND,
        }
    }

    /// Whether something is wrong at this moment.
    pub(crate) fn is_in_trouble(&self, at: Duration) -> bool {
        (self.trouble_from..self.trouble_until).contains(&at)
    }

    /// The part of the whole that this moment is in, from 0 on, of so many parts of the same length; the last one for
    /// all that is later.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "parts are few")]
    pub(crate) fn part(&self, at: Duration, parts: usize) -> usize {
        let share = at.as_secs_f64() / self.lasting.as_secs_f64();
        ((share * parts as f64) as usize).min(parts.saturating_sub(1))
    }
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Somebody does, now.
    Live,
    /// Nobody does, but the answer is wanted.
    Background,
}

impl Kind {
    /// The kind of the request of this number.
    pub(crate) fn of(number: usize) -> Kind {
        if (number + 1).is_multiple_of(BACKGROUND_EVERY) { Kind::Background } else { Kind::Live }
    }
}

/// The lanes, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Calls the provider once, and takes what comes.
    Direct,
    /// Calls the provider as an official SDK does, which tries again twice.
    Retries,
    /// The same SDK, with Spillway between.
    Spillway,
}

impl Lane {
    /// All of them.
    pub(crate) const ALL: [Lane; 3] = [Lane::Direct, Lane::Retries, Lane::Spillway];

    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Lane::Direct => "direct",
            Lane::Retries => "SDK retries",
            Lane::Spillway => "Spillway",
        }
    }

    /// Its name within a sentence.
    pub(crate) fn in_a_sentence(self) -> &'static str {
        match self {
            Lane::Direct => "direct",
            Lane::Retries => "with SDK retries",
            Lane::Spillway => "through Spillway",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_has_its_trouble_within_its_time_and_the_short_form_the_same_shares() {
        for mode in Mode::value_variants() {
            let (long, short) = (Scenario::new(*mode, false), Scenario::new(*mode, true));
            for scenario in [long, short] {
                assert!(scenario.trouble_from < scenario.trouble_until, "{mode:?}");
                assert!(scenario.trouble_until <= scenario.lasting, "{mode:?}");
                assert_eq!(scenario.swap_at.is_some(), *mode == Mode::Swap);
                let within = |at: Duration| at > scenario.trouble_from && at < scenario.trouble_until;
                assert!(scenario.swap_at.is_none_or(within), "{mode:?}");
            }
            let share = |scenario: Scenario| scenario.trouble_from.as_secs_f64() / scenario.lasting.as_secs_f64();
            assert!((share(long) - share(short)).abs() < 1e-9, "{mode:?}");
        }
    }

    #[test]
    fn the_whole_is_cut_into_parts_and_what_is_late_belongs_to_the_last() {
        let scenario = Scenario::new(Mode::Outage, true);
        for (at_ms, part) in [(0, 0), (2_999, 0), (3_000, 1), (11_999, 3), (12_000, 3), (99_000, 3)] {
            assert_eq!(scenario.part(Duration::from_millis(at_ms), 4), part, "{at_ms}");
        }
    }

    #[test]
    fn one_request_in_six_is_nobodys_wait() {
        assert_eq!((0..600).filter(|number| Kind::of(*number) == Kind::Background).count(), 100);
    }
}
