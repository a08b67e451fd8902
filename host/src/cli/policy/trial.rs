//! `spillway policy test`: a policy's own tests, and its module against all that providers do.

use super::cargo::Crate;
use super::loaded_policy::{LoadedPolicy, effective};
use super::subject::{Subject, engine};
use super::table::table;
use super::{Answer, Failure, exchanges, hear_policies, progress};
use crate::config::Config;
use crate::policy::{Module, change_of, in_words};
use spillway_sdk::{Advice, AttemptFacts, Exchange, RetryDecision, TripDecision, Verdict, WindowFacts, builtin};
use std::path::PathBuf;
use std::rc::Rc;

/// Cases named for each difference.
const EXAMPLES_MAX: usize = 3;
/// Problems listed; a policy that always fails has one per case.
const PROBLEMS_MAX: usize = 20;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The policy's crate, or a .wasm file, of which there are no native tests to run.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The policy's settings, as JSON (FILE.json) or TOML; by default those that the configuration has for its name.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// What `cargo build` is told besides.
    #[arg(last = true, value_name = "CARGO ARGUMENTS")]
    more: Vec<String>,
}

pub(super) fn run(arguments: &Arguments, config: &Config) -> Result<Answer, Failure> {
    hear_policies();
    let (settings, file) = (arguments.settings.as_deref(), &arguments.dir);
    let subject = if file.is_file() { Subject::read(file, config, settings)? } else { built(arguments, config)? };
    progress(&format!("Trying {} out", subject.label()));
    let module = subject
        .load(&engine()?)
        .map_err(|reason| Failure::Bad(format!("{} would not be served: {reason}", subject.file.display())))?;
    let trial = Trial::of(&module);
    let is_well = trial.problems.is_empty();
    Ok(Answer { text: trial.in_words(&subject.label()), is_well })
}

/// Tests and builds the crate.
fn built(arguments: &Arguments, config: &Config) -> Result<Subject, Failure> {
    let tested = Crate::find(&arguments.dir)?;
    tested.require_toolchain(&arguments.more)?;
    tested.test()?;
    let file = tested.build(&arguments.more)?;
    let subject = Subject::read(&file, config, arguments.settings.as_deref())?;
    Ok(match arguments.settings {
        Some(_) => Subject { settings: subject.settings.clone(), ..subject.named(&tested.name, config) },
        None => subject.named(&tested.name, config),
    })
}

/// Everything that a policy answered to a case.
#[derive(Clone, Debug, PartialEq)]
struct Answers {
    verdict: Result<Option<Verdict>, String>,
    backoff: Result<Option<RetryDecision>, String>,
}

/// What came of it.
#[derive(Debug, Default)]
struct Trial {
    exchanges: usize,
    windows: usize,
    problems: Vec<String>,
    /// Verdicts that differ from the built-in policy's: what changes, both verdicts, and where.
    differences: Vec<Difference>,
    backoffs: Vec<(String, RetryDecision)>,
    trips: Vec<(String, TripDecision)>,
}

#[derive(Debug)]
struct Difference {
    built_in: String,
    policy: String,
    cases: Vec<String>,
}

impl Trial {
    /// Asks everything twice: one instance all of it, and a new one each, so that what one remembers shows.
    fn of(module: &Module) -> Trial {
        let mut trial = Trial::default();
        let mut asked = LoadedPolicy::new(module);
        for (name, facts) in exchanges::all() {
            let facts: Rc<dyn AttemptFacts> = Rc::new(facts);
            let (first, second) = (answers(&mut asked, &facts), answers(&mut LoadedPolicy::new(module), &facts));
            trial.compare("classify", &name, &first.verdict, &second.verdict);
            trial.compare("backoff", &name, &first.backoff, &second.backoff);
            if let Ok(verdict) = first.verdict {
                trial.note_difference(&name, &effective(verdict, &*facts), &*facts);
            }
            if let Ok(Some(decision)) = first.backoff {
                trial.backoffs.push((name, decision));
            }
            trial.exchanges += 1;
        }
        for (name, facts) in exchanges::windows() {
            let facts: Rc<dyn WindowFacts> = Rc::new(facts);
            let (first, second) = (asked.trip(&facts), LoadedPolicy::new(module).trip(&facts));
            trial.compare("trip", &name, &first, &second);
            if let Ok(Some(decision)) = first {
                trial.trips.push((name, decision));
            }
            trial.windows += 1;
        }
        trial
    }

    fn compare<T: PartialEq>(&mut self, hook: &str, case: &str, first: &Result<T, String>, second: &Result<T, String>) {
        match (first, second) {
            (Err(fault), _) | (_, Err(fault)) => self.problems.push(format!("{hook} of {case}: {fault}")),
            (Ok(first), Ok(second)) if first != second => {
                self.problems.push(format!("{hook} of {case}: another answer when nothing was asked before"));
            }
            (Ok(_), Ok(_)) => {}
        }
    }

