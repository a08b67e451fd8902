//! A response of the provider's on the point of becoming the caller's.

use crate::attempt::{Held, Record};
use crate::body::Body;
use crate::call::Call;
use crate::circuit::Admission;
use crate::explain::Story;
use crate::forward::{Affair, Forward};
use crate::headers::strip_hop_by_hop;
use crate::metrics::Outcome;
use crate::upstream::Reserved;
use crate::worker::Worker;
use http::{HeaderValue, Response, header};
use spillway_sdk::Verdict;
use std::rc::Rc;

/// A response of the provider's that becomes the caller's.
#[derive(Debug)]
pub struct Served {
    /// The response, its beginning held.
    pub held: Held,
    /// What policies may see of it.
    pub record: Rc<Record>,
    /// What it was judged to be.
    pub verdict: Verdict,
    /// How the request has ended, should it arrive whole.
    pub outcome: Outcome,
}

impl Served {
    /// Sends the head, and lets the rest follow.
    pub fn forward(
        self,
        worker: &Rc<Worker>,
        call: &Rc<Call>,
        admission: Option<Admission>,
        reserved: Option<Reserved>,
        story: Story,
    ) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.held.status;
        let headers = response.headers_mut();
        headers.clone_from(&self.held.headers);
        strip_hop_by_hop(headers);
        story.insert_headers(headers);
        if self.held.splitter.is_some() {
            // Whatever stands between here and the caller must not buffer, and events may come and go on the way.
            headers.remove(header::CONTENT_LENGTH);
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
            headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        }
        call.upstream.metrics.overhead(story.overhead());
        let affair = Affair {
            worker: Rc::clone(worker),
            call: Rc::clone(call),
            record: self.record,
            verdict: self.verdict,
            admission,
            reserved,
            story,
            outcome: self.outcome,
        };
        *response.body_mut() = Body::Forward(Box::new(Forward::new(self.held, affair)));
        response
    }
}
