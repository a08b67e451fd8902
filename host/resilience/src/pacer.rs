//! How fast an upstream that says "too much" may be called: a rate that is found, and pauses that are named.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Mistake;
use crate::time::{Timestamp, share_of, uniform_below};

/// The numbers of a [`Pacer`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PacerSettings {
    /// Longest pause that an upstream can name. After it calls go out one by one, to see.
    pub named_pause_max: Duration,
    /// Share of a named pause, 0 to 1, up to which chance lengthens it. It never shortens it.
    pub pause_jitter: f64,
    /// At most one decrease in this time: the calls that were under way when the rate was lowered are no
    /// news.
    pub decrease_interval: Duration,
    /// Longest gap between two calls while some are served. Longer than zero.
    pub gap_max: Duration,
    /// While none is served, the gap grows to this share, 0 to 1, of the time for which that has been so.
    pub fruitless_share: f64,
    /// Longest gap while none is served; at least `gap_max`.
    pub fruitless_gap_max: Duration,
    /// Nothing is paced any more once nobody has said "too much" for so long and nobody waits.
    pub forget_after: Duration,
}

impl PacerSettings {
    /// Ten minutes: longer than any limit per minute needs, short enough that a mistaken `Retry-After` of
    /// a day does not cost the day.
    pub const DEFAULT_NAMED_PAUSE_MAX: Duration = Duration::from_secs(600);
    /// A fiftieth: calls are released one by one after a pause, so there is no herd to spread; this is
    /// for the other proxies that heard the same.
    pub const DEFAULT_PAUSE_JITTER: f64 = 0.02;
    /// A second: longer than most refusals are under way, and as long as an upstream remembers load that counts by
    /// the second.
    pub const DEFAULT_DECREASE_INTERVAL: Duration = Duration::from_secs(1);
    /// A second: what somebody bears who waits for a single answer.
    pub const DEFAULT_GAP_MAX: Duration = Duration::from_secs(1);
    /// A twentieth: an upstream that was away for a minute is called every three seconds.
    pub const DEFAULT_FRUITLESS_SHARE: f64 = 0.05;
    /// Half a minute, so that the end of the longest drought is noticed within that.
    pub const DEFAULT_FRUITLESS_GAP_MAX: Duration = Duration::from_secs(30);
    /// A minute: limits count minutes.
    pub const DEFAULT_FORGET_AFTER: Duration = Duration::from_secs(60);

    /// Every mistake in these settings; none when they are sound.
    #[must_use]
    pub fn validate(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut unless = |holds, field, message: &str| Mistake::unless(&mut mistakes, holds, field, message.to_owned());
        unless((0.0..=1.0).contains(&self.pause_jitter), "pause_jitter", "must lie between 0 and 1");
        unless(!self.gap_max.is_zero(), "gap_max", "must be longer than zero");
        unless((0.0..=1.0).contains(&self.fruitless_share), "fruitless_share", "must lie between 0 and 1");
        unless(self.fruitless_gap_max >= self.gap_max, "fruitless_gap_max", "must not be shorter than gap_max");
        mistakes
    }
}

impl Default for PacerSettings {
    fn default() -> Self {
        Self {
            named_pause_max: Self::DEFAULT_NAMED_PAUSE_MAX,
            pause_jitter: Self::DEFAULT_PAUSE_JITTER,
            decrease_interval: Self::DEFAULT_DECREASE_INTERVAL,
            gap_max: Self::DEFAULT_GAP_MAX,
            fruitless_share: Self::DEFAULT_FRUITLESS_SHARE,
            fruitless_gap_max: Self::DEFAULT_FRUITLESS_GAP_MAX,
            forget_after: Self::DEFAULT_FORGET_AFTER,
        }
    }
}

/// For how long an upstream that says "too much" wants nobody to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// It did not say.
    Unnamed,
    /// It did not even say "too much": plain errors are taken for that.
    Suspected,
    /// So long, by the upstream's own word; bounded by `named_pause_max`.
    Named(Duration),
    /// So long, by the operator's or a policy's word, which is not bounded.
    Ordered(Duration),
}

/// When the last answers came, as a rate: over the last second, or where that held too few to tell, over
/// as long as it takes to have enough.
#[derive(Clone, Debug, Default)]
pub struct ServedLog {
    answers: VecDeque<(Timestamp, u64)>,
}

