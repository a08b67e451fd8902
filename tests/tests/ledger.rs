//! What is spent is counted once, to the token; what may not be spent is refused, and says why; and neither is forgotten
//! however a process ends.
#![allow(clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use serde_json::{Value, json};
use spillway_tests::asks::{APIS, chat_with};
use spillway_tests::chance::Chance;
use spillway_tests::http::{Connection, Request, Response, get};
use spillway_tests::provider::{Provider, Reply, healthy, respond};
use spillway_tests::spillway::{Setup, Spillway, binary, run_to_end};
use spillway_tests::wait::eventually;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

/// What `spillway usage` answers.
fn usage(spillway: &Spillway, by: &str) -> Value {
    let arguments = ["usage", "--json", "--config", "spillway.toml", "--by", by].map(Into::into);
    let ended = run_to_end(spillway.folder(), &arguments);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("JSON")
}

/// Waits until the ledger's total has these figures.
#[track_caller]
fn comes_to(spillway: &Spillway, figures: &[(&str, u64)]) {
    let mut last = Value::Null;
    let found = spillway_tests::wait::within(spillway_tests::wait::DEADLINE, || {
        last = usage(spillway, "model")["total"].take();
        figures.iter().all(|(name, figure)| last[name] == *figure).then_some(())
    });
    assert!(found.is_some(), "{figures:?} are expected, and the ledger says {last:#}");
}

fn asking(model: &str, max_tokens: u64) -> Request {
    chat_with(json!({"model": model, "max_tokens": max_tokens}))
}

fn streaming(model: &str, max_tokens: u64) -> Request {
    chat_with(json!({"model": model, "max_tokens": max_tokens, "stream": true}))
}

#[track_caller]
fn is_refused(answer: &Response, code: &str, words: &[&str]) {
    let text = answer.text();
    assert_eq!(answer.refusal(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing: {text}");
    }
}

#[test]
fn what_the_provider_has_counted_is_in_the_ledger_to_the_token() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("ledger", "enabled = true").start();
    let mut expected = (0, 0, 0);
    for (index, api) in APIS.iter().enumerate() {
        for (request, input, output) in
            [((api.whole)(), 100 + index as u64, 7), ((api.stream)(), 200, 9 + index as u64)]
        {
            provider.next(healthy().usage(input, output));
            let (head, mut connection) = spillway.open(&request);
            assert_eq!(head.status, 200);
            connection.body().expect("whole");
            expected = (expected.0 + 1, expected.1 + input, expected.2 + output);
        }
    }
    let (requests, input, output) = expected;
    let figures = [
        ("requests", requests),
        ("calls", requests),
        ("input_tokens", input),
        ("output_tokens", output),
        ("estimated_calls", 0),
    ];
    comes_to(&spillway, &figures);
    let by_upstream = usage(&spillway, "upstream")["usage"].take();
    assert_eq!(by_upstream.as_array().map(Vec::len), Some(3), "{by_upstream}");
}

#[test]
fn a_stream_whose_caller_did_not_ask_for_usage_is_counted_and_arrives_as_without_a_ledger() {
    let provider = Provider::start();
    let direct = Setup::with(&provider).start();
    let kept = Setup::with(&provider).set("ledger", "enabled = true").start();
    let bodies = [&direct, &kept].map(|spillway| {
        provider.next(healthy().usage(11, 3));
        let body = spillway.send(&streaming("mock-small", 50)).text();
        // Ids differ from answer to answer.
        body.lines().filter(|line| line.starts_with("data:")).count()
    });
    assert_eq!(bodies[0], bodies[1]);
    comes_to(&kept, &[("input_tokens", 11), ("output_tokens", 3), ("estimated_calls", 0)]);
}

