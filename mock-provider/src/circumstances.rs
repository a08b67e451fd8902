//! What happens to some requests only: by chance, beyond a rate, under load, for a time.
//!
//! Each is a [`Matcher`] that remembers what it has seen, for [`Provider::when`](super::Provider::when):
//! `provider.when(model("big").and(by_chance(0.3, 7)), fail(Failure::ServerError))`. The second of two conditions
//! joined by `and` sees only the requests that the first has let through.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::lock;
use super::script::{Matcher, request};
use crate::chance::Chance;

/// Over this time a provider's load is counted.
const LOAD_WINDOW: Duration = Duration::from_secs(1);

/// This share of the requests, at random.
pub fn by_chance(share: f64, seed: u64) -> Matcher {
    let chance = Mutex::new(Chance::seeded(seed));
    request(move |_| lock(&chance).happens(share))
}

/// The first request, the third, the fifth and so on.
pub fn every_other() -> Matcher {
    let seen = AtomicU64::new(0);
    request(move |_| seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(2))
}

/// What goes beyond this rate: a bucket of `burst` requests, full at first, is refilled at `per_second`, and requests
/// that find it empty match. They take nothing from it.
pub fn faster_than(per_second: f64, burst: f64) -> Matcher {
    let bucket = Mutex::new((burst, Instant::now()));
    request(move |request| {
        let mut bucket = lock(&bucket);
        let (left, at) = &mut *bucket;
        let since = request.at.saturating_duration_since(*at);
        *left = (*left + since.as_secs_f64() * per_second).min(burst);
        *at = request.at.max(*at);
        if *left < 1.0 {
            return true;
        }
        *left -= 1.0;
        false
    })
}

/// What a provider does not manage that serves `per_second` and gets worse the more is asked of it: beyond that rate,
/// counted over all calls of the last second, a request is served with the probability `(per_second / rate)²` only.
pub fn more_than_it_bears(per_second: f64, seed: u64) -> Matcher {
    let state = Mutex::new((VecDeque::<Instant>::new(), Chance::seeded(seed)));
    request(move |request| {
        let mut state = lock(&state);
        let (calls, chance) = &mut *state;
        while calls.front().is_some_and(|call| request.at.saturating_duration_since(*call) >= LOAD_WINDOW) {
            calls.pop_front();
        }
        calls.push_back(request.at);
        let share = (per_second / calls.len() as f64).min(1.0);
        !chance.happens(share * share)
    })
}

/// Requests that arrive from this instant on and before that one.
pub fn between(from: Instant, until: Instant) -> Matcher {
    request(move |request| (from..until).contains(&request.at))
}

/// Requests of an outage that ends slowly: all from `from` to `until`, then fewer and fewer until `gone_at`.
pub fn fading(from: Instant, until: Instant, gone_at: Instant, seed: u64) -> Matcher {
    let chance = Mutex::new(Chance::seeded(seed));
    let fading_for = (gone_at - until).as_secs_f64();
    request(move |request| {
        let left = gone_at.saturating_duration_since(request.at).as_secs_f64() / fading_for;
        request.at >= from && lock(&chance).happens(left.min(1.0))
    })
}
