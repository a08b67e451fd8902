//! Clients, limits and a provider in simulated time, over the real resilience core and over what people
//! use instead of it.
//!
//! `simulate` runs each scenario with many seeds and prints what users and provider would have seen:
//! with ours, beside no proxy at all and the best contender, and each figure beside its goal. It
//! marks where ours is worse than another. A scenario is a TOML file: those that come with the
//! program are in `scenarios/` and are the best introduction; [`scenario::Scenario`] says what each
//! key means.
//!
//! # What is modelled
//!
//! - **Time** in microseconds. Events are taken one after another; nothing sleeps. A seed fixes a
//!   run entirely.
//! - **Users** arrive at random (Poisson) and do not care how the others fare. Tokens are drawn per
//!   request: the input is known, the output is uniform up to its bound, and the bound is what is
//!   reserved.
//! - **Clients** have a time-out per attempt, patience for waiting in the proxy, and a deadline at
//!   which they hang up. Each scenario is run with clients that never try again by themselves and with
//!   clients that do so twice, as official SDKs: after half a second, doubled each time, up to 8 s, or
//!   after a `Retry-After` up to a minute.
//! - **Protections** stand between them and the provider: [`protection`] is the boundary. Ours, in
//!   [`stack`], is made of the real primitives with their default settings; the [`contender`]s are what
//!   people use instead, each a few lines from its published definition.
//! - **A chain** has several providers: [`chain`] puts the layers in front of each, and goes from one to the next by the
//!   core's own functions. It is compared with each of its targets alone.
//! - **The provider** works off one queue at a fixed speed, adds a random latency, answers 503 when
//!   the queue is too long, 429 with `Retry-After` when a quota is spent or a limit reached, serves less
//!   the more is asked where the scenario says so, and goes on working on calls whose clients have left.
//!   That last habit is what makes overload last.
//! - **Faults** fail calls, let them hang, slow the provider down or spend its quota, at times that
//!   vary with the seed; for all calls, for one model or for one tenant's; ending at once or slowly.
//!
//! # What is not
//!
//! - The network, processors, memory, and the time that the proxy itself takes.
//! - Streams: an answer comes at once and whole, so nothing breaks after its first content.
//! - A second proxy, and a restart.
//! - Two calls for one request at a time: no hedging.
//! - A quota that others spend too. Provider and limiter agree on the quota, and estimates are true
//!   upper bounds.
//! - A classifier: every failure is retryable, and each refusal is understood.
//! - Correlation of failures within one fault: each call draws for itself, when it is sent.
//! - Priorities, and limits of a single tenant.
//!
//! # How to read the figures
//!
//! They compare policies; they do not predict a production system. [`figure::Figure`] defines each.
//! Amplification and waste are measured while faults last, over all seeds together; overshoot and the
//! fairness gap are those of the worst seed. The gap compares tenants that wait: without patience, or
//! with one too short for a single turn, nobody does, and then there is none. A
//! recovery that had not come when the next fault did, or the end, counts as `never`. When nothing
//! was there to measure, a figure is `-`, and its goal is missed.
//!
//! # When ours loses
//!
//! [`comparison::Rule`]: it must serve what the contender serves that serves most, less a point; an answer
//! must not cost more calls than with that one; and what succeeds at once must come as soon as
//! directly. A goal for the same thing takes the place of the rule. A scenario may concede a loss, by
//! name, with a bound and a reason, which the report prints.

#![forbid(unsafe_code)]

pub mod chain;
pub mod clients;
pub mod comparison;
pub mod contender;
pub mod curves;
pub mod estimate;
pub mod event;
mod fairness;
pub mod figure;
pub mod measure;
pub mod protection;
pub mod provider;
pub mod random;
pub mod report;
pub mod scenario;
pub mod stack;
mod trail;
pub mod tuning;
pub mod waits;
pub mod world;

use std::ops::RangeInclusive;

use comparison::Trial;
use contender::Contender;
use measure::Run;
use report::Case;
use scenario::Scenario;

/// Runs that a contender is given at most: enough to tell a point from chance in every scenario.
pub const CONTENDER_SEEDS_MAX: u32 = 100;

/// Runs a scenario with the seeds 1 to `count`, of `seeds` in all, on two threads. The runs come in
/// the order of their seeds.
#[must_use]
pub fn runs(scenario: &Scenario, count: u32, seeds: u32, contender: Contender, retries: u32) -> Vec<Run> {
    let alone = match contender {
        Contender::Alone(target) => scenario.alone(target),
        _ => None,
    };
    let scenario = alone.as_ref().unwrap_or(scenario);
    let run = |seed| {
        let mut run = world::run(scenario, u64::from(seed), seeds, contender, retries);
        if seed > CONTENDER_SEEDS_MAX {
            // There is nothing to compare it with, and it takes the most room by far.
            run.first_micros = Vec::new();
        }
        run
    };
    on_two_threads(1..=count, run)
}

/// Makes the run of each of these seeds, on two threads. The runs come in the order of their seeds.
pub(crate) fn on_two_threads(seeds: RangeInclusive<u32>, run: impl Fn(u32) -> Run + Sync) -> Vec<Run> {
    let (first, last) = (*seeds.start(), *seeds.end());
    let middle = first + (last + 1).saturating_sub(first) / 2;
    std::thread::scope(|scope| {
        let later = scope.spawn(|| (middle..=last).map(&run).collect::<Vec<Run>>());
        let mut runs: Vec<Run> = (first..middle).map(&run).collect();
        match later.join() {
            Ok(others) => runs.extend(others),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        runs
    })
}

/// Runs a scenario with ours and with every contender, for callers that try again `retries` times by
/// themselves.
#[must_use]
pub fn examine(scenario: &Scenario, seeds: u32, retries: u32) -> Case<'_> {
    let few = seeds.min(CONTENDER_SEEDS_MAX);
    let ours = runs(scenario, seeds, seeds, Contender::Spillway, retries);
    let paired = Trial::of(Contender::Spillway, ours.get(..few as usize).unwrap_or(&ours));
    let trial = |contender| Trial::of(contender, &runs(scenario, few, seeds, contender, retries));
    let others: Vec<Trial> = Contender::others(scenario).into_iter().map(trial).collect();
    Case::new(scenario, seeds, retries, Trial::of(Contender::Spillway, &ours), &paired, others)
}
