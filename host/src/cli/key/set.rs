//! `spillway key set`: other things that a key may do.

use super::{Answer, Failure, Grants, find, list, show};
use crate::config::Config;
use crate::keys::file::KeyFile;
use crate::keys::record::{KeyRecord, KeyState};
use crate::runtime::clock::wall_unix_ms;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Its id, or its name.
    #[arg(value_name = "KEY")]
    key: String,
    /// What people call it.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    grants: Grants,
    /// What is taken away, as if it had never been said; may be given several times.
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    clear: Vec<Part>,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

/// A part of what a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Name,
    Group,
    Tenant,
    Models,
    Routes,
    Priority,
    Expires,
    Limits,
    SoftLimits,
    WhenExhausted,
    MaxTokensPerRequest,
    MaxTokensPerHour,
}

pub(super) fn run(arguments: &Arguments, config: &Config, file: &KeyFile) -> Result<Answer, Failure> {
    arguments.grants.check(config)?;
    let now_unix_ms = wall_unix_ms();
    let changed = file.change(|keys| {
        let index = find(keys, &arguments.key)?;
        if let Some(name) = &arguments.name {
            let others = keys.iter().enumerate().filter(|(other, _)| *other != index);
            super::check_name_is_free(name, others.map(|(_, key)| key))?;
        }
        let key = &mut keys[index];
        if key.state(now_unix_ms) == KeyState::Revoked {
            let label = key.label();
            return Err(Failure::Usage(format!("{label} is revoked, for ever; make another: spillway key new")));
        }
        arguments.change(key, now_unix_ms)?;
        Ok(key.clone())
    })?;
    match arguments.json {
        true => Answer::json(&list::as_json(&changed, now_unix_ms)?),
        false => Ok(Answer::out(show::page(&changed, now_unix_ms))),
    }
}

impl Arguments {
    /// Takes away first, and then gives: what is said takes the place of what was.
    fn change(&self, key: &mut KeyRecord, now_unix_ms: u64) -> Result<(), Failure> {
        for part in &self.clear {
            part.clear(key);
        }
        for (said, part) in [(&self.grants.limits, Part::Limits), (&self.grants.soft_limits, Part::SoftLimits)] {
            if !said.is_empty() {
                part.clear(key);
            }
        }
        if self.name.is_some() {
            key.name.clone_from(&self.name);
        }
        self.grants.give(key, now_unix_ms)
    }
}

impl Part {
    fn clear(self, key: &mut KeyRecord) {
        match self {
            Part::Name => key.name = None,
            Part::Group => key.group = None,
            Part::Tenant => key.tenant = None,
            Part::Models => key.models.clear(),
            Part::Routes => key.routes.clear(),
            Part::Priority => key.priority = None,
            Part::Expires => key.expires_unix_ms = None,
            Part::Limits => key.limits.retain(|limit| limit.soft),
            Part::SoftLimits => key.limits.retain(|limit| !limit.soft),
            Part::WhenExhausted => key.when_exhausted = None,
            Part::MaxTokensPerRequest => key.max_tokens_per_request = None,
            Part::MaxTokensPerHour => key.max_tokens_per_hour = None,
        }
    }
}
