//! A request as its caller made it, read once and never changed.

use crate::dialect::estimate::{Estimate, Input};
use crate::dialect::library::{Library, RETRY_COUNT};
use crate::dialect::{Dialect, Operation, Parameters, compression, headers, query, upgrade};
use crate::proxy::load_share::LoadShare;
use crate::proxy::refusal::{Refusal, RefusalKind};
use crate::proxy::route::RequestLine;
use crate::runtime::clock::wall_unix_ms;
use crate::runtime::upload::{Upload, UploadError};
use crate::tenants::callers::Caller;
use crate::tenants::runaway::Trail;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Version, request};
use http_body_util::BodyExt;
use spillway_resilience::ShedSettings;
use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::time::Duration;
use tokio::time::Instant;

/// Of a compressed request so much is decoded, to be read; what goes upstream stays as it came. What is asked for
/// beyond that is not known.
pub(crate) const READABLE_BYTES_MAX: usize = 16 << 20;

/// Longest name of a model that is told from others. Providers' own are a tenth of that.
const MODEL_BYTES_MAX: usize = 256;

/// A request's body on its way upstream.
#[derive(Debug)]
pub(crate) enum InboundBody {
    /// Held, so that it can be sent again.
    Whole(Bytes),
    /// Passing through, once.
    Streaming(RefCell<Option<Upload>>),
}

/// A request as its caller made it. It knows nothing of who serves it, but that they speak the API of its route.
#[derive(Debug)]
pub(crate) struct InboundRequest {
    /// Under which the log knows it.
    pub id: String,
    pub dialect: Dialect,
    /// What its path asks for.
    pub operation: Operation,
    pub method: Method,
    /// Its path and query, without the name of an upstream before them.
    pub path_and_query: String,
    /// Its headers, as they came.
    pub headers: HeaderMap,
    pub body: InboundBody,
    /// The protocol that it asks the connection to change to, if it does.
    pub upgrade: Option<HeaderValue>,
    /// What the body asks for.
    pub parameters: Parameters,
    /// What its input is made of, where it is at hand.
    pub input: Input,
    pub caller: Caller,
    /// When it came, by the wall clock; `None` for a job's, which came when it was kept.
    pub came_unix_ms: Option<u64>,
    /// When it must be answered.
    pub deadline: Instant,
    /// Whether the deadline is the caller's own wish, and so no fault of an upstream's when it passes.
    pub deadline_is_callers: bool,
    /// Where the guards against runaway agents count what it uses, if any is on.
    pub trail: OnceCell<Trail>,
    /// It is in hand for as long as this lives, its answer included.
    _share: LoadShare,
}

impl InboundRequest {
    /// Reads a request whose line is understood, its body included.
    ///
    /// # Errors
    /// When the body is too large or breaks off, or the request has been here before.
    pub(crate) async fn receive(
        line: RequestLine,
        head: request::Parts,
        body: Upload,
        id: String,
        caller: Caller,
        (max_body, timeout): (usize, Duration),
        mut share: LoadShare,
    ) -> Result<InboundRequest, Refusal> {
        if headers::is_loop(&head.headers) {
            return Err(RefusalKind::BadRequest {
                reason: "it has passed through Spillway before: an upstream points back here (look at the urls of \
                         [upstreams])"
                    .into(),
            }
            .into());
        }
        let came_unix_ms = wall_unix_ms();
        let has_body = !http_body::Body::is_end_stream(&body);
        let body = if line.operation == Operation::Generate || !has_body {
            InboundBody::Whole(read(body, &head.headers, max_body, &caller, &mut share).await?)
        } else {
            InboundBody::Streaming(RefCell::new(Some(body)))
        };
        let wish = callers_timeout(&head.headers).filter(|wish| *wish < timeout);
        let deadline = Instant::now() + wish.unwrap_or(timeout);
        // What generates is answered as ever: whoever is asked to change may go on as before.
        let may_switch = head.version == Version::HTTP_11 && line.operation == Operation::PassThrough;
        let upgrade = upgrade::protocol(&head.headers).filter(|_| may_switch).cloned();
        let mut request = InboundRequest::new(line, (head.method, head.headers), body, id, caller, deadline, share);
        request.deadline_is_callers = wish.is_some();
        request.came_unix_ms = Some(came_unix_ms);
        if upgrade.is_some() {
            request.parameters.model = request.model_in_query();
            request.upgrade = upgrade;
        }
        Ok(request)
    }

