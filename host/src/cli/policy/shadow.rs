//! `spillway policy shadow`: how a candidate compares with the policy that serves.

use super::table::table;
use super::{Answer, Failure};
use crate::cli::running::{self, AdminArgument};
use crate::config::Config;
use crate::policy::{Comparison, Example, SHADOW_SUFFIX, ShadowStatus};
use serde_json::json;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The policy's name.
    name: String,
    #[command(flatten)]
    admin: AdminArgument,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, config: &Config) -> Result<Answer, Failure> {
    let (name, admin) = (&arguments.name, arguments.admin.address(config));
    let policies = running::policies(&admin)?.ok_or_else(|| {
        Failure::Bad(format!(
            "no Spillway answers at {admin}, and a candidate is compared on live traffic; \
             `spillway policy replay` compares on recorded requests"
        ))
    })?;
    let file = config.policies.dir.join(format!("{name}{SHADOW_SUFFIX}.wasm"));
    let none = || Failure::Bad(format!("{name} has no candidate beside it; drop one as {}", file.display()));
    let found = policies.into_iter().find(|policy| &policy.name == name);
    let shadow = found.and_then(|policy| policy.shadow).ok_or_else(none)?;
    let is_well = shadow.rejected.is_none() && shadow.faults == 0;
    match arguments.json {
        true => Answer::json(&json!({"name": name, "shadow": shadow}), is_well),
        false => Ok(Answer { text: in_words(name, &shadow), is_well }),
    }
}

/// The whole comparison, for people.
pub(super) fn in_words(name: &str, shadow: &ShadowStatus) -> String {
    let mut text = String::new();
    if let Some(rejected) = &shadow.rejected {
        text.push_str(&format!("{name}: the candidate's last file was not loaded: {}\n", rejected.reason));
    }
    let (Some(sha256), Some(comparison)) = (&shadow.sha256, &shadow.comparison) else { return text };
    let Comparison { agreed, disagreed, by_kind, examples, .. } = comparison;
    let (state, version) = (shadow.state.as_deref().unwrap_or_default(), shadow.version.as_deref().unwrap_or_default());
    let (calls, faults) = (shadow.calls, shadow.faults);
    text.push_str(&format!(
        "{name}: the candidate {} (version {version}, {state}) was asked {calls} times and failed {faults}; \
         it agreed {agreed} times and disagreed {disagreed}.\n",
        sha256.get(..8).unwrap_or(sha256)
    ));
    if let Some(fault) = &shadow.last_fault {
        text.push_str(&format!("Its last fault: {fault}\n"));
    }
    if !by_kind.is_empty() {
        let rows: Vec<_> = by_kind.iter().map(|(kind, count)| vec![count.to_string(), kind.clone()]).collect();
        text.push('\n');
        text.push_str(&table(&["TIMES", "WHAT SERVES -> THE CANDIDATE"], &rows));
    }
    if !examples.is_empty() {
        text.push_str("\nThe last of them:\n");
    }
    for example in examples {
        text.push_str(&format!(
            "  {}: {}\n    what serves:   {}\n    the candidate: {}\n",
            example.kind,
            seen(example),
            example.active,
            example.shadow
        ));
    }
    text
}

/// What an example is about.
fn seen(example: &Example) -> String {
    let status = example.status.map(|status| format!("status {status}"));
    let fault = example.fault.as_deref().map(str::to_owned);
    let parts = [example.upstream.clone(), example.model.clone(), status, fault, example.error_code.clone()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
