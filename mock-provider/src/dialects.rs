//! Which API a path belongs to, how that API frames its streams, and what it answers to a reply.

use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::healthy;
use super::observe::RecordedRequest;
use super::reply::{Content, Reply};

/// The families of error envelopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    OpenAi,
    Anthropic,
    Gemini,
}

/// How a streamed answer is cut into events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Unnamed server-sent events.
    Data(Dialect),
    /// The named events of OpenAI's Responses.
    Responses,
    /// The named events of Anthropic's Messages.
    Messages,
    /// One JSON array sent piecemeal: Gemini without `alt=sse`.
    Array,
}

/// The operation that a request calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Chat,
    Responses,
    Embeddings,
    Models,
    Messages,
    CountTokens,
    Generate,
    StreamGenerate,
    Unknown,
}

impl Route {
    /// Suffixes decide, so that any base path in front (`/openai/v1`, Azure's deployments) works.
    pub(super) fn of(request: &RecordedRequest) -> Self {
        let ends = |suffix: &str| request.path.ends_with(suffix);
        match request.method.as_str() {
            "POST" if ends("/chat/completions") => Self::Chat,
            "POST" if ends("/responses") => Self::Responses,
            "POST" if ends("/embeddings") => Self::Embeddings,
            "POST" if ends("/messages") => Self::Messages,
            "POST" if ends("/messages/count_tokens") => Self::CountTokens,
            "POST" if ends(":generateContent") => Self::Generate,
            "POST" if ends(":streamGenerateContent") => Self::StreamGenerate,
            "GET" if ends("/v1/models") => Self::Models,
            _ => Self::Unknown,
        }
    }

    pub(super) fn dialect(self) -> Dialect {
        match self {
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
            Self::Generate | Self::StreamGenerate => Dialect::Gemini,
            Self::Chat | Self::Responses | Self::Embeddings | Self::Models | Self::Unknown => Dialect::OpenAi,
        }
    }

    /// How this operation streams, whether or not this request asks for it.
    fn stream_framing(self, request: &RecordedRequest) -> Framing {
        let query = request.query.as_deref().unwrap_or_default();
        match self {
            Self::Responses => Framing::Responses,
            Self::Messages | Self::CountTokens => Framing::Messages,
            Self::StreamGenerate if !query.split('&').any(|pair| pair == "alt=sse") => Framing::Array,
            Self::Generate | Self::StreamGenerate => Framing::Data(Dialect::Gemini),
            Self::Chat | Self::Embeddings | Self::Models | Self::Unknown => Framing::Data(Dialect::OpenAi),
        }
    }

    /// How this request asks to be streamed to, if it does.
    pub(super) fn requested_framing(self, request: &RecordedRequest) -> Option<Framing> {
        let streamed = match self {
            Self::Chat | Self::Responses | Self::Messages => request.json["stream"] == true,
            Self::StreamGenerate => true,
            Self::Embeddings | Self::Models | Self::CountTokens | Self::Generate | Self::Unknown => false,
        };
        streamed.then(|| self.stream_framing(request))
    }
}

/// What an API answers, before steps are scripted into it.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The events of a stream, or the whole body as the only one.
    pub(super) events: Vec<Bytes>,
    /// `None` if not streamed.
    pub(super) framing: Option<Framing>,
}

impl Answer {
    /// An answer with status 200 and the headers its framing asks for.
    pub(super) fn ok(framing: Option<Framing>, events: Vec<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        let content_type = match framing {
            None | Some(Framing::Array) => "application/json",
            Some(Framing::Data(_) | Framing::Responses | Framing::Messages) => {
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                "text/event-stream; charset=utf-8"
            }
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status: StatusCode::OK, headers, events, framing }
    }

    /// What this reply means to this request.
    pub(super) fn to(reply: &Reply, request: &RecordedRequest) -> Self {
        let route = Route::of(request);
        let dialect = route.dialect();
        let requested = route.requested_framing(request);
        let mut answer = match &reply.content {
            Content::Healthy => healthy::answer(route, requested, reply, request),
            Content::Fixed(body) => {
                let mut answer = Self::ok(None, vec![body.clone()]);
                answer.headers.clear();
                answer
            }
            Content::Scripted => Self::ok(Some(route.stream_framing(request)), Vec::new()),
            Content::Failure { failure, in_200: true } => {
                let whole = || failure.envelope(dialect, reply.retry_after_s).to_string().into();
                let body = requested.map_or_else(whole, |framing| framing.error_event(*failure, 0));
                Self::ok(requested, vec![body])
            }
            Content::Failure { failure, in_200: false } => {
                let body = failure.envelope(dialect, reply.retry_after_s).to_string();
                Self { status: failure.status(dialect), ..Self::ok(None, vec![body.into()]) }
            }
        };
        if let (Some(seconds), Dialect::OpenAi | Dialect::Anthropic) = (reply.retry_after_s, dialect) {
            answer.headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        let id_header = match dialect {
            Dialect::OpenAi => Some("x-request-id"),
            Dialect::Anthropic => Some("request-id"),
            Dialect::Gemini => None,
        };
        if let (Some(name), Ok(id)) = (id_header, HeaderValue::from_str(&format!("req_mock{:06}", request.number))) {
            answer.headers.insert(HeaderName::from_static(name), id);
        }
        answer
    }
}

/// One server-sent event.
pub(super) fn sse_event(name: Option<&str>, data: &Value) -> Bytes {
    let name = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
    format!("{name}data: {data}\n\n").into()
}

/// What arrived, as JSON: the answer to paths that belong to no API known here.
pub(super) fn echo(request: &RecordedRequest) -> Value {
    let mut headers = json!({});
    for (name, value) in &request.headers {
        let all = match headers[name].as_str() {
            Some(earlier) => format!("{earlier}, {value}"),
            None => value.clone(),
        };
        headers[name] = all.into();
    }
    json!({
        "method": request.method, "path": request.path, "query": request.query,
        "headers": headers, "body_length": request.body.len(),
    })
}