#[test]
fn a_limit_refuses_what_is_beyond_it_and_says_what_is_left_and_when_it_refills() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("ledger", "limits = [\"2 requests per day\"]").start();
    for _ in 0..2 {
        assert_eq!(spillway.send(&asking("mock-small", 5)).status(), 200);
    }
    let refused = spillway.send(&asking("mock-small", 5));
    assert_eq!(refused.status(), 429);
    let words = ["2 requests per day", "all callers together", "[ledger]", "0 requests are left", "2 requests spent"];
    is_refused(&refused, "spillway_limit_exhausted", &words);
    assert!(
        refused.retry_after_s().is_some() && refused.header("x-should-retry") == Some("false"),
        "not before tomorrow"
    );
    for api in APIS {
        is_refused(&spillway.send(&(api.whole)()), "spillway_limit_exhausted", &["2 requests per day"]);
    }
    assert_eq!(provider.stats().started, 2);
}

#[test]
fn what_was_spent_is_known_after_a_kill_and_no_period_is_granted_twice() {
    let provider = Provider::start();
    let mut spillway =
        Setup::with(&provider).set("ledger", "limits = [\"5 requests per day\", \"1000 requests per month\"]").start();
    let mut served = 0;
    for round in 0..4 {
        for _ in 0..2 {
            let answer = spillway.send(&asking("mock-small", 5));
            served += u64::from(answer.status() == 200);
            if served == 5 && answer.status() != 200 {
                is_refused(&answer, "spillway_limit_exhausted", &["5 requests per day"]);
            }
        }
        if round < 3 {
            spillway.restart();
        }
    }
    assert_eq!((served, provider.stats().started), (5, 5));
    comes_to(&spillway, &[("requests", 5)]);
}

