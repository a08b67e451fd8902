//! Who waits, for what, and before whom: places in flight, tenants, priorities, shedding and hedges.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use spillway_tests::asks::{chat, chat_with};
use spillway_tests::http::{Request, Response};
use spillway_tests::provider::{Gate, Provider, body, header, healthy, overloaded};
use spillway_tests::spillway::{Setup, Spillway};
use spillway_tests::wait::eventually;
use std::thread::{self, Scope, ScopedJoinHandle};

/// One place, so that whoever else comes waits for it.
fn one_place(provider: &Provider) -> Setup {
    Setup::with(provider).set("upstreams.openai.concurrency", "max_in_flight = 1\nadaptive = false")
}

fn by(tenant: &str, request: Request) -> Request {
    request.header("x-spillway-tenant", tenant)
}

fn limits(spillway: &Spillway) -> Value {
    spillway.upstream("openai")["limits"].clone()
}

fn wait_for_waiting(spillway: &Spillway, count: u64) {
    eventually(&format!("{count} requests wait"), || (limits(spillway)["waiting"] == count).then_some(()));
}

/// Sends a request from a thread of its own.
fn sent<'scope>(
    scope: &'scope Scope<'scope, '_>,
    spillway: &'scope Spillway,
    request: Request,
) -> ScopedJoinHandle<'scope, Response> {
    scope.spawn(move || spillway.send(&request))
}

