//! A scenario from recorded traffic: who came is taken as it was, and what the provider did is estimated.
//!
//! - **Taken**: when each request came, whose it was, which model it asked for, what it could cost at most.
//! - **Estimated**: in which times which share of a model's calls failed, hung or was refused ([`segments`]), whether a
//!   limit explains the refusals ([`quota`]), and how long answers took, from all of them.
//! - **Unknown**: what became of calls that nobody made. Between two calls the provider is taken to have changed halfway.
//!   A share of failures is taken not to depend on the load, and of what was billed nothing is known but the bound.

mod quota;
mod segments;

use std::collections::BTreeMap;
use std::time::Duration;

use spillway_resilience::Timestamp;

use crate::clients::Clients;
use crate::provider::Latencies;
use crate::scenario::{Arrival, Client, Fault, Provider, Recorded, Recovery, Scenario, Tenant};
use segments::Segment;

/// A request as it was recorded. Times are counted from any one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedRequest {
    /// When it came.
    pub came: Duration,
    /// Whose it is, in whatever words.
    pub tenant: String,
    /// Which model it asks for, if it says so.
    pub model: String,
    /// What it may cost at most, in tokens.
    pub tokens_max: u64,
    /// Its caller has sent it before.
    pub has_come_back: bool,
    /// Until when its caller waits, from its arrival on.
    pub allowed: Duration,
}

/// What a provider said to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// An answer, be it that the request is wrong.
    Answer,
    /// A failure.
    Failure,
    /// Nothing, until nobody waited any longer.
    Nothing,
    /// That it is overloaded.
    Overload,
    /// That a limit is reached.
    TooMuch,
}

impl Said {
    const KINDS: usize = 5;
}

/// A call as it was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedCall {
    /// When it went out.
    pub sent: Duration,
    /// The time to its first content, or to its end without.
    pub took: Duration,
    /// Which model it asks for, if it says so.
    pub model: String,
    /// What it was answered.
    pub said: Said,
    /// The wait that was named with it.
    pub retry_after: Option<Duration>,
}

/// A scenario that was estimated.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// The scenario.
    pub scenario: Scenario,
    /// When it begins, on the clock of what was recorded.
    pub begins: Duration,
    /// How often callers try again by themselves.
    pub caller_retries: u32,
}

/// Why nothing can be estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooLittle {
    /// So few requests, of which [`REQUESTS_MIN`] are needed.
    Requests(usize),
    /// No call at all.
    Calls,
}

/// Fewer requests say nothing.
pub const REQUESTS_MIN: usize = 30;
/// Of more requests than these the last ones are simulated.
pub const REQUESTS_MAX: usize = 100_000;
/// Tenants and models that are told apart; all others are one more of each.
const NAMES_MAX: usize = Scenario::TENANTS_MAX - 1;
/// What all others are called.
const OTHERS: &str = "others";

impl Estimate {
    /// Estimates a scenario.
    ///
    /// # Errors
    ///
    /// When too little was recorded.
    pub fn of(mut requests: Vec<RecordedRequest>, mut calls: Vec<RecordedCall>) -> Result<Self, TooLittle> {
        let caller_retries = if requests.iter().any(|one| one.has_come_back) { Clients::SDK_RETRIES } else { 0 };
        // They come by themselves again when they are told a failure.
        requests.retain(|one| !one.has_come_back);
        requests.sort_by_key(|one| one.came);
        requests.drain(..requests.len().saturating_sub(REQUESTS_MAX));
        let (Some(first), Some(last)) = (requests.first(), requests.last()) else { return Err(TooLittle::Requests(0)) };
        if requests.len() < REQUESTS_MIN {
            return Err(TooLittle::Requests(requests.len()));
        }
        let day = Duration::from_secs_f64(Scenario::SECONDS_MAX / 2.0);
        let begins = first.came.max(last.came.saturating_sub(day));
        let ends = last.came;
        requests.retain(|one| one.came >= begins);
        calls.retain(|call| call.sent >= begins);
        calls.sort_by_key(|call| call.sent);
        if calls.is_empty() {
            return Err(TooLittle::Calls);
        }
        let tenants = names(requests.iter().map(|one| one.tenant.as_str()));
        let models =
            names(calls.iter().map(|call| call.model.as_str()).chain(requests.iter().map(|one| one.model.as_str())));
        let length = ends.saturating_sub(begins).as_secs_f64() + 1.0;
        let arrival = |one: &RecordedRequest| Arrival {
            at: Timestamp::ORIGIN.saturating_add(one.came.saturating_sub(begins)),
            tenant: place(&tenants, &one.tenant),
            model: place(&models, &one.model),
            tokens_max: one.tokens_max,
            tokens: one.tokens_max,
        };
        let arrivals: Vec<Arrival> = requests.iter().map(arrival).collect();
        let mut faults = Vec::new();
        for (number, model) in models.iter().enumerate() {
            let of_model: Vec<&RecordedCall> =
                calls.iter().filter(|call| place(&models, &call.model) == number).collect();
            let most = Scenario::FAULTS_MAX as usize / models.len();
            let segments = segments::of(&of_model, begins, most);
            faults.extend(segments.iter().filter_map(|segment| fault(segment, model, length)));
        }
        faults.sort_by(|one, other| one.from_seconds.total_cmp(&other.from_seconds));
        let allowed = median(requests.iter().map(|one| one.allowed.as_secs_f64()).collect()).unwrap_or(600.0);
        let scenario = Scenario {
            about: String::new(),
            name: "recorded".to_owned(),
            seconds: length,
            requests_per_run: None,
            seeds: 1,
            caller_retries: vec![caller_retries],
            warm_up_seconds: 0.0,
            requests_in_all: None,
            recovery: Recovery::default(),
            tenants: tenants.iter().enumerate().map(|(number, _)| tenant(number, &arrivals, length)).collect(),
            client: Client {
                patience_seconds: 0.0,
                timeout_seconds: allowed.clamp(1.0, Scenario::SECONDS_MAX),
                deadline_seconds: allowed.clamp(1.0, Scenario::SECONDS_MAX),
            },
            provider: provider(&calls),
            faults,
            further_targets: Vec::new(),
            recorded: Some(Recorded { arrivals: arrivals.into(), models: models.into() }),
            goals: BTreeMap::new(),
            goals_without_retries: BTreeMap::new(),
            goals_with_retries: BTreeMap::new(),
            concessions: Vec::new(),
        };
        Ok(Self { scenario, begins, caller_retries })
    }
}

