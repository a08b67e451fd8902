//! Which client library sends a request, by what it says of itself. Anybody can say anything, so nothing hangs on it
//! but words, and how often we repeat what its caller repeats as well.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// In which the official SDKs of OpenAI and Anthropic say how often they have sent a request before.
pub(crate) const RETRY_COUNT: &str = "x-stainless-retry-count";

/// In which they name their language; all of them are made by the same generator.
const STAINLESS_LANGUAGE: HeaderName = HeaderName::from_static("x-stainless-lang");

/// In which Google's libraries name themselves.
const GOOGLE_CLIENT: HeaderName = HeaderName::from_static("x-goog-api-client");

/// LangChain's product for Gemini, which repeats what Google's library does not.
const LANGCHAIN_FOR_GOOGLE: &str = "langchain-google-genai/";

/// Products in `User-Agent`, in small letters, as other libraries name themselves. Those that begin like one of these,
/// such as `langchain-google-genai`, are meant as well. Whoever is missing here is told what everybody is told.
const OTHERS: [&str; 24] = [
    "anthropic",
    "asyncanthropic",
    "asyncazureopenai",
    "asyncopenai",
    "azsdk-",
    "azureopenai",
    "cohere",
    "google-genai",
    "groq",
    "haystack",
    "huggingface",
    "instructor",
    "langchain",
    "litellm",
    "llama-index",
    "llama_index",
    "mistral",
    "ollama-",
    "openai",
    "openrouter",
    "pydantic-ai",
    "semantic-kernel",
    "spring-ai",
    "together",
];

/// Most that is read of a `User-Agent`. Libraries name themselves at its beginning, and a stranger's may be as long as
/// a head.
const AGENT_BYTES_READ: usize = 256;

/// The client library that sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Library {
    /// An official SDK of OpenAI's or Anthropic's.
    Official {
        /// What it calls the number of its own retries.
        retries: &'static str,
    },
    /// The `ai` package of Vercel's.
    Vercel,
    /// One of Google's.
    Google,
    /// Another one, which takes what is no error for an answer of the API's.
    Other,
    /// None that is known: a program of somebody's own, such as curl.
    None,
}

impl Library {
    /// By these headers of a request.
    pub(crate) fn of(headers: &HeaderMap) -> Library {
        if let Some(language) = headers.get(STAINLESS_LANGUAGE) {
            let retries = match language.as_bytes() {
                b"js" | b"java" | b"kotlin" => "maxRetries",
                b"go" => "WithMaxRetries",
                _ => "max_retries",
            };
            return Library::Official { retries };
        }
        if headers.contains_key(RETRY_COUNT) {
            return Library::Official { retries: "max_retries" };
        }
        if headers.contains_key(GOOGLE_CLIENT) {
            return Library::Google;
        }
        let agent = agent(headers);
        if agent.starts_with("ai/") || agent.starts_with("ai-sdk") {
            return Library::Vercel;
        }
        let is_known = |product: &str| OTHERS.iter().any(|known| begins_like(product, known));
        if agent.split_ascii_whitespace().any(is_known) { Library::Other } else { Library::None }
    }

    /// Whether a caller with these headers sends a request again by itself when it fails. Official SDKs say so with
    /// every call; Vercel's is known by its name, and so is LangChain's for Gemini, beside that of Google's library.
    pub(crate) fn repeats_by_itself(headers: &HeaderMap) -> bool {
        headers.contains_key(RETRY_COUNT)
            || Library::of(headers) == Library::Vercel
            || agent(headers).split_ascii_whitespace().any(|product| begins_like(product, LANGCHAIN_FOR_GOOGLE))
    }
}

/// What a program says of itself, as far as it is read.
fn agent(headers: &HeaderMap) -> &str {
    let agent = headers.get(header::USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
    let agent = agent.get(..AGENT_BYTES_READ).unwrap_or(agent);
    str::from_utf8(agent).unwrap_or_default()
}

/// Whether a product's name begins like this one, which is in small letters.
fn begins_like(product: &str, known: &str) -> bool {
    product.get(..known.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_known_by_what_it_says() {
        let of = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            Library::of(&headers)
        };
        let official = |retries| Library::Official { retries };
        let cases = [
            ("x-stainless-lang", "python", official("max_retries")),
            ("x-stainless-lang", "js", official("maxRetries")),
            ("x-stainless-lang", "go", official("WithMaxRetries")),
            ("x-stainless-retry-count", "0", official("max_retries")),
            ("x-goog-api-client", "google-genai-sdk/1.52.0 gl-python/3.13.1", Library::Google),
            ("user-agent", "ai/6.0.14 ai-sdk/provider-utils/4.0.3", Library::Vercel),
            ("user-agent", "ai-sdk/openai/3.0.1", Library::Vercel),
            ("user-agent", "OpenAI/Python 3.52.0", Library::Other),
            ("user-agent", "AsyncAnthropic/Python 2.11.0", Library::Other),
            ("user-agent", "OpenAI/2.1.0 (.NET 9.0.0; Linux)", Library::Other),
            ("user-agent", "azsdk-net-AI.OpenAI/2.1.0", Library::Other),
            ("user-agent", "litellm/1.80.0", Library::Other),
            ("user-agent", "python-httpx/0.28.1 langchain-google-genai/2.1.0", Library::Other),
            ("user-agent", "pydantic-ai/1.2.0", Library::Other),
            ("user-agent", "curl/8.14.1", Library::None),
            ("user-agent", "python-requests/2.32.3", Library::None),
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) Firefox/145.0", Library::None),
            ("user-agent", "air/1.0", Library::None),
            ("accept", "openai", Library::None),
        ];
        for (name, value, expected) in cases {
            assert_eq!(of(name, value), expected, "{name}: {value}");
        }
        assert_eq!(Library::of(&HeaderMap::new()), Library::None);
    }

    #[test]
    fn callers_that_repeat_by_themselves_are_known_by_what_they_say() {
        let of = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            Library::repeats_by_itself(&headers)
        };
        assert!(of("x-stainless-retry-count", "0"));
        assert!(of("user-agent", "ai/6.0.14 ai-sdk/provider-utils/4.0.3"));
        assert!(of("user-agent", "ai-sdk/openai/3.0.1"));
        let langchain = "google-genai-sdk/3.6.1 gl-python/3.11.7 langchain-google-genai/4.4.3-ChatGoogleGenerativeAI";
        assert!(of("user-agent", langchain));
        assert!(!of("user-agent", "google-genai-sdk/3.6.1 gl-python/3.11.7"));
        // Those that say no count may be told not to repeat, or are too old to.
        assert!(!of("x-stainless-lang", "python"));
        assert!(!of("user-agent", "curl/8.14.1"));
    }
}
