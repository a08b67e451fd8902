//! Whoever has a second provider is not worse off than with the good one of the two alone, whichever of them comes
//! first: the same traffic at the same time to a chain and to one provider, through the same Spillway. That one provider
//! is no worse with Spillway than without is for `no_worse_off`.
//!
//! What is compared is taken in the same run, and a run in which the machine was too busy is repeated. Few of these
//! bounds depend on chance: one of the two targets serves, so all are served.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::json;
use spillway_tests::asks::chat_with;
use spillway_tests::callers::{Caller, Habit};
use spillway_tests::chance::margin;
use spillway_tests::http::Request;
use spillway_tests::ledger::{Call, Ledger, numbered};
use spillway_tests::load::{Load, Results};
use spillway_tests::provider::{
    Count, Failure, Matcher, Provider, Reply, between, by_chance, fail, faster_than, healthy, rate_limited, reset,
};
use spillway_tests::spillway::Setup;
use std::thread;
use std::time::{Duration, Instant};

/// What a loaded machine adds to a wait. A run in which it added more to one provider alone is no measurement, and is
/// repeated this often at most.
const MACHINE: Duration = Duration::from_millis(100);
const REPETITIONS: usize = 3;

/// How long a provider takes, whether it serves or fails. Against it, what the machine adds is little, and a call more
/// is seen.
const THINKING: Duration = Duration::from_millis(200);

const PER_SECOND: f64 = 50.0;

/// In this time nothing is wrong that would keep one provider alone from serving.
const WELL: Duration = s(4);

/// Between the start of the processes and the first request.
const LEAD: Duration = Duration::from_millis(300);

/// Who repeats nothing, and who repeats twice as the official SDKs do.
const HABITS: [Habit; 2] = [Habit::Once, Habit::Python];

/// So many calls are made in an outage until it is known for one, and to look whether it is over; and so many where
/// nothing was known of a provider before, which may as well be one that fails nine of ten.
const WASTED_MAX: u64 = 30;
const WASTED_AT_A_STRANGER_MAX: u64 = 110;

/// How much a probe that finds out a second and a half later takes of the share served in twenty.
const LATER_PROBE: f64 = 0.075;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What is wrong with a provider, which may depend on when the load begins; a seed makes its chance.
type Trouble = fn(Instant, u64) -> (Matcher, Reply);

#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    /// As in the configuration, of `sick` and `well`.
    targets: &'static str,
    lasting: Duration,
    sick: Trouble,
    /// What is wrong with the other one, and with the one alone beside which the chain is held.
    well: Option<Trouble>,
    alone: Option<Trouble>,
}

/// What came of one way.
struct Side {
    results: Results,
    calls: Vec<Call>,
}

impl Side {
    fn calls_per_request(&self) -> f64 {
        self.calls.len() as f64 / self.results.count() as f64
    }

    fn in_words(&self) -> String {
        format!(
            "{:5.1} % served, {:.2} calls a request, p95 {:?}, {:?}",
            100.0 * self.results.share_served(),
            self.calls_per_request(),
            self.results.p95(),
            self.results.statuses()
        )
    }
}

/// A chain, and the same traffic beside it.
struct Pair {
    name: String,
    begins: Instant,
    chain: Side,
    beside: Side,
    /// Calls that the chain's targets could not answer: the sick one's, and the other's.
    hopeless: [u64; 2],
    missed: Vec<String>,
}