#[test]
fn a_call_that_is_under_way_when_its_process_is_killed_is_booked_as_it_was_estimated_and_marked() {
    let provider = Provider::start();
    let mut spillway = Setup::with(&provider).set("ledger", "limits = [\"1000 output tokens per day\"]").start();
    provider.next(healthy().usage(10, 4));
    assert_eq!(spillway.send(&asking("mock-small", 900)).status(), 200);
    let gate = provider.gate();
    provider.next(healthy().hold_head(&gate));
    thread::scope(|scope| {
        let address = spillway.address();
        scope.spawn(move || {
            // It is killed while it waits.
            let _ =
                Connection::open(address).and_then(|mut connection| connection.exchange(&asking("mock-small", 500)));
        });
        provider.wait_for_requests(2);
        spillway.restart();
    });
    comes_to(&spillway, &[("requests", 2), ("output_tokens", 504), ("estimated_calls", 1)]);
    let refused = spillway.send(&asking("mock-small", 497));
    is_refused(&refused, "spillway_limit_exhausted", &["496 output tokens are left", "504 output tokens spent"]);
    assert_eq!(spillway.send(&asking("mock-small", 496)).status(), 200);
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_hangs_holds_up_nobody_and_what_is_spent_meanwhile_is_known_after_a_kill() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).set("ledger", "limits = [\"30 requests per day\"]");
    let (setup, disk) = setup.with_disk_to_hang();
    let mut spillway = setup.start();
    let mut before = spillway.connect();
    let ask = |connection: &mut Connection| connection.exchange(&asking("mock-small", 5)).expect("an answer").status();
    for _ in 0..3 {
        assert_eq!(ask(&mut before), 200);
    }
    comes_to(&spillway, &[("requests", 3)]);
    disk.hang();
    let mut connections: Vec<Connection> = (0..7).map(|_| spillway.connect()).chain([before]).collect();
    for _ in 0..3 {
        assert!(connections.iter_mut().all(|connection| ask(connection) == 200));
    }
    let hangs = |spillway: &Spillway| {
        let trouble = spillway.status()["ledger"]["trouble"].take();
        trouble.as_str().is_some_and(|trouble| trouble.contains("has not answered")).then_some(())
    };
    eventually("it is told that the disk hangs", || hangs(&spillway));
    spillway.log().wait_for(&["the ledger's disk does not answer"]);
    let gate = provider.gate();
    provider.next(healthy().hold_head(&gate));
    thread::scope(|scope| {
        let address = spillway.address();
        scope.spawn(move || {
            // It is killed while it waits.
            let _ = Connection::open(address).and_then(|mut connection| connection.exchange(&asking("mock-small", 5)));
        });
        provider.wait_for_requests(28);
        spillway.kill();
    });
    disk.answer();
    spillway.restart();
    comes_to(&spillway, &[("requests", 28), ("estimated_calls", 1)]);
    let mut last = spillway.connect();
    assert_eq!([ask(&mut last), ask(&mut last), ask(&mut last)], [200, 200, 429]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_hangs_does_not_keep_a_process_from_ending() {
    let provider = Provider::start();
    let (setup, disk) = Setup::with(&provider).set("ledger", "enabled = true").with_disk_to_hang();
    let mut spillway = setup.start();
    disk.hang();
    assert_eq!(spillway.send(&asking("mock-small", 5)).status(), 200);
    spillway.terminate();
    spillway.wait_for_exit();
    disk.answer();
    spillway.restart();
    comes_to(&spillway, &[("requests", 1)]);
}

#[test]
fn money_is_counted_by_the_models_price_and_a_model_without_one_is_refused() {
    let provider = Provider::start();
    // In dollars per million tokens.
    let prices = "[[price]]\nmodel = \"mock-small\"\ninput = 1\noutput = 10\n";
    let setup =
        Setup::with(&provider).set("prices", "file = \"prices.toml\"").set("ledger", "limits = [\"$0.01 per day\"]");
    std::fs::write(setup.folder().join("prices.toml"), prices).expect("written");
    let spillway = setup.start();
    provider.always(healthy().usage(1_000, 100));
    assert_eq!(spillway.send(&asking("mock-small", 500)).status(), 200);
    let spent = eventually("it is booked", || {
        let line = usage(&spillway, "model")["usage"].get(0).cloned()?;
        (line["requests"] == 1).then_some(line)
    });
    assert_eq!((&spent["cost_usd"], &spent["model"]), (&json!("0.002"), &json!("mock-small")), "{spent}");
    let refused = spillway.send(&asking("mock-small", 900));
    is_refused(&refused, "spillway_limit_exhausted", &["$0.01 per day", "$0.008 are left", "$0.002 spent"]);
    let unpriced = spillway.send(&asking("nobody-knows", 5));
    assert_eq!(unpriced.status(), 403);
    is_refused(&unpriced, "spillway_unpriced", &["whose price is not known", "[prices]"]);
}

/// A group with these limits, a model of which a dollar buys a thousand tokens, and one of which it buys a hundred
/// thousand, to which a route leads that takes nothing else.
fn with_a_cheaper_route(provider: &Provider, limits: &str) -> Setup {
    let prices = "[[price]]\nmodel = \"mock-dear\"\ninput = 1000\noutput = 1000\n\
                  [[price]]\nmodel = \"mock-cheap\"\ninput = 10\noutput = 10\n";
    let setup = Setup::with(provider)
        .set("prices", "file = \"prices.toml\"")
        .set("routes.cheap", "model = \"cheap\"\ntargets = [\"openai/mock-cheap\"]")
        .set("groups.acme", limits)
        .set("tenants.acme", "group = \"acme\"");
    std::fs::write(setup.folder().join("prices.toml"), prices).expect("written");
    setup
}

fn of_acme(request: Request) -> Request {
    request.header("x-spillway-tenant", "acme")
}

#[test]
fn what_an_exhausted_limit_would_refuse_goes_along_the_route_that_its_group_names() {
    let provider = Provider::start();
    let spillway = with_a_cheaper_route(&provider, "limits = [\"$1 per day\"]\nwhen_exhausted = \"cheap\"").start();
    provider.next(healthy().usage(100, 800));
    let first = spillway.send(&of_acme(asking("mock-dear", 850)));
    assert_eq!((first.status(), first.header("x-spillway-route")), (200, None));
    provider.always(healthy().usage(100, 400));
    for request in [asking("mock-dear", 850), streaming("mock-dear", 850)] {
        let (head, mut connection) = spillway.open(&of_acme(request));
        assert_eq!(head.status, 200);
        connection.body().expect("whole");
        for (name, value) in [
            ("x-spillway-route", "cheap"),
            ("x-spillway-target", "openai/mock-cheap"),
            ("x-spillway-fallback-from", "openai"),
        ] {
            assert_eq!(head.header(name), Some(value), "{name}");
        }
    }
    let asked: Vec<_> = provider.requests().iter().map(|request| request.json()["model"].clone()).collect();
    assert_eq!(asked, ["mock-dear", "mock-cheap", "mock-cheap"]);
    spillway.log().wait_for(&[
        "\"request\"",
        "the limit of $1.00 per day for the group acme does not allow it; on along the route cheap",
    ]);
    comes_to(&spillway, &[("requests", 3), ("output_tokens", 1_600)]);
    let lines = usage(&spillway, "model")["usage"].take();
    let cost = |model: &str| {
        let lines = lines.as_array().expect("lines");
        lines.iter().find(|line| line["model"] == model).map(|line| line["cost_usd"].clone())
    };
    assert_eq!((cost("mock-dear"), cost("mock-cheap")), (Some("0.90".into()), Some("0.01".into())), "{lines}");
    // A hundred thousand of the cheap one are too many as well.
    let refused = spillway.send(&of_acme(asking("mock-dear", 50_000)));
    assert_eq!((refused.status(), refused.header("x-spillway-route")), (429, Some("cheap")));
    let words = ["$1.00 per day", "the group acme", "$0.09 are left", "$0.91 spent"];
    is_refused(&refused, "spillway_limit_exhausted", &words);
    assert_eq!(provider.stats().started, 3);
}

#[test]
fn where_no_route_is_named_an_exhausted_limit_refuses() {
    let provider = Provider::start();
    let spillway = with_a_cheaper_route(&provider, "limits = [\"$1 per day\"]").start();
    let refused = spillway.send(&of_acme(asking("mock-dear", 2_000)));
    is_refused(&refused, "spillway_limit_exhausted", &["$1.00 per day", "the group acme"]);
    assert_eq!((refused.status(), provider.stats().started), (429, 0));
}

#[test]
fn what_cannot_be_served_along_the_cheaper_route_is_refused_as_without_it() {
    let provider = Provider::start();
    let spillway = with_a_cheaper_route(&provider, "limits = [\"1 requests per day\"]")
        .set("ledger", "when_exhausted = \"cheap\"")
        .start();
    assert_eq!(spillway.send(&of_acme(asking("mock-dear", 5))).status(), 200);
    let other_api = of_acme((APIS[1].whole)());
    let unread = of_acme(get("/v1/models"));
    let socket = of_acme(get("/v1/responses"))
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let kept = of_acme(chat_with(json!({"model": "mock-dear", "messages": [
        {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-nobody-knows"}}]},
    ]})));
    let there_already = of_acme(asking("cheap", 5));
    for (id, request, why) in [
        ("another-api", other_api, "its targets speak another API"),
        ("unread", unread, "only what generates"),
        ("socket", socket, "only what generates"),
        ("elsewhere", kept, "it names what lives at a provider"),
        ("there-already", there_already, "it is there already"),
    ] {
        let answer = spillway.send(&request.header("x-request-id", id));
        is_refused(&answer, "spillway_limit_exhausted", &["1 requests per day", "the group acme"]);
        spillway.log().wait_for(&["\"request\"", id, &format!("not along the route cheap: {why}")]);
    }
    assert_eq!(provider.stats().started, 1);
}

#[test]
fn groups_are_limited_one_within_the_other_and_who_is_in_the_way_is_named() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider)
        .set("groups.acme", "limits = [\"3 requests per day\"]")
        .set("groups.search", "parent = \"acme\"\nlimits = [\"2 requests per day\"]")
        .set("groups.chat", "parent = \"acme\"\nsoft_limits = [\"1 output tokens per day\"]")
        .set("tenants.searcher", "group = \"search\"")
        .set("tenants.chatter", "group = \"chat\"")
        .start();
    let by = |tenant: &str| spillway.send(&asking("mock-small", 5).header("x-spillway-tenant", tenant));
    assert_eq!((by("searcher").status(), by("searcher").status()), (200, 200));
    is_refused(&by("searcher"), "spillway_limit_exhausted", &["the group search", "[groups.search]"]);
    assert_eq!(by("chatter").status(), 200);
    is_refused(&by("chatter"), "spillway_limit_exhausted", &["the group acme", "[groups.acme]"]);
    assert_eq!(by("nobody").status(), 200, "others are in no group");
    spillway.log().wait_for(&["a soft limit is passed", "chat"]);
    eventually("all is booked", || (usage(&spillway, "group")["total"]["requests"] == 4).then_some(()));
    let lines = usage(&spillway, "group")["usage"].take();
    let of = |group: Value| {
        let lines = lines.as_array().expect("lines");
        lines.iter().find(|line| line["group"] == group).map(|line| line["requests"].clone())
    };
    assert_eq!(
        (of("search".into()), of("chat".into()), of(Value::Null)),
        (Some(2.into()), Some(1.into()), Some(1.into()))
    );
}

