//! `spillway policy ls`: which policies serve, or which files would.

use super::subject::{Subject, engine};
use super::table::table;
use super::{Answer, Failure, progress};
use crate::cli::running::{self, AdminArgument};
use crate::config::Config;
use crate::policy::{PolicyStatus, Role, place_of};
use serde::Serialize;
use serde_json::json;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Digits of a hash that are shown, as in explanations.
const SHORT_HASH: usize = 8;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: AdminArgument,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, config: &Config) -> Result<Answer, Failure> {
    let admin = arguments.admin.address(config);
    if let Some(policies) = running::policies(&admin)? {
        return match arguments.json {
            true => Answer::json(&json!({"running": true, "admin": admin, "policies": policies}), true),
            false => Ok(Answer::well(in_service(&policies))),
        };
    }
    let dir = &config.policies.dir;
    let files = look(dir, config, progress)?;
    if arguments.json {
        return Answer::json(&json!({"running": false, "admin": admin, "dir": dir, "files": files}), true);
    }
    let mut text = format!("No Spillway answers at {admin}. ");
    if files.is_empty() {
        text.push_str(&format!("{} holds no policy: the built-in policy would judge everything.\n", dir.display()));
    } else {
        text.push_str(&format!("What it would do with the files in {}:\n\n", dir.display()));
        let row = |file: &Listed| {
            vec![file.file.clone(), file.sha256.chars().take(SHORT_HASH).collect(), file.verdict.clone()]
        };
        text.push_str(&table(&["FILE", "HASH", "VERDICT"], &files.iter().map(row).collect::<Vec<_>>()));
    }
    Ok(Answer::well(text))
}

fn in_service(policies: &[PolicyStatus]) -> String {
    let short = |hash: &Option<String>| {
        let hash = hash.as_deref().unwrap_or("-");
        hash.get(..SHORT_HASH).unwrap_or(hash).to_owned()
    };
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let row = |policy: &PolicyStatus| {
        vec![
            policy.name.clone(),
            policy.source.to_string(),
            policy.state.to_string(),
            or_dash(policy.version.clone().unwrap_or_default()),
            short(&policy.sha256),
            or_dash(policy.hooks.join(",")),
            policy.calls.to_string(),
            policy.faults.to_string(),
            policy.swaps.to_string(),
        ]
    };
    let head = ["NAME", "SOURCE", "STATE", "VERSION", "HASH", "HOOKS", "CALLS", "FAULTS", "SWAPS"];
    let mut text = table(&head, &policies.iter().map(row).collect::<Vec<_>>());
    for policy in policies {
        let mut note = |what: &str, said: &str| text.push_str(&format!("\n{}: {what}{said}", policy.name));
        if let Some(rule) = &policy.quarantined_after {
            note("it is not asked for now, after ", rule);
        }
        if let Some(fault) = &policy.last_fault {
            note("its last fault: ", fault);
        }
        if let Some(rejected) = &policy.rejected {
            note("its last file was not loaded: ", &rejected.reason);
        }
        if let Some(shadow) = &policy.shadow {
            match (&shadow.rejected, &shadow.comparison) {
                (Some(rejected), _) => note("its candidate was not loaded: ", &rejected.reason),
                (None, Some(comparison)) => {
                    let (agreed, disagreed) = (comparison.agreed, comparison.disagreed);
                    let said = format!("agreed {agreed} times and disagreed {disagreed}");
                    note(&format!("its candidate {} ", short(&shadow.sha256)), &said);
                }
                (None, None) => {}
            }
        }
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// A file in the policy folder.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Listed {
    pub(in crate::cli) file: String,
    policy: String,
    role: &'static str,
    sha256: String,
    pub(in crate::cli) would_be_served: bool,
    pub(in crate::cli) verdict: String,
}

/// Every file in the folder that a Spillway would look at. `tell` hears what is being looked at, which may take long.
///
/// # Errors
/// When the folder cannot be read.
pub(in crate::cli) fn look(dir: &Path, config: &Config, tell: fn(&str)) -> Result<Vec<Listed>, Failure> {
    let unreadable = |error: io::Error| Failure::Bad(format!("cannot read {}: {error}", dir.display()));
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(unreadable)?.path());
    }
    paths.sort();
    let runtime = engine()?;
    let mut files = Vec::new();
    for path in paths {
        let Some((policy, role)) = place_of(&path).filter(|_| path.is_file()) else { continue };
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        tell(&format!("Checking {file}"));
        let role = match role {
            Role::Active => "active",
            Role::Shadow => "shadow",
        };
        files.push(match Subject::read(&path, config, None) {
            Ok(subject) => {
                let reason = subject.refusal(&runtime, config);
                let verdict = match (&reason, role) {
                    (Some(reason), _) => format!("would not be served: {reason}"),
                    (None, "shadow") => "would be compared with what serves".to_owned(),
                    (None, _) => "would be served".to_owned(),
                };
                let would_be_served = reason.is_none();
                Listed { file, policy, role, sha256: subject.sha256.to_string(), would_be_served, verdict }
            }
            Err(failure) => Listed {
                file,
                policy,
                role,
                sha256: String::new(),
                would_be_served: false,
                verdict: failure.to_string(),
            },
        });
    }
    Ok(files)
}