fn answer(call: ScopedJoinHandle<'_, Response>) -> Response {
    call.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn answered(calls: Vec<ScopedJoinHandle<'_, Response>>) {
    for call in calls {
        let answer = answer(call);
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }
}

/// Whose requests reached the provider, in their order; the first of all is left out.
fn order(provider: &Provider) -> Vec<String> {
    let user = |request: &Value| request["user"].as_str().unwrap_or_default().to_owned();
    provider.requests().iter().skip(1).map(|request| user(request.json())).collect()
}

/// A request that the provider can tell by its name.
fn named(name: &str) -> Request {
    chat_with(json!({"user": name}))
}

/// Holds the only place, and returns the gate that frees it.
fn occupied(provider: &Provider) -> (Gate, Request) {
    let gate = provider.gate();
    provider.next(healthy().hold_head(&gate));
    (gate, named("first"))
}

#[test]
fn no_more_calls_are_in_flight_than_allowed_and_the_others_wait() {
    let provider = Provider::start();
    let spillway =
        Setup::with(&provider).set("upstreams.openai.concurrency", "max_in_flight = 2\nadaptive = false").start();
    let gate = provider.gate();
    provider.always(healthy().hold_head(&gate));
    thread::scope(|scope| {
        let calls = (0..5).map(|_| sent(scope, &spillway, chat())).collect();
        wait_for_waiting(&spillway, 3);
        // What went out may still be on its way.
        provider.wait_for_requests(2);
        assert_eq!(provider.stats().started, 2);
        gate.open();
        answered(calls);
    });
    assert_eq!((&limits(&spillway)["in_flight"], &limits(&spillway)["waiting"]), (&0.into(), &0.into()));
}

#[test]
fn whoever_has_no_patience_is_told_that_all_places_are_taken() {
    let provider = Provider::start();
    let spillway = one_place(&provider).set("upstreams.openai.limits", "patience = \"0s\"").start();
    let (gate, first) = occupied(&provider);
    thread::scope(|scope| {
        let call = sent(scope, &spillway, first);
        provider.wait_for_requests(1);
        let refused = spillway.send(&chat());
        assert_eq!((refused.status(), &*refused.at("/error/code")), (429, "rate_limit_exceeded"));
        assert!(refused.text().contains("1 calls are in flight, as many as it may have at once"), "{}", refused.text());
        assert_eq!(refused.header("retry-after"), Some("1"));
        gate.open();
        answered(vec![call]);
    });
}

#[test]
fn one_tenants_flood_does_not_keep_another_waiting() {
    let provider = Provider::start();
    let spillway = one_place(&provider).start();
    let (gate, first) = occupied(&provider);
    thread::scope(|scope| {
        let mut calls = vec![sent(scope, &spillway, first)];
        provider.wait_for_requests(1);
        calls.extend((0..12).map(|_| sent(scope, &spillway, by("flood", named("flood")))));
        wait_for_waiting(&spillway, 12);
        calls.extend((0..2).map(|_| sent(scope, &spillway, by("shop", named("shop")))));
        wait_for_waiting(&spillway, 14);
        gate.open();
        answered(calls);
    });
    let order = order(&provider);
    let last = order.iter().rposition(|name| name == "shop").expect("the shop was served");
    assert!(last <= 4, "the shop's second request was number {last} of {order:?}");
}

#[test]
fn callers_without_a_tenants_name_are_told_apart_by_their_credentials() {
    let provider = Provider::start();
    let spillway = one_place(&provider).start();
    let (gate, first) = occupied(&provider);
    let with_key = |key: &str| named(key).replace_header("authorization", &format!("Bearer {key}"));
    thread::scope(|scope| {
        let mut calls = vec![sent(scope, &spillway, first)];
        provider.wait_for_requests(1);
        calls.extend((0..8).map(|_| sent(scope, &spillway, with_key("flood"))));
        wait_for_waiting(&spillway, 8);
        calls.push(sent(scope, &spillway, with_key("other")));
        wait_for_waiting(&spillway, 9);
        gate.open();
        answered(calls);
    });
    let order = order(&provider);
    assert!(order.iter().position(|name| name == "other").is_some_and(|place| place <= 2), "{order:?}");
}

/// Four places, of which two are reserved for a group: its callers' tenant is `search`, or `ads`, which is below it.
fn half_reserved(provider: &Provider) -> Setup {
    Setup::with(provider)
        .set("upstreams.openai.concurrency", "max_in_flight = 4\nadaptive = false")
        .set("groups.search", "reserved_share = 0.5")
        .set("groups.ads", "parent = \"search\"")
        .set("tenants.search", "group = \"search\"")
        .set("tenants.ads", "group = \"ads\"")
}

fn reserved(spillway: &Spillway) -> Value {
    spillway.upstream("openai")["reserved"].clone()
}

#[test]
fn others_wait_for_places_that_are_reserved_for_a_group_and_its_callers_get_in_at_once() {
    let provider = Provider::start();
    let spillway = half_reserved(&provider).start();
    let gate = provider.gate();
    provider.always(healthy().hold_head(&gate));
    thread::scope(|scope| {
        let mut calls: Vec<_> = (0..2).map(|_| sent(scope, &spillway, by("shop", named("shop")))).collect();
        provider.wait_for_requests(2);
        calls.push(sent(scope, &spillway, by("shop", named("late"))));
        wait_for_waiting(&spillway, 1);
        for (tenant, requests) in [("search", 3), ("ads", 4)] {
            calls.push(sent(scope, &spillway, by(tenant, named(tenant))));
            provider.wait_for_requests(requests);
        }
        assert_eq!(reserved(&spillway), json!([{"group": "search", "places": 2, "in_flight": 2}]));
        assert_eq!((&limits(&spillway)["in_flight"], &limits(&spillway)["waiting"]), (&4.into(), &1.into()));
        gate.open();
        answered(calls);
    });
    assert_eq!(order(&provider).last().map(String::as_str), Some("late"));
    assert_eq!(reserved(&spillway)[0]["in_flight"], 0);
}

#[test]
fn a_group_that_needs_more_than_its_share_waits_like_everybody_and_keeps_nobody_from_what_is_left() {
    let provider = Provider::start();
    let spillway = half_reserved(&provider).start();
    let gate = provider.gate();
    provider.always(healthy().hold_head(&gate));
    thread::scope(|scope| {
        // Nobody else is there, so that it may take all.
        let mut calls: Vec<_> = (0..4).map(|_| sent(scope, &spillway, by("search", named("search")))).collect();
        provider.wait_for_requests(4);
        for (waiting, tenant) in [(1, "search"), (2, "shop")] {
            calls.push(sent(scope, &spillway, by(tenant, named(tenant))));
            wait_for_waiting(&spillway, waiting);
        }
        gate.open();
        answered(calls);
    });
    assert_eq!(provider.stats().started, 6);
}

#[test]
fn whoever_has_no_patience_is_told_that_the_places_that_are_left_are_reserved() {
    let provider = Provider::start();
    let spillway = half_reserved(&provider).set("upstreams.openai.limits", "patience = \"0s\"").start();
    let gate = provider.gate();
    provider.always(healthy().hold_head(&gate));
    thread::scope(|scope| {
        let mut calls: Vec<_> = (0..2).map(|_| sent(scope, &spillway, chat())).collect();
        provider.wait_for_requests(2);
        let refused = spillway.send(&chat());
        assert_eq!((refused.status(), &*refused.at("/error/code")), (429, "rate_limit_exceeded"));
        assert!(refused.text().contains("2 calls of 4 are in flight"), "{}", refused.text());
        assert!(refused.text().contains("reserved for groups (reserved_share)"), "{}", refused.text());
        calls.push(sent(scope, &spillway, by("search", chat())));
        provider.wait_for_requests(3);
        gate.open();
        answered(calls);
    });
}

#[test]
fn what_matters_more_goes_first() {
    let provider = Provider::start();
    let spillway = one_place(&provider).start();
    let (gate, first) = occupied(&provider);
    let prioritised = |priority: &str| named(priority).header("x-spillway-priority", priority);
    thread::scope(|scope| {
        let mut calls = vec![sent(scope, &spillway, first)];
        provider.wait_for_requests(1);
        for (waiting, priority) in (1..).zip(["low", "normal", "high"]) {
            calls.push(sent(scope, &spillway, prioritised(priority)));
            wait_for_waiting(&spillway, waiting);
        }
        gate.open();
        answered(calls);
    });
    assert_eq!(order(&provider), ["high", "normal", "low"]);
}

#[test]
fn a_tenant_is_held_to_its_own_limit_and_others_are_not() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("tenants.batch", "requests_per_minute = 1\nmax_in_flight = 3").start();
    assert_eq!(spillway.send(&by("batch", chat())).status(), 200);
    let refused = spillway.send(&by("batch", chat()));
    assert_eq!((refused.status(), &*refused.at("/error/type")), (429, "requests"));
    assert!(refused.text().contains("for tenant batch"), "{}", refused.text());
    assert!(refused.text().contains("[tenants.batch]"), "{}", refused.text());
    assert_eq!(spillway.send(&by("shop", chat())).status(), 200);
    assert_eq!(spillway.send(&chat()).status(), 200);
    let tenant = &spillway.status()["tenants"][0];
    assert_eq!((&tenant["name"], &tenant["limits"]["in_flight"]), (&"batch".into(), &0.into()));
    assert!(provider.requests().iter().all(|request| request.header("x-spillway-tenant").is_none()));
}

