//! Where the texts of a request are counted, for an upstream that has a tokeniser: short ones at once, longer ones on a
//! thread of their own, since a worker has others to serve meanwhile. What is more than that can bear is not counted,
//! and goes by its estimate.

use crate::dialect::estimate::Estimate;
use crate::dialect::estimate::learned::Parts;
use crate::dialect::estimate::tokenizer::Vocabulary;
use crate::proxy::request::{InboundBody, InboundRequest};
use crate::runtime::sync::lock;
use crate::upstream::Upstream;
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use tokio::task::spawn_blocking;

/// Texts up to this length together are counted where the request is: a fifth of a millisecond of prose, and less than
/// one of anything.
const ON_THE_WORKER_BYTES_MAX: u64 = 4 << 10;
/// Requests whose texts are counted beside the workers at the same time. They compete with these for processors.
const COUNTS_MAX: u32 = 4;
/// Length of the texts of all of these together. More than that is no prompt of any model, and takes a second.
const COUNTED_BYTES_MAX: u64 = 8 << 20;

/// What is being counted beside the workers.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    under_way: Arc<Mutex<UnderWay>>,
}

#[derive(Debug, Default)]
struct UnderWay {
    counts: u32,
    bytes: u64,
}

/// A count's place among those that are under way.
#[derive(Debug)]
struct Place {
    among: Arc<Mutex<UnderWay>>,
    bytes: u64,
}

impl Counting {
    /// Counts the texts of a request as the tokeniser of this upstream does, if it has one and it has not been done.
    pub(crate) async fn count(&self, request: &mut InboundRequest, upstream: &Upstream) {
        let Some(vocabulary) = upstream.estimates.vocabulary else { return };
        let bytes = request.input.parts.text_bytes();
        if bytes == 0 || request.input.is_counted(vocabulary.tokenizer) {
            return;
        }
        let counted = if bytes <= ON_THE_WORKER_BYTES_MAX {
            request.readable().map(|body| counted(request, &body, vocabulary))
        } else if let Some(place) = self.begin(bytes) {
            beside_the_worker(request, vocabulary, place).await
        } else {
            None
        };
        upstream.metrics.prompt(counted.is_some());
        if let Some(counted) = counted {
            request.input.count(vocabulary.tokenizer, counted);
        }
    }

    /// A place for texts of this length, if there is room.
    fn begin(&self, bytes: u64) -> Option<Place> {
        let mut under_way = lock(&self.under_way);
        let bytes_then = under_way.bytes.saturating_add(bytes);
        if under_way.counts >= COUNTS_MAX || bytes_then > COUNTED_BYTES_MAX {
            return None;
        }
        *under_way = UnderWay { counts: under_way.counts + 1, bytes: bytes_then };
        Some(Place { among: Arc::clone(&self.under_way), bytes })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut under_way = lock(&self.among);
        under_way.counts -= 1;
        under_way.bytes -= self.bytes;
    }
}

fn counted(request: &InboundRequest, body: &[u8], vocabulary: Vocabulary) -> Parts {
    Estimate::counted(request.dialect, &request.parameters, body, vocabulary)
}

/// A caller that leaves does not end it, so that its place is its own until it is done.
async fn beside_the_worker(request: &InboundRequest, vocabulary: Vocabulary, place: Place) -> Option<Parts> {
    let InboundBody::Whole(own) = &request.body else { return None };
    let body = match request.readable()? {
        Cow::Borrowed(_) => own.clone(),
        Cow::Owned(decoded) => Bytes::from(decoded),
    };
    let (dialect, parameters) = (request.dialect, request.parameters.clone());
    let counting = spawn_blocking(move || {
        let counted = Estimate::counted(dialect, &parameters, &body, vocabulary);
        drop(place);
        counted
    });
    // Should it fail, there is the estimate.
    counting.await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_and_so_much_is_counted_at_the_same_time() {
        let counting = Counting::default();
        let mut places: Vec<Place> = (0..COUNTS_MAX).map(|_| counting.begin(10).expect("room")).collect();
        assert!(counting.begin(10).is_none(), "one too many");
        places.pop();
        assert!(counting.begin(10).is_some(), "a count that has ended makes room");
        drop(places);
        let all = counting.begin(COUNTED_BYTES_MAX).expect("room");
        assert!(counting.begin(1).is_none(), "a byte too much");
        drop(all);
        assert!(counting.begin(COUNTED_BYTES_MAX + 1).is_none());
        assert!(counting.begin(1).is_some());
    }
}