impl ServedLog {
    /// Answers remembered: a quarter of a second at a thousand a second, which tells the rate to a tenth.
    pub const ANSWERS_MAX: usize = 256;
    /// Answers of which a rate can be told.
    const ENOUGH: usize = 8;
    /// Answers that are older say nothing about now.
    const MEMORY: Duration = Duration::from_secs(10);
    const SECOND: Duration = Duration::from_secs(1);

    /// Notes an answer for whom `key` stands for.
    pub fn served(&mut self, key: u64, now: Timestamp) {
        if self.answers.len() >= Self::ANSWERS_MAX {
            self.answers.pop_front();
        }
        self.answers.push_back((now, key));
    }

    /// What it holds of one key.
    #[must_use]
    pub fn of(&self, wanted: impl Fn(u64) -> bool) -> Self {
        Self { answers: self.answers.iter().copied().filter(|(_, key)| wanted(*key)).collect() }
    }

    /// Whether there were enough answers of late to tell a rate.
    #[must_use]
    pub fn knows(&self, now: Timestamp) -> bool {
        self.recent(now).take(Self::ENOUGH).count() == Self::ENOUGH
    }

    /// Whether they reach back so far that the rate is no mere beginning.
    fn knows_well(&self, now: Timestamp) -> bool {
        self.knows(now) && self.recent(now).any(|at| now.saturating_since(at) >= Self::SECOND)
    }

    /// When the answers of late came, the youngest first.
    fn recent(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        let times = self.answers.iter().rev().map(|(at, _)| *at);
        times.take_while(move |at| now.saturating_since(*at) <= Self::MEMORY)
    }

    /// Answers a second; 0 when there was none of late.
    #[must_use]
    pub fn rate(&self, now: Timestamp) -> f64 {
        let age = |at: Timestamp| now.saturating_since(at);
        let (mut count, mut span) = (0, Duration::ZERO);
        for (at, _) in self.answers.iter().rev() {
            let within = if count < Self::ENOUGH { Self::MEMORY } else { Self::SECOND };
            if age(*at) > within {
                break;
            }
            count += 1;
            span = age(*at);
        }
        // A full log may reach back less than a second; any other says that nothing came before.
        let full = self.answers.len() >= Self::ANSWERS_MAX;
        let least = if full { Duration::from_millis(1) } else { Self::SECOND };
        f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / span.max(least).as_secs_f64()
    }
}

/// The rate at which calls go out, once somebody has said "too much".
#[derive(Clone, Copy, Debug)]
struct Pacing {
    /// Calls a second.
    per_second: f64,
    /// Where it last was too much; approached with care. A guess until something was refused at a rate of ours.
    too_much: f64,
    guess: Option<(f64, f64)>,
    /// Until then every answer of the calls that were under way tells what the upstream serves.
    began: Timestamp,
    next: Timestamp,
    /// When the rate was last lowered, and how many were served since.
    decreased: Timestamp,
    served_since: u32,
    told: Timestamp,
    /// Since when every call was refused; `None` when the last one was served.
    fruitless_since: Option<Timestamp>,
    /// Nobody has said so: plain errors were taken for it.
    is_suspicion: bool,
    /// When the last call went out.
    sent: Timestamp,
    /// Whether nothing was too much for so long that it is tried what is.
    explores: bool,
    /// Whether the last telling has named a pause, which is more than none.
    names_pauses: bool,
    /// Whether it was about a call that was alone.
    told_alone: bool,
}

/// Finds the rate that an upstream bears which says when it is too much: a 429, a 529, a 503 that speaks
/// of overload.
///
/// Such an answer is neither a failure nor a reason to refuse: whoever has the patience waits and goes
/// out at the rate at which others are served.
///
/// - **It begins** with the first telling, at the rate that was served of late.
/// - **A pause that is named** is kept as named, up to `named_pause_max`. Of several the one that ends last
///   counts.
/// - **A telling** lowers the rate, at most twice a second, and only if it is about a call that went out since it was
///   last lowered: by a twentieth; by a fifth if less than two seconds' worth of calls were served since; by half if
///   none was. Without a named pause it is then no higher than what is served.
/// - **Each answer** raises it, quickly while it is far below where it was too much, hardly at all near that place, and
///   faster again beyond it, as CUBIC does (RFC 9438): so a quota is used up to nine tenths although each refusal
///   costs a pause. After a quarter of a minute's worth of answers without a word it is tried how much more is borne, so
///   that a limit which was lifted is found.
/// - **Who calls alone** waits for pauses only, while no rate is known.
/// - **While nothing is served** calls go out one by one, at growing intervals.
#[derive(Clone, Debug)]
pub struct Pacer {
    settings: PacerSettings,
    served: ServedLog,
    paused_until: Timestamp,
    /// As of when the rate was last lowered.
    paused_before: Timestamp,
    /// A pause was named that is longer than a rate is remembered for: what is used up is a quota.
    is_quota_spent: bool,
    pacing: Option<Pacing>,
}

