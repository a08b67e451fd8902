//! Two tenants at one limited upstream, one of which floods it with ten times its share: what the other one waits and
//! gets, with a share of its own, and without (both under one name).
//!
//! `cargo bench -p spillway-tests --bench fairness` prints it; SPILLWAY_BIN names the binary.
#![allow(missing_docs, reason = "a benchmark")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up fails by panicking")]

use serde_json::json;
use spillway_tests::asks::chat_with;
use spillway_tests::callers::{Caller, Habit};
use spillway_tests::http::Request;
use spillway_tests::load::{Load, Results};
use spillway_tests::provider::{Provider, body, healthy};
use spillway_tests::spillway::Setup;
use std::thread;
use std::time::{Duration, Instant};

const LASTING: Duration = Duration::from_secs(30);
/// Until then the queue of the flood fills, and nobody is looked at.
const FILLING: Duration = Duration::from_secs(10);
/// What is waited for at most: the default.
const PATIENCE: &str = "10s";

/// One kind of limit, and two tenants at it.
struct Case {
    name: &'static str,
    limits: &'static str,
    /// Takes all that the bucket holds at the start, so that what is seen is the rate.
    prelude: (u32, Tenant),
    shop: (f64, Tenant),
    flood: (f64, Tenant),
}

/// What a tenant's requests use.
#[derive(Clone, Copy)]
struct Tenant {
    name: &'static str,
    input: u64,
    output: u64,
}

impl Tenant {
    /// One that the provider can tell by its user.
    fn request(self, called: &str) -> Request {
        // As long as its tokens say, more or less: the estimate is not what is looked at here.
        let text = "word ".repeat(usize::try_from(self.input).unwrap());
        let fields = json!({
            "user": self.name, "max_completion_tokens": self.output,
            "messages": [{"role": "user", "content": text}],
        });
        chat_with(fields).header("x-spillway-tenant", called)
    }
}

const CASES: [Case; 3] = [
    Case {
        name: "requests: 20 a second; the shop asks for 8, the flood for 100",
        limits: "requests_per_minute = 1200",
        prelude: (1_200, Tenant { name: "prelude", input: 1, output: 1 }),
        shop: (8.0, Tenant { name: "shop", input: 20, output: 20 }),
        flood: (100.0, Tenant { name: "flood", input: 20, output: 20 }),
    },
    Case {
        name: "tokens: 20,000 a second; the shop asks for 8 times 1,000, the flood for 25 times 4,000",
        limits: "tokens_per_minute = 1200000",
        prelude: (12, Tenant { name: "prelude", input: 50_000, output: 50_000 }),
        shop: (8.0, Tenant { name: "shop", input: 500, output: 500 }),
        flood: (25.0, Tenant { name: "flood", input: 2_000, output: 2_000 }),
    },
    Case {
        name: "tokens: 20,000 a second; the shop asks for 2 times 4,000, the flood for 200 times 500",
        limits: "tokens_per_minute = 1200000",
        prelude: (12, Tenant { name: "prelude", input: 50_000, output: 50_000 }),
        shop: (2.0, Tenant { name: "shop", input: 2_000, output: 2_000 }),
        flood: (200.0, Tenant { name: "flood", input: 250, output: 250 }),
    },
];

fn main() {
    // `cargo test --benches` asks whether it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    for case in &CASES {
        println!("{}", case.name);
        let told = |results: &Results| {
            format!("{:5.1} % served, p95 {:6.0} ms", results.share_served() * 100.0, results.p95().as_secs_f64() * 1e3)
        };
        for (way, of_shop, of_flood) in [("each its share", "shop", "flood"), ("one name", "all", "all")] {
            let (shop, flood) = run(case, of_shop, of_flood);
            println!("  {way:14}  shop: {}   flood: {}", told(&shop), told(&flood));
        }
        println!("  {:14}  shop: {}", "alone", told(&alone(case)));
    }
}

fn setup(case: &Case, provider: &Provider) -> Setup {
    for (_, Tenant { name, input, output }) in [(0.0, case.prelude.1), case.shop, case.flood] {
        let is_its = body(move |json| json["user"] == name);
        provider.when(is_its, healthy().usage(input, output));
    }
    Setup::with(provider).set("upstreams.openai.limits", &format!("{}\npatience = \"{PATIENCE}\"", case.limits))
}

fn run(case: &Case, of_shop: &'static str, of_flood: &'static str) -> (Results, Results) {
    let provider = Provider::start();
    let spillway = setup(case, &provider).start();
    let to = spillway.address();
    empty(case, to);
    let begins = Instant::now() + Duration::from_millis(200);
    let send = |(per_second, tenant): (f64, Tenant), called: &'static str| {
        let load = Load { per_second, lasting: LASTING, caller: Caller::new(Habit::Once) };
        move || load.send(to, begins, move |_| tenant.request(called)).unwrap().due_from(FILLING)
    };
    let (shop, flood) = (send(case.shop, of_shop), send(case.flood, of_flood));
    thread::scope(|scope| {
        let (shop, flood) = (scope.spawn(shop), scope.spawn(flood));
        (shop.join().unwrap(), flood.join().unwrap())
    })
}

/// The shop without anybody else.
fn alone(case: &Case) -> Results {
    let provider = Provider::start();
    let spillway = setup(case, &provider).start();
    empty(case, spillway.address());
    let (per_second, tenant) = case.shop;
    let load = Load { per_second, lasting: LASTING / 2, caller: Caller::new(Habit::Once) };
    let begins = Instant::now() + Duration::from_millis(200);
    load.send(spillway.address(), begins, move |_| tenant.request("shop")).unwrap().due_from(FILLING / 2)
}

fn empty(case: &Case, to: std::net::SocketAddr) {
    let (count, tenant) = case.prelude;
    let load = Load { per_second: 1_000.0, lasting: Duration::from_secs(2), caller: Caller::new(Habit::Once) };
    let load = Load { lasting: Duration::from_secs_f64(f64::from(count) / load.per_second), ..load };
    load.send(to, Instant::now(), move |_| tenant.request("prelude")).unwrap();
}
