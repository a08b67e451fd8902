//! `spillway policy replay`: what a policy would have decided about requests that were recorded.

use super::loaded_policy::{LoadedPolicy, Times, effective};
use super::subject::{Subject, engine};
use super::table::table;
use super::trial::retry_in_words;
use super::{Answer, Failure, progress, time};
use crate::config::Config;
use crate::observe::recording::{Line, Recorded, read};
use crate::policy::{Module, change_of};
use serde::Serialize;
use spillway_sdk::{Advice, AttemptFacts, Exchange, RetryDecision, Verdict, builtin};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Request ids shown for each kind of change.
const EXAMPLES_MAX: usize = 3;
/// Bad lines and faults that are shown; all are counted.
const SHOWN_MAX: usize = 10;
/// Between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
/// What `--against` calls the built-in policy.
const BUILT_IN: &str = "built-in";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A policy's .wasm file.
    file: PathBuf,
    /// Recorded requests, as [log] requests in the configuration has them written; may be given several times.
    #[arg(long, value_name = "FILE", required = true)]
    log: Vec<PathBuf>,
    /// Compare with another policy instead of what was decided: a .wasm file, the name of a policy in the policy
    /// folder, or "built-in".
    #[arg(long, value_name = "NAME_OR_FILE")]
    against: Option<String>,
    /// The policy's settings, as JSON (FILE.json) or TOML; by default those that the configuration has for its name.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, config: &Config) -> Result<Answer, Failure> {
    let runtime = engine()?;
    let load = |subject: &Subject| {
        let file = subject.file.display();
        subject.load(&runtime).map_err(|reason| Failure::Bad(format!("{file} would not be served: {reason}")))
    };
    let subject = Subject::read(&arguments.file, config, arguments.settings.as_deref())?;
    let module = load(&subject)?;
    let other = match arguments.against.as_deref() {
        None => None,
        Some(BUILT_IN) => Some((BUILT_IN.to_owned(), None)),
        Some(said) => {
            let other = Subject::read(&file_of(said, config)?, config, None)?;
            Some((other.label(), Some(load(&other)?)))
        }
    };
    let against = match &other {
        None => Against::Recorded,
        Some((_, None)) => Against::BuiltIn,
        Some((_, Some(module))) => Against::Policy(LoadedPolicy::new(module)),
    };
    let with = other.as_ref().map_or("what was decided", |(label, _)| label);
    let mut replay = Replay::new(&module, against, subject.label(), with.to_owned());
    for log in &arguments.log {
        replay.read(log)?;
    }
    let outcome = replay.finish();
    let is_well = outcome.faults == 0 && outcome.attempts > 0;
    match arguments.json {
        true => Answer::json(&outcome, is_well),
        false => Ok(Answer { text: outcome.in_words(), is_well }),
    }
}

/// The file of the policy to compare with.
fn file_of(said: &str, config: &Config) -> Result<PathBuf, Failure> {
    let (file, dir) = (PathBuf::from(said), &config.policies.dir);
    let named = dir.join(format!("{said}.wasm"));
    match (file.is_file(), named.is_file()) {
        (true, _) => Ok(file),
        (false, true) => Ok(named),
        (false, false) => {
            let dir = dir.display();
            Err(Failure::Usage(format!("--against {said}: there is no such file, and no policy of that name in {dir}")))
        }
    }
}

/// With whose decisions the policy's are compared.
enum Against<'a> {
    Recorded,
    BuiltIn,
    Policy(LoadedPolicy<'a>),
}

/// Decisions that changed in the same way.
#[derive(Debug, Default, Serialize)]
struct Change {
    count: u64,
    examples: Vec<String>,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    policy: String,
    against: String,
    attempts: u64,
    unchanged: u64,
    changed: u64,
    changes: BTreeMap<String, Change>,
    bad_lines: u64,
    first_bad_lines: Vec<String>,
    faults: u64,
    first_faults: Vec<String>,
    times: Option<Times>,
}

struct Replay<'a> {
    asked: LoadedPolicy<'a>,
    against: Against<'a>,
    outcome: Outcome,
    said_at: Instant,
}

impl<'a> Replay<'a> {
    fn new(module: &'a Module, against: Against<'a>, policy: String, with: String) -> Self {
        let outcome = Outcome { policy, against: with, ..Outcome::default() };
        Replay { asked: LoadedPolicy::new(module), against, outcome, said_at: Instant::now() }
    }

    /// Replays a file of recorded requests.
    fn read(&mut self, log: &Path) -> Result<(), Failure> {
        let unreadable = |error: io::Error| {
            let hint = "[log] requests = \"requests.jsonl\" in the configuration makes Spillway record them";
            Failure::Usage(format!("cannot read {}: {error}; {hint}", log.display()))
        };
        read(log, |number, line| {
            match line {
                Ok(Line::Attempt(recorded)) => self.judge(*recorded),
                // Nobody was asked about it.
                Ok(Line::Unserved(_)) => {}
                Err(why) => {
                    self.outcome.bad_lines += 1;
                    if self.outcome.first_bad_lines.len() < SHOWN_MAX {
                        self.outcome.first_bad_lines.push(format!("{} line {number}: {why}", log.display()));
                    }
                }
            }
            if self.said_at.elapsed() > PROGRESS_EVERY {
                self.said_at = Instant::now();
                progress(&format!("Replayed {} attempts", self.outcome.attempts));
            }
        })
        .map_err(unreadable)
    }

