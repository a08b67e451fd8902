//! What `spillway init` writes: the things that people change, for the providers that a shell tells of.

use super::draft::Draft;
use crate::cli::providers::Found;
use crate::dialect::Dialect;
use crate::runtime::unix_socket;
use std::net::SocketAddr;

/// The route in the file.
const ROUTE: &str = "routes.fallback";

/// A fallback within the providers of one API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fallback<'a> {
    /// Who is meant.
    pub(super) first: &'a Found,
    /// Who stands in.
    pub(super) second: &'a Found,
    /// Whether it is in force: a stand-in on this machine wants no key. One that wants a key gets it from Spillway,
    /// which nobody but the operator can permit.
    pub(super) is_live: bool,
}

/// The fallback that these providers allow: a request is not translated, so both speak one API.
pub(super) fn fallback(found: &[Found]) -> Option<Fallback<'_>> {
    let pairs = found.iter().enumerate().flat_map(|(index, first)| {
        let later = found.iter().skip(index + 1).filter(|second| second.dialect == first.dialect);
        later.map(move |second| Fallback { first, second, is_live: second.key.is_none() })
    });
    // One that can serve as it stands is worth more than one that is nearer.
    let pairs: Vec<_> = pairs.collect();
    pairs.iter().find(|pair| pair.is_live).or(pairs.first()).copied()
}

/// The text of the file. `listen` is where callers reach Spillway.
pub(super) fn content(found: &[Found], listen: SocketAddr) -> String {
    let mut draft = Draft::default();
    introduce(&mut draft);
    server(&mut draft);
    upstreams(&mut draft, found, listen);
    route(&mut draft, found);
    rest(&mut draft);
    draft.finish()
}

fn introduce(draft: &mut Draft) {
    draft.say(
        "What people change of Spillway's settings, written by `spillway init`. A line that begins with # and a space \
         explains; one that begins with # alone is a setting to be taken by deleting its #. Unless the line above it \
         says otherwise it holds the default.",
    );
    draft.say(
        "`spillway check` lists every mistake, `spillway doctor` says whether it can work here, and `spillway config \
         reference` has every key there is. A changed file takes a restart.",
    );
    draft.space();
}

fn server(draft: &mut Draft) {
    draft.table("server");
    draft.explained("listen");
    draft.explained("request_timeout");
    draft.explained("max_in_flight");
    draft.example("access_key_env", "\"SPILLWAY_ACCESS_KEY\"");
    if unix_socket::EXIST {
        draft.example("unix_socket", "\"spillway.sock\"");
    }
    draft.space();
    draft.table("admin");
    draft.explained("listen");
    draft.space();
}

fn upstreams(draft: &mut Draft, found: &[Found], listen: SocketAddr) {
    if found.is_empty() {
        draft.say(
            "No variable of the shell told of a provider. OpenAI, Anthropic and Gemini are served without being named; \
             others take a `url`.",
        );
        let openai = Found {
            name: "openai",
            variables: Vec::new(),
            key: Some("OPENAI_API_KEY"),
            url: None,
            is_known: true,
            dialect: Dialect::OpenAi,
            model: "",
        };
        upstream(draft, &openai, true, listen);
        return;
    }
    draft.say(
        "The providers that variables of the shell told of. Applications send their own keys, as ever, and Spillway \
         passes them on: it needs none. OpenAI, Anthropic and Gemini are served without being named.",
    );
    for (index, found) in found.iter().enumerate() {
        upstream(draft, found, index == 0, listen);
    }
}

fn upstream(draft: &mut Draft, found: &Found, explain: bool, listen: SocketAddr) {
    let path = format!("upstreams.{}", found.name);
    draft.space();
    draft.table(&path);
    if let Some(url) = &found.url {
        draft.set("url", &quoted(url));
    }
    if found.dialect != Dialect::OpenAi && !found.is_known {
        draft.set("dialect", &quoted(found.dialect.as_str()));
    }
    if !found.is_known {
        draft.say(&format!("Applications reach it at {}.", base_url(found, listen)));
    }
    if let Some(key) = found.key {
        if explain {
            draft.say(
                "A key of Spillway's own for it, in a variable or a file, never here. Take `access_key_env` with it: who \
                 shows the access key where a provider's would stand spends this one.",
            );
        }
        draft.bare_example("api_key_env", &quoted(key));
    }
    let key = if explain { Draft::explained } else { Draft::choice };
    key(draft, "first_content_timeout");
    key(draft, "policy");
    draft.table(&format!("{path}.limits"));
    if explain {
        draft.say(
            "The quota that the provider gives you, so that it is not overrun. There is none by default; examples:",
        );
    }
    draft.bare_example("requests_per_minute", "500");
    draft.bare_example("tokens_per_minute", "200000");
    key(draft, "patience");
}

/// Where an application reaches an upstream that no API stands for.
pub(super) fn base_url(found: &Found, listen: SocketAddr) -> String {
    // Azure's own SDK writes the whole path, and others' wants the version in its base.
    let version = if found.name == "azure" { "" } else { "/v1" };
    format!("http://{listen}/{}{version}", found.name)
}

fn route(draft: &mut Draft, found: &[Found]) {
    draft.space();
    let Some(Fallback { first, second, is_live }) = fallback(found) else {
        let one = found.first();
        let (name, model) = one.map_or(("openai", "gpt-5-mini"), |found| (found.name, found.model));
        draft.say(&format!(
            "A fallback: where {name} cannot serve what was asked for, another target does, here another model. \
             Targets of a route speak one API. Behind the first one each takes a key of Spillway's own: `api_key_env` \
             above. `open_to_local` lets whatever runs on this machine spend it."
        ));
        draft.choice_of_table(ROUTE);
        draft.set("targets", &format!("[{}, {}]", quoted(name), quoted(&format!("{name}/{model}"))));
        draft.set("open_to_local", "true");
        draft.space();
        return;
    };
    let target = format!("{}/{}", second.name, second.model);
    if is_live {
        draft.say(&format!(
            "A fallback, in force: where {} cannot serve a chat, {} does, with this model. Its answers are marked as \
             degraded. Delete the route if an error is better than another model's answer.",
            first.name, second.name
        ));
        draft.table(ROUTE);
    } else {
        draft.say(&format!(
            "A fallback: where {} cannot serve a chat, {} does, with this model. It takes a key of Spillway's own for \
             {}: `api_key_env` above. `open_to_local` lets whatever runs on this machine spend it.",
            first.name, second.name, second.name
        ));
        draft.choice_of_table(ROUTE);
    }
    let target = if is_live { format!("{{ target = {}, degraded = true }}", quoted(&target)) } else { quoted(&target) };
    draft.set("targets", &format!("[{}, {target}]", quoted(first.name)));
    if first.dialect == Dialect::OpenAi {
        draft.set("path", "\"/v1/chat/*\"");
    }
    if !is_live {
        draft.set("open_to_local", "true");
    }
    draft.space();
}

fn rest(draft: &mut Draft) {
    draft.table("policies");
    draft.explained("dir");
    draft.space();
    draft.table("spool");
    for key in ["enabled", "dir", "max_size", "retention"] {
        draft.explained(key);
    }
    draft.space();
    draft.table("log");
    draft.explained("format");
    draft.example("requests", "\"requests.jsonl\"");
}

/// A string as TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
