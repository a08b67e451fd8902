//! What stands between clients and provider: the boundary that the proxy and its contenders share.
//!
//! A protection is told what happens and orders what is to be done. It may let a request wait in
//! itself as long as it likes (it orders nothing), send it at once or later, send it again whatever
//! the answer was, hand the answer to the caller, or refuse; and it may ask to be woken.

use std::time::Duration;

use spillway_resilience::{Outcome, Timestamp};

use crate::random::Random;

/// Names a request that is under way, from the moment at which its caller sends it until that caller
/// has its answer or a refusal.
pub type RequestId = usize;

/// What is known of a request while it is under way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Call {
    /// Which request it is. The same one each time its caller sends it.
    pub request: RequestId,
    /// Whose it is.
    pub tenant: usize,
    /// The tenant's share while others wait too, relative to theirs.
    pub weight: u32,
    /// Which model it asks for, counted from 0 in the order of the tenants that name one.
    pub model: usize,
    /// Which conversation of its tenant's it is a turn of, if it is.
    pub conversation: Option<u64>,
    /// What it may cost at most, in tokens.
    pub tokens_max: u64,
    /// Whether its caller tries again by itself.
    pub caller_retries: bool,
    /// How often its caller has tried again by itself, as official SDKs say in a header.
    pub caller_retry: u32,
    /// Calls made at the provider since its caller last sent it.
    pub attempt: u32,
    /// When its caller last sent it.
    pub entered: Timestamp,
    /// Until when it may wait in the proxy.
    pub patience_end: Timestamp,
    /// When its caller hangs up.
    pub deadline: Timestamp,
    /// Whether it may wait where it is: not while a chain has another target for it.
    pub may_wait: bool,
}

#[cfg(test)]
impl Call {
    /// A request that comes now, costs nothing and has no time.
    pub(crate) const fn plain(request: RequestId, now: Timestamp) -> Self {
        Self {
            request,
            tenant: 0,
            weight: 1,
            model: 0,
            conversation: None,
            tokens_max: 0,
            caller_retries: false,
            caller_retry: 0,
            attempt: 0,
            entered: now,
            patience_end: now,
            deadline: now,
            may_wait: true,
        }
    }
}

/// What came of one call at the provider.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// When the call was sent.
    pub sent: Timestamp,
    /// When the answer was there, or nobody waited for it any longer.
    pub at: Timestamp,
    /// What it says about the provider.
    pub outcome: Outcome,
    /// The wait that the provider asks for, in whole seconds as the header does.
    pub retry_after: Option<Duration>,
    /// Nothing came: the time for one attempt was over, or the caller hung up.
    pub timed_out: bool,
    /// What the call did cost, in tokens, if it succeeded.
    pub tokens: u64,
}

impl Answer {
    /// Whether it is an error that came by itself: what a proxy can see at once.
    #[must_use]
    pub fn is_error(&self) -> bool {
        !self.timed_out && matches!(self.outcome, Outcome::Failure | Outcome::Overloaded)
    }
}

/// What a caller is told beside the failure itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
    /// False is `x-should-retry: false`, which official SDKs obey.
    pub should_retry: bool,
}

impl Told {
    /// Nothing: the caller decides by itself.
    pub const NOTHING: Self = Self { retry_after: None, should_retry: true };

    /// The wait that is named, if one is.
    #[must_use]
    pub const fn wait(retry_after: Option<Duration>) -> Self {
        Self { retry_after, should_retry: true }
    }
}