#[test]
fn an_upstream_that_says_it_is_overloaded_is_called_more_slowly_and_not_by_fewer_at_once() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let gate = provider.gate();
    provider.when(body(|body| body["user"] == "shed"), overloaded().hold_head(&gate));
    let others = provider.gate();
    provider.always(healthy().hold_head(&others));
    thread::scope(|scope| {
        let mut calls: Vec<_> = (0..7).map(|_| sent(scope, &spillway, chat())).collect();
        // It has not the patience to ask again.
        let shed = sent(scope, &spillway, named("shed").header("x-stainless-read-timeout", "0.5"));
        provider.wait_for_requests(8);
        assert_eq!(spillway.upstream("openai")["pacing"], json!([]), "nothing is paced at first");
        let at_first = limits(&spillway)["max_in_flight"].clone();
        gate.open();
        assert_eq!(answer(shed).status(), 503);
        let pacing = spillway.upstream("openai")["pacing"][0].clone();
        assert!(pacing["calls_per_second"].as_f64().is_some_and(|rate| rate <= 1.0), "nobody was served yet: {pacing}");
        assert_eq!(limits(&spillway)["max_in_flight"], at_first, "slow answers are no overload");
        calls.push(sent(scope, &spillway, chat()));
        eventually("the next one waits for its turn", || {
            (spillway.upstream("openai")["pacing"][0]["waiting"] == 1).then_some(())
        });
        assert_eq!(provider.stats().started, 8);
        others.open();
        answered(calls);
    });
}

#[test]
fn what_matters_least_is_shed_first_when_there_is_too_much_in_hand() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("server", "max_in_flight = 10").start();
    let gate = provider.gate();
    provider.always(healthy().hold_head(&gate));
    let low = || chat().header("x-spillway-priority", "low");
    thread::scope(|scope| {
        let calls: Vec<_> = (0..7).map(|_| sent(scope, &spillway, chat())).collect();
        provider.wait_for_requests(7);
        let refused = spillway.send(&low());
        assert_eq!((refused.status(), &*refused.at("/error/code")), (503, "spillway_overloaded"));
        assert!(refused.header("retry-after").is_some());
        let normal = sent(scope, &spillway, chat());
        provider.wait_for_requests(8);
        gate.open();
        answered(calls);
        answered(vec![normal]);
    });
    assert_eq!(spillway.metric("spillway_requests_total{upstream=\"openai\",outcome=\"shed\"}"), 1.0);
    assert_eq!(spillway.send(&low()).status(), 200, "there is room again");
}

fn hedging(provider: &Provider) -> Setup {
    Setup::with(provider).set("upstreams.openai.hedge", "enabled = true\ndelay_min = \"50ms\"")
}