impl Pacer {
    /// Calls may go out this much before their time, so that a timer that is late costs no throughput.
    const EARLY: Duration = Duration::from_millis(5);
    /// The least time from a call that was refused to the next one, where it is the only one: shorter than the first
    /// pause of the official SDKs, so that whoever keeps that does not wait here as well.
    const ALONE_GAP_MIN: Duration = Duration::from_millis(250);
    /// What a telling leaves of the rate: usually, if it comes soon after the last, and if nobody was served since.
    const GENTLE: f64 = 0.95;
    const FIRM: f64 = 0.8;
    const HARD: f64 = 0.5;
    /// A limit has been lifted where so many times more is served than was borne for long.
    const LIFTED: f64 = 1.5;
    /// For so long after its beginning a telling is no word on the rate.
    const AFTERMATH: Duration = Duration::from_secs(2);
    /// So many seconds' worth of answers make a telling a usual one.
    const SOON_SECONDS: f64 = 2.0;

    /// Nothing is paced. `served` is what is known of the answers of late.
    #[must_use]
    pub const fn new(settings: PacerSettings, served: ServedLog) -> Self {
        Self {
            settings,
            served,
            paused_until: Timestamp::ORIGIN,
            paused_before: Timestamp::ORIGIN,
            is_quota_spent: false,
            pacing: None,
        }
    }

    /// How long a call has to wait; zero when it may go out now.
    #[must_use]
    pub fn wait(&self, now: Timestamp) -> Duration {
        let paused = self.paused_until.saturating_since(now);
        match &self.pacing {
            Some(pacing) => paused.max(pacing.next.saturating_since(now)),
            None => paused,
        }
    }

    /// How long a call has to wait while no other is under way here and none waits: for a pause, and where the last one
    /// was refused [while it was alone](Self::told_alone) and no pause was named, for as long again as that has been so,
    /// as who repeats by himself would. One call at a time is no more than what was served last, and whoever calls serially must not pay
    /// for a rate that nobody has asked for.
    #[must_use]
    pub fn wait_alone(&self, now: Timestamp) -> Duration {
        let paused = self.paused_until.saturating_since(now);
        let Some(pacing) = &self.pacing else { return paused };
        // A rate that is known is kept: who asks for as much is no different from a crowd.
        if self.served.knows(now) {
            return self.wait(now);
        }
        let Some(since) = pacing.fruitless_since else { return paused };
        if !pacing.told_alone {
            return self.wait(now);
        }
        let own = match pacing.names_pauses {
            true => Duration::ZERO,
            false => pacing.told.saturating_since(since).max(Self::ALONE_GAP_MIN).min(self.settings.gap_max),
        };
        let gap = own.max(self.fruitless_gap(pacing, now));
        paused.max(pacing.sent.saturating_add(gap).saturating_since(now))
    }

    /// The least wait of a call that comes after so many others, as far as can be told now: the rate may rise by a
    /// quarter meanwhile; where it is far below what was too much, it rises almost to that; and of a rate that begins
    /// at nothing it is known that it doubles and doubles.
    #[must_use]
    pub fn wait_behind(&self, others: usize, now: Timestamp) -> Duration {
        let own = self.wait(now);
        let Some(pacing) = &self.pacing else { return own };
        let gap = self.gap(pacing, now) * 4 / 5;
        let others = u32::try_from(others).unwrap_or(u32::MAX);
        let behind = if pacing.guess == Some(Pacing::OF_NOTHING) {
            // Where each answer adds one to the rate r, n calls are through after ln(1 + n / r) seconds.
            Duration::from_secs_f64((f64::from(others) * gap.as_secs_f64()).ln_1p())
        } else {
            let soon = Duration::try_from_secs_f64(1.0 / (pacing.too_much * Pacing::FAR)).unwrap_or(Duration::MAX);
            let soon = soon.max(self.fruitless_gap(pacing, now));
            gap.min(soon).saturating_mul(others)
        };
        own.saturating_add(behind)
    }

