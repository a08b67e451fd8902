//! What a caller wants of an upstream, read from the request once and never changed.

use crate::dialect::compression;
use crate::dialect::estimate::Estimate;
use crate::dialect::headers;
use crate::dialect::{Asked, Dialect, Operation};
use crate::proxy::refusal::{Kind, Refusal};
use crate::proxy::worker::HeldBytes;
use crate::runtime::upload::{Upload, UploadError};
use crate::tenants::callers::Caller;
use crate::upstream::Upstream;
use crate::upstream::scope::Subject;
use bytes::Bytes;
use http::{HeaderMap, Method, header, request};
use http_body_util::BodyExt;
use spillway_resilience::{Demand, ShedSettings};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// In which official SDKs say how often they have sent a request before.
const RETRY_COUNT: &str = "x-stainless-retry-count";

/// By which a provider that honours it knows a request again: draft-ietf-httpapi-idempotency-key-header.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Of a compressed request so much is decoded, to be read; what goes upstream stays as it came. What is asked for beyond
/// that is not known.
const READABLE_BYTES_MAX: usize = 16 << 20;

/// Longest name of a model that is told from others. Providers' own are a tenth of that.
const MODEL_BYTES_MAX: usize = 256;

/// Where a request goes.
#[derive(Clone, Debug)]
pub struct Route {
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// The API spoken.
    pub dialect: Dialect,
    /// What it asks for.
    pub operation: Operation,
    /// The path and query, as the upstream knows them.
    pub path_and_query: String,
}

impl Route {
    /// Finds the upstream: by name, when the path begins with one, else by the API that path and headers belong to.
    ///
    /// A name alone is that upstream's root. Azure's own paths begin with the name of another upstream, and are kept whole.
    ///
    /// # Errors
    /// When neither tells.
    pub fn find(upstreams: &BTreeMap<String, Arc<Upstream>>, head: &request::Parts) -> Result<Route, Refusal> {
        let path = head.uri.path();
        let no_route = || Refusal::from(Kind::NoSuchRoute { path: path.to_owned() });
        // A base URL that ends with a slash doubles it, which means the same.
        let path = format!("/{}", path.trim_start_matches('/'));
        let by_name = || {
            let rest = &path[1..];
            let name = rest.split('/').next().unwrap_or_default();
            Some((upstreams.get(name)?, if name == rest { "/" } else { &rest[name.len()..] }))
        };
        let of_azure = || {
            let azure = upstreams.get("azure").or_else(|| upstreams.get(Dialect::OpenAi.as_str()))?;
            path.starts_with("/openai/deployments/").then_some((azure, &*path))
        };
        let (upstream, path) = match of_azure().or_else(by_name) {
            Some(found) => found,
            None => {
                let dialect = Dialect::recognise(&path, &head.headers).ok_or_else(no_route)?;
                (upstreams.get(dialect.as_str()).ok_or_else(no_route)?, &*path)
            }
        };
        let config = &upstream.config;
        let (dialect, operation) = config.dialect.along(path);
        let mut path_and_query = config.dialect.canonical_path(path, config.base.adds_version());
        if let Some(query) = head.uri.query() {
            path_and_query.push('?');
            path_and_query.push_str(query);
        }
        let operation = if head.method == Method::POST { operation } else { Operation::PassThrough };
        Ok(Route { upstream: Arc::clone(upstream), dialect, operation, path_and_query })
    }

    fn path(&self) -> &str {
        path_of(&self.path_and_query)
    }
}

fn path_of(path_and_query: &str) -> &str {
    path_and_query.split('?').next().unwrap_or_default()
}

/// A request's body on its way upstream.
#[derive(Debug)]
pub enum CallBody {
    /// Held, so that it can be sent again.
    Whole(Bytes),
    /// Passing through, once.
    Streaming(RefCell<Option<Upload>>),
}

/// What a caller wants of an upstream.
#[derive(Debug)]
pub struct Call {
    /// Under which the log knows it.
    pub request_id: String,
    /// Who shall serve it.
    pub upstream: Arc<Upstream>,
    /// The API spoken.
    pub dialect: Dialect,
    /// What its path asks for.
    pub operation: Operation,
    /// Its method.
    pub method: Method,
    /// Its path and query, as the upstream knows them.
    pub path_and_query: String,
    /// Its headers, as they came.
    pub headers: HeaderMap,
    /// Its headers, as they go upstream.
    pub upstream_headers: HeaderMap,
    /// Its body.
    pub body: CallBody,
    /// What the body asks for.
    pub asked: Asked,
    /// What is sent in the body's place, so that a stream reports usage for which the caller did not ask.
    pub body_demanding_usage: Option<Bytes>,
    /// Whether that is what is sent.
    pub demands_usage: Cell<bool>,
    /// Who made it.
    pub caller: Caller,
    /// What it is expected to cost.
    pub estimate: Estimate,
    /// When it must be answered.
    pub deadline: Instant,
    /// Whether the deadline is the caller's own wish, and so no fault of the upstream's when it passes.
    pub deadline_is_callers: bool,
}

