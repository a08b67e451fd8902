//! Where another lane is better than Spillway's.

use super::figures::Figures;
use super::mode::Lane;
use serde::Serialize;

/// Differences that are no more than this are called none: a share, in points of a hundred.
pub(crate) const SHARE_TOLERANCE_POINTS: f64 = 1.0;
/// The same for waits, in milliseconds: what a busy machine adds now and then.
pub(crate) const WAIT_TOLERANCE_MS: f64 = 25.0;
/// The same for waits and for calls, as a share of the better one.
pub(crate) const RELATIVE_TOLERANCE: f64 = 0.05;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Row {
    /// The share of the live requests that are served.
    Served,
    /// Within which time half of all live requests have their answer.
    HalfAnswered,
    /// Within which time 95 of 100 have it.
    NearlyAllAnswered,
    /// How soon half of those know that get an error.
    ToldNo,
    /// The share of the background requests that are answered in the end.
    BackgroundAnswered,
    /// Calls for each answer, while something is wrong.
    CallsPerAnswer,
}

/// A lane that is better than Spillway's in a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Concession {
    /// In which row.
    pub row: Row,
    /// The best of the others.
    pub lane: &'static str,
    /// The same as a sentence, with both values.
    pub sentence: String,
}

impl Row {
    /// All of them, in the order in which they are shown.
    pub(crate) const ALL: [Row; 6] = [
        Row::Served,
        Row::HalfAnswered,
        Row::NearlyAllAnswered,
        Row::ToldNo,
        Row::BackgroundAnswered,
        Row::CallsPerAnswer,
    ];

    /// A lane's value. `None` is the worst there is (an answer that never comes), but where nobody is told no: that is
    /// the best.
    pub(crate) fn value(self, figures: &Figures) -> Option<f64> {
        match self {
            Row::Served => Some(figures.live.served_share * 100.0),
            Row::HalfAnswered => figures.live.answered_p50_ms,
            Row::NearlyAllAnswered => figures.live.answered_p95_ms,
            Row::ToldNo => figures.live.told_no_p50_ms,
            Row::BackgroundAnswered => Some(figures.background.answered_share * 100.0),
            Row::CallsPerAnswer => figures.calls.per_answer_in_trouble,
        }
    }

    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Row::Served => "served",
            Row::HalfAnswered => "half answered within",
            Row::NearlyAllAnswered => "95 % answered within",
            Row::ToldNo => "error after (half of them)",
            Row::BackgroundAnswered => "answered in the end",
            Row::CallsPerAnswer => "calls per answer meanwhile",
        }
    }

    /// A value of it, for people.
    pub(crate) fn shown(self, value: Option<f64>) -> String {
        match (self, value) {
            (Row::ToldNo, None) => "-".to_owned(),
            (Row::HalfAnswered | Row::NearlyAllAnswered, None) => "never".to_owned(),
            (_, None) => "no answer".to_owned(),
            (Row::Served | Row::BackgroundAnswered, Some(percent)) => format!("{percent:.1} %"),
            (Row::HalfAnswered | Row::NearlyAllAnswered | Row::ToldNo, Some(ms)) => format!("{:.2} s", ms / 1e3),
            (Row::CallsPerAnswer, Some(calls)) if calls >= 100.0 => format!("{calls:.0}"),
            (Row::CallsPerAnswer, Some(calls)) => format!("{calls:.2}"),
        }
    }

    /// Whether one value is better than another by more than what is called nothing.
    fn is_better(self, one: Option<f64>, other: Option<f64>) -> bool {
        let none_is_best = self == Row::ToldNo;
        let (one, other) = match (one, other) {
            (Some(one), Some(other)) => (one, other),
            (Some(_), None) => return !none_is_best,
            (None, Some(_)) => return none_is_best,
            (None, None) => return false,
        };
        match self {
            Row::Served | Row::BackgroundAnswered => one > other + SHARE_TOLERANCE_POINTS,
            Row::HalfAnswered | Row::NearlyAllAnswered | Row::ToldNo => {
                other > one * (1.0 + RELATIVE_TOLERANCE) + WAIT_TOLERANCE_MS
            }
            Row::CallsPerAnswer => other > one * (1.0 + RELATIVE_TOLERANCE),
        }
    }
}