    /// A call goes out.
    pub fn sent(&mut self, now: Timestamp) {
        let Some(pacing) = &self.pacing else { return };
        let gap = self.gap(pacing, now);
        let early = u64::try_from(Self::EARLY.as_micros()).unwrap_or(0);
        // One that went out before its time, since it was alone, leaves no debt to those who come after it.
        let from = pacing.next.max(Timestamp::from_micros(now.as_micros().saturating_sub(early))).min(now);
        let next = from.saturating_add(gap);
        if let Some(pacing) = &mut self.pacing {
            (pacing.next, pacing.sent) = (next, now);
        }
    }

    /// A call has brought its first content.
    pub fn served(&mut self, now: Timestamp) {
        self.served.served(0, now);
        if self.is_quota_spent && now > self.paused_until {
            // The quota is there again, and how fast calls went out had nothing to do with it.
            (self.is_quota_spent, self.pacing) = (false, None);
        }
        let knows = self.served.knows(now);
        let Some(pacing) = &mut self.pacing else { return };
        pacing.fruitless_since = None;
        pacing.served_since = pacing.served_since.saturating_add(1);
        if now < self.paused_until {
            // These were under way when the first pause was named: what comes of them is the rate.
            let second = now.saturating_since(pacing.began).max(ServedLog::SECOND).as_secs_f64();
            let per_second = f64::from(pacing.served_since) / second;
            if per_second > pacing.per_second {
                pacing.per_second = per_second;
                pacing.too_much = per_second / Self::GENTLE;
                if knows && pacing.guess.is_some() {
                    pacing.guess = Some(Pacing::guess(&self.served, now));
                }
            }
            return;
        }
        let least = 1.0 / self.settings.gap_max.as_secs_f64();
        pacing.per_second = pacing.per_second.max(least);
        pacing.explores |= pacing.has_come_near() && pacing.seconds() >= Pacing::EXPLORES_AFTER_SECONDS;
        pacing.per_second += pacing.growth();
    }

    /// The upstream has said "too much" about a call that went out at `sent`, and perhaps for how long.
    pub fn told(&mut self, pause: Pause, sent: Timestamp, now: Timestamp, random: u64) {
        let length = match pause {
            Pause::Unnamed | Pause::Suspected => None,
            Pause::Named(named) => Some(named.min(self.settings.named_pause_max)),
            Pause::Ordered(ordered) => Some(ordered),
        };
        if let Some(pause) = length {
            let jitter = uniform_below(share_of(pause, self.settings.pause_jitter), random);
            self.paused_until = self.paused_until.max(now.saturating_add(pause.saturating_add(jitter)));
            self.is_quota_spent |= pause > self.settings.forget_after;
        }
        let served = self.served.rate(now);
        let Some(pacing) = &mut self.pacing else {
            self.pacing = Some(Pacing {
                per_second: served * Self::GENTLE,
                too_much: if served > 0.0 { served } else { f64::INFINITY },
                guess: Some(match pause {
                    Pause::Suspected => Pacing::OF_COLLAPSE,
                    _ => Pacing::guess(&self.served, now),
                }),
                began: now,
                next: now,
                decreased: now,
                served_since: 0,
                told: now,
                fruitless_since: Some(now),
                is_suspicion: pause == Pause::Suspected,
                sent,
                explores: false,
                names_pauses: length.is_some_and(|pause| !pause.is_zero()),
                told_alone: false,
            });
            self.paused_before = self.paused_until;
            if length.is_none() {
                self.sent(now);
            }
            return;
        };
        (pacing.told, pacing.names_pauses, pacing.told_alone) =
            (now, length.is_some_and(|pause| !pause.is_zero()), false);
        pacing.is_suspicion &= pause == Pause::Suspected;
        pacing.fruitless_since = pacing.fruitless_since.or(Some(now));
        if sent < pacing.decreased || now.saturating_since(pacing.decreased) < self.settings.decrease_interval {
            return;
        }
        let factor = if pacing.served_since == 0 {
            Self::HARD
        } else if f64::from(pacing.served_since) < pacing.per_second * Self::SOON_SECONDS {
            Self::FIRM
        } else {
            Self::GENTLE
        };
        // Where nobody is served, that says nothing about what is too much where somebody is.
        if pacing.served_since > 0 {
            pacing.too_much = pacing.per_second.max(served);
        }
        let began_at_nothing = pacing.guess == Some(Pacing::OF_NOTHING);
        // At first it may be the load of before; but not of a call that went out after the pause.
        if now.saturating_since(pacing.began) >= Self::AFTERMATH || length.is_some() && sent >= self.paused_before {
            pacing.guess = None;
        }
        pacing.per_second = match (length, pacing.sustained(self.paused_before, now)) {
            (None, _) => pacing.per_second.min(served) * factor,
            // While everybody pauses nothing is served, which says nothing about the rate.
            (Some(_), None) => pacing.per_second * factor,
            (Some(_), Some(sustained)) if pacing.explores && served > sustained * Self::LIFTED => {
                // What went before was far below what is borne now, and no quota saves up so much.
                pacing.too_much = served;
                pacing.per_second.min(served) * Self::FIRM
            }
            (Some(_), Some(sustained)) => {
                // The mean of a rate that doubles and doubles is far below what it has come to.
                if !began_at_nothing {
                    pacing.too_much = sustained;
                }
                if pacing.resumed_for(self.paused_before, now) < ServedLog::SECOND {
                    pacing.guess = Some(Pacing::OF_RATE);
                }
                sustained.min(pacing.per_second * factor)
            }
        };
        self.paused_before = self.paused_until;
        (pacing.decreased, pacing.served_since, pacing.explores) = (now, 0, false);
    }

