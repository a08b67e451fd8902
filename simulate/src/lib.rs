//! Clients, limits and a provider in simulated time, over the real resilience core.
//!
//! `simulate` runs each scenario with a thousand seeds in a second or two and prints what users and
//! provider would have seen, each figure beside its goal. A scenario is a TOML file: those that come
//! with the program are in `scenarios/` and are the best introduction; [`scenario::Scenario`] says
//! what each key means. `--unprotected` runs the same requests without any layer, which shows what
//! a scenario is able to do.
//!
//! # What is modelled
//!
//! - **Time** in microseconds. Events are taken one after another; nothing sleeps. A seed fixes a
//!   run entirely.
//! - **Users** arrive at random (Poisson) and do not care how the others fare. Tokens are drawn per
//!   request: the input is known, the output is uniform up to its bound, and the bound is what is
//!   reserved.
//! - **Clients** have a time-out per attempt, patience for waiting in the proxy, and, where the
//!   scenario says so, send a failed request again by themselves, as SDKs do: with backoff, obeying
//!   a `Retry-After` up to two minutes.
//! - **The proxy** is the real `AdmissionQueue` (a `Limiter`, an `AdaptiveLimit` and a `FairQueue`),
//!   `Breaker`, `RetryBudget` and `next_step` with their default settings, in [`stack`]. In front of the
//!   limits requests wait in fair order; at an open circuit each waits by itself and asks again when it
//!   was told to.
//! - **The provider** works off one queue at a fixed speed, adds a random latency, answers 503 when
//!   the queue is too long, 429 with `Retry-After` when a quota is spent, and goes on working on
//!   calls whose clients have left. That last habit is what makes overload last.
//! - **Faults** fail calls, slow the provider down or spend its quota, at times that vary with the
//!   seed.
//!
//! # What is not
//!
//! - The network, processors, memory, and the time that the proxy itself takes.
//! - Streams: an answer comes at once and whole, so nothing breaks after its first content.
//! - A second provider to fall back to, a second proxy, and a restart.
//! - Primitives of the core that the stack does not ask: no shedding, no hedging.
//! - A quota that others spend too, and limits on requests per minute. Provider and limiter agree on
//!   the quota, and estimates are true upper bounds.
//! - A classifier: every failure is retryable, and each refusal is understood.
//! - Correlation of failures within one fault: each call draws for itself, when it is sent.
//! - Priorities, and limits of a single tenant.
//! - Clients that hang up while they wait: each stays until its patience or its deadline ends.
//!
//! # How to read the figures
//!
//! They compare policies; they do not predict a production system. [`figure::Figure`] defines each.
//! Amplification and waste are measured while faults last, over all seeds together; overshoot and the
//! fairness gap are those of the worst seed. The gap compares tenants that wait: without patience, or
//! with one too short for a single turn, nobody does, and then there is none. A
//! recovery that had not come when the next fault did, or the end, counts as `never`. When nothing
//! was there to measure, a figure is `-`, and its goal is missed.

#![forbid(unsafe_code)]

pub mod clients;
pub mod event;
mod fairness;
pub mod figure;
pub mod measure;
pub mod provider;
pub mod random;
pub mod report;
pub mod scenario;
pub mod stack;
pub mod world;

use figure::Figures;
use measure::Run;
use scenario::Scenario;

/// Runs a scenario with the seeds 1 to `seeds`, on two threads.
#[must_use]
pub fn simulate(scenario: &Scenario, seeds: u32, protected: bool) -> Figures {
    let every_other = |first: u32| -> Vec<Run> {
        (first..=seeds).step_by(2).map(|seed| world::run(scenario, u64::from(seed), seeds, protected)).collect()
    };
    std::thread::scope(|scope| {
        let even = scope.spawn(|| every_other(2));
        let mut runs = every_other(1);
        match even.join() {
            Ok(others) => runs.extend(others),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        Figures::of(&runs)
    })
}