    fn judge(&mut self, recorded: Recorded) {
        let Recorded { request_id, verdict, backoff, facts, .. } = recorded;
        let facts: Rc<dyn AttemptFacts> = Rc::new(facts);
        self.outcome.attempts += 1;
        let new = self.asked.classify(&facts);
        let new = effective(self.outcome.answer("classify", &request_id, new), &*facts);
        let old = match &mut self.against {
            Against::Recorded => verdict,
            Against::BuiltIn => builtin::classify(&Exchange::new(&*facts)),
            // Its own faults are not what is asked about.
            Against::Policy(other) => effective(other.classify(&facts).unwrap_or(None), &*facts),
        };
        let mut changes: Vec<String> =
            change_of(&old, &new).map(|change| format!("classify: {change}")).into_iter().collect();
        // Both would go as far as to ask for the wait; what was not asked cannot be compared.
        if old.advice == Advice::Retry && new.advice == Advice::Retry {
            let waited = match &mut self.against {
                Against::Recorded => backoff,
                Against::BuiltIn => Some(None),
                Against::Policy(other) => Some(other.backoff(&facts, &old).unwrap_or(None)),
            };
            if let Some(old) = waited {
                let new = self.backoff(&request_id, &facts, &new);
                changes.extend(backoff_change(old, new));
            }
        }
        match changes.is_empty() {
            true => self.outcome.unchanged += 1,
            false => self.outcome.changed += 1,
        }
        for change in changes {
            let Change { count, examples } = self.outcome.changes.entry(change).or_default();
            *count += 1;
            if examples.len() < EXAMPLES_MAX && !examples.contains(&request_id) {
                examples.push(request_id.clone());
            }
        }
    }

    fn backoff(&mut self, request_id: &str, facts: &Rc<dyn AttemptFacts>, verdict: &Verdict) -> Option<RetryDecision> {
        let answer = self.asked.backoff(facts, verdict);
        self.outcome.answer("backoff", request_id, answer)
    }

    fn finish(mut self) -> Outcome {
        self.outcome.times = self.asked.times();
        self.outcome
    }
}

/// What changes about the wait before a retry. Waits differ each time by their jitter, so only their kind counts.
fn backoff_change(old: Option<RetryDecision>, new: Option<RetryDecision>) -> Option<String> {
    if old == new {
        return None;
    }
    let kind = |decision| {
        let words = retry_in_words(decision);
        // Without the figure at its end.
        words.trim_end_matches(" ms").trim_end_matches(|c: char| c.is_ascii_digit()).trim_end().to_owned()
    };
    let (old, new) = (kind(old), kind(new));
    Some(if old == new { format!("backoff: {old} another time") } else { format!("backoff: {old} -> {new}") })
}

impl Outcome {
    /// Counts a call that gave no answer, for which the built-in policy answers.
    fn answer<T>(&mut self, hook: &str, request_id: &str, answer: Result<Option<T>, String>) -> Option<T> {
        answer.unwrap_or_else(|fault| {
            self.faults += 1;
            if self.first_faults.len() < SHOWN_MAX {
                self.first_faults.push(format!("{hook} of {request_id}: {fault}"));
            }
            None
        })
    }

    fn in_words(&self) -> String {
        let Outcome { policy, against, attempts, unchanged, changed, .. } = self;
        let mut text = String::new();
        if !self.changes.is_empty() {
            let mut changes: Vec<_> = self.changes.iter().collect();
            changes.sort_by_key(|(_, change)| std::cmp::Reverse(change.count));
            let row = |(kind, change): (&String, &Change)| {
                vec![change.count.to_string(), kind.clone(), change.examples.join(", ")]
            };
            let rows: Vec<_> = changes.into_iter().map(row).collect();
            text.push_str(&format!("What {policy} would change, compared with {against}:\n\n"));
            text.push_str(&table(&["TIMES", "CHANGE", "AS IN REQUEST"], &rows));
            text.push('\n');
        }
        for (count, what, first) in [
            (self.bad_lines, "lines could not be read", &self.first_bad_lines),
            (self.faults, "calls gave no answer; the built-in policy's counts there", &self.first_faults),
        ] {
            if count > 0 {
                text.push_str(&format!("{count} {what}:\n"));
                first.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
                if count > first.len() as u64 {
                    text.push_str("  …\n");
                }
                text.push('\n');
            }
        }
        if *attempts == 0 {
            text.push_str("No attempt is recorded there, so nothing was compared.\n");
            return text;
        }
        text.push_str(&format!("{attempts} attempts: {unchanged} as {against}, {changed} otherwise."));
        if let Some(Times { median_ns, p99_ns, .. }) = self.times {
            text.push_str(&format!(" A call took {} (median), {} (p99).", time(median_ns), time(p99_ns)));
        }
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_compared_by_kind_and_by_figure() {
        let after = |ms| Some(RetryDecision::After(Duration::from_millis(ms)));
        assert_eq!(backoff_change(after(5), after(5)), None);
        assert_eq!(backoff_change(after(5), after(6)).as_deref(), Some("backoff: retry after another time"));
        assert_eq!(backoff_change(None, after(6)).as_deref(), Some("backoff: left open -> retry after"));
        let aside = Some(RetryDecision::SpoolFor(Duration::from_secs(1)));
        assert_eq!(
            backoff_change(aside, Some(RetryDecision::GiveUp)).as_deref(),
            Some("backoff: put aside for -> give up")
        );
    }
}
