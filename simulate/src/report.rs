//! The figures as a table for people and as JSON for programs.

use std::fmt::Write as _;

use crate::comparison::{self, Loss, Rule, Trial};
use crate::figure::Figure;
use crate::scenario::{Goals, Scenario};

/// One scenario with one kind of callers: what came out, beside goals and contenders.
#[derive(Debug)]
pub struct Case<'a> {
    /// What was run.
    pub scenario: &'a Scenario,
    /// With how many seeds.
    pub seeds: u32,
    /// How often callers try again by themselves.
    pub retries: u32,
    /// What came out with ours.
    pub ours: Trial,
    /// What came out with the others.
    pub others: Vec<Trial>,
    /// By how much ours is worse.
    pub losses: Vec<Loss<'a>>,
    goals: Goals,
}

impl<'a> Case<'a> {
    /// Puts a case together. `paired` are those of our runs whose seeds the others had too.
    #[must_use]
    pub fn new(
        scenario: &'a Scenario,
        seeds: u32,
        retries: u32,
        ours: Trial,
        paired: &Trial,
        others: Vec<Trial>,
    ) -> Self {
        let losses = comparison::losses(scenario, retries, paired, &others);
        Self { scenario, seeds, retries, ours, others, losses, goals: scenario.goals(retries) }
    }

    /// Whether a figure reaches its goal. A goal whose figure could not be measured is missed.
    fn meets(&self, figure: Figure, goal: f64) -> bool {
        self.ours.figures.get(figure).is_some_and(|value| figure.meets(value, goal))
    }

    /// How many goals are missed.
    #[must_use]
    pub fn missed(&self) -> usize {
        self.goals.iter().filter(|(figure, goal)| !self.meets(**figure, **goal)).count()
    }

    /// In how much ours is worse than it may be.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.losses.iter().filter(|loss| loss.is_too_much()).count()
    }

    fn callers(&self) -> String {
        match self.retries {
            0 => "callers never retry".to_owned(),
            1 => "callers retry once".to_owned(),
            2 => "callers retry twice".to_owned(),
            more => format!("callers retry {more} times"),
        }
    }

    /// Goals with their verdicts, in one line.
    fn goals(&self) -> Option<String> {
        let goal = |(figure, goal): (&Figure, &f64)| {
            let value = written(*figure, self.ours.figures.get(*figure));
            let sign = if figure.more_is_better() { ">=" } else { "<=" };
            let verdict = if self.meets(*figure, *goal) { "met" } else { "MISSED" };
            format!("{} {value} {sign}{goal} {verdict}", figure.name())
        };
        let goals: Vec<String> = self.goals.iter().map(goal).collect();
        (!goals.is_empty()).then(|| goals.join(", "))
    }
}

/// The figures that have a column; the others are told in a line of ours.
const COLUMNS: [(Figure, &str); 12] = [
    (Figure::ServedPercent, "served %"),
    (Figure::CallsPerRequest, "calls/req"),
    (Figure::CallsPerServed, "calls/answer"),
    (Figure::WaitP50Seconds, "wait p50"),
    (Figure::WaitP95Seconds, "wait p95"),
    (Figure::FirstTokenP50Seconds, "first p50"),
    (Figure::UntouchedServedPercent, "untouched %"),
    (Figure::WastedCalls, "wasted"),
    (Figure::WastedCallsPercent, "wasted %"),
    (Figure::ServedAfterPercent, "after %"),
    (Figure::ServedSoonPercent, "soon %"),
    (Figure::RecoveryP95Seconds, "recovery p95"),
];

fn written(figure: Figure, value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value.is_infinite() => "never".to_owned(),
        Some(value) => format!("{value:.*}", figure.decimals()),
    }
}

/// What a loss is called; `None` if there is nothing to say.
fn told(loss: &Loss<'_>) -> Option<String> {
    let than = loss.than.name();
    let what = match loss.rule {
        Rule::ServedPercent => format!("{:.1} points to {than}", loss.by),
        Rule::CallsPerServed => format!("{:.0} % more calls per answer than {than}", loss.by),
        Rule::FirstTokenP50Seconds => format!("{:.3} s to the first token against {than}", loss.by),
        Rule::WaitP95Seconds => format!("{:.3} s in 95 % of the waits against {than}", loss.by),
    };
    match loss.conceded {
        _ if loss.is_too_much() => Some(format!("LOSES {what}")),
        _ if loss.judged_by_goal && loss.by > loss.allowed => Some(format!("LOSES {what}; the goal counts")),
        Some(one) => Some(format!("conceded, {} (up to {}): {what}. {}", one.name, one.allowed, one.reason)),
        None => None,
    }
}

