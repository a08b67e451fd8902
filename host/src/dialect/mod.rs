//! The APIs that callers speak. Each provider's habits stand in one file; here is what they have in common.

pub mod auth;
pub(crate) mod compression;
pub(crate) mod conversation;
pub(crate) mod decoder;
pub(crate) mod error;
pub mod estimate;
pub(crate) mod events;
pub(crate) mod headers;
pub(crate) mod in_place;
pub(crate) mod json_end;
pub(crate) mod kept;
pub(crate) mod library;
pub(crate) mod paths;
pub(crate) mod plain;
pub(crate) mod preference;
pub(crate) mod query;
pub(crate) mod rate_headers;
pub(crate) mod signature;
pub(crate) mod sse;
pub(crate) mod static_answer;
pub(crate) mod upgrade;
pub mod usage;

mod anthropic;
mod gemini;
mod lenient;
mod messages;
mod ollama;
mod openai;
mod raw;

pub use crate::dialect::usage::{Tier, Usage};

use crate::dialect::error::ApiError;
use crate::dialect::sse::Framing;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};
use spillway_sdk::ProviderError;
use std::borrow::Cow;
use std::time::Duration;

/// An API that a caller speaks and an upstream answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's, which most self-hosted servers speak too.
    OpenAi,
    /// Anthropic's.
    Anthropic,
    /// Google's Gemini API.
    Gemini,
    /// Ollama's own.
    Ollama,
    /// Something else, passed through unread.
    Other,
}

/// What a path asks for, as far as it matters to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A completion: held, judged, retried, spooled.
    Generate,
    /// Anything else: streamed through once, judged, but never repeated, since it may not be repeatable.
    PassThrough,
}

/// What a request's body says that matters to a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The model, when it is named.
    pub model: Option<String>,
    /// Whether the answer is to be streamed.
    pub streaming: bool,
    /// Whether it makes something at the provider that stays: an answer in the background, a turn of a conversation.
    /// Then doing it twice is not the same.
    pub creates: bool,
    /// How many answers it wants to choose from.
    pub alternatives: u64,
    /// How many prompts it holds, each with a context of its own.
    pub prompts: u64,
    /// The bound on output tokens, all alternatives together.
    pub output_tokens_max: Option<u64>,
    /// At which of the provider's prices it asks to be served.
    pub tier: Tier,
    /// Whether a stream of this API reports usage only on demand, and this request did not demand it.
    pub usage_withheld: bool,
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters {
            model: None,
            streaming: false,
            creates: false,
            alternatives: 1,
            prompts: 1,
            output_tokens_max: None,
            tier: Tier::Standard,
            usage_withheld: false,
        }
    }
}

/// What an event of a stream means to a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Says nothing yet: the stream can still fail as if it had not begun.
    Preamble,
    /// Part of the answer.
    Content,
    /// The end of so many of the answer's alternatives. What is counted, and an [end](Self::End), may follow.
    Finished(u64),
    /// The answer's result; nothing follows.
    Complete,
    /// Nothing follows, and it says nothing itself.
    End,
    /// The provider says that it failed.
    Error(ProviderError),
}

impl Dialect {
    /// All dialects.
    pub const ALL: [Dialect; 5] =
        [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini, Dialect::Ollama, Dialect::Other];