    /// As [`InboundRequest::receive`], of parts that are at hand.
    pub(crate) fn new(
        line: RequestLine,
        (method, headers): (Method, HeaderMap),
        body: InboundBody,
        id: String,
        caller: Caller,
        deadline: Instant,
        share: LoadShare,
    ) -> InboundRequest {
        let mut request = InboundRequest {
            id,
            dialect: line.dialect,
            operation: line.operation,
            method,
            path_and_query: line.path_and_query,
            headers,
            body,
            upgrade: None,
            parameters: Parameters::default(),
            input: Input::default(),
            caller,
            came_unix_ms: None,
            deadline,
            deadline_is_callers: false,
            trail: OnceCell::new(),
            _share: share,
        };
        if let Some(readable) = request.readable() {
            let dialect = request.dialect.in_body(request.path(), &readable);
            let mut parameters = dialect.read_request(request.path(), &readable);
            parameters.model = parameters.model.map(as_name);
            let input = Input::of(Estimate::parts(dialect, &parameters, &readable));
            (request.dialect, request.parameters, request.input) = (dialect, parameters, input);
        }
        request
    }

    /// Its path, without the query.
    pub(crate) fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }

    /// The body of one that generates, decoded if it is compressed: what is sent on stays as it came.
    pub(crate) fn readable(&self) -> Option<Cow<'_, [u8]>> {
        match &self.body {
            InboundBody::Whole(bytes) if self.operation == Operation::Generate => {
                Some(compression::decoded(&self.headers, bytes, READABLE_BYTES_MAX))
            }
            InboundBody::Whole(_) | InboundBody::Streaming(_) => None,
        }
    }

    /// The model that its query names: who asks for a connection says it there. Azure calls it a deployment.
    fn model_in_query(&self) -> Option<String> {
        let (_, query) = self.path_and_query.split_once('?')?;
        let pairs = || query.split('&').filter_map(|pair| Some((query::name(pair), pair.split_once('=')?.1)));
        let named = |name: &str| pairs().find(|(known, _)| known == name).map(|(_, value)| query::decoded(value));
        let model = named("model").or_else(|| named("deployment"))?;
        (!model.is_empty()).then(|| as_name(model.into_owned()))
    }

    /// Whether its caller sends it again by itself when it fails.
    pub(crate) fn is_repeated_by_its_caller(&self) -> bool {
        Library::repeats_by_itself(&self.headers)
    }

    /// Whether this attempt at a target is the first of all there: ours, and as far as is known its caller's.
    pub(crate) fn is_first(&self, attempt: u32) -> bool {
        attempt == 1 && !self.has_come_back()
    }

    /// Whether its caller has sent it before, and says so.
    pub(crate) fn has_come_back(&self) -> bool {
        has_come_back(&self.headers)
    }
}

/// Models name circuits and stand in logs, so that they have a bound there; what goes upstream stays as it came.
fn as_name(mut model: String) -> String {
    model.truncate(model.floor_char_boundary(MODEL_BYTES_MAX));
    model
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
    share: &mut LoadShare,
) -> Result<Bytes, Refusal> {
    let too_large = || Refusal::from(RefusalKind::BodyTooLarge { limit, remedy: "Raise server.max_body to allow it." });
    let no_room =
        || Refusal::after(RefusalKind::Overloaded { priority: caller.priority }, ShedSettings::DEFAULT_RETRY_AFTER_MIN);
    // Refused before a byte of it is read, when its length is announced, and held from then on.
    let announced =
        headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    share.grow_to(announced.unwrap_or(0)).then_some(()).ok_or_else(no_room)?;
    let (mut frames, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let broken = |error| match error {
            UploadError::Broken(_) => RefusalKind::BadRequest { reason: format!("its body broke off: {error}") },
            UploadError::Late { timeout } => RefusalKind::BodyLate { timeout },
        };
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        length += data.len();
        if length > limit {
            return Err(too_large());
        }
        share.grow_to(length).then_some(()).ok_or_else(no_room)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn who_has_come_back_says_so() {
        let of = |count: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_COUNT, HeaderValue::from_static(count));
            has_come_back(&headers)
        };
        assert!(of("2") && !of("0") && !of("often"));
        assert!(!has_come_back(&HeaderMap::new()));
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