impl Call {
    /// Reads a request whose route is known, its body included.
    ///
    /// # Errors
    /// When the body is too large, breaks off, or the request cannot be sent on.
    pub async fn receive(
        route: Route,
        head: request::Parts,
        body: Upload,
        request_id: String,
        caller: Caller,
        (body_bytes_max, timeout): (usize, Duration),
        held: &mut HeldBytes,
    ) -> Result<Call, Refusal> {
        if headers::is_loop(&head.headers) {
            return Err(Kind::BadRequest {
                reason: "it has passed through Spillway before: an upstream points back here".into(),
            }
            .into());
        }
        let operation = route.operation;
        let has_body = !http_body::Body::is_end_stream(&body);
        let body = if operation == Operation::Generate || !has_body {
            CallBody::Whole(read(body, &head.headers, body_bytes_max, &caller, held).await?)
        } else {
            CallBody::Streaming(RefCell::new(Some(body)))
        };
        let wish = callers_timeout(&head.headers).filter(|wish| *wish < timeout);
        let deadline = Instant::now() + wish.unwrap_or(timeout);
        let mut call = Call::new(route, head.method, head.headers, body, request_id, caller, deadline)?;
        call.deadline_is_callers = wish.is_some();
        Ok(call)
    }

    /// As [`Call::receive`], of parts that are at hand.
    ///
    /// # Errors
    /// When they make no request.
    pub fn new(
        route: Route,
        method: Method,
        headers: HeaderMap,
        body: CallBody,
        request_id: String,
        caller: Caller,
        deadline: Instant,
    ) -> Result<Call, Refusal> {
        let (operation, mut dialect) = (route.operation, route.dialect);
        let base = &route.upstream.config.base;
        base.join(&route.path_and_query)
            .map_err(|error| Kind::BadRequest { reason: format!("its path is no URL's: {error}") })?;
        let (mut asked, mut estimate, mut body_demanding_usage) = (Asked::default(), Estimate::default(), None);
        if let CallBody::Whole(bytes) = &body
            && operation == Operation::Generate
        {
            let readable = compression::decoded(&headers, bytes, READABLE_BYTES_MAX);
            dialect = dialect.in_body(route.path(), &readable);
            asked = dialect.read_request(route.path(), &readable);
            let limits = &route.upstream.config.limits;
            let (output_default, context) = (limits.default_output_tokens, limits.context_tokens);
            estimate = Estimate::of(dialect, &asked, &readable, output_default, context);
            if asked.usage_withheld && route.upstream.asks_for_usage() {
                body_demanding_usage = dialect.demand_usage(bytes);
            }
        }
        // Models name circuits and stand in logs; what goes upstream is the body.
        if let Some(model) = &mut asked.model {
            model.truncate(model.floor_char_boundary(MODEL_BYTES_MAX));
        }
        let whole = matches!(body, CallBody::Whole(_));
        Ok(Call {
            request_id,
            upstream_headers: headers::for_upstream(
                &headers,
                base.authority().as_str(),
                whole && operation == Operation::Generate,
            ),
            upstream: route.upstream,
            dialect,
            operation,
            method,
            path_and_query: route.path_and_query,
            headers,
            body,
            asked,
            demands_usage: Cell::new(body_demanding_usage.is_some()),
            body_demanding_usage,
            caller,
            estimate,
            deadline,
            deadline_is_callers: false,
        })
    }

    /// Its path, without the query.
    pub fn path(&self) -> &str {
        path_of(&self.path_and_query)
    }

    /// By what it is told from others.
    pub fn subject(&self) -> Subject<'_> {
        Subject { model: self.asked.model.as_deref(), credential: self.caller.credential }
    }

    /// Whether its caller sends it again by itself when it fails.
    pub fn is_repeated_by_its_caller(&self) -> bool {
        is_repeated_by_its_caller(&self.headers)
    }

    /// Whether this attempt is the first of all: ours, and as far as is known its caller's.
    pub fn is_first(&self, attempt: u32) -> bool {
        attempt == 1 && !self.has_come_back()
    }

    /// Whether its caller has sent it before, and says so.
    pub fn has_come_back(&self) -> bool {
        has_come_back(&self.headers)
    }

    /// What it asks of limits.
    pub fn demand(&self) -> Demand {
        Demand { tenant: self.caller.tenant, priority: self.caller.priority, tokens: self.estimate.total }
    }

    /// Whether it carries a key by which its provider knows it again, and does it once.
    fn has_honoured_key(&self) -> bool {
        self.upstream.config.honours_idempotency_keys && self.headers.contains_key(IDEMPOTENCY_KEY)
    }

    /// Whether another attempt can be made: its body is at hand, and repeating it means the same.
    pub fn is_repeatable(&self) -> bool {
        match self.body {
            CallBody::Whole(_) => {
                let once = self.asked.creates && !self.has_honoured_key();
                self.operation == Operation::Generate && !once || matches!(self.method, Method::GET | Method::HEAD)
            }
            CallBody::Streaming(_) => false,
        }
    }
}

