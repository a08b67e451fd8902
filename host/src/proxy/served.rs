//! A response of the provider's on the point of becoming the caller's.

use crate::dialect::headers::strip_hop_by_hop;
use crate::observe::metrics::RequestOutcome;
use crate::policy::Record;
use crate::proxy::body::Body;
use crate::proxy::forward::{Affair, Forward};
use crate::proxy::hold::Held;
use crate::proxy::permits::Charges;
use crate::proxy::target::Target;
use crate::proxy::trace::Story;
use crate::proxy::worker::Worker;
use crate::upstream::circuit::Admission;
use http::{HeaderValue, Response, header};
use spillway_resilience::Consequence;
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
    pub outcome: RequestOutcome,
    /// The circuits' permits, unless they are settled already.
    pub admission: Option<Admission>,
    /// What is settled when the answer has ended.
    pub charges: Charges,
    /// Whether a failure of its request is counted already.
    pub has_failed: bool,
    /// Whether its caller should not try again by itself.
    pub is_final: bool,
}

impl Served {
    /// A response whose attempt is settled already.
    pub fn settled(
        held: Held,
        record: Rc<Record>,
        verdict: Verdict,
        consequence: &Consequence,
        outcome: RequestOutcome,
    ) -> Served {
        let (charges, is_final) = (Charges::default(), consequence.is_final);
        Served { held, record, verdict, outcome, admission: None, charges, has_failed: false, is_final }
    }

    /// Sends the head, and lets the rest follow.
    pub fn forward(self, worker: &Rc<Worker>, target: &Rc<Target>, story: Story) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.held.status;
        let headers = response.headers_mut();
        headers.clone_from(&self.held.headers);
        strip_hop_by_hop(headers);
        story.insert_headers(headers);
        if self.is_final {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if self.held.splitter.is_some() {
            // Whatever stands between here and the caller must not buffer, and events may come and go on the way.
            headers.remove(header::CONTENT_LENGTH);
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
            headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        }
        target.upstream.metrics.overhead(story.overhead());
        let affair = Affair {
            worker: Rc::clone(worker),
            target: Rc::clone(target),
            record: self.record,
            verdict: self.verdict,
            admission: self.admission,
            charges: self.charges,
            story,
            outcome: self.outcome,
            has_failed: self.has_failed,
        };
        *response.body_mut() = Body::Arriving(Box::new(Forward::new(self.held, affair)));
        response
    }
}
