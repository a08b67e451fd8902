//! `spillway policy promote` and `rollback`: files change their names, and whoever serves follows.

use super::shadow::in_words;
use super::subject::{Subject, engine};
use super::{Answer, Failure, progress};
use crate::cli::running::{self, AdminAddress, AdminArgument};
use crate::config::Config;
use crate::policy::{PREVIOUS_SUFFIX, PolicyStatus, SHADOW_SUFFIX, Sha256Sum, promotion};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// How long a running Spillway may take to load what was put before it. It looks every two seconds at the latest, and
/// compiles within a few.
const TAKEOVER_MAX: Duration = Duration::from_secs(15);
/// The same where policies may carry an interpreter: this one, or another that is being compiled before it.
const COMPILATION_MAX: Duration = Duration::from_secs(120);
/// Between two looks at its status.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub(super) struct PromoteArguments {
    /// The policy's name.
    name: String,
    /// Promote although the candidate has disagreed with what serves.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    admin: AdminArgument,
}

#[derive(Debug, clap::Args)]
pub(super) struct RollbackArguments {
    /// The policy's name.
    name: String,
    #[command(flatten)]
    admin: AdminArgument,
}

pub(super) fn promote(arguments: &PromoteArguments, config: &Config) -> Result<Answer, Failure> {
    let name = &arguments.name;
    let admin = arguments.admin.address(config);
    let candidate = file(config, name, SHADOW_SUFFIX)?;
    if !candidate.exists() {
        return Err(Failure::Bad(promotion::PromotionError::NoCandidate(candidate).to_string()));
    }
    let subject = Subject::read(&candidate, config, None)?;
    let nothing_changed = |why: String| Failure::Bad(format!("{why}; nothing was changed"));
    if let Some(reason) = subject.load(&engine()?).err() {
        return Err(nothing_changed(format!("{} would not be served: {reason}", candidate.display())));
    }
    let mut text = String::new();
    if let Some(policy) = running::policy(&admin, name)?
        && let Some(shadow) = policy.and_then(|policy| policy.shadow)
    {
        text = in_words(name, &shadow);
        let disagreed = shadow.comparison.map_or(0, |comparison| comparison.disagreed);
        if disagreed > 0 && !arguments.yes {
            progress(&text);
            return Err(nothing_changed(
                "the candidate has disagreed with what serves; --yes promotes it all the same".into(),
            ));
        }
    }
    let before = serving(&admin, name)?;
    promotion::promote(&config.policies.dir, name).map_err(|error| Failure::Bad(error.to_string()))?;
    let back = match file(config, name, PREVIOUS_SUFFIX)?.exists() {
        true => format!("`spillway policy rollback {name}` goes back"),
        false => format!("deleting {} goes back to the built-in policy", file(config, name, "")?.display()),
    };
    text.push_str(&followed(&admin, name, subject.sha256, before, config)?);
    text.push_str(&format!("; {back}.\n"));
    Ok(Answer::well(text))
}

pub(super) fn roll_back(arguments: &RollbackArguments, config: &Config) -> Result<Answer, Failure> {
    let name = &arguments.name;
    let admin = arguments.admin.address(config);
    let previous = file(config, name, PREVIOUS_SUFFIX)?;
    if !previous.exists() {
        return Err(Failure::Bad(promotion::PromotionError::NoPrevious(previous).to_string()));
    }
    let subject = Subject::read(&previous, config, None)?;
    let before = serving(&admin, name)?;
    promotion::roll_back(&config.policies.dir, name).map_err(|error| Failure::Bad(error.to_string()))?;
    let mut text = followed(&admin, name, subject.sha256, before, config)?;
    text.push_str(&format!(". What was promoted is the candidate again, {name}{SHADOW_SUFFIX}.wasm.\n"));
    Ok(Answer::well(text))
}

/// A policy's file in this role.
fn file(config: &Config, name: &str, suffix: &str) -> Result<PathBuf, Failure> {
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err(Failure::Usage(format!("\"{name}\" is no policy's name; `spillway policy ls` lists them")));
    }
    Ok(config.policies.dir.join(format!("{name}{suffix}.wasm")))
}

/// The policy as the running Spillway has it; `None` when none runs.
fn serving(admin: &AdminAddress, name: &str) -> Result<Option<PolicyStatus>, Failure> {
    Ok(running::policy(admin, name)?.map(Option::unwrap_or_default))
}

/// Waits until the running Spillway serves this file, and says so.
fn followed(
    admin: &AdminAddress,
    name: &str,
    sha256: Sha256Sum,
    before: Option<PolicyStatus>,
    config: &Config,
) -> Result<String, Failure> {
    let takeover_max = if config.policies.interpreted.is_empty() { TAKEOVER_MAX } else { COMPILATION_MAX };
    let label = format!("{name}@{}", sha256.short());
    let Some(before) = before else {
        return Ok(format!("No Spillway answers at {admin}: {label} serves from the next start on"));
    };
    let sha256 = sha256.to_string();
    let had = before.sha256.as_deref().and_then(|hash| hash.get(..8)).map(|hash| format!("{name}@{hash}"));
    let had = had.unwrap_or_else(|| "the built-in policy".to_owned());
    progress(&format!("Waiting until {label} serves in place of {had}"));
    let began = Instant::now();
    loop {
        let policy = serving(admin, name)?.unwrap_or_default();
        if policy.sha256.as_ref() == Some(&sha256) {
            return Ok(format!("{label} serves in place of {had}"));
        }
        if let Some(rejected) = policy.rejected.filter(|rejected| rejected.sha256.as_ref() == Some(&sha256)) {
            return Err(Failure::Bad(format!(
                "the files have changed their names, but the running Spillway does not load {label}: {}; \
                 what served before goes on serving",
                rejected.reason
            )));
        }
        if began.elapsed() > takeover_max {
            return Err(Failure::Bad(format!(
                "the files have changed their names, but the Spillway at {admin} has not taken {label} up within {} s; \
                 does it watch another folder? `spillway policy ls` shows what serves",
                takeover_max.as_secs()
            )));
        }
        thread::sleep(LOOK_EVERY);
    }
}