/// Official SDKs say it with every call; Vercel's is known by its name.
fn is_repeated_by_its_caller(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    headers.contains_key(RETRY_COUNT) || agent.starts_with("ai/") || agent.starts_with("ai-sdk")
}

fn has_come_back(headers: &HeaderMap) -> bool {
    let count = headers.get(RETRY_COUNT).and_then(|count| count.to_str().ok()?.trim().parse::<u32>().ok());
    count.is_some_and(|count| count > 0)
}

/// Reads a body within its own bound, and within that of all bodies together.
async fn read(
    mut body: Upload,
    headers: &HeaderMap,
    limit: usize,
    caller: &Caller,
    held: &mut HeldBytes,
) -> Result<Bytes, Refusal> {
    let too_large = || Refusal::from(Kind::BodyTooLarge { limit });
    let no_room =
        || Refusal::after(Kind::Overloaded { priority: caller.priority }, ShedSettings::DEFAULT_RETRY_AFTER_MIN);
    // Refused before a byte of it is read, when its length is announced, and held from then on.
    let announced =
        headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    held.grow_to(announced.unwrap_or(0)).then_some(()).ok_or_else(no_room)?;
    let (mut frames, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let broken = |error| match error {
            UploadError::Broken(_) => Kind::BadRequest { reason: format!("its body broke off: {error}") },
            UploadError::Late { timeout } => Kind::BodyLate { timeout },
        };
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        length += data.len();
        if length > limit {
            return Err(too_large());
        }
        held.grow_to(length).then_some(()).ok_or_else(no_room)?;
        frames.push(data);
    }
    Ok(match frames.len() {
        1 => frames.swap_remove(0),
        _ => Bytes::from(frames.concat()),
    })
}

/// The caller's own patience, which SDKs announce in seconds.
fn callers_timeout(headers: &HeaderMap) -> Option<Duration> {
    ["x-stainless-read-timeout", "x-stainless-timeout", "x-server-timeout"]
        .iter()
        .filter_map(|name| headers.get(*name)?.to_str().ok()?.parse::<f64>().ok())
        .find(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

/// What a caller prefers, by RFC 7240.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preference {
    /// `respond-async`: a 202 is welcome, should the request not be served now.
    pub respond_async: bool,
    /// `wait`: for so long an answer is preferred to a 202.
    pub wait: Option<Duration>,
}

impl Preference {
    /// Longest wait honoured: Node's own HTTP client gives up after 300 seconds.
    pub const WAIT_MAX: Duration = Duration::from_secs(240);

    /// Reads every `Prefer` header.
    pub fn read(headers: &HeaderMap) -> Preference {
        let mut preference = Preference::default();
        let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        for token in values.flat_map(|value| value.split(',')) {
            let (name, value) = token.split_once('=').unwrap_or((token, ""));
            if name.trim().eq_ignore_ascii_case("respond-async") {
                preference.respond_async = true;
            } else if name.trim().eq_ignore_ascii_case("wait") {
                let seconds = value.trim().trim_matches('"').parse::<u64>().ok();
                preference.wait = seconds.map(|seconds| Duration::from_secs(seconds).min(Preference::WAIT_MAX));
            }
        }
        preference
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn preferences_are_read_from_every_header() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("prefer", HeaderValue::from_static(value));
            }
            Preference::read(&headers)
        };
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(read(&[]), Preference::default());
        assert_eq!(read(&["respond-async"]), Preference { respond_async: true, wait: None });
        assert_eq!(read(&["respond-async, wait=20"]), Preference { respond_async: true, wait: seconds(20) });
        assert_eq!(read(&["Wait=5", "Respond-Async"]), Preference { respond_async: true, wait: seconds(5) });
        assert_eq!(read(&["respond-async, wait=9999"]).wait, Some(Preference::WAIT_MAX));
        assert_eq!(read(&["respond-async, wait=soon"]).wait, None);
    }

    #[test]
    fn callers_that_repeat_by_themselves_are_known_by_what_they_say() {
        let of = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            (is_repeated_by_its_caller(&headers), has_come_back(&headers))
        };
        assert_eq!(of("x-stainless-retry-count", "0"), (true, false));
        assert_eq!(of("x-stainless-retry-count", "2"), (true, true));
        assert_eq!(of("x-stainless-retry-count", "often"), (true, false));
        assert_eq!(of("user-agent", "ai/6.0.14 ai-sdk/provider-utils/4.0.3"), (true, false));
        assert_eq!(of("user-agent", "ai-sdk/openai/3.0.1"), (true, false));
        assert_eq!(of("user-agent", "curl/8.14.1"), (false, false));
    }

    #[test]
    fn the_callers_timeout_counts_when_it_is_a_number() {
        let of = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            callers_timeout(&headers)
        };
        assert_eq!(of("x-stainless-read-timeout", "30"), Some(Duration::from_secs(30)));
        assert_eq!(of("x-stainless-timeout", "NOT_GIVEN"), None);
        assert_eq!(of("x-server-timeout", "0"), None);
    }
}
