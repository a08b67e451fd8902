//! Retries: at once and few, and never multiplied with those that a caller makes by itself.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use serde_json::json;
use spillway_tests::asks::{APIS, chat};
use spillway_tests::callers::{Called, Caller, Habit};
use spillway_tests::http::post;
use spillway_tests::load::Load;
use spillway_tests::provider::{
    Failure, Provider, Reply, close_before_head, every_other, fail, healthy, rate_limited, respond,
};
use spillway_tests::spillway::Setup;
use std::thread;
use std::time::{Duration, Instant};

fn broken() -> Reply {
    fail(Failure::ServerError)
}

#[test]
fn a_quick_failure_is_repeated_three_times_by_default_and_the_first_time_at_once() {
    for api in APIS {
        let provider = Provider::start();
        let spillway = Setup::with(&provider).start();
        for _ in 0..3 {
            provider.next(broken());
        }
        let answer = spillway.send(&(api.whole)());
        assert_eq!((answer.status(), answer.header("x-spillway-attempts")), (200, Some("4")), "{}", api.name);
        let calls: Vec<_> = provider.requests().iter().map(|request| request.at).collect();
        assert_eq!(calls.len(), 4);
        assert!(calls[1] - calls[0] < Duration::from_millis(150), "{}: after {:?}", api.name, calls[1] - calls[0]);
    }
}

#[test]
fn retries_do_not_multiply_with_those_of_the_caller() {
    let one = |habit: Habit, api: usize, status: u16| {
        let api = APIS[api];
        let (direct, through) = (Provider::start(), Provider::start());
        let spillway = Setup::with(&through).start();
        let run = |provider: &Provider, to| -> (Called, u64) {
            provider.always(broken().status(status));
            let called = Caller::new(habit).call(to, &(api.whole)(), 1).expect("a runtime");
            (called, provider.stats().started)
        };
        // With the same jitter, so that they can be compared.
        let ((directly, calls_directly), (called, calls)) = thread::scope(|scope| {
            let directly = scope.spawn(|| run(&direct, direct.address()));
            let through = run(&through, spillway.address());
            (directly.join().expect("no panic"), through)
        });
        let what = format!("{habit:?}, {}, {status}: {called:?}", api.name);
        assert_eq!((directly.status(), calls_directly), (status, 3), "{what}");
        assert_eq!(called.status(), status, "{what}");
        assert!(calls <= calls_directly + 1, "{calls} calls, and directly {calls_directly}: {what}");
        let longest = directly.took.mul_f64(1.1) + Duration::from_millis(200);
        assert!(called.took <= longest, "{:?}, and directly {:?}: {what}", called.took, directly.took);
    };
    thread::scope(|scope| {
        for (habit, api, status) in [
            (Habit::Python, 0, 500),
            (Habit::Python, 1, 502),
            (Habit::Node, 0, 502),
            (Habit::Node, 1, 500),
            (Habit::Vercel, 0, 500),
            (Habit::Vercel, 1, 502),
        ] {
            scope.spawn(move || one(habit, api, status));
        }
    });
}

#[test]
fn nor_do_pauses_that_are_waited_for_here_where_the_caller_does_not_say_that_it_comes_again() {
    let one = |api: usize| {
        let api = APIS[api];
        let provider = Provider::start();
        let spillway = Setup::with(&provider).start();
        provider.always(rate_limited().header("retry-after-ms", "200"));
        let caller = Caller::new(Habit::Vercel);
        let called = caller.call(spillway.address(), &(api.whole)(), 1).expect("a runtime");
        assert_eq!((called.status(), called.attempts), (429, 3), "{}", api.name);
        assert_eq!(provider.stats().started, 6, "{}: three pauses of ours, and two of the caller's", api.name);
        // As soon as somebody is served, what comes is new.
        provider.heal();
        assert_eq!(caller.call(spillway.address(), &(api.whole)(), 1).expect("a runtime").status(), 200);
        for _ in 0..3 {
            provider.next(rate_limited().header("retry-after-ms", "200"));
        }
        let called = caller.call(spillway.address(), &(api.whole)(), 1).expect("a runtime");
        assert_eq!((called.status(), called.attempts), (200, 1), "{}", api.name);
    };
    thread::scope(|scope| (0..3).for_each(|api| drop(scope.spawn(move || one(api)))));
}

