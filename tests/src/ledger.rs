//! The calls that providers get, by the requests for which they are made.

use crate::http::Request;
use crate::provider::{Provider, RecordedRequest, healthy, request};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// By this header a call at a provider is known for its request's.
const NUMBER: &str = "x-request-number";

/// Every call that some providers get, however many; clones are the same ledger.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Vec<Call>>>);

/// A call of a request that has a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who got it.
    pub provider: &'static str,
    /// The number of its request.
    pub number: usize,
    /// When its last byte had arrived.
    pub at: Instant,
}

/// The same request with a number.
#[must_use]
pub fn numbered(request: Request, number: usize) -> Request {
    request.header(NUMBER, &number.to_string())
}

/// The number of the request that a call was made for, if it has one.
pub fn number_of(call: &RecordedRequest) -> Option<usize> {
    call.header(NUMBER)?.parse().ok()
}

impl Ledger {
    /// Notes every call that comes to a provider from here on, under this name. Rules that the provider gets later hide
    /// from it what they match.
    pub fn note(&self, name: &'static str, provider: &Provider) {
        let ledger = self.clone();
        let note = move |call: &RecordedRequest| {
            let noted = number_of(call).map(|number| Call { provider: name, number, at: call.at });
            ledger.0.lock().unwrap_or_else(PoisonError::into_inner).extend(noted);
            false
        };
        // The youngest rule sees every call; since it never matches, it changes none.
        provider.when(request(note), healthy());
    }

    /// The calls until now, the first to arrive first.
    pub fn calls(&self) -> Vec<Call> {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        calls.sort_by_key(|call| call.at);
        calls
    }
}
