//! `spillway key rotate`: another secret for a key.

use super::{Answer, Failure, find, make, words};
use crate::keys::digest::{KeyDigest, ends_of, new_key};
use crate::keys::file::KeyFile;
use crate::keys::record::{FORMER_MAX, FormerSecret, KeyRecord, KeyState};
use crate::runtime::clock::{milliseconds, wall_unix_ms};
use serde_json::json;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Its id, or its name.
    #[arg(value_name = "KEY")]
    key: String,
    /// For how long the old secret counts beside the new one; 0s: not at all.
    // Time to bring the new one to wherever the old one is.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
    grace: Duration,
    /// Print it as JSON, with what is kept of it.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, file: &KeyFile) -> Result<Answer, Failure> {
    let (secret, now_unix_ms) = (new_key().map_err(Failure::Bad)?, wall_unix_ms());
    let until_unix_ms = now_unix_ms.saturating_add(milliseconds(arguments.grace));
    let rotated = file.change(|keys| {
        let index = find(keys, &arguments.key)?;
        rotate(&mut keys[index], &secret, now_unix_ms, until_unix_ms)?;
        Ok::<_, Failure>(keys[index].clone())
    })?;
    if arguments.json {
        return Answer::json(&json!({"key": secret, "record": rotated}));
    }
    let mut answer = make::told(&secret, &rotated, file, "has another secret");
    let old = match arguments.grace {
        Duration::ZERO => "The old one counts no more.".to_owned(),
        _ => format!("The old one counts beside it until {}.", words::date(until_unix_ms)),
    };
    answer.aside.push_str(&format!("{old}\n"));
    Ok(answer)
}

/// Gives a key this secret; the one before it, and those before that, count no longer than until then.
fn rotate(key: &mut KeyRecord, secret: &str, now_unix_ms: u64, until_unix_ms: u64) -> Result<(), Failure> {
    match key.state(now_unix_ms) {
        KeyState::Revoked => {
            return Err(Failure::Usage(format!(
                "{} is revoked, for ever; make another: spillway key new",
                key.label()
            )));
        }
        KeyState::Expired => {
            return Err(Failure::Usage(format!("{} is expired; make another: spillway key new", key.label())));
        }
        KeyState::Valid => {}
    }
    for former in &mut key.former {
        former.until_unix_ms = former.until_unix_ms.min(until_unix_ms);
    }
    let former = FormerSecret { sha256: key.sha256, ends: std::mem::take(&mut key.ends), until_unix_ms };
    key.former.insert(0, former);
    key.former.truncate(FORMER_MAX);
    (key.sha256, key.ends) = (KeyDigest::of(secret.as_bytes()), ends_of(secret));
    Ok(())
}
