//! One text as a whole answer, in the words of the API that was asked: the end of a chain in which nobody serves.
//!
//! It says nothing of where it comes from, since no API has a place for that: a header does. The model in it is the one
//! that was asked for, because SDKs take the field for granted and callers look their prices up by it.

mod anthropic;
mod gemini;
mod ollama;
mod openai;
mod responses;

use super::{Dialect, Parameters, paths};
use bytes::Bytes;
use serde_json::{Map, Value};

/// So many alternatives have the text in each of them, which is as many as OpenAI gives at most. Who asks for more gets
/// no static answer: it would be as long as its caller likes.
const ALTERNATIVES_MAX: u64 = 128;

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream; charset=utf-8";

/// A whole answer to a request, with status 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StaticAnswer {
    /// Its media type.
    pub(crate) content_type: &'static str,
    /// All of its body; of a stream, all events.
    pub(crate) body: Bytes,
}

/// What an answer is made of.
#[derive(Clone, Copy, Debug)]
struct Said<'a> {
    /// The path that was asked for, without its query.
    path: &'a str,
    /// The query, or nothing.
    query: &'a str,
    text: &'a str,
    model: &'a str,
    /// What no other answer has in its ids; the API's own prefix is put before it.
    id: &'a str,
    created_unix_s: u64,
    alternatives: u64,
    streaming: bool,
    /// Whether an OpenAI stream must not report usage, because its caller did not ask for it.
    usage_withheld: bool,
}

/// `text` as an answer to a request along `path_and_query`, whole or as a stream, as it was asked for. Gemini has the
/// form of a stream in the query. No token is counted in it, for nobody has computed any.
///
/// `None` where a text is no answer: to embeddings, to counts of tokens, to what is passed through, to what makes
/// something that stays at a provider, to more than [`ALTERNATIVES_MAX`] alternatives. Whether the request wants tools,
/// a schema or audio is its body's to say, and not asked here.
pub(crate) fn static_answer(
    dialect: Dialect,
    path_and_query: &str,
    parameters: &Parameters,
    text: &str,
    id: &str,
    created_unix_s: u64,
) -> Option<StaticAnswer> {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    paths::generating(path)?;
    if parameters.creates || parameters.alternatives > ALTERNATIVES_MAX {
        return None;
    }
    let said = Said {
        path,
        query,
        text,
        model: parameters.model.as_deref().unwrap_or_default(),
        id,
        created_unix_s,
        alternatives: parameters.alternatives,
        streaming: parameters.streaming,
        usage_withheld: parameters.usage_withheld,
    };
    match dialect {
        Dialect::OpenAi if path.ends_with("/responses") => Some(responses::answer(&said)),
        Dialect::OpenAi if path.ends_with("/completions") => Some(openai::answer(&said)),
        Dialect::Anthropic => Some(anthropic::answer(&said)),
        Dialect::Gemini => gemini::answer(&said),
        Dialect::Ollama if !path.ends_with("/embed") => Some(ollama::answer(&said)),
        Dialect::OpenAi | Dialect::Ollama | Dialect::Other => None,
    }
}

impl StaticAnswer {
    fn json(body: &Value) -> Self {
        StaticAnswer { content_type: JSON, body: Bytes::from(body.to_string()) }
    }

    /// A stream of events without names.
    fn events(events: impl IntoIterator<Item = Value>) -> Self {
        let body: String = events.into_iter().map(|data| format!("data: {}\n\n", on_one_line(&data))).collect();
        StaticAnswer { content_type: EVENTS, body: Bytes::from(body) }
    }

    /// A stream of events whose names are also the types of their objects, since some read the one and some the other.
    fn named_events<'a>(events: impl IntoIterator<Item = (&'a str, Map<String, Value>)>) -> Self {
        let written = events.into_iter().map(|(name, fields)| {
            let mut data = Map::from_iter([("type".to_owned(), Value::from(name))]);
            data.extend(fields);
            format!("event: {name}\ndata: {}\n\n", on_one_line(&Value::Object(data)))
        });
        StaticAnswer { content_type: EVENTS, body: Bytes::from(written.collect::<String>()) }
    }
}

/// JSON without anything that a reader may take for a line's end. JSON itself escapes only those of ASCII, and Python's
/// `splitlines`, by which some clients read streams, knows these as well.
fn on_one_line(json: &Value) -> String {
    let ends = [('\u{85}', "\\u0085"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];
    ends.iter().fold(json.to_string(), |line, (end, escaped)| line.replace(*end, escaped))
}

/// The members of an object that is written as one.
fn fields(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests;
