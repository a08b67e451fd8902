//! What a check finds, and how it is told.

use crate::runtime::screen::{self, BAD, COMMAND, DOUBTFUL, GOOD, HEADING, styled};
use serde::Serialize;

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be.
    Well,
    /// It may be meant, or pass, or matter to nobody.
    Doubtful,
    /// What depends on it does not work.
    Broken,
}

impl Verdict {
    fn word(self) -> String {
        match self {
            Verdict::Well => styled(GOOD, "well"),
            Verdict::Doubtful => styled(DOUBTFUL, "doubtful"),
            Verdict::Broken => styled(BAD, "broken"),
        }
    }
}

/// What one check has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What it is about, in a word or two.
    pub(super) area: String,
    pub(super) verdict: Verdict,
    /// What was found, and what it means.
    pub(super) said: String,
    /// What to do, where something can be done.
    pub(super) next: Option<String>,
}

impl Finding {
    /// All is well.
    pub(super) fn well(area: impl Into<String>, said: impl Into<String>) -> Finding {
        Finding { area: area.into(), verdict: Verdict::Well, said: said.into(), next: None }
    }

    /// To be looked at.
    pub(super) fn doubtful(area: impl Into<String>, said: impl Into<String>, next: impl Into<String>) -> Finding {
        Finding { area: area.into(), verdict: Verdict::Doubtful, said: said.into(), next: Some(next.into()) }
    }

    /// To be mended.
    pub(super) fn broken(area: impl Into<String>, said: impl Into<String>, next: impl Into<String>) -> Finding {
        Finding { area: area.into(), verdict: Verdict::Broken, said: said.into(), next: Some(next.into()) }
    }
}

/// All findings.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// Whether nothing is broken.
    pub(super) can_serve: bool,
    findings: Vec<Finding>,
}

impl Report {
    /// Of these findings, in the order in which they are told.
    pub(super) fn of(findings: Vec<Finding>) -> Report {
        let can_serve = findings.iter().all(|finding| finding.verdict < Verdict::Broken);
        Report { can_serve, findings }
    }

    /// For people: a line for each finding with what to do below it, and what all of it comes to.
    pub(super) fn text(&self) -> String {
        let mut table = screen::table([]);
        for finding in &self.findings {
            let next = finding.next.iter().map(|next| format!("\n{}", styled(COMMAND, format!("-> {next}"))));
            let said = format!("{}{}", finding.said, next.collect::<String>());
            table.add_row([finding.verdict.word(), styled(HEADING, &finding.area), said]);
        }
        let table = table.to_string();
        // The table has a header, which is empty, and fills its columns with spaces.
        let lines = table.lines().map(str::trim_end).filter(|line| !line.is_empty());
        let lines: String = lines.map(|line| format!("{line}\n")).collect();
        format!("{lines}\n{}\n", self.sum())
    }

    fn sum(&self) -> String {
        let count = |verdict| self.findings.iter().filter(|finding| finding.verdict == verdict).count();
        let (well, doubtful, broken) = (count(Verdict::Well), count(Verdict::Doubtful), count(Verdict::Broken));
        let figures = format!("{well} well, {doubtful} doubtful, {broken} broken");
        match self.can_serve {
            true if doubtful == 0 => format!("{}: {figures}.", styled(GOOD, "Spillway can work here")),
            true => format!("{}: {figures}. Look at what is doubtful.", styled(GOOD, "Spillway can work here")),
            false => format!("{}: {figures}. Mend what is broken.", styled(BAD, "Not all of it works here")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_doubtful_keeps_nobody_from_serving_and_what_is_broken_does() {
        let well = Finding::well("a", "it is there");
        let doubtful = Finding::doubtful("b", "it is odd", "look");
        let broken = Finding::broken("c", "it is gone", "put it back");
        assert!(Report::of(vec![well.clone(), doubtful.clone()]).can_serve);
        let report = Report::of(vec![well, doubtful, broken]);
        assert!(!report.can_serve);
        let text = anstream::adapter::strip_str(&report.text()).to_string();
        assert!(text.contains("it is gone") && text.contains("-> put it back"), "{text}");
        assert!(text.contains("1 well, 1 doubtful, 1 broken"), "{text}");
    }
}
