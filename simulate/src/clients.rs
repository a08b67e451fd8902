//! The clients: what they send, how long they wait, and how often they try by themselves.

use std::time::Duration;

use spillway_resilience::Timestamp;

use crate::protection::{Answer, Call, Told};
use crate::provider::duration;
use crate::random::Random;
use crate::scenario::{Arrival, Client, Scenario};

/// One user's wish, from its arrival to its end, over all attempts of the client and the proxy.
#[derive(Debug)]
pub struct Request {
    /// What a protection may know of it.
    pub call: Call,
    /// Its number in the order of arrival.
    pub number: usize,
    /// When the user came.
    pub arrived: Timestamp,
    /// What it will turn out to cost.
    pub tokens: u64,
    /// Calls made at the provider in all.
    pub calls: u32,
    /// The target that the latest call went to.
    pub target: usize,
    /// What came, or will come, of the latest call.
    pub answer: Option<Answer>,
}

/// What the clients know of a tenant.
#[derive(Clone, Copy, Debug)]
struct Habits {
    requests_per_second: f64,
    weight: u32,
    model: usize,
    conversations: u64,
    input_tokens: u64,
    output_tokens_max: u64,
}

/// All clients of all tenants.
#[derive(Debug)]
pub struct Clients {
    tenants: Vec<Habits>,
    settings: Client,
    retries: u32,
    /// Who comes, and with what.
    arrivals: Random,
    /// How long clients wait before they try again: a stream of its own, so that retries do not
    /// change who comes.
    waits: Random,
}

impl Clients {
    /// Retries of official SDKs: `openai` and `anthropic`, for Python and for Node, make two.
    pub const SDK_RETRIES: u32 = 2;
    /// First wait of these SDKs, doubled with each retry.
    const FIRST_WAIT: Duration = Duration::from_millis(500);
    /// Longest wait that they choose by themselves.
    const LONGEST_WAIT: Duration = Duration::from_secs(8);
    /// Longest `Retry-After` that they obey; on a longer one they wait as if there were none.
    const LONGEST_OBEYED: Duration = Duration::from_secs(60);

