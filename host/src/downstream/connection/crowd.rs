//! The connections that a worker has open. When there are too many, one that nobody uses makes room for one that does.

use crate::downstream::connection::socket::Line;
use crate::runtime::gauge::Counted;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// A connection that has not been used for less is not taken for unused: whoever has just connected, or has just been
/// answered, is about to ask.
const UNUSED_FOR: Duration = Duration::from_secs(1);

/// A worker's connections, by the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    came: Cell<u64>,
    members: RefCell<BTreeMap<u64, Member>>,
}

#[derive(Debug)]
struct Member {
    line: Rc<Line>,
    _counted: Counted,
}

/// A connection's place among the others, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Rc<Crowd>,
    number: u64,
}

impl Crowd {
    /// Takes one in that is counted.
    pub(crate) fn join(self: &Rc<Self>, line: Rc<Line>, counted: Counted) -> Place {
        let number = self.came.get();
        self.came.set(number + 1);
        self.members.borrow_mut().insert(number, Member { line, _counted: counted });
        Place { crowd: Rc::clone(self), number }
    }

    /// Closes the one that has been of no use for longest: it is the least likely to be used the next moment. It counts
    /// no more from here on. Looks at all of them, which only happens when there are too many.
    pub(crate) fn close_longest_unused(&self) -> bool {
        let now = Instant::now();
        let unused = |(number, member): (&u64, &Member)| {
            let since =
                member.line.unused_since().filter(|since| now.saturating_duration_since(*since) >= UNUSED_FOR)?;
            Some((since, *number))
        };
        let longest = self.members.borrow().iter().filter_map(unused).min();
        let member = longest.and_then(|(_, number)| self.members.borrow_mut().remove(&number));
        member.as_ref().inspect(|member| member.line.close()).is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.members.borrow_mut().remove(&self.number);
    }
}
