//! Which targets of a chain are called, and which of them serve.

use std::collections::BTreeMap;
use std::time::Duration;

use spillway_resilience::Timestamp;

#[cfg(doc)]
use crate::figure::Figure;
use crate::protection::Call;
use crate::provider::Span;
use crate::scenario::Scenario;

/// What one run tells of its chain's targets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trodden {
    /// From each end of a fault of the first target until most go there again; `None` if the next fault or the end
    /// came first. See [`Figure::ReturnP95Seconds`].
    pub returns: Vec<Option<Duration>>,
    /// See [`Figure::PeakPercent`].
    pub peak_percent: Option<f64>,
    /// Turns of conversations whose last turn was served by a target that is well, and those of them that it serves
    /// as well.
    pub turns: u64,
    /// See `turns`.
    pub stayed: u64,
    /// See [`Figure::ImbalancePercent`].
    pub imbalance_percent: Option<f64>,
}

/// Most requests go to the first target: this share of the calls of a second.
const MOST: f64 = 0.9;
const SECOND: Duration = Duration::from_secs(1);

/// Watches one run. Without a chain it notes nothing.
#[derive(Debug)]
pub(crate) struct Trail {
    /// The faults of each target.
    spans: Vec<Vec<Span>>,
    /// How many there are that are equal to the first.
    equals: usize,
    arrivals: Vec<Timestamp>,
    /// All calls, and whether they went to the first target.
    calls: Vec<(Timestamp, bool)>,
    /// Where each conversation was last served.
    last: BTreeMap<u64, usize>,
    /// Requests that each of the equals served before the first fault.
    served: Vec<u64>,
    trodden: Trodden,
}

impl Trail {
    pub(crate) fn new(scenario: &Scenario, spans: Vec<Vec<Span>>) -> Self {
        let equals = scenario.ranks().iter().filter(|rank| **rank == 0).count();
        Self {
            spans,
            equals,
            arrivals: Vec::new(),
            calls: Vec::new(),
            last: BTreeMap::new(),
            served: vec![0; equals],
            trodden: Trodden::default(),
        }
    }

    fn is_chain(&self) -> bool {
        self.spans.len() > 1
    }

    pub(crate) fn arrival(&mut self, now: Timestamp) {
        if self.is_chain() {
            self.arrivals.push(now);
        }
    }

    pub(crate) fn call(&mut self, target: usize, now: Timestamp) {
        if self.is_chain() {
            self.calls.push((now, target == 0));
        }
    }

    /// A target has served a request.
    pub(crate) fn served(&mut self, call: &Call, target: usize, is_judged: bool) {
        if !self.is_chain() {
            return;
        }
        let at = call.entered;
        let is_well = |spans: &Vec<Span>| !spans.iter().any(|span| span.from <= at && at < span.to);
        if is_judged
            && !self.spans.iter().flatten().any(|span| span.from <= at)
            && let Some(served) = self.served.get_mut(target)
        {
            *served += 1;
        }
        let Some(conversation) = call.conversation else { return };
        let last = self.last.insert(conversation, target);
        if let Some(last) = last
            && is_judged
            && self.spans.get(last).is_some_and(is_well)
        {
            self.trodden.turns += 1;
            self.trodden.stayed += u64::from(last == target);
        }
    }

    /// What it comes to in a run in which requests arrive until `end`.
    pub(crate) fn finish(mut self, end: Timestamp) -> Trodden {
        let spans = self.spans.first().cloned().unwrap_or_default();
        if self.equals == 1 && self.is_chain() {
            for (number, span) in spans.iter().enumerate().filter(|(_, span)| span.to < end) {
                let until = spans.get(number + 1).map_or(end, |next| next.from);
                self.trodden.returns.push(self.returned(span.to, until));
            }
            self.trodden.peak_percent = spans.first().and_then(|span| self.peak_after(span.to));
        }
        self.trodden.imbalance_percent = self.imbalance();
        self.trodden
    }

    /// The time from one instant to the first second, until another, in which most calls go to the first target.
    fn returned(&self, from: Timestamp, until: Timestamp) -> Option<Duration> {
        let after = self.calls.partition_point(|(at, _)| *at < from);
        let mut calls = self.calls.get(after..)?;
        while let Some((begin, _)) = calls.first().copied()
            && begin.saturating_add(SECOND) <= until
        {
            let count = calls.partition_point(|(at, _)| at.saturating_since(begin) < SECOND);
            let to_first = calls.iter().take(count).filter(|(_, is_first)| *is_first).count();
            if to_first as f64 >= MOST * count as f64 {
                return Some(begin.saturating_since(from));
            }
            calls = calls.get(1..)?;
        }
        None
    }

