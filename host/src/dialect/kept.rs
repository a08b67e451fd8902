//! State that lives at a provider: by which fields and paths a request refers to something that only its maker has, and
//! by which an answer makes such things known. One table for both directions.
//!
//! A reference is the text by which something is named, or a secret of a model's that only its maker can read. Google's
//! resources are named in several ways, so of them a reference is the collection and the name in it: `files/abc`.

mod table;
mod walk;

use super::{Dialect, has_key, paths};
use std::borrow::Cow;
use std::ops::Range;
use table::{
    ANTHROPIC, ANTHROPIC_MADE, ANTHROPIC_PATHS, Field, GEMINI, GEMINI_ID_PATHS, GEMINI_MADE, GEMINI_PATHS, GOOGLES,
    NO_NAMES, OPENAI, OPENAI_MADE, OPENAI_PATHS,
};
use walk::Walk;

/// So many references are told of one request, one answer or one event. Where there are more, those that come last are:
/// they are of the conversation's newest turns, and so of the provider that served those.
const REFERENCES_MAX: usize = 64;

/// What a request refers to; [`REFERENCES_MAX`] things at most. Where it refers to nothing, it may go to any target. A
/// body that ends to be JSON refers to what stood before.
///
/// The body is read once, as fast as it could be searched for the names of the fields.
pub(crate) fn references<'r>(dialect: Dialect, path: &'r str, body: &'r [u8]) -> Vec<Cow<'r, str>> {
    let (fields, in_path): (&[Field], _) = match dialect {
        Dialect::OpenAi => (&OPENAI, id_in(path, &OPENAI_PATHS)),
        Dialect::Anthropic => (&ANTHROPIC, id_in(path, &ANTHROPIC_PATHS)),
        Dialect::Gemini => (&GEMINI, resource(path).or_else(|| id_in(path, &GEMINI_ID_PATHS))),
        Dialect::Ollama | Dialect::Other => return Vec::new(),
    };
    let mut found = Walk::of_request(&[fields], body);
    // What a path that generates names is a deployment or a project, whatever it is called.
    if let Some(name) = in_path.filter(|_| paths::generating(path).is_none()) {
        if found.len() == REFERENCES_MAX {
            found.remove(0);
        }
        found.push(Cow::Borrowed(name));
    }
    found
}

/// Tells `f` what an answer, a piece of one, or the data of one event of a stream makes that later requests may refer
/// to, or names of what was made there before; [`REFERENCES_MAX`] things at most. Most events name nothing, and are not
/// parsed to know that. Streams tell some things several times, and of a piece is told what is whole in it.
pub(crate) fn made(dialect: Dialect, json: &[u8], f: impl FnMut(&str)) {
    let fields: [&[Field]; 2] = match dialect {
        Dialect::OpenAi => [&OPENAI_MADE, &OPENAI],
        Dialect::Anthropic => [&ANTHROPIC_MADE, &ANTHROPIC],
        Dialect::Gemini => [&GEMINI_MADE, &GEMINI],
        Dialect::Ollama | Dialect::Other => return,
    };
    if may_make(dialect, json) {
        Walk::of_answer(&fields, json).iter().map(Cow::as_ref).for_each(f);
    }
}

/// Whether something may be made there: what is not, as most events, is told by its keys.
fn may_make(dialect: Dialect, json: &[u8]) -> bool {
    let keys: &[&[u8]] = match dialect {
        // Each chunk of a chat repeats the chat's id. The one that begins it says who speaks.
        Dialect::OpenAi if has_key(json, b"chat.completion.chunk\"") => {
            &[b"\"role\"", b"\"audio\"", b"signature\"", b"\"data\""]
        }
        Dialect::OpenAi => &[b"\"id\"", b"\"file_id\""],
        Dialect::Anthropic => &[
            b"\"id\"",
            b"\"signature\"",
            b"\"data\"",
            b"\"encrypted_",
            b"\"file_id\"",
            b"\"container\"",
            b"\"fallback_credit_token\"",
        ],
        Dialect::Gemini => &[b"ignature\"", b"\"name\"", b"\"uri\"", b"\"interaction\""],
        Dialect::Ollama | Dialect::Other => &[],
    };
    keys.iter().any(|key| has_key(json, key))
}

/// Which way it goes. The same key may mean something else in either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Request,
    Answer,
}

/// What a path calls by an id alone: the name behind the first of these collections that has one.
fn id_in<'p>(path: &'p str, collections: &[&str]) -> Option<&'p str> {
    named_in(path, collections).map(|(_, name)| &path[name])
}

/// Where the first of these collections begins in a path that has a name behind it, and where that name stands.
fn named_in(path: &str, collections: &[&str]) -> Option<(usize, Range<usize>)> {
    let mut start = 0;
    let mut segments = path.split('/').map(|segment| {
        let at = start;
        start += segment.len() + 1;
        (at, segment)
    });
    let mut before = segments.next()?;
    for (at, segment) in segments {
        // Google's methods and what is asked of them stand behind the name.
        let name = segment.split([':', '?', '#']).next().unwrap_or_default();
        let name = name.find("%3").map_or(name, |colon| &name[..colon]);
        if collections.contains(&before.1) && !name.is_empty() && !NO_NAMES.contains(&name) {
            return Some((before.0, at..at + name.len()));
        }
        before = (at, segment);
    }
    None
}

/// The collection and the name of one of Google's resources, of a path, a name or a URL of its API. Files that lie
/// elsewhere, in a bucket or on a web site, are nobody's.
fn resource(text: &str) -> Option<&str> {
    let is_elsewhere = text.contains("://") && !GOOGLES.iter().any(|part| text.contains(part));
    let (start, name) = named_in(text, &GEMINI_PATHS).filter(|_| !is_elsewhere)?;
    Some(&text[start..name.end])
}

#[cfg(test)]
mod tests;