impl Scenario {
    /// Sends the load both ways at once.
    fn run(&self, habit: Habit) -> Pair {
        let [sick, well, alone] = [Provider::start(), Provider::start(), Provider::start()];
        let upstreams = [("sick", &sick), ("well", &well), ("alone", &alone)];
        let bare = Setup::bare().set("upstreams.openai", "url = \"http://127.0.0.1:9\"");
        let setup = upstreams.iter().fold(bare, |setup, (name, provider)| {
            setup.set(&format!("upstreams.{name}"), &format!("url = \"{}\"\ndialect = \"openai\"", provider.url()))
        });
        let spillway = setup.set("routes.chain", &format!("targets = {}", self.targets)).start();
        let begins = Instant::now() + LEAD;
        let [sick_count, well_count, _] = [(&sick, Some(self.sick), 1), (&well, self.well, 2), (&alone, self.alone, 3)]
            .map(|(provider, trouble, seed)| in_trouble(provider, trouble, begins, seed));
        let (chain_ledger, ledger_beside) = (Ledger::default(), Ledger::default());
        chain_ledger.note("sick", &sick);
        chain_ledger.note("well", &well);
        ledger_beside.note("alone", &alone);
        let load = Load { per_second: PER_SECOND, lasting: self.lasting, caller: Caller::new(habit) };
        let send = |path: &'static str, ledger: &Ledger| {
            let results =
                load.send(spillway.address(), begins, move |number| numbered(question(number).path(path), number));
            Side { results: results.expect("a runtime"), calls: ledger.calls() }
        };
        let (chain, beside) = thread::scope(|scope| {
            let chain = scope.spawn(|| send("/v1/chat/completions", &chain_ledger));
            let beside = send("/alone/v1/chat/completions", &ledger_beside);
            (chain.join().expect("no panic"), beside)
        });
        let hopeless = [sick_count.get(), well_count.get()];
        Pair { name: format!("{}, {habit:?}", self.name), begins, chain, beside, hopeless, missed: Vec::new() }
    }
}

/// Each is a conversation of its own.
fn question(number: usize) -> Request {
    chat_with(json!({"messages": [{"role": "user", "content": format!("Question {number}.")}]}))
}

/// Has a provider think, and puts it into trouble; counts the calls that it could not answer.
fn in_trouble(provider: &Provider, trouble: Option<Trouble>, begins: Instant, seed: u64) -> Count {
    provider.always(healthy().delay(THINKING));
    let Some((matcher, reply)) = trouble.map(|trouble| trouble(begins, seed)) else { return Count::default() };
    let (matcher, count) = matcher.counted();
    provider.when(matcher, reply);
    count
}