#[test]
fn limits_that_only_watch_refuse_nobody_and_are_told() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("ledger", "limits = [\"1 requests per day\"]\nwatch_only = true").start();
    for _ in 0..4 {
        assert_eq!(spillway.send(&asking("mock-small", 5)).status(), 200);
    }
    spillway.log().wait_for(&["a limit would refuse calls, and only watches", "1 requests per day"]);
    let ledger = spillway.status()["ledger"].take();
    assert_eq!(ledger["would_have_refused"], 3, "{ledger}");
}

#[test]
fn whoever_has_the_patience_waits_for_a_call_to_end_where_calls_in_flight_are_limited() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("ledger", "limits = [\"1 calls in flight\"]").start();
    let gate = provider.gate();
    provider.next(healthy().hold_head(&gate));
    thread::scope(|scope| {
        let first = scope.spawn(|| spillway.send(&asking("mock-small", 5)).status());
        provider.wait_for_requests(1);
        let second = scope.spawn(|| spillway.send(&asking("mock-small", 5)).status());
        eventually("the second waits", || (spillway.status()["in_flight"] == 2).then_some(()));
        assert_eq!(provider.stats().started, 1);
        gate.open();
        assert_eq!((first.join().expect("a status"), second.join().expect("a status")), (200, 200));
    });
}

