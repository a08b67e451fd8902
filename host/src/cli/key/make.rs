//! `spillway key new`: a key that nobody has had.

use super::{Answer, Failure, Grants, check_name_is_free, words};
use crate::config::Config;
use crate::keys::digest::{new_id, new_key};
use crate::keys::file::KeyFile;
use crate::keys::record::KeyRecord;
use crate::runtime::clock::wall_unix_ms;
use crate::runtime::screen::{self, ASIDE, COMMAND, DOUBTFUL, styled};
use serde_json::json;

/// What is to be known of the limits of the first key.
const LIMITS_BEGIN: &str = "What is spent is kept where there are keys: a Spillway that runs holds these limits from its \
                            next start on.\n";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What people call it, such as the application that has it.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    grants: Grants,
    /// Print it as JSON, with what is kept of it.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, config: &Config, file: &KeyFile) -> Result<Answer, Failure> {
    arguments.grants.check(config)?;
    let (secret, now_unix_ms) = (new_key().map_err(Failure::Bad)?, wall_unix_ms());
    let is_first = !file.path().exists();
    let made = file.change(|keys| {
        let mut key = KeyRecord::new(new_id_beside(keys)?, &secret, now_unix_ms);
        key.name.clone_from(&arguments.name);
        arguments.grants.give(&mut key, now_unix_ms)?;
        if let Some(name) = &key.name {
            check_name_is_free(name, &*keys)?;
        }
        keys.push(key.clone());
        Ok::<_, Failure>(key)
    })?;
    if arguments.json {
        return Answer::json(&json!({"key": secret, "record": made}));
    }
    let mut answer = told(&secret, &made, file, "is made");
    if is_first && !made.limits.is_empty() && !config.keeps_ledger() {
        answer.aside.push_str(&styled(DOUBTFUL, LIMITS_BEGIN));
    }
    Ok(answer)
}

/// An id that none of these has.
pub(super) fn new_id_beside(keys: &[KeyRecord]) -> Result<String, Failure> {
    /// With a hundred thousand keys, each try finds one that is taken once in forty thousand.
    const TRIES_MAX: usize = 16;
    for _ in 0..TRIES_MAX {
        let id = new_id().map_err(Failure::Bad)?;
        if keys.iter().all(|key| key.id != id) {
            return Ok(id);
        }
    }
    Err(Failure::Bad("no id was found that is not taken; try again".to_owned()))
}

/// The key, and how it is used.
pub(super) fn told(secret: &str, key: &KeyRecord, file: &KeyFile, what: &str) -> Answer {
    let name = key.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let until = key.expires_unix_ms.map(|at| format!(" It counts until {}.", words::date(at))).unwrap_or_default();
    let told = format!("{}{name} {what}.{until} The key above is shown this once: only its hash is kept.", key.id);
    let used = format!(
        "Give it to an application in the place of a provider's key ({}, {}, {}), with the base URLs that {} prints. A \
         Spillway that runs takes it within a second.",
        styled(COMMAND, "OPENAI_API_KEY"),
        styled(COMMAND, "ANTHROPIC_API_KEY"),
        styled(COMMAND, "GEMINI_API_KEY"),
        styled(COMMAND, "spillway env"),
    );
    let kept = styled(ASIDE, format!("Keys are kept in {}.", file.path().display()));
    let lines = [told, used].map(|text| screen::wrapped("", 0, &text, screen::columns()));
    Answer { out: format!("{secret}\n"), aside: format!("\n{}{kept}\n", lines.concat()) }
}
