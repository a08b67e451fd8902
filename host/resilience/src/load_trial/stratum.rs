//! What a load trial knows of one model.

use std::time::Duration;

use crate::time::Timestamp;

/// Served first attempts, and all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tally {
    served: u32,
    pub(super) all: u32,
}

impl Tally {
    fn count(&mut self, served: bool) {
        self.served += u32::from(served);
        self.all += 1;
    }

    fn add(&mut self, other: Self) {
        self.served += other.served;
        self.all += other.all;
    }

    fn share(self) -> f64 {
        f64::from(self.served) / f64::from(self.all.max(1))
    }
}

/// A quiet slot of one model, and those beside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compared {
    pub(super) quiet: Tally,
    pub(super) loud: Tally,
}

impl Compared {
    /// How much better the quiet one was. One that has nothing to be compared with says nothing.
    pub(super) fn difference(self) -> Difference {
        let Self { quiet, loud } = self;
        let both = f64::from(quiet.all + loud.all);
        if quiet.all == 0 || loud.all == 0 {
            return Difference::NONE;
        }
        let weight = f64::from(quiet.all) * f64::from(loud.all) / both;
        // With one served and one failed imagined.
        let pooled = f64::from(loud.served + quiet.served + 1) / (both + 2.0);
        Difference {
            weighted: weight * (quiet.share() - loud.share()),
            weight,
            variance: weight * pooled * (1.0 - pooled),
            loud: weight * loud.share(),
        }
    }
}

/// How much better quiet slots were, over all models: sums of Cochran's test, in which each model weighs as much as it
/// tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Difference {
    weighted: f64,
    weight: f64,
    variance: f64,
    loud: f64,
}

impl Difference {
    pub(super) const NONE: Self = Self { weighted: 0.0, weight: 0.0, variance: 0.0, loud: 0.0 };

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            weighted: self.weighted + other.weighted,
            weight: self.weight + other.weight,
            variance: self.variance + other.variance,
            loud: self.loud + other.loud,
        }
    }

    /// In standard deviations; 0 where nothing was compared.
    pub(super) fn deviations(self) -> f64 {
        if self.variance > 0.0 { self.weighted / self.variance.sqrt() } else { 0.0 }
    }

    /// As a share of calls.
    pub(super) fn share(self) -> f64 {
        if self.weight > 0.0 { self.weighted / self.weight } else { 0.0 }
    }

    /// The share that was served in loud slots.
    pub(super) fn loud_share(self) -> f64 {
        if self.weight > 0.0 { self.loud / self.weight } else { 0.0 }
    }
}

/// A suspicion that plain errors are an overload which the upstream does not name.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    since: Timestamp,
    last_failure: Timestamp,
    /// The share served before.
    before: f64,
    since_then: Tally,
}

/// One model, or all for which there was no place any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stratum {
    model: Option<u64>,
    /// The share of first attempts that failed of late.
    failing: f64,
    /// Since when that has been enough to try at all.
    failing_since: Option<Timestamp>,
    /// Of the slot that is being compared, and of those beside it.
    quiet: Tally,
    loud: Tally,
    /// Of all loud ones since quiet ones were better.
    all_loud: Tally,
    suspicion: Option<Suspicion>,
    /// It is not tried before this moment: the last suspicion came to nothing.
    trust_until: Timestamp,
}

impl Stratum {
    /// The share of first attempts that fail below which nothing is tried, and the weight of one in it.
    const FAILING_MIN: f64 = 0.4;
    const FAILING_WEIGHT: f64 = 1.0 / 32.0;
    /// The share that is as good as none: that of one failure after forty answers.
    const FAILING_IDLE: f64 = 0.01;
    /// First attempts after which a suspicion must have brought something, and how much.
    const PROOF: u32 = 200;
    const IMPROVEMENT_MIN: f64 = 0.05;
    /// And after fewer, once so much time has passed: what is paced although it fails by chance is asked less and less,
    /// and what suffered from load is well by then.
    const PROOF_SOON: u32 = 20;
    const SOON: Duration = Duration::from_secs(15);
    const IMPROVEMENT_SOON: f64 = 0.2;
    /// A suspicion ends when nothing has failed for so long.
    const FORGET_AFTER: Duration = Duration::from_secs(60);
    /// After a suspicion that came to nothing there is no other for so long.
    const TRUST: Duration = Duration::from_secs(300);

