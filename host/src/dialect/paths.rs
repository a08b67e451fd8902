//! Which paths generate, and in which API's words: one table, whoever serves them.
//!
//! What a path asks for stands at its end. What comes before differs between providers, and so does who answers: Google
//! and Anthropic serve OpenAI's API too, and DeepSeek and xAI Anthropic's.

use super::{Dialect, query};
use std::borrow::Cow;

/// How the paths of requests end that generate.
const ENDS: [(&str, Dialect); 8] = [
    ("/chat/completions", Dialect::OpenAi),
    ("/completions", Dialect::OpenAi),
    ("/responses", Dialect::OpenAi),
    ("/embeddings", Dialect::OpenAi),
    ("/messages", Dialect::Anthropic),
    ("/api/chat", Dialect::Ollama),
    ("/api/generate", Dialect::Ollama),
    ("/api/embed", Dialect::Ollama),
];

/// Paths with one of these in them are about something that is kept, and only end like one that generates.
const KEPT: [&str; 3] = ["/threads/", "/chat/completions/", "/conversations/"];

/// Google's methods, behind the last colon of the path.
const METHODS: [&str; 6] =
    ["generateContent", "streamGenerateContent", "embedContent", "batchEmbedContents", "countTokens", "predict"];

/// Vertex's methods for the models of others, in whose own words they are asked.
const RAW_METHODS: [&str; 2] = ["rawPredict", "streamRawPredict"];

/// The API of a path that generates; `None` for all others. Where [the body has a say](is_raw) it is OpenAI's.
pub(super) fn generating(path: &str) -> Option<Dialect> {
    if method(path).is_some() {
        return Some(Dialect::Gemini);
    }
    if is_raw(path) {
        return Some(Dialect::OpenAi);
    }
    if KEPT.iter().any(|kept| path.contains(kept)) {
        return None;
    }
    ENDS.iter().find(|(end, _)| path.ends_with(end)).map(|(_, dialect)| *dialect)
}

/// What a path that generates asks for: Google's method, or else what follows the version. Where there is none, what is
/// known of its end.
pub(super) fn operation(path: &str) -> Option<&str> {
    generating(path)?;
    if let Some(method) = method(path).or_else(|| raw_method(path)) {
        return Some(method);
    }
    let is_version = |segment: &str| {
        segment.strip_prefix('v').is_some_and(|number| number.starts_with(|first: char| first.is_ascii_digit()))
    };
    let mut at = 0;
    let mut behind_version = None;
    for segment in path.split('/') {
        at += segment.len() + 1;
        if is_version(segment) {
            behind_version = path.get(at..);
        }
    }
    let known_end = || ENDS.iter().find(|(end, _)| path.ends_with(end)).map(|(end, _)| &end[1..]);
    behind_version.filter(|operation| !operation.is_empty()).or_else(known_end)
}

/// Google's method: `/v1/models/gemini-3-pro:generateContent`. Models of others have colons as well.
pub(super) fn method(path: &str) -> Option<&'static str> {
    let path = with_colons(path);
    let (_, method) = path.rsplit_once("/models/")?.1.rsplit_once(':')?;
    METHODS.into_iter().find(|known| *known == method)
}

/// Whether the path leaves it to the body in whose words it asks.
pub(super) fn is_raw(path: &str) -> bool {
    raw_method(path).is_some()
}

/// Vertex's method for the models of others.
fn raw_method(path: &str) -> Option<&'static str> {
    let path = with_colons(path);
    let (_, method) = path.rsplit_once(':')?;
    RAW_METHODS.into_iter().find(|known| *known == method)
}

/// The model that a path of Google's names.
pub(super) fn model(path: &str) -> Option<String> {
    if method(path).is_none() && !is_raw(path) {
        return None;
    }
    let path = with_colons(path);
    path.rsplit_once("/models/").and_then(|(_, rest)| rest.rsplit_once(':')).map(|(model, _)| model.to_owned())
}

/// The path with another model in the one's place that it names; `None` where it names none. The method stays, however
/// its colon is written.
pub(crate) fn with_model(path: &str, model: &str) -> Option<String> {
    let named = self::model(path)?;
    if named == model {
        return Some(path.to_owned());
    }
    let (before, rest) = path.rsplit_once("/models/")?;
    let colon = [":", "%3A", "%3a"].into_iter().filter_map(|colon| rest.rfind(colon)).max()?;
    Some(format!("{before}/models/{}{}", query::encoded(model), &rest[colon..]))
}