#[test]
fn a_failed_call_costs_nothing_and_what_was_cut_is_estimated_and_marked() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("ledger", "enabled = true").start();
    provider.next(respond(500));
    provider.next(healthy().usage(8, 2));
    assert_eq!(spillway.send(&asking("mock-small", 5)).status(), 200);
    comes_to(&spillway, &[("requests", 1), ("calls", 1), ("input_tokens", 8), ("output_tokens", 2)]);
    provider.next(healthy().usage(50, 50).after_events(4).cut());
    let (_, mut connection) = spillway.open(&streaming("mock-small", 100));
    assert!(connection.body().is_err(), "it was cut");
    comes_to(&spillway, &[("requests", 2), ("calls", 2), ("estimated_calls", 1)]);
    let spent = usage(&spillway, "model")["total"].take();
    assert!(spent["output_tokens"].as_u64().is_some_and(|output| output > 2), "what was seen was made: {spent}");
}

/// A call that was served, as its caller knows it.
struct Served {
    sent: Instant,
    most: u64,
}

/// Checks a refusal by the rule: what is spent and reserved, and what this call may cost, are more than the limit; and
/// that by figures which those calls explain that were sent before it was refused.
#[track_caller]
fn is_right(text: &str, refused: Instant, served: &[Served]) {
    let before = || served.iter().filter(|call| call.sent < refused);
    // All that they can have reserved or spent, whatever had become of them at that moment. A prompt is 20 tokens, and
    // may have been estimated as fifty.
    let (limit, explained) = [
        ("600 requests per day", 600.0, before().count() as f64),
        ("40000 output tokens per day", 40_000.0, before().map(|call| call.most.max(30)).sum::<u64>() as f64),
        ("$0.35 per day", 0.35, before().map(|call| (50 + 10 * call.most.max(30)) as f64 / 1e6).sum()),
        ("50 calls in flight", 50.0, before().count() as f64),
    ]
    .into_iter()
    .find_map(|(limit, amount, explained)| text.contains(limit).then_some((amount, explained)))
    .expect(text);
    if text.contains("calls are in flight") {
        assert!(explained >= limit, "{explained} were sent: {text}");
        return;
    }
    let [left, spent, reserved, asked] = ["this call: ", " are left (", " spent, ", "may take "].map(|before| {
        let (_, behind) = text.split_once(before).expect(text);
        let is_of_figure = |sign: char| sign.is_ascii_digit() || matches!(sign, '$' | '.');
        let figure = behind.split(|sign| !is_of_figure(sign)).next().unwrap_or_default();
        figure.trim_matches(['$', '.']).parse::<f64>().expect(text)
    });
    // Figures of money are rounded when they are told.
    let same = |one: f64, other: f64| (one - other).abs() <= 0.000_2 * limit;
    assert!(same(left, limit - spent - reserved), "{text}");
    assert!(asked > left || same(asked, left), "it would have fitted: {text}");
    assert!(spent + reserved <= explained || same(spent + reserved, explained), "nobody has spent that: {text}");
}

