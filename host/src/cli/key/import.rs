//! `spillway key import`: keys that were made elsewhere.

use super::{Answer, Failure, Grants, make};
use crate::config::Config;
use crate::keys::digest::{KeyDigest, ends_of};
use crate::keys::file::{KeyFile, check_secret, whose};
use crate::keys::litellm::{self, ForeignKey, LeftOut};
use crate::keys::record::KeyRecord;
use crate::runtime::clock::wall_unix_ms;
use crate::runtime::screen::{self, BAD, DOUBTFUL, GOOD, styled};
use serde_json::json;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

/// Most that is read at once.
const BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The file to read; standard input without one.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    grants: Grants,
    /// Say what would be taken over, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, config: &Config, file: &KeyFile) -> Result<Answer, Failure> {
    arguments.grants.check(config)?;
    let text = read(arguments.file.as_deref())?;
    let found = parse(&text, &arguments.grants.models)?;
    let now_unix_ms = wall_unix_ms();
    let take = |keys: &mut Vec<KeyRecord>| take_over(found, keys, &arguments.grants, now_unix_ms);
    let taken = match arguments.dry_run {
        true => take(&mut file.read()?)?,
        false => file.change(take)?,
    };
    if arguments.json {
        let imported = taken.iter().filter_map(|one| one.as_ref().ok());
        let imported: Vec<_> = imported.map(|(key, notes)| json!({"key": key, "notes": notes})).collect();
        let left_out = taken.iter().filter_map(|one| one.as_ref().err());
        let left_out: Vec<_> = left_out.map(|out| json!({"key": out.label, "why": out.why})).collect();
        let dry_run = arguments.dry_run;
        return Answer::json(&json!({"dry_run": dry_run, "imported": imported, "left_out": left_out}));
    }
    Ok(Answer::out(report(&taken, arguments.dry_run)))
}

fn read(path: Option<&Path>) -> Result<String, Failure> {
    let unreadable = |error: io::Error| {
        let what = path.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
        Failure::Usage(format!("cannot read {what}: {error}"))
    };
    let mut text = String::new();
    let read = match path {
        Some(path) => File::open(path).map_err(unreadable)?.take(BYTES_MAX + 1).read_to_string(&mut text),
        None if io::stdin().is_terminal() => {
            return Err(Failure::Usage(
                "name a file, or give the keys on standard input: spillway key import < keys.txt".to_owned(),
            ));
        }
        None => io::stdin().take(BYTES_MAX + 1).read_to_string(&mut text),
    };
    match read.map_err(unreadable)? as u64 {
        0..=BYTES_MAX => Ok(text),
        _ => Err(Failure::Usage(format!("there are more than {BYTES_MAX} bytes; give fewer keys at once"))),
    }
}

/// LiteLLM's JSON, or a key a line.
fn parse(text: &str, models: &[String]) -> Result<Vec<Result<ForeignKey, LeftOut>>, Failure> {
    match text.trim_start().starts_with(['{', '[']) {
        true => litellm::read(text, models).map_err(|why| Failure::Usage(format!("this is no list of keys: {why}"))),
        false => Ok(plain(text)),
    }
}

/// One key a line, and behind it a name, if it has one. Empty lines, and those that begin with #, say nothing.
fn plain(text: &str) -> Vec<Result<ForeignKey, LeftOut>> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let said = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    said.map(|(number, line)| {
        let (secret, name) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        check_secret(secret).map_err(|why| LeftOut { label: format!("line {number}"), why })?;
        Ok(ForeignKey {
            name: Some(name.trim().to_owned()).filter(|name| !name.is_empty()),
            sha256: KeyDigest::of(secret.as_bytes()),
            ends: ends_of(secret),
            expires_unix_ms: None,
            is_blocked: false,
            models: Vec::new(),
            limits: Vec::new(),
            notes: Vec::new(),
        })
    })
    .collect()
}

/// What became of each.
type Taken = Vec<Result<(KeyRecord, Vec<String>), LeftOut>>;

/// Takes over those that can be, each with what is granted here where it says nothing of its own.
fn take_over(
    found: Vec<Result<ForeignKey, LeftOut>>,
    keys: &mut Vec<KeyRecord>,
    grants: &Grants,
    now_unix_ms: u64,
) -> Result<Taken, Failure> {
    let mut taken = Taken::new();
    for foreign in found {
        let foreign = match foreign {
            Ok(foreign) => foreign,
            Err(out) => {
                taken.push(Err(out));
                continue;
            }
        };
        let label = foreign.name.clone().unwrap_or_else(|| format!("the key that ends with {}", foreign.ends));
        if let Some(index) = whose(keys, &foreign.sha256) {
            taken.push(Err(LeftOut { label, why: format!("it is there already, as {}", keys[index].id) }));
            continue;
        }
        let mut key = KeyRecord::new(make::new_id_beside(keys)?, "", now_unix_ms);
        (key.sha256, key.ends, key.name) = (foreign.sha256, foreign.ends, foreign.name);
        grants.give(&mut key, now_unix_ms)?;
        key.revoked_unix_ms = foreign.is_blocked.then_some(now_unix_ms);
        // The earlier end, and the narrower list.
        key.expires_unix_ms = [foreign.expires_unix_ms, key.expires_unix_ms].into_iter().flatten().min();
        if !foreign.models.is_empty() {
            key.models = foreign.models;
        }
        key.limits = foreign.limits.into_iter().chain(std::mem::take(&mut key.limits)).collect();
        if let Err(why) = key.check() {
            taken.push(Err(LeftOut { label, why }));
            continue;
        }
        keys.push(key.clone());
        taken.push(Ok((key, foreign.notes)));
    }
    Ok(taken)
}

fn report(taken: &Taken, is_dry: bool) -> String {
    let mut text = String::new();
    for one in taken {
        match one {
            Ok((key, notes)) => {
                let mut said = vec![key.limits.iter().map(|limit| limit.limit.clone()).collect::<Vec<_>>().join(", ")];
                said.extend(key.revoked_unix_ms.map(|_| styled(BAD, "blocked there, and revoked here")));
                said.extend(notes.iter().map(|note| styled(DOUBTFUL, note)));
                said.retain(|part| !part.is_empty());
                let said = if said.is_empty() { String::new() } else { format!(": {}", said.join("; ")) };
                text.push_str(&format!(
                    "{} {}{said}\n",
                    styled(GOOD, &key.id),
                    key.name.as_deref().unwrap_or_default()
                ));
            }
            Err(out) => text.push_str(&format!("{} {}: {}\n", styled(BAD, "left out"), out.label, out.why)),
        }
    }
    let count = taken.iter().filter(|one| one.is_ok()).count();
    let left = taken.len() - count;
    let would = if is_dry { "would be taken over" } else { "taken over" };
    text.push_str(&format!("{} {would}, {left} left out.\n", screen::counted(count as u64, "key")));
    text
}