    /// Clients that behave as the scenario says and try again `retries` times.
    #[must_use]
    pub fn new(scenario: &Scenario, retries: u32, mut random: Random) -> Self {
        let habits = |tenant: &crate::scenario::Tenant| Habits {
            requests_per_second: tenant.requests_per_second,
            weight: tenant.weight,
            model: scenario.model_index(tenant.model.as_deref()),
            conversations: u64::from(tenant.conversations),
            input_tokens: u64::from(tenant.input_tokens),
            output_tokens_max: u64::from(tenant.output_tokens_max),
        };
        Self {
            tenants: scenario.tenants.iter().map(habits).collect(),
            settings: scenario.client,
            retries,
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
        let habits = self.tenants.get(tenant).copied();
        let (input, most) = habits.map_or((0, 0), |habits| (habits.input_tokens, habits.output_tokens_max));
        // Without conversations nothing is drawn, so that the same requests come.
        let last = habits.and_then(|habits| habits.conversations.checked_sub(1));
        let conversation = last.map(|last| (tenant as u64) << u32::BITS | self.arrivals.up_to(last));
        let call = Call {
            request: 0,
            tenant,
            weight: habits.map_or(1, |habits| habits.weight),
            model: habits.map_or(0, |habits| habits.model),
            conversation,
            tokens_max: input + most,
            caller_retries: self.retries > 0,
            caller_retry: 0,
            attempt: 0,
            entered: now,
            patience_end: now,
            deadline: now,
            may_wait: true,
        };
        let tokens = input + self.arrivals.up_to(most);
        Request { call, number: 0, arrived: now, tokens, calls: 0, target: 0, answer: None }
    }

    /// A recorded request, which arrives now.
    #[must_use]
    pub fn recorded(&self, arrival: &Arrival) -> Request {
        let call = Call {
            request: 0,
            tenant: arrival.tenant,
            weight: self.tenants.get(arrival.tenant).map_or(1, |tenant| tenant.weight),
            model: arrival.model,
            conversation: None,
            tokens_max: arrival.tokens_max,
            caller_retries: self.retries > 0,
            caller_retry: 0,
            attempt: 0,
            entered: arrival.at,
            patience_end: arrival.at,
            deadline: arrival.at,
            may_wait: true,
        };
        Request { call, number: 0, arrived: arrival.at, tokens: arrival.tokens, calls: 0, target: 0, answer: None }
    }

    /// The client sends the request: from now on it waits.
    pub fn sends(&self, call: &mut Call, now: Timestamp) {
        let deadline = duration(self.settings.deadline_seconds);
        call.attempt = 0;
        call.entered = now;
        call.deadline = now.saturating_add(deadline);
        call.patience_end = now.saturating_add(deadline.min(duration(self.settings.patience_seconds)));
    }

    /// When nobody waits any longer for the answer to a call made now.
    #[must_use]
    pub fn timeout(&self, call: &Call, now: Timestamp) -> Timestamp {
        now.saturating_add(duration(self.settings.timeout_seconds)).min(call.deadline).max(now)
    }

    /// When the client sends the request again after a failure, if it does: half a second, doubled
    /// with each retry up to 8 s, less up to a quarter at random; or the wait that it is told.
    pub fn again(&mut self, call: &Call, told: Told, now: Timestamp) -> Option<Timestamp> {
        if call.caller_retry >= self.retries || !told.should_retry {
            return None;
        }
        let own = Self::FIRST_WAIT.saturating_mul(1 << call.caller_retry.min(16)).min(Self::LONGEST_WAIT);
        let own = own.mul_f64(1.0 - self.waits.unit() / 4.0);
        let obeyed = told.retry_after.filter(|wait| !wait.is_zero() && *wait <= Self::LONGEST_OBEYED);
        Some(now.saturating_add(obeyed.unwrap_or(own)))
    }
}

/// Requests under way, in slots that are used again.
#[derive(Debug, Default)]
pub struct Slots {
    requests: Vec<Option<Request>>,
    free: Vec<usize>,
}

impl Slots {
    /// Gives the request a slot, which is its name from now on.
    pub fn put(&mut self, mut request: Request) -> usize {
        let slot = self.free.pop().unwrap_or(self.requests.len());
        request.call.request = slot;
        if let Some(place) = self.requests.get_mut(slot) {
            *place = Some(request);
        } else {
            self.requests.push(Some(request));
        }
        slot
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

    fn clients(retries: u32) -> Clients {
        let text = "name = 'a'\nseconds = 1\n[[tenants]]\nrequests_per_second = 1\ninput_tokens = 10\n\
                    output_tokens_max = 5\n";
        Clients::new(&Scenario::read(text).unwrap(), retries, Random::new(1))
    }

    #[test]
    fn a_client_tries_as_often_as_it_should_and_obeys_the_wait_it_is_told_if_that_is_short() {
        let (mut clients, now) = (clients(2), Timestamp::ORIGIN);
        let mut call = clients.request(0, now).call;
        assert_eq!(call.tokens_max, 15);
        let mut wait = |call: &Call, told| clients.again(call, told, now).map(|at| at.saturating_since(now));
        let told = |seconds| Told::wait(Some(Duration::from_secs(seconds)));
        assert_eq!(wait(&call, told(60)), Some(Duration::from_secs(60)));
        let own = wait(&call, told(61)).unwrap();
        assert!((Duration::from_millis(375)..=Duration::from_millis(500)).contains(&own), "{own:?}");
        assert_eq!(wait(&call, Told { should_retry: false, ..told(1) }), None);
        call.caller_retry = 1;
        let own = wait(&call, Told::NOTHING).unwrap();
        assert!((Duration::from_millis(750)..=Duration::from_secs(1)).contains(&own), "{own:?}");
        call.caller_retry = 2;
        assert_eq!(wait(&call, Told::NOTHING), None);
    }

    #[test]
    fn a_client_hangs_up_at_its_deadline_however_late_the_attempt_began() {
        let (clients, now) = (clients(0), Timestamp::ORIGIN);
        let mut call = self::clients(0).request(0, now).call;
        clients.sends(&mut call, now);
        let at = |seconds: u64| Timestamp::from_micros(seconds * 1_000_000);
        assert_eq!(clients.timeout(&call, at(1)), at(11));
        assert_eq!(clients.timeout(&call, at(25)), at(30));
        assert_eq!(clients.timeout(&call, at(31)), at(31));
    }

    #[test]
    fn a_slot_is_used_again_and_a_request_ends_once() {
        let mut clients = clients(0);
        let mut slots = Slots::default();
        let slot = slots.put(clients.request(0, Timestamp::ORIGIN));
        assert!(slots.take(slot).is_some());
        assert!(slots.take(slot).is_none());
        assert_eq!(slots.put(clients.request(0, Timestamp::ORIGIN)), slot);
        assert_eq!(slots.occupied(), 1);
    }
}