/// What a protection wants done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// Call the provider for this request now; of several, the first.
    Send(RequestId),
    /// Call another target of the chain for this request now, by its number.
    SendTo(RequestId, usize),
    /// Ask for this request again, by [`Protection::again`], at this time.
    AskAgain(RequestId, Timestamp),
    /// Give the request's last answer to its caller. If it is a failure, the caller is told this with
    /// it.
    Deliver(RequestId, Told),
    /// Give the request's caller a refusal that the proxy made itself.
    Refuse(RequestId, Told),
    /// For the figures: one of the tenant's requests joins a queue.
    Joined(usize),
    /// For the figures: one of the tenant's requests leaves the queue.
    Left(usize),
    /// For the figures: a tenant that waits has its turn, and is granted so many tokens.
    Granted(usize, u64),
    /// For the figures: of what a tenant was granted in its turn, so many tokens come back.
    GivenBack(usize, u64),
    /// For the figures: a closed circuit opens because of a call that was sent at this time.
    Opened(Timestamp),
}

/// Where a protection leaves its orders, and finds the time and its chance.
#[derive(Debug)]
pub struct Orders {
    now: Timestamp,
    random: Random,
    list: Vec<Order>,
}

impl Orders {
    /// No orders at the beginning of time; `random` is the protection's own stream.
    #[must_use]
    pub const fn new(random: Random) -> Self {
        Self { now: Timestamp::ORIGIN, random, list: Vec::new() }
    }

    /// An empty list for a part of the protection, whose chance follows from this one's.
    #[must_use]
    pub(crate) fn fork(&mut self) -> Self {
        Self { now: self.now, random: self.random.fork(), list: Vec::new() }
    }

    /// The time.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// Goes on to a later time.
    pub fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// A random number, uniform over 64 bits.
    pub fn random(&mut self) -> u64 {
        self.random.next()
    }

    /// A random number between 0 (included) and 1 (excluded).
    pub fn unit(&mut self) -> f64 {
        self.random.unit()
    }

    /// Leaves an order. Orders are carried out one after another, when the protection has returned.
    pub fn push(&mut self, order: Order) {
        self.list.push(order);
    }

    /// See [`Order::Send`].
    pub fn send(&mut self, call: &Call) {
        self.push(Order::Send(call.request));
    }

    /// See [`Order::Deliver`]. The caller is told the wait that the provider named.
    pub fn deliver(&mut self, call: &Call, answer: &Answer) {
        self.push(Order::Deliver(call.request, Told::wait(answer.retry_after)));
    }

    /// See [`Order::Refuse`].
    pub fn refuse(&mut self, call: &Call, told: Told) {
        self.push(Order::Refuse(call.request, told));
    }

    /// Takes the orders that were left, in their order.
    pub fn take(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.list)
    }

    /// Takes the orders into a list whose room is used again.
    pub(crate) fn swap(&mut self, emptied: &mut Vec<Order>) {
        emptied.clear();
        std::mem::swap(&mut self.list, emptied);
    }
}

/// What stands between clients and provider.
///
/// Each request that was [`asked`](Self::asked) for must at some time be delivered or refused, and
/// each order to send is followed by one [`answered`](Self::answered).
pub trait Protection: std::fmt::Debug {
    /// A caller sends a request.
    fn asked(&mut self, call: &Call, orders: &mut Orders);

    /// The time has come for which [`Order::AskAgain`] was left.
    fn again(&mut self, call: &Call, orders: &mut Orders);

    /// A call that was ordered is over.
    fn answered(&mut self, call: &Call, answer: &Answer, orders: &mut Orders);

    /// The time has come that [`wake_at`](Self::wake_at) named.
    fn woken(&mut self, _orders: &mut Orders) {}

    /// When to wake this protection though nothing else happens until then. Asked after everything
    /// that happens; only the last answer counts.
    fn wake_at(&mut self, _now: Timestamp) -> Option<Timestamp> {
        None
    }

    /// Whether calls pass as on a good day.
    fn is_closed(&self) -> bool {
        true
    }

    /// Whether there is a circuit that could open at all.
    fn has_circuit(&self) -> bool {
        true
    }

    /// Everything that somebody holds or waits for. Anything but 0 in the end is a leak.
    fn held(&self, _now: Timestamp) -> usize {
        0
    }
}
