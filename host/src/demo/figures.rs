//! What a lane comes to.

use super::board::{End, Entry, Standing};
use super::mode::Kind;
use serde::Serialize;
use std::ops::Range;
use std::time::Duration;

/// What a lane came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Requests that somebody waited for.
    pub live: Live,
    /// Requests that nobody waited for.
    pub background: Background,
    /// Calls to providers, as these have counted them.
    pub calls: Calls,
}

/// What the requests of both kinds have cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Calls {
    /// Calls to providers, of all requests.
    pub all: u64,
    /// For each request that was answered. `None` if none was.
    pub per_answer: Option<f64>,
    /// The same, of requests that were due while something was wrong. On a good day a call is an answer in every lane, so
    /// that whoever serves nobody on a bad one would seem cheap.
    pub per_answer_in_trouble: Option<f64>,
}

/// A request and the calls that it has cost.
pub(crate) type Costs = (Entry, u64);

/// Requests that somebody waited for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Live {
    /// How many there were.
    pub sent: usize,
    /// How many got the provider's answer.
    pub served: usize,
    /// The same as a share. Of nothing, all.
    pub served_share: f64,
    /// How many got an error under status 200, which applications take for an answer.
    pub errors_under_200: usize,
    /// Within this time half of all had their answer, in milliseconds. Those that never had one count as having waited
    /// for ever; `None` is that.
    pub answered_p50_ms: Option<f64>,
    /// Within this time 95 of 100 had their answer, likewise.
    pub answered_p95_ms: Option<f64>,
    /// How long half of those that were served waited at most, in milliseconds. It flatters who serves few.
    pub served_wait_p50_ms: Option<f64>,
    /// How long 95 of 100 of those that were served waited at most.
    pub served_wait_p95_ms: Option<f64>,
    /// How long half of those that got an error waited for it at most.
    pub told_no_p50_ms: Option<f64>,
}

/// Requests that nobody waited for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Background {
    /// How many there were.
    pub sent: usize,
    /// How many were answered in the end.
    pub answered: usize,
    /// The same as a share. Of nothing, all.
    pub answered_share: f64,
    /// How many of all were kept, to be finished later.
    pub kept: usize,
    /// How many of those that were kept have been answered since.
    pub kept_and_answered: usize,
}

impl Figures {
    /// Of all requests of a lane, where something was wrong in this time.
    pub(crate) fn of(requests: &[Costs], trouble: &Range<Duration>) -> Figures {
        let entries = requests.iter().map(|(entry, _)| *entry);
        let (live, background): (Vec<_>, Vec<_>) = entries.partition(|entry| entry.kind == Kind::Live);
        Figures {
            live: Live::of(&live),
            background: Background::of(&background),
            calls: Calls {
                all: requests.iter().map(|(_, calls)| calls).sum(),
                per_answer: per_answer(requests.iter()),
                per_answer_in_trouble: per_answer(requests.iter().filter(|(entry, _)| trouble.contains(&entry.at))),
            },
        }
    }
}

/// Calls for each request of these that was answered.
fn per_answer<'a>(requests: impl Iterator<Item = &'a Costs>) -> Option<f64> {
    let (answers, calls) = requests.fold((0_u32, 0), |(answers, calls), (entry, cost)| {
        (answers + u32::from(entry.took_if(|end| end == End::Answered).is_some()), calls + cost)
    });
    (answers > 0).then(|| calls as f64 / f64::from(answers))
}

impl Live {
    /// Of these requests, whoever waits for them.
    pub(crate) fn of(entries: &[Entry]) -> Live {
        let waits = |wanted: fn(End) -> bool| {
            let mut waits: Vec<Duration> = entries.iter().filter_map(|entry| entry.took_if(wanted)).collect();
            waits.sort_unstable();
            waits
        };
        let (served, failed) = (waits(|end| end == End::Answered), waits(|end| end == End::Failed));
        let sent = entries.len();
        Live {
            sent,
            served: served.len(),
            served_share: share(served.len(), sent),
            errors_under_200: waits(|end| end == End::ErrorUnder200).len(),
            answered_p50_ms: quantile_ms(&served, sent, 50),
            answered_p95_ms: quantile_ms(&served, sent, 95),
            served_wait_p50_ms: quantile_ms(&served, served.len(), 50),
            served_wait_p95_ms: quantile_ms(&served, served.len(), 95),
            told_no_p50_ms: quantile_ms(&failed, failed.len(), 50),
        }
    }
}