    fn note_difference(&mut self, case: &str, verdict: &Verdict, facts: &dyn AttemptFacts) {
        let built_in = builtin::classify(&Exchange::new(facts));
        if change_of(&built_in, verdict).is_none() {
            return;
        }
        let (built_in, policy) = (in_words(&built_in), in_words(verdict));
        let alike = |difference: &&mut Difference| difference.built_in == built_in && difference.policy == policy;
        match self.differences.iter_mut().find(alike) {
            Some(difference) => difference.cases.push(case.to_owned()),
            None => self.differences.push(Difference { built_in, policy, cases: vec![case.to_owned()] }),
        }
    }

    fn in_words(&self, label: &str) -> String {
        let mut text = String::new();
        if self.differences.is_empty() {
            text.push_str("Its verdicts are the built-in policy's, everywhere.\n");
        } else {
            let row = |Difference { built_in, policy, cases }: &Difference| {
                vec![cases.len().to_string(), built_in.clone(), policy.clone(), examples(cases)]
            };
            let rows: Vec<_> = self.differences.iter().map(row).collect();
            text.push_str("Where its verdicts differ from the built-in policy's:\n\n");
            text.push_str(&table(&["CASES", "BUILT-IN", "THIS POLICY", "AS IN"], &rows));
        }
        let decided = |decisions: Vec<(String, String)>| {
            let rows: Vec<_> = decisions.into_iter().map(|(case, decision)| vec![decision, case]).collect();
            table(&["DECISION", "OF"], &rows)
        };
        if !self.backoffs.is_empty() {
            text.push_str("\nBefore a retry, instead of the configured backoff:\n\n");
            let in_words = |(case, decision): &(String, RetryDecision)| (case.clone(), retry_in_words(Some(*decision)));
            text.push_str(&decided(self.backoffs.iter().map(in_words).collect()));
        }
        if !self.trips.is_empty() {
            text.push_str("\nAbout opening a circuit, instead of the configured thresholds:\n\n");
            let in_words = |(case, decision): &(String, TripDecision)| (case.clone(), trip_in_words(*decision));
            text.push_str(&decided(self.trips.iter().map(in_words).collect()));
        }
        if !self.problems.is_empty() {
            text.push_str("\nWhat went wrong:\n");
            for problem in self.problems.iter().take(PROBLEMS_MAX) {
                text.push_str(&format!("  {problem}\n"));
            }
            let more = self.problems.len().saturating_sub(PROBLEMS_MAX);
            if more > 0 {
                text.push_str(&format!("  and {more} more\n"));
            }
        }
        let (exchanges, windows) = (self.exchanges, self.windows);
        let verdict = match self.problems.len() {
            0 => "no trap, no overrun, the same answers twice".to_owned(),
            1 => "1 call went wrong".to_owned(),
            problems => format!("{problems} calls went wrong"),
        };
        text.push_str(&format!("\n{label}: {exchanges} exchanges and {windows} circuits, each twice: {verdict}\n"));
        text
    }
}

fn answers(asked: &mut LoadedPolicy<'_>, facts: &Rc<dyn AttemptFacts>) -> Answers {
    let verdict = asked.classify(facts);
    let decided = effective(verdict.clone().ok().flatten(), &**facts);
    let backoff = if decided.advice == Advice::Retry { asked.backoff(facts, &decided) } else { Ok(None) };
    Answers { verdict, backoff }
}

fn examples(cases: &[String]) -> String {
    let more = if cases.len() > EXAMPLES_MAX { ", …" } else { "" };
    cases.iter().take(EXAMPLES_MAX).map(String::as_str).collect::<Vec<_>>().join("; ") + more
}

/// What follows a failed attempt, in a few words.
pub(super) fn retry_in_words(decision: Option<RetryDecision>) -> String {
    match decision {
        None => "left open".to_owned(),
        Some(RetryDecision::After(wait)) => format!("retry after {} ms", wait.as_millis()),
        Some(RetryDecision::NextUpstream) => "next upstream".to_owned(),
        Some(RetryDecision::GiveUp) => "give up".to_owned(),
        Some(RetryDecision::SpoolFor(wait)) => format!("put aside for {} ms", wait.as_millis()),
    }
}

fn trip_in_words(decision: TripDecision) -> String {
    match decision {
        TripDecision::Stay => "stay closed".to_owned(),
        TripDecision::Open => "open".to_owned(),
        TripDecision::OpenFor(duration) => format!("open for {} ms", duration.as_millis()),
    }
}
