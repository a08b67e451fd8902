//! A response of the provider's on the point of becoming the caller's.

use crate::dialect::headers::strip_hop_by_hop;
use crate::proxy::allowance_left::tell_what_is_left;
use crate::proxy::body::Body;
use crate::proxy::completion::Completion;
use crate::proxy::forward::Forward;
use crate::proxy::hold::BufferedResponse;
use crate::proxy::respond::SHOULD_RETRY;
use crate::proxy::upgrade::switch;
use http::{HeaderValue, Response, header};

/// Sends the head, and lets the rest follow. `is_final` says that the caller should not try again by itself.
pub(crate) fn answer(mut held: BufferedResponse, completion: Completion, is_final: bool) -> Response<Body> {
    if let Some(provider) = held.switched.take() {
        return switch(held, provider, completion);
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = held.status;
    let headers = response.headers_mut();
    headers.clone_from(&held.headers);
    strip_hop_by_hop(headers);
    completion.trace.insert_headers(headers);
    tell_what_is_left(headers, &completion.target, completion.worker.app.ledger.as_deref());
    if is_final {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    if held.splitter.is_some() {
        // Whatever stands between here and the caller must not buffer, and events may come and go on the way.
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    }
    completion.target.upstream.metrics.overhead(completion.trace.overhead());
    *response.body_mut() = Body::Arriving(Box::new(Forward::new(held, completion)));
    response
}