/// Runs these all at once, each with callers of both habits. What the machine was too busy for is run again.
fn measured(scenarios: &[Scenario]) -> Vec<Pair> {
    let runs = scenarios.iter().flat_map(|scenario| HABITS.map(|habit| (scenario, habit)));
    thread::scope(|scope| {
        let runs: Vec<_> = runs.map(|(scenario, habit)| scope.spawn(move || undisturbed(scenario, habit))).collect();
        runs.into_iter().map(|run| run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

fn undisturbed(scenario: &Scenario, habit: Habit) -> Pair {
    let mut pair = scenario.run(habit);
    for _ in 1..REPETITIONS {
        if pair.machine() <= MACHINE {
            break;
        }
        pair = scenario.run(habit);
    }
    pair
}

impl Pair {
    /// What the machine added to calls beside the chain.
    fn machine(&self) -> Duration {
        self.beside.results.only(|answered| answered.due < WELL).p95().saturating_sub(THINKING)
    }

    fn in_words(&self) -> String {
        let Pair { name, chain, beside, hopeless: [sick, well], .. } = self;
        let failed = format!("{sick} and {well} calls failed, {:.1} % by the sick one", 100.0 * self.share_of_sick());
        format!("{name}\n    chain:  {}, {failed}\n    beside: {}", chain.in_words(), beside.in_words())
    }

    /// The share of requests that the sick one has served.
    fn share_of_sick(&self) -> f64 {
        let called = self.chain.calls.iter().filter(|call| call.provider == "sick").count();
        (called as f64 - self.hopeless[0] as f64) / self.chain.results.count() as f64
    }

    fn meets(mut self, met: bool, otherwise: impl FnOnce(&Self) -> String) -> Self {
        if !met {
            let otherwise = otherwise(&self);
            self.missed.push(otherwise);
        }
        self
    }

    /// At least 99 % are served, or where fewer are beside, as many as there, but for a probe that comes later.
    fn serves(self) -> Self {
        let beside = self.beside.results.share_served();
        let goal = if beside < 0.99 { beside - LATER_PROBE } else { 0.99 };
        let served = self.chain.results.share_served();
        self.meets(served >= goal, |_| format!("fewer than {:.1} % were served", 100.0 * goal))
    }

    fn calls_at_most(self, goal: f64) -> Self {
        let calls = self.chain.calls_per_request();
        self.meets(calls <= goal, |_| format!("more than {goal:.2} calls a request"))
    }

    /// 95 % wait no longer than beside, but for what the machine adds, which is less than a call. Which calls fail is a
    /// matter of chance, so there is a margin; and whom the machine keeps longer, it keeps beside as well.
    fn waits_as_beside(self) -> Self {
        let (results, wait) = (&self.chain.results, self.beside.results.p95() + MACHINE);
        let (slower, beside) = (results.share_slower_than(wait), self.beside.results.share_slower_than(wait));
        let bound = 0.05 + margin(0.05, results.count()) + beside;
        self.meets(slower <= bound, |_| format!("{:.1} % waited longer than {wait:?}", 100.0 * slower))
    }

    /// So many seconds after the trouble is over, nine tenths of the requests go to the first target again, and it is
    /// called no more in any second than there come requests.
    fn returns(self, recovery: Duration, delay: Duration) -> Self {
        let recovered = self.begins + recovery;
        let returned = returned(&self.chain.calls, recovered);
        let late = returned.is_none_or(|after| after > delay);
        let to_first = self.chain.calls.iter().filter(|call| call.provider == "sick" && call.at >= recovered);
        let busiest = busiest_second(to_first.map(|call| call.at));
        let usual = busiest_second(self.beside.calls.iter().map(|call| call.at)) as f64;
        println!("{}: back after {returned:?}, calls of the busiest second {busiest}, beside {usual}", self.name);
        self.meets(!late, |_| format!("most were back after {returned:?}"))
            .meets(busiest as f64 <= usual * 1.1, |_| format!("{busiest} calls came in a second"))
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// How long it takes until the first second in which nine of ten calls go to the sick one.
fn returned(calls: &[Call], from: Instant) -> Option<Duration> {
    let calls: Vec<_> = calls.iter().filter(|call| call.at >= from).collect();
    let last = calls.last()?.at;
    let begins = (0..calls.len()).take_while(|begin| calls[*begin].at + SECOND <= last);
    let returned = |begin: &usize| {
        let second: Vec<_> = calls[*begin..].iter().take_while(|call| call.at < calls[*begin].at + SECOND).collect();
        10 * second.iter().filter(|call| call.provider == "sick").count() >= 9 * second.len()
    };
    begins.into_iter().find(returned).map(|begin| calls[begin].at - from)
}

/// Most of them in any second; they are in order.
fn busiest_second(times: impl Iterator<Item = Instant>) -> usize {
    let times: Vec<_> = times.collect();
    let since = |begin: usize| times[begin..].iter().take_while(|at| **at < times[begin] + SECOND).count();
    (0..times.len()).map(since).max().unwrap_or_default()
}

/// All meet their goals, or else all goals that are missed are named.
#[track_caller]
fn all_met(pairs: impl IntoIterator<Item = Pair>) {
    let pairs: Vec<_> = pairs.into_iter().collect();
    println!("{}", pairs.iter().map(Pair::in_words).collect::<Vec<_>>().join("\n"));
    let missed = pairs.iter().filter(|pair| !pair.missed.is_empty());
    let missed: Vec<_> = missed.map(|pair| format!("{}: {}", pair.missed.join(", "), pair.in_words())).collect();
    assert!(missed.is_empty(), "goals are missed:\n{}", missed.join("\n"));
}

const IN_ORDER: &str = "[\"sick/m\", \"well/m\"]";

fn scenario(name: &'static str, targets: &'static str, sick: Trouble) -> Scenario {
    Scenario { name, targets, lasting: s(12), sick, well: None, alone: None }
}

/// How much later than an answer a late failure comes: until it does, others are served.
const LATER: Duration = Duration::from_millis(400);

fn failing() -> Reply {
    fail(Failure::ServerError).delay(THINKING)
}

#[test]
fn beside_one_that_fails_half_of_its_calls_a_good_one_serves_as_if_it_were_alone() {
    let half: Trouble = |_, seed| (by_chance(0.5, seed), failing());
    let half_late: Trouble = |_, seed| (by_chance(0.5, seed), failing().delay(LATER));
    let scenarios = [
        scenario("half fails, first", IN_ORDER, half),
        scenario("half fails late, first", IN_ORDER, half_late),
        scenario("half fails, last", "[\"well/m\", \"sick/m\"]", half),
        scenario("half fails, equal", "[[\"sick/m\", \"well/m\"]]", half),
    ];
    let scenarios = scenarios.map(|scenario| Scenario { lasting: s(25), ..scenario });
    all_met(measured(&scenarios).into_iter().map(|pair| {
        let calls = if pair.name.contains("last") { 1.0 } else { 1.10 };
        pair.serves().calls_at_most(calls).waits_as_beside()
    }));
}

/// From when on the first target is away, and until when.
const OUTAGE: (Duration, Duration) = (s(5), s(15));

fn out(begins: Instant) -> Matcher {
    between(begins + OUTAGE.0, begins + OUTAGE.1)
}

#[test]
fn while_the_first_one_is_away_the_next_one_serves_and_soon_after_the_first_one_again() {
    let scenarios = [
        scenario("outage", IN_ORDER, |begins, _| (out(begins), failing())),
        scenario("outage by resets", IN_ORDER, |begins, _| (out(begins), reset())),
    ];
    let scenarios = scenarios.map(|scenario| Scenario { lasting: s(25), ..scenario });
    all_met(measured(&scenarios).into_iter().map(|pair| {
        let wasted = pair.hopeless[0];
        let pair = pair.serves().calls_at_most(1.10).returns(OUTAGE.1, s(6));
        pair.meets(wasted <= WASTED_MAX, |_| format!("{wasted} calls were wasted"))
    }));
}

/// What goes beyond two thirds of the load, of which a second's worth is saved up.
fn two_thirds() -> Matcher {
    let per_second = PER_SECOND * 2.0 / 3.0;
    faster_than(per_second, per_second)
}

#[test]
fn what_is_too_much_for_the_first_one_goes_to_the_next() {
    let scenarios = [
        scenario("429 to a third", IN_ORDER, |_, _| (two_thirds(), rate_limited())),
        scenario("429 to a third, come in a second", IN_ORDER, |_, _| (two_thirds(), rate_limited().retry_after_s(1))),
    ];
    all_met(measured(&scenarios).into_iter().map(|pair| {
        let first = pair.share_of_sick();
        let pair = pair.serves().calls_at_most(1.10).waits_as_beside();
        pair.meets(first >= 0.6, |_| "the first one serves less than it could".to_owned())
    }));
}

/// Who is not served hears the first one's word, or that its circuit is open, as if there were no other.
#[test]
fn where_all_are_away_a_chain_is_no_load_of_its_own() {
    let away: Trouble = |begins, _| (out(begins), failing());
    let scenario = scenario("all are away", IN_ORDER, away);
    let scenario = Scenario { lasting: s(20), well: Some(away), alone: Some(away), ..scenario };
    let heard = [(200, None), (500, None), (500, Some("spillway_circuit_open".to_owned()))];
    all_met(measured(&[scenario]).into_iter().map(|pair| {
        let recovered = pair.chain.results.due_from(OUTAGE.1 + s(2)).share_served();
        let statuses = pair.chain.results.statuses();
        let [sick, well] = pair.hopeless;
        pair.serves()
            .calls_at_most(1.10)
            .meets(recovered >= 1.0, |_| format!("{:.1} % were served afterwards", 100.0 * recovered))
            .meets(statuses.keys().all(|status| heard.contains(status)), |_| "others were told else".to_owned())
            .meets(sick <= WASTED_MAX && well <= WASTED_AT_A_STRANGER_MAX, |_| "calls were wasted".to_owned())
    }));
}
