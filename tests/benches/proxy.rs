//! What policies cost the whole proxy: processor time per request with and without a policy, the time from a file's
//! arrival to its service on all workers, and a newcomer's time from nothing to a policy that judges.
//!
//! `cargo xtask bench` runs it. The rounds of both kinds take turns, so that whatever else the machine does meets both.
#![allow(missing_docs, reason = "a benchmark")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up fails by panicking")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use serde_json::json;
use spillway_tests::asks::chat;
use spillway_tests::http::{Connection, Request};
use spillway_tests::provider::{Provider, respond};
use spillway_tests::spillway::{Setup, Spillway, binary, policy_file};
use spillway_tests::wait::eventually;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: usize = 10;
const REQUESTS_PER_ROUND: u32 = 2_000;
/// Requests of a round that what is done behind them belongs to as well: many times as long as that is put off.
const REQUESTS_PER_LONG_ROUND: u32 = 16_000;
const CLIENTS: u32 = 4;
/// Enough for workers to share them about evenly.
const MANY_CLIENTS: u32 = 16;
/// Pairs of rounds where what is looked for is small.
const PAIRS: usize = 40;
/// Connections that watch a swap: enough for each worker to have some.
const WATCHERS: usize = 12;
const SWAPS_EACH: u32 = 10;

fn main() {
    // `cargo test --benches` asks whether it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    share_of_processor_time();
    share_of_the_ledger();
    from_arrival_to_service();
    from_nothing_to_service();
}

/// Processor time that a process has used.
fn cpu_time(spillway: &Spillway) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{}/task", spillway.pid())).unwrap();
    let times = tasks.map(|task| {
        let stat = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
    });
    times.sum()
}

fn send(spillway: &Spillway, request: &Request, count: u32) {
    let mut connection = Connection::open(spillway.address()).unwrap();
    for _ in 0..count {
        assert_eq!(connection.exchange(request).unwrap().status(), 200);
    }
}

/// Processor time per request, in one round.
fn round(spillway: &Spillway) -> Duration {
    round_of(spillway, &chat(), REQUESTS_PER_ROUND, CLIENTS)
}

fn round_of(spillway: &Spillway, request: &Request, count: u32, clients: u32) -> Duration {
    let before = cpu_time(spillway);
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| send(spillway, request, count / clients));
        }
    });
    (cpu_time(spillway) - before) / count
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}

fn share_of_processor_time() {
    let provider = Provider::start();
    let without = Setup::with(&provider).start();
    let with = Setup::with(&provider).policy("default").start();
    round(&without);
    round(&with);
    let (mut bare, mut judged) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(round(&without));
        judged.push(round(&with));
    }
    let (bare, judged) = (median(bare), median(judged));
    let share = 100.0 * (judged.as_secs_f64() / bare.as_secs_f64() - 1.0);
    println!(
        "processor time per request, built-in policy: {bare:?}; default policy in Wasm: {judged:?} ({share:+.1} %)"
    );
    let before = cpu_time(&without);
    thread::sleep(Duration::from_secs(2));
    println!("processor time of an idle second: {:?}", (cpu_time(&without) - before) / 2);
}

/// What it costs a request that somebody pays for it: an account of its group's and of all above it, with limits on all
/// that can be limited, prices, and an entry in the ledger.
fn share_of_the_ledger() {
    let provider = Provider::start();
    let all =
        ["requests", "input tokens", "output tokens", "tokens"].map(|what| format!("\"900000000 {what} per day\""));
    let limits = format!("limits = [{}, \"$1000000 per month\", \"900 calls in flight\"]", all.join(", "));
    let without = Setup::with(&provider).start();
    let setup = Setup::with(&provider).set("ledger", &limits).set("groups.acme", &limits);
    let setup = setup.set("groups.search", &format!("parent = \"acme\"\n{limits}"));
    let setup = setup.set("tenants.search", "group = \"search\"").set("prices", "file = \"prices.toml\"");
    fs::write(setup.folder().join("prices.toml"), "[[price]]\nmodel = \"*\"\ninput = 1\noutput = 10\n").unwrap();
    let with = setup.start();
    let request = chat().header("x-spillway-tenant", "search");
    let long_round = |spillway| round_of(spillway, &request, REQUESTS_PER_LONG_ROUND, MANY_CLIENTS);
    let pairs: Vec<[Duration; 2]> = (0..PAIRS)
        .map(|turn| {
            // Whoever comes second finds the machine otherwise than the first.
            let (first, second) = if turn % 2 == 0 { (&without, &with) } else { (&with, &without) };
            let took = [first, second].map(long_round);
            if turn % 2 == 0 { took } else { [took[1], took[0]] }
        })
        .collect();
    // What the machine does beside moves both of a pair alike.
    let mut more: Vec<f64> = pairs.iter().map(|[bare, kept]| 1e6 * (kept.as_secs_f64() - bare.as_secs_f64())).collect();
    more.sort_by(f64::total_cmp);
    let [bare, kept] = [0, 1].map(|side| median(pairs.iter().map(|pair| pair[side]).collect()));
    println!(
        "processor time per request, nobody pays: {bare:?}; a ledger with groups, limits and prices: {kept:?} \
         ({:+.1} µs, half of the pairs {:+.1} to {:+.1})",
        more[PAIRS / 2],
        more[PAIRS / 4],
        more[PAIRS * 3 / 4]
    );
}

