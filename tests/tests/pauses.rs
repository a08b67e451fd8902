//! Pauses that a provider names: kept as they were named, waited for by whoever has the patience, and passed on
//! honestly to whoever has not.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::json;
use spillway_tests::asks::{APIS, Api, KEY, chat, chat_with};
use spillway_tests::callers::{Called, Caller, Habit};
use spillway_tests::http::{Request, Response, post};
use spillway_tests::load::{Load, Results};
use spillway_tests::provider::{
    Failure, Provider, Reply, fail, faster_than, healthy, insufficient_quota, rate_limited, respond,
};
use spillway_tests::spillway::{Setup, Spillway};
use spillway_tests::wait::eventually;
use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// What a loaded machine adds.
const MACHINE: Duration = Duration::from_millis(150);

/// In the words of each API.
const LIMITED: [&str; 3] = ["requests", "rate_limit_error", "RESOURCE_EXHAUSTED"];

/// Of the mock's rate limit.
const WORDS: &str = "too many requests, slow down";

fn limited_for(seconds: u64) -> Reply {
    rate_limited().retry_after_s(seconds)
}

fn called(caller: Caller, to: SocketAddr, request: &Request) -> Called {
    caller.call(to, request, 1).expect("a runtime")
}

/// A caller who would not wait, and by whom a pause becomes known.
fn told(spillway: &Spillway, api: Api, provider: &Provider, reply: Reply) -> Response {
    provider.next(reply);
    spillway.send(&(api.whole)().header("x-stainless-read-timeout", "0.5"))
}

#[test]
fn a_refusal_that_comes_compressed_is_understood_and_passed_on_as_it_came() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let said = br#"{"error":{"message":"You exceeded your current quota.","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(said).expect("written");
    let bytes = gzip.finish().expect("finished");
    let reply = respond(429).header("content-type", "application/json").header("content-encoding", "gzip");
    provider.always(reply.body(bytes.clone()));
    let (head, mut answer) = spillway.open(&chat());
    assert_eq!(
        (head.status, head.header("x-should-retry"), head.header("content-encoding")),
        (429, Some("false"), Some("gzip"))
    );
    assert_eq!(answer.body().expect("a body"), bytes);
    assert_eq!(provider.stats().started, 1);
}

#[test]
fn three_short_pauses_cost_their_own_time_and_their_caller_sees_one_200() {
    // Coding agents repeat more often than the SDKs; others do not at all, and are waited for all the same.
    let callers =
        [Caller::new(Habit::Once), Caller::new(Habit::Python).retries(9), Caller::new(Habit::Node).retries(9)];
    let one = |api: Api, caller: Caller| {
        let provider = Provider::start();
        let spillway = Setup::with(&provider).start();
        for _ in 0..3 {
            provider.next(limited_for(1));
        }
        let called = called(caller, spillway.address(), &(api.whole)());
        let what = format!("{}, {caller:?}: {called:?}", api.name);
        assert_eq!((called.status(), called.attempts), (200, 1), "{what}");
        let calls: Vec<_> = provider.requests().iter().map(|request| request.at).collect();
        assert_eq!(calls.len(), 4, "{what}");
        for pair in calls.windows(2) {
            let pause = pair[1] - pair[0];
            let longest = Duration::from_millis(1_100) + MACHINE;
            assert!((Duration::from_secs(1)..longest).contains(&pause), "a pause of {pause:?} in {what}");
        }
        // Directly, three seconds.
        assert!(called.took <= Duration::from_millis(3_300) + MACHINE, "{what}");
    };
    thread::scope(|scope| {
        for api in APIS {
            for caller in callers {
                scope.spawn(move || one(api, caller));
            }
        }
    });
}

#[test]
fn who_comes_during_a_pause_waits_for_its_end_and_sees_one_200() {
    const OTHERS: usize = 4;
    for api in APIS {
        let provider = Provider::start();
        let spillway = Setup::with(&provider).start();
        assert_eq!(told(&spillway, api, &provider, limited_for(1)).status(), 429, "{}", api.name);
        thread::scope(|scope| {
            let others: Vec<_> = (0..OTHERS).map(|_| scope.spawn(|| spillway.send(&(api.whole)()))).collect();
            for other in others {
                let answer = other.join().expect("an answer");
                assert_eq!(answer.status(), 200, "{}: {}", api.name, answer.text());
            }
        });
        let calls: Vec<_> = provider.requests().iter().map(|request| request.at).collect();
        assert_eq!(calls.len(), 1 + OTHERS, "{}: nobody asked twice", api.name);
        assert!(calls[1] - calls[0] >= Duration::from_secs(1), "{}: asked again during the pause", api.name);
    }
}

