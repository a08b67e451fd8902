//! A hundred swaps of a policy under load: nothing fails, and nobody waits for them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use spillway_tests::asks::chat;
use spillway_tests::http::Connection;
use spillway_tests::provider::Provider;
use spillway_tests::spillway::{Setup, policy_file};
use spillway_tests::wait::eventually;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SWAPS: u64 = 100;
/// One swap of so many is to code that was never seen before, and so has to be compiled.
const NEW_CODE_EVERY: u64 = 5;
/// Requests under way at any time: two for each core of a small machine.
const CLIENTS: usize = 4;
/// Answers that make up the spread to compare with.
const QUIET_ANSWERS: usize = 4_000;
/// How many times the quiet spread swaps may cost. On two cores the compiler takes one of them from the proxy, and other
/// tests run beside this one; a proxy that stood still while it swaps would exceed this many times over.
const FACTOR: u32 = 20;
/// Added to what is allowed, since the spread of a quiet moment can be next to nothing.
const SLACK: Duration = Duration::from_millis(100);

const QUIET: u8 = 0;
const SWAPPING: u8 = 1;
const OVER: u8 = 2;

fn spread(mut latencies: Vec<Duration>) -> (Duration, Duration, Duration) {
    latencies.sort_unstable();
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
    (at(50), at(99), at(100))
}

/// The file with a section that means nothing and a number in it, which makes it another one.
fn numbered(file: &[u8], number: u64) -> Vec<u8> {
    let mut file = file.to_vec();
    // A custom section of nine bytes: an empty name, and the number.
    file.extend([0, 9, 0]);
    file.extend(number.to_le_bytes());
    file
}

#[test]
fn a_hundred_swaps_under_load_fail_no_request_and_delay_none() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).policy("default").start();
    let policies = ["default", "latency-trip"].map(|name| fs::read(policy_file(name)).unwrap());
    let phase = AtomicU8::new(QUIET);
    let answers: [Mutex<Vec<Duration>>; 2] = Default::default();
    let client = || {
        let mut connection = Connection::open(spillway.address()).expect("a connection");
        loop {
            // An answer counts where it began.
            let now = phase.load(Ordering::Relaxed);
            if now == OVER {
                return;
            }
            let began = Instant::now();
            let answer = connection.exchange(&chat()).expect("an answer");
            assert_eq!(answer.status(), 200, "{}", answer.text());
            answers[usize::from(now)].lock().unwrap().push(began.elapsed());
        }
    };
    let mut took = Vec::new();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let steps = || {
            eventually("a quiet moment has passed", || {
                (answers[usize::from(QUIET)].lock().unwrap().len() >= QUIET_ANSWERS).then_some(())
            });
            phase.store(SWAPPING, Ordering::Relaxed);
            for swap in 1..=SWAPS {
                let policy = &policies[usize::try_from(swap % 2).unwrap()];
                let bytes = if swap % NEW_CODE_EVERY == 0 { numbered(policy, swap) } else { policy.clone() };
                let beside = spillway.folder().join("policies/.default.wasm.part");
                fs::write(&beside, bytes).unwrap();
                let began = Instant::now();
                fs::rename(&beside, spillway.policy_path("default")).unwrap();
                // The first one serves since the start.
                eventually(&format!("swap {swap} has taken over"), || {
                    (spillway.policy("default")["swaps"] == swap + 1).then_some(())
                });
                took.push(began.elapsed());
            }
        };
        // The clients must be stopped also when a step panics, or the scope would wait for ever.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(steps));
        phase.store(OVER, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().expect("no request failed"));
        outcome.expect("every swap was seen");
    });
    let [quiet, swapping] = answers.map(|answers| answers.into_inner().unwrap());
    let counts = (quiet.len(), swapping.len());
    let (quiet, swapping, took) = (spread(quiet), spread(swapping), spread(took));
    println!("{SWAPS} swaps, from the file's renaming to service: median, p99 and longest {took:?}");
    println!("latency of {} requests without swaps: {quiet:?}", counts.0);
    println!("latency of {} requests beside swaps: {swapping:?}", counts.1);
    assert!(swapping.1 < quiet.1 * FACTOR + SLACK, "p99 is {:?}, and was {:?}", swapping.1, quiet.1);
    assert!(swapping.2 < quiet.2 * FACTOR + SLACK, "the longest is {:?}, and was {:?}", swapping.2, quiet.2);
    if std::env::var_os("SPILLWAY_LONG").is_some() {
        assert!(took.1 < Duration::from_millis(500), "p99 of the swaps is {:?}", took.1);
    }
    let stats = provider.stats();
    assert_eq!(stats.started, stats.completed);
}