    /// As [`told`](Self::told), about a call beside which no other was under way at the upstream: what was too much was
    /// no crowd of ours.
    pub fn told_alone(&mut self, pause: Pause, sent: Timestamp, now: Timestamp, random: u64) {
        self.told(pause, sent, now, random);
        if let Some(pacing) = &mut self.pacing {
            pacing.told_alone = true;
        }
    }

    /// The suspicion that the upstream has too much to do has come to nothing. What was paced for it, and for nothing
    /// that was said, goes out faster and faster until nobody waits.
    pub fn acquit(&mut self, now: Timestamp) {
        let served = self.served.rate(now);
        let Some(pacing) = self.pacing.as_mut().filter(|pacing| pacing.is_suspicion) else { return };
        pacing.per_second = pacing.per_second.max(served);
        pacing.too_much = f64::INFINITY;
        pacing.guess = Some(Pacing::OF_NOTHING);
        pacing.fruitless_since = None;
    }

    /// Ends the pacing once nobody has said "too much" for long enough. Call it while nobody waits.
    pub fn rest(&mut self, now: Timestamp) {
        let over = self.pacing.is_some_and(|pacing| {
            now.saturating_since(self.paused_until.max(pacing.told)) >= self.settings.forget_after
        });
        if over {
            self.pacing = None;
        }
    }

    /// Calls a second that go out now; `None` when nothing is paced.
    #[must_use]
    pub fn per_second(&self, now: Timestamp) -> Option<f64> {
        self.pacing.as_ref().map(|pacing| 1.0 / self.gap(pacing, now).as_secs_f64().max(1e-6))
    }

    /// Until when a named pause lasts; `None` when there is none.
    #[must_use]
    pub fn paused_until(&self, now: Timestamp) -> Option<Timestamp> {
        (self.paused_until > now).then_some(self.paused_until)
    }

    /// Whether calls have been refused for so long without one being served that this is not the rate's
    /// doing.
    #[must_use]
    pub fn is_fruitless(&self, now: Timestamp) -> bool {
        self.pacing.as_ref().is_some_and(|pacing| self.fruitless_gap(pacing, now) > self.settings.gap_max)
    }

    /// Whether anybody has been served at or after `since`.
    #[must_use]
    pub fn has_served_since(&self, since: Timestamp) -> bool {
        self.served.answers.back().is_some_and(|(at, _)| *at >= since)
    }

    fn fruitless_gap(&self, pacing: &Pacing, now: Timestamp) -> Duration {
        let fruitless = pacing.fruitless_since.map_or(Duration::ZERO, |since| now.saturating_since(since));
        share_of(fruitless, self.settings.fruitless_share).min(self.settings.fruitless_gap_max)
    }

    /// The time between two calls.
    fn gap(&self, pacing: &Pacing, now: Timestamp) -> Duration {
        let by_rate = Duration::try_from_secs_f64(1.0 / pacing.per_second).unwrap_or(Duration::MAX);
        by_rate.min(self.settings.gap_max).max(self.fruitless_gap(pacing, now))
    }
}