    /// The word used in configuration, logs and policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Dialect::OpenAi => "openai",
            Dialect::Anthropic => "anthropic",
            Dialect::Gemini => "gemini",
            Dialect::Ollama => "ollama",
            Dialect::Other => "other",
        }
    }

    /// The dialect that [`Dialect::as_str`] calls so.
    pub fn from_word(word: &str) -> Option<Dialect> {
        Dialect::ALL.into_iter().find(|dialect| dialect.as_str() == word)
    }

    /// The dialect of a request that names no upstream in its path.
    ///
    /// OpenAI and Gemini share `/v1`, and so the path's end and the headers decide.
    pub fn recognise(path: &str, headers: &HeaderMap) -> Option<Dialect> {
        if anthropic::recognises(path, headers) {
            Some(Dialect::Anthropic)
        } else if gemini::recognises(path, headers) {
            Some(Dialect::Gemini)
        } else if openai::recognises(path) {
            Some(Dialect::OpenAi)
        } else if ollama::recognises(path) {
            Some(Dialect::Ollama)
        } else {
            None
        }
    }

    /// What `path` asks for, and in which API's words: a path that generates says so, whoever serves it; what is said
    /// along others is the provider's own. An upstream that speaks something else is not read at all.
    pub fn along(self, path: &str) -> (Dialect, Operation) {
        match paths::generating(path) {
            Some(dialect) if self != Dialect::Other => (dialect, Operation::Generate),
            Some(_) | None => (self, Operation::PassThrough),
        }
    }

    /// What a path that generates asks for, as a path template names it: what follows the version, such as
    /// `chat/completions`, or Google's method, such as `generateContent`. `None` for all other paths.
    pub fn operation(path: &str) -> Option<&str> {
        paths::operation(path)
    }

    /// The path as the provider knows it; SDKs differ on who adds `/v1`. It is not added where a base URL has a path of
    /// its own instead.
    pub fn canonical_path(self, path: &str, adds_version: bool) -> String {
        match self {
            Dialect::OpenAi | Dialect::Anthropic => {
                let versioned = |path: &str| path.starts_with("/v1/");
                let twice = path.strip_prefix("/v1").filter(|rest| versioned(rest));
                let known = openai::is_bare(path) || anthropic::is_bare(path);
                match twice {
                    Some(once) => once.to_owned(),
                    None if known && adds_version => format!("/v1{path}"),
                    None => path.to_owned(),
                }
            }
            Dialect::Gemini | Dialect::Ollama | Dialect::Other => path.to_owned(),
        }
    }

    /// The API in whose words a body asks, where its path leaves that open: Vertex takes Anthropic's requests and those
    /// of others along one path.
    pub fn in_body(self, path: &str, body: &[u8]) -> Dialect {
        match paths::is_raw(path) && anthropic::is_version_in(body) {
            true => Dialect::Anthropic,
            false => self,
        }
    }

    /// Reads what matters in a request. A body that is not understood asks for nothing in particular: the provider
    /// will say what is wrong with it.
    pub fn read_request(self, path: &str, body: &[u8]) -> Parameters {
        let asked = match self {
            Dialect::OpenAi => openai::read_request(path, body),
            Dialect::Anthropic => anthropic::read_request(body),
            Dialect::Gemini => gemini::read_request(path, body),
            Dialect::Ollama => ollama::read_request(path, body),
            Dialect::Other => Parameters::default(),
        };
        Parameters { model: asked.model.or_else(|| paths::model(path)), ..asked }
    }

    /// How its streams are cut into events.
    pub(crate) fn framing(self) -> Framing {
        match self {
            Dialect::OpenAi | Dialect::Anthropic | Dialect::Gemini | Dialect::Other => Framing::Events,
            Dialect::Ollama => Framing::Lines,
        }
    }

    /// What an event of a stream says, without what frames it.
    pub fn data(self, event: &[u8]) -> Cow<'_, [u8]> {
        match self.framing() {
            Framing::Events => sse::data(event),
            Framing::Lines => Cow::Borrowed(event.trim_ascii()),
        }
    }

    /// Says what an event of a stream means.
    pub fn read_event(self, event: &[u8]) -> EventKind {
        let data = self.data(event);
        // Events with errors are rare, and a key cannot occur inside of a JSON string without its backslashes.
        if (has_key(&data, b"\"error\"") || sse::name(event) == Some(b"error"))
            && let Some(error) = ProviderError::parse(&data)
        {
            return EventKind::Error(error);
        }
        match self {
            Dialect::OpenAi => openai::read_event(event, &data),
            Dialect::Anthropic => anthropic::read_event(event, &data),
            Dialect::Gemini => gemini::read_event(&data),
            Dialect::Ollama => ollama::read_event(&data),
            Dialect::Other => EventKind::Content,
        }
    }

    /// Whether a success to a request that generates holds no answer: nothing, a web page, or JSON without what every
    /// answer from this path has. `body` is its beginning, or all of it. `docs/answers.md` has the table.
    pub fn is_nothing(self, path: &str, body: &[u8], is_all: bool) -> bool {
        let body = body.trim_ascii();
        match body.first() {
            None => is_all,
            Some(b'<') => true,
            Some(b'{' | b'[') if is_all => match self {
                Dialect::OpenAi => openai::is_nothing(path, body),
                Dialect::Anthropic => anthropic::is_nothing(body),
                Dialect::Gemini => gemini::is_nothing(path, body),
                Dialect::Ollama => ollama::is_nothing(body),
                Dialect::Other => false,
            },
            Some(_) => is_all && body == b"null",
        }
    }

    /// The usage reported in an answer or in an event, from wherever it stands.
    pub fn read_usage(self, json: &[u8]) -> Option<Usage> {
        match self {
            Dialect::OpenAi => openai::usage(json),
            Dialect::Anthropic => anthropic::usage(&object_behind(json, b"\"usage\"")?),
            Dialect::Gemini => gemini::usage(&object_behind(json, b"\"usageMetadata\"")?),
            Dialect::Ollama => ollama::usage(json),
            Dialect::Other => None,
        }
    }

    /// The body of a request changed so that its stream reports usage; `None` where it cannot be changed.
    pub fn demand_usage(self, body: &[u8]) -> Option<Bytes> {
        match self {
            Dialect::OpenAi => openai::demand_usage(body),
            Dialect::Anthropic | Dialect::Gemini | Dialect::Ollama | Dialect::Other => None,
        }
    }

    /// Whether an event is there only because [`Dialect::demand_usage`] asked for it. Callers that did not ask
    /// break on it.
    pub fn is_usage_event(self, data: &[u8]) -> bool {
        match self {
            Dialect::OpenAi => openai::is_usage_event(data),
            Dialect::Anthropic | Dialect::Gemini | Dialect::Ollama | Dialect::Other => false,
        }
    }

    /// The status with which this API says an error of Spillway's.
    pub fn status(self, error: &ApiError) -> StatusCode {
        match self {
            Dialect::Anthropic => anthropic::status(error),
            Dialect::OpenAi | Dialect::Gemini | Dialect::Ollama | Dialect::Other => error.status,
        }
    }

    /// An error of Spillway's as this API's body of an answer.
    pub fn envelope(self, error: &ApiError, request_id: &str) -> Value {
        match self {
            Dialect::OpenAi | Dialect::Other => openai::envelope(error),
            Dialect::Anthropic => anthropic::envelope(error, request_id),
            Dialect::Gemini => gemini::envelope(error),
            Dialect::Ollama => ollama::envelope(error),
        }
    }

    /// A provider's own error, with what is left of the wait that it named, where this API says that in the body.
    pub fn with_wait(self, error: Value, wait: Option<Duration>) -> Value {
        if self == Dialect::Gemini { gemini::with_wait(error, wait) } else { error }
    }

    /// The event that tells a reader of this API's streams that the stream has failed.
    pub fn error_event(self, envelope: &Value) -> Bytes {
        Bytes::from(match self {
            Dialect::OpenAi | Dialect::Gemini | Dialect::Other => format!("data: {envelope}\n\n"),
            Dialect::Anthropic => format!("event: error\ndata: {envelope}\n\n"),
            Dialect::Ollama => format!("{envelope}\n"),
        })
    }

    /// The header in which this API's SDKs look for a request's id.
    pub fn request_id_header(self) -> HeaderName {
        match self {
            Dialect::Anthropic => HeaderName::from_static("request-id"),
            Dialect::OpenAi | Dialect::Gemini | Dialect::Ollama | Dialect::Other => {
                HeaderName::from_static("x-request-id")
            }
        }
    }
}