impl Background {
    fn of(entries: &[Entry]) -> Background {
        let answered = entries.iter().filter(|entry| entry.took_if(|end| end == End::Answered).is_some()).count();
        let kept = |entry: &&Entry| matches!(entry.standing, Standing::Kept | Standing::Ended { kept: true, .. });
        let finished =
            |entry: &&Entry| matches!(entry.standing, Standing::Ended { kept: true, end: End::Answered, .. });
        Background {
            sent: entries.len(),
            answered,
            answered_share: share(answered, entries.len()),
            kept: entries.iter().filter(kept).count(),
            kept_and_answered: entries.iter().filter(finished).count(),
        }
    }
}

impl Entry {
    /// How long the request took, if it has ended so.
    fn took_if(&self, wanted: impl Fn(End) -> bool) -> Option<Duration> {
        match self.standing {
            Standing::Ended { end, took, .. } if wanted(end) => Some(took),
            Standing::Due | Standing::Waiting | Standing::Kept | Standing::Ended { .. } => None,
        }
    }
}

/// So many of so many; of nothing, all.
pub(crate) fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// What so many in a hundred of `count` have waited at most, where those that are not among these waits wait for ever.
fn quantile_ms(sorted: &[Duration], count: usize, percent: usize) -> Option<f64> {
    let place = (count * percent).div_ceil(100).checked_sub(1)?;
    // To a tenth of a millisecond: more is noise.
    sorted.get(place).map(|wait| (wait.as_secs_f64() * 1e4).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: Kind, standing: Standing) -> Entry {
        Entry { at: Duration::ZERO, kind, standing }
    }

    fn ended(end: End, took_ms: u64, kept: bool) -> Standing {
        Standing::Ended { end, took: Duration::from_millis(took_ms), kept }
    }

    #[test]
    fn whoever_is_never_served_has_waited_for_ever() {
        let of = |served: u64, unserved: usize| {
            let mut entries: Vec<_> =
                (1..=served).map(|ms| entry(Kind::Live, ended(End::Answered, ms, false))).collect();
            entries.resize(entries.len() + unserved, entry(Kind::Live, ended(End::Failed, 7, false)));
            let live = Live::of(&entries);
            (live.answered_p50_ms, live.answered_p95_ms, live.served_wait_p95_ms, live.told_no_p50_ms)
        };
        assert_eq!(of(100, 0), (Some(50.0), Some(95.0), Some(95.0), None));
        assert_eq!(of(95, 5), (Some(50.0), Some(95.0), Some(91.0), Some(7.0)));
        assert_eq!(of(94, 6), (Some(50.0), None, Some(90.0), Some(7.0)));
        assert_eq!(of(50, 50), (Some(50.0), None, Some(48.0), Some(7.0)));
        assert_eq!(of(49, 51), (None, None, Some(47.0), Some(7.0)));
        assert_eq!(of(0, 9), (None, None, None, Some(7.0)));
    }

    #[test]
    fn what_is_kept_is_counted_apart_and_only_an_answer_is_one() {
        let background = |standing| entry(Kind::Background, standing);
        let entries = [
            entry(Kind::Live, ended(End::Answered, 10, false)),
            entry(Kind::Live, ended(End::ErrorUnder200, 10, false)),
            entry(Kind::Live, Standing::Waiting),
            background(ended(End::Answered, 10, false)),
            background(ended(End::Answered, 9_000, true)),
            background(ended(End::Failed, 9_000, true)),
            background(Standing::Kept),
        ];
        let trouble = Duration::ZERO..Duration::from_secs(1);
        let figures = Figures::of(&entries.map(|entry| (entry, 2)), &trouble);
        assert_eq!((figures.live.sent, figures.live.served, figures.live.errors_under_200), (3, 1, 1));
        let kept = &figures.background;
        assert_eq!((kept.sent, kept.answered, kept.kept, kept.kept_and_answered), (4, 2, 3, 1));
    }

    #[test]
    fn calls_are_shared_by_answers_and_in_trouble_by_those_that_were_due_then() {
        let trouble = Duration::from_secs(5)..Duration::from_secs(9);
        let at = |at_s, end, calls| {
            (Entry { at: Duration::from_secs(at_s), kind: Kind::Live, standing: ended(end, 1, false) }, calls)
        };
        let requests =
            [at(1, End::Answered, 1), at(5, End::Answered, 2), at(6, End::Failed, 3), at(9, End::Answered, 1)];
        let of = |requests: &[Costs]| {
            let calls = Figures::of(requests, &trouble).calls;
            (calls.all, calls.per_answer, calls.per_answer_in_trouble)
        };
        assert_eq!(of(&requests), (7, Some(7.0 / 3.0), Some(5.0)));
        assert_eq!(of(&requests[..1]), (1, Some(1.0), None));
        assert_eq!(of(&requests[2..3]), (3, None, None));
    }
}