/// Where another lane is better than Spillway's, by the figures of the lanes in [their order](Lane::ALL).
pub(crate) fn concessions(figures: &[Figures; 3]) -> Vec<Concession> {
    let [direct, retries, ours] = figures;
    let better_in = |row: Row| {
        let [direct, retries, ours] = [direct, retries, ours].map(|figures| row.value(figures));
        let (best, value) =
            if row.is_better(retries, direct) { (Lane::Retries, retries) } else { (Lane::Direct, direct) };
        let (lane, name) = (best.in_a_sentence(), row.name());
        row.is_better(value, ours).then(|| Concession {
            row,
            lane: best.name(),
            sentence: format!("{name}: {} {lane}, {} through Spillway", row.shown(value), row.shown(ours)),
        })
    };
    Row::ALL.into_iter().filter_map(better_in).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::figures::{Background, Calls, Live};

    /// A lane that serves this share, with these waits, answers this share of the background requests, and pays so much.
    fn lane(served: f64, half: Option<f64>, nearly: Option<f64>, no: Option<f64>, later: f64, calls: f64) -> Figures {
        Figures {
            live: Live {
                sent: 100,
                served: 0,
                served_share: served,
                errors_under_200: 0,
                answered_p50_ms: half,
                answered_p95_ms: nearly,
                served_wait_p50_ms: half,
                served_wait_p95_ms: nearly,
                told_no_p50_ms: no,
            },
            background: Background { sent: 20, answered: 0, answered_share: later, kept: 0, kept_and_answered: 0 },
            calls: Calls { all: 100, per_answer: Some(calls), per_answer_in_trouble: Some(calls) },
        }
    }

    #[test]
    fn what_is_worse_by_more_than_nothing_is_conceded_to_the_best_of_the_others() {
        let good = || lane(0.9, Some(100.0), Some(500.0), Some(1_000.0), 1.0, 1.5);
        let bad = || lane(0.1, None, None, Some(9_000.0), 0.0, 9.0);
        let all = Row::ALL.to_vec();
        for (what, direct, ours, conceded) in [
            ("the same", good(), good(), vec![]),
            ("better", bad(), good(), vec![]),
            ("worse", good(), bad(), all),
            ("a point", good(), lane(0.891, Some(100.0), Some(500.0), Some(1_000.0), 0.991, 1.5), vec![]),
            ("two points", good(), lane(0.88, Some(100.0), Some(500.0), Some(1_000.0), 1.0, 1.5), vec![Row::Served]),
            ("a busy machine", good(), lane(0.9, Some(129.0), Some(549.0), Some(1_074.0), 1.0, 1.57), vec![]),
            ("later", good(), lane(0.9, Some(131.0), Some(500.0), Some(1_000.0), 1.0, 1.5), vec![Row::HalfAnswered]),
            ("never", good(), lane(0.9, Some(100.0), None, Some(9.0), 1.0, 1.5), vec![Row::NearlyAllAnswered]),
            ("nobody is told no", good(), lane(1.0, Some(100.0), Some(500.0), None, 1.0, 1.5), vec![]),
            ("dear", good(), lane(0.9, Some(100.0), Some(500.0), None, 1.0, 1.6), vec![Row::CallsPerAnswer]),
        ] {
            let rows = |figures: &[Figures; 3]| concessions(figures).into_iter().map(|one| one.row).collect::<Vec<_>>();
            assert_eq!(rows(&[direct.clone(), bad(), ours.clone()]), conceded, "{what}");
            assert_eq!(rows(&[bad(), direct, ours]), conceded, "{what}, the others exchanged");
        }
    }

    #[test]
    fn a_concession_names_the_lane_and_both_values() {
        let direct = lane(0.9, Some(100.0), Some(500.0), None, 1.0, 1.5);
        let ours = lane(0.9, Some(400.0), None, None, 1.0, 1.5);
        let sentences: Vec<_> =
            concessions(&[direct.clone(), direct, ours]).into_iter().map(|one| (one.lane, one.sentence)).collect();
        let expected = [
            ("direct", "half answered within: 0.10 s direct, 0.40 s through Spillway".to_owned()),
            ("direct", "95 % answered within: 0.50 s direct, never through Spillway".to_owned()),
        ];
        assert_eq!(sentences, expected);
    }
}
