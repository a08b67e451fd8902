//! One plain request of each API, with a credential, as its SDK would send it.

use crate::http::{Request, post};
use serde_json::{Value, json};

/// The credential that [`chat`] and its like carry.
pub const KEY: &str = "sk-test-1";

/// The parts in which the APIs differ, for tests that hold for all of them.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    /// Its upstream's name.
    pub name: &'static str,
    /// A request that is answered whole.
    pub whole: fn() -> Request,
    /// A request that is answered as a stream.
    pub stream: fn() -> Request,
    /// The same as `whole`, for another model.
    pub of_model: fn(&str) -> Request,
    /// Where Spillway's own code stands in an error.
    pub code: &'static str,
    /// Where the kind of an error stands.
    pub kind: &'static str,
}

/// OpenAI, Anthropic and Gemini.
pub const APIS: [Api; 3] = [
    Api {
        name: "openai",
        whole: chat,
        stream: chat_stream,
        of_model: chat_of,
        code: "/error/code",
        kind: "/error/type",
    },
    Api {
        name: "anthropic",
        whole: message,
        stream: message_stream,
        of_model: message_of,
        code: "/error/details/error_code",
        kind: "/error/type",
    },
    Api {
        name: "gemini",
        whole: generate,
        stream: generate_stream,
        of_model: generate_of,
        code: "/error/details/0/reason",
        kind: "/error/status",
    },
];

/// OpenAI chat with these additional fields.
pub fn chat_with(fields: Value) -> Request {
    let mut body = json!({"model": "mock-small", "messages": [{"role": "user", "content": "Say hello."}]});
    if let (Some(body), Value::Object(fields)) = (body.as_object_mut(), fields) {
        body.extend(fields);
    }
    post("/v1/chat/completions", &body).header("authorization", &format!("Bearer {KEY}"))
}

/// OpenAI chat.
pub fn chat() -> Request {
    chat_with(json!({}))
}

/// OpenAI chat, streamed.
pub fn chat_stream() -> Request {
    chat_with(json!({"stream": true}))
}

/// OpenAI chat whose caller takes a 202 rather than an error.
pub fn patient_chat() -> Request {
    chat().header("prefer", "respond-async")
}

/// OpenAI chat with another credential.
pub fn chat_by(key: &str) -> Request {
    chat().replace_header("authorization", &format!("Bearer {key}"))
}

/// OpenAI chat with this model.
pub fn chat_of(model: &str) -> Request {
    chat_with(json!({"model": model}))
}

fn anthropic(model: &str, stream: bool) -> Request {
    let body = json!({"model": model, "max_tokens": 64, "stream": stream,
                      "messages": [{"role": "user", "content": "Say hello."}]});
    post("/v1/messages", &body).header("x-api-key", KEY).header("anthropic-version", "2023-06-01")
}

/// An Anthropic message.
pub fn message() -> Request {
    anthropic("mock-claude", false)
}

/// An Anthropic message by this model.
pub fn message_of(model: &str) -> Request {
    anthropic(model, false)
}

/// An Anthropic message, streamed.
pub fn message_stream() -> Request {
    anthropic("mock-claude", true)
}

fn gemini(model: &str, method: &str) -> Request {
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]});
    post(&format!("/v1beta/models/{model}:{method}"), &body).header("x-goog-api-key", KEY)
}

/// Gemini's `generateContent`.
pub fn generate() -> Request {
    gemini("mock-gemini", "generateContent")
}

/// Gemini's `generateContent` of this model.
pub fn generate_of(model: &str) -> Request {
    gemini(model, "generateContent")
}

/// Gemini's `streamGenerateContent`.
pub fn generate_stream() -> Request {
    gemini("mock-gemini", "streamGenerateContent?alt=sse")
}
