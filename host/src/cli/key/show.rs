//! `spillway key show`: all that is known of a key.

use super::{Answer, Failure, find, list, words};
use crate::keys::file::KeyFile;
use crate::keys::record::KeyRecord;
use crate::runtime::clock::wall_unix_ms;
use crate::runtime::screen::{self, ASIDE, HEADING, styled};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Its id, or its name.
    #[arg(value_name = "KEY")]
    key: String,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, file: &KeyFile) -> Result<Answer, Failure> {
    let (keys, now_unix_ms) = (file.read()?, wall_unix_ms());
    let key = &keys[find(&keys, &arguments.key)?];
    match arguments.json {
        true => Answer::json(&list::as_json(key, now_unix_ms)?),
        false => Ok(Answer::out(page(key, now_unix_ms))),
    }
}

/// How wide the names of what is said are.
const MARGIN: usize = 11;

pub(super) fn page(key: &KeyRecord, now_unix_ms: u64) -> String {
    let name = key.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let mut page = format!("{}{name}: {}\n", styled(HEADING, &key.id), words::state(key, now_unix_ms));
    let mut say = |what: &str, said: &str| {
        let before = format!("{}{:width$}", styled(ASIDE, what), "", width = MARGIN.saturating_sub(what.len()));
        page.push_str(&screen::wrapped(&before, MARGIN, said, screen::columns()));
    };
    let or_none = |text: &Option<String>, none: &str| text.clone().unwrap_or_else(|| styled(ASIDE, none));
    say("ends", &words::ends(&key.ends));
    say("made", &words::date(key.created_unix_ms));
    say("expires", &key.expires_unix_ms.map_or_else(|| styled(ASIDE, "never"), words::date));
    if let Some(revoked) = key.revoked_unix_ms {
        say("revoked", &words::date(revoked));
    }
    say("group", &or_none(&key.group, "none"));
    say("tenant", &or_none(&key.tenant, if key.group.is_some() { "its group" } else { "itself" }));
    say("priority", &or_none(&key.priority, "normal, and any may be asked for"));
    say("models", &words::listed(&key.models, "all"));
    say("routes", &words::listed(&key.routes, "all"));
    match &key.limits[..] {
        [] => say("limits", &styled(ASIDE, "none")),
        limits => limits.iter().for_each(|limit| say("limit", &words::limit(limit))),
    }
    if let Some(route) = &key.when_exhausted {
        say("exhausted", &format!("goes on along the route {route}"));
    }
    for (what, most) in [("request", key.max_tokens_per_request), ("hour", key.max_tokens_per_hour)] {
        match most {
            None => {}
            Some(0) => say("guard", &format!("any number of tokens per {what}")),
            Some(most) => say("guard", &format!("{most} tokens per {what}")),
        }
    }
    for former in &key.former {
        let counts = if former.until_unix_ms > now_unix_ms { "counts until" } else { "counted until" };
        say("former", &format!("{} {counts} {}", words::ends(&former.ends), words::date(former.until_unix_ms)));
    }
    page
}
