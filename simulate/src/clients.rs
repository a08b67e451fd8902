//! The clients: what they send, how long they wait, and how often they try by themselves.

use std::time::Duration;

use spillway_resilience::{Backoff, Demand, Priority, Timestamp};

use crate::provider::{Answer, duration};
use crate::random::Random;
use crate::scenario::{Client, Tenant};
use crate::stack::Held;

/// One user's wish, from its arrival to its end, over all attempts of the client and the proxy.
#[derive(Debug)]
pub struct Request {
    /// Whose it is.
    pub tenant: usize,
    /// Its upper bound, known in advance.
    pub estimate: u64,
    /// What it will turn out to cost.
    pub tokens: u64,
    /// When the client last sent it.
    pub entered: Timestamp,
    /// How often the client has sent it.
    pub sendings: u32,
    /// Attempts of the proxy since then.
    pub attempt: u32,
    /// The client sends it next, not the proxy.
    pub from_client: bool,
    /// When the call under way was made.
    pub sent: Timestamp,
    /// What the call under way holds.
    pub held: Option<Held>,
    /// What will come of the call under way.
    pub answer: Option<Answer>,
    /// The call under way ends by time-out.
    pub timed_out: bool,
}

/// All clients of all tenants.
#[derive(Debug)]
pub struct Clients {
    tenants: Vec<Tenant>,
    attempts: u32,
    patience: Duration,
    timeout: Duration,
    deadline: Duration,
    backoff: Backoff,
    /// Who comes, and with what.
    arrivals: Random,
    /// How long clients wait before they try again: a stream of its own, so that retries do not
    /// change who comes.
    waits: Random,
}

impl Clients {
    /// Attempts of a client that nobody protects: the first and two retries, as SDKs make them.
    pub const UNPROTECTED_ATTEMPTS: u32 = 3;
    /// A client obeys a wait up to this and gives up on a longer one, as the large SDKs do.
    const LONGEST_WAIT: Duration = Duration::from_secs(120);

    /// Clients that behave as `settings` say, or, without protection, as SDKs do that call a
    /// provider directly.
    #[must_use]
    pub fn new(tenants: &[Tenant], settings: Client, protected: bool, mut random: Random) -> Self {
        let least = if protected { 1 } else { Self::UNPROTECTED_ATTEMPTS };
        Self {
            tenants: tenants.to_vec(),
            attempts: settings.attempts.max(least),
            patience: duration(settings.patience_seconds),
            timeout: duration(settings.timeout_seconds),
            deadline: duration(settings.deadline_seconds),
            backoff: Backoff::default(),
            arrivals: random.fork(),
            waits: random.fork(),
        }
    }

    /// The time to the tenant's next arrival.
    pub fn gap(&mut self, tenant: usize) -> Duration {
        let rate = self.tenants.get(tenant).map_or(0.0, |tenant| tenant.requests_per_second);
        self.arrivals.gap(rate)
    }

    /// A request of the tenant that arrives now.
    pub fn request(&mut self, tenant: usize, now: Timestamp) -> Request {
        let (input, most) =
            self.tenants.get(tenant).map_or((0, 0), |t| (u64::from(t.input_tokens), u64::from(t.output_tokens_max)));
        Request {
            tenant,
            estimate: input + most,
            tokens: input + self.arrivals.up_to(most),
            entered: now,
            sendings: 0,
            attempt: 0,
            from_client: true,
            sent: now,
            held: None,
            answer: None,
            timed_out: false,
        }
    }

    /// When the client stops waiting for an attempt made now.
    #[must_use]
    pub fn timeout(&self, now: Timestamp) -> Timestamp {
        now.saturating_add(self.timeout)
    }

    /// What the request asks of the limits, and for whom.
    #[must_use]
    pub fn demand(&self, request: &Request) -> Demand {
        let weight = self.tenants.get(request.tenant).map_or(1, |tenant| tenant.weight);
        let tenant = spillway_resilience::Tenant { id: request.tenant as u64, weight };
        Demand { tenant, priority: Priority::Normal, tokens: request.estimate }
    }

    /// Until when the request may wait in the proxy: while the client has patience, and would have an
    /// attempt made.
    #[must_use]
    pub fn patience_end(&self, request: &Request) -> Timestamp {
        request.entered.saturating_add(self.patience.min(self.deadline))
    }

    /// Time left in which the proxy may try.
    #[must_use]
    pub fn remaining(&self, request: &Request, now: Timestamp) -> Duration {
        request.entered.saturating_add(self.deadline).saturating_since(now)
    }

    /// When the client sends the request again after a failure, if it does. It obeys the wait it
    /// was told, and adds up to a quarter of it.
    pub fn again(&mut self, request: &Request, told: Option<Duration>, now: Timestamp) -> Option<Timestamp> {
        let told = told.unwrap_or_default();
        if request.sendings >= self.attempts || told > Self::LONGEST_WAIT {
            return None;
        }
        let backoff = self.backoff.delay(request.sendings, self.waits.next());
        let obeyed = told.mul_f64(1.0 + self.waits.unit() / 4.0);
        Some(now.saturating_add(backoff.max(obeyed)))
    }
}

/// Requests under way, in slots that are used again.
#[derive(Debug, Default)]
pub struct Slots {
    requests: Vec<Option<Request>>,
    free: Vec<usize>,
}

impl Slots {
    /// Gives the request a slot.
    pub fn put(&mut self, request: Request) -> usize {
        if let Some(slot) = self.free.pop() {
            self.requests[slot] = Some(request);
            return slot;
        }
        self.requests.push(Some(request));
        self.requests.len() - 1
    }

    /// The request in a slot; `None` when it has ended.
    pub fn get(&mut self, slot: usize) -> Option<&mut Request> {
        self.requests.get_mut(slot).and_then(Option::as_mut)
    }

    /// Ends the request; `None` when it had ended before.
    pub fn take(&mut self, slot: usize) -> Option<Request> {
        let request = self.requests.get_mut(slot).and_then(Option::take)?;
        self.free.push(slot);
        Some(request)
    }

    /// Requests under way.
    #[must_use]
    pub fn occupied(&self) -> usize {
        self.requests.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_tries_as_often_as_it_should_and_obeys_the_wait_it_is_told() {
        let tenant = Tenant { requests_per_second: 1.0, weight: 1, input_tokens: 10, output_tokens_max: 5 };
        let mut clients = Clients::new(&[tenant], Client::default(), false, Random::new(1));
        let now = Timestamp::ORIGIN;
        let mut request = clients.request(0, now);
        assert_eq!(request.estimate, 15);
        assert!((10..=15).contains(&request.tokens));
        request.sendings = 2;
        let told = Duration::from_secs(60);
        assert!(clients.again(&request, Some(told), now).is_some_and(|at| at.saturating_since(now) >= told));
        assert_eq!(clients.again(&request, Some(Duration::from_secs(3600)), now), None);
        request.sendings = 3;
        assert_eq!(clients.again(&request, None, now), None);
    }

    #[test]
    fn a_slot_is_used_again_and_a_request_ends_once() {
        let mut clients = Clients::new(&[], Client::default(), true, Random::new(1));
        let mut slots = Slots::default();
        let slot = slots.put(clients.request(0, Timestamp::ORIGIN));
        assert!(slots.take(slot).is_some());
        assert!(slots.take(slot).is_none());
        assert_eq!(slots.put(clients.request(0, Timestamp::ORIGIN)), slot);
        assert_eq!(slots.occupied(), 1);
    }
}
