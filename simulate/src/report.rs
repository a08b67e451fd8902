//! The figures as a table for people and as JSON for programs.

use std::fmt::Write as _;

use crate::figure::{Figure, Figures};
use crate::scenario::Scenario;

/// One scenario's figures beside its goals.
#[derive(Debug)]
pub struct Row<'a> {
    /// What was run.
    pub scenario: &'a Scenario,
    /// What came out.
    pub figures: Figures,
}

/// How a figure stands to its goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    NoGoal,
    Met,
    Missed,
}

impl Row<'_> {
    /// Whether every goal is reached. A goal whose figure could not be measured is missed.
    #[must_use]
    pub fn meets_its_goals(&self) -> bool {
        Figure::ALL.iter().all(|figure| self.verdict(*figure) != Verdict::Missed)
    }

    fn verdict(&self, figure: Figure) -> Verdict {
        match (self.scenario.goals.of(figure), self.figures.get(figure)) {
            (None, _) => Verdict::NoGoal,
            (Some(goal), Some(value)) if figure.meets(value, goal) => Verdict::Met,
            (Some(_), _) => Verdict::Missed,
        }
    }

    /// For each figure: its value, and its goal with the verdict.
    fn cells(&self, figure: Figure) -> (String, String) {
        let value = match self.figures.get(figure) {
            None => "-".to_owned(),
            Some(value) if value.is_infinite() => "never".to_owned(),
            Some(value) => format!("{value:.*}", decimals(figure)),
        };
        let sign = if figure.meets(f64::INFINITY, 0.0) { ">=" } else { "<=" };
        let verdict = match self.verdict(figure) {
            Verdict::NoGoal => return (value, String::new()),
            Verdict::Met => "met",
            Verdict::Missed => "MISSED",
        };
        let goal = self.scenario.goals.of(figure).unwrap_or_default();
        (value, format!("{sign}{goal} {verdict}"))
    }
}

const fn decimals(figure: Figure) -> usize {
    match figure {
        Figure::Amplification => 3,
        Figure::WastedCallsPercent | Figure::RecoveryP50Seconds | Figure::RecoveryP95Seconds => 2,
        Figure::GoodputPercent | Figure::FairnessGap => 1,
        Figure::OvershootTokens | Figure::FalseOpens => 0,
    }
}

const fn heading(figure: Figure) -> &'static str {
    match figure {
        Figure::Amplification => "amplification",
        Figure::WastedCallsPercent => "wasted %",
        Figure::RecoveryP50Seconds => "recovery p50 s",
        Figure::RecoveryP95Seconds => "recovery p95 s",
        Figure::GoodputPercent => "goodput %",
        Figure::OvershootTokens => "overshoot",
        Figure::FairnessGap => "fair gap",
        Figure::FalseOpens => "false opens",
    }
}

/// A table: a row per scenario, and beside each figure its goal.
#[must_use]
pub fn table(rows: &[Row<'_>]) -> String {
    let mut lines = vec![vec!["scenario".to_owned()]];
    for figure in Figure::ALL {
        lines[0].extend([heading(figure).to_owned(), String::new()]);
    }
    for row in rows {
        let mut line = vec![row.scenario.name.clone()];
        for figure in Figure::ALL {
            let (value, goal) = row.cells(figure);
            line.extend([value, goal]);
        }
        lines.push(line);
    }
    let width = |column: usize| lines.iter().skip(1).map(|line| line[column].len()).max().unwrap_or(0);
    let mut widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    widths[0] = widths[0].max("scenario".len());
    // A heading spans its value and its goal.
    for (column, figure) in (1..).step_by(2).zip(Figure::ALL) {
        let missing = heading(figure).len().saturating_sub(widths[column] + 1 + widths[column + 1]);
        widths[column] += missing;
    }
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let mut written = format!("{:<1$}", line[0], widths[0]);
        for column in (1..line.len()).step_by(2) {
            let (value, goal) = (widths[column], widths[column + 1]);
            // Writing to a string cannot fail.
            let _ = if number == 0 {
                write!(written, "  {:<1$}", line[column], value + 1 + goal)
            } else {
                write!(written, "  {:>value$} {:<goal$}", line[column], line[column + 1])
            };
        }
        text.push_str(written.trim_end());
        text.push('\n');
    }
    text
}

/// An array with an object per scenario. A recovery that never came is the word "never", a figure
/// without anything to measure is null.
#[must_use]
pub fn json(rows: &[Row<'_>], seeds: u32) -> String {
    let mut objects = Vec::new();
    for row in rows {
        // Names hold nothing that JSON would need escaped: reading the scenario has made sure.
        let mut text = format!("  {{\"scenario\": \"{}\", \"seeds\": {seeds}", row.scenario.name);
        for figure in Figure::ALL {
            let value = match row.figures.get(figure) {
                None => "null".to_owned(),
                Some(value) if value.is_infinite() => "\"never\"".to_owned(),
                Some(value) => value.to_string(),
            };
            let goal = match (row.verdict(figure), row.scenario.goals.of(figure)) {
                (Verdict::NoGoal, _) | (_, None) => String::new(),
                (Verdict::Met, Some(goal)) => format!(", \"goal\": {goal}, \"met\": true"),
                (Verdict::Missed, Some(goal)) => format!(", \"goal\": {goal}, \"met\": false"),
            };
            let _ = write!(text, ", \"{}\": {{\"value\": {value}{goal}}}", figure.name());
        }
        objects.push(text + "}");
    }
    format!("[\n{}\n]\n", objects.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Run;

    fn scenario() -> Scenario {
        let text = "name = 'a'\nseconds = 1\n[[tenants]]\nrequests_per_second = 1\n[goals]\n\
                    amplification = 1.1\ngoodput_percent = 95\nrecovery_p95_seconds = 5\n";
        Scenario::read(text).unwrap()
    }

    #[test]
    fn goals_are_judged_in_their_direction_and_what_cannot_be_measured_is_missed() {
        let scenario = scenario();
        let run = Run { requests: 10, calls: 11, good: 90, possible: 100.0, ..Run::default() };
        let row = Row { scenario: &scenario, figures: Figures::of(&[run]) };
        assert_eq!(row.cells(Figure::Amplification), ("1.100".to_owned(), "<=1.1 met".to_owned()));
        assert_eq!(row.cells(Figure::GoodputPercent), ("90.0".to_owned(), ">=95 MISSED".to_owned()));
        assert_eq!(row.cells(Figure::RecoveryP95Seconds), ("-".to_owned(), "<=5 MISSED".to_owned()));
        assert_eq!(row.cells(Figure::FalseOpens), ("-".to_owned(), String::new()));
        assert!(!row.meets_its_goals());
        assert_eq!(table(&[row]).lines().count(), 2);
    }

    #[test]
    fn json_says_never_rather_than_an_infinite_number() {
        let scenario = scenario();
        let run = Run { recoveries: vec![None], ..Run::default() };
        let text = json(&[Row { scenario: &scenario, figures: Figures::of(&[run]) }], 1);
        assert!(text.contains("\"recovery_p95_seconds\": {\"value\": \"never\", \"goal\": 5, \"met\": false}"));
        assert!(text.contains("\"amplification\": {\"value\": null, \"goal\": 1.1, \"met\": false}"));
    }
}
