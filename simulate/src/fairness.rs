//! Whether those who wait are served alike.

/// How far one tenant can get ahead of another by its turns while both wait, in tokens per unit of
/// weight: between any two turns of theirs, how much more one of them was granted than the other.
/// This is the fairness of Golestani ("A Self-Clocked Fair Queueing Scheme", 1994), whose bound for a
/// fair queue is the largest request of each, so two in all.
///
/// - A tenant **waits** from the moment at which the first of its requests joins the queue to the moment
///   at which the last one leaves, served or not. Whoever is turned away because its tenant's part of
///   the queue is full does not end that: then as many others of the tenant wait as may.
/// - **Only turns count**: a call that passes without waiting takes nothing from anybody.
/// - **What is given back** is not granted, so it puts its tenant behind. That is nobody's turn, and so
///   no reason to look: the next turn tells whether the queue makes up for it.
#[derive(Debug)]
pub(crate) struct Fairness {
    tenants: Vec<Share>,
    /// For each pair of tenants, row by row: the lead of the first over the second since both wait.
    leads: Vec<Lead>,
    largest: f64,
    /// The widest gap so far, in units of the largest request.
    pub(crate) gap: Option<f64>,
}

#[derive(Debug)]
struct Share {
    weight: f64,
    waiting: u32,
    /// Tokens granted in all, by weight.
    granted: f64,
}

#[derive(Clone, Copy, Debug)]
struct Lead {
    /// The greatest after a turn of the first.
    greatest: f64,
    /// The least after a turn of the second.
    least: f64,
}

impl Lead {
    const NONE: Self = Self { greatest: f64::NEG_INFINITY, least: f64::INFINITY };
}

impl Fairness {
    pub(crate) fn new(weights: impl Iterator<Item = u32>, largest: u64) -> Self {
        let share = |weight| Share { weight: f64::from(weight), waiting: 0, granted: 0.0 };
        let tenants: Vec<Share> = weights.map(share).collect();
        let leads = vec![Lead::NONE; tenants.len() * tenants.len()];
        Self { tenants, leads, largest: largest as f64, gap: None }
    }

    pub(crate) fn waiting(&mut self, tenant: usize, more: bool) {
        let waiting = &mut self.tenants[tenant].waiting;
        *waiting = if more { *waiting + 1 } else { waiting.saturating_sub(1) };
        if *waiting == 0 {
            for other in 0..self.tenants.len() {
                *self.lead(tenant, other) = Lead::NONE;
            }
        }
    }

    /// A turn of a tenant that waits.
    pub(crate) fn granted(&mut self, tenant: usize, tokens: u64) {
        self.count(tenant, tokens as f64);
        for other in (0..self.tenants.len()).filter(|other| *other != tenant) {
            if self.tenants[other].waiting == 0 {
                continue;
            }
            let (first, second) = (&self.tenants[tenant.min(other)], &self.tenants[tenant.max(other)]);
            let now = first.granted - second.granted;
            let lead = self.lead(tenant, other);
            if tenant < other {
                lead.greatest = lead.greatest.max(now);
            } else {
                lead.least = lead.least.min(now);
            }
            let gap = lead.greatest - lead.least;
            // Before each has had a turn there is nothing to compare.
            if gap.is_finite() {
                let gap = gap.max(0.0) / self.largest;
                self.gap = Some(self.gap.map_or(gap, |widest| widest.max(gap)));
            }
        }
    }

    pub(crate) fn given_back(&mut self, tenant: usize, tokens: u64) {
        self.count(tenant, -(tokens as f64));
    }

    fn count(&mut self, tenant: usize, tokens: f64) {
        let share = &mut self.tenants[tenant];
        share.granted += tokens / share.weight;
    }

    fn lead(&mut self, tenant: usize, other: usize) -> &mut Lead {
        let (first, second) = (tenant.min(other), tenant.max(other));
        &mut self.leads[first * self.tenants.len() + second]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both_wait(weights: [u32; 2]) -> Fairness {
        let mut fairness = Fairness::new(weights.into_iter(), 10);
        fairness.waiting(0, true);
        fairness.waiting(1, true);
        fairness
    }

    #[test]
    fn the_gap_is_the_drift_between_tenants_that_both_wait_and_nothing_else() {
        let mut fairness = Fairness::new([1, 1].into_iter(), 10);
        fairness.waiting(0, true);
        fairness.granted(0, 500);
        assert_eq!(fairness.gap, None, "the other one wants nothing");
        fairness.waiting(1, true);
        fairness.granted(1, 10);
        assert_eq!(fairness.gap, None, "nothing to compare it with");
        fairness.granted(0, 30);
        fairness.granted(0, 20);
        assert_eq!(fairness.gap, Some(5.0));
        fairness.granted(1, 70);
        assert_eq!(fairness.gap, Some(7.0));
        fairness.waiting(1, false);
        fairness.granted(0, 500);
        fairness.waiting(1, true);
        fairness.granted(1, 10);
        fairness.granted(0, 10);
        assert_eq!(fairness.gap, Some(7.0), "a pause ends the comparison");
    }

    #[test]
    fn what_is_given_back_must_be_made_up_for_and_may_be() {
        let mut fairness = both_wait([1, 1]);
        fairness.granted(0, 10);
        fairness.granted(1, 10);
        fairness.given_back(0, 30);
        (0..3).for_each(|_| fairness.granted(0, 10));
        assert_eq!(fairness.gap, Some(1.0), "three turns in a row that it was owed");
        fairness.given_back(0, 30);
        fairness.granted(1, 10);
        assert_eq!(fairness.gap, Some(5.0), "a turn of the one that was ahead already");
    }

    #[test]
    fn a_tenant_of_twice_the_weight_is_due_twice_the_tokens() {
        let mut fairness = both_wait([2, 1]);
        for _ in 0..9 {
            fairness.granted(0, 20);
            fairness.granted(1, 10);
        }
        assert_eq!(fairness.gap, Some(1.0));
    }
}