/// Callers with sizes of all kinds at once against limits on all that can be limited: nothing is overspent.
#[test]
fn two_hundred_callers_at_once_overspend_nothing_and_each_refusal_is_right() {
    const CALLERS: u64 = 200;
    const CALLS: u64 = 5;
    let provider = Provider::start();
    let prices = "[[price]]\nmodel = \"mock-small\"\ninput = 1\noutput = 10\n";
    let limits = "limits = [\"600 requests per day\", \"40000 output tokens per day\", \"$0.35 per day\", \"50 calls in flight\"]";
    let setup = Setup::with(&provider)
        .set("prices", "file = \"prices.toml\"")
        .set("ledger", limits)
        .set("upstreams.openai.limits", "patience = \"0s\"");
    std::fs::write(setup.folder().join("prices.toml"), prices).expect("written");
    let spillway = setup.start();
    provider.always(healthy().usage(20, 30));
    let (served, refused) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (spillway, served, refused) = (&spillway, &served, &refused);
            scope.spawn(move || {
                let mut chance = Chance::seeded(caller);
                let mut connection = spillway.connect();
                for _ in 0..CALLS {
                    let most = [1, 30, 100, 2_000, 50_000][chance.below(5)];
                    let sent = Instant::now();
                    let answer = connection.exchange(&asking("mock-small", most)).expect("an answer");
                    match answer.status() {
                        200 => served.lock().expect("no panic").push(Served { sent, most }),
                        429 => refused.lock().expect("no panic").push((Instant::now(), answer.text())),
                        status => panic!("{status}: {}", answer.text()),
                    }
                }
            });
        }
    });
    let (served, refused) = (served.into_inner().expect("no panic"), refused.into_inner().expect("no panic"));
    for (received, text) in &refused {
        is_right(text, *received, &served);
    }
    let of_tokens = refused.iter().filter(|(_, text)| text.contains("output tokens per")).count();
    assert!(!served.is_empty() && of_tokens > 0, "{} served, {of_tokens} refused", served.len());
    let served = served.len() as u64;
    comes_to(&spillway, &[("requests", served), ("input_tokens", served * 20), ("output_tokens", served * 30)]);
    let ledger = spillway.status()["ledger"].take();
    for limit in ledger["limits"].as_array().expect("limits") {
        let figure = |name: &str| limit[name].as_f64().expect("a figure");
        assert!(figure("spent") <= figure("amount") && figure("open") == 0.0, "{limit}");
    }
}