#[test]
fn an_attempt_that_took_long_is_not_repeated() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).set("upstreams.openai.retry", "quick_attempt_max = \"200ms\"").start();
    provider.next(broken().delay(Duration::from_millis(400)));
    let answer = spillway.send(&chat());
    assert_eq!((answer.status(), answer.header("x-spillway-attempts")), (500, Some("1")));
    assert_eq!(provider.stats().started, 1);
    provider.next(broken());
    assert_eq!(spillway.send(&chat()).status(), 200, "a quick one is");
}

#[test]
fn what_makes_something_that_stays_is_sent_again_only_if_it_was_certainly_not_done() {
    for fields in [json!({"background": true}), json!({"conversation": "conv_1"})] {
        let provider = Provider::start();
        let spillway = Setup::with(&provider).start();
        let mut body = json!({"model": "m", "input": "hi"});
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let request = post("/v1/responses", &body).header("prefer", "respond-async");
        for failure in [broken(), close_before_head(), respond(200).header("content-type", "text/html").body("<p>")] {
            let before = provider.stats().started;
            provider.next(failure);
            let _ = spillway.connect().exchange(&request);
            assert_eq!(provider.stats().started, before + 1, "{fields}: it may have been done");
        }
        provider.next(rate_limited().retry_after_s(1));
        assert_eq!(spillway.send(&request).status(), 200, "{fields}: a refusal has done nothing");
    }
}

#[test]
fn where_nobody_is_served_a_turn_is_an_attempt_like_others() {
    let provider = Provider::start();
    let setup = APIS.iter().fold(Setup::with(&provider), |setup, api| {
        setup.set(&format!("upstreams.{}.retry", api.name), "max_attempts = 2")
    });
    let spillway = setup.start();
    for api in APIS {
        let before = provider.stats().started;
        // An error is a stream's first event, and its caller hears it in the provider's words.
        provider.always(healthy().after_events(0).error_event());
        let (events, _) = spillway.open(&(api.stream)()).1.events();
        assert!(events.len() == 1 && !events[0].contains("spillway"), "{}: {events:?}", api.name);
        assert_eq!(provider.stats().started, before + 2, "{}", api.name);
    }
}

#[test]
fn a_key_that_its_provider_honours_makes_it_safe_to_send_again() {
    let provider = Provider::start();
    let background = post("/v1/responses", &json!({"model": "m", "input": "hi", "background": true}));
    let keyed = background.clone().header("idempotency-key", "k1");
    let honours = Setup::with(&provider).set("upstreams.openai", "honours_idempotency_keys = true").start();
    let does_not = Setup::with(&provider).start();
    for (spillway, request, calls) in [(&honours, &keyed, 2), (&honours, &background, 1), (&does_not, &keyed, 1)] {
        let before = provider.stats().started;
        provider.next(broken());
        let answer = spillway.send(request);
        assert_eq!(provider.stats().started, before + calls, "{answer:?}");
        assert_eq!(answer.status() == 200, calls == 2);
        provider.heal();
    }
}

#[test]
fn nor_is_one_that_took_longer_than_its_caller_has_left() {
    let provider = Provider::start();
    let spillway = Setup::with(&provider).start();
    provider.always(broken().delay(Duration::from_millis(1_200)));
    let answer = spillway.send(&chat().header("x-stainless-read-timeout", "2"));
    assert_eq!((answer.status(), answer.header("x-spillway-attempts")), (500, Some("1")), "{}", answer.text());
    assert_eq!(provider.stats().started, 1);
}

#[test]
fn a_lone_caller_is_protected_however_long_failures_have_been_going_on() {
    let one = |index: usize| {
        let provider = Provider::start();
        let spillway = Setup::with(&provider).start();
        // Every request fails at first.
        provider.when(every_other(), broken());
        let caller = Caller::new(Habit::Once);
        let load = Load { per_second: 1.0, lasting: Duration::from_secs(12), caller };
        let whole = APIS[index].whole;
        let results = load.send(spillway.address(), Instant::now(), move |_| whole()).expect("a runtime");
        let failed: Vec<_> = results.only(|answered| !answered.served()).0.iter().map(|lost| lost.number).collect();
        assert!(failed.is_empty(), "{}: numbers {failed:?} of 12 failed: {:?}", APIS[index].name, results.statuses());
        assert_eq!(provider.stats().started, 24);
    };
    thread::scope(|scope| {
        for index in 0..APIS.len() {
            scope.spawn(move || one(index));
        }
    });
}
