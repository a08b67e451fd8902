//! Why a target has not served, what is left for the request then, and what is told if nobody does.

use crate::proxy::target::Target;
use crate::proxy::unserved::{Blocked, Failed};
use crate::proxy::walk::Past;
use spillway_resilience::Reach;
use std::rc::Rc;
use std::time::Duration;

/// What is told of a request that nobody has served.
pub(super) struct Word {
    pub target: Rc<Target>,
    pub last: Option<Failed>,
    pub blocked: Blocked,
}

impl Word {
    /// The word of the target that was meant counts, or else of the first that was asked; and of its words the last one.
    /// What has failed there says more than what has kept the next call from being made.
    pub(super) fn after(first: Option<Word>, next: Word) -> Word {
        let Some(first) = first else { return next };
        let is_of_same = first.target.label() == next.target.label();
        let counts = match (first.target.stands_in(), next.target.stands_in()) {
            (true, false) => true,
            _ if is_of_same => next.last.is_some() || first.last.is_none(),
            _ => false,
        };
        if counts { next } else { first }
    }
}

/// Why a target has not served.
pub(super) struct Out {
    /// What its last attempt came to, if one was made.
    pub last: Option<Failed>,
    pub blocked: Blocked,
    pub then: Then,
    pub past: Past,
}

/// What is left for a request that a target has not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing: another target would do no better, or must not be asked.
    Over,
    /// Another target may do better.
    Elsewhere {
        /// How far its failure reaches, if it was asked.
        reach: Option<Reach>,
        /// After which wait this one may do better itself.
        later: Option<Later>,
    },
}

/// When a target may do better than it has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Later {
    pub wait: Duration,
    /// Whether the wait is to be sat out, rather than waited for where calls are let in.
    pub is_backoff: bool,
}

impl Out {
    /// Nobody else is asked.
    pub(super) fn over(last: Option<Failed>, blocked: Blocked) -> Out {
        Out { last, blocked, then: Then::Over, past: Past::default() }
    }
}