fn from_arrival_to_service() {
    let provider = Provider::start();
    for name in ["default", "error-in-success", "latency-trip"] {
        let setup = Setup::with(&provider).policy("default").policy("hostile");
        let spillway = setup.set("upstreams.openai", "policy = \"hostile\"").start();
        let mut policy = fs::read(policy_file(name)).unwrap();
        let mut took = Vec::new();
        for swap in 0..SWAPS_EACH {
            // A custom section without a name, which makes it another file each time: nothing is cached.
            policy.extend([0, 5, 0]);
            policy.extend(swap.to_le_bytes());
            let beside = spillway.folder().join("policies/.hostile.wasm.part");
            fs::write(&beside, &policy).unwrap();
            let began = Instant::now();
            fs::rename(&beside, spillway.policy_path("hostile")).unwrap();
            let swaps = u64::from(swap) + 2;
            // Serving on all workers: an answer that was asked for after the swap is judged by what is new.
            while spillway.policy("hostile")["swaps"] != swaps {
                thread::sleep(Duration::from_millis(1));
            }
            thread::scope(|scope| {
                for _ in 0..WATCHERS {
                    scope.spawn(|| send(&spillway, &chat(), 1));
                }
            });
            took.push(began.elapsed());
        }
        let (longest, middle) = (took.iter().max().copied().unwrap_or_default(), median(took));
        println!(
            "{name}: from its arrival, never seen before, to service on all workers: {middle:?}, at most {longest:?}"
        );
    }
}

/// The README's own commands, one after the other, with everything that Cargo needs downloaded and nothing compiled.
fn from_nothing_to_service() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("upstreams.openai", "policy = \"my-provider\"");
    let spillway = spillway.set("upstreams.openai.retry", "max_attempts = 1").start();
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let commands: Vec<&str> = readme.lines().filter(|line| line.starts_with("spillway policy ")).collect();
    assert!(commands.iter().any(|command| command.contains(" new my-provider")), "{commands:?}");
    let path = std::env::join_paths(
        [binary().parent().unwrap().to_owned()]
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let (path, mut took) = (path.unwrap(), Vec::new());
    let began = Instant::now();
    for command in commands {
        let began = Instant::now();
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(spillway.folder()).env("PATH", &path);
        let output = shell.env("CARGO_NET_OFFLINE", "true").env_remove("CARGO_TARGET_DIR").output().unwrap();
        // The list asks a Spillway at its default address, or at none, which is no failure.
        assert!(output.status.success(), "{command}: {output:?}");
        took.push(format!("{} {:.1?}", command.split_whitespace().nth(2).unwrap_or_default(), began.elapsed()));
    }
    eventually("it serves", || (spillway.policy("my-provider")["source"] == "module").then_some(()));
    // What the new policy has an opinion about; everything else it leaves to the built-in one.
    provider.always(respond(503).json(json!({"error": {"code": "region_drained", "message": "moving"}})));
    let answer = spillway.send(&chat());
    assert!(answer.header("x-spillway-policy").is_some_and(|by| by.starts_with("my-provider@")), "{answer:?}");
    println!("from nothing to a policy that judges: {:.1?} ({})", began.elapsed(), took.join(", "));
}
