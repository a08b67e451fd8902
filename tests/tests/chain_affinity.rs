//! Conversations over three equals: each stays where its prompt cache is, until that target fails.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::{Value, json};
use spillway_tests::asks::chat_with;
use spillway_tests::callers::{Caller, Habit};
use spillway_tests::http::Request;
use spillway_tests::ledger::{Ledger, number_of, numbered};
use spillway_tests::load::Load;
use spillway_tests::provider::{Failure, Provider, RecordedRequest, fail, healthy, request};
use spillway_tests::spillway::Setup;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const EQUALS: [&str; 3] = ["a", "b", "c"];
/// The one that fails.
const FAILING: &str = "c";

const CONVERSATIONS: usize = 200;
/// Turns of each conversation while all targets are well, and after one of them has begun to fail.
const WELL_TURNS: usize = 4;
const TURNS: usize = 7;

/// Each conversation has a turn every two seconds, which is answered long before the next.
const PER_SECOND: f64 = 100.0;
const THINKING: Duration = Duration::from_millis(20);

/// Between the start of the processes and the first request.
const LEAD: Duration = Duration::from_millis(300);

/// So few failures in a row tell an outage from chance, and some are under way meanwhile.
const WASTED_MAX: usize = 30;

fn conversation(number: usize) -> usize {
    number % CONVERSATIONS
}

fn turn(number: usize) -> usize {
    number / CONVERSATIONS
}

/// What was said in a conversation before this turn, and the turn itself.
fn messages(number: usize) -> Vec<Value> {
    let said = |turn| json!({"role": "user", "content": format!("Question {turn} of {}.", conversation(number))});
    let answered = json!({"role": "assistant", "content": "Hello."});
    let system = json!({"role": "system", "content": "You are brief."});
    let turns = (0..=turn(number)).flat_map(|turn| [said(turn), answered.clone()]);
    [system].into_iter().chain(turns.take(2 * turn(number) + 1)).collect()
}

/// A turn of a conversation that says which one it is.
fn keyed(number: usize) -> Request {
    chat_with(json!({
        "messages": messages(number),
        "prompt_cache_key": format!("conversation-{}", conversation(number)),
    }))
}

/// A turn that is known for its conversation's by the system prompt and the first message alone.
fn unkeyed(number: usize) -> Request {
    chat_with(json!({"messages": messages(number)}))
}

/// Which turns were called for where, and which target served each.
struct Talk {
    calls: Vec<(usize, &'static str)>,
    served_at: BTreeMap<usize, &'static str>,
}

/// Has all conversations, in the last turns of which one target fails.
fn talk(make: fn(usize) -> Request) -> Talk {
    let providers = EQUALS.map(|name| (name, Provider::start()));
    let ledger = Ledger::default();
    let bare = Setup::bare().set("upstreams.openai", "url = \"http://127.0.0.1:9\"");
    let setup = providers.iter().fold(bare, |setup, (name, provider)| {
        provider.always(healthy().delay(THINKING));
        let is_lost = |call: &RecordedRequest| number_of(call).is_some_and(|number| turn(number) >= WELL_TURNS);
        if *name == FAILING {
            provider.when(request(is_lost), fail(Failure::ServerError).delay(THINKING));
        }
        ledger.note(name, provider);
        setup.set(&format!("upstreams.{name}"), &format!("url = \"{}\"\ndialect = \"openai\"", provider.url()))
    });
    let targets = EQUALS.map(|name| format!("\"{name}/m\"")).join(", ");
    let spillway = setup.set("routes.chain", &format!("targets = [[{targets}]]")).start();
    let lasting = Duration::from_secs_f64((CONVERSATIONS * TURNS) as f64 / PER_SECOND);
    let load = Load { per_second: PER_SECOND, lasting, caller: Caller::new(Habit::Once) };
    let results = load.send(spillway.address(), Instant::now() + LEAD, move |number| numbered(make(number), number));
    let results = results.expect("a runtime");
    assert_eq!(results.share_served(), 1.0, "two targets serve all: {:?}", results.statuses());
    // One call comes after the other, and the last one of a request that is served has served it.
    let calls: Vec<_> = ledger.calls().into_iter().map(|call| (call.number, call.provider)).collect();
    Talk { served_at: calls.iter().copied().collect(), calls }
}

impl Talk {
    /// The share of those turns that are served where the last one was.
    fn stayed(&self, turns: std::ops::Range<usize>) -> f64 {
        let numbers = turns.start * CONVERSATIONS..turns.end * CONVERSATIONS;
        let stays = |number: &usize| self.served_at.get(number) == self.served_at.get(&(number - CONVERSATIONS));
        numbers.clone().filter(stays).count() as f64 / numbers.len() as f64
    }

