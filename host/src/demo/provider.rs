//! The mock provider of a lane, and what is wrong with it.

use super::luck;
use super::mode::{Scenario, Trouble};
use crate::runtime::sync::{Mutex, lock};
use spillway_mock_provider::{
    Failure, Matcher, Provider, RecordedRequest, between, fail, faster_than, healthy, rate_limited, request,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long it thinks. Models take longer, by the same in every lane.
const THINKING: Duration = Duration::from_millis(100);
/// How soon it fails.
const FAILING: Duration = Duration::from_millis(30);
/// So many calls at once are served beyond a limit's rate.
const BURST: f64 = 4.0;
/// What a limit asks its callers to wait.
const RETRY_AFTER_S: u64 = 1;
/// Of the chance in it.
pub(super) const SEED: u64 = 24;

/// How many calls each request has cost, by its number; clones are the same count.
#[derive(Clone, Default)]
pub(super) struct Tally(Arc<Mutex<HashMap<usize, u64>>>);

impl Tally {
    /// The calls that this request has cost so far.
    pub(super) fn of(&self, number: usize) -> u64 {
        lock(&self.0).get(&number).copied().unwrap_or_default()
    }

    /// Matches nothing, and counts all that it is asked about.
    fn counting(&self) -> Matcher {
        let tally = self.clone();
        request(move |request| {
            *lock(&tally.0).entry(number(request)).or_default() += 1;
            false
        })
    }
}

/// Lets it answer everything well.
pub(super) fn keep_well(provider: &Provider) -> Tally {
    provider.always(healthy().delay(THINKING));
    tally(provider)
}

/// Counts its calls. The youngest rule is asked first, so that it hears of every one.
fn tally(provider: &Provider) -> Tally {
    let tally = Tally::default();
    provider.when(tally.counting(), healthy());
    tally
}

/// Lets something be wrong with it in its time, and all be well before and after.
pub(super) fn put_into_trouble(provider: &Provider, scenario: &Scenario, begins: Instant) -> Tally {
    provider.always(healthy().delay(THINKING));
    let meanwhile = between(begins + scenario.trouble_from, begins + scenario.trouble_until);
    let server_error = fail(Failure::ServerError).delay(FAILING);
    let (whom, reply) = match scenario.trouble {
        Trouble::Away => (meanwhile, server_error.status(503)),
        Trouble::HalfFails => (meanwhile.and(unlucky()), server_error),
        Trouble::Burst { limit_per_second } => {
            (faster_than(limit_per_second, BURST), rate_limited().retry_after_s(RETRY_AFTER_S))
        }
        Trouble::HalfFailsUnder200 => (meanwhile.and(unlucky()), server_error.status(200)),
    };
    provider.when(whom, reply);
    tally(provider)
}

/// Calls without luck: the first, second and so on of each request.
fn unlucky() -> Matcher {
    let calls: Mutex<HashMap<usize, usize>> = Mutex::default();
    request(move |request| {
        let number = number(request);
        let mut calls = lock(&calls);
        let call = calls.entry(number).or_default();
        let fails = luck::fails(SEED, number, *call);
        *call += 1;
        fails
    })
}

/// The number of a request, which it bears where applications name their users.
fn number(request: &RecordedRequest) -> usize {
    request.json()["user"].as_str().and_then(|user| user.parse().ok()).unwrap_or_default()
}