/// Enough calls that it is known what is usual.
fn warmed_up(spillway: &Spillway) -> u64 {
    for _ in 0..20 {
        assert_eq!(spillway.send(&chat()).status(), 200);
    }
    20
}

#[test]
fn a_late_call_gets_a_second_one_beside_it_and_the_first_answer_wins() {
    let provider = Provider::start();
    let spillway = hedging(&provider).start();
    let calls = warmed_up(&spillway);
    let gate = provider.gate();
    provider.next(healthy().hold_head(&gate));
    provider.next(healthy().saying("from the hedge"));
    let answer = spillway.send(&chat());
    assert_eq!(answer.status(), 200);
    assert!(answer.text().contains("from the hedge"), "{}", answer.text());
    assert_eq!(provider.stats().started, calls + 2);
    provider.wait_for_disconnect();
    assert_eq!(spillway.metric("spillway_hedges_total{upstream=\"openai\"}"), 1.0);
    spillway.log().wait_for(&["\"request\"", "hedged after"]);
    assert_eq!(limits(&spillway)["in_flight"], 0, "the loser's place was given back");
    assert_eq!(spillway.upstream("openai")["breakers"][0]["window"]["in_flight"], 0, "and its permit");
}

#[test]
fn without_asking_for_it_no_call_is_hedged() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    let calls = warmed_up(&spillway);
    let gate = provider.gate();
    provider.next(healthy().hold_head(&gate));
    provider.when(header("x-after", "yes"), healthy().delay(std::time::Duration::from_secs(1)));
    thread::scope(|scope| {
        let late = sent(scope, &spillway, chat());
        provider.wait_for_requests(calls + 1);
        // Twice as long as any hedge would wait.
        assert_eq!(spillway.send(&chat().header("x-after", "yes")).status(), 200);
        assert_eq!(provider.stats().started, calls + 2);
        gate.open();
        answered(vec![late]);
    });
}

#[test]
fn hedges_end_with_their_budget() {
    let provider = Provider::start();
    let spillway = hedging(&provider).set("upstreams.openai.hedge", "budget_ratio = 0.0").start();
    warmed_up(&spillway);
    let gate = provider.gate();
    // The budget's reserve pays for three; the fourth late call is waited for.
    for _ in 0..3 {
        provider.next(healthy().hold_head(&gate));
        provider.next(healthy());
        assert_eq!(spillway.send(&chat()).status(), 200);
    }
    let last = provider.gate();
    provider.next(healthy().hold_head(&last).saying("the first call's"));
    provider.when(header("x-after", "yes"), healthy().delay(std::time::Duration::from_secs(1)));
    thread::scope(|scope| {
        let late = sent(scope, &spillway, chat());
        eventually("the late call is under way", || (limits(&spillway)["in_flight"] == 1).then_some(()));
        assert_eq!(spillway.send(&chat().header("x-after", "yes")).status(), 200);
        last.open();
        assert!(answer(late).text().contains("the first call's"));
    });
    assert_eq!(spillway.metric("spillway_hedges_total{upstream=\"openai\"}"), 3.0);
}

#[test]
fn bodies_are_counted_while_they_arrive() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("server", "max_body = \"64KiB\"\nmax_held = \"128KiB\"").start();
    // It announces sixty kilobytes, and sends one.
    let mut slow = spillway.connect();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 61440\r\n\r\n";
    slow.send_raw(head.as_bytes()).and_then(|()| slow.send_raw(&[b' '; 1 << 10])).expect("sent");
    let wait_for_held = |bytes: u64| {
        eventually("so much is held", || (spillway.status()["held_bytes"] == bytes).then_some(()));
    };
    wait_for_held(61_440);
    let refused = spillway.send(&chat().body(vec![b' '; 60 << 10]));
    assert_eq!((refused.status(), &*refused.at("/error/code")), (503, "spillway_overloaded"));
    assert_eq!(spillway.send(&chat()).status(), 200, "small ones still fit");
    drop(slow);
    wait_for_held(0);
}

#[test]
fn a_tenant_pays_nothing_for_a_request_that_the_provider_refused() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider)
        .set("tenants.batch", "tokens_per_minute = 6000")
        .set("upstreams.openai.limits", "patience = \"1500ms\"")
        .start();
    provider.always(overloaded());
    assert_eq!(spillway.send(&by("batch", chat_with(json!({"max_tokens": 3_000})))).status(), 503);
    assert_eq!(provider.stats().started, 4, "again after a quarter, half a second and one, and refused again");
    let left = spillway.status()["tenants"][0]["limits"]["tokens_available"].clone();
    assert!(left.as_i64().is_some_and(|left| left >= 5_990), "{left} tokens are left");
}
