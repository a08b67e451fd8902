//! `spillway key`: virtual keys, one file per command.
//!
//! They change and read the file of keys, whether a Spillway runs or not; one that runs follows the file. A key itself
//! is printed once, alone on standard output, so that a script can take it; what is said about it goes to standard
//! error.

mod import;
mod list;
mod make;
mod revoke;
mod rotate;
mod set;
mod show;
mod words;

use crate::config::{Config, Purpose};
use crate::keys::file::{KeyFile, KeyFileError};
use crate::keys::record::{KeyLimit, KeyRecord};
use crate::runtime::screen;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// `spillway key …`
#[derive(Debug, Args)]
pub struct KeyArguments {
    /// The configuration; spillway.toml is read if it exists.
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key, and print it: this once, since only a hash of it is kept.
    New(make::Arguments),
    /// List the keys, and how each stands.
    Ls(list::Arguments),
    /// Show what a key may do.
    Show(show::Arguments),
    /// Change what a key may do. What is said takes the place of what was, and all else stays.
    ///
    /// A Spillway that runs takes it within a second, and what the key has used stays.
    Set(Box<set::Arguments>),
    /// Give a key another secret, and print that. The old one counts for a while beside it.
    ///
    /// The key stays what it is: its id, its limits, and what it has used of them.
    Rotate(rotate::Arguments),
    /// Revoke keys, for ever. What is under way with them ends within a second.
    Revoke(revoke::Arguments),
    /// Take over keys that were made elsewhere: from a file or standard input, never from the command line.
    ///
    /// Either one key a line, with a name behind it if it has one; or what LiteLLM's /key/list
    /// (return_full_object=true) or /key/info answers, whose keys are hashed as Spillway's are.
    Import(import::Arguments),
}

/// What a key may do, as commands are told it.
#[derive(Debug, Default, Args)]
struct Grants {
    /// The group whose limits hold as well.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// The tenant that its requests are of; by default its group, or else the key itself.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// The models that it may ask for, * standing for anything; by default all.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    models: Vec<String>,
    /// The routes and upstreams that may serve it; by default all.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    routes: Vec<String>,
    /// The highest priority of its requests, and what they have if they ask for none: high, normal or low.
    #[arg(long, value_name = "PRIORITY")]
    priority: Option<String>,
    /// When it stops to count: in so long (90d, 12h), or at a moment (2027-01-31, 2027-01-31T12:00:00Z); by default
    /// never.
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// What it may use, such as "$5 per day" or "1000 requests per minute"; may be given several times.
    #[arg(long = "limit", value_name = "LIMIT")]
    limits: Vec<String>,
    /// The same for a limit that only warns.
    #[arg(long = "soft-limit", value_name = "LIMIT")]
    soft_limits: Vec<String>,
    /// The route along which its calls go on that one of its limits has refused; by default what its group says.
    #[arg(long, value_name = "ROUTE")]
    when_exhausted: Option<String>,
    /// Most tokens that one of its requests may cost; 0 for any number, whatever is said of its group.
    #[arg(long, value_name = "TOKENS")]
    max_tokens_per_request: Option<u64>,
    /// Tokens after which it gets no further request until less was used within an hour; 0 for any number.
    #[arg(long, value_name = "TOKENS")]
    max_tokens_per_hour: Option<u64>,
}

impl Grants {
    /// Gives a key what is said here, and leaves the rest of it as it is.
    fn give(&self, key: &mut KeyRecord, now_unix_ms: u64) -> Result<(), Failure> {
        let texts = [
            (&self.group, &mut key.group),
            (&self.tenant, &mut key.tenant),
            (&self.priority, &mut key.priority),
            (&self.when_exhausted, &mut key.when_exhausted),
        ];
        for (said, place) in texts {
            if said.is_some() {
                place.clone_from(said);
            }
        }
        for (said, place) in [(&self.models, &mut key.models), (&self.routes, &mut key.routes)] {
            if !said.is_empty() {
                place.clone_from(said);
            }
        }
        let limit = |soft| move |limit: &String| KeyLimit { limit: limit.clone(), soft };
        key.limits.extend(self.limits.iter().map(limit(false)).chain(self.soft_limits.iter().map(limit(true))));
        for (said, place) in [
            (self.max_tokens_per_request, &mut key.max_tokens_per_request),
            (self.max_tokens_per_hour, &mut key.max_tokens_per_hour),
        ] {
            *place = said.or(*place);
        }
        if let Some(expires) = &self.expires {
            key.expires_unix_ms = words::moment(expires, now_unix_ms).map_err(Failure::Usage)?;
        }
        key.check().map_err(Failure::Usage)
    }