/// A table: for each case ours, without a proxy, and the best contender, or all of them; then our
/// goals, and what ours loses.
#[must_use]
pub fn table(cases: &[Case<'_>], all_contenders: bool) -> String {
    let mut text = format!("{:<20}", "");
    for (_, heading) in COLUMNS {
        let _ = write!(text, "  {heading:>8}");
    }
    text.push('\n');
    for case in cases {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}, {}, {} runs", case.scenario.name, case.callers(), case.seeds);
        write_trial(&mut text, &case.ours, "");
        let best = comparison::best(&case.others).map(|trial| trial.contender);
        for trial in &case.others {
            let is_best = Some(trial.contender) == best;
            if all_contenders || is_best || trial.contender == crate::contender::Contender::Direct {
                write_trial(&mut text, trial, if is_best { "  best" } else { "" });
            }
        }
        let rest = Figure::ALL.into_iter().filter(|figure| !COLUMNS.iter().any(|(column, _)| column == figure));
        let rest: Vec<String> = rest
            .filter_map(|figure| Some((figure, case.ours.figures.get(figure)?)))
            .map(|(figure, value)| format!("{} {}", figure.name(), written(figure, Some(value))))
            .collect();
        let _ = writeln!(text, "  also: {}", rest.join(", "));
        if let Some(goals) = case.goals() {
            let _ = writeln!(text, "  goals: {goals}");
        }
        for line in case.losses.iter().filter_map(told) {
            let _ = writeln!(text, "  {line}");
        }
    }
    let missed: usize = cases.iter().map(Case::missed).sum();
    let lost: usize = cases.iter().map(Case::lost).sum();
    let good = cases.iter().filter(|case| case.missed() + case.lost() == 0).count();
    let _ = writeln!(text, "{good} of {} cases are good; goals missed: {missed}; lost: {lost}", cases.len());
    text
}

fn write_trial(text: &mut String, trial: &Trial, mark: &str) {
    let _ = write!(text, "  {:<18}", trial.contender.name());
    for (figure, heading) in COLUMNS {
        let _ = write!(text, "  {:>1$}", written(figure, trial.figures.get(figure)), heading.len().max(8));
    }
    let _ = writeln!(text, "{mark}");
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "null".to_owned(),
        Some(value) if value.is_infinite() => "\"never\"".to_owned(),
        Some(value) => value.to_string(),
    }
}

