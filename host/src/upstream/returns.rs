//! Requests that were refused, and left to callers that send them again by themselves. Official SDKs say with each how
//! often they have sent it before. Vercel's says nothing of that, and what LangChain repeats is each time the first to
//! the SDK below it; those are known by what they send.

use spillway_resilience::Timestamp;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Requests that are remembered. Of more of them the oldest are forgotten, and taken for new ones when they come again.
pub(crate) const RETURNS_MAX: usize = 64;

/// So much of a body's beginning, and of its end, tells it from others of the same length: a conversation grows at one
/// of them.
const ENDS_BYTES: usize = 32 << 10;

/// What two sendings of one request have in common. Two requests may be alike by chance, once in thousands of millions
/// of pairs; then a pause of the second one's is left to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Likeness(u64);

impl Likeness {
    /// Of a request with this credential, path and body.
    pub(crate) fn of(credential: u64, path: &str, body: &[u8]) -> Likeness {
        let beginning = &body[..body.len().min(ENDS_BYTES)];
        let end = &body[body.len().saturating_sub(ENDS_BYTES)..];
        let mut hasher = DefaultHasher::new();
        (credential, path, body.len(), beginning, end).hash(&mut hasher);
        Likeness(hasher.finish())
    }
}

/// The requests that were left to their callers of late, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Returns(VecDeque<(Likeness, Timestamp)>);

impl Returns {
    /// Such a request is left to its caller.
    pub(crate) fn left(&mut self, request: Likeness, now: Timestamp) {
        self.0.retain(|(known, _)| *known != request);
        if self.0.len() >= RETURNS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((request, now));
    }

    /// When such a request was last left to its caller, if it was.
    pub(crate) fn when_left(&self, request: Likeness) -> Option<Timestamp> {
        self.0.iter().find(|(known, _)| *known == request).map(|(_, left)| *left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_alike_that_differ_in_nothing_that_is_sent() {
        let long = |end: &str| format!("{}{end}", "x".repeat(3 * ENDS_BYTES)).into_bytes();
        let like = Likeness::of(7, "/v1/messages", b"{}");
        assert_eq!(like, Likeness::of(7, "/v1/messages", b"{}"));
        assert_eq!(Likeness::of(7, "/p", &long("a")), Likeness::of(7, "/p", &long("a")));
        for other in [
            Likeness::of(8, "/v1/messages", b"{}"),
            Likeness::of(7, "/v1/other", b"{}"),
            Likeness::of(7, "/v1/messages", b"[]"),
            Likeness::of(7, "/v1/messages", b""),
        ] {
            assert_ne!(like, other);
        }
        assert_ne!(Likeness::of(7, "/p", &long("a")), Likeness::of(7, "/p", &long("b")));
        assert_ne!(Likeness::of(7, "/p", &long("")), Likeness::of(7, "/p", &long("x")));
    }

    #[test]
    fn the_latest_of_them_are_remembered_and_when() {
        let at = |seconds: usize| Timestamp::from_micros(seconds as u64 * 1_000_000);
        let number = |number: usize| Likeness::of(0, "", &number.to_be_bytes());
        let mut returns = Returns::default();
        assert_eq!(returns.when_left(number(0)), None);
        for moment in [1, 2] {
            returns.left(number(0), at(moment));
        }
        assert_eq!(returns.when_left(number(0)), Some(at(2)));
        for other in 1..=RETURNS_MAX {
            returns.left(number(other), at(3));
        }
        assert_eq!(returns.when_left(number(0)), None);
        assert_eq!((returns.0.len(), returns.when_left(number(1))), (RETURNS_MAX, Some(at(3))));
    }
}