/// A request for another model: its path and its body, of which nothing else is changed. Whose path names the model are
/// the same in every dialect. `None` where neither can name one, since the body is no JSON object.
pub fn with_model(path: &str, body: &Bytes, model: &str) -> Option<(String, Bytes)> {
    match paths::with_model(path, model) {
        Some(path) => Some((path, gemini::with_model(body, model))),
        None => Some((path.to_owned(), in_place::with_model(body, model)?)),
    }
}

/// Whether `json` has this quoted key.
fn has_key(json: &[u8], key: &[u8]) -> bool {
    memchr::memmem::find(json, key).is_some()
}

/// The value behind the last occurrence of a quoted key.
///
/// Only that value is parsed: answers are long, and the rest of them is none of our business.
fn object_behind(json: &[u8], key: &[u8]) -> Option<Value> {
    let at = memchr::memmem::rfind(json, key)? + key.len();
    let behind = json.get(at..)?.trim_ascii_start().strip_prefix(b":")?;
    serde_json::Deserializer::from_slice(behind).into_iter::<Value>().next()?.ok()
}

/// The sum of the named numbers; absent ones count nothing.
fn sum(object: &Value, keys: &[&str]) -> u64 {
    keys.iter().filter_map(|key| usage::count(object, key)).fold(0, u64::saturating_add)
}