impl Pacing {
    /// How a rate grows that begins with what the answers of late tell.
    fn guess(served: &ServedLog, now: Timestamp) -> (f64, f64) {
        if served.knows_well(now) {
            Self::OF_RATE
        } else if served.knows(now) {
            Self::OF_LITTLE
        } else {
            Self::OF_NOTHING
        }
    }

    /// Whether the rate is not far below where it was too much.
    fn has_come_near(&self) -> bool {
        self.guess.is_none() && self.per_second >= self.too_much * Self::FAR
    }

    /// The seconds' worth of answers since the rate was last lowered.
    fn seconds(&self) -> f64 {
        f64::from(self.served_since) / self.per_second
    }

    /// By how much an answer raises the rate, in calls a second. At a steady rate that is the growth per second as a
    /// share of the rate. It is cubic in the seconds' worth of answers since the rate was last lowered, as CUBIC's
    /// window is in time: flat at first, where the rate is about right, and then steeper and steeper, because what
    /// has not been too much for so long is far from it.
    fn growth(&self) -> f64 {
        let seconds = self.seconds();
        let (linear, quadratic) = if let Some(guess) = self.guess {
            guess
        } else if !self.has_come_near() {
            Self::FAR_BELOW
        } else if self.explores && self.names_pauses {
            Self::EXPLORING
        } else if self.explores {
            Self::EXPLORING_WITH_CARE
        } else {
            Self::NEAR
        };
        (linear + quadratic * seconds * seconds).min(Self::GROWTH_MAX)
    }

    /// What the upstream bears for long, when it bore the calls since a pause that ended then, and no more now: `None`
    /// when those were too few to tell.
    ///
    /// A quota that is saved up during a pause bears more than its rate for a while. How much it has saved is not
    /// known: nothing, or all that the pause was worth. Most quotas save less than that; but one that was used up at
    /// once lived on what it had saved.
    fn sustained(&self, paused_until: Timestamp, now: Timestamp) -> Option<f64> {
        let since = self.resumed_for(paused_until, now).as_secs_f64();
        if since == 0.0 || (self.served_since as usize) < ServedLog::ENOUGH {
            return None;
        }
        let with_the_pause = now.saturating_since(self.decreased).as_secs_f64();
        let saved_up = (1.0 / (1.0 + since)).max(Self::SAVED_UP);
        Some(f64::from(self.served_since) * ((1.0 - saved_up) / since + saved_up / with_the_pause))
    }

    /// For how long calls have gone out since the rate was lowered and a pause ended.
    fn resumed_for(&self, paused_until: Timestamp, now: Timestamp) -> Duration {
        now.saturating_since(paused_until.max(self.decreased))
    }

    /// Where the rate is far below what was too much.
    const FAR: f64 = 0.75;
    const FAR_BELOW: (f64, f64) = (0.7, 0.0);
    const NEAR: (f64, f64) = (0.003, 0.00003);
    /// Once so many seconds' worth of answers have come since the rate was last lowered, it is tried how much more is
    /// borne: a limit that stands where it stood costs a pause then, and one that was lifted is found within seconds.
    const EXPLORES_AFTER_SECONDS: f64 = 14.0;
    const EXPLORING: (f64, f64) = (0.7, 0.0);
    /// Who names no pause when it is too much is loaded rather than limited, and the worse for what is tried.
    const EXPLORING_WITH_CARE: (f64, f64) = (0.12, 0.0);
    /// While nothing was refused at a rate of ours, and it is only guessed what is too much: by nothing; by the first
    /// answers there were; by what was served; or by what an upstream served that has collapsed, which is much less
    /// than it could.
    const OF_NOTHING: (f64, f64) = (1.0, 0.0);
    const OF_LITTLE: (f64, f64) = (0.6, 0.0);
    const OF_RATE: (f64, f64) = (0.2, 0.0);
    const OF_COLLAPSE: (f64, f64) = (0.1, 0.05);
    /// Doubling about each second.
    const GROWTH_MAX: f64 = 1.0;
    /// The least weight of a quota that has saved up all that a pause was worth. By simulation of thirty calls a second
    /// with ten saved up; half would find too little.
    const SAVED_UP: f64 = 0.25;
}

#[cfg(test)]
mod tests;