#[test]
fn they_wait_fairly_for_the_end_of_a_pause() {
    const FLOOD: usize = 12;
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    told(&spillway, APIS[0], &provider, limited_for(2));
    let by = |tenant: &str| chat_with(json!({"user": tenant})).header("x-spillway-tenant", tenant);
    thread::scope(|scope| {
        let send = |tenant: &'static str| {
            let spillway = &spillway;
            scope.spawn(move || spillway.send(&by(tenant)).status())
        };
        let flood: Vec<_> = (0..FLOOD).map(|_| send("flood")).collect();
        let shop = send("shop");
        assert_eq!(shop.join().expect("an answer"), 200);
        assert!(flood.into_iter().all(|call| call.join().expect("an answer") == 200));
    });
    let order: Vec<_> = provider.requests().iter().skip(1).map(|request| request.json()["user"].clone()).collect();
    let place = order.iter().position(|user| user == "shop").expect("the shop was served");
    assert!(place <= 3, "the shop was number {place} of {order:?}");
}

#[test]
fn whose_patience_does_not_cover_a_pause_gets_the_providers_429_at_once_and_an_honest_wait() {
    for (api, kind) in APIS.into_iter().zip(LIMITED) {
        let provider = Provider::start();
        let spillway = Setup::with(&provider).start();
        assert_eq!(told(&spillway, api, &provider, limited_for(40)).status(), 429);
        let began = Instant::now();
        let refused = spillway.send(&(api.whole)());
        assert!(began.elapsed() < Duration::from_secs(2), "{}: after {:?}", api.name, began.elapsed());
        assert_eq!((refused.status(), &*refused.at(api.kind)), (429, kind), "{}: {}", api.name, refused.text());
        assert!(refused.refusal().is_some(), "{}: {:?}", api.name, refused.head);
        let wait_s = refused.retry_after_s().expect("a Retry-After");
        assert!((30..=44).contains(&wait_s), "{}: Retry-After: {wait_s}", api.name);
        let message = refused.at("/error/message");
        assert!(message.contains("Spillway") && message.contains(WORDS), "{}: {message}", api.name);
        assert_eq!(api.name == "gemini", refused.text().contains("retryDelay"), "{}", refused.text());
        assert_eq!(provider.stats().started, 1, "{}", api.name);
    }
}

#[test]
fn a_callers_own_timeout_bounds_its_patience_and_so_does_the_configuration() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("upstreams.anthropic.limits", "patience = \"1s\"").start();
    for (api, kind) in APIS.into_iter().zip(LIMITED) {
        told(&spillway, api, &provider, limited_for(5));
        let request = (api.whole)();
        let hasty = if api.name == "anthropic" { request } else { request.header("x-stainless-read-timeout", "2") };
        let began = Instant::now();
        let refused = spillway.send(&hasty);
        assert!(began.elapsed() < Duration::from_secs(1), "{}: after {:?}", api.name, began.elapsed());
        assert_eq!((refused.status(), &*refused.at(api.kind)), (429, kind), "{}: {}", api.name, refused.text());
        let wait_s = refused.retry_after_s().expect("a Retry-After");
        assert!((4..=6).contains(&wait_s), "{}: Retry-After: {wait_s}", api.name);
    }
    assert_eq!(provider.stats().started, 3);
}

/// Thirty callers at once, where ten a second are allowed.
fn burst(caller: Caller, provider: &Provider, to: SocketAddr) -> Results {
    provider.when(faster_than(10.0, 10.0), limited_for(1));
    let load = Load { per_second: 1e6, lasting: Duration::from_micros(30), caller };
    load.send(to, Instant::now(), |_| chat()).expect("a runtime")
}

#[test]
fn of_a_burst_above_a_limit_everybody_is_served_with_fewer_calls_than_directly() {
    let one = |habit: Habit| {
        let (direct, through) = (Provider::start(), Provider::start());
        let spillway = Setup::with(&through).start();
        let caller = Caller::new(habit);
        let directly = burst(caller, &direct, direct.address());
        let results = burst(caller, &through, spillway.address());
        assert_eq!(results.count(), 30);
        assert!(results.share_served() >= 1.0, "{habit:?}: {:?}", results.statuses());
        if habit != Habit::Once {
            assert!(directly.share_served() >= 1.0, "{habit:?}, directly: {:?}", directly.statuses());
            let calls = [&direct, &through].map(|provider| provider.stats().started);
            assert!(calls[1] < calls[0], "{habit:?}: {} calls directly, and {} through Spillway", calls[0], calls[1]);
        }
    };
    thread::scope(|scope| {
        for habit in [Habit::Python, Habit::Python, Habit::Node, Habit::Node, Habit::Vercel, Habit::Once] {
            scope.spawn(move || one(habit));
        }
    });
}