/// What stands behind each occurrence of a quoted key, from its value's first byte on. A key cannot occur inside of a
/// JSON string without its backslashes.
fn values_behind<'j>(json: &'j [u8], key: &'j [u8]) -> impl Iterator<Item = &'j [u8]> {
    memchr::memmem::find_iter(json, key)
        .filter_map(move |at| Some(json[at + key.len()..].trim_ascii_start().strip_prefix(b":")?.trim_ascii_start()))
}

/// How often `key` has a value that means something: a string that is neither empty nor says that it is unspecified.
fn count_meant(json: &[u8], key: &[u8]) -> u64 {
    let texts =
        values_behind(json, key).filter_map(|value| value.strip_prefix(b"\"")?.split(|byte| *byte == b'"').next());
    texts.filter(|text| !text.is_empty() && !text.ends_with(b"UNSPECIFIED")).count() as u64
}

/// Whether `key` has a list that begins so.
fn has_list(json: &[u8], key: &[u8], begins: &[u8]) -> bool {
    let mut lists = values_behind(json, key).filter_map(|value| value.strip_prefix(b"["));
    lists.any(|list| list.trim_ascii_start().starts_with(begins))
}

/// Whether `key` has a list of objects in it. Most answers are told by that alone, without being parsed.
fn has_objects(json: &[u8], key: &[u8]) -> bool {
    has_list(json, key, b"{")
}

/// Whether JSON is an object that neither satisfies `holds` nor speaks of an error. What is no JSON is something else,
/// and left to its reader.
fn lacks(body: &[u8], holds: impl Fn(&Map<String, Value>) -> bool) -> bool {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(object)) => !holds(&object) && ProviderError::from_value(&Value::Object(object)).is_none(),
        Ok(Value::Array(list)) => list.is_empty(),
        Ok(_) | Err(_) => false,
    }
}

/// The type that an event's JSON names. Some servers say it there alone, without an `event` line.
fn json_type(data: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow, rename = "type")]
        kind: Option<Cow<'a, str>>,
    }
    // Most events have none, and need not be parsed to know that.
    if !has_key(data, b"\"type\"") {
        return None;
    }
    serde_json::from_slice::<Typed<'_>>(data).ok()?.kind
}

#[cfg(test)]
mod tests;
