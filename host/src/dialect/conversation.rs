//! By what one conversation is told from others: turns of the same one are served best where the last was, since what
//! they repeat is cached there.

use super::headers::CONVERSATION_HEADER;
use super::{Dialect, has_key, raw};
use http::HeaderMap;
use sha2::{Digest, Sha256};
use std::hash::Hasher;

/// Headers in which clients name their session, those first that mean nothing else.
const SESSION_HEADERS: [&str; 10] = [
    // Whoever knows Spillway says it to Spillway.
    CONVERSATION_HEADER,
    // Claude Code.
    "x-claude-code-session-id",
    // OpenCode, at its own gateway and elsewhere; Fireworks asks for the latter.
    "x-opencode-session",
    "x-session-affinity",
    // Amp.
    "x-amp-thread-id",
    // xAI asks for it.
    "x-grok-conv-id",
    // Codex, today and formerly.
    "session-id",
    "session_id",
    "conversation_id",
    // OpenCode and others.
    "x-session-id",
];

/// What a client may say in another way each time that it asks for the same: of itself, and how it takes the answer.
const NOT_ASKED: [&str; 6] = ["metadata", "user", "safety_identifier", "prompt_cache_key", "stream", "stream_options"];

/// What stands in the user of Anthropic's metadata where it names a session of Claude Code's.
const SESSION_OF_USER: &[u8] = b"session_";

/// How deep marks of caches stand in what is repeated: in an object of a list.
const MARKS_DEPTH: u32 = 2;

/// What tells the conversation, so that the words of one kind are never another's.
#[derive(Clone, Copy, Debug)]
enum Teller {
    CacheKey,
    Session,
    User,
    Id,
    Beginning,
}

/// A hash that all turns of a conversation share, and no other conversation does; whose it is must be added to it.
///
/// The first of these tells it: the caller's key for prompt caches; a header that names a session; the user of
/// Anthropic's metadata, which holds Claude Code's session; the id of a conversation that is kept at the provider;
/// what it begins with, which is the system's prompt, the tools and the user's first message. `None` where it has
/// none of them.
pub(crate) fn conversation(dialect: Dialect, path: &str, headers: &HeaderMap, body: &[u8]) -> Option<[u8; 32]> {
    let read = |body| if dialect == Dialect::Other { None } else { Said::of(body) };
    let mut said = None;
    if has_key(body, b"\"prompt_cache_key\"") {
        said = read(body);
        if let Some(key) = said.as_ref().and_then(|said| meant(said.cache_key)) {
            return Some(hash(Teller::CacheKey, key.as_bytes()));
        }
    }
    if let Some(session) = session(headers) {
        return Some(hash(Teller::Session, session));
    }
    let said = said.or_else(|| read(body))?;
    if let Some(user) = said.user() {
        return Some(hash(Teller::User, user.as_bytes()));
    }
    if let Some(id) = said.id() {
        return Some(hash(Teller::Id, id.as_bytes()));
    }
    said.beginning(path)
}

/// By what a request is told from others of its caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// A hash of the name that its client gives to the conversation: in a header that means nothing else, in Claude
    /// Code's metadata, or as the id of a conversation that is kept at the provider.
    pub named: Option<[u8; 32]>,
    /// A hash of what the conversation begins with, and how many bytes have been said in it so far. What it begins with
    /// may be another's beginning too. `None` where earlier turns are kept at the provider, and are not in the request.
    pub begun: Option<([u8; 32], usize)>,
}

/// By what a request is told from others of its caller, by its conversation's beginning only where that is `wanted`; and
/// what it asks for, as far as it would be said again if the same were asked for: that goes into `asked`.
pub(crate) fn told(
    dialect: Dialect,
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
    wanted: bool,
    mut asked: Option<&mut impl Hasher>,
) -> Told {
    if let Some(asked) = &mut asked {
        asked.write(path.as_bytes());
    }
    let read = Said::read(body, |key, value| {
        if let Some(asked) = asked.as_mut().filter(|_| !NOT_ASKED.contains(&key)) {
            asked.write(key.as_bytes());
            asked.write(value.as_bytes());
        }
    });
    let session = session(headers).map(|session| hash(Teller::Session, session));
    let Some(said) = read else {
        if let Some(asked) = &mut asked {
            asked.write(body);
        }
        return Told { named: session, begun: None };
    };
    let user = || {
        let user = said.user().filter(|user| memchr::memmem::find(user.as_bytes(), SESSION_OF_USER).is_some())?;
        Some(hash(Teller::User, user.as_bytes()))
    };
    let id = || said.id().map(|id| hash(Teller::Id, id.as_bytes()));
    let named = session.or_else(user).or_else(id);
    let is_kept = said.id().is_some() || meant(said.previous).is_some();
    let length = said.turns.map_or(0, |(turns, _)| turns.len());
    let is_read = wanted && dialect != Dialect::Other && !is_kept && named.is_none();
    let begun = if is_read { said.beginning(path).map(|hash| (hash, length)) } else { None };
    Told { named, begun }
}

/// What names a client's session in its headers.
fn session(headers: &HeaderMap) -> Option<&[u8]> {
    let mut sessions = SESSION_HEADERS.iter().filter_map(|name| headers.get(*name));
    sessions.find(|session| !session.is_empty()).map(|session| session.as_bytes())
}

