//! What happens when: the queue of future events.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use spillway_resilience::Timestamp;

/// Something that is going to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// The next request of this tenant arrives.
    Arrival(usize),
    /// The recorded request of this number arrives.
    Recorded(usize),
    /// The client sends the request in this slot once more.
    Sending(usize),
    /// The protection wanted to be asked for the request in this slot once more.
    Again(usize),
    /// The provider's answer to the request in this slot is there, or its time is over.
    Answer(usize),
    /// The protection wanted to be woken.
    Wake,
}

/// Events in the order of their times; those of one instant in the order in which they were
/// planned, so that a run depends on nothing but its seed.
#[derive(Debug, Default)]
pub struct Events {
    heap: BinaryHeap<Reverse<(Timestamp, u64, Event)>>,
    planned: u64,
}

impl Events {
    /// Plans an event.
    pub fn plan(&mut self, at: Timestamp, event: Event) {
        self.heap.push(Reverse((at, self.planned, event)));
        self.planned += 1;
    }

    /// The next event; `None` when nothing is left to happen.
    pub fn pop(&mut self) -> Option<(Timestamp, Event)> {
        self.heap.pop().map(|Reverse((at, _, event))| (at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_those_of_one_instant_as_planned() {
        let mut events = Events::default();
        let at = Timestamp::from_micros;
        events.plan(at(2), Event::Again(9));
        events.plan(at(1), Event::Wake);
        events.plan(at(2), Event::Arrival(3));
        events.plan(at(0), Event::Answer(1));
        let order: Vec<Event> = std::iter::from_fn(|| events.pop()).map(|(_, event)| event).collect();
        assert_eq!(order, [Event::Answer(1), Event::Wake, Event::Again(9), Event::Arrival(3)]);
    }
}