/// The most frequent names, and one for all others if there are more.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    all.for_each(|name| *counts.entry(name).or_default() += 1);
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let more = counts.len() > NAMES_MAX + 1;
    let kept = if more { NAMES_MAX } else { counts.len() };
    let mut names: Vec<String> = counts.into_iter().take(kept).map(|(name, _)| name.to_owned()).collect();
    if more {
        names.push(OTHERS.to_owned());
    }
    names
}

fn place(names: &[String], name: &str) -> usize {
    names.iter().position(|one| one == name).unwrap_or(names.len().saturating_sub(1))
}

fn tenant(number: usize, arrivals: &[Arrival], length: f64) -> Tenant {
    let of_it = arrivals.iter().filter(|arrival| arrival.tenant == number).count();
    Tenant {
        // The others may all have come before the time that is looked at.
        requests_per_second: (of_it as f64 / length).max(1e-6),
        model: None,
        conversations: 0,
        weight: 1,
        input_tokens: 0,
        output_tokens_max: 0,
    }
}

fn provider(calls: &[RecordedCall]) -> Provider {
    let seconds = |said: fn(Said) -> bool| -> Vec<f64> {
        calls.iter().filter(|call| said(call.said)).map(|call| call.took.as_secs_f64()).collect()
    };
    let answers = seconds(|said| said == Said::Answer);
    let usual = Provider::default();
    Provider {
        // What it bears is not known: it is not what held it back.
        calls_per_second: 1e6,
        latency_seconds: median(answers.clone()).unwrap_or(usual.latency_seconds),
        latencies: Latencies::of(answers),
        refusal_seconds: median(seconds(|said| !matches!(said, Said::Answer | Said::Nothing)))
            .unwrap_or(usual.refusal_seconds),
        ..usual
    }
}

/// What was wrong in a time, if anything.
fn fault(segment: &Segment<'_>, model: &str, length: f64) -> Option<Fault> {
    let share = |said: Said| segment.count(said) as f64 / segment.calls.len() as f64;
    if share(Said::Answer) >= 1.0 || segment.from >= length {
        return None;
    }
    let limit = quota::explains(&segment.calls);
    Some(Fault {
        from_seconds: segment.from,
        to_seconds: segment.to,
        to_jitter_seconds: 0.0,
        recovers_over_seconds: 0.0,
        model: Some(model.to_owned()),
        tenant: None,
        failure_rate: share(Said::Failure),
        timeout_rate: share(Said::Nothing),
        overloaded_rate: share(Said::Overload),
        throttled_rate: if limit.is_some() { 0.0 } else { share(Said::TooMuch) },
        limit_per_second: limit,
        retry_after_seconds: median(
            segment.calls.iter().filter_map(|call| call.retry_after).map(|wait| wait.as_secs_f64()).collect(),
        ),
        speed: 1.0,
        quota_exhausted: false,
        repeat: 1,
        every_seconds: 0.0,
    })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

#[cfg(test)]
mod tests;