#[test]
fn a_route_that_is_not_repeated_is_answered_when_its_caller_was_told_to_come_again() {
    let speech = || post("/v1/audio/speech", &json!({"model": "mock-voice", "input": "Hello.", "voice": "one"}));
    let count = || {
        let messages = json!([{"role": "user", "content": "Hello?"}]);
        post("/v1/messages/count_tokens", &json!({"model": "mock-claude", "messages": messages}))
            .header("x-api-key", KEY)
            .header("anthropic-version", "2023-06-01")
    };
    let form = |path: &str| {
        let part = "content-disposition: form-data; name=\"model\"\r\n\r\nmock-ear";
        let form = format!("--edge\r\n{part}\r\n--edge--\r\n");
        post(path, &json!(null)).replace_header("content-type", "multipart/form-data; boundary=edge").body(form)
    };
    let bearer = |request: Request| request.header("authorization", &format!("Bearer {KEY}"));
    let routes = [bearer(speech()), count(), bearer(form("/v1/audio/transcriptions")), bearer(form("/v1/files"))];
    let one = |request: &Request| {
        let run = |provider: &Provider, to| {
            provider.next(limited_for(1));
            provider.next(limited_for(1));
            (called(Caller::new(Habit::Python), to, request), provider.stats().started)
        };
        let (direct, through) = (Provider::start(), Provider::start());
        let spillway = Setup::with(&through).start();
        let (directly, calls_directly) = run(&direct, direct.address());
        let (called, calls) = run(&through, spillway.address());
        assert_eq!((directly.status(), calls_directly), (200, 3), "directly: {directly:?}");
        assert_eq!(called.status(), 200, "{request:?}: {called:?}");
        assert_eq!(calls, calls_directly, "{request:?}");
        let longest = directly.took.mul_f64(1.1) + Duration::from_millis(100);
        assert!(called.took <= longest, "{request:?}: {:?}, and directly {:?}", called.took, directly.took);
    };
    thread::scope(|scope| {
        for request in &routes {
            scope.spawn(move || one(request));
        }
    });
}

fn named_for_a_day() -> Reply {
    fail(Failure::ServerError).status(503).retry_after_s(86_400)
}

#[test]
fn a_pause_named_for_a_day_does_not_last_a_day() {
    let provider = Provider::start();
    let setup = Setup::with(&provider).set("upstreams.openai.retry", "max_attempts = 1");
    let spillway = setup.start();
    provider.next(named_for_a_day());
    assert_eq!(spillway.send(&chat()).status(), 503);
    let refused = spillway.send(&chat());
    assert!(refused.refusal().is_some(), "{}", refused.text());
    let wait_s = refused.retry_after_s().expect("a Retry-After");
    assert!(wait_s <= 660, "ten minutes and a little at most, not {wait_s} s");
}

#[test]
fn how_long_a_provider_may_name_is_bounded_also_across_a_restart() {
    for restarts in [false, true] {
        let provider = Provider::start();
        let setup = Setup::with(&provider)
            .set("upstreams.openai.retry", "max_attempts = 1")
            .set("upstreams.openai.limits", "patience = \"0s\"")
            .set("upstreams.openai.pacing", "named_pause_max = \"1s\"");
        let mut spillway = setup.start();
        provider.next(named_for_a_day());
        assert_eq!(spillway.send(&chat()).status(), 503);
        if restarts {
            let kept = spillway.folder().join("spillway-data/circuits.json");
            eventually("the pause is on disk", || {
                std::fs::read_to_string(&kept).ok().filter(|text| text.contains("\"remaining_ms\""))
            });
            spillway.restart();
        }
        eventually("the pause is over", || (spillway.send(&chat()).status() == 200).then_some(()));
        let calls: Vec<_> = provider.requests().iter().map(|request| request.at).collect();
        assert_eq!(calls.len(), 2, "one failed, and one was served");
        let pause = calls[1] - calls[0];
        // A process has to start meanwhile.
        let longest = if restarts { Duration::from_secs(10) } else { Duration::from_millis(1_100) + MACHINE };
        assert!((Duration::from_secs(1)..longest).contains(&pause), "{pause:?}");
    }
}

#[test]
fn what_a_policy_says_by_itself_is_not_bounded() {
    let provider = Provider::start();
    let setup = Setup::with(&provider)
        .policy("quota-aware")
        .set("policies.settings.quota-aware", "rest_s = 3")
        .set("upstreams.openai", "policy = \"quota-aware\"")
        .set("upstreams.openai.retry", "max_attempts = 1")
        .set("upstreams.openai.pacing", "named_pause_max = \"1s\"");
    let spillway = setup.start();
    provider.next(insufficient_quota());
    assert_eq!(spillway.send(&chat()).status(), 429);
    eventually("its key is served again", || (spillway.send(&chat()).status() == 200).then_some(()));
    let calls: Vec<_> = provider.requests().iter().map(|request| request.at).collect();
    assert_eq!(calls.len(), 2);
    assert!(calls[1] - calls[0] >= Duration::from_secs(3), "asked again after {:?}", calls[1] - calls[0]);
}

#[test]
fn after_a_pause_callers_are_released_at_the_rate_that_was_served_and_not_all_at_once() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    // Ten a second and no more: a herd that comes at once is refused, all but one of it.
    let (beyond, refused) = faster_than(10.0, 1.0).counted();
    provider.always(healthy());
    provider.when(beyond, limited_for(1));
    let load = Load { per_second: 20.0, lasting: Duration::from_secs(4), caller: Caller::new(Habit::Once) };
    let results = load.send(spillway.address(), Instant::now(), |_| chat()).expect("a runtime");
    assert!(results.share_served() >= 0.98, "{:?}", results.statuses());
    // Each second of the eight that this takes may be tried out a little faster than the provider bears.
    assert!(refused.get() <= 24, "{} of {} calls were refused", refused.get(), provider.stats().started);
}