/// An array with an object per case. A recovery that never came is the word "never", a figure without
/// anything to measure is null.
#[must_use]
pub fn json(cases: &[Case<'_>]) -> String {
    let objects: Vec<String> = cases.iter().map(object).collect();
    format!("[\n{}\n]\n", objects.join(",\n"))
}

fn object(case: &Case<'_>) -> String {
    // Names and reasons hold nothing that JSON would need escaped: reading the scenario has made sure.
    let figures = |trial: &Trial| {
        let figure = |figure: Figure| format!("\"{}\": {}", figure.name(), number(trial.figures.get(figure)));
        let figures: Vec<String> = Figure::ALL.into_iter().map(figure).collect();
        format!("    \"{}\": {{{}}}", trial.contender.name(), figures.join(", "))
    };
    let protections: Vec<String> = std::iter::once(&case.ours).chain(&case.others).map(figures).collect();
    let goal = |(figure, goal): (&Figure, &f64)| {
        let value = number(case.ours.figures.get(*figure));
        let met = case.meets(*figure, *goal);
        format!("\"{}\": {{\"value\": {value}, \"goal\": {goal}, \"met\": {met}}}", figure.name())
    };
    let goals: Vec<String> = case.goals.iter().map(goal).collect();
    let loss = |loss: &Loss<'_>| {
        let concession = loss.conceded.map_or("null".to_owned(), |one| format!("\"{}\"", one.name));
        format!(
            "{{\"figure\": \"{}\", \"than\": \"{}\", \"by\": {}, \"allowed\": {}, \"too_much\": {}, \
             \"judged_by_goal\": {}, \"concession\": {concession}}}",
            loss.rule.figure().name(),
            loss.than.name(),
            loss.by,
            loss.allowed,
            loss.is_too_much(),
            loss.judged_by_goal,
        )
    };
    let losses: Vec<String> = case.losses.iter().map(loss).collect();
    format!(
        "  {{\"scenario\": \"{}\", \"caller_retries\": {}, \"seeds\": {},\n   \"protections\": {{\n{}}},\n   \
         \"goals\": {{{}}},\n   \"losses\": [{}]}}",
        case.scenario.name,
        case.retries,
        case.seeds,
        protections.join(",\n"),
        goals.join(", "),
        losses.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Contender;
    use crate::measure::{Judged, Run};

    fn scenario(more: &str) -> Scenario {
        Scenario::read(&format!("name = 'a'\nseconds = 1\n[[tenants]]\nrequests_per_second = 1\n{more}")).unwrap()
    }

    fn trial(contender: Contender, served: u64, calls: u64) -> Trial {
        let run = Run { judged: Judged { requests: 1_000, served, calls }, ..Run::default() };
        Trial::of(contender, &[Run { recoveries: vec![None], ..run }])
    }

    fn case(scenario: &Scenario, served: u64, calls: u64) -> Case<'_> {
        let ours = || trial(Contender::Spillway, served, calls);
        let others = vec![trial(Contender::Direct, 500, 1_000), trial(Contender::RetryOn, 930, 1_860)];
        Case::new(scenario, 1, 2, ours(), &ours(), others)
    }

    #[test]
    fn goals_are_judged_in_their_direction_and_what_cannot_be_measured_is_missed() {
        let scenario = scenario(
            "[goals]\ncalls_per_request = 1.9\nserved_percent = 95\nrecovery_p95_seconds = 5\nfalse_opens = 0\n",
        );
        let case = case(&scenario, 940, 1_880);
        let expected = "served_percent 94.00 >=95 MISSED, calls_per_request 1.88 <=1.9 met, \
                        recovery_p95_seconds never <=5 MISSED, false_opens - <=0 MISSED";
        assert_eq!(case.goals().as_deref(), Some(expected));
        assert_eq!((case.missed(), case.lost()), (3, 0));
    }

    #[test]
    fn whoever_is_worse_than_the_best_contender_is_said_to_lose() {
        let scenario = scenario("");
        let case = case(&scenario, 898, 1_980);
        let text = table(std::slice::from_ref(&case), false);
        assert!(text.contains("LOSES 3.2 points to haproxy-retry-on"), "{text}");
        assert!(text.contains("LOSES 10 % more calls per answer than haproxy-retry-on"), "{text}");
        assert!(text.contains("0 of 1 cases are good; goals missed: 0; lost: 2"), "{text}");
        let as_good = self::case(&scenario, 930, 1_860);
        assert!(!table(&[as_good], false).contains("LOSES"));
    }

    #[test]
    fn what_is_conceded_is_printed_with_its_reason_and_is_no_loss() {
        let scenario = scenario(
            "[[concessions]]\nname = 'few calls'\nrule = 'served_percent'\nallowed = 40\nreason = 'Because.'\n",
        );
        let case = case(&scenario, 898, 1_700);
        let text = table(std::slice::from_ref(&case), true);
        assert!(text.contains("conceded, few calls (up to 40): 3.2 points to haproxy-retry-on. Because."), "{text}");
        assert_eq!(case.lost(), 0);
        assert!(json(&[case]).contains("\"concession\": \"few calls\""));
    }

    #[test]
    fn json_says_never_rather_than_an_infinite_number() {
        let scenario = scenario("[goals]\nrecovery_p95_seconds = 5\namplification = 1.1\n");
        let text = json(&[case(&scenario, 1, 1)]);
        assert!(
            text.contains("\"recovery_p95_seconds\": {\"value\": \"never\", \"goal\": 5, \"met\": false}"),
            "{text}"
        );
        assert!(text.contains("\"amplification\": {\"value\": null, \"goal\": 1.1, \"met\": false}"), "{text}");
    }
}