/// Some clients encode the colon, which means the same.
fn with_colons(path: &str) -> Cow<'_, str> {
    if path.contains('%') { Cow::Owned(path.replace("%3A", ":").replace("%3a", ":")) } else { Cow::Borrowed(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_public_path_that_generates_is_recognised_with_its_api() {
        use Dialect::{Anthropic, Gemini, Ollama, OpenAi};
        let public = [
            ("OpenAI", OpenAi, "/v1/chat/completions"),
            ("OpenAI", OpenAi, "/v1/completions"),
            ("OpenAI", OpenAi, "/v1/responses"),
            ("OpenAI", OpenAi, "/v1/embeddings"),
            ("Azure", OpenAi, "/openai/deployments/gpt-5/chat/completions"),
            ("Azure", OpenAi, "/openai/deployments/e/embeddings"),
            ("Azure", OpenAi, "/openai/v1/responses"),
            ("Azure AI Foundry", OpenAi, "/models/chat/completions"),
            ("Anthropic", Anthropic, "/v1/messages"),
            ("Anthropic", OpenAi, "/v1/chat/completions"),
            ("Gemini", Gemini, "/v1beta/models/gemini-3-pro:generateContent"),
            ("Gemini", Gemini, "/v1beta/models/gemini-3-pro%3AgenerateContent"),
            ("Gemini", Gemini, "/v1alpha/tunedModels/x/models/y:streamGenerateContent"),
            ("Gemini", Gemini, "/v1beta/models/e:batchEmbedContents"),
            ("Gemini", Gemini, "/v1beta/models/imagen-4:predict"),
            ("Gemini", OpenAi, "/v1beta/openai/chat/completions"),
            ("Gemini", OpenAi, "/v1beta/openai/embeddings"),
            ("Vertex AI", Gemini, "/v1/projects/p/locations/l/publishers/google/models/g:generateContent"),
            ("Vertex AI", OpenAi, "/v1/projects/p/locations/l/endpoints/openapi/chat/completions"),
            ("Vertex AI", OpenAi, "/v1/projects/p/locations/l/publishers/mistralai/models/m:rawPredict"),
            ("Vertex AI", OpenAi, "/v1/projects/p/locations/l/endpoints/1%3AstreamRawPredict"),
            ("OpenRouter", OpenAi, "/api/v1/chat/completions"),
            ("OpenRouter", OpenAi, "/api/v1/responses"),
            ("OpenRouter", Anthropic, "/api/v1/messages"),
            ("Groq", OpenAi, "/openai/v1/chat/completions"),
            ("Groq", OpenAi, "/openai/v1/responses"),
            ("Mistral", OpenAi, "/v1/fim/completions"),
            ("Mistral", OpenAi, "/v1/agents/completions"),
            ("DeepSeek", OpenAi, "/chat/completions"),
            ("DeepSeek", OpenAi, "/beta/completions"),
            ("DeepSeek", Anthropic, "/anthropic/v1/messages"),
            ("xAI", Anthropic, "/v1/messages"),
            ("Together", OpenAi, "/v1/completions"),
            ("Fireworks", OpenAi, "/inference/v1/chat/completions"),
            ("GitHub Models", OpenAi, "/inference/chat/completions"),
            ("GitHub Models", OpenAi, "/orgs/o/inference/chat/completions"),
            ("Ollama", Ollama, "/api/chat"),
            ("Ollama", Ollama, "/api/generate"),
            ("vLLM", OpenAi, "/v1/embeddings"),
            ("llama.cpp", OpenAi, "/v1/chat/completions"),
            ("llama.cpp", Anthropic, "/v1/messages"),
        ];
        for (provider, dialect, path) in public {
            assert_eq!(generating(path), Some(dialect), "{provider}: {path}");
        }
    }

    #[test]
    fn another_model_takes_the_place_of_the_one_that_a_path_names() {
        let cases = [
            ("/v1beta/models/old:generateContent", "new", Some("/v1beta/models/new:generateContent")),
            ("/v1beta/models/old%3AcountTokens", "new", Some("/v1beta/models/new%3AcountTokens")),
            ("/v1beta/models/old%3aembedContent", "new", Some("/v1beta/models/new%3aembedContent")),
            ("/v1/models/a:b:predict", "c:d", Some("/v1/models/c:d:predict")),
            ("/v1/models/a%3Ab:predict", "a:b", Some("/v1/models/a%3Ab:predict")),
            ("/models/x/models/old:predict", "models", Some("/models/x/models/models:predict")),
            (
                "/v1/projects/p/locations/l/publishers/anthropic/models/old:streamRawPredict",
                "new@1",
                Some("/v1/projects/p/locations/l/publishers/anthropic/models/new@1:streamRawPredict"),
            ),
            ("/v1/models/old:predict", "a/b?c d", Some("/v1/models/a%2Fb%3Fc%20d:predict")),
            ("/v1/models/old", "new", None),
            ("/v1/models/old:unknown", "new", None),
            ("/v1/projects/p/endpoints/1:rawPredict", "new", None),
            ("/v1/chat/completions", "new", None),
        ];
        for (path, to, expected) in cases {
            let changed = with_model(path, to);
            assert_eq!(changed.as_deref(), expected, "{path}");
        }
        let again = with_model("/v1/models/old%3Apredict", "a:b").expect("changed");
        assert_eq!(model(&again).as_deref(), Some("a:b"));
    }

    #[test]
    fn what_a_path_asks_for_is_what_follows_its_version_or_the_method_behind_its_colon() {
        let cases = [
            ("/v1/chat/completions", Some("chat/completions")),
            ("/chat/completions", Some("chat/completions")),
            ("/v1/responses", Some("responses")),
            ("/openai/responses", Some("responses")),
            ("/openai/v1/responses", Some("responses")),
            ("/api/v1/messages", Some("messages")),
            ("/v1/fim/completions", Some("fim/completions")),
            ("/v1beta/models/gemini-3-pro:streamGenerateContent", Some("streamGenerateContent")),
            ("/v1beta/models/gemini-3-pro%3AgenerateContent", Some("generateContent")),
            ("/v1/projects/p/locations/l/publishers/mistralai/models/m:rawPredict", Some("rawPredict")),
            ("/api/chat", Some("api/chat")),
            ("/v1/files", None),
            ("/v1/messages/batches", None),
        ];
        for (path, expected) in cases {
            assert_eq!(operation(path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_kept_and_what_only_looks_alike_does_not_generate() {
        for path in [
            "/v1/threads/t1/messages",
            "/v1/chat/completions/c1/messages",
            "/v1/conversations/c/responses",
            "/v1/responses/r1/cancel",
            "/v1/messages/batches",
            "/v1/messages/count_tokens",
            "/v1/models/ft:gpt-4o-mini:acme::x",
            "/v1/files",
            "/v1/audio/speech",
            "/",
        ] {
            assert_eq!(generating(path), None, "{path}");
        }
    }
}
