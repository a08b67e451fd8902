//! Whether those who wait are served alike.

/// How far tenants drift apart while both of a pair wait. Tenants weigh the same.
#[derive(Debug)]
pub(crate) struct Fairness {
    tenants: Vec<(u32, f64)>,
    /// For each pair of tenants, row by row: the least and the greatest lead of the first over the
    /// second since both wait.
    leads: Vec<(f64, f64)>,
    largest: f64,
    /// The widest drift so far, in units of the largest request.
    pub(crate) gap: Option<f64>,
}

impl Fairness {
    pub(crate) fn new(tenants: usize, largest: u64) -> Self {
        Self {
            tenants: vec![(0, 0.0); tenants],
            leads: vec![(f64::INFINITY, f64::NEG_INFINITY); tenants * tenants],
            largest: largest as f64,
            gap: None,
        }
    }

    pub(crate) fn waiting(&mut self, tenant: usize, more: bool) {
        let waiting = &mut self.tenants[tenant].0;
        *waiting = if more { *waiting + 1 } else { waiting.saturating_sub(1) };
        if *waiting <= 1 {
            self.look(tenant);
        }
    }

    pub(crate) fn granted(&mut self, tenant: usize, tokens: f64) {
        self.tenants[tenant].1 += tokens;
        self.look(tenant);
    }

    fn look(&mut self, tenant: usize) {
        let count = self.tenants.len();
        let (waiting, granted) = self.tenants[tenant];
        for (other, (others_waiting, others_granted)) in self.tenants.iter().enumerate() {
            let (first, second) = (tenant.min(other), tenant.max(other));
            if first == second {
                continue;
            }
            let (least, greatest) = &mut self.leads[first * count + second];
            if waiting == 0 || *others_waiting == 0 {
                (*least, *greatest) = (f64::INFINITY, f64::NEG_INFINITY);
                continue;
            }
            let lead = if first == tenant { granted - others_granted } else { others_granted - granted };
            (*least, *greatest) = (least.min(lead), greatest.max(lead));
            let gap = (*greatest - *least) / self.largest;
            self.gap = Some(self.gap.map_or(gap, |widest| widest.max(gap)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_the_drift_between_tenants_that_both_wait_and_nothing_else() {
        let mut fairness = Fairness::new(2, 10);
        fairness.waiting(0, true);
        fairness.granted(0, 500.0);
        assert_eq!(fairness.gap, None, "the other one wants nothing");
        fairness.waiting(1, true);
        fairness.granted(0, 30.0);
        fairness.granted(1, 50.0);
        assert_eq!(fairness.gap, Some(5.0));
        fairness.waiting(1, false);
        fairness.granted(0, 500.0);
        fairness.waiting(1, true);
        assert_eq!(fairness.gap, Some(5.0));
    }
}