    /// Whether the configuration has what is named here.
    fn check(&self, config: &Config) -> Result<(), Failure> {
        let known = || config.routes.iter().map(|(name, _)| name).chain(config.upstreams.keys().map(String::as_str));
        if let Some(group) = self.group.as_ref().filter(|group| !config.groups.contains_key(*group)) {
            return Err(Failure::Usage(format!(
                "the configuration has no [groups.{group}]; add it, or choose another --group"
            )));
        }
        if let Some(route) = self.when_exhausted.as_ref().filter(|route| !config.routes.has(route)) {
            return Err(Failure::Usage(format!(
                "the configuration has no [routes.{route}]; add it, or choose another --when-exhausted"
            )));
        }
        match self.routes.iter().find(|route| !known().any(|name| name == *route)) {
            None => Ok(()),
            Some(route) => Err(Failure::Usage(format!(
                "the configuration has no route or upstream {route}; it has {}",
                known().collect::<Vec<_>>().join(", ")
            ))),
        }
    }
}

/// What a command has to say.
struct Answer {
    /// For whoever asked, or for a program.
    out: String,
    /// Beside that.
    aside: String,
}

impl Answer {
    fn out(out: String) -> Answer {
        Answer { out, aside: String::new() }
    }

    /// As one JSON document.
    fn json(value: &impl Serialize) -> Result<Answer, Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Bad(error.to_string()))?;
        Ok(Answer::out(text + "\n"))
    }
}

/// Why a command has no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Failure {
    /// What was to be done failed.
    #[error("{0}")]
    Bad(String),
    /// Arguments or configuration are wrong.
    #[error("{0}")]
    Usage(String),
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Failure {
        Failure::Bad(error.to_string())
    }
}

/// Runs a command. Exit codes: 0 if it is done, 1 if it could not be, 2 for what is to be mended in arguments and
/// configuration.
pub fn run(arguments: KeyArguments) -> ExitCode {
    let answer = Config::load(arguments.config.as_deref(), Purpose::Look)
        .map_err(|error| Failure::Usage(error.to_string()))
        .and_then(|config| arguments.command.run(&config, &KeyFile::at(config.key_file())));
    match answer {
        Ok(Answer { out, aside }) => {
            screen::print(&out);
            screen::complain(&aside);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            screen::complain(&format!("spillway: {failure}\n"));
            match failure {
                Failure::Bad(_) => ExitCode::FAILURE,
                Failure::Usage(_) => ExitCode::from(2),
            }
        }
    }
}

impl KeyCommand {
    fn run(&self, config: &Config, file: &KeyFile) -> Result<Answer, Failure> {
        match self {
            KeyCommand::New(arguments) => make::run(arguments, config, file),
            KeyCommand::Ls(arguments) => list::run(arguments, file),
            KeyCommand::Show(arguments) => show::run(arguments, file),
            KeyCommand::Set(arguments) => set::run(arguments, config, file),
            KeyCommand::Rotate(arguments) => rotate::run(arguments, file),
            KeyCommand::Revoke(arguments) => revoke::run(arguments, file),
            KeyCommand::Import(arguments) => import::run(arguments, config, file),
        }
    }
}

/// The key of this id, or else of this name, if it is one key's alone.
fn find(keys: &[KeyRecord], word: &str) -> Result<usize, Failure> {
    if let Some(index) = keys.iter().position(|key| key.id == word) {
        return Ok(index);
    }
    let named: Vec<usize> =
        keys.iter().enumerate().filter(|(_, key)| key.name.as_deref() == Some(word)).map(|(index, _)| index).collect();
    match named[..] {
        [index] => Ok(index),
        [] => Err(Failure::Usage(format!("there is no key {word}; `spillway key ls` lists those that there are"))),
        [..] => {
            let ids: Vec<&str> = named.iter().map(|index| &*keys[*index].id).collect();
            Err(Failure::Usage(format!("several keys are called {word}; say which: {}", ids.join(", "))))
        }
    }
}

/// Whether nobody else of these is called so.
fn check_name_is_free<'a>(name: &str, others: impl IntoIterator<Item = &'a KeyRecord>) -> Result<(), Failure> {
    match others.into_iter().find(|other| other.name.as_deref() == Some(name)) {
        None => Ok(()),
        Some(other) => Err(Failure::Usage(format!("{} is called {name} already; choose another --name", other.id))),
    }
}

#[cfg(test)]
mod tests;
