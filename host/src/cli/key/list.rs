//! `spillway key ls`: all keys, and how each stands.

use super::{Answer, Failure, words};
use crate::keys::file::KeyFile;
use crate::keys::record::KeyRecord;
use crate::runtime::clock::wall_unix_ms;
use crate::runtime::screen::{self, COMMAND, styled};
use serde::Serialize;
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Leave out those that are expired or revoked.
    #[arg(long)]
    valid: bool,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, file: &KeyFile) -> Result<Answer, Failure> {
    let now_unix_ms = wall_unix_ms();
    let mut keys = file.read()?;
    if arguments.valid {
        keys.retain(|key| key.state(now_unix_ms) == crate::keys::record::KeyState::Valid);
    }
    if arguments.json {
        let keys: Result<Vec<Value>, Failure> = keys.iter().map(|key| as_json(key, now_unix_ms)).collect();
        return Answer::json(&json!({"file": file.path(), "keys": keys?}));
    }
    if keys.is_empty() {
        let (file, new) = (file.path().display(), styled(COMMAND, "spillway key new --name NAME"));
        let which = if arguments.valid { "key that counts" } else { "key" };
        return Ok(Answer::out(format!("There is no {which} in {file}. Make one with {new}.\n")));
    }
    Ok(Answer::out(table(&keys, now_unix_ms)))
}

/// A key with how it stands; nothing of its secrets but their hashes and ends.
pub(super) fn as_json(key: &KeyRecord, now_unix_ms: u64) -> Result<Value, Failure> {
    #[derive(Serialize)]
    struct Shown<'a> {
        state: &'static str,
        #[serde(flatten)]
        key: &'a KeyRecord,
    }
    let shown = Shown { state: key.state(now_unix_ms).as_str(), key };
    serde_json::to_value(shown).map_err(|error| Failure::Bad(error.to_string()))
}

fn table(keys: &[KeyRecord], now_unix_ms: u64) -> String {
    let mut table = screen::table(["ID", "NAME", "STATE", "ENDS", "EXPIRES", "GROUP", "LIMITS"]);
    for key in keys {
        table.add_row([
            key.id.clone(),
            key.name.clone().unwrap_or_default(),
            words::state(key, now_unix_ms),
            words::ends(&key.ends),
            key.expires_unix_ms.map(words::day).unwrap_or_default(),
            key.group.clone().unwrap_or_default(),
            key.limits.iter().map(words::limit).collect::<Vec<_>>().join("\n"),
        ]);
    }
    // The table pads its last column as well.
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}