    /// Nothing is known yet. `None` stands for all models that have no place of their own.
    pub(super) fn new(model: Option<u64>, now: Timestamp) -> Self {
        Self {
            model,
            failing: 0.0,
            failing_since: None,
            quiet: Tally::default(),
            loud: Tally::default(),
            all_loud: Tally::default(),
            suspicion: None,
            trust_until: now,
        }
    }

    pub(super) fn is_of(&self, model: u64) -> bool {
        self.model == Some(model)
    }

    pub(super) const fn is_of_others(&self) -> bool {
        self.model.is_none()
    }

    /// Since when so much has failed that it is worth a trial.
    pub(super) fn tried_since(&self, now: Timestamp) -> Option<Timestamp> {
        self.failing_since.filter(|_| now >= self.trust_until)
    }

    pub(super) fn is_tried(&self, now: Timestamp) -> bool {
        self.tried_since(now).is_some()
    }

    pub(super) const fn is_suspected(&self) -> bool {
        self.suspicion.is_some()
    }

    /// Whether there is nothing to remember: hardly anything fails, and nothing is concluded from what did.
    pub(super) fn is_idle(&self, now: Timestamp) -> bool {
        self.failing < Self::FAILING_IDLE && self.suspicion.is_none() && now >= self.trust_until
    }

    /// A first attempt has ended.
    pub(super) fn note(&mut self, served: bool, now: Timestamp) {
        self.failing += (f64::from(u8::from(!served)) - self.failing) * Self::FAILING_WEIGHT;
        if self.failing < Self::FAILING_MIN / 2.0 {
            self.failing_since = None;
        } else if self.failing >= Self::FAILING_MIN {
            self.failing_since.get_or_insert(now);
        }
    }

    /// One of the quiet slot that is being compared, or of those beside it.
    pub(super) fn count(&mut self, quiet: bool, served: bool) {
        if quiet { &mut self.quiet } else { &mut self.loud }.count(served);
    }

    /// What the slot was like that is over; `None` where nothing is tried.
    pub(super) fn compare(&mut self, now: Timestamp) -> Option<Compared> {
        let (quiet, loud) = (std::mem::take(&mut self.quiet), std::mem::take(&mut self.loud));
        if !self.is_tried(now) {
            return None;
        }
        self.all_loud.add(loud);
        Some(Compared { quiet, loud })
    }

    pub(super) fn begin_anew(&mut self) {
        self.all_loud = Tally::default();
    }

    /// Quiet slots are better beyond chance.
    pub(super) fn suspect(&mut self, now: Timestamp) {
        if self.is_tried(now) && self.suspicion.is_none() {
            let (before, since_then) = (self.all_loud.share(), Tally::default());
            self.suspicion = Some(Suspicion { since: now, last_failure: now, before, since_then });
        }
    }

    /// Whether the suspicion ends with this one: true if it has come to nothing, false if it has nothing to go on any
    /// more.
    pub(super) fn ends_suspicion(&mut self, served: bool, now: Timestamp) -> Option<bool> {
        let suspicion = self.suspicion.as_mut()?;
        suspicion.since_then.count(served);
        if !served {
            suspicion.last_failure = now;
        }
        let (tried, improvement) = (suspicion.since_then.all, suspicion.since_then.share() - suspicion.before);
        let soon = tried >= Self::PROOF_SOON && now.saturating_since(suspicion.since) >= Self::SOON;
        let in_vain =
            tried >= Self::PROOF && improvement < Self::IMPROVEMENT_MIN || soon && improvement < Self::IMPROVEMENT_SOON;
        if in_vain {
            self.trust_until = now.saturating_add(Self::TRUST);
        }
        let is_over = in_vain || now.saturating_since(suspicion.last_failure) >= Self::FORGET_AFTER;
        if is_over {
            self.suspicion = None;
        }
        // Only who was suspected in vain is trusted.
        is_over.then_some(in_vain)
    }
}