    /// The busiest second of the first target since an instant, against the busiest of all in which requests arrive.
    fn peak_after(&self, from: Timestamp) -> Option<f64> {
        let calls = self.calls.iter().filter(|(at, is_first)| *is_first && *at >= from).map(|(at, _)| *at).collect();
        let (most_calls, most_arrivals) = (busiest_second(calls), busiest_second(self.arrivals.clone()));
        (most_arrivals > 0).then(|| 100.0 * most_calls as f64 / most_arrivals as f64)
    }

    /// How far the equal that is farthest from the mean is from it, in per cent.
    fn imbalance(&self) -> Option<f64> {
        let mean = self.served.iter().sum::<u64>() as f64 / self.equals as f64;
        let distances = self.served.iter().map(|served| 100.0 * (*served as f64 / mean - 1.0).abs());
        (self.equals > 1 && mean > 0.0).then(|| distances.fold(0.0, f64::max))
    }
}

fn busiest_second(times: Vec<Timestamp>) -> usize {
    let mut begin = 0;
    let mut most = 0;
    for (place, at) in times.iter().enumerate() {
        while times.get(begin).is_some_and(|first| at.saturating_since(*first) >= SECOND) {
            begin += 1;
        }
        most = most.max(place + 1 - begin);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    /// A trail of two targets, of which the first fails from 10 s to 20 s.
    fn trail(second: &str) -> Trail {
        let text = format!(
            "name = 'a'\nseconds = 60\n[[tenants]]\nrequests_per_second = 1\n\
             [[faults]]\nfrom_seconds = 10\nto_seconds = 20\nfailure_rate = 1\n[[further_targets]]\n{second}\n"
        );
        let scenario = Scenario::read(&text).unwrap();
        let spans = crate::provider::spans(&scenario, &scenario.faults, &mut Random::new(1));
        Trail::new(&scenario, vec![spans, Vec::new()])
    }

    /// Ten calls in each second, of which so many go to the first target.
    fn calls(trail: &mut Trail, seconds: std::ops::Range<u64>, to_first: u64) {
        for tenth in seconds.start * 10..seconds.end * 10 {
            let now = Timestamp::from_micros(tenth * 100_000);
            trail.arrival(now);
            trail.call(usize::from(tenth % 10 >= to_first), now);
        }
    }

    #[test]
    fn traffic_has_returned_in_the_first_second_that_is_nine_tenths_of_what_it_was() {
        let mut trail = trail("");
        for (seconds, to_first) in [(0..10, 10), (10..23, 1), (23..25, 8), (25..60, 9)] {
            calls(&mut trail, seconds, to_first);
        }
        let trodden = trail.finish(at(60));
        let returned = trodden.returns[0].unwrap();
        assert!((4.0..=5.0).contains(&returned.as_secs_f64()), "{returned:?}");
        assert_eq!(trodden.peak_percent, Some(90.0));
        assert_eq!(trodden.imbalance_percent, None, "there are no equals");
    }

    #[test]
    fn traffic_that_stays_away_never_returns() {
        let mut trail = trail("");
        calls(&mut trail, 0..60, 8);
        assert_eq!(trail.finish(at(60)).returns, [None]);
    }

    #[test]
    fn a_turn_stays_where_the_last_one_was_and_none_has_to_where_that_target_is_away() {
        let mut trail = trail("is_equal = true");
        for (seconds, target) in [(1, 0), (2, 0), (3, 1), (4, 0), (12, 1), (21, 1)] {
            let turn = Call { conversation: Some(7), ..Call::plain(0, at(seconds)) };
            trail.served(&turn, target, true);
        }
        let trodden = trail.finish(at(60));
        assert_eq!((trodden.turns, trodden.stayed), (4, 2), "it left at 3 s and 4 s; at 12 s its target was away");
        assert_eq!(trodden.imbalance_percent, Some(50.0), "three of four, where half would be even");
        assert_eq!(trodden.returns, [], "equals have nobody to come back");
    }
}