/// The text that is written there, still as JSON; `None` for an empty one and for anything else.
fn meant(written: Option<&str>) -> Option<&str> {
    written.filter(|written| written.starts_with('"') && *written != "\"\"")
}

fn hasher(teller: Teller) -> Sha256 {
    Sha256::new().chain_update([teller as u8])
}

fn hash(teller: Teller, word: &[u8]) -> [u8; 32] {
    hasher(teller).chain_update(word).finalize().into()
}

/// What a body says of the conversation, as it is written.
#[derive(Default)]
struct Said<'b> {
    cache_key: Option<&'b str>,
    metadata: Option<&'b str>,
    conversation: Option<&'b str>,
    /// The answer that this request goes on from, which is kept at the provider.
    previous: Option<&'b str>,
    /// What the system says.
    system: Option<&'b str>,
    /// The tools, or functions, and contents that are cached under a name.
    tools: Option<&'b str>,
    cached: Option<&'b str>,
    /// What was said so far, and behind which of a message's keys.
    turns: Option<(&'b str, &'static str)>,
}

impl<'b> Said<'b> {
    fn of(body: &'b [u8]) -> Option<Said<'b>> {
        Said::read(body, |_, _| ())
    }

    /// As [`Said::of`]; shows each member of the body to `see` on the way.
    fn read(body: &'b [u8], mut see: impl FnMut(&str, &'b str)) -> Option<Said<'b>> {
        let mut said = Said::default();
        raw::members(body, |key, value| {
            see(key, value);
            match key {
                "prompt_cache_key" => said.cache_key = Some(value),
                "metadata" => said.metadata = Some(value),
                "conversation" => said.conversation = Some(value),
                "previous_response_id" => said.previous = Some(value),
                "system" | "instructions" | "systemInstruction" | "system_instruction" => said.system = Some(value),
                "tools" | "functions" => said.tools = Some(value),
                "cachedContent" | "cached_content" => said.cached = Some(value),
                "messages" | "input" => said.turns = Some((value, "content")),
                "contents" => said.turns = Some((value, "parts")),
                _ => {}
            }
        })?;
        Some(said)
    }

    /// The user of Anthropic's metadata.
    fn user(&self) -> Option<&'b str> {
        meant(raw::member(self.metadata?, "user_id"))
    }

    /// The conversation that is kept at the provider.
    fn id(&self) -> Option<&'b str> {
        let named = self.conversation?;
        meant(Some(raw::member(named, "id").unwrap_or(named)))
    }

    /// The hash of what it begins with, up to the user's first words.
    fn beginning(&self, path: &str) -> Option<[u8; 32]> {
        let mut hasher = hasher(Teller::Beginning);
        for (label, part) in [(b"s", self.system), (b"t", self.tools), (b"c", self.cached)] {
            hasher.update(label);
            if let Some(part) = part {
                add_content(&mut hasher, part);
            }
        }
        let (turns, key) = self.turns?;
        if turns.starts_with('"') {
            // What is embedded has no conversation.
            if !path.ends_with("/responses") {
                return None;
            }
            hasher.update(b"u");
            add_content(&mut hasher, turns);
            return Some(hasher.finalize().into());
        }
        raw::find_element(turns.as_bytes(), |turn| {
            let (mut role, mut content) = (None, None);
            raw::members(turn.as_bytes(), |name, value| match name {
                "role" => role = raw::text(value),
                _ if name == key => content = Some(value),
                _ => {}
            })?;
            let is_system = matches!(role.as_deref(), Some("system" | "developer"));
            let is_user = role.is_none_or(|role| role == "user");
            let content = content.filter(|_| is_system || is_user)?;
            hasher.update(if is_user { b"u" } else { b"s" });
            add_content(&mut hasher, content);
            is_user.then_some(())
        })?;
        Some(hasher.finalize().into())
    }
}

/// Adds what is said, which is a text, or a list with that text in it as soon as it is marked for a cache.
fn add_content(hasher: &mut Sha256, content: &str) {
    if content.starts_with('"') {
        add(hasher, &format!(r#"[{{"type":"text","text":{content}}}]"#), MARKS_DEPTH);
    } else {
        add(hasher, content, MARKS_DEPTH);
    }
}

/// Adds JSON without blanks, and without the marks of caches that are no deeper in it than this: they move from turn to
/// turn.
fn add(hasher: &mut Sha256, json: &str, depth: u32) {
    match json.as_bytes().first() {
        Some(b'{') if depth > 0 => {
            hasher.update(b"{");
            let _is_one = raw::members(json.as_bytes(), |key, value| {
                if key != "cache_control" {
                    hasher.update(key);
                    hasher.update(b"\":");
                    add(hasher, value, depth - 1);
                }
            });
            hasher.update(b"}");
        }
        Some(b'[') if depth > 0 => {
            hasher.update(b"[");
            let _is_one = raw::elements(json.as_bytes(), |element| add(hasher, element, depth - 1));
            hasher.update(b"]");
        }
        Some(b'"') => hasher.update(json),
        _ => {
            let (mut in_string, mut escaped) = (false, false);
            let pieces = json.as_bytes().split(|byte| {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => in_string = !in_string,
                    _ => {}
                }
                !in_string && byte.is_ascii_whitespace()
            });
            pieces.for_each(|piece| hasher.update(piece));
        }
    }
    hasher.update(b",");
}

#[cfg(test)]
mod tests;