/// Ten thousand requests of all kinds, some of which end badly, with restarts in between.
#[test]
fn through_cuts_cancels_retries_and_kills_the_ledger_is_the_providers_own() {
    let requests: u64 = if std::env::var_os("SPILLWAY_LONG").is_some() { 10_000 } else { 600 };
    let provider = Provider::start();
    let mut spillway = Setup::with(&provider).set("ledger", "enabled = true").start();
    let mut chance = Chance::seeded(26);
    // What the provider has counted and told, and what it was not asked for or could not tell.
    let (mut told, mut untold) = ((0_u64, 0_u64, 0_u64), 0_u64);
    for number in 0..requests {
        let (input, output) = (chance.below(1_000) as u64 + 1, chance.below(300) as u64 + 1);
        let reply = healthy().usage(input, output);
        let stream = chance.below(2) == 0;
        let request = if stream { streaming("mock-small", 400) } else { asking("mock-small", 400) };
        match chance.below(10) {
            0 => {
                provider.next(respond(503));
                provider.next(reply);
                assert_eq!(spillway.send(&request).status(), 200);
                told = (told.0 + 1, told.1 + input, told.2 + output);
            }
            1 if stream => {
                let cut: Reply = reply.after_events(3).cut();
                provider.next(cut);
                let (_, mut connection) = spillway.open(&request);
                assert!(connection.body().is_err(), "it was cut");
                untold += 1;
            }
            2 => {
                let gate = provider.gate();
                provider.next(reply.hold_head(&gate));
                let before = provider.stats().started;
                let mut connection = spillway.connect();
                connection.send(&request).expect("sent");
                provider.wait_until(|stats| stats.started > before);
                // Its caller leaves.
                drop(connection);
                provider.wait_until(|stats| stats.in_flight() == 0);
                untold += 1;
            }
            _ => {
                provider.next(reply);
                assert_eq!(spillway.send(&request).status(), 200);
                told = (told.0 + 1, told.1 + input, told.2 + output);
            }
        }
        if number % (requests / 3) == requests / 3 - 1 {
            spillway.restart();
        }
    }
    comes_to(&spillway, &[("calls", told.0 + untold), ("estimated_calls", untold)]);
    let total = usage(&spillway, "model")["total"].take();
    let figure = |name: &str| total[name].as_u64().expect("a figure");
    let reported = |what: &str| figure(&format!("{what}_tokens")) - figure(&format!("estimated_{what}_tokens"));
    assert_eq!((reported("input"), reported("output")), (told.1, told.2), "{total:#}");
}