    /// How far that target is from the mean that has served most or least while all were well, as a share of the mean.
    fn imbalance(&self) -> f64 {
        let mean = (CONVERSATIONS * WELL_TURNS) as f64 / EQUALS.len() as f64;
        let served_by = |name: &str| {
            let well = self.served_at.range(..CONVERSATIONS * WELL_TURNS);
            well.filter(|(_, provider)| **provider == name).count() as f64
        };
        EQUALS.into_iter().map(|name| (served_by(name) / mean - 1.0).abs()).fold(0.0, f64::max)
    }

    /// The conversations that were at the failing target when it began to fail.
    fn lost(&self) -> BTreeSet<usize> {
        let last = self.served_at.range(CONVERSATIONS * (WELL_TURNS - 1)..CONVERSATIONS * WELL_TURNS);
        last.filter(|(_, provider)| **provider == FAILING).map(|(number, _)| conversation(*number)).collect()
    }

    /// Every call of conversations that failed, by number.
    fn failed(&self) -> Vec<usize> {
        let failed = self.calls.iter().filter(|(number, name)| turn(*number) >= WELL_TURNS && *name == FAILING);
        failed.map(|(number, _)| *number).collect()
    }

    fn in_words(&self) -> String {
        let failed = self.failed();
        let requests: BTreeSet<_> = failed.iter().collect();
        format!(
            "{:.1} % and {:.1} % stayed, imbalance {:.1} %, {} conversations lost, {} requests paid {} calls there",
            100.0 * self.stayed(1..WELL_TURNS),
            100.0 * self.stayed(WELL_TURNS + 1..TURNS),
            100.0 * self.imbalance(),
            self.lost().len(),
            requests.len(),
            failed.len(),
        )
    }
}

fn stays_until_its_target_fails(make: fn(usize) -> Request) {
    let talk = talk(make);
    println!("{}", talk.in_words());
    for turns in [1..WELL_TURNS, WELL_TURNS + 1..TURNS] {
        assert!(talk.stayed(turns.clone()) >= 0.95, "turns {turns:?}: {}", talk.in_words());
    }
    assert!(talk.imbalance() <= 0.2, "{}", talk.in_words());

    let failed = talk.failed();
    assert!(failed.len() <= WASTED_MAX, "{}", talk.in_words());
    // One request of each at most found out that it has to move, or none where it was known already.
    let paid: BTreeSet<_> = failed.into_iter().collect();
    let mut moved = BTreeSet::new();
    for number in paid {
        assert!(moved.insert(conversation(number)), "{} has moved twice: {}", conversation(number), talk.in_words());
    }
    let elsewhere = |conversation: &usize| {
        (WELL_TURNS..TURNS).all(|turn| talk.served_at.get(&(turn * CONVERSATIONS + conversation)) != Some(&FAILING))
    };
    assert!(!talk.lost().is_empty() && talk.lost().iter().all(elsewhere), "{}", talk.in_words());
}

#[test]
fn a_conversation_that_names_its_cache_stays_until_its_target_fails() {
    stays_until_its_target_fails(keyed);
}

#[test]
fn a_conversation_that_is_known_by_its_beginning_stays_as_well() {
    stays_until_its_target_fails(unkeyed);
}