#[test]
fn the_doctor_names_what_was_used_and_has_no_price_while_a_spillway_keeps_the_ledger() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("ledger", "enabled = true").start();
    let said = || {
        let ended = run_to_end(spillway.folder(), &["doctor", "--json", "--config", "spillway.toml"].map(Into::into));
        let report: Value = serde_json::from_str(&ended.stdout).expect("JSON");
        let found = report["findings"].as_array().expect("findings").iter();
        let prices = found.filter(|finding| finding["area"] == "prices");
        prices.map(|finding| format!("{} {}", finding["said"], finding["next"])).collect::<Vec<_>>().join("\n")
    };
    assert!(!said().contains("was used"), "{}", said());
    provider.next(healthy().usage(60, 9));
    assert_eq!(spillway.send(&asking("nobody-knows", 100)).status(), 200);
    comes_to(&spillway, &[("calls", 1)]);
    for words in ["nobody-knows at openai (1 call, 69 tokens)", "`spillway prices MODEL`", "prices.file"] {
        assert!(said().contains(words), "{words:?} is missing: {}", said());
    }
    std::fs::write(
        spillway.folder().join("prices.toml"),
        "[[price]]\nmodel = \"nobody-knows\"\ninput = 1\noutput = 1\n",
    )
    .expect("written");
    let text = std::fs::read_to_string(spillway.folder().join("spillway.toml")).expect("a configuration");
    std::fs::write(spillway.folder().join("spillway.toml"), text + "\n[prices]\nfile = \"prices.toml\"\n")
        .expect("written");
    assert!(!said().contains("was used"), "it has a price now: {}", said());
}

/// What a week of a hundred keys comes to, all of which use all models for all purposes. The long form has a million
/// records, and tells how long the question takes.
#[test]
fn a_report_of_many_records_has_a_line_for_each_key_model_and_label_and_loses_nothing() {
    const KEYS: u64 = 100;
    const MODELS: u64 = 5;
    const LABELS: u64 = 20;
    const QUARTER_S: u64 = 15 * 60;
    let quarters: u64 = if std::env::var_os("SPILLWAY_LONG").is_some() { 100 } else { 2 };
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("ledger", "enabled = true").start();
    // Whoever keeps it has made it, and goes on to keep it.
    let file = spillway.folder().join("spillway-data/ledger/ledger.sqlite");
    let mut ledger = rusqlite::Connection::open(file).expect("a ledger");
    ledger.busy_timeout(spillway_tests::wait::DEADLINE).expect("a timeout");
    let written = ledger.transaction().expect("a transaction");
    {
        let mut name = written.prepare("INSERT INTO name (text) VALUES (?1)").expect("a statement");
        let mut names = |kind: &str, count: u64| -> Vec<i64> {
            (0..count).map(|number| name.insert([format!("{kind}{number}")]).expect("a name")).collect()
        };
        let (keys, models, labels) = (names("k_", KEYS), names("model-", MODELS), names("feature=f", LABELS));
        let mut spent = written
            .prepare("INSERT INTO spent VALUES (?1, ?2, 0, 0, 0, ?3, ?4, 0, 0, 0, 3, 4, 1000, 100, 10, 0, 0, 7, 0, 0)")
            .expect("a statement");
        let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        for quarter in 1..=quarters {
            let start = i64::try_from((now_s / QUARTER_S - 6 * quarter) * QUARTER_S).expect("a time");
            for key in &keys {
                for model in &models {
                    for label in &labels {
                        spent.execute([start, *key, *model, *label]).expect("a record");
                    }
                }
            }
        }
    }
    written.commit().expect("written");
    let began = std::time::Instant::now();
    let arguments = ["usage", "--json", "--config", "spillway.toml", "--by", "key,model,label", "--since", "7d"];
    let ended = Command::new(binary()).args(arguments).current_dir(spillway.folder()).output().expect("it ends");
    let took = began.elapsed();
    let report: Value = serde_json::from_slice(&ended.stdout).expect("JSON");
    let lines = report["usage"].as_array().expect("lines");
    assert_eq!(lines.len() as u64, KEYS * MODELS * LABELS);
    for (figure, of_each) in
        [("requests", 3), ("calls", 4), ("input_tokens", 1000), ("output_tokens", 100), ("reasoning_tokens", 7)]
    {
        assert!(lines.iter().all(|line| line[figure] == quarters * of_each), "{figure}");
        assert_eq!(report["total"][figure], KEYS * MODELS * LABELS * quarters * of_each, "{figure}");
    }
    eprintln!("{} records in {took:?}", KEYS * MODELS * LABELS * quarters);
}
